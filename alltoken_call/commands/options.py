"""What the words and values on a command line may be; refused with the reason before anything is sent."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import re

from .. import config
from ..errors import CallError, Interrupted, UsageError
from ..request import RESERVED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from ..calls.client import Client
    from ..cli.context import Context
    from ..cli.output import Output
    from ..values import Result

_MODEL = r"""
        (?: [a-z0-9.-]+/ )?                      # a vendor, perhaps
        (?: (?:gpt|chatgpt|claude|gemini|gemma|deepseek|glm|qwen|qwq|kimi|minimax|mimo|grok|llama|mistral|mixtral
              |doubao|hunyuan|ernie)             # a family …
            (?: -[a-z0-9] | [0-9] ) [a-z0-9._:-]* (?<![._:-])
          | o[134]-[a-z0-9] [a-z0-9._:-]* (?<![._:-])
          | [a-z]+-[0-9]+\.[0-9]+ (?:[._:-][a-z0-9]+)*   # doubao-1.5-pro
        )"""

# Begins with a lower-case letter, holds a digit and one of / : .
_ELSEWHERE = r"(?=.*[0-9])(?=.*[/:.])[a-z][A-Za-z0-9._:/@+-]*[A-Za-z0-9]"


def split_model(words: list[str], *, elsewhere: bool = False) -> tuple[str | None, list[str]]:
    """The model and the prompt's words: the first word is a model only if more follow and it looks like an id.

    No list of ids decides: the catalog moves. `elsewhere`: at another gateway than AllToken, ids of any make count.
    """
    if len(words) > 1 and not words[0].isalpha():  # every id has a digit or a hyphen
        known = re.fullmatch(_MODEL, words[0], re.VERBOSE | re.ASCII)
        if known or (elsewhere and "://" not in words[0] and re.fullmatch(_ELSEWHERE, words[0], re.ASCII)):
            return words[0], words[1:]
    return None, words


def integer(text: str) -> int:
    """A whole number of ASCII digits, perhaps with a minus; `int` takes `1_000` and other scripts' digits."""
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


seconds = number(0.001, 1e7)  # a socket's timeout has room for some 292 years, select's for less


def field(text: str) -> tuple[str, Any]:
    """A request field KEY=VALUE: VALUE is JSON if it parses strictly, else the string that it is."""
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    if key in RESERVED:
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
    """A model's id: not blank, which an unset shell variable leaves."""
    if not value.strip():
        raise argparse.ArgumentTypeError("it is empty")
    return value.strip()


def path(value: str) -> str:
    """A path, as it is: not blank."""
    name(value)
    return value


def fallback(value: str) -> str | list[str]:
    """auto, none, or a list of model ids."""
    names = [name.strip() for name in value.split(",")]
    if not all(names):
        raise argparse.ArgumentTypeError(f"{value!r} is not auto, none or ID,ID,…")
    return value if value in ("auto", "none") else names


def given(**fields: Any) -> dict[str, Any]:
    """The request fields that the command line has a value for."""
    return {name: value for name, value in fields.items() if value is not None}


@contextlib.contextmanager
def showing(result: Result, *, hint: str | None = None) -> Iterator[None]:
    """A block that shows a result: if it fails, the error's partial is that result, and `hint` is told."""
    try:
        yield
    except CallError as error:
        raise CallError.of(error, partial=result, hint=error.hint or hint) from None
    except Interrupted as signal:
        status = signal.status
        raise CallError("stopped by a signal", code="interrupted", status=status, partial=result) from None


def default_model(args: argparse.Namespace, context: Context, command: str) -> str:
    """The model to use if the command line names none. Raises `UsageError` if there is none for this gateway."""
    gateway = context.gateway(args)
    model = config.default_model(context.environ, gateway, command)
    if model is None:
        variable = f"{gateway.prefix}{command.upper()}_MODEL"
        hint = f"name one with -m, or set {variable}; `alltoken-call models --gateway {gateway.name}` lists them"
        raise UsageError(f"no model is named for {gateway.name}", code="no_model", hint=hint)
    return model


def asked_model(args: argparse.Namespace, context: Context, command: str) -> str | None:
    """The model of a run that ended before its request was made, as far as the command line and the environment tell.

    models and cost take it as a word; a task that is there already has its own.
    """
    if "model" not in args:
        return next(iter(args.words), None)
    if args.model:
        return str(args.model)
    if command in ("image", "video") and not _is_new(args):
        return None
    named = split_model(args.words)[0] if command == "chat" else None
    with contextlib.suppress(CallError):
        if command == "chat" and not named:
            named = split_model(args.words, elsewhere=not context.gateway(args).home)[0]
        if not named and getattr(args, "thread", None):
            from ..store.thread import Thread

            named = Thread(args.thread).model
        named = named or default_model(args, context, command)
    return named


def _is_new(args: argparse.Namespace) -> bool:
    """Whether a command line of image or video asks for a new task."""
    return args.resume is None and getattr(args, "cancel", None) is None and not getattr(args, "list", False)


def priced_client(args: argparse.Namespace, context: Context, output: Output) -> Client:
    """A client for the price list: with the key only if that needs it."""
    keyed = context.dialect(args, output).price_list().keyed
    client = context.client(args, output, keyed=keyed)
    client.settle()
    return client


def hinted(error: CallError, client: Client, model: str, named: str | None = None) -> CallError:
    """The end of a chat or a submit; if there is no such model, its hint names those that are most like it.

    `named` is a model that was taken from the words, which the hint says, too.
    """
    if error.http != 404 or error.code == "protocol":  # a web page does not know models
        return error
    from ..calls.models import nearest

    names = [name for name in nearest(client, model) if name != model]
    hints = [f"did you mean {', '.join(names)}?"] if names else []
    if named:
        hints.append(f"{named!r} was taken for the model; name the model with -m ID, or quote the whole prompt")
    elif error.hint:
        hints.append(error.hint)
    return CallError.of(error, hint="; ".join(hints) or None)


def add_model(group: argparse._ArgumentGroup, text: str) -> None:
    """-m, with its help."""
    group.add_argument("-m", "--model", metavar="ID", type=name, help=text)


def add_param(group: argparse._ArgumentGroup) -> None:
    """-p, for request fields that have no option."""
    group.add_argument(
        "-p",
        "--param",
        metavar="KEY=VALUE",
        type=field,
        action="append",
        default=[],
        help="another request field; VALUE is JSON if it parses as such, else text; repeatable",
    )
