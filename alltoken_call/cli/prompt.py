"""Where a prompt comes from: the words, and stdin if it was meant for us."""

from __future__ import annotations

import math
import os
import select
import stat

from ..errors import CallError, ExitStatus, UsageError
from .context import is_terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .context import Context
    from .output import Output

SHORT_PATIENCE = 0.3  # seconds before we say that we wait
LARGEST = 64 << 20  # bytes of stdin
PATIENCE = 10.0  # seconds that a pipe may stay empty where no person can see why we wait


def assemble(words: list[str], context: Context, output: Output, *, only_dash: bool = False) -> str:
    """The prompt, from words and stdin. `only_dash`: stdin is read for the word `-` and nothing else.

    Raises `UsageError` if there is no prompt, and if an open pipe stays empty.
    """
    if "-" in words:
        text = _read(context, output, patient=True)
        prompt = " ".join(filter(None, (text if word == "-" else word for word in words)))
    elif words:
        given = "" if only_dash or not _is_offered(context) else _read(context, output, told=True)
        prompt = "\n\n".join(part for part in (given, " ".join(words)) if part)
    elif only_dash or is_terminal(context.stdin):
        prompt = ""
    else:
        prompt = _read(context, output)
    if not prompt.strip():
        raise UsageError("the prompt is empty", code="no_prompt")
    return prompt


def _is_offered(context: Context) -> bool:
    """Whether stdin was meant for us though no word asks for it: a file at its beginning, or a pipe.

    A file that somebody has read from is a `while read` loop's; a socket that never closes is what Node's exec gives.
    """
    try:
        descriptor = context.stdin.fileno()  # type: ignore[union-attr]  # None is closed, and suppressed below
        mode = os.fstat(descriptor).st_mode
        return stat.S_ISFIFO(mode) or (stat.S_ISREG(mode) and os.lseek(descriptor, 0, os.SEEK_CUR) == 0)
    except (AttributeError, OSError, ValueError):
        return False


def holds_text(context: Context, output: Output) -> bool:
    """Whether stdin was meant for us and has at least a byte; nothing is taken from it. Waits and raises as
    `assemble`."""
    if not _is_offered(context):
        return False
    _await(context, output, patient=False)
    if not _ready(context, context.clock.left()):
        raise _late("stdin is still open and empty")
    stream = context.stdin
    try:
        return bool(stream.buffer.peek(1))  # type: ignore[union-attr]  # it is offered
    except (AttributeError, OSError, ValueError):
        return False


def _read(context: Context, output: Output, *, patient: bool = False, told: bool = False) -> str:
    """All of stdin, without the line breaks at its end; "" where it is closed."""
    if context.stdin is None:
        return ""
    try:
        _await(context, output, patient=patient)
        data = bytearray()
        while block := _block(context):
            data += block
            if len(data) > LARGEST:
                raise UsageError(f"stdin has more than {LARGEST:,} bytes")
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read stdin: {getattr(error, 'strerror', None) or 'closed'}") from None
    if told and data:
        output.note("stdin", f"{len(data):,} bytes read")
    text = data.decode("utf-8", "replace")
    if "\ufffd" in text and b"\xef\xbf\xbd" not in data:
        output.warning("stdin is not UTF-8: invalid bytes were replaced")
    return text.removeprefix("\ufeff").rstrip("\r\n")


def _block(context: Context) -> bytes:
    """The next piece of stdin, within --max-wait."""
    stream = context.stdin
    assert stream is not None
    if not _ready(context, context.clock.left()):
        raise _late("stdin is still open")
    return stream.buffer.read1(1 << 16)  # type: ignore[attr-defined, no-any-return]


def _await(context: Context, output: Output, *, patient: bool) -> None:
    """Wait for the first byte or the end: in sight of a person, as long as it takes; else `PATIENCE` seconds."""
    if patient or is_terminal(context.stdin) or _ready(context, SHORT_PATIENCE):
        return
    if is_terminal(context.stderr):
        output.note("stdin", "waiting for the pipe's end (Ctrl-D ends it; </dev/null if nothing is to come)")
    elif not _ready(context, min(PATIENCE - SHORT_PATIENCE, context.clock.left())):
        if context.clock.left() <= 0:
            raise _late("stdin is still open and empty")
        raise UsageError(
            f"stdin is a pipe that stayed open and empty for {PATIENCE:.0f} s",
            hint="use - to wait for it, or </dev/null if there is no input",
        )


def _ready(context: Context, seconds: float) -> bool:
    """Whether a read would not block, after at most `seconds`. Files always are; so is what select cannot watch."""
    if os.name == "nt" or context.stdin is None:
        return True
    try:
        patience = None if seconds == math.inf else max(0.0, seconds)
        return bool(select.select([context.stdin], [], [], patience)[0])
    except (OSError, ValueError):
        return True


def _late(what: str) -> CallError:
    return CallError(f"the time of --max-wait is over, and {what}", code="max_wait", status=ExitStatus.NETWORK)
