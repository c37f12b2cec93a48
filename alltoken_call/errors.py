"""`ExitStatus`, and the one tree of exceptions that end a command.

    CallError                 carries its exit status, a code, a hint
    ├── UsageError        2   refused here, before anything was sent
    ├── KeyProblem        4   the key is missing or malformed
    ├── NetworkError      3   no answer, or not one of this protocol
    │   └── DeadlineError     --max-wait is over
    ├── ApiError              the gateway said no; its HTTP status decides
    └── OutputError      13   the result cannot be written here
    Interrupted               a signal; no Exception, so that no handler swallows it

What is raised in one place only (nothing to show, cut short, pending, gone, unknown) is a plain `CallError`
with its status given: a class is for what somebody catches.
"""

from __future__ import annotations

import enum


class ExitStatus(enum.IntEnum):
    """What a script learns from us; the table stands in the README."""

    OK = 0
    REFUSED = 1
    USAGE = 2
    NETWORK = 3
    KEY = 4
    GATEWAY = 5
    CREDIT = 6
    RATE_LIMITED = 7
    PENDING = 8
    CUT_SHORT = 9
    TASK_FAILED = 10
    GONE = 11
    UNKNOWN = 12
    CANNOT_WRITE = 13
    HUNG_UP = 129
    INTERRUPTED = 130
    BROKEN_PIPE = 141
    TERMINATED = 143


class CallError(Exception):
    """An end that the user is told of: `[error] code (status type): message`, and a hint of what to do next.

    `http` is the HTTP status where there was one. `passing` says whether the same request may do better later;
    `sent` whether the gateway may have acted on it.
    """

    status = ExitStatus.REFUSED
    code = "error"
    passing = False

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        code: str | None = None,
        status: ExitStatus | None = None,
        sent: bool = False,
        passing: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code or self.code
        self.status = self.status if status is None else status
        self.sent = sent
        self.passing = self.passing if passing is None else passing
        self.http: int | None = None
        self.type: str | None = None
        self.request_id: str | None = None


class UsageError(CallError):
    """Wrong usage, or refused here before anything was sent."""

    status = ExitStatus.USAGE
    code = "usage"


class KeyProblem(CallError):
    """The API key is missing or malformed; its value never stands in the message."""

    status = ExitStatus.KEY
    code = "api_key"


class NetworkError(CallError):
    """No whole answer of this protocol came back."""

    status = ExitStatus.NETWORK
    code = "network"


class DeadlineError(NetworkError):
    """The command has used up its --max-wait."""

    code = "max_wait"


class OutputError(CallError):
    """The result cannot be written where it should go."""

    status = ExitStatus.CANNOT_WRITE
    code = "cannot_write"


class ApiError(CallError):
    """The gateway's own refusal, from its error envelope where it sent one (`enveloped`)."""

    code = "api_error"

    def __init__(
        self,
        message: str,
        *,
        http: int,
        code: str | None = None,
        type: str | None = None,
        request_id: str | None = None,
        task_id: str | None = None,
        enveloped: bool = True,
    ) -> None:
        status = status_of(http, code, type)
        hint = _HINTS.get(status) if http != 404 else "`alltoken-call models` lists what there is"
        super().__init__(message, code=code or (f"http_{http}" if http else None), status=status, hint=hint, sent=True)
        self.http = http or None
        self.type = type
        self.request_id = request_id
        self.task_id = task_id
        self.enveloped = enveloped
        self.retry_after: float | None = None  # seconds, where the gateway said so
        self.passing = http in (408, 425, 429) or http >= 500


class Interrupted(BaseException):
    """SIGINT, SIGTERM or SIGHUP arrived."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.status = 128 + signum


_HINTS = {
    ExitStatus.REFUSED: "change the request; if it looks right, quote the request id to support",
    ExitStatus.KEY: "check ALLTOKEN_API_KEY: the gateway does not accept this key",
    ExitStatus.CREDIT: "top up in Settings → Billing, then run the command again",
    ExitStatus.RATE_LIMITED: "too many requests with this key: wait, then run the command again",
    ExitStatus.GATEWAY: "the gateway or its providers failed: try again later or another model (-m)",
    ExitStatus.GONE: "the result is gone: run a new generation",
}

# Slugs that come without an HTTP status of their own, in the middle of a 200 stream (PROTOCOL: Errors).
_SLUGS = {
    "insufficient_balance": 402,
    "invalid_api_key": 401,
    "invalid_token": 401,
    "invalid_request": 400,
    "upstream_invalid_parameter": 400,
    "upstream_content_violation": 400,
    "upstream_model_not_found": 404,
}
_TYPES = {
    "billing_error": 402,
    "authentication_error": 401,
    "permission_error": 403,
    "invalid_request_error": 400,
    "not_found_error": 404,
}


def status_of(http: int, code: str | None = None, type: str | None = None) -> ExitStatus:
    """The exit status for an HTTP error status; with `http` 0 (an error inside a stream) the code or type decides."""
    if not http:
        if code and code.isascii() and code.isdigit() and len(code) == 3:
            http = int(code)
        elif "rate_limit" in (code or "") or "rate_limit" in (type or ""):
            http = 429
        else:
            http = _SLUGS.get(code or "") or _TYPES.get(type or "") or 500
    if http >= 500:
        return ExitStatus.GATEWAY
    return {
        401: ExitStatus.KEY,
        403: ExitStatus.KEY,
        402: ExitStatus.CREDIT,
        410: ExitStatus.GONE,
        429: ExitStatus.RATE_LIMITED,
    }.get(http, ExitStatus.REFUSED)
