"""An error envelope of any shape as the one `NetError` that it means."""

from __future__ import annotations

from ..errors import ExitStatus, NetError, foreign
from ..request import LONGEST_WAIT
from ..text import one_line, redacted
from ..wire import text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

HINTS = {
    ExitStatus.REFUSED: "change the request; if it looks right, quote the request id to support",
    ExitStatus.KEY: "the gateway does not accept this key: check it",
    ExitStatus.CREDIT: "top up at the gateway, then run the command again",
    ExitStatus.RATE_LIMITED: "too many requests with this key: wait, then run the command again",
    ExitStatus.GATEWAY: "the gateway or its providers failed: try again later or another model (-m)",
    ExitStatus.GONE: "the result is gone: run a new generation",
}
_STATUSES = {
    401: ExitStatus.KEY,
    402: ExitStatus.CREDIT,
    403: ExitStatus.KEY,
    410: ExitStatus.GONE,
    429: ExitStatus.RATE_LIMITED,
}
TYPES = {  # of errors, as OpenAI, Anthropic and their relays name them: the HTTP status that each means
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "server_error": 500,
    "upstream_error": 502,
    "overloaded_error": 503,
}
_PASSING = (408, 425, 429)


def refusal(
    document: Mapping[str, Any],
    http: int,
    *,
    hints: Mapping[ExitStatus, str],
    slugs: Mapping[str, int],
    types: Mapping[str, int],
    request_id: str | None = None,
    retry_after: float | None = None,
    secret: str = "",
    otherwise: int = 500,
) -> NetError:
    """The failure in an error envelope of any shape. `http` is 0 for one without an HTTP status of its own, as
    inside a stream, whose code decides; it means `otherwise` if its code is not known.

    `hints` say what to do, `slugs` and `types` which HTTP status a code or a type means, at that gateway. The request
    id is taken from wherever it is: the envelope, the document's top, or a header.
    """
    inner = document.get("error")
    places = [inner if isinstance(inner, dict) else {}, document]

    def field(name: str) -> str | None:
        values = (place.get(name) for place in places)
        texts = (str(value) if type(value) is int else text_of(value) for value in values)
        return next((one_line(redacted(text, secret)) for text in texts if text), None)

    message = field("message") or one_line(redacted(_reason(places, inner), secret))
    code, type_ = field("code"), field("type")
    meant = http or meaning(code, type_, slugs, types) or otherwise
    status = ExitStatus.GATEWAY if meant >= 500 else _STATUSES.get(meant, ExitStatus.REFUSED)
    hint = hints.get(status) if meant != 404 else "`alltoken-call models` lists what there is"
    if retry_after:
        longer = f" (Retry-After), longer than we do ({LONGEST_WAIT:.0f} s)" if retry_after > LONGEST_WAIT else ""
        hint = f"the gateway asks to wait {retry_after:.0f} s{longer}: run the command again after that"
    return NetError(
        message or "the gateway gave no reason",
        foreign(code) if code else (f"http_{http}" if http else "api_error"),
        sent=True,
        passing=meant in _PASSING or meant >= 500,
        status=status,
        hint=hint,
        http=http,
        type=type_,
        request_id=field("request_id") or field("x-gateway-request-id") or request_id,
        task_id=field("task_id"),
        enveloped=isinstance(inner, (dict, str)) and bool(inner),
        retry_after=retry_after,
    )


def meaning(code: str | None, type_: str | None, slugs: Mapping[str, int], types: Mapping[str, int]) -> int:
    """The HTTP status that an error without one means, by its code or type; 0 if neither is known."""
    if code and code.isascii() and code.isdigit() and len(code) == 3:
        return int(code)
    if "rate_limit" in (code or "") or "rate_limit" in (type_ or ""):
        return 429
    return slugs.get(code or "") or types.get(type_ or "") or 0


def _reason(places: list[Mapping[str, Any]], inner: object) -> str:
    """What an error says, where its message is not a text: the error itself, or pydantic's list of refused fields."""
    found = [inner] if isinstance(inner, str) else []
    found += [value for place in places for name in ("message", "detail") if (value := place.get(name))]
    for value in found:
        if isinstance(value, str) and value.strip():
            return value
        if isinstance(value, (dict, list)):
            import json

            return json.dumps(value, ensure_ascii=False)
    return ""
