"""cost: what a call would cost, what the last one did, and what was spent since when."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal

from .. import config, ledger, options, pricing
from ..errors import ApiError, CallError, ExitStatus, NetworkError, UsageError
from ..output import one_line
from ..transport import Transport

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from ..context import Context
    from ..output import Output

FIELDS = ("prompt_tokens", "completion_tokens", "input_price", "output_price", "groups", "calls", "unknown")
HELP = "what a call costs, what the last one cost, what was spent"
EXAMPLE = "alltoken-call cost gpt-5.4-mini 1019 12; alltoken-call cost --since 7d --by day"
_UNITS = {"d": "days", "h": "hours", "m": "minutes"}
_KEYS = {"model": "model", "command": "command", "day": "date(started, 'unixepoch', 'localtime')"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of cost."""
    parser.add_argument(
        "words", nargs="*", metavar="MODEL PROMPT_TOKENS COMPLETION_TOKENS", help="none: the last recorded call"
    )
    spent = parser.add_argument_group("what was spent")
    spent.add_argument("--since", metavar="WHEN", type=_since, help="7d, 24h, 30m or 2026-11-01, in local time")
    spent.add_argument("--by", choices=_KEYS, help="group by (model)")


def _since(text: str) -> dt.timedelta | dt.datetime:
    """A span that ends now, or the beginning of a day in local time. Raises ValueError."""
    if match := re.fullmatch(r"([0-9]{1,5})([dhm])", text):
        return dt.timedelta(**{_UNITS[match[2]]: int(match[1])})
    return dt.datetime.strptime(text, "%Y-%m-%d").astimezone()


def run(args: argparse.Namespace, context: Context, output: Output) -> ExitStatus:
    """Estimate, or look into the ledger."""
    if args.since is not None or args.by:
        if args.words:
            raise UsageError("--since and --by look into the ledger: no words go with them")
        return _spent(args, context, output)
    if not args.words:
        return _last(args, context, output)
    if len(args.words) != 3:
        raise UsageError("an estimate takes three words: MODEL PROMPT_TOKENS COMPLETION_TOKENS")
    model, *counts = args.words
    ...
