"""What differs between gateways, without I/O."""

from __future__ import annotations

from .openai import OpenAI

TYPE_CHECKING = False
if TYPE_CHECKING:
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
        from .openai import OpenRouter

        return OpenRouter(gateway.root)
    return OpenAI(gateway.root)
