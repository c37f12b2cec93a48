"""What was called and what it cost, in SQLite: one row a run, never a prompt, an answer or the key.

The database is safe under many processes: writers take the lock at once (BEGIN IMMEDIATE; a read that turns into a
write is refused instead of waiting) and wait for each other. It is in WAL mode, so that a writer waits for the disk
once and readers never wait. sqlite3 is loaded at first use, after the answer is shown.
"""

from __future__ import annotations

import contextlib
import math
import os

from ..errors import CallError
from . import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping
    from typing import Any, TypeVar

    T = TypeVar("T")

PATIENCE = 10.0  # seconds to wait for other writers
SHORTEST = 0.5  # the same at the deadline: a run that is over still records its end
# Of a task, or of an image that comes at once: nothing is left to fetch.
ENDED = ("completed", "failed", "cancelled", "expired", "gone", "not_found", "refused", "unknown")
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
_VERSION = 2
_NOW = f"PRAGMA user_version = {_VERSION}"
_EFFECTIVE = os.access in os.supports_effective_ids
# The index holds all that `cost --since` reads, by time.
_SCHEMA = (
    (
        "CREATE TABLE calls ("
        " id INTEGER PRIMARY KEY, started REAL NOT NULL, ended REAL,"
        " gateway TEXT NOT NULL DEFAULT 'alltoken', root TEXT, command TEXT NOT NULL, model TEXT,"
        " status TEXT, task_id TEXT, request_id TEXT, prompt_tokens INTEGER, completion_tokens INTEGER,"
        " cost TEXT, source TEXT, output TEXT, exit_status INTEGER,"
        " UNIQUE (gateway, command, task_id))"
    ),
    (
        "CREATE INDEX calls_spent ON calls"
        " (started, model, command, gateway, prompt_tokens, completion_tokens, cost, source)"
    ),
    "CREATE TABLE dialects (root TEXT PRIMARY KEY, dialect TEXT NOT NULL)",
)
_V1 = (  # its columns, in both versions
    "id, started, ended, command, model, status, task_id, request_id, prompt_tokens, completion_tokens, cost, source,"
    " output, exit_status"
)
_FROM_1 = (
    "ALTER TABLE calls RENAME TO calls_1",
    "DROP INDEX IF EXISTS calls_spent",
    *_SCHEMA,
    f"INSERT INTO calls ({_V1}) SELECT {_V1} FROM calls_1",  # noqa: S608  # our own columns
    "DROP TABLE calls_1",
)


class LedgerError(CallError):
    """The ledger cannot be used; the message says why."""

    code = "no_ledger"


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


@contextlib.contextmanager
def opened(path: str | None, *, write: bool, patience: float = PATIENCE) -> Any:
    """The database, ready for use; `patience` is the number of seconds to wait for other writers. Raises `LedgerError`
    for all that can go wrong with it."""
    import sqlite3

    if path is None:
        raise LedgerError("the ledger has no path: HOME is not set")
    if os.path.exists(path) and not os.path.isfile(path):
        raise LedgerError(f"the ledger {path} cannot be used: it is not a regular file")
    try:
        with contextlib.closing(_connect(path, write=write, patience=patience)) as database:
            if not write:  # what a hand has damaged is shown so
                database.text_factory = lambda data: data.decode("utf-8", "replace")
            yield database
    except (sqlite3.Error, OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise LedgerError(f"the ledger {path} cannot be used: {reason}") from None


def _connect(path: str, *, write: bool, patience: float) -> sqlite3.Connection:
    import sqlite3
    from urllib.parse import quote

    if not write and not _is_writable(path):
        # What may be read and not written is read; `immutable`, since WAL's own files cannot be made beside it. If
        # they are there, another user is writing, and what they hold counts.
        mode = "mode=ro" if os.access(f"{path}-wal", os.R_OK, effective_ids=_EFFECTIVE) else "immutable=1"
        uri = f"file:{quote(os.fsencode(os.path.abspath(path)))}?{mode}"
        return _prepared(sqlite3.connect(uri, uri=True, timeout=patience, isolation_level=None), _prepare_to_read)
    files.make_private(os.path.dirname(path) or ".")
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))  # SQLite's own mode would be 0644
    return _prepared(sqlite3.connect(os.path.abspath(path), timeout=patience, isolation_level=None), _prepare)


def _is_writable(path: str) -> bool:
    """Whether SQLite may write `path`, for which it makes files beside it."""
    return all(os.access(place, os.W_OK, effective_ids=_EFFECTIVE) for place in (path, os.path.dirname(path) or "."))


def _prepared(database: sqlite3.Connection, prepare: Callable[[sqlite3.Connection], None]) -> sqlite3.Connection:
    try:
        prepare(database)
    except BaseException:
        database.close()
        raise
    return database


def _prepare_to_read(database: sqlite3.Connection) -> None:
    """Show a database of version 1 that cannot be taken over as if it had been. Raises sqlite3.DatabaseError if it is
    not a database of ours."""
    version = _version(database)
    if version == 1:
        database.execute("PRAGMA temp_store = MEMORY")
        database.execute("CREATE TEMP VIEW calls AS SELECT *, 'alltoken' AS gateway, NULL AS root FROM main.calls")
    elif version != _VERSION:
        raise _foreign(version)


def _prepare(database: sqlite3.Connection) -> None:
    """Make the tables of a new database, or take over those of version 1, once among many processes.

    Raises sqlite3.DatabaseError if it is not a database of ours.
    """
    import sqlite3

    # A kill loses nothing either way; NORMAL saves a wait for the disk, whose loss of power may cost the last row.
    database.execute("PRAGMA synchronous = NORMAL")
    if _version(database) in (0, 1):
        database.execute("BEGIN IMMEDIATE")
        version = _version(database)  # another process may have been faster
        if version == 0 and database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise _foreign(version)
        statements: tuple[str, ...] = {0: (*_SCHEMA, _NOW), 1: (*_FROM_1, _NOW)}.get(version, ())
        for statement in statements:
            database.execute(statement)
        database.execute("COMMIT")
    if (version := _version(database)) != _VERSION:
        raise _foreign(version)
    if database.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        timeout = database.execute("PRAGMA busy_timeout").fetchone()[0]
        database.execute(f"PRAGMA busy_timeout = {timeout // 2}")  # the other half is for what comes after it
        with contextlib.suppress(sqlite3.OperationalError):  # others are at work: a later run will do it
            database.execute("PRAGMA journal_mode = WAL").fetchall()  # stays with the file


def _foreign(version: int) -> sqlite3.DatabaseError:
    import sqlite3

    whose = "made by another version of alltoken-call" if version else "another program's database"
    return sqlite3.DatabaseError(f"it is {whose}")


def _version(database: sqlite3.Connection) -> int:
    version: int = database.execute("PRAGMA user_version").fetchone()[0]
    return version
