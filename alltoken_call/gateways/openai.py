"""What every OpenAI-compatible server has in common: requests made and replies read, without I/O.

A dialect makes `Request`s and reads what comes back into values. It never opens, waits, prints or records anything;
the engine in `calls/` does, and does not ask which gateway it talks to.
"""

from __future__ import annotations

import re

from ..errors import ExitStatus, NetError
from ..text import one_line, redacted
from ..values import UNANSWERED, Cost, Request
from ..wire import text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

_HINTS = {
    ExitStatus.REFUSED: "change the request; if it looks right, quote the request id to support",
    ExitStatus.KEY: "the gateway does not accept this key: check it",
    ExitStatus.CREDIT: "top up at the gateway, then run the command again",
    ExitStatus.RATE_LIMITED: "too many requests with this key: wait, then run the command again",
    ExitStatus.GATEWAY: "the gateway or its providers failed: try again later or another model (-m)",
    ExitStatus.GONE: "the result is gone: run a new generation",
}
_STATUSES = {
    401: ExitStatus.KEY,
    402: ExitStatus.CREDIT,
    403: ExitStatus.KEY,
    410: ExitStatus.GONE,
    429: ExitStatus.RATE_LIMITED,
}
_PASSING = (408, 425, 429)
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


class Delta:
    """What one frame of a streamed answer says, or a whole answer that was not streamed."""

    text = ""
    reasoning = ""
    calls: list[dict[str, Any]] = []  # noqa: RUF012  # read only: a frame without calls costs nothing
    finish: str | None = None
    model: str | None = None
    request_id: str | None = None
    usage: dict[str, Any] | None = None
    failed = False  # it tells of an error
    understood = False  # the frame was of this protocol


class OpenAI:
    """A plain OpenAI-compatible server at `root`."""

    name = "openai"
    request_ids: tuple[str, ...] = ("x-request-id", "x-gateway-request-id")  # headers
    hints: Mapping[ExitStatus, str] = _HINTS
    slugs: Mapping[str, int] = {}  # an error's code → the HTTP status that it means, where it comes without one
    types: Mapping[str, int] = {}

    def __init__(self, root: str) -> None:
        self.root = root

    # Errors

    def request_id(self, header: Callable[[str], str | None]) -> str | None:
        """The request id in the headers of an answer."""
        return next((value for name in self.request_ids if (value := header(name))), None)

    def refusal(
        self,
        document: Mapping[str, Any],
        http: int,
        *,
        request_id: str | None = None,
        retry_after: float | None = None,
        secret: str = "",
        otherwise: int = 500,
    ) -> NetError:
        """The failure in an error envelope of any shape. `http` is 0 for one without an HTTP status of its own, as
        inside a stream, whose code decides; it means `otherwise` if its code is not known.

        The request id is taken from wherever it is: the envelope, the document's top, or a header.
        """
        inner = document.get("error")
        places = [inner if isinstance(inner, dict) else {}, document]

        def field(name: str) -> str | None:
            values = (place.get(name) for place in places)
            texts = (str(value) if type(value) is int else text_of(value) for value in values)
            return next((one_line(redacted(text, secret)) for text in texts if text), None)

        message = field("message") or (one_line(redacted(inner, secret)) if isinstance(inner, str) else None)
        code, type_ = field("code"), field("type")
        meant = http or self.meaning(code, type_) or otherwise
        status = ExitStatus.GATEWAY if meant >= 500 else _STATUSES.get(meant, ExitStatus.REFUSED)
        hint = self.hints.get(status) if meant != 404 else "`alltoken-call models` lists what there is"
        if retry_after:
            hint = f"the gateway asks to wait {retry_after:.0f} s"
        return NetError(
            message or "the gateway gave no reason",
            code or (f"http_{http}" if http else "api_error"),
            sent=True,
            passing=meant in _PASSING or meant >= 500,
            status=status,
            hint=hint,
            http=http,
            type=type_,
            request_id=field("request_id") or field("x-gateway-request-id") or request_id,
            task_id=field("task_id"),
            enveloped=isinstance(inner, (dict, str)) and bool(inner),
            retry_after=retry_after,
        )

    def meaning(self, code: str | None, type_: str | None) -> int:
        """The HTTP status that an error without one means, by its code or type; 0 if neither is known."""
        if code and code.isascii() and code.isdigit() and len(code) == 3:
            return int(code)
        if "rate_limit" in (code or "") or "rate_limit" in (type_ or ""):
            return 429
        return self.slugs.get(code or "") or self.types.get(type_ or "") or 0

    def fails_everywhere(self, code: str) -> bool:
        """Whether an error's code says that no provider of the model works, so that only another model can help."""
        return code == "all_providers_failed"

    # Chat

    def chat(self, body: Mapping[str, Any]) -> Request:
        """A completion, streamed or not as `body` says."""
        return Request("POST", f"{self.root}/v1/chat/completions", body=body, repeat=UNANSWERED)

    def delta(self, frame: Mapping[str, Any]) -> Delta:
        """What a chunk of a stream says, or a whole answer. Of several choices, only the first counts."""
        found = Delta()
        if frame.get("error") or frame.get("success") is False:
            found.understood = found.failed = True
        if model := frame.get("model"):
            found.model = text_of(model)
        if "x-gateway-request-id" in frame:
            found.request_id = text_of(frame["x-gateway-request-id"])
        if usage := frame.get("usage"):
            found.usage = usage if isinstance(usage, dict) else None
        choices = frame.get("choices")
        if isinstance(choices, list):
            found.understood = True
            for choice in choices:
                if isinstance(choice, dict) and not choice.get("index"):
                    self._choice(choice, found)
                    break
        return found

    def _choice(self, choice: Mapping[str, Any], found: Delta) -> None:
        delta = choice.get("delta") or choice.get("message")
        if isinstance(delta, dict):
            found.text = _content(delta.get("content")) + _content(delta.get("refusal"))
            reasoning = delta.get("reasoning_content") or delta.get("reasoning")
            if isinstance(reasoning, str):
                found.reasoning = reasoning
            calls = delta.get("tool_calls")
            if isinstance(calls, list):
                found.calls = [call for call in calls if isinstance(call, dict)]
        reason = choice.get("finish_reason")
        if reason and reason != "null":
            found.finish = text_of(reason)

    def comment_cost(self, figures: Mapping[str, Any]) -> Cost | None:  # noqa: ARG002  # for dialects that have one
        """The cost in a comment of a stream; None if the comment is about something else."""
        return None

    def usage_cost(self, usage: Mapping[str, Any] | None) -> Cost | None:
        """The cost that the usage block tells."""
        figure = (usage or {}).get("cost")
        return None if figure is None else dollars(figure)


def _content(content: object) -> str:
    """The text of a delta: a string, or parts with a `text` each."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str))


def dollars(figure: object) -> Cost | None:
    """The gateway's figure: to the digit if it is a plain decimal string, else as a decimal string; None if it is not
    an amount."""
    if isinstance(figure, str) and re.fullmatch(r"[0-9]{1,20}(\.[0-9]{1,30})?", figure):
        return Cost(figure, "gateway")
    from . import prices  # decimal is for those who need it

    amount = prices.amount(figure)
    return None if amount is None else Cost(prices.plain(amount), "gateway")
