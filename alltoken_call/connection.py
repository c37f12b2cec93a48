"""One HTTP exchange: the only module that opens a connection, and the one place where its failures are mapped.

Strategy: urllib, with an opener built of the handlers we want, so that no `file:` URL opens, no redirect is followed,
and HTTP errors come back as answers. One connection subclass knows two things that urllib hides: whether the request
has left (which decides what may be repeated), and how long the next socket operation may take (the smaller of
--timeout and what --max-wait leaves), also while headers drip in one by one.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import io
import math
import os
import re
import ssl
import urllib.error
import urllib.request
from urllib.parse import urlsplit

from . import __version__, config
from .chunked import Dechunker
from .errors import DeadlineError, NetworkError, Silence
from .wire import object_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

BLOCK = 1 << 16  # bytes of one read
LARGEST_PIECE = 1 << 20  # bytes that one read may inflate to
LARGEST_JSON = 64 << 20  # bytes of a JSON answer; image results go to disk and have a bound of their own
CONNECT_PATIENCE = 30.0  # seconds to reach one address: who has not answered by then is not there
_REQUEST_IDS = ("x-request-id", "x-gateway-request-id")


def open_url(method: str, url: str, data: bytes | None, headers: Mapping[str, str], exchange: Exchange) -> Response:
    """One attempt at an http(s) URL, whatever the answer's status; redirects are answers too.

    Raises `NetworkError` where there is no answer. No proxy sees loopback traffic.
    """
    body = io.BytesIO(data) if data is not None else None  # sent block by block: --timeout is a block's, not all's
    with _mapped(exchange):
        request = urllib.request.Request(url, body, method=method)  # noqa: S310  # the opener knows http and https only
        request.exchange = exchange  # type: ignore[attr-defined]
        request.add_unredirected_header("User-agent", f"alltoken-call/{__version__}")
        for name, value in headers.items():
            request.add_unredirected_header(name, value)
        if data is not None:
            request.add_unredirected_header("Content-length", str(len(data)))
        parts = urlsplit(url)
        opener = urllib.request.OpenerDirector()
        opener.addheaders = []
        opener.add_handler(urllib.request.UnknownHandler())
        opener.add_handler(_Https(context=exchange.trust()) if parts.scheme == "https" else _Http())
        if not config.is_loopback(parts.hostname):
            opener.add_handler(urllib.request.ProxyHandler())
        try:
            raw = opener.open(request, timeout=exchange.patience())
        except urllib.error.URLError as error:
            if not (isinstance(error.reason, ssl.SSLCertVerificationError) and exchange.distrust()):
                raise
            return open_url(method, url, data, headers, exchange)  # nothing was sent yet
        return Response(raw, exchange)


class Exchange:
    """The clock of one request, and how far it has come."""

    def __init__(self, clock: Callable[[], float], silence: float, deadline: float) -> None:
        self.clock = clock
        self.silence = silence  # seconds
        self.deadline = deadline  # an instant of `clock`
        self.sent = False
        self._quick = True  # the quick context is still good enough

    def trust(self) -> ssl.SSLContext:
        """The TLS context to begin with."""
        return (self._quick and _quick_trust()) or _full_trust()

    def distrust(self) -> bool:
        """Give up the quick context for the full one; whether there was one to give up."""
        had = self._quick and _quick_trust() is not None
        self._quick = False
        return had

    def patience(self) -> float:
        """Seconds that the next socket operation may take. Raises TimeoutError where the deadline has passed."""
        left = self.deadline - self.clock()
        if left <= 0:
            raise TimeoutError("deadline")
        return min(self.silence, left)


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


def _connection(base: type[http.client.HTTPConnection], exchange: Exchange) -> Any:
    class Connection(base):  # type: ignore[misc, valid-type]
        response_class = _Answer

        def connect(self) -> None:
            self.timeout = min(exchange.patience(), CONNECT_PATIENCE)
            super().connect()
            self.sock: Any = _Socket(self.sock, exchange)

    return Connection


class _Http(urllib.request.HTTPHandler):
    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_connection(http.client.HTTPConnection, request.exchange), request)  # type: ignore[attr-defined]


class _Https(urllib.request.HTTPSHandler):
    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        exchange: Exchange = request.exchange  # type: ignore[attr-defined]
        return self.do_open(_connection(http.client.HTTPSConnection, exchange), request, context=exchange.trust())


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


class Response:
    """One HTTP answer: its status and headers, and its body piece by piece."""

    def __init__(self, raw: Any, exchange: Exchange) -> None:
        self._raw = raw
        self._exchange = exchange
        self._chunks = Dechunker() if raw.chunked else None
        self.status = raw.status
        self.request_id: str | None = next((raw.headers[name] for name in _REQUEST_IDS if raw.headers[name]), None)
        encoding = (raw.headers["Content-Encoding"] or "identity").strip().lower()
        self._inflate: Any = None
        if encoding in ("gzip", "x-gzip", "deflate"):  # not asked for, but paid for
            import zlib

            self._inflate = zlib.decompressobj(47 if "gzip" in encoding else 15)
        self.packed = self._inflate is not None  # lengths and ranges count bytes that we do not see
        self.foreign = encoding if self._inflate is None and encoding != "identity" else None

    def header(self, name: str) -> str | None:
        """A header's value, or None."""
        value: str | None = self._raw.headers[name]
        return value

    def limit(self, seconds: float, *, total: bool = False) -> None:
        """Shorten the patience: each further read may take `seconds`, or with `total` all of them together."""
        if total:
            self._exchange.deadline = min(self._exchange.deadline, self._exchange.clock() + seconds)
        else:
            self._exchange.silence = min(self._exchange.silence, seconds)

    def unhurried(self) -> None:
        """Lift the deadline: what follows is worth more than punctuality."""
        self._exchange.deadline = math.inf

    def read(self) -> bytes:
        """The next piece of the body as soon as there is one; b"" at its verified end.

        Raises `NetworkError` where the body is cut short: http.client ends a body that is shorter than its
        Content-Length in silence, so that is counted here.
        """
        while True:
            packed = self._inflate.unconsumed_tail if self._inflate is not None else b""
            with _mapped(self._exchange):
                data = packed or self._piece()
            if not data and self._inflate is not None and not self._inflate.eof:
                raise NetworkError(
                    "the compressed answer was cut short", code="connection_lost", sent=True, passing=True
                )
            if not data or self._inflate is None:
                return data
            if data := self._inflated(data):
                return data

    def _piece(self) -> bytes:
        if self._chunks is None:
            data: bytes = self._raw.read1(BLOCK)
            if not data and self._raw.length:
                raise http.client.IncompleteRead(b"", self._raw.length)
            return data
        while not self._chunks.ended and not self._chunks.fault:
            received = self._raw.fp.read1(BLOCK)
            if not received:
                raise http.client.IncompleteRead(b"")
            if data := self._chunks.feed(received):
                return data
        if self._chunks.fault:
            raise http.client.IncompleteRead(b"")
        return b""

    def _inflated(self, data: bytes) -> bytes:
        import zlib

        try:
            return bytes(self._inflate.decompress(data, LARGEST_PIECE))
        except zlib.error:
            raise NetworkError("the answer's compression is broken", code="protocol", sent=True) from None

    def body(self, limit: int) -> bytes:
        """The whole body. Raises `NetworkError` where it is cut, or larger than `limit` bytes."""
        parts: list[bytes] = []
        size = 0
        while data := self.read():
            parts.append(data)
            size += len(data)
            if size > limit:
                raise NetworkError(f"the answer is larger than {limit} bytes", code="protocol", sent=True)
        return b"".join(parts)

    def json(self) -> dict[str, Any]:
        """The body as a JSON object; a bare list as its `data`. Raises `NetworkError` where it is neither."""
        data = self.body(LARGEST_JSON)
        self.close()
        value = object_of(b'{"data": %s}' % data if data.lstrip().startswith(b"[") else data)
        if value:
            return value
        error = NetworkError(f"the gateway's answer ({self.status}) is not a JSON object", code="protocol", sent=True)
        error.hint = "is ALLTOKEN_BASE_URL right, and no proxy in between?"
        error.request_id = self.request_id
        raise error

    def close(self) -> None:
        """Close the connection."""
        self._raw.close()


@contextlib.contextmanager
def _mapped(exchange: Exchange) -> Iterator[None]:
    """Turn whatever the standard library raises into a `NetworkError`. None of its texts may show a header's value,
    so a ValueError's text, which can quote the key, is never passed on."""
    try:
        yield
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _network_error(error, exchange) from None


def _network_error(error: Exception, exchange: Exchange) -> NetworkError:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    result: NetworkError
    if isinstance(cause, TimeoutError):
        if exchange.clock() >= exchange.deadline:
            result = DeadlineError("the time of --max-wait is over")
        else:
            what = f"answer for {exchange.silence:g} s"
            if not exchange.sent:
                what = f"connection within {min(exchange.silence, CONNECT_PATIENCE):g} s"
            result = Silence(f"no {what}", hint="--timeout SECONDS waits longer" if exchange.sent else None)
    elif isinstance(cause, (http.client.RemoteDisconnected, ConnectionError, ssl.SSLEOFError)) and exchange.sent:
        result = NetworkError("the connection was closed before the answer was complete", code="connection_lost")
    elif isinstance(cause, ssl.SSLCertVerificationError):
        result = NetworkError(
            f"the server's certificate is not trusted: {cause.verify_message}",
            code="tls",
            hint="a private authority: point SSL_CERT_FILE at its certificate",
        )
    elif isinstance(cause, ssl.SSLError):
        result = NetworkError(f"TLS failed: {cause.reason or 'handshake'}", code="tls")
    elif isinstance(cause, http.client.IncompleteRead):
        result = NetworkError("the connection ended in the middle of the answer", code="connection_lost")
    elif isinstance(cause, http.client.HTTPException):
        result = NetworkError(f"not an HTTP answer: {type(cause).__name__}", code="protocol")
    elif isinstance(cause, OSError):
        reason = cause.strerror or str(cause) or type(cause).__name__
        result = NetworkError(f"cannot connect: {reason}", code="unreachable", hint="check the network and HTTPS_PROXY")
    else:
        result = NetworkError(f"not an answer of this protocol ({type(cause).__name__})", code="protocol")
    result.sent = exchange.sent
    result.passing = result.code in ("timeout", "connection_lost", "unreachable")
    return result
