"""The desktop's program that shows a file or an address."""

from __future__ import annotations

import shutil
import subprocess
import sys

from .. import config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def show(target: str, environ: Mapping[str, str]) -> str | None:
    """Start the program and leave it to itself; the reason if that does not work.

    It gets no key, none of our streams and a session of its own, so that it neither writes between our lines nor ends
    with the terminal.
    """
    name = "open" if sys.platform == "darwin" else "xdg-open"
    program = shutil.which(name, path=environ.get("PATH", ""))
    if program is None:
        return f"there is no {name} here"
    nowhere, seen = subprocess.DEVNULL, config.without_keys(environ)
    try:
        subprocess.Popen(  # noqa: S603  # the user asked for it
            [program, target], stdin=nowhere, stdout=nowhere, stderr=nowhere, env=seen, start_new_session=True
        )
    except OSError as error:
        return f"{name} does not start: {error.strerror}"
    return None
