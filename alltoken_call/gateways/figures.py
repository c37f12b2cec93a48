"""Figures of money in answers."""

from __future__ import annotations

import re

from ..values import Cost

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def dollars(figure: object) -> Cost | None:
    """The gateway's figure: to the digit if it is a plain decimal string, else as a decimal string; None if it is not
    an amount."""
    if figure is None:
        return None
    if isinstance(figure, str) and re.fullmatch(r"[0-9]{1,20}(\.[0-9]{1,30})?", figure):
        return Cost(figure, "gateway")
    from . import prices  # decimal is for those who need it

    amount = prices.amount(figure)
    return None if amount is None else Cost(prices.plain(amount), "gateway")


def dollars_for(figure: object, usage: Mapping[str, Any]) -> Cost | None:
    """As `dollars`, of a call with that usage. 0 with tokens used says that the server has no price, not that the call
    was free: then it is None, too."""
    cost = dollars(figure)
    used = any(type(value) is int and value > 0 for value in usage.values())
    return None if cost is None or (used and is_zero(cost)) else cost


def is_zero(cost: Cost) -> bool:
    """Whether a figure is 0."""
    return not (cost.usd or "").strip("0.")
