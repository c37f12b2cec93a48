"""What chat and search have for tools: their options, consent, what is shown of a run, and how it is taken up."""

from __future__ import annotations

import contextlib
import fnmatch
import json
import os

from .. import config
from ..errors import CallError, ExitStatus, UsageError
from ..text import one_line
from . import options

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator
    from typing import Any

    from ..agent.events import Event
    from ..agent.mcp import Server
    from ..agent.tools import Tool, ToolCall
    from ..calls.client import Client
    from ..cli.context import Context
    from ..cli.output import Output
    from ..store.thread import Thread
    from ..values import Result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options for tools."""
    tools = parser.add_argument_group("tools that run")
    tools.add_argument(
        "--tool", metavar="PATH", action="append", default=[], help="an executable that declares itself; repeatable"
    )
    tools.add_argument(
        "--tools",
        metavar="FILE",
        help='a JSON array of definitions: those with a "command" are run, the calls of the others are handed back',
    )
    tools.add_argument(
        "--mcp",
        metavar="FILE|COMMAND",
        action="append",
        default=[],
        help="MCP servers: a command line, or a .json file with mcpServers; repeatable",
    )
    tools.add_argument(
        "--allow", metavar="GLOB", action="append", default=[], help="let calls of these tools pass unasked; repeatable"
    )
    tools.add_argument(
        "--approve", action="store_true", help="ask about every other call, not only about servers' tools"
    )
    tools.add_argument(
        "--max-steps", metavar="N", type=options.positive, default=10, help="most requests of a run (default: 10)"
    )
    tools.add_argument(
        "--max-cost", metavar="USD", type=options.number(0, 1e9), help="no further request once so much is spent"
    )
    tools.add_argument(
        "--tool-timeout",
        metavar="SECONDS",
        type=options.seconds,
        default=60.0,
        help="longest time of a call (default: 60)",
    )
    tools.add_argument(
        "--tool-output",
        metavar="N",
        type=options.positive,
        default=30_000,
        help="most characters of a result; the middle is left out (default: 30000)",
    )
    tools.add_argument(
        "-i", "--interactive", action="store_true", help="a conversation in the terminal; also without words"
    )
    tools.add_argument("--resume", action="store_true", help="with --thread: go on with an unfinished run")


def is_wanted(args: argparse.Namespace) -> bool:
    """Whether a run has tools that run, or goes on with one that had."""
    return bool(args.tool or args.mcp or args.resume or (args.tools and _runs_something(args.tools)))


def _runs_something(path: str) -> bool:
    return any("command" in item for item in read_definitions(path))


def read_definitions(path: str) -> list[dict[str, Any]]:
    """The definitions in a --tools file. Raises `UsageError`."""
    from ..store import files
    from ..wire import parse_json

    try:
        value = parse_json(files.read_input(path))
    except ValueError:
        value = None
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise UsageError(f"{path}: --tools takes a JSON array of tools")
    return value


def find_tools(args: argparse.Namespace, environ: dict[str, str]) -> list[Tool]:
    """The tools that the command line names but those of servers. Raises `UsageError`."""
    from ..agent import tools

    found: list[Tool] = [tools.declared(path, environ) for path in args.tool]
    if args.tools:
        found += tools.defined(args.tools, read_definitions(args.tools), environ)
    names = [tool.name for tool in found]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two tools are called {name}")
    return found


@contextlib.contextmanager
def serving(args: argparse.Namespace, context: Context, client: Client, found: list[Tool]) -> Iterator[list[Tool]]:
    """The tools with those of the MCP servers, which run until the block's end. Raises `UsageError` if one does not
    come up."""
    from ..agent import process

    process.close_proc_entry()
    if not args.mcp:
        yield found
        return
    from ..agent import mcp
    from ..agent.tools import Remote

    servers: list[Server] = []
    environ = tool_environ(context, client)
    try:
        for text in args.mcp:
            servers += _servers(text, environ, context, client)
        tools = {tool.name: tool for tool in found}
        for server in servers:
            try:
                server.start(min(60.0, max(0.1, client.clock.left())))
            except mcp.ServerError as error:
                raise UsageError(f"--mcp {server.name}: {error}") from None
            for definition in server.tools:
                name = mcp.tool_name(server.name, definition["name"], set(tools))
                tools[name] = Remote(name, server, definition)
        yield list(tools.values())
    finally:
        mcp.close_all(servers)


def _servers(text: str, environ: dict[str, str], context: Context, client: Client) -> list[Server]:
    import shlex

    from ..agent import mcp

    def stop() -> bool:
        return client.clock.left() <= 0

    if text.endswith(".json"):
        configured = mcp.read_config(text, context.environ)
        return [
            mcp.Server(name, argv, environ=mcp.limited_environ(environ, own), cwd=cwd, stop=stop)
            for name, argv, own, cwd in configured
        ]
    try:
        words = shlex.split(text)
    except ValueError:
        words = []
    if not words:
        raise UsageError(f"--mcp {text!r} is not a command line")
    return [mcp.Server(mcp.server_name(words), words, environ=environ, stop=stop)]


def tool_environ(context: Context, client: Client) -> dict[str, str]:
    """Our environment without any variable that holds a key."""
    from ..agent.process import without_secrets

    return without_secrets(context.environ, [*config.secrets(context.environ), client.key])


class Consent:
    """What may run: what the user names runs, what a server brings asks; --allow lets pass, --approve asks for all."""

    def __init__(self, args: argparse.Namespace, context: Context, output: Output) -> None:
        self._allow = list(args.allow)
        self._all = args.approve
        self._context = context
        self._output = output
        self.refused = 0  # calls that were refused since nobody could be asked

    def warn(self, tools: list[Tool]) -> None:
        """If nobody can be asked, say before anything is sent which --allow would let calls run."""
        names = [tool.name for tool in tools if not self._passes(tool)]
        if names and not self._context.can_ask():
            patterns = " ".join(f"--allow '{name}'" for name in names[:5])
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            self._output.warning(
                f"nobody can be asked about calls of {len(names)} tool(s), they are refused: {patterns}{more}"
            )

    def _passes(self, tool: Tool) -> bool:
        return any(fnmatch.fnmatchcase(tool.name, glob) for glob in self._allow) or not (self._all or tool.asks)

    def __call__(self, call: ToolCall, tool: Tool) -> bool | str:
        """Whether a call may run; a text is a refusal with its reason."""
        if self._passes(tool):
            return True
        if not self._context.can_ask():
            self.refused += 1
            return "nobody could be asked whether this call may run"
        question = (
            f"run {call.name} {json.dumps(call.arguments, ensure_ascii=False)}? y once, a always, n or a reason: "
        )
        answer = self._context.ask(question).strip()
        if answer.lower() in ("a", "always"):
            self._allow.append(tool.name)
        if answer.lower() in ("y", "yes", "a", "always"):
            return True
        return "the user does not allow this call" if answer.lower() in ("", "n", "no") else f"the user says: {answer}"


class Shown:
    """What is shown of a run: on a terminal all text as it comes; in a pipe the final answer alone, and the rest on
    stderr."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._held = ""

    def take(self, event: Event) -> None:
        """Show an event, or hold it until it is known to be final."""
        from ..agent import events

        output = self._output
        if isinstance(event, events.StreamDelta):
            if output.to_terminal:
                output.text(event.text)
            else:
                self._held = event.so_far
        elif isinstance(event, events.StreamEnd) and output.to_terminal:
            output.end_text()
        elif isinstance(event, events.ToolCalled):
            self._release()
            arguments = json.dumps(event.arguments, ensure_ascii=False, separators=(",", ":"))
            output.note("tool", f"{event.tool} {one_line(arguments, 400)}")
        elif isinstance(event, events.ToolResulted):
            how = "ok" if event.ok else "failed"
            output.note("tool", f"{event.tool} {how}, {len(event.result):,} characters in {event.seconds:.1f} s")
        elif isinstance(event, events.AssistantMessage):
            self.finish()

    def _release(self) -> None:
        """Text before a call is not the answer: it goes to stderr."""
        if self._held.strip():
            self._output.remark(self._held.rstrip())
        self._held = ""

    def finish(self) -> None:
        """What was held is the answer, or as much of it as there is."""
        self._output.text(self._held)
        self._held = ""
        self._output.end_text()


def run(
    args: argparse.Namespace,
    context: Context,
    output: Output,
    body: dict[str, Any],
    thread: Thread | None,
    content: Any,
    system: str | None = None,
    *,
    command: str,
    attach: Callable[[str], dict[str, Any]] | None = None,
) -> Result | None:
    """Run the loop and show it; None under --dry-run. A `thread` of the user's stays; without one the conversation is
    kept as long as it is unfinished. With `attach`, which makes a content part of a file, it is a conversation in the
    terminal."""
    from ..agent.loop import Loop

    body |= {"stream": False} if args.no_stream else {"stream": True, "stream_options": {"include_usage": True}}
    body |= dict(args.param)
    if args.dry_run:
        _show_request(args, context, output, body, thread, content)
        return None
    client = context.client(args, output)
    found = find_tools(args, tool_environ(context, client))
    kept = _conversation(thread, system, None if attach else config.state_dir(context.environ))
    consent, shown = Consent(args, context, output), Shown(output)
    with serving(args, context, client, found) as tools:
        consent.warn(tools)
        loop = Loop(
            client,
            body,
            kept.messages,
            tools,
            command=command,
            max_steps=args.max_steps,
            limit=options.dollars(args.max_cost),
            approve=consent,
            save=lambda _: _save(kept, body["model"], context),
            stop=lambda: client.clock.left() <= 0,
            tool_timeout=args.tool_timeout,
            tool_output=args.tool_output,
            clean=output.without_key,
        )
        if attach is not None:
            return Talk(context, output, loop, kept, shown, attach).run()
        try:
            for event in loop.run(content):
                shown.take(event)
        except CallError:
            loop.value.resume = _resume_command(args, context, kept, body["model"], command) if kept.is_saved else None
            with options.showing(loop.value):
                shown.finish()
            raise
    if not _is_lasting(kept, context):
        kept.remove()
    with options.showing(loop.value):
        for call in loop.value.tool_calls:
            output.line(json.dumps(call))
    if consent.refused:
        message = f"{consent.refused} call(s) were refused, since nobody could be asked"
        hint = "--allow GLOB lets them run"
        raise CallError(message, code="refused_calls", status=ExitStatus.REFUSED, hint=hint, partial=loop.value)
    return loop.value


def _show_request(
    args: argparse.Namespace,
    context: Context,
    output: Output,
    body: dict[str, Any],
    thread: Thread | None,
    content: Any,
) -> None:
    """The first request, without the tools of servers, which are not started for it."""
    tools = [tool.definition() for tool in find_tools(args, {})]
    messages = [*(thread.messages if thread else []), *([{"role": "user", "content": content}] if content else [])]
    if args.mcp:
        output.note("dry-run", "no server is started: the tools of --mcp are not shown")
    body |= {"messages": messages} | ({"tools": tools} if tools else {})
    output.request(context.dialect(args, output).chat(body))


def _conversation(thread: Thread | None, system: str | None, state: str | None) -> Thread:
    """The user's thread, or a new one in the state directory that is removed when it has come to its end."""
    if thread is not None:
        return thread
    from ..store.thread import Thread, kept_path

    made = Thread(kept_path(state) if state else "")
    if system is not None:
        made.set_system(system)
    return made


def _is_lasting(thread: Thread, context: Context) -> bool:
    """Whether a thread is the user's own, and not one that we keep while it is unfinished."""
    state = config.state_dir(context.environ)
    return state is None or os.path.dirname(os.path.realpath(thread.path)) != os.path.realpath(
        os.path.join(state, "threads")
    )


def _save(thread: Thread, model: str, context: Context) -> None:
    """Keep the conversation; if its place fails, in the state directory, and the run ends."""
    if not thread.path:  # there is no state directory
        return
    try:
        thread.save(model)
    except CallError as error:
        from ..store.thread import kept_path

        state = config.state_dir(context.environ)
        if state is None:
            raise
        thread.path = kept_path(state)
        thread.save(model)
        raise CallError.of(error, message=f"{error.message}; the conversation is kept in {thread.path}") from None


def _resume_command(args: argparse.Namespace, context: Context, thread: Thread, model: str, command: str) -> str:
    """The command that goes on with a run, with its model, tools, consent and limits."""
    words = [command, "--thread", thread.path, "--resume", "-m", model]
    if args.gateway:
        words += ["--gateway", args.gateway]
    for option, values in (("--tool", args.tool), ("--mcp", args.mcp), ("--allow", args.allow)):
        for value in values:
            words += [option, value]
    if args.tools:
        words += ["--tools", args.tools]
    if args.approve:
        words.append("--approve")
    if args.max_steps != 10:
        words += ["--max-steps", str(args.max_steps)]
    if args.max_cost is not None:
        words += ["--max-cost", f"{args.max_cost:g}"]
    if args.tool_timeout != 60.0:
        words += ["--tool-timeout", f"{args.tool_timeout:g}"]
    if args.tool_output != 30_000:
        words += ["--tool-output", str(args.tool_output)]
    return context.command_line(*words)
