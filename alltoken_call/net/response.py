"""One HTTP answer: its status and headers, and its body piece by piece, whole or said not to be."""

from __future__ import annotations

import math

from .chunked import Dechunker
from ..errors import NetworkError
from ..wire import object_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .exchange import Exchange

BLOCK = 1 << 16  # bytes of one read
LARGEST_PIECE = 1 << 20  # bytes that one read may inflate to
LARGEST_JSON = 64 << 20  # bytes of a JSON answer; image results go to disk and have a bound of their own
_REQUEST_IDS = ("x-request-id", "x-gateway-request-id")


class Response:
    """One HTTP answer: its status and headers, and its body piece by piece."""

    def __init__(self, raw: Any, exchange: Exchange) -> None:
        self._raw = raw
        self._exchange = exchange
        self._chunks = Dechunker() if raw.chunked else None
        self.status = raw.status
        self.bounded = raw.chunked or raw.length is not None  # else its end and a cut look the same
        self.request_id: str | None = next((raw.headers[name] for name in _REQUEST_IDS if raw.headers[name]), None)
        encoding = (raw.headers["Content-Encoding"] or "identity").strip().lower()
        self._inflate: Any = None
        if encoding in ("gzip", "x-gzip", "deflate"):  # not asked for, but paid for
            import zlib

            self._inflate = zlib.decompressobj(47 if "gzip" in encoding else 15)
        self.packed = self._inflate is not None  # lengths and ranges count bytes that we do not see
        self.foreign = encoding if self._inflate is None and encoding != "identity" else None

    def header(self, name: str) -> str | None:
        """A header's value, or None."""
        value: str | None = self._raw.headers[name]
        return value

    def limit(self, seconds: float) -> None:
        """Shorten the patience: all further reads together may take `seconds`."""
        self._exchange.deadline = min(self._exchange.deadline, self._exchange.clock() + seconds)

    def unhurried(self) -> None:
        """Lift the deadline: what follows is worth more than punctuality."""
        self._exchange.deadline = math.inf

    def read(self) -> bytes:
        """The next piece of the body as soon as there is one; b"" at its verified end.

        Raises `NetworkError` where the body is cut short: http.client ends a body that is shorter than its
        Content-Length in silence, so that is counted here.
        """
        while True:
            packed = self._inflate.unconsumed_tail if self._inflate is not None else b""
            with self._exchange.mapped():
                data = packed or self._piece()
            if not data and self._inflate is not None and not self._inflate.eof:
                raise NetworkError(
                    "the compressed answer was cut short", code="connection_lost", sent=True, passing=True
                )
            if not data or self._inflate is None:
                return data
            if data := self._inflated(data):
                return data

    def _piece(self) -> bytes:
        if self._chunks is None:
            data: bytes = self._raw.read1(BLOCK)
            if not data and self._raw.length:
                raise ConnectionError
            return data
        while not self._chunks.ended and not self._chunks.fault:
            received = self._raw.fp.read1(BLOCK)
            if not received:
                raise ConnectionError
            if data := self._chunks.feed(received):
                return data
        if self._chunks.fault:
            raise NetworkError(f"the answer broke off: {self._chunks.fault}", code="protocol", sent=True, passing=True)
        return b""

    def _inflated(self, data: bytes) -> bytes:
        import zlib

        try:
            return bytes(self._inflate.decompress(data, LARGEST_PIECE))
        except zlib.error:
            raise NetworkError("the answer's compression is broken", code="protocol", sent=True) from None

    def body(self, limit: int) -> bytes:
        """The whole body. Raises `NetworkError` where it is cut, or larger than `limit` bytes."""
        parts: list[bytes] = []
        size = 0
        while data := self.read():
            parts.append(data)
            size += len(data)
            if size > limit:
                raise NetworkError(f"the answer is larger than {limit} bytes", code="protocol", sent=True)
        return b"".join(parts)

    def json(self) -> dict[str, Any]:
        """The body as a JSON object; a bare list as its `data`. Raises `NetworkError` where it is neither."""
        try:
            data = self.body(LARGEST_JSON)
        finally:
            self.close()
        value = object_of(b'{"data": %s}' % data if data.lstrip().startswith(b"[") else data)
        if value:
            return value
        error = NetworkError(f"the gateway's answer ({self.status}) is not a JSON object", code="protocol", sent=True)
        error.hint = "is ALLTOKEN_BASE_URL right, and no proxy in between?"
        error.request_id = self.request_id
        raise error

    def close(self) -> None:
        """Close the connection."""
        self._raw.close()
