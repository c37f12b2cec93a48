"""What the ledger's rows add up to: exact, in SQLite, in memory that does not grow with the rows.

A cost below $100 with at most ten places is a whole number of 10⁻¹⁰ dollars, which SQLite adds exactly. One pass adds
up all costs as if they were such, and counts those that are; the few others are read one by one, taken out again and
added exactly. The days are found first: grouping a million rows by date() would cost more than all sums.
"""

from __future__ import annotations

import datetime as dt
import decimal
import math
import os
import re
from decimal import Decimal

from . import ledger
from .database import PATIENCE, opened

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from typing import Any

KEYS = ("model", "command", "gateway", "day")
FREE = ("none", "local")  # sources of a cost that is not unknown though there is no figure
EXACT = decimal.Context(prec=120)  # digits
# What is counted for a cost in the one pass, in 10⁻¹⁰ dollars; bounded, so that no sum overflows.
_UNITS = "CAST(round(min(abs(cost * 1e10), 1e12)) AS INTEGER)"
# Whether that is exact: a plain decimal, quickly seen if it is as AllToken gives it. Anything that is not digits with
# at most one point was damaged by hand, and is unknown.
_DIGITS = "[0-9]" * 10
_SHORT = (
    f"CASE WHEN cost GLOB '[0-9].{_DIGITS}' THEN 1 WHEN length(cost) > 13 THEN 0"
    " WHEN cost NOT GLOB '[0-9]*' OR cost GLOB '*[^0-9.]*' OR cost GLOB '*.*.*' THEN 0"
    " ELSE CASE instr(cost, '.') WHEN 0 THEN length(cost) < 3 WHEN 2 THEN length(cost) < 13 WHEN 3 THEN 1 ELSE 0 END"
    " END"
)
SOUND = "cost GLOB '[0-9]*' AND cost NOT GLOB '*[^0-9.]*' AND cost NOT GLOB '*.*.*' AND length(cost) < 90"
_SOUND = re.compile(r"(?=.{1,89}\Z)([0-9]+)\.?([0-9]*)", re.ASCII).fullmatch
_SUMS = (
    "count(*), total(prompt_tokens), total(completion_tokens), count(cost), sum(cost IS NULL AND source IN"
    f" ('none', 'local')), sum(cost IS NOT NULL AND source = 'estimate'), sum({_UNITS}), sum({_SHORT})"
)


class Sum:
    """Calls, tokens and dollars of one group. `estimated` and `unknown` count calls."""

    def __init__(self) -> None:
        self.calls = self.estimated = self.unknown = self.prompt_tokens = self.completion_tokens = 0
        self.usd = Decimal(0)

    def add(self, other: Sum) -> None:
        """Add the figures of another group; this one is changed."""
        for name in ("calls", "estimated", "unknown", "prompt_tokens", "completion_tokens"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.usd = EXACT.add(self.usd, other.usd)

    @property
    def is_known(self) -> bool:
        """Whether there is a figure in it."""
        return self.calls > self.unknown


def groups(
    path: str | None, since: float, by: str, gateway: str | None = None, patience: float = PATIENCE
) -> dict[str, Sum]:
    """The sums of all calls since an instant (seconds since the epoch), by one of `KEYS`. Raises `LedgerError`."""
    if path is not None and not os.path.exists(path):
        return {}
    where, values = ("1", ()) if gateway is None else ("gateway = ?", (gateway,))
    found: dict[str, Sum] = {}
    with opened(path, write=False, patience=patience) as database:
        if by != "day":
            _add_up(database, found, by, f"started >= ? AND {where}", (since, *values))
        else:
            for day, begin, end in _days(database, since):
                span = "started >= ? AND started < ?" if end else "started >= ? AND ? IS NULL"
                _add_up(database, found, f"'{day}'", f"{span} AND {where}", (begin, end, *values))
    return dict(sorted(found.items()))


def total(database: sqlite3.Connection, since: float) -> Sum:
    """The sum of all calls since an instant."""
    found: dict[str, Sum] = {}
    _add_up(database, found, "''", "started >= ?", (since,))
    return found.get("", Sum())


def unknown(database: sqlite3.Connection, since: float) -> list[tuple[str, str | None, int]]:
    """How many calls since an instant are of unknown cost: command, model, count."""
    is_unknown = f"(cost IS NULL OR NOT ({SOUND})) AND source IS NOT 'none' AND source IS NOT 'local'"
    query = f"SELECT command, model, count(*) FROM calls WHERE started >= ? AND {is_unknown} GROUP BY 1, 2"  # noqa: S608
    return database.execute(query, (since,)).fetchall()


def _add_up(database: sqlite3.Connection, found: dict[str, Sum], key: str, where: str, values: tuple[Any, ...]) -> None:
    """Put the sums of the rows that fit into `found`, by the SQL expression `key`."""
    others = False
    query = f"SELECT {key}, {_SUMS} FROM calls WHERE {where} GROUP BY 1"  # noqa: S608  # our own words
    for name, calls, prompt, completion, costs, free, estimated, units, short in database.execute(query, values):
        one = found.setdefault("unknown" if name is None else str(name), Sum())
        one.calls += calls
        one.prompt_tokens += int(prompt) if math.isfinite(prompt) else 0  # damaged by hand
        one.completion_tokens += int(completion) if math.isfinite(completion) else 0
        one.unknown += calls - costs - (free or 0)
        one.estimated += estimated or 0
        one.usd = EXACT.add(one.usd, Decimal(units or 0).scaleb(-10, EXACT))
        others = others or costs > (short or 0)
    if not others:
        return
    exact: dict[tuple[str, int], int] = {}  # by group and places: dollars without the point
    query = f"SELECT {key}, cost, source, {_UNITS} FROM calls WHERE {where} AND cost IS NOT NULL AND NOT ({_SHORT})"  # noqa: S608
    for name, cost, source, units in database.execute(query, values):
        group = "unknown" if name is None else str(name)
        exact[group, 10] = exact.get((group, 10), 0) - units
        if sound := isinstance(cost, str) and _SOUND(cost):
            places = len(sound[2])
            exact[group, places] = exact.get((group, places), 0) + int(sound[1] + sound[2])
        else:
            found[group].unknown += source not in FREE
            found[group].estimated -= source == "estimate"
    for (group, places), digits in exact.items():
        found[group].usd = EXACT.add(found[group].usd, Decimal(digits).scaleb(-places, EXACT))


def _days(database: sqlite3.Connection, since: float) -> Iterator[tuple[str, float, float | None]]:
    """The local days that have calls: the date, its beginning and its end. What is in no year of ours comes last."""
    begin = since
    while (
        first := database.execute("SELECT min(started) FROM calls WHERE started >= ?", (begin,)).fetchone()[0]
    ) is not None:
        try:
            day = dt.datetime.fromtimestamp(first).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)  # noqa: DTZ006
            end = (day + dt.timedelta(days=1)).timestamp()
        except (TypeError, ValueError, OverflowError, OSError):  # damaged by hand
            yield "unknown", begin, None
            return
        yield f"{day:%Y-%m-%d}", begin, end
        begin = end


def last(path: str | None, gateway: str | None = None, patience: float = PATIENCE) -> dict[str, Any]:
    """The call that ended last, with the row's number in `id`; {} if there is none. Raises `LedgerError`."""
    where, values = ("gateway = ?", (gateway,)) if gateway else ("id > (SELECT max(id) - 1000 FROM calls)", ())
    return ledger.first(path, f"{where} ORDER BY coalesce(ended, started) DESC, id DESC", values, patience)
