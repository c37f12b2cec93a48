"""A run of the loop on the command line: what is shown of it, and how it ends."""

from __future__ import annotations

import json
from decimal import Decimal

from ..agent import events
from ..agent.loop import Loop
from ..calls.chat import drained
from ..calls.fallback import answering_with_fallback
from ..errors import CallError, ExitStatus, UsageError
from ..text import one_line
from . import loop as loop_options
from . import options, tooling
from .chat import shared_fields
from .kept import Kept, resume_command
from .talk import Talk

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from ..agent.events import Event
    from ..agent.run import Run
    from ..agent.tools import Tool
    from ..calls.client import Client
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

    def take(self, event: Event) -> None:
        """Show an event, or hold it until it is known to be final."""
        output = self._output
        if isinstance(event, events.StreamDelta):
            if output.to_terminal:
                output.text(event.text)
            else:
                self._held = event.so_far
        elif isinstance(event, events.StreamEnd):
            if output.to_terminal:
                output.end_text()
            elif not event.final:
                self._release()
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
            self.finish()

    def _release(self) -> None:
        """Text before a call is not the answer: it goes to stderr."""
        if self._held.strip():
            self._output.remark(self._held.rstrip())
        self._held = ""

    def finish(self) -> None:
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
    content: Any,
    *,
    command: str,
    named: str | None = None,
    families: tuple[str, ...] = (),
    talk: tuple[str, list[dict[str, Any]]] | None = None,
) -> Result | None:
    """Run the loop and show it; None under --dry-run. With `talk`, a text and images to begin with, it is a
    conversation in the terminal. `named` and `families` as in `chat.send`."""
    body |= shared_fields(args)
    if args.dry_run:
        _show_request(args, context, output, body, thread, content)
        return None
    client = context.client(args, output)
    found = tooling.find_tools(args, tooling.environ_of_tools(context, client))
    kept = Kept(args, context, output, thread, memory=talk is not None)
    if args.resume and content is None and not kept.messages:
        raise UsageError(f"{args.thread} has no conversation to continue")
    consent, shown = tooling.Consent(args, context, output), Shown(output)
    with tooling.serving(args, context, client, found) as (tools, end_group):
        consent.warn(tools)
        loop = _loop(args, output, client, body, kept, tools, command, families)
        loop.approve = consent
        if talk is not None:
            return Talk(context, output, loop, kept, shown).run(*talk, resume=args.resume)
        loop.limits.end = end_group
        try:
            drained(loop.run(content), shown.take)
        except CallError as error:
            _tell_resume(args, context, kept, loop.value, body["model"], command)
            with options.showing(loop.value):
                shown.finish()
            raise options.hinted(error, client, loop.value.model or "", named) from None
    return _finished(args, context, output, consent, kept, loop.value, body["model"], command)


def _loop(
    args: argparse.Namespace,
    output: Output,
    client: Client,
    body: dict[str, Any],
    kept: Kept,
    tools: list[Tool],
    command: str,
    families: tuple[str, ...],
) -> Loop:
    return Loop(
        client,
        body,
        kept.messages,
        tools,
        command=command,
        max_steps=args.max_steps,
        limit=None if args.max_cost is None else Decimal(repr(args.max_cost)),
        save=lambda _: kept.save(body["model"]),
        stop=lambda: client.clock.left() <= 0,
        tool_timeout=args.tool_timeout,
        tool_output=args.tool_output,
        clean=output.without_key,
        answering=lambda client, body, command: answering_with_fallback(
            client, body, args.fallback, families=families, command=command
        ),
    )


def _tell_resume(args: argparse.Namespace, context: Context, kept: Kept, value: Run, model: str, command: str) -> None:
    """Let the last line of stderr be the command that goes on with an unfinished run."""
    if kept.path is not None:
        value.resume = resume_command(args, context, kept.path, model, command)


def _finished(
    args: argparse.Namespace,
    context: Context,
    output: Output,
    consent: tooling.Consent,
    kept: Kept,
    value: Run,
    model: str,
    command: str,
) -> Run:
    """The end of a run that no error has ended: calls are handed back, or it has come to its end."""
    if value.tool_calls:
        _tell_resume(args, context, kept, value, model, command)
    else:
        kept.end()
    with options.showing(value):
        for call in value.tool_calls:
            output.line(json.dumps(call))
    if consent.refused:
        message = f"{consent.refused} call(s) were refused, since nobody could be asked"
        hint = "--allow GLOB lets them run"
        raise CallError(message, code="refused_calls", status=ExitStatus.REFUSED, hint=hint, partial=value)
    return value


def _show_request(
    args: argparse.Namespace,
    context: Context,
    output: Output,
    body: dict[str, Any],
    thread: Thread | None,
    content: Any,
) -> None:
    """The first request, without the tools of servers, which are not started for it."""
    tools = [tool.definition() for tool in tooling.find_tools(args, context.environ)]
    messages = Kept(args, context, output, thread, memory=True).messages
    if content is not None:
        messages.append({"role": "user", "content": content})
    if loop_options.is_wanted(args):
        unknown = "; the tools of servers are not known" if args.mcp else ""
        output.note("dry-run", f"no tool and no server is started{unknown}")
    output.request(
        context.dialect(args, output).chat(body | {"messages": messages} | ({"tools": tools} if tools else {}))
    )
