"""stdout and stderr as descriptors: bytes out, in time. A reader may stand still, or go away."""

from __future__ import annotations

import contextlib
import os
import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

PIECE = 4096  # bytes that a pipe takes without blocking when select says that it can be written to (PIPE_BUF)


class Stream:
    """One stream of ours; `file` is None once it is closed, or a write to it has failed."""

    def __init__(self, file: TextIO | None) -> None:
        self.file = file

    def write(self, data: bytes, left: Callable[[], float]) -> None:
        """Write all of `data`; `left` tells how many seconds the stream may stand still.

        Raises OSError and ValueError, and TimeoutError if it stands still for longer: then it is given up.
        """
        assert self.file is not None
        try:
            _push(self.file, data, left)
        except (OSError, ValueError):
            self._give_up()
            raise
        except BaseException:  # a signal: a reader that stands still is not waited for again
            if not _takes_more(self.file):
                self._give_up()
            raise

    def _give_up(self) -> None:
        """Point the descriptor at /dev/null, so that the flush at exit cannot fail (status 120)."""
        file, self.file = self.file, None
        with contextlib.suppress(OSError, ValueError):
            descriptor = os.open(os.devnull, os.O_WRONLY)
            os.dup2(descriptor, file.fileno())  # type: ignore[union-attr]  # `write` has seen to it
            os.close(descriptor)


def _push(file: TextIO, data: bytes, left: Callable[[], float]) -> None:
    try:
        descriptor = file.fileno()
    except (OSError, ValueError):  # in memory
        file.buffer.write(data)
        file.buffer.flush()
        return
    view = memoryview(data)
    while view:
        patience = left()
        timed = patience < 1e7 and os.name != "nt"
        if timed and not select.select([], [descriptor], [], max(0.0, patience))[1]:
            raise TimeoutError
        try:
            view = view[os.write(descriptor, view[: PIECE if timed else len(view)]) :]
        except BlockingIOError:  # somebody made the pipe non-blocking, for all who share it
            if not select.select([], [descriptor], [], min(max(0.0, left()), 1e7))[1]:
                raise TimeoutError from None


def _takes_more(file: TextIO) -> bool:
    """Whether a write to the descriptor would not block."""
    try:
        return bool(select.select([], [file], [], 0)[1])
    except (OSError, ValueError):
        return False
