"""A program that uses all of the Python door, for type checkers: nothing here runs."""

from __future__ import annotations

import contextlib
from decimal import Decimal
from typing import Any, Literal

from alltoken_call import (
    Agent,
    CallError,
    Event,
    Tool,
    ToolCall,
    Unfinished,
    generate_image,
    generate_video,
)


def weather(city: str, days: int = 1, unit: Literal["C", "F"] = "C", near: list[str] | None = None) -> dict[str, Any]:
    """Tell the weather of a city."""
    return {"city": city, "days": days, "unit": unit, "near": near}


def approve(call: ToolCall) -> bool | str:
    arguments: dict[str, Any] | None = call.arguments
    return "not this one" if call.name == "danger" or arguments is None else True


def shown(event: Event) -> str:
    """Each event has its own fields, by its name."""
    if event.name == "stream:delta":
        text: str = event.text + event.so_far
        return text
    if event.name == "tool:call":
        return f"{event.tool} {event.arguments} {event.call_id}"
    if event.name == "tool:result":
        return f"{event.result} {event.ok} {event.seconds:.1f}"
    if event.name == "step":
        usage: dict[str, Any] | None = event.usage
        cost: Decimal | None = event.cost
        return f"{usage} {cost}"
    if event.name == "message:user" or event.name == "message:assistant":
        return str(event.message["content"])
    if event.name == "error":
        return event.error.message
    return event.name


def talk() -> None:
    double = Tool("double", "Double a number.", {"properties": {"a": {"type": "integer"}}}, lambda a: a * 2)
    with Agent(
        "gpt-5.4-mini",
        instructions="Be brief.",
        tools=[weather, double],
        mcp=["uvx mcp-server-time"],
        thread="talk.json",
        max_steps=5,
        max_cost=Decimal("0.01"),
        temperature=0.5,
        enable_search=False,
        params={"top_p": 0.9},
        approve=approve,
        max_wait=60,
        gateway="alltoken",
        api_key="…",
        base_url="https://api.alltoken.ai",
        timeout=30.0,
        tool_timeout=10,
        ledger=False,
    ) as agent:
        off = agent.on("stream:delta", lambda text, so_far: len(text + so_far))
        agent.on("thinking:end", agent.cancel)
        agent.add_tool(print)
        try:
            text: str = agent.send("hi")
            text += agent.send_sync([{"type": "text", "text": "hi"}])
            with contextlib.closing(agent.stream("hi")) as events:
                for event in events:
                    text += shown(event)
        except Unfinished as limit:
            text = agent.send(None) + limit.code
        except CallError as error:
            hint: str | None = error.hint
            http: int | None = error.http
            text = f"{error.code} {error.message} {hint} {int(error.status)} {http} {error.partial}"
        off()
        messages: list[dict[str, Any]] = agent.get_messages()
        agent.clear_history()
        agent.set_instructions(text)
        usage: dict[str, int] | None = agent.usage
        cost: Decimal | None = agent.cost
        assert messages and usage and cost
        agent.close()


def draw() -> None:
    words: list[str] = []
    files: list[str] = generate_image("a fox", "fox.png", size="1024x1024", count=2, on_status=words.append)
    more: list[str] = generate_image("a fox", edit=files, params={"n": 1}, on_done=lambda saved: saved.cost.usd)
    url: str = generate_video("waves", duration=5, first_frame=more[0], on_done=lambda clip: clip.video_url)
    path: str = generate_video("waves", "waves.mp4", max_wait=900, force=True)
    assert url and path
