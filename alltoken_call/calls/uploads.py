"""Local files as input: presign, then PUT, with checksums and without the key. The upload URL is a secret."""

from __future__ import annotations

import base64
import hashlib
import os

from ..errors import NetError, UsageError
from ..net.download import refused
from ..net.transport import is_allowed
from ..request import Request, Upload
from ..store import files
from ..wire import text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..gateways.openai import OpenAI
    from .client import Client

_IMAGES = ("image/png", "image/jpeg", "image/webp")
_VIDEOS = ("video/mp4", "video/webm", "video/quicktime")
_SOUNDS = ("audio/wav", "audio/mpeg", "audio/mp4", "audio/aac", "audio/ogg")
TYPES = (*_IMAGES, *_VIDEOS, *_SOUNDS)  # that the gateway takes
REFERENCES = (*TYPES, "image/gif", "image/heic", "image/bmp")  # what gateways take that get the file in the request


def local_file(path: str | os.PathLike[str], dialect: OpenAI, kinds: tuple[str, ...] = ("image",)) -> Upload:
    """A file of one of the `kinds` that goes into a request. Raises `UsageError` if it cannot be read, or is not of a
    media type that the gateway takes."""
    path = os.fspath(path)
    data = files.read_input(path)
    found = files.media_type(data) or ""
    types = REFERENCES if dialect.at_once else TYPES
    if found not in types or found.partition("/")[0] not in kinds:
        raise UsageError(f"{path} is not of a type that the gateway takes ({' or '.join(kinds)})")
    return Upload(path, data, found)


def source(
    item: str | os.PathLike[str] | None, dialect: OpenAI, kinds: tuple[str, ...] = ("image",)
) -> str | Upload | None:
    """A URL as it is, a local file as `local_file`; None if there is none."""
    if item is None or (isinstance(item, str) and item.lower().startswith(("https://", "http://"))):
        return item
    return local_file(item, dialect, kinds)


def upload(client: Client, file: Upload, purpose: str) -> str:
    """Upload a file; its upload id. Raises `NetError`, and `UsageError` if it is too large."""
    md5 = base64.b64encode(hashlib.md5(file.data, usedforsecurity=False).digest()).decode("ascii")
    body = {
        "purpose": purpose,
        "content_type": file.type,
        "content_length": len(file.data),
        "content_md5": md5,
        "checksum_sha256": hashlib.sha256(file.data).hexdigest(),
    }
    answer = client.get(client.dialect.presign(body)).document
    url, upload_id = text_of(answer.get("upload_url")), text_of(answer.get("upload_id"))
    if url is None or upload_id is None:
        raise NetError("the gateway gave no place to upload to", "protocol", sent=True)
    if not is_allowed(url, client.gateway.root):
        raise NetError("the gateway's upload address is not https, it is not opened", "address")
    largest = answer.get("max_content_length")
    if isinstance(largest, int) and 0 < largest < len(file.data):
        raise UsageError(f"{file.path} is larger than the gateway takes ({largest:,} bytes)")
    required = answer.get("required_headers")
    headers = {"Content-Type": file.type, "Content-MD5": md5}
    if isinstance(required, dict):
        headers = {name: value for name, value in required.items() if isinstance(value, str)}
    request = Request("PUT", url, data=file.data, headers=headers, keyed=False, secret=True)

    def put() -> None:
        response = client.transport.send(request)
        response.close()
        if not 200 <= response.status < 300:
            raise refused("the upload's server refused", response.status)

    client.repeat(put, request)
    return upload_id
