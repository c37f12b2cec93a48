"""The loop: ask the model, run the calls that it wants, send the results back, until an answer has none.

The conversation is saved before anything that a kill could lose: an answer with calls is saved with a result for each,
`[not run]`, which becomes `[interrupted: may have taken effect]` when the call starts, and then the real one. So it is
a valid conversation at any instant, and nothing is run twice.
"""

from __future__ import annotations

import json
import os

from ..calls.chat import answering
from ..errors import CallError, ExitStatus, Interrupted
from ..values import UNKNOWN, Answer, Cost, Text
from . import events
from .tools import Handed, Limits, ToolCall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from decimal import Decimal
    from typing import Any

    from ..calls.client import Client
    from .tools import Tool

    Approve = Callable[[ToolCall, Tool], bool | str]

NOT_RUN = "[not run]"
STARTED = "[interrupted: may have taken effect]"
RESULT_LIMIT = 30_000  # characters of a result


class Unfinished(CallError):
    """A limit of the loop was reached; the conversation can go on."""

    status = ExitStatus.PENDING
    code = "max_steps"


class Run(Answer):
    """What a run of the loop comes to: the final text, sums of tokens and dollars, and its `steps`."""

    def __init__(self, model: str) -> None:
        super().__init__(model)
        self.steps: list[dict[str, Any]] = []
        self.refused = 0  # calls that were refused since nobody could be asked
        self.recorded = True  # each request has its row in the ledger

    def fields(self) -> dict[str, Any]:
        """The keys of chat and search, and the steps."""
        return super().fields() | {"steps": self.steps}


class Loop:
    """A conversation with a model that may call `tools`.

    `body` is what each request has besides the messages; `messages` is the conversation, which grows. `save` keeps it
    after each change that matters, `approve` says whether a call may run (a text is a refusal with its reason), and
    `stop` whether the run is to end now. `limit` is in dollars.
    """

    def __init__(
        self,
        client: Client,
        body: dict[str, Any],
        messages: list[dict[str, Any]],
        tools: list[Tool],
        *,
        command: str = "chat",
        max_steps: int = 10,
        limit: Decimal | None = None,
        approve: Approve = lambda call, tool: True,  # noqa: ARG005
        save: Callable[[list[dict[str, Any]]], None] = lambda messages: None,  # noqa: ARG005
        stop: Callable[[], bool] = lambda: False,
        tool_timeout: float = 60.0,
        tool_output: int = RESULT_LIMIT,
        clean: Callable[[str], str] = lambda text: text,
    ) -> None:
        self.client = client
        self.body = body
        self.messages = messages
        self.tools = {tool.name: tool for tool in tools}
        self.command = command
        self.max_steps = max_steps
        self.limit = limit
        self.approve = approve
        self.save = save
        self.stop = stop
        self.clean = clean  # redacts the key from a result
        self._limits = Limits(tool_timeout, tool_output, stop)

    def run(self, content: Any = None) -> Iterator[events.Event]:
        """One run, from a user's message (None: from the conversation as it is) to the model's last answer.

        Yields its events but the last, `ThinkingEnd`. The value is in `self.value`. Raises `CallError`; `Unfinished` at a limit.
        """
        self.value = run = Run(self.body["model"])
        try:
            if content is not None:
                message = {"role": "user", "content": content}
                self.messages.append(message)
                yield events.UserMessage(message)
            yield events.ThinkingStart()
            while True:
                answer = yield from self._ask(run)
                calls = [ToolCall.of(call) for call in answer.tool_calls]
                if not calls:
                    message = {"role": "assistant", "content": answer.text or ""} | _echo(answer)
                    self.messages.append(message)
                    self.save(self.messages)
                    run.text = answer.text
                else:
                    self._check_whole(run, answer)
                    message = self._keep_calls(answer, calls)
                    run.tool_calls = yield from self._run_calls(run, message, calls)
                yield self._step(answer)
                if not calls or run.tool_calls:
                    run.text = answer.text
                    yield events.AssistantMessage(message)
                    return
                self._check_limits(run)
        except (CallError, Interrupted) as error:
            end = self._ended(run, error)
            yield events.Failed(end)
            raise end from None

    def _ask(self, run: Run) -> Generator[events.Event, None, Answer]:
        """One request to the model, recorded; returns its answer."""
        yield events.StreamStart()
        so_far = ""
        body = self.body | {"messages": self.messages}
        if self.tools:
            body["tools"] = [tool.definition() for tool in self.tools.values()]
        try:
            asking = answering(self.client, body, self.command)
            while True:
                try:
                    event = next(asking)
                except StopIteration as end:
                    answer: Answer = end.value
                    break
                if isinstance(event, Text) and type(event) is Text:
                    so_far += event.text
                    yield events.StreamDelta(event.text, so_far)
                else:
                    self.client.emit(event)
        except CallError as error:
            partial = error.partial
            if isinstance(partial, Answer):
                self._account(run, partial, error.status)
            if _refuses_reasoning(error) and _without_reasoning(self.messages):
                answer = yield from self._ask(run)
                return answer
            raise
        yield events.StreamEnd(answer.text or "")
        self._account(run, answer, ExitStatus.OK)
        return answer

    def _account(self, run: Run, answer: Answer, status: ExitStatus) -> None:
        """Record a request, and add it to the sums."""
        if self.limit is not None and answer.cost is UNKNOWN:
            answer.cost = self.client.estimate(answer) or UNKNOWN
        self.client.record(answer, command=self.command, ended=self.client.clock.now(), exit_status=int(status))
        first = not run.steps
        run.tried = True
        run.request_id = answer.request_id
        run.served_model = answer.served_model
        run.finish_reason = answer.finish_reason
        run.reasoning = answer.reasoning
        run.usage = answer.usage if first else _sum_of_usage(run.usage, answer.usage)
        run.cost = answer.cost if first else _sum_of_costs(run.cost, answer.cost)
        run.steps.append(
            {
                "model": answer.model,
                "request_id": answer.request_id,
                "usage": answer.usage,
                "cost": {"usd": answer.cost.usd, "source": answer.cost.source},
                "finish_reason": answer.finish_reason,
                "text": answer.text,
                "calls": [],
            }
        )

    @staticmethod
    def _step(answer: Answer) -> events.Step:
        from ..gateways.prices import amount

        step = events.Step(answer.usage, amount(answer.cost.usd))
        step.answer = answer
        return step

    @staticmethod
    def _check_whole(run: Run, answer: Answer) -> None:
        """Raise `CallError` if calls came with an answer that was cut by the limit of tokens: none of them runs."""
        if answer.finish_reason == "length":
            run.text = answer.text
            message = "the answer was cut by the limit of tokens while it called tools: none of them was run"
            raise CallError(message, code="cut_short", status=ExitStatus.CUT_SHORT, hint="--max-tokens raises it")

    def _keep_calls(self, answer: Answer, calls: list[ToolCall]) -> dict[str, Any]:
        """Put an answer's message into the conversation, with a result for each of its calls; the message."""
        documents = []
        for call, document in zip(calls, answer.tool_calls):
            call.id = call.id or f"call_{os.urandom(6).hex()}"
            function = document["function"]
            if call.arguments is None:  # servers refuse a history with arguments that are not JSON
                function = function | {"arguments": json.dumps({"INVALID_JSON": call.raw})}
            documents.append(document | {"id": call.id, "function": function})
        message = {"role": "assistant", "content": answer.text or None, "tool_calls": documents} | _echo(answer)
        results = [{"role": "tool", "tool_call_id": call.id, "content": NOT_RUN} for call in calls]
        self.messages += [message, *results]
        self.save(self.messages)
        return message

    def _run_calls(
        self, run: Run, message: dict[str, Any], calls: list[ToolCall]
    ) -> Generator[events.Event, None, list[dict[str, Any]]]:
        """Run the calls of a message one after the other; returns those that only the caller can run."""
        handed = []
        for call, result, document in zip(calls, self.messages[-len(calls) :], message["tool_calls"]):
            if isinstance(self.tools.get(call.name), Handed):
                handed.append(document)
                continue
            self._check_time(run)
            yield from self._call(run, call, result)
        return handed

    def _call(self, run: Run, call: ToolCall, result: dict[str, Any]) -> Iterator[events.Event]:
        """Run one call, and put what it brings into its message of the conversation."""
        began = self.client.clock.monotonic()
        yield events.ToolCalled(call.name, call.arguments, call.id)
        tool = self.tools.get(call.name)
        if tool is None:
            text, ok = f"error: there is no tool {call.name!r}; there are: {', '.join(self.tools)}", False
        elif call.arguments is None:
            text, ok = "error: the arguments are not a JSON object", False
        else:
            allowed = self.approve(call, tool)
            if allowed is True:
                result["content"] = STARTED
                self.save(self.messages)
                text, ok = tool.call(call.arguments, self._limits)
            else:
                text, ok = f"refused: {allowed or 'the user does not allow this call'}", False
        text = self.clean(shortened(text, self._limits.characters))
        result["content"] = text
        self.save(self.messages)
        seconds = self.client.clock.monotonic() - began
        run.steps[-1]["calls"].append(
            {
                "id": call.id,
                "name": call.name,
                "arguments": call.arguments,
                "result": text,
                "ok": ok,
                "seconds": round(seconds, 3),
            }
        )
        event = events.ToolResulted(call.name, text, call.id)
        event.ok, event.seconds = ok, seconds
        yield event
        self._check_time(run)
        if self.stop():
            raise CallError("cancelled", code="cancelled", status=ExitStatus.INTERRUPTED)

    def _check_time(self, run: Run) -> None:
        """Raise `Unfinished` at the deadline."""
        if self.client.clock.left() <= 0:
            raise Unfinished("the time of --max-wait is over", code="max_wait", partial=run)

    def _check_limits(self, run: Run) -> None:
        """Raise `Unfinished` if no further request may be made."""
        self._check_time(run)
        if len(run.steps) >= self.max_steps:
            raise Unfinished(f"the limit of {self.max_steps} request(s) is reached", partial=run)
        if self.limit is None:
            return
        from ..gateways.prices import amount

        spent = amount(run.cost.usd)
        if run.cost.source in ("none", "local"):
            return
        if spent is None:
            message = "what this run has cost is not known, and there is no price to estimate it by"
            raise Unfinished(message, code="max_cost", partial=run)
        if spent >= self.limit:
            raise Unfinished(f"${spent:f} of the limit of ${self.limit:f} are spent", code="max_cost", partial=run)

    def _ended(self, run: Run, error: CallError | Interrupted) -> CallError:
        """The end of a run, with what it has come to."""
        partial = getattr(error, "partial", None)
        if isinstance(partial, Answer) and partial is not run:
            run.text = run.text or partial.text
            run.cost = partial.cost if not run.steps else run.cost
        if isinstance(error, Interrupted):
            return CallError("stopped by a signal", code="interrupted", status=error.status, partial=run)
        if isinstance(error, Unfinished):
            return Unfinished(error.message, code=error.code, partial=run)
        return CallError.of(error, partial=run)


def shortened(text: str, limit: int) -> str:
    """A result of at most so many characters: two thirds of its head, a third of its tail."""
    if len(text) <= limit:
        return text
    head, tail = limit * 2 // 3, limit // 3
    left_out = len(text[head : len(text) - tail].encode("utf-8", "replace"))
    return f"{text[:head]}\n[… {left_out} bytes left out …]\n{text[len(text) - tail :]}"


def _echo(answer: Answer) -> dict[str, Any]:
    """What goes back to the model as it came."""
    return {"reasoning_content": answer.reasoning} if answer.echoed and answer.reasoning else {}


def _refuses_reasoning(error: CallError) -> bool:
    return error.http in (400, 422) and "reasoning_content" in error.message


def _without_reasoning(messages: list[dict[str, Any]]) -> bool:
    """Take `reasoning_content` out of a conversation, which is changed; whether there was any."""
    found = [message for message in messages if message.pop("reasoning_content", None) is not None]
    return bool(found)


def _sum_of_usage(one: dict[str, Any] | None, other: dict[str, Any] | None) -> dict[str, Any] | None:
    """The counts of two usage blocks together; None if one is unknown."""
    if one is None or other is None:
        return None
    names = {name for usage in (one, other) for name, value in usage.items() if type(value) is int}
    return {name: one.get(name, 0) + other.get(name, 0) for name in (*one, *other) if name in names}


def _sum_of_costs(one: Cost, other: Cost) -> Cost:
    """Two costs together; unknown if one is."""
    free = ("none", "local")
    if one.source in free or other.source in free:
        return other if one.source in free else one
    from ..gateways import prices

    first, second = prices.amount(one.usd), prices.amount(other.usd)
    if first is None or second is None:
        return UNKNOWN
    source = "gateway" if one.source == other.source == "gateway" else "estimate"
    return Cost(prices.plain(prices.EXACT.add(first, second)), source)
