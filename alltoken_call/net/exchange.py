"""The clock of one HTTP exchange, and the one place where its failures are mapped."""

from __future__ import annotations

import contextlib
import http.client
import ssl
import urllib.error

from ..errors import DeadlineError, NetworkError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CONNECT_PATIENCE = 30.0  # seconds to reach one address: who has not answered by then is not there


class Exchange:
    """The clock of one request, and whether it has left."""

    def __init__(self, clock: Callable[[], float], silence: float, deadline: float, host: str | None) -> None:
        self.clock = clock
        self.silence = silence  # seconds
        self.deadline = deadline  # an instant of `clock`
        self.host = host
        self.sent = False

    def patience(self) -> float:
        """Seconds that the next socket operation may take. Raises TimeoutError where the deadline has passed."""
        left = self.deadline - self.clock()
        if left <= 0:
            raise TimeoutError("deadline")
        return min(self.silence, left)

    @contextlib.contextmanager
    def mapped(self) -> Iterator[None]:
        """Turn whatever the standard library raises into a `NetworkError`. None of its texts may show a header's
        value, so a ValueError's text, which can quote the key, is never passed on."""
        try:
            yield
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._network_error(error) from None

    def _network_error(self, error: Exception) -> NetworkError:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        result: NetworkError
        if isinstance(cause, TimeoutError):
            if self.clock() >= self.deadline:
                result = DeadlineError("the time of --max-wait is over")
            else:
                what = f"answer for {self.silence:g} s"
                if not self.sent:
                    what = f"connection within {min(self.silence, CONNECT_PATIENCE):g} s"
                hint = "--timeout SECONDS waits longer" if self.sent else None
                result = NetworkError(f"no {what}", code="timeout", hint=hint)
        elif self.sent and isinstance(cause, (http.client.IncompleteRead, ConnectionError, ssl.SSLEOFError)):
            result = NetworkError("the connection was closed before the answer was complete", code="connection_lost")
        elif isinstance(cause, ssl.SSLCertVerificationError):
            result = NetworkError(
                f"the server's certificate is not trusted: {cause.verify_message}",
                code="tls",
                hint="a private authority: point SSL_CERT_FILE at its certificate",
            )
        elif isinstance(cause, ssl.SSLError):
            result = NetworkError(f"TLS failed: {cause.reason or 'handshake'}", code="tls")
        elif isinstance(cause, http.client.HTTPException):
            result = NetworkError(f"not an HTTP answer: {type(cause).__name__}", code="protocol")
        elif isinstance(cause, OSError):
            reason = cause.strerror or str(cause) or type(cause).__name__
            result = NetworkError(
                f"cannot connect to {self.host}: {reason}", code="unreachable", hint="check the network and HTTPS_PROXY"
            )
        else:
            result = NetworkError(f"not an answer of this protocol ({type(cause).__name__})", code="protocol")
        result.sent = self.sent
        result.passing = result.code in ("timeout", "connection_lost", "unreachable")
        return result
