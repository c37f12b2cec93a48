"""A child's three pipes, served in one loop: one that does not read does not stop us from reading.

A flood is drained; what is kept of it is bounded, its head and its tail.
"""

from __future__ import annotations

import contextlib
import os
import selectors

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    Process = subprocess.Popen[bytes]

CHUNK = 1 << 16  # bytes, a pipe's usual capacity
LEFTOVERS = 32  # reads of what is still in the pipes of a process that has ended


class Ends:
    """The first and the last bytes of a stream of any length."""

    def __init__(self, first: int, last: int) -> None:
        self._first = first
        self._last = last
        self._head = bytearray()
        self._tail = bytearray()
        self._left_out = 0  # bytes between the two

    def add(self, data: bytes) -> None:
        """What has arrived."""
        room = self._first - len(self._head)
        self._head += data[:room]
        self._tail += data[room:]
        over = max(len(self._tail) - self._last, 0)
        self._left_out += over
        del self._tail[:over]

    def last(self, characters: int) -> str:
        """The stream's end."""
        text = (self._head + self._tail).decode("utf-8", "replace").strip("\r\n")
        return text[max(len(text) - characters, 0) :]

    def cut(self, characters: int) -> str:
        """The stream without line breaks at its end; if it is longer, two thirds of its head and a third of its tail.

        `first` and `last` must have been 4 bytes for each character of these.
        """
        if self._left_out:
            head, tail = _decoded(self._head), _decoded(self._tail).rstrip("\r\n")
            size = self._left_out + _size(head) + _size(tail)
        else:
            head = tail = _decoded(self._head + self._tail).rstrip("\r\n")
            size = _size(head)
            if len(head) <= characters:
                return _shown(head)
        before = head[: characters - characters // 3]
        after = tail[max(len(tail) - characters // 3, 0) :]
        left_out = size - _size(before) - _size(after)
        return f"{_shown(before)}\n[… {left_out} bytes left out …]\n{_shown(after)}"


def _decoded(data: bytearray) -> str:
    """A text in which each byte that is not UTF-8 is one character, so that it can be counted."""
    return data.decode("utf-8", "surrogateescape")


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogateescape"))


def _shown(text: str) -> str:
    """A text that may hold the bytes that are not UTF-8, without them."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


class Pipes:
    """The pipes of `process`. `outbox` is what it has not yet taken, `broken` that it takes nothing any more, `ended`
    that its stdout has ended.

    `output` and `errors` get what it writes to stdout and stderr, as it comes.
    """

    def __init__(self, process: Process, output: Callable[[bytes], None], errors: Callable[[bytes], None]) -> None:
        assert process.stdin is not None
        self.process = process
        self.outbox = bytearray()
        self.broken = False
        self.ended = False
        self._closing = False
        self._selector = selectors.DefaultSelector()
        self._stdin = process.stdin
        os.set_blocking(self._stdin.fileno(), False)
        for stream, reader in ((process.stdout, output), (process.stderr, errors)):
            assert stream is not None
            os.set_blocking(stream.fileno(), False)
            self._selector.register(stream, selectors.EVENT_READ, reader)

    @property
    def open(self) -> bool:
        """Whether the child may still write."""
        return any(key.data for key in self._selector.get_map().values())

    def write(self, data: bytes, *, last: bool = False) -> None:
        """Put `data` into the outbox; after the `last`, the child's stdin is closed."""
        if not self.outbox and not self._closing and not self.broken:
            self._selector.register(self._stdin, selectors.EVENT_WRITE)
        self._closing = self._closing or last
        if not self.broken:
            self.outbox += data

    def turn(self, wait: float) -> int:
        """Wait for at most so many seconds until something can be read or written, and do so; bytes that were read."""
        count = 0
        for key, _ in self._selector.select(max(wait, 0.0)):
            if key.fileobj is self._stdin:
                self._send()
                continue
            data = os.read(key.fd, CHUNK)
            count += len(data)
            if data:
                key.data(data)
            else:
                self._selector.unregister(key.fileobj)
                self.ended = self.ended or key.fileobj is self.process.stdout
        return count

    def _send(self) -> None:
        try:
            del self.outbox[: os.write(self._stdin.fileno(), self.outbox[:CHUNK])]
        except BlockingIOError:
            return
        except OSError:  # the child has closed it, which it may
            self.broken = True
            self.outbox.clear()
        if not self.outbox:
            self._selector.unregister(self._stdin)
            if self._closing or self.broken:
                self.close_stdin()

    def close_stdin(self) -> None:
        """Tell the child that nothing more comes. Idempotent."""
        with contextlib.suppress(KeyError, ValueError):  # not registered; closed
            self._selector.unregister(self._stdin)
        self._closing = True
        self.outbox.clear()
        with contextlib.suppress(OSError):
            self._stdin.close()

    def drain(self) -> None:
        """Read what is in the pipes, without waiting."""
        for _ in range(LEFTOVERS):
            if not self.turn(0.0):
                break

    def close(self) -> None:
        """Give the pipes up."""
        self.close_stdin()
        self._selector.close()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
