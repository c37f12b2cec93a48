"""One gateway as the calls see it: requests sent and repeated, refusals read, results recorded, events emitted."""

from __future__ import annotations

import contextlib
import math

from .. import gateways
from ..errors import CallError, ExitStatus, Interrupted, NetError
from ..net import retry
from ..net.clock import Clock
from ..net.transport import Transport
from ..request import Repeat
from ..text import one_line, redacted
from ..values import LOCAL, NOTHING, UNKNOWN, Cost, Note, Pending, Shield, Trace
from ..wire import object_of, tokens
from . import admission

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, TypeVar

    from ..config import Gateway
    from ..gateways.prices import Prices
    from ..net.response import Response
    from ..request import Request
    from ..store.ledger import Ledger
    from ..values import Event, Result

    T = TypeVar("T")

LARGEST_ERROR = 1 << 18  # bytes of an error body that are read
ERROR_PATIENCE = 10.0  # seconds that an error body may take


class Reply:
    """A JSON answer: the document, and what the headers said."""

    def __init__(self, document: dict[str, Any], request_id: str | None, retry_after: float | None) -> None:
        self.document = document
        self.request_id = request_id
        self.retry_after = retry_after


class Client:
    """Calls to one gateway. `timeout` is the longest silence in seconds, None for what each request has; `clock` holds
    the deadline. The dialect of a gateway whose own is not known is found out, and remembered in the ledger.

    `tick` is the number of seconds between two `Waiting` events while a task is waited for; infinite: one a poll.
    `stop`, if there is one, is asked several times a second whether to give up.
    `budget` is what may be spent, like 5/day. `state` is the directory for spools, None if there is none.
    """

    def __init__(
        self,
        gateway: Gateway,
        *,
        key: str = "",
        clock: Clock | None = None,
        on_event: Callable[[Event], None] = lambda _: None,
        ledger: Ledger | None = None,
        budget: str = "",
        shield: Shield | None = None,
        state: str | None = None,
        timeout: float | None = None,
        tick: float = math.inf,
        stop: Callable[[], bool] | None = None,
    ) -> None:
        self.gateway = gateway
        remembered = ledger.dialect(gateway.root) if ledger and gateway.dialect is None else None
        self._settled = bool(gateway.dialect or remembered)
        self.dialect = gateways.dialect(gateway, remembered)
        self.clock = clock or Clock()
        self.emit = on_event
        self.ledger = ledger
        self.budget = budget
        self.shield = shield or Shield()
        self.state = state
        self.tick = tick
        self.key = key
        self._stop = stop
        self.recorded: Result | None = None  # the latest
        self.prices: dict[str, Prices | None] = {}  # that were asked for, by model
        self.hurried: set[str] = set()  # models whose prices were asked for in a short time
        self.warned = False  # of calls of unknown cost that the budget counts
        self.unit: int | None = None  # how much of the gateway's own unit is one dollar, once that was asked
        self.transport = Transport(
            self.clock, key=key, timeout=timeout, proxied=gateway.proxied, on_event=on_event, stop=stop
        )

    # Requests

    def open(self, request: Request) -> Response:
        """The 2xx answer to a request, unread, repeated as the request allows. Raises `NetError`."""
        return self.repeat(lambda: self.once(request), request)

    def get(self, request: Request, *, task: bool = False) -> Reply:
        """The JSON answer to a request, repeated as the request allows. Raises `NetError`."""
        return self.repeat(lambda: self.read(self.once(request), task=task), request)

    def repeat(self, attempt: Callable[[], T], request: Request, least: float = 0.0) -> T:
        """What `attempt` makes of `request`, repeated as the request allows."""
        return retry.repeat(attempt, request.repeat, self.clock, self.emit, least)

    def once(self, request: Request) -> Response:
        """One attempt; the 2xx answer, unread. Any other is raised as the `NetError` that it is."""
        response = self.transport.send(request)
        if not self._settled and request.keyed:
            self._notice(response)
        request_id = self.request_id_of(response)
        if request_id:
            self.emit(Trace(f"request_id={request_id}"))
        if 300 <= response.status < 400:
            response.close()
            raise NetError(
                f"the gateway answered with a redirect ({response.status}), which is not followed with a key",
                "redirect",
                hint="set the gateway's base URL to the address where the API really is",
                request_id=request_id,
            )
        if response.foreign and response.status < 300:
            response.close()
            message = f"the answer is encoded as {one_line(response.foreign, 60)}, which was not asked for"
            raise NetError(message, "protocol", sent=True, request_id=request_id)
        if 200 <= response.status < 300:
            return response
        body = b""
        with contextlib.suppress(NetError):
            response.limit(ERROR_PATIENCE)
            while len(body) < LARGEST_ERROR and (data := response.read()):
                body += data
        response.close()
        if response.status == 404:
            self.check_root(response, body)
        raise self.dialect.refusal(
            object_of(body),
            response.status,
            request_id=request_id,
            retry_after=self._retry_after(response),
            secret=self.key,
        )

    def check_root(self, response: Response, data: bytes) -> None:
        """Raise `NetError` if an answer, of which `data` is the beginning, is a web page: then no API is there."""
        wrong = response.status == 404 or self.dialect.page_is_a_wrong_root
        if wrong and data.lstrip().startswith(b"<"):
            raise NetError(
                f"a web page answers there ({response.status}), not an API",
                "protocol",
                http=response.status,
                hint=f"{self.gateway.prefix}BASE_URL may not be the root of the API",
                request_id=self.request_id_of(response),
            )

    def _notice(self, response: Response) -> None:
        """Take the dialect from the headers of an answer, and remember it."""
        name = gateways.told_by(response.status, response.header)
        if name is None:
            return
        self._settled = True
        self.dialect = gateways.dialect(self.gateway, name)
        if self.ledger is not None:
            self.ledger.remember(self.gateway.root, self.dialect.name)

    def settle(self, pending: Pending | None = None) -> None:
        """Find out the dialect, with one request, if it is not known yet.

        `pending` is what it is needed for: a task to go on with, or else what is to be bought, for which the budget is
        asked before. If nobody answers, `CallError` is raised with that value, or `NetError` if there is none; raises
        as `admission.check`, too.
        """
        if self._settled:
            return
        new = pending is not None and pending.task_id is None
        if new:
            admission.check(self)
        request = self.dialect.model_lists("chat")[0].but(repeat=Repeat())
        try:
            self.open(request).close()
        except (NetError, Interrupted) as error:
            if isinstance(error, NetError) and (error.http is not None or error.code == "redirect"):
                return
            if pending is None:
                raise
            pending.tried = True
            if new:
                pending.status, pending.cost = "refused", NOTHING  # a list of models costs nothing
            elif isinstance(error, NetError):
                raise self.ended(error, pending, status=status_of_wait(error)) from None
            raise self.ended(error, pending) from None

    def complete(self, body: Mapping[str, Any]) -> Response:
        """The 2xx answer to a completion, unread. A field that the server refuses is left out, once for each."""
        request = self.dialect.chat(body)
        while True:
            try:
                return self.open(request)
            except NetError as error:
                request = self.without_refused(request, error)

    def without_refused(self, request: Request, error: NetError) -> Request:
        """The request without the field that the server has refused, which is told. Raises the error itself if it is
        about something else."""
        changed = self.dialect.without_refused(request.body or {}, error)
        if changed is None:
            raise error
        body, name = changed
        self.emit(Note("retry", f"the server refuses {name}: asking without it"))
        return request.but(body=body)

    def read(self, response: Response, data: bytes | None = None, *, task: bool = False) -> Reply:
        """A JSON answer, read to its end unless `data` has it; a bare list is its `data`.

        `task`: it may be a task, which has an error of its own if it failed. Raises `NetError` if it is neither an
        object nor a list, or if it is an error in spite of its status.
        """
        data = response.body() if data is None else data
        self.check_root(response, data)
        document = object_of(b'{"data": %s}' % data if data.lstrip().startswith(b"[") else data)
        return self.check(document, response, task=task)

    def check(self, document: dict[str, Any], response: Response, *, task: bool = False) -> Reply:
        """A document that `response` brought; one that is empty or tells of an error is raised as `NetError`."""
        request_id = self.request_id_of(response)
        if not document:
            message = f"the gateway's answer ({response.status}) is not a JSON object"
            hint = f"{self.gateway.prefix}BASE_URL may not be the root of the API, or a proxy is in between"
            raise NetError(message, "protocol", sent=True, hint=hint, request_id=request_id)
        failed = document.get("error") or document.get("success") is False
        if failed and not (task and isinstance(document.get("status"), str)):
            raise self.refusal_in(document, request_id, otherwise=400)
        return Reply(document, request_id, self._retry_after(response))

    def refusal_in(self, document: dict[str, Any], request_id: str | None, *, otherwise: int = 500) -> NetError:
        """The failure in a document that came with status 200; without a known code it means `otherwise`."""
        return self.dialect.refusal(document, 0, request_id=request_id, secret=self.key, otherwise=otherwise)

    def request_id_of(self, response: Response) -> str | None:
        """The request id in an answer's headers, fit to be shown."""
        found = self.dialect.request_id(response.header)
        return found and self.clean(found)

    def _retry_after(self, response: Response) -> float | None:
        return retry.parse_retry_after(response.header("Retry-After"), self.clock.now())

    def clean(self, text: str, limit: int = 200) -> str:
        """A remote text for a line: one line of at most `limit` characters of it, without the key."""
        return one_line(redacted(text, self.key), limit)

    # Ends

    def over(self) -> bool:
        """Whether to give up now: the time is over, or `stop` says so."""
        return self.clock.left() <= 0 or (self._stop is not None and self._stop())

    def ended(self, error: NetError | CallError | Interrupted, result: Result, **changes: Any) -> CallError:
        """The end that a failure makes of a call, with what was obtained until then; the one place that does it.

        Nothing was bought if the request never left, or if the gateway refused it with a 4xx.
        """
        if isinstance(error, Interrupted):
            end = CallError("stopped by a signal", code="interrupted", status=error.status)
            known = not self.transport.sent
        else:
            end = CallError.of(error)
            known = isinstance(error, NetError) and not error.sent
            known = known and (error.http is None or 400 <= error.http < 500)
        bought = isinstance(result, Pending) and (result.task_id or result.status == "completed")
        if result.cost is UNKNOWN and known and not bought:
            result.cost = NOTHING
        self.price(result)
        result.request_id = changes.get("request_id") or end.request_id or result.request_id
        return CallError.of(end, **{"partial": result, "request_id": result.request_id} | changes)

    def price(self, result: Result, cost: Cost | None = None) -> None:
        """Put a cost into a value, which is changed: the gateway's own, and `local` at a server without prices."""
        if cost is not None:
            result.cost = cost
        if self.gateway.local and result.cost is UNKNOWN:
            result.cost = LOCAL

    # The ledger

    @property
    def can_look_up(self) -> bool:
        """Whether costs that are unknown can be learnt later, from the gateway's log."""
        return self.ledger is not None and self.ledger.works and self.dialect.log() is not None

    def record(self, result: Result, **fields: Any) -> None:
        """Put a result into the ledger, with more `fields` of the row; the one place that makes rows."""
        self.recorded = result
        if self.ledger is not None:
            result.row = self.ledger.record(self.row_of(result) | fields, result.row)

    def row_of(self, result: Result) -> dict[str, Any]:
        """What the ledger keeps of a result."""
        usage = result.usage or {}
        row: dict[str, Any] = {
            "started": self.clock.started,
            "gateway": self.gateway.name,
            "root": self.gateway.root,
            "model": result.model,
            "request_id": result.request_id,
            "prompt_tokens": tokens(usage, "prompt_tokens", "input_tokens"),
            "completion_tokens": tokens(usage, "completion_tokens", "output_tokens"),
            "cost": result.cost.usd,
            "source": result.cost.source,
        }
        if isinstance(result, Pending):
            unsaved = result.status == "completed" and result.resumable
            row |= {
                "command": result.command,
                "status": "unsaved" if unsaved else result.status,
                "task_id": result.task_id,
            }
        return row | {name: redacted(value, self.key) for name, value in row.items() if isinstance(value, str)}


def status_of_wait(error: NetError) -> ExitStatus:
    """The exit status of a failure while a task goes on: at the deadline it is pending."""
    return ExitStatus.PENDING if error.code == "max_wait" else error.status
