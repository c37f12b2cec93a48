"""The gateway's lists of models and their prices."""

from __future__ import annotations

from ..errors import CallError, NetError
from ..values import Cost
from ..wire import inside, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from decimal import Decimal
    from typing import Any

    from ..gateways.prices import Prices
    from ..request import Request
    from ..values import Result
    from .client import Client

PRICE_PATIENCE = 0.5  # seconds after which prices that have not come are not asked for again
HINT_PATIENCE = 5.0  # seconds that the names in a hint are worth


def listing(client: Client, kind: str, *, priced: bool = False) -> list[tuple[str, dict[str, Any], Request]]:
    """The models of a kind (chat, image, video or all), each with its id, its entry and the list that has it: the live
    lists, or the public price list. Raises `NetError`."""
    found: dict[str, tuple[str, dict[str, Any], Request]] = {}
    for request in [client.dialect.price_list()] if priced else client.dialect.model_lists(kind):
        for name, entry in _entries(client, request):
            if client.dialect.is_of(entry, kind, request):
                found.setdefault(name, (name, entry, request))
    return list(found.values())


def catalog(client: Client) -> dict[str, dict[str, Any]]:
    """Every entry of the public price list by its id. No key is sent. Raises `NetError`."""
    return dict(_entries(client, client.dialect.price_list()))


def _entries(client: Client, request: Request) -> list[tuple[str, dict[str, Any]]]:
    reply = client.get(request)
    found = client.dialect.entries(reply.document)
    if found is None:
        message = "the gateway's answer is not a list of models"
        raise NetError(message, "protocol", sent=True, request_id=reply.request_id)
    return found


def page(client: Client, name: str) -> Any:
    """What a public page of the gateway holds, out of its envelope. Raises `NetError`, and `UsageError` if the gateway
    has no such page."""
    document = client.get(client.dialect.page(name)).document
    return document.get("data", document)


def price_entry(client: Client, model: str) -> dict[str, Any]:
    """What the price list says of one model. Raises `NetError`; `CallError` with status 1 if it does not know it."""
    request = client.dialect.price_entry(model)
    found: dict[str, Any] = {}
    if request is None:
        found = catalog(client).get(model, {})
    elif model not in (".", ".."):  # another place in the URL, which no quoting changes
        try:
            found = inside(client.get(request).document)
        except NetError as error:
            if error.http != 404:
                raise
    if not found or not any(text_of(value) or isinstance(value, (int, float, dict)) for value in found.values()):
        hint = "`alltoken-call models` lists what there is"
        raise CallError(f"the price list does not know {model}", code="unknown_model", hint=hint)
    return found


def _prices_of(client: Client, model: str, within: float) -> Prices | None:
    """The prices of a model, asked for once, in about `within` seconds; None if there is trouble, which is not told."""
    dialect = client.dialect
    single = dialect.price_entry(model)
    document = _in_time(client, single or dialect.price_list(), within)
    if document is None:
        return None
    return dialect.prices(inside(document) if single else dict(dialect.entries(document) or ()).get(model, {}))


def learn_prices(client: Client, model: str | None, within: float) -> Prices | None:
    """The prices of a model, asked for once in about `within` seconds; trouble with them is silent."""
    if model is None or client.gateway.local:
        return None
    hasty = within < PRICE_PATIENCE  # so short a time decides nothing: there is one more try
    if within > 0 and model not in client.prices and not (hasty and model in client.hurried):
        client.hurried.add(model)
        found = _prices_of(client, model, within)
        if found is not None or not hasty:
            client.prices[model] = found
    return client.prices.get(model)


def estimate(client: Client, result: Result, count: Decimal | int | None = 1, within: float = 5.0) -> Cost | None:
    """What a result costs by the gateway's prices, for the tokens that it used or for `count` calls, None if that
    is not known; exact, with at least ten places. None if that cannot be known."""
    found = learn_prices(client, result.model, within)
    usd = found.estimate(result.usage or {}, count) if found else None
    if usd is None:
        return None
    from ..gateways.prices import places

    return Cost(places(usd, 10), "estimate")


def nearest(client: Client, model: str) -> list[str]:
    """The ids in the live list that are most like `model`, for a hint; none if there is trouble, which is not told."""
    import difflib

    mixed = client.dialect.model_lists("chat")[0]  # it has the models of every kind
    document = _in_time(client, mixed, HINT_PATIENCE)
    names = [name for name, _ in client.dialect.entries(document or {}) or ()]
    return difflib.get_close_matches(model, names, 3, 0.5)


def _in_time(client: Client, request: Request, within: float) -> dict[str, Any] | None:
    """The answer to one attempt, which may take about `within` seconds; None if there is trouble."""
    try:
        response = client.once(request.but(silence=within))
        response.limit(within)
        return client.read(response).document
    except NetError:
        return None
