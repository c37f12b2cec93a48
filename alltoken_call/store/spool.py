"""The one completed answer of an image task: onto disk as it arrives, and the images out of it.

The gateway delivers the bytes once. So they are on disk before anything looks at them: in the state directory, beside
the output where that cannot be, in memory where no disk takes them. A spool is named after its task; `--resume` finds
it, and its content tells whether it is whole.

An image of 30 MB is a JSON string of 40 MB. It is decoded block by block, and only the rest is parsed as JSON.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import glob
import hashlib
import io
import os
import re

from . import files
from ..errors import NetworkError
from ..wire import object_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, BinaryIO

    from ..net.response import Response

LARGEST = 1 << 30  # bytes of an answer: ten images of the largest size, twice over
BLOCK = 1 << 20  # bytes of the spool that are decoded at a time
_START = re.compile(rb'"b64_json"\s*:\s*"')
_LONGEST_START = 64  # bytes that a start cut by a block's end may have


def name_of(task_id: str) -> str:
    """A task's name as a file's name: nothing from the network becomes a path."""
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", task_id):
        return task_id
    return hashlib.sha256(task_id.encode("utf-8", "replace")).hexdigest()[:32]


def is_image(head: bytes) -> bool:
    """Whether a file that begins so is a PNG, JPEG, WebP or GIF."""
    return (files.media_type(head) or "").startswith("image/")


class Spool:
    """Where one answer is kept: a file, or memory where no folder took it.

    `folders` are tried in turn, the temporary one last. `left` are the paths of what earlier runs have left there.
    """

    def __init__(self, folders: list[str], task_id: str) -> None:
        self._name = name_of(task_id)
        self.left = [path for folder in folders for path in glob.glob(f"{glob.escape(folder)}/{self._name}.*.json")]
        self._cut: str | None = None  # the largest answer of this run that broke off
        self._cut_size = 0
        self.path: str | None = None
        self._folders = [*folders, files.temporary()]
        self._file: int | None = None  # a descriptor: a buffer would hide which bytes a full disk has taken
        self._size = 0  # bytes that the file has taken
        self._memory: bytearray | None = None

    def receive(
        self, response: Response, begun: Callable[[], None], is_last: Callable[[dict[str, Any]], bool]
    ) -> dict[str, Any]:
        """Read an answer; what a small one says, or, where it may be the last one, {} and the answer is in the spool.

        `begun` is called at its first byte. Raises `NetworkError` where it breaks off; what came is kept.
        """
        data = response.read()
        begun()
        document = object_of(data)  # an object is whole, so that nothing more can come
        if document and not is_last(document):
            return document
        self._open()
        try:
            while data:
                self._write(data)
                if self._size + len(self._memory or b"") > LARGEST:
                    raise NetworkError(f"the answer is larger than {LARGEST} bytes", code="too_large", sent=True)
                data = response.read()
        except BaseException:
            self.leave()
            raise
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.fsync(self._file)
        return {}

    def leave(self) -> None:
        """The answer broke off: of those of this run, the largest is kept."""
        self._close()
        smaller, self.path = self.path, None
        if self._size > self._cut_size:
            smaller, self._cut, self._cut_size = self._cut, smaller, self._size
        if smaller is not None:
            files.discard(smaller)

    def _open(self) -> None:
        """Begin a new spool in the first folder that lets us."""
        self.path, self._size, self._memory = None, 0, None
        while self._folders:
            path = os.path.join(self._folders[0], f"{self._name}.{os.urandom(4).hex()}.json")
            try:
                files.make_private(self._folders[0])
                self._file, self.path = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600), path
                return
            except OSError:
                self._folders.pop(0)
        self._memory = bytearray()

    def _write(self, data: bytes) -> None:
        while self._file is not None and data:
            try:
                count = os.write(self._file, data)
            except OSError:
                self._move()
            else:
                self._size += count
                data = data[count:]
        if self._memory is not None:
            self._memory += data

    def _move(self) -> None:
        """Take what a full folder holds to the next one, or into memory."""
        saved = b""
        assert self._file is not None
        with contextlib.suppress(OSError):
            os.lseek(self._file, 0, os.SEEK_SET)
            while len(saved) < self._size and (block := os.read(self._file, self._size - len(saved))):
                saved += block
        self._close()
        full, self.path = self.path, None
        self._folders.pop(0)
        self._open()
        if full is not None:
            files.discard(full)
        self._write(saved)

    def _close(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.close(self._file)
            self._file = None

    def open(self) -> io.FileIO | io.BytesIO:
        """The answer, once, to be read from its start.

        By its descriptor: another run that waits for the same task may have removed the file when it had its image.
        """
        if self._file is None:
            return io.BytesIO(self._memory or b"")
        descriptor, self._file = self._file, None
        os.lseek(descriptor, 0, os.SEEK_SET)
        return io.FileIO(descriptor, "rb")

    @property
    def kept(self) -> list[str]:
        """The paths of all that is there of the task's answers."""
        return [path for path in (self.path, self._cut, *self.left) if path]

    def drop(self) -> None:
        """The answer held nothing worth keeping."""
        if self.path is not None:
            files.discard(self.path)
        self.path = self._memory = None

    def remove(self) -> None:
        """The images are in place: nothing of this task is needed any more."""
        for path in self.kept:
            files.discard(path)
        self.path = self._cut = self._memory = None
        self.left = []


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
            if len(self._head) < 16:
                self._head += data[:16]
            self.size += self._file.write(data)

    def end(self, *, cut: bool = False) -> None:
        """No more pieces come. Raises OSError."""
        self.sound = self.sound and not self._rest and not cut and is_image(self._head)
        files.sync(self._file)
        self._file.close()

    def discard(self) -> None:
        """Remove the file."""
        with contextlib.suppress(OSError):
            self._file.close()
        files.discard(self.path)


def extract(source: io.FileIO | io.BytesIO, target: str) -> tuple[dict[str, Any], list[Part]]:
    """The answer in `source`, with each `b64_json` replaced by the number of its part, and the parts, which lie
    beside `target`; {} where it is no whole JSON object. Raises OSError, and leaves no part then.
    """
    parts: list[Part] = []
    rest = bytearray()
    inside = False
    data = b""
    try:
        while block := source.read(BLOCK):
            data += block
            while data:
                if inside:
                    end = data.find(b'"')
                    parts[-1].add(data if end < 0 else data[:end])
                    inside = end < 0
                    data = b"" if inside else data[end:]
                    if not inside:
                        parts[-1].end()
                    continue
                start = _START.search(data)
                if start is None:
                    rest += data[:-_LONGEST_START]
                    data = data[-_LONGEST_START:]
                    break
                rest += data[: start.end()] + str(len(parts)).encode()
                data = data[start.end() :]
                parts.append(Part(*files.part_of(target)))
                inside = True
        if inside:
            parts[-1].end(cut=True)
    except BaseException:
        for made in parts:
            made.discard()
        raise
    return object_of(bytes(rest + data)), parts
