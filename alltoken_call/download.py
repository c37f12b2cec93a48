"""Fetch a result's URL into a file: over https, whole or not at all, going on where a connection broke."""

from __future__ import annotations

import math
import re
from urllib.parse import urljoin

from . import retry
from .errors import ApiError, NetworkError
from .output import one_line
from .transport import allowed_url

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

    from .connection import Response
    from .context import Context
    from .output import Output
    from .transport import Transport

REDIRECTS = 5


def download(url: str, file: BinaryIO, transport: Transport, context: Context, output: Output) -> int:
    """Write what `url` holds into an empty `file`; its length in bytes.

    Everything passing is repeated until the deadline, from the byte reached where the server can (RFC 9110 §14) and
    the file there is still the same. The key is never sent. Raises `ApiError`, `NetworkError`, and OSError of `file`.
    """
    failures = 0
    mark = None  # what tells one version of the file from another: its ETag
    while True:
        start = file.tell()
        try:
            response = _open(url, transport, start, mark)
            try:
                if response.status != 206 or _begins_at(response) != start:
                    start = 0
                    file.seek(0)
                    file.truncate()
                mark = response.header("ETag")
                _copy(response, file, output, start)
                return file.tell()
            finally:
                response.close()
        except (ApiError, NetworkError) as error:
            if isinstance(error, ApiError) and error.http == 416:
                mark = None
                file.seek(0)
                file.truncate()
            elif not error.passing:
                raise
            failures = 0 if file.tell() > start else failures + 1
            pause = max(0.05, 4 * retry.backoff(failures, context.chance()) - 2)
            if pause >= context.left():
                raise
            output.note("retry", f"{one_line(error.message, 200)}: downloading on in {pause:.3g} s")
            context.sleep(pause)


def _open(url: str, transport: Transport, start: int, mark: str | None) -> Response:
    """The 2xx answer of a URL, behind at most five redirects, none of which leaves https."""
    headers = {"Accept": "*/*"}
    if start and mark:
        headers |= {"Range": f"bytes={start}-", "If-Range": mark}
    for _ in range(REDIRECTS + 1):
        if not allowed_url(url, transport.base):
            raise NetworkError(
                "the result's address is not https: it is not opened", code="address", hint="its URL is in --json"
            )
        response = transport.once("GET", url, None, headers)
        where = response.header("Location")
        if 200 <= response.status < 300:
            return response
        response.close()
        if response.status not in (301, 302, 303, 307, 308) or not where:
            raise ApiError("the result's server refused", http=response.status, enveloped=False)
        try:
            url = urljoin(url, where)
        except ValueError:
            break
    raise NetworkError("the result's address redirects too often, or to nowhere", code="redirect")


def _begins_at(response: Response) -> int | None:
    match = re.match(r"bytes ([0-9]{1,18})-", response.header("Content-Range") or "")
    return int(match[1]) if match else None


def _copy(response: Response, file: BinaryIO, output: Output, start: int) -> None:
    length = response.header("Content-Length") or ""
    total = start + int(length) if length.isascii() and length.isdigit() and len(length) < 16 else math.nan
    while data := response.read():
        file.write(data)
        done = file.tell()
        output.progress(
            f"downloading {done:,} bytes" + ("" if math.isnan(total) else f" of {total:,} ({done / total:.0%})")
        )
