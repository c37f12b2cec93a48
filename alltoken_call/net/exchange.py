"""The clock of one HTTP exchange, and the one place where its failures become `NetError`s."""

from __future__ import annotations

import contextlib
import http.client
import math
import ssl

from ..errors import ExitStatus, NetError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LOOK = 0.2  # seconds between two looks at `stop`
CONNECT_PATIENCE = 30.0  # seconds to find and reach the server, a proxy's tunnel and TLS included


class Exchange:
    """The clock of one request, and whether it has left.

    `silence` is the longest time in seconds without a byte, `deadline` an instant of `clock`.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        silence: float,
        deadline: float,
        host: str | None,
        stop: Callable[[], bool] | None = None,
    ) -> None:
        self.clock = clock
        self.stop = stop  # whether to give up now; asked every `LOOK` seconds, if there is one
        self.silence = silence
        self.deadline = deadline
        self.host = host
        self.sent = False
        self._connect_by = clock() + min(silence, CONNECT_PATIENCE)

    def connected(self) -> None:
        """The server is reached: from here on only silence and the deadline count."""
        self._connect_by = math.inf

    def patience(self) -> float:
        """Seconds that the next socket operation may take. Raises TimeoutError if there are none left."""
        now = self.clock()
        left = min(self.deadline, self._connect_by) - now
        if left <= 0:
            raise TimeoutError
        return min(self.silence, left)

    def slices(self, share: float = 1.0) -> Iterator[float]:
        """The time for one operation in seconds, in slices between which `stop` is asked; at the end TimeoutError.

        `share` is the part of the time that it may take. Raises `NetError` with the code cancelled if `stop` says so.
        """
        left = self.patience() * share
        until = self.clock() + left
        while self.stop is not None and left > 0:
            if self.stop():
                raise NetError("cancelled", "cancelled", sent=self.sent, status=ExitStatus.INTERRUPTED)
            yield min(left, LOOK)
            left = until - self.clock()
        if self.stop is None:
            yield left
        raise TimeoutError

    @contextlib.contextmanager
    def mapped(self) -> Iterator[None]:
        """Turn whatever the standard library raises into a `NetError`. None of its texts may show a header's value:
        a ValueError's text, which can quote the key, is never passed on."""
        try:
            yield
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._failure(error) from None

    def _failure(self, error: Exception) -> NetError:
        message, code = f"not an answer of this protocol ({type(error).__name__})", "protocol"
        hint, passing = None, False
        if isinstance(error, TimeoutError):
            passing = True
            if self.clock() >= self.deadline:
                message, code = "the time of --max-wait is over", "max_wait"
                passing = False
            elif self.sent:
                message, code, hint = f"no answer for {self.silence:g} s", "timeout", "--timeout SECONDS waits longer"
            else:
                message, code = f"no connection within {min(self.silence, CONNECT_PATIENCE):g} s", "timeout"
        elif self.sent and isinstance(error, (http.client.IncompleteRead, ConnectionError, ssl.SSLEOFError)):
            message, code = "the connection was closed before the answer was complete", "connection_lost"
            passing = True
        elif isinstance(error, ssl.SSLCertVerificationError):
            message, code = f"the server's certificate is not trusted: {error.verify_message}", "tls"
            hint = "for a private certificate authority, set SSL_CERT_FILE to its certificate"
        elif isinstance(error, ssl.SSLError):
            message, code = f"TLS failed: {error.reason or 'handshake'}", "tls"
        elif isinstance(error, http.client.HTTPException):
            message = f"not an HTTP answer: {type(error).__name__}"
        elif isinstance(error, OSError):
            reason = error.strerror or str(error) or type(error).__name__
            message, code, passing = f"cannot connect to {self.host}: {reason}", "unreachable", True
            hint = "check the network and HTTPS_PROXY"
        return NetError(message, code, hint=hint, sent=self.sent, passing=passing)
