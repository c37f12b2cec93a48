"""What the tests of image and video share: runs whose sleeps cost no time, the gateway's answers, what lies on disk."""

from __future__ import annotations

import base64
import contextlib
import copy
import errno
import io
import json
import os
import shlex
import shutil
import signal
import sqlite3
import threading
import time
from typing import Any
from unittest import mock

from alltoken_call.cli import main as cli
from alltoken_call.cli.context import Context
from alltoken_call.net import clock as net_clock
from alltoken_call.store import files
from alltoken_call.store.spool import name_of

from .gateway import Exchange, Step, png
from .harness import PATIENCE, Case, Result, Terminal

IMAGE = "POST /v1/images/generations/async"
VIDEO = "POST /v1/videos/generations"
IMAGES = "/v1/images/generations"
VIDEOS = "/v1/videos/generations"
IGEN, VGEN = "igen_00000001", "vgen_00000001"  # the first task's id
GET_IMAGE, GET_VIDEO = f"GET {IMAGES}/{IGEN}", f"GET {VIDEOS}/{VGEN}"
TASK_KEYS = ("task_id", "status", "files", "resume")
VIDEO_KEYS = (*TASK_KEYS, "video_url", "expires_at", "resolution", "ratio", "fps", "duration", "tasks")


class Clock:
    """The real clock, put forward by what would have been slept."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self.sleeps: list[float] = []

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead

    def time(self) -> float:
        return time.time() + self.ahead

    def sleep(self, seconds: float) -> None:
        if seconds > 0.01:
            self.sleeps.append(round(seconds, 2))
        self.ahead += seconds


class TaskCase(Case):
    """A `Case` in a working directory of its own, with a clock that tests can put forward."""

    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.place = os.path.join(self.folder, "place")
        self.state = os.path.join(self.folder, "state", "alltoken-call")
        os.mkdir(self.place)
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.place)

    def call(
        self,
        *argv: str,
        stdin: bytes | None = b"",
        stdout: io.BytesIO | None = None,
        stderr: io.BytesIO | None = None,
        terminals: str = "",
        signals: bool = False,
        **environ: str | None,
    ) -> Result:
        """Run the CLI here. `signals`: its handlers are installed for the time of the run."""
        out, err = stdout or io.BytesIO(), stderr or io.BytesIO()

        def stream(name: str, buffer: io.BytesIO) -> io.TextIOWrapper:
            return (Terminal if name in terminals.split() else io.TextIOWrapper)(buffer, "utf-8")

        self.clock.sleeps = []
        context = Context(
            stdin=None if stdin is None else stream("in", io.BytesIO(stdin)),
            stdout=stream("out", out),
            stderr=stream("err", err),
            environ={name: value for name, value in {**self.environ, **environ}.items() if value is not None},
            program=["alltoken-call"],
            clock=net_clock.Clock(
                monotonic=self.clock.monotonic, now=self.clock.time, sleep=self.clock.sleep, chance=lambda: 0.0
            ),
        )
        with _handlers_kept() if signals else contextlib.nullcontext():
            if signals:
                context.signals.install()
            status = cli.main(list(argv), context)
        return Result(status, out.getvalue(), err.getvalue(), self.clock.sleeps)

    def image(self, *argv: str, **options: Any) -> Result:
        """Run `image` here."""
        return self.call("image", *argv, **options)

    def video(self, *argv: str, **options: Any) -> Result:
        """Run `video` here."""
        return self.call("video", *argv, **options)

    def fresh(self) -> None:
        """Forget every task, request, record and file of before."""
        self.gateway.requests.clear()
        self.gateway.tasks.all.clear()
        self.gateway.tasks.keys.clear()
        for folder in (self.state, self.place):
            for name in os.listdir(folder) if os.path.isdir(folder) else ():
                path = os.path.join(folder, name)
                if os.path.isdir(path) and not os.path.islink(path):
                    shutil.rmtree(path)
                else:
                    os.unlink(path)

    def kept(self) -> list[str]:
        """What lies in the state directory beside the ledger, by relative path."""
        found = []
        for folder, _, names in os.walk(self.state):
            found += [os.path.relpath(os.path.join(folder, name), self.state) for name in names]
        return sorted(name for name in found if not name.startswith("ledger.db"))

    def spool(self, task_id: str, tail: str, data: bytes) -> str:
        """Leave what a killed run of image would have left of a task's answer; its path."""
        folder = os.path.join(self.state, "spool")
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, f"{name_of(self.gateway.url, 'image', task_id)}.{tail * 8}.json")
        with open(path, "wb") as file:
            file.write(data)
        return path

    def row(self, task_id: str) -> dict[str, Any]:
        """The ledger's row of a task."""
        with contextlib.closing(sqlite3.connect(os.path.join(self.state, "ledger.db"))) as database:
            database.row_factory = sqlite3.Row
            rows = database.execute("SELECT * FROM calls WHERE task_id = ?", (task_id,)).fetchall()
        self.assertEqual(len(rows), 1)
        return dict(rows[0])

    def methods(self) -> list[str]:
        """The methods of the requests that came, in order, but those for prices."""
        return [exchange.method for exchange in self.asked_for()]

    def asked_for(self) -> list[Exchange]:
        """The requests that came, in order, but those for prices."""
        return [one for one in self.gateway.requests if not one.path.startswith("/api-account/")]

    def gets(self) -> list[Exchange]:
        """The polls that came."""
        return [exchange for exchange in self.asked_for() if exchange.method == "GET"]

    def assertHolds(self, path: str, data: bytes) -> None:
        """The file at `path` has these bytes."""
        with open(path, "rb") as file:
            self.assertTrue(file.read() == data, f"{path} holds something else")

    def assertPlace(self, *names: str) -> None:
        """The working directory holds these files and no other."""
        self.assertEqual(sorted(os.listdir(self.place)), sorted(names))

    def assertResumable(self, result: Result, command: str, task_id: str) -> str:
        """The last line of stderr is the command that resumes the task; the command."""
        last = result.err.rstrip("\n").rpartition("\n")[2]
        line, _, about = last.partition("  # ")
        self.assertEqual(shlex.split(line)[-3:][:2], [command, "--resume"], result.err)
        self.assertEqual(shlex.split(line)[-1], task_id)
        self.assertRegex(about, r"^the task (expires in \d+ min|has expired)$")
        return line


@contextlib.contextmanager
def _handlers_kept() -> Any:
    names = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)
    before = [signal.getsignal(name) for name in names]
    try:
        yield
    finally:
        for name, handler in zip(names, before):
            signal.signal(name, handler)


def strike(signum: int = signal.SIGINT) -> None:
    """Send a signal to the thread that runs the CLI, from a step."""
    signal.pthread_kill(threading.main_thread().ident or 0, signum)


def document(*entries: dict[str, Any], status: str = "completed", **fields: Any) -> bytes:
    """An image task's answer."""
    return json.dumps({"id": IGEN, "status": status, "model": "gpt-image-2", **fields, "data": list(entries)}).encode()


def entry(data: bytes, **fields: Any) -> dict[str, Any]:
    """An image in such an answer."""
    return {"b64_json": base64.b64encode(data).decode(), "mime_type": "image/png", **fields}


def cut(data: bytes, at: int) -> Step:
    """A step: an answer that breaks off after `at` bytes of `data`."""

    def step(exchange: Exchange) -> None:
        exchange.head(200, {"Content-Type": "application/json", "Content-Length": str(len(data))})
        exchange.raw(data[:at])

    return step


def pieces(*parts: bytes, between: Any = None) -> Step:
    """A step: an answer whose parts are sent one by one, with a call of `between` in the middle of it."""

    def step(exchange: Exchange) -> None:
        exchange.head(200, {"Content-Type": "application/json", "Content-Length": str(sum(map(len, parts)))})
        for number, part in enumerate(parts):
            if number:
                time.sleep(0.02)  # so that the part before it is read alone
                if between is not None:
                    between()
                    time.sleep(0.02)
            exchange.raw(part)

    return step


def normal(exchange: Exchange) -> None:
    """A step: what the gateway answers without a script."""
    exchange.gateway._route(exchange)(exchange)


def lost(then: Step) -> Step:
    """A step: the task is created, and its answer replaced by `then`."""

    def step(exchange: Exchange) -> None:
        silent = copy.copy(exchange)
        silent.reply = lambda *_: None  # type: ignore[method-assign]
        normal(silent)
        then(exchange)

    return step


def held(seen: threading.Event, go: threading.Event | None = None, then: Step = normal) -> Step:
    """A step: say that the request is here, and wait: for `go`, and answer by `then`, or for the client to leave."""

    def step(exchange: Exchange) -> None:
        seen.set()
        if go is None:
            exchange.hold()
        elif go.wait(PATIENCE):
            then(exchange)

    return step


def trickle(data: bytes, seen: threading.Event, go: threading.Event) -> Step:
    """A step: half of an answer, and the rest in small pieces once `go` is set."""

    def step(exchange: Exchange) -> None:
        exchange.head(200, {"Content-Type": "application/json", "Content-Length": str(len(data))})
        half = len(data) // 2
        exchange.raw(data[:half])
        seen.set()
        if go.wait(PATIENCE):
            for start in range(half, len(data), 20_000):
                exchange.raw(data[start : start + 20_000])

    return step


class _Full(io.FileIO):
    room = 0

    def write(self, data: Any) -> int:
        space = self.room - self.tell()
        if space <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(memoryview(data)[:space])


@contextlib.contextmanager
def small_disk(folder: str, room: int) -> Any:
    """`folder` behaves like a file system of its own on which a file can have `room` bytes.

    What it yields is a list of the sizes at which it has refused more.
    """
    part_of, link, open_, write = files.part_of, os.link, os.open, os.write
    small: set[int] = set()  # inodes
    refused: list[int] = []

    def inside(path: Any) -> bool:
        return os.path.dirname(os.path.abspath(path)) == folder

    def limited(path: str, mode: int = 0o666) -> Any:
        file, part = part_of(path, mode)
        if not inside(path):
            return file, part
        file.close()
        raw = _Full(part, "r+")
        raw.room = room
        return io.BufferedRandom(raw), part

    def opened(path: Any, *arguments: Any, **options: Any) -> int:
        descriptor = open_(path, *arguments, **options)
        (small.add if inside(path) else small.discard)(os.fstat(descriptor).st_ino)
        return descriptor

    def written(descriptor: int, data: Any) -> int:
        if os.fstat(descriptor).st_ino not in small:
            return write(descriptor, data)
        space = room - os.lseek(descriptor, 0, os.SEEK_CUR)
        if space <= 0:
            refused.append(room)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, memoryview(data)[:space])

    def far(source: str, target: str) -> None:
        if inside(source) != inside(target):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        link(source, target)

    with mock.patch.object(files, "part_of", limited), mock.patch("os.link", far):
        with mock.patch("os.open", opened), mock.patch("os.write", written):
            yield refused


BIG = png(noise=200_000)
