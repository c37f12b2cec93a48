"""Catalog prices and decimal arithmetic. A price that cannot be found is unknown, never zero; a price of 0 is free.

The catalog's field names have changed over time (PROTOCOL: Models), so every known name and wrapping is tried.
"""

from __future__ import annotations

import decimal
from decimal import Decimal

from ..errors import ApiError, CallError
from ..wire import segment, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..net.transport import Transport

CATALOG = "/api-account/models"
_IDS = ("id", "model_id", "model_path", "name")
_NAMES = (("input_price", "prompt_price"), ("output_price", "completion_price"))
EXACT = decimal.Context(prec=120)  # digits: any sum of sums that `amount` takes


def entries(document: object) -> list[dict[str, Any]]:
    """The models of a list in any of its shapes: bare, or under `data`; what is not an object is passed over."""
    while isinstance(document, dict):
        document = document.get("data")
    return [entry for entry in document if isinstance(entry, dict)] if isinstance(document, list) else []


def model_id(entry: dict[str, Any]) -> str | None:
    """The id of a model's entry, under whichever name it has."""
    return next((value for name in _IDS if (value := text_of(entry.get(name)))), None)


def amount(value: object) -> Decimal | None:
    """A sum of US dollars, from a number or a decimal string; None for anything else, negative or not finite."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    text = str(value).strip()
    if not text.isascii() or len(text) > 40 or "_" in text:
        return None
    try:
        number = Decimal(text)
    except decimal.InvalidOperation:
        return None
    # An exponent of thousands would print as thousands of zeros.
    return number if number.is_finite() and not number.is_signed() and abs(number.adjusted()) < 30 else None


def plain(value: Decimal) -> str:
    """A decimal without an exponent: 0.0000188."""
    return format(value, "f")


def prices(entry: dict[str, Any]) -> tuple[Decimal | None, Decimal | None]:
    """Input and output price in dollars per 1M tokens; None where unknown."""
    inner = [value for name in ("pricing", "data") if isinstance(value := entry.get(name), dict)]
    spots = [entry, *inner, *(value for place in inner if isinstance(value := place.get("pricing"), dict))]
    found = [
        next((price for spot in spots for name in names if (price := amount(spot.get(name))) is not None), None)
        for names in _NAMES
    ]
    return found[0], found[1]


def total(tokens: tuple[int, int], per_million: tuple[Decimal, Decimal]) -> Decimal:
    """The exact price of prompt and completion tokens, in dollars."""
    parts = [EXACT.multiply(Decimal(count), price) for count, price in zip(tokens, per_million)]
    return EXACT.scaleb(EXACT.add(*parts), -6)


def listed(transport: Transport, path: str) -> list[tuple[str, dict[str, Any]]]:
    """The models of a list at the gateway, each with its id. Raises as `Transport.get`."""
    return [(name, entry) for entry in entries(transport.get(path)) if (name := model_id(entry))]


def catalog(transport: Transport) -> dict[str, dict[str, Any]]:
    """Every entry of the public catalog by its id. No key is sent. Raises as `Transport.get`."""
    return dict(listed(transport, CATALOG))


def entry(transport: Transport, model: str) -> dict[str, Any]:
    """What the public catalog says of one model. No key is sent. Raises as `Transport.get`; `CallError` with status 1
    where it does not know the model."""
    try:
        # Dots alone would be another place in the URL, which no quoting changes.
        document = {} if model in (".", "..") else transport.get(f"{CATALOG}/{segment(model)}")
    except ApiError as error:
        if error.http != 404:
            raise
        document = {}
    found = document.get("data") if isinstance(document.get("data"), dict) else document
    if not found:
        hint = "alltoken-call models lists what there is"
        raise CallError(f"the catalog does not know {model}", code="unknown_model", hint=hint)
    return found


def places(value: Decimal, least: int) -> str:
    """A decimal, exact, with at least so many places: 0.2 with 4 is 0.2000."""
    value = value.normalize(EXACT)
    exponent = value.as_tuple().exponent
    return f"{value:.{max(least, -exponent if isinstance(exponent, int) else 0)}f}"
