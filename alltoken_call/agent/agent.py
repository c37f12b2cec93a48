"""`Agent`: a conversation with a model that calls tools, for Python programs. Silent: what happens are its events."""

from __future__ import annotations

import contextlib
import os
import threading

from .. import config
from ..calls.client import Client
from ..errors import CallError, ExitStatus, UsageError
from ..net.clock import Clock
from . import events
from .loop import Loop, Run
from .tools import Remote, Tool, ToolCall, from_function

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from decimal import Decimal
    from types import TracebackType
    from typing import Any

    from .events import Event
    from .mcp import Server


class Agent:
    """A conversation with a model, and the tools that it may call.

    `tools` are plain functions, told by their docstring and annotations, or `Tool`s; `mcp` are command lines or .json
    files of MCP servers, started at the first run. `approve(call)` is asked about every call: True, False, or a text
    that is a refusal with its reason; without it functions run, and servers' tools are refused. `thread` is a file
    that keeps the conversation. `max_cost` is in dollars, `max_wait`, `timeout` and `tool_timeout` in seconds.
    The key, the base URL and the default model come from the environment unless they are given; `ledger=False` records
    nothing. One run at a time: a second one raises `CallError` with the code busy.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        instructions: str = "",
        tools: Iterable[Callable[..., Any] | Tool] = (),
        mcp: Iterable[str] = (),
        thread: str | None = None,
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
        self._cancelled = threading.Event()
        self._running = threading.Lock()
        self._handlers: dict[str, list[Callable[..., None]]] = {event.name: [] for event in events.ALL}
        self._servers: list[Server] = []
        self._mcp = list(mcp)
        self._approve = approve
        self._max_wait = max_wait
        self._environ = environment(gateway, api_key, base_url)
        clock = Clock(sleep=self._sleep)
        self._client = client_of(
            self._environ, gateway, clock, timeout=timeout, ledger=ledger, stop=self._cancelled.is_set
        )
        name = model or config.default_model(self._environ, self._client.gateway, "chat")
        name = name or self._client.dialect.defaults.get("chat")
        if name is None:
            hint = f"Agent(model=…), or {self._client.gateway.prefix}CHAT_MODEL"
            raise UsageError(f"no model is named for {self._client.gateway.name}", code="no_model", hint=hint)
        body: dict[str, Any] = {"model": name}
        if temperature is not None:
            body["temperature"] = temperature
        if enable_search:
            body |= self._client.dialect.search()
        body |= {"stream": True, "stream_options": {"include_usage": True}, **(params or {})}
        self._thread = _thread_of(thread)
        limit = None if max_cost is None else _dollars(max_cost)
        self._loop = Loop(
            self._client,
            body,
            self._thread.messages if self._thread else [],
            [],
            max_steps=max_steps,
            limit=limit,
            approve=self._allows,
            save=self._save,
            stop=self._cancelled.is_set,
            tool_timeout=tool_timeout,
            clean=self._clean,
        )
        self._past: list[Run] = []
        if instructions:
            self.set_instructions(instructions)
        for tool in tools:
            self.add_tool(tool)

    # Runs

    def stream(self, content: Any = None) -> Iterator[Event]:
        """One run, from a user's message (None: from the conversation as it is): its events, one by one.

        Closing the iterator cancels the run. Raises `CallError`; `Unfinished` at a limit, after which `stream(None)`
        goes on.
        """
        if not self._running.acquire(blocking=False):
            message = "another run of this agent is going on"
            raise CallError(message, code="busy", status=ExitStatus.USAGE, hint="one agent, one run at a time")
        run = None
        try:
            self._cancelled.clear()
            clock = self._client.clock
            clock.deadline = clock.monotonic() + self._max_wait if self._max_wait is not None else float("inf")
            self._start_servers()
            run = self._loop.run(content)
            for event in run:
                self._tell(event)
                yield event
        finally:
            if run is not None:
                run.close()  # type: ignore[attr-defined]  # it is a generator
                self._past.append(self._loop.value)
            self._running.release()
            self._tell(events.ThinkingEnd())
        yield events.ThinkingEnd()

    def send(self, content: Any = None) -> str:
        """One run, to its end; the final text. Raises as `stream`."""
        for _ in self.stream(content):
            pass
        return self._loop.value.text or ""

    def send_sync(self, content: Any = None) -> str:
        """As `send`, but each answer comes in one piece."""
        body = self._loop.body
        self._loop.body = {key: value for key, value in body.items() if key != "stream_options"} | {"stream": False}
        try:
            return self.send(content)
        finally:
            self._loop.body = body

    def cancel(self) -> None:
        """End the run that is going on, from any thread: it raises `CallError` with the code cancelled within 1 s."""
        self._cancelled.set()

    # The conversation

    def get_messages(self) -> list[dict[str, Any]]:
        """The conversation: a copy of its messages."""
        import copy

        return copy.deepcopy(self._loop.messages)

    def clear_history(self) -> None:
        """Forget the conversation but its instructions."""
        self._loop.messages[:] = [message for message in self._loop.messages if message["role"] == "system"]

    def set_instructions(self, text: str) -> None:
        """Make `text` the system message; an empty one takes it away."""
        messages = self._loop.messages
        if messages and messages[0]["role"] == "system":
            messages.pop(0)
        if text:
            messages.insert(0, {"role": "system", "content": text})

    def add_tool(self, tool: Callable[..., Any] | Tool) -> None:
        """Let the model call a plain function, or a `Tool`. Raises `UsageError` if it cannot be told to a model."""
        made = tool if isinstance(tool, Tool) else from_function(tool)
        self._loop.tools[made.name] = made

    @property
    def usage(self) -> dict[str, int]:
        """The tokens of the conversation so far, as far as they are known."""
        total: dict[str, int] = {}
        for run in self._past:
            for name, value in (run.usage or {}).items():
                if type(value) is int:
                    total[name] = total.get(name, 0) + value
        return total

    @property
    def cost(self) -> Decimal | None:
        """The dollars of the conversation so far; None if a part is unknown."""
        from decimal import Decimal

        from ..gateways.prices import amount

        total = Decimal(0)
        for run in self._past:
            if run.cost.source in ("none", "local") or not run.steps:
                continue
            usd = amount(run.cost.usd)
            if usd is None:
                return None
            total += usd
        return total

    # Events

    def on(self, name: str, handler: Callable[..., None]) -> Callable[[], None]:
        """Call `handler(*fields)` at each event of that name; returns a function that takes it off again.

        A handler's exception ends the run and is raised. Raises `UsageError` for a name that there is not.
        """
        if name not in self._handlers:
            raise UsageError(f"there is no event {name!r}", hint=f"the events are {', '.join(self._handlers)}")
        self._handlers[name].append(handler)

        def off() -> None:
            with contextlib.suppress(ValueError):
                self._handlers[name].remove(handler)

        return off

    def _tell(self, event: Event) -> None:
        for handler in list(self._handlers[event.name]):
            handler(*event.values())

    # The end

    def close(self) -> None:
        """End a run that is going on, and the servers."""
        self.cancel()
        if self._servers:
            from . import mcp

            mcp.close_all(self._servers)
            self._servers = []

    def __enter__(self) -> Agent:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # What the loop asks

    def _sleep(self, seconds: float) -> None:
        if self._cancelled.wait(seconds):
            raise CallError("cancelled", code="cancelled", status=ExitStatus.INTERRUPTED)

    def _allows(self, call: ToolCall, tool: Tool) -> bool | str:
        if self._approve is not None:
            return self._approve(call)
        return "no approve function was given, which is needed for the tools of servers" if tool.asks else True

    def _save(self, _messages: list[dict[str, Any]]) -> None:
        if self._thread is not None:
            self._thread.messages = self._loop.messages
            self._thread.save(self._loop.body["model"])

    def _clean(self, text: str) -> str:
        from ..text import redacted

        for secret in (*config.secrets(self._environ), self._client.key):
            text = redacted(text, secret)
        return text

    def _start_servers(self) -> None:
        if not self._mcp:
            return
        from . import mcp, process

        environ = process.without_secrets(self._environ, [*config.secrets(self._environ), self._client.key])
        self._servers, self._mcp, waiting = [], [], self._mcp
        for text in waiting:
            self._servers += mcp.servers_of(text, environ, self._cancelled.is_set)
        for server in self._servers:
            try:
                server.start()
            except mcp.ServerError as error:
                self._mcp = waiting
                mcp.close_all(self._servers)
                raise UsageError(f"the server {server.name}: {error}") from None
            for definition in server.tools:
                name = mcp.tool_name(server.name, definition["name"], set(self._loop.tools))
                self._loop.tools[name] = Remote(name, server, definition)


def environment(gateway: str | None, api_key: str | None, base_url: str | None) -> dict[str, str]:
    """The process's environment, with a key and a base URL of the program's own."""
    environ = dict(os.environ)
    prefix = config.prefix_of(gateway or environ.get("ALLTOKEN_GATEWAY", "").strip() or "alltoken")
    if api_key is not None:
        environ[f"{prefix}API_KEY"] = api_key
    if base_url is not None:
        environ[f"{prefix}BASE_URL"] = base_url
    return environ


def client_of(
    environ: Mapping[str, str],
    name: str | None,
    clock: Clock,
    *,
    timeout: float | None,
    ledger: bool,
    stop: Callable[[], bool] | None = None,
    on_event: Callable[[Any], None] = lambda _: None,
) -> Client:
    """A client for a Python program: silent, and with no signal held back. Raises `UsageError` and `KeyProblem`."""
    from ..store.ledger import Ledger

    gateway = config.gateway(environ, name)
    off = not ledger or environ.get("ALLTOKEN_LEDGER") == "off"
    return Client(
        gateway,
        key=config.api_key(environ, gateway),
        clock=clock,
        on_event=on_event,
        ledger=Ledger(config.ledger_path(environ), lambda _: None, off=off),
        budget=environ.get("ALLTOKEN_BUDGET", ""),
        state=config.state_dir(environ),
        timeout=timeout,
        stop=stop,
    )


def _thread_of(path: str | None) -> Any:
    if path is None:
        return None
    from ..store import thread

    thread.check(path)
    return thread.Thread(path)


def _dollars(amount: Decimal | float | str) -> Decimal:
    from decimal import Decimal, InvalidOperation

    try:
        return Decimal(str(amount))
    except InvalidOperation:
        raise UsageError(f"max_cost={amount!r} is not an amount of dollars") from None
