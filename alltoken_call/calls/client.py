"""One gateway as the calls see it: requests sent and repeated, refusals read, results recorded, events emitted."""

from __future__ import annotations

import contextlib
import math

from .. import gateways
from ..errors import CallError, ExitStatus, Interrupted, NetError, UsageError
from ..net import retry
from ..net.clock import Clock
from ..net.transport import Transport
from ..text import one_line, redacted
from ..values import LOCAL, NOTHING, UNKNOWN, Note, Pending, Shield, Trace, Warned
from ..wire import object_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, TypeVar

    from ..config import Gateway
    from ..net.response import Response
    from ..store.ledger import Ledger
    from ..values import Cost, Event, Request, Result

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
        self._key = key
        self.transport = Transport(self.clock, key=key, timeout=timeout, proxied=gateway.proxied, on_event=on_event)

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
        if response.status == 404 and self.dialect.html_is_a_wrong_root and body.lstrip().startswith(b"<"):
            raise NetError(
                "a web page answers there (404), not an API",
                "protocol",
                http=404,
                hint=f"{self.gateway.prefix}BASE_URL may not be the root of the API",
            )
        raise self.dialect.refusal(
            object_of(body),
            response.status,
            request_id=request_id,
            retry_after=self._retry_after(response),
            secret=self._key,
        )

    def _notice(self, response: Response) -> None:
        """Take the dialect from the headers of an answer, and remember it."""
        relay = response.header("X-Oneapi-Request-Id") or response.header("X-New-Api-Version")
        if not relay and response.status >= 300:
            return
        self._settled = True
        self.dialect = gateways.dialect(self.gateway, "new-api" if relay else "openai")
        if self.ledger is not None:
            self.ledger.remember(self.gateway.root, self.dialect.name)

    def settle(self) -> None:
        """Find out the dialect, with one request, if it is not known yet. Raises `NetError` if nobody answers."""
        if not self._settled:
            try:
                self.once(self.dialect.model_lists("chat")[0]).close()
            except NetError as error:
                if error.http is None and error.code != "redirect":
                    raise

    def complete(self, body: Mapping[str, Any]) -> Response:
        """The 2xx answer to a completion, unread. A field that the server refuses is left out, once for each."""
        while True:
            try:
                return self.open(self.dialect.chat(body))
            except NetError as error:
                changed = self.dialect.without_refused(body, error)
                if changed is None:
                    raise
                body, name = changed
                self.emit(Note("retry", f"the server refuses {name}: asking without it"))

    def read(self, response: Response, data: bytes | None = None, *, task: bool = False) -> Reply:
        """A JSON answer, read to its end unless `data` has it; a bare list is its `data`.

        `task`: it may be a task, which has an error of its own if it failed. Raises `NetError` if it is neither an
        object nor a list, or if it is an error in spite of its status.
        """
        data = response.body() if data is None else data
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
        return self.dialect.refusal(document, 0, request_id=request_id, secret=self._key, otherwise=otherwise)

    def request_id_of(self, response: Response) -> str | None:
        """The request id in an answer's headers, fit to be shown."""
        found = self.dialect.request_id(response.header)
        return found and self.clean(found)

    def _retry_after(self, response: Response) -> float | None:
        return retry.parse_retry_after(response.header("Retry-After"), self.clock.now())

    def clean(self, text: str) -> str:
        """A remote text for a line: one line of it, without the key."""
        return one_line(redacted(text, self._key), 200)

    # Ends

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
        if result.cost is UNKNOWN and known and not (isinstance(result, Pending) and result.task_id):
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

    def admit(self, result: Result, command: str, *, first: bool = False, **fields: Any) -> None:
        """Ask the budget, if there is one, before anything is sent; `result` gets its row in the ledger then.

        `first`: it gets a row in any case, with more `fields`. Raises `CallError` with status 6 if the budget is used
        up, and `UsageError` if the ledger cannot tell.
        """
        result.tried = True
        if self.budget.strip() and not self.gateway.local:
            from ..store import budget

            limit = budget.parse(self.budget)
            path = self.ledger.path if self.ledger and self.ledger.works else None
            if path is None:
                raise UsageError(
                    "ALLTOKEN_BUDGET is set, and there is no ledger to tell what was spent", code="no_ledger"
                )
            row = self._row(result) | {"command": command} | fields
            result.tried = False  # a run that is refused leaves no row
            result.row = budget.admit(limit, path, row, self.clock.now(), lambda text: self.emit(Warned(text)))
            result.tried = True
        elif first:
            self.record(result, command=command, **fields)

    def record(self, result: Result, **fields: Any) -> None:
        """Put a result into the ledger, with more `fields` of the row; the one place that makes rows."""
        if self.ledger is not None:
            result.row = self.ledger.record(self._row(result) | fields, result.row)

    def _row(self, result: Result) -> dict[str, Any]:
        usage = result.usage or {}

        def tokens(*names: str) -> int | None:
            counts = (usage.get(name) for name in names)
            return next((count for count in counts if type(count) is int and 0 <= count < 1 << 63), None)

        row: dict[str, Any] = {
            "started": self.clock.started,
            "gateway": self.gateway.name,
            "root": self.gateway.root,
            "model": result.model,
            "request_id": result.request_id,
            "prompt_tokens": tokens("prompt_tokens", "input_tokens"),
            "completion_tokens": tokens("completion_tokens", "output_tokens"),
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
        return row | {name: redacted(value, self._key) for name, value in row.items() if isinstance(value, str)}


def status_of_wait(error: NetError) -> ExitStatus:
    """The exit status of a failure while a task goes on: at the deadline it is pending."""
    return ExitStatus.PENDING if error.code == "max_wait" else error.status
