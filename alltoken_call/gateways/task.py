"""The state of a task, as far as its answers have it in common."""

from __future__ import annotations

from ..values import UNKNOWN
from ..wire import text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_DONE = ("completed", "succeeded", "success")
_ENDS = {
    "failed": "failed",
    "failure": "failed",
    "error": "failed",
    "cancelled": "cancelled",
    "canceled": "cancelled",
    "expired": "expired",
}


class Task:
    """What an answer says of a task. `status` is completed, failed, cancelled, expired, or a word for going on."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        word = text_of(document.get("status")) or "unknown"
        lower = word.lower()
        self.status = "completed" if lower in _DONE else _ENDS.get(lower, word)
        self.document = document
        self.pause: float | None = None  # seconds until the next GET
        self.url: str | None = None  # of a finished video
        self.keyed = False  # the URL needs the key
        usage = document.get("usage")
        self.usage: dict[str, Any] | None = usage if isinstance(usage, dict) else None
        self.cost = UNKNOWN
        self.quota: int | None = None  # the charge in the gateway's own unit
        self.model = text_of(document.get("model"))
        self.facts: dict[str, Any] = {}
        self.expires_at: str | None = None
        self.ttl: int | None = None  # seconds that the URL lives

    @property
    def done(self) -> bool:
        """Whether its result is there."""
        return self.status == "completed"

    @property
    def ended(self) -> bool:
        """Whether it has ended without one."""
        return self.status in _ENDS


def is_task_id(text: str | None) -> bool:
    """Whether a text can be a task's id: not blank, and not another place in a URL."""
    return text is not None and text.strip() not in ("", ".", "..")
