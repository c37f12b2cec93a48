"""The one completed answer of an image: onto disk as it arrives, and the images out of it.

The gateway delivers the bytes once. So they are on disk before anything looks at them: in the state directory, in a
directory of ours beside the output if there is none, in memory if no disk takes them. A spool's name is made of a
hash: nothing from the network names a file. `--resume` finds it by its task, and its content tells whether it is whole.

An image of 30 MB is a JSON string of 40 MB. It is decoded block by block, and only the rest is parsed as JSON.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import errno
import hashlib
import io
import os
import re
import stat

from ..wire import object_of
from . import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, BinaryIO

LARGEST = 1 << 30  # bytes of an answer: ten images of the largest size, twice over
BLOCK = 1 << 16  # bytes of the spool that are decoded at a time
BESIDE = ".alltoken-call"  # the directory of ours beside an output
_START = re.compile(rb'"b64_json"\s*:\s*"')
_LONGEST_START = 64  # bytes that a start cut by a block's end may have
_ESCAPE = re.compile(rb"\\(?:u00([0-7][0-9a-fA-F])|(/))")
_HALF_ESCAPE = re.compile(rb"\\(?:u[0-9a-fA-F]{0,3})?\Z")


def name_of(root: str, command: str, task_id: str) -> str:
    """The beginning of the names of a task's spools."""
    return hashlib.sha256(f"{root}\n{command}\n{task_id}".encode("utf-8", "replace")).hexdigest()[:32]


class Spool:
    """Where one answer is kept: a file, or memory if no folder takes it.

    `folders` are tried in turn, then the temporary one. `left` are the paths of what earlier runs have left there.
    """

    def __init__(self, folders: list[str], name: str) -> None:
        self._name = name
        self.left = [path for folder in folders for path in _left_in(folder, name)]
        self.path: str | None = None
        self._cut: str | None = None  # the largest answer of this run that broke off
        self._cut_size = 0
        self._folders: list[str | None] = [*folders, None]  # None: the temporary one, found if it is needed
        self._file: int | None = None  # a descriptor: a buffer would hide which bytes a full disk has taken
        self.size = 0  # bytes of the answer
        self._memory: bytearray | None = None

    def begin(self) -> None:
        """Open a new spool in the first folder that lets us."""
        self.path, self.size, self._memory = None, 0, None
        while self._folders:
            folder = self._folders[0] or files.temporary()
            path = os.path.join(folder, f"{self._name}.{os.urandom(4).hex()}.json")
            try:
                _make(folder)
                self._file, self.path = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600), path
                return
            except OSError:
                self._folders.pop(0)
        self._memory = bytearray()

    def write(self, data: bytes) -> None:
        """Append a piece of the answer; if the disk is full, what there is moves on to the next place."""
        while self._file is not None and data:
            try:
                count = os.write(self._file, data)
            except OSError:
                self._move()
            else:
                self.size += count
                data = data[count:]
        if self._memory is not None:
            self._memory += data
            self.size += len(data)

    def _move(self) -> None:
        saved = b""
        assert self._file is not None
        with contextlib.suppress(OSError):
            os.lseek(self._file, 0, os.SEEK_SET)
            while len(saved) < self.size and (block := os.read(self._file, self.size - len(saved))):
                saved += block
        self._close()
        full, self.path = self.path, None
        self._folders.pop(0)
        self.begin()
        if full is not None:
            self._remove([full])
        self.write(saved)

    def whole(self) -> io.FileIO | io.BytesIO:
        """The answer is complete: sync it, and return it open, to be read once from its start.

        By its descriptor: another run that waits for the same task may have removed the file when it had its image.
        """
        if self._file is None:
            return io.BytesIO(self._memory or b"")
        descriptor, self._file = self._file, None
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
        os.lseek(descriptor, 0, os.SEEK_SET)
        return io.FileIO(descriptor, "rb")

    def leave(self) -> None:
        """The answer broke off: of those of this run, the largest is kept."""
        self._close()
        smaller, self.path = self.path, None
        if self.size > self._cut_size:
            smaller, self._cut, self._cut_size = self._cut, smaller, self.size
        if smaller is not None:
            self._remove([smaller])

    def _close(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.close(self._file)
            self._file = None

    @property
    def kept(self) -> list[str]:
        """The paths of all that is there of the task's answers."""
        return [path for path in (self.path, self._cut, *self.left) if path]

    def drop(self) -> None:
        """The answer held nothing worth keeping."""
        self._remove([self.path] if self.path else [])
        self.path = self._memory = None

    def remove(self) -> None:
        """The images are in place: nothing of this task is needed any more."""
        self._remove(self.kept)
        self.path = self._cut = self._memory = None
        self.left = []

    def _remove(self, paths: list[str]) -> None:
        for path in paths:
            files.discard(path)
            if os.path.basename(folder := os.path.dirname(path)) == BESIDE:
                with contextlib.suppress(OSError):  # not empty
                    os.rmdir(folder)


def _make(folder: str) -> None:
    """Make a folder for spools. Raises OSError, also if another user has put one of our name beside the output."""
    files.make_private(folder)
    found = os.lstat(folder)
    if os.path.basename(folder) == BESIDE and not (stat.S_ISDIR(found.st_mode) and _is_ours(found)):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def _is_ours(found: os.stat_result) -> bool:
    return not hasattr(os, "geteuid") or found.st_uid == os.geteuid()


def _left_in(folder: str, name: str) -> list[str]:
    """The spools of a task in a folder: regular files of this user, with names that we make."""
    pattern = re.compile(rf"{name}\.[0-9a-f]{{8}}\.json")
    left = []
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            if pattern.fullmatch(entry.name):
                with contextlib.suppress(OSError):  # another run has removed it meanwhile
                    found = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(found.st_mode) and _is_ours(found):
                        left.append(entry.path)
    return left


def open_left(path: str) -> io.FileIO | None:
    """A spool of an earlier run; None if it is gone, or not a regular file of this user."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(path, flags)
    except OSError:
        return None
    found = os.fstat(descriptor)
    if stat.S_ISREG(found.st_mode) and _is_ours(found):
        return io.FileIO(descriptor, "rb")
    os.close(descriptor)
    return None


class Part:
    """One image out of a spool, in a file of its own. `sound`: strict base64, and an image by its first bytes."""

    def __init__(self, target: str) -> None:
        self._file: BinaryIO
        self._file, self.path = files.part_of(target)
        self.size = 0
        self.sound = True
        self._rest = b""
        self._ended = False  # padding was seen
        self.head = b""

    def add(self, encoded: bytes) -> None:
        """Decode a piece of the JSON string. Raises OSError if the file cannot take it."""
        encoded = self._rest + encoded
        held = b""
        if b"\\" in encoded:  # any ASCII character may be written as an escape (RFC 8259 §7)
            if half := _HALF_ESCAPE.search(encoded):
                encoded, held = encoded[: half.start()], encoded[half.start() :]
            encoded = _ESCAPE.sub(lambda match: match[2] or bytes([int(match[1], 16)]), encoded)
        whole = len(encoded) - len(encoded) % 4
        piece, self._rest = encoded[:whole], encoded[whole:] + held
        if piece and self.sound:
            try:
                data = base64.b64decode(piece, validate=True)
            except binascii.Error:
                self.sound = False
                return
            self.sound = not self._ended
            self._ended = piece.endswith(b"=")
            if len(self.head) < 16:
                self.head += data[:16]
            self.size += self._file.write(data)

    def end(self, *, cut: bool = False) -> None:
        """No more pieces come. Raises OSError."""
        self.sound = self.sound and not self._rest and not cut and files.is_image(self.head)
        files.sync(self._file)
        self._file.close()

    def discard(self) -> None:
        """Remove the file."""
        with contextlib.suppress(OSError):
            self._file.close()
        files.discard(self.path)


def extract(source: io.FileIO | io.BytesIO, target: str) -> tuple[dict[str, Any], list[Part]]:
    """The answer in `source`, with each `b64_json` replaced by the number of its part, and the parts, which lie
    beside `target`; {} if it is not a whole JSON object. Raises OSError, and leaves no part then.
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
                parts.append(Part(target))
                inside = True
        if inside:
            parts[-1].end(cut=True)
        document = object_of(bytes(rest + data))
    except BaseException:
        for made in parts:
            made.discard()
        raise
    return document, parts
