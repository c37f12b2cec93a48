"""One answer while it is read: from the frames of a stream to text, reasoning, calls, usage and cost.

The gateway's cost comes in a comment after `[DONE]`, so reading goes on past it, for a bounded time: the server may
keep the connection open without a word.
"""

from __future__ import annotations

import io
import os

from ..errors import ExitStatus, NetError, foreign
from ..gateways.delta import BROKEN, read_delta
from ..net import sse
from ..values import Reasoning, Text, Warned
from ..wire import json_end, object_of, parse_json, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ..gateways.delta import Delta
    from ..net.response import Response
    from ..values import Answer, Event
    from .client import Client

COST_PATIENCE = 2.0  # seconds after [DONE] in which the cost comment may come
USAGE_PATIENCE = 10.0  # seconds after a finish reason in which usage and [DONE] may come
LONGEST_PATTERN = 1 << 16  # characters of a frame that is worth it
LESSONS = 3  # frames that are looked at for a pattern; where they always differ, there is none


class Reading:
    """One answer while it is read; its value is filled meanwhile, its text and calls by `finish`."""

    def __init__(self, client: Client, answer: Answer) -> None:
        self._client = client
        self._answer = answer
        self._done = False
        self._settled = False  # the cost is the comment's, which nothing corrects
        self._id: object = None  # of the answer
        self._restarted = False  # a second answer began in the same stream
        self._understood = False  # at least one frame was of this protocol
        self._unread = 0  # frames that were not understood
        self._text = io.StringIO()
        self._fresh: list[str] = []  # text that was not handed on yet
        self._events: list[Event] = []  # what else was not handed on yet
        self._reasoning = io.StringIO()
        self._calls: list[_Call] = []
        self._pattern = _Pattern()
        self._error: NetError | None = None
        self._streamed = False
        self._page = False  # a web page came instead

    @property
    def begun(self) -> bool:
        """Whether something of the answer arrived that stopping would cut."""
        return bool(self._text.tell() or self._fresh or self._calls)

    def read(self, response: Response) -> Iterator[Event]:
        """Read the answer to its end, handing on text at once. Raises `NetError` if it is not whole."""
        try:
            yield from self._receive(response)
        except NetError:
            if not self._is_whole or self._error:
                raise
        if self._error is not None:
            raise self._error
        if not self._understood:
            hint = f"{self._client.gateway.prefix}BASE_URL may not be the root of the API" if self._page else None
            raise NetError("this is not a chat completion", "protocol", sent=True, hint=hint)
        if self._restarted:
            raise NetError("the gateway began a second answer in the same stream", "protocol", sent=True)
        if self._unread:
            raise NetError(f"{self._unread} frame(s) of the stream could not be read", "protocol", sent=True)
        if self._answer.finish_reason in BROKEN:
            reason = self._answer.finish_reason
            message = f"the gateway ended it (finish_reason {reason})"
            raise NetError(message, foreign(reason), sent=True, status=ExitStatus.CUT_SHORT)
        if not self._is_whole:
            raise NetError("it ended without [DONE] or a finish reason", "connection_lost", sent=True)

    @property
    def _is_whole(self) -> bool:
        done = self._done and self._client.dialect.done_is_whole
        return done or self._answer.finish_reason is not None

    def _receive(self, response: Response) -> Iterator[Event]:
        parser = sse.Parser()
        first = b""
        while data := response.read():
            if not first and (first := data.lstrip()[:1]) == b"<":
                self._page = True
            if first == b"{" and not self._streamed:  # asked for so, or a gateway that does not stream
                self._frame(self._client.read(response, data + response.body()).document)
                self._done = self._understood
                yield from self._news()
                return
            self._streamed = self._streamed or bool(first)
            too_large: sse.LimitExceeded | None = None
            try:
                for item in parser.feed(data):
                    self._take(*item)
                    if self._restarted:
                        break
            except sse.LimitExceeded as error:
                too_large = error
            yield from self._news()
            if too_large is not None:
                raise NetError(str(too_large), "protocol", sent=True)
            if self._error is not None or self._restarted or (self._done and self._settled):
                return
            if self._done:
                response.limit(COST_PATIENCE)
            elif self._answer.finish_reason:
                response.limit(COST_PATIENCE if self._answer.usage else USAGE_PATIENCE)
        if last := parser.close():
            self._take(*last)

    def _take(self, kind: str, text: str) -> None:
        if kind == sse.EVENT:
            self._event(text)
        elif kind == sse.COMMENT:
            text = text.strip()
            # Any other comment keeps the connection alive, and so does one before [DONE].
            figures = object_of(text) if self._done and text.startswith("{") else {}
            if figures and (cost := self._client.dialect.comment_cost(figures, self._answer.usage)):
                self._answer.cost, self._settled = cost, True
        else:  # an error that a relay writes into the stream as it is
            frame = object_of(text)
            if frame.get("error"):
                self._frame(frame)

    def _event(self, data: str) -> None:
        if text := self._pattern.text(data):
            self._fresh.append(text)
            return
        try:
            frame = parse_json(data)
        except ValueError:
            frame = None
        if isinstance(frame, dict):
            delta = self._frame(frame)
            more = delta.begins or delta.reasoning or delta.calls or delta.failed or delta.usage is not None
            if delta.text and not more:
                self._pattern.learn(data, delta.text)
        elif data == "[DONE]":
            self._done = self._understood = True
        elif data.strip():
            self._unread += 1
            self._events.append(Warned("a frame of the stream is not a JSON object: part of the answer is missing"))

    def _frame(self, frame: dict[str, Any]) -> Delta:
        delta = read_delta(frame)
        if delta.failed:
            self._error = self._client.refusal_in(frame, None)
        self._understood = self._understood or delta.understood
        answer = self._answer
        if delta.begins:
            self._restarted = self.begun and self._id is not None and delta.id not in (None, self._id)
            if self._restarted:
                return delta
        self._id = self._id or delta.id
        if delta.text:
            self._fresh.append(delta.text)
        if delta.reasoning:
            self._reasoning.write(delta.reasoning)
            self._events.append(Reasoning(delta.reasoning))
        if delta.calls:
            for position, piece in enumerate(delta.calls):
                self._call(piece, position)
        answer.echoed = answer.echoed or delta.echoed
        answer.finish_reason = answer.finish_reason or delta.finish
        answer.served_model = answer.served_model or delta.model
        if delta.request_id and answer.request_id is None:
            answer.request_id = self._client.clean(delta.request_id)
        if delta.usage is not None:
            answer.usage = delta.usage
            if not self._settled and (cost := self._client.dialect.usage_cost(delta.usage)):
                answer.cost = cost
        return delta

    def _news(self) -> list[Event]:
        """What came since the last time: reasoning and warnings, then the text in one piece."""
        events, self._events = self._events, []
        fresh = "".join(self._fresh)
        self._fresh.clear()
        if fresh:
            self._text.write(fresh)
            events.append(Text(fresh))
        return events

    def _call(self, piece: dict[str, Any], position: int) -> None:
        """Add a piece to the call that it belongs to, by its id, else by its index; else it begins a new one."""
        call_id, index = text_of(piece.get("id")), piece.get("index")
        index = index if isinstance(index, int) else None
        found = None
        for call in reversed(self._calls):
            if call_id and call.id:
                matches = call.id == call_id
            elif index is not None and call.index is not None:
                matches = call.index == index
            else:
                matches = call.position == position and not call.is_other(piece)
            if matches:
                found = call
                break
        if found is None:
            found = _Call(index, position)
            self._calls.append(found)
        found.add(piece, call_id)

    def finish(self) -> None:
        """Put the text, the reasoning and the calls that have come into the answer."""
        self._text.write("".join(self._fresh))
        self._fresh.clear()
        answer = self._answer
        answer.text = self._text.getvalue() if self._is_whole or self._text.tell() else None
        answer.reasoning = self._reasoning.getvalue() or None
        answer.tool_calls = [call.document() for call in sorted(self._calls, key=lambda call: call.index or 0)]


class _Pattern:
    """What stands around the text in a frame that brings nothing else: most frames of an answer differ in it alone."""

    def __init__(self) -> None:
        self._head = self._tail = ""
        self._lessons = LESSONS

    def text(self, data: str) -> str | None:
        """The text of a frame that says the same but for its text; None if the frame has to be read."""
        head, tail = self._head, self._tail
        if not (head and data.startswith(head) and data.endswith(tail)):
            return None
        try:
            text = parse_json(data[len(head) : len(data) - len(tail)])
        except ValueError:
            return None
        return text if isinstance(text, str) else None

    def learn(self, data: str, text: str) -> None:
        """Take a frame for the pattern, if a mark at the end of a string in it arrives at the end of its text."""
        if not self._lessons or len(data) > LONGEST_PATTERN:
            return
        self._lessons -= 1
        mark = os.urandom(8).hex()  # nobody can have put it there before
        start = data.find('"', data.find('"content"') + len('"content"'))
        try:
            end = json_end(data, start)
            marked = parse_json(f"{data[: end - 1]}{mark}{data[end - 1 :]}")
        except ValueError:
            return
        if read_delta(marked).text == text + mark:
            self._head, self._tail = data[:start], data[end:]


class _Call:
    """A call that the model wants made, in pieces so far."""

    def __init__(self, index: int | None, position: int) -> None:
        self.index = index
        self.position = position
        self.id: str | None = None
        self._rest: dict[str, Any] = {}  # what else came with it, to go back as it came
        self._name = ""
        self._arguments = ""

    def is_other(self, piece: dict[str, Any]) -> bool:
        """Whether a piece without an id begins another call: with another name, or when this one is complete."""
        function = piece.get("function")
        name = text_of(function.get("name")) if isinstance(function, dict) else None
        return name is not None and (name != self._name or bool(object_of(self._arguments) or self._arguments == "{}"))

    def add(self, piece: dict[str, Any], call_id: str | None) -> None:
        """Take in a piece. A name that is repeated in each piece is one name."""
        self.id = self.id or call_id
        self._rest |= {name: piece[name] for name in piece.keys() - {"id", "index", "type", "function"}}
        function = piece.get("function")
        if not isinstance(function, dict):
            return
        name, arguments = function.get("name"), function.get("arguments")
        if isinstance(name, str) and name != self._name:
            self._name += name
        if isinstance(arguments, str):
            self._arguments += arguments
        elif arguments is not None:  # JSON itself, where its text belongs
            import json

            self._arguments += json.dumps(arguments)

    def document(self) -> dict[str, Any]:
        """The call in OpenAI's shape."""
        function = {"name": self._name, "arguments": self._arguments}
        return {"id": self.id, "type": "function", "function": function, **self._rest}
