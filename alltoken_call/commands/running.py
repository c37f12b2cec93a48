"""A run of the loop on the command line: what is shown of it, and how it ends."""

from __future__ import annotations

import contextlib
import json
from decimal import Decimal
from functools import partial

from .. import config
from ..agent import events, process
from ..agent.loop import Loop
from ..agent.servers import Serving
from ..agent.tools import RESULT_LIMIT, Limits
from ..calls.chat import drained
from ..calls.fallback import answering_with_fallback
from ..errors import CallError, UsageError
from ..text import one_line
from ..values import Text
from . import options
from .chat import content_of, read_thread, shared_fields
from .consent import Consent
from .kept import Kept, new_path
from .talk import Talk
from .tools import find_tools, is_wanted

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from ..agent.loop import AnyEvent
    from ..agent.run import Run
    from ..cli.context import Context
    from ..cli.output import Output
    from ..store.thread import Thread
    from ..values import Result


class Shown:
    """What is shown of a run: on a terminal all text as it comes; in a pipe the final answer alone, and the rest on
    stderr."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._held = ""

    def take(self, event: AnyEvent) -> None:
        """Show an event, or hold it until it is known to be final."""
        output = self._output
        if type(event) is Text and not output.to_terminal:
            self._held += event.text
        elif not isinstance(event, events.Event):
            output.on_event(event)
        elif isinstance(event, events.StreamEnd):
            if output.to_terminal:
                output.end_text()
            elif not event.final:  # text before a call is not the answer
                held, self._held = self._held.rstrip(), ""
                if held:
                    output.remark(held)
        elif isinstance(event, events.ToolCalled):
            arguments = json.dumps(event.arguments, ensure_ascii=False, separators=(",", ":"))
            output.note("tool", f"{one_line(event.tool, 64)} {one_line(arguments, 400)}")
        elif isinstance(event, events.ToolResulted):
            how = "ok" if event.ok else "failed"
            about = f"{how}, {len(event.result):,} characters in {event.seconds:.1f} s"
            output.note("tool", f"{one_line(event.tool, 64)} {about}")
            if event.errors and output.verbose:
                output.say(event.errors)
        elif isinstance(event, events.AssistantMessage):
            self._finish()
            for call in event.handed:
                output.line(json.dumps(call))
        elif isinstance(event, events.Failed):
            self._finish()

    def _finish(self) -> None:
        """What was held is the answer, or as much of it as there is."""
        held, self._held = self._held, ""
        self._output.text(held)
        self._output.end_text()


def run(
    args: argparse.Namespace,
    context: Context,
    output: Output,
    body: dict[str, Any],
    thread: Thread | None,
    text: str,
    attached: list[dict[str, Any]],
    *,
    command: str,
    named: str | None = None,
    talking: bool = False,
) -> Result | None:
    """Run the loop and show it; None under --dry-run. `talking`: it is a conversation in the terminal, which the text
    and the images that are `attached` begin. `named` as in `chat.send`."""
    body |= shared_fields(args)
    thread = thread or read_thread(args)
    content = content_of(text, attached)
    if args.dry_run:
        asked = [] if content is None else [{"role": "user", "content": content}]
        _show_request(args, context, output, body | {"messages": [*thread.messages, *asked]})
        return None
    client = context.client(args, output)
    process.close_proc_entry()
    found = find_tools(args, config.without_keys(context.environ, client.key))
    if not thread.path and not talking:
        thread.path = new_path(context, output)
    if args.resume and content is None and not thread.messages:
        raise UsageError(f"{args.thread} has no conversation to continue")
    kept, consent, shown = Kept(args, context, thread, body), Consent(args, context, output), Shown(output)
    with contextlib.closing(Serving(args.mcp, context.environ, client)) as servers:
        tools = servers.start(found)
        consent.warn(tools.values())
        together = servers.close if args.mcp and not talking else None  # a signal ends a tool and the servers at once
        seconds, characters = args.tool_timeout or 60.0, args.tool_output or RESULT_LIMIT
        loop = Loop(
            client,
            body,
            thread.messages,
            tools,
            Limits(seconds, characters, client.over, output.without_key, together),
            command=command,
            max_steps=args.max_steps or 10,
            limit=None if args.max_cost is None else Decimal(repr(args.max_cost)),
            approve=consent,
            save=kept.save,
            answering=partial(answering_with_fallback, choice=args.fallback),
        )
        if talking:
            return Talk(context, output, loop, kept, shown).run(text, attached, resume=args.resume)
        value = _run(loop, content, kept, shown, named)
    consent.check(value)
    return value


def _run(loop: Loop, content: Any, kept: Kept, shown: Shown, named: str | None) -> Run:
    """One run; one that can go on is told with the command for it."""
    try:
        drained(loop.run(content), shown.take)
    except CallError as error:
        resume = loop.value.resume = kept.resume_command(loop.command)
        end = CallError.of(error, hint=error.hint or (None if resume else kept.hint()))
        raise options.hinted(end, loop.client, loop.value.model or "", named) from None
    value = loop.value
    if value.tool_calls:
        value.resume = kept.resume_command(loop.command)
    else:
        kept.end()
    return value


def _show_request(args: argparse.Namespace, context: Context, output: Output, body: dict[str, Any]) -> None:
    """The first request, without the tools of servers, which are not started for it."""
    if tools := find_tools(args, context.environ):
        body["tools"] = [tool.definition() for tool in tools.values()]
    if is_wanted(args):
        unknown = "; the tools of servers are not known" if args.mcp else ""
        output.note("dry-run", f"no tool and no server is started{unknown}")
    output.request(context.dialect(args, output).chat(body))
