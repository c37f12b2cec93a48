"""Send a `Request` once, under our clocks, with the key only if the request says so."""

from __future__ import annotations

import json
import os
import re
from urllib.parse import urlsplit

from .. import config
from ..values import Trace
from .connection import open_url
from .exchange import Exchange

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..request import Request, Upload
    from ..values import Event
    from .clock import Clock
    from .response import Response


class Transport:
    """The way to one gateway, and to the addresses that it gives. `timeout` is the longest silence in seconds, None
    for what each request has; `stop` tells whether to give up now."""

    def __init__(
        self,
        clock: Clock,
        *,
        key: str,
        timeout: float | None,
        proxied: bool,
        on_event: Callable[[Event], None],
        stop: Callable[[], bool] | None = None,
    ) -> None:
        self.clock = clock
        self._key = key
        self._timeout = timeout
        self._proxied = proxied
        self.emit = on_event
        self._stop = stop
        self.sent = False  # a request that can cost something has left

    def send(self, request: Request) -> Response:
        """One attempt; the answer, unread, whatever its status. Raises `NetError` if there is none."""
        headers = {"Accept": "application/json, text/event-stream", **request.headers}
        data = request.data
        if request.body is not None:
            # Halves of surrogate pairs, from argv or a file, have no UTF-8: "?" is better than a refused request.
            data = json.dumps(request.body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
            headers["Content-Type"] = "application/json"
        elif request.form is not None:
            data, headers["Content-Type"] = multipart(request.form)
        if request.keyed and self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        host = urlsplit(request.url).hostname
        deadline = self.clock.deadline + request.grace
        silence = min(self._timeout or request.patience, request.silence)
        exchange = Exchange(self.clock.monotonic, silence, deadline, host, self._stop)
        shown = f"a URL at {host}" if request.secret else request.url
        self.emit(Trace(f"{request.method} {shown}"))
        started = self.clock.monotonic()
        try:
            response = open_url(request.method, request.url, data, headers, exchange, proxied=self._proxied)
        finally:
            self.sent |= exchange.sent and request.keyed and request.method == "POST"
        self.emit(Trace(f"{response.status} in {self.clock.monotonic() - started:.2f} s"))
        return response


def multipart(form: list[tuple[str, str | Upload]]) -> tuple[bytes, str]:
    """A multipart/form-data body (RFC 7578) and its media type. A file's name tells its type, as some servers want."""
    boundary = os.urandom(16).hex()
    parts = []
    for name, value in form:
        disposition, about, data = f'form-data; name="{name}"', "", b""
        if isinstance(value, str):
            data = value.encode("utf-8", "replace")
        else:
            stem = re.sub(r"[^A-Za-z0-9_-]+", "_", os.path.splitext(os.path.basename(value.path))[0]) or "file"
            disposition += f'; filename="{stem}.{value.type.rpartition("/")[2].replace("jpeg", "jpg")}"'
            about, data = f"Content-Type: {value.type}\r\n", value.data
        parts.append(f"--{boundary}\r\nContent-Disposition: {disposition}\r\n{about}\r\n".encode() + data + b"\r\n")
    return b"".join([*parts, f"--{boundary}--\r\n".encode()]), f"multipart/form-data; boundary={boundary}"


def is_allowed(url: str, home: str) -> bool:
    """Whether we open a URL that the gateway at `home` gave us: https, or http if it and `home` are on loopback."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port  # raises if it is not a number
    except ValueError:
        return False
    plain = all("!" <= character <= "~" or character > "\x9f" for character in url)  # urlsplit drops line breaks
    local = parts.scheme == "http" and config.is_loopback(host) and config.is_loopback(urlsplit(home).hostname)
    return plain and bool(host) and (parts.scheme == "https" or local) and "@" not in parts.netloc
