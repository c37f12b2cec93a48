"""Read argv, pick the command, and turn every outcome into an exit status.

The command is picked by hand, since argparse's subparsers refuse words on both sides of an option; what follows the
first `--` is cut off before parsing and appended as words, since argparse could still take it for an option's value.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import math

from .. import __version__
from . import options
from ..errors import CallError, ExitStatus, Interrupted, UsageError
from .output import Output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from .context import Context

COMMANDS = ("chat", "image", "video", "search", "models", "cost")
RECORDED = ("chat", "image", "video", "search")  # what may cost something leaves a row in the ledger
TOP = ["--help", "--version", "--install-skills", "--completion"]
_ANYWHERE = ("--json", "-q", "--quiet", "-v", "--verbose", "--dry-run")
EXIT_STATUSES = """\
exit statuses:
  0 done                          8 still pending: resume it
  1 refused, or nothing to show   9 cut short; what arrived was kept
  2 wrong usage, nothing sent    10 the task failed, was cancelled or expired
  3 the network                  11 the result is gone
  4 the key                      12 unknown whether the submit was accepted
  5 the gateway failed           13 cannot write here
  6 out of credit               129 hung up, 130 interrupted, 143 terminated
  7 rate-limited                141 the reader of stdout went away"""


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose refusals are `UsageError`s; help is printed by us, on the context's streams."""

    def error(self, message: str) -> NoReturn:
        """What argparse calls to refuse."""
        raise UsageError(message, hint=self.format_usage().strip())


def command_parser(name: str) -> Parser:
    """The parser of one command, with the options that every command has."""
    module = _module(name)
    parser = Parser(
        prog=f"alltoken-call {name}",
        description=module.HELP,
        epilog=f"example:\n  {module.EXAMPLE}",
        formatter_class=functools.partial(argparse.RawDescriptionHelpFormatter, width=79),  # asking for it costs 4 ms
        allow_abbrev=False,
        add_help=False,
    )
    module.add_arguments(parser)
    common = parser.add_argument_group("on every command")
    common.add_argument("-h", "--help", action="store_true", help="show this and exit")
    common.add_argument("--json", action="store_true", help="print one JSON document")
    common.add_argument("-q", "--quiet", action="store_true", help="no meta lines, no progress")
    common.add_argument("-v", "--verbose", action="store_true", help="show requests on stderr, without secrets")
    common.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=options.seconds,
        default=120.0,
        help="longest silence of the connection (120)",
    )
    common.add_argument("--max-wait", metavar="SECONDS", type=options.seconds, help="longest time for all of it")
    common.add_argument("--dry-run", action="store_true", help="print the request, send nothing")
    return parser


def main(argv: list[str], context: Context) -> int:
    """Run one command line; the exit status. Nothing is raised but what -v shows of a bug."""
    try:
        return _main(argv, context)
    except Interrupted as signal:  # before a command ran, or while the end of one was told
        return signal.status


def _main(argv: list[str], context: Context) -> int:
    name, argv = _command(argv)
    if name is None:
        output = Output(context, None, json_mode="--json" in argv)
        return _ended(output, lambda: _without_command(argv, context, output))
    head, words = _cut(argv, thinking=name == "chat")
    output = Output(context, name, _module(name).FIELDS, json_mode="--json" in head)
    status = _ended(output, lambda: _run(name, head, words, context, output))
    if output.reached and output.keep_row and name in RECORDED:
        from ..store import ledger  # after the answer is shown

        with contextlib.suppress(Interrupted), context.signals.held():  # the result is out
            ledger.record(context, output, {"ended": context.now(), "exit_status": status})
    return status


def _run(name: str, head: list[str], words: list[str], context: Context, output: Output) -> None:
    parser = command_parser(name)
    args = parser.parse_intermixed_args(head)
    args.words = [options.text(word) for word in (*args.words, *words)]
    output.json_mode, output.quiet, output.verbose = args.json, args.quiet, args.verbose
    if args.help:
        output.json_mode = False
        output.line(parser.format_help().rstrip())
        return
    module = _module(name)
    max_wait = args.max_wait or getattr(module, "MAX_WAIT", math.inf)
    context.deadline = context.clock() + max_wait
    try:
        module.run(args, context, output)
    except UsageError as error:
        if error.hint is None:
            error.hint = (
                parser.format_usage().strip() if error.code == "no_prompt" else f"{parser.prog} --help tells more"
            )
        raise
    output.report["ok"] = True
    if output.json_mode and not output.documented:
        output.document()


def _ended(output: Output, run: Callable[[], None]) -> int:
    """0 where `run` returns, else the status of what it raised, told on stderr or in the JSON document."""
    try:
        try:
            run()
            return 0
        except Interrupted as signal:
            error = CallError("stopped by a signal", code="interrupted", status=ExitStatus(signal.status))
        except CallError as raised:
            error = raised
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
        if error.status is not ExitStatus.BROKEN_PIPE:
            output.failed(error)
            if output.parting:
                output.say(output.parting)
            if output.json_mode and output.stdout_works:
                output.document()
        return int(error.status)
    except CallError as unwritable:  # the document itself did not reach stdout
        if unwritable.status is not ExitStatus.BROKEN_PIPE:
            output.failed(unwritable)
        return int(unwritable.status)


def _command(argv: list[str]) -> tuple[str | None, list[str]]:
    """The command that the first word names, plain or in its slash form (/alltoken-chat), and all the other words;
    some of the options that every command has may stand before it."""
    before = next((at for at, word in enumerate(argv) if word not in _ANYWHERE), 0)
    word = argv[before] if argv else ""
    if word.lower().startswith("/alltoken-"):
        word = word.lower().removeprefix("/alltoken-")
    return (word, argv[:before] + argv[before + 1 :]) if word in COMMANDS else (None, argv)


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
    if argv in (["--help"], ["-h"], ["help"]):
        output.line(_help())
        return
    if argv == ["--version"]:
        output.line(f"alltoken-call {__version__}")
        return
    if not argv:
        raise UsageError("no command", hint=_help())
    option, equals, value = argv[0].partition("=")
    if option in ("--install-skills", "--completion"):
        values = [value, *argv[1:]] if equals else argv[1:]
        _at_the_top(option, values, context, output)
        return
    if argv[0].startswith("-"):
        raise UsageError(
            f"{argv[0]!r} is no option here", hint="options stand behind the command: alltoken-call chat …"
        )
    import difflib

    near = difflib.get_close_matches(argv[0].removeprefix("/alltoken-"), COMMANDS, 1)
    hint = f"did you mean {near[0]}?" if near else f"the commands are {', '.join(COMMANDS)}"
    raise UsageError(f"{argv[0]!r} is no command", hint=hint)


def _at_the_top(option: str, values: list[str], context: Context, output: Output) -> None:
    output.json_mode = False
    output.check_stdout()
    if option == "--install-skills":
        from . import skills

        if len(values) != 1 or not values[0]:
            raise UsageError("--install-skills takes the directory that holds your skills")
        skills.install(values[0], context, output)
        return
    from . import shell

    if len(values) != 1 or values[0] not in shell.SHELLS:
        raise UsageError(f"--completion takes {', '.join(shell.SHELLS)}")
    output.line(shell.script(values[0], {name: command_parser(name) for name in COMMANDS}, TOP))


def _help() -> str:
    commands = "\n".join(f"  {name:<8}{_module(name).HELP}" for name in COMMANDS)
    return f"""\
usage: alltoken-call COMMAND [OPTION]… [WORD]…

One-shot calls to every model behind the AllToken gateway.
The key comes from ALLTOKEN_API_KEY.

commands:
{commands}

alltoken-call COMMAND --help tells more. /alltoken-chat is chat, and so on.

options:
  -h, --help                    show this and exit
  --version                     show the version and exit
  --install-skills DIR          write six skill folders into DIR
  --completion bash|zsh|fish    print a completion script to eval

{EXIT_STATUSES}"""


def _module(name: str) -> Any:
    return importlib.import_module(f"..commands.{name}", __package__)
