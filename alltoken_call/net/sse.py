"""Server-sent events by WHATWG's rules: bytes in, events and comments out.

Strategy: `feed` takes whatever a read gave, splits it into lines with `bytes.splitlines` (which for bytes splits at
LF, CR and CRLF only, so U+2028 and vertical tabs stay text), and interprets each whole line. The rest of an
unfinished line waits in a bytearray. An event that the stream's end leaves unfinished is dropped, as the standard
demands. Parsing never reads and never logs. https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT = 64 << 20  # bytes: one line, or the data lines of one event; a whole image may come in one
_BOM = b"\xef\xbb\xbf"

# The kinds of items. A stray line is not a field of the standard, but may be a JSON object: so some relays write
# errors.
EVENT, COMMENT, STRAY = "event", "comment", "stray"


class LimitExceeded(ValueError):
    """A line or an event is larger than `LIMIT`."""


class Parser:
    """The state of one stream."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._tail = bytearray()  # an unfinished line
        self._skip_lf = False  # the last read ended in CR: an LF at the start of the next belongs to it
        self._first = True  # the next line is the first: a BOM may stand before it
        self._data: list[str] = []
        self._size = 0

    def feed(self, data: bytes) -> Iterator[tuple[str, str]]:
        """What `data` completes, in order, each with its kind. Raises `LimitExceeded`.

        An event is its data, lines joined by LF; a comment is without its colon. An iterator: what it is not asked for
        is not parsed.
        """
        if self._skip_lf and data:
            self._skip_lf = False
            if data.startswith(b"\n"):
                data = data[1:]
        if b"\n" not in data and b"\r" not in data:
            self._tail += data
            self._check(len(self._tail))
            return
        if self._tail:
            data = bytes(self._tail + data)
            self._tail.clear()
        lines = data.splitlines()
        if data.endswith(b"\r"):
            self._skip_lf = True
        elif not data.endswith(b"\n"):
            self._tail += lines.pop()
        for line in lines:
            if line.startswith(b"data: ") and not self._data and not self._first and len(line) < self._limit:
                self._data.append(line[6:].decode("utf-8", "replace"))  # most lines are so
                self._size = len(line) - 4
                continue
            self._check(len(line))
            item = self._line(line)
            if item is not None:
                yield item
        self._check(len(self._tail))

    def close(self) -> tuple[str, str] | None:
        """The stream has ended: a comment with the cost, or an error, may lack its line's end. An event is dropped."""
        item = self._line(bytes(self._tail)) if self._tail else None
        return None if item and item[0] == EVENT else item

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise LimitExceeded(f"a line or an event of more than {self._limit} bytes")

    def _line(self, line: bytes) -> tuple[str, str] | None:
        if self._first:
            self._first = False
            line = line.removeprefix(_BOM)
        if not line:
            return self._dispatch()
        # Decoding line by line equals decoding the stream: neither LF nor CR occurs inside a UTF-8 sequence.
        name, _, value = line.decode("utf-8", "replace").partition(":")
        if not name:
            return COMMENT, value
        if name == "data":
            self._size += max(1, len(line) - len("data"))  # the value's bytes, and one for the line feed to come
            self._check(self._size)
            self._data.append(value.removeprefix(" "))
        elif name.startswith("{"):
            return STRAY, f"{name}:{value}"
        elif name == "error":
            return STRAY, f'{{"error":{value}}}'
        return None

    def _dispatch(self) -> tuple[str, str] | None:
        data = self._data
        if not data:
            return None
        self._data, self._size = [], 0
        return EVENT, "\n".join(data)
