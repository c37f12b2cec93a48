"""Costs that a gateway tells in its log, after the call: rows of the ledger are joined to it by request id."""

from __future__ import annotations

from ..errors import NetError
from ..store import ledger
from ..store.database import PATIENCE
from ..values import Cost, Warned

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .client import Client

LATER = 2.0  # seconds after which a log is read again that does not have the last call yet
_UNKNOWN = "(source IS NULL OR source = 'estimate') AND request_id IS NOT NULL"  # to the gateway's own figure


def of_last(client: Client, row: dict[str, Any]) -> Cost | None:
    """The cost of one recorded call, put into its row; None if the gateway has no log, or the call is not in it."""
    if client.dialect.log() is None or not row["request_id"]:
        return None
    found = _read(client)
    if found is not None and row["request_id"] not in found:
        client.clock.sleep(min(LATER, max(0.0, client.clock.left())))
        found = _read(client)
    usd = (found or {}).get(row["request_id"])
    if usd is None:
        return None
    _keep(client, row["id"], usd)
    return Cost(usd, "gateway")


def all_since(client: Client, since: float) -> None:
    """Put the costs of all calls since an instant that are unknown and in the gateway's log into the ledger."""
    if client.dialect.log() is None or client.ledger is None:
        return
    found = _read(client) or {}
    where, values = f"{_UNKNOWN} AND started >= ? AND gateway = ?", (since, client.gateway.name)
    columns, patience = ("id", "request_id"), client.ledger.patience()
    for number, request_id in ledger.rows(client.ledger.path, where, values, columns, patience=patience):
        if request_id in found:
            _keep(client, number, found[request_id])


def gateways_with_unknown(path: str | None, since: float, patience: float = PATIENCE) -> list[str]:
    """The names of the gateways of which calls since an instant are of unknown cost. Raises `LedgerError`."""
    where = f"{_UNKNOWN} AND started >= ? GROUP BY 1"
    return [str(name) for (name,) in ledger.rows(path, where, (since,), ("gateway",), patience=patience)]


def unit_of(client: Client) -> int:
    """How much of the gateway's own unit is one dollar, as it says, asked once; its usual figure if it does not."""
    if client.unit is None:
        request = client.dialect.status()
        try:
            document = client.get(request).document if request else {}
        except NetError:
            document = {}
        client.unit = client.dialect.unit(document)
    return client.unit


def _read(client: Client) -> dict[str, str] | None:
    """Dollars by request id from the log; None, and a warning, if it cannot be read."""
    request = client.dialect.log()
    assert request is not None
    try:
        return client.dialect.read_log(client.get(request).document, unit_of(client))
    except NetError as error:
        client.emit(Warned(f"the gateway's log cannot be read: {error.message}"))
        return None


def _keep(client: Client, number: int, usd: str) -> None:
    if client.ledger is not None:
        client.ledger.record({"cost": usd, "source": "gateway"}, number)
