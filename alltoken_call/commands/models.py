"""models: what there is to call, from the live list; with prices, from the public price list."""

from __future__ import annotations

import json

from .. import config
from ..errors import CallError, UsageError
from ..text import one_line
from ..values import Report
from ..wire import text_of
from . import options

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from ..calls.client import Client
    from ..cli.context import Context
    from ..cli.output import Output
    from ..request import Request

FIELDS = ("models",)
HELP = "list the models, or show one"
WORDS = "[ID]…"
EXAMPLE = "alltoken-call models --filter claude -l"
KINDS = ("chat", "image", "video")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of models."""
    parser.add_argument("words", nargs="*", metavar=WORDS, help="the model to tell of (default: list all)")
    choice = parser.add_argument_group("which")
    choice.add_argument(
        "--type",
        choices=(*KINDS, "all"),
        default="chat",
        help="chat, image, video or all (default: chat)",
    )
    choice.add_argument("--filter", metavar="TEXT", default="", help="only ids that hold TEXT")
    public = parser.add_argument_group("AllToken's public pages, without a key").add_mutually_exclusive_group()
    public.add_argument("--health", dest="page", action="store_const", const="health", help="what works now")
    public.add_argument("--providers", dest="page", action="store_const", const="providers", help="who serves models")
    public.add_argument("--rankings", dest="page", action="store_const", const="rankings", help="which models lead")
    choice.add_argument("-l", "--long", action="store_true", help="prices, context and modalities, the cheapest first")


def run(args: argparse.Namespace, context: Context, output: Output) -> Report | None:
    """Show ids, the table, or one model."""
    if len(args.words) > 1 or not all(word.strip() for word in args.words):
        raise UsageError("models takes one id", hint="--filter TEXT finds several")
    if args.page:
        return _page(args, context, output)
    if args.dry_run:
        dialect = context.dialect(args, output)
        prices = (dialect.price_entry(args.words[0]) if args.words else None) or dialect.price_list()
        output.request(prices if args.words or args.long else dialect.model_lists(args.type)[0])
        return None
    priced = args.words or args.long
    client = options.priced_client(args, context, output) if priced else context.client(args, output)
    return _tell(args.words[0], client, output) if args.words else _list(args, context, client, output)


def _page(args: argparse.Namespace, context: Context, output: Output) -> Report | None:
    """Show a public page."""
    from ..calls import models
    from . import pages

    if args.words or args.long or args.filter:
        raise UsageError(f"--{args.page} goes with no id, --filter or --long")
    request = context.dialect(args, output).page(args.page)
    if args.dry_run:
        output.request(request)
        return None
    found = models.page(context.client(args, output, keyed=False), args.page)
    report = Report(models=found)
    if not found:
        raise CallError(f"there is nothing on the page of {args.page}", code="no_match", partial=report)
    pages.show(found, output)
    return report


def _list(args: argparse.Namespace, context: Context, client: Client, output: Output) -> Report:
    from ..calls import models

    listed = models.listing(client, args.type, priced=args.long)
    _remember(args.type, listed, context, client)
    found = {name: entry for name, entry, _ in listed if args.filter.lower() in name.lower()}
    report = Report(models=list(found.values()))
    matching = f" matching {args.filter!r}" if args.filter else ""
    told = f"{args.type}: {len(found)} model(s){matching}"
    if not found:
        hint = "models --type all lists every kind" if args.type != "all" else "models lists all ids without --filter"
        raise CallError(told, code="no_match", hint=hint, partial=report)
    if args.long:
        _table(found, client, output)
        if note := client.dialect.prices({}).note:
            output.remark(f"prices: {note}")
    else:
        for name in found:
            output.line(one_line(name, 200))
    output.remark(told)
    return report


def _remember(asked: str, listed: list[tuple[str, dict[str, Any], Request]], context: Context, client: Client) -> None:
    """Keep the ids of each kind for completion."""
    from ..calls.fallback import family
    from ..store import seen

    state = config.state_dir(context.environ)
    if state is None:
        return
    dialect = client.dialect
    for kind in KINDS if asked == "all" else (asked,):
        names = [name for name, entry, request in listed if dialect.is_of(entry, kind, request)]
        seen.remember(state, client.gateway.name, kind, names)
        if kind == "chat":
            searching = (name for name in names if family(name) in dialect.searching)
            seen.remember(state, client.gateway.name, "search", searching)


def _table(found: dict[str, dict[str, Any]], client: Client, output: Output) -> None:
    from ..gateways.prices import places

    rows = []
    for name, entry in found.items():
        prices = client.dialect.prices(entry)
        pair = (prices.input, prices.output)
        total = sum(price for price in pair if price is not None) + (prices.call or 0)
        sizes = (entry.get(key) for key in ("context_length", "context_window"))
        size = next((value for value in sizes if type(value) is int), None)
        cells = [one_line(name, 60), *("-" if price is None else f"${places(price, 4)}" for price in pair)]
        if prices.call is not None:
            cells[1:] = ["a call", f"${places(prices.call, 4)}"]
        rows.append(((not prices.known, total, name), [*cells, f"{size:,}" if size else "-", _modalities(entry)]))
    header = ["id", "input $/1M", "output $/1M", "context", "modalities"]
    output.table([header, *(cells for _, cells in sorted(rows))])


def _modalities(entry: dict[str, Any]) -> str:
    """text+image→text if the list says so, else its one word."""
    sides = [entry.get(f"{side}_modalities") for side in ("input", "output")]
    texts = ["+".join(word for word in side if isinstance(word, str)) for side in sides if isinstance(side, list)]
    return one_line("→".join(texts) if len(texts) == 2 else text_of(entry.get("modality")) or "-", 60)


def _tell(model: str, client: Client, output: Output) -> Report:
    from ..calls.models import price_entry

    entry = price_entry(client, model)
    for name, value in entry.items():
        text = value if isinstance(value, str) else json.dumps(value)
        output.line(f"{one_line(name, 40) + ':':<24}{one_line(text)}")
    return Report(model, models=[entry])
