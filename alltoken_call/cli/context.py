"""What a command is given instead of `sys`, `os.environ` and `time`: streams, environment, clocks, signals.

Tests hand in their own. The process's own context is made once, in `Context.of_process`.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import time

from ..errors import Interrupted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import FrameType
    from typing import Any, TextIO


class Signals:
    """Turns SIGINT, SIGTERM and SIGHUP into `Interrupted`, and holds them back while a result is being saved."""

    def __init__(self) -> None:
        self._held = False
        self._grace = 0.0
        self._pending: int | None = None
        self.told: Callable[[], None] = lambda: None  # what a signal that is held back says

    def install(self) -> None:
        """Take over the signals. One that is ignored (nohup, a shell's background job) stays ignored."""
        self._set(self._arrived)

    def release(self) -> None:
        """Give the signals back their defaults: a second one ends the process while the first is being told of."""
        self._set(signal.SIG_DFL)

    @staticmethod
    def _set(handler: Any) -> None:
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            signum = getattr(signal, name, None)
            if signum is not None and signal.getsignal(signum) is not signal.SIG_IGN:
                signal.signal(signum, handler)

    @contextlib.contextmanager
    def held(self, grace: float = 0.0) -> Iterator[None]:
        """Hold signals back until the block's end; with `grace`, and before `firm`, only for so many seconds.

        Where the block fails, its failure goes first, and a signal waits for the next `check`.
        """
        self._held, self._grace = True, grace
        try:
            yield
        finally:
            self.firm()
            self._held = False
        self.check()

    def firm(self) -> None:
        """What must not be interrupted has begun."""
        if self._grace and self._pending is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
        self._grace = 0.0

    def check(self) -> None:
        """Raise `Interrupted` where a signal was held back: here is a good place."""
        if self._pending is not None:
            self._held = False
            raise Interrupted(self._pending)

    def _arrived(self, signum: int, _frame: FrameType | None) -> None:
        if not self._held or not hasattr(signal, "setitimer"):
            raise Interrupted(signum)
        self._pending = signum
        self.told()
        if self._grace:
            signal.signal(signal.SIGALRM, self._out_of_patience)
            signal.setitimer(signal.ITIMER_REAL, self._grace)

    def _out_of_patience(self, _signum: int, _frame: FrameType | None) -> None:
        if self._grace and self._pending is not None:
            self._held = False
            raise Interrupted(self._pending)


def _chance() -> float:
    return int.from_bytes(os.urandom(4), "big") / (1 << 32)  # one number is not worth the module `random`


class Context:
    """The world as one command sees it.

    `clock` counts seconds for deadlines and never goes back, `now` is the time since the epoch, `chance` gives
    numbers in [0, 1). `program` is how we were started, as words for a shell. A closed stream is None.
    """

    def __init__(
        self,
        *,
        stdin: TextIO | None,
        stdout: TextIO | None,
        stderr: TextIO | None,
        environ: Mapping[str, str],
        program: list[str],
        signals: Signals | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        chance: Callable[[], float] = _chance,
    ) -> None:
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self.environ = environ
        self.program = program
        self.signals = signals or Signals()
        self.clock = clock
        self.now = now
        self.sleep = sleep
        self.chance = chance
        self.started = now()
        self.deadline = math.inf  # an instant of `clock`, from --max-wait

    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - self.clock()

    @classmethod
    def of_process(cls) -> Context:
        """The real thing. A closed stdin, stdout or stderr gets /dev/null as its descriptor, so that no socket or
        database of ours takes its number and receives what something prints."""
        with contextlib.suppress(OSError):
            descriptor = os.open(os.devnull, os.O_RDWR)
            while descriptor <= 2:
                descriptor = os.dup(descriptor)
            os.close(descriptor)
        return cls(
            stdin=sys.stdin,
            stdout=sys.stdout,
            stderr=sys.stderr,
            environ=os.environ,
            program=_program(sys.argv[0]),
            signals=Signals(),
        )


def _program(script: str) -> list[str]:
    """The words that start us again: the console script by its name where PATH finds it, else by its path, and
    the directory or zip file form with the interpreter before it."""
    path = os.path.abspath(script)
    if os.path.basename(path) == "__main__.py":  # python3 -m alltoken_call
        path = os.path.dirname(path)
    if os.path.isdir(path) or path.endswith((".py", ".pyz")):
        return [sys.executable or "python3", path]
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        candidate = os.path.join(folder, os.path.basename(path))
        if os.access(candidate, os.X_OK):
            return [os.path.basename(path)] if os.path.samefile(candidate, path) else [path]
    return [path]


def is_terminal(stream: TextIO | None) -> bool:
    """Whether `stream` is open on a terminal."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False
