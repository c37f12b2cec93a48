"""The options that chat and search have for tools, and the tools that they name."""

from __future__ import annotations

from ..errors import UsageError
from . import options

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping
    from typing import Any

    from ..agent.tools import Tool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options for tools. What is not given is None, or an empty list: the line that resumes a run leaves it out."""
    add = parser.add_argument_group("tools that run").add_argument
    many: Any = {"action": "append", "default": []}
    add("--tool", metavar="PATH", **many, help="an executable that declares itself; repeatable")
    about = 'a JSON array of definitions: those with a "command" are run, the calls of the others are handed back'
    add("--tools", metavar="FILE", help=about)
    about = "MCP servers: a command line, or a .json file with mcpServers; repeatable"
    add("--mcp", metavar="FILE|COMMAND", **many, help=about)
    add("--allow", metavar="GLOB", **many, help="let calls of these tools pass unasked; repeatable")
    add("--approve", action="store_true", help="ask about every other call, not only about servers' tools")
    add("--max-steps", metavar="N", type=options.positive, help="most requests of a run (default: 10)")
    about = "no further request once so much is spent"
    add("--max-cost", metavar="USD", type=options.number(0, 1e9), help=about)
    add("--tool-timeout", metavar="SECONDS", type=options.seconds, help="longest time of a call (default: 60)")
    about = "most characters of a result; the middle is left out (default: 30000)"
    add("--tool-output", metavar="N", type=options.positive, help=about)
    add("-i", "--interactive", action="store_true", help="a conversation in the terminal; also without words")
    add("--resume", action="store_true", help="with --thread: go on with an unfinished run")


def is_wanted(args: argparse.Namespace) -> bool:
    """Whether a run has tools that run, or goes on with one that had."""
    return bool(args.tool or args.mcp or args.resume or any("command" in item for item in definitions(args)))


def find_tools(args: argparse.Namespace, environ: Mapping[str, str]) -> dict[str, Tool]:
    """The tools that the command line names, by their names, but those of servers. Raises `UsageError`."""
    from ..agent.tools import declared, defined

    found: dict[str, Tool] = {}
    made: list[Tool] = [declared(path, environ) for path in args.tool]
    made += [defined(args.tools, item, environ) for item in definitions(args)]
    for tool in made:
        if tool.name in found:
            raise UsageError(f"two tools are called {tool.name}")
        found[tool.name] = tool
    return found


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
