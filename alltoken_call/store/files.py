"""Where results land: check the place before anything is paid for, and put a file there whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import tempfile

from ..errors import OutputError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

LARGEST_INPUT = 256 << 20  # bytes of a local file that goes into a request
_TYPES = {  # by a file's first bytes
    rb"\x89PNG\r\n\x1a\n": "image/png",
    rb"\xff\xd8\xff": "image/jpeg",
    rb"GIF8[79]a": "image/gif",
    rb"RIFF....WEBP": "image/webp",
    rb"....ftypqt": "video/quicktime",
    rb"....ftypM4A": "audio/mp4",
    rb"....ftyp": "video/mp4",
    rb"\x1a\x45\xdf\xa3": "video/webm",
    rb"RIFF....WAVE": "audio/wav",
    rb"OggS": "audio/ogg",
    rb"ID3|\xff[\xfb\xf3\xf2]": "audio/mpeg",
    rb"\xff[\xf1\xf9]": "audio/aac",
}


def media_type(head: bytes) -> str | None:
    """The media type of a file that begins so; None for one that we do not know."""
    return next((found for magic, found in _TYPES.items() if re.match(magic, head, re.DOTALL)), None)


def read_input(path: str) -> bytes:
    """The bytes of a local file that goes into a request. Raises `UsageError` where it cannot be read, or has more
    than `LARGEST_INPUT` bytes."""
    try:
        with open(path, "rb") as file:
            data = bytearray()
            while len(data) <= LARGEST_INPUT and (block := file.read(1 << 20)):
                data += block
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    if len(data) > LARGEST_INPUT:
        raise UsageError(f"{path} is larger than {LARGEST_INPUT:,} bytes")
    return bytes(data)


def make_private(folder: str) -> None:
    """Make a directory, and those above it that are missing, each with mode 0700 (os.makedirs: only the last).

    Raises OSError.
    """
    missing = []
    folder = os.path.abspath(folder)
    while not os.path.isdir(folder) and folder != os.path.dirname(folder):
        missing.append(folder)
        folder = os.path.dirname(folder)
    for path in reversed(missing):
        with contextlib.suppress(FileExistsError):  # another process was faster
            os.mkdir(path, 0o700)


def temporary() -> str:
    """The temporary directory; the working one where there is none."""
    try:
        return tempfile.gettempdir()
    except OSError:
        return os.curdir


def check_folder(path: str) -> None:
    """Raise `OutputError` where no file can be made beside `path`. A file is made to find out: permission bits say
    nothing of read-only file systems, and nothing to root."""
    try:
        file, part = part_of(path)
        file.close()
        os.unlink(part)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}", hint="choose another place") from None


def check_replaceable(path: str) -> None:
    """Raise `OutputError` where `replace` could not put a file at `path`, or where it is write-protected."""
    path = os.path.realpath(path)
    check_folder(path)
    if os.path.exists(path) and not os.access(path, os.W_OK):
        raise OutputError(f"cannot write {path}: it is write-protected")


def numbered(path: str, count: int) -> list[str]:
    """The paths of `count` results: `path` itself, or name-1.png, name-2.png and so on."""
    stem, ending = os.path.splitext(path)
    return [path] if count == 1 else [f"{stem}-{number}{ending}" for number in range(1, count + 1)]


def in_folder(path: str | None, name: str) -> str:
    """Where a result goes: `path`, or `name` in it where it is a directory; ./name where it is None.

    Raises `OutputError` where `path` ends in a slash and is no directory.
    """
    if path is None:
        return os.path.join(".", name)
    if os.path.isdir(path):
        return os.path.join(path, name)
    if path.endswith(("/", os.sep)) or not path:
        raise OutputError(f"{path or 'an empty path'} is no directory", hint="make it, or choose another -o")
    return path


def check_new(paths: list[str], *, force: bool) -> None:
    """Raise `OutputError` where one of `paths` cannot be written, or exists and `force` does not allow for that."""
    for path in paths:
        if os.path.lexists(path):
            if not os.path.isfile(path):
                raise OutputError(f"{path} exists and is not a regular file", hint="choose another -o")
            if not force:
                raise OutputError(f"{path} exists already", hint="--force overwrites it")
        check_folder(os.path.realpath(path))


def replace(path: str, data: bytes) -> None:
    """Put `data` at `path` atomically: a new file is 0600, one that existed keeps its mode and its links.

    Raises `OutputError`; what stood there stands there still.
    """
    path = os.path.realpath(path)
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=".alltoken-", dir=os.path.dirname(path))
        with open(descriptor, "wb") as file:
            file.write(data)
            sync(file)
        with contextlib.suppress(FileNotFoundError):
            os.chmod(temporary, os.stat(path).st_mode & 0o7777)
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from None
    finally:
        if temporary is not None:
            discard(temporary)


def part_of(path: str, mode: int = 0o666) -> tuple[BinaryIO, str]:
    """A new file beside `path`, to be filled and then put there: open, and its path. Raises OSError.

    Unlike tempfile's, its mode follows the umask: what lands is the user's own file.
    """
    while True:
        part = f"{path}.{os.urandom(4).hex()}.part"
        with contextlib.suppress(FileExistsError):
            return open(os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR, mode), "w+b"), part


def put(part: str, path: str, *, force: bool) -> None:
    """Make the file at `part` the one at `path` in one step. Raises OSError; FileExistsError without `force`.

    A hard link is the rename that never overwrites; where there are none, a look and a rename must do.
    """
    if force:
        os.replace(part, os.path.realpath(path))
        return
    try:
        os.link(part, path)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
        os.rename(part, path)
    else:
        os.unlink(part)


def sync(file: BinaryIO) -> None:
    """Flush a file to the disk. Raises OSError."""
    file.flush()
    os.fsync(file.fileno())


def discard(path: str) -> None:
    """Remove a file that may be gone already."""
    with contextlib.suppress(OSError):
        os.unlink(path)


def same(one: str, other: str) -> bool:
    """Whether two files hold the same bytes."""
    try:
        with open(one, "rb") as first, open(other, "rb") as second:
            while (block := first.read(1 << 20)) == second.read(1 << 20):
                if not block:
                    return True
    except OSError:
        pass
    return False
