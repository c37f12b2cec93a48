"""The chunked transfer coding (RFC 9112 §7.1): bytes in, body bytes out; never reads.

http.client decodes it too, but hands out one chunk a read, at three calls into the socket's buffer each. A stream
sends a chunk a token: decoding everything that one read gave takes half of the time, and delays nothing.
"""

from __future__ import annotations

LONGEST_LINE = 4096  # bytes of a chunk's size and extensions


class Dechunker:
    """The state of one body. `ended` once its last chunk was seen; trailers are of no use here and left unread.

    `fault` says what broke the coding, after which nothing more is understood; what came before it is given out.
    """

    def __init__(self) -> None:
        self.ended = False
        self.fault: str | None = None
        self._rest = b""  # an unfinished line
        self._left = 0  # bytes of the current chunk's data that are still to come
        self._inside = False  # a chunk's data has begun, and its line break has not been seen

    def feed(self, data: bytes) -> bytes:
        """The body bytes in `data`, as far as it follows the coding."""
        data = self._rest + data
        at = 0
        body = []
        while not self.ended and not self.fault:
            if self._left:
                piece = data[at : at + self._left]
                body.append(piece)
                at += len(piece)
                self._left -= len(piece)
            end = data.find(b"\n", at)
            if self._left or end < 0:
                break
            line = data[at:end]
            at = end + 1
            if self._inside:
                if line.strip():
                    self.fault = "a chunk is longer than its size"
                    break
                self._inside = False
                continue
            size = line.partition(b";")[0].strip()
            if not size or len(size) > 15 or size.strip(b"0123456789abcdefABCDEF"):
                self.fault = "a chunk's size is not a hexadecimal number"
                break
            self._left = int(size, 16)
            self._inside = True
            self.ended = not self._left
        self._rest = data[at:]
        if len(self._rest) > LONGEST_LINE and not self.ended:
            self.fault = "a chunk's first line is too long"
        return b"".join(body)
