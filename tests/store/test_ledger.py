"""The ledger: one row a run that reached the gateway, in a private file; trouble with it harms no answer."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import threading
import time
import unittest
from typing import Any
from unittest import mock

from alltoken_call.store import ledger

from ..gateway import CHAT, COST, DONE, KEY, USAGE, delta, frames, raw, refuse, reply, stream
from ..harness import PACKAGE, PATIENCE, PYTHON, ROOT, Case

HI = b"This is the loopback gateway, which echoes: hi\n"
CATALOG = "GET /api-account/models"
IMAGES = "POST /v1/images/generations/async"
CONNECT, CONNECTION = sqlite3.connect, sqlite3.Connection
FILES = ("ledger.db", "ledger.db-wal", "ledger.db-shm")  # SQLite's own, while a process has the ledger open
V1 = """
CREATE TABLE calls (
    id INTEGER PRIMARY KEY, started REAL NOT NULL, ended REAL, command TEXT NOT NULL, model TEXT, status TEXT,
    task_id TEXT, request_id TEXT, prompt_tokens INTEGER, completion_tokens INTEGER, cost TEXT, source TEXT,
    output TEXT, exit_status INTEGER, UNIQUE (command, task_id)
);
CREATE INDEX calls_spent ON calls (model, started, prompt_tokens, completion_tokens, cost);
PRAGMA user_version = 1;
"""
V1_COLUMNS = (
    "id started ended command model status task_id request_id prompt_tokens completion_tokens cost source output"
    " exit_status"
).split()
V1_ROWS = (  # one of each kind that version 1 has written
    (1, 1e9, 1e9 + 1, "chat", "gpt-5.4-mini", None, None, "req_1", 19, 12, "0.0000188000", "gateway", None, 0),
    (2, 1e9 + 2, 1e9 + 3, "chat", "glm-5.1", None, None, None, None, None, None, None, None, 9),
    (3, 1e9 + 4, 1e9 + 5, "search", "deepseek-v4-pro", None, None, "req_3", 5, 8, "0", "gateway", None, 0),
    (4, 1e9 + 6, 1e9 + 7, "image", "gpt-image-2", "completed", "igen_1", "req_4", 10, 272, None, None, "/a/b.png", 0),
    (7, 1e9 + 8, None, "image", "gpt-image-2", "queued", "igen_2", None, None, None, None, None, "/a/ö.png", None),
    (8, 1e9 + 9, 1e9 + 9, "image", "gpt-image-2", "unsaved", "igen_3", None, 10, 272, None, None, "-", 130),
    (9, 1e9 + 10, 1e9 + 20, "video", "seedance-1.5-pro", "failed", "vgen_1", "req_9", None, None, None, None, None, 10),
    (10, 1e9 + 21, 1e9 + 22, "video", "seedance-1.5-pro", None, None, None, None, None, None, None, None, 12),
    (11, 1e9 + 23, 1e9 + 24, "video", None, "cancelled", "igen_1", None, None, 48000, None, None, None, 0),
)
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n"


def said(*texts: str) -> bytes:
    """The first events of an answer that goes on."""
    return b"".join(b"data: " + json.dumps(delta(text)).encode() + b"\n\n" for text in texts)


def small_cache(factory: Any, *arguments: Any, **options: Any) -> Any:
    """A connection that writes to the disk in the middle of a transaction already."""
    database = CONNECT(*arguments, factory=factory, **options)
    CONNECTION.execute(database, "PRAGMA cache_size = 1")
    return database


class LedgerCase(Case):
    """A test that looks into the ledger's file."""

    def setUp(self) -> None:
        super().setUp()
        self.path = os.path.join(self.folder, "state", "alltoken-call", "ledger.db")

    def old(self, path: str | None = None, *, more: int = 0) -> str:
        """Make a ledger as version 1 has left it, with `more` rows after those of each kind; its path."""
        path = path or self.path
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with contextlib.closing(sqlite3.connect(path)) as database:
            database.executescript(V1)
            marks = ", ".join("?" * len(V1_COLUMNS))
            filled = [(100 + at, 1.0, 2.0, "chat", "m" * 40, *[None] * 9) for at in range(more)]
            database.executemany(f"INSERT INTO calls VALUES ({marks})", [*V1_ROWS, *filled])
            database.commit()
        os.chmod(path, 0o600)
        return path

    def version(self, path: str | None = None) -> int:
        """The version of the ledger at `path`."""
        with contextlib.closing(sqlite3.connect(path or self.path)) as database:
            return database.execute("PRAGMA user_version").fetchone()[0]

    def assertTakenOver(self, path: str | None = None, *, more: int = 0) -> list[dict[str, Any]]:
        """The ledger is of version 2, sound, in WAL mode, and has every row of version 1; the rows that are new."""
        path = path or self.path
        self.assertEqual(self.version(path), 2)
        with contextlib.closing(sqlite3.connect(path)) as database:
            self.assertEqual(database.execute("PRAGMA integrity_check").fetchone(), ("ok",))
            self.assertEqual(database.execute("PRAGMA journal_mode").fetchone(), ("wal",))
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        self.assertEqual(tables, {"calls", "dialects"})
        rows = self.rows(path)
        old = rows[: len(V1_ROWS) + more]
        self.assertEqual([tuple(row[name] for name in V1_COLUMNS) for row in old[: len(V1_ROWS)]], list(V1_ROWS))
        self.assertEqual({(row["gateway"], row["root"]) for row in old}, {("alltoken", None)})
        self.assertEqual([row["id"] for row in old[len(V1_ROWS) :]], list(range(100, 100 + more)))
        return rows[len(old) :]

    def script(self, text: str, *words: str, **options: Any) -> subprocess.Popen:
        """Start a process that has imported the ledger's module as `ledger`, and runs `text`."""
        text = f"import os, sys; sys.path.insert(0, {str(ROOT)!r})\nfrom alltoken_call.store import ledger\n{text}"
        return self.spawn(*words, code=text, **options)

    @contextlib.contextmanager
    def as_anybody(self, *paths: str):
        """Be a user whom modes bind, with `paths` as their own: root may write anywhere."""
        if os.geteuid() != 0:
            yield
            return
        for path in paths:
            os.chown(path, 65534, -1)
        os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(0)

    def rows(self, path: str | None = None) -> list[dict[str, Any]]:
        """The rows, in the order in which they came; none where there is no file."""
        if not os.path.exists(path or self.path):
            return []
        with contextlib.closing(sqlite3.connect(path or self.path)) as database:
            database.row_factory = sqlite3.Row
            return [dict(row) for row in database.execute("SELECT * FROM calls ORDER BY id")]

    def only_row(self) -> dict[str, Any]:
        """The one row that there is; it is taken out, so that the next run leaves the one row again."""
        rows = self.rows()
        self.assertEqual(len(rows), 1, rows)
        os.unlink(self.path)
        return rows[0]

    def kept(self) -> bytes:
        """The bytes of every file in the state directory."""
        found = b""
        for folder, _, names in os.walk(os.path.join(self.folder, "state")):
            for name in names:
                with open(os.path.join(folder, name), "rb") as file:
                    found += file.read()
        return found

    def until(self, happened: Any) -> Any:
        """Wait for what no event tells of: another process's file."""
        end = time.monotonic() + PATIENCE
        while not (found := happened()):
            self.assertLess(time.monotonic(), end, "it did not happen")
            time.sleep(0.001)
        return found


class Rows(LedgerCase):
    def test_a_call_leaves_all_that_is_known_of_it(self):
        before = time.time()
        self.assertQuietly(0, self.chat("hi"))
        row = self.only_row()
        self.assertTrue(before <= row["started"] <= row["ended"] <= time.time(), row)
        known = {
            "gateway": "alltoken",
            "root": self.gateway.url,
            "command": "chat",
            "model": "gpt-5.4-mini",
            "task_id": None,
            "request_id": "req_loopback_1",
            "prompt_tokens": 5,
            "completion_tokens": 8,
            "cost": "0.0000110000",
            "source": "gateway",
            "output": None,
            "exit_status": 0,
        }
        self.assertEqual(known, {name: row[name] for name in known})

    def test_a_search_is_recorded_as_one(self):
        self.assertQuietly(0, self.call("search", "hi"))
        row = self.only_row()
        self.assertEqual((row["command"], row["model"], row["source"]), ("search", "deepseek-v4-pro", "gateway"))

    def test_an_unknown_cost_is_kept_as_unknown(self):
        for comment in (b"", b': {"cost":null}\n\n', b': {"cost":"NaN"}\n\n', b': {"cost":""}\n\n', b": PING\n\n"):
            with self.subTest(comment):
                self.gateway.on(CHAT, stream(frames("a"), DONE + comment))
                self.assertQuietly(0, self.chat("hi"))
                row = self.only_row()
                self.assertEqual((row["cost"], row["source"]), (None, None))
                self.assertEqual((row["prompt_tokens"], row["completion_tokens"]), (19, 12))

    def test_a_cost_of_zero_is_known_if_the_prices_are_zero(self):
        for figure in (b'"0"', b"0", b'"0.0000000000"'):
            with self.subTest(figure):
                self.gateway.on(
                    CHAT, stream(frames("a"), DONE, b': {"cost":%s,"input_price":0,"output_price":0}\n\n' % figure)
                )
                self.assertQuietly(0, self.chat("hi"))
                row = self.only_row()
                self.assertEqual((float(row["cost"]), row["source"]), (0.0, "gateway"))

    def test_odd_figures_of_usage_are_no_tokens(self):
        for odd in (None, "12", 1.5, True, -1, 1 << 63, 10**30, [], {}):
            with self.subTest(odd):
                usage = {"prompt_tokens": odd, "completion_tokens": 3}
                self.gateway.on(CHAT, stream(frames("a", usage=usage), DONE, COST))
                result = self.chat("hi")
                self.assertQuietly(0, result)
                self.assertNotIn("[warning]", result.err)
                row = self.only_row()
                self.assertEqual((row["prompt_tokens"], row["completion_tokens"]), (None, 3))

    def test_a_run_that_reached_the_gateway_leaves_one_row_however_it_ended(self):
        error = b'data: {"error":{"code":"upstream_error","message":"x"}}\n\n'
        bought_nothing = ("refused", "key", "credit", "rate")
        for name, status, argv, steps in (
            ("refused", 1, (), (refuse(400, "invalid_request"),)),
            ("key", 4, (), (refuse(401, "invalid_api_key"),)),
            ("credit", 6, (), (refuse(402, "insufficient_balance"),)),
            ("rate", 7, (), (refuse(429, "rate_limited"),)),
            ("gateway", 5, (), (refuse(500, "upstream_error"),)),
            ("retried", 0, (), (refuse(503, "busy"), refuse(429, "rate_limited"), stream(frames("a"), DONE, COST))),
            ("page", 5, (), (reply(502, b"<html>bad gateway</html>"),)),
            ("redirect", 3, (), (reply(307, b"", {"Location": "/elsewhere"}),)),
            ("no protocol", 3, (), (reply(200, {"hello": 1}),)),
            ("no answer", 3, (), (raw(b"", then="reset"),)),
            ("silence", 3, ("--timeout", "0.05"), (raw(b"", then="hold"),)),
            ("deadline", 3, ("--max-wait", "0.05"), (raw(b"", then="hold"),)),
            ("cut", 9, (), (stream(said("some"), "cut"),)),
            ("cut by the clock", 9, ("--max-wait", "0.1"), (stream(said("some"), "hold"),)),
            ("error before text", 5, (), (stream(error),)),
            ("error after text", 9, (), (stream(said("some") + error),)),
            ("no providers", 5, ("--fallback", "none"), (refuse(503, "all_providers_failed"),)),
        ):
            with self.subTest(name):
                self.gateway.on(CHAT, *steps)
                result = self.chat("hi", *argv)
                self.assertQuietly(status, result)
                row = self.only_row()
                self.assertEqual((row["command"], row["model"]), ("chat", "gpt-5.4-mini"))
                if name in bought_nothing:
                    self.assertEqual((row["cost"], row["source"]), (None, "none"))
                    self.assertIn("[cost] none", result.err)
                elif name not in ("retried", "redirect"):
                    self.assertEqual((row["cost"], row["source"]), (None, None))
                self.assertEqual(row["exit_status"], status)
                self.assertIsNotNone(row["ended"])
                if name == "cut":
                    self.assertEqual((row["cost"], row["request_id"]), (None, "req_loopback_1"))

    def test_a_run_that_never_tried_to_reach_the_gateway_leaves_none(self):
        for argv, environ in (
            (("chat", ""), {}),
            (("chat", "--no-such-option", "hi"), {}),
            (("chat", "--dry-run", "hi"), {}),
            (("chat", "--help"), {}),
            (("chat", "hi"), {"ALLTOKEN_API_KEY": None}),
            (("chat", "hi"), {"ALLTOKEN_API_KEY": "two words"}),
            (("chat", "hi"), {"ALLTOKEN_BASE_URL": "http://example.com"}),
            (("chat", "--thread", self.folder, "hi"), {}),
            (("search", "-m", "gpt-5.4", "hi"), {}),
            (("search", "--dry-run", "hi"), {}),
            (("image", "-o", os.path.join(self.folder, "none", "a.png"), "hi"), {}),
            (("image", "--resume", "igen_1", "hi"), {}),
            (("image", "--resume"), {}),
            (("video", "--resume", "vgen_1"), {"ALLTOKEN_API_KEY": None}),
        ):
            with self.subTest(argv, environ=environ):
                result = self.call(*argv, **environ)
                self.assertNotIn("Traceback", result.err)
                self.assertEqual(self.rows(), [])

    def test_a_run_that_did_not_get_through_to_the_gateway_leaves_a_row_of_no_cost(self):
        closed = "http://127.0.0.1:1"
        for command in ("chat", "search", "image", "video"):
            with self.subTest(command):
                result = self.call(command, "hi", ALLTOKEN_BASE_URL=closed)
                self.assertQuietly(3, result)
                self.assertIn("[cost] none", result.err)
                row = self.only_row()
                self.assertEqual((row["command"], row["exit_status"], row["root"]), (command, 3, closed))
                self.assertEqual((row["cost"], row["source"], row["task_id"]), (None, "none", None))
                self.assertIsNotNone(row["model"])

    def test_a_task_that_was_asked_for_in_vain_keeps_its_one_row(self):
        for command, task in (("image", "igen_1"), ("video", "vgen_1")):
            with self.subTest(command):
                for _ in range(2):
                    result = self.call(
                        command, "--resume", task, "--max-wait", "0.05", ALLTOKEN_BASE_URL="http://127.0.0.1:1"
                    )
                    self.assertIn(result.status, (3, 8))
                row = self.only_row()
                self.assertEqual((row["task_id"], row["exit_status"]), (task, result.status))
                self.assertEqual((row["cost"], row["source"]), (None, None))  # what the task costs is not known

    def test_a_cancel_in_vain_leaves_none(self):
        argv = ("video", "--cancel", "vgen_2", "--max-wait", "0.05")
        self.assertIn(self.call(*argv, ALLTOKEN_BASE_URL="http://127.0.0.1:1").status, (3, 8))
        self.assertEqual(self.rows(), [])

    def test_models_and_cost_leave_none(self):
        self.assertQuietly(0, self.chat("hi"))
        before = self.rows()
        for argv in (
            ("models",),
            ("models", "-l"),
            ("models", "gpt-5.4-mini"),
            ("models", "nope-1.0"),
            ("cost", "gpt-5.4-mini", "1", "1"),
            ("cost", "glm-5.1", "1", "1"),
            ("cost",),
            ("cost", "--since", "7d"),
        ):
            with self.subTest(argv):
                self.assertIn(self.call(*argv).status, (0, 1))
                self.assertEqual(self.rows(), before)

    def test_a_fallback_adds_none_and_the_row_names_who_answered(self):
        self.gateway.on(CHAT, refuse(503, "all_providers_failed"), stream(frames("a"), DONE, COST))
        self.assertQuietly(0, self.chat("-m", "gpt-5.4", "hi"))
        self.assertEqual(self.asked(), 2)
        row = self.only_row()
        self.assertEqual((row["model"], row["exit_status"], row["cost"]), ("gpt-5.4-mini", 0, "0.0000188000"))

    def test_the_rows_of_a_ledger_elsewhere_are_there(self):
        path = os.path.join(self.folder, "new", "folder", "spent.db")
        self.assertQuietly(0, self.chat("hi", ALLTOKEN_LEDGER=path))
        self.assertEqual(len(self.rows(path)), 1)
        self.assertEqual(stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode), 0o700)
        self.assertEqual(self.rows(), [])


class TaskRows(LedgerCase):
    def test_a_task_is_on_record_before_the_first_poll(self):
        for command, path, prefix in (
            ("image", "/v1/images/generations", "igen"),
            ("video", "/v1/videos/generations", "vgen"),
        ):
            with self.subTest(command):
                seen = []

                def poll(exchange, seen=seen):
                    seen.append(self.rows()[-1])
                    exchange.refuse(404, "task_not_found", "not_found_error", "gone")

                number = len(self.gateway.tasks.all) + 1
                self.gateway.on(f"GET {path}/{prefix}_{number:08d}", poll)
                target = os.path.join(self.folder, f"a.{command}")
                self.assertQuietly(1, self.call(command, "-o", target, "hi"))
                row = seen[0]
                self.assertEqual((row["command"], row["task_id"]), (command, f"{prefix}_{number:08d}"))
                self.assertEqual((row["output"], row["exit_status"]), (target, None))

    def test_a_resume_finishes_the_row_of_its_task(self):
        for command, model, tokens in (
            ("image", "gpt-image-2", (10, 272)),
            ("video", "seedance-1.5-pro", (None, 48000)),
        ):
            with self.subTest(command):
                target = os.path.join(self.folder, f"result.{command}")
                self.assertQuietly(0, self.call(command, "--detach", "-o", target, "hi"))
                (row,) = self.rows()
                self.assertEqual((row["exit_status"], row["output"], row["status"]), (0, target, "queued"))
                self.assertQuietly(0, self.call(command, "--resume"))
                end = self.only_row()
                self.assertEqual((end["started"], end["task_id"]), (row["started"], row["task_id"]))
                self.assertEqual((end["model"], end["output"], end["status"]), (model, target, "completed"))
                self.assertEqual((end["prompt_tokens"], end["completion_tokens"]), tokens)
                self.assertGreaterEqual(end["ended"], row["ended"])
                self.assertTrue(os.path.exists(target))

    def test_a_task_that_has_ended_is_not_resumed_again(self):
        for command in ("image", "video"):
            with self.subTest(command):
                place = ("-o", os.path.join(self.folder, f"{command}s", ""))
                os.mkdir(place[1])
                first = self.call(command, "--detach", *place, "hi").out.decode().strip()
                last = self.call(command, "--detach", *place, "hi").out.decode().strip()
                for task in (last, first):
                    self.assertEqual(self.call(command, "--resume", "--json").document["task_id"], task)
                self.assertQuietly(1, self.call(command, "--resume"))

    def test_a_task_that_ends_badly_is_recorded_so(self):
        for ending in ("failed", "cancelled", "expired"):
            with self.subTest(ending):
                self.assertQuietly(0, self.call("image", "--detach", "hi"))
                (row,) = self.rows()
                answer = {"id": row["task_id"], "status": ending, "error": {"code": "x", "message": "no"}}
                self.gateway.on(f"GET /v1/images/generations/{row['task_id']}", reply(200, answer))
                self.assertQuietly(10, self.call("image", "--resume", row["task_id"]))
                end = self.only_row()
                self.assertEqual((end["status"], end["exit_status"]), (ending, 10))

    def test_a_cancelled_task_has_its_one_row_finished(self):
        self.gateway.work = PATIENCE
        self.assertQuietly(0, self.call("video", "--detach", "hi"))
        (row,) = self.rows()
        self.assertQuietly(0, self.call("video", "--cancel", row["task_id"]))
        end = self.only_row()
        self.assertEqual((end["started"], end["status"], end["model"]), (row["started"], "cancelled", row["model"]))

    def test_a_submit_of_unknown_outcome_leaves_a_row(self):
        self.gateway.on("POST /v1/videos/generations", raw(b"", then="reset"))
        self.assertQuietly(12, self.call("video", "hi"))
        row = self.only_row()
        self.assertEqual((row["command"], row["task_id"], row["exit_status"]), ("video", None, 12))

    def test_a_repeated_submit_leaves_one_row(self):
        self.gateway.on(IMAGES, raw(b"", then="reset"), refuse(409, "duplicate_request", task_id="igen_77"))
        self.assertQuietly(0, self.call("image", "--detach", "hi"))
        self.assertEqual(self.only_row()["task_id"], "igen_77")

    def test_without_a_ledger_a_task_is_resumed_by_its_id_without_a_word_of_it(self):
        off = {"ALLTOKEN_LEDGER": "off"}
        for command in ("image", "video"):
            with self.subTest(command):
                result = self.call(command, "--detach", "hi", **off)
                self.assertQuietly(0, result)
                task = result.out.decode().strip()
                target = os.path.join(self.folder, f"{command}.bin")
                result = self.call(command, "--resume", task, "-o", target, **off)
                self.assertQuietly(0, result)
                self.assertNotIn("[warning]", result.err)
                self.assertTrue(os.path.exists(target))
                self.assertEqual(self.rows(), [])

    @unittest.skipUnless(hasattr(os, "mkfifo"), "named pipes of POSIX")
    def test_what_is_no_regular_file_is_no_ledger_and_nothing_is_left_beside_it(self):
        place = os.path.join(self.folder, "place")
        os.mkdir(place)
        os.mkfifo(os.path.join(place, "pipe"))
        for name in ("pipe", ""):
            result = self.chat("hi", ALLTOKEN_LEDGER=os.path.join(place, name))
            self.assertQuietly(0, result)
            self.assertEqual(result.err.count("[warning]"), 1)
            self.assertIn("regular file", result.err)
        self.assertEqual(os.listdir(place), ["pipe"])


class Processes(LedgerCase):
    def test_forty_at_once_leave_forty_rows_and_say_nothing_of_it(self):
        running = [self.spawn("chat", f"number {number}") for number in range(40)]
        for process in running:
            _, err = process.communicate(timeout=6 * PATIENCE)
            lines = err.decode().splitlines()
            self.assertEqual([line.split()[0] for line in lines], ["[usage]", "[cost]"], lines)
            self.assertEqual(process.returncode, 0)
        rows = self.rows()
        self.assertEqual([(row["exit_status"], row["source"]) for row in rows], [(0, "gateway")] * 40)
        with contextlib.closing(sqlite3.connect(self.path)) as database:
            self.assertEqual(database.execute("PRAGMA integrity_check").fetchone(), ("ok",))

    def test_sixty_four_with_several_rows_each_lose_none(self):
        script = (
            "import sqlite3; reader, writer = os.pipe(); children = []\n"
            "for number in range(64):\n"
            "    child = os.fork()\n"
            "    if not child:\n"
            "        os.close(writer); os.read(reader, 1)\n"  # all of them at once
            "        failed = 0\n"
            "        for turn in range(4):\n"
            "            row = {'started': 1.0, 'command': 'chat', 'request_id': f'{number}-{turn}'}\n"
            "            task = {'started': 1.0, 'command': 'image', 'task_id': f'igen_new_{turn}', 'status': 'queued'}\n"
            "            try: ledger.put(sys.argv[1], row); ledger.put(sys.argv[1], task)\n"
            "            except LedgerError as error: failed = 1; print(error, file=sys.stderr)\n"
            "        os._exit(failed)\n"
            "    children.append(child)\n"
            "os.close(reader); os.close(writer)\n"
            "sys.exit(sum(os.waitpid(child, 0)[1] != 0 for child in children))\n"
        )
        for old in (False, True):
            path = os.path.join(self.folder, f"many-{old}", "ledger.db")
            if old:
                self.old(path)
            process = self.script(script, path)
            _, err = process.communicate(timeout=6 * PATIENCE)
            with self.subTest(old=old):
                self.assertEqual((process.returncode, err), (0, b""))
                rows = self.assertTakenOver(path) if old else self.rows(path)
                chats = {row["request_id"] for row in rows if row["command"] == "chat"}
                self.assertEqual(chats, {f"{number}-{turn}" for number in range(64) for turn in range(4)})
                self.assertEqual(len(rows), 64 * 4 + 4)
                self.assertEqual(os.listdir(os.path.dirname(path)), ["ledger.db"])

    @unittest.skipIf(os.name == "nt", "signals of POSIX")
    def test_an_interrupted_answer_leaves_its_row(self):
        self.gateway.on(CHAT, stream(said("some "), "hold"))
        for signum, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
            with self.subTest(status):
                process = self.spawn("chat", "hi")
                self.assertEqual(process.stdout.read(5), b"some ")
                process.send_signal(signum)
                _, err = process.communicate(timeout=PATIENCE)
                self.assertEqual(process.returncode, status, err)
                self.assertNotIn(b"Traceback", err)
                row = self.only_row()
                self.assertEqual((row["exit_status"], row["cost"], row["model"]), (status, None, "gpt-5.4-mini"))

    @unittest.skipIf(os.name == "nt", "pipes of POSIX")
    def test_a_run_whose_reader_went_away_leaves_its_row(self):
        read = threading.Event()

        def step(exchange):
            exchange.head(chunked=True)
            exchange.chunk(said("some "))
            read.wait(PATIENCE)
            for _ in range(50):
                exchange.chunk(said("more "))
            exchange.hold()

        self.gateway.on(CHAT, step)
        process = self.spawn("chat", "hi")
        self.assertEqual(process.stdout.read(5), b"some ")
        process.stdout.close()
        read.set()
        self.assertEqual(process.wait(PATIENCE), 141)
        self.assertEqual(process.stderr.read().count(b"[warning]"), 0)
        self.assertEqual(self.only_row()["exit_status"], 141)

    @unittest.skipUnless(os.path.isdir("/proc/self/fd"), "sees what a process has opened")
    def test_an_interrupt_while_it_waits_for_the_ledger_is_no_crash(self):
        self.assertQuietly(0, self.chat("hi"))
        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            process = self.spawn("chat", "hi")
            descriptors = f"/proc/{process.pid}/fd"

            def waiting():
                with contextlib.suppress(OSError):
                    return any(os.readlink(f"{descriptors}/{fd}") == self.path for fd in os.listdir(descriptors))

            self.until(waiting)
            process.send_signal(signal.SIGINT)
            other.execute("COMMIT")
        out, err = process.communicate(timeout=PATIENCE)
        self.assertEqual(out, HI)
        self.assertNotIn(b"Traceback", err)
        self.assertIn(process.returncode, (0, 130))


class Privacy(LedgerCase):
    @unittest.skipIf(os.name == "nt", "modes of POSIX")
    def test_under_any_umask_it_is_0600_in_directories_of_0700(self):
        for umask in (0o000, 0o022):
            with self.subTest(oct(umask)):
                state = os.path.join(self.folder, f"deep{umask}", "state")
                before = os.umask(umask)
                try:
                    self.assertQuietly(0, self.chat("hi", XDG_STATE_HOME=state))
                finally:
                    os.umask(before)
                path = os.path.join(state, "alltoken-call", "ledger.db")
                self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
                for folder in (os.path.dirname(path), state, os.path.dirname(state)):
                    self.assertEqual(stat.S_IMODE(os.stat(folder).st_mode), 0o700, folder)

    @unittest.skipIf(os.name == "nt", "modes of POSIX")
    def test_a_directory_that_was_there_keeps_its_mode(self):
        folder = os.path.join(self.folder, "shared")
        os.mkdir(folder)
        os.chmod(folder, 0o755)
        path = os.path.join(folder, "ledger.db")
        self.assertQuietly(0, self.chat("hi", ALLTOKEN_LEDGER=path))
        self.assertEqual(stat.S_IMODE(os.stat(folder).st_mode), 0o755)
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)

    @unittest.skipIf(os.name == "nt", "modes of POSIX")
    def test_what_sqlite_puts_beside_it_is_as_private(self):
        prompt = "a-very-private-question"
        before = os.umask(0)
        try:
            self.assertQuietly(0, self.chat("hi"))
            with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as other:
                self.assertEqual(other.execute("PRAGMA journal_mode").fetchone(), ("wal",))
                other.execute("BEGIN")
                other.execute("SELECT * FROM calls").fetchall()  # a reader, before whom no writer tidies up
                self.assertQuietly(0, self.execute("chat", prompt))  # whom no reader holds up
                folder = os.path.dirname(self.path)
                modes = {name: stat.S_IMODE(os.stat(os.path.join(folder, name)).st_mode) for name in os.listdir(folder)}
                self.assertGreater(os.path.getsize(f"{self.path}-wal"), 0)
                found = self.kept()
                other.execute("COMMIT")
        finally:
            os.umask(before)
        self.assertEqual(modes, dict.fromkeys(FILES, 0o600))
        self.assertFalse(prompt.encode() in found or KEY.encode() in found)
        self.assertEqual(len(self.rows()), 2)
        self.assertEqual(os.listdir(folder), ["ledger.db"])

    def test_the_journal_of_a_taking_over_is_as_private(self):
        self.old(more=3_000)
        seen = {}

        class Watching(sqlite3.Connection):
            def execute(inner, statement, *values):
                done = super().execute(statement, *values)
                for name in os.listdir(os.path.dirname(self.path)):
                    seen[name] = stat.S_IMODE(os.stat(os.path.join(os.path.dirname(self.path), name)).st_mode)
                return done

        before = os.umask(0)
        try:
            with mock.patch("sqlite3.connect", lambda *a, **k: small_cache(Watching, *a, **k)):
                self.assertQuietly(0, self.chat("hi"))
        finally:
            os.umask(before)
        self.assertEqual(seen, dict.fromkeys((*FILES, "ledger.db-journal"), 0o600))

    def test_neither_prompt_nor_answer_nor_key_is_in_it(self):
        question, answer = "WHAT-IS-ASKED", "WHAT-IS-ANSWERED"
        picture = os.path.join(self.folder, "a.png")
        steps = (
            stream(frames(answer), DONE, COST),
            stream(said(answer), "cut"),
            stream(frames(answer, finish="length"), DONE, COST),
            reply(200, {"choices": [{"message": {"content": answer}, "finish_reason": "stop"}], "usage": USAGE}),
        )
        for step in steps:
            self.gateway.on(CHAT, step)
            for argv in (("chat", "-s", question, question), ("search", question)):
                self.assertIn(self.call(*argv).status, (0, 9))
        self.assertQuietly(0, self.call("image", "-o", picture, question))
        self.assertQuietly(0, self.call("video", question))
        self.assertEqual(len(self.rows()), 10)
        for secret in (question, answer, KEY):
            with self.subTest(secret):
                self.assertFalse(secret.encode() in self.kept(), self.rows())

    def test_an_answer_that_echoes_the_key_does_not_bring_it_in(self):
        fields = {"code": KEY, "type": KEY, "message": f"bad key {KEY}", "request_id": f"req_{KEY}", "task_id": KEY}
        body = b'{"x-gateway-request-id":"%s","choices":[{"message":{"content":"a"},"finish_reason":"stop"}]}'
        for name, step in (
            ("envelope", reply(401, {"error": fields})),
            ("top level", reply(400, {"error": KEY, "request_id": KEY})),
            ("header", raw(b"HTTP/1.1 401 No\r\nx-request-id: %s\r\nContent-Length: 0\r\n\r\n" % KEY.encode())),
            (
                "stream",
                stream(said("a") + b'data: {"error":{"message":"%s","request_id":"%s"}}\n\n' % ((KEY.encode(),) * 2)),
            ),
            ("document", raw(EVENTS + b"\r\n" + body % KEY.encode())),
            ("usage", stream(frames("a", usage={"prompt_tokens": KEY}), DONE, b': {"cost":"%s"}\n\n' % KEY.encode())),
        ):
            with self.subTest(name):
                self.gateway.on(CHAT, step)
                result = self.chat("--json", "hi")
                self.assertIn(result.status, (0, 1, 4, 5, 9))
                kept, rows = self.kept(), self.rows()
                os.unlink(self.path)
                self.assertEqual(len(rows), 1)
                self.assertFalse(KEY.encode() in kept, rows)
                if name != "usage":  # which is passed on as it came
                    self.assertNotIn(KEY, result.out.decode() + result.err)


class Trouble(LedgerCase):
    def setUp(self) -> None:
        super().setUp()
        patience = mock.patch.object(ledger, "PATIENCE", 0.02)
        patience.start()
        self.addCleanup(patience.stop)

    def made(self, name: str) -> str:
        """The path of a sound ledger with one row."""
        path = os.path.join(self.folder, name)
        self.assertQuietly(0, self.chat("hi", ALLTOKEN_LEDGER=path))
        return path

    def read(self, path: str) -> bytes | None:
        """A file's bytes, or None for what is no file."""
        if not os.path.isfile(path):
            return None
        with open(path, "rb") as file:
            return file.read()

    def places(self):
        """Names and paths of ledgers that cannot be used."""
        yield "no database", self.file("text.db", b"this is not a database, but somebody's notes\n" * 200)
        yield "a short file", self.file("short.db", b"xy")
        path = self.made("smashed.db")
        data = self.read(path)
        size = int.from_bytes(data[16:18], "big")
        yield "smashed pages", self.file("smashed.db", data[:size] + b"\xff" * (len(data) - size))
        path = self.made("cut.db")
        yield "a truncated file", self.file("cut.db", self.read(path)[: size + 100])
        yield "a directory", self.folder
        yield "below a file", os.path.join(self.file("plain", b"plain"), "ledger.db")
        loop = os.path.join(self.folder, "loop")
        os.symlink(loop, loop)
        yield "a link to itself", loop
        yield "a name too long", os.path.join(self.folder, "a" * 300)
        path = self.made("newer.db")
        with contextlib.closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA user_version = 3")
        yield "a newer schema", path
        path = self.old(os.path.join(self.folder, "newer-old.db"))
        with contextlib.closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA user_version = 3")
        yield "a newer schema that is not in WAL mode", path
        path = self.file("other.db", b"")
        with contextlib.closing(sqlite3.connect(path)) as database:
            database.execute("CREATE TABLE calls (caller TEXT)")
        yield "another program's", path

    def assertUnharmed(self, result, path: str, *, status: int = 0, out: bytes = HI) -> None:
        """The answer and the status are those of a run without trouble, and one warning names the ledger."""
        self.assertQuietly(status, result)
        self.assertEqual(result.out, out)
        warnings = [line for line in result.err.splitlines() if line.startswith("[warning]")]
        self.assertEqual(len(warnings), 1, result.err)
        self.assertIn("ledger", warnings[0])
        self.assertIn(path, warnings[0])

    def test_the_answer_is_unharmed_and_the_file_untouched(self):
        for name, path in self.places():
            with self.subTest(name):
                before = self.read(path)
                self.assertUnharmed(self.chat("hi", ALLTOKEN_LEDGER=path), path)
                self.assertUnharmed(self.chat("-q", "hi", ALLTOKEN_LEDGER=path), path)
                self.assertEqual(self.read(path), before)
                for ending in ("-journal", "-wal", "-shm"):
                    self.assertFalse(os.path.exists(path + ending), ending)

    def test_the_status_of_a_failure_stays(self):
        self.gateway.on(CHAT, refuse(402, "insufficient_balance"))
        path = self.file("text.db", b"notes")
        self.assertUnharmed(self.chat("hi", ALLTOKEN_LEDGER=path), path, status=6, out=b"")

    def test_the_json_document_is_the_only_one(self):
        path = self.file("text.db", b"notes")
        result = self.chat("--json", "hi", ALLTOKEN_LEDGER=path)
        self.assertUnharmed(result, path, out=result.out)
        self.assertEqual((result.document["ok"], result.document["cost"]["source"]), (True, "gateway"))

    def test_a_task_is_unharmed_by_it(self):
        path = self.file("text.db", b"notes")
        for command in ("image", "video"):
            with self.subTest(command):
                target = os.path.join(self.folder, f"result.{command}")
                result = self.call(command, "-o", target, "hi", ALLTOKEN_LEDGER=path)
                self.assertUnharmed(result, path, out=f"{target}\n".encode())
                self.assertTrue(os.path.getsize(target))
        self.assertEqual(self.read(path), b"notes")

    def test_a_locked_ledger_is_waited_for_and_then_left_alone(self):
        path = self.made("locked.db")
        for lock in ("EXCLUSIVE", "IMMEDIATE"):
            with self.subTest(lock), contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute(f"BEGIN {lock}")
                self.assertUnharmed(self.chat("hi", ALLTOKEN_LEDGER=path), path)
                other.execute("COMMIT")
                self.assertEqual(len(self.rows(path)), 1)

    def test_a_ledger_that_is_free_again_in_time_gets_its_row(self):
        path = self.made("busy.db")
        with (
            mock.patch.object(ledger, "PATIENCE", PATIENCE),
            contextlib.closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other,
        ):
            other.execute("BEGIN EXCLUSIVE")
            free = threading.Timer(0.05, other.execute, ["COMMIT"])
            free.start()
            result = self.chat("hi", ALLTOKEN_LEDGER=path)
            free.join()
        self.assertQuietly(0, result)
        self.assertNotIn("[warning]", result.err)
        self.assertEqual(len(self.rows(path)), 2)

    @unittest.skipIf(os.name == "nt", "modes of POSIX")
    def test_a_read_only_place_is_told_of(self):
        folder = os.path.join(self.folder, "fixed")
        os.mkdir(folder)
        path = self.made(os.path.join("fixed", "ledger.db"))
        before = self.read(path)
        for name, mode, folder_mode, place in (
            ("file", 0o400, 0o700, path),
            ("directory", 0o600, 0o500, path),
            ("new file", 0o600, 0o500, os.path.join(folder, "new.db")),
            ("new directory", 0o600, 0o500, os.path.join(folder, "new", "ledger.db")),
        ):
            with self.subTest(name):
                os.chmod(path, mode)
                os.chmod(folder, folder_mode)
                with self.as_anybody(self.folder, folder, path):
                    result = self.chat("hi", ALLTOKEN_LEDGER=place)
                os.chmod(folder, 0o700)
                self.assertUnharmed(result, place)
                self.assertEqual(self.read(path), before)
                self.assertEqual(os.listdir(folder), ["ledger.db"])

    def test_without_a_home_there_is_one_warning(self):
        result = self.chat("hi", HOME=None, XDG_STATE_HOME=None)
        self.assertUnharmed(result, "HOME")

    def test_off_means_no_file_no_warning_and_no_costs_to_look_up(self):
        off = {"ALLTOKEN_LEDGER": "off", "HOME": None, "XDG_STATE_HOME": None}
        result = self.chat("hi", **off)
        self.assertQuietly(0, result)
        self.assertNotIn("[warning]", result.err)
        self.assertQuietly(0, self.chat("hi", ALLTOKEN_LEDGER="off"))
        self.assertEqual(os.listdir(self.folder), [])
        for argv in (("cost",), ("cost", "--since", "7d")):
            with self.subTest(argv):
                self.assertQuietly(1, self.call(*argv, **off))
        self.assertQuietly(0, self.call("cost", "gpt-5.4-mini", "1", "1", **off))

    def test_what_reads_it_fails_without_a_traceback(self):
        for name, path in self.places():
            before = self.read(path)
            for argv in (("cost",), ("cost", "--since", "7d"), ("cost", "--by", "day", "--json")):
                with self.subTest(name, argv=argv):
                    result = self.call(*argv, ALLTOKEN_LEDGER=path)
                    self.assertQuietly(1, result)
                    if os.path.exists(path):
                        self.assertIn(f"the ledger {path} cannot be used: ", result.err)
                    self.assertEqual(self.read(path), before)
            with self.subTest(name, argv="--resume"):
                self.assertQuietly(1, self.call("image", "--resume", ALLTOKEN_LEDGER=path))

    def test_a_name_that_is_no_text_is_a_name(self):
        path = os.path.join(self.folder, "caf\udce9.db")
        result = self.chat("hi", ALLTOKEN_LEDGER=path)
        self.assertQuietly(0, result)
        self.assertEqual(os.path.exists(path), "[warning]" not in result.err)


class TakingOver(LedgerCase):
    """A ledger of version 1 becomes one of version 2 in its place."""

    def test_nothing_is_lost_and_the_mode_stays(self):
        self.old()
        self.assertQuietly(0, self.chat("hi"))
        (new,) = self.assertTakenOver()
        self.assertEqual((new["command"], new["gateway"], new["root"]), ("chat", "alltoken", self.gateway.url))
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)
        self.assertEqual(os.listdir(os.path.dirname(self.path)), ["ledger.db"])

    def test_whoever_reads_it_first_takes_it_over_too(self):
        for argv, status in (
            (("cost", "--since", "2001-01-01", "--json"), 0),
            (("cost",), 0),
            (("video", "--resume"), 1),
        ):
            with self.subTest(argv):
                self.old()
                result = self.call(*argv)
                self.assertQuietly(status, result)
                self.assertNotIn("[warning] the ledger", result.err)
                self.assertEqual(self.assertTakenOver(), [])
                if "--json" in argv:
                    self.assertEqual((result.document["calls"], result.document["unknown"]), (9, 7))
                    self.assertEqual(result.document["cost"]["usd"], "0.0000188")
                shutil.rmtree(os.path.dirname(self.path))

    def test_an_unfinished_task_of_version_1_is_resumed(self):
        self.old()
        target = os.path.join(self.folder, "late.png")
        self.gateway.on("GET /v1/images/generations/igen_3", refuse(410, "image_already_retrieved"))
        self.assertQuietly(11, self.call("image", "--resume"))  # the latest
        self.gateway.on("GET /v1/images/generations/igen_2", lambda exchange: exchange.reply(200, self.image()))
        self.assertQuietly(0, self.call("image", "--resume", "-o", target))
        self.assertQuietly(1, self.call("image", "--resume"))
        self.assertTrue(os.path.exists(target))
        rows = {row["task_id"]: row for row in self.rows() if row["command"] == "image"}
        self.assertEqual(len(self.rows()), len(V1_ROWS))
        self.assertEqual(rows["igen_3"]["status"], "gone")
        self.assertEqual((rows["igen_2"]["status"], rows["igen_2"]["output"]), ("completed", target))
        self.assertEqual(rows["igen_2"]["started"], 1e9 + 8)

    def image(self) -> dict[str, Any]:
        """The answer of a task that has its image."""
        picture = base64.b64encode(self.gateway.tasks.image).decode()
        return {"status": "completed", "data": [{"b64_json": picture}]}

    def test_an_empty_ledger_of_version_1_is_taken_over(self):
        os.makedirs(os.path.dirname(self.path))
        with contextlib.closing(sqlite3.connect(self.path)) as database:
            database.executescript(V1)
        self.assertQuietly(0, self.chat("hi"))
        self.assertEqual((self.version(), len(self.rows())), (2, 1))

    def test_an_empty_file_becomes_a_ledger(self):
        os.makedirs(os.path.dirname(self.path))
        with open(self.path, "wb"):
            pass
        self.assertQuietly(0, self.chat("hi"))
        self.assertEqual((self.version(), len(self.rows())), (2, 1))

    def test_two_commands_at_once_do_it_once(self):
        self.old(more=2_000)
        running = [self.spawn("chat", f"number {number}") for number in range(4)]
        for process in running:
            _, err = process.communicate(timeout=3 * PATIENCE)
            self.assertEqual((process.returncode, err.count(b"[warning]")), (0, 0), err)
        self.assertEqual(len(self.assertTakenOver(more=2_000)), 4)

    @unittest.skipIf(os.name == "nt", "signals of POSIX")
    def test_killed_anywhere_in_the_middle_it_is_still_version_1_and_the_next_run_takes_it_over(self):
        script = (
            "import signal, sqlite3\n"
            "connect, at, seen = sqlite3.connect, int(sys.argv[2]), 0\n"
            "class Dying(sqlite3.Connection):\n"
            "    def execute(self, *words):\n"
            "        global seen\n"
            "        if seen == at: os.kill(os.getpid(), signal.SIGKILL)\n"
            "        seen += 1\n"
            "        return super().execute(*words)\n"
            "def small(*words, **options):\n"
            "    database = connect(*words, factory=Dying, **options)\n"
            "    sqlite3.Connection.execute(database, 'PRAGMA cache_size = 1')\n"  # so that much is written before
            "    return database\n"
            "sqlite3.connect = small\n"
            "ledger.put(sys.argv[1], {'started': 3.0, 'command': 'chat'})\n"
        )
        more = 500
        model = self.old(os.path.join(self.folder, "model", "ledger.db"), more=more)
        versions, half_written = [], 0
        for at in range(100):
            folder = os.path.join(self.folder, f"killed-{at}")
            os.mkdir(folder)
            path = shutil.copy(model, folder)
            process = self.script(script, path, str(at))
            _, err = process.communicate(timeout=PATIENCE)
            if process.returncode == 0:
                break
            with self.subTest(at=at):
                self.assertEqual((process.returncode, err), (-signal.SIGKILL, b""))
                journal = f"{path}-journal"
                half_written += os.path.exists(journal) and os.path.getsize(journal) > 0
                twin = shutil.copytree(folder, f"{folder}-twin")
                versions.append(self.version(os.path.join(twin, "ledger.db")))
                if versions[-1] == 1:  # the old program finds all its rows, too
                    with contextlib.closing(sqlite3.connect(os.path.join(twin, "ledger.db"))) as database:
                        rows = database.execute("SELECT * FROM calls ORDER BY id").fetchall()
                        self.assertEqual(database.execute("PRAGMA integrity_check").fetchone(), ("ok",))
                    self.assertEqual((rows[: len(V1_ROWS)], len(rows)), (list(V1_ROWS), len(V1_ROWS) + more))
                result = self.chat("hi", ALLTOKEN_LEDGER=path)
                self.assertQuietly(0, result)
                self.assertNotIn("[warning]", result.err)
                new = self.assertTakenOver(path, more=more)
                self.assertIn([row["started"] == 3.0 for row in new], ([False], [True, False]))
        self.assertEqual(versions, sorted(versions))
        self.assertGreater(versions.count(1), 5)
        self.assertGreater(half_written, 2)

    def test_on_a_full_disk_it_stays_version_1_with_one_warning(self):
        self.old(more=500)
        with open(self.path, "rb") as file:
            before = file.read()

        def full(*arguments, **options):
            database = CONNECT(*arguments, **options)
            database.execute(f"PRAGMA max_page_count = {database.execute('PRAGMA page_count').fetchone()[0]}")
            return database

        with mock.patch("sqlite3.connect", full):
            for argv in (("hi",), ("-q", "hi")):
                result = self.chat(*argv)
                self.assertQuietly(0, result)
                self.assertEqual((result.out, result.err.count("[warning]")), (HI, 1), result.err)
                self.assertIn(self.path, result.err)
        with open(self.path, "rb") as file:
            self.assertTrue(file.read() == before)
        self.assertEqual(os.listdir(os.path.dirname(self.path)), ["ledger.db"])
        self.assertQuietly(0, self.chat("hi"))
        self.assertEqual(len(self.assertTakenOver(more=500)), 1)

    @unittest.skipIf(os.name == "nt", "limits of POSIX")
    def test_a_limit_on_the_size_of_files_does_as_little_harm(self):
        code = (
            "import resource, sys\n"
            "sys.dont_write_bytecode = True\n"  # what it would write would be cut
            f"sys.path.insert(0, {str(ROOT)!r})\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)\n"
            "from alltoken_call.__main__ import entry; entry()\n"
        )
        self.old(more=2_000)
        size = os.path.getsize(self.path)
        for limit in (1_000, size // 2, size, size + 8_192):
            with self.subTest(limit=limit):
                result = self.execute(str(limit), "chat", "hi", code=code)
                self.assertQuietly(0, result)
                self.assertEqual((result.out, result.err.count("[warning]")), (HI, 1), result.err)
                self.assertEqual(self.version(), 1)
        self.assertQuietly(0, self.chat("hi"))
        self.assertEqual(len(self.assertTakenOver(more=2_000)), 1)


class Modes(LedgerCase):
    """WAL: readers do not wait for writers, nor writers for readers."""

    def mode(self) -> str:
        with contextlib.closing(sqlite3.connect(self.path)) as database:
            return database.execute("PRAGMA journal_mode").fetchone()[0]

    def test_a_ledger_is_in_wal_mode_and_nothing_is_left_beside_it(self):
        self.assertQuietly(0, self.chat("hi"))
        self.assertEqual((self.mode(), os.listdir(os.path.dirname(self.path))), ("wal", ["ledger.db"]))

    def test_a_mode_that_others_refuse_costs_no_row_and_a_later_run_sets_it(self):
        class Refusing(sqlite3.Connection):
            def execute(self, statement, *values):
                if "= wal" in statement.lower():
                    raise sqlite3.OperationalError("database is locked")
                return super().execute(statement, *values)

        for old in (False, True):
            if old:
                self.old()
            with self.subTest(old=old):
                with mock.patch("sqlite3.connect", lambda *a, **k: CONNECT(*a, factory=Refusing, **k)):
                    for _ in range(2):
                        result = self.chat("hi")
                        self.assertQuietly(0, result)
                        self.assertNotIn("[warning]", result.err)
                self.assertEqual(self.mode(), "delete")
                self.assertQuietly(0, self.chat("hi"))
                self.assertEqual(self.mode(), "wal")
                self.assertEqual(len(self.rows()), 3 + len(V1_ROWS) * old)
            shutil.rmtree(os.path.dirname(self.path))

    def test_a_reader_holds_no_writer_up(self):
        self.assertQuietly(0, self.chat("hi"))
        with (
            mock.patch.object(ledger, "PATIENCE", 0.02),
            contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as other,
        ):
            other.execute("BEGIN")
            self.assertEqual(len(other.execute("SELECT * FROM calls").fetchall()), 1)
            result = self.chat("hi")
            other.execute("COMMIT")
        self.assertQuietly(0, result)
        self.assertNotIn("[warning]", result.err)
        self.assertEqual(len(self.rows()), 2)


class Gateways(LedgerCase):
    """Rows of several gateways in one ledger."""

    def put(self, **row: Any) -> None:
        ledger.put(self.path, {"started": 1.0, "command": "image"} | row)

    def test_a_tasks_id_is_unique_for_one_gateway_only(self):
        for gateway in ("alltoken", "other", "alltoken", "other"):
            self.put(gateway=gateway, root=f"https://{gateway}.example", task_id="1", output=f"/{gateway}.png")
        found = [ledger.Ledger(self.path, self.fail).find("image", "1", name) for name in ("alltoken", "other")]
        self.assertEqual([row["output"] for row in found], ["/alltoken.png", "/other.png"])
        self.assertEqual([row["root"] for row in found], ["https://alltoken.example", "https://other.example"])
        self.assertEqual(len(self.rows()), 2)
        self.assertEqual(ledger.Ledger(self.path, self.fail).find("image", "1", "third"), {})
        for gateway in ("alltoken", "other"):  # of two with one id, the later one
            self.put(gateway=gateway, task_id="1", status="unsaved")
        self.assertEqual(ledger.Ledger(self.path, self.fail).find("image", "1")["gateway"], "other")

    def test_what_is_completed_stays_so(self):
        for status in ("queued", "completed", "gone", None):
            self.put(task_id="1", status=status)
            self.put(task_id="2")
        self.assertEqual([row["status"] for row in self.rows()], ["completed", None])


class OddTexts(LedgerCase):
    @unittest.skipIf(os.name == "nt", "names of POSIX")
    def test_a_path_that_is_not_utf8_comes_back_as_it_was(self):
        for command in ("image", "video"):
            with self.subTest(command):
                target = os.path.join(self.folder, f"caf\udce9-\udcff.{command}")
                result = self.call(command, "--detach", "-o", target, "hi")
                self.assertQuietly(0, result)
                self.assertNotIn("[warning] the ledger", result.err)
                task = result.out.decode().strip()
                row = ledger.Ledger(self.path, self.fail).find(command, task, "alltoken")
                self.assertEqual(row["output"], target)
                self.assertQuietly(0, self.call(command, "--resume"))
                self.assertIn(
                    os.fsencode(target),
                    [os.path.join(os.fsencode(self.folder), name) for name in os.listdir(os.fsencode(self.folder))],
                )
                os.unlink(target)

    def test_a_lone_surrogate_costs_no_row(self):
        for surrogate in ("\ud800", "\udce9", "\udfff"):
            with self.subTest(ascii(surrogate)):
                self.gateway.on(CHAT, refuse(400, "invalid_request", request_id=f"req_{surrogate}_1"))
                result = self.chat("hi")
                self.assertQuietly(1, result)
                self.assertNotIn("[warning]", result.err)
                found = ledger.rows(self.path, "1")
                self.assertEqual(len(found), 1)
                row = dict(zip(ledger.COLUMNS, found[0]))
                self.assertRegex(row["request_id"], r"\Areq_.{1,3}_1\Z")
                self.assertEqual(row["exit_status"], 1)
                self.assertIn(self.call("cost").status, (0, 1))
                self.only_row()


@unittest.skipIf(os.name == "nt", "modes of POSIX")
class ReadOnly(LedgerCase):
    """A ledger that can be read and not written is read."""

    MODES = ((0o400, 0o500), (0o400, 0o700), (0o600, 0o500))  # of the file and of its directory

    def look(self, path: str, *argv: str, status: int = 0) -> Any:
        """What `cost` says of a ledger, which stays as it is, with nothing beside it."""
        folder = os.path.dirname(path)
        with open(path, "rb") as file:
            before = file.read()
        result = self.call("cost", *argv, "--json", ALLTOKEN_LEDGER=path)
        self.assertQuietly(status, result)
        with open(path, "rb") as file:
            self.assertTrue(file.read() == before)
        self.assertEqual(os.listdir(folder), [os.path.basename(path)])
        return result

    def test_cost_reads_it(self):
        path = os.path.join(self.folder, "fix?d #1", "ledger.db")
        for _ in range(3):
            self.assertQuietly(0, self.chat("hi", ALLTOKEN_LEDGER=path))
        since = self.look(path, "--since", "7d").document
        self.assertEqual((since["calls"], since["unknown"]), (3, 0))
        last = self.look(path).document
        for mode, folder_mode in self.MODES:
            os.chmod(path, mode)
            os.chmod(os.path.dirname(path), folder_mode)
            with self.subTest(oct(mode)), self.as_anybody(self.folder, os.path.dirname(path), path):
                self.assertEqual(self.look(path, "--since", "7d").document, since)
                self.assertEqual(self.look(path).document, last)
            os.chmod(os.path.dirname(path), 0o700)

    def test_one_of_version_1_is_read_as_it_is(self):
        path = self.old(os.path.join(self.folder, "fixed", "ledger.db"))
        self.assertQuietly(0, self.call("cost", "--since", "2001-01-01", ALLTOKEN_LEDGER=self.old()))  # loads modules
        for mode, folder_mode in self.MODES:
            os.chmod(path, mode)
            os.chmod(os.path.dirname(path), folder_mode)
            with self.subTest(oct(mode)), self.as_anybody(self.folder, os.path.dirname(path), path):
                for by in ("model", "command", "day"):
                    document = self.look(path, "--since", "2001-01-01", "--by", by).document
                    self.assertEqual((document["calls"], document["unknown"]), (9, 7))
                    self.assertEqual(document["cost"]["usd"], "0.0000188")
                self.look(path)
                row = ledger.Ledger(path, self.fail).find("image", None, "alltoken")
                self.assertEqual((row["task_id"], row["gateway"], row["root"]), ("igen_3", "alltoken", None))
            os.chmod(os.path.dirname(path), 0o700)

    def test_what_cannot_be_used_cannot_be_read_either(self):
        path = self.old(os.path.join(self.folder, "fixed", "ledger.db"))
        for statement in ("PRAGMA user_version = 3", "PRAGMA user_version = 0"):
            os.chmod(path, 0o600)
            with contextlib.closing(sqlite3.connect(path)) as database:
                database.execute(statement)
            os.chmod(path, 0o400)
            with self.subTest(statement), self.as_anybody(self.folder, os.path.dirname(path), path):
                for argv in ((), ("--since", "7d")):
                    self.assertIn(f"the ledger {path} cannot be used: ", self.look(path, *argv, status=1).err)

    def test_what_another_user_is_just_writing_is_seen(self):
        path = os.path.join(self.folder, "shared", "ledger.db")
        self.assertQuietly(0, self.chat("hi", ALLTOKEN_LEDGER=path))
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("SELECT * FROM calls").fetchall()
            self.assertQuietly(0, self.chat("hi", ALLTOKEN_LEDGER=path))
            self.assertGreater(os.path.getsize(f"{path}-wal"), 0)
            for name in os.listdir(os.path.dirname(path)):
                os.chmod(os.path.join(os.path.dirname(path), name), 0o444)
            os.chmod(os.path.dirname(path), 0o555)
            with self.as_anybody(self.folder):
                result = self.call("cost", "--since", "7d", "--json", ALLTOKEN_LEDGER=path)
            os.chmod(os.path.dirname(path), 0o700)
        self.assertQuietly(0, result)
        self.assertEqual(result.document["calls"], 2)


class AfterTheAnswer(LedgerCase):
    def test_nothing_of_it_is_loaded_or_made_before_the_answer_is_shown(self):
        for argv in (("chat", "hi"), ("search", "hi")):
            with self.subTest(argv[0]):
                seen = {}

                def step(exchange, seen=seen):
                    seen["state"] = os.path.exists(os.path.join(self.folder, "state"))
                    stream(frames("a"), DONE, COST)(exchange)

                self.gateway.on(CHAT, step)
                script = (
                    "import sys; sys.path.insert(0, sys.argv.pop(1)); import io\n"
                    "from alltoken_call.cli import main, context\n"
                    "world = context.Context.of_process(); loaded = []\n"
                    "class Out(io.BytesIO):\n"
                    "    def write(self, data):\n"
                    "        loaded.append('sqlite3' in sys.modules); return super().write(data)\n"
                    "world.stdout = io.TextIOWrapper(Out(), 'utf-8')\n"
                    "status = main.main(sys.argv[1:], world)\n"
                    "assert loaded and not any(loaded) and 'sqlite3' in sys.modules, loaded\n"
                    "sys.exit(status)\n"
                )
                command = [*PYTHON, "-c", script, os.path.dirname(PACKAGE)]
                self.assertQuietly(0, self.execute(*argv, command=command))
                self.assertEqual(seen, {"state": False})
                self.only_row()
                os.rmdir(os.path.dirname(self.path))
                os.rmdir(os.path.join(self.folder, "state"))


if __name__ == "__main__":
    unittest.main()
