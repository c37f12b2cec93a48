"""Remote text made fit to be shown: inert on a terminal, one line, cut, without the key."""

from __future__ import annotations

import functools


def inert(text: str) -> str:
    """`text` with every character that could drive a terminal escaped."""
    return text if text.isprintable() else text.translate(_driving())


@functools.cache
def _driving() -> dict[int, str]:
    """C0 but newline and tab, DEL, C1, and the bidirectional controls (Unicode UAX #9 §2); none is printable."""
    spans = (
        (0x00, 0x08),
        (0x0B, 0x1F),
        (0x7F, 0x9F),
        (0x61C, 0x61C),
        (0x200E, 0x200F),
        (0x202A, 0x202E),
        (0x2066, 0x2069),
    )
    codes = (code for first, last in spans for code in range(first, last + 1))
    return {code: chr(code).encode("unicode_escape").decode("ascii") for code in codes}


def one_line(text: str, limit: int = 1000) -> str:
    """A remote text as part of a line of ours: without line breaks with which it could pose as another line."""
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def shortened(text: str, limit: int, missing: int = 0) -> str:
    """A text of at most so many characters: two thirds of its head, a third of its tail, and how many bytes were left
    out between them. `missing` bytes were left out there before."""
    if len(text) <= limit and not missing:
        return text
    head = text[: limit - limit // 3]
    end = max(len(text) - limit // 3, len(head))
    pieces = range(len(head), end, 1 << 16)  # of what may be megabytes
    left_out = missing + sum(len(text[at : min(at + (1 << 16), end)].encode("utf-8", "replace")) for at in pieces)
    return f"{head}\n[… {left_out} bytes left out …]\n{text[end:]}"


def redacted(text: str, *secrets: str) -> str:
    """`text` without `secrets`, which gateways like to quote in errors.

    Secrets shorter than 6 characters are not redacted: they would match ordinary text.
    """
    for secret in secrets:
        if len(secret) >= 6:
            text = text.replace(secret, "[key]")
    return text
