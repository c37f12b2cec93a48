"""What the tests share: the CLI in this process, on streams of its own, and as a process.

`Case.call` is quick and sees everything but the process; `Case.execute` and `Case.spawn` are for what only a process
has: signals, pipes, terminals, exit statuses.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path
from typing import Any

from alltoken_call.cli import main as cli
from alltoken_call.cli.context import Context
from alltoken_call.net.clock import Clock

from . import forks
from .forks import Forked
from .gateway import CHAT, KEY, Gateway

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = str(ROOT / "alltoken_call")
PYTHON = [sys.executable, "-S"]  # whatever the machine's own packages do at every start is not what we test
ALWAYS = ("ok", "command", "gateway", "model", "usage", "cost", "request_id", "error")
ERROR = {"code", "type", "message", "status", "request_id", "hint"}
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # every test syncs files: none needs a disk
PATIENCE = 10.0  # seconds after which a test that waits for an event has failed

cli.command_parser = functools.cache(cli.command_parser)  # always the same, and a fifth of the work of a chat

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in a background job; our children must not inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Result:
    """How a run ended, what it wrote, and the seconds that it would have slept."""

    def __init__(self, status: int, out: bytes, err: bytes, sleeps: list[float]) -> None:
        self.status = status
        self.out = out
        self.err = err.decode("utf-8", "replace")
        self.sleeps = sleeps

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document that stdout has to be."""
        assert self.out.isascii() and self.out.endswith(b"\n") and self.out.count(b"\n") == 1, self.out
        return json.loads(self.out)


class Terminal(io.TextIOWrapper):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class Watched(io.BytesIO):
    """A buffer whose `seen` is set once `wanted` has been written to it."""

    def __init__(self, wanted: bytes) -> None:
        super().__init__()
        self.wanted = wanted
        self.seen = threading.Event()

    def write(self, data: Any) -> int:
        count = super().write(data)
        if self.wanted in self.getvalue():
            self.seen.set()
        return count


class Case(unittest.TestCase):
    """A test with a gateway, a state directory and an environment that holds nothing else.

    `forked`: a process of the CLI need not be an interpreter of its own, as it is for a user.
    """

    forked = forks.POSSIBLE

    def setUp(self) -> None:
        self.folder = tempfile.mkdtemp(dir=MEMORY)
        self.addCleanup(shutil.rmtree, self.folder)
        self.gateway = Gateway().__enter__()
        self.addCleanup(self.gateway.__exit__)
        self.environ = {
            "ALLTOKEN_API_KEY": KEY,
            "ALLTOKEN_BASE_URL": self.gateway.url,
            "XDG_STATE_HOME": os.path.join(self.folder, "state"),
            "HOME": self.folder,
        }

    def file(self, name: str, content: bytes | str | list | dict) -> str:
        """The path of a new file."""
        path = os.path.join(self.folder, name)
        if isinstance(content, (list, dict)):
            content = json.dumps(content)
        with open(path, "wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode())
        return path

    def pipe(self, data: bytes = b"") -> tuple[io.TextIOWrapper, int]:
        """A pipe that holds `data`, as a stdin, and the descriptor that keeps it open."""
        reader, writer = os.pipe()
        os.write(writer, data)
        stream = open(reader, encoding="utf-8")
        self.addCleanup(stream.close)
        return stream, writer

    def call(
        self,
        *argv: str,
        stdin: bytes | io.TextIOBase | None = b"",
        stdout: io.BytesIO | None = None,
        stderr: io.BytesIO | None = None,
        terminals: str = "",
        **environ: str | None,
    ) -> Result:
        """Run the CLI here. `terminals` names the streams that are one: "in out err"."""
        out, err, sleeps = stdout or io.BytesIO(), stderr or io.BytesIO(), []

        def stream(name: str, buffer: io.BytesIO) -> io.TextIOWrapper:
            return (Terminal if name in terminals.split() else io.TextIOWrapper)(buffer, "utf-8")

        context = Context(
            stdin=stream("in", io.BytesIO(stdin)) if isinstance(stdin, bytes) else stdin,
            stdout=stream("out", out),
            stderr=stream("err", err),
            environ={name: value for name, value in {**self.environ, **environ}.items() if value is not None},
            program=["alltoken-call"],
            clock=Clock(sleep=sleeps.append, chance=lambda: 0.0),
        )
        status = cli.main(list(argv), context)
        return Result(status, out.getvalue(), err.getvalue(), sleeps)

    def chat(self, *argv: str, **options: Any) -> Result:
        """Run `chat` here."""
        return self.call("chat", *argv, **options)

    def body(self, *argv: str, **options: Any) -> dict[str, Any]:
        """The request body that `chat` would send."""
        result = self.chat("--dry-run", *argv, **options)
        self.assertEqual((result.status, self.gateway.requests), (0, []), result.err)
        return result.document["body"]

    def asked(self) -> int:
        """How many completions were asked for."""
        return self.gateway.count(CHAT)

    def sent(self) -> str:
        """The last prompt that the gateway got."""
        return self.gateway.requests[-1].json["messages"][-1]["content"]

    def spawn(
        self,
        *argv: str,
        command: list[str] | None = None,
        code: str | None = None,
        closed: tuple[int, ...] = (),
        environ: Any = (),
        **options: Any,
    ) -> Any:
        """Start the CLI, or `code`, as a process: forked from one that has all modules, if that makes no difference.
        The descriptors `closed` are closed, and a variable that is None is unset."""
        for name in ("stdout", "stderr"):
            options.setdefault(name, subprocess.PIPE)
        options.setdefault("stdin", subprocess.DEVNULL)
        env = {name: value for name, value in {**self.environ, **dict(environ)}.items() if value is not None}
        odd = [name for name in env if name.startswith(("PYTHON", "LC_", "LANG", "LD_"))]  # an interpreter reads them
        odd += {*options} - {"stdin", "stdout", "stderr", "cwd"}
        if command is None and self.forked and not odd:
            process = Forked(["-c" if code else PACKAGE, *argv], code=code, closed=closed, env=env, **options)
        else:
            command = command or ([*PYTHON, "-c", code] if code else [*PYTHON, PACKAGE])
            if closed:
                options["preexec_fn"] = lambda: [os.close(number) for number in closed]
            process = subprocess.Popen([*command, *argv], env=env, **options)
        self.addCleanup(self._end, process)
        return process

    @staticmethod
    def _end(process: subprocess.Popen) -> None:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def execute(self, *argv: str, input: bytes | None = None, **options: Any) -> Result:
        """Run the CLI as a process to its end."""
        if input is not None:
            options["stdin"] = subprocess.PIPE
        process = self.spawn(*argv, **options)
        out, err = process.communicate(input, timeout=PATIENCE)
        return Result(process.returncode, out or b"", err or b"", [])

    def shell(self, script: str, *words: str, shell: str = "sh", **options: Any) -> Result:
        """Run a shell script in which "$@" is the CLI with `words`."""
        return self.execute(command=[shell, "-c", script, "sh", *PYTHON, PACKAGE, *words], **options)

    def document_of(self, result: Result, *more: str) -> dict[str, Any]:
        """The JSON document, checked to be whole: one line of ASCII with every key."""
        document = result.document
        self.assertEqual(set(document), {*ALWAYS, *more})
        self.assertEqual(set(document["cost"]), {"usd", "source"})
        self.assertEqual(document["ok"], result.status == 0)
        if document["error"] is not None:
            self.assertEqual(set(document["error"]), ERROR)
        self.assertEqual(document["error"] is None, result.status == 0)
        return document

    def assertQuietly(self, status: int, result: Result) -> None:
        """The exit status, and no traceback, key or bug told on the way."""
        self.assertEqual(status, result.status, result.err)
        self.assertNotIn("Traceback", result.err)
        self.assertNotIn("alltoken-call 0.", result.err)
        self.assertNotIn(self.environ["ALLTOKEN_API_KEY"], result.err + result.out.decode("utf-8", "replace"))
