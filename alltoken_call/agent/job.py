"""One image or video for a Python program: made in a thread of its own, so that a signal of the program's cannot cut
what was paid for.

Python runs signal handlers in the main thread alone. What one raises (KeyboardInterrupt) ends the wait there; the
thread is asked to stop, does so where the command line would, and then it is raised on.
"""

from __future__ import annotations

import queue
import signal
import threading

from .. import config
from ..errors import CallError, Interrupted
from ..net.clock import Clock
from ..values import Clip, Saved, Shield, Waiting
from . import settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from ..values import Event, Pending

    P = TypeVar("P", bound=Pending)


class Halt(Shield):
    """Says whether a call may stop when the program wants it to: not while a paid result arrives."""

    def __init__(self) -> None:
        super().__init__()
        self._clock = Clock()
        self._wanted = threading.Event()
        self._until = 0.0  # when the grace of the block is over

    def halt(self) -> None:
        """Let the call stop where it may. For another thread."""
        self._until = self._clock.monotonic() + self.grace
        self._wanted.set()

    def look(self) -> bool:
        """False, always. Raises `Interrupted` if the call is to stop, and may."""
        if self._wanted.is_set():
            over = self.grace and self._clock.monotonic() > self._until
            if not self.depth or over:
                self.check()
        return False

    def sleep(self, seconds: float) -> None:
        """Wait. Raises as `look`, and at once."""
        woken = self._wanted if not self.depth else threading.Event()
        woken.wait(min(seconds, threading.TIMEOUT_MAX))
        self.look()

    def check(self) -> None:
        """Raise `Interrupted` if the call is to stop: here is a good place."""
        if self._wanted.is_set():
            self._wanted.clear()
            self.depth = 0
            raise Interrupted(signal.SIGINT)


class Job:
    """The making of one result, from a program's words and its environment. Raises `UsageError`, `KeyProblem`, and
    `CallError` if it has to be found out how the gateway is spoken to, and nobody answers."""

    def __init__(
        self,
        command: str,
        model: str | None,
        gateway: str | None,
        api_key: str | None,
        base_url: str | None,
        *,
        max_wait: float,
        timeout: float | None,
        ledger: bool,
    ) -> None:
        self._halt = Halt()
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()  # status words, then the value or an error
        self._status: str | None = None
        environ = settings.environment(gateway, api_key, base_url)
        self.client = settings.client_of(
            environ,
            gateway,
            Clock(sleep=self._halt.sleep, max_wait=settings.seconds("max_wait", max_wait)),
            timeout=timeout,
            ledger=ledger,
            stop=self._halt.look,
            on_event=self._heard,
            shield=self._halt,
        )
        try:
            kind = {"image": Saved, "video": Clip}[command]
            named = (model or "").strip() or config.default_model(environ, self.client.gateway, command)
            self.client.settle(kind(named, target=None, submitted=self.client.clock.started))
        except CallError as error:
            self._record_failed(error)
            raise
        self.model = settings.model_of(self.client, environ, command, model)

    def _heard(self, event: Event) -> None:
        if isinstance(event, Waiting) and event.status != self._status:
            self._status = event.status
            self._inbox.put(event.status)

    def run(
        self, make: Callable[[], P], on_status: Callable[[str], object] | None, on_done: Callable[[P], object] | None
    ) -> P:
        """What `make` returns, with its row in the ledger finished, also if it fails. The handlers are called here,
        in the caller's thread."""
        thread = threading.Thread(target=self._work, args=(make,))
        try:
            thread.start()
            while isinstance(found := self._inbox.get(), str):
                if on_status is not None:
                    on_status(found)
        except BaseException:
            self._halt.halt()
            raise
        finally:
            if thread.ident is not None:
                thread.join()
        if isinstance(found, BaseException):
            raise found
        if on_done is not None:
            on_done(found)
        return found  # type: ignore[no-any-return]  # it is what `make` has returned

    def _work(self, make: Callable[[], P]) -> None:
        try:
            self._inbox.put(self._recorded(make))
        except BaseException as error:  # noqa: BLE001  # it is raised in the other thread
            self._inbox.put(error)

    def _recorded(self, make: Callable[[], P]) -> P:
        client = self.client
        try:
            value = make()
        except CallError as error:
            self._record_failed(error)
            raise
        client.record(value, ended=client.clock.now(), exit_status=0)
        return value

    def _record_failed(self, error: CallError) -> None:
        """Finish the row of a call that failed, if it has tried to reach the gateway."""
        if error.partial is not None and error.partial.tried:
            self.client.record(error.partial, ended=self.client.clock.now(), exit_status=int(error.status))
