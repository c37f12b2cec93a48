"""stdout and stderr: bytes out, in time, inert on a terminal; and meta lines, progress, reasoning.

stdout carries the result alone, byte for byte in a pipe; on a terminal, and always on stderr, characters that could
drive the terminal are escaped. A reader that stands still is waited for until --max-wait or the first signal.
"""

from __future__ import annotations

import contextlib
import os

from .. import config
from ..errors import CallError, ExitStatus, OutputError
from ..text import inert, one_line, redacted
from ..values import Downloading, Note, Piped, Ready, Reasoning, Stored, Submitted, Text, Trace, Waiting, Warned
from .context import is_terminal
from .stream import Stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..request import Request
    from ..values import Event
    from .context import Context

_COLOURS = {"error": "31", "warning": "33"}
LAST_WORDS = 0.3  # seconds that stderr may stand still once the run is ending


class Output:
    """The streams of one command."""

    def __init__(
        self, context: Context, *, json_mode: bool = False, quiet: bool = False, verbose: bool = False
    ) -> None:
        self.json_mode = json_mode
        self.quiet = quiet
        self.verbose = verbose
        self.thinking = False  # the model's reasoning is shown
        self._submitted: Submitted | None = None  # the task that was accepted
        self._told = {""}  # ids of tasks
        self.documented = False  # stdout has its JSON document
        self.gateway: str | None = None  # the one that --gateway names
        self.ending = False  # nothing is waited for any more
        self._context = context
        self._stdout = Stream(context.stdout)
        self._stderr = Stream(context.stderr)
        self._secrets = config.secrets(context.environ)
        plain = context.environ.get("NO_COLOR") or context.environ.get("TERM") == "dumb"
        self._err_terminal = is_terminal(context.stderr)
        self._lively = self._err_terminal and not plain
        self._half = ""  # a high surrogate whose other half comes with the next delta
        self._column = 0  # 0 if stdout is at the beginning of a line
        self._warned: set[str] = set()
        self._status: str | None = None  # the last one that was told
        self._living = False  # there is a progress line on the terminal
        self._unended = False  # stderr is inside a line of reasoning
        self._thought = ""  # the end of the reasoning, which may be the beginning of the key
        self.to_terminal = is_terminal(context.stdout)

    @property
    def stdout_works(self) -> bool:
        """Whether stdout was open, and no write has failed."""
        return self._stdout.file is not None

    def check_stdout(self) -> None:
        """Raise `OutputError` if stdout is closed: it is noticed before anything is sent."""
        if not self.stdout_works:
            raise OutputError("stdout is closed")

    def hide(self, secret: str) -> None:
        """Redact a key that does not come from the environment, from here on."""
        if secret and secret not in self._secrets:
            self._secrets.append(secret)

    # Events

    def on_event(self, event: Event) -> None:
        """Show or tell what happens in a call; the one place that does."""
        if isinstance(event, Reasoning):
            if self.thinking:
                self.reasoning(event.text)
        elif isinstance(event, Trace):
            self.debug(event.text)
        elif isinstance(event, Warned):
            self.warning(event.text)
        elif isinstance(event, Text):
            self.text(event.text)
        elif isinstance(event, Note):
            self.note(event.tag, event.text)
        elif isinstance(event, Waiting):
            if event.status != self._status and not self.lively:
                self.note("status", f"{one_line(event.status, 60)} after {event.seconds:.1f} s")
            self._status = event.status
            self.progress(f"{one_line(event.task_id, 40)} {event.status} {event.seconds:.0f} s")
        elif isinstance(event, Downloading):
            self.progress(f"downloading {event.done:,} bytes" + (f" of {event.total:,}" if event.total else ""))
        elif isinstance(event, Submitted):
            self._submitted = event
            client = self._context.made
            if not self.quiet or not (client and client.ledger and client.ledger.works):
                self.tell_task(event.task_id)
        elif isinstance(event, Stored):
            only = "; the gateway keeps no second copy" if event.only else ""
            took = self._context.clock.gone()
            self.remark(f"saved {event.path} ({event.size:,} bytes) in {took:.1f} s{only}")
        elif isinstance(event, Ready):
            from .report import facts

            self.remark(facts(event.clip))
        elif isinstance(event, Piped):
            with open(event.path, "rb") as file:
                while block := file.read(1 << 16):
                    self.binary(block)

    def ledger_fails(self, reason: str) -> None:
        """Warn that nothing is recorded any more: from now on stderr alone has the task's id."""
        self.warning(reason)
        if self._submitted is not None:
            self.tell_task(self._submitted.task_id)

    def tell_task(self, task_id: str) -> None:
        """Tell a task's id, also under --quiet, unless that was done."""
        if task_id not in self._told:
            self._told.add(task_id)
            known = self._submitted is not None and self._submitted.task_id == task_id and self._submitted.about
            about = f" ({one_line(known, 200)})" if known else ""
            self.say(f"submitted {one_line(task_id, 200)}{about}")

    # stdout

    def text(self, text: str) -> None:
        """A piece of the answer, shown at once. Under --json the document alone has it."""
        if self.json_mode or not text:
            return
        text = self._half + text
        self._half = ""
        if "\ud800" <= text[-1] <= "\udbff":
            self._half, text = text[-1], text[:-1]
        self._show(text)

    def end_text(self) -> None:
        """End the answer with a newline, unless it has one or is empty."""
        if not self.stdout_works:
            return
        if self._half:
            self._half = ""
            self._show("\ufffd")
        if self._column:
            self._show("\n")

    def line(self, text: str) -> None:
        """One line of the result."""
        if not self.json_mode:
            self._show(text + "\n")

    def path(self, path: str) -> None:
        """A path as a line of the result: the very bytes of its name in a pipe."""
        if self.json_mode:
            return
        if self.to_terminal or os.name == "nt":
            self._show(path + "\n")
        else:
            self.binary(os.fsencode(path) + b"\n")

    def table(self, rows: list[list[str]], ends: list[str] | None = None) -> None:
        """Lines with aligned columns: the first to the left, the others to the right; `ends` follow the lines below the
        head."""
        widths = [max(len(cells[column]) for cells in rows) for column in range(len(rows[0]))]
        for (first, *others), end in zip(rows, ["", *(ends or [""] * len(rows))]):
            right = (f"{cell:>{width}}" for cell, width in zip(others, widths[1:]))
            self.line("  ".join([f"{one_line(first):<{widths[0]}}", *right, end]).rstrip())

    @property
    def is_utf8(self) -> bool:
        """Whether stdout takes any character."""
        return (getattr(self._stdout.file, "encoding", None) or "").lower().replace("-", "") == "utf8"

    def document(self, document: Any) -> None:
        """The one JSON document of stdout."""
        import json  # not for --help

        self.documented = True
        self._show(json.dumps(document, allow_nan=False) + "\n")

    def request(self, request: Request | None) -> None:
        """What --dry-run shows: the request, which is not sent; None if there would be none."""
        shown: dict[str, Any] = {"method": None, "url": None, "body": None}
        if request is not None:
            shown = request.shown()
        self.document(shown)

    def _show(self, text: str) -> None:
        if not text:
            return
        if self.to_terminal and self._err_terminal:
            self._end_thought()
        self._column = int(not text.endswith("\n"))
        encoding = "utf-8"
        if self.to_terminal and self._stdout.file is not None:
            text, encoding = inert(text), self._stdout.file.encoding
        try:
            data = text.encode(encoding)
        except UnicodeEncodeError:  # halves of a surrogate pair from two deltas, a lone half, or a narrow terminal
            text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
            data = text.encode(encoding, "backslashreplace")
        self.binary(data)

    def binary(self, data: bytes) -> None:
        """Bytes for stdout, as they are. Raises `OutputError`, and `CallError` with status 141 if the reader went
        away, 9 if it stands still at the deadline."""
        self._clear()
        self.check_stdout()
        try:
            self._stdout.write(data, self._context.clock.left)
        except (OSError, ValueError) as error:
            if isinstance(error, BrokenPipeError):
                self._stderr.file = None  # status 141 tells it
                raise CallError("", status=ExitStatus.BROKEN_PIPE, code="broken_pipe") from None
            if isinstance(error, TimeoutError):
                message = "the time of --max-wait is over, and stdout is not being read"
                raise CallError(message, status=ExitStatus.CUT_SHORT, code="max_wait") from None
            reason = getattr(error, "strerror", None) or "closed"
            raise OutputError(f"cannot write to stdout: {reason}") from None

    # stderr

    def note(self, tag: str, text: str) -> None:
        """A meta line `[tag] text`; --quiet drops it."""
        self.remark(f"[{tag}] {text}")

    def remark(self, text: str) -> None:
        """A meta line; --quiet drops it."""
        if not self.quiet:
            self.say(text)

    def dim(self, text: str) -> None:
        """A meta line in a faint colour; --quiet drops it."""
        if not self.quiet:
            self._clear()
            self._end_thought()
            self._emit(f"\x1b[2m{inert(text)}\x1b[0m\n" if self._lively else f"{inert(text)}\n")

    def gap(self) -> None:
        """An empty line between the answer and what is told of it, if both are on a terminal; --quiet drops it."""
        if not self.quiet and not self.json_mode and self.to_terminal and self._err_terminal:
            self._end_thought()
            self._emit("\n")

    def tell(self, error: CallError) -> None:
        """The lines of an error that does not end the run."""
        from .report import tell_error

        tell_error(error, self)

    def debug(self, text: str) -> None:
        """A line for --verbose."""
        if self.verbose:
            self.say(f"[http] {text}")

    def warning(self, text: str) -> None:
        """A line that stays under --quiet, and is said once."""
        if text not in self._warned:
            self._warned.add(text)
            self.say(f"[warning] {text}")

    def say(self, text: str) -> None:
        """A line on stderr, also under --quiet."""
        self._clear()
        self._end_thought()
        text = inert(text)
        if self._lively and text.startswith("["):
            tag, _, rest = text[1:].partition("]")
            if tag in _COLOURS:
                text = f"\x1b[{_COLOURS[tag]}m[{tag}]\x1b[0m{rest}"
        self._emit(text + "\n")

    def reasoning(self, text: str) -> None:
        """A piece of the model's reasoning, as it comes; the key is redacted also if it is split over pieces."""
        if not text or self.quiet:
            return
        self._clear()
        text = self.without_key(self._thought + text)
        held = max((_overlap(text, secret) for secret in self._secrets), default=0)
        self._thought = text[len(text) - held :]
        text = text[: len(text) - held]
        if text:
            self._unended = not text.endswith("\n")
            self._emit(inert(text))

    def _end_thought(self) -> None:
        """End the reasoning with a line break, if there was any."""
        if self._thought:
            self._emit(inert(self._thought))
            self._thought, self._unended = "", True
        if self._unended:
            self._unended = False
            self._emit("\n")

    def progress(self, text: str) -> None:
        """The progress line: replaced by the next, gone before anything else is written. Only on a terminal."""
        if self.lively:
            self._living = True
            self._emit(f"\r{one_line(inert(text), self._width() - 1)}\x1b[K")

    def _width(self) -> int:
        try:
            columns = os.get_terminal_size(self._stderr.file.fileno()).columns  # type: ignore[union-attr]
            return max(10, min(79, columns or 79))  # 0: the terminal does not say
        except (AttributeError, OSError, ValueError):
            return 79

    @property
    def lively(self) -> bool:
        """Whether `progress` shows anything."""
        return self._lively and not self.quiet

    def without_key(self, text: str) -> str:
        """`text` for a document or a line."""
        return redacted(text, *self._secrets)

    def _clear(self) -> None:
        if self._living:
            self._living = False
            self._emit("\r\x1b[K")

    def _emit(self, text: str) -> None:
        if self._stderr.file is None:
            return
        data = self.without_key(text).encode(self._stderr.file.encoding, "backslashreplace")
        with contextlib.suppress(OSError, ValueError):  # nobody listens any more: no reason to fail
            self._stderr.write(data, self._patience)

    def _patience(self) -> float:
        """Seconds that stderr may stand still."""
        left = self._context.clock.left()
        return max(left, LAST_WORDS) if not self.ending else LAST_WORDS


def _overlap(text: str, secret: str) -> int:
    """How many characters at the end of `text` may be the beginning of `secret`."""
    sizes = range(min(len(secret) - 1, len(text)), 0, -1)
    return next((size for size in sizes if secret.startswith(text[-size:])), 0)
