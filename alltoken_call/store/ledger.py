"""What was called and what it cost, in SQLite: one row a run, never a prompt, an answer or the key.

The database is safe under many processes: writers take the lock at once (BEGIN IMMEDIATE; a read that turns into a
write is refused instead of waiting) and wait for each other. sqlite3 is loaded at first use, after the answer.
"""

from __future__ import annotations

import contextlib
import os

from .. import config
from . import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence
    from typing import Any

    from ..cli.context import Context
    from ..cli.output import Output

PATIENCE = 5.0  # seconds to wait for other writers
ENDED = ("completed", "failed", "cancelled", "expired", "gone", "not_found")  # of a task: nothing is left to fetch
COLUMNS = (
    "started",  # seconds since the epoch
    "ended",
    "command",
    "model",
    "status",  # of a task, in the gateway's words; "unsaved" is completed, and not yet saved here
    "task_id",
    "request_id",
    "prompt_tokens",
    "completion_tokens",
    "cost",  # dollars, a decimal string
    "source",  # of the cost
    "output",  # the path where a result was, or will be, saved
    "exit_status",
)
_VERSION = 1
# The index holds all that `cost --since` reads, in its order: without it SQLite would sort every row.
_SCHEMA = """
CREATE TABLE calls (
    id INTEGER PRIMARY KEY, started REAL NOT NULL, ended REAL, command TEXT NOT NULL, model TEXT, status TEXT,
    task_id TEXT, request_id TEXT, prompt_tokens INTEGER, completion_tokens INTEGER, cost TEXT, source TEXT,
    output TEXT, exit_status INTEGER, UNIQUE (command, task_id)
);
CREATE INDEX calls_spent ON calls (model, started, prompt_tokens, completion_tokens, cost);
"""


class LedgerError(Exception):
    """The ledger cannot be used; the message says why."""


def put(path: str | None, row: dict[str, Any]) -> None:
    """Add a row; one with a known task id completes that task's row, and leaves what it does not know.

    What another run has completed stays so. Raises `LedgerError`.
    """
    names = [name for name in COLUMNS if row.get(name) is not None]
    kept = ", ".join(f"{name} = excluded.{name}" for name in names if name != "started")
    _run(
        path,
        f"INSERT INTO calls ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"  # noqa: S608  # COLUMNS
        f" ON CONFLICT (command, task_id) DO UPDATE SET {kept}"
        " WHERE status IS NOT 'completed' OR excluded.status = 'completed'",
        [row[name] for name in names],
        write=True,
    )


def rows(
    path: str | None, condition: str, values: tuple[Any, ...] = (), columns: tuple[str, ...] = COLUMNS
) -> list[Any]:
    """The rows that fit an SQL condition, as tuples of `columns`. Raises `LedgerError`."""
    return _run(path, f"SELECT {', '.join(columns)} FROM calls WHERE {condition}", values)  # noqa: S608  # ours


def _task(path: str | None, command: str, task_id: str) -> dict[str, Any]:
    """The row of a task; with an empty id, of the latest one that has not ended. {} where there is none."""
    if task_id:
        found = rows(path, "command = ? AND task_id = ?", (command, task_id))
    else:
        marks = ", ".join("?" * len(ENDED))
        condition = f"command = ? AND task_id IS NOT NULL AND status NOT IN ({marks}) ORDER BY id DESC LIMIT 1"
        found = rows(path, condition, (command, *ENDED))
    return dict(zip(COLUMNS, found[0])) if found else {}


def _run(path: str | None, statement: str, values: Sequence[Any], *, write: bool = False) -> list[Any]:
    import sqlite3

    if path is None:
        raise LedgerError("the ledger has no place: HOME is not set")
    there = os.path.exists(path)
    if there and not os.path.isfile(path):
        raise LedgerError(f"the ledger {path} cannot be used: it is no regular file")
    if not there and not write:
        return []
    try:
        files.make_private(os.path.dirname(path) or ".")
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))  # SQLite's own mode would be 0644
        database = sqlite3.connect(os.path.abspath(path), timeout=PATIENCE, isolation_level=None)
        with contextlib.closing(database):
            _prepare(database)
            if write:
                database.execute("BEGIN IMMEDIATE")
            found = database.execute(statement, values).fetchall()
            if write:
                database.execute("COMMIT")
            return found
    except (sqlite3.Error, OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise LedgerError(f"the ledger {path} cannot be used: {reason}") from None


def _prepare(database: sqlite3.Connection) -> None:
    """Make the table of a new database, once among many processes. Raises where it is not a database of ours."""
    import sqlite3

    # A kill loses nothing either way; NORMAL saves a wait for the disk, whose loss of power may cost the last row.
    database.execute("PRAGMA synchronous = NORMAL")
    if database.execute("PRAGMA user_version").fetchone()[0] == 0:
        database.execute("BEGIN IMMEDIATE")
        if database.execute("PRAGMA user_version").fetchone()[0] == 0:
            if database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                raise sqlite3.DatabaseError("it is another program's database")
            for statement in _SCHEMA.strip().split(";\n"):
                database.execute(statement)
            database.execute(f"PRAGMA user_version = {_VERSION}")
        database.execute("COMMIT")
    if database.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
        raise sqlite3.DatabaseError("it was made by another version of alltoken-call")


def record(context: Context, output: Output, fields: dict[str, Any]) -> None:
    """Keep what the report holds, with `fields`. Trouble is one warning: the call goes on."""
    if not output.ledger_works:
        return
    report = output.report
    usage = report["usage"] if isinstance(report["usage"], dict) else {}

    def tokens(*names: str) -> int | None:
        return next(
            (usage[name] for name in names if type(usage.get(name)) is int and 0 <= usage[name] < 1 << 63), None
        )

    row = {
        "started": context.started,
        "command": report["command"],
        "model": report["model"],
        "status": "unsaved" if output.unsaved else report.get("status"),
        "task_id": report.get("task_id"),
        "request_id": report["request_id"],
        "prompt_tokens": tokens("prompt_tokens", "input_tokens"),
        "completion_tokens": tokens("completion_tokens", "output_tokens"),
        "cost": report["cost"]["usd"],
        "source": report["cost"]["source"],
    }
    texts = {name: output.without_key(value) for name, value in row.items() if isinstance(value, str)}
    try:
        put(config.ledger_path(context.environ), row | texts | fields)
    except LedgerError as error:
        output.ledger_works = False
        output.warning(f"{error}; what this run did is not all recorded")


def look_up(context: Context, output: Output, command: str, task_id: str) -> dict[str, Any]:
    """The row of a task, or with an empty id of the latest that has not ended; {} where there is none."""
    if not output.ledger_works:
        return {}
    try:
        return _task(config.ledger_path(context.environ), command, task_id)
    except LedgerError as error:
        output.ledger_works = False
        output.warning(str(error))
        return {}
