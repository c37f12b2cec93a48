"""cost: what a call would cost, what the last one did, what was spent since when, and what is left."""

from __future__ import annotations

import argparse
import datetime as dt
import math
import re

from .. import config
from ..errors import CallError, NetError, UsageError
from ..gateways import prices
from ..store import ledger, sums
from ..text import one_line
from ..values import UNKNOWN, Cost, Report
from . import options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from decimal import Decimal
    from typing import Any

    from ..cli.context import Context
    from ..cli.output import Output

_ESTIMATED = ("prompt_tokens", "completion_tokens", "input_price", "output_price")
FIELDS = (*_ESTIMATED, "groups", "calls", "estimated", "unknown", "rows", "balance")
HELP = "what a call costs, what the last one cost, what was spent"
WORDS = "[MODEL PROMPT_TOKENS COMPLETION_TOKENS]"
EXAMPLE = "alltoken-call cost --since 7d --by day"
BAR = 20  # characters of the longest bar
_SIDES = ("prompt", "completion")
_UNITS = {"d": "days", "h": "hours", "m": "minutes"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of cost."""
    parser.add_argument(
        "words",
        nargs="*",
        metavar=WORDS,
        help="estimate such a call (default: show the last recorded call)",
    )
    spent = parser.add_argument_group("what was spent")
    spent.add_argument("--since", metavar="WHEN", type=_since, help="7d, 24h, 30m or 2026-11-01, in local time")
    spent.add_argument("--by", choices=sums.KEYS, help="group by model, command, gateway or day (default: model)")
    spent.add_argument(
        "--calls", metavar="N", nargs="?", const=20, type=options.positive, help="list the last N calls (default: 20)"
    )
    spent.add_argument(
        "--reconcile", action="store_true", help="with --since: first ask the gateways' logs for costs that are unknown"
    )
    spent.add_argument("--balance", action="store_true", help="what the key has left, if the gateway tells")


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
    spent = args.since is not None or args.by is not None
    chosen = [spent, args.calls is not None, args.balance, bool(args.words)]
    if sum(chosen) > 1:
        raise UsageError("--since and --by, --calls, --balance, and words exclude each other")
    if args.reconcile and args.since is None:
        raise UsageError("--reconcile goes with --since")
    if args.dry_run and len(args.words) != 3:
        output.request(None if not args.balance else context.dialect(args, output).balance())
        return None
    if spent:
        return _spent(args, context, output)
    if args.calls is not None:
        return _calls(args, context, output)
    if args.balance:
        return _balance(args, context, output)
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
        dialect = context.dialect(args, output)
        output.request(dialect.price_entry(model) or dialect.price_list())
        return None
    tokens = (int(counts[0]), int(counts[1]))
    entry, found = _prices(args, context, output, model)
    if not found.known:
        named = ", ".join(sorted(one_line(name, 40) for name in entry))
        partial = Report(model, prompt_tokens=tokens[0], completion_tokens=tokens[1])
        message = f"no published price for {model}; the price list has: {named}"
        raise CallError(message, code="no_price", partial=partial)
    return _show(output, {"model": model}, tokens, found, model, UNKNOWN)


def _prices(
    args: argparse.Namespace, context: Context, output: Output, model: str
) -> tuple[dict[str, Any], prices.Prices]:
    """The price list's entry of a model, and its prices."""
    from ..calls.models import price_entry

    client = options.priced_client(args, context, output)
    entry = price_entry(client, model)
    return entry, client.dialect.prices(entry)


def _show(
    output: Output,
    about: dict[str, str],
    tokens: tuple[int | None, int | None],
    found: prices.Prices | None,
    model: str | None,
    cost: Cost,
) -> Report:
    """The table of one call: what it is about, tokens, prices if they are known, and its cost: the recorded one, or
    else the estimate from the prices."""
    for name, value in about.items():
        output.line(f"{name + ':':<19}{one_line(value, 60)}")
    rows = [(f"{side} tokens", f"{count:,}") for side, count in zip(_SIDES, tokens) if count is not None]
    fields: dict[str, Any] = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1]}
    if found is not None:
        pair = {"input": found.input, "output": found.output}
        fields |= {f"{side}_price": None if price is None else prices.plain(price) for side, price in pair.items()}
        rows += [
            (f"{side:<6} $/1M", f"${prices.places(price, 4)}") for side, price in pair.items() if price is not None
        ]
        if found.call is not None:
            rows.append(("a call", f"${prices.places(found.call, 4)}"))
        label, _, holds_for = found.note.partition("=")
        if label:
            rows.append((label, one_line(holds_for, 60)))
        if cost.usd is None and cost.source is None:
            estimate = found.estimate({f"{side}_tokens": count for side, count in zip(_SIDES, tokens)})
            if estimate is not None:
                cost = Cost(prices.places(estimate, 6), "estimate")
    for name, value in rows:
        output.line(f"{name + ':':<19}{value:>14}")
    free = cost.source if cost.source in sums.FREE else "unknown"
    output.line(f"{'total cost:':<19}" + (f"{'$' + cost.usd:>14} ({cost.source})" if cost.usd else f"{free:>14}"))
    report = Report(model, **fields)
    report.cost = cost
    return report


def _path(context: Context) -> str | None:
    """The ledger's path. Raises `CallError` if it is off."""
    if context.environ.get("ALLTOKEN_LEDGER") == "off":
        raise CallError("the ledger is off (ALLTOKEN_LEDGER)", code="no_ledger")
    return config.ledger_path(context.environ)


def _last(args: argparse.Namespace, context: Context, output: Output) -> Report:
    """The last recorded call: the gateway's figure, also from its log, or else an estimate from the price list."""
    from ..calls import reconcile

    chosen = context.gateway(args).name if args.gateway else None
    usual = context.gateway_name(None)
    row = sums.last(_path(context), chosen, context.ledger(output).patience())
    if not row:
        hint = "alltoken-call cost MODEL PROMPT_TOKENS COMPLETION_TOKENS estimates a call"
        raise CallError("no call is recorded yet", code="nothing_recorded", hint=hint)
    row = _sound(row)
    args.gateway = output.gateway = row["gateway"]
    model = row["model"]
    usd = prices.figure(row["cost"])
    cost = Cost(usd, row["source"] if usd or row["source"] in sums.FREE else None)
    found = None
    if cost.source in (None, "estimate"):
        try:
            if context.dialect(args, output).log() is not None:
                cost = reconcile.of_last(context.client(args, output), row) or cost
        except (CallError, NetError) as error:
            output.warning(f"the gateway's log was not read: {one_line(error.message, 200)}")
    if cost.source is None and model and row["prompt_tokens"] is not None:
        try:
            found = _prices(args, context, output, model)[1]
        except (CallError, NetError) as error:
            output.warning(f"no estimate: {one_line(error.message, 200)}")
    when = _when(row["started"], "%Y-%m-%d %H:%M:%S %Z")
    about = {"when": when, "command": row["command"], "model": model or "unknown"}
    if row["gateway"] != usual:
        about["gateway"] = row["gateway"]
    if row["exit_status"] not in (None, "0"):
        about["exit status"] = row["exit_status"]
    found = found if found is not None and found.known else None
    return _show(output, about, (row["prompt_tokens"], row["completion_tokens"]), found, model, cost)


def _spent(args: argparse.Namespace, context: Context, output: Output) -> Report:
    """What was spent since when, by model, command, gateway or day; an unknown cost is counted, never summed as
    zero."""
    since = args.since
    if isinstance(since, dt.timedelta):
        since = context.clock.now() - since.total_seconds()
    elif since is not None:
        since = since.timestamp()
    path, by = _path(context), args.by or "model"
    chosen = context.gateway(args).name if args.gateway else None
    if args.reconcile:
        _reconcile(args, context, output, since or 0.0)
    found = sums.groups(path, since or 0.0, by, chosen, context.ledger(output).patience())
    if not found:
        raise CallError("no call is recorded in that time", code="nothing_recorded")
    everything = sums.Sum()
    for one in found.values():
        everything.add(one)
    report = Report(
        groups=[{by: key, **vars(one), "usd": _dollars(one)} for key, one in found.items()],
        calls=everything.calls,
        estimated=everything.estimated,
        unknown=everything.unknown,
    )
    usd = _dollars(everything)
    report.cost = Cost(usd, ("estimate" if everything.estimated else "gateway") if usd else None)
    bars = _bars(found, output) if by == "day" and output.to_terminal else dict.fromkeys(found, "")
    table = [
        [f"day ({_zone()})" if by == "day" else by, "calls", "estimated", "unknown", "tokens in", "tokens out", "cost"]
    ]
    for key, one in found.items():
        counts = (one.calls, one.estimated, one.unknown, one.prompt_tokens, one.completion_tokens)
        table.append([key, *(f"{count:,}" for count in counts), f"${_dollars(one)}" if _dollars(one) else "unknown"])
    if not everything.estimated:
        table = [cells[:2] + cells[3:] for cells in table]
    output.table(table, list(bars.values()))
    estimated = f"{everything.estimated:,} estimated, " if everything.estimated else ""
    calls = f"{everything.calls:,} call" + ("s" if everything.calls != 1 else "")
    output.line(f"total: {f'${usd}' if usd else 'unknown'} ({calls}, {estimated}{everything.unknown:,} unknown)")
    return report


def _when(started: object, form: str) -> str:
    """An instant of the ledger in local time; unknown if it was damaged by hand."""
    try:
        return dt.datetime.fromtimestamp(started).astimezone().strftime(form)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError, OSError):
        return "unknown"


def _sound(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the ledger whose texts are texts and whose counts are counts, also if the row is damaged."""
    counts = ("id", "prompt_tokens", "completion_tokens")
    return {
        name: value
        if value is None or name == "started"
        else (value if type(value) is int and value >= 0 else None)
        if name in counts
        else str(value)
        for name, value in row.items()
    }


def _zone() -> str:
    """The name of the local time zone."""
    return dt.datetime.now().astimezone().strftime("%Z")


def _dollars(one: sums.Sum) -> str | None:
    """The sum of the known costs; None if none is known."""
    return prices.places(one.usd, 6) if one.is_known else None


def _bars(found: dict[str, sums.Sum], output: Output) -> dict[str, str]:
    """A bar for each group, as long as its share of the dearest one."""
    dearest: Decimal = max(one.usd for one in found.values())
    mark = "█" if output.is_utf8 else "#"
    return {key: mark * round(BAR * one.usd / dearest) if dearest else "" for key, one in found.items()}


def _reconcile(args: argparse.Namespace, context: Context, output: Output, since: float) -> None:
    """Ask the logs of the gateways that have one for what the ledger does not know."""
    from ..calls import reconcile

    for name in reconcile.gateways_with_unknown(_path(context), since, context.ledger(output).patience()):
        if args.gateway in (None, name):
            try:
                one = argparse.Namespace(**vars(args) | {"gateway": name})
                if context.dialect(one, output).log() is not None:
                    reconcile.all_since(context.client(one, output), since)
            except (CallError, NetError) as error:
                output.warning(f"{name}: the log was not read: {one_line(error.message, 200)}")


def _calls(args: argparse.Namespace, context: Context, output: Output) -> Report:
    """The last calls, newest first."""
    where, values = ("gateway = ?", (context.gateway(args).name,)) if args.gateway else ("1", ())
    query = f"{where} ORDER BY id DESC LIMIT {args.calls}"
    patience = context.ledger(output).patience()
    found = [dict(zip(ledger.COLUMNS, row)) for row in ledger.rows(_path(context), query, values, patience=patience)]
    if not found:
        raise CallError("no call is recorded yet", code="nothing_recorded")
    table = [[f"when ({_zone()})", "command", "model", "cost", "status", "task or file"]]
    for row in found:
        usd = prices.figure(row["cost"])
        cost = f"${usd} ({row['source']})" if usd else row["source"] if row["source"] in sums.FREE else "unknown"
        status = "-" if row["exit_status"] is None else str(row["exit_status"])
        names = (row["command"], row["model"] or "-", cost, status, row["output"] or row["task_id"] or "-")
        table.append([_when(row["started"], "%Y-%m-%d %H:%M:%S"), *(one_line(str(name), 80) for name in names)])
    output.table(table)
    endless = (math.inf, -math.inf)  # damaged by hand, and nothing that JSON has
    return Report(rows=[{name: None if cell in endless else cell for name, cell in row.items()} for row in found])


def _balance(args: argparse.Namespace, context: Context, output: Output) -> Report:
    """What the key has left."""
    from ..calls.reconcile import unit_of

    client = context.settled(args, output)
    request = client.dialect.balance()
    if request is None:
        hint = f"look at the web site of {client.gateway.root}"
        raise CallError(f"{client.gateway.name} has no endpoint for the balance of a key", code="no_balance", hint=hint)
    found = client.dialect.read_balance(client.get(request).document, unit_of(client))
    for label, usd in found.items():
        if usd is not None or label == "left":
            output.line(f"{label + ':':<19}{'no limit' if usd is None else '$' + usd:>14}")
    return Report(balance=found)
