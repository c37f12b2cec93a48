"""Where results land: check the place before anything is paid for, and put a file there whole or not at all.

A full disk is met twice: `check_folder` finds it before anything is sent, and what arrives later goes elsewhere.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat

from ..errors import OutputError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

LARGEST_INPUT = 256 << 20  # bytes of a local file that goes into a request
PROBE = bytes(1 << 16)  # what is written to find out whether there is room
_TYPES = {  # by a file's first bytes
    rb"\x89PNG\r\n\x1a\n": "image/png",
    rb"\xff\xd8\xff": "image/jpeg",
    rb"GIF8[79]a": "image/gif",
    rb"RIFF....WEBP": "image/webp",
    rb"....ftypqt": "video/quicktime",
    rb"....ftypM4A": "audio/mp4",
    rb"....ftyp(?:heic|heix|mif1|msf1)": "image/heic",
    rb"....ftyp": "video/mp4",
    rb"\x1a\x45\xdf\xa3": "video/webm",
    rb"RIFF....WAVE": "audio/wav",
    rb"OggS": "audio/ogg",
    rb"ID3|\xff[\xfb\xf3\xf2]": "audio/mpeg",
    rb"\xff[\xf1\xf9]": "audio/aac",
    rb"BM....\x00\x00\x00\x00": "image/bmp",
}
SHOWN = ("image/png", "image/jpeg", "image/webp", "image/gif")  # the image types that a result may have
_ENDINGS = {f".{type.partition('/')[2]}": type for type in SHOWN} | {".jpg": "image/jpeg"}
FORMATS = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}  # that can be asked for, and how new names end


def media_type(head: bytes) -> str | None:
    """The media type of a file that begins so; None if it is not known."""
    return next((found for magic, found in _TYPES.items() if re.match(magic, head, re.DOTALL)), None)


def is_image(head: bytes) -> bool:
    """Whether a file that begins so is a PNG, JPEG, WebP or GIF."""
    return media_type(head) in SHOWN


def ends_otherwise(path: str, type: str) -> bool:
    """Whether a name ends like a file of another image type."""
    return _ENDINGS.get(os.path.splitext(path)[1].lower(), type) != type


def image_format(path: str | os.PathLike[str]) -> str | None:
    """The one of `FORMATS` that a name's ending means; None if it means none."""
    found = _ENDINGS.get(os.path.splitext(path)[1].lower(), "").removeprefix("image/")
    return found if found in FORMATS else None


def new_name(kind: str, ending: str = ".png") -> str:
    """A name of ours for a result: alltoken-image-<8 hex>.png."""
    return f"alltoken-{kind}-{os.urandom(4).hex()}{ending}"


def read_input(path: str) -> bytes:
    """The bytes of a local file that goes into a request. Raises `UsageError` if it cannot be read, or has more than
    `LARGEST_INPUT` bytes."""
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
    """The temporary directory; the working one if there is none."""
    import tempfile  # 3 ms, and rarely needed

    try:
        return tempfile.gettempdir()
    except OSError:
        return os.curdir


def absolute(path: str) -> str:
    """The absolute form of a path. Raises `OutputError` if the working directory was deleted."""
    try:
        return os.path.abspath(path)
    except OSError:
        raise OutputError(f"cannot write {path}: the working directory does not exist any more") from None


def check_folder(path: str) -> None:
    """Raise `OutputError` if no file can be made beside `path`, a real one, or replace it.

    64 KiB are written to find out: permission bits say nothing of read-only file systems, quotas and full disks, and
    nothing to root.
    """
    try:
        file, part = part_of(path)
        try:
            with file:
                file.write(PROBE)
                sync(file)
        finally:
            discard(part)
        with contextlib.suppress(FileNotFoundError):
            os.lstat(path)  # a name that is too long
            if not _is_replaceable(path):
                raise PermissionError(errno.EPERM, "it belongs to another user, in a directory that protects it")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}", hint="choose another place") from None


def _is_replaceable(path: str) -> bool:
    """Whether a rename may replace `path`: in a sticky directory only the owner of the file or directory may."""
    if not hasattr(os, "geteuid") or os.geteuid() == 0:
        return True
    folder = os.stat(os.path.dirname(path) or os.curdir)
    return not folder.st_mode & stat.S_ISVTX or os.geteuid() in (folder.st_uid, os.lstat(path).st_uid)


def check_replaceable(path: str) -> None:
    """Raise `OutputError` if `replace` could not put a file at `path`, or if it is write-protected."""
    path = os.path.realpath(absolute(path))
    check_folder(path)
    if os.path.exists(path) and not os.access(path, os.W_OK):
        raise OutputError(f"cannot write {path}: it is write-protected")


def numbered(path: str, count: int) -> list[str]:
    """The paths of `count` results: `path` itself, or name-1.png, name-2.png and so on."""
    stem, ending = os.path.splitext(path)
    return [path] if count == 1 else [f"{stem}-{number}{ending}" for number in range(1, count + 1)]


def in_folder(path: str | None, name: str) -> str:
    """Where a result goes: `path`, or `name` in it if it is a directory; ./name if it is None.

    Raises `OutputError` if `path` ends in a slash and is not a directory.
    """
    if path is None:
        return os.path.join(".", name)
    if os.path.isdir(path):
        return os.path.join(path, name)
    if path.endswith(("/", os.sep)) or not path:
        raise OutputError(f"{path or 'an empty path'} is not a directory", hint="create it, or choose another -o")
    return path


def check_new(paths: list[str], *, force: bool) -> None:
    """Raise `OutputError` if one of `paths` cannot be written, or exists and `force` does not allow for that."""
    for path in paths:
        if os.path.lexists(path):
            if not os.path.isfile(path):
                raise OutputError(f"{path} exists and is not a regular file", hint="choose another -o")
            if not force:
                raise OutputError(f"{path} already exists (--force overwrites it)")
        check_folder(os.path.realpath(absolute(path)))


def replace(path: str, data: bytes) -> None:
    """Put `data` at `path` atomically: a new file is 0600, one that existed keeps its mode and its links.

    Raises `OutputError`; then the file at `path` is as it was.
    """
    path = os.path.realpath(absolute(path))
    part = None
    try:
        file, part = part_of(path, 0o600)
        with file:
            file.write(data)
            sync(file)
        with contextlib.suppress(FileNotFoundError):
            os.chmod(part, os.stat(path).st_mode & 0o7777)
        os.replace(part, path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from None
    finally:
        if part is not None:
            discard(part)


def part_of(path: str, mode: int = 0o666) -> tuple[BinaryIO, str]:
    """A new file beside `path`, to be filled and then put there: open, and its path. Raises OSError.

    Unlike tempfile's, its mode follows the umask: what lands is the user's own file. Its name is short, whatever the
    length of the other.
    """
    while True:
        part = os.path.join(os.path.dirname(path), f".alltoken-{os.urandom(4).hex()}.part")
        with contextlib.suppress(FileExistsError):
            return open(os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR, mode), "w+b"), part


def put(part: str, path: str, *, force: bool) -> None:
    """Make the file at `part` the one at `path` in one step. Raises OSError; FileExistsError without `force`.

    A hard link is the rename that never overwrites; a file system without hard links gets a check and a rename.
    """
    if force:
        path = os.path.realpath(path)
        try:
            os.replace(part, path)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _copy(part, path)  # one link among several may lead to another file system
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


def _copy(part: str, path: str) -> None:
    """Put the file at `part` at `path`, on another file system, in one step. Raises OSError."""
    import shutil

    file, nearer = part_of(path)
    try:
        with file, open(part, "rb") as source:
            shutil.copyfileobj(source, file)
            sync(file)
        os.replace(nearer, path)
    finally:
        discard(nearer)
    discard(part)


def sync(file: BinaryIO) -> None:
    """Flush a file to the disk. Raises OSError."""
    file.flush()
    os.fsync(file.fileno())


def discard(path: str) -> None:
    """Remove a file of ours that may be gone already."""
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


def _cut(name: str, size: int) -> str:
    """The beginning of a name, of at most `size` bytes."""
    return os.fsencode(name)[:size].decode("utf-8", "ignore")


def keep(part: str, folder: str, name: str) -> str:
    """Give a finished file whose place has failed a name of its own in `folder`; where it then is.

    If `folder` has no room either, it stays beside its first place, under a name that is not a *.part.
    """
    import shutil

    stem, ending = os.path.splitext(name)
    stem, ending = _cut(stem, 100), _cut(ending, 10)
    for place in (folder, os.path.dirname(part)):
        kept = os.path.join(place, f"{stem}-{os.urandom(4).hex()}{ending}")
        try:
            make_private(place)
            os.chmod(part, 0o600)
            shutil.move(part, kept)
            return kept
        except OSError:
            discard(kept)  # it may be a half
    return part
