"""The terminal: questions on it, and conversations in it."""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import sys

from ..text import inert

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

QUOTES = '"""'
TOGETHER = 0.03  # seconds in which the lines of a paste follow each other


@contextlib.contextmanager
def controlling() -> Iterator[int | None]:
    """A descriptor of the controlling terminal; None if there is none. stdin may be a pipe."""
    try:
        descriptor = os.open(os.ctermid() if hasattr(os, "ctermid") else "CON", os.O_RDWR)
    except OSError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def ask(question: str, left: Callable[[], float]) -> str:
    """What somebody types as an answer within the seconds that are `left`; what was typed before the question is thrown
    away."""
    answer = b""
    with controlling() as terminal, contextlib.suppress(OSError):  # it was hung up
        if terminal is None:
            return ""
        with contextlib.suppress(ImportError):
            import termios

            termios.tcflush(terminal, termios.TCIFLUSH)
        data = inert(question).encode("utf-8", "backslashreplace")
        while data:
            data = data[os.write(terminal, data) :]
        while not answer.endswith(b"\n"):
            if not _holds(terminal, left()):
                os.write(terminal, b"\n")
                break
            if not (piece := os.read(terminal, 4096)):
                break
            answer += piece
    return answer.decode("utf-8", "replace")


def read_message(*, to_terminal: bool) -> str | None:
    """A message that is typed at a prompt; None at the end (Ctrl-D). A pasted block, or lines between three quotes, are
    one message. Line editing and this session's history come by readline if Python has it; nothing is stored."""
    line = _line("> ", to_terminal=to_terminal)
    if line is None or not line.startswith(QUOTES):
        return line
    text = line.removeprefix(QUOTES)
    while not text.endswith(QUOTES):
        more = _line(". ", to_terminal=to_terminal)
        if more is None:
            break
        text += "\n" + more
    text = text.removesuffix(QUOTES).strip("\n")
    return f"/{text}" if text.startswith("/") else text  # in quotes, it is no command


def _line(prompt: str, *, to_terminal: bool) -> str | None:
    """A line, or a pasted block; None at the end."""
    edits = _edits() if to_terminal else ""
    try:
        line = _read(prompt, edits=bool(edits))
        while edits != "pastes" and os.name != "nt" and _holds(sys.stdin.fileno(), TOGETHER):  # noqa: TID251
            with contextlib.suppress(EOFError):
                line += "\n" + _read("", edits=bool(edits))
    except EOFError:
        return None
    return line.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _edits() -> str:
    """Set up line editing: "" if Python has none, "pastes" if it takes a pasted block as one line, else "lines"."""
    try:
        import readline
    except ImportError:
        return ""
    if "libedit" in (readline.__doc__ or ""):
        return "lines"
    readline.parse_and_bind("set enable-bracketed-paste on")  # Python 3.10 and later switch it off
    return "pastes"


def _read(prompt: str, *, edits: bool) -> str:
    """A line from stdin. Raises EOFError at the end."""
    try:
        if edits:
            return input(prompt)
        sys.stderr.write(prompt)  # noqa: TID251  # stdout may be the user's: the prompt must not go there
        sys.stderr.flush()  # noqa: TID251
        _holds(sys.stdin.fileno(), math.inf)  # noqa: TID251
        line = sys.stdin.readline()  # noqa: TID251
    except UnicodeDecodeError:  # keys that are not UTF-8
        return ""
    if not line:
        raise EOFError
    return line.rstrip("\n")


def _holds(descriptor: int, seconds: float) -> bool:
    """Whether there is something to read within so many seconds. A signal that comes just before the wait is not missed
    (signal.set_wakeup_fd)."""
    if os.name == "nt":
        return True
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer)
    try:
        return descriptor in select.select([descriptor, reader], [], [], min(max(seconds, 0.0), 1e7))[0]
    finally:
        signal.set_wakeup_fd(before)
        os.close(reader)
        os.close(writer)
