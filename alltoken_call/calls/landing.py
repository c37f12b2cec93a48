"""The answer that brings images: received on the disk, taken apart, each image put in its place."""

from __future__ import annotations

import contextlib
import os

from ..errors import CallError, ExitStatus, Interrupted, NetError, OutputError
from ..gateways.pictures import text_beside
from ..net.download import download
from ..store import files
from ..store.spool import BESIDE, LARGEST, Part, Spool, extract, name_of
from ..values import Note, Piped, Saved, Stored, Warned
from ..wire import object_of, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterator
    from typing import Any, TypeVar

    from ..net.response import Response
    from .client import Client

    T = TypeVar("T")

LONGEST_TEXT = 900  # characters of what a model says beside an image that are shown
ARRIVAL = 600.0  # seconds that an answer may take from its first byte, whatever --max-wait says


class Work:
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


def receive(work: Work, response: Response) -> bytes | None:
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


def take_apart(work: Work, file: io.FileIO | io.BytesIO) -> dict[str, Any]:
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


def _somewhere(work: Work, path: str, fill: Callable[[str], T]) -> T:
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


def save(work: Work, document: dict[str, Any]) -> None:
    """Put the parts in place; what the gateway only points to is downloaded later."""
    saved = work.saved
    saved.status = "completed"
    saved.model = saved.model or text_of(document.get("model"))
    take_figures(work, document)
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


def take_figures(work: Work, document: dict[str, Any]) -> None:
    """Take usage and cost from the answer."""
    usage = document.get("usage")
    work.saved.usage = usage if isinstance(usage, dict) else None
    work.client.price(work.saved, work.client.dialect.usage_cost(work.saved.usage))


def _paths(work: Work, count: int) -> list[str]:
    """Where `count` images go. stdout takes one image: the others are kept in the state directory."""
    if work.target != "-":
        paths = files.numbered(work.target, max(count, work.wanted or 1))[:count]
        return [work.target, *paths[1:]] if work.saved.exact else paths
    with contextlib.suppress(OSError):
        files.make_private(work.kept)
    others = [os.path.join(work.kept, files.new_name("image")) for _ in range(count - 1)]
    return ["-", *others][:count]


def _place(work: Work, part: str, path: str, size: int, head: bytes, *, only: bool) -> None:
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


def _hand_over(work: Work, part: str) -> None:
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


def _was_meant(work: Work, path: str) -> bool:
    """Whether --force was about the file at `path`: not if more images came than were asked for."""
    return work.wanted is None or path in files.numbered(work.target, work.wanted)


def _why(work: Work, error: CallError | OSError, path: str) -> str:
    if isinstance(error, CallError):
        return error.message
    cause = work.misplaced or error  # a part that had to be made elsewhere fails over here for another reason
    return f"cannot write {path}: {cause.strerror}"


def fetch_copy(work: Work, path: str, url: str) -> None:
    """Download an image that the gateway only points to, and place it."""
    client = work.client

    def fill(place: str) -> tuple[str, int]:
        file, part = files.part_of(place)
        try:
            with file:
                size = download(url, file, client.transport, home=client.gateway.root)
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


def _not_an_image(message: str) -> CallError:
    return CallError(message, status=ExitStatus.CUT_SHORT, code="not_an_image")
