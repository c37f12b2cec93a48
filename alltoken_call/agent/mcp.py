"""A client of MCP servers over stdio: it starts them, lists their tools, calls these, and ends the servers.

The protocol has two eras. `initialize` of 2025-11-25 comes first, since all servers answer it; a server that answers
it with an error is of the era of 2026-07-28, which has no handshake: each request says in `_meta` who asks.
(Specification 2025-11-25, basic/lifecycle; 2026-07-28, basic/versioning and server/discover.)
"""

from __future__ import annotations

import json

from .. import __version__
from ..net.clock import Clock
from ..wire import as_object, objects_in
from .process import end_groups, signals_held
from .rpc import METHOD_NOT_FOUND, Wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from .process import Process

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
        self._starts -= 1
        try:
            self._connect(clock)
            self.tools = self.tools or self._list(clock)
        except ServerError:
            self.close()
            raise

    def call(self, name: str, arguments: dict[str, Any], timeout: float) -> tuple[str, bool]:
        """Call a tool; a text for the model, and whether it went well.

        A server that is found dead is started again, once. A call that may have taken effect is not repeated.
        """
        clock = Clock(max_wait=timeout)
        try:
            self._revive(clock)
            answer = self._request("tools/call", {"name": name, "arguments": arguments}, clock)
        except ServerError as error:
            return f"error: the server {self.name} {error}", False
        if "error" in answer:
            return f"error: {_refusal(answer)}", False
        result = as_object(answer.get("result"))
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
        if "error" not in answer:
            version = as_object(answer.get("result")).get("protocolVersion")
            if version not in LEGACY:
                raise ServerError(f"speaks another version of MCP: {version}")
            self._wire.send(method="notifications/initialized")
            return
        self._meta = {"_meta": META}
        found = self._request("server/discover", {}, clock)
        versions = as_object(found.get("result")).get("supportedVersions")
        if not isinstance(versions, list) or MODERN not in versions:
            told = _refusal(found) if "error" in found else f"it speaks {versions}"
            raise ServerError(f"refused the connection: {_refusal(answer)}; {told}")

    def _list(self, clock: Clock) -> list[dict[str, Any]]:
        """The tools of all pages."""
        found: list[dict[str, Any]] = []
        seen: set[str] = set()
        page: dict[str, Any] = {}
        while max(len(found), len(seen)) <= MOST_TOOLS:
            answer = self._request("tools/list", page, clock)
            if "error" in answer:
                if as_object(answer["error"]).get("code") == METHOD_NOT_FOUND:  # it has resources or prompts alone
                    return found
                raise ServerError(f"does not list its tools: {_refusal(answer)}")
            result = as_object(answer.get("result"))
            found += [_definition(tool) for tool in objects_in(result.get("tools")) if _named(tool)]
            cursor = result.get("nextCursor")
            if not isinstance(cursor, str) or cursor in seen:
                return found
            seen.add(cursor)
            page = {"cursor": cursor}
        raise ServerError(f"lists more than {MOST_TOOLS:,} tools or pages of them")

    def _revive(self, clock: Clock) -> None:
        """Start a server again that is found dead. Raises `ServerError` if it must not or cannot be."""
        wire = self._wire
        if wire is not None:
            list(wire.messages(0.0))  # late answers
        if wire is None or wire.fate:
            if self._starts <= 0:
                raise ServerError(f"is dead: it {wire.fate if wire else 'was not started'}")
            self.start(clock.left())

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
        raise ServerError(wire.fate or f"{why} ({method}): {wire.end_of_stderr()}")

    def _is_answer(self, message: Mapping[str, Any]) -> bool:
        """Whether a message answers the last request: no notification, and no answer that comes too late, or twice."""
        return message.get("id") == self._last_id or (message.get("id") is None and "error" in message)


def close_all(servers: Iterable[Server], groups: Iterable[Process] = ()) -> None:
    """End servers side by side, and the `groups` of tools with them, in 4 s at most."""
    end_groups(*groups, servers=[wire for server in servers for wire in server.ending()])


def _named(tool: Mapping[str, Any]) -> bool:
    return isinstance(tool.get("name"), str) and bool(tool["name"])


def _definition(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A tool as models are told of it; some refuse a schema without `properties`."""
    schema = tool.get("inputSchema")
    schema = schema if isinstance(schema, dict) else {"type": "object"}
    return {
        "name": tool["name"],
        "description": str(tool.get("description") or tool.get("title") or ""),
        "parameters": schema if "properties" in schema else {**schema, "properties": {}},
    }


def _refusal(answer: Mapping[str, Any]) -> str:
    error = as_object(answer["error"])
    return str(error.get("message") or f"error {error.get('code')}")


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
