"""The only module that opens a connection: a request in, a checked answer out, every failure mapped here.

Strategy: urllib, with an opener built of the handlers we want, so that no `file:` URL opens, no redirect is followed
with a key, and HTTP errors come back as answers. One connection subclass knows two things that urllib hides: whether
the request has left (which decides what may be repeated), and how long the next socket operation may take (the
smaller of --timeout and what --max-wait leaves), also while headers drip in one by one.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import math
import ssl
import urllib.error
import urllib.request
from urllib.parse import quote, urlsplit

from . import __version__, config, retry
from .errors import ApiError, DeadlineError, NetworkError, Silence
from .output import one_line, redacted

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any, TypeVar

    from .context import Context
    from .output import Output

    T = TypeVar("T")

BLOCK = 1 << 16  # bytes of one read
LARGEST_JSON = 64 << 20  # bytes of a JSON answer; image results go to disk and have a bound of their own
LARGEST_ERROR = 1 << 18  # bytes of an error body that are read
ERROR_PATIENCE = 10.0  # seconds that an error body may take
CONNECT_PATIENCE = 30.0  # seconds to reach one address: who has not answered by then is not there


class Policy:
    """What may be repeated: `statuses` of an answer, and `lost`, a request whose outcome is unknown.

    Requests that never left are always repeated.
    """

    def __init__(self, *statuses: int, lost: bool = False, bare: bool = False) -> None:
        self.statuses = statuses
        self.lost = lost
        self.bare = bare  # a 5xx without our envelope counts as lost: a proxy's word says nothing about the gateway


ONCE_SENT = Policy(429, 503)  # chat: after silence or a reset it may have been billed
READING = Policy(429, 500, 502, 503, 504, lost=True)


class Exchange:
    """The clock of one request, and how far it has come."""

    def __init__(self, clock: Any, silence: float, deadline: float) -> None:
        self.clock = clock
        self.silence = silence  # seconds
        self.deadline = deadline  # an instant of `clock`
        self.sent = False

    def patience(self) -> float:
        """Seconds that the next socket operation may take. Raises TimeoutError where the deadline has passed."""
        left = self.deadline - float(self.clock())
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
    def __init__(self) -> None:
        self._tls = _tls_context()
        super().__init__(context=self._tls)

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        kind = _connection(http.client.HTTPSConnection, request.exchange)  # type: ignore[attr-defined]
        return self.do_open(kind, request, context=self._tls)


def _tls_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def parse_json(data: bytes | str) -> Any:
    """A JSON value; NaN and infinities, which JSON does not have, become null. Raises ValueError, also for nesting
    that is too deep and for numbers of thousands of digits."""
    if isinstance(data, bytes):
        data = data.decode("utf-8-sig", "replace")
    try:
        return _DECODER.decode(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _finite(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=lambda _: None)


def text_of(value: object) -> str | None:
    """`value` where it is a string with something in it: what hostile or odd answers put elsewhere is no text."""
    return value if isinstance(value, str) and value.strip() else None


class Response:
    """One HTTP answer: its status and headers, and its body piece by piece."""

    def __init__(self, raw: http.client.HTTPResponse, exchange: Exchange, secret: str) -> None:
        self._raw = raw
        self._exchange = exchange
        self.status = raw.status
        self.request_id = next(
            (redacted(one_line(raw.headers[name], 200), secret) for name in _REQUEST_IDS if raw.headers[name]), None
        )
        encoding = (raw.headers["Content-Encoding"] or "identity").strip().lower()
        self._inflate: Any = None
        if encoding in ("gzip", "x-gzip", "deflate"):  # not asked for, but paid for
            import zlib

            self._inflate = zlib.decompressobj(47 if "gzip" in encoding else 15)
        elif encoding != "identity" and raw.status == 200:
            raise NetworkError(
                f"the answer is encoded as {encoding!r}, which was not asked for", code="protocol", sent=True
            )

    def header(self, name: str) -> str | None:
        """A header's value, or None."""
        return self._raw.headers[name]

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
            with _mapped(self._exchange, self._raw.status):
                data = self._raw.read1(BLOCK)
                if not data and self._raw.length:
                    raise http.client.IncompleteRead(b"", self._raw.length)
            if not data or self._inflate is None:
                return data
            if data := self._inflated(data):
                return data

    def _inflated(self, data: bytes) -> bytes:
        import zlib

        try:
            return bytes(self._inflate.decompress(data))
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
        """The body as a JSON object. Raises `NetworkError` where it is none."""
        with contextlib.suppress(ValueError):
            value = parse_json(self.body(LARGEST_JSON))
            if isinstance(value, dict):
                return value
        raise NetworkError(
            f"the gateway's answer ({self.status}) is not a JSON object",
            code="protocol",
            sent=True,
            hint="is ALLTOKEN_BASE_URL right, and no proxy in between?",
        )

    def close(self) -> None:
        """Close the connection."""
        self._raw.close()


_REQUEST_IDS = ("x-request-id", "x-gateway-request-id")


@contextlib.contextmanager
def _mapped(exchange: Exchange, status: int | None = None) -> Iterator[None]:
    """Turn whatever the standard library raises into a `NetworkError`. None of its texts may show a header's value,
    so a ValueError's text, which can quote the key, is never passed on."""
    try:
        yield
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _network_error(error, exchange, status) from None


def _network_error(error: Exception, exchange: Exchange, status: int | None) -> NetworkError:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    result: NetworkError
    if isinstance(cause, TimeoutError):
        if exchange.clock() >= exchange.deadline:
            result = DeadlineError("the time of --max-wait is over")
        else:
            result = Silence(f"no answer for {exchange.silence:g} s", hint="--timeout SECONDS waits longer")
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
        result = NetworkError("the answer was cut short", code="connection_lost")
    elif isinstance(cause, http.client.HTTPException):
        result = NetworkError(f"not an HTTP answer: {type(cause).__name__}", code="protocol")
    elif isinstance(cause, OSError):
        reason = cause.strerror or str(cause) or type(cause).__name__
        result = NetworkError(f"cannot connect: {reason}", code="unreachable", hint="check the network and HTTPS_PROXY")
    else:
        result = NetworkError(f"not an answer of this protocol ({type(cause).__name__})", code="protocol")
    result.sent = exchange.sent
    result.http = status
    result.passing = result.code in ("timeout", "connection_lost", "unreachable")
    return result


class Transport:
    """Requests to one gateway, under one --timeout (seconds) and the context's deadline."""

    def __init__(self, context: Context, output: Output, timeout: float, *, with_key: bool = True) -> None:
        self.base = config.base_url(context.environ)
        self.reached = False  # a request has left us
        self._timeout = timeout
        self.key = config.api_key(context.environ) if with_key else ""
        self._context = context
        self._output = output
        self._openers: dict[bool, Any] = {}

    def stream(self, path: str, body: Mapping[str, Any]) -> Response:
        """POST a JSON body; the 2xx answer, unread. Raises as `request`."""
        return self.request("POST", path, body, ONCE_SENT, lambda response: response)

    def get(self, path: str) -> dict[str, Any]:
        """GET a JSON object. Raises as `request`."""
        return self.request("GET", path, None, READING, Response.json)

    def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        policy: Policy,
        read: Callable[[Response], T],
        *,
        headers: Mapping[str, str] | None = None,
        silence: float = math.inf,
        latest: float = math.inf,
    ) -> T:
        """What `read` makes of an API endpoint's 2xx answer, after at most two repeats, none of which starts later
        than `latest` seconds after the first attempt. `silence` replaces a longer --timeout.

        Raises `ApiError` for any other answer and `NetworkError` for none. Its `sent` is true where an attempt
        may have been acted on and no later answer has settled that.
        """
        data = None
        headers = {"Accept": "application/json, text/event-stream", **(headers or {})}
        if body is not None:
            # Halves of surrogate pairs, from argv or a file, have no UTF-8: "?" is better than a refused request.
            data = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
            headers["Content-Type"] = "application/json"
        if path.startswith("/v1/"):
            headers["Authorization"] = f"Bearer {self.key}"
        started = self._context.clock()
        doubtful = False
        attempt = 0
        while True:
            try:
                response = self.once(method, self.base + path, data, headers, silence)
                if 200 <= response.status < 300:
                    return read(response)
                raise self._refusal(response)
            except (ApiError, NetworkError) as error:
                lost = self._lost(error, policy)
                error.sent = doubtful = doubtful or lost
                pause = self._pause(error, lost, policy, attempt)
                if pause is None or self._context.clock() + pause - started > latest:
                    raise
                attempt += 1
                reason = one_line(f"{error.http} {error.code}" if isinstance(error, ApiError) else error.message, 200)
                self._output.note("retry", f"{reason}: waiting {pause:.3g} s ({attempt} of {retry.ATTEMPTS - 1})")
                self._context.sleep(pause)

    def _pause(self, error: ApiError | NetworkError, lost: bool, policy: Policy, attempt: int) -> float | None:
        """Seconds to wait before the repeat; None where there is none."""
        asked = None
        if isinstance(error, ApiError):
            again = error.http in policy.statuses and error.code != "all_providers_failed"
            asked = error.retry_after
        else:
            again = error.passing and not lost
        pause = retry.wait(attempt, asked, self._context.chance()) if again or (lost and policy.lost) else None
        return pause if pause is not None and pause < self._context.left() else None

    @staticmethod
    def _lost(error: ApiError | NetworkError, policy: Policy) -> bool:
        """Whether this failure leaves open what the gateway did with the request."""
        if isinstance(error, ApiError):
            return policy.bare and not error.enveloped and error.http is not None and not 400 <= error.http < 500
        return error.sent

    def once(
        self, method: str, url: str, data: bytes | None, headers: Mapping[str, str], silence: float = math.inf
    ) -> Response:
        """One attempt at any URL, whatever the answer's status; redirects are answers too. `NetworkError` for none."""
        clock = self._context.clock
        exchange = Exchange(clock, min(self._timeout, silence), self._context.deadline)
        body = io.BytesIO(data) if data is not None else None  # sent block by block: --timeout is a block's, not all's
        shown = url.partition("?")[0] if url.startswith(self.base) else "https://" + (urlsplit(url).hostname or "")
        self._output.debug(f"{method} {shown}")
        started = clock()
        with _mapped(exchange):
            request = urllib.request.Request(url, body, method=method)  # noqa: S310  # the opener knows http and https only
            request.exchange = exchange  # type: ignore[attr-defined]
            request.add_unredirected_header("User-agent", f"alltoken-call/{__version__}")
            for name, value in headers.items():
                request.add_unredirected_header(name, value)
            if data is not None:
                request.add_unredirected_header("Content-length", str(len(data)))
            try:
                raw = self._opener(url).open(request, timeout=exchange.patience())
            finally:
                self.reached = self.reached or exchange.sent
            response = Response(raw, exchange, self.key)
        self._output.debug(f"{response.status} in {clock() - started:.2f} s request_id={response.request_id}")
        return response

    def _opener(self, url: str) -> urllib.request.OpenerDirector:
        parts = urlsplit(url)
        direct = config.is_loopback(parts.hostname)
        opener = self._openers.get(direct)
        if opener is None:
            opener = urllib.request.OpenerDirector()
            opener.addheaders = []
            opener.add_handler(urllib.request.UnknownHandler())
            opener.add_handler(_Http())
            if not direct:
                opener.add_handler(urllib.request.ProxyHandler())
            self._openers[direct] = opener
        if parts.scheme == "https" and "https" not in opener.handle_open:
            opener.add_handler(_Https())  # loading the certificates takes longer than all else here
        return opener

    def _refusal(self, response: Response) -> ApiError | NetworkError:
        """The error that an answer other than 2xx is, whatever its body holds."""
        if 300 <= response.status < 400:
            response.close()
            return NetworkError(
                f"the gateway answered with a redirect ({response.status}), which is not followed with a key",
                code="redirect",
                hint="set ALLTOKEN_BASE_URL to the address where the API really is",
            )
        body = b""
        with contextlib.suppress(NetworkError):
            response.limit(ERROR_PATIENCE, total=True)
            while len(body) < LARGEST_ERROR and (data := response.read()):
                body += data
        response.close()
        try:
            document = parse_json(body)
        except ValueError:
            document = None
        error = api_error(document, response.status, response.request_id, self.key)
        error.retry_after = retry.parse_retry_after(response.header("Retry-After"), self._context.now())
        if error.retry_after is not None and error.retry_after > retry.LONGEST:
            error.hint = f"the gateway asks to wait {error.retry_after:.0f} s"
        return error


def api_error(document: object, http: int, request_id: str | None, secret: str) -> ApiError:
    """The `ApiError` in an error envelope of any shape. `http` is 0 for one inside a stream, whose code decides.

    The request id is taken from wherever it sits: the envelope, the document's top, or a header (PROTOCOL: Errors).
    """
    top = document if isinstance(document, dict) else {}
    inner = top.get("error")
    fields = inner if isinstance(inner, dict) else {}

    def field(name: str) -> str | None:
        values = (place.get(name) for place in (fields, top))
        texts = (str(value) if type(value) is int else text_of(value) for value in values)
        return next((redacted(one_line(text), secret) for text in texts if text), None)

    message = field("message") or (redacted(one_line(inner), secret) if isinstance(inner, str) else None)
    return ApiError(
        message or "the gateway gave no reason",
        http=http,
        code=field("code"),
        type=field("type"),
        request_id=field("request_id") or field("x-gateway-request-id") or request_id,
        task_id=field("task_id"),
        enveloped=isinstance(inner, (dict, str)) and bool(inner),
    )


def segment(text: str) -> str:
    """`text` as one segment of a URL's path."""
    return quote(text, safe="")
