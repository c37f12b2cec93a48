"""Which calls of a run may run: by what the user has named, and by what is answered to a question."""

from __future__ import annotations

from ..errors import CallError, ExitStatus

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from ..agent.run import Run
    from ..agent.tools import Tool, ToolCall
    from ..cli.context import Context
    from ..cli.output import Output


class Consent:
    """What may run: what the user names runs, what a server brings asks; --allow lets pass, --approve asks for all."""

    def __init__(self, args: argparse.Namespace, context: Context, output: Output) -> None:
        self._allow = list(args.allow)
        self._all = args.approve
        self._context = context
        self._output = output
        self._refused = 0  # calls that were refused since nobody could be asked

    def warn(self, tools: Iterable[Tool]) -> None:
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
