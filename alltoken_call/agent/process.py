"""Processes in groups of their own: what one starts ends with it, and nothing waits for it longer than is allowed.

A flood is drained; what is kept of it is bounded, its head and its tail.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import subprocess
from subprocess import PIPE

from ..net.clock import Clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import IO, Any

    from .tools import Limits

GRACE = 2.0  # seconds between TERM and KILL
WAKE = 0.1  # seconds after which one looks around although nothing has happened
STEP = 0.01  # seconds between two looks at processes that are to end
CHUNK = 1 << 16  # bytes, a pipe's usual capacity
LEFTOVERS = 32  # reads of what is still in the pipes of a process that has ended
ERRORS = 2000  # characters of stderr that are kept, at most, from its end


class Ends:
    """The beginning and the end of a stream of any length: four bytes for each of so many `characters`, two thirds of
    them from the beginning. `missing` bytes were left out between them."""

    def __init__(self, characters: int) -> None:
        self._first = 4 * (characters - characters // 3)
        self._room = 4 * characters
        self._data = bytearray()
        self.missing = 0

    def add(self, data: bytes) -> None:
        """What has arrived."""
        self._data += data
        over = max(len(self._data) - self._room, 0)
        del self._data[self._first : self._first + over]
        self.missing += over

    @property
    def text(self) -> str:
        """What is left, without line breaks at its end; a byte that is not UTF-8 is a surrogate (PEP 383)."""
        return self._data.decode("utf-8", "surrogateescape").rstrip("\r\n")


class Process(subprocess.Popen[bytes]):
    """A program in a session of its own: it has no terminal, and can be ended with all that it has started.

    `turn` serves its three pipes, so that one which does not read does not stop us from reading. `output` gets what it
    writes to stdout, as it comes; `outbox` is what it has not taken yet of what goes to its stdin. `hung_up`: it has
    closed its stdin or its stdout.
    """

    stdin: IO[bytes]
    stdout: IO[bytes]
    stderr: IO[bytes]

    def __init__(
        self, argv: Sequence[str], environ: Mapping[str, str], cwd: str | None, output: Callable[[bytes], None]
    ) -> None:
        """Start it. Raises `OSError`."""
        try:
            super().__init__(
                argv, bufsize=0, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environ, cwd=cwd, start_new_session=True
            )
        except (ValueError, IndexError) as error:  # a NUL in a word, a lone surrogate; no words
            raise OSError(errno.EINVAL, str(error)) from None
        self.hung_up = False
        self.outbox = bytearray()
        self._readers = {self.stdout.fileno(): output, self.stderr.fileno(): self._keep}  # of what has not ended
        self._stderr = bytearray()  # its end

    def turn(self, wait: float) -> int:
        """Wait for so many seconds, at most 0.1, until it can be read or written, and do so; bytes that were read."""
        wait = max(0.0, min(wait, WAKE))
        poll = select.poll()
        for number in self._readers:
            poll.register(number, select.POLLIN)
        if self.outbox and not self.stdin.closed:
            poll.register(self.stdin, select.POLLOUT)
        elif not self._readers:  # its pipes end before it does
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.wait(wait)
            return 0
        count = 0
        for number, _ in poll.poll(1000 * wait):
            if number not in self._readers:
                self._send()
            elif data := os.read(number, CHUNK):
                count += len(data)
                self._readers[number](data)
            else:
                del self._readers[number]
                self.hung_up = self.hung_up or number == self.stdout.fileno()
        return count

    def _send(self) -> None:
        try:
            del self.outbox[: os.write(self.stdin.fileno(), self.outbox[: select.PIPE_BUF])]  # so much never blocks
        except BrokenPipeError:  # it has closed its stdin, which it may
            self.hung_up = True
            self.outbox.clear()

    def drain(self) -> None:
        """Read what is in the pipes, without waiting."""
        for _ in range(LEFTOVERS):
            if not self.turn(0.0):
                break

    def _keep(self, data: bytes) -> None:
        self._stderr += data
        del self._stderr[: -4 * ERRORS]

    def stderr_so_far(self) -> str:
        """The last 8,000 bytes of its stderr."""
        self.drain()
        return self._stderr.decode("utf-8", "replace").strip("\r\n")

    def close(self) -> None:
        """Give the pipes up. Idempotent."""
        self.stdin.close()
        self._readers.clear()
        self.stdout.close()
        self.stderr.close()

    def signal_group(self, signum: int) -> bool:
        """Send a signal to all of its group; False if there is none any more."""
        try:
            os.killpg(self.pid, signum)
        except (ProcessLookupError, PermissionError):  # macOS: a group of zombies
            return False
        return True

    def alive(self) -> bool:
        """Whether anything of its group runs; what has ended and waits for a slow init process does not (proc(5))."""
        runs = self.poll() is None
        there = self.signal_group(0)
        if runs or not there or not os.path.exists("/proc/self/stat"):
            return there
        for number in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError), open(f"/proc/{number}/stat", "rb") as file:
                state, _, group = file.read().rpartition(b")")[2].split()[:3]
                if int(group) == self.pid and state not in b"ZX":
                    return True
        return False


def end_groups(*groups: Process, servers: Sequence[Process] = ()) -> None:
    """End processes with their groups, side by side: TERM, 2 s, KILL. Idempotent.

    The stdin of `servers` is closed 2 s before that (MCP 2025-11-25, basic/lifecycle, Shutdown).
    """
    everyone = [*groups, *servers]

    def grace() -> None:
        clock = Clock(max_wait=GRACE)
        while any(process.alive() for process in everyone) and clock.left() > 0:
            for process in everyone:
                process.drain()
            clock.sleep(STEP)

    try:
        for server in servers:
            server.stdin.close()
        for group in groups:
            group.signal_group(signal.SIGTERM)
        grace()
        for process in everyone:
            process.signal_group(signal.SIGKILL if process in groups else signal.SIGTERM)
        grace()
    finally:
        for process in everyone:
            process.signal_group(signal.SIGKILL)
        grace()  # longer only in the kernel's hands
        for process in everyone:
            process.drain()
            process.close()


def run(argv: Sequence[str], data: bytes, limits: Limits, environ: Mapping[str, str]) -> tuple[int | None, Ends, str]:
    """Run a program here to its end, with `data` on its stdin; its exit status, what it printed, and the end of its
    stderr.

    The status is negative for a signal, and None if the program was ended from here, by the limits. What it has started
    is ended with it, also if it ends by itself. If an exception passes (a signal's), `limits.end` ends the group, if
    there is one. Raises `OSError` if the program cannot be run.
    """
    clock, output = Clock(max_wait=limits.seconds), Ends(limits.characters)
    process: Process | None = None
    try:
        with signals_held():
            process = Process(argv, environ, None, output.add)
        process.outbox += data
        while process.poll() is None and clock.left() > 0 and not limits.stop():
            if not process.outbox:
                process.stdin.close()
            process.turn(clock.left())
        status = process.poll()  # it may have ended at the last moment
        end_groups(process)
    except BaseException:
        if process is not None:
            (limits.end or end_groups)(process)
        raise
    return status, output, limits.clean(process.stderr_so_far())[-ERRORS:]


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """Let signals wait until the block's end: one that came while a process is being started would leave it behind, and
    one that came while some are being ended would take their grace from them."""
    arrived: list[int] = []
    previous: dict[int, Any] = {}
    with contextlib.suppress(ValueError):  # only the main thread has signals
        for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if callable(signal.getsignal(name)):
                previous[name] = signal.signal(name, lambda signum, _: arrived.append(signum))
    try:
        yield
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
    for signum in arrived:
        signal.raise_signal(signum)


def close_proc_entry() -> None:
    """Close this process's entry in /proc to others of the same user, where Linux has it; root still sees it.

    Otherwise a tool could read the key in /proc/PPID/environ (prctl(2), PR_SET_DUMPABLE).
    """
    with contextlib.suppress(ImportError, OSError, AttributeError, TypeError):  # elsewhere
        import ctypes

        zero = ctypes.c_ulong(0)
        ctypes.CDLL(None).prctl(4, zero, zero, zero, zero)
