"""What the tests of the Python door share: agents of this process over a gateway of their own."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import threading
import time
from contextlib import contextmanager
from unittest import mock

from alltoken_call import Agent
from alltoken_call.errors import CallError

from ..harness import PATIENCE, PYTHON, ROOT, Case

SOON = 1.0  # seconds in which a cancelled run has to end
COLUMNS = "command, model, status, task_id, request_id, prompt_tokens, completion_tokens, cost, source, exit_status"


def weather(city: str, days: int = 1) -> str:
    """Tell the weather of a city."""
    return f"{city}: sunny for {days} day(s)"


class AgentCase(Case):
    """A test whose environment is the process's own, as a Python program has it."""

    def setUp(self) -> None:
        super().setUp()
        patch = mock.patch.dict(os.environ, self.environ, clear=True)
        patch.start()
        self.addCleanup(patch.stop)
        threads = set(threading.enumerate())
        self.addCleanup(lambda: self.assertNoThreads(threads))

    def assertNoThreads(self, before: set[threading.Thread]) -> None:
        """No thread is left but those of the gateway, which end by themselves."""
        ours = [one for one in threading.enumerate() if one not in before and "process_request" not in one.name]
        for one in ours:
            one.join(PATIENCE)
        self.assertEqual([one for one in ours if one.is_alive()], [])

    def agent(self, *args, **options) -> Agent:
        """An agent that is closed at the end of the test."""
        made = Agent(*args, **options)
        self.addCleanup(made.close)
        return made

    def rows(self, columns: str = COLUMNS) -> list[tuple]:
        """The rows of the ledger, the oldest first."""
        path = os.path.join(self.environ["XDG_STATE_HOME"], "alltoken-call", "ledger.db")
        if not os.path.exists(path):
            return []
        with sqlite3.connect(path) as database:
            found = database.execute(f"SELECT {columns} FROM calls ORDER BY id").fetchall()
        database.close()
        return found

    def failure(self, call, *args, **options) -> CallError:
        """The error that a call raises."""
        with self.assertRaises(CallError) as caught:
            call(*args, **options)
        return caught.exception

    @contextmanager
    def cancelled(self, agent: Agent, after: float = 0.1, ready=None):
        """The block's run is cancelled by another thread, and ends soon after; `ready` is waited for first."""
        at = []

        def cancel() -> None:
            until = time.monotonic() + PATIENCE
            while ready is not None and not ready() and time.monotonic() < until:
                time.sleep(0.01)
            time.sleep(after)
            at.append(time.monotonic())
            agent.cancel()

        thread = threading.Thread(target=cancel)
        thread.start()
        with self.assertRaises(CallError) as caught:
            yield
        took = time.monotonic() - at[0]
        thread.join()
        self.assertEqual((caught.exception.code, int(caught.exception.status)), ("cancelled", 130))
        self.assertLess(took, SOON)

    def program(self, script: str, *options: str, interrupt=None, **environ: str) -> subprocess.CompletedProcess:
        """Run a Python program in a process of its own; SIGINT goes to it once `interrupt` says so."""
        process = subprocess.Popen(
            [*PYTHON, *options, "-c", script],
            env={**self.environ, "PYTHONPATH": str(ROOT), **environ},
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.addCleanup(self._end, process)
        if interrupt is not None:
            until = time.monotonic() + PATIENCE
            while not interrupt() and process.poll() is None and time.monotonic() < until:
                time.sleep(0.01)
            time.sleep(0.1)
            process.send_signal(2)
        out, err = process.communicate(timeout=2 * PATIENCE)
        return subprocess.CompletedProcess(process.args, process.returncode, out.decode(), err.decode())
