"""Locks of ours in the state directory: a killed run does not block others."""

from __future__ import annotations

import contextlib
import hashlib
import os

from . import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Held(Exception):
    """Another run holds the lock, and does not release it in time."""


@contextlib.contextmanager
def held(
    state: str | None,
    name: str,
    left: Callable[[], float] = lambda: 0.0,
    sleep: Callable[[float], None] = lambda _: None,
    *,
    brief: bool = False,
) -> Iterator[None]:
    """Hold the lock called `name` in the `state` directory; without one there is no lock.

    `left` tells the seconds that may be waited for another run, by `sleep`. `brief`: nobody will want this lock
    again, and its file is removed. Raises `Held`.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        state = None
    if state is None:
        yield
        return
    hashed = hashlib.sha256(os.fsencode(name)).hexdigest()[:32]
    folder = os.path.join(state, "locks")
    try:
        files.make_private(folder)
        path = os.path.join(folder, f"{hashed}.lock")
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    except OSError:  # without room for a lock, a run alone is still right
        yield
        return
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                pass
            except OSError:  # a file system without locks
                break
            if left() <= 0:
                raise Held
            sleep(min(0.05, max(0.0, left())))
        try:
            yield
        finally:
            if brief:
                files.discard(path)
    finally:
        os.close(descriptor)
