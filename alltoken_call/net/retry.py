"""How long to wait before the next attempt, or that there is none: pure functions.

The gateway's `Retry-After` goes before our own back-off; a wait longer than `LONGEST` is not ours to sit through.
"""

from __future__ import annotations

ATTEMPTS = 3  # requests in all: the first and two repeats
LONGEST = 60.0  # seconds of Retry-After that we wait; longer ends the command with the value told


def parse_retry_after(value: str | None, now: float) -> float | None:
    """Seconds to wait from a Retry-After header (RFC 9110 §10.2.3): ASCII digits, or an HTTP date.

    `now` is the time in seconds since the epoch. None where the header is absent or neither form; a date that
    has passed is 0. `int()` alone would take signs, underscores and other scripts' digits.
    """
    value = (value or "").strip()
    if value.isascii() and value.isdigit():
        return float(value.lstrip("0")[:10] or 0)  # ten digits are 300 years; int() refuses thousands of them
    if not value or not value.isascii():
        return None
    import datetime as dt
    import email.utils

    try:
        moment = email.utils.parsedate_to_datetime(value)
        if moment.tzinfo is None:  # asctime's form, which means UTC (RFC 9110 §5.6.7)
            moment = moment.replace(tzinfo=dt.timezone.utc)
        return max(0.0, moment.timestamp() - now)
    except (TypeError, ValueError, OverflowError, IndexError):
        return None


def backoff(attempt: int, chance: float) -> float:
    """Seconds before the repeat after `attempt` (0, 1, …): min(8, 0.5·2ⁿ) times 0.75–1, by `chance` in [0, 1)."""
    return min(8.0, 0.5 * 2.0**attempt) * (0.75 + 0.25 * chance)


def wait(attempt: int, retry_after: float | None, chance: float) -> float | None:
    """Seconds to wait after the failed `attempt` (0, 1, …), or None: no further attempt."""
    if attempt + 1 >= ATTEMPTS or (retry_after is not None and retry_after > LONGEST):
        return None
    return backoff(attempt, chance) if retry_after is None else retry_after
