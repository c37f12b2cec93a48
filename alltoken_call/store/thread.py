"""A conversation in a file: read, locked while a run uses it, and rewritten whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os

from ..errors import CallError, ExitStatus, UsageError
from ..wire import parse_json
from . import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

_WANTED = "--thread takes a JSON file with a list of messages, each with a role"


class Thread:
    """The conversation at `path`: `messages`, and the `model` that it is with, None if the file does not say.

    A new file is {"model": …, "messages": […]}; a bare list of messages stays a list. Raises `UsageError` if the file
    holds anything else.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.model: str | None = None
        self.messages: list[dict[str, Any]] = []
        self._document: dict[str, Any] | None = {"model": None, "messages": self.messages}
        _check_kind(path)
        if os.path.exists(path) and os.path.getsize(path):
            self._read()

    def _read(self) -> None:
        try:
            value = parse_json(files.read_input(self.path).decode("utf-8-sig"))  # what is not UTF-8 must not be lost
        except ValueError:
            value = None
        messages: Any = value.get("messages") if isinstance(value, dict) else value
        is_one = isinstance(messages, list) and all(
            isinstance(message, dict) and isinstance(message.get("role"), str) for message in messages
        )
        if not is_one:
            raise UsageError(f"{self.path}: {_WANTED}")
        self.messages = messages
        self._document = value if isinstance(value, dict) else None
        model = value.get("model") if isinstance(value, dict) else None
        self.model = model if isinstance(model, str) and model.strip() else None

    def set_system(self, text: str) -> None:
        """Make `text` the system message, in the place of an old one."""
        if self.messages and self.messages[0]["role"] == "system":
            self.messages.pop(0)
        self.messages.insert(0, {"role": "system", "content": text})

    def save(self, model: str) -> None:
        """Rewrite the file; a new one keeps `model`. Raises `OutputError`."""
        value: Any = self.messages
        if self._document is not None:
            value = self._document | {"messages": self.messages}
            value["model"] = self.model or value.get("model") or model
        files.replace(self.path, (json.dumps(value, indent=1) + "\n").encode("ascii"))


def check(path: str) -> None:
    """Raise `UsageError` if `path` exists and is not a regular file, `OutputError` if it could not be rewritten."""
    _check_kind(path)
    files.check_replaceable(path)


def _check_kind(path: str) -> None:
    if os.path.exists(path) and not os.path.isfile(path):
        raise UsageError(f"{path} is not a regular file, and --thread would make it one")


@contextlib.contextmanager
def locked(path: str, folder: str | None, left: Callable[[], float], sleep: Callable[[float], None]) -> Iterator[None]:
    """Hold the one lock of a file, so that the second of two runs waits for the first; a killed run holds nothing.

    The lock is in `folder`, a directory of ours; without one there is none. `left` is the time in seconds to wait.
    Raises `CallError` if it is over.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        folder = None
    if folder is None:
        yield
        return
    name = hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:32]
    try:
        files.make_private(folder)
        descriptor = os.open(os.path.join(folder, f"{name}.lock"), os.O_CREAT | os.O_RDWR, 0o600)
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
                message = f"the time of --max-wait is over, and another run is still using {path}"
                raise CallError(message, code="max_wait", status=ExitStatus.PENDING)
            sleep(min(0.05, max(0.0, left())))
        yield
    finally:
        os.close(descriptor)
