"""What goes on in an agent: which run, whether it is to end, who wants to hear of it, and what the runs have cost."""

from __future__ import annotations

import threading

from ..errors import CallError, ExitStatus
from ..values import NOTHING, Cost
from . import events
from .run import sum_of_costs, sum_of_usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    import weakref
    from collections.abc import Callable, Generator
    from typing import Any

    from .events import AnyEvent
    from .run import Run


class State:
    """The state of one agent, which several threads may look at.

    `running` is held by a run from its beginning to its end, `turn` only while it is not with its consumer; `current`
    is the iterator of the run that is going on.
    """

    def __init__(self) -> None:
        self.cancelled = threading.Event()
        self.running = threading.Lock()
        self.turn = threading.RLock()
        self.current: weakref.ref[Generator[AnyEvent, None, None]] | None = None
        self.closed = False
        self.handlers: dict[str, list[tuple[Callable[..., object]]]] = {event.name: [] for event in events.ALL}
        self._counted: Run | None = None  # the latest run whose cost is in the sums
        self._usage: dict[str, Any] | None = {}
        self._cost = NOTHING

    def sleep(self, seconds: float) -> None:
        """Wait. Raises `CallError` as soon as the run is cancelled."""
        if self.cancelled.wait(min(seconds, threading.TIMEOUT_MAX)):
            raise CallError("cancelled", code="cancelled", status=ExitStatus.INTERRUPTED)

    def tell(self, event: events.Event) -> None:
        """Call the handlers of an event, in the order in which they came."""
        for (handler,) in list(self.handlers[event.name]):
            handler(*event.values())

    def count(self, run: Run) -> None:
        """Add what a run that has ended came to."""
        self._usage, self._cost = self.sums(run)
        self._counted = run

    def sums(self, run: Run) -> tuple[dict[str, Any] | None, Cost]:
        """The tokens and dollars of all runs, with those of `run`, the latest one."""
        if run is self._counted or not run.steps:
            return self._usage, self._cost
        usage = self._usage
        if run.usage is not None or run.cost.source != "none":
            usage = sum_of_usage([usage, run.usage])
        return usage, sum_of_costs([self._cost, run.cost])
