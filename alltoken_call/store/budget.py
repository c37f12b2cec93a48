"""ALLTOKEN_BUDGET: what may be spent in an hour, a day, a week or a month, and what was spent in it.

The sum and the row of the new run are one transaction, so that runs at the same moment count each other.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import re
from decimal import Decimal

from ..errors import CallError, ExitStatus, UsageError
from . import ledger, sums
from .database import PATIENCE, LedgerError, opened

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any


class Budget:
    """`limit` dollars in each `window`, in local time; the week begins on Monday."""

    def __init__(self, limit: Decimal, window: str) -> None:
        self.limit = limit
        self.window = window

    def span(self, now: float) -> tuple[float, float]:
        """The beginning and the end of the window that `now` is in, in seconds since the epoch."""
        # Naive, so that a day has its length when summer time changes.
        local = dt.datetime.fromtimestamp(now)  # noqa: DTZ006
        if self.window == "hour":
            begin = local.replace(minute=0, second=0, microsecond=0).timestamp()
            return begin, begin + 3600
        day = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
        if self.window == "day":
            first, after = day, day + dt.timedelta(days=1)
        elif self.window == "week":
            first = day - dt.timedelta(days=day.weekday())
            after = first + dt.timedelta(days=7)
        else:
            first = day.replace(day=1)
            after = (first + dt.timedelta(days=31)).replace(day=1)
        return first.timestamp(), after.timestamp()

    def admit(
        self,
        path: str | None,
        row: Mapping[str, Any],
        now: float,
        warn: Callable[[str], None],
        patience: float = PATIENCE,
    ) -> int:
        """Put the row of a new run into the ledger, unless the budget is used up; its number.

        `patience` is the number of seconds to wait for other writers.
        Calls of unknown cost count as the dearest call of the same command and model. Raises `CallError` with status 6
        if the budget is used up, and `UsageError` if the ledger cannot tell.
        """
        begin, end = self.span(now)
        with _ledger(path, patience) as database:
            database.execute("BEGIN IMMEDIATE")
            spent, unknown, counted = _spent(database, begin)
            number = ledger.insert(database, row) if spent < self.limit else None
            database.execute("COMMIT")
        if unknown:
            warn(f"{unknown} call(s) of this {self.window} are of unknown cost, and counted as ${counted:f}")
        if number is None:
            raise self._used_up(spent, end)
        return number

    def check(self, path: str | None, now: float, patience: float = PATIENCE) -> None:
        """Raise as `admit` does; there is no row yet."""
        begin, end = self.span(now)
        with _ledger(path, patience) as database:
            spent = _spent(database, begin)[0]
        if spent >= self.limit:
            raise self._used_up(spent, end)

    def _used_up(self, spent: Decimal, end: float) -> CallError:
        until = dt.datetime.fromtimestamp(end).astimezone()
        message = (
            f"${spent:f} of ${self.limit:f} a {self.window} have been spent; the {self.window} ends at"
            f" {until:%Y-%m-%d %H:%M %Z}; nothing was sent"
        )
        hint = "raise ALLTOKEN_BUDGET, or wait; `alltoken-call cost --since 1d` shows what was spent"
        return CallError(message, code="budget", status=ExitStatus.CREDIT, hint=hint)


def parse(text: str) -> Budget:
    """The budget in a text like 5/day. Raises `UsageError`."""
    match = re.fullmatch(r"\s*([0-9]{1,12}(?:\.[0-9]{1,12})?)/(hour|day|week|month)\s*", text, re.ASCII)
    if not match:
        hint = "dollars and a window: ALLTOKEN_BUDGET=5/day, also /hour, /week or /month"
        raise UsageError("ALLTOKEN_BUDGET cannot be used", code="bad_budget", hint=hint)
    return Budget(Decimal(match[1]), match[2])


@contextlib.contextmanager
def _ledger(path: str | None, patience: float) -> Iterator[sqlite3.Connection]:
    try:
        with opened(path, write=True, patience=patience) as database:
            yield database
    except LedgerError as error:
        raise UsageError(f"ALLTOKEN_BUDGET is set, and {error}", code="no_ledger") from None


def _spent(database: sqlite3.Connection, begin: float) -> tuple[Decimal, int, Decimal]:
    """Dollars spent since `begin`, how many calls in it are of unknown cost, and what those were counted as."""
    known = sums.total(database, begin)
    counted = Decimal(0)
    if known.unknown:
        for command, model, count in sums.unknown(database, begin):
            dearest = _dearest(database, command, model, begin)
            if dearest is None:  # in the window; else on record
                dearest = _dearest(database, command, model, 0.0) or Decimal(0)
            counted = sums.EXACT.add(counted, sums.EXACT.multiply(Decimal(count), dearest))
    return sums.EXACT.add(known.usd, counted), known.unknown, counted


def _dearest(database: sqlite3.Connection, command: str, model: str | None, begin: float) -> Decimal | None:
    """The highest known or estimated cost of a command's calls with a model since `begin`."""
    query = (
        f"SELECT cost FROM calls WHERE started >= ? AND command = ? AND model IS ? AND {sums.SOUND}"  # noqa: S608  # our own
        " ORDER BY CAST(cost AS REAL) DESC LIMIT 1"
    )
    found = database.execute(query, (begin, command, model)).fetchone()
    return Decimal(found[0]) if found else None
