"""The terminal: questions on it, and conversations in it."""

from __future__ import annotations

import contextlib
import os

from ..text import inert

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO


def controlling() -> TextIO | None:
    """The controlling terminal, open; None if there is none. stdin may be a pipe."""
    try:
        return open(os.ctermid() if hasattr(os, "ctermid") else "CON", "r+", buffering=1, encoding="utf-8")
    except (OSError, ValueError):
        return None


def ask(question: str) -> str:
    """What somebody types as an answer; what was typed before the question is thrown away."""
    terminal = controlling()
    if terminal is None:
        return ""
    with terminal:
        with contextlib.suppress(ImportError, OSError):
            import termios

            termios.tcflush(terminal.fileno(), termios.TCIFLUSH)
        terminal.write(inert(question))
        terminal.flush()
        return terminal.readline()


def read_message(to_terminal: bool) -> str | None:
    """A message that is typed at a prompt; None at the end (Ctrl-D). A pasted block, or lines between three quotes, are
    one message. Line editing and this session's history come by readline if Python has it; nothing is stored."""
    line = _line("> ", to_terminal)
    if line is None or not line.startswith('"""'):
        return line
    lines = [line[3:]]
    while not (len(lines) > 1 or len(line) > 3) or not lines[-1].endswith('"""'):
        more = _line(". ", to_terminal)
        if more is None:
            break
        lines.append(more)
    return "\n".join(lines).removesuffix('"""').strip("\n")


def _line(prompt: str, to_terminal: bool) -> str | None:
    import select
    import sys

    pastes = False
    with contextlib.suppress(ImportError):
        import readline

        pastes = "libedit" not in (readline.__doc__ or "")
    try:
        if to_terminal:
            line = input(prompt)
        else:  # stdout is the user's: the prompt must not go there
            sys.stderr.write(prompt)  # noqa: TID251
            sys.stderr.flush()  # noqa: TID251
            line = sys.stdin.readline()  # noqa: TID251
            if not line:
                return None
            line = line.rstrip("\n")
        while not pastes and select.select([sys.stdin], [], [], 0.03)[0]:  # noqa: TID251
            line += "\n" + input()
    except EOFError:
        return None
    return line
