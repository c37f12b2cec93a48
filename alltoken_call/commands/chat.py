"""chat: one question to a language model, the answer as it is written."""

from __future__ import annotations

from .. import config
from ..errors import CallError, OutputError, UsageError
from ..request import Upload, streaming
from ..text import one_line
from . import options, tools

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import Any

    from ..cli.context import Context
    from ..cli.output import Output
    from ..store.thread import Thread
    from ..values import Answer, Result

FIELDS = ("text", "reasoning", "tool_calls", "finish_reason", "served_model", "steps")
HELP = "ask a language model"
WORDS = "[MODEL] PROMPT…"
EXAMPLE = 'git diff | alltoken-call chat gpt-5.4-mini "write the commit message"'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of chat."""
    parser.add_argument("words", nargs="*", metavar=WORDS, help="the question; - stands for the text on stdin")
    asking = parser.add_argument_group("the question")
    options.add_model(asking, "the model (default: $ALLTOKEN_CHAT_MODEL, else gpt-5.4-mini)")
    add = asking.add_argument
    add("-s", "--system", metavar="TEXT", type=options.text, help="the system message (default: none)")
    add("-a", "--attach", metavar="FILE|URL", action="append", default=[], help="an image to look at; repeatable")
    add("--thread", metavar="FILE", type=options.path, help="a conversation: read, and rewritten with the new turn")
    tuning = parser.add_argument_group("the answer")
    add = tuning.add_argument
    about = "0 to 2; 0 = least random (default: the model's)"
    add("-t", "--temperature", metavar="0-2", type=options.number(0, 2), help=about)
    add("--max-tokens", metavar="N", type=options.positive, help="limit of the answer (default: the model's)")
    about = "ask for reasoning and show it on stderr; BUDGET is its limit in tokens"
    add("--thinking", metavar="[BUDGET]", type=_budget, help=about)
    add_answer_arguments(tuning)
    tools.add_arguments(parser)


def _budget(text: str) -> int:
    return options.positive(text) if text else 0  # the command line writes a bare --thinking as --thinking=


def add_answer_arguments(group: argparse._ArgumentGroup) -> None:
    """What chat and search have in common."""
    options.add_param(group)
    group.add_argument("--no-stream", action="store_true", help="ask for the answer in one piece")
    about = "other models to ask if all providers of this one fail; auto = one that is not dearer (default: auto)"
    group.add_argument("--fallback", metavar="auto|none|ID,…", type=options.fallback, default="auto", help=about)


def shared_fields(args: argparse.Namespace) -> dict[str, Any]:
    """The request fields of the options that chat and search have in common."""
    return streaming(wanted=not args.no_stream) | dict(args.param)


def run(args: argparse.Namespace, context: Context, output: Output) -> Result | None:
    """Ask, show, and keep the thread."""
    return with_thread(args, context, output, _run)


def with_thread(
    args: argparse.Namespace,
    context: Context,
    output: Output,
    run: Callable[[argparse.Namespace, Context, Output], Result | None],
) -> Result | None:
    """What `run` returns, while no other run uses the same --thread."""
    if args.interactive and not context.can_talk():
        raise UsageError("-i needs a terminal on stdin and stderr")
    if args.interactive and args.json:
        raise UsageError("a conversation has no document: -i does not go with --json")
    if args.resume and not args.thread:
        raise UsageError("--resume needs --thread FILE")
    if not args.thread or args.dry_run:
        return run(args, context, output)
    from ..store import thread

    thread.check(args.thread)
    state = config.state_dir(context.environ)
    with thread.locked(args.thread, state, context.clock.left, context.clock.sleep, "--max-wait"):
        return run(args, context, output)


def _run(args: argparse.Namespace, context: Context, output: Output) -> Result | None:
    import json  # not for --help

    thread = read_thread(args) if args.thread else None
    elsewhere = not context.gateway(args).home
    named, words = (None, args.words) if args.model else options.split_model(args.words, elsewhere=elsewhere)
    if not named and not args.model and len(words) == 1:
        lone = options.split_model([*words, "-"], elsewhere=elsewhere)  # a lone model, and the prompt on stdin
        if lone[0] and context.offers_text(output):
            named, words = lone
    model = args.model or named or (thread and thread.model) or options.default_model(args, context, "chat")
    if thread and thread.model and model == thread.model and not (args.model or named):
        output.note("thread", f"model {one_line(model, 60)}")
    args.model = model  # from here on
    body: dict[str, Any] = {"model": model}
    running = tools.is_wanted(args)
    if args.tools and not running:
        body["tools"] = tools.definitions(args)
    attached = [attachment(item) for item in args.attach]
    talking = args.interactive or not (
        args.words or args.resume or args.dry_run or args.json or not context.is_conversation()
    )
    text = "" if (talking or args.resume) and not words else context.prompt(words, output)
    body |= options.given(temperature=args.temperature, max_tokens=args.max_tokens)
    if args.thinking is not None:
        output.thinking = True
        body |= context.dialect(args, output).thinking(args.thinking)
    if running or talking:
        from .running import run

        return run(args, context, output, body, thread, text, attached, command="chat", named=named, talking=talking)
    before = thread.messages if thread else []
    if args.system is not None and not thread:
        before = [{"role": "system", "content": args.system}]
    body["messages"] = [*before, {"role": "user", "content": content_of(text, attached)}]
    answer = send(args, context, output, body, named=named)
    if answer is None:
        return None
    with options.showing(answer):
        for call in answer.tool_calls:
            output.line(json.dumps(call))
    if thread:
        turn: dict[str, Any] = {"role": "assistant", "content": answer.text or None}
        if answer.tool_calls:
            turn["tool_calls"] = answer.tool_calls
        thread.messages[:] = [*body["messages"], turn]
        try:
            thread.save(model)
        except OutputError as error:
            raise CallError.of(error, partial=answer) from None
    return answer


def content_of(text: str, attached: list[dict[str, Any]]) -> Any:
    """A message's content: a text, or its parts; None if there is nothing in it."""
    parts = [{"type": "text", "text": text}] if text else []
    return [*parts, *attached] if attached else text or None


def send(
    args: argparse.Namespace,
    context: Context,
    output: Output,
    body: dict[str, Any],
    *,
    named: str | None = None,
    command: str = "chat",
) -> Answer | None:
    """Complete the request with what chat and search share, and ask. None under --dry-run.

    `named` is a model that was taken from the words, which the hint of a 404 says.
    """
    body |= shared_fields(args)
    if args.dry_run:
        output.request(context.dialect(args, output).chat(body))
        return None
    from ..calls.chat import drained
    from ..calls.fallback import answering_with_fallback

    client = context.client(args, output)
    try:
        events = answering_with_fallback(client, body, args.fallback, command)
        answer = drained(events, client.emit)
    except CallError as error:
        with options.showing(error.partial):
            output.end_text()
        raise options.hinted(error, client, body["model"], named) from None
    with options.showing(answer):
        output.end_text()
    return answer


def read_thread(args: argparse.Namespace) -> Thread:
    """The conversation of --thread, or a new one, with -s as its system message."""
    from ..store import thread

    found = thread.Thread(args.thread or "")
    if getattr(args, "system", None) is not None:
        thread.set_system(found.messages, args.system)
    return found


def attachment(item: str) -> dict[str, Any]:
    """An image as a content part: a URL as it is, a local file as a data URL."""
    from ..store import files

    url = item
    if not item.lower().startswith(("https://", "http://")):
        data = files.read_input(item)
        found = files.media_type(data)
        if found not in files.SHOWN:
            hint = "text goes into the prompt: chat - < FILE"
            raise UsageError(f"{item} is not a PNG, JPEG, WebP or GIF image", hint=hint)
        url = Upload(item, data, found).data_url()
    return {"type": "image_url", "image_url": {"url": url}}
