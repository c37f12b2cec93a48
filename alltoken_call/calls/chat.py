"""One completion, from frames to text, usage and cost (chat and search).

Whole means that `[DONE]` or a finish reason was seen, and that every frame was understood.
"""

from __future__ import annotations

from ..errors import CallError, ExitStatus, Interrupted, NetError
from ..gateways.delta import CUT, WHOLE
from ..values import UNKNOWN, Answer, Warned
from . import admission
from .reading import Reading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any, TypeVar

    from ..values import Event
    from .client import Client

    E = TypeVar("E")
    T = TypeVar("T")

KEPT = "what arrived was kept; a new run asks again and costs again"


def ask(client: Client, body: dict[str, Any]) -> Answer:
    """Send one request and emit its answer as it arrives; the answer, with usage and cost. Raises as `answering`."""
    return drained(answering(client, body), client.emit)


def drained(events: Generator[E, None, T], take: Callable[[E], None]) -> T:
    """Hand each event of a call that is going on to `take`; what the call returns. What goes wrong in `take`, a signal
    too, is thrown into the call, which ends by it."""
    failure: CallError | Interrupted | None = None
    while True:
        try:
            event = events.throw(failure) if failure else next(events)
            failure = None
            take(event)
        except StopIteration as end:
            value: T = end.value
            return value
        except (CallError, Interrupted) as error:
            if getattr(events, "gi_frame", None) is None:  # it was raised in there, and has the value with it
                raise
            failure = error


def answering(
    client: Client, body: dict[str, Any], command: str = "chat", earlier: Answer | None = None
) -> Generator[Event, None, Answer]:
    """Send one request; yields its answer as it arrives, and returns it, with usage and cost.

    `body` is the JSON of a chat completion; streamed if its `stream` is true. `command` is chat or search, for the
    ledger; `earlier` the value of a failed attempt of the same run, whose row is used on. Raises `CallError`, with
    status 9 if text had begun, and 6 if the budget is used up. What a program's own signal handler raises passes, and
    the request is recorded here.
    """
    answer = Answer(body["model"])
    if earlier is None:
        admission.admit(client, answer, command)
    else:
        answer.tried, answer.row = True, earlier.row
    reading = Reading(client, answer)
    try:
        try:
            response = client.complete(body)
        except NetError as error:
            raise client.ended(error, answer, hint=_billed(error)) from None
        try:
            answer.request_id = client.request_id_of(response)
            yield from reading.read(response)
        finally:
            response.close()
            reading.finish()
            if answer.cost is UNKNOWN:
                client.price(answer, client.dialect.header_cost(response.header, answer.usage))
        if warning := _warning_of_end(client, answer):
            yield Warned(warning)
    except NetError as error:
        if reading.begun and error.code != "cancelled":
            message = f"the answer was cut short: {error.message}"
            raise client.ended(error, answer, status=ExitStatus.CUT_SHORT, message=message, hint=KEPT) from None
        raise client.ended(error, answer, hint=_billed(error)) from None
    except CallError as error:  # nobody takes the text any more
        raise error if error.partial else client.ended(error, answer) from None
    except Interrupted as signal:
        raise client.ended(signal, answer) from None
    except BaseException:  # it was closed, a KeyboardInterrupt, or a bug: nobody else would know of this request
        client.record(answer, command=command, ended=client.clock.now(), exit_status=int(ExitStatus.INTERRUPTED))
        raise
    return answer


def _billed(error: NetError) -> str | None:
    """The hint of a failure before any text, after which nobody knows whether the gateway has answered."""
    if not error.sent or error.http is not None:
        return error.hint
    return "; ".join(filter(None, ["it may have been answered, and billed", error.hint]))


def _warning_of_end(client: Client, answer: Answer) -> str | None:
    """What to say of an answer that its finish reason calls incomplete, which is whole as far as the protocol goes."""
    reason = answer.finish_reason
    if reason in CUT:
        return f"the answer was stopped by the limit of tokens (finish_reason {reason}): --max-tokens raises it"
    if reason == "content_filter":
        return "the answer was stopped by a content filter (finish_reason content_filter)"
    if reason and reason not in WHOLE:
        return f"the answer ended with an unknown finish reason: {client.clean(reason)}"
    return None if answer.text or answer.tool_calls else "the answer is empty"
