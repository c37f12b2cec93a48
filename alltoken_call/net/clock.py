"""Time, as a call sees it: handed in, so that tests need not wait."""

from __future__ import annotations

import math
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def _chance() -> float:
    return int.from_bytes(os.urandom(4), "big") / (1 << 32)  # one number is not worth the module `random`


class Clock:
    """Two clocks, a way to wait, and the instant at which all must be over.

    `monotonic` counts seconds and never goes back, `now` is the time since the epoch, `chance` gives numbers in
    [0, 1). `deadline` is an instant of `monotonic`.
    """

    def __init__(
        self,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        chance: Callable[[], float] = _chance,
        max_wait: float = math.inf,
    ) -> None:
        self.monotonic = monotonic
        self.now = now
        self.sleep = sleep
        self.chance = chance
        self.begun = monotonic()
        self.deadline = self.begun + max_wait
        self.started = now()

    def restart(self, max_wait: float = math.inf) -> None:
        """Begin again, with a deadline in `max_wait` seconds: for what runs more than once."""
        self.begun = self.monotonic()
        self.deadline = self.begun + max_wait
        self.started = self.now()

    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - self.monotonic()

    def gone(self) -> float:
        """Seconds since the beginning."""
        return self.monotonic() - self.begun
