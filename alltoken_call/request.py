"""One HTTP request as a value: what is sent, and what may be repeated."""

from __future__ import annotations

import math

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from typing import Any

RESERVED = ("model", "messages", "prompt", "stream", "stream_options", "n")  # request fields that no user sets by name
LONGEST_WAIT = 60.0  # seconds of Retry-After that we wait; longer ends the command with the value told


class Repeat:
    """When the same request is sent again: after answers with `statuses`, and after a `lost` answer if that is safe.

    A request that never left is always repeated. `bare`: answers with these statuses and without the gateway's own
    error count as lost, since a proxy's status does not say whether the gateway acted. `forever`: everything passing,
    and failures with these `codes`, until the deadline; `last`: also at the deadline, in the request's grace. No
    attempt starts later than `latest` seconds after the first.
    """

    def __init__(
        self,
        *statuses: int,
        lost: bool = False,
        bare: Collection[int] = (),
        forever: bool = False,
        last: bool = False,
        codes: tuple[str, ...] = (),
        latest: float = math.inf,
    ) -> None:
        self.statuses = statuses
        self.codes = codes
        self.lost = lost
        self.bare = bare
        self.forever = forever
        self.last = last
        self.latest = latest


UNANSWERED = Repeat(429, 503)  # chat: after silence or a cut it may have been billed
READING = Repeat(429, 500, 502, 503, 504, lost=True)
POLLING = Repeat(409, 503, forever=True, last=True, codes=("protocol",))  # 409: another reader takes the result
DOWNLOADING = Repeat(416, forever=True, codes=("range",))


class Request:
    """One HTTP request, as it is sent and as --dry-run shows it.

    `body` is sent as JSON, `form` as multipart/form-data (a value is a text or an `Upload`), `data` as it is. `keyed`:
    it carries the API key, and may cost something if it is a POST. `secret`: the URL is a credential in itself and is
    not shown. `patience` is the longest silence in seconds unless --timeout sets another, `silence` replaces a longer
    one in any case; `grace` is how many seconds it may take beyond the deadline.
    """

    def __init__(
        self,
        method: str,
        url: str,
        *,
        body: Mapping[str, Any] | None = None,
        form: list[tuple[str, str | Upload]] | None = None,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        keyed: bool = True,
        secret: bool = False,
        repeat: Repeat = READING,
        patience: float = 120.0,
        silence: float = math.inf,
        grace: float = 0.0,
    ) -> None:
        self.method = method
        self.url = url
        self.body = body
        self.form = form
        self.data = data
        self.headers = headers or {}
        self.keyed = keyed
        self.secret = secret
        self.repeat = repeat
        self.patience = patience
        self.silence = silence
        self.grace = grace

    def but(self, **changes: Any) -> Request:
        """The same request with other attributes; this one stays as it is."""
        return Request(**vars(self) | changes)

    def shown(self) -> dict[str, Any]:
        """What --dry-run shows of it."""
        body: dict[str, Any] | None = dict(self.body) if self.body is not None else None
        if self.form is not None:
            body = {}
            for name, value in self.form:
                text = value if isinstance(value, str) else f"(the file {value.path})"
                body[name] = [*_listed(body[name]), text] if name in body else text
        return {"method": self.method, "url": self.url, "body": body}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def streaming(*, wanted: bool) -> dict[str, Any]:
    """The fields of a completion that ask for a stream, with the usage at its end, or for one piece."""
    return {"stream": True, "stream_options": {"include_usage": True}} if wanted else {"stream": False}


class Upload:
    """A local file that goes into a request: its bytes, its path here, and its media type."""

    def __init__(self, path: str, data: bytes, type: str) -> None:
        self.path = path
        self.data = data
        self.type = type

    @property
    def kind(self) -> str:
        """image, video or audio."""
        return self.type.partition("/")[0]

    def data_url(self) -> str:
        """The file as a data URL (RFC 2397)."""
        import base64

        return f"data:{self.type};base64,{base64.b64encode(self.data).decode('ascii')}"
