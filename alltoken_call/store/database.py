"""The ledger's database, in SQLite: its file, its tables and their versions.

It is safe under many processes: writers take the lock at once (BEGIN IMMEDIATE; a read that turns into a write is
refused instead of waiting) and wait for each other. It is in WAL mode, so that a writer waits for the disk once and
readers never wait. sqlite3 is loaded at first use, after the answer is shown.
"""

from __future__ import annotations

import contextlib
import os

from ..errors import CallError
from . import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable
    from typing import Any

PATIENCE = 10.0  # seconds to wait for other writers
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
            if not write:  # damaged text is shown with replacement characters
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
