"""One HTTP answer: its status and headers, and its body piece by piece, whole or said not to be."""

from __future__ import annotations

from ..errors import NetError
from .chunked import Dechunker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .exchange import Exchange

BLOCK = 1 << 16  # bytes of one read
LARGEST_PIECE = 1 << 20  # bytes that one read may inflate to
LARGEST_JSON = 64 << 20  # bytes of a JSON answer; image results go to disk and have a bound of their own


class Response:
    """One HTTP answer: its status and headers, and its body piece by piece."""

    def __init__(self, raw: Any, exchange: Exchange) -> None:
        self._raw = raw
        self._exchange = exchange
        self._chunks = Dechunker() if raw.chunked else None
        self.status: int = raw.status
        self.bounded = raw.chunked or raw.length is not None  # else its end and a cut look the same
        encoding = (raw.headers["Content-Encoding"] or "identity").strip().lower()
        self._inflate: Any = None
        self._window = 47 if "gzip" in encoding else 15
        if encoding in ("gzip", "x-gzip", "deflate"):  # not requested, but the answer must still be read
            self._inflate = self._inflater()
        self.packed = self._inflate is not None  # lengths and ranges count bytes that we do not see
        self.foreign = encoding if self._inflate is None and encoding != "identity" else None

    def header(self, name: str) -> str | None:
        """A header's value, or None."""
        value: str | None = self._raw.headers[name]
        return value

    def limit(self, seconds: float) -> None:
        """Shorten the patience: all further reads together may take `seconds`."""
        self._exchange.deadline = min(self._exchange.deadline, self._exchange.clock() + seconds)

    def extend(self, seconds: float) -> None:
        """Replace the deadline: all further reads together may take `seconds`, whatever --max-wait says.

        For a one-shot result, which must be read to its end.
        """
        self._exchange.deadline = self._exchange.clock() + seconds

    def read(self) -> bytes:
        """The next piece of the body as soon as there is one; b"" at its verified end.

        Raises `NetError` if the body is cut short: http.client ends a body that is shorter than its Content-Length
        in silence, so that is counted here.
        """
        while True:
            packed = self._inflate.unconsumed_tail if self._inflate is not None else b""
            with self._exchange.mapped():
                data = packed or self._piece()
            if not data and self._inflate is not None and not self._inflate.eof:
                raise NetError("the compressed answer was cut short", "connection_lost", sent=True, passing=True)
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
            raise NetError(f"the answer broke off: {self._chunks.fault}", "protocol", sent=True, passing=True)
        return b""

    def _inflater(self) -> Any:
        import zlib

        return zlib.decompressobj(self._window)

    def _inflated(self, data: bytes) -> bytes:
        import zlib

        found = b""
        try:
            while data:
                if self._inflate.eof:  # gzip is a row of members (RFC 1952 §2.2); what follows zeros is padding
                    if self._window == 15 or data.startswith(b"\0"):
                        break
                    self._inflate = self._inflater()
                found += self._inflate.decompress(data, LARGEST_PIECE)
                data = self._inflate.unused_data
        except zlib.error:
            raise NetError("the answer's compression is broken", "protocol", sent=True) from None
        return found

    def body(self, limit: int = LARGEST_JSON) -> bytes:
        """The whole body; closes the connection. Raises `NetError` if it is cut, or larger than `limit` bytes."""
        parts: list[bytes] = []
        size = 0
        try:
            while data := self.read():
                parts.append(data)
                size += len(data)
                if size > limit:
                    raise NetError(f"the answer is larger than {limit} bytes", "too_large", sent=True)
        finally:
            self.close()
        return b"".join(parts)

    def close(self) -> None:
        """Close the connection."""
        self._raw.close()
