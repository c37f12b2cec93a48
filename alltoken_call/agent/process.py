"""Processes in groups of their own: what a tool starts ends with it, and nothing waits for it longer than is allowed.

A child gets a session of its own, so that it has no terminal and can be ended with all that it has started.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import subprocess

from ..net.clock import Clock
from .pipes import Ends, Pipes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from types import FrameType
    from typing import Any

    Process = subprocess.Popen[bytes]

GRACE = 2.0  # seconds between TERM and KILL
WAKE = 0.1  # seconds after which a loop looks around although nothing has happened
STEP = 0.005  # seconds between the first two looks at a process that is to end
ERRORS = 2000  # characters of stderr that are kept, from its end
SHORTEST_SECRET = 6  # characters; shorter ones would match ordinary text


class Outcome:
    """How a program ended.

    `output` is its stdout without line breaks at the end, `errors` the end of its stderr. `status` is the exit status,
    negative for a signal, and None if it was ended from here: because of the timeout, or since `stop` said so.
    `cut(characters)` is the output cut to fewer characters.
    """

    def __init__(
        self,
        output: str,
        errors: str,
        status: int | None,
        *,
        timed_out: bool,
        stopped: bool,
        seconds: float,
        cut: Callable[[int], str],
    ) -> None:
        self.cut = cut
        self.output = output
        self.errors = errors
        self.status = status
        self.timed_out = timed_out
        self.stopped = stopped
        self.seconds = seconds


def run(
    argv: list[str],
    data: bytes,
    *,
    environ: Mapping[str, str],
    timeout: float,
    limit: int,
    stop: Callable[[], bool] = lambda: False,
    cwd: str | None = None,
    clock: Clock | None = None,
    end: Callable[[Process], None] | None = None,
) -> Outcome:
    """Run a program to its end, with `data` on its stdin; of its output, `limit` characters are kept.

    After `timeout` seconds, or when `stop` says so, its group is ended. What it has started is ended with it, also if
    it ends by itself. If an exception passes (a signal's), `end` ends the group: `end_group`, unless given. Raises
    `OSError` if the program cannot be run.
    """
    clock = clock or Clock()
    begun = clock.monotonic()
    output, errors = Ends(4 * (limit - limit // 3), 4 * (limit // 3)), Ends(0, 4 * ERRORS)
    child: Pipes | None = None
    timed_out = stopped = False
    try:
        with signals_held():
            child = spawn(argv, environ, cwd, output.add, errors.add)
        process = child.process
        child.write(data, last=True)
        while process.poll() is None and not (timed_out or stopped):
            left = max(0.0, min(begun + timeout - clock.monotonic(), WAKE))
            if child.open:
                child.turn(left)
            else:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(left)
            stopped = stop()
            timed_out = not stopped and clock.monotonic() - begun >= timeout
        status = process.poll()  # it may have ended at the last moment
        end_group(process)
        child.drain()
    except BaseException:
        if child is not None:
            (end or end_group)(child.process)
        raise
    finally:
        if child is not None:
            child.close()
    ended = status is not None
    return Outcome(
        output.cut(limit),
        errors.last(ERRORS),
        status,
        timed_out=timed_out and not ended,
        stopped=stopped and not ended,
        seconds=clock.monotonic() - begun,
        cut=output.cut,
    )


def spawn(
    argv: Sequence[str],
    environ: Mapping[str, str],
    cwd: str | None,
    output: Callable[[bytes], None],
    errors: Callable[[bytes], None],
) -> Pipes:
    """Start a program in a session of its own; what it writes goes to `output` and `errors`. Raises `OSError`."""
    try:
        process = subprocess.Popen(  # noqa: S603  # no shell; the user has named it
            list(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env=dict(environ),
            cwd=cwd,
            start_new_session=True,
        )
    except (ValueError, IndexError) as error:  # a NUL in a word, a lone surrogate; no words
        raise OSError(errno.EINVAL, str(error)) from None
    return Pipes(process, output, errors)


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """Let signals wait until the block's end: one that came while a process is being started would leave it behind."""
    arrived: list[int] = []

    def hold(signum: int, _frame: FrameType | None) -> None:
        arrived.append(signum)

    previous: dict[int, Any] = {}
    with contextlib.suppress(ValueError):  # only the main thread has signals
        for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if callable(signal.getsignal(name)):
                previous[name] = signal.signal(name, hold)
    try:
        yield
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
    for signum in arrived:
        signal.raise_signal(signum)


def end_group(process: Process) -> None:
    """End a process and all of its group: TERM, up to 2 s, KILL. Idempotent."""
    end_groups([process])


def end_groups(processes: Sequence[Process]) -> None:
    """End several groups side by side."""
    try:
        for process in processes:
            signal_group(process, signal.SIGTERM)
        waited(lambda: not any(map(alive, processes)), GRACE)
    finally:
        for process in processes:
            signal_group(process, signal.SIGKILL)
        waited(lambda: not any(map(alive, processes)), GRACE)  # longer only in the kernel's hands


def alive(process: Process) -> bool:
    """Whether anything of a process's group is left that runs."""
    return process.poll() is None or (signal_group(process, 0) and not _reaped_later(process.pid))


def _reaped_later(group: int) -> bool:
    """Whether all that is left of a group has ended, and waits for an init process that is slow (Linux, proc(5))."""
    try:
        numbers = [name for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return False
    for number in numbers:
        with contextlib.suppress(OSError), open(f"/proc/{number}/stat", "rb") as file:
            state, _, its_group = file.read().rpartition(b")")[2].split()[:3]
            if int(its_group) == group and state not in b"ZX":
                return False
    return bool(numbers)


def signal_group(process: Process, signum: int) -> bool:
    """Send a signal to a process's group; False if there is none any more."""
    try:
        os.killpg(process.pid, signum)
    except (ProcessLookupError, PermissionError):  # macOS: a group of zombies
        return False
    return True


def waited(done: Callable[[], bool], seconds: float) -> bool:
    """Wait until `done`, at most so many seconds; whether it is."""
    step = STEP
    while not done():
        if seconds <= 0:
            return False
        select.select([], [], [], step)
        seconds -= step
        step = min(2 * step, 10 * STEP)
    return True


def without_secrets(environ: Mapping[str, str], secrets: Iterable[str]) -> dict[str, str]:
    """An environment without the variables whose value holds a secret."""
    known = [secret for secret in secrets if len(secret) >= SHORTEST_SECRET]
    return {name: value for name, value in environ.items() if not any(secret in value for secret in known)}


def close_proc_entry() -> None:
    """Close this process's entry in /proc to others of the same user, where Linux has it; root still sees it.

    Otherwise a tool could read the key in /proc/PPID/environ (prctl(2), PR_SET_DUMPABLE).
    """
    with contextlib.suppress(ImportError, OSError, AttributeError, TypeError):  # elsewhere
        import ctypes

        zero = ctypes.c_ulong(0)
        ctypes.CDLL(None).prctl(4, zero, zero, zero, zero)
