"""The conversation of a run that calls tools: where it is kept, and the command that goes on with it."""

from __future__ import annotations

from .. import config
from ..errors import CallError, OutputError
from ..store import files
from ..store import thread as threads

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from typing import Any

    from ..cli.context import Context
    from ..cli.output import Output
    from ..store.thread import Thread

# The options that shape a run.
_SHAPE = ["tool", "mcp", "allow", "tools", "gateway", "max_cost", "temperature", "max_tokens", "max_wait", "timeout"]
_SHAPE += ["max_steps", "tool_timeout", "tool_output", "fallback", "approve", "no_stream", "json", "thinking", "param"]


class Kept:
    """The `thread` of a run: the user's, or a file in the state directory for as long as the run is unfinished. `body`
    is the request, which names the model."""

    def __init__(self, args: argparse.Namespace, context: Context, thread: Thread, body: dict[str, Any]) -> None:
        self._args = args
        self._context = context
        self._body = body
        self._state = config.state_dir(context.environ)
        self._ours = (args.resume or not args.thread) and threads.is_kept(thread.path, self._state)
        self._place = thread.path if args.resume and not args.words else ""  # where the conversation is as it stands
        self.thread = thread

    def save(self) -> None:
        """Keep the conversation. If its place fails, it goes to the state directory, and `OutputError` is raised."""
        model, elsewhere = self._body["model"], self._place if self._place != self.thread.path else ""
        try:
            self.thread.save(model)
        except OutputError as error:
            if self._state is None:
                raise
            place = elsewhere or threads.kept_path(self._state, self._context.clock.now(), lasting=not self._ours)
            self.thread.save(model, place)
            self._place = place
            raise CallError.of(error, message=f"{error.message}; the conversation is kept in {place}") from None
        self._place = self.thread.path
        if elsewhere:
            files.discard(elsewhere)

    def end(self) -> None:
        """The run has come to its end: a file of ours is not needed any more."""
        if self._ours:
            files.discard(self.thread.path)

    def resume_command(self, command: str) -> str | None:
        """The command that goes on with the run, with its model, tools, consent and limits; None if it cannot be taken
        up, or has its answer."""
        if not self._place or threads.is_answered(self.thread.messages):
            return None
        path = f"./{self._place}" if self._place.startswith("-") else self._place
        place = ("--thread", path, "--resume", f"--model={self._body['model']}")
        return self._context.command_line(command, *place, *_options(self._args))

    def hint(self) -> str | None:
        """What a user should know of the conversation if a run has failed, and there is no command for it."""
        path, answered = self.thread.path, threads.is_answered(self.thread.messages)
        if not path:
            return "this conversation is not kept: --thread FILE keeps one"
        return f"the answer is in {path}" if self._ours and answered else None


def new_path(context: Context, output: Output) -> str:
    """A place in the state directory for a run that has no thread; empty, with a warning, if there is none."""
    state = config.state_dir(context.environ)
    try:
        return threads.kept_path(state, context.clock.now()) if state else ""
    except OutputError as error:
        output.warning(f"{error.message}: if this run does not come to its end, it cannot be resumed")
        return ""


def _options(args: argparse.Namespace) -> Iterator[str]:
    """The options of a run as it was started; `--name=value`, since a value may look like an option."""
    import json

    given: dict[str, Any] = vars(args) | {"param": [f"{key}={json.dumps(value)}" for key, value in args.param]}
    if args.fallback == "auto":
        del given["fallback"]
    elif isinstance(args.fallback, list):
        given["fallback"] = ",".join(args.fallback)
    if given.get("thinking") == 0:
        given["thinking"] = ""
    for name in _SHAPE:
        value = given.get(name)  # search has fewer
        for one in value if isinstance(value, list) else [value]:
            if one is not None and one is not False:
                yield f"--{name.replace('_', '-')}" + ("" if one is True else f"={one}")
