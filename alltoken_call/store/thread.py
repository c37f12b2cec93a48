"""A conversation in a file: read, and rewritten whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import re

from ..errors import CallError, ExitStatus, OutputError, UsageError
from ..wire import as_object, parse_json, text_of
from . import files, locks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

STOPPED = "[interrupted]"  # the end of an answer that the user stopped
KEPT = 30 * 86400.0  # seconds that an unfinished conversation is kept
_KEPT_NAME = re.compile(r"[0-9a-f]{16}\.json")
_WANTED = "--thread takes a JSON file with a list of messages, each with a role"


class Thread:
    """The conversation in the file at `path`, or in memory alone if that is empty: its `messages`, a list that stays
    the same one.

    A new file is {"model": …, "messages": […]}; a bare list of messages stays a list. Raises `UsageError` if the file
    holds anything else.
    """

    def __init__(self, path: str = "") -> None:
        self.path = path
        self.messages: list[dict[str, Any]] = []
        self._document: Any = {"model": None, "messages": self.messages}
        self._stamp: tuple[int, int] | None = None  # of the file as it was read or saved here
        _check_kind(path)
        self.refresh()

    @property
    def model(self) -> str | None:
        """The model that the conversation is with; None if the file does not say."""
        return text_of(as_object(self._document).get("model"))

    def refresh(self) -> bool:
        """Read the file, if it was changed since it was read or saved here; whether it was."""
        stamp = self._look()
        if stamp in (self._stamp, None):
            return False
        try:
            value = parse_json(files.read_input(self.path).decode("utf-8-sig"))  # what is not UTF-8 must not be lost
        except ValueError:
            value = None
        messages = as_object(value).get("messages", value)
        if not isinstance(messages, list) or not all(isinstance(as_object(one).get("role"), str) for one in messages):
            raise UsageError(f"{self.path}: {_WANTED}")
        self.messages[:] = messages
        self._document = value | {"messages": self.messages} if isinstance(value, dict) else self.messages
        self._stamp = stamp
        return True

    def _look(self) -> tuple[int, int] | None:
        """What is another one as soon as the file is rewritten; None if there is nothing in it."""
        with contextlib.suppress(OSError):
            found = os.stat(self.path)
            return (found.st_ino, found.st_mtime_ns) if found.st_size else None
        return None

    def save(self, model: str, path: str | None = None) -> None:
        """Rewrite the file, if there is one, or the one at `path`; a new one keeps `model`. Raises `OutputError`."""
        if isinstance(self._document, dict):
            self._document["model"] = self._document.get("model") or model
        if target := path or self.path:
            files.replace(target, (json.dumps(self._document, indent=1) + "\n").encode("ascii"))
            self._stamp = self._look()


def set_system(messages: list[dict[str, Any]], text: str) -> None:
    """Make `text` the system message of a conversation, which is changed; an empty one takes it away."""
    if messages and messages[0]["role"] == "system":
        messages.pop(0)
    if text:
        messages.insert(0, {"role": "system", "content": text})


def is_answered(messages: list[dict[str, Any]]) -> bool:
    """Whether a conversation ends with a whole answer."""
    last = messages[-1] if messages else {}
    return last.get("role") == "assistant" and not str(last.get("content")).endswith(STOPPED)


@contextlib.contextmanager
def locked(
    path: str, state: str | None, left: Callable[[], float], sleep: Callable[[float], None], limit: str
) -> Iterator[None]:
    """Keep other runs from the conversation at `path` until the block's end, so that no turn is lost.

    `left` tells the seconds that may be waited for one, by `sleep`; if they are over, `CallError` is raised, which
    names their `limit`.
    """
    try:
        with locks.held(state, os.path.realpath(path), left, sleep):
            yield
    except locks.Held:
        message = f"the time of {limit} is over, and another run is still using {path}"
        raise CallError(message, code="max_wait", status=ExitStatus.PENDING) from None


def kept_path(state: str, now: float, *, lasting: bool = False) -> str:
    """The path of a new conversation among those that are kept in the state directory while they are unfinished.

    Those of ours that are older than 30 days are removed, but the `lasting` ones, which have no other place. Raises
    `OutputError`.
    """
    folder = os.path.join(state, "threads")
    try:
        files.make_private(folder)
        for entry in os.scandir(folder):
            is_ours = _KEPT_NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)
            if is_ours and entry.stat().st_mtime < now - KEPT:
                files.discard(entry.path)
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror}") from None
    return os.path.join(folder, f"{'thread-' if lasting else ''}{os.urandom(8).hex()}.json")


def is_kept(path: str, state: str | None) -> bool:
    """Whether a path is one of those that are kept only while they are unfinished."""
    folder, name = os.path.split(os.path.realpath(path))
    return state is not None and bool(_KEPT_NAME.fullmatch(name)) and folder == os.path.realpath(f"{state}/threads")


def check(path: str) -> None:
    """Raise `UsageError` if `path` is empty, or exists and is not a regular file, `OutputError` if it could not be
    rewritten."""
    if not path:
        raise UsageError("the path of the conversation is empty")
    _check_kind(path)
    files.check_replaceable(path)


def _check_kind(path: str) -> None:
    if os.path.exists(path) and not os.path.isfile(path):
        raise UsageError(f"{path} is not a regular file, and --thread would make it one")
