"""The images of one task, from the gateway's one answer to their places; at each step, what to do when it fails."""

from __future__ import annotations

import contextlib
import io
import os
import shutil

from .. import config
from ..store import files
from ..gateways import pricing
from . import tasks
from ..net.download import download
from ..errors import CallError, ExitStatus, NetworkError, OutputError
from ..store.spool import Spool, extract, is_image
from ..wire import text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from ..cli.context import Context
    from ..cli.output import Output
    from ..net.response import Response
    from ..store.spool import Part
    from ..net.transport import Transport

    T = TypeVar("T")


class Results:
    """Waits for a task and saves its images at `target` (`-`: stdout)."""

    def __init__(
        self, context: Context, output: Output, transport: Transport, run: tasks.Tasks, target: str, *, force: bool
    ) -> None:
        self._context = context
        self._output = output
        self._transport = transport
        self._run = run
        self._target = target
        self._force = force
        state = config.state_dir(context.environ)
        beside = None if target == "-" else os.path.dirname(os.path.abspath(target))
        self._kept = state or beside or files.temporary()  # where an image goes whose place has failed
        folders = [os.path.join(state, "spool") if state else None, beside]
        self._spool = Spool([folder for folder in folders if folder], output.report["task_id"])
        self._document: dict[str, Any] = {}
        self._parts: list[Part] = []
        self._misplaced: OSError | None = None  # why the parts do not lie beside the target
        self._copies: list[tuple[str, str]] = []  # path and address of images that are still to be downloaded
        self._saved: list[str] = []
        self._troubles: list[CallError] = []

    def collect(self, *, resumed: bool = False) -> None:
        """Wait for the task, save its images and finish its record.

        Raises `CallError`, with what is left told: where something is kept, and the resume command where that would
        bring something.
        """
        try:
            if not self._from_an_earlier_run():
                if resumed and self._target != "-":
                    files.check_new([self._target], force=self._force)
                self._run.wait(self._read, self._save)
            for path, url in self._copies:
                self._fetch_copy(path, url)
            self._finish()
        except BaseException as error:
            for part in self._parts:
                part.discard()
            if isinstance(error, CallError) and self._spool.kept:
                told = f"what arrived is kept in {', '.join(self._spool.kept)}"
                if self._spool.left:
                    told += "; if another run is still receiving it, wait for that one"
                error.hint = "; ".join(filter(None, [told, error.hint]))
            if not self._run.ended:
                self._output.parting = self._run.resume_line(self._target)
            raise

    def _from_an_earlier_run(self) -> bool:
        """Whether a whole answer was left by a run that was killed: then its images are saved, and nobody is asked."""
        for path in self._spool.left:
            try:
                file = io.FileIO(path)
            except OSError:  # another run was faster
                continue
            with file, self._context.signals.held():
                document = self._take_apart(file)
                if tasks.is_done(document):
                    self._output.note("task", f"from the answer in {path}; the gateway is not asked")
                    self._save(document)
                    return True
                self._forget()
        return False

    def _read(self, response: Response) -> dict[str, Any]:
        """What an answer says; its images, if it is the last one, are parts then."""

        def begun() -> None:
            self._context.signals.firm()
            self._context.signals.told = self._tell
            response.unhurried()

        document = self._spool.receive(response, begun, lambda one: tasks.is_done(one) or "data" in one)
        if document:
            return document
        with self._spool.open() as file:
            document = self._take_apart(file)
        if tasks.is_done(document):
            return document
        cut = bool(self._parts)  # an image that no length said was cut
        self._forget()
        self._spool.leave() if cut else self._spool.drop()
        if not document:
            raise NetworkError("the answer is not a JSON object", code="protocol", sent=True)
        return document

    def _tell(self) -> None:
        with contextlib.suppress(RuntimeError):  # the signal came while a line was being written
            self._output.note("status", "stopping as soon as what is arriving is saved")

    def _take_apart(self, file: io.FileIO | io.BytesIO) -> dict[str, Any]:
        """The answer in `file`; its images become parts beside the target or, where that fails, elsewhere."""

        def fill(place: str) -> tuple[dict[str, Any], list[Part]]:
            file.seek(0)
            return extract(file, place)

        self._document, self._parts = self._somewhere(self._target, fill)
        if self._document and self._parts:  # whatever it calls its status
            self._document["status"] = "completed"
        return self._document

    def _forget(self) -> None:
        for part in self._parts:
            part.discard()
        self._parts = []

    def _somewhere(self, path: str, fill: Callable[[str], T]) -> T:
        """What `fill` returns for the first place that takes its bytes: beside `path`, in the state directory, or in
        the temporary one. Raises `OutputError` where none does."""
        self._misplaced = None
        for place in (path, os.path.join(self._kept, "image"), os.path.join(files.temporary(), "image")):
            if place != "-":
                try:
                    return fill(place)
                except OSError as error:
                    self._misplaced = self._misplaced or error
        raise OutputError(f"cannot write the image: {self._misplaced and self._misplaced.strerror}")

    def _save(self, document: dict[str, Any]) -> None:
        """Put the parts in place; what the gateway only points to is downloaded later. The answer is on disk, so that
        a signal may end the run before."""
        if self._spool.path or self._spool.left:
            self._context.signals.check()
        data = document.get("data")
        entries = [entry for entry in data if isinstance(entry, dict)] if isinstance(data, list) else []
        parts = {str(number): part for number, part in enumerate(self._parts)}
        paths = ["-"] * len(entries) if self._target == "-" else files.numbered(self._target, len(entries))
        for entry, path in zip(entries, paths):
            part, url = parts.get(str(entry.get("b64_json"))), text_of(entry.get("r2_url"))
            if part is not None and part.sound:
                self._parts.remove(part)  # from here on it is the user's
                self._place(part.path, path, part.size, "" if url else "; the gateway keeps no second copy")
            elif url is not None:
                self._copies.append((path, url))
            elif part is not None:
                self._troubles.append(_no_image("what the gateway sent is not an image"))
        self._forget()
        if not (self._saved or self._copies or self._troubles):
            what = "the task completed without an image"
            self._troubles.append(CallError(what, status=ExitStatus.GONE, code="no_image"))

    def _fetch_copy(self, path: str, url: str) -> None:
        def fill(place: str) -> tuple[str, int]:
            file, part = files.part_of(place)
            try:
                with file:
                    size = download(url, file, self._transport, self._context, self._output)
                    files.sync(file)
            except BaseException:
                files.discard(part)
                raise
            return part, size

        part, size = self._somewhere(path, fill)
        with open(part, "rb") as file:
            sound = is_image(file.read(16))
        if sound:
            self._place(part, path, size, "")
        else:
            files.discard(part)
            self._troubles.append(_no_image("what the result's address holds is not an image"))

    def _place(self, part: str, path: str, size: int, about: str) -> None:
        """Make a part the file at `path`, or the bytes on stdout; where that fails, keep it and note the trouble."""
        try:
            if path == "-":
                with open(part, "rb") as file:
                    while block := file.read(1 << 20):
                        self._output.binary(block)
                files.discard(part)
            else:
                files.put(part, path, force=self._force)
        except (CallError, OSError) as error:
            if isinstance(error, FileExistsError) and files.same(part, path):  # an earlier run was killed just here
                files.discard(part)
            else:
                reason = error.message if isinstance(error, CallError) else self._why(error, path)
                path = self._keep(part, path)
                trouble = OutputError(f"{reason}; the image is kept in {path}")
                trouble.status = error.status if isinstance(error, CallError) else trouble.status
                self._troubles.append(trouble)
        self._saved.append(path)
        if path != "-":
            took = self._context.now() - self._context.started
            self._output.remark(f"saved {path} ({size:,} bytes) in {took:.1f} s{about}")

    def _why(self, error: OSError, path: str) -> str:
        cause = self._misplaced or error  # a part that had to be made elsewhere fails over here for another reason
        return f"cannot write {path}: {cause.strerror}"

    def _keep(self, part: str, path: str) -> str:
        """Give a part whose place has failed a name of its own, in the state directory if that has room; where it is
        then, come what may."""
        stem, ending = os.path.splitext("image.png" if path == "-" else os.path.basename(path))
        for folder in (self._kept, os.path.dirname(part)):
            kept = os.path.join(folder, f"{stem[:100]}-{os.urandom(4).hex()}{ending[:10]}")
            try:
                files.make_private(folder)
                os.chmod(part, 0o600)
                shutil.move(part, kept)
                return kept
            except OSError:
                files.discard(kept)  # it may be a half
        return part

    def _finish(self) -> None:
        """Finish the record, and show what was saved and what it cost. Raises the first of the troubles."""
        report = self._output.report
        report["files"] = [path for path in self._saved if path != "-"] or None
        report["model"] = report["model"] or text_of(self._document.get("model"))
        usage = self._document.get("usage")
        self._output.usage(usage)
        figure = pricing.amount(usage.get("cost")) if isinstance(usage, dict) else None
        self._output.cost(None if figure is None else pricing.plain(figure))
        self._run.end("completed", os.path.abspath(self._saved[0]) if report["files"] else None)
        # What could not be made an image is kept as it came.
        if not any(trouble.status in (ExitStatus.CUT_SHORT, ExitStatus.GONE) for trouble in self._troubles):
            self._spool.remove()
        if self._troubles:
            first = self._troubles[0]
            first.message = "; ".join(trouble.message for trouble in self._troubles)
            raise first
        for path in report["files"] or ():
            self._output.line(path)


def _no_image(message: str) -> CallError:
    return CallError(message, status=ExitStatus.CUT_SHORT, code="not_an_image")
