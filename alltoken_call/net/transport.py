"""Requests to the gateway: the key, what is repeated and what never, and the gateway's refusals as `ApiError`s."""

from __future__ import annotations

import contextlib
import json
import math
from urllib.parse import urlsplit

from .. import config
from . import retry
from .connection import open_url
from ..errors import ApiError, ExitStatus, NetworkError
from .exchange import Exchange
from .response import Response
from ..text import one_line, redacted
from ..wire import object_of, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, TypeVar

    from ..cli.context import Context
    from ..cli.output import Output

    T = TypeVar("T")

LARGEST_ERROR = 1 << 18  # bytes of an error body that are read
ERROR_PATIENCE = 10.0  # seconds that an error body may take


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


class Transport:
    """Requests to one gateway, under one --timeout (seconds) and the context's deadline.

    Raises `UsageError`, `KeyProblem`, and `OutputError` where nobody could read the answer.
    """

    def __init__(self, context: Context, output: Output, timeout: float, *, with_key: bool = True) -> None:
        self.base = config.base_url(context.environ)
        self._timeout = timeout
        self.key = config.api_key(context.environ) if with_key else ""
        self._context = context
        self._output = output
        output.check_stdout()

    def stream(self, path: str, body: Mapping[str, Any]) -> Response:
        """POST a JSON body; the 2xx answer, unread. Raises as `request`."""
        return self.request("POST", path, body, ONCE_SENT, lambda response: response)

    def get(self, path: str) -> dict[str, Any]:
        """GET a JSON object. Raises as `request`."""
        return self.request("GET", path, None, READING, Response.json)

    def fetch(self, path: str, *, grace: float = 0.0) -> Response:
        """GET an API endpoint once; the 2xx answer, unread. It may take `grace` seconds longer than the deadline."""
        return self._accepted(
            self.once("GET", self.base + path, None, {"Authorization": f"Bearer {self.key}"}, grace=grace)
        )

    def put(self, url: str, data: bytes, headers: Mapping[str, str]) -> None:
        """PUT bytes at a URL that is not the gateway's own: without the key, repeated on whatever passes."""
        try:
            self.repeat(lambda: self._accepted(self.once("PUT", url, data, headers)).close(), READING)
        except ApiError as error:
            if error.http in (401, 403):  # no key was sent there
                error.status, error.hint = ExitStatus.REFUSED, "the upload's address may have expired: run it again"
            raise

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
        """What `read` makes of an API endpoint's 2xx answer, repeated as `repeat` does. `silence` replaces a longer
        --timeout."""
        data = None
        headers = {"Accept": "application/json, text/event-stream", **(headers or {})}
        if body is not None:
            # Halves of surrogate pairs, from argv or a file, have no UTF-8: "?" is better than a refused request.
            data = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
            headers["Content-Type"] = "application/json"
        if path.startswith("/v1/"):
            headers["Authorization"] = f"Bearer {self.key}"

        def attempt() -> T:
            return read(self._accepted(self.once(method, self.base + path, data, headers, silence)))

        return self.repeat(attempt, policy, latest)

    def repeat(self, attempt: Callable[[], T], policy: Policy, latest: float = math.inf) -> T:
        """What `attempt` returns, after at most two repeats, none of which starts later than `latest` seconds after
        the first.

        Raises its last `ApiError` or `NetworkError`, whose `sent` is true where an attempt may have been acted on and
        no later answer has settled that.
        """
        started = self._context.clock()
        doubtful = False
        repeats = 0
        while True:
            try:
                return attempt()
            except (ApiError, NetworkError) as error:
                lost = self._lost(error, policy)
                error.sent = doubtful = doubtful or lost
                pause = self._pause(error, lost, policy, repeats)
                if pause is None or self._context.clock() + pause - started > latest:
                    raise
                repeats += 1
                reason = one_line(f"{error.http} {error.code}" if isinstance(error, ApiError) else error.message, 200)
                self._output.note("retry", f"{reason}: waiting {pause:.3g} s ({repeats} of {retry.ATTEMPTS - 1})")
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
        self,
        method: str,
        url: str,
        data: bytes | None,
        headers: Mapping[str, str],
        silence: float = math.inf,
        *,
        grace: float = 0.0,
    ) -> Response:
        """One attempt, as `open_url`, under our clocks."""
        clock = self._context.clock
        host = urlsplit(url).hostname
        exchange = Exchange(clock, min(self._timeout, silence), self._context.deadline + grace, host)
        ours = "Authorization" in headers or url.startswith(f"{self.base}/api-account/")
        shown = url if ours else f"a URL at {host}"  # an upload's or a result's, which is secret
        self._output.debug(f"{method} {shown}")
        started = clock()
        try:
            response = open_url(method, url, data, headers, exchange)
        finally:
            self._output.reached |= exchange.sent and "Authorization" in headers
        if response.request_id:
            response.request_id = self._output.clean(response.request_id)
        if ours:
            self._output.report["request_id"] = response.request_id
        self._output.debug(f"{response.status} in {clock() - started:.2f} s request_id={response.request_id}")
        return response

    def _accepted(self, response: Response) -> Response:
        """A 2xx answer; any other is raised as the error that it is, whatever its body holds."""
        problem: NetworkError | None = None
        if 300 <= response.status < 400:
            problem = NetworkError(
                f"the gateway answered with a redirect ({response.status}), which is not followed with a key",
                code="redirect",
                hint="set ALLTOKEN_BASE_URL to the address where the API really is",
            )
        elif response.foreign and response.status < 300:
            what = f"the answer is encoded as {one_line(response.foreign, 60)}, which was not asked for"
            problem = NetworkError(what, code="protocol", sent=True)
        elif 200 <= response.status < 300:
            return response
        if problem is not None:
            response.close()
            problem.request_id = response.request_id
            raise problem
        body = b""
        with contextlib.suppress(NetworkError):
            response.limit(ERROR_PATIENCE)
            while len(body) < LARGEST_ERROR and (data := response.read()):
                body += data
        response.close()
        error = api_error(object_of(body), response.status, response.request_id, self.key)
        error.retry_after = retry.parse_retry_after(response.header("Retry-After"), self._context.now())
        if error.retry_after:
            error.hint = f"the gateway asks to wait {error.retry_after:.0f} s"
        raise error


def api_error(document: dict[str, Any], http: int, request_id: str | None, secret: str) -> ApiError:
    """The `ApiError` in an error envelope of any shape. `http` is 0 for one inside a stream, whose code decides.

    The request id is taken from wherever it sits: the envelope, the document's top, or a header (PROTOCOL: Errors).
    """
    inner = document.get("error")
    fields = inner if isinstance(inner, dict) else {}

    def field(name: str) -> str | None:
        values = (place.get(name) for place in (fields, document))
        texts = (str(value) if type(value) is int else text_of(value) for value in values)
        return next((one_line(redacted(text, secret)) for text in texts if text), None)

    message = field("message") or (one_line(redacted(inner, secret)) if isinstance(inner, str) else None)
    return ApiError(
        message or "the gateway gave no reason",
        http=http,
        code=field("code"),
        type=field("type"),
        request_id=field("request_id") or field("x-gateway-request-id") or request_id,
        task_id=field("task_id"),
        enveloped=isinstance(inner, (dict, str)) and bool(inner),
    )


def allowed_url(url: str, base: str) -> bool:
    """Whether we open a URL that the gateway gave us: https, or http where it and the base URL are on loopback."""
    try:
        parts, home = urlsplit(url), urlsplit(base)
        host = parts.hostname
        _ = parts.port  # raises where it is none
    except ValueError:
        return False
    local = parts.scheme == "http" and config.is_loopback(host) and config.is_loopback(home.hostname)
    return bool(host) and (parts.scheme == "https" or local) and "@" not in parts.netloc
