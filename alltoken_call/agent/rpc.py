"""JSON-RPC over a server's pipes: a message a line, whatever else the server writes.

Memory is bounded: a line may have 16 MiB, as bytes and as text, and of stderr the end is kept.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess

from ..wire import objects_in, parse_json
from .process import WAKE, Process, end_groups

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

LONGEST_LINE = 16 << 20  # bytes
LARGEST_TEXT = 14 << 20  # bytes in memory of a line with wide characters: there are two of it while it is parsed
LAST_BREATH = 0.2  # seconds from the end of a process's pipes to its own
METHOD_NOT_FOUND = -32601  # JSON-RPC 2.0 §5.1
TOO_LONG = b'{"id": null, "error": {"message": "a line of more than 16 MiB was dropped; it may have taken effect"}}'


class Wire(Process):
    """A server that is talked to. `fate` is empty, or says how it has ended, with the end of its stderr."""

    def __init__(self, argv: list[str], environ: Mapping[str, str], cwd: str | None) -> None:
        self.fate = ""
        self._line: bytearray | None = bytearray()  # what has come of a line; None: it is too long
        self._lines: list[bytearray] = []  # whole ones
        super().__init__(argv, environ, cwd, self._arrived)

    def send(self, **message: Any) -> None:
        """Give it a message when it reads."""
        self.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    def messages(self, wait: float) -> Iterator[dict[str, Any]]:
        """The answers and notifications that come within `wait` seconds, at most 0.1; its requests are answered.

        A line that is too long is an error without an id.
        """
        over = self.hung_up or self.poll() is not None
        if over:
            self.drain()
        else:
            self.turn(min(wait, WAKE))
        while self._lines:
            for message in _parsed(self._lines.pop(0)):
                if "method" not in message or "id" not in message:
                    yield message
                elif message["method"] == "ping":
                    self.send(id=message["id"], result={})
                else:
                    error = {"code": METHOD_NOT_FOUND, "message": "this client does not offer that"}
                    self.send(id=message["id"], error=error)
        if over and not self.fate:
            self._bury()

    def close(self) -> None:
        """Give the pipes up."""
        self.fate = self.fate or "was closed"
        super().close()

    def _arrived(self, data: bytes) -> None:
        """Split what has come into lines."""
        if self.stdin.closed:  # nobody waits for it any more
            return
        for number, part in enumerate(data.split(b"\n")):
            if number:
                self._lines += [self._line] if self._line else []
                self._line = bytearray()
            if self._line is not None:
                self._line += part
                if len(self._line) > LONGEST_LINE:
                    self._line = None
                    self._lines.append(bytearray(TOO_LONG))

    def _bury(self) -> None:
        """Say how it has ended, and end its group with it."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(LAST_BREATH)
        status = self.poll()
        self.close_stdin()
        end_groups(self)
        if status is None:
            how = "closed its stdin or stdout"
        elif status < 0:
            how = f"was ended by signal {-status}"
        else:
            how = f"ended with exit status {status}"
        errors = self.end_of_stderr()
        self.fate = f"{how}: {errors}" if errors else how


def _parsed(line: bytearray) -> list[dict[str, Any]]:
    """The messages in a line, mostly one (2025-03-26 has batches); none if it is junk."""
    text = _narrow(line)
    line.clear()  # there is no room for it and for the parsed text
    try:
        value = parse_json(text)
    except ValueError:
        return []
    return objects_in(value if isinstance(value, list) else [value])


def _narrow(line: bytearray) -> str:
    """A line's text. One wide character makes all of a text 2 or 4 times as wide in memory; if it would be too large,
    such characters become "?", and their escapes are shown as they are. The line is changed."""
    characters = len(line.translate(None, bytes(range(0x80, 0xC0))))
    for width, first, escape in ((4, 0xF0, rb"\\u[dD]"), (2, 0xC4, rb"\\u")):
        if characters * width > LARGEST_TEXT:
            line[:] = line.translate(bytes(ord("?") if byte >= first else byte for byte in range(256)))
            for found in re.finditer(escape, line):
                line[found.start()] = ord("/")  # JSON, also where a backslash comes before it
    return line.decode("utf-8", "ignore")
