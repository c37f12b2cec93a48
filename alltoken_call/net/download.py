"""Fetch a result's URL into a file: over https, whole or not at all, going on where a connection broke."""

from __future__ import annotations

import re
from urllib.parse import urljoin

from . import retry
from ..errors import ApiError, CallError, ExitStatus, NetworkError
from ..text import one_line
from .transport import allowed_url

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

    from ..cli.context import Context
    from ..cli.output import Output
    from .response import Response
    from .transport import Transport

REDIRECTS = 5


def download(url: str, file: BinaryIO, transport: Transport, context: Context, output: Output) -> int:
    """Write what `url` holds into an empty `file`; its length in bytes.

    Everything passing is repeated until the deadline, from the byte reached where the server can (RFC 9110 §14) and
    the file there is still the same. The key is never sent. Raises `ApiError`, `NetworkError`, OSError of `file`, and
    `CallError` with status 8 where the deadline comes first.
    """
    fruitless = 0  # attempts in a row that brought us no further than we had been
    furthest = 0
    mark = None  # what tells one version of the file from another: its strong ETag
    while True:
        try:
            response = _open(url, transport, file.tell(), mark)
            try:
                mark = _copy(response, file, output, mark)
                return file.tell()
            finally:
                tag = response.header("ETag") or ""
                mark = tag if tag.startswith('"') and not response.packed else None
                response.close()
        except (ApiError, NetworkError) as error:
            if not (error.passing or error.http == 416 or error.code in ("max_wait", "range")):
                raise
            if error.http == 416 or error.code == "range":
                mark = None
            fruitless = 0 if file.tell() > furthest else fruitless + 1
            furthest = max(furthest, file.tell())
            pause = retry.backoff(fruitless, context.chance())
            if pause >= context.left():
                what = "the time of --max-wait is over before the result was downloaded"
                raise CallError(what, status=ExitStatus.PENDING, code="pending") from None
            output.note("retry", f"{one_line(error.message, 200)}: downloading on in {pause:.3g} s")
            context.sleep(pause)


def _open(url: str, transport: Transport, start: int, mark: str | None) -> Response:
    """The 2xx answer of a URL, behind at most five redirects, none of which leaves https."""
    headers = {"Accept": "*/*"}
    if start and mark:
        headers |= {"Range": f"bytes={start}-", "If-Range": mark}
    for _ in range(REDIRECTS + 1):
        if not allowed_url(url, transport.base):
            raise NetworkError(f"the result's address is not https, it is not opened: {url}", code="address")
        response = transport.once("GET", url, None, headers)
        if response.foreign:
            response.close()
            raise NetworkError("the result is in an encoding that was not asked for", code="protocol", sent=True)
        if 200 <= response.status < 300:
            return response
        response.close()
        if response.status not in (301, 302, 303, 307, 308):
            error = ApiError("the result's server refused", http=response.status, enveloped=False)
            if not error.passing:  # no key was sent there, and nothing is known of the task
                error.status, error.hint = (
                    ExitStatus.REFUSED,
                    "its address may have expired: --resume asks for a new one",
                )
            raise error
        where = response.header("Location")
        try:
            url = urljoin(url, where) if where else ""
        except ValueError:
            url = ""
        if not url:
            break
    raise NetworkError("the result's address redirects too often, or to nowhere", code="redirect")


def _copy(response: Response, file: BinaryIO, output: Output, asked: str | None) -> str | None:
    """Append an answer's bytes where it is the part that was asked for; else begin anew. Its length is verified."""
    start, total = 0, None
    length = response.header("Content-Length") or ""
    if response.status == 206:
        match = re.fullmatch(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})", response.header("Content-Range") or "")
        start, total = (int(match[1]), int(match[3])) if match else (-1, None)
        if not asked or start != file.tell() or not total or response.header("ETag") not in (None, asked):
            raise NetworkError("the server sent another part than was asked for", code="range")
    elif length.isascii() and length.isdigit() and len(length) < 16 and not response.packed:
        total = int(length)
    file.seek(start)
    file.truncate()
    while data := response.read():
        file.write(data)
        output.progress(f"downloading {file.tell():,} bytes" + (f" of {total:,}" if total else ""))
    if not response.bounded:
        output.warning("the server told no length: whether the download is whole is unknown")
    if total is not None and file.tell() != total:
        raise NetworkError(f"{file.tell():,} bytes came of {total:,}", code="range")
    return None
