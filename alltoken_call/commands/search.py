"""search: a question to a model that looks on the web first."""

from __future__ import annotations

from ..errors import CallError
from . import chat, options, tools

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from ..cli.context import Context
    from ..cli.output import Output
    from ..gateways.openai import OpenAI
    from ..values import Answer, Result

FIELDS = chat.FIELDS
HELP = "ask a model that searches the web"
WORDS = "QUERY…"
EXAMPLE = 'alltoken-call search "what changed in Python 3.13?"'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of search."""
    parser.add_argument("words", nargs="*", metavar=WORDS, help="the question; - stands for the text on stdin")
    asking = parser.add_argument_group("the question")
    options.add_model(asking, "a DeepSeek or Qwen model (default: $ALLTOKEN_SEARCH_MODEL, else deepseek-v4-pro)")
    add = asking.add_argument
    add("--max-tokens", metavar="N", type=options.positive, default=600, help="limit of the answer (default: 600)")
    about = "a conversation with tools: read, and rewritten as it goes on"
    add("--thread", metavar="FILE", type=options.path, help=about)
    chat.add_answer_arguments(asking)
    tools.add_arguments(parser)


def run(args: argparse.Namespace, context: Context, output: Output) -> Result | None:
    """Ask with enable_search, and show."""
    return chat.with_thread(args, context, output, _run)


def _run(args: argparse.Namespace, context: Context, output: Output) -> Result | None:
    from ..calls.fallback import check_searching

    dialect = context.dialect(args, output)
    asked = dialect.search()
    thread = chat.read_thread(args) if args.thread else None
    model = args.model or (thread and thread.model) or options.default_model(args, context, "search")
    for candidate in (model, *(args.fallback if isinstance(args.fallback, list) else ())):
        check_searching(dialect, candidate)
        _warn(candidate, dialect, output)
    body = {"model": model, **asked, "max_tokens": args.max_tokens}
    words = args.words or not (args.interactive or args.resume)
    query = context.prompt(args.words, output) if words else ""
    if args.thread or args.interactive or tools.is_wanted(args):
        from .running import run

        return run(args, context, output, body, thread, query, [], command="search", talking=args.interactive)
    if args.tools:
        body["tools"] = tools.definitions(args)
    body["messages"] = [{"role": "user", "content": query}]
    answer: Answer | None = None
    try:
        answer = chat.send(args, context, output, body, command="search")
        return answer
    except CallError as error:
        answer = error.partial
        raise
    finally:
        if answer is not None and answer.model:
            _warn(answer.model, dialect, output)  # the fallback may have chosen another


def _warn(model: str, dialect: OpenAI, output: Output) -> None:
    if model not in dialect.verified:
        output.warning(f"{model}: it was not verified that this model searches")
