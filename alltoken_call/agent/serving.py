"""The MCP servers of an agent: started before its first request, their tools among its own, ended with it."""

from __future__ import annotations

import weakref

from ..errors import CallError, ExitStatus, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from .mcp import Server
    from .process import Process
    from .tools import Tool


class Serving:
    """The servers that `specifications` name: command lines, or .json files that list some.

    `environ` is what the files' variables come from, `seen` what a server may see of it. `stop` tells whether to give
    up now.
    """

    def __init__(
        self,
        specifications: Iterable[str],
        environ: Mapping[str, str],
        seen: Mapping[str, str],
        stop: Callable[[], bool],
    ) -> None:
        self._specifications = list(specifications)
        self._environ = environ
        self._seen = seen
        self._stop = stop
        self._servers: list[Server] = []

    def start(self, tools: dict[str, Tool], left: Callable[[], float]) -> dict[str, Tool]:
        """Start what is not up yet, within the seconds that are `left`; `tools` with those of the servers.

        Raises `UsageError`, and `CallError` if it is stopped; then none is up.
        """
        if not self._specifications or self._servers:
            return tools
        from . import mcp
        from .servers import tool_name
        from .tools import Remote

        self._servers = servers = [server for text in self._specifications for server in self._named(text)]
        weakref.finalize(self, mcp.close_all, servers)  # nobody has to call `close`
        found = dict(tools)
        try:
            for server in servers:
                server.start(max(0.1, min(mcp.START, left())))
                for definition in server.tools:
                    name = tool_name(server.name, definition["name"], set(found))
                    found[name] = Remote(name, server, definition)
        except BaseException as error:
            self.close()
            if not isinstance(error, mcp.ServerError):
                raise
            if self._stop():
                raise CallError("cancelled", code="cancelled", status=ExitStatus.INTERRUPTED) from None
            raise UsageError(f"the server {server.name}: {error}") from None
        return found

    def _named(self, text: str) -> list[Server]:
        import shlex

        from .mcp import Server
        from .servers import limited_environ, read_config, server_name

        if text.endswith(".json"):
            return [
                Server(name, argv, limited_environ(self._seen, own), cwd, self._stop)
                for name, argv, own, cwd in read_config(text, self._environ)
            ]
        try:
            words = shlex.split(text)
        except ValueError:
            words = []
        if not words:
            raise UsageError(f"mcp: {text!r} is not a command line")
        return [Server(server_name(words), words, self._seen, None, self._stop)]

    def close(self, *groups: Process) -> None:
        """End the servers, and a tool's processes side by side with them. Idempotent."""
        if self._servers or groups:
            from .mcp import close_all

            close_all(self._servers, groups)
            self._servers = []
