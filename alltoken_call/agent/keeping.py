"""The file of an agent's conversation: locked while a run uses it, so that no turn of another run is lost."""

from __future__ import annotations

import contextlib
import os

from ..store import thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ..net.clock import Clock


class Keeping:
    """The conversation in the file at `path`. `state` is the state directory, where the lock lies.

    Raises `UsageError` if the file holds no conversation, and `OutputError` if it cannot be written.
    """

    def __init__(self, path: str, state: str | None) -> None:
        thread.check(path)
        self._path = path
        self._state = state
        self._thread = thread.Thread(path)
        self._stamp = self._look()

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The conversation as it was read."""
        return self._thread.messages

    @property
    def model(self) -> str | None:
        """The model that the file says it is with."""
        return self._thread.model

    @contextlib.contextmanager
    def held(self, clock: Clock) -> Iterator[bool]:
        """Keep other runs from the file until the block's end; whether one has changed it since. Raises `CallError` if
        one holds it until the deadline."""
        with thread.locked(self._path, self._state, clock.left, clock.sleep, "max_wait"):
            changed = self._look() not in (self._stamp, None)
            if changed:
                self._thread = thread.Thread(self._path)
                self._stamp = self._look()
            yield changed

    def save(self, messages: list[dict[str, Any]], model: str) -> None:
        """Rewrite the file. Raises `OutputError`."""
        self._thread.messages = messages
        self._thread.save(model)
        self._stamp = self._look()

    def _look(self) -> tuple[int, int] | None:
        """What is another one as soon as the file is rewritten; None if there is none."""
        with contextlib.suppress(OSError):
            found = os.stat(self._path)
            return found.st_ino, found.st_mtime_ns
        return None
