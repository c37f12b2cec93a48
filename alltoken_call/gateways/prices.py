"""Prices and decimal arithmetic. A price that cannot be found is unknown, never zero; a price of 0 is free."""

from __future__ import annotations

import decimal
from decimal import Decimal

from ..wire import as_object, tokens

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

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


def first(places: Sequence[Mapping[str, Any]], names: tuple[str, ...]) -> Decimal | None:
    """The first amount under one of `names` in one of `places`."""
    return next((price for place in places for name in names if (price := amount(place.get(name))) is not None), None)


class Prices:
    """What a model costs, as far as it is known: dollars per 1M tokens, or `call` dollars for each image or call.

    `cached`, `created` and `image` are for prompt tokens that were read from or written to a cache, or are of an
    image; if they are None, such tokens cost as `input`. `note` says what the prices hold for.
    """

    def __init__(
        self,
        input: Decimal | None = None,
        output: Decimal | None = None,
        *,
        cached: Decimal | None = None,
        created: Decimal | None = None,
        image: Decimal | None = None,
        call: Decimal | None = None,
        note: str = "",
    ) -> None:
        self.input = input
        self.output = output
        self.cached = cached
        self.created = created
        self.image = image
        self.call = call
        self.note = note

    @property
    def known(self) -> bool:
        """Whether an estimate can be made of them."""
        return self.call is not None or (self.input is not None and self.output is not None)

    def estimate(self, usage: Mapping[str, Any], count: Decimal | int | None = 1) -> Decimal | None:
        """The exact price of the tokens in a usage block, or of `count` calls, None if that is not known; None if it
        cannot be known."""
        if self.call is not None:
            return None if count is None else EXACT.multiply(self.call, Decimal(count))
        prompt, completion = (
            tokens(usage, "prompt_tokens", "input_tokens"),
            tokens(usage, "completion_tokens", "output_tokens"),
        )
        if prompt is None and completion is not None:  # videos tell the sum instead
            whole = tokens(usage, "total_tokens")
            prompt = None if whole is None else max(0, whole - completion)
        if self.input is None or self.output is None or prompt is None or completion is None:
            return None
        details = as_object(usage.get("prompt_tokens_details") or usage.get("input_tokens_details"))
        total = EXACT.multiply(Decimal(completion), self.output)
        for price, names in (
            (self.cached, ("cached_tokens",)),
            (self.created, ("cached_creation_tokens", "cache_creation_tokens", "cache_write_tokens")),
            (self.image, ("image_tokens",)),
        ):
            part = min(tokens(details, *names) or 0, prompt) if price is not None else 0
            if part and price is not None:
                prompt -= part
                total = EXACT.add(total, EXACT.multiply(Decimal(part), price))
        total = EXACT.add(total, EXACT.multiply(Decimal(prompt), self.input))
        return EXACT.scaleb(total, -6)


def places(value: Decimal, least: int) -> str:
    """A decimal, exact, with at least so many places: 0.2 with 4 is 0.2000."""
    value = value.normalize(EXACT)
    exponent = value.as_tuple().exponent
    return f"{value:.{max(least, -exponent if isinstance(exponent, int) else 0)}f}"


def dollars_of(quota: int, unit: int) -> str:
    """An amount in a gateway's own unit as dollars, exact; `unit` is how much of it is one dollar."""
    return places(EXACT.divide(quota, unit), 6)
