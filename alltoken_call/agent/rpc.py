"""JSON-RPC over a child's pipes: a message a line, whatever else the child writes.

Memory is bounded: a line may have 16 MiB, as bytes and as text, and of stderr the end is kept.
"""

from __future__ import annotations

import json
import re

from ..wire import parse_json
from .pipes import CHUNK, Ends
from .process import ERRORS, WAKE, end_group, spawn, waited

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

LONGEST_LINE = 16 << 20  # bytes
LARGEST_TEXT = 14 << 20  # bytes in memory of a line with wide characters: there are two of it while it is parsed
LARGEST_OUTBOX = 8 << 20  # bytes beside which a child's own requests are not answered
LAST_BREATH = 0.2  # seconds from the end of a child's pipes to its own
METHOD_NOT_FOUND = -32601  # JSON-RPC 2.0 §5.1

_CONTINUATION = bytes(range(0x80, 0xC0))
_ASTRAL = bytes(range(0xF0, 0x100))  # the first bytes of characters that make a text of Python 4 bytes wide
_WIDE = bytes(range(0xC4, 0x100))  # 2 bytes


class Dead(Exception):
    """The child has ended, or cannot be talked to any more; the text says how, with the end of its stderr."""


class TooLong(Exception):
    """A line was longer than 16 MiB, and was dropped."""


class Wire:
    """A child that is talked to. `junk` counts the lines that were no messages."""

    def __init__(self, argv: list[str], environ: Mapping[str, str], cwd: str | None) -> None:
        self.junk = 0
        self._line = bytearray()  # what has come of a line without its end
        self._lines: list[bytearray] = []  # whole ones
        self._skipping = False  # the rest of a line that is too long
        self._dropped = False
        self._errors = Ends(0, 4 * ERRORS)
        self.pipes = spawn(argv, environ, cwd, self._arrived, self._errors.add)

    def send(self, message: Mapping[str, Any]) -> None:
        """Put a message into the outbox."""
        self.pipes.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    def messages(self, wait: float) -> Iterator[dict[str, Any]]:
        """The answers and notifications that come within `wait` seconds, at most 0.1; those of one read.

        Requests of the child are answered. Raises `Dead` and `TooLong`.
        """
        gone = self.pipes.broken or self.pipes.process.poll() is not None
        count = self.pipes.turn(0.0 if gone or self.pipes.ended else min(wait, WAKE))
        while self._lines:
            for message in self._parsed(self._lines.pop(0)):
                if "method" in message and "id" in message:
                    self._answer(message)
                else:
                    yield message
        if self._dropped:
            self._dropped = False
            raise TooLong
        if not count and (gone or self.pipes.ended):
            raise Dead(self.obituary())

    def _arrived(self, data: bytes) -> None:
        """Split what has come into lines."""
        *whole, rest = data.split(b"\n")
        for part in whole:
            self._add(part)
            if not self._skipping:
                self._lines.append(self._line)
            self._line = bytearray()
            self._skipping = False
        self._add(rest)

    def _add(self, part: bytes) -> None:
        if not self._skipping:
            self._line += part
            if len(self._line) > LONGEST_LINE:
                self._line = bytearray()
                self._skipping = self._dropped = True

    def _parsed(self, line: bytearray) -> list[dict[str, Any]]:
        """The messages in a line, mostly one (2025-03-26 has batches); none if it is junk."""
        if not line or line.isspace():
            return []
        text = narrow(line)
        line.clear()  # there is no room for it and for the parsed text
        try:
            value = parse_json(text)
        except ValueError:
            value = None
        found = [item for item in (value if isinstance(value, list) else [value]) if isinstance(item, dict)]
        self.junk += not found
        return found

    def _answer(self, request: dict[str, Any]) -> None:
        """Answer a request of the child: a ping, and that there is nothing else."""
        if len(self.pipes.outbox) > LARGEST_OUTBOX:
            return
        if request["method"] == "ping":
            self.send({"id": request["id"], "result": {}})
        else:
            error = {"code": METHOD_NOT_FOUND, "message": "this client does not offer that"}
            self.send({"id": request["id"], "error": error})

    def discard(self) -> None:
        """Read what has come, for nobody."""
        self.pipes.drain()
        self._lines.clear()

    def errors(self) -> str:
        """The end of stderr so far."""
        self.pipes.drain()
        return self._errors.last(ERRORS)

    def obituary(self) -> str:
        """How the child ended; its group is ended with it."""
        process = self.pipes.process
        waited(lambda: process.poll() is not None, LAST_BREATH)  # its pipes end first
        status = process.poll()
        end_group(process)
        if status is None:
            how = "closed its stdin or stdout"
        elif status < 0:
            how = f"was ended by signal {-status}"
        else:
            how = f"ended with exit status {status}"
        errors = self.errors()
        return f"{how}: {errors}" if errors else how


def narrow(line: bytearray) -> str:
    """A line's text. One wide character makes all of a text 2 or 4 times as wide in memory; if it would be too large,
    such characters become "?", and their escapes are shown as they are. The line is changed."""
    if len(line) > LARGEST_TEXT // 4:
        characters = len(line.translate(None, _CONTINUATION))
        for width, first in ((4, _ASTRAL), (2, _WIDE)):
            if characters * width > LARGEST_TEXT and re.search(b"[%b]" % first, line):
                table = bytes(ord("?") if byte in first else byte for byte in range(256))
                _change(line, lambda piece, table=table: piece.translate(table))  # type: ignore[misc]
        width = 4 if re.search(rb"\\u[dD][89abAB]", line) else 2
        if (characters - 5 * line.count(b"\\u")) * width > LARGEST_TEXT:
            _change(line, lambda piece: piece.replace(b"\\u", b"/u"))  # JSON, also where a backslash comes before it
    return line.decode("utf-8", "ignore")


def _change(line: bytearray, change: Callable[[bytearray], bytearray]) -> None:
    """Change a line piece by piece: there is no room for two of it. An escape's beginning stays in one piece."""
    at = 0
    while at < len(line):
        end = at + CHUNK
        while line[end - 1 : end] == b"\\":
            end += 1
        line[at:end] = change(line[at:end])
        at = end
