"""Bad days: no command lives longer than --max-wait and a second, and none touches files that are not its own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sqlite3
import stat
import subprocess
import tempfile
import threading
import time
from typing import Any, NamedTuple

from alltoken_call.calls.landing import ARRIVAL
from alltoken_call.store import ledger
from alltoken_call.store.spool import BESIDE, name_of

from .gateway import CHAT, KEY, Gateway, Step, Tasks, delta, event, refuse, reply
from .harness import MEMORY, PACKAGE, PATIENCE, ROOT, Case
from .task_support import BIG, GET_IMAGE, GET_VIDEO, IMAGE, VGEN, TaskCase, cut, document, entry, normal

MAX_WAIT = 0.5
SIDE_BY_SIDE = 6  # rows that run at the same time; all of them do little but wait
# Runs the CLI in this process, with a name server that never answers.
NO_NAMES = f"""
import socket, sys, time
sys.path.insert(0, {str(ROOT)!r})
from alltoken_call.__main__ import entry
socket.getaddrinfo = lambda *_, **__: time.sleep(3600)
sys.argv[0] = {PACKAGE!r}
entry()
"""
NOWHERE = "https://gateway.invalid"
OPEN = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OPEN + b"Transfer-Encoding: chunked\r\n\r\n"
CONNECTED = b"HTTP/1.1 200 Connection established\r\n\r\n"
HALF_A_RECORD = b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc\x03\x03"  # the head of 16 KiB of a TLS handshake
LATE = r"\[error\] (max_wait|timeout|unknown_outcome|pending|http_500)"


class Drip:
    """A server that answers what it is sent by one of `starts` after the other, and then by `drop` again and again, or
    by nothing more."""

    def __init__(self, *starts: bytes, drop: bytes = b"") -> None:
        self._starts, self._drop = starts, drop
        self._stopping = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            visitor, _ = self._listener.accept()
            if self._stopping.is_set():
                return visitor.close()
            self._threads.append(threading.Thread(target=self._serve, args=(visitor,)))
            self._threads[-1].start()

    def _serve(self, visitor: socket.socket) -> None:
        with visitor, contextlib.suppress(OSError):
            for start in self._starts:
                visitor.recv(1 << 16)
                visitor.sendall(start)
            while not self._stopping.wait(0.03):
                visitor.sendall(self._drop)

    def close(self) -> None:
        """End all its threads."""
        self._stopping.set()
        socket.create_connection(self._listener.getsockname()).close()
        for thread in self._threads:
            thread.join()
        self._listener.close()


def dripping(start: bytes, drop: bytes = b"") -> Step:
    """A step that does the same."""

    def step(exchange: Any) -> None:
        exchange.raw(start)
        while not exchange.gateway.stopping.wait(0.03):
            exchange.raw(drop)

    return step


class Row(NamedTuple):
    """A command line on a bad day, the statuses that it may end with, and a pattern of its stderr."""

    words: str
    statuses: tuple[int, ...]
    told: str = LATE
    url: str | None = None  # of the gateway; None is one that answers well
    proxy: str | None = None
    names: bool = True  # whether there is a name server that answers
    stdin: Any = subprocess.DEVNULL
    stdout: Any = None  # None: somebody reads it
    stderr: Any = None


ASK = Row("chat hi", (3, 5))
MAKE = Row("image cat -o x.png", (3, 12))
CLIP = Row("video cat -o x.mp4", (3, 12))
LIST = Row("models", (3, 5))
EACH = (ASK, MAKE, CLIP, LIST)


class Deadlines(Case):
    """No command lives longer than --max-wait and a second."""

    def setUp(self) -> None:
        super().setUp()
        self.gateways: list[Gateway] = []
        self.closers = contextlib.ExitStack()
        self.addCleanup(self.closers.close)

    # Bad days

    def drip(self, *starts: bytes, drop: bytes = b"") -> str:
        """The address of such a server."""
        server = Drip(*starts, drop=drop)
        self.closers.callback(server.close)
        return server.address

    def blackhole(self) -> str:
        """The address of a host that takes no connection and says nothing."""
        listener = self.closers.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):  # the queue is full after one or two; further SYNs get no answer
            other = self.closers.enter_context(socket.socket())
            other.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                other.connect(listener.getsockname())
        return "127.0.0.1:%d" % listener.getsockname()[1]

    def on(self, steps: dict[str, Step]) -> str:
        """The URL of a gateway of its own that answers some requests by steps, and all others well."""
        gateway = self.closers.enter_context(Gateway())
        self.gateways.append(gateway)
        for request, step in steps.items():
            gateway.on(request, step)
        self.forget(gateway)
        return gateway.url

    @staticmethod
    def forget(gateway: Gateway) -> None:
        """Let the next task of a gateway be its first."""
        gateway.tasks = Tasks(gateway)
        gateway.tasks.image = BIG

    def pipe_ends(self) -> tuple[int, int]:
        reader, writer = os.pipe()
        self.closers.callback(os.close, reader)
        self.closers.callback(os.close, writer)
        return reader, writer

    def unread(self) -> int:
        """The descriptor of a pipe that is full, and that nobody reads."""
        _, writer = self.pipe_ends()
        os.set_blocking(writer, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writer, bytes(4096))
        os.set_blocking(writer, True)
        return writer

    def endless(self) -> int:
        """The descriptor of a pipe into which somebody writes a letter every now and then."""
        reader, writer = self.pipe_ends()
        stop = threading.Event()

        def write() -> None:
            while not stop.wait(0.03):
                os.write(writer, b"x")

        thread = threading.Thread(target=write)
        thread.start()
        self.closers.callback(thread.join)
        self.closers.callback(stop.set)
        return reader

    # Runs

    def start(self, row: Row) -> tuple[Any, float, Any]:
        """The process of a row, when it was started, and the file of its stderr."""
        out, err = (self.closers.enter_context(tempfile.TemporaryFile(dir=MEMORY)) for _ in range(2))
        environ = {} if row.url is None else {"ALLTOKEN_BASE_URL": row.url}
        environ |= {} if row.proxy is None else {"HTTPS_PROXY": f"http://{row.proxy}"}
        process = self.spawn(
            *row.words.split(),
            "--max-wait",
            str(MAX_WAIT),
            code=None if row.names else NO_NAMES,
            cwd=tempfile.mkdtemp(dir=self.folder),
            environ=environ,
            stdin=row.stdin,
            stdout=row.stdout or out,
            stderr=row.stderr or err,
        )
        return process, time.monotonic(), err

    def lives(self, rows: list[Row], side_by_side: int) -> list[tuple[Row, float, int, str]]:
        """Each row with the seconds that it lived, its status, and its stderr."""
        waiting, running, ended = list(rows), [], []
        while waiting or running:
            while waiting and len(running) < side_by_side:
                row = waiting.pop(0)
                running.append((row, *self.start(row)))
            time.sleep(0.005)
            for one in list(running):
                row, process, started, err = one
                if process.poll() is None and time.monotonic() - started < PATIENCE:
                    continue
                life = time.monotonic() - started
                running.remove(one)
                err.seek(0)
                ended.append((row, life, process.returncode, err.read().decode()))
        return ended

    def outlive(self, *rows: Row) -> None:
        """Each row ends in time, as it should. One that does not is run once more, alone: a busy machine is not our
        fault."""
        ended = self.lives(list(rows), SIDE_BY_SIDE)
        again = [one[0] for one in ended if one[1] >= MAX_WAIT + 1 or one[2] not in one[0].statuses]
        for gateway in self.gateways:
            self.forget(gateway)
        ended = [one for one in ended if one[0] not in again] + self.lives(again, 1)
        for row, life, status, err in ended:
            with self.subTest(row):
                self.assertLess(life, MAX_WAIT + 1, err)
                self.assertIn(status, row.statuses, err)
                if row.stderr is None:
                    self.assertRegex(err, row.told)
                    self.assertNotRegex(err, rf"Traceback|\[error\] bug|Fatal|Exception|{KEY}")

    def test_a_host_that_takes_no_connection(self):
        url = f"http://{self.blackhole()}"
        self.outlive(*(row._replace(url=url) for row in EACH))

    def test_a_server_that_says_nothing_or_drips(self):
        days = (
            ("http", b"", b""),
            ("http", b"", b"H"),
            ("http", OPEN, b"X: y\r\n"),
            ("http", CHUNKED, b"1\r\n \r\n"),
            ("http", b"HTTP/1.1 500 No\r\nContent-Length: 9999\r\n\r\n", b" "),
            ("https", b"", b""),
            ("https", HALF_A_RECORD, b"\0"),
        )
        urls = [f"{scheme}://{self.drip(start, drop=drop)}" for scheme, start, drop in days]
        self.outlive(*(row._replace(url=url) for url in urls for row in EACH))

    def test_a_gateway_that_says_nothing_or_drips_in_the_middle(self):
        length = OPEN + b"Content-Length: 99999\r\n\r\n"
        begun = event(delta("Hi"))
        text = dripping(CHUNKED + b"%x\r\n%s\r\n" % (len(begun), begun), b"3\r\n:\n\n\r\n")
        edit = f"image cat --edit {self.file('source.png', BIG)}"
        models, told = "GET /v1/models", r"\[error\]"
        one = "GET /api-account/models/gpt-5.4-mini"

        def copy(exchange: Any) -> None:
            exchange.reply(200, {"status": "completed", "data": [{"r2_url": f"{exchange.gateway.url}/files/x.png"}]})

        self.outlive(
            Row("image cat -o x.png", (8,), url=self.on({GET_IMAGE: dripping(b"")})),
            Row("image cat -o x.png -q", (8,), url=self.on({GET_IMAGE: dripping(OPEN, b"X: y\r\n")})),
            Row("image cat -o x.png", (8,), url=self.on({GET_IMAGE: reply(503, b"")})),
            Row("image cat -o x.png", (8,), url=self.on({GET_IMAGE: reply(200, {"status": "queued"})})),
            Row("image cat -o x.png", (8,), url=self.on({GET_IMAGE: copy, "GET /files/x.png": dripping(length, b"x")})),
            Row(edit, (3,), url=self.on({"POST /v1/uploads/presign": dripping(length, b" ")})),
            Row(edit, (3,), url=self.on({"PUT /upload/upl_00000001": dripping(b"")})),
            Row("video cat", (8,), url=self.on({GET_VIDEO: dripping(b"")})),
            Row("video cat", (8,), url=self.on({GET_VIDEO: dripping(length, b" ")})),
            Row("video cat -o x.mp4", (8,), url=self.on({f"GET /files/{VGEN}.mp4": dripping(length, b"x")})),
            Row("video --list", (3,), url=self.on({"GET /v1/videos/generations": dripping(length, b" ")})),
            Row("chat hi", (9,), url=self.on({CHAT: text})),
            Row("chat hi", (1,), told, url=self.on({CHAT: refuse(404, "x"), models: dripping(length, b" ")})),
            Row("chat hi", (5,), told, url=self.on({CHAT: refuse(503, "all_providers_failed"), models: dripping(b"")})),
            Row("chat hi", (7,), told, url=self.on({CHAT: refuse(429, "x", headers={"Retry-After": "30"})})),
            Row("cost gpt-5.4-mini 1 1", (3,), url=self.on({one: dripping(length, b" ")})),
        )

    def test_a_proxy_that_says_nothing_or_drips(self):
        proxies = [
            self.drip(),
            self.drip(OPEN, drop=b"X: y\r\n"),
            self.drip(CONNECTED),
            self.drip(CONNECTED, HALF_A_RECORD, drop=b"\0"),
        ]
        rows = [row._replace(url=NOWHERE, proxy=proxy) for proxy in proxies for row in EACH]
        self.outlive(*rows, ASK._replace(url=NOWHERE, proxy=self.blackhole()))

    def test_a_name_server_that_never_answers(self):
        rows = [row._replace(url=NOWHERE, names=False) for row in EACH]
        self.outlive(*rows, ASK._replace(url=NOWHERE, names=False, proxy="proxy.invalid:3128"))

    def test_a_stdin_that_never_ends(self):
        with open("/dev/zero", "rb") as zero:
            still = Row("", (3,), "stdin is still open", stdin=self.pipe_ends()[0])
            drips = still._replace(stdin=self.endless())
            much = Row("", (2,), "stdin has more than", stdin=zero)
            self.outlive(
                *(still._replace(words=words) for words in ("chat", "chat hi", "chat -", "chat gpt-5.4-mini")),
                *(still._replace(words=words) for words in ("search -", "image - -o x.png", "video -")),
                *(drips._replace(words=words) for words in ("chat hi", "image -")),
                *(much._replace(words=words) for words in ("chat -", "image -")),
            )
            for words, stdin in (
                ("chat hi", zero),
                ("image cat -o -", zero),
                ("models", zero),
                ("models", still.stdin),
            ):
                with self.subTest(words):  # which do not read it
                    self.assertQuietly(0, self.execute(*words.split(), stdin=stdin))

    def test_a_stdout_or_stderr_that_nobody_reads(self):
        told = r"\[error\] (max_wait|cannot_write)"
        good, silent, half = self.on({}), f"http://{self.drip()}", self.on({GET_IMAGE: dripping(b"")})
        unread = [
            Row(words, (9,), told, stdout=self.unread(), url=self.on({})) for words in ("image x", "image x -o -")
        ]
        self.outlive(
            *unread,
            *(
                Row(words, (9,), told, url=good, stdout=self.unread())
                for words in ("chat hi", "chat hi --json", "video cat", "models", "models -l")
            ),
            *(Row(words, (0,), url=good, stderr=self.unread()) for words in ("chat hi", "image x", "models")),
            *(Row(f"{words} -q", (3,), url=silent, stderr=self.unread()) for words in ("chat hi", "models")),
            Row("image cat -q", (8,), url=half, stderr=self.unread()),
            Row("chat hi -q", (9,), url=good, stdout=self.unread(), stderr=self.unread()),
            Row("chat hi -v", (3, 9), url=good, stdout=self.unread(), stderr=self.unread()),
        )

    def test_a_ledger_that_somebody_else_locks(self):
        path = os.path.join(self.folder, "ledger.db")
        ledger.put(path, {"started": time.time(), "command": "chat", "model": "m", "cost": "0.5", "source": "gateway"})
        budget = {"ALLTOKEN_BUDGET": "5/day"}
        for mode, lock, told in (("WAL", "IMMEDIATE", 0), ("WAL", "EXCLUSIVE", 0), ("DELETE", "EXCLUSIVE", 1)):
            with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute(f"PRAGMA journal_mode = {mode}").fetchall()
                other.execute(f"BEGIN {lock}")
                runs = []
                for words, environ, status in (
                    ("chat hi", {}, 0),
                    ("image x -o a.png", {}, 0),
                    ("video x", {}, 0),
                    ("chat hi", budget, 2),
                    ("image x -o b.png", budget, 2),
                    ("image x -o c.png --once", {}, 2),
                    ("cost", {}, told),
                    ("cost --calls", {}, told),
                    ("cost --since 1d", {}, told),
                ):
                    out = self.closers.enter_context(tempfile.TemporaryFile(dir=MEMORY))
                    given = {"ALLTOKEN_LEDGER": path, "ALLTOKEN_BASE_URL": self.on({}), **environ}
                    process = self.spawn(
                        *words.split(),
                        "--max-wait",
                        "2",
                        cwd=tempfile.mkdtemp(dir=self.folder),
                        environ=given,
                        stdout=out,
                        stderr=out,
                    )
                    runs.append((words, status, process, out, time.monotonic()))
                for words, status, process, out, started in runs:
                    with self.subTest(words, mode=mode, lock=lock):
                        self.assertEqual(process.wait(PATIENCE), status, words)
                        self.assertLess(time.monotonic() - started, 3)
                        out.seek(0)
                        self.assertNotIn(b"[error] bug", out.read())

    def test_a_signal_ends_the_wait_for_a_reader_of_an_image_which_a_resume_shows(self):
        self.gateway.tasks.image = BIG
        reader, writer = os.pipe()
        process = self.spawn("image", "cat", "-o", "-", stdout=writer)
        os.close(writer)
        with open(reader, "rb") as pipe:
            self.assertTrue(pipe.read(1))
            before = time.monotonic()
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=PATIENCE)
        self.assertLess(time.monotonic() - before, 1.0)
        self.assertEqual(process.returncode, 130, err)
        state = os.path.join(self.folder, "state", "alltoken-call")
        self.assertEqual([name for name in os.listdir(state) if not name.startswith("ledger.db")], ["spool"])
        self.gateway.requests.clear()
        resumed = self.execute("image", "--resume")
        self.assertQuietly(0, resumed)
        self.assertEqual((resumed.out, self.gateway.requests), (BIG, []))
        self.assertEqual(os.listdir(os.path.join(state, "spool")), [])


class Arrival(TaskCase):
    """A one-shot result that is arriving is waited for, whatever --max-wait says, but for 10 minutes at most."""

    def arrives(self, seconds: float, pieces: int) -> Step:
        """A step: an answer that takes so many seconds of the clock that is handed in."""
        data, spool = document(entry(BIG)), os.path.join(self.state, "spool")

        def step(exchange: Any) -> None:
            exchange.head(200, {"Content-Length": str(len(data))})
            for number in range(pieces):
                exchange.raw(data[len(data) * number // pieces : len(data) * (number + 1) // pieces])
                end = time.monotonic() + PATIENCE
                while not number and not (os.path.isdir(spool) and os.listdir(spool)) and time.monotonic() < end:
                    time.sleep(0.002)  # until the first piece is read, and what comes is waited for
                time.sleep(0.01)
                self.clock.ahead += seconds / pieces
                time.sleep(0.01)

        return step

    def test_an_answer_that_takes_nine_minutes_is_read_to_its_end(self):
        self.gateway.on(GET_IMAGE, self.arrives(540, 9))
        self.assertQuietly(0, self.image("x", "-o", "x.png", "--max-wait", "5"))
        self.assertHolds("x.png", BIG)
        self.assertEqual(self.kept(), [])

    def gives_up(self, max_wait: str) -> None:
        before = self.clock.monotonic()
        self.gateway.on(GET_IMAGE, self.arrives(1200, 20), refuse(410, "image_already_retrieved"))
        result = self.image("x", "-o", "x.png", "--max-wait", max_wait)
        self.assertQuietly(8, result)
        self.assertLess(self.clock.monotonic() - before, ARRIVAL + 400)  # on a busy machine, some pieces late
        (kept,) = self.kept()
        self.assertIn(kept, result.err)
        self.assertResumable(result, "image", "igen_00000001")
        self.assertPlace()

    def test_an_answer_that_takes_longer_than_ten_is_given_up_and_what_came_is_kept(self):
        self.gives_up("5")

    def test_it_is_given_up_long_before_max_wait_too(self):
        self.gives_up("100000")


class Strangers(TaskCase):
    """No run reads, changes or removes a file that it did not make, whatever its name, and whatever the gateway says."""

    IDS = ("igen_00000001", "messages", "messages.fr", "spool", "*", "../spool/x", "x.png")

    def setUp(self) -> None:
        super().setUp()
        self.others = os.path.join(self.folder, "tmp")
        self.environ["TMPDIR"] = self.others
        for folder in (self.place, self.others, self.state, os.path.join(self.state, "spool")):
            self.fill(folder)
        self.fill(os.path.join(self.place, BESIDE))
        self.fill(os.path.join(self.place, "spool"))
        self.theirs = {path: self.facts(path) for path in self.walk()}
        self.watched = self.tells_of_reads()
        before = signal.signal(signal.SIGALRM, self.opened)
        self.addCleanup(signal.signal, signal.SIGALRM, before)
        self.addCleanup(signal.alarm, 0)
        signal.alarm(60)

    def opened(self, *_: Any) -> None:
        self.fail("a run waits: has it opened a stranger's pipe?")

    def fill(self, folder: str) -> None:
        """Put files, links and pipes of likely names into a folder."""
        os.makedirs(folder, exist_ok=True)
        answer = document(entry(b"\x89PNG\r\n\x1a\n of a stranger"))
        ours = [f"{name_of(self.gateway.url, 'image', task)}" for task in self.IDS]
        for name in (
            "messages.fr.json",
            "messages.json",
            "igen_00000001.json",
            "igen_00000001.0123abcd.json",
            "x.png.0123abcd.part",
            "x.png.part",
            ".alltoken-0123abcd.part",
            "x.mp4.0123abcd.part",
            "alltoken-image-0123abcd.png",
            f"{ours[0]}.json",
            f"{ours[0]}.0123abcd.json.bak",
            f"{ours[0]}.0123ABCD.json",
            "old.png",
        ):
            with open(os.path.join(folder, name), "wb") as file:
                file.write(answer)
        for number, name in enumerate((*ours, "messages.fr", "igen_00000001")):  # to open one would be to wait
            os.mkfifo(os.path.join(folder, f"{name}.{number:08x}.json"))
            os.symlink(os.path.join(self.folder, "secret"), os.path.join(folder, f"{name}.1{number:07x}.json"))
            os.mkdir(os.path.join(folder, f"{name}.2{number:07x}.json"))

    def walk(self) -> list[str]:
        """Every path below the folder of the test but the ledger, the locks, and the ids for completion."""
        found = [
            os.path.join(folder, name) for folder, folders, names in os.walk(self.folder) for name in (*folders, *names)
        ]
        ours = tuple(os.path.join(self.state, name) for name in ("ledger.db", "locks", "models"))
        return [path for path in found if not path.startswith(ours)]

    @staticmethod
    def facts(path: str) -> Any:
        """What tells that a file is as it was, and that nobody has read it since: a read sets an old time of access."""
        found = os.lstat(path)
        if not stat.S_ISREG(found.st_mode):
            return found.st_ino, found.st_mode
        os.utime(path, (1, 1))
        return found.st_ino, found.st_mode, found.st_size

    def check(self, *made: str) -> None:
        """All of the strangers' files are as they were and unread, and beside them lie only these."""
        for path, facts in self.theirs.items():
            found = os.lstat(path)
            if len(facts) == 3:
                self.assertEqual((found.st_mtime, found.st_atime if self.watched else 1), (1, 1), path)
            self.assertEqual(facts, self.facts(path), path)
        new = [path for path in self.walk() if path not in self.theirs]
        self.assertEqual(sorted(os.path.relpath(path, self.place) for path in new), sorted(made))

    def tells_of_reads(self) -> bool:
        """Whether the file system sets the time of access when a file is read."""
        path = self.file("probe", b"x")
        os.utime(path, (1, 1))
        with open(path, "rb") as file:
            file.read()
        told = os.stat(path).st_atime != 1
        os.unlink(path)
        return told

    def run_to(self, status: int, *argv: str, **options: Any) -> Any:
        """Run the CLI here, to this status."""
        result = self.call(*argv, **options)
        self.assertQuietly(status, result)
        return result

    def test_commands_that_make_no_file(self):
        for argv in (
            ["chat", "hi"],
            ["search", "hi"],
            ["models"],
            ["models", "-l"],
            ["cost", "gpt-5.4-mini", "1", "1"],
            ["cost"],
            ["video", "x"],
            ["video", "--list"],
            ["image", "x", "-o", "-"],
            ["image", "x", "--detach"],
            ["image", "--resume", "-o", "-"],
        ):
            with self.subTest(argv):
                self.run_to(0, *argv)
                self.check()
        with self.subTest("refused"):
            for argv in (["image", "x", "-o", "old.png"], ["video", "x", "-o", f"{BESIDE}/old.png"]):
                self.run_to(13, *argv)
                self.check()

    def test_commands_that_make_one(self):
        for argv, made in (
            (["image", "x", "-o", "new.png"], "new.png"),
            (["video", "x", "-o", "new.mp4"], "new.mp4"),
            (["chat", "hi", "--thread", "new.json"], "new.json"),
        ):
            for environ in ({}, {"XDG_STATE_HOME": None, "HOME": None}):
                with self.subTest(argv, environ=environ):
                    self.run_to(0, *argv, **environ)
                    self.check(made)
                    os.unlink(made)

    def test_images_of_tasks_with_any_id(self):
        for task in self.IDS:
            for environ in ({}, {"XDG_STATE_HOME": None, "HOME": None}):
                with self.subTest(task, environ=environ):
                    self.gateway.on(IMAGE, reply(202, {"id": task, "status": "queued"}))
                    self.answer(task, reply(200, document(entry(BIG))))
                    self.run_to(0, "image", "x", "-o", "new.png", **environ)
                    self.assertHolds("new.png", BIG)
                    self.check("new.png")
                    os.unlink("new.png")
                    self.answer(task, reply(200, {"status": "queued"}))
                    self.run_to(8, "image", "--resume", task, "-o", "new.png", "--max-wait", "1", **environ)
                    self.check()

    def answer(self, task: str, *steps: Step) -> None:
        from urllib.parse import quote

        self.gateway.on(f"GET /v1/images/generations/{quote(task, safe='')}", *steps)

    def test_an_answer_that_breaks_off_leaves_its_own_file_alone(self):
        self.gateway.on(GET_IMAGE, cut(document(entry(BIG)), 90_000), refuse(410, "image_already_retrieved"))
        result = self.run_to(11, "image", "x", "-o", "new.png")
        (made,) = [path for path in self.walk() if path not in self.theirs]
        self.assertIn(made, result.err)
        self.check(os.path.relpath(made, self.place))
        self.gateway.on(GET_IMAGE, normal)
        self.run_to(0, "image", "--resume", "igen_00000001", "-o", "new.png")
        self.check("new.png")
