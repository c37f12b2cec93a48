"""Images that come at once: requests to the images endpoint and through chat, and the images in their answers."""

from __future__ import annotations

import re

from ..errors import UsageError
from ..request import Repeat, Request
from ..wire import objects_in, text_of
from .openai import refuse_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from ..request import Upload
    from ..values import Picture

PATIENCE = 600.0  # seconds: 4K images take up to 300 s, and nothing comes before the image
ONCE = Repeat(429, bare=(502, 504, 524))  # a proxy in front gives up after 100 s, and the image is billed all the same
MOST_REFERENCES = 14
# Models that make images in a chat: gemini-…-image…, wan2.7-image…, qwen-image…
_IN_CHAT = re.compile(r"gemini-.*-image|wan2\.7-image|qwen-image")
_WANTS_PARTS = re.compile(r"wan|qwen")  # Ali's models refuse a message that is a string
_MARKDOWN = re.compile(r"!\[[^\]]*\]\(\s*<?((?:https?://|data:image/)[^\s)>]+)>?[^)]*\)")
_DATA_URL = re.compile(r"data:image/[a-zA-Z0-9.+-]+;base64,", re.ASCII)


def goes_through_chat(picture: Picture) -> bool:
    """Whether a picture is asked for in a chat: as the user says, else as the model's id says behind its last slash."""
    if picture.via is not None:
        return picture.via == "chat"
    return bool(_IN_CHAT.match(picture.model.rpartition("/")[2].lower()))


def images_request(root: str, picture: Picture) -> Request:
    """POST /v1/images/generations, or multipart /v1/images/edits; only what was given goes along, and always n."""
    why = "is for images that are made through chat"
    refuse_options(("--ratio", picture.ratio), ("--system", picture.system), why=why, hint="add --via chat")
    fields: dict[str, Any] = {"model": picture.model, "prompt": picture.prompt, "n": picture.count or 1}
    given = {
        "size": picture.size,
        "quality": picture.quality,
        "output_format": picture.format,
        "background": picture.background,
    }
    fields |= {name: value for name, value in given.items() if value is not None} | picture.params
    if not picture.edit:
        return Request("POST", f"{root}/v1/images/generations", body=fields, repeat=ONCE, patience=PATIENCE)
    form: list[tuple[str, str | Upload]] = [(name, _as_text(value)) for name, value in fields.items()]
    form += [("image", upload) for upload in picture.edit]
    if picture.mask is not None:
        form.append(("mask", picture.mask))
    return Request("POST", f"{root}/v1/images/edits", form=form, repeat=ONCE, patience=PATIENCE)


def _as_text(value: object) -> str:
    import json

    return value if isinstance(value, str) else json.dumps(value)


def chat_request(root: str, picture: Picture, *, modalities: bool) -> Request:
    """A completion whose answer is an image. `modalities`: a field has to say that an image may come."""
    refuse_options(
        ("--mask", picture.mask),
        ("-n above 1", picture.count if (picture.count or 1) > 1 else None),
        ("--quality", picture.quality),
        ("--format", picture.format),
        ("--background", picture.background),
        why="does not go with images that are made through chat",
        hint="--via images, or another field with -p",
    )
    if len(picture.edit) > MOST_REFERENCES:
        raise UsageError(f"--edit can be given {MOST_REFERENCES} times at most")
    content: Any = picture.prompt
    if picture.edit or _WANTS_PARTS.match(picture.model.rpartition("/")[2].lower()):
        content = [{"type": "text", "text": picture.prompt}, *map(_part, picture.edit)]
    messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
    if picture.system is not None:
        messages.insert(0, {"role": "system", "content": picture.system})
    body: dict[str, Any] = {"model": picture.model, "messages": messages, "stream": False}
    given = {"image_size": picture.size and _size(picture.size), "aspect_ratio": picture.ratio}
    config = {name: value for name, value in given.items() if value is not None}
    if config:
        # Stock new-api reads the literal key extra_body; the relay's own page puts `google` at the top: send both.
        google = {"image_config": config}
        body |= {"extra_body": {"google": google}, "google": google}
    if modalities:
        body["modalities"] = ["image", "text"]
    body |= picture.params
    return Request("POST", f"{root}/v1/chat/completions", body=body, repeat=ONCE, patience=PATIENCE)


def _part(upload: Upload) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": upload.data_url()}}


def _size(text: str) -> str:
    """An image size in a chat: 1K, 2K, 4K (the K in upper case) or 512."""
    if not re.fullmatch(r"[0-9]{1,4}[kK]?", text):
        raise UsageError(f"--size {text!r}: in a chat it is 1K, 2K, 4K or 512, and --ratio W:H sets the shape")
    return text.upper()


def images_of(document: Mapping[str, Any]) -> list[dict[str, str | None]]:
    """The images in an answer of either endpoint, each with its base64 text in `b64_json` or its address in `url`."""
    found: list[dict[str, str | None]] = []
    for entry in objects_in(document.get("data")):
        encoded, address = text_of(entry.get("b64_json")), text_of(entry.get("url"))
        found.append({"b64_json": encoded, "url": address} if encoded or not address else _image(address))
    for message in _messages(document):
        found += map(_image, _addresses(message))
    return [image for image in found if image["b64_json"] or image["url"]]


def text_beside(document: Mapping[str, Any]) -> str:
    """The text that came along with images, without them."""
    texts = []
    for message in _messages(document):
        content = message.get("content")
        parts = objects_in(content) or [{"text": content}]
        texts += [part["text"] for part in parts if isinstance(part.get("text"), str)]
    return " ".join(_MARKDOWN.sub("", text).strip() for text in texts).strip()


def _messages(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    return objects_in([choice.get("message") for choice in objects_in(document.get("choices"))])


def _addresses(message: Mapping[str, Any]) -> list[str]:
    """The addresses of images in a message: content parts, `images`, or markdown."""
    content = message.get("content")
    found: list[str] = []
    for part in [*objects_in(content), *objects_in(message.get("images"))]:
        for value in (part.get("image"), part.get("image_url"), part.get("url")):
            address = text_of(value.get("url") if isinstance(value, dict) else value)
            if address:
                found.append(address)
                break
        else:
            if isinstance(part.get("text"), str):
                found += _MARKDOWN.findall(part["text"])
    if isinstance(content, str):
        found += _MARKDOWN.findall(content)
    return found


def _image(address: str) -> dict[str, str | None]:
    head = _DATA_URL.match(address)
    return {"b64_json": address[head.end() :], "url": None} if head else {"b64_json": None, "url": address}
