"""What the ledger's rows add up to: exact, in SQLite, in memory that does not grow with the rows.

A cost of at most ten places is a whole number of 10⁻¹⁰ dollars, which SQLite adds exactly; the few that have more
places are added one by one.
"""

from __future__ import annotations

import decimal
from decimal import Decimal

from . import ledger

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

KEYS = {
    "model": "model",
    "command": "command",
    "gateway": "gateway",
    "day": "date(started, 'unixepoch', 'localtime')",
}
PLACES = 10
EXACT = decimal.Context(prec=120)  # digits
# A cost as we write it: digits, perhaps with a point; anything else was damaged by hand, and is unknown.
_SOUND = "cost GLOB '[0-9]*' AND cost NOT GLOB '*[^0-9.]*' AND cost NOT GLOB '*.*.*' AND length(cost) < 90"
_SHORT = (
    "(instr(cost, '.') = 0 AND length(cost) < 7 OR"
    f" instr(cost, '.') BETWEEN 1 AND 6 AND length(cost) - instr(cost, '.') <= {PLACES})"
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


def groups(path: str | None, since: float, by: str, gateway: str | None = None) -> dict[str, Sum]:
    """The sums of all calls since an instant (seconds since the epoch), by one of `KEYS`. Raises `LedgerError`."""
    key = KEYS[by]
    where = "started >= ?"
    values: list[Any] = [since]
    if gateway is not None:
        where, values = f"{where} AND gateway = ?", [*values, gateway]
    columns = (
        key,
        "count(*)",
        "total(prompt_tokens)",
        "total(completion_tokens)",
        f"sum(CASE WHEN {_SOUND} AND {_SHORT} THEN CAST(round(cost * 1e{PLACES}) AS INTEGER) ELSE 0 END)",
        f"sum(CASE WHEN {_SOUND} THEN source = 'estimate' ELSE 0 END)",
        f"sum(CASE WHEN {_SOUND} OR source IN ('none', 'local') THEN 0 ELSE 1 END)",
        f"sum(CASE WHEN {_SOUND} AND NOT {_SHORT} THEN 1 ELSE 0 END)",
    )
    found: dict[str, Sum] = {}
    long = 0
    for name, calls, prompt, completion, units, estimated, unknown, longer in ledger.rows(
        path, f"{where} GROUP BY 1 ORDER BY 1", tuple(values), columns
    ):
        one = found.setdefault(name or "unknown", Sum())
        one.calls, one.estimated, one.unknown = calls, estimated, unknown
        one.prompt_tokens, one.completion_tokens = int(prompt), int(completion)
        one.usd = Decimal(units).scaleb(-PLACES, EXACT)
        long += longer
    if long:
        query = f"{where} AND {_SOUND} AND NOT {_SHORT}"
        for name, cost in ledger.rows(path, query, tuple(values), (key, "cost")):
            one = found[name or "unknown"]
            one.usd = EXACT.add(one.usd, Decimal(cost))
    return found


def last(path: str | None, gateway: str | None = None) -> dict[str, Any]:
    """The call that ended last, with the row's number in `id`; {} if there is none. Raises `LedgerError`."""
    columns = ("id", *ledger.COLUMNS)
    where: str = "id > (SELECT max(id) - 1000 FROM calls)"
    values: tuple[Any, ...] = ()
    if gateway is not None:
        where, values = "gateway = ?", (gateway,)
    found = ledger.rows(path, f"{where} ORDER BY coalesce(ended, started) DESC, id DESC LIMIT 1", values, columns)
    return dict(zip(columns, found[0])) if found else {}
