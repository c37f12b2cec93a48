"""What one frame of a streamed answer says, or a whole answer that was not streamed; the same at every gateway."""

from __future__ import annotations

from ..wire import objects_in, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

# Finish reasons that say that the answer broke, and those that are known to end a whole one.
BROKEN = ("error", "network_error", "abort", "aborted", "cancelled", "insufficient_system_resource")
WHOLE = (
    "stop",
    "length",
    "tool_calls",
    "function_call",
    "content_filter",
    "end_turn",
    "max_tokens",
    "eos",
    "stop_sequence",
)


CUT = ("length", "max_tokens")  # of these: the limit of tokens was reached


class Delta:
    """What a frame says."""

    text = ""
    reasoning = ""
    calls: list[dict[str, Any]] = []  # noqa: RUF012  # read only: a frame without calls costs nothing
    finish: str | None = None
    model: str | None = None
    request_id: str | None = None
    usage: dict[str, Any] | None = None
    failed = False  # it tells of an error
    understood = False  # the frame was of this protocol
    echoed = False  # the reasoning is to come back with the next request
    begins = False  # it begins an answer: it carries the role
    id: str | None = None


def read_delta(frame: Mapping[str, Any]) -> Delta:
    """What a chunk of a stream says, or a whole answer. Of several choices, only the first counts."""
    found = Delta()
    if frame.get("error") or frame.get("success") is False:
        found.understood = found.failed = True
    found.model, found.id = text_of(frame.get("model")), frame.get("id")
    if "x-gateway-request-id" in frame:
        found.request_id = text_of(frame["x-gateway-request-id"])
    if usage := frame.get("usage"):
        found.usage = usage if isinstance(usage, dict) else None
    choices = frame.get("choices")
    if isinstance(choices, list):
        found.understood = True
        for choice in choices:
            if isinstance(choice, dict) and not choice.get("index"):
                _choice(choice, found)
                break
    return found


def _choice(choice: Mapping[str, Any], found: Delta) -> None:
    delta = choice.get("delta") or choice.get("message")
    if isinstance(delta, dict):
        found.text = _content(delta.get("content"))
        if len(delta) > 1 or not found.text:
            _beside_text(delta, found)
    reason = choice.get("finish_reason")
    if reason and reason != "null":
        found.finish = text_of(reason)


def _beside_text(delta: Mapping[str, Any], found: Delta) -> None:
    """What a delta holds besides text; most hold nothing else."""
    found.begins = bool(delta.get("role"))
    found.text += _content(delta.get("refusal"))
    reasoning = delta.get("reasoning_content") or delta.get("reasoning")
    if isinstance(reasoning, str):
        found.reasoning = reasoning
        found.echoed = "reasoning_content" in delta
    found.calls = objects_in(delta.get("tool_calls"))


def _content(content: object) -> str:
    """The text of a delta: a string, or parts with a `text` each."""
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in objects_in(content) if isinstance(part.get("text"), str))
