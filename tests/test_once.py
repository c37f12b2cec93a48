"""`--once`: make a file exist and pay once, whatever is killed, fails or runs at the same moment; and cron's line."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import threading
import time
import unittest
from typing import Any

from alltoken_call.store import ledger

from .gateway import raw, refuse, reply
from .harness import PACKAGE, PATIENCE, PYTHON, ROOT, Result
from .relay_support import MAKE, RelayCase
from .task_support import GET_IMAGE, GET_VIDEO, IGEN, IMAGE, VGEN, VIDEO, held, lost, normal, strike
from .test_kills import Deaths

COMMANDS = (("image", "x.png", IMAGE, GET_IMAGE), ("video", "x.mp4", VIDEO, GET_VIDEO))
HALF_AN_HOUR = 1800


class OnceCase(Deaths):
    """A test that makes a file exist."""

    def once(self, command: str = "image", name: str = "x.png", *argv: str, **options: Any) -> Result:
        """Run `--once` here."""
        return self.call(command, "x", "--once", "-o", name, *argv, **options)

    def content(self, command: str) -> bytes:
        """What the gateway makes."""
        return self.gateway.tasks.image if command == "image" else self.gateway.tasks.video

    def submits(self) -> int:
        """How many submits came."""
        return self.gateway.count(IMAGE) + self.gateway.count(VIDEO)

    def assertMade(self, result: Result, command: str, name: str, submits: int = 1) -> None:
        """The file is there, its path was shown, and it was paid for so many times."""
        self.assertQuietly(0, result)
        self.assertEqual(os.path.abspath(result.out.decode().rstrip("\n")), os.path.abspath(name))
        self.assertHolds(name, self.content(command))
        self.assertEqual(self.submits(), submits)

    def assertThere(self, command: str, name: str) -> None:
        """From here on nothing is sent."""
        before = len(self.gateway.requests)
        for argv in ((), ("-q",)):
            result = self.once(command, name, *argv)
            self.assertQuietly(0, result)
            self.assertEqual((result.out, len(self.gateway.requests)), (f"{name}\n".encode(), before))
        self.assertEqual(result.err, "")


class Existing(OnceCase):
    def test_a_file_that_is_there_counts_whatever_it_holds_and_nothing_is_sent(self):
        for command, name, _, _ in COMMANDS:
            for content in (b"", b"anything"):
                with self.subTest(command, content=content):
                    self.file(os.path.join("place", name), content)
                    self.assertThere(command, name)
                    self.assertHolds(name, content)
                    self.assertFalse(os.path.exists(self.state))
        # Nothing else is needed then: no prompt, no key, no gateway.
        for environ in ({"ALLTOKEN_API_KEY": None}, {"ALLTOKEN_BASE_URL": "http://127.0.0.1:1"}):
            self.assertQuietly(0, self.call("image", "--once", "-o", "x.png", **environ))
        document = self.once("image", "x.png", "--json").document
        self.assertEqual((document["ok"], document["files"], document["task_id"]), (True, ["x.png"], None))
        self.assertEqual(document["cost"], {"usd": None, "source": None})

    def test_a_file_that_is_not_there_is_made_once(self):
        for command, name, _, _ in COMMANDS:
            with self.subTest(command):
                self.fresh()
                self.assertMade(self.once(command, name), command, name)
                self.assertThere(command, name)
                os.unlink(name)  # then it is wanted again
                self.assertMade(self.once(command, name), command, name, 2)

    def test_a_dry_run_is_one_whether_the_file_is_there_or_not(self):
        for command, name, _, _ in COMMANDS:
            document = self.once(command, name, "--dry-run").document
            self.assertEqual(document["method"], "POST")
            self.file(os.path.join("place", name), b"x")
            self.assertEqual(self.once(command, name, "--dry-run").document, document)
        self.assertEqual(self.gateway.requests, [])

    def test_two_files_are_two(self):
        for name in ("a.png", "b.png"):
            self.assertQuietly(0, self.once("image", name))
        self.assertQuietly(0, self.image("x", "--detach", "-o", "c.png"))
        self.assertQuietly(0, self.once("image", "d.png"))  # another one's task is not this one's
        self.assertEqual(self.gateway.count(IMAGE), 4)
        self.assertPlace("a.png", "b.png", "d.png")


class Refused(OnceCase):
    def test_what_does_not_go_with_it_is_status_2_and_nothing_is_sent(self):
        os.mkdir("folder")
        for command in ("image", "video"):
            for argv in (
                ("x",),
                ("x", "-o", "folder"),
                ("x", "-o", "folder/"),
                ("x", "-o", "missing/"),
                ("x", "-o", "-"),
                ("x", "-o", "y", "--force"),
                ("x", "-o", "y", "--detach"),
                ("-o", "y", "--resume"),
                ("-o", "y", "--resume", IGEN),
                *([("x", "-o", "y.png", "-n", "2")] if command == "image" else [("--list",), ("--cancel", VGEN)]),
                *([("-o", "y", "--list"), ("-o", "y", "--cancel", VGEN)] if command == "video" else []),
            ):
                for there in (False, True):
                    with self.subTest(command, argv=argv, there=there):
                        if there:
                            self.file("place/y", b"x")
                        result = self.call(command, "--once", *argv)
                        self.assertQuietly(2, result)
                        self.assertEqual((result.out, self.gateway.requests), (b"", []))
                        if there:
                            os.unlink("y")
        self.assertEqual((os.listdir("."), self.kept()), (["folder"], []))

    def test_without_a_working_ledger_it_is_status_2_and_nothing_is_sent(self):
        broken = self.file("broken.db", b"no database" * 99)
        for command, name, _, _ in COMMANDS:
            for environ in (
                {"ALLTOKEN_LEDGER": "off"},
                {"ALLTOKEN_LEDGER": broken},
                {"ALLTOKEN_LEDGER": self.folder},
                {"ALLTOKEN_LEDGER": "/dev/null"},
                {"ALLTOKEN_LEDGER": "/proc/no/such/ledger.db"},
                {"HOME": None, "XDG_STATE_HOME": None},
            ):
                with self.subTest(command, **environ):
                    result = self.once(command, name, **environ)
                    self.assertQuietly(2, result)
                    self.assertEqual((result.out, self.gateway.requests, os.listdir(".")), (b"", [], []))

    def test_a_place_that_cannot_be_written_is_status_13_and_nothing_is_sent(self):
        for command, _, _, _ in COMMANDS:
            self.assertQuietly(13, self.once(command, os.path.join(self.folder, "no", "place.png")))
        self.assertEqual(self.gateway.requests, [])


class Again(OnceCase):
    """What the next run does, by how the one before ended."""

    def test_an_unfinished_task_is_resumed_and_nothing_is_submitted(self):
        going_on = reply(200, {"status": "processing", "next_poll_after_ms": 100})
        for command, name, _, poll in COMMANDS:
            with self.subTest(command):
                self.fresh()
                self.gateway.on(poll, going_on)
                result = self.once(command, name, "--max-wait", "0.3")
                self.assertQuietly(8, result)
                self.assertResumable(result, command, IGEN if command == "image" else VGEN)
                self.assertQuietly(8, self.once(command, name, "--max-wait", "0.3"))  # it goes on still
                self.gateway.on(poll, normal)
                self.assertMade(self.once(command, name), command, name)
                self.assertThere(command, name)

    def test_a_task_whose_status_is_a_word_of_our_ledger_is_resumed(self):
        for word in ("unknown", "gone", "unsaved"):
            self.assertIn(word, ledger.OWN)
            for command, name, _, poll in COMMANDS:
                with self.subTest(command, word=word):
                    self.fresh()
                    self.gateway.on(poll, reply(200, {"status": word, "next_poll_after_ms": 100}))
                    self.assertQuietly(8, self.once(command, name, "--max-wait", "0.3"))
                    self.assertQuietly(8, self.call(command, "--resume", "--max-wait", "0.3"))
                    self.gateway.on(poll, normal)
                    self.assertMade(self.once(command, name), command, name)

    def test_a_task_that_was_left_by_detach_is_resumed_under_any_name_of_its_place(self):
        self.assertQuietly(0, self.image("x", "--detach", "-o", os.path.join(self.place, "x.png")))
        self.assertMade(self.once("image", "./x.png"), "image", "x.png")

    def test_a_resumed_run_prints_the_path_as_it_was_given(self):
        for command, name, _, _ in COMMANDS:
            with self.subTest(command):
                self.fresh()
                self.assertQuietly(0, self.call(command, "x", "--detach", "-o", os.path.abspath(name)))
                result = self.once(command, name)
                self.assertQuietly(0, result)
                self.assertEqual((result.out, self.submits()), (f"{name}\n".encode(), 1))

    def test_the_way_to_the_place_may_lead_over_a_link(self):
        linked = os.path.join(self.folder, "linked")
        os.symlink(self.place, linked)
        for command, name, submit, _ in COMMANDS:
            for first, second in ((name, os.path.join(linked, name)), (os.path.join(linked, name), name)):
                with self.subTest(command, first=first):
                    self.fresh()
                    self.assertQuietly(0, self.call(command, "x", "--detach", "-o", first))
                    result = self.once(command, second)
                    self.assertQuietly(0, result)
                    self.assertEqual((result.out, self.submits()), (f"{second}\n".encode(), 1))
                    self.assertHolds(name, self.content(command))
                    self.fresh()
                    self.gateway.on(submit, lost(raw(b"")))
                    self.assertQuietly(12, self.once(command, first))
                    self.gateway.requests.clear()
                    self.assertQuietly(12, self.once(command, second))
                    self.assertEqual(self.gateway.requests, [])
                    self.gateway.on(submit, normal)

    def test_a_signal_leaves_a_task_that_is_resumed(self):
        for signum, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
            with self.subTest(status):
                self.fresh()

                def step(exchange: Any, signum: int = signum) -> None:
                    strike(signum)
                    exchange.reply(200, {"status": "processing", "next_poll_after_ms": 1})

                self.gateway.on(GET_IMAGE, step, normal)
                self.assertQuietly(status, self.once(signals=True))
                self.assertMade(self.once(), "image", "x.png")

    def test_a_task_that_failed_is_made_anew(self):
        for command, name, _, poll in COMMANDS:
            for status, step in (
                (10, reply(200, {"status": "failed", "error": {"code": "x", "message": "x"}})),
                (10, reply(200, {"status": "expired"})),
                (1, refuse(404, "task_not_found")),
                (11, refuse(410, "image_already_retrieved")),
            ):
                with self.subTest(command, status=status):
                    self.fresh()
                    self.gateway.on(poll, step)
                    self.assertQuietly(status, self.once(command, name))
                    self.gateway.on(poll, normal)
                    self.assertMade(self.once(command, name), command, name, 2)
                    self.assertThere(command, name)

    def test_a_submit_that_was_refused_or_never_left_is_made_anew_at_once(self):
        for command, name, submit, _ in COMMANDS:
            for status, step in (
                (1, refuse(400, "invalid_request")),
                (6, refuse(402, "insufficient_balance")),
                (5, refuse(500, "upstream_error")),
                (7, refuse(429, "rate_limited", headers={"Retry-After": "100"})),
            ):
                with self.subTest(command, status=status):
                    self.fresh()
                    self.gateway.on(submit, step)
                    self.assertQuietly(status, self.once(command, name))
                    self.assertQuietly(3, self.once(command, name, ALLTOKEN_BASE_URL="http://127.0.0.1:1"))
                    self.gateway.on(submit, normal)
                    self.gateway.requests.clear()
                    self.assertMade(self.once(command, name), command, name)

    def test_after_a_submit_of_unknown_outcome_it_is_not_submitted_for_30_minutes(self):
        for command, name, submit, _ in COMMANDS:
            with self.subTest(command):
                self.fresh()
                self.clock.ahead = 0.0
                self.gateway.on(submit, lost(raw(b"")))
                self.assertQuietly(12, self.once(command, name))
                self.gateway.on(submit, normal)
                self.gateway.requests.clear()
                for minutes in (0, 15, 14.8):
                    self.clock.ahead += minutes * 60
                    result = self.once(command, name)
                    self.assertQuietly(12, result)
                    self.assertRegex(result.err, r"\d+ min")
                    self.assertEqual((result.out, self.gateway.requests), (b"", []))
                document = self.once(command, name, "--json").document
                self.assertEqual((document["error"]["code"], document["cost"]["source"]), ("unknown_outcome", None))
                # Another file is another matter.
                self.assertMade(self.once(command, f"other-{name}"), command, f"other-{name}")
                self.clock.ahead += 60
                self.assertMade(self.once(command, name), command, name, 2)
                self.assertThere(command, name)

    def test_the_file_itself_ends_the_doubt(self):
        self.gateway.on(IMAGE, lost(raw(b"")))
        self.assertQuietly(12, self.once())
        self.file("place/x.png", b"brought by hand")
        self.gateway.requests.clear()
        self.assertThere("image", "x.png")

    def test_a_run_leaves_one_row_and_one_that_sends_nothing_leaves_none(self):
        self.gateway.on(GET_IMAGE, reply(200, {"status": "processing", "next_poll_after_ms": 100}))
        self.once("image", "x.png", "--max-wait", "0.3")
        self.gateway.on(GET_IMAGE, normal)
        for _ in range(3):
            self.assertQuietly(0, self.once())
        row = self.row(IGEN)
        self.assertEqual((row["status"], row["exit_status"]), ("completed", 0))
        self.assertEqual(self.call("cost", "--since", "1d", "--json").document["calls"], 1)


class Together(OnceCase):
    def test_two_at_one_moment_pay_once_and_both_end_well(self):
        for command, name, _, _ in COMMANDS:
            with self.subTest(command):
                self.fresh()
                self.gateway.work = 0.3
                runs = [self.spawn(command, "x", "--once", "-q", "-o", name) for _ in range(3)]
                ends = [(run.communicate(timeout=PATIENCE), run.returncode) for run in runs]
                for (out, err), status in ends:
                    self.assertEqual((status, err), (0, b""))
                    self.assertEqual(os.path.abspath(out.decode().rstrip("\n")), os.path.abspath(name))
                self.assertEqual((self.submits(), os.listdir(".")), (1, [name]))
                self.assertHolds(name, self.content(command))

    def test_the_second_waits_for_the_first_up_to_max_wait(self):
        seen, go = threading.Event(), threading.Event()
        self.gateway.on(GET_IMAGE, held(seen, go))
        first = self.spawn("image", "x", "--once", "-o", "x.png")
        try:
            self.assertTrue(seen.wait(PATIENCE))
            before = len(self.gateway.requests)
            result = self.once("image", "x.png", "--max-wait", "5")
            self.assertQuietly(8, result)
            self.assertEqual((result.out, len(self.gateway.requests)), (b"", before))
            self.assertAlmostEqual(sum(self.clock.sleeps), 5, delta=0.5)
            self.assertMade(self.once("image", "other.png"), "image", "other.png", 2)  # which nobody makes
        finally:
            go.set()
        self.assertEqual(first.wait(PATIENCE), 0)
        self.assertThere("image", "x.png")

    def test_where_the_first_fails_the_second_makes_it(self):
        seen, go = threading.Event(), threading.Event()
        self.gateway.on(GET_IMAGE, held(seen, go, reply(200, {"status": "failed"})))
        first = self.spawn("image", "x", "--once", "-o", "x.png")
        self.assertTrue(seen.wait(PATIENCE))
        second = self.spawn("image", "x", "--once", "-q", "-o", "x.png")
        time.sleep(0.2)
        self.assertIsNone(second.poll())
        go.set()
        self.assertEqual((first.wait(PATIENCE), second.wait(PATIENCE)), (10, 0))
        self.assertHolds("x.png", self.gateway.tasks.image)
        self.assertEqual(self.submits(), 2)


@unittest.skipUnless(hasattr(signal, "SIGKILL"), "kill -9")
class Killed(OnceCase):
    """A run that dies before or after each step, and the runs that follow it."""

    # What the next run does: makes it, says 12 since the submit may have left, or goes on.
    IMAGES = (
        ("calls.admission:admit", "before", "makes"),
        ("calls.admission:admit", "after", "doubts"),
        ("net.transport:Transport.send", "before", "doubts"),
        ("net.transport:Transport.send", "after", "doubts"),
        ("calls.tasks:_post", "after", "doubts"),
        ("calls.tasks:record", "before", "doubts"),
        ("calls.tasks:record", "after", "goes on"),
        ("calls.tasks:poll", "before", "goes on"),
        ("net.transport:Transport.send*2", "before", "goes on"),
        ("calls.landing:receive", "after", "goes on"),
        ("calls.landing:take_apart", "before", "goes on"),
        ("calls.landing:take_apart", "after", "goes on"),
        ("store.files:put", "before", "goes on"),
        ("store.files:put", "after", "is there"),
        ("calls.landing:save", "after", "is there"),
        ("calls.image:_finish", "before", "is there"),
        ("calls.tasks:record*2", "before", "is there"),
        ("calls.tasks:record*2", "after", "is there"),
        ("store.spool:Spool.remove", "after", "is there"),
        ("calls.image:_finish", "after", "is there"),
        ("cli.main:_ended", "after", "is there"),
    )
    VIDEOS = (
        ("calls.admission:admit", "before", "makes"),
        ("calls.admission:admit", "after", "doubts"),
        ("net.transport:Transport.send", "after", "doubts"),
        ("calls.tasks:record", "before", "doubts"),
        ("calls.tasks:record", "after", "goes on"),
        ("calls.video:_fill", "before", "goes on"),
        ("calls.video:_fill", "after", "goes on"),
        ("net.download:_copy", "after", "goes on"),
        ("store.files:put", "before", "goes on"),
        ("store.files:put", "after", "is there"),
        ("calls.video:_save", "after", "is there"),
        ("calls.tasks:record*2", "after", "is there"),
    )

    def test_whatever_was_killed_there_is_one_submit_and_one_file_in_the_end(self):
        for (command, name, _, poll), arrows in zip(COMMANDS, (self.IMAGES, self.VIDEOS)):
            for where, moment, then in arrows:
                with self.subTest(where, moment=moment, command=command):
                    self.fresh()
                    self.clock.ahead = 0.0
                    self.gateway.on(poll, reply(200, {"status": "processing", "next_poll_after_ms": 1}), normal)
                    killed = self.die(where, moment, command, "x", "--once", "-o", name)
                    self.assertEqual(killed.status, -9, killed.err)
                    left = self.submits()
                    self.follow(command, name, then, left)

    def follow(self, command: str, name: str, then: str, left: int) -> None:
        """The runs after one that was killed when `left` submits had come."""
        self.assertEqual(os.path.exists(name), then == "is there")
        if then == "doubts":
            for minutes in (0, 29):
                self.clock.ahead = minutes * 60
                result = self.once(command, name)
                self.assertQuietly(12, result)
                self.assertEqual((self.submits(), os.path.exists(name)), (left, False))
            # The task of a submit that left has expired by then, and a new one is made.
            self.clock.ahead = HALF_AN_HOUR + 60
            self.gateway.tasks.keys.clear()
            self.gateway.on(f"GET /v1/{command}s/generations/{command[0]}gen_{left + 1:08d}", normal)
        result = self.once(command, name, "-q")
        self.assertMade(result, command, name, left + (then in ("makes", "doubts")))
        self.assertEqual(result.err, "")
        self.assertLessEqual(self.submits(), 2 if then == "doubts" else 1)
        self.assertThere(command, name)
        parts = [one for one in os.listdir(".") if one.endswith(".part")]
        self.assertPlace(name, *parts)

    def test_while_a_submit_has_no_answer(self):
        for command, name, submit, _ in COMMANDS:
            with self.subTest(command):
                self.fresh()
                self.clock.ahead = 0.0
                seen = threading.Event()
                self.gateway.on(submit, held(seen), normal)
                self.kill(command, "x", "--once", "-o", name, seen=seen)
                self.follow(command, name, "doubts", 1)


@unittest.skipUnless(hasattr(signal, "SIGKILL"), "kill -9")
class WithoutAnId(OnceCase):
    """`--resume` without an id, and runs that have died, or still wait, between their submit and its id."""

    def killed(self, command: str, submit: str, *argv: str) -> None:
        seen = threading.Event()
        self.gateway.on(submit, held(seen))
        self.kill(command, "x", *argv, seen=seen)
        self.gateway.on(submit, normal)
        self.gateway.requests.clear()

    def test_a_run_that_died_is_status_12_once_and_its_file_is_not_made_for_30_minutes(self):
        for command, name, submit, _ in COMMANDS:
            with self.subTest(command):
                self.fresh()
                self.clock.ahead = 0.0
                self.killed(command, submit, "--once", "-o", name)
                shown = self.call(command, "--resume", "--dry-run").document
                self.assertEqual(shown["method"], None)
                result = self.call(command, "--resume")
                self.assertQuietly(12, result)
                self.assertIn("may be billed", result.err)
                self.assertNotIn("--resume", result.err)
                again = self.call(command, "--resume")
                self.assertQuietly(1, again)
                self.assertIn("nothing_to_resume", again.err)
                for minutes in (0, 29):
                    self.clock.ahead = minutes * 60.0
                    self.assertQuietly(12, self.once(command, name))
                self.assertEqual(self.gateway.requests, [])
                self.clock.ahead = HALF_AN_HOUR + 60.0
                self.assertMade(self.once(command, name), command, name)

    def test_an_older_task_that_has_an_id_comes_first(self):
        for command, name, submit, _ in COMMANDS:
            with self.subTest(command):
                self.fresh()
                self.assertQuietly(0, self.call(command, "x", "--detach", "-o", f"old-{name}"))
                self.killed(command, submit, "--once", "-o", name)
                self.assertQuietly(0, self.call(command, "--resume"))
                self.assertPlace(f"old-{name}")
                self.assertQuietly(12, self.call(command, "--resume"))
                self.assertQuietly(1, self.call(command, "--resume"))

    def test_a_run_that_lives_is_left_alone(self):
        for command, name, submit, _ in COMMANDS:
            for argv, environ in ((("--once",), {}), ((), {"ALLTOKEN_BUDGET": "5/day"})):
                with self.subTest(command, argv=argv):
                    self.fresh()
                    seen, go = threading.Event(), threading.Event()
                    self.gateway.on(submit, held(seen, go, normal))
                    self.environ.update(environ)
                    run = self.spawn(command, "x", *argv, "-o", name)
                    self.assertTrue(seen.wait(PATIENCE))
                    before = len(self.gateway.requests)
                    result = self.call(command, "--resume")
                    self.assertQuietly(8, result)
                    self.assertEqual(len(self.gateway.requests), before)
                    go.set()
                    err = run.communicate(timeout=PATIENCE)[1]
                    self.assertEqual(run.returncode, 0, err)
                    self.assertHolds(name, self.content(command))
                    self.assertQuietly(1, self.call(command, "--resume"))
                    self.environ.pop("ALLTOKEN_BUDGET", None)
                    self.gateway.on(submit, normal)

    def test_a_signal_right_after_the_submit_leaves_the_task_on_the_last_line(self):
        for command, places in (
            (
                "image",
                (("calls.tasks:submit", "after"), ("calls.image:Work", "before"), ("calls.landing:Spool", "after")),
            ),
            ("video", (("calls.tasks:submit", "after"), ("calls.video:collect", "before"))),
        ):
            for where, moment in places:
                for quiet in ((), ("-q",)):
                    with self.subTest(command, where=where, quiet=quiet):
                        self.fresh()
                        result = self.die(where, moment, command, "x", "-o", "x.out", *quiet, signum=signal.SIGINT)
                        self.assertEqual(result.status, 130, result.err)
                        self.assertResumable(result, command, IGEN if command == "image" else VGEN)
                        self.assertEqual("[cost]" in result.err, not quiet)
                        self.assertQuietly(0, self.call(command, "--resume"))
                        self.assertEqual(self.submits(), 1)


class AtOnce(RelayCase, OnceCase):
    """Images that come in the answer to their request."""

    ARGV = ("image", "-m", "wan2.6-t2i", "x", "--once", "-o", "x.png")

    def assertThereNow(self) -> None:
        posts = self.posts()
        result = self.call(*self.ARGV, "-q")
        self.assertQuietly(0, result)
        self.assertEqual((result.err, self.posts(), os.path.exists("x.png")), ("", posts, True))

    def test_it_is_made_once(self):
        self.assertQuietly(0, self.call(*self.ARGV))
        self.assertEqual(self.posts(), 1)
        self.assertThereNow()

    def test_where_the_address_is_gone_the_next_run_makes_it_anew(self):
        for status in (404, 403, 410):
            with self.subTest(status):
                before = self.posts()
                address = f"{self.relay.url}/cdn/gone-{status}.png"
                self.relay.on(MAKE, reply(200, {"data": [{"url": address}]}), normal)
                self.relay.on(f"GET /cdn/gone-{status}.png", reply(status, b""))
                result = self.call(*self.ARGV)
                self.assertQuietly(11, result)
                self.assertNotIn("--resume", result.err)
                self.assertIn("new image", result.err)
                self.assertQuietly(1, self.image("--resume"))
                self.assertQuietly(0, self.call(*self.ARGV))
                self.assertEqual(self.posts(), before + 2)
                self.assertThereNow()
                os.unlink("x.png")

    def test_two_at_one_moment(self):
        self.relay.work = 0.3
        runs = [self.spawn(*self.ARGV, "-q") for _ in range(2)]
        ends = [(run.communicate(timeout=PATIENCE)[1], run.returncode) for run in runs]
        self.assertEqual((ends, self.posts()), ([(b"", 0)] * 2, 1))
        self.assertThereNow()

    def test_killed_while_it_is_waited_for_it_is_not_asked_for_again_for_30_minutes(self):
        seen = threading.Event()
        self.relay.on(MAKE, held(seen))
        self.kill(*self.ARGV, seen=seen)
        self.relay._scripts.pop(MAKE)
        for minutes in (0, 15, 29):
            self.clock.ahead = minutes * 60.0
            result = self.call(*self.ARGV)
            self.assertQuietly(12, result)
            self.assertEqual(self.posts(), 1)
        self.clock.ahead = HALF_AN_HOUR + 60.0
        self.assertQuietly(0, self.call(*self.ARGV))
        self.assertEqual(self.posts(), 2)
        self.assertThereNow()

    def test_killed_with_the_answer_on_disk_nobody_is_asked_again(self):
        for where, moment in (
            ("calls.landing:receive", "after"),
            ("calls.landing:take_apart", "after"),
            ("store.files:put", "before"),
        ):
            with self.subTest(where, moment=moment):
                before = self.posts()
                self.assertEqual(self.die(where, moment, *self.ARGV).status, -9)
                self.assertFalse(os.path.exists("x.png"))
                self.assertQuietly(0, self.call(*self.ARGV, "-q"))
                self.assertEqual(self.posts(), before + 1)
                self.assertThereNow()
                os.unlink("x.png")


class Cron(OnceCase):
    """The README's line, as cron runs it: a bare environment, /bin/sh, no terminal, and nothing on stdin."""

    forked = False

    def setUp(self) -> None:
        super().setUp()
        home = os.path.join(self.folder, "home")
        for folder in ("pictures", "bin"):
            os.makedirs(os.path.join(home, folder))
        self.home, self.pid = home, os.path.join(self.folder, "pid")
        self.file(
            "home/bin/alltoken-call", f'#!/bin/sh\necho $$ > {self.pid}\nexec {shlex.join([*PYTHON, PACKAGE])} "$@"\n'
        )
        os.chmod(os.path.join(home, "bin", "alltoken-call"), 0o755)
        keys = ("ALLTOKEN_API_KEY", "ALLTOKEN_BASE_URL")
        settings = [f"export {name}={shlex.quote(self.environ[name])}" for name in keys]
        self.file("home/.alltoken.env", "\n".join([*settings, 'export PATH="$HOME/bin:$PATH"', ""]))
        readme = (ROOT / "README.md").read_text("utf-8")
        (block,) = re.findall(r"```crontab\n(.*?)```", readme, re.DOTALL)
        (line,) = block.splitlines()
        when, command = re.fullmatch(r"((?:\S+ +){5})(.*)", line).groups()  # type: ignore[union-attr]
        self.assertEqual(when.split(), ["*/15", "*", "*", "*", "*"])
        # For cron, a % is the end of the command; \% is one.
        self.assertNotRegex(command, r"(?<!\\)%")
        self.line = command.replace(r"\%", "%")

    def start(self) -> subprocess.Popen:
        """Run the line as cron would."""
        environ = [f"HOME={self.home}", "LOGNAME=nobody", "SHELL=/bin/sh", "PATH=/usr/bin:/bin"]
        process = subprocess.Popen(
            ["env", "-i", *environ, "/bin/sh", "-c", f"exec <&-\n{self.line}"],
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # no terminal
        )
        self.addCleanup(self._end, process)
        return process

    def pictures(self) -> list[str]:
        """What lies in the folder."""
        return os.listdir(os.path.join(self.home, "pictures"))

    def assertSilent(self, process: subprocess.Popen) -> None:
        """It ended well, and cron has nothing to mail."""
        out, err = process.communicate(timeout=PATIENCE)
        self.assertEqual((process.returncode, out, err), (0, b"", b""))

    def test_three_times_in_a_row_with_a_kill_in_between(self):
        seen = threading.Event()
        self.gateway.on(GET_IMAGE, held(seen), normal)
        first = self.start()
        self.assertTrue(seen.wait(PATIENCE))
        with open(self.pid) as file:
            os.kill(int(file.read()), signal.SIGKILL)
        first.communicate(timeout=PATIENCE)
        self.assertNotEqual(first.returncode, 0)
        self.assertEqual(self.pictures(), [])
        self.assertSilent(self.start())
        ((name,), before) = self.pictures(), len(self.gateway.requests)
        self.assertRegex(name, r"\A\d{4}-\d\d-\d\d\.png\Z")
        self.assertHolds(os.path.join(self.home, "pictures", name), self.gateway.tasks.image)
        self.assertSilent(self.start())
        self.assertEqual((self.pictures(), len(self.gateway.requests)), ([name], before))
        self.assertEqual(self.submits(), 1)

    def test_what_is_wrong_is_told(self):
        self.gateway.on(IMAGE, refuse(402, "insufficient_balance", "no credit"))
        process = self.start()
        out, err = process.communicate(timeout=PATIENCE)
        self.assertEqual((process.returncode, out), (6, b""))
        self.assertIn(b"insufficient_balance", err)


if __name__ == "__main__":
    unittest.main()
