"""What is left where a run dies, arrow by arrow (tasks.py tells the order), and how `--resume` gets it back."""

import os
import shlex
import signal
import sys
import threading
import time
import unittest

from alltoken_call.calls import tasks

from .gateway import png, refuse, reply
from .harness import PACKAGE, PATIENCE, ROOT, Result
from .task_support import (
    BIG,
    GET_IMAGE,
    GET_VIDEO,
    IGEN,
    IMAGE,
    VGEN,
    VIDEO,
    TaskCase,
    document,
    entry,
    held,
    lost,
    normal,
    pieces,
    trickle,
)

DONE = document(entry(BIG))
GET_CLIP = f"GET /files/{VGEN}.mp4"
RETRIEVED = refuse(410, "image_already_retrieved")
SPOOL = r"\Aspool/[0-9a-f]{32}\.[0-9a-f]{8}\.json\Z"
# Runs the CLI in this process, which dies before or after a call of one of its functions.
DYING = """
import os, signal, sys
module, name, moment, calls, signum = sys.argv[1:6]
sys.path.insert(0, {root!r})
from importlib import import_module
from alltoken_call.__main__ import entry
place = import_module(module)
*path, name = name.split(".")
for part in path:
    place = getattr(place, part)
function = getattr(place, name)
calls = int(calls)
def dying(*arguments, **options):
    global calls
    calls -= 1
    if moment == "before" and not calls:
        os.kill(os.getpid(), int(signum))
    result = function(*arguments, **options)
    if moment == "after" and not calls:
        os.kill(os.getpid(), int(signum))
    return result
setattr(place, name, dying)
sys.argv[1:] = sys.argv[6:]
sys.argv[0] = {package!r}
sys.exit(entry())
""".format(root=str(ROOT), package=PACKAGE)

# Runs the CLI in this process, with a tenth of the patience that a poll has when a signal comes.
HASTY = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from alltoken_call.calls import tasks
from alltoken_call.__main__ import entry
tasks.GRACE /= 10
sys.argv[0] = {PACKAGE!r}
sys.exit(entry())
"""


class Deaths(TaskCase):
    def die(self, where, moment, *argv, signum=signal.SIGKILL):
        """The result of a run that gets a signal before or after a function of the package; `where` is
        module:function, and with * and a number behind it, that call of it."""
        where, _, calls = where.partition("*")
        module, _, name = where.partition(":")
        how = [f"alltoken_call.{module}", name, moment, calls or "1", str(int(signum))]
        return self.execute(*how, *argv, code=DYING)

    def kill(self, *argv, seen, signum=signal.SIGKILL):
        """Start a run, and kill it once `seen` is set; what it wrote."""
        process = self.spawn(*argv)
        self.assertTrue(seen.wait(PATIENCE))
        process.send_signal(signum)
        out, err = process.communicate(timeout=PATIENCE)
        return process.returncode, out, err.decode()

    def parts(self):
        return [name for name in os.listdir(self.place) if name.endswith(".part")]

    def until(self, fits):
        """Wait for what only the disk shows."""
        for _ in range(1000):
            if fits():
                return
            time.sleep(0.01)
        self.fail("it never came so far")


class KilledImages(Deaths):
    def test_before_the_submit_nothing_was_sent_and_nothing_is_left(self):
        for where, moment in (
            ("store.files:check_new", "before"),
            ("store.files:check_new", "after"),
            ("calls.tasks:submit", "before"),
            ("calls.tasks:_post", "before"),
        ):
            with self.subTest(where, moment=moment):
                self.fresh()
                self.assertEqual(self.die(where, moment, "image", "x", "-o", "x.png").status, -9)
                self.assertEqual((self.gateway.requests, self.kept()), ([], []))
                self.assertPlace()
                self.assertQuietly(1, self.image("--resume"))

    def test_while_the_output_is_checked_a_part_is_left_and_nothing_was_sent(self):
        self.assertEqual(self.die("store.files:sync", "after", "image", "x", "-o", "x.png").status, -9)
        self.assertEqual((self.gateway.requests, len(self.parts())), ([], 1))
        self.assertEqual(os.listdir(), self.parts())

    def test_during_the_submit_nothing_is_on_record(self):
        seen = threading.Event()
        self.gateway.on(IMAGE, lost(held(seen)))
        self.assertEqual(self.kill("image", "x", seen=seen)[0], -9)
        self.assertQuietly(1, self.image("--resume"))

    def test_before_the_id_is_told_nothing_is_on_record(self):
        died = self.die("calls.tasks:_post", "after", "image", "x", "-o", "x.png")
        self.assertEqual((died.status, died.out, died.err), (-9, b"", ""))
        self.assertEqual(self.methods(), ["POST"])
        self.assertQuietly(1, self.image("--resume"))

    def test_between_telling_and_recording_the_told_id_is_enough(self):
        for where in ("calls.tasks:record", "store.ledger:put"):
            with self.subTest(where):
                self.fresh()
                died = self.die(where, "before", "image", "x", "-o", "x.png")
                self.assertEqual(died.status, -9)
                self.assertIn(f"submitted {IGEN}", died.err)
                self.assertQuietly(1, self.image("--resume"))
                self.assertQuietly(0, self.image("--resume", IGEN, "-o", "x.png"))
                self.assertHolds("x.png", self.gateway.tasks.image)
                self.assertEqual(self.gateway.count(IMAGE), 1)

    def test_during_a_poll_the_image_is_there_once_after_a_resume_and_then_nothing_is_left(self):
        seen = threading.Event()
        self.gateway.on(GET_IMAGE, held(seen), normal)
        status, out, err = self.kill("image", "x", "-o", "x.png", seen=seen)
        self.assertEqual((status, out), (-9, b""))
        self.assertIn(f"submitted {IGEN}", err)
        self.assertPlace()
        self.assertQuietly(0, self.image("--resume"))
        self.assertHolds("x.png", self.gateway.tasks.image)
        self.assertPlace("x.png")
        self.assertEqual(self.gateway.count(IMAGE), 1)
        again = self.image("--resume")
        self.assertQuietly(1, again)
        self.assertIn("nothing_to_resume", again.err)
        self.assertEqual(self.kept(), [])

    def test_while_the_answer_arrives_a_resume_asks_for_a_copy_and_else_says_where_the_piece_lies(self):
        for copy in (True, False):
            with self.subTest(copy=copy):
                self.fresh()
                seen = threading.Event()
                url = {"r2_url": f"{self.gateway.url}/files/{IGEN}.png"}
                self.gateway.on(
                    GET_IMAGE, trickle(DONE, seen, threading.Event()), reply(200, document(url)) if copy else RETRIEVED
                )
                process = self.spawn("image", "x", "-o", "x.png")
                self.assertTrue(seen.wait(PATIENCE))
                self.until(
                    lambda: self.kept() and os.path.getsize(os.path.join(self.state, self.kept()[0])) == len(DONE) // 2
                )
                process.kill()
                process.wait(PATIENCE)
                (kept,) = self.kept()
                self.assertRegex(kept, SPOOL)
                result = self.image("--resume")
                if copy:
                    self.assertQuietly(0, result)
                    self.assertHolds("x.png", self.gateway.tasks.image)
                else:
                    self.assertQuietly(11, result)
                    self.assertEqual(self.kept(), [kept])
                    self.assertIn(os.path.join(self.state, kept), result.err)

    def test_a_beginning_of_the_answer_is_kept_and_a_copy_makes_the_image(self):
        for where, moment, size in (
            ("store.spool:Spool.begin", "before", None),
            ("store.spool:Spool.begin", "after", 0),
            ("store.spool:Spool.write", "before", 0),
            ("store.spool:Spool.write*2", "before", None),
        ):
            with self.subTest(where, moment=moment):
                self.fresh()
                url = {"r2_url": f"{self.gateway.url}/files/{IGEN}.png"}
                self.gateway.on(GET_IMAGE, self.in_two(DONE), reply(200, document(url)))
                self.assertEqual(self.die(where, moment, "image", "x", "-o", "x.png").status, -9)
                self.assertEqual(len(self.kept()), int("before" != moment or "write" in where))
                for kept in self.kept():
                    self.assertRegex(kept, SPOOL)
                    found = os.path.getsize(os.path.join(self.state, kept))
                    self.assertTrue(found == size or (size is None and 0 < found < len(DONE)), found)
                self.assertPlace()
                self.assertQuietly(0, self.image("--resume"))
                self.assertHolds("x.png", self.gateway.tasks.image)
                self.assertPlace("x.png")
                self.assertEqual((self.kept(), self.gateway.count(IMAGE)), ([], 1))

    @staticmethod
    def in_two(data):
        """A step: an answer whose second half is not there yet when the first is read."""
        return pieces(data[: len(data) // 2], data[len(data) // 2 :])

    def test_from_the_whole_spool_on_a_resume_makes_the_image_and_asks_nobody(self):
        for where, moment, parts in (
            ("calls.landing:receive", "after", 0),
            ("store.spool:Spool.whole", "before", 0),
            ("store.spool:Spool.whole", "after", 0),
            ("calls.landing:take_apart", "before", 0),
            ("calls.landing:take_apart", "after", 1),
            ("calls.landing:save", "before", 1),
            ("calls.landing:_place", "before", 1),
            ("store.files:put", "before", 1),
            ("store.files:put", "after", 0),
            ("calls.landing:_place", "after", 0),
            ("calls.landing:save", "after", 0),
            ("calls.image:_look", "after", 0),
            ("calls.image:_finish", "before", 0),
            ("calls.tasks:record*2", "before", 0),
            ("store.ledger:put*2", "before", 0),
        ):
            with self.subTest(where, moment=moment):
                self.fresh()
                self.gateway.on(GET_IMAGE, reply(200, DONE), RETRIEVED)
                self.assertEqual(self.die(where, moment, "image", "x", "-o", "x.png").status, -9)
                (kept,) = self.kept()
                self.assertRegex(kept, SPOOL)
                self.assertHolds(os.path.join(self.state, kept), DONE)
                self.assertEqual(len(self.parts()), parts)
                self.gateway.requests.clear()
                result = self.image("--resume")
                self.assertQuietly(0, result)
                self.assertEqual(result.out.decode(), os.path.join(self.place, "x.png") + "\n")
                self.assertHolds("x.png", BIG)
                self.assertEqual((self.gateway.requests, self.kept()), ([], []))
                self.assertEqual(len(self.parts()), parts)
                self.assertEqual(sorted(set(os.listdir(".")) - set(self.parts())), ["x.png"])
                self.assertQuietly(1, self.image("--resume"))

    def test_a_resume_that_dies_on_its_way_from_the_spool_is_resumed_again(self):
        self.gateway.on(GET_IMAGE, reply(200, DONE), RETRIEVED)
        self.assertEqual(self.die("calls.landing:take_apart", "before", "image", "x", "-o", "x.png").status, -9)
        for where, moment in (("calls.landing:take_apart", "after"), ("store.files:put", "after")):
            self.assertEqual(self.die(where, moment, "image", "--resume").status, -9)
        self.gateway.requests.clear()
        self.assertQuietly(0, self.image("--resume"))
        self.assertHolds("x.png", BIG)
        self.assertEqual((self.gateway.requests, self.kept()), ([], []))

    def test_after_the_record_is_finished_only_a_spool_that_nobody_needs_is_left(self):
        for where, moment in (
            ("calls.tasks:record*2", "after"),
            ("store.ledger:put*2", "after"),
            ("store.spool:Spool.remove", "before"),
        ):
            with self.subTest(where, moment=moment):
                self.fresh()
                self.gateway.on(GET_IMAGE, reply(200, DONE), RETRIEVED)
                self.assertEqual(self.die(where, moment, "image", "x", "-o", "x.png").status, -9)
                self.assertHolds("x.png", BIG)
                (kept,) = self.kept()
                self.assertRegex(kept, SPOOL)
                self.gateway.requests.clear()
                self.assertQuietly(1, self.image("--resume"))
                self.assertQuietly(0, self.image("--resume", IGEN))
                self.assertEqual(self.gateway.requests, [])

    def test_after_the_spool_is_removed_nothing_is_left(self):
        for where in ("store.spool:Spool.remove", "calls.image:_finish"):
            with self.subTest(where):
                self.fresh()
                self.gateway.on(GET_IMAGE, reply(200, DONE), RETRIEVED)
                self.assertEqual(self.die(where, "after", "image", "x", "-o", "x.png").status, -9)
                self.assertPlace("x.png")
                self.assertHolds("x.png", BIG)
                self.assertEqual(self.kept(), [])
                self.assertQuietly(1, self.image("--resume"))

    def test_after_the_id_was_told_and_recorded_a_resume_finds_it(self):
        for where, moment, requests in (
            ("calls.tasks:record", "after", 1),
            ("calls.tasks:submit", "after", 1),
            ("calls.tasks:poll", "before", 1),
            ("calls.image:_look", "before", 1),
            ("calls.landing:receive", "before", 2),
            ("calls.tasks:poll", "after", 2),
            ("calls.tasks:pause", "before", 2),
            ("calls.tasks:pause", "after", 3),  # it has asked for prices
        ):
            with self.subTest(where, moment=moment):
                self.fresh()
                self.gateway.on(GET_IMAGE, reply(200, {"status": "queued", "next_poll_after_ms": 1}), normal)
                self.assertEqual(self.die(where, moment, "image", "x", "-o", "x.png").status, -9)
                self.assertEqual(len(self.gateway.requests), requests)
                self.assertEqual(self.kept(), [])
                self.assertQuietly(0, self.image("--resume"))
                self.assertHolds("x.png", self.gateway.tasks.image)
                self.assertPlace("x.png")
                self.assertEqual(self.gateway.count(IMAGE), 1)


class KilledVideos(Deaths):
    def test_during_the_submit_nothing_is_on_record_and_the_list_shows_it(self):
        seen = threading.Event()
        self.gateway.on(VIDEO, lost(held(seen)))
        self.assertEqual(self.kill("video", "x", seen=seen)[0], -9)
        self.assertQuietly(1, self.video("--resume"))
        self.assertIn(VGEN, self.video("--list").out.decode())

    def test_before_the_submit_nothing_was_sent(self):
        for where in ("store.files:check_new", "calls.tasks:submit", "calls.tasks:_post"):
            with self.subTest(where):
                self.fresh()
                self.assertEqual(self.die(where, "before", "video", "x", "-o", "x.mp4").status, -9)
                self.assertEqual(self.gateway.requests, [])
                self.assertQuietly(1, self.video("--resume"))

    def test_between_telling_and_recording_the_told_id_is_enough(self):
        died = self.die("calls.tasks:record", "before", "video", "x", "-o", "x.mp4")
        self.assertIn(f"submitted {VGEN}", died.err)
        self.assertQuietly(1, self.video("--resume"))
        self.assertQuietly(0, self.video("--resume", VGEN, "-o", "x.mp4"))
        self.assertHolds("x.mp4", self.gateway.tasks.video)

    def test_later_a_resume_brings_the_clip(self):
        for where, moment, parts in (
            ("calls.tasks:record", "after", 0),
            ("calls.tasks:poll", "before", 0),
            ("calls.video:_look", "before", 0),
            ("calls.video:_look", "after", 0),
            ("calls.tasks:pause", "before", 0),
            ("calls.tasks:pause", "after", 0),
            ("calls.video:_fill", "before", 0),
            ("calls.video:_fill", "after", 0),
            ("calls.video:_save", "before", 0),
            ("net.download:_copy", "before", 1),
            ("net.download:_copy", "after", 1),
            ("store.files:put", "before", 1),
            ("store.files:put", "after", 0),
            ("calls.video:_save", "after", 0),
            ("calls.tasks:record*2", "before", 0),
        ):
            with self.subTest(where, moment=moment):
                self.fresh()
                self.gateway.on(GET_VIDEO, reply(200, {"status": "processing", "next_poll_after_ms": 1}), normal)
                self.assertEqual(self.die(where, moment, "video", "x", "-o", "x.mp4").status, -9)
                self.assertEqual(len(self.parts()), parts)
                result = self.video("--resume")
                self.assertQuietly(0, result)
                self.assertHolds("x.mp4", self.gateway.tasks.video)
                self.assertEqual(self.gateway.count(VIDEO), 1)
                self.assertQuietly(1, self.video("--resume"))

    def test_while_the_clip_arrives_a_part_is_left_and_a_resume_brings_the_clip(self):
        video, seen = self.gateway.tasks.video, threading.Event()
        self.gateway.on(GET_CLIP, trickle(video, seen, threading.Event()), normal)
        process = self.spawn("video", "x", "-o", "x.mp4")
        self.assertTrue(seen.wait(PATIENCE))
        self.until(self.parts)
        process.kill()
        process.wait(PATIENCE)
        self.assertPlace(*self.parts())
        self.assertQuietly(0, self.video("--resume"))
        self.assertHolds("x.mp4", video)
        self.assertEqual((self.gateway.count(VIDEO), len(self.parts())), (1, 1))

    def test_after_the_record_is_finished_nothing_is_left_to_resume(self):
        for where in ("calls.tasks:record*2", "store.ledger:put*2"):
            with self.subTest(where):
                self.fresh()
                self.assertEqual(self.die(where, "after", "video", "x", "-o", "x.mp4").status, -9)
                self.assertPlace("x.mp4")
                self.assertHolds("x.mp4", self.gateway.tasks.video)
                self.assertQuietly(1, self.video("--resume"))


@unittest.skipUnless(hasattr(signal, "setitimer"), "signals of POSIX")
class Stopped(Deaths):
    def test_while_half_a_mb_trickles_in_the_file_is_whole_or_a_resume_makes_it_from_the_spool(self):
        image = png(noise=500_000)
        for signum, end in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
            for more in (1, 3):
                with self.subTest(signum=signum, more=more):
                    self.fresh()
                    seen, go = threading.Event(), threading.Event()
                    self.gateway.on(GET_IMAGE, trickle(document(entry(image)), seen, go), RETRIEVED)
                    process = self.spawn("image", "x", "-o", "x.png")
                    self.assertTrue(seen.wait(PATIENCE))
                    for _ in range(more):
                        process.send_signal(signum)
                        time.sleep(0.02)
                    go.set()
                    err = process.communicate(timeout=PATIENCE)[1].decode()
                    self.assertEqual(process.returncode, end, err)
                    self.gateway.requests.clear()
                    line = self.assertResumable(self.result(end, err), "image", IGEN)
                    self.assertQuietly(0, self.execute(command=["sh", "-c", line]))
                    self.assertHolds("x.png", image)
                    self.assertEqual((self.gateway.requests, self.kept()), ([], []))
                    self.assertPlace("x.png")

    @staticmethod
    def result(status, err):
        return Result(status, b"", err.encode(), [])

    def test_a_poll_without_an_answer_ends_after_the_grace_and_the_resume_line_runs(self):
        self.assertLessEqual(tasks.GRACE, 2)
        runs = {}
        for number, (command, signum, end) in enumerate(
            (("image", signal.SIGINT, 130), ("image", signal.SIGTERM, 143), ("video", signal.SIGINT, 130)), 1
        ):
            seen = threading.Event()
            task_id = f"{command[0]}gen_{number:08d}"
            self.gateway.on(f"GET /v1/{command}s/generations/{task_id}", held(seen), normal)
            process = self.spawn(command, "x", "-o", f"my {number}", code=HASTY)
            self.assertTrue(seen.wait(PATIENCE))
            runs[task_id] = (process, command, signum, end, number)
        for process, _, signum, _, _ in runs.values():
            process.send_signal(signum)
        before = time.monotonic()
        for task_id, (process, command, _, end, number) in runs.items():
            out, err = process.communicate(timeout=PATIENCE)
            self.assertLess(time.monotonic() - before, PATIENCE / 2)
            self.assertEqual((process.returncode, out), (end, b""))
            line = self.assertResumable(self.result(end, err.decode()), command, task_id)
            self.assertEqual(shlex.split(line)[:2], [sys.executable, PACKAGE])
            self.assertQuietly(0, self.execute(command=["sh", "-c", line]))
            self.assertHolds(
                f"my {number}", self.gateway.tasks.image if command == "image" else self.gateway.tasks.video
            )

    def test_a_signal_in_the_pause_between_two_polls_ends_it_at_once(self):
        self.gateway.hints = {"next_poll_after_ms": 60_000}
        self.gateway.work = 100
        process = self.spawn("image", "x", "--json")
        self.assertTrue(process.stderr.readline())
        self.assertIn(b"[status]", process.stderr.readline())
        process.send_signal(signal.SIGINT)
        before = time.monotonic()
        out, err = process.communicate(timeout=PATIENCE)
        self.assertLess(time.monotonic() - before, 1.5)
        self.assertEqual(process.returncode, 130, err)
        found = Result(130, out, b"", []).document
        self.assertEqual((found["task_id"], found["error"]["code"]), (IGEN, "interrupted"))
        self.assertIn(f"--resume {IGEN}", found["resume"])

    def test_a_signal_while_the_record_is_written_at_the_end_shows_no_traceback(self):
        for signum in (signal.SIGINT, signal.SIGTERM):
            with self.subTest(signum=signum):
                self.fresh()
                done = self.die("cli.main:_ended", "after", "image", "x", signum=signum)
                self.assertIn(done.status, (0, 128 + signum), done.err)
                self.assertNotIn("Traceback", done.err)
