"""An image: submit → record → wait → receive → decode → place → record; at each step, what to do when it fails.

The table of what is left if a run dies is in tasks.py.
"""

from __future__ import annotations

import contextlib
import os

from ..errors import CallError, ExitStatus, Interrupted, NetError
from ..gateways.pictures import ONCE, text_beside
from ..net import retry
from ..store import files
from ..store.spool import open_left
from ..values import UNKNOWN, Note, Saved, Warned
from . import admission, landing, tasks
from .client import status_of_wait
from .landing import LONGEST_TEXT, Work
from .models import estimate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..gateways.task import Task
    from ..request import Request
    from ..values import Picture
    from .client import Client

SOON = 0.5  # seconds that prices may take once the image is in its place


def make_image(
    client: Client,
    picture: Picture,
    *,
    target: str,
    force: bool = False,
    detach: bool = False,
    once: bool = False,
) -> Saved:
    """Make an image, or edit one, and save it at `target` (`-`: it is emitted for stdout).

    The paths are in the value's `files`; with `detach` it is returned as soon as the task exists; with `once` a row is
    in the ledger before the submit leaves. Raises `CallError`, whose partial is the same value.
    """
    client.dialect.image(picture)  # what it has no field for is refused before anything is sent
    wanted = picture.count or 1
    if target != "-":
        files.check_new(files.numbered(target, wanted), force=force)
    saved = Saved(picture.model, target=target, submitted=client.clock.started)
    saved.exact = once
    saved.status = "processing" if client.dialect.at_once else "submitting"
    try:
        with client.shield.held():
            first = client.dialect.at_once
            admission.admit(client, saved, "image", first=first, needed=once, output=tasks.place_of(saved))
        with tasks.alive(client, saved):
            uploads = tasks.upload(client, client.dialect.image_uploads(picture), saved)
            request = client.dialect.image(picture, key=os.urandom(16).hex(), uploads=uploads)
            if client.dialect.at_once:
                return _make_at_once(client, request, saved, force=force, wanted=wanted)
            tasks.submit(client, request, saved)
        return saved if detach else collect(client, saved, force=force, wanted=wanted)
    except Interrupted as signal:  # between the steps, which see to it themselves
        raise tasks.stopped(client, signal, saved) from None


def _make_at_once(client: Client, request: Request, saved: Saved, *, force: bool, wanted: int) -> Saved:
    """Ask for an image that comes in the answer to its request: record → ask → receive → decode → place → record.

    The row is in the ledger before the request leaves, and a lock says that this run is alive.
    """
    work = Work(client, saved, wanted, force=force)
    try:
        with client.shield.held(tasks.GRACE):
            _ask(work, request)
        return _finish(work)
    except (NetError, CallError, Interrupted) as error:
        raise _ended_at_once(work, error) from None
    finally:
        work.forget()


def _ask(work: Work, request: Request) -> None:
    """Send the request and put what its answer brings in its place; the answer is on disk before it is looked at."""
    client, saved = work.client, work.saved

    def attempt() -> None:
        work.asked = True
        response = client.once(request)
        saved.request_id = client.request_id_of(response)
        try:
            landing.receive(work, response)
        finally:
            response.close()
        with work.spool.whole() as file:
            saved.resumable = work.on_disk = work.spool.path is not None
            document = landing.take_apart(work, file)
        client.price(saved, client.dialect.header_cost(response.header, document.get("usage")))
        if not work.entries:
            saved.resumable = work.on_disk = False
            saved.status = "failed"
            work.spool.drop() if document else work.spool.leave()
            client.check(document, response)
            landing.take_figures(work, document)
            text = client.clean(text_beside(document), LONGEST_TEXT)
            message = f"the answer has no image{f': {text}' if text else ''}"
            raise CallError(message, status=ExitStatus.CUT_SHORT, code="no_image")
        if work.on_disk:
            client.shield.check()  # a signal may end the run
        landing.save(work, document)

    while True:
        try:
            client.repeat(attempt, request)
            return
        except NetError as error:
            request = client.without_refused(request, error)


def _ended_at_once(work: Work, error: NetError | CallError | Interrupted) -> CallError:
    """The end of an image that was to come at once: what is not known may be billed, and there is no task to ask."""
    client, saved = work.client, work.saved
    end = _ended(work, error)
    if work.arrived or work.on_disk:
        tasks.record(client, saved)
        return end
    doubtful = client.transport.sent
    if isinstance(error, NetError):
        doubtful = doubtful and error.sent and (error.http is None or retry.is_lost(error, ONCE))
    saved.status = "unknown" if doubtful else "refused"
    tasks.record(client, saved)
    kept = end.hint if work.spool.kept else None
    if doubtful and isinstance(error, Interrupted):
        told = f"an image may have been made, and may be billed: {client.dialect.doubt}"
        return CallError.of(end, hint="; ".join(filter(None, [told, kept])))
    if doubtful and isinstance(error, NetError):
        message = f"it is unknown whether an image was made, and it may be billed: {error.message}"
        hint = "; ".join(filter(None, [client.dialect.doubt, kept]))
        return CallError.of(end, message=message, status=ExitStatus.UNKNOWN, code="unknown_outcome", hint=hint)
    return CallError.of(end, status=error.status) if isinstance(error, NetError) else end


def collect_at_once(client: Client, saved: Saved, *, force: bool = False) -> Saved:
    """Take up an image without a task id, from what a killed run has left on disk; nobody is asked.

    Raises `CallError`: with status 8 if its run is still alive, 12 if nothing is left.
    """
    with tasks.orphaned(client, saved), _working(Work(client, saved, None, force=force)) as work:
        if _from_an_earlier_run(work):
            return _finish(work)
        raise tasks.close(client, saved)


def collect(client: Client, saved: Saved, *, force: bool = False, wanted: int | None = None) -> Saved:
    """Wait for a task of image and save what it brings; `saved` is filled and returned.

    `wanted` is how many images were asked for, None if that is not known. Raises as `make_image`.
    """
    try:
        with _working(Work(client, saved, wanted, force=force)) as work:
            if not _from_an_earlier_run(work):
                if wanted is None and saved.target not in (None, "-"):
                    files.check_new([saved.target], force=force)
                while not (task := tasks.poll(client, saved, lambda: _look(work))).done:
                    tasks.pause(client, saved, task)
            return _finish(work)
    except Interrupted as signal:  # before there was any work
        raise client.ended(signal, saved) from None


@contextlib.contextmanager
def _working(work: Work) -> Iterator[Work]:
    """A block that collects images: its failure is the end of the call, and parts without a place are removed."""
    try:
        yield work
    except (NetError, CallError, Interrupted) as error:
        raise _ended(work, error) from None
    finally:
        work.forget()


def _from_an_earlier_run(work: Work) -> bool:
    """Whether a whole answer was left by a run that was killed: then its images are saved, and nobody is asked."""
    for path in work.spool.left:
        file = open_left(path)
        if file is None:  # another run was faster, or it is not ours
            continue
        with file, work.client.shield.held():
            document = landing.take_apart(work, file)
            if work.entries:
                work.on_disk = True
                work.client.emit(Note("task", f"from the answer in {path}; the gateway is not asked"))
                landing.save(work, document)
                return True
            work.forget()
    return False


def _look(work: Work) -> Task:
    """One GET: what it says of the task; if it brings the images, they are in their places then.

    Signals are held back from its first byte until the answer is on the disk.
    """
    client, saved = work.client, work.saved
    request = client.dialect.poll("image", saved.task_id or "", grace=tasks.LATE)
    with client.shield.held(tasks.GRACE):
        work.asked = True
        response = client.once(request)
        try:
            data = landing.receive(work, response)
        finally:
            response.close()
        if data is not None:
            reply = client.read(response, data, task=True)
            task = client.dialect.task(reply.document)
            task.pause = reply.retry_after if task.pause is None else task.pause
            return task
        with work.spool.whole() as file:
            document = landing.take_apart(work, file)
        task = client.dialect.task(document | {"status": "completed"} if work.entries and work.parts else document)
        if task.done:
            saved.request_id = client.request_id_of(response)
            saved.status = "completed"
            work.on_disk = work.spool.path is not None
            if work.on_disk:
                client.shield.check()  # a signal may end the run
            landing.save(work, document)
            return task
        cut = bool(work.parts)  # an image that no length said was cut
        work.forget()
        work.spool.leave() if cut else work.spool.drop()
        client.check(document, response, task=True)
        return task


def _finish(work: Work) -> Saved:
    """Download what is still to come, finish the record, remove the spool. Raises the first of the troubles."""
    saved, troubles = work.saved, work.troubles
    for path, url in work.copies:
        try:
            landing.fetch_copy(work, path, url)
        except NetError as error:
            if saved.task_id is not None or not _is_gone(error):
                raise
            troubles.append(_lost(error))
    saved.resumable = False
    saved.status = "gone" if troubles and all(trouble.http for trouble in troubles) and not saved.files else "completed"
    if saved.cost is UNKNOWN:
        within = SOON if work.asked else 0.0  # from a spool, nobody is asked
        saved.cost = estimate(work.client, saved, work.wanted or 1, within) or saved.cost
    tasks.record(work.client, saved)
    # What could not be made an image is kept as it came.
    if not any(trouble.code in ("not_an_image", "no_image") for trouble in troubles):
        work.spool.remove()
    if troubles:
        raise CallError.of(troubles[0], message="; ".join(trouble.message for trouble in troubles), partial=saved)
    came = len(saved.files) + saved.shown
    if work.wanted not in (None, came) and (came < work.wanted or work.wanted > 1):  # some models always make four
        work.client.emit(Warned(f"{work.wanted} image(s) were asked for, {came} came"))
    if saved.shown and saved.files:
        work.client.emit(Warned(f"stdout takes one image; kept in {', '.join(saved.files)}"))
    return saved


def _ended(work: Work, error: NetError | CallError | Interrupted) -> CallError:
    """The end of the call, which says what is kept of the answer and where."""
    client, saved = work.client, work.saved
    if saved.cost is UNKNOWN and saved.status == "completed":  # paid for, though it may not be here
        saved.cost = estimate(client, saved, work.wanted or 1, 0.0) or saved.cost
    status = status_of_wait(error) if isinstance(error, NetError) else None
    end = client.ended(error, saved, **({} if status is None else {"status": status}))
    if not work.spool.kept:
        return end
    told = f"what arrived is kept in {', '.join(work.spool.kept)}"
    if work.spool.left:
        told += "; if another run is still receiving it, wait for that one"
    return CallError.of(end, hint="; ".join(filter(None, [told, end.hint])))


def _is_gone(error: NetError) -> bool:
    """Whether the server of an image's address has refused it for good."""
    return error.http is not None and 400 <= error.http < 500 and not error.passing


def _lost(error: NetError) -> CallError:
    """The trouble with an image at whose address nothing is, and for which no task can be asked."""
    hint = "its address may have expired, and there is no other copy: a new run makes a new image, and pays for it"
    return CallError.of(error, status=ExitStatus.GONE, hint=hint)
