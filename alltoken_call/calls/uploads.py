"""Local files as input: presign, then PUT, with checksums and without the key. The upload URL is a secret."""

from __future__ import annotations

import base64
import hashlib

from ..store import files
from ..errors import NetworkError, UsageError
from ..net.transport import READING, allowed_url
from ..wire import text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..net.transport import Transport


class LocalFile:
    """A file's bytes and its media type. Raises `UsageError` where it cannot be read or is of no known type."""

    def __init__(self, path: str, kinds: tuple[str, ...] = ("image",)) -> None:
        self.data = files.read_input(path)
        found = files.media_type(self.data)
        if found in (None, "image/gif") or found.partition("/")[0] not in kinds:  # PROTOCOL: presign
            raise UsageError(f"{path} is no {' or '.join(kinds)} of a type that the gateway takes")
        self.path = path
        self.type: str = found
        self.kind = found.partition("/")[0]


def upload(transport: Transport, file: LocalFile, purpose: str) -> str:
    """Upload a file; its upload id. Raises `ApiError`, `NetworkError`, and `UsageError` where it is too large."""
    md5 = base64.b64encode(hashlib.md5(file.data, usedforsecurity=False).digest()).decode("ascii")
    body = {
        "purpose": purpose,
        "content_type": file.type,
        "content_length": len(file.data),
        "content_md5": md5,
        "checksum_sha256": hashlib.sha256(file.data).hexdigest(),
    }
    answer = transport.request("POST", "/v1/uploads/presign", body, READING, lambda response: response.json())
    url, upload_id = text_of(answer.get("upload_url")), text_of(answer.get("upload_id"))
    if url is None or upload_id is None:
        raise NetworkError("the gateway gave no place to upload to", code="protocol", sent=True)
    if not allowed_url(url, transport.base):
        raise NetworkError("the gateway's upload address is not one that we open", code="address")
    largest = answer.get("max_content_length")
    if isinstance(largest, int) and 0 < largest < len(file.data):
        raise UsageError(f"{file.path} is larger than the gateway takes ({largest:,} bytes)")
    required = answer.get("required_headers")
    headers = {"Content-Type": file.type, "Content-MD5": md5}
    if isinstance(required, dict):
        headers = {name: value for name, value in required.items() if isinstance(value, str)}
    transport.put(url, file.data, headers)
    return upload_id
