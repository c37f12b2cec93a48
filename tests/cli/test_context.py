"""context: signals, streams and the words that start us again."""

import contextlib
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from unittest import mock

from alltoken_call.cli.context import Context, Signals, is_terminal
from alltoken_call.errors import Interrupted
from alltoken_call.net.clock import Clock

from .. import support
from ..harness import PATIENCE

TAKEN = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ALL = (*TAKEN, signal.SIGALRM)


class Signalled(unittest.TestCase):
    def setUp(self):
        for signum in ALL:
            self.addCleanup(signal.signal, signum, signal.getsignal(signum))
            signal.signal(signum, signal.SIG_DFL)
        self.signals = Signals()

    def assert_interrupted(self, signum: int):
        with self.assertRaises(Interrupted) as caught:
            signal.raise_signal(signum)
        self.assertEqual(caught.exception.status, 128 + signum)

    def test_each_signal_becomes_an_interrupted_with_its_status(self):
        self.signals.install()
        for signum in TAKEN:
            with self.subTest(signum):
                self.assert_interrupted(signum)

    def test_an_ignored_signal_stays_ignored(self):
        for ignored in TAKEN:
            with self.subTest(ignored):
                signal.signal(ignored, signal.SIG_IGN)
                self.signals.install()
                self.assertIs(signal.getsignal(ignored), signal.SIG_IGN)
                self.signals.release()
                self.assertIs(signal.getsignal(ignored), signal.SIG_IGN)

    def test_release_gives_the_defaults_back(self):
        self.signals.install()
        self.signals.release()
        self.assertEqual([signal.getsignal(signum) for signum in TAKEN], [signal.SIG_DFL] * len(TAKEN))

    def test_a_held_signal_is_raised_when_the_block_has_ended(self):
        self.signals.install()
        saved = []
        with self.assertRaises(Interrupted) as caught, self.signals.held():
            signal.raise_signal(signal.SIGTERM)
            saved.append("after the signal")
        self.assertEqual(saved, ["after the signal"])
        self.assertEqual(caught.exception.status, 143)
        self.assert_interrupted(signal.SIGINT)

    def test_a_block_with_a_grace_is_interrupted_when_that_is_over(self):
        self.signals.install()
        with self.assertRaises(Interrupted) as caught, self.signals.held(0.01):
            signal.raise_signal(signal.SIGTERM)
            time.sleep(PATIENCE)
            self.fail("the block went on")
        self.assertEqual(caught.exception.status, 143)
        self.assert_interrupted(signal.SIGINT)

    def test_what_is_firm_outlasts_the_grace_whenever_the_signal_comes(self):
        self.signals.install()
        for before in (True, False):
            ended = False
            with self.subTest(before=before), self.assertRaises(Interrupted), self.signals.held(0.05):
                if before:
                    signal.raise_signal(signal.SIGTERM)
                self.signals.firm()
                if not before:
                    signal.raise_signal(signal.SIGTERM)
                time.sleep(0.1)
                ended = True
            self.assertTrue(ended)

    def test_a_check_inside_the_block_raises_what_was_held_back(self):
        self.signals.install()
        with self.assertRaises(Interrupted) as caught, self.signals.held():
            self.signals.check()
            signal.raise_signal(signal.SIGHUP)
            self.signals.check()
            self.fail("the block went on")
        self.assertEqual(caught.exception.status, 129)

    def test_a_block_inside_a_block_leaves_a_signal_to_the_outer_one(self):
        self.signals.install()
        reached = []
        with self.assertRaises(Interrupted) as caught, self.signals.held():
            with self.signals.held():
                signal.raise_signal(signal.SIGTERM)
                reached.append("inner")
            reached.append("outer")
            signal.raise_signal(signal.SIGTERM)
            reached.append("end")
        self.assertEqual((reached, caught.exception.status), (["inner", "outer", "end"], 143))
        self.assert_interrupted(signal.SIGINT)

    def test_however_an_inner_block_ends_signals_act_at_once_after_the_outer_one(self):
        for end in ("failure", "check", "grace"):
            with self.subTest(end):
                self.signals = Signals()
                self.signals.install()
                failure = ZeroDivisionError if end == "failure" else Interrupted
                with self.assertRaises(failure), self.signals.held(0.01 if end == "grace" else 0.0):
                    with self.signals.held():
                        if end != "failure":
                            signal.raise_signal(signal.SIGTERM)
                        if end == "grace":
                            time.sleep(PATIENCE)
                        elif end == "check":
                            self.signals.check()
                        else:
                            raise ZeroDivisionError
                    self.fail("the block went on")
                self.assert_interrupted(signal.SIGINT)
                with self.signals.held():
                    pass
                self.assert_interrupted(signal.SIGINT)

    def test_signals_are_let_through_while_the_hold_is_lifted(self):
        self.signals.install()
        for early in (True, False):
            with self.subTest(early=early):
                reached = []
                with self.assertRaises(Interrupted), self.signals.held():
                    if early:
                        signal.raise_signal(signal.SIGTERM)
                        reached.append("held")
                    with self.signals.lifted():
                        reached.append("lifted")
                        signal.raise_signal(signal.SIGTERM)
                    self.fail("the block went on")
                self.assertEqual(reached, ["held"] if early else ["lifted"])
        with self.assertRaises(Interrupted), self.signals.held():
            with self.signals.lifted():
                pass
            signal.raise_signal(signal.SIGTERM)
            reached.append("held again")
        self.assertEqual(reached[-1], "held again")

    def test_a_block_without_a_signal_ends_in_silence_and_signals_act_at_once_again(self):
        self.signals.install()
        with self.signals.held():
            pass
        self.assert_interrupted(signal.SIGINT)

    def test_a_block_that_fails_shows_its_own_failure_and_signals_act_at_once_again(self):
        self.signals.install()
        with self.assertRaises(ZeroDivisionError), self.signals.held():
            signal.raise_signal(signal.SIGTERM)
            raise ZeroDivisionError
        self.assert_interrupted(signal.SIGINT)


class Worlds(unittest.TestCase):
    def test_there_is_no_deadline_until_one_is_set(self):
        clock = support.context(clock=Clock(monotonic=lambda: 100.0)).clock
        self.assertEqual(clock.left(), math.inf)
        clock.deadline = 103.5
        self.assertEqual(clock.left(), 3.5)

    def test_signals_are_its_own_unless_given(self):
        signals = Signals()
        self.assertIs(support.context(signals=signals).signals, signals)
        self.assertIsInstance(support.context().signals, Signals)

    def test_a_closed_stream_is_not_a_terminal(self):
        closed = open(os.devnull)
        closed.close()
        self.assertIs(is_terminal(closed), False)
        self.assertIs(is_terminal(None), False)
        self.assertIs(is_terminal(support.Stream()), False)
        self.assertIs(is_terminal(support.Stream(terminal=True)), True)

    def test_closed_descriptors_are_filled_so_that_nothing_of_ours_takes_their_number(self):
        code = (
            "import os, sys; from alltoken_call.cli.context import Context; context = Context.of_process();"
            "file = open(sys.argv[1], 'w');"
            "print(file.fileno(), context.stdin, context.stdout, context.stderr, file=file)"
        )
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "seen")
            command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-S", "-c", code, path]
            subprocess.run(command, check=True, timeout=10)
            with open(path) as file:
                self.assertEqual(file.read(), "3 None None None\n")


class Programs(unittest.TestCase):
    def setUp(self):
        folder = self.enter(tempfile.TemporaryDirectory())
        self.bin, self.package, self.other = (os.path.join(folder, name) for name in ("bin", "alltoken_call", "other"))
        for place in (self.bin, self.package, self.other):
            os.mkdir(place)
        self.script = self.make(self.bin, "alltoken-call", 0o755)

    def enter(self, manager):
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        return stack.enter_context(manager)

    def make(self, folder, name, mode=0o644):
        path = os.path.join(folder, name)
        with open(os.open(path, os.O_CREAT | os.O_WRONLY, mode), "w"):
            return path

    def program(self, script, *path):
        with (
            mock.patch.object(sys, "argv", [script, "chat"]),
            mock.patch.dict(os.environ, {"PATH": os.pathsep.join(path)}),
        ):
            return Context.of_process().program

    def test_a_script_on_the_path_is_started_by_its_name(self):
        self.assertEqual(self.program(self.script, self.other, self.bin), ["alltoken-call"])

    def test_a_script_that_the_path_does_not_find_is_started_by_its_path(self):
        self.assertEqual(self.program(self.script, self.other), [self.script])
        self.make(self.other, "alltoken-call", 0o755)
        self.assertEqual(self.program(self.script, self.other, self.bin), [self.script])

    def test_a_namesake_that_is_not_executable_is_passed_over(self):
        self.make(self.other, "alltoken-call")
        self.assertEqual(self.program(self.script, self.other, self.bin), ["alltoken-call"])

    def test_directories_and_files_of_python_are_started_by_the_interpreter(self):
        inside = self.make(self.package, "__main__.py")
        for script, path in (
            (self.package, self.package),
            (inside, self.package),
            (os.path.join(self.bin, "x.pyz"), os.path.join(self.bin, "x.pyz")),
            (os.path.join(self.bin, "x.py"), os.path.join(self.bin, "x.py")),
        ):
            with self.subTest(script):
                self.assertEqual(self.program(script, self.bin), [sys.executable, path])
                with mock.patch.object(sys, "executable", ""):
                    self.assertEqual(self.program(script, self.bin), ["python3", path])

    def test_a_relative_path_becomes_absolute(self):
        home = os.getcwd()
        self.addCleanup(os.chdir, home)
        os.chdir(os.path.dirname(self.package))
        self.assertEqual(self.program("alltoken_call"), [sys.executable, os.path.realpath(self.package)])
