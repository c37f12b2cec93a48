"""The ids that `models` last saw, for the completion scripts, which read them without Python and without the network.

One file for each gateway and kind in the state directory, `models/alltoken.chat`, an id a line.
"""

from __future__ import annotations

import contextlib
import os
import re

from ..errors import OutputError
from . import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_MOST = 5_000  # ids of a list


def remember(state: str, gateway: str, kind: str, ids: Iterable[str]) -> None:
    """Keep a list for completion. Trouble is not told, and an empty list changes nothing.

    An id that a shell could take for more than a word is left out.
    """
    plain = [name for name in ids if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,199}", name)]
    data = "".join(f"{name}\n" for name in plain[:_MOST]).encode("ascii")
    path = os.path.join(state, "models", f"{gateway}.{kind}")
    if not data or _holds(path, data):
        return
    with contextlib.suppress(OSError, OutputError):
        files.make_private(os.path.dirname(path))
        files.replace(path, data)


def _holds(path: str, data: bytes) -> bool:
    """Whether a file holds just that."""
    try:
        with open(path, "rb") as file:
            return file.read(len(data) + 1) == data
    except OSError:
        return False
