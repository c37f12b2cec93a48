"""Fetch a result's URL into a file: over https, whole or not at all, going on where a connection broke."""

from __future__ import annotations

import re
from urllib.parse import urljoin

from ..errors import ExitStatus, NetError
from ..request import DOWNLOADING, Request
from ..values import Downloading, Warned
from . import retry
from .transport import is_allowed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from ..values import Event
    from .response import Response
    from .transport import Transport

REDIRECTS = 5


def download(url: str, file: BinaryIO, transport: Transport, *, home: str, keyed: bool = False) -> int:
    """Write what `url` holds into an empty `file`; its length in bytes.

    Everything passing is repeated until the deadline, from the byte reached if the server can (RFC 9110 §14) and the
    file there is still the same. The key is sent only if `keyed`, and never behind a redirect. Raises `NetError`, and
    OSError of `file`.
    """
    furthest = 0
    mark: str | None = None  # what tells one version of the file from another: its strong ETag

    def attempt() -> int:
        nonlocal furthest, mark
        try:
            response = _open(url, transport, file.tell(), mark, home, keyed=keyed)
            try:
                _copy(response, file, transport.emit, mark)
                return file.tell()
            finally:
                tag = response.header("ETag") or ""
                mark = tag if tag.startswith('"') and not response.packed else None
                response.close()
        except NetError as error:
            if error.http == 416 or error.code == "range":
                mark = None
            progress = file.tell() > furthest
            furthest = max(furthest, file.tell())
            raise error.but(progress=progress) from None

    return retry.repeat(attempt, DOWNLOADING, transport.clock, transport.emit)


def _open(url: str, transport: Transport, start: int, mark: str | None, home: str, *, keyed: bool) -> Response:
    """The 2xx answer of a URL, behind at most five redirects, none of which leaves https."""
    headers = {"Accept": "*/*"}
    if start and mark:
        headers |= {"Range": f"bytes={start}-", "If-Range": mark}
    for _ in range(REDIRECTS + 1):
        if not is_allowed(url, home):
            raise NetError(f"the result's address is not https, it is not opened: {url}", "address")
        response = transport.send(Request("GET", url, headers=headers, keyed=keyed, secret=not keyed))
        if response.foreign:
            response.close()
            raise NetError("the result is in an encoding that was not asked for", "encoding", sent=True)
        if 200 <= response.status < 300:
            return response
        response.close()
        if response.status not in (301, 302, 303, 307, 308):
            raise refused("the result's server refused", response.status)
        where = response.header("Location")
        try:
            url = urljoin(url, where) if where else ""
        except ValueError:
            url = ""
        if not url:
            break
        keyed = False
    raise NetError("the result's address has too many redirects, or one without an address", "redirect")


def refused(message: str, status: int) -> NetError:
    """The failure that an HTTP status of a result's or an upload's server makes; it says nothing of the task or key."""
    if status in (408, 425, 429) or status >= 500:
        return NetError(message, f"http_{status}", http=status, sent=True, passing=True, status=ExitStatus.GATEWAY)
    hint = "its address may have expired: --resume or a new run gets a new one"
    return NetError(message, f"http_{status}", http=status, sent=True, status=ExitStatus.REFUSED, hint=hint)


def _copy(response: Response, file: BinaryIO, on_event: Callable[[Event], None], asked: str | None) -> None:
    """Append an answer's bytes if it is the part that was asked for; else begin anew. Its length is verified."""
    start, total = 0, None
    length = response.header("Content-Length") or ""
    if response.status == 206:
        match = re.fullmatch(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})", response.header("Content-Range") or "")
        start, total = (int(match[1]), int(match[3])) if match else (-1, None)
        if not asked or start != file.tell() or not total or response.header("ETag") not in (None, asked):
            raise NetError("the server sent another part than was asked for", "range")
    elif length.isascii() and length.isdigit() and len(length) < 16 and not response.packed:
        total = int(length)
    file.seek(start)
    file.truncate()
    while data := response.read():
        file.write(data)
        on_event(Downloading(file.tell(), total))
    if not response.bounded:
        on_event(Warned("the server sent no length: the download may be incomplete"))
    if total is not None and file.tell() != total:
        raise NetError(f"{file.tell():,} bytes came of {total:,}", "range")
