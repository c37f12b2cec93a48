"""Where results land: check the place before anything is paid for, and put a file there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile

from .errors import OutputError


def check_folder(path: str) -> None:
    """Raise `OutputError` where no file can be made beside `path`. A file is made to find out: permission bits say
    nothing of read-only file systems, and nothing to root."""
    folder = os.path.dirname(path) or "."
    try:
        descriptor, probe = tempfile.mkstemp(prefix=".alltoken-", dir=folder)
        os.close(descriptor)
        os.unlink(probe)
    except OSError as error:
        raise OutputError(f"cannot write in {folder}: {error.strerror}", hint="choose another place") from None


def check_replaceable(path: str) -> None:
    """Raise `OutputError` where `replace` could not put a file at `path`, or where it is write-protected."""
    path = os.path.realpath(path)
    check_folder(path)
    if os.path.exists(path) and not os.access(path, os.W_OK):
        raise OutputError(f"cannot write {path}: it is write-protected")


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
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileNotFoundError):
            os.chmod(temporary, os.stat(path).st_mode & 0o7777)
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from None
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
