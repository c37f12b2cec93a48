"""One call to a model: chat, image, video, search. From Python: `Agent`, `generate_image`, `generate_video`.

    from alltoken_call import Agent

    with Agent("gpt-5.4-mini", instructions="Answer in one sentence.") as agent:
        print(agent.send("What is a monad?"))

Importing this loads nothing: each name is loaded when it is first used.
"""

__version__ = "0.2.0"
__all__ = ["Agent", "CallError", "Event", "Tool", "ToolCall", "Unfinished", "generate_image", "generate_video"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .agent.agent import Agent
    from .agent.events import AnyEvent as Event
    from .agent.loop import Unfinished
    from .agent.media import generate_image, generate_video
    from .agent.tools import Tool, ToolCall
    from .errors import CallError

_PLACES = {
    "Agent": "agent.agent",
    "CallError": "errors",
    "Event": "agent.events",
    "Tool": "agent.tools",
    "ToolCall": "agent.tools",
    "Unfinished": "agent.loop",
    "generate_image": "agent.media",
    "generate_video": "agent.media",
}


def __getattr__(name: str) -> object:
    """Load a public name at its first use (PEP 562)."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f".{_PLACES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> "list[str]":  # quoted: Python 3.8 reads it, to say that it is too old
    return sorted([*globals(), *__all__])
