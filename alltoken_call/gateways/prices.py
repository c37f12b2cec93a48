"""Prices and decimal arithmetic. A price that cannot be found is unknown, never zero; a price of 0 is free."""

from __future__ import annotations

import decimal
from decimal import Decimal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    Pair = tuple[Decimal | None, Decimal | None]  # dollars per 1M prompt and completion tokens

EXACT = decimal.Context(prec=160)  # digits: any sum of sums that `amount` takes


def amount(value: object) -> Decimal | None:
    """A sum of US dollars, from a number or a decimal string; None for anything else, negative or not finite."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    text = str(value).strip()
    if not text.isascii() or len(text) > 60 or "_" in text:
        return None
    try:
        number = Decimal(text)
    except decimal.InvalidOperation:
        return None
    # An exponent of thousands would print as thousands of zeros.
    return number if number.is_finite() and not number.is_signed() and abs(number.adjusted()) <= 30 else None


def figure(text: object) -> str | None:
    """A recorded cost, unless it was damaged by hand."""
    return text if isinstance(text, str) and amount(text) is not None else None


def plain(value: Decimal) -> str:
    """A decimal without an exponent: 0.0000188."""
    return format(value, "f")


def first(places: list[Mapping[str, Any]], names: tuple[str, ...]) -> Decimal | None:
    """The first amount under one of `names` in one of `places`."""
    return next((price for place in places for name in names if (price := amount(place.get(name))) is not None), None)


def total(tokens: tuple[int, int], per_million: tuple[Decimal, Decimal]) -> Decimal:
    """The exact price of prompt and completion tokens, in dollars."""
    parts = [EXACT.multiply(Decimal(count), price) for count, price in zip(tokens, per_million)]
    return EXACT.scaleb(EXACT.add(*parts), -6)


def places(value: Decimal, least: int) -> str:
    """A decimal, exact, with at least so many places: 0.2 with 4 is 0.2000."""
    value = value.normalize(EXACT)
    exponent = value.as_tuple().exponent
    return f"{value:.{max(least, -exponent if isinstance(exponent, int) else 0)}f}"
