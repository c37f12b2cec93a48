"""`ExitStatus`, and the two kinds of failure: `NetError`, which is neutral, and `CallError`, which ends a call.

    NetError                  what broke, and whether the request had left; a dialect makes one of each refusal
    CallError                 the end: exit status, code, hint, and in `partial` what was obtained until then
    ├── UsageError        2   refused here, before anything was sent
    ├── KeyProblem        4   the key is missing or malformed
    └── OutputError      13   the result cannot be written here
    Interrupted               a signal; not an Exception, so that no handler swallows it

The call that meets a `NetError` turns it into a `CallError` once, with `CallError.of`. Nobody changes a raised error.
"""

from __future__ import annotations

import enum

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


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


# Codes that decide something here. A gateway's own code or finish reason of the same name is told with a prefix.
OURS = [
    "address",
    "cancelled",
    "interrupted",
    "max_wait",
    "no_image",
    "no_prompt",
    "not_an_image",
    "protocol",
    "range",
    "redirect",
]


def foreign(code: str) -> str:
    """A gateway's code as it is told: never one of ours."""
    return f"gateway_{code}" if code in OURS else code


class NetError(Exception):
    """No usable answer: the connection failed, the answer broke off, or the gateway refused.

    `code` is one of timeout, max_wait, connection_lost, unreachable, proxy, tls, protocol, redirect, address,
    too_large, or the code of a refusal, whose HTTP status is in `http`. `sent`: the gateway may have acted on the
    request. `passing`: the same request may do better later. `progress`: something new arrived before it broke.
    `status` and `hint` are what a call ends with that has nothing better to say.
    """

    def __init__(
        self,
        message: str,
        code: str,
        *,
        sent: bool = False,
        passing: bool = False,
        progress: bool = False,
        status: ExitStatus = ExitStatus.NETWORK,
        hint: str | None = None,
        http: int | None = None,
        type: str | None = None,
        request_id: str | None = None,
        task_id: str | None = None,
        enveloped: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.sent = sent
        self.passing = passing
        self.progress = progress
        self.status = status
        self.hint = hint
        self.http = http  # None where there was no answer; 0 for an error inside a stream
        self.type = type
        self.request_id = request_id
        self.task_id = task_id  # of the task that an identical request has made
        self.enveloped = enveloped  # the refusal is the gateway's own, not a proxy's
        self.retry_after = retry_after  # seconds, where the gateway said so

    def but(self, **changes: Any) -> NetError:
        """The same failure with other attributes; this one stays as it is."""
        return NetError(**vars(self) | changes)


class CallError(Exception):
    """The end of a call that the user is told of: `[error] code (http type): message`, and what to do next.

    `status` is the exit status, `http` the HTTP status where there was one, `partial` the call's value as far as it
    came: text, task id, usage, cost.
    """

    status = ExitStatus.REFUSED
    code = "error"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        status: ExitStatus | None = None,
        hint: str | None = None,
        http: int | None = None,
        type: str | None = None,
        request_id: str | None = None,
        partial: Any = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.code
        self.status = self.status if status is None else status
        self.hint = hint
        self.http = http
        self.type = type
        self.request_id = request_id
        self.partial = partial

    @classmethod
    def of(cls, error: NetError | CallError, **changes: Any) -> CallError:
        """The end that a failure makes, with other attributes where the call knows better."""
        names = ("message", "code", "status", "hint", "http", "type", "request_id")
        inherited = {name: getattr(error, name) for name in names} | {"partial": getattr(error, "partial", None)}
        return cls(**inherited | changes)


class UsageError(CallError):
    """Wrong usage, or refused here before anything was sent."""

    status = ExitStatus.USAGE
    code = "usage"


class KeyProblem(CallError):
    """The API key is missing or malformed; its value is never in the message."""

    status = ExitStatus.KEY
    code = "api_key"


class OutputError(CallError):
    """The result cannot be written where it should go."""

    status = ExitStatus.CANNOT_WRITE
    code = "cannot_write"


class Interrupted(BaseException):
    """SIGINT, SIGTERM or SIGHUP arrived; `status` is the exit status for it."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.status = ExitStatus(128 + signum)
