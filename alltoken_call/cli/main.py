"""Read argv, pick the command, and turn every outcome into an exit status.

The command is picked by hand, since argparse's subparsers refuse words on both sides of an option; what follows the
first `--` is cut off before parsing and appended as words, since argparse could still take it for an option's value.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import math

from .. import __version__
from ..commands import options
from ..errors import CallError, ExitStatus, Interrupted, NetError, UsageError
from ..values import Pending, Report
from .output import Output
from .parser import COMMANDS, TOP, Parser, command_parser, module, nearest, top_help
from .report import document, resume_line, tell_error, tell_money

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..values import Result
    from .context import Context

_ANYWHERE = ("--json", "-q", "--quiet", "-v", "--verbose", "--dry-run")
_WITH_VALUE = ("--gateway", "--timeout", "--max-wait")  # on every command, too


def main(argv: list[str], context: Context) -> int:
    """Run one command line; the exit status. Nothing is raised but what -v shows of a bug."""
    try:
        return _main(argv, context)
    except Interrupted as signal:  # before a command ran, or while the end of one was told
        return signal.status


def _main(argv: list[str], context: Context) -> int:
    name, argv = _command(argv)
    if name is None:
        output = Output(context, json_mode="--json" in argv)
        output.gateway = _named(argv, "--gateway")
        return _ended(None, (), context, output, lambda: _without_command(argv, context, output))[0]
    head, words = _cut(argv, thinking=name == "chat")
    output = Output(context, json_mode="--json" in head, quiet="-q" in head or "--quiet" in head)
    output.gateway = _named(head, "--gateway")
    keys = module(name).FIELDS
    status, result = _ended(name, keys, context, output, lambda: _run(name, head, words, context, output))
    if result is not None and result.tried and not result.recorded and context.made is not None:
        with contextlib.suppress(Interrupted), context.signals.held():  # the answer is shown
            about = {} if isinstance(result, Pending) else {"command": name}
            context.made.record(result, **about, ended=context.clock.now(), exit_status=status)
    return status


def _run(name: str, head: list[str], words: list[str], context: Context, output: Output) -> Result | None:
    parser = command_parser(name)
    args = _unparsed(parser, head)
    try:
        with context.signals.held():  # argparse cannot be interrupted: it fails while it cleans up
            args = parser.parse_intermixed_args(head)
        args.words = [options.text(word) for word in (*args.words, *words)]
        return _parsed(name, parser, args, context, output)
    except (CallError, NetError) as error:
        hint = error.hint
        if isinstance(error, UsageError) and hint is None:
            usage = error.code == "no_prompt"
            hint = parser.format_usage().strip() if usage else f"{parser.prog} --help shows the options"
        end = CallError.of(error, hint=hint)
        if not end.partial:
            end = CallError.of(end, partial=Report(options.asked_model(args, context, name)))
        raise end from None


def _parsed(name: str, parser: Parser, args: argparse.Namespace, context: Context, output: Output) -> Result | None:
    output.json_mode, output.quiet, output.verbose = args.json, args.quiet, args.verbose
    output.gateway = args.gateway
    if args.help:
        output.json_mode = False
        output.line(parser.format_help().rstrip())
        return None
    command = module(name)
    max_wait = args.max_wait or getattr(command, "MAX_WAIT", math.inf)
    context.clock.deadline = context.clock.monotonic() + max_wait
    result: Result | None = command.run(args, context, output)
    return result


def _unparsed(parser: Parser, head: list[str]) -> argparse.Namespace:
    """What tells the model in a command line that may not be parsable."""
    actions = parser._actions  # noqa: SLF001  # no public way
    args = argparse.Namespace(**{action.dest: action.default for action in actions})
    for action in actions:
        if action.dest in ("model", "gateway", "thread", "resume", "cancel"):
            setattr(args, action.dest, _named(head, *action.option_strings))
    args.words = list(itertools.takewhile(lambda word: not word.startswith("-"), head))
    return args


def _ended(
    name: str | None, keys: tuple[str, ...], context: Context, output: Output, run: Callable[[], Result | None]
) -> tuple[int, Result | None]:
    """Run something and tell of its end: the exit status, and the value as far as it came."""
    result, error = _outcome(context, output, run)
    try:
        if result is not None and (error is None or error.status is not ExitStatus.BROKEN_PIPE):
            tell_money(result, output, later=context.made is not None and context.made.can_look_up)
        if error is not None and error.status is not ExitStatus.BROKEN_PIPE:
            if isinstance(result, Pending) and result.tried and not result.resumable:
                output.tell_task(result.task_id or "")
            tell_error(error, output)
        if isinstance(result, Pending) and result.resumable:
            output.say(resume_line(result, context))
        elif result is not None and result.resume:
            output.say(result.resume)
        broken = error is not None and (error.status is ExitStatus.BROKEN_PIPE or not output.stdout_works)
        if output.json_mode and not output.documented and not broken:
            output.document(document(name, keys, result, error, context, output))
    except CallError as unwritable:  # the document itself did not reach stdout
        if unwritable.status is not ExitStatus.BROKEN_PIPE:
            tell_error(unwritable, output)
        return int(unwritable.status), result
    except Interrupted as signal:  # the reader of stdout or stderr stood still
        return int(signal.status), result
    return int(error.status) if error else 0, result


def _outcome(
    context: Context, output: Output, run: Callable[[], Result | None]
) -> tuple[Result | None, CallError | None]:
    """What `run` returns or, if it raises, the error and its partial value."""
    error: CallError
    try:
        return run(), None
    except Interrupted as signal:
        error = CallError("stopped by a signal", code="interrupted", status=signal.status)
    except CallError as raised:
        error = raised
    except NetError as failure:
        error = CallError.of(failure)
    except RecursionError:
        error = CallError("a value is nested too deeply", code="protocol", status=ExitStatus.NETWORK)
    except MemoryError:
        error = CallError("out of memory", code="memory")
    except Exception as bug:
        if output.verbose:
            raise
        error = CallError(
            f"{type(bug).__name__} in alltoken-call {__version__}",
            code="bug",
            hint="-v shows where; please report it",
        )
    output.ending = error.code == "interrupted" or context.clock.left() <= 0
    return error.partial, error


def _command(argv: list[str]) -> tuple[str | None, list[str]]:
    """The command that the first word names, plain or in its slash form (/alltoken-chat), and all the other words;
    some of the options that every command has may stand before it."""
    if argv[:1] == ["help"] and len(argv) == 2:
        argv = [argv[1], "--help"]
    before = _before(argv)
    word = argv[before] if before < len(argv) else ""
    if word.lower().startswith("/alltoken-"):
        word = word.lower().removeprefix("/alltoken-")
    return (word, argv[:before] + argv[before + 1 :]) if word in COMMANDS else (None, argv)


def _before(argv: list[str]) -> int:
    """How many words at the beginning are options that every command has, and their values."""
    at = 0
    while at < len(argv):
        option, equals, _ = argv[at].partition("=")
        if option in _WITH_VALUE:
            at += 1 if equals else 2
        elif argv[at] in _ANYWHERE:
            at += 1
        else:
            break
    return at


def _named(head: list[str], *names: str) -> str | None:
    """The value that a command line gives to an option, also one that cannot be parsed."""
    found = None
    for at, word in enumerate(head):
        option, equals, value = word.partition("=")
        if option in names:
            found = value if equals else "".join(head[at + 1 : at + 2])
    return found


def _cut(words: list[str], *, thinking: bool) -> tuple[list[str], list[str]]:
    """What stands before the first `--`, made ready for argparse, and what stands behind it.

    For chat, a bare --thinking becomes --thinking=, one before a word of digits --thinking=N: argparse's optional
    value would eat any next word.
    """
    end = words.index("--") if "--" in words else len(words)
    head: list[str] = []
    for word in words[:end]:
        if thinking and head and head[-1] == "--thinking=" and word.isascii() and word.isdigit():
            head[-1] += word
        else:
            head.append("--thinking=" if thinking and word == "--thinking" else word)
    return head, words[end + 1 :]


def _without_command(argv: list[str], context: Context, output: Output) -> None:
    argv = argv[_before(argv) :]
    if not argv:
        raise UsageError("no command", hint=top_help())
    if argv == ["help"] or argv[0] in ("--help", "-h", "--version", "-V"):
        if len(argv) > 1:
            raise UsageError(f"{argv[0]} takes no words", hint="alltoken-call COMMAND --help shows a command's options")
        output.json_mode = False
        output.line(f"alltoken-call {__version__}" if argv[0] in ("--version", "-V") else top_help())
        return
    option, equals, value = argv[0].partition("=")
    if option in ("--install-skills", "--new-agent", "--completion"):
        values = [value, *argv[1:]] if equals else argv[1:]
        _at_the_top(option, values, context, output)
        return
    if argv[0].startswith("-"):
        raise UsageError(f"unknown option {argv[0]}", hint=nearest(argv[0], TOP, "options go after the command"))
    word = argv[0].removeprefix("/alltoken-")
    raise UsageError(
        f"unknown command {argv[0]!r}", hint=nearest(word, COMMANDS, f"the commands are {', '.join(COMMANDS)}")
    )


def _at_the_top(option: str, values: list[str], context: Context, output: Output) -> None:
    output.json_mode = False
    output.check_stdout()
    if option == "--install-skills":
        from . import skills

        if len(values) != 1 or not values[0]:
            raise UsageError("--install-skills takes the directory that holds your skills")
        skills.install(values[0], {name: command_parser(name) for name in COMMANDS}, context, output)
        return
    if option == "--new-agent":
        from . import scaffold

        if len(values) != 1 or not values[0]:
            raise UsageError("--new-agent takes the directory of the new project")
        scaffold.write(values[0], context, output)
        return
    from . import shell

    if len(values) != 1 or values[0] not in shell.SHELLS:
        raise UsageError(f"--completion takes {', '.join(shell.SHELLS)}")
    output.line(shell.script(values[0], {name: command_parser(name) for name in COMMANDS}, list(TOP)))
