"""What differs between gateways, without I/O."""

from __future__ import annotations

from .openai import OpenAI

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..config import Gateway


def dialect(gateway: Gateway, name: str | None = None) -> OpenAI:
    """The dialect that a gateway speaks; `name` is the one that was found out if its own is not known."""
    name = gateway.dialect or name
    if name == "alltoken":
        from .alltoken import AllToken

        return AllToken(gateway.root)
    if name == "new-api":
        from .newapi import NewApi

        return NewApi(gateway.root)
    if gateway.name == "openrouter":
        from .openrouter import OpenRouter

        return OpenRouter(gateway.root)
    return OpenAI(gateway.root)


def told_by(status: int, header: Callable[[str], str | None]) -> str | None:
    """The name of the dialect that an answer's headers show; None if they show none."""
    if header("X-Oneapi-Request-Id") or header("X-New-Api-Version"):
        return "new-api"
    page = (header("Content-Type") or "").lower().startswith("text/html")  # of whoever answers at a wrong address
    return None if status >= 300 or page else "openai"
