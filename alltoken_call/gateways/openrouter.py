"""OpenRouter: where it differs from a plain OpenAI-compatible server."""

from __future__ import annotations

from ..errors import UsageError
from ..request import Request
from ..wire import inside
from . import pictures
from .figures import dollars
from .openai import OpenAI

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from ..values import Film, Picture


class OpenRouter(OpenAI):
    """OpenRouter: images come through chat, videos have another API, and the key may ask what is left."""

    def image(self, picture: Picture, *, key: str = "", uploads: Mapping[str, str] | None = None) -> Request:  # noqa: ARG002
        """All images go through chat."""
        if picture.via == "images":
            raise UsageError("OpenRouter makes images through chat only")
        return pictures.chat_request(self.root, picture, modalities=True)

    def video(self, film: Film, uploads: Mapping[str, str] | None = None) -> Request:  # noqa: ARG002
        """Not here."""
        raise UsageError("OpenRouter has another API for videos, which alltoken-call does not speak")

    def balance(self) -> Request:
        """What the key has left."""
        return Request("GET", f"{self.root}/v1/key")

    def read_balance(self, document: Mapping[str, Any], unit: int) -> dict[str, str | None]:  # noqa: ARG002  # dollars
        """Dollars: the limit of the key may be null: no limit."""
        found = inside(document)
        names = {"left": "limit_remaining", "used": "usage", "granted": "limit"}
        costs = {label: dollars(found.get(name)) for label, name in names.items()}
        return {label: cost.usd if cost else None for label, cost in costs.items()}
