"""The options that chat and search have for tools."""

from __future__ import annotations

from ..errors import UsageError
from . import options

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any


DEFAULTS = {"max_steps": 10, "tool_timeout": 60.0, "tool_output": 30_000}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options for tools."""
    tools = parser.add_argument_group("tools that run")
    tools.add_argument(
        "--tool", metavar="PATH", action="append", default=[], help="an executable that declares itself; repeatable"
    )
    tools.add_argument(
        "--tools",
        metavar="FILE",
        help='a JSON array of definitions: those with a "command" are run, the calls of the others are handed back',
    )
    tools.add_argument(
        "--mcp",
        metavar="FILE|COMMAND",
        action="append",
        default=[],
        help="MCP servers: a command line, or a .json file with mcpServers; repeatable",
    )
    tools.add_argument(
        "--allow", metavar="GLOB", action="append", default=[], help="let calls of these tools pass unasked; repeatable"
    )
    tools.add_argument(
        "--approve", action="store_true", help="ask about every other call, not only about servers' tools"
    )
    tools.add_argument("--max-steps", metavar="N", type=options.positive, help="most requests of a run (default: 10)")
    tools.add_argument(
        "--max-cost", metavar="USD", type=options.number(0, 1e9), help="no further request once so much is spent"
    )
    tools.add_argument(
        "--tool-timeout",
        metavar="SECONDS",
        type=options.seconds,
        help="longest time of a call (default: 60)",
    )
    tools.add_argument(
        "--tool-output",
        metavar="N",
        type=options.positive,
        help="most characters of a result; the middle is left out (default: 30000)",
    )
    tools.add_argument(
        "-i", "--interactive", action="store_true", help="a conversation in the terminal; also without words"
    )
    tools.add_argument("--resume", action="store_true", help="with --thread: go on with an unfinished run")
    parser.set_defaults(**DEFAULTS)


def is_wanted(args: argparse.Namespace) -> bool:
    """Whether a run has tools that run, or goes on with one that had."""
    return bool(args.tool or args.mcp or args.resume or any("command" in item for item in definitions(args)))


def definitions(args: argparse.Namespace) -> list[dict[str, Any]]:
    """The definitions in the --tools file, which is read once: it may be a pipe. Raises `UsageError`."""
    if "definitions" not in args:
        args.definitions = _read(args.tools) if args.tools else []
    found: list[dict[str, Any]] = args.definitions
    return found


def _read(path: str) -> list[dict[str, Any]]:
    from ..store import files
    from ..wire import parse_json

    try:
        value = parse_json(files.read_input(path))
    except ValueError:
        value = None
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise UsageError(f"{path}: --tools takes a JSON array of tools")
    return value
