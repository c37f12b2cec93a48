"""The loop: ask the model, run the calls that it wants, send the results back, until an answer has none.

The conversation is saved before anything that a kill could lose: an answer with calls is saved with a result for each,
`[not run]`, which becomes `[interrupted: may have taken effect]` when the call starts, and then the real one. So it is
a valid conversation at any instant, and nothing is run twice.
"""

from __future__ import annotations

from ..calls.chat import answering
from ..calls.models import estimate
from ..errors import CallError, ExitStatus, Interrupted
from ..gateways.delta import CUT, WHOLE
from ..gateways.prices import amount
from ..values import UNKNOWN, Answer
from . import events
from .run import Run, sum_of_costs
from .tools import Handed, ToolCall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from decimal import Decimal
    from typing import Any

    from ..calls.client import Client
    from ..values import Event
    from .tools import Limits, Tool

    AnyEvent = events.AnyEvent | Event
    Approve = Callable[[ToolCall, Tool], bool | str]
    Answering = Callable[..., Generator[Event, None, Answer]]  # client, body, command=…

NOT_RUN = "[not run]"
STARTED = "[interrupted: may have taken effect]"


class Unfinished(CallError):
    """A limit of the loop was reached; the conversation can go on."""

    status = ExitStatus.PENDING
    code = "max_steps"


class Loop:
    """A conversation with a model that may call `tools`, by name; `limits` are those of each call.

    `body` is what each request has besides the messages; `messages` is the conversation, which grows. `save` keeps it
    after each change that matters, and `approve` says whether a call may run (a text is a refusal with its reason).
    `limit` is in dollars, for the run's requests and those that were `earlier`. `answering` makes one request.
    """

    def __init__(
        self,
        client: Client,
        body: dict[str, Any],
        messages: list[dict[str, Any]],
        tools: dict[str, Tool],
        limits: Limits,
        *,
        command: str,
        max_steps: int,
        limit: Decimal | None,
        approve: Approve,
        save: Callable[[], None],
        answering: Answering = answering,
    ) -> None:
        self.client = client
        self.body = body
        self.messages = messages
        self.tools = tools
        self.limits = limits
        self.command = command
        self.max_steps = max_steps
        self.limit = limit
        self.approve = approve
        self.save = save
        self._answering = answering
        self.earlier: list[Answer] = []
        self._echoes = True  # reasoning goes back to the model
        self.value = Run(body["model"])  # of the latest run

    def run(self, content: Any = None) -> Generator[AnyEvent, None, None]:
        """One run, from a user's message (None: from the conversation as it is) to the model's last answer.

        Yields its events but the last, `ThinkingEnd`, and those of its calls: for `StreamDelta` their `Text`. What a
        consumer cannot do with one may be thrown in. The value is in `self.value`. Raises `CallError`; `Unfinished` at
        a limit. A message that got no whole answer is taken back.
        """
        self.value = run = Run(self.body["model"])
        message = None if content is None else {"role": "user", "content": content}
        try:
            self._check_cost()
            if message is not None:
                self.messages.append(message)
                yield events.UserMessage(message)
            yield events.ThinkingStart()
            while (yield from self._step(run)):
                self._check_limits()
        except (CallError, Interrupted) as error:
            end = self._ended(run, error)
            try:
                yield events.Failed(end)
            except (CallError, Interrupted) as another:  # what came last could not be shown either
                end = self._ended(run, another)
            raise end from None
        finally:
            if message is not None and self.messages and self.messages[-1] is message:
                self.messages.pop()

    def _step(self, run: Run) -> Generator[AnyEvent, None, bool]:
        """One request, and the calls of its answer; whether another request is to follow."""
        answer = yield from self._ask(run)
        calls = [ToolCall(call) for call in answer.tool_calls]
        cut = bool(calls) and answer.finish_reason in CUT
        if cut or not calls:
            run.text = answer.text
        with self.client.shield.held():
            try:
                message = {} if cut else self._keep(answer, calls)
            finally:
                self._account(answer, ExitStatus.CUT_SHORT if cut else ExitStatus.OK)
                run.add(answer)
        self._estimate(run, answer)
        yield events.StreamEnd(answer.text or "", final=cut or not calls)
        if cut:
            why = "the answer was cut by the limit of tokens while it called tools: none of them was run"
            raise CallError(why, code="cut_short", status=ExitStatus.CUT_SHORT, hint="--max-tokens raises it")
        if calls:
            run.tool_calls = yield from self._run_calls(run, calls)
        yield events.Step(answer.usage, amount(answer.cost.usd))
        if calls and not run.tool_calls:
            return True
        run.text = answer.text
        yield events.AssistantMessage(message, handed=run.tool_calls)
        return False

    def _ask(self, run: Run) -> Generator[AnyEvent, None, Answer]:
        """One request to the model; returns its answer. One that fails is recorded."""
        yield events.StreamStart()
        self.client.clock.started = self.client.clock.now()  # each request has a row of its own
        body = self.body | {"model": run.model, "messages": self.messages}
        if self.tools:
            body["tools"] = [tool.definition() for tool in self.tools.values()]
        try:
            return (yield from self._answering(self.client, body, command=self.command))
        except GeneratorExit:  # it was recorded
            partial = self.client.recorded
            run.add(partial if isinstance(partial, Answer) else Answer(body["model"]))
            raise
        except CallError as error:
            partial, again = error.partial, _without_refused(self.messages, error)
            if isinstance(partial, Answer):
                whole = partial.finish_reason in WHOLE and partial.finish_reason not in CUT
                if error.code == "interrupted" and whole:
                    self._keep(partial, [ToolCall(call) for call in partial.tool_calls])
                self._account(partial, error.status)
                if not again:
                    run.add(partial)
            if not again:
                raise
        self._echoes = False
        return (yield from self._ask(run))

    def _account(self, answer: Answer, status: ExitStatus) -> None:
        """Record a request."""
        self.client.record(answer, command=self.command, ended=self.client.clock.now(), exit_status=int(status))

    def _estimate(self, run: Run, answer: Answer) -> None:
        """With a limit of dollars, learn what an answer without a figure has cost."""
        if self.limit is not None and answer.cost is UNKNOWN and (cost := estimate(self.client, answer)):
            answer.cost = cost
            self._account(answer, ExitStatus.OK)
            run.sum_up()

    def _keep(self, answer: Answer, calls: list[ToolCall]) -> dict[str, Any]:
        """Put an answer's message into the conversation, with a result for each of its calls, and save it."""
        message: dict[str, Any] = {"role": "assistant", "content": answer.text or (None if calls else "")}
        if calls:
            message["tool_calls"] = [call.document for call in calls]
        if self._echoes and answer.echoed and answer.reasoning:
            message["reasoning_content"] = answer.reasoning
        results = [{"role": "tool", "tool_call_id": call.id, "content": NOT_RUN} for call in calls]
        self.messages += [message, *results]
        self.save()
        return message

    def _run_calls(self, run: Run, calls: list[ToolCall]) -> Generator[AnyEvent, None, list[dict[str, Any]]]:
        """Run the calls of the last message one after the other; returns those that only the caller can run."""
        handed = []
        for call, result in zip(calls, self.messages[-len(calls) :]):
            if isinstance(self.tools.get(call.name), Handed):
                handed.append(call.document)
            else:
                yield from self._call(run, call, result)
        return handed

    def _call(self, run: Run, call: ToolCall, result: dict[str, Any]) -> Iterator[AnyEvent]:
        """Run one call, and put what it brings into its message of the conversation."""
        self._check_time()
        clock = self.client.clock
        told: dict[str, Any] = {"id": call.id, "name": call.name, "arguments": call.arguments}
        told |= {"result": NOT_RUN, "ok": False, "seconds": 0.0}
        run.steps[-1][1].append(told)
        yield events.ToolCalled(call.name, call.arguments, call.id)
        tool = self._allowed(call)
        self._check_time()  # a question may have taken it
        began = clock.monotonic()
        if isinstance(tool, str):
            text, ok, errors = self.limits.cut(tool), False, ""
        else:
            told["result"] = result["content"] = STARTED
            self.save()
            try:
                text, ok, errors = tool.call(call.arguments or {}, self.limits)
            finally:
                told["seconds"] = round(clock.monotonic() - began, 3)
        told |= {"result": text, "ok": ok}
        with self.client.shield.held():
            result["content"] = text
            self.save()
        yield events.ToolResulted(call.name, text, call.id, ok=ok, seconds=told["seconds"], errors=errors)
        self._check_time()

    def _allowed(self, call: ToolCall) -> Tool | str:
        """The tool that a call is for, or why it is not run."""
        tool = self.tools.get(call.name)
        if tool is None:
            return f"error: unknown tool {call.name!r}; there are: {', '.join(self.tools)}"
        if call.arguments is None:
            return "error: the arguments are not a JSON object"
        allowed = self.approve(call, tool)
        return tool if allowed is True else f"refused: {allowed or 'the user does not allow this call'}"

    def _check_time(self) -> None:
        """Raise `Unfinished` at the deadline, and `CallError` if the run was cancelled."""
        if self.client.clock.left() <= 0:
            raise Unfinished("the time of --max-wait is over", code="max_wait")
        if self.client.over():
            raise CallError("cancelled", code="cancelled", status=ExitStatus.INTERRUPTED)

    def _check_limits(self) -> None:
        """Raise `Unfinished` if no further request may be made."""
        self._check_time()
        if len(self.value.steps) >= self.max_steps:
            raise Unfinished(f"the limit of {self.max_steps} request(s) is reached")
        self._check_cost()

    def _check_cost(self) -> None:
        """Raise `Unfinished` if so much is spent, or it is unknown how much in this run."""
        answers = [*(answer for answer in self.earlier if answer.cost.source), *self.value.answers]
        cost = sum_of_costs([answer.cost for answer in answers])
        if self.limit is None or not answers or cost.source in ("none", "local"):
            return
        spent = amount(cost.usd)
        if spent is None:
            raise Unfinished("it is unknown how much is spent, and there is no price to estimate it", code="max_cost")
        if spent >= self.limit:
            raise Unfinished(f"${spent:f} of the limit of ${self.limit:f} is spent", code="max_cost")

    @staticmethod
    def _ended(run: Run, error: CallError | Interrupted) -> CallError:
        """The end of a run, with what it has come to."""
        if isinstance(error, Interrupted):
            return CallError("stopped by a signal", code="interrupted", status=error.status, partial=run)
        if isinstance(error.partial, Answer) and error.partial is not run:
            run.text = run.text or error.partial.text
        return (Unfinished if isinstance(error, Unfinished) else CallError).of(error, partial=run)


def _without_refused(messages: list[dict[str, Any]], error: CallError) -> bool:
    """If a server refuses `reasoning_content`, take it out of the conversation, which is changed; whether there was
    any."""
    if error.http not in (400, 422) or "reasoning_content" not in error.message:
        return False
    found = [message for message in messages if message.pop("reasoning_content", None) is not None]
    return bool(found)
