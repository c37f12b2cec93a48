"""Open one connection and send one request: the only module that does.

Strategy: find, reach, tunnel, TLS, ask, one after the other, on a socket whose every operation has the time that the
exchange's clock leaves it. So a name server, a proxy or a server that says nothing, or a byte at a time, ends when
--timeout or --max-wait says. http.client writes the request and reads the head of the answer; no redirect is
followed, and whether the request has left is known, which decides what may be repeated.
"""

from __future__ import annotations

import errno
import http.client
import io
import os
import re
import socket
import ssl
from urllib.parse import unquote, urlsplit

from .. import __version__, config
from ..errors import NetError
from . import trust
from .response import BLOCK, Response

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any
    from urllib.parse import SplitResult

    from .exchange import Exchange


def open_url(
    method: str,
    url: str,
    data: bytes | None,
    headers: Mapping[str, str],
    exchange: Exchange,
    *,
    proxied: bool = False,
    quick: bool = True,
) -> Response:
    """One attempt at an http(s) URL, whatever the answer's status; redirects are answers too.

    `proxied`: the environment may name proxies; no proxy sees loopback traffic. `quick`: the quick trust is tried
    before the full one. Raises `NetError` if there is no answer.
    """
    with exchange.mapped():
        parts = urlsplit(url)
        host, secure = parts.hostname or "", parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        proxy = _proxy_for(parts) if proxied and not config.is_loopback(host) else None
        credentials = _credentials(proxy) if proxy else {}
        sock = _reach(*((proxy.hostname, proxy.port or 80) if proxy else (host, port)), exchange)
        try:
            if secure:
                if proxy:
                    _tunnel(sock, host, port, credentials, exchange)
                trusted = trust.quick() if quick else None
                try:
                    sock = _secured(sock, trusted or trust.full(), host, exchange)
                except ssl.SSLCertVerificationError:
                    if trusted is None:
                        raise
                    sock.close()
                    return open_url(
                        method, url, data, headers, exchange, proxied=proxied, quick=False
                    )  # nothing was sent yet
            exchange.connected()
            connection = http.client.HTTPConnection(host, port)
            connection.response_class = _Answer
            connection.default_port = 443 if secure else 80  # decides whether Host names the port
            connection.sock = _Socket(sock, exchange)
            target = url if proxy and not secure else f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
            sent = {"User-Agent": f"alltoken-call/{__version__}", "Connection": "close", **headers}
            if proxy and not secure:
                sent |= credentials
            if data is not None:
                sent["Content-Length"] = str(len(data))
            body = io.BytesIO(data) if data is not None else None  # sent block by block: --timeout is a block's
            connection.request(method, target, body, sent)
            answer = connection.getresponse()
            sock.close()  # the answer keeps the descriptor until it is closed, whether the server keeps alive or not
            return Response(answer, exchange)
        except BaseException:
            sock.close()
            raise


def _reach(host: str | None, port: int, exchange: Exchange) -> socket.socket:
    """A TCP connection to the first address of a host that takes one; each gets its share of the time."""
    addresses = _resolve(host or "", port, exchange)
    failure: OSError = OSError("the name has no address")
    for number, (family, kind, protocol, _, address) in enumerate(addresses):
        sock = socket.socket(family, kind, protocol)
        try:
            _connect(sock, address, 1 / (len(addresses) - number), exchange)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
        except BaseException as error:
            sock.close()
            if not isinstance(error, OSError):
                raise
            failure = error
    raise failure


def _connect(sock: socket.socket, address: Any, share: float, exchange: Exchange) -> None:
    """Connect within a share of the time; if the exchange may be stopped, it is asked meanwhile."""
    if exchange.stop is None:
        sock.settimeout(exchange.patience() * share)
        sock.connect(address)
        return
    import selectors  # a thread cannot be woken from `connect`

    sock.settimeout(0.0)
    failure = sock.connect_ex(address)
    if failure in (errno.EINPROGRESS, errno.EWOULDBLOCK):
        with selectors.DefaultSelector() as selector:
            selector.register(sock, selectors.EVENT_WRITE)
            next(seconds for seconds in exchange.slices(share) if selector.select(seconds))
        failure = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if failure:
        raise OSError(failure, os.strerror(failure))


def _secured(sock: socket.socket, trusted: ssl.SSLContext, host: str, exchange: Exchange) -> ssl.SSLSocket:
    """The socket, under TLS."""
    secured = trusted.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
    try:
        for seconds in exchange.slices():
            secured.settimeout(seconds)
            try:
                secured.do_handshake()
                break
            except TimeoutError:  # it goes on where it was
                continue
    except BaseException:
        secured.close()
        raise
    return secured


def _resolve(host: str, port: int, exchange: Exchange) -> list[Any]:
    """The addresses of a host. A name is looked up in a thread: getaddrinfo hears neither signals nor clocks."""
    # Text would be encoded for other scripts' names first, and to load what does that takes 5 ms.
    name = host.encode() if host.isascii() else host

    def look_up(flags: int = 0) -> list[Any]:
        return socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=flags)

    if re.fullmatch(r"[0-9.]+|[0-9a-fA-F:.]*:[0-9a-fA-F:.%a-z]*", host):
        return look_up(socket.AI_NUMERICHOST)
    import threading

    found: list[Any] = []
    done = threading.Event()

    def work() -> None:
        try:
            found.append(look_up())
        except (OSError, UnicodeError) as error:
            found.append(error)
        done.set()

    threading.Thread(target=work, daemon=True).start()
    for seconds in exchange.slices():
        if done.wait(seconds):
            break
    if isinstance(found[0], Exception):
        raise found[0]
    addresses: list[Any] = found[0]
    return addresses


def _proxy_for(parts: SplitResult) -> SplitResult | None:
    """The proxy for a URL, as HTTPS_PROXY, HTTP_PROXY and NO_PROXY (or the system's settings) say."""
    import urllib.request  # 12 ms

    value = urllib.request.getproxies().get(parts.scheme)
    if not value or urllib.request.proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    try:
        proxy = urlsplit(value if "://" in value else f"http://{value}")
        usable = proxy.hostname and proxy.port != 0
    except ValueError:
        usable = None
    if not usable or proxy.scheme not in ("http", "https"):
        raise NetError(
            f"{parts.scheme.upper()}_PROXY is not a proxy's address", "proxy", hint="it must look like http://host:port"
        )
    return proxy


def _credentials(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    import base64

    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}".encode()
    return {"Proxy-Authorization": f"Basic {base64.b64encode(pair).decode('ascii')}"}


def _tunnel(sock: socket.socket, host: str, port: int, headers: Mapping[str, str], exchange: Exchange) -> None:
    """Ask a proxy for a tunnel. Raises `NetError` if it refuses."""
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {where} HTTP/1.1", f"Host: {where}", *(f"{name}: {value}" for name, value in headers.items())]
    sock.settimeout(exchange.patience())
    sock.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
    answer = _Answer(_Socket(sock, exchange), method="CONNECT")  # type: ignore[arg-type]
    try:
        answer.begin()
    except ConnectionError:
        raise NetError(
            "the proxy closed the connection", "unreachable", passing=True, hint="check HTTPS_PROXY"
        ) from None
    finally:
        answer.close()
    if not 200 <= answer.status < 300:  # RFC 9110 §9.3.6
        message = f"the proxy refuses to connect to {host} (status {answer.status})"
        raise NetError(message, "proxy", passing=answer.status >= 500, hint="check HTTPS_PROXY and NO_PROXY")


class _Reader(io.RawIOBase):
    """A socket's incoming bytes; each read gets the time that is left."""

    def __init__(self, sock: socket.socket, exchange: Exchange) -> None:
        self._sock = sock
        self._hold = sock.makefile("rb", buffering=0)  # keeps the descriptor open after http.client closes the socket
        self._exchange = exchange

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        for seconds in self._exchange.slices():
            self._sock.settimeout(seconds)
            try:
                return self._sock.recv_into(buffer)
            except TimeoutError:
                continue
        return 0

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
        self._sock.settimeout(self._exchange.patience())
        self._exchange.sent = True
        try:
            if self._exchange.stop is None:
                self._sock.sendall(data)
            else:
                self._send(memoryview(data))
        except (BrokenPipeError, ConnectionResetError):
            self._refused = True  # a 401 or 413 may have come before the body was through: read it

    def _send(self, data: memoryview) -> None:
        """As `sendall`, with looks at `stop`; its patience is for each piece that the peer takes."""
        while data:
            for seconds in self._exchange.slices():
                self._sock.settimeout(seconds)
                try:
                    data = data[self._sock.send(data) :]
                    break
                except TimeoutError:
                    continue

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self._sock, self._exchange), BLOCK)


class _Answer(http.client.HTTPResponse):
    def _read_status(self) -> tuple[str, int, str]:
        # http.client skips 100 only; 103 Early Hints would be taken for the answer (RFC 9110 §15.2).
        version, status, reason = super()._read_status()  # type: ignore[misc]
        return version, 100 if 102 <= status <= 199 else status, reason
