"""JSON from the network: parsed whatever it is; what is taken from it has the right type."""

from __future__ import annotations

import json
import math

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def parse_json(data: bytes | str) -> Any:
    """A JSON value; NaN and infinities, which JSON does not have, become null; control characters in strings are taken.

    Raises ValueError, also for nesting that is too deep and for numbers of thousands of digits.
    """
    if not isinstance(data, str):
        data = data.decode("utf-8-sig", "replace")
    data = data.strip(" \t\r\n")
    try:
        value, end = _DECODER.raw_decode(data)  # `decode` looks for white space twice
        if end != len(data):
            raise ValueError("more follows")
        return value
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _finite(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=lambda _: None, strict=False)


def json_end(data: str, start: int) -> int:
    """Where the JSON value that begins at `start` ends. Raises ValueError."""
    return _DECODER.raw_decode(data, start)[1]


def object_of(data: bytes | str) -> dict[str, Any]:
    """A JSON object; an empty one if `data` is anything else."""
    try:
        value = parse_json(data)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def as_object(value: object) -> dict[str, Any]:
    """`value` if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def objects_in(value: object) -> list[dict[str, Any]]:
    """The objects in a list; none if it is not a list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def inside(document: Mapping[str, Any]) -> dict[str, Any]:
    """The object that some servers wrap as `data`; the document itself if this one does not."""
    inner = document.get("data")
    return inner if isinstance(inner, dict) else dict(document)


def text_of(value: object) -> str | None:
    """`value` if it is a string with something in it, else None."""
    return value if isinstance(value, str) and value.strip() else None


def tokens(usage: Mapping[str, Any], *names: str) -> int | None:
    """The first count under one of `names`; None if none is a whole number that a database can hold."""
    counts = (usage.get(name) for name in names)
    return next((count for count in counts if type(count) is int and 0 <= count < 1 << 63), None)


def segment(text: str) -> str:
    """`text` as one segment of a URL's path."""
    from urllib.parse import quote  # not for --help

    return quote(text, safe="", errors="replace")
