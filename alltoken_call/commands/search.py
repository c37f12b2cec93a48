"""search: a question to a model that looks on the web first."""

from __future__ import annotations

from .. import config
from ..cli import options, prompt
from ..errors import UsageError
from . import chat

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from ..cli.context import Context
    from ..cli.output import Output

FIELDS = chat.FIELDS
HELP = "ask a model that searches the web"
EXAMPLE = 'alltoken-call search "what changed in Python 3.13?"'
FAMILIES = ("deepseek", "qwen")  # those that honour enable_search; others ignore it in silence (PROTOCOL: Search)
VERIFIED = (
    "deepseek-v4-pro",
    "deepseek-v3.2",
    "qwen3.6-flash",
    "qwen3.6-max-preview",
    "qwen3.6-plus",
    "qwen3.6-27b",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of search."""
    parser.add_argument("words", nargs="*", metavar="QUERY", help="the question; - takes stdin's text")
    asking = parser.add_argument_group("the question")
    asking.add_argument("-m", "--model", metavar="ID", type=options.name, help="a DeepSeek or Qwen model")
    asking.add_argument(
        "--max-tokens", metavar="N", type=options.positive, default=600, help="the longest answer (600)"
    )
    chat.add_answer_arguments(asking)


def run(args: argparse.Namespace, context: Context, output: Output) -> None:
    """Ask with enable_search, and show."""
    from ..calls.fallback import family

    model = args.model or config.default_model(context.environ, "search")
    output.report["model"] = model
    for candidate in (model, *(args.fallback if isinstance(args.fallback, list) else ())):
        if family(candidate) not in FAMILIES:
            raise UsageError(
                f"{candidate} does not search: only DeepSeek and Qwen models do, others ignore the request in silence",
                hint=f"models that search: {', '.join(VERIFIED)}",
            )
        _warn(candidate, output)
    query = prompt.assemble(args.words, context, output)
    messages = [{"role": "user", "content": query}]
    body = {"model": model, "messages": messages, "enable_search": True, "max_tokens": args.max_tokens}
    chat.send(args, context, output, body, families=FAMILIES)
    _warn(output.report["model"], output)  # the fallback may have chosen another


def _warn(model: str, output: Output) -> None:
    if model not in VERIFIED:
        output.warning(f"{model} is of a family that searches, but it is not known whether it does itself")
