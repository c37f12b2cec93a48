"""The one completed answer of an image task: onto disk as it arrives, and the images out of it.

The gateway delivers the bytes once. So they are on disk before anything looks at them: in the state directory, beside
the output where that cannot be, in memory where no disk takes them. A whole spool is named after its task and found
again by `--resume`; one that is still arriving, or was cut, ends in `.part`.

An image of 30 MB is a JSON string of 40 MB. It is decoded block by block, and only the rest is parsed as JSON.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import io
import os
import re
import tempfile

from . import files
from .wire import object_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, BinaryIO

    from .connection import Response

BLOCK = 1 << 20  # bytes of the spool that are decoded at a time
_START = re.compile(rb'"b64_json"\s*:\s*"')
_LONGEST_START = 64  # bytes that a start cut by a block's end may have
_MAGIC = re.compile(rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|GIF8[79]a|RIFF....WEBP", re.DOTALL)


def name_of(task_id: str) -> str:
    """A task's name as a file's name: nothing from the network becomes a path."""
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", task_id):
        return task_id
    return hashlib.sha256(task_id.encode("utf-8", "replace")).hexdigest()[:32]


class Spool:
    """Where one answer is kept: a file, or memory where no folder took it."""

    def __init__(self, folders: list[str], task_id: str) -> None:
        """`folders` are tried in turn, the temporary one last; a whole spool of an earlier run is found in them."""
        self._folders = [*folders, tempfile.gettempdir()]
        self._name = f"{name_of(task_id)}.json"
        self._file: BinaryIO | None = None
        self._memory: bytearray | None = None
        self.path: str | None = next(
            (path for folder in folders if os.path.isfile(path := os.path.join(folder, self._name))), None
        )
        self.whole = self.path is not None  # an earlier run has left it

    def receive(self, response: Response, is_last: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Read an answer; what a small one says, or, where it may be the last one, {} with the answer kept.

        Raises `NetworkError` where it breaks off; what came is kept.
        """
        data = response.read()
        document = object_of(data)  # an object is whole, so that nothing more can come
        if document and not is_last(document):
            return document
        self.remove()
        while data:
            self._write(data)
            data = response.read()
        if self._file is not None and self.path is not None:
            try:
                files.sync(self._file)
                self._file.close()
                whole = os.path.join(os.path.dirname(self.path), self._name)
                os.replace(self.path, whole)
                self.path = whole
            except OSError:
                self._to_memory()
        self.whole = True
        return {}

    def _write(self, data: bytes) -> None:
        while self._memory is None:
            try:
                if self._file is None:
                    files.make_private(self._folders[0])
                    self._file, self.path = files.part_of(os.path.join(self._folders[0], self._name), 0o600)
                self._file.write(data)
                self._file.flush()
                return
            except OSError:
                self._folders = self._folders[1:]
                self._move()
        self._memory += data

    def _move(self) -> None:
        """Take what a full folder holds to the next one, or into memory."""
        full, held = self._file, self.path
        self._file = None
        saved = b""
        if full is not None:
            full.seek(0)
            saved = full.read()
            full.close()
        if held is not None:
            files.discard(held)
            self.path = None
        if not self._folders:
            self._memory = bytearray()
        if saved:
            self._write(saved)

    def _to_memory(self) -> None:
        self._folders = []
        self._move()

    def open(self) -> BinaryIO:
        """The whole answer, to be read. Raises OSError."""
        return io.BytesIO(self._memory) if self._memory is not None else open(self.path or "", "rb")

    def spoil(self) -> None:
        """The answer is whole and useless: keep it under a name under which `--resume` does not find it."""
        self.whole = False
        if self.path is not None:
            with contextlib.suppress(OSError):
                os.replace(self.path, f"{self.path}.part")
                self.path = f"{self.path}.part"

    def remove(self) -> None:
        """The answer is not needed any more."""
        if self._file is not None:
            self._file.close()
        if self.path is not None:
            files.discard(self.path)
        self._file = self.path = self._memory = None
        self.whole = False


class Part:
    """One image out of a spool, in a file of its own. `sound`: strict base64, and an image by its first bytes."""

    def __init__(self, file: BinaryIO, path: str) -> None:
        self.path = path
        self.size = 0
        self.sound = True
        self._file = file
        self._rest = b""
        self._ended = False  # padding was seen
        self._head = b""

    def add(self, encoded: bytes) -> None:
        """Decode a piece. Raises OSError where the file cannot take it."""
        encoded = self._rest + encoded
        if b"\\" in encoded:
            encoded = encoded.replace(b"\\/", b"/")  # JSON may write a slash so
        whole = len(encoded) - len(encoded) % 4 - 4 * encoded.endswith(b"\\")
        piece, self._rest = encoded[:whole], encoded[whole:]
        if piece and self.sound:
            try:
                data = base64.b64decode(piece, validate=True)
            except binascii.Error:
                self.sound = False
                return
            self.sound = not self._ended
            self._ended = piece.endswith(b"=")
            self._head = self._head or data[:16]
            self.size += self._file.write(data)

    def end(self) -> None:
        """No more pieces come. Raises OSError."""
        self.sound = self.sound and not self._rest and bool(_MAGIC.match(self._head))
        files.sync(self._file)
        self._file.close()

    def discard(self) -> None:
        """Remove the file."""
        self._file.close()
        files.discard(self.path)


def is_image(head: bytes) -> bool:
    """Whether a file that begins so is a PNG, JPEG, WebP or GIF."""
    return bool(_MAGIC.match(head))


def extract(source: BinaryIO, target: str) -> tuple[dict[str, Any], list[Part]]:
    """The answer in `source`, with each `b64_json` replaced by the number of its part, and the parts, which lie
    beside `target`. Raises OSError, and leaves no part then.
    """
    parts: list[Part] = []
    rest = bytearray()
    part = None
    data = b""
    try:
        while True:
            block = source.read(BLOCK)
            data += block
            while data:
                if part is None:
                    start = _START.search(data)
                    if start is None:
                        keep = _LONGEST_START if block else 0
                        rest += data[: len(data) - keep] if len(data) > keep else b""
                        data = data[len(data) - keep :] if len(data) > keep else data
                        break
                    part = Part(*files.part_of(target))
                    rest += data[: start.end()] + str(len(parts)).encode()
                    parts.append(part)
                    data = data[start.end() :]
                end = data.find(b'"')
                part.add(data if end < 0 else data[:end])
                data = b"" if end < 0 else data[end:]
                if end >= 0:
                    part.end()
                    part = None
            if not block:
                break
        if part is not None:
            part.end()
            part.sound = False
    except BaseException:
        for made in parts:
            made.discard()
        raise
    return object_of(bytes(rest)), parts
