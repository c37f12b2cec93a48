"""Whether a call may begin: what the budget says, and the call's row in the ledger before anything is sent."""

from __future__ import annotations

from ..errors import UsageError
from ..values import Warned

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..store.budget import Budget
    from ..values import Result
    from .client import Client


def admit(
    client: Client, result: Result, command: str, *, first: bool = False, needed: bool = False, **fields: Any
) -> None:
    """Ask the budget, if there is one, before anything is sent; `result` gets its row in the ledger then.

    `first`: it gets a row in any case, with more `fields`; `needed`: nothing is sent without one. Raises
    `CallError` with status 6 if the budget is used up, and `UsageError` if the ledger cannot tell.
    """
    result.tried = True
    limited = _limit(client)
    if limited is not None:
        row = client.row_of(result) | {"command": command} | fields
        result.tried = False  # a run that is refused leaves no row
        result.row = limited[0].admit(limited[1], row, client.clock.now(), lambda text: _warn(client, text), limited[2])
        result.tried = True
    elif first or needed:
        client.record(result, command=command, **fields)
    if needed and result.row is None:
        result.tried = False
        raise UsageError("the ledger cannot be used, and --once needs it: nothing was sent", code="no_ledger")


def check(client: Client) -> None:
    """Raise as `admit` if the budget is used up; there is no row yet."""
    limited = _limit(client)
    if limited is not None:
        limited[0].check(limited[1], client.clock.now(), limited[2])


def _limit(client: Client) -> tuple[Budget, str, float] | None:
    """The budget, if there is one that counts here, the ledger's path, and how many seconds to wait for others
    there. Raises `UsageError`."""
    if not client.budget.strip() or client.gateway.local:
        return None
    from ..store import budget

    limit = budget.parse(client.budget)
    book = client.ledger
    if book is None or book.path is None or not book.works:
        raise UsageError("ALLTOKEN_BUDGET is set, and there is no ledger to tell what was spent", code="no_ledger")
    return limit, book.path, book.patience()


def _warn(client: Client, text: str) -> None:
    """Warn of calls of unknown cost that the budget counts, once a run."""
    if not client.warned:
        client.warned = True
        client.emit(Warned(text))
