"""The tools of a run: where they come from, and which may run."""

from __future__ import annotations

import contextlib

from .. import config
from ..errors import CallError, ExitStatus, Interrupted, UsageError
from . import loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Mapping

    from ..agent.process import Process
    from ..agent.run import Run
    from ..agent.tools import Tool, ToolCall
    from ..calls.client import Client
    from ..cli.context import Context
    from ..cli.output import Output


def find_tools(args: argparse.Namespace, environ: Mapping[str, str]) -> list[Tool]:
    """The tools that the command line names but those of servers. Raises `UsageError`."""
    from ..agent import tools

    found: list[Tool] = [tools.declared(path, environ) for path in args.tool]
    if args.tools:
        found += tools.defined(args.tools, loop.definitions(args), environ)
    names = [tool.name for tool in found]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two tools are called {name}")
    return found


@contextlib.contextmanager
def serving(
    args: argparse.Namespace, context: Context, client: Client, found: list[Tool]
) -> Iterator[tuple[list[Tool], Callable[[Process], None] | None]]:
    """The tools with those of the MCP servers, which run until the block's end; and what ends a tool's processes side
    by side with the servers. Raises `UsageError` if a server does not come up."""
    from ..agent import process
    from ..agent.servers import Serving

    def stop() -> bool:
        return client.clock.left() <= 0

    process.close_proc_entry()
    servers = Serving(args.mcp, context.environ, config.without_keys(context.environ, client.key), stop)
    try:
        tools = servers.start({tool.name: tool for tool in found}, client.clock.left)
    except CallError as error:
        if error.code != "cancelled":
            raise
        message = "the time of --max-wait is over, and the servers are not up"
        raise CallError(message, code="max_wait", status=ExitStatus.NETWORK) from None
    try:
        yield list(tools.values()), servers.close if args.mcp else None
    finally:
        with contextlib.suppress(Interrupted):  # the run has its end already; a signal only hastens theirs
            servers.close()


class Consent:
    """What may run: what the user names runs, what a server brings asks; --allow lets pass, --approve asks for all."""

    def __init__(self, args: argparse.Namespace, context: Context, output: Output) -> None:
        self._allow = list(args.allow)
        self._all = args.approve
        self._context = context
        self._output = output
        self._refused = 0  # calls that were refused since nobody could be asked

    def warn(self, tools: list[Tool]) -> None:
        """If nobody can be asked, say before anything is sent which --allow would let calls run."""
        from ..agent.tools import Handed

        names = [tool.name for tool in tools if not isinstance(tool, Handed) and not self._passes(tool)]
        if names and not self._context.can_ask():
            patterns = " ".join(f"--allow '{name}'" for name in names[:5])
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            self._output.warning(
                f"nobody can be asked about calls of {len(names)} tool(s), so they will be refused;"
                f" these options let them run: {patterns}{more}"
            )

    def _passes(self, tool: Tool) -> bool:
        import fnmatch

        return any(fnmatch.fnmatchcase(tool.name, glob) for glob in self._allow) or not (self._all or tool.asks)

    def __call__(self, call: ToolCall, tool: Tool) -> bool | str:
        """Whether a call may run; a text is a refusal with its reason."""
        if self._passes(tool):
            return True
        if not self._context.can_ask():
            self._refused += 1
            return "nobody could be asked whether this call may run"
        import json

        arguments = json.dumps(call.arguments, ensure_ascii=False)
        answer = self._context.ask(f"run {call.name} {arguments}? (y once, a always, n or a reason) ").strip()
        if answer.lower() in ("a", "always"):
            self._allow.append(tool.name)
        if answer.lower() in ("y", "yes", "a", "always"):
            return True
        return "the user does not allow this call" if answer.lower() in ("", "n", "no") else f"the user says: {answer}"

    def check(self, value: Run) -> None:
        """Raise `CallError` if calls of a run that has come to its end were refused since nobody could be asked."""
        if self._refused:
            message = f"{self._refused} call(s) were refused, since nobody could be asked"
            hint = "--allow GLOB lets them run"
            raise CallError(message, code="refused_calls", status=ExitStatus.REFUSED, hint=hint, partial=value)
