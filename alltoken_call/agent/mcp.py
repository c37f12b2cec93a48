"""A client of MCP servers over stdio: it starts them, lists their tools, calls these, and ends the servers.

The protocol has two eras. `initialize` of 2025-11-25 comes first, since all servers answer it; a server that answers
it with an error is of the era of 2026-07-28, which has no handshake: each request says in `_meta` who asks.
(Specification 2025-11-25, basic/lifecycle; 2026-07-28, basic/versioning and server/discover.)

Beneath is JSON-RPC, a message a line, whatever else a server writes. Memory is bounded: a line may have 16 MiB, as
bytes and as text, and of stderr the end is kept.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess

from .. import __version__
from ..net.clock import Clock
from ..wire import as_object, objects_in, parse_json
from .process import CHUNK, ERRORS, Process, end_groups, signals_held

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any

LEGACY = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
MODERN = "2026-07-28"
CLIENT = {"name": "alltoken-call", "version": __version__}
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientInfo": CLIENT,
    "io.modelcontextprotocol/clientCapabilities": {},
}
START = 60.0  # seconds in which a server has to be up
METHOD_NOT_FOUND = -32601  # JSON-RPC 2.0 §5.1
NOT_OFFERED = {"code": METHOD_NOT_FOUND, "message": "this client does not offer that"}
LONGEST_LINE = 16 << 20  # bytes
LARGEST_TEXT = 14 << 20  # bytes in memory of a line with wide characters: there are two of it while it is parsed
LARGEST_OUTBOX = 1 << 20  # bytes that a server does not read, beside which its own requests are not answered
LAST_BREATH = 0.2  # seconds from the end of a process's pipes to its own
TOO_LONG = b'{"jsonrpc": "2.0", "error": "a line of more than 16 MiB was dropped; the call may have taken effect"}'


class ServerError(Exception):
    """A server cannot be used, or has not done what it was asked for; the text says why."""


class Server:
    """An MCP server, run as a child. `tools` are its tools: dicts with name, description and parameters."""

    def __init__(
        self, name: str, argv: list[str], environ: Mapping[str, str], cwd: str | None, stop: Callable[[], bool]
    ) -> None:
        self.name = name
        self.tools: list[dict[str, Any]] = []
        self._command = (argv, environ, cwd)
        self._stop = stop
        self._wire: Wire | None = None
        self._starts = 2  # that are left: one that is found dead is started again
        self._meta: dict[str, Any] = {}
        self._last_id = 0

    def start(self, timeout: float = START) -> None:
        """Start the server and list its tools. Raises `ServerError`; a signal that passes leaves it to `close`."""
        clock = Clock(max_wait=timeout)
        if not self._starts:
            raise ServerError(f"is dead: it {self._wire.fate if self._wire else 'was not started'}")
        self._starts -= 1
        try:
            self._connect(clock)
            self.tools = self.tools or self._list(clock)
        except ServerError:
            close_all([self], self.ending() if self._stop() else [])  # who has cancelled does not wait 2 s for TERM
            raise

    def call(self, name: str, arguments: dict[str, Any], timeout: float) -> tuple[str, bool]:
        """Call a tool; a text for the model, and whether it went well.

        A server that is found dead is started again, once. A call that may have taken effect is not repeated.
        """
        clock = Clock(max_wait=timeout)
        try:
            if self._wire is not None:
                list(self._wire.messages(0.0))  # late answers
            if self._wire is None or self._wire.fate:
                self.start(clock.left())
            answer = self._request("tools/call", {"name": name, "arguments": arguments}, clock)
        except ServerError as error:
            return f"error: the server {self.name} {error}", False
        if refused := _refusal(answer):
            return f"error: {refused}", False
        result = as_object(answer.get("result"))
        kind = result.get("resultType", "complete")
        if kind != "complete":  # "input_required": it wants the user to be asked
            return f"error: the tool answered {kind!r}, and this client cannot give it more", False
        failed = bool(result.get("isError"))
        return _text(result) or ("error: the tool failed, and did not say why" if failed else ""), not failed

    def close(self) -> None:
        """End the server. Idempotent."""
        close_all([self])

    def ending(self) -> list[Wire]:
        """The process, if it is up, for who ends it; the server is not started again."""
        self._starts = 0
        return [self._wire] if self._wire and not self._wire.fate else []

    def _connect(self, clock: Clock) -> None:
        """Start the process, and find out how it is to be talked to."""
        self._meta = {}
        try:
            with signals_held():
                self._wire = Wire(*self._command)
        except OSError as error:
            program = error.filename or " ".join(self._command[0])
            raise ServerError(f"cannot be run: {program}: {error.strerror}") from None
        hello = {"protocolVersion": LEGACY[0], "capabilities": {}, "clientInfo": CLIENT}
        answer = self._request("initialize", hello, clock)
        refused = _refusal(answer)
        if refused:
            self._meta = {"_meta": META}
            answer = self._request("server/discover", {}, clock)
        else:
            self._wire.send(method="notifications/initialized")
        result = as_object(answer.get("result"))
        spoken = result.get("supportedVersions", [result.get("protocolVersion")])
        if not isinstance(spoken, list) or not any(version in spoken for version in ([MODERN] if refused else LEGACY)):
            told = "; ".join(filter(None, [refused, _refusal(answer) or f"it speaks {spoken}"]))
            raise ServerError(f"has no version of MCP in common with this client: {told}")

    def _list(self, clock: Clock) -> list[dict[str, Any]]:
        """The tools of all pages."""
        found: list[dict[str, Any]] = []
        seen: set[str] = set()
        page: dict[str, Any] = {}
        while True:
            answer = self._request("tools/list", page, clock)
            if as_object(answer.get("error")).get("code") == METHOD_NOT_FOUND:  # it has resources or prompts alone
                return found
            if refused := _refusal(answer):
                raise ServerError(f"does not list its tools: {refused}")
            result = as_object(answer.get("result"))
            found += _definitions(result)
            cursor = result.get("nextCursor")
            if not isinstance(cursor, str) or cursor in seen:
                return found
            seen.add(cursor)
            page = {"cursor": cursor}

    def _request(self, method: str, params: Mapping[str, Any], clock: Clock) -> dict[str, Any]:
        """The answer to a request, with a result or an error. Raises `ServerError`."""
        wire = self._wire
        assert wire is not None
        if self._stop():
            raise ServerError("was not asked: the run was stopped")
        self._last_id += 1
        wire.send(id=self._last_id, method=method, params={**params, **self._meta})
        answer = None
        try:
            while not (answer or wire.fate or self._stop()) and clock.left() > 0:
                answer = next(filter(self._is_answer, wire.messages(clock.left())), None)
        finally:
            if not answer and method != "initialize":  # which cannot be cancelled
                wire.send(method="notifications/cancelled", params={"requestId": self._last_id})
                wire.turn(0.0)
        if answer:
            return answer
        why = wire.fate or ("was interrupted" if clock.left() > 0 else "did not answer in time")
        if method == "tools/call":
            raise ServerError(f"{why}; the call may have taken effect")
        raise ServerError(wire.fate or f"{why} ({method}): {_end_of(wire.stderr_so_far())}".removesuffix(": "))

    def _is_answer(self, message: Mapping[str, Any]) -> bool:
        """Whether a message answers the last request: no notification, and no answer that comes too late, or twice."""
        unaddressed = message.get("id") is None and "jsonrpc" in message and _refusal(message) != ""
        return message.get("id") == self._last_id or unaddressed


def close_all(servers: Iterable[Server], groups: Iterable[Process] = ()) -> None:
    """End servers side by side, and the `groups` of tools with them, in 4 s at most."""
    end_groups(*groups, servers=[wire for server in servers for wire in server.ending()])


class Wire(Process):
    """A server's process, which is talked to. `fate` is empty, or says how it has ended, with the end of its stderr."""

    def __init__(self, argv: list[str], environ: Mapping[str, str], cwd: str | None) -> None:
        self.fate = ""
        self._line: bytearray | None = bytearray()  # what has come of a line; None: it is too long
        self._lines: list[bytearray] = []  # whole ones
        super().__init__(argv, environ, cwd, self._arrived)

    def send(self, **message: Any) -> None:
        """Give it a message when it reads."""
        self.outbox += json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n"

    def messages(self, wait: float) -> Iterator[dict[str, Any]]:
        """The answers and notifications that come within `wait` seconds, at most 0.1; its requests are answered.

        A line that is too long is an error without an id.
        """
        self.turn(wait)
        over = self.hung_up or self.poll() is not None
        if over:
            self.drain()
        while self._lines:
            for message in _parsed(self._lines.pop(0)):
                if "method" not in message or "id" not in message:
                    yield message
                elif len(self.outbox) < LARGEST_OUTBOX:
                    reply = {"result": {}} if message["method"] == "ping" else {"error": NOT_OFFERED}
                    self.send(id=message["id"], **reply)
        if over and not self.fate:
            self._bury()

    def close(self) -> None:
        """Give the pipes up."""
        self.fate = self.fate or "was closed"
        super().close()

    def _arrived(self, data: bytes) -> None:
        """Split what has come into lines."""
        if self.stdin.closed:  # nobody waits for it any more
            return
        for number, part in enumerate(data.split(b"\n")):
            if number:
                self._lines += [self._line] if self._line else []
                self._line = bytearray()
            if self._line is not None:
                self._line += part
                if len(self._line) > LONGEST_LINE:
                    self._line = None
                    self._lines.append(bytearray(TOO_LONG))

    def _bury(self) -> None:
        """Say how it has ended, and end its group with it."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(LAST_BREATH)
        status = self.poll()
        self.stdin.close()
        end_groups(self)
        if status is None:
            how = "closed its stdin or stdout"
        else:
            how = f"was ended by signal {-status}" if status < 0 else f"ended with exit status {status}"
        self.fate = f"{how}: {_end_of(self.stderr_so_far())}".removesuffix(": ")


def _end_of(errors: str) -> str:
    """The end of a server's stderr, without a word, perhaps a key, of which only a part is left."""
    return errors if len(errors) <= ERRORS else re.sub(r"^\S*\s?", "", errors[-ERRORS:])


def _parsed(line: bytearray) -> list[dict[str, Any]]:
    """The messages in a line, mostly one (2025-03-26 has batches); none if it is junk. What looks like an answer, and
    cannot be read, is an error."""
    text = _narrow(line)
    line.clear()  # there is no room for it and for the parsed text
    try:
        value = parse_json(text)
    except ValueError as error:
        number = re.search(r'"id": ?(\d+)', text) if text.startswith("{") and '"jsonrpc"' in text else None
        value = {"id": int(number[1]), "error": f"the answer cannot be read: {error}"} if number else None
    return objects_in(value if isinstance(value, list) else [value])


def _narrow(line: bytearray) -> str:
    """A line's text. One wide character makes all of a text 2 or 4 times as wide in memory; if it would be too large,
    such characters become "?", and their escapes are shown as they are. The line is changed."""
    characters = len(line.translate(None, bytes(range(0x80, 0xC0))))
    parsed = characters - 5 * line.count(b"\\u")
    for width, first, escape in ((4, 0xF0, rb"u[dD][89a-fA-F]"), (2, 0xC4, rb"u(?!00)")):
        if characters * width > LARGEST_TEXT:
            table = bytes(ord("?") if byte >= first else byte for byte in range(256))
            for at in range(0, len(line), CHUNK):  # there is no room for two of it
                line[at : at + CHUNK] = line[at : at + CHUNK].translate(table)
        if parsed * width > LARGEST_TEXT:
            for found in re.finditer(rb"\\(?:(" + escape + rb")|.)", line):
                if found[1]:
                    line[found.start()] = ord("/")
    return line.decode("utf-8-sig", "ignore")


def _definitions(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A page's tools as models are told of them; some models refuse a schema without `properties`."""
    return [
        {
            "name": tool["name"],
            "description": str(tool.get("description") or tool.get("title") or ""),
            "parameters": {"type": "object", "properties": {}, **as_object(tool.get("inputSchema"))},
        }
        for tool in objects_in(result.get("tools"))
        if isinstance(tool.get("name"), str) and tool["name"]
    ]


def _refusal(answer: Mapping[str, Any]) -> str:
    """The message of an error; empty for a result."""
    error = answer.get("error")
    if isinstance(error, dict):
        error = error.get("message") or f"error {error.get('code')}"
    return "" if error is None else str(error)


def _text(result: Mapping[str, Any]) -> str:
    """A tool's result as a text; for anything else in it, a word says what it was."""
    items = objects_in(result.get("content"))
    if not items and "structuredContent" in result:
        return json.dumps(result["structuredContent"], ensure_ascii=False)
    texts = []
    for item in items:
        kind = item.get("type")
        whole = {**item, **as_object(item.get("resource"))}  # an embedded one
        text = whole.get("uri" if kind == "resource_link" else "text")
        texts.append(text if isinstance(text, str) else f"[{whole.get('mimeType') or kind}, not shown]")
    return "\n".join(texts)
