"""The images of one task, from the gateway's one answer to their places; at each step, what to do when it fails."""

from __future__ import annotations

import functools
import os
import shutil
import tempfile

from . import config, files, ledger, pricing, tasks
from .download import download
from .errors import CallError, ExitStatus, NetworkError, OutputError
from .spool import Spool, extract, is_image
from .wire import text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from .connection import Response
    from .context import Context
    from .output import Output
    from .spool import Part
    from .transport import Transport

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
        beside = os.path.dirname(os.path.abspath(target))  # of "-": the working directory
        self._kept = state or beside  # where an image goes whose place has failed
        folders = [os.path.join(state, "spool"), beside] if state else [beside]
        self._spool = Spool(folders, output.report["task_id"])
        self._document: dict[str, Any] = {}
        self._parts: list[Part] = []
        self._saved: list[str] = []
        self._trouble: CallError | None = None

    def collect(self) -> None:
        """Wait for the task, save its images and finish its record.

        Raises `CallError`, with what is left told: where something is kept, and the resume command where that would
        bring something.
        """
        try:
            if self._spool.whole:
                self._output.note("task", f"from the answer in {self._spool.path}; the gateway is not asked")
                with self._context.signals.held():
                    self._open()
                    self._save(self._document)
            else:
                self._run.wait(self._read, self._save)
            self._fetch_copies()
            self._finish()
        except BaseException as error:
            for part in self._parts:
                part.discard()
            if isinstance(error, CallError) and self._spool.path:
                error.hint = "; ".join(filter(None, [f"what arrived is kept in {self._spool.path}", error.hint]))
            if self._output.report["status"] not in ledger.ENDED:
                self._output.parting = self._run.resume_line(self._target)
            raise

    def _read(self, response: Response) -> dict[str, Any]:
        """What an answer says; one that may be the last goes through the spool."""
        document = self._spool.receive(response, tasks.is_done)
        if document:
            return document
        if self._spool.path:
            self._context.signals.check()  # from here on, `--resume` makes the image from the spool
        self._open()
        if self._parts:
            return self._document | {"status": "completed"}
        if not self._document:
            self._spool.spoil()
            raise NetworkError("the answer is not a JSON object", code="protocol", sent=True)
        if not tasks.is_done(self._document):
            self._spool.remove()
        return self._document

    def _open(self) -> None:
        """Take the spool apart: its images become parts beside the target or, where that fails, elsewhere."""

        def take_apart(place: str) -> tuple[dict[str, Any], list[Part]]:
            with self._spool.open() as source:
                return extract(source, place)

        self._document, self._parts = self._somewhere(self._target, take_apart)

    def _somewhere(self, path: str, fill: Callable[[str], T]) -> T:
        """What `fill` returns for the first place that takes its bytes: beside `path`, in the state directory, or in
        the temporary one. Raises `OutputError` where none does."""
        first = None
        for place in (path, os.path.join(self._kept, "image"), os.path.join(tempfile.gettempdir(), "image")):
            if place != "-":
                try:
                    return fill(place)
                except OSError as error:
                    first = first or error
        raise OutputError(f"cannot write the image: {first and first.strerror}")

    def _entries(self) -> list[dict[str, Any]]:
        data = self._document.get("data")
        return [entry for entry in data if isinstance(entry, dict)] if isinstance(data, list) else []

    def _paths(self, count: int) -> list[str]:
        return ["-"] * count if self._target == "-" else files.numbered(self._target, count)

    def _save(self, document: dict[str, Any]) -> None:
        """Put the parts in place. What the gateway only points to is left to `_fetch_copies`."""
        self._document = document
        for part, path in zip(self._parts, self._paths(max(len(self._entries()), len(self._parts)))):
            if part.sound:
                self._place(part.path, path, part.size, "; the gateway keeps no second copy")
            else:
                part.discard()
                self._trouble = CallError(
                    "what the gateway sent is not an image", status=ExitStatus.CUT_SHORT, code="not_an_image"
                )

    def _fetch_copies(self) -> None:
        """Download the images that came as `r2_url` alone."""
        entries = self._entries()
        for entry, path in zip(entries, self._paths(len(entries))):
            url = text_of(entry.get("r2_url"))
            if url is not None and text_of(entry.get("b64_json")) is None:
                part, size = self._somewhere(path, functools.partial(self._download, url))
                with open(part, "rb") as file:
                    sound = is_image(file.read(16))
                if not sound:
                    files.discard(part)
                    raise CallError("what the result's address holds is not an image", status=ExitStatus.CUT_SHORT)
                self._place(part, path, size, "")

    def _download(self, url: str, place: str) -> tuple[str, int]:
        file, part = files.part_of(place)
        try:
            with file:
                size = download(url, file, self._transport, self._context, self._output)
                files.sync(file)
        except BaseException:
            files.discard(part)
            raise
        return part, size

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
                reason = error.message if isinstance(error, CallError) else f"cannot write {path}: {error.strerror}"
                path = self._keep(part, path)
                self._trouble = OutputError(f"{reason}; the image is kept in {path}")
                if isinstance(error, CallError):
                    self._trouble.status = error.status
        self._saved.append(path)
        if path != "-":
            took = self._context.now() - self._context.started
            self._output.remark(f"saved {path} ({size:,} bytes) in {took:.1f} s{about}")

    def _finish(self) -> None:
        """Finish the record, and show what was saved and what it cost. Raises the trouble that there was."""
        report = self._output.report
        if not self._saved and self._trouble is None:
            self._trouble = CallError("the task completed without an image", status=ExitStatus.GONE, code="no_image")
        report["files"] = [path for path in self._saved if path != "-"] or None
        report["model"] = report["model"] or text_of(self._document.get("model"))
        usage = self._document.get("usage")
        self._output.usage(usage)
        figure = pricing.amount(usage.get("cost")) if isinstance(usage, dict) else None
        self._output.cost(None if figure is None else pricing.plain(figure))
        self._run.end("completed", os.path.abspath(self._saved[0]) if report["files"] else None)
        if self._trouble is not None and self._trouble.status in (ExitStatus.CUT_SHORT, ExitStatus.GONE):
            raise self._trouble  # the spool stays, and is told
        self._spool.remove()
        if self._trouble is not None:
            raise self._trouble
        for path in report["files"] or ():
            self._output.line(path)

    def _keep(self, part: str, path: str) -> str:
        """Move a part whose place has failed to the state directory; where it is then, come what may."""
        stem, ending = os.path.splitext("image.png" if path == "-" else os.path.basename(path))
        kept = os.path.join(self._kept, f"{stem}-{os.urandom(4).hex()}{ending}")
        try:
            files.make_private(self._kept)
            shutil.move(part, kept)
        except OSError:
            return part
        return kept
