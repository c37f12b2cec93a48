"""What the values on a command line may be: checked here, refused with the reason, before anything is sent."""

from __future__ import annotations

import argparse
import math
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_RESERVED = ("model", "messages", "prompt", "stream", "stream_options", "n")


def integer(text: str) -> int:
    """A whole number of ASCII digits, with a minus perhaps; `int` takes `1_000` and other scripts' digits."""
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 15):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def positive(text: str) -> int:
    """A whole number from 1 upwards."""
    value = integer(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not 1 or more")
    return value


def number(low: float, high: float) -> Callable[[str], float]:
    """A finite number from `low` to `high`; `float` takes nan, inf and `1_0`."""

    def check(text: str) -> float:
        try:
            value = float(text) if text.isascii() and "_" not in text else math.nan
        except ValueError:
            value = math.nan
        if not low <= value <= high or math.isinf(value):
            limits = f"of {low:g} or more" if math.isinf(high) else f"from {low:g} to {high:g}"
            raise argparse.ArgumentTypeError(f"{text!r} is not a number {limits}")
        return value

    return check


def seconds(text: str) -> float:
    """A time in seconds, more than zero. A socket's timeout has room for some 292 years and select's for less."""
    return number(0.001, 1e7)(text)


def field(text: str) -> tuple[str, Any]:
    """A request field KEY=VALUE: VALUE is JSON where it parses strictly, else the string that it is."""
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    if key in _RESERVED:
        raise argparse.ArgumentTypeError(f"{key!r} is not for -p: alltoken-call sets it itself")
    import json  # not for --help

    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        return key, value
    try:
        json.dumps(parsed, allow_nan=False)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{value!r} is not a JSON number") from None
    return key, parsed


def text(word: str) -> str:
    """A word of argv as the UTF-8 text that it is meant to be, whatever the locale has made of it."""
    try:
        return os.fsencode(word).decode("utf-8", "replace")
    except UnicodeEncodeError:  # no shell makes such a word
        return word


def name(value: str) -> str:
    """A model's id, or a path: not blank, which an unset shell variable leaves."""
    if not value.strip():
        raise argparse.ArgumentTypeError("it is empty")
    return value.strip()


def fallback(value: str) -> str | list[str]:
    """auto, none, or a list of model ids."""
    names = [name.strip() for name in value.split(",")]
    if not all(names):
        raise argparse.ArgumentTypeError(f"{value!r} is not auto, none or ID,ID,…")
    return value if value in ("auto", "none") else names


def given(**fields: Any) -> dict[str, Any]:
    """The request fields that the command line has a value for."""
    return {name: value for name, value in fields.items() if value is not None}


def add_param(group: argparse._ArgumentGroup) -> None:
    """-p, for request fields that have no option."""
    group.add_argument(
        "-p",
        "--param",
        metavar="KEY=VALUE",
        type=field,
        action="append",
        default=[],
        help="a request field; repeatable",
    )


def add_task(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """The options of image and video for where the result goes, and for its task."""
    place = parser.add_argument_group("the file")
    place.add_argument("-o", "--out", metavar="PATH", help="a file, a directory, or - for stdout")
    place.add_argument("--force", action="store_true", help="overwrite an existing file")
    task = parser.add_argument_group("the task")
    task.add_argument("--detach", action="store_true", help="submit, print the task's id, do not wait")
    task.add_argument(
        "--resume",
        metavar="ID",
        nargs="?",
        const="",
        help="wait for a submitted task; without an ID, the latest unfinished",
    )
    return task
