"""`Agent`: a conversation with a model that calls tools, for Python programs. Silent: what happens are its events."""

from __future__ import annotations

import contextlib
import copy
import math
import os
import weakref

from .. import config
from ..errors import CallError, ExitStatus, UsageError
from ..net.clock import Clock
from ..request import streaming
from ..store import thread as threads
from ..text import redacted
from ..values import Text
from . import events, settings
from .functions import check_plain, from_function
from .loop import Loop
from .servers import Serving
from .state import State
from .tools import RESULT_LIMIT, Limits, Tool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping
    from decimal import Decimal
    from typing import Any, TypeVar

    from .events import AnyEvent as Event
    from .loop import AnyEvent as LoopEvent
    from .tools import ToolCall

    Events = Generator[Event, None, None]
    Self = TypeVar("Self", bound="Agent")

CLOSING = 5.0  # seconds that `close` waits for a run in another thread, which is cancelled


class Agent:
    """A conversation with a model, and the tools that it may call.

        with Agent(tools=[weather], instructions="Be brief.") as agent:
            print(agent.send("Will it rain in Bern?"))

    model          its id; else the thread's, $ALLTOKEN_CHAT_MODEL, or gpt-5.4-mini
    instructions   the system message
    tools          plain functions, told by their docstring and annotations, or `Tool`s
    mcp            MCP servers: command lines, or .json files that list some; started at the first run
    thread         a file that keeps the conversation
    max_steps      most requests of a run
    max_cost       dollars; once a run has spent so much, it makes no further request
    temperature    0 to 2; 0 = least random
    enable_search  search the web first; DeepSeek and Qwen models only
    params         more fields of each request
    approve        asked about every call, as `approve(call)`: True, False, or a text: a refusal with its reason.
                   Without it functions run, and servers' tools are refused
    max_wait       seconds that a run may take
    gateway        its name; else $ALLTOKEN_GATEWAY, or alltoken
    api_key        the key; else the environment's
    base_url       the gateway's root; else the environment's
    timeout        longest silence of the gateway, in seconds
    tool_timeout   longest time of a call, in seconds
    ledger         False records nothing

    One run at a time: a second one raises `CallError` with the code busy. What goes wrong is a `CallError`, with
    `code`, `message`, `hint`, `status` (the command line's exit status), `http` and `partial`. Nothing is written to
    stdout or stderr. Use it in a `with` block, or close it.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        instructions: str = "",
        tools: Iterable[Callable[..., Any] | Tool] = (),
        mcp: Iterable[str] = (),
        thread: str | os.PathLike[str] | None = None,
        max_steps: int = 10,
        max_cost: Decimal | float | str | None = None,
        temperature: float | None = None,
        enable_search: bool = False,
        params: Mapping[str, Any] | None = None,
        approve: Callable[[ToolCall], bool | str] | None = None,
        max_wait: float | None = None,
        gateway: str | None = None,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout: float = 120.0,
        tool_timeout: float = 60.0,
        ledger: bool = True,
    ) -> None:
        environ = settings.environment(gateway, api_key, base_url)
        self._state = State()
        clock, stop = Clock(sleep=self._state.sleep), self._state.cancelled.is_set
        self._client = settings.client_of(environ, gateway, clock, timeout=timeout, ledger=ledger, stop=stop)
        self._max_wait = math.inf if max_wait is None else settings.seconds("max_wait", max_wait)
        self._instructions = instructions
        if thread is not None:
            threads.check(os.fspath(thread))
        self._thread = threads.Thread(os.fspath(thread or ""))
        secrets = [secret for secret in (*config.secrets(environ), self._client.key) if secret]
        self._serving = Serving(mcp, environ, self._client)
        self._approve = approve
        longest = settings.seconds("tool_timeout", tool_timeout)
        limits = Limits(longest, RESULT_LIMIT, self._client.over, lambda text: redacted(text, *secrets))
        command = "search" if enable_search else "chat"
        named = settings.model_of(self._client, environ, command, model, self._thread.model)
        body: dict[str, Any] = {"model": named}
        if temperature is not None:
            body["temperature"] = settings.number("temperature", temperature, 0, 2)
        if enable_search:
            body |= settings.search_fields(self._client, named)
        self._loop = Loop(
            self._client,
            body | settings.fields(params),
            self._thread.messages,
            {},
            limits,
            command=command,
            max_steps=int(settings.number("max_steps", max_steps, 1)),
            limit=settings.dollars(max_cost),
            approve=self._allows,
            save=lambda: self._thread.save(self._loop.body["model"]),
        )
        self._instruct()
        for tool in tools:
            self.add_tool(tool)

    # Runs

    def stream(self, content: str | list[dict[str, Any]] | None = None) -> Generator[Event, None, None]:
        """One run, from a user's message (None: from the conversation as it is): its events, one by one.

        Each has a `name` and fields; `on` lists them. Closing the iterator cancels the run. Raises `CallError`;
        `Unfinished` at a limit, after which `stream(None)` goes on.
        """
        return self._run(content, streamed=True)

    def send(self, content: str | list[dict[str, Any]] | None = None) -> str:
        """One run, to its end; the final text. Raises as `stream`."""
        return _text_of(self._run(content, streamed=True))

    def send_sync(self, content: str | list[dict[str, Any]] | None = None) -> str:
        """As `send`, but each answer comes in one piece."""
        return _text_of(self._run(content, streamed=False))

    def cancel(self) -> None:
        """End the run that is going on, from any thread: it raises `CallError` with the code cancelled within 1 s."""
        self._state.cancelled.set()

    # The conversation

    def get_messages(self) -> list[dict[str, Any]]:
        """The conversation: a copy of its messages."""
        return copy.deepcopy(self._loop.messages)

    def clear_history(self) -> None:
        """Forget the conversation but its instructions. A file that keeps it is rewritten."""
        self._loop.messages[:] = [message for message in self._loop.messages if message["role"] == "system"]
        self._thread.save(self._loop.body["model"])

    def set_instructions(self, text: str) -> None:
        """Make `text` the system message; an empty one takes it away."""
        self._instructions = text
        threads.set_system(self._loop.messages, text)

    def add_tool(self, tool: Callable[..., Any] | Tool) -> None:
        """Let the model call a plain function, or a `Tool`. Raises `UsageError` if it cannot be told to a model, or if
        there is one of this name."""
        made = tool if isinstance(tool, Tool) else from_function(tool)
        if type(made) is Tool:
            if not callable(made.run):
                raise UsageError(f"the tool {made.name} has no function to run")
            check_plain(made.run, made.name)
        if made.name in self._loop.tools:
            raise UsageError(f"two tools are called {made.name}")
        self._loop.tools = {**self._loop.tools, made.name: made}

    @property
    def usage(self) -> dict[str, int] | None:
        """The tokens of all runs so far; None if a part is unknown."""
        return self._state.sums(self._loop.value)[0]

    @property
    def cost(self) -> Decimal | None:
        """The dollars of all runs so far; None if a part is unknown."""
        from decimal import Decimal

        cost = self._state.sums(self._loop.value)[1]
        if cost.source in ("none", "local"):
            return Decimal(0)
        return None if cost.usd is None else Decimal(cost.usd)

    # Events

    def on(self, name: str, handler: Callable[..., object]) -> Callable[[], None]:
        """Call `handler(*fields)` at each event of that name; returns a function that takes it off again.

        In their order: message:user (message), thinking:start, stream:start, stream:delta (text, so_far),
        stream:end (text), tool:call (tool, arguments, call_id), tool:result (tool, result, call_id),
        step (usage, cost), message:assistant (message), error (error), thinking:end (always, once a run).

        A handler's exception ends the run and is raised. Raises `UsageError` for an unknown name.
        """
        handlers = self._state.handlers
        if name not in handlers:
            raise UsageError(f"unknown event {name!r}", hint=f"the events are {', '.join(handlers)}")
        entry = (handler,)  # the same handler may be there twice
        handlers[name].append(entry)

        def off() -> None:
            handlers[name] = [other for other in handlers[name] if other is not entry]

        return off

    # The end

    def close(self) -> None:
        """End the current run and the servers. May be called twice; the agent cannot run again after it."""
        state = self._state
        state.closed = True
        self.cancel()
        ours = state.turn.acquire(timeout=CLOSING)  # also from a handler, in a run's own thread
        try:
            run = state.current() if state.current is not None else None
            if run is not None:
                with contextlib.suppress(ValueError):  # it is the one that calls us
                    run.close()
            self._serving.close()
        finally:
            if ours:
                state.turn.release()

    def __enter__(self: Self) -> Self:  # noqa: PYI019  # typing has its own from 3.11 on
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # A run

    def _run(self, content: Any, *, streamed: bool) -> Events:
        itself: list[weakref.ref[Events]] = []
        run = self._events(content, streamed, itself)
        itself.append(weakref.ref(run))
        return run

    def _events(self, content: Any, streamed: bool, itself: list[weakref.ref[Events]]) -> Events:
        """One run, told to handlers and handed on event by event."""
        state = self._state
        self._begin()
        error: CallError | None = None
        so_far = ""
        run = self._whole(content, streamed)
        try:
            state.current = itself[0]
            while True:
                with state.turn:
                    event = next(run, None)
                    if event is None:
                        break
                    if type(event) is Text:
                        so_far += event.text
                        event = events.StreamDelta(event.text, so_far)
                    elif not isinstance(event, events.Event):
                        continue
                    elif event.name == "stream:start":
                        so_far = ""
                    state.tell(event)
                yield event
        except CallError as raised:
            error = raised
        finally:
            with state.turn:
                try:
                    run.close()
                    state.count(self._loop.value)
                    state.tell(events.ThinkingEnd())
                finally:
                    state.running.release()
        yield events.ThinkingEnd()
        if error is not None:
            raise error

    def _begin(self) -> None:
        """Make this the run that is going on. Raises `CallError` if there is one, or if the agent is closed."""
        state = self._state
        if not state.running.acquire(blocking=False):
            message = "another run of this agent is going on"
            raise CallError(message, code="busy", status=ExitStatus.USAGE, hint="one agent, one run at a time")
        state.cancelled.clear()
        if state.closed:  # perhaps just now
            state.cancelled.set()
            state.running.release()
            raise CallError("this agent is closed", code="closed", status=ExitStatus.USAGE)
        self._client.clock.restart(self._max_wait)

    def _whole(self, content: Any, streamed: bool) -> Generator[LoopEvent, None, None]:
        """What has to be there before the first request, and the loop."""
        with contextlib.ExitStack() as stack:
            try:
                self._prepare(stack, content, streamed=streamed)
            except CallError as error:
                yield events.Failed(error)
                raise
            yield from self._loop.run(content)

    def _prepare(self, stack: contextlib.ExitStack, content: Any, *, streamed: bool) -> None:
        loop, client, path = self._loop, self._client, self._thread.path
        if path:
            stack.enter_context(threads.locked(path, client.state, client.clock.left, client.clock.sleep, "max_wait"))
            if self._thread.refresh():
                self._instruct()
        if content is None and not loop.messages:
            raise UsageError("the conversation is empty: it cannot be continued")
        loop.tools = self._serving.start(loop.tools)
        kept = {name: value for name, value in loop.body.items() if name != "stream_options"}
        loop.body = kept | streaming(wanted=streamed)

    # What the loop asks

    def _instruct(self) -> None:
        """Let the conversation begin with the instructions; without any, with its own."""
        if self._instructions:
            threads.set_system(self._loop.messages, self._instructions)

    def _allows(self, call: ToolCall, tool: Tool) -> bool | str:
        if self._approve is None:
            return "no approve function was given, which is needed for the tools of servers" if tool.asks else True
        answer = self._approve(call)
        return answer if isinstance(answer, str) else bool(answer)


def _text_of(run: Events) -> str:
    """The final text of a run, which is drained."""
    text = ""
    for event in run:
        if event.name == "message:assistant":
            text = event.message["content"] or ""
    return text
