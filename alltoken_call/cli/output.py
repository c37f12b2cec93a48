"""stdout and stderr: the result as text or as one JSON document, meta lines, progress, and making text inert.

Everything that a command says goes through one `Output`. stdout carries the result alone, byte for byte in a pipe;
on a terminal, and always on stderr, characters that could drive the terminal are escaped.
"""

from __future__ import annotations

import contextlib
import os

from .context import is_terminal
from ..errors import CallError, ExitStatus, OutputError
from ..text import inert, one_line, redacted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

    from .context import Context

_ALWAYS = ("ok", "command", "model", "usage", "cost", "request_id", "error")
_COUNTS = {
    "prompt_tokens": "prompt",
    "completion_tokens": "completion",
    "input_tokens": "input",
    "output_tokens": "output",
    "total_tokens": "total",
}
_COLOURS = {"error": "31", "warning": "33"}


class Output:
    """What one command shows. `report` is the JSON document in the making; it is also what the ledger records."""

    def __init__(
        self,
        context: Context,
        command: str | None,
        fields: tuple[str, ...] = (),
        *,
        json_mode: bool = False,
        quiet: bool = False,
        verbose: bool = False,
    ) -> None:
        self.json_mode = json_mode
        self.quiet = quiet
        self.verbose = verbose
        self.report: dict[str, Any] = dict.fromkeys((*_ALWAYS, *fields))
        self.report |= {"ok": False, "command": command, "cost": {"usd": None, "source": None}}
        self.parting: str | None = None  # the last line of stderr, after an error: the resume command
        self.reached = False  # a request with the key has left us
        self.unsaved = False  # the task has completed, its result is not yet in place
        self.keep_row = True  # the run becomes a row of the ledger
        self.ledger_works = context.environ.get("ALLTOKEN_LEDGER") != "off"  # its trouble is waited for and told once
        self.documented = False  # stdout has its JSON document
        self._stdout = context.stdout
        self._stderr = context.stderr
        self._secret = context.environ.get("ALLTOKEN_API_KEY", "").strip()
        plain = context.environ.get("NO_COLOR") or context.environ.get("TERM") == "dumb"
        self._lively = is_terminal(context.stderr) and not plain
        self._half = ""  # a high surrogate whose other half comes with the next delta
        self._column = 0  # 0 where stdout stands at the beginning of a line
        self._warned: set[str] = set()
        self._living = False  # a progress line stands on the terminal
        self._unended = False  # stderr stands inside a line of reasoning

        self.to_terminal = is_terminal(context.stdout)

    @property
    def stdout_works(self) -> bool:
        """Whether stdout was open, and no write has failed."""
        return self._stdout is not None

    def check_stdout(self) -> None:
        """Raise `OutputError` where stdout is closed: it is noticed before anything is sent."""
        if not self.stdout_works:
            raise OutputError("stdout is closed")

    # stdout

    def text(self, text: str) -> None:
        """A piece of the answer, shown at once. Held in the report alone under --json."""
        if self.json_mode or not text:
            return
        text = self._half + text
        self._half = ""
        if "\ud800" <= text[-1] <= "\udbff":
            self._half, text = text[-1], text[:-1]
        self._show(text)

    def end_text(self) -> None:
        """End the answer with a newline, unless it has one or is empty."""
        if self._half:
            self._half = ""
            self._show("\ufffd")
        if self._column:
            self._show("\n")

    def line(self, text: str) -> None:
        """One line of the result."""
        if not self.json_mode:
            self._show(text + "\n")

    def table(self, rows: list[list[str]]) -> None:
        """Lines with aligned columns: the first to the left, the others to the right."""
        widths = [max(len(cells[column]) for cells in rows) for column in range(len(rows[0]))]
        for first, *others in rows:
            right = (f"{cell:>{width}}" for cell, width in zip(others, widths[1:]))
            self.line("  ".join([f"{one_line(first):<{widths[0]}}", *right]))

    def document(self, document: Any = None) -> None:
        """The one JSON document of stdout: the report where none is given."""
        import json  # not for --help

        self.documented = True
        self._show(json.dumps(self.report if document is None else document, allow_nan=False) + "\n")

    def _show(self, text: str) -> None:
        if not text:
            return
        self._column = int(not text.endswith("\n"))
        encoding = "utf-8"
        if self.to_terminal and self._stdout is not None:
            text, encoding = inert(text), self._stdout.encoding
        try:
            data = text.encode(encoding)
        except UnicodeEncodeError:  # halves of a surrogate pair from two deltas, a lone half, or a narrow terminal
            text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
            data = text.encode(encoding, "backslashreplace")
        self.binary(data)

    def show_request(self, method: str | None, url: str | None, body: Any = None) -> None:
        """What --dry-run shows: the request, which is not sent; None where there would be none."""
        self.document({"method": method, "url": url, "body": body})

    def binary(self, data: bytes) -> None:
        """Bytes for stdout, as they are."""
        self._clear()
        self.check_stdout()
        stream: TextIO = self._stdout  # type: ignore[assignment]  # check_stdout has seen to it
        try:
            _push(stream, data)
        except (OSError, ValueError) as error:
            _silence(stream)
            self._stdout = None
            self._column, self._half = 0, ""
            if isinstance(error, BrokenPipeError):
                self._stderr = None  # status 141 says it all
                raise CallError("", status=ExitStatus.BROKEN_PIPE, code="broken_pipe") from None
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

    def debug(self, text: str) -> None:
        """A line for --verbose."""
        if self.verbose:
            self.say(f"[http] {text}")

    def warning(self, text: str) -> None:
        """A line that stays under --quiet, and is said once."""
        if text not in self._warned:
            self._warned.add(text)
            self.say(f"[warning] {text}")

    def usage(self, usage: object) -> None:
        """The line [usage], from the gateway's object, which goes into the report as it came."""
        if not isinstance(usage, dict):
            return
        self.report["usage"] = usage
        counts = [f"{short}={usage[name]}" for name, short in _COUNTS.items() if type(usage.get(name)) is int]
        self.note("usage", " ".join([*counts, f"model={self.report['model']}"]))

    def cost(self, usd: str | None) -> None:
        """The line [cost]: the gateway's figure, dollars as a decimal string, or unknown."""
        self.report["cost"] = {"usd": usd, "source": usd and "gateway"}
        self.note("cost", f"${usd} (gateway)" if usd else "unknown")

    def say(self, text: str) -> None:
        """A line on stderr, also under --quiet."""
        self._clear()
        text = inert(text)
        if self._lively and text.startswith("["):
            tag, _, rest = text[1:].partition("]")
            if tag in _COLOURS:
                text = f"\x1b[{_COLOURS[tag]}m[{tag}]\x1b[0m{rest}"
        self._emit(("\n" if self._unended else "") + text + "\n")
        self._unended = False

    def reasoning(self, text: str) -> None:
        """A piece of the model's reasoning, as it comes."""
        if text and not self.quiet:
            self._clear()
            self._unended = not text.endswith("\n")
            self._emit(inert(text))

    def progress(self, text: str) -> None:
        """The living line: replaced by the next, gone before anything else is written. Only on a terminal."""
        if self.lively:
            self._living = True
            self._emit(f"\r{one_line(inert(text), 78)}\x1b[K")

    @property
    def lively(self) -> bool:
        """Whether `progress` shows anything."""
        return self._lively and not self.quiet

    def failed(self, error: CallError) -> None:
        """Tell of the end that `error` is, and put it into the report."""
        message = one_line(redacted(error.message, self._secret))
        self.report["request_id"] = error.request_id or self.report["request_id"]
        self.report["error"] = {
            "code": redacted(error.code, self._secret),
            "type": error.type and redacted(error.type, self._secret),
            "message": message,
            "status": error.http,
            "request_id": self.report["request_id"],
            "hint": error.hint,
        }
        about = " ".join(str(part) for part in (error.http, error.type) if part)
        self.say(f"[error] {error.code}{f' ({about})' if about else ''}: {message}")
        if self.report["request_id"]:
            self.say(f"request_id: {one_line(str(self.report['request_id']), 200)}")
        if error.hint:
            self.say(error.hint)

    def without_key(self, text: str) -> str:
        """`text` for a record."""
        return redacted(text, self._secret)

    def clean(self, text: str) -> str:
        """A remote text for a line or the report: one line of it, without the key."""
        return one_line(redacted(text, self._secret), 200)

    def _clear(self) -> None:
        if self._living:
            self._living = False
            self._emit("\r\x1b[K")

    def _emit(self, text: str) -> None:
        if self._stderr is None:
            return
        try:
            text = redacted(text, self._secret)
            self._stderr.buffer.write(text.encode(self._stderr.encoding, "backslashreplace"))
            self._stderr.buffer.flush()
        except (OSError, ValueError):  # nobody listens any more: no reason to fail
            _silence(self._stderr)
            self._stderr = None


def _push(stream: TextIO, data: bytes) -> None:
    while True:
        try:
            if data:
                stream.buffer.write(data)
                data = b""
            stream.buffer.flush()
            return
        except BlockingIOError as full:  # somebody made the pipe non-blocking, for all who share it
            os.set_blocking(stream.fileno(), True)
            data = data[full.characters_written :]


def _silence(stream: TextIO) -> None:
    """Point a broken stream's descriptor at /dev/null, so that the flush at exit cannot fail (status 120)."""
    with contextlib.suppress(OSError, ValueError):
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.dup2(descriptor, stream.fileno())
        os.close(descriptor)
