"""models: what there is to call, from the live list; with prices, from the public catalog."""

from __future__ import annotations

import json

from .. import config
from ..gateways import pricing
from ..errors import UsageError
from ..calls.fallback import MODELS, is_chat
from ..text import one_line
from ..net.transport import Transport
from ..wire import segment, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from ..cli.context import Context
    from ..cli.output import Output

FIELDS = ("models",)
HELP = "list the models, or tell of one"
EXAMPLE = "alltoken-call models --filter claude -l"
_LISTS = {"image": "/v1/images/models", "video": "/v1/videos/models"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of models."""
    parser.add_argument("words", nargs="*", metavar="ID", help="the model to tell of")
    choice = parser.add_argument_group("which")
    choice.add_argument("--type", choices=("chat", "image", "video", "all"), default="chat", help="(chat)")
    choice.add_argument("--filter", metavar="TEXT", default="", help="only ids that hold TEXT")
    choice.add_argument("-l", "--long", action="store_true", help="prices, context and modalities, the cheapest first")


def run(args: argparse.Namespace, context: Context, output: Output) -> None:
    """Show ids, the table, or one model."""
    if len(args.words) > 1 or not all(word.strip() for word in args.words):
        raise UsageError("models takes one id", hint="--filter TEXT finds several")
    public = bool(args.words or args.long)
    if public:
        requests = [f"{pricing.CATALOG}/{segment(args.words[0])}" if args.words else pricing.CATALOG]
    elif args.type == "all":
        requests = [MODELS, *_LISTS.values()]
    else:
        requests = [_LISTS.get(args.type, MODELS)]
    if args.dry_run:
        output.show_request("GET", config.base_url(context.environ) + requests[0])
        return
    transport = Transport(context, output, args.timeout, with_key=not public)
    if args.words:
        output.report["model"] = args.words[0]
        _tell(pricing.entry(transport, args.words[0]), output)
        return
    found: dict[str, dict[str, Any]] = {}
    for path in requests:
        for name, entry in pricing.listed(transport, path):
            if args.filter.lower() in name.lower() and _is_of(entry, args.type, path):
                found.setdefault(name, entry)
    output.report["models"] = list(found.values())
    if args.long:
        _table(found, output)
    else:
        for name in found:
            output.line(one_line(name, 200))
    matching = f" matching {args.filter!r}" if args.filter else ""
    output.remark(f"{args.type}: {len(found)} model(s){matching}")


def _is_of(entry: dict[str, Any], kind: str, path: str) -> bool:
    """Whether an entry is of the type asked for; one that does not say is what its list is for (PROTOCOL: Models)."""
    modality = text_of(entry.get("modality"))
    if kind == "all" or (modality is None and path in _LISTS.values()):
        return True
    return is_chat(entry) if kind == "chat" else (modality or "").lower() == kind


def _table(found: dict[str, dict[str, Any]], output: Output) -> None:
    rows = []
    for name, entry in found.items():
        prices = pricing.prices(entry)
        known = all(price is not None for price in prices)
        total = sum(price for price in prices if price is not None)
        context = next(
            (entry[key] for key in ("context_length", "context_window") if type(entry.get(key)) is int), None
        )
        cells = [one_line(name, 60), *("-" if price is None else f"${pricing.places(price, 4)}" for price in prices)]
        rows.append(((not known, total, name), [*cells, f"{context:,}" if context else "-", _modalities(entry)]))
    header = ["id", "input $/1M", "output $/1M", "context", "modalities"]
    output.table([header, *(cells for _, cells in sorted(rows))])


def _modalities(entry: dict[str, Any]) -> str:
    """text+image→text where the catalog says so, else its one word."""
    sides = [entry.get(f"{side}_modalities") for side in ("input", "output")]
    texts = ["+".join(word for word in side if isinstance(word, str)) for side in sides if isinstance(side, list)]
    return one_line("→".join(texts) if len(texts) == 2 else text_of(entry.get("modality")) or "-", 60)


def _tell(entry: dict[str, Any], output: Output) -> None:
    output.report["models"] = [entry]
    for name, value in entry.items():
        text = value if isinstance(value, str) else json.dumps(value)
        output.line(f"{one_line(name, 40) + ':':<24}{one_line(text)}")
