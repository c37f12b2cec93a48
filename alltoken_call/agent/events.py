"""What happens in a run of an agent, in the order given here.

`name` is what `Agent.on` takes; a handler gets the values of `fields`: of the attributes without a default, in their
order. A type checker knows an event's fields by its `name`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal
    from typing import Any, Literal

    from ..errors import CallError


class Event:
    """Something that happened in a run: `name` says what, and the attributes that `fields` lists tell of it."""

    name = ""
    fields: tuple[str, ...] = ()

    def __init_subclass__(cls) -> None:
        cls.fields = tuple(field for field in cls.__annotations__ if not hasattr(cls, field))

    def __init__(self, *values: Any, **more: Any) -> None:
        vars(self).update(zip(self.fields, values), **more)

    def values(self) -> tuple[Any, ...]:
        """The fields' values, as a handler gets them."""
        return tuple(getattr(self, field) for field in self.fields)

    def __repr__(self) -> str:
        about = ", ".join(f"{field}={getattr(self, field)!r}" for field in self.fields)
        return f"{type(self).__name__}({about})"


class UserMessage(Event):
    """The user's message was added to the conversation."""

    name: Literal["message:user"] = "message:user"
    message: dict[str, Any]


class ThinkingStart(Event):
    """The run has begun."""

    name: Literal["thinking:start"] = "thinking:start"


class StreamStart(Event):
    """The model is asked; its answer follows."""

    name: Literal["stream:start"] = "stream:start"


class StreamDelta(Event):
    """A piece of an answer, and all of it so far."""

    name: Literal["stream:delta"] = "stream:delta"
    text: str
    so_far: str


class StreamEnd(Event):
    """An answer is whole. `final`: no call follows."""

    name: Literal["stream:end"] = "stream:end"
    text: str
    final: bool = False


class ToolCalled(Event):
    """A tool is called now. `arguments` is None if what the model sent is not an object."""

    name: Literal["tool:call"] = "tool:call"
    tool: str
    arguments: dict[str, Any] | None
    call_id: str


class ToolResulted(Event):
    """What a call has brought: a text for the model. `ok` and `seconds` say how it went, `errors` what a program that
    went well has written to stderr."""

    name: Literal["tool:result"] = "tool:result"
    tool: str
    result: str
    call_id: str
    ok: bool = True
    seconds: float = 0.0
    errors: str = ""


class Step(Event):
    """A request to the model has ended, and the calls that it wanted; its tokens and dollars, None if unknown."""

    name: Literal["step"] = "step"
    usage: dict[str, Any] | None
    cost: Decimal | None


class AssistantMessage(Event):
    """The model's message was added to the conversation: the run's result. `handed` are the calls that only the caller
    can run."""

    name: Literal["message:assistant"] = "message:assistant"
    message: dict[str, Any]
    handed: Sequence[dict[str, Any]] = ()


class Failed(Event):
    """The run ends with an error, which is raised after this."""

    name: Literal["error"] = "error"
    error: CallError


class ThinkingEnd(Event):
    """The run has ended, in whatever way; comes once."""

    name: Literal["thinking:end"] = "thinking:end"


ALL = tuple(Event.__subclasses__())
AnyEvent = (
    UserMessage
    | ThinkingStart
    | StreamStart
    | StreamDelta
    | StreamEnd
    | ToolCalled
    | ToolResulted
    | Step
    | AssistantMessage
    | Failed
    | ThinkingEnd
)
