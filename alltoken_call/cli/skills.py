"""--install-skills: six skill folders, for runtimes that name a command after its folder. Each stands alone.

What a skill says of an option is the command's own help; the rest is in skill_pages.py.
"""

from __future__ import annotations

import os
import shlex

from ..errors import OutputError
from ..store import files
from . import skill_pages as pages

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from .context import Context
    from .output import Output

MARK = "Written by alltoken-call --install-skills, which rewrites it."


def install(directory: str, parsers: Mapping[str, argparse.ArgumentParser], context: Context, output: Output) -> None:
    """Write what is absent or was written by us, for the commands of `parsers`. Raises `OutputError` if a file is not
    ours, or cannot be written, after all others were seen to."""
    left, failed = [], []
    for command, parser in parsers.items():
        path = os.path.join(directory, f"alltoken-{command}", "SKILL.md")
        try:
            if os.path.lexists(path) and not _is_ours(path):
                left.append(path)
                continue
            files.make_private(os.path.dirname(path))
            files.replace(path, _text(command, parser, shlex.join(context.program)).encode())
        except (OSError, OutputError) as error:
            failed.append(error.message if isinstance(error, OutputError) else f"cannot write {path}: {error.strerror}")
            continue
        output.line(path)
    if failed:
        raise OutputError("; ".join(failed))
    if left:
        raise OutputError(
            f"not written by alltoken-call, so left as it is: {', '.join(left)}", hint="move it away first"
        )


def _is_ours(path: str) -> bool:
    if os.path.islink(path) or not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        return MARK.encode() in file.read()


def _text(command: str, parser: argparse.ArgumentParser, program: str) -> str:
    """The skill of a command, which is run as `program`."""
    page = pages.PAGES[command]
    parts = {
        "command": command,
        "about": page.about,
        "triggers": ", ".join(f'"{trigger}"' for trigger in page.triggers),
        "key": pages.NO_KEY if command in ("models", "cost") else pages.KEY,
        "syntax": page.syntax,
        "how": pages.WORDS if page.words else pages.NO_WORDS,
        "line": f"PROGRAM {command} OPTIONS" + (f" - <<'EOF'\n{page.words}\nEOF" if page.words else ""),
        "rows": "\n".join(f"| {asked} | {f'`{options}`' if options else 'none'} |" for asked, options in page.rows),
        "options": "\n".join(_option(parser, name) for name in page.options),
        "models": f"\n## Models\n\n{page.models}\n{pages.AGE}\n" if page.models else "",
        "show": page.show,
        "statuses": "\n".join(f"| {status} | {pages.STATUSES[status]} |" for status in page.statuses),
        "tips": page.tips,
        "mark": MARK,
    }
    text = pages.PAGE
    for name, part in parts.items():
        text = text.replace(f"@{name}@", part)
    return text.replace("PROGRAM", program)


def _option(parser: argparse.ArgumentParser, name: str) -> str:
    """A line about an option, as its help has it."""
    action = next(action for action in parser._actions if name in action.option_strings)  # noqa: SLF001  # no public way
    value = action.metavar or "|".join(map(str, action.choices or ()))
    takes = "" if action.nargs == 0 else f" [{value}]" if action.nargs == "?" else f" {value}"
    return f"- `{', '.join(action.option_strings)}{takes}`: {action.help}"
