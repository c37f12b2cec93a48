"""chat: one question to a language model, the answer as it is written."""

from __future__ import annotations

import os

from .. import config
from ..cli import options, prompt
from ..errors import ApiError, OutputError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from ..calls.completion import Completion
    from ..cli.context import Context
    from ..cli.output import Output

FIELDS = ("text", "reasoning", "tool_calls", "finish_reason", "served_model")
HELP = "ask a language model"
EXAMPLE = 'git diff | alltoken-call chat gpt-5.4-mini "write the commit message"'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of chat."""
    parser.add_argument("words", nargs="*", metavar="[MODEL] PROMPT", help="the question; - takes stdin's text")
    asking = parser.add_argument_group("the question")
    asking.add_argument(
        "-m", "--model", metavar="ID", type=options.name, help="the model, whatever the first word looks like"
    )
    asking.add_argument("-s", "--system", metavar="TEXT", type=options.text, help="the system message")
    asking.add_argument("-a", "--attach", metavar="FILE|URL", action="append", default=[], help="an image; repeatable")
    asking.add_argument("--thread", metavar="FILE", help="a conversation: read, and rewritten with the new turn")
    asking.add_argument("--tools", metavar="FILE", help="tools that the model may call: a JSON array")
    tuning = parser.add_argument_group("the answer")
    tuning.add_argument("-t", "--temperature", metavar="0-2", type=options.number(0, 2), help="0 is the most sober")
    tuning.add_argument("--max-tokens", metavar="N", type=options.positive, help="the longest answer")
    tuning.add_argument(
        "--thinking",
        metavar="[BUDGET]",
        type=_budget,
        help="show the reasoning on stderr; a number after it: its tokens",
    )
    add_answer_arguments(tuning)


def _budget(text: str) -> int:
    return options.positive(text) if text else 0  # cli.py writes a bare --thinking as --thinking=


def add_answer_arguments(group: argparse._ArgumentGroup) -> None:
    """What chat and search have in common."""
    options.add_param(group)
    group.add_argument("--no-stream", action="store_true", help="ask for the answer in one piece")
    group.add_argument(
        "--fallback",
        metavar="auto|none|ID,…",
        type=options.fallback,
        default="auto",
        help="another model when all providers of this one fail",
    )


def run(args: argparse.Namespace, context: Context, output: Output) -> None:
    """Ask, show, and keep the thread."""
    import json  # not for --help

    from ..store import files

    named, words = (None, args.words) if args.model else prompt.split_model(args.words)
    model = args.model or named or config.default_model(context.environ, "chat")
    output.report["model"] = model
    before = _version(args.thread)
    messages = _read_thread(args.thread, args.system)
    body: dict[str, Any] = {"model": model}
    if args.tools:
        body["tools"] = _read_json(args.tools, "--tools wants a JSON array of tools")
    attached = [_attachment(item) for item in args.attach]
    text = prompt.assemble(words, context, output)
    messages.append({"role": "user", "content": [{"type": "text", "text": text}, *attached] if attached else text})
    body["messages"] = messages
    body |= options.given(temperature=args.temperature, max_tokens=args.max_tokens)
    if args.thinking is not None:
        body["thinking"] = True
        if args.thinking:
            body["thinking_budget"] = args.thinking
    if args.thread and not args.dry_run:
        files.check_replaceable(args.thread)
    try:
        answer = send(args, context, output, body, show_reasoning=args.thinking is not None)
    except ApiError as error:
        if error.http == 404 and named:
            error.hint = f"{named!r} was taken for the model; -m ID settles it, or put the whole prompt in quotes"
        raise
    if answer is None:
        return
    for call in answer.tool_calls:
        output.line(json.dumps(call))
    if args.thread:
        turn: dict[str, Any] = {"role": "assistant", "content": answer.text or None}
        if answer.tool_calls:
            turn["tool_calls"] = answer.tool_calls
        if _version(args.thread) != before:
            raise OutputError(f"another run has written {args.thread} meanwhile: this turn is not in it")
        files.replace(args.thread, (json.dumps([*messages, turn], indent=1) + "\n").encode("ascii"))


def send(
    args: argparse.Namespace,
    context: Context,
    output: Output,
    body: dict[str, Any],
    *,
    families: tuple[str, ...] = (),
    show_reasoning: bool = False,
) -> Completion | None:
    """Complete the request with what chat and search share, and ask. None under --dry-run.

    Warns of an answer that its finish reason calls incomplete, which is whole as far as the wire goes.
    """
    from ..calls.completion import PATH
    from ..calls.fallback import ask_with_fallback
    from ..net.transport import Transport

    if args.no_stream:
        body["stream"] = False
    else:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    body |= dict(args.param)
    if args.dry_run:
        output.show_request("POST", config.base_url(context.environ) + PATH, body)
        return None
    transport = Transport(context, output, args.timeout)
    answer = ask_with_fallback(transport, output, body, args.fallback, families=families, show_reasoning=show_reasoning)
    if answer.finish_reason == "length":
        output.warning("the answer was stopped by the limit of tokens (finish_reason length): --max-tokens raises it")
    elif answer.finish_reason == "content_filter":
        output.warning("the answer was stopped by a content filter (finish_reason content_filter)")
    elif not answer.text and not answer.tool_calls:
        output.warning("the answer is empty")
    return answer


def _read_json(path: str, wanted: str) -> list[dict[str, Any]]:
    from ..store import files
    from ..wire import parse_json  # not for --help

    try:
        value = parse_json(files.read_input(path))
    except ValueError:
        value = None
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise UsageError(f"{path}: {wanted}")
    return value


def _version(path: str | None) -> tuple[int, int] | None:
    """What tells whether a file has been written since; None where there is none."""
    if not path or not os.path.exists(path):
        return None
    found = os.stat(path)
    return found.st_mtime_ns, found.st_ino


def _read_thread(path: str | None, system: str | None) -> list[dict[str, Any]]:
    """The messages of a thread, with `system` as the system message."""
    messages: list[dict[str, Any]] = []
    if path and os.path.exists(path) and not os.path.isfile(path):
        raise UsageError(f"{path} is no regular file, and --thread would make it one")
    if path and os.path.exists(path) and os.path.getsize(path):
        wanted = "--thread wants a JSON list of messages, each with a role"
        messages = _read_json(path, wanted)
        if not all(isinstance(message.get("role"), str) for message in messages):
            raise UsageError(f"{path}: {wanted}")
    if system is not None:
        if messages and messages[0]["role"] == "system":
            messages.pop(0)
        messages.insert(0, {"role": "system", "content": system})
    return messages


def _attachment(item: str) -> dict[str, Any]:
    """An image as a content part: a URL as it is, a local file as a data URL."""
    import base64

    from ..store import files

    url = item
    if not item.lower().startswith(("https://", "http://")):
        data = files.read_input(item)
        kind = files.media_type(data) or ""
        if not kind.startswith("image/"):
            raise UsageError(f"{item} is no PNG, JPEG, WebP or GIF image", hint="text goes into the prompt: - < FILE")
        url = f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
    return {"type": "image_url", "image_url": {"url": url}}
