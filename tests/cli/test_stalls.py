"""A reader that stands still: of stdout, of a prompt's stdin. Real processes with real pipes."""

from __future__ import annotations

import fcntl
import os
import signal
import sqlite3
import sys
import termios
import time
from contextlib import closing
from typing import Any

from ..gateway import CHAT, COST, DONE, frames, png, stream
from ..harness import PACKAGE, PATIENCE, PYTHON, Case

LONG = "x" * 300_000  # more than a pipe holds


class Stalls(Case):
    def setUp(self) -> None:
        super().setUp()
        self.gateway.on(CHAT, stream(frames(*[LONG] * 2) + DONE + COST))
        self.gateway.tasks.image = png(noise=400_000)

    def stand_still(self, *argv: str) -> Any:
        """A process that has filled its stdout, which nobody reads."""
        reader, writer = os.pipe()
        self.addCleanup(os.close, reader)
        process = self.spawn(*argv, stdout=writer)
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and process.poll() is None and not self.is_full(reader):
            time.sleep(0.01)
        time.sleep(0.05)
        os.close(writer)
        return process

    @staticmethod
    def is_full(reader: int) -> bool:
        waiting = int.from_bytes(fcntl.ioctl(reader, termios.FIONREAD, b"...."), sys.byteorder)
        return waiting > 60_000

    def ended(self, process: Any, status: int, within: float) -> str:
        """Its stderr, once it has ended so in time."""
        begun = time.monotonic()
        _, err = process.communicate(timeout=PATIENCE)
        self.assertEqual(process.returncode, status, err)
        self.assertLess(time.monotonic() - begun, within)
        self.assertNotIn(b"Traceback", err)
        return err.decode()

    def rows(self) -> list[tuple[Any, ...]]:
        """Command, cost and exit status of the calls on record."""
        with closing(sqlite3.connect(os.path.join(self.folder, "state", "alltoken-call", "ledger.db"))) as database:
            return database.execute("SELECT command, cost, exit_status FROM calls").fetchall()

    def test_the_first_signal_ends_the_run_and_it_is_on_record(self):
        for number, (signum, status) in enumerate(((signal.SIGINT, 130), (signal.SIGTERM, 143))):
            with self.subTest(signum):
                process = self.stand_still("chat", "hi")
                process.send_signal(signum)
                self.assertIn("[error] interrupted", self.ended(process, status, 1))
                self.assertEqual(self.rows()[number][::2], ("chat", status))

    def test_the_first_signal_ends_a_run_whose_document_nobody_reads_and_its_cost_is_on_record(self):
        process = self.stand_still("chat", "hi", "--json")
        process.send_signal(signal.SIGTERM)
        self.ended(process, 143, 1)
        self.assertEqual(self.rows(), [("chat", "0.0000188000", 143)])

    def test_the_first_signal_ends_a_run_whose_image_nobody_reads_and_the_image_can_be_had(self):
        for signum, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
            with self.subTest(signum):
                process = self.stand_still("image", "x", "-o", "-")
                process.send_signal(signum)
                self.assertIn("image --resume", self.ended(process, status, 1).splitlines()[-1])
                asked = len(self.gateway.requests)
                path = os.path.join(self.folder, f"{status}.png")
                self.assertQuietly(0, self.call("image", "--resume", "-o", path))
                with open(path, "rb") as file:
                    self.assertEqual(file.read(), self.gateway.tasks.image)
                self.assertEqual(len(self.gateway.requests), asked)

    def assert_kept(self, err: str) -> None:
        """The image is in the state directory, whole, and stderr says where."""
        state = os.path.join(self.folder, "state", "alltoken-call")
        (name,) = [name for name in os.listdir(state) if name.endswith(".png")]
        with open(os.path.join(state, name), "rb") as file:
            self.assertEqual(file.read(), self.gateway.tasks.image)
        self.assertIn(os.path.join(state, name), err)

    def test_max_wait_ends_it_with_status_9(self):
        for argv in (
            ["chat", "hi"],
            ["chat", "hi", "--no-stream"],
            ["chat", "hi", "--json"],
            ["image", "x", "-o", "-"],
        ):
            with self.subTest(argv):
                begun = time.monotonic()
                process = self.stand_still(*argv, "--max-wait", "1")
                err = self.ended(process, 9, 2)
                self.assertLess(time.monotonic() - begun, 2.5)
                self.assertIn("--max-wait", err)
        self.assert_kept(err)

    def test_a_prompt_without_an_end_ends_in_time_and_in_bounds(self):
        measure = (
            "import resource, subprocess, sys; done = subprocess.run(sys.argv[1:], stdin=open('/dev/zero'));"
            " print(done.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        )
        begun = time.monotonic()
        command = [*PYTHON, "-c", measure, *PYTHON, PACKAGE]
        result = self.execute("chat", "-", "--max-wait", "2", command=command)
        self.assertLess(time.monotonic() - begun, 3)
        status, peak = map(int, result.out.split())
        self.assertIn(status, (2, 3), result.err)
        self.assertLess(peak // (1024 if sys.platform != "darwin" else 1 << 20), 256, "MiB")
        self.assertEqual(self.gateway.requests, [])
