"""--install-skills: six thin skill folders, for runtimes that name a command after its folder."""

from __future__ import annotations

import os
import shlex

from ..errors import OutputError
from ..store import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .context import Context
    from .output import Output

MARK = "Written by alltoken-call --install-skills, which rewrites it."
_SKILLS = {  # command: (what it does, its arguments before the words, what to show)
    "chat": ("Ask a language model through AllToken, and tell what it cost", "[-m MODEL] -", "the answer"),
    "image": (
        "Make an image through AllToken and save it",
        "[-m MODEL] [-o OUT.png] -",
        "the saved path, and a preview",
    ),
    "video": ("Make a video clip through AllToken", "[-m MODEL] [-o OUT.mp4] -", "the file, or the URL and its expiry"),
    "search": (
        "Search the web with a model through AllToken",
        "[-m MODEL] -",
        "the answer (only DeepSeek and Qwen search)",
    ),
    "models": (
        "List the models behind AllToken, with prices",
        "[--filter TEXT] [-l]",
        "ids or the table in a code block",
    ),
    "cost": (
        "Tell what the last AllToken call cost, what a span of time did, or what a call would",
        "[--since 7d | MODEL PROMPT_TOKENS COMPLETION_TOKENS]",
        "the figure, and its source",
    ),
}


def install(directory: str, context: Context, output: Output) -> None:
    """Write what is absent or was written by us. Raises `OutputError` if a file is not ours, or cannot be
    written, after all others were seen to."""
    left, failed = [], []
    for command in _SKILLS:
        path = os.path.join(directory, f"alltoken-{command}", "SKILL.md")
        try:
            if os.path.lexists(path) and not _is_ours(path):
                left.append(path)
                continue
            files.make_private(os.path.dirname(path))
            files.replace(path, _text(command, context.program).encode())
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


def _text(command: str, program: list[str]) -> str:
    about, arguments, shown = _SKILLS[command]
    line = f"{shlex.join(program)} {command} {arguments}"
    how, then = "Run this once, without what stands in brackets unless the user asked for it.", "."
    if arguments.endswith("-"):
        line += " <<'EOF'\nthe user's words\nEOF"
        how = """\
Run this once, with the user's words in the quoted here-document (never in the command line), and without the options
in brackets that the user did not ask for. Where a line of the words is EOF itself, end it with another word."""
        then = """\
, then one line of tokens and cost from stderr. Exit status 8: run the resume command on the last line.
9, 11 and 12: a new run may cost again, so ask first. 4: ALLTOKEN_API_KEY is missing or wrong; never ask for it here."""
    return f"""---
name: alltoken-{command}
description: {about}. Use it for /alltoken-{command} and "alltoken {command}".
license: MIT
compatibility: Needs Python 3.10 or later, network access and the ALLTOKEN_API_KEY variable.
allowed-tools: Bash
---

{about}.

{how}

```sh
{line}
```

Show {shown}{then}
Where the exit status is not 0, the message on stderr says what to do. Do not repeat a call by yourself.

{MARK}
"""
