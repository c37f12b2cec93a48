"""Create a task, wait for its end, resume it (image and video).

What is left where a run dies, and how it is got back:

the output is checked         nothing was sent
→ submit                      an image: the POST is repeated with one Idempotency-Key inside the gateway's 60 s, and
                              a 409 hands over the task; killed here: the task may run, and expires in 30 minutes.
                              A video: never repeated; `video --list` shows it (status 12)
→ the id is told, recorded    id and target in the ledger: `--resume` without an id finds them
→ poll                        the same; the task goes on at the gateway
→ the answer arrives          <state>/spool/<id>.*.json grows; killed here: cut, `--resume` asks for an r2_url, and
                              else says that it is gone and where the piece lies (status 11)
→ it is whole                 `--resume` makes the image from the same file and asks nobody
→ decoded beside the target   the same, and a *.part file beside the target
→ in place                    the same; `--resume` finds the same bytes in place, and is content
→ the record is finished      a spool that nobody needs
→ the spool is removed        nothing
"""

from __future__ import annotations

import contextlib
import math
import os
import re

from ..store import ledger
from ..net import retry
from ..errors import ApiError, CallError, ExitStatus, Interrupted, NetworkError
from ..text import inert, one_line
from ..net.transport import Policy, api_error
from ..wire import segment, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..cli.context import Context
    from ..cli.output import Output
    from ..net.response import Response
    from ..net.transport import Transport

FIELDS = ("task_id", "status", "files", "resume")
LIFETIME = 1800.0  # seconds from submit until a task expires
GRACE = 2.0  # seconds that a GET on its way may still take when a signal or the deadline comes: it may bring the image
SHORTEST_PAUSE, LONGEST_PAUSE = 0.05, 60.0  # seconds between two polls, whatever the gateway asks for
REPEATED = Policy(429, 503, lost=True, bare=True)  # with an Idempotency-Key
NEVER_REPEATED = Policy(429, bare=True)
_DONE = ("completed", "succeeded")
_ENDS = {"failed": "failed", "cancelled": "cancelled", "canceled": "cancelled", "expired": "expired"}


def is_done(document: dict[str, Any]) -> bool:
    """Whether a task's answer says completed, under either name."""
    return document.get("status") in _DONE


def is_id(text: str | None) -> bool:
    """Whether a text can be a task's id: nothing that is no name, or would be another place in a URL."""
    return text is not None and text.strip() not in ("", ".", "..")


def _accepted(response: Response) -> str:
    document = response.json()
    task_id = text_of(document.get("id")) or text_of(document.get("task_id"))
    if task_id is None or not is_id(task_id):
        error = NetworkError("the task was accepted without a usable id", code="protocol", sent=True)
        error.request_id = response.request_id
        raise error
    return task_id


class Tasks:
    """The tasks of one command: `path` is where one is got, `pause` the seconds between two polls."""

    def __init__(
        self,
        context: Context,
        output: Output,
        transport: Transport,
        path: str,
        *,
        pause: float,
        one_shot: bool,
        submitted: float | None = None,
    ) -> None:
        self._context = context
        self._output = output
        self._transport = transport
        self._path = path
        self._pause = pause
        self._one_shot = one_shot
        self.ended = False  # nothing is left to fetch
        self._submitted = submitted or context.started  # seconds since the epoch

    def submit(self, path: str, body: dict[str, Any], *, key: str | None, about: str, target: str | None) -> None:
        """Create a task; its id is told and recorded. With a `key` the submit is repeated inside the gateway's window.

        Raises `CallError` with status 12 where it is unknown whether the task was accepted, else as `request`.
        """
        try:
            with self._context.signals.held(GRACE):  # the answer may be on its way, and the task with it
                self._submit(path, body, key, about, target)
        except Interrupted:
            if self._output.report["task_id"]:
                self._output.parting = self.resume_line(target)
            elif self._output.reached:
                self._output.warning(f"the task may have been accepted, and may be billed: {self._advice()}")
            raise

    def _submit(self, path: str, body: dict[str, Any], key: str | None, about: str, target: str | None) -> None:
        try:
            task_id: str | None = self._transport.request(
                "POST",
                path,
                body,
                REPEATED if key else NEVER_REPEATED,
                _accepted,
                headers={"Idempotency-Key": key} if key else None,
                silence=20.0 if key else math.inf,
                latest=50.0 if key else math.inf,
            )
        except ApiError as error:
            if error.code == "duplicate_request":
                task_id = error.task_id if is_id(error.task_id) else None
            elif error.sent and (error.http in (409, 429) or (error.http or 0) >= 500):
                raise self._unknown(error) from None
            else:
                raise
        except NetworkError as error:
            raise (self._unknown(error) if error.sent else error) from None
        if task_id is None:
            raise self._unknown(NetworkError("it was accepted, but its id is not known"))
        self._context.signals.firm()
        self._output.report |= {"task_id": task_id, "status": "queued"}
        self._output.say(f"submitted {one_line(task_id, 200)}{about}")
        place = target if target in (None, "-") else os.path.abspath(target)
        ledger.record(self._context, self._output, {"output": place})

    def _unknown(self, error: CallError) -> CallError:
        unknown = CallError(
            f"it is unknown whether the task was accepted, and it may be billed: {error.message}",
            status=ExitStatus.UNKNOWN,
            code="unknown_outcome",
            hint=self._advice(),
        )
        unknown.http, unknown.type, unknown.request_id = error.http, error.type, error.request_id
        self._output.cost(None)
        return unknown

    def _advice(self) -> str:
        video = self._output.report["command"] == "video"
        where = f"with {self.line('--list')}" if video else "the usage page"
        return f"check {where} before running it again"

    def wait(self, read: Callable[[Response], dict[str, Any]], take: Callable[[dict[str, Any]], None]) -> None:
        """Poll until the task has completed and `take` its answer; `read` makes a document of each answer.

        A failing poll is not a failing task. Raises `CallError` with status 8 at the deadline, 10 where the task
        ended otherwise, 11 where its result is gone; `ApiError` and `NetworkError` for what no waiting mends.
        """
        task_id = self._output.report["task_id"]
        told = None
        failures = 0
        while True:
            try:
                status, pause = self._poll(task_id, read, take)
            except (ApiError, NetworkError) as error:
                self._context.signals.check()
                status, pause = self._output.report["status"] or "unknown", self._failed_poll(error, failures)
                failures += 1
            else:
                failures = 0
                if status in _DONE:
                    return
            self._output.report["status"] = status
            if status != told and not self._output.lively:
                self._output.note("status", f"{one_line(status, 60)} after {self._age():.1f} s")
            told = status
            self._sleep(task_id, status, pause)

    def _poll(
        self, task_id: str, read: Callable[[Response], dict[str, Any]], take: Callable[[dict[str, Any]], None]
    ) -> tuple[str, float]:
        """One GET: the status, and the seconds until the next. Signals are held back where it may bring the result."""
        grace = GRACE if self._one_shot else 0.0
        with self._context.signals.held(grace) if grace else contextlib.nullcontext():
            response = self._transport.fetch(f"{self._path}/{segment(task_id)}", grace=grace)
            try:
                document = read(response)
            finally:
                response.close()
            status = document.get("status")
            status = self._output.clean(inert(status))[:60] if isinstance(status, str) and status else "unknown"
            if status in _DONE:
                self._output.unsaved = True
                self._output.report["status"] = "completed"
                take(document)
        if status in _ENDS:
            self.end(_ENDS[status])
            raise self._ended(document, _ENDS[status])
        told = document.get("next_poll_after_ms")
        pause = min(told, 1e6) / 1000 if isinstance(told, (int, float)) and told is not True and told >= 0 else None
        if pause is None:
            pause = retry.parse_retry_after(response.header("Retry-After"), self._context.now())
        return status, min(max(pause if pause is not None else self._pause, SHORTEST_PAUSE), LONGEST_PAUSE)

    def _failed_poll(self, error: ApiError | NetworkError, failures: int) -> float:
        """Seconds until the next try after a poll that failed. Raises what no waiting mends."""
        gone = {404: "not_found", 410: "gone"}.get(error.http or 0)
        if gone:
            row = ledger.look_up(self._context, self._output, *self._named())
            if row.get("status") == "completed" and row.get("output") not in (None, "-"):
                error.hint = f"another run has saved it: {row['output']}"
            elif error.http == 404:
                error.hint = "the gateway does not know this task"
            self._output.keep_row = bool(row)
            self.end(gone)
            raise error
        busy = error.http == 409  # another reader is taking the result
        if not (busy or error.passing or error.code in ("protocol", "max_wait")):
            raise error
        asked = error.retry_after if isinstance(error, ApiError) else None
        pause = self._pause if busy else max(self._pause, 4 * retry.backoff(failures, self._context.chance()))
        pause = min(max(asked, 0.5) if asked is not None else pause, LONGEST_PAUSE)
        if error.code != "max_wait":
            what = "another reader is taking the result" if busy else one_line(error.message, 200)
            self._output.note("retry", f"{error.http or error.code}: {what}; asking again in {pause:.3g} s")
        return pause

    def _named(self) -> tuple[str, str]:
        return self._output.report["command"], self._output.report["task_id"]

    def _ended(self, document: dict[str, Any], status: str) -> CallError:
        error = api_error(document, 0, self._output.report["request_id"], self._transport.key)
        message = error.message if error.enveloped else f"the task is {status}"
        code = f"task_{status}" if error.code == "api_error" else error.code
        ended = CallError(message, status=ExitStatus.TASK_FAILED, code=code, hint="a new run is a new task")
        ended.type, ended.request_id = error.type, error.request_id
        return ended

    def _sleep(self, task_id: str, status: str, pause: float) -> None:
        """Wait for the next poll, with the living line. Raises `CallError` with status 8 at the deadline."""
        until = self._context.clock() + min(pause, self._context.left())
        while (left := until - self._context.clock()) > 0:
            self._output.progress(f"{one_line(task_id, 40)} {status} {self._age():.0f} s")
            self._context.sleep(min(left, 0.5) if self._output.lively else left)
        if self._context.left() <= 0:
            raise CallError(
                f"the time of --max-wait is over; the task goes on ({status})",
                status=ExitStatus.PENDING,
                code="pending",
            )

    def _age(self) -> float:
        return max(0.0, self._context.now() - self._submitted)

    def end(self, status: str, output: str | None = None) -> None:
        """Record that nothing is left to fetch."""
        self.ended = True
        self._output.unsaved = False
        self._output.report["status"] = status
        if not self._output.keep_row:
            return
        ledger.record(self._context, self._output, {"output": output})

    def detach(self, target: str | None) -> None:
        """Leave the task to itself: how to resume it on stderr, and its id on stdout."""
        self._output.say(self.resume_line(target))
        self._output.line(self._output.report["task_id"])

    def line(self, *words: str) -> str:
        """A command line of this command that can be run here."""
        import shlex

        return shlex.join([*self._context.program, self._output.report["command"], *words])

    def resume_line(self, target: str | None = None) -> str:
        """The command that resumes the task, and how long that makes sense."""
        task_id = self._output.report["task_id"]
        words = ["--resume", task_id] if re.fullmatch(r"[!-~ ]+", task_id) else ["--resume"]  # the latest, that is
        if task_id.startswith("-"):
            words = [f"--resume={task_id}"]
        line = self.line(*words, *(() if self._output.ledger_works or target is None else ("-o", target)))
        self._output.report["resume"] = line
        left = LIFETIME - self._age()
        return f"{line}  # {f'the task expires in {math.ceil(left / 60)} min' if left > 0 else 'the task has expired'}"
