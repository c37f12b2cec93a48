"""`--once`: make a file exist, and pay for it once, however often and however many at a time this is run."""

from __future__ import annotations

import os

from ..errors import CallError, ExitStatus, UsageError
from ..store import files, ledger, locks

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
    folder = os.path.join(client.state, "locks") if client.state else os.path.dirname(book.path or path)
    try:
        with locks.held(folder, f"once {os.path.realpath(path)}", client.clock.left, client.clock.sleep):
            if os.path.lexists(path):
                return None
            if row := _row(book.path, command, path, _UNFINISHED):
                return resume(row)
            _check_doubts(client, book.path, command, path)
            return make()
    except locks.Held:
        message = f"the time of --max-wait is over, and another run is still making {target}"
        raise CallError(message, code="pending", status=ExitStatus.PENDING) from None


def _row(path: str | None, command: str, output: str, condition: str) -> dict[str, Any]:
    """The newest row of a command for an output that fits a condition; {} if there is none. Raises `UsageError`."""
    where = f"command = ? AND output = ? AND {condition} ORDER BY id DESC"
    try:
        return ledger.first(path, where, (command, ledger.bound(output)))
    except ledger.LedgerError as error:
        raise UsageError(f"--once needs the ledger, and {error}") from None


def _check_doubts(client: Client, path: str | None, command: str, output: str) -> None:
    """Raise `CallError` with status 12 if an earlier submit for `output` may still be running unseen."""
    row = _row(path, command, output, "status IN ('submitting', 'unknown')")
    left = row and SETTLED - (client.clock.now() - row["started"])
    if left and left > 0:
        message = (
            f"an earlier run may have submitted this {command}, and it may be billed:"
            f" it is not submitted again for {left / 60:.0f} min"
        )
        raise CallError(message, code="unknown_outcome", status=ExitStatus.UNKNOWN, hint=client.dialect.doubt)
