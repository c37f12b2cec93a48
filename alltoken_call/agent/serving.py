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

START = 60.0  # seconds in which a server has to be up


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
        from .tools import Remote

        servers = [server for text in self._specifications for server in self._named(text)]
        self._servers = servers
        weakref.finalize(self, mcp.close_all, servers)  # nobody has to call `close`
        found = dict(tools)
        try:
            for server in servers:
                server.start(max(0.1, min(START, left())))
                for definition in server.tools:
                    name = mcp.tool_name(server.name, definition["name"], set(found))
                    found[name] = Remote(name, server, definition)
        except BaseException as error:
            self.close()
            if isinstance(error, mcp.ServerError) and self._stop():
                raise CallError("cancelled", code="cancelled", status=ExitStatus.INTERRUPTED) from None
            if isinstance(error, mcp.ServerError):
                raise UsageError(f"the server {server.name}: {error}") from None
            raise
        return found

    def _named(self, text: str) -> list[Server]:
        import shlex

        from . import mcp

        if text.endswith(".json"):
            listed = mcp.read_config(text, self._environ)
            return [
                mcp.Server(name, argv, environ=mcp.limited_environ(self._seen, own), cwd=cwd, stop=self._stop)
                for name, argv, own, cwd in listed
            ]
        try:
            words = shlex.split(text)
        except ValueError:
            words = []
        if not words:
            raise UsageError(f"mcp: {text!r} is not a command line")
        return [mcp.Server(mcp.server_name(words), words, environ=self._seen, stop=self._stop)]

    def end_with(self, group: Process) -> None:
        """End the servers, and a tool's processes side by side with them."""
        from . import mcp

        servers, self._servers = self._servers, []
        mcp.close_all(servers, [group])

    def close(self) -> None:
        """End the servers. Idempotent."""
        servers, self._servers = self._servers, []
        if servers:
            from . import mcp

            mcp.close_all(servers)
