"""The entries of a list of models, in any of its shapes."""

from __future__ import annotations

from ..wire import objects_in, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def entries_of(document: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]] | None:
    """The models of a list, each with its id; None if it is not a list."""
    found: Any = document
    while isinstance(found, dict):
        found = found.get("data")
    if not isinstance(found, list):
        return None
    return [(name, entry) for entry in objects_in(found) if (name := model_id(entry))]


def model_id(entry: Mapping[str, Any]) -> str | None:
    """The id of a model's entry, under whichever name it has."""
    names = ("id", "model_id", "model_path", "model_name", "name")
    return next((value for name in names if (value := text_of(entry.get(name)))), None)


def kinds(entry: Mapping[str, Any]) -> set[str]:
    """chat, image, video: what an entry says that its model makes; empty if it does not say."""
    architecture = entry.get("architecture")
    outputs = (
        architecture.get("output_modalities") if isinstance(architecture, dict) else entry.get("output_modalities")
    )
    words = [word.lower() for word in outputs if isinstance(word, str)] if isinstance(outputs, list) else []
    words += [(text_of(entry.get("modality")) or "").lower(), (text_of(entry.get("type")) or "").lower()]
    endpoints = entry.get("supported_endpoint_types")
    if isinstance(endpoints, list):  # a hint: new-api says "openai" of many image and video models as well
        words += {"image-generation": ["image"], "openai-video": ["video"]}.get(
            str(endpoints[0] if endpoints else ""), []
        )
    known = dict.fromkeys(("text", "vision", "chat", "llm", "vlm"), "chat") | {"image": "image", "video": "video"}
    return {known[word] for word in words if word in known}
