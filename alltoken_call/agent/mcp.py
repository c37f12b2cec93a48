"""A client of MCP servers over stdio: it starts them, lists their tools, calls these, and ends the servers.

The protocol has two eras. `initialize` of 2025-11-25 comes first, since all servers answer it; a server that answers
it with an error is of the era of 2026-07-28, which has no handshake: each request says in `_meta` who asks.
(Specification 2025-11-25, basic/lifecycle; 2026-07-28, basic/versioning and server/discover.)
"""

from __future__ import annotations

import json
import signal

from .. import __version__
from ..net.clock import Clock
from ..wire import as_object, objects_in
from .process import GRACE, alive, end_group, end_groups, signal_group, signals_held, waited
from .rpc import METHOD_NOT_FOUND, Dead, TooLong, Wire
from .servers import limited_environ, read_config, server_name, tool_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from .process import Process

__all__ = ["Server", "ServerError", "close_all", "limited_environ", "read_config", "server_name", "tool_name"]

LEGACY = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
MODERN = "2026-07-28"
START = 60.0  # seconds in which a server has to be up
MOST_TOOLS = 10_000  # of a server: more are a fault
CLIENT = {"name": "alltoken-call", "version": __version__}
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientInfo": CLIENT,
    "io.modelcontextprotocol/clientCapabilities": {},
}


class ServerError(Exception):
    """A server cannot be used, or has not done what it was asked for; the text says why."""


class _Refused(ServerError):
    """The server has answered with an error."""

    def __init__(self, error: Any) -> None:
        error = as_object(error)
        super().__init__(str(error.get("message") or f"error {error.get('code')}"))
        self.code = error.get("code")


class Server:
    """An MCP server, run as a child. `tools` are its tools: dicts with name, description and parameters."""

    def __init__(
        self,
        name: str,
        argv: list[str],
        *,
        environ: Mapping[str, str],
        cwd: str | None = None,
        stop: Callable[[], bool] = lambda: False,
        clock: Clock | None = None,
    ) -> None:
        self.name = name
        self.tools: list[dict[str, Any]] = []
        self._command = (argv, environ, cwd)
        self._stop = stop
        self._clock = clock or Clock()
        self._wire: Wire | None = None
        self._end = "was not started"  # why the wire is gone, or was never made
        self._restarts = 1  # that are left
        self._meta: dict[str, Any] = {}
        self._last_id = 0

    @property
    def junk(self) -> int:
        """How many lines on its stdout were no messages."""
        return self._wire.junk if self._wire else 0

    def start(self, timeout: float = START) -> None:
        """Start the server and list its tools. Raises `ServerError`; a signal that passes leaves it to `close`."""
        until = self._clock.monotonic() + timeout
        try:
            self._connect(until)
            self.tools = self._list(until)
        except ServerError as error:
            errors = self._wire.errors() if self._wire else ""  # those of a dead one are told already
            self.close()
            raise ServerError(f"{error}: {errors}" if errors else str(error)) from None

    def call(self, name: str, arguments: dict[str, Any], timeout: float) -> tuple[str, bool]:
        """Call a tool; a text for the model, and whether it went well.

        A server that is found dead is started again, once. A call that may have taken effect is not repeated.
        """
        until = self._clock.monotonic() + timeout
        try:
            self._revive(until)
            result = self._request("tools/call", {"name": name, "arguments": arguments}, until)
        except _Refused as error:
            return f"error: {error}", False
        except ServerError as error:
            return f"error: the server {self.name} {error}", False
        kind = result.get("resultType", "complete")
        if kind != "complete":  # "input_required": it wants the user to be asked
            return f"error: the tool answered {kind!r}, and this client cannot give it more", False
        text = _text(result)
        if result.get("isError"):
            return text or "error: the tool failed, and did not say why", False
        return text, True

    def close(self) -> None:
        """End the server. Idempotent."""
        close_all([self])

    def detach(self) -> Wire | None:
        """Hand the process over to who ends it; the server stays closed."""
        wire, self._wire = self._wire, None
        self._end = "was closed" if wire else self._end
        self._restarts = 0
        return wire

    def _connect(self, until: float) -> None:
        """Start the process, and find out how it is to be talked to."""
        self._meta = {}
        try:
            with signals_held():
                self._wire = Wire(*self._command)
        except OSError as error:
            program = error.filename or " ".join(self._command[0])
            raise ServerError(f"cannot be run: {program}: {error.strerror}") from None
        hello = {"protocolVersion": LEGACY[0], "capabilities": {}, "clientInfo": CLIENT}
        try:
            version = self._request("initialize", hello, until).get("protocolVersion")
        except _Refused as refused:
            self._discover(refused, until)
            return
        if version not in LEGACY:
            raise ServerError(f"speaks another version of MCP: {version}")
        self._wire.send({"method": "notifications/initialized"})

    def _discover(self, refused: _Refused, until: float) -> None:
        """Go on without a handshake, as 2026-07-28 has it."""
        self._meta = {"_meta": META}
        try:
            versions = self._request("server/discover", {}, until).get("supportedVersions")
        except _Refused as error:
            raise ServerError(f"refused the connection: {refused}; {error}") from None
        if not isinstance(versions, list) or MODERN not in versions:
            raise ServerError(f"speaks other versions of MCP: {versions}")

    def _list(self, until: float) -> list[dict[str, Any]]:
        """The tools of all pages."""
        found: list[dict[str, Any]] = []
        seen: set[str] = set()
        page: dict[str, Any] = {}
        while True:
            try:
                result = self._request("tools/list", page, until)
            except _Refused as error:
                if error.code == METHOD_NOT_FOUND:  # it has resources or prompts alone
                    return found
                raise ServerError(f"does not list its tools: {error}") from None
            tools = result.get("tools")
            found += [_definition(tool) for tool in tools if _named(tool)] if isinstance(tools, list) else []
            cursor = result.get("nextCursor")
            if not isinstance(cursor, str) or cursor in seen:
                return found
            seen.add(cursor)
            page = {"cursor": cursor}
            if max(len(found), len(seen)) > MOST_TOOLS:
                raise ServerError(f"lists more than {MOST_TOOLS:,} tools or pages of them")

    def _revive(self, until: float) -> None:
        """Start a server again that is found dead. Raises `ServerError` if it must not or cannot be."""
        if self._wire is not None:
            try:
                for _ in self._wire.messages(0.0):  # late answers
                    pass
            except TooLong:
                pass
            except Dead as dead:
                self._bury(str(dead))
        if self._wire is None:
            if not self._restarts:
                raise ServerError(f"is dead: it {self._end}")
            self._restarts -= 1
            try:
                self._connect(until)
            except ServerError as error:
                self._bury(str(error))
                raise

    def _bury(self, why: str) -> None:
        """Give up a process that has ended, or is of no use."""
        wire, self._wire, self._end = self._wire, None, why
        if wire is not None:
            end_group(wire.pipes.process)
            wire.pipes.close()

    def _request(self, method: str, params: Mapping[str, Any], until: float) -> dict[str, Any]:
        """The result of a request. Raises `ServerError`."""
        wire = self._wire
        assert wire is not None
        if self._stop():
            raise ServerError("was not asked: the run was stopped")
        self._last_id += 1
        number = self._last_id
        doubt = "; the call may have taken effect" if method == "tools/call" else ""
        wire.send({"id": number, "method": method, "params": {**params, **self._meta}})
        try:
            while (left := until - self._clock.monotonic()) > 0 and not self._stop():
                for message in wire.messages(left):
                    if message.get("id") != number and (message.get("id") is not None or "error" not in message):
                        continue  # a notification; an answer that comes too late, or twice
                    if "error" in message:
                        raise _Refused(message["error"])
                    return as_object(message.get("result"))
        except Dead as dead:
            self._bury(str(dead))
            raise ServerError(f"{dead}{doubt}") from None
        except TooLong:
            raise ServerError(f"sent a line of more than 16 MiB{doubt}") from None
        except ServerError:
            raise
        except BaseException:  # a signal
            self._cancel(wire, number, method)
            raise
        self._cancel(wire, number, method)
        raise ServerError(f"{'was interrupted' if left > 0 else 'did not answer in time'}{doubt or f' ({method})'}")

    @staticmethod
    def _cancel(wire: Wire, number: int, method: str) -> None:
        """Tell the server that an answer is not waited for any more; `initialize` cannot be cancelled."""
        if method != "initialize":
            wire.send({"method": "notifications/cancelled", "params": {"requestId": number}})
            wire.pipes.turn(0.0)


def close_all(servers: Iterable[Server], groups: Sequence[Process] = ()) -> None:
    """End servers side by side, and the `groups` of tools with them, in 4 s at most.

    Servers: stdin is closed, 2 s, TERM, 2 s, KILL (2025-11-25, basic/lifecycle, Shutdown); groups: TERM, 2 s, KILL.
    """
    wires = [wire for wire in [server.detach() for server in servers] if wire]
    processes = [wire.pipes.process for wire in wires]

    def gone() -> bool:
        for wire in wires:
            wire.discard()
        return not any([process.poll() is None for process in processes] + [alive(group) for group in groups])

    try:
        for wire in wires:
            wire.pipes.close_stdin()
        for group in groups:
            signal_group(group, signal.SIGTERM)
        waited(gone, GRACE)
    finally:
        for group in groups:
            signal_group(group, signal.SIGKILL)
        end_groups([*processes, *groups])
        for wire in wires:
            wire.pipes.close()


def _named(tool: Any) -> bool:
    return isinstance(tool, dict) and isinstance(tool.get("name"), str) and bool(tool["name"])


def _definition(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A tool as models are told of it; some refuse a schema without `properties`."""
    schema = tool.get("inputSchema")
    schema = schema if isinstance(schema, dict) else {"type": "object"}
    return {
        "name": tool["name"],
        "description": str(tool.get("description") or tool.get("title") or ""),
        "parameters": schema if "properties" in schema else {**schema, "properties": {}},
    }


def _text(result: Mapping[str, Any]) -> str:
    """A tool's result as a text; for anything else in it, a word says what it was."""
    items = objects_in(result.get("content"))
    if not items and "structuredContent" in result:
        return json.dumps(result["structuredContent"], ensure_ascii=False)
    return "\n".join(map(_item, items))


def _item(item: Mapping[str, Any]) -> str:
    kind = item.get("type")
    if kind == "resource" and isinstance(item.get("resource"), dict):
        item = item["resource"]
    text = item.get("uri") if kind == "resource_link" else item.get("text")
    return text if isinstance(text, str) else f"[{item.get('mimeType') or kind}, not shown]"
