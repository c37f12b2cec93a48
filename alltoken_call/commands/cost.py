"""cost: what a call would cost, what the last one did, and what was spent since when."""

from __future__ import annotations

import argparse
import datetime as dt
import re
from decimal import Decimal, localcontext

from .. import config
from ..errors import CallError, NetError, UsageError
from ..gateways import prices
from ..store import ledger
from ..text import one_line
from ..values import Cost, Report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..cli.context import Context
    from ..cli.output import Output

    Pair = tuple[Decimal, Decimal]  # dollars per 1M prompt and completion tokens

FIELDS = ("prompt_tokens", "completion_tokens", "input_price", "output_price", "groups", "calls", "unknown")
HELP = "what a call costs, what the last one cost, what was spent"
EXAMPLE = "alltoken-call cost --since 7d --by day"
_SIDES = ("prompt", "completion")
FREE = ("none", "local")  # sources of a cost that is not unknown though there is no figure
_UNITS = {"d": "days", "h": "hours", "m": "minutes"}
_KEYS = {"model": "model", "command": "command", "day": "date(started, 'unixepoch', 'localtime')"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of cost."""
    parser.add_argument(
        "words",
        nargs="*",
        metavar="MODEL PROMPT_TOKENS COMPLETION_TOKENS",
        help="estimate such a call (default: tell of the last recorded one)",
    )
    spent = parser.add_argument_group("what was spent")
    spent.add_argument("--since", metavar="WHEN", type=_since, help="7d, 24h, 30m or 2026-11-01, in local time")
    spent.add_argument("--by", choices=_KEYS, help="group by model, command or day (default: model)")


def _since(text: str) -> dt.timedelta | dt.datetime:
    """A span that ends now, or the beginning of a day in local time."""
    if match := re.fullmatch(r"([0-9]{1,5})([dhm])", text):
        return dt.timedelta(**{_UNITS[match[2]]: int(match[1])})
    try:
        if text.isascii():
            return dt.datetime.strptime(text, "%Y-%m-%d").astimezone()
    except (ValueError, OverflowError):
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not like 7d, 24h, 30m or 2026-11-01")


def run(args: argparse.Namespace, context: Context, output: Output) -> Report | None:
    """Estimate, or look into the ledger."""
    if args.dry_run and len(args.words) != 3:
        output.request(None)  # the ledger's figures ask nobody
        return None
    if args.since is not None or args.by:
        if args.words:
            raise UsageError("--since and --by look into the ledger: no words go with them")
        return _spent(args, context, output)
    return _estimate(args, context, output) if args.words else _last(args, context, output)


def _estimate(args: argparse.Namespace, context: Context, output: Output) -> Report | None:
    """What so many tokens of a model cost by the price list."""
    if len(args.words) != 3:
        raise UsageError("an estimate takes three words: MODEL PROMPT_TOKENS COMPLETION_TOKENS")
    model, *counts = args.words
    if not model.strip():
        raise UsageError("MODEL is empty")
    if not all(count.isascii() and count.isdigit() and len(count) <= 15 for count in counts):
        raise UsageError("PROMPT_TOKENS and COMPLETION_TOKENS are whole numbers")
    if args.dry_run:
        output.request(context.dialect().catalog(model))
        return None
    tokens = (int(counts[0]), int(counts[1]))
    entry, pair = _prices(args, context, output, model)
    if pair is None:
        named = ", ".join(sorted(one_line(name, 40) for name in entry))
        partial = Report(model, prompt_tokens=tokens[0], completion_tokens=tokens[1])
        message = f"no published price for {model}; the price list has: {named}"
        raise CallError(message, code="no_price", partial=partial)
    return _show(output, {"model": model}, tokens, pair, Report(model))


def _prices(
    args: argparse.Namespace, context: Context, output: Output, model: str
) -> tuple[dict[str, Any], Pair | None]:
    """The price list's entry of a model, and its two prices if both are known."""
    from ..calls.models import price_entry

    client = context.client(args, output, keyed=False)
    entry = price_entry(client, model)
    input_price, output_price = client.dialect.prices(entry)
    return entry, None if input_price is None or output_price is None else (input_price, output_price)


def _show(
    output: Output,
    about: dict[str, str],
    tokens: tuple[int | None, int | None],
    pair: Pair | None,
    report: Report,
) -> Report:
    """The table of one call: what it is about, tokens, prices if they are known, and its cost: the gateway's figure
    in `report`, or else the estimate from the prices."""
    for name, value in about.items():
        output.line(f"{name + ':':<19}{one_line(value, 60)}")
    rows = [(f"{side} tokens", f"{count:,}") for side, count in zip(_SIDES, tokens) if count is not None]
    fields: dict[str, Any] = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1]}
    if pair is not None:
        fields |= zip(("input_price", "output_price"), map(prices.plain, pair))
        rows += [(f"{side:<6} $/1M", f"${prices.places(price, 4)}") for side, price in zip(("input", "output"), pair)]
        if report.cost.usd is None and tokens[0] is not None and tokens[1] is not None:
            report.cost = Cost(prices.places(prices.total((tokens[0], tokens[1]), pair), 6), "estimate")
    for name, value in rows:
        output.line(f"{name + ':':<19}{value:>14}")
    usd, source = report.cost.usd, report.cost.source
    output.line(f"{'total cost:':<19}" + (f"{'$' + usd:>14} ({source})" if usd else f"{'unknown':>14}"))
    return report.with_fields(fields)


def _rows(context: Context, *query: Any) -> list[Any]:
    """What `ledger.rows` finds. Raises `CallError` if there is no ledger to look into."""
    if context.environ.get("ALLTOKEN_LEDGER") == "off":
        raise CallError("the ledger is off (ALLTOKEN_LEDGER)", code="no_ledger")
    try:
        return ledger.rows(config.ledger_path(context.environ), *query)
    except ledger.LedgerError as error:
        raise CallError(str(error), code="no_ledger") from None


def _last(args: argparse.Namespace, context: Context, output: Output) -> Report:
    """The last recorded call, with an estimate if the gateway gave no figure and the price list has prices."""
    found = _rows(context, "1 ORDER BY coalesce(ended, started) DESC LIMIT 1")
    if not found:
        hint = "alltoken-call cost MODEL IN OUT estimates"
        raise CallError("no call is recorded yet", code="nothing_recorded", hint=hint)
    row = dict(zip(ledger.COLUMNS, found[0]))
    when = dt.datetime.fromtimestamp(row["started"]).astimezone()
    model = row["model"]
    report = Report(model)
    usd = prices.figure(row["cost"])
    report.cost = Cost(usd, row["source"] if usd or row["source"] in FREE else None)
    pair = None
    if model and report.cost.usd is None and report.cost.source is None and row["prompt_tokens"] is not None:
        try:
            pair = _prices(args, context, output, model)[1]
        except (CallError, NetError) as error:
            output.warning(f"no estimate: {one_line(error.message, 200)}")
    about = {"when": f"{when:%Y-%m-%d %H:%M:%S}", "command": row["command"], "model": model or "unknown"}
    if row["exit_status"]:
        about["exit status"] = str(row["exit_status"])
    return _show(output, about, (row["prompt_tokens"], row["completion_tokens"]), pair, report)


class _Sum:
    """Calls, tokens and dollars of one group."""

    def __init__(self) -> None:
        self.calls = self.unknown = self.prompt_tokens = self.completion_tokens = 0
        self.usd = Decimal(0)

    def add(self, calls: int, prompt_tokens: int, completion_tokens: int, usd: Decimal, unknown: int) -> None:
        """Add figures of calls; `usd` is what the known costs of them make."""
        self.calls += calls
        self.prompt_tokens += prompt_tokens
        self.completion_tokens += completion_tokens
        self.usd = prices.EXACT.add(self.usd, usd)
        self.unknown += unknown

    @property
    def dollars(self) -> str | None:
        """The sum of the known costs; None if none is known."""
        return prices.places(self.usd, 6) if self.calls > self.unknown else None

    def document(self) -> dict[str, Any]:
        """The sum for --json."""
        return vars(self) | {"usd": self.dollars}


def _spent(args: argparse.Namespace, context: Context, output: Output) -> Report:
    """What was spent since when, by model, command or day; an unknown cost is counted, never summed as zero."""
    since = args.since
    if isinstance(since, dt.timedelta):
        since = context.clock.now() - since.total_seconds()
    elif since is not None:
        since = since.timestamp()
    by = args.by or "model"
    columns = (
        _KEYS[by],
        "count(*)",
        "total(prompt_tokens)",
        "total(completion_tokens)",
        "group_concat(replace(cost, ',', '?'))",  # a comma comes from somebody's hand
        f"sum(cost IS NULL AND source IN {FREE})",
    )
    rows = _rows(context, "started >= ? GROUP BY 1 ORDER BY 1", (since or 0.0,), columns)
    if not rows:
        raise CallError("no call is recorded in that time", code="nothing_recorded")
    groups: dict[str, _Sum] = {}
    everything = _Sum()
    for key, calls, prompt_tokens, completion_tokens, costs, free in rows:
        known = [value for text in (costs or "").split(",") if (value := prices.amount(text)) is not None]
        with localcontext(prices.EXACT):
            usd = sum(known, Decimal(0))
        for one in (groups.setdefault(key or "unknown", _Sum()), everything):
            one.add(calls, int(prompt_tokens), int(completion_tokens), usd, calls - len(known) - (free or 0))
    report = Report(
        groups=[{by: key, **one.document()} for key, one in groups.items()],
        calls=everything.calls,
        unknown=everything.unknown,
    )
    report.cost = Cost(everything.dollars, everything.dollars and "gateway")
    table = [[by, "calls", "unknown", "tokens in", "tokens out", "cost"]]
    for key, one in groups.items():
        counts = (one.calls, one.unknown, one.prompt_tokens, one.completion_tokens)
        table.append([key, *(f"{count:,}" for count in counts), f"${one.dollars}" if one.dollars else "unknown"])
    output.table(table)
    total = f"${everything.dollars}" if everything.dollars else "unknown"
    calls = f"{everything.calls:,} call" + ("s" if everything.calls != 1 else "")
    output.line(f"total: {total} ({calls}, {everything.unknown:,} unknown)")
    return report
