"""Open one connection, send one request: the only module that does.

Strategy: urllib, with an opener built of the handlers we want, so that no `file:` URL opens, no redirect is followed,
and HTTP errors come back as answers. One connection subclass knows two things that urllib hides: whether the request
has left (which decides what may be repeated), and how long the next socket operation may take (the smaller of
--timeout and what --max-wait leaves), also while headers drip in one by one.
"""

from __future__ import annotations

import functools
import http.client
import io
import os
import re
import socket
import ssl
import urllib.error
import urllib.request
from urllib.parse import urlsplit

from .. import __version__, config
from .exchange import CONNECT_PATIENCE
from .response import BLOCK, Response

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from .exchange import Exchange


def open_url(
    method: str, url: str, data: bytes | None, headers: Mapping[str, str], exchange: Exchange, *, quick: bool = True
) -> Response:
    """One attempt at an http(s) URL, whatever the answer's status; redirects are answers too. With `quick`, the quick
    trust is tried before the full one.

    Raises `NetworkError` where there is no answer. No proxy sees loopback traffic.
    """
    body = io.BytesIO(data) if data is not None else None  # sent block by block: --timeout is a block's, not all's
    with exchange.mapped():
        request = urllib.request.Request(url, body, method=method)  # noqa: S310  # the opener knows http and https only
        request.exchange = exchange  # type: ignore[attr-defined]
        request.add_unredirected_header("User-agent", f"alltoken-call/{__version__}")
        for name, value in headers.items():
            request.add_unredirected_header(name, value)
        if data is not None:
            request.add_unredirected_header("Content-length", str(len(data)))
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        trust = _quick_trust() if secure and quick else None
        opener = urllib.request.OpenerDirector()
        opener.addheaders = []
        opener.add_handler(urllib.request.UnknownHandler())
        opener.add_handler(_Https(context=trust or _full_trust()) if secure else _Http())
        if not config.is_loopback(parts.hostname):
            opener.add_handler(urllib.request.ProxyHandler())
        try:
            raw = opener.open(request, timeout=exchange.patience())
        except urllib.error.URLError as error:
            if trust is None or not isinstance(error.reason, ssl.SSLCertVerificationError):
                raise
            return open_url(method, url, data, headers, exchange, quick=False)  # nothing was sent yet
        return Response(raw, exchange)


class _Reader(io.RawIOBase):
    """A socket's incoming bytes; sets the patience anew before each read."""

    def __init__(self, sock: socket.socket, exchange: Exchange) -> None:
        self._sock = sock
        self._hold = sock.makefile("rb", buffering=0)  # keeps the descriptor open after http.client closes the socket
        self._exchange = exchange

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._sock.settimeout(self._exchange.patience())
        return self._sock.recv_into(buffer)

    def close(self) -> None:
        self._hold.close()
        super().close()


class _Socket:
    """What http.client uses of a socket, under an exchange's clock."""

    def __init__(self, sock: socket.socket, exchange: Exchange) -> None:
        self._sock = sock
        self._exchange = exchange
        self._refused = False
        self.close = sock.close

    def sendall(self, data: Any) -> None:
        if self._refused:
            return
        self._exchange.sent = True
        self._sock.settimeout(self._exchange.patience())
        try:
            self._sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            self._refused = True  # a 401 or 413 may have come before the body was through: read it

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self._sock, self._exchange), BLOCK)


class _Answer(http.client.HTTPResponse):
    def _read_status(self) -> tuple[str, int, str]:
        # http.client skips 100 only; 103 Early Hints would be taken for the answer (RFC 9110 §15.2).
        version, status, reason = super()._read_status()  # type: ignore[misc]
        return version, 100 if 102 <= status <= 199 else status, reason


def _dial(address: tuple[str, int], *others: Any) -> socket.socket:
    # Text would be encoded for other scripts' names first, and to load what does that takes 5 ms.
    host, port = address
    return socket.create_connection((host.encode() if host.isascii() else host, port), *others)  # type: ignore[arg-type]


def _connection(base: type[http.client.HTTPConnection], exchange: Exchange) -> Any:
    class Connection(base):  # type: ignore[misc, valid-type]
        response_class = _Answer

        def connect(self) -> None:
            self._create_connection = _dial
            self.timeout = min(exchange.patience(), CONNECT_PATIENCE)
            super().connect()
            self.sock: Any = _Socket(self.sock, exchange)

    return Connection


class _Http(urllib.request.HTTPHandler):
    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_connection(http.client.HTTPConnection, request.exchange), request)  # type: ignore[attr-defined]


class _Https(urllib.request.HTTPSHandler):
    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        connection = _connection(http.client.HTTPSConnection, request.exchange)  # type: ignore[attr-defined]
        return self.do_open(connection, request, context=self._context)  # type: ignore[attr-defined]


@functools.cache
def _full_trust() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


@functools.cache
def _quick_trust() -> ssl.SSLContext | None:
    """A context that trusts the platform's hashed directory of certificates alone, where it has one.

    OpenSSL looks single certificates up in it, where the bundle beside it takes 15 ms to load, a third of a short call.
    What it trusts, the full context trusts, too; what it does not, the full context decides. None where SSL_CERT_FILE
    names other certificates, which would only be asked second.
    """
    paths = ssl.get_default_verify_paths()
    if paths.capath is None or paths.cafile not in (None, paths.openssl_cafile):
        return None
    try:
        names = os.listdir(paths.capath)
    except OSError:
        return None
    if not any(re.fullmatch(r"[0-9a-f]{8}\.[0-9]", name) for name in names):
        return None
    context = ssl.create_default_context(capath=paths.capath)
    context.set_alpn_protocols(["http/1.1"])
    return context
