"""The process table: tests mark what they start by a word in its command line, and look whether any of it is left."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import unittest
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PYTHON = [sys.executable, "-S", "-E"]
PATIENCE = 10.0  # seconds after which a test that waits has failed


def running(marker: str) -> list[str]:
    """The command lines of this machine's processes that hold `marker`."""
    if not os.path.isdir("/proc/self"):
        lines = subprocess.run(["ps", "-axo", "args"], capture_output=True, text=True, check=True).stdout.splitlines()
        return [line for line in lines if marker in line]
    found = []
    for number in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{number}/cmdline", "rb") as file:
            line = file.read().replace(b"\0", b" ").decode("utf-8", "replace")
            if marker in line and int(number) != os.getpid():
                found.append(line)
    return found


def eventually(condition) -> bool:
    """Whether `condition` comes true."""
    until = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


class Marked(unittest.TestCase):
    """A test after which none of the processes that carry its `marker` may be left."""

    def setUp(self) -> None:
        self.marker = f"marker-{uuid.uuid4().hex}"
        self.addCleanup(self.check_nothing_is_left)

    def check_nothing_is_left(self) -> None:
        self.assertEqual(running(self.marker), [])
