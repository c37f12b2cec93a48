"""One streamed chat completion, from frames to text, usage and cost (chat and search).

Whole means that `[DONE]` or a finish reason was seen. The gateway's cost comes in a comment after `[DONE]`, so
reading goes on past it, for a bounded time: the server may keep the connection open without a word.
"""

from __future__ import annotations

import io
import re

from ..net import sse
from ..errors import ApiError, ExitStatus, NetworkError
from ..net.response import LARGEST_JSON
from ..net.transport import api_error
from ..wire import object_of, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..cli.output import Output
    from ..net.response import Response
    from ..net.transport import Transport

PATH = "/v1/chat/completions"
COST_PATIENCE = 2.0  # seconds after [DONE] in which the cost comment may come
USAGE_PATIENCE = 10.0  # seconds after a finish reason in which usage and [DONE] may come


class Completion:
    """What one answer has said so far."""

    def __init__(self, show_reasoning: Callable[[str], None]) -> None:
        self.finish_reason: str | None = None
        self.done = False
        self.served_model: str | None = None
        self.request_id: str | None = None
        self.usage: dict[str, Any] | None = None
        self.cost: object = None  # the gateway's figure, as it came
        self.refusal: dict[str, Any] | None = None  # the frame that holds an error
        self.understood = False  # at least one frame was of this protocol
        self._settled = False  # the cost is the comment's, which nothing corrects
        self._text = io.StringIO()
        self._reasoning = io.StringIO()
        self._show_reasoning = show_reasoning
        self._fresh: list[str] = []
        self._calls: dict[int, dict[str, Any]] = {}

    @property
    def whole(self) -> bool:
        """Whether the answer is complete; usage and cost may still follow."""
        return self.done or self.finish_reason is not None

    @property
    def finished(self) -> bool:
        """Whether nothing more is worth waiting for."""
        return self.refusal is not None or (self.done and self._settled)

    @property
    def begun(self) -> bool:
        """Whether something of the answer arrived that stopping would cut."""
        return bool(self._text.tell() or self._calls)

    @property
    def text(self) -> str:
        """The answer so far."""
        return self._text.getvalue()

    @property
    def tool_calls(self) -> list[dict[str, Any]]:
        """The calls that the model wants made, in OpenAI's shape."""
        return [call for _, call in sorted(self._calls.items())]

    def take(self, item: sse.Event | sse.Comment) -> None:
        """Take in one event or comment."""
        if isinstance(item, sse.Comment):
            self._comment(item.text.strip())
        elif item.data == "[DONE]":
            self.done = self.understood = True
        else:
            self.frame(object_of(item.data))

    def frame(self, frame: dict[str, Any]) -> None:
        """Take in one chunk of a stream, or a whole answer that was not streamed."""
        if frame.get("error"):
            self.understood = True
            self.refusal = frame
            return
        self.served_model = self.served_model or text_of(frame.get("model"))
        self.request_id = self.request_id or text_of(frame.get("x-gateway-request-id"))
        usage = frame.get("usage")
        if isinstance(usage, dict):
            self.usage = usage
            if not self._settled and usage.get("cost") is not None:
                self.cost = usage["cost"]
        choices = frame.get("choices")
        if not isinstance(choices, list):
            return
        self.understood = True
        for choice in choices:
            if isinstance(choice, dict):
                self._choice(choice)

    def drain(self) -> str:
        """The text that arrived since the last call."""
        fresh = "".join(self._fresh)
        self._fresh.clear()
        self._text.write(fresh)
        return fresh

    def _comment(self, text: str) -> None:
        figures = object_of(text) if text.startswith("{") else {}  # anything else keeps the connection alive
        if "cost" in figures:
            self.cost, self._settled = figures["cost"], True

    def _choice(self, choice: dict[str, Any]) -> None:
        delta = choice.get("delta") or choice.get("message")
        if isinstance(delta, dict):
            if text := _content(delta.get("content")):
                self._fresh.append(text)
            reasoning = delta.get("reasoning_content") or delta.get("reasoning")
            if isinstance(reasoning, str) and reasoning:
                self._reasoning.write(reasoning)
                self._show_reasoning(reasoning)
            calls = delta.get("tool_calls")
            for position, call in enumerate(calls if isinstance(calls, list) else ()):
                if isinstance(call, dict):
                    self._call(call, position)
        self.finish_reason = self.finish_reason or text_of(choice.get("finish_reason"))

    def _call(self, piece: dict[str, Any], position: int) -> None:
        index = piece.get("index")
        blank = {"id": None, "type": "function", "function": {"name": "", "arguments": ""}}
        call = self._calls.setdefault(index if isinstance(index, int) else position, blank)
        call["id"] = call["id"] or text_of(piece.get("id"))
        function = piece.get("function")
        if isinstance(function, dict):
            for name in ("name", "arguments"):
                if isinstance(function.get(name), str):
                    call["function"][name] += function[name]

    def report(self, report: dict[str, Any]) -> None:
        """Put what there is into the JSON document."""
        self.drain()
        report["text"] = self.text if self.whole or self._text.tell() else None
        report["reasoning"] = self._reasoning.getvalue() or None
        report["tool_calls"] = self.tool_calls or None
        report["finish_reason"] = self.finish_reason
        report["served_model"] = self.served_model
        report["usage"] = self.usage
        report["request_id"] = report["request_id"] or self.request_id


def _content(content: object) -> str:
    """The text of a delta: a string, or parts with a `text` each."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str))


def ask(transport: Transport, output: Output, body: dict[str, Any], *, show_reasoning: bool = False) -> Completion:
    """Send one request and show its answer as it arrives; text, usage and cost end in the report.

    Raises `ApiError` or `NetworkError`, with status 9 where text had begun.
    """
    answer = Completion(output.reasoning if show_reasoning else lambda _: None)
    try:
        response = transport.stream(PATH, body)
    except NetworkError as error:
        if error.sent:
            output.cost(None)
            error.hint = "; ".join(filter(None, ["it may have been answered, and billed", error.hint]))
        raise
    try:
        _receive(response, answer, output)
        if answer.refusal is not None:
            raise api_error(answer.refusal, 0, response.request_id, transport.key)
    except (ApiError, NetworkError) as error:
        if isinstance(error, NetworkError) and answer.whole:
            return answer
        error.request_id = error.request_id or response.request_id or answer.request_id
        if answer.begun:
            error.status = ExitStatus.CUT_SHORT
            error.message = f"the answer was cut short: {error.message}"
            error.hint = "what arrived was kept; running the command again asks, and pays, anew"
        raise
    finally:
        response.close()
        answer.report(output.report)
        if output.report["request_id"]:
            output.report["request_id"] = output.clean(output.report["request_id"])
        output.end_text()
        if answer.refusal is None or answer.begun:
            output.usage(answer.usage)
            output.cost(_dollars(answer.cost))
    return answer


def _receive(response: Response, answer: Completion, output: Output) -> None:
    """Read the answer to its end, showing text at once. Raises `NetworkError` where it is not whole."""
    parser = sse.Parser()
    first = b""
    while data := response.read():
        if not first and (first := data.lstrip()[:1]) == b"{":  # no stream: --no-stream, or a gateway that has none
            answer.frame(object_of(data + response.body(LARGEST_JSON)))
            answer.done = answer.understood and answer.refusal is None
            output.text(answer.drain())
            break
        try:
            for item in parser.feed(data):
                answer.take(item)
        except sse.LimitExceeded as error:
            raise NetworkError(str(error), code="protocol", sent=True) from None
        finally:
            output.text(answer.drain())
        if answer.finished:
            return
        if answer.done:
            response.limit(COST_PATIENCE)
        elif answer.finish_reason:
            response.limit(COST_PATIENCE if answer.usage else USAGE_PATIENCE)
    if comment := parser.close():
        answer.take(comment)
    if not answer.understood:
        raise NetworkError("this is no chat completion", code="protocol", sent=True)
    if not answer.whole and answer.refusal is None:
        what = "the answer ended without [DONE] or a finish reason"
        raise NetworkError(what, code="connection_lost", sent=True)


def _dollars(cost: object) -> str | None:
    """The gateway's figure to the digit where it is a plain decimal string, as a decimal string in any case."""
    if isinstance(cost, str) and re.fullmatch(r"[0-9]{1,20}(\.[0-9]{1,30})?", cost):
        return cost
    from ..gateways import pricing

    amount = pricing.amount(cost)
    return None if amount is None else pricing.plain(amount)
