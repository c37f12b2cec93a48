"""Create a task, wait for its end, take it up again (image and video).

What is left if a run dies, and how it is got back:

the output is checked         nothing was sent
→ submit                      an image: the POST is repeated with one Idempotency-Key inside the gateway's 60 s, and
                              a 409 hands over the task; killed here: the task may run, and expires in 30 minutes.
                              A video: never repeated; `video --list` shows it (status 12)
→ the id is told, recorded    id and target in the ledger: `--resume` without an id finds them
→ poll                        the same; the task goes on at the gateway
→ the answer arrives          <state>/spool/<hash>.*.json grows; killed here: cut, `--resume` asks for an r2_url, and
                              else says that it is gone and where the piece lies (status 11)
→ it is whole                 `--resume` makes the image from that file without a request
→ decoded beside the target   the same, and a *.part file beside the target
→ in place                    the same; `--resume` finds the same bytes in place and succeeds
→ the record is finished      a spool that nobody needs
→ the spool is removed        nothing
"""

from __future__ import annotations

import contextlib

from ..errors import CallError, ExitStatus, Interrupted, NetError
from ..store import files, ledger, locks
from ..text import inert
from ..values import NOTHING, UNKNOWN, Cost, Submitted, Waiting
from . import uploads
from .client import status_of_wait
from .models import learn_prices
from .reconcile import unit_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..gateways.task import Task
    from ..request import Request, Upload
    from ..values import Pending
    from .client import Client

GRACE = 2.0  # seconds that a request on its way may still take when a signal comes: it may bring the image
LATE = 0.4  # the same for a GET when the deadline comes: the command ends within a second of it
SHORTEST_PAUSE, LONGEST_PAUSE = 0.05, 60.0  # seconds between two polls, whatever the gateway asks for


def upload(client: Client, wanted: list[tuple[str, str, Upload]], pending: Pending) -> dict[str, str]:
    """Upload the files that a task needs; their upload ids by the fields that want them.

    Raises `CallError`: the task has failed before it was submitted, and nothing was bought.
    """
    try:
        return {field: uploads.upload(client, file, purpose) for field, purpose, file in wanted}
    except (NetError, CallError, Interrupted) as error:
        pending.status, pending.cost = "failed", NOTHING
        raise client.ended(error, pending) from None


def submit(client: Client, request: Request, pending: Pending) -> None:
    """Create a task; its id is put into `pending`, emitted and recorded.

    Raises `CallError`, with status 12 if it is unknown whether the task was accepted.
    """
    pending.tried = True
    try:
        with client.shield.held(GRACE):  # the answer may be on its way, and the task with it
            _post(client, request, pending)
            client.shield.firm()
            client.emit(Submitted(pending.task_id or "", _about(request)))
            record(client, pending)
    except NetError as error:
        pending.status = "refused"
        raise client.ended(error, pending) from None
    except CallError:
        pending.status = "unknown"
        raise
    except Interrupted as signal:
        raise stopped(client, signal, pending) from None


def stopped(client: Client, signal: Interrupted, pending: Pending) -> CallError:
    """The end that a signal makes, anywhere between the first step of a task and its last."""
    asking = not pending.task_id and pending.status in ("submitting", "processing")
    doubtful = asking and client.transport.sent
    if asking:
        pending.status = "unknown" if doubtful else "refused"
    hint = f"the task may have been accepted, and may be billed: {client.dialect.doubt}" if doubtful else None
    return client.ended(signal, pending, hint=hint)


def alive(client: Client, pending: Pending) -> contextlib.AbstractContextManager[None]:
    """Hold the lock of a row while its run may be submitting: nobody else declares that run dead."""
    return _lock(client, pending, lambda: 1.0, client.clock.sleep)  # another one holds it for a moment at most


@contextlib.contextmanager
def orphaned(client: Client, pending: Pending) -> Iterator[None]:
    """Hold the lock of a row without a task id, whose run has died. Raises `CallError` with status 8 if it lives."""
    try:
        with _lock(client, pending):
            yield
    except locks.Held:
        pending.tried = False  # the row is the other run's
        message = f"the run that asks for this {pending.command} is still waiting for it"
        raise CallError(message, status=ExitStatus.PENDING, code="pending", partial=pending) from None


def _lock(
    client: Client,
    pending: Pending,
    left: Callable[[], float] = lambda: 0.0,
    sleep: Callable[[float], None] = lambda _: None,
) -> contextlib.AbstractContextManager[None]:
    """The lock of a row; none without a row or a state directory."""
    if pending.row is None:
        return contextlib.nullcontext()
    return locks.held(client.state, f"row-{pending.row}", left, sleep, brief=True)


def close(client: Client, pending: Pending) -> CallError:
    """Close the row of a run that died before a task id or a result came; the end, with status 12."""
    pending.status, pending.resumable = "unknown", False
    record(client, pending)
    message = f"the run that asked for this {pending.command} was killed before an answer came, and it may be billed"
    return CallError(
        message, status=ExitStatus.UNKNOWN, code="unknown_outcome", hint=client.dialect.doubt, partial=pending
    )


def _about(request: Request) -> str:
    """What was asked for, as far as it decides the price."""
    body = request.body or {}
    names = ("size", "quality", "duration", "seconds", "ratio", "resolution")
    return " ".join(f"{name}={body[name]}" for name in names if name in body)


def _post(client: Client, request: Request, pending: Pending) -> None:
    def attempt() -> str:
        response = client.once(request)
        reply = client.read(response, task=True)
        task_id = client.dialect.accepted(reply.document)
        pending.request_id = reply.request_id
        pending.calls = client.dialect.call_factor(response.header)
        if task_id is None:
            client.check(reply.document, response)
            message = "the task was accepted without a usable id"
            raise NetError(message, "protocol", sent=True, request_id=reply.request_id)
        return task_id

    try:
        task_id = client.repeat(attempt, request)
    except NetError as error:
        adopted = client.dialect.duplicate(error)
        doubtful = error.sent and (error.http is None or error.http in (0, 409, 429) or error.http >= 500)
        if adopted is None and (doubtful or error.code == "duplicate_request"):
            message = f"it is unknown whether the task was accepted, and it may be billed: {error.message}"
            raise client.ended(
                error.but(sent=True),
                pending,
                message=message,
                status=ExitStatus.UNKNOWN,
                code="unknown_outcome",
                hint=client.dialect.doubt,
            ) from None
        if adopted is None:
            raise
        task_id = adopted
    pending.task_id, pending.status, pending.resumable = task_id, "queued", True


def record(client: Client, pending: Pending) -> None:
    """Put the task into the ledger, with the place where its result is, or will be, saved."""
    client.record(pending, output=place_of(pending))


def place_of(pending: Pending) -> str | None:
    """The absolute path where a result is, or will be, saved; `-` for stdout, None if only a URL is wanted."""
    target = pending.files[0] if pending.files and not pending.resumable else pending.target
    return target if target in (None, "-") else files.absolute(target)


def poll(client: Client, pending: Pending, attempt: Callable[[], Task]) -> Task:
    """One look at the task, repeated until there is an answer. A failing poll is not a failing task.

    Raises `CallError` with status 8 at the deadline, 10 if the task ended without a result, 11 if it is gone.
    """
    request = client.dialect.poll(pending.command, pending.task_id or "")

    def look() -> Task:
        try:
            return attempt()
        except NetError as error:
            if not client.dialect.is_not_yet(error, age(client, pending)):
                raise
            return client.dialect.task({"status": "queued"})

    try:
        task = client.repeat(look, request, client.dialect.pauses[pending.command])
    except NetError as error:
        if client.dialect.is_gone(error):
            raise _gone(client, pending, error) from None
        status = status_of_wait(error)
        changes = {"code": "pending", "message": _over(pending)} if status is ExitStatus.PENDING else {}
        raise client.ended(error, pending, status=status, **changes) from None
    pending.status = word_of(client, task)
    pending.model = pending.model or task.model
    take_cost(client, pending, task)
    if task.ended:
        pending.resumable = False
        record(client, pending)
        raise _failed(client, pending, task)
    return task


def word_of(client: Client, task: Task) -> str:
    """The gateway's word for a task's status, for the ledger; none that would say there that the task has ended."""
    word = client.clean(inert(task.status))[:60]
    return word if task.done or task.ended or word not in ledger.OWN else "processing"


def take_cost(client: Client, pending: Pending, task: Task) -> None:
    """Put what the gateway says of the task's cost into its value."""
    if task.cost is not UNKNOWN:
        client.price(pending, task.cost)
    elif task.quota is not None:
        from ..gateways.prices import dollars_of

        client.price(pending, Cost(dollars_of(task.quota, unit_of(client)), "gateway"))


def pause(client: Client, pending: Pending, task: Task) -> None:
    """Wait for the next poll. Raises `CallError` with status 8 at the deadline."""
    seconds = task.pause if task.pause is not None else client.dialect.pauses[pending.command]
    seconds = min(max(seconds, SHORTEST_PAUSE), LONGEST_PAUSE)
    clock = client.clock
    rest = clock.left()
    until = clock.monotonic() + min(seconds, rest)
    if pending.cost is UNKNOWN:
        learn_prices(client, pending.model, min(seconds, max(0.1, clock.left())))
    while True:
        client.emit(Waiting(pending.task_id or "", pending.status or "", age(client, pending)))
        left = until - clock.monotonic()
        if left <= 0:
            break
        clock.sleep(min(left, client.tick))
    if seconds >= rest or clock.left() <= 0:  # both, since sums of seconds are rounded
        raise CallError(_over(pending), status=ExitStatus.PENDING, code="pending", partial=pending)


def age(client: Client, pending: Pending) -> float:
    """Seconds since the submit."""
    if pending.submitted == client.clock.started:
        return client.clock.gone()  # the clock on the wall may step back
    return max(0.0, client.clock.now() - pending.submitted)


def _over(pending: Pending) -> str:
    return f"the time of --max-wait is over; the task goes on ({pending.status or 'unknown'})"


def _gone(client: Client, pending: Pending, error: NetError) -> CallError:
    """The end of a task that the gateway does not know, or whose result it does not have any more."""
    row = client.ledger.find(pending.command, pending.task_id, client.gateway.name) if client.ledger else {}
    hint = error.hint
    if row.get("status") == "completed" and row.get("output") not in (None, "-"):
        hint = f"another run has saved it: {row['output']}"
    elif error.http != 410:
        hint = "the gateway does not know this task"
    pending.status = "gone" if error.http == 410 else "not_found"
    pending.resumable = False
    pending.tried = bool(row)  # a task that was never ours is not recorded
    if row:
        client.record(pending)
    return client.ended(error, pending, hint=hint)


def _failed(client: Client, pending: Pending, task: Task) -> CallError:
    error = client.refusal_in(dict(task.document), pending.request_id)
    message = error.message if error.enveloped else f"the task is {pending.status}"
    code = f"task_{pending.status}" if error.code == "api_error" else error.code
    return CallError(
        message,
        status=ExitStatus.TASK_FAILED,
        code=code,
        hint="a new run is a new task",
        type=error.type,
        request_id=error.request_id,
        partial=pending,
    )
