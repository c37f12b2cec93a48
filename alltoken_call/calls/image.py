"""An image: submit → record → wait → receive → decode → place → record; at each step, what to do when it fails.

The table of what is left if a run dies is in tasks.py.
"""

from __future__ import annotations

import contextlib
import os

from ..errors import CallError, ExitStatus, Interrupted, NetError, OutputError
from ..gateways.pictures import ONCE, text_beside
from ..net import retry
from ..net.download import download
from ..store import files
from ..store.spool import BESIDE, LARGEST, Part, Spool, extract, name_of, open_left
from ..values import UNKNOWN, Note, Piped, Saved, Stored, Warned
from ..wire import object_of, text_of
from . import tasks
from .client import status_of_wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterator
    from typing import Any, TypeVar

    from ..gateways.task import Task
    from ..net.response import Response
    from ..values import Picture, Request
    from .client import Client

    T = TypeVar("T")

LONGEST_TEXT = 900  # characters of what a model says beside an image that are shown
SOON = 0.5  # seconds that prices may take once the image is in its place
ARRIVAL = 600.0  # seconds that an answer may take from its first byte, whatever --max-wait says


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
            client.admit(saved, "image", first=client.dialect.at_once, needed=once, output=tasks.place_of(saved))
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
    work = _Work(client, saved, wanted, force=force)
    try:
        with client.shield.held(tasks.GRACE):
            _ask(work, request)
        return _finish(work)
    except (NetError, CallError, Interrupted) as error:
        raise _ended_at_once(work, error) from None
    finally:
        work.forget()


def _ask(work: _Work, request: Request) -> None:
    """Send the request and put what its answer brings in its place; the answer is on disk before it is looked at."""
    client, saved = work.client, work.saved

    def attempt() -> None:
        work.asked = True
        response = client.once(request)
        saved.request_id = client.request_id_of(response)
        try:
            _receive(work, response)
        finally:
            response.close()
        with work.spool.whole() as file:
            saved.resumable = work.on_disk = work.spool.path is not None
            document = _take_apart(work, file)
        client.price(saved, client.dialect.header_cost(response.header, document.get("usage")))
        if not work.entries:
            saved.resumable = work.on_disk = False
            saved.status = "failed"
            work.spool.drop() if document else work.spool.leave()
            client.check(document, response)
            _take_figures(work, document)
            text = client.clean(text_beside(document), LONGEST_TEXT)
            message = f"the answer has no image{f': {text}' if text else ''}"
            raise CallError(message, status=ExitStatus.CUT_SHORT, code="no_image")
        if work.on_disk:
            client.shield.check()  # a signal may end the run
        _save(work, document)

    while True:
        try:
            client.repeat(attempt, request)
            return
        except NetError as error:
            request = client.without_refused(request, error)


def _ended_at_once(work: _Work, error: NetError | CallError | Interrupted) -> CallError:
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
    with tasks.orphaned(client, saved):
        work = _Work(client, saved, None, force=force)
        try:
            if _from_an_earlier_run(work):
                return _finish(work)
            raise tasks.close(client, saved)
        except (NetError, CallError, Interrupted) as error:
            raise _ended(work, error) from None
        finally:
            work.forget()


def collect(client: Client, saved: Saved, *, force: bool = False, wanted: int | None = None) -> Saved:
    """Wait for a task of image and save what it brings; `saved` is filled and returned.

    `wanted` is how many images were asked for, None if that is not known. Raises as `make_image`.
    """
    try:
        return _collect(client, saved, wanted, force=force)
    except Interrupted as signal:  # before there was any work
        raise client.ended(signal, saved) from None


def _collect(client: Client, saved: Saved, wanted: int | None, *, force: bool) -> Saved:
    work = _Work(client, saved, wanted, force=force)
    try:
        if not _from_an_earlier_run(work):
            if wanted is None and saved.target not in (None, "-"):
                files.check_new([saved.target], force=force)
            while not (task := tasks.poll(client, saved, lambda: _look(work))).done:
                tasks.pause(client, saved, task)
        return _finish(work)
    except (NetError, CallError, Interrupted) as error:
        raise _ended(work, error) from None
    finally:
        work.forget()


class _Work:
    """What collecting the images of one task has led to so far; the steps below fill it."""

    def __init__(self, client: Client, saved: Saved, wanted: int | None, *, force: bool) -> None:
        self.client = client
        self.saved = saved
        self.target = saved.target or "-"
        self.wanted = wanted
        self.force = force
        beside = None if self.target == "-" else os.path.dirname(files.absolute(self.target))
        self.kept = client.state or beside or files.temporary()  # where an image goes whose place has failed
        spools = os.path.join(client.state, "spool") if client.state else None
        folders = [spools, beside and os.path.join(beside, BESIDE)]
        name = name_of(client.gateway.root, "image", saved.task_id or f"row {saved.row or os.urandom(8).hex()}")
        self.spool = Spool([folder for folder in folders if folder], name)
        self.parts: list[Part] = []  # images that are not in their place yet
        self.entries: list[dict[str, str | None]] = []  # what the answer says of its images
        self.asked = False  # the gateway was asked by this run
        self.arrived = False  # a whole answer has come
        self.misplaced: OSError | None = None  # why the parts do not lie beside the target
        self.on_disk = False  # the whole answer is in a file that a later run finds
        self.copies: list[tuple[str, str]] = []  # path and address of images that are still to be downloaded
        self.troubles: list[CallError] = []

    def forget(self) -> None:
        """Remove the parts that found no place."""
        for part in self.parts:
            part.discard()
        self.parts = []


def _from_an_earlier_run(work: _Work) -> bool:
    """Whether a whole answer was left by a run that was killed: then its images are saved, and nobody is asked."""
    for path in work.spool.left:
        file = open_left(path)
        if file is None:  # another run was faster, or it is not ours
            continue
        with file, work.client.shield.held():
            document = _take_apart(work, file)
            if work.entries:
                work.on_disk = True
                work.client.emit(Note("task", f"from the answer in {path}; the gateway is not asked"))
                _save(work, document)
                return True
            work.forget()
    return False


def _look(work: _Work) -> Task:
    """One GET: what it says of the task; if it brings the images, they are in their places then.

    Signals are held back from its first byte until the answer is on the disk.
    """
    client, saved = work.client, work.saved
    request = client.dialect.poll("image", saved.task_id or "", grace=tasks.LATE)
    with client.shield.held(tasks.GRACE):
        work.asked = True
        response = client.once(request)
        try:
            data = _receive(work, response)
        finally:
            response.close()
        if data is not None:
            reply = client.read(response, data, task=True)
            task = client.dialect.task(reply.document)
            task.pause = reply.retry_after if task.pause is None else task.pause
            return task
        with work.spool.whole() as file:
            document = _take_apart(work, file)
        task = client.dialect.task(document | {"status": "completed"} if work.entries and work.parts else document)
        if task.done:
            saved.request_id = client.request_id_of(response)
            saved.status = "completed"
            work.on_disk = work.spool.path is not None
            if work.on_disk:
                client.shield.check()  # a signal may end the run
            _save(work, document)
            return task
        cut = bool(work.parts)  # an image that no length said was cut
        work.forget()
        work.spool.leave() if cut else work.spool.drop()
        client.check(document, response, task=True)
        return task


def _receive(work: _Work, response: Response) -> bytes | None:
    """Read an answer; a small one that cannot be the last is returned, any other is in the spool then (None).

    Raises `NetError` if it breaks off; what came is kept.
    """
    data = response.read()
    work.client.check_root(response, data)
    work.client.shield.firm()
    response.extend(ARRIVAL)
    document = object_of(data)  # if it is an object, it is whole, so that nothing more can come
    if document and not work.client.dialect.may_hold_images(document):
        return data
    work.spool.begin()
    try:
        while data:
            work.spool.write(data)
            if work.spool.size > LARGEST:
                raise NetError(f"the answer is larger than {LARGEST} bytes", "too_large", sent=True)
            data = response.read()
    except BaseException:
        work.spool.leave()
        raise
    return None


def _take_apart(work: _Work, file: io.FileIO | io.BytesIO) -> dict[str, Any]:
    """The answer in `file`; its images become parts beside the target or, if that fails, elsewhere."""

    def fill(place: str) -> tuple[dict[str, Any], list[Part]]:
        file.seek(0)
        document, parts = extract(file, place)
        work.entries = work.client.dialect.images(document)
        _decode_the_others(work.entries, parts, place)
        return document, parts

    document, work.parts = _somewhere(work, work.target, fill)
    work.arrived = bool(document)
    return document


def _decode_the_others(entries: list[dict[str, str | None]], parts: list[Part], place: str) -> None:
    """Images that `extract` did not see: in data URLs, or under a key that was written with escapes."""
    for entry in entries:
        encoded = entry["b64_json"]
        if encoded is not None and not (encoded.isascii() and encoded.isdigit() and int(encoded) < len(parts)):
            part = Part(place)
            parts.append(part)
            part.add(encoded.encode("ascii", "replace"))
            part.end()
            entry["b64_json"] = str(len(parts) - 1)


def _somewhere(work: _Work, path: str, fill: Callable[[str], T]) -> T:
    """What `fill` returns for the first place that takes its bytes: beside `path`, in the state directory, or in the
    temporary one. Raises `OutputError` if none does."""
    work.misplaced = None

    def places() -> Iterator[str]:
        yield path
        yield os.path.join(work.kept, "image")
        yield os.path.join(files.temporary(), "image")

    for place in places():
        if place != "-":
            try:
                return fill(os.path.realpath(place))
            except OSError as error:
                work.misplaced = work.misplaced or error
    raise OutputError(f"cannot write the image: {work.misplaced and work.misplaced.strerror}")


def _save(work: _Work, document: dict[str, Any]) -> None:
    """Put the parts in place; what the gateway only points to is downloaded later."""
    saved = work.saved
    saved.status = "completed"
    saved.model = saved.model or text_of(document.get("model"))
    _take_figures(work, document)
    if text := text_beside(document):
        work.client.emit(Note("text", work.client.clean(text, LONGEST_TEXT)))
    parts = {str(number): part for number, part in enumerate(work.parts)}
    for entry, path in zip(work.entries, _paths(work, len(work.entries))):
        part, url = parts.pop(entry["b64_json"] or "", None), entry["url"]
        if part is not None and part.sound:
            work.parts.remove(part)  # from here on it is the user's
            _place(work, part.path, path, part.size, part.head, only=not url)
        elif url is not None:
            work.copies.append((path, url))
        elif part is not None:
            work.troubles.append(_not_an_image("what the gateway sent is not an image"))
    work.forget()
    if not (saved.files or saved.shown or work.copies or work.troubles):
        what = "the task completed without an image"
        work.troubles.append(CallError(what, status=ExitStatus.GONE, code="no_image"))


def _take_figures(work: _Work, document: dict[str, Any]) -> None:
    usage = document.get("usage")
    work.saved.usage = usage if isinstance(usage, dict) else None
    work.client.price(work.saved, work.client.dialect.usage_cost(work.saved.usage))


def _paths(work: _Work, count: int) -> list[str]:
    """Where `count` images go. stdout takes one image: the others are kept in the state directory."""
    if work.target != "-":
        paths = files.numbered(work.target, max(count, work.wanted or 1))[:count]
        return [work.target, *paths[1:]] if work.saved.exact else paths
    with contextlib.suppress(OSError):
        files.make_private(work.kept)
    others = [os.path.join(work.kept, files.new_name("image")) for _ in range(count - 1)]
    return ["-", *others][:count]


def _place(work: _Work, part: str, path: str, size: int, head: bytes, *, only: bool) -> None:
    """Make a part, which begins with `head`, the file at `path`, or hand it over for stdout; if that fails, keep it and
    note the trouble."""
    client, saved = work.client, work.saved
    try:
        if path == "-":
            _hand_over(work, part)
            return
        files.put(part, path, force=work.force and _was_meant(work, path))
    except (CallError, OSError) as error:
        if isinstance(error, FileExistsError) and files.same(part, path):  # an earlier run was killed just here
            files.discard(part)
        else:
            reason = _why(work, error, path)
            path = files.keep(part, work.kept, "image.png" if path == "-" else os.path.basename(path))
            status = error.status if isinstance(error, CallError) else ExitStatus.CANNOT_WRITE
            work.troubles.append(
                CallError(f"{reason}; the image is kept in {path}", code="cannot_write", status=status)
            )
    saved.files.append(path)
    client.emit(Stored(path, size, only=only))
    if (found := files.media_type(head)) and files.ends_otherwise(path, found):
        client.emit(Warned(f"{path} holds another format than its name says: {found}"))


def _hand_over(work: _Work, part: str) -> None:
    """Hand a part over for stdout, and remove it. The reader may stand still: a signal ends that if the answer is on
    the disk, where --resume finds it."""
    with contextlib.ExitStack() as stack:
        if work.on_disk:
            stack.enter_context(work.client.shield.lifted())
        try:
            work.client.emit(Piped(part))
        except Interrupted:
            files.discard(part)
            raise
    work.saved.shown = 1
    files.discard(part)


def _was_meant(work: _Work, path: str) -> bool:
    """Whether --force was about the file at `path`: not if more images came than were asked for."""
    return work.wanted is None or path in files.numbered(work.target, work.wanted)


def _why(work: _Work, error: CallError | OSError, path: str) -> str:
    if isinstance(error, CallError):
        return error.message
    cause = work.misplaced or error  # a part that had to be made elsewhere fails over here for another reason
    return f"cannot write {path}: {cause.strerror}"


def _fetch_copy(work: _Work, path: str, url: str) -> None:
    """Download an image that the gateway only points to, and place it."""
    client = work.client

    def fill(place: str) -> tuple[str, int]:
        file, part = files.part_of(place)
        try:
            with file:
                size = download(url, file, client.transport, client.clock, client.emit, home=client.gateway.root)
                files.sync(file)
        except BaseException as error:
            files.discard(part)
            if isinstance(error, NetError) and error.code == "address":
                work.saved.resumable = False  # it is never opened
            raise
        return part, size

    part, size = _somewhere(work, path, fill)
    with open(part, "rb") as file:
        head = file.read(16)
    if files.is_image(head):
        _place(work, part, path, size, head, only=False)
    else:
        files.discard(part)
        work.troubles.append(_not_an_image("what the result's address holds is not an image"))


def _finish(work: _Work) -> Saved:
    """Download what is still to come, finish the record, remove the spool. Raises the first of the troubles."""
    saved, troubles = work.saved, work.troubles
    for path, url in work.copies:
        try:
            _fetch_copy(work, path, url)
        except NetError as error:
            if saved.task_id is not None or not _is_gone(error):
                raise
            troubles.append(_lost(error))
    saved.resumable = False
    saved.status = "gone" if troubles and all(trouble.http for trouble in troubles) and not saved.files else "completed"
    if saved.cost is UNKNOWN:
        within = SOON if work.asked else 0.0  # from a spool, nobody is asked
        saved.cost = work.client.estimate(saved, work.wanted or 1, within) or saved.cost
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


def _ended(work: _Work, error: NetError | CallError | Interrupted) -> CallError:
    """The end of the call, which says what is kept of the answer and where."""
    client, saved = work.client, work.saved
    if saved.cost is UNKNOWN and saved.status == "completed":  # paid for, though it may not be here
        saved.cost = client.estimate(saved, work.wanted or 1, 0.0) or saved.cost
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


def _not_an_image(message: str) -> CallError:
    return CallError(message, status=ExitStatus.CUT_SHORT, code="not_an_image")
