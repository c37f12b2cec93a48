"""What was called and what it cost: one row a run, never a prompt, an answer or the key."""

from __future__ import annotations

import contextlib
import math
import os

from .database import PATIENCE, LedgerError, opened

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping
    from typing import Any, TypeVar

    T = TypeVar("T")

SHORTEST = 0.5  # the same at the deadline: a run that is over still records its end
# Of a task, or of an image that comes at once: nothing is left to fetch.
ENDED = ("completed", "failed", "cancelled", "expired", "gone", "not_found", "refused", "unknown")
OWN = (*ENDED, "submitting", "unsaved")  # words that mean something to us, whatever a gateway means by them
COLUMNS = (
    "started",  # seconds since the epoch
    "ended",
    "gateway",
    "root",  # of the gateway; NULL in rows from before version 2
    "command",
    "model",
    "status",  # of a task, in the API's words; "unsaved" is completed, and not yet saved here
    "task_id",
    "request_id",
    "prompt_tokens",
    "completion_tokens",
    "cost",  # dollars, a decimal string
    "source",  # of the cost
    "output",  # the path where a result was, or will be, saved
    "exit_status",
)


class Ledger:
    """The ledger at `path`. `works` is false if it is `off`, which the user may want. Trouble is told once by `warn`,
    and the call goes on. `left` tells the seconds until the run's deadline."""

    def __init__(
        self,
        path: str | None,
        warn: Callable[[str], None],
        *,
        off: bool = False,
        left: Callable[[], float] = lambda: math.inf,
    ) -> None:
        self.path = path
        self.works = not off
        self._warn = warn
        self._left = left

    def patience(self) -> float:
        """Seconds to wait for other writers now: at most half of what is left, the rest is for the call itself."""
        return min(PATIENCE, max(SHORTEST, self._left() / 2))

    def record(self, row: Mapping[str, Any], number: int | None = None) -> int | None:
        """Add a row, or complete row `number`, or that of the task that it names; the row's number. Trouble is one
        warning, and the number is None."""
        loss = "; what this run did is not all recorded"
        return self._tried(lambda: put(self.path, row, number, self.patience()), None, loss)

    def find(self, command: str, task_id: str | None, gateway: str | None = None) -> dict[str, Any]:
        """The row of a task, with its number in `id`; {} if there is none. `gateway` is a name; None for any.

        Without an id, it is that of the latest one that has not ended; one whose submit brought no id comes last.
        """
        condition, values = "command = ?", [command]
        if gateway:
            condition, values = f"{condition} AND gateway = ?", [*values, gateway]
        if task_id:
            condition, values = f"{condition} AND task_id = ?", [*values, task_id]
        else:
            condition, values = f"{condition} AND status NOT IN ({', '.join('?' * len(ENDED))})", [*values, *ENDED]
        condition = f"{condition} ORDER BY task_id IS NULL, id DESC"
        return self._tried(lambda: first(self.path, condition, tuple(values), self.patience()), {})

    def dialect(self, root: str) -> str | None:
        """The dialect that was found out for a gateway's root."""
        nothing: list[tuple[Any, ...]] = []

        def look() -> list[tuple[Any, ...]]:
            return rows(self.path, "root = ?", (root,), ("dialect",), "dialects", patience=self.patience())

        found = self._tried(look, nothing)
        return str(found[0][0]) if found else None

    def remember(self, root: str, dialect: str) -> None:
        """Keep the dialect that was found out for a gateway's root."""

        def keep() -> None:
            with opened(self.path, write=True, patience=self.patience()) as database:
                database.execute("INSERT OR REPLACE INTO dialects VALUES (?, ?)", (root, dialect))

        self._tried(keep, None)

    def _tried(self, ask: Callable[[], T], otherwise: T, loss: str = "") -> T:
        """What `ask` returns; `otherwise`, and a warning that names the `loss`, if there is trouble."""
        if self.works:
            try:
                return ask()
            except LedgerError as error:
                self.works = False
                self._warn(f"{error}{loss}")
        return otherwise


def put(path: str | None, row: Mapping[str, Any], number: int | None = None, patience: float = PATIENCE) -> int:
    """Add a row, or complete row `number`, or that of a task with a known id; what is not given stays as it is.

    What another run has completed stays so. The row's number. Raises `LedgerError`.
    """
    if number is not None:
        names = [name for name in COLUMNS if row.get(name) is not None and name != "started"]
        changes = ", ".join(f"{name} = ?" for name in names)
        values = [*(bound(row[name]) for name in names), number, row.get("status") or "completed"]
        condition = "id = ? AND (status IS NOT 'completed' OR ? = 'completed')"
        with opened(path, write=True, patience=patience) as database:
            database.execute(f"UPDATE calls SET {changes} WHERE {condition}", values)  # noqa: S608  # COLUMNS
        return number
    with opened(path, write=True, patience=patience) as database:
        database.execute("BEGIN IMMEDIATE")
        made = insert(database, row)
        database.execute("COMMIT")
    return made


def insert(database: sqlite3.Connection, row: Mapping[str, Any]) -> int:
    """Add a row, or complete that of a task with a known id, inside a transaction; its number."""
    names = [name for name in COLUMNS if row.get(name) is not None]
    kept = ", ".join(f"{name} = excluded.{name}" for name in names if name != "started")
    made = database.execute(
        f"INSERT INTO calls ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"  # noqa: S608  # COLUMNS
        f" ON CONFLICT (gateway, command, task_id) DO UPDATE SET {kept}"
        " WHERE status IS NOT 'completed' OR excluded.status = 'completed'",
        [bound(row[name]) for name in names],
    ).lastrowid
    if row.get("task_id") is not None:
        task = (row.get("gateway"), row.get("command"), bound(row["task_id"]))
        found = database.execute("SELECT id FROM calls WHERE (gateway, command, task_id) = (?, ?, ?)", task)
        made = (found.fetchone() or [made])[0]
    return int(made or 0)


def rows(
    path: str | None,
    condition: str,
    values: tuple[Any, ...] = (),
    columns: tuple[str, ...] = COLUMNS,
    table: str = "calls",
    *,
    patience: float = PATIENCE,
) -> list[tuple[Any, ...]]:
    """The rows that fit an SQL condition, as tuples of `columns`. Raises `LedgerError`."""
    if path is not None and not os.path.exists(path):
        return []
    with opened(path, write=False, patience=patience) as database:
        found = database.execute(f"SELECT {', '.join(columns)} FROM {table} WHERE {condition}", values)  # noqa: S608  # ours
        return [tuple(os.fsdecode(cell) if isinstance(cell, bytes) else cell for cell in row) for row in found]


def first(path: str | None, condition: str, values: tuple[Any, ...], patience: float = PATIENCE) -> dict[str, Any]:
    """The first row that fits an SQL condition, with its number in `id`; {} if there is none. Raises `LedgerError`."""
    return next(iter(numbered(path, f"{condition} LIMIT 1", values, patience)), {})


def numbered(
    path: str | None, condition: str, values: tuple[Any, ...], patience: float = PATIENCE
) -> list[dict[str, Any]]:
    """The rows that fit an SQL condition, each with its number in `id`. Raises `LedgerError`."""
    columns = ("id", *COLUMNS)
    found = rows(path, condition, values, columns, patience=patience)
    return [dict(zip(columns, row)) for row in found]


def bound(value: Any) -> Any:
    """A value for SQLite, which takes no lone surrogates: a path that is not UTF-8 is kept as its bytes."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            with contextlib.suppress(UnicodeEncodeError):
                return os.fsencode(value)
            return value.encode("utf-8", "replace").decode()
    return value
