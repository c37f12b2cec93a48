"""The one loop that repeats requests, polls and downloads, and how long it waits: a 429 is waited for here.

The gateway's `Retry-After` replaces our own back-off; if it is longer than `LONGEST_WAIT`, the command ends instead.
"""

from __future__ import annotations

from ..errors import NetError
from ..request import LONGEST_WAIT
from ..text import one_line
from ..values import Note

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from ..request import Repeat
    from ..values import Event
    from .clock import Clock

    T = TypeVar("T")

ATTEMPTS = 3  # requests in all: the first and two repeats


def parse_retry_after(value: str | None, now: float) -> float | None:
    """Seconds to wait from a Retry-After header (RFC 9110 §10.2.3): ASCII digits, or an HTTP date.

    `now` is the time in seconds since the epoch. None if the header is absent or neither form; a date that has
    passed is 0. `int()` alone would take signs, underscores and other scripts' digits.
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


def repeat(
    attempt: Callable[[], T], policy: Repeat, clock: Clock, on_event: Callable[[Event], None], least: float = 0.0
) -> T:
    """What `attempt` returns, repeated as `policy` says; the one loop of requests, polls and downloads.

    `least` is the shortest pause in seconds. Raises its last `NetError`, whose `sent` is true if an attempt may have
    been acted on and no later answer has settled that; one with the code max_wait if a `policy` that goes on forever
    meets the deadline.
    """
    first = clock.monotonic()
    doubtful = False
    failures = 0
    while True:
        try:
            return attempt()
        except NetError as error:
            lost = is_lost(error, policy)
            doubtful = doubtful or lost
            failures = 0 if error.progress else failures
            pause = _pause(error, policy, failures, lost, clock.chance())
            if pause is not None:
                pause = max(pause, least)
            if pause is None or clock.monotonic() + pause - first > policy.latest:
                raise error.but(sent=doubtful) from None
            left = clock.left()
            if policy.last and left > 0:
                pause = min(pause, left)
            elif pause >= left:
                if policy.forever:
                    raise NetError("the time of --max-wait is over", "max_wait", sent=doubtful) from None
                raise error.but(sent=doubtful) from None
            failures += 1
            count = "" if policy.forever else f" ({failures} of {ATTEMPTS - 1})"
            reason = error.message if error.http is None else f"{error.http} {error.code}"
            on_event(Note("retry", f"{one_line(reason, 200)}: waiting {pause:.3g} s{count}"))
            clock.sleep(pause)


def is_lost(error: NetError, policy: Repeat) -> bool:
    """Whether a failure leaves open what the gateway did with the request."""
    if error.http is None:
        return error.sent
    return error.http in policy.bare and not error.enveloped


def _pause(error: NetError, policy: Repeat, failures: int, lost: bool, chance: float) -> float | None:
    """Seconds to wait before the repeat; None if there is none."""
    if policy.forever:
        if not (error.passing or error.code in policy.codes or error.http in policy.statuses):
            return None
        return (
            backoff(failures, chance) if error.retry_after is None else min(max(error.retry_after, 0.5), LONGEST_WAIT)
        )
    again = error.passing and (error.http in policy.statuses if error.http is not None else not lost)
    if failures + 1 >= ATTEMPTS or not (again or (lost and policy.lost)):
        return None
    if error.retry_after is None:
        return backoff(failures, chance)
    return error.retry_after if error.retry_after <= LONGEST_WAIT else None
