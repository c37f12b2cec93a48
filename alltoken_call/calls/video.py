"""A video: submit → record → wait → tell its address → download it if a file is wanted → record."""

from __future__ import annotations

import contextlib
import os

from ..errors import CallError, ExitStatus, Interrupted, NetError, OutputError
from ..net.download import download
from ..net.transport import is_allowed
from ..store import files
from ..values import UNKNOWN, Clip, Ready, Stored, Warned
from ..wire import text_of
from . import admission, tasks
from .client import status_of_wait
from .models import estimate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..gateways.task import Task
    from ..request import Request
    from ..values import Cost, Film
    from .client import Client


SOON = 0.5  # seconds that prices may take once the clip is there


def make_video(
    client: Client,
    film: Film,
    *,
    target: str | None = None,
    force: bool = False,
    detach: bool = False,
    once: bool = False,
) -> Clip:
    """Make a clip; its URL, and with `target` its file, are in the value.

    With `detach` it is returned as soon as the task exists; with `once` a row is in the ledger before the submit
    leaves. Raises `CallError`, whose partial is the same value.
    """
    client.dialect.video(film)  # what it has no field for is refused before anything is sent
    if target is not None:
        files.check_new([target], force=force)
    clip = Clip(film.model, target=target, submitted=client.clock.started)
    clip.status = "submitting"
    try:
        with client.shield.held():
            admission.admit(client, clip, "video", needed=once, output=tasks.place_of(clip))
        with tasks.alive(client, clip):
            uploads = tasks.upload(client, client.dialect.video_uploads(film), clip)
            tasks.submit(client, client.dialect.video(film, uploads), clip)
        return clip if detach else collect(client, clip, force=force)
    except Interrupted as signal:  # between the steps, which see to it themselves
        raise tasks.stopped(client, signal, clip) from None


def close(client: Client, clip: Clip) -> Clip:
    """End a clip whose run died before its task had an id; nobody is asked.

    Raises `CallError`: with status 8 if that run is still alive, else 12.
    """
    with tasks.orphaned(client, clip):
        raise tasks.close(client, clip)


def collect(client: Client, clip: Clip, *, force: bool = False) -> Clip:
    """Wait for a clip, and download it if it has a target; `clip` is filled and returned. Raises as `make_video`."""
    try:
        while not (task := tasks.poll(client, clip, lambda: _look(client, clip))).done:
            tasks.pause(client, clip, task)
        _fill(client, clip, task)
        if clip.target is not None:
            _save(client, clip, clip.target, force=force)
            clip.files = [clip.target]
        clip.resumable = False
        if clip.cost is UNKNOWN:
            clip.cost = _estimate(client, clip, SOON) or clip.cost
        tasks.record(client, clip)
        if task.document.get("is_expired") is True and clip.target is None:
            client.emit(Warned("the gateway says that this URL has expired"))
        return clip
    except (NetError, Interrupted) as error:
        status = status_of_wait(error) if isinstance(error, NetError) else error.status
        message = {"message": "the time of --max-wait is over"} if status is ExitStatus.PENDING else {}
        raise client.ended(error, clip, status=status, **message) from None
    finally:
        if clip.cost is UNKNOWN and clip.status == "completed":  # paid for, though it may not be here
            clip.cost = _estimate(client, clip, 0.0) or clip.cost


def _estimate(client: Client, clip: Clip, within: float) -> Cost | None:
    """What a clip costs by the gateway's prices. What the answer to its submit has told is not known any more if an
    earlier run has submitted it."""
    calls = client.dialect.call_factor(lambda _: None) if clip.calls is None else clip.calls
    return estimate(client, clip, calls, within)


def _look(client: Client, clip: Clip) -> Task:
    request = client.dialect.poll("video", clip.task_id or "")
    reply = client.read(client.once(request), task=True)
    clip.request_id = reply.request_id
    task = client.dialect.task(reply.document)
    task.pause = reply.retry_after if task.pause is None else task.pause
    return task


def _fill(client: Client, clip: Clip, task: Task) -> None:
    """Take the facts of a completed task. Raises `NetError` if its address is missing or is not one that we open."""
    clip.status = "completed"
    clip.usage = task.usage
    client.price(clip, client.dialect.usage_cost(task.usage))
    bill = client.dialect.bill(clip.task_id or "")
    if clip.cost is UNKNOWN and bill is not None:
        with contextlib.suppress(NetError):  # what it cost is not worth the clip
            tasks.take_cost(client, clip, client.dialect.task(client.get(bill).document))
    clip.expires_at, clip.ttl = task.expires_at, task.ttl
    clip.facts |= task.facts
    if task.url is None:
        message = "the task completed without an address of the video"
        raise NetError(message, "protocol", sent=True, request_id=clip.request_id)
    clip.video_url, clip.keyed = task.url, task.keyed
    if not is_allowed(task.url, client.gateway.root):
        clip.resumable = False
        tasks.record(client, clip)
        raise NetError(f"the video's address is not https, it is not opened: {task.url}", "address")
    client.emit(Ready(clip))


def _save(client: Client, clip: Clip, target: str, *, force: bool) -> None:
    """Download the clip and put it in place. Raises `OutputError`; the URL has been told by then."""
    hint = f"the clip is at {clip.video_url}"
    try:
        file, part = files.part_of(os.path.realpath(target))
        try:
            with file:
                home, url = client.gateway.root, clip.video_url or ""
                size = download(url, file, client.transport, home=home, keyed=clip.keyed)
                files.sync(file)
            _check_video(part)
            if not files.same(part, target):  # of a run that was killed just here
                files.put(part, target, force=force)
        finally:
            files.discard(part)
    except OSError as error:
        message = f"cannot write {target}: {error.strerror}"
        raise CallError.of(OutputError(message, hint=hint), partial=clip) from None
    except CallError as error:
        raise CallError.of(error, partial=clip) from None
    client.emit(Stored(target, size, only=False))


def _check_video(path: str) -> None:
    """Raise `CallError` with status 9 if a file begins like a web page or a message instead of a clip."""
    with open(path, "rb") as file:
        if file.read(64).lstrip()[:1] in (b"", b"<", b"{"):
            message = "what the video's address holds is not a video"
            raise CallError(message, status=ExitStatus.CUT_SHORT, code="not_a_video")


def list_videos(client: Client, request: Request) -> tuple[list[dict[str, Any]], int | None]:
    """The video tasks as they came, and how many there are in all if that is told. Raises `NetError`."""
    reply = client.get(request)
    items = reply.document.get("items", reply.document.get("data", False))
    if not isinstance(items, list) and items is not None:  # "0 tasks" would say that a lost submit was not accepted
        message = "the gateway's answer is not a list of tasks"
        raise NetError(message, "protocol", sent=True, request_id=reply.request_id)
    total = reply.document.get("total")
    found = [item for item in items or () if isinstance(item, dict) and text_of(item.get("id"))]
    return found, total if type(total) is int else None


def cancel_video(client: Client, request: Request, task_id: str) -> Clip:
    """Cancel a task; the value has its new status. Raises `CallError`."""
    clip = Clip(None, target=None, submitted=client.clock.started)
    clip.task_id = task_id
    try:
        reply = client.get(request, task=True)
    except NetError as error:
        unknown = error.http in (404, 409)
        hint = "`alltoken-call video --list` shows which tasks there are, and their status" if unknown else error.hint
        raise client.ended(error, clip, hint=hint) from None
    clip.request_id = reply.request_id
    clip.status = tasks.word_of(client, client.dialect.task(reply.document))
    if client.ledger and client.ledger.find("video", task_id, client.gateway.name):
        client.record(clip)
    return clip
