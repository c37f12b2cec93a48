"""The command lines that there are: each command's parser, and the help texts."""

from __future__ import annotations

import argparse
import importlib
import re

from ..commands import options
from ..errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, NoReturn

vars(argparse)["_"] = str  # our texts are English: to look for translations takes 2 ms
COMMANDS = ("chat", "image", "video", "search", "models", "cost")
TOP = ("--help", "--version", "--install-skills", "--new-agent", "--completion")
EXIT_STATUSES = """\
exit statuses:
  0 done                          8 not finished: resume it
  1 refused, or nothing to show   9 cut short; what arrived was kept
  2 wrong usage, nothing sent    10 the task failed, was cancelled or expired
  3 the network                  11 the result is gone
  4 the key                      12 unknown whether the submit was accepted
  5 the gateway failed           13 cannot write here
  6 out of credit or budget     129 hung up, 130 interrupted, 143 terminated
  7 rate-limited                141 the reader of stdout went away"""


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose refusals are `UsageError`s; help is printed elsewhere."""

    color: bool

    def error(self, message: str) -> NoReturn:
        """What argparse calls to refuse."""
        unknown = re.match(r"unrecognized arguments: (--?[^ =]+)", message)
        if not unknown:
            raise UsageError(message, hint=f"{self.prog} --help shows the options")
        names = [name for action in self._actions for name in action.option_strings]
        raise UsageError(
            f"unknown option {unknown[1]}", hint=nearest(unknown[1], names, f"{self.prog} --help shows the options")
        )


class _Help(argparse.RawDescriptionHelpFormatter):
    """argparse's help, 79 columns wide: to ask for the terminal's width takes 4 ms, to load textwrap 2 ms."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=79)

    def _split_lines(self, text: str, width: int) -> list[str]:
        lines = [""]
        for word in text.split():
            if len(lines[-1]) + len(word) >= width:
                lines.append("")
            lines[-1] += f" {word}" if lines[-1] else word
        return lines


def nearest(word: str, names: Iterable[str], otherwise: str) -> str:
    """A hint that names what a mistyped word may mean."""
    import difflib

    near = difflib.get_close_matches(word, list(names), 1)
    return f"did you mean {near[0]}?" if near else otherwise


def command_parser(name: str) -> Parser:
    """The parser of one command, with the options that every command has."""
    command = module(name)
    parser = Parser(
        prog=f"alltoken-call {name}",
        usage=f"%(prog)s [OPTION]… {command.WORDS}",
        description=command.HELP,
        epilog=f"example:\n  {command.EXAMPLE}",
        formatter_class=_Help,
        allow_abbrev=False,
        add_help=False,
    )
    parser.color = False  # Python 3.14 would colour the help, which is printed as plain text
    command.add_arguments(parser)
    common = parser.add_argument_group("on every command")
    common.add_argument("-h", "--help", action="store_true", help="show this help and exit")
    common.add_argument(
        "--gateway",
        metavar="NAME",
        help="the gateway to call: alltoken, openclaw, openrouter, openai, ollama, llamacpp, lmstudio, or one of your"
        " own (default: $ALLTOKEN_GATEWAY, else alltoken)",
    )
    common.add_argument("--json", action="store_true", help="print one JSON document on stdout, success or failure")
    common.add_argument("-q", "--quiet", action="store_true", help="only results, warnings and errors")
    common.add_argument(
        "-v", "--verbose", action="store_true", help="show requests and retries on stderr, without secrets"
    )
    common.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=options.seconds,
        help="longest silence of the connection (default: 120; 600 for an image that comes at once)",
    )
    limit = getattr(command, "MAX_WAIT", None)
    common.add_argument(
        "--max-wait",
        metavar="SECONDS",
        type=options.seconds,
        help=f"longest time for the whole command (default: {f'{limit:.0f}' if limit else 'none'})",
    )
    common.add_argument("--dry-run", action="store_true", help="print the request as JSON, send nothing")
    return parser


def top_help() -> str:
    """What alltoken-call --help shows."""
    commands = "\n".join(f"  {name:<8}{module(name).HELP}" for name in COMMANDS)
    return f"""\
usage: alltoken-call COMMAND [OPTION]… [WORD]…

One-shot calls to every model behind the AllToken gateway.
The key comes from ALLTOKEN_API_KEY.

commands:
{commands}

alltoken-call COMMAND --help (or help COMMAND) shows a command's options.
/alltoken-chat is chat, and so on.

options:
  -h, --help                    show this and exit
  -V, --version                 show the version and exit
  --install-skills DIR          write six skill folders into DIR
  --new-agent DIR               write a small Python project: an agent
  --completion bash|zsh|fish    print a completion script to eval

{EXIT_STATUSES}"""


def module(name: str) -> Any:
    """The module of a command."""
    return importlib.import_module(f"..commands.{name}", __package__)
