"""`--once`: make a file exist, and pay for it once, however often and however many at a time this is run."""

from __future__ import annotations

import os

from ..errors import CallError, ExitStatus, UsageError
from ..store import files, ledger, locks
from ..store.database import LedgerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from ..values import Pending
    from .client import Client

    P = TypeVar("P", bound=Pending)

SETTLED = 1800.0  # seconds after which a submit whose outcome is unknown has expired at the gateway
_UNFINISHED = "status NOT IN ({})".format(", ".join(f"'{word}'" for word in (*ledger.ENDED, "submitting")))


def once(
    client: Client, command: str, target: str, resume: Callable[[dict[str, Any]], P], make: Callable[[], P]
) -> P | None:
    """None if the file at `target` exists; else what `resume` makes of the row of an unfinished task that is to be
    saved there or, if there is none, what `make` returns.

    Two runs for one path: the second waits for the first. Raises `CallError` with status 8 if it waits too long, 12
    while it is unknown whether an earlier submit was accepted, and `UsageError` without a working ledger.
    """
    book = client.ledger
    if book is None or not book.works:
        raise UsageError("--once needs the ledger, which tells what was submitted before")
    path = files.absolute(target)
    state = client.state or os.path.dirname(book.path or path)
    try:
        with locks.held(state, f"once {os.path.realpath(path)}", client.clock.left, client.clock.sleep):
            if os.path.lexists(path):
                return None
            if row := _row(book, command, path, _UNFINISHED):
                return resume(row)
            _check_doubts(client, book, command, path)
            return make()
    except locks.Held:
        message = f"the time of --max-wait is over, and another run is still making {target}"
        raise CallError(message, code="pending", status=ExitStatus.PENDING) from None


def _row(book: ledger.Ledger, command: str, output: str, condition: str) -> dict[str, Any]:
    """The newest row of a command that fits a condition, and whose output is the same file as `output`, whatever links
    lead there; {} if there is none. Raises `UsageError`."""
    where = f"command = ? AND output NOT IN ('', '-') AND {condition} ORDER BY id DESC"
    try:
        found = ledger.numbered(book.path, where, (command,), book.patience())
    except LedgerError as error:
        raise UsageError(f"--once needs the ledger, and {error}") from None
    real = os.path.realpath(output)
    return next((row for row in found if row["output"] == output or os.path.realpath(row["output"]) == real), {})


def _check_doubts(client: Client, book: ledger.Ledger, command: str, output: str) -> None:
    """Raise `CallError` with status 12 if an earlier submit for `output` may still be running unseen."""
    row = _row(book, command, output, "status IN ('submitting', 'unknown')")
    left = row and SETTLED - (client.clock.now() - row["started"])
    if left and left > 0:
        message = (
            f"an earlier run may have submitted this {command}, and it may be billed:"
            f" it is not submitted again for {left / 60:.0f} min"
        )
        raise CallError(message, code="unknown_outcome", status=ExitStatus.UNKNOWN, hint=client.dialect.doubt)
