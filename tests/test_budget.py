"""A budget, from outside: what it refuses, what it does not look at, and that runs at the same moment share it."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import sqlite3
import threading
import time
import unittest
from typing import Any

from alltoken_call.store import ledger

from .gateway import CHAT, DONE, delta, event, frames, png, refuse, stream
from .harness import PATIENCE, Result
from .relay_support import RelayCase
from .store.test_budget import ZURICH, zone
from .task_support import IMAGE, VIDEO, TaskCase, held

BUYING = (
    ("chat", "hi"),
    ("chat", "hi", "--no-stream"),
    ("search", "hi"),
    ("image", "a cat"),
    ("image", "a cat", "--detach"),
    ("video", "waves"),
    ("video", "waves", "-o", "waves.mp4"),
)
MALFORMED = ("5", "5/days", "$5/day", "-1/day", "five/day", "5/day,6/week")

FUNCTION = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "ping", "arguments": "{}"}}
CALLING = event(delta(tool_calls=[FUNCTION])) + event(delta(finish="tool_calls"))


def costing(usd: str, *texts: str) -> Any:
    """A step: a whole answer of this cost."""
    return stream(frames(*texts or ("yes",)), DONE + b': {"cost":"%s"}\n\n' % usd.encode())


class BudgetCase(TaskCase):
    """A test whose runs have a budget."""

    def put(self, *rows: dict[str, Any], path: str | None = None) -> None:
        """Rows for the ledger, of calls just now unless they say when."""
        for row in rows:
            plain = {"started": self.clock.time(), "command": "chat", "model": "gpt-5.4-mini", "exit_status": 0}
            plain |= {"gateway": "alltoken", "source": "gateway" if row.get("cost") else None}
            ledger.put(path or os.path.join(self.state, "ledger.db"), plain | row)

    def rows(self) -> list[dict[str, Any]]:
        """The ledger's rows, oldest first."""
        path = os.path.join(self.state, "ledger.db")
        if not os.path.exists(path):
            return []
        with contextlib.closing(sqlite3.connect(path)) as database:
            database.row_factory = sqlite3.Row
            return [dict(row) for row in database.execute("SELECT * FROM calls ORDER BY id")]

    def assertRefused(self, result: Result, status: int = 6, *, rows: int = 0) -> None:
        """The run ended so, sent nothing, made nothing and left no row."""
        self.assertQuietly(status, result)
        self.assertEqual((result.out, self.gateway.requests, len(self.rows())), (b"", [], rows))
        self.assertEqual(os.listdir(self.place), [])
        self.assertNotIn("[cost]", result.err)


class Refusals(BudgetCase):
    def test_at_the_budget_nothing_is_sent_and_no_row_is_left(self):
        self.put({"cost": "3"}, {"cost": "2", "command": "image", "gateway": "openclaw", "source": "estimate"})
        for argv in BUYING:
            with self.subTest(argv):
                result = self.call(*argv, ALLTOKEN_BUDGET="5/day")
                self.assertRefused(result, rows=2)
                self.assertIn("[error] budget", result.err)
                document = self.call(*argv, "--json", ALLTOKEN_BUDGET="5/day").document
                self.assertEqual((document["error"]["code"], document["cost"]["source"]), ("budget", None))
        self.assertEqual(len(self.rows()), 2)

    def test_below_it_every_command_goes_on(self):
        self.put({"cost": "4.9999999999"})
        self.environ["ALLTOKEN_BUDGET"] = "500/day"
        for number, argv in enumerate(BUYING, 2):
            with self.subTest(argv):
                self.assertQuietly(0, self.call(*argv))
                rows = self.rows()
                self.assertEqual((len(rows), rows[-1]["command"], rows[-1]["exit_status"]), (number, argv[0], 0))

    def test_a_refusal_says_the_sum_the_budget_the_end_of_the_window_and_what_to_do(self):
        self.put({"cost": "1.25"}, {"cost": "4"})
        result = self.chat("hi", ALLTOKEN_BUDGET="5/day")
        tomorrow = time.strftime("%F", time.localtime(self.clock.time() + 86400))
        for part in ("$5.25", "$5 ", f"{tomorrow} 00:00", "nothing was sent", "ALLTOKEN_BUDGET"):
            self.assertIn(part, result.err)

    def test_no_file_is_uploaded_for_a_run_that_is_refused(self):
        source = self.file("source.png", png())
        for argv in (
            ("image", "x", "--edit", source),
            ("image", "x", "--edit", source, "--mask", source),
            ("video", "x", "--first-frame", source),
        ):
            with self.subTest(argv):
                self.assertRefused(self.call(*argv, ALLTOKEN_BUDGET="0/day"))

    def test_0_refuses_everything_and_an_empty_value_nothing(self):
        for window in ("hour", "day", "week", "month"):
            self.assertRefused(self.chat("hi", ALLTOKEN_BUDGET=f"0/{window}"))
        for empty in ("", " ", None):
            self.assertQuietly(0, self.chat("hi", ALLTOKEN_BUDGET=empty))

    def test_a_malformed_value_is_status_2_and_nothing_is_sent(self):
        for value in MALFORMED:
            for argv in BUYING[::2]:
                with self.subTest(value, argv=argv):
                    result = self.call(*argv, ALLTOKEN_BUDGET=value)
                    self.assertRefused(result, 2)
                    self.assertIn("ALLTOKEN_BUDGET", result.err)

    def test_a_ledger_that_is_off_or_cannot_be_read_is_status_2(self):
        broken = self.file("broken.db", b"no database" * 99)
        for path in ("off", broken, self.folder, "/dev/null"):
            for argv in BUYING[::2]:
                with self.subTest(path, argv=argv):
                    result = self.call(*argv, ALLTOKEN_BUDGET="5/day", ALLTOKEN_LEDGER=path)
                    self.assertRefused(result, 2)
                    self.assertIn("ALLTOKEN_BUDGET", result.err)
        self.assertRefused(self.chat("hi", ALLTOKEN_BUDGET="5/day", HOME=None, XDG_STATE_HOME=None), 2)

    @unittest.skipUnless(hasattr(os, "seteuid"), "modes of POSIX")
    def test_a_ledger_that_cannot_be_written_is_status_2(self):
        self.put({"cost": "1"})
        path = os.path.join(self.state, "ledger.db")
        os.chmod(path, 0o400)
        root = os.geteuid() == 0  # whom modes do not bind
        try:
            if root:
                for place in (self.folder, os.path.dirname(self.state), self.state, path):
                    os.chown(place, 65534, -1)
                os.seteuid(65534)
            result = self.chat("hi", ALLTOKEN_BUDGET="5/day")
        finally:
            if root:
                os.seteuid(0)
        self.assertRefused(result, 2, rows=1)


class NotAsked(BudgetCase):
    """What spends nothing does not look at the budget, not even at what it says."""

    def test_what_sends_nothing_new_is_never_refused(self):
        self.assertQuietly(0, self.image("x", "-o", "x.png", "--detach"))
        self.assertQuietly(0, self.video("x", "--detach"))
        self.assertQuietly(0, self.video("x", "--detach"))
        self.put({"cost": "100"})
        for value in ("0/day", "1/month", *MALFORMED):
            self.gateway.requests.clear()
            for argv in (
                ("chat", "hi", "--dry-run"),
                ("image", "x", "--dry-run"),
                ("video", "x", "--dry-run"),
                ("search", "x", "--dry-run"),
                ("models",),
                ("models", "-l"),
                ("cost",),
                ("cost", "gpt-5.4-mini", "1", "1"),
                ("cost", "--since", "1d"),
                ("cost", "--calls"),
                ("video", "--list"),
                ("image", "--resume", "--dry-run"),
                ("chat", "--help"),
            ):
                with self.subTest(value, argv=argv):
                    self.assertQuietly(0, self.call(*argv, ALLTOKEN_BUDGET=value))
            self.assertNotIn("POST", self.methods())
        self.assertQuietly(0, self.image("--resume", ALLTOKEN_BUDGET="0/day"))
        self.assertQuietly(0, self.video("--resume", "vgen_00000002", ALLTOKEN_BUDGET="nonsense"))
        self.gateway.work = 9e9
        self.assertQuietly(0, self.video("--cancel", "vgen_00000003", ALLTOKEN_BUDGET="0/day"))
        self.assertEqual((self.gateway.count(IMAGE), self.gateway.count(VIDEO)), (0, 0))

    def test_once_is_not_refused_where_the_file_is_there_or_a_task_is_to_make_it(self):
        with open("there.png", "wb") as file:
            file.write(b"anything")
        self.assertQuietly(0, self.image("x", "-o", "there.png", "--once", ALLTOKEN_BUDGET="nonsense"))
        self.assertQuietly(0, self.image("x", "-o", "x.png", "--detach"))
        result = self.image("x", "-o", "x.png", "--once", ALLTOKEN_BUDGET="0/day")
        self.assertQuietly(0, result)
        self.assertHolds("x.png", self.gateway.tasks.image)
        self.assertEqual(self.gateway.count(IMAGE), 1)

    def test_once_is_refused_where_it_would_submit(self):
        self.assertRefused(self.image("x", "-o", "x.png", "--once", ALLTOKEN_BUDGET="0/day"))
        self.assertRefused(self.video("x", "-o", "x.mp4", "--once", ALLTOKEN_BUDGET="0/day"))


class Elsewhere(RelayCase):
    dialect = "openai"

    def test_local_servers_count_nothing_and_are_never_refused(self):
        local = self.another("openai", key=None)
        self.environ |= {"ALLTOKEN_OLLAMA_BASE_URL": local.url, "ALLTOKEN_OLLAMA_CHAT_MODEL": "gpt-5.4-mini"}
        for value in ("0/day", *MALFORMED):
            result = self.chat("--gateway", "ollama", "hi", ALLTOKEN_BUDGET=value)
            self.assertQuietly(0, result)
        self.assertEqual({row["source"] for row in self.rows()}, {"local"})
        # They are not unknown to others either: at the next, no warning and nothing spent.
        result = self.chat("-m", "gpt-5.4-mini", "hi", ALLTOKEN_BUDGET="0.01/day")
        self.assertQuietly(0, result)
        self.assertNotIn("[warning]", result.err)

    def test_a_gateway_whose_dialect_is_to_be_found_out_is_not_even_asked_for_it(self):
        del self.environ["ALLTOKEN_RELAY_DIALECT"]
        for argv in (("image", "-m", "gpt-image-1", "x"), ("video", "-m", "sora-2", "x")):
            for value, status in (("0/day", 6), ("nonsense", 2)):
                with self.subTest(argv, value=value):
                    self.assertQuietly(status, self.call(*argv, ALLTOKEN_BUDGET=value))
                    self.assertQuietly(2, self.call(*argv, ALLTOKEN_BUDGET="5/day", ALLTOKEN_LEDGER="off"))
                    self.assertEqual((self.paths(), self.rows()), ([], []))

    def test_one_budget_counts_all_gateways(self):
        self.assertQuietly(0, self.chat("--gateway", "alltoken", "hi"))
        self.assertQuietly(6, self.chat("-m", "gpt-5.4-mini", "hi", ALLTOKEN_BUDGET="0.000001/day"))
        self.assertEqual(self.paths(), [])

    def test_an_image_at_once_is_refused_too(self):
        for argv in (("image", "-m", "gpt-image-1", "x"), ("image", "-m", "gpt-5.4-mini", "--via", "chat", "x")):
            self.assertQuietly(6, self.call(*argv, ALLTOKEN_BUDGET="0/day"))
        self.assertEqual((self.paths(), self.rows()), ([], []))


class Counting(BudgetCase):
    def test_what_the_runs_themselves_cost_uses_the_budget_up(self):
        self.gateway.on(CHAT, costing("1"))
        statuses = [self.chat("hi", ALLTOKEN_BUDGET="3/day").status for _ in range(5)]
        self.assertEqual((statuses, self.asked()), ([0, 0, 0, 6, 6], 3))

    def test_calls_of_unknown_cost_count_as_the_dearest_of_their_kind_and_one_warning_says_so(self):
        self.put(
            {"cost": "0.5"}, {"cost": "1", "source": "estimate"}, {}, {}, {"source": "none"}, {"command": "search"}
        )
        result = self.chat("hi", ALLTOKEN_BUDGET="3.5/day")  # 0.5 + 1 + 2 × 1; nothing is known of searches
        self.assertQuietly(6, result)
        self.assertEqual((result.err.count("[warning]"), self.asked()), (1, 0))
        warning = next(line for line in result.err.splitlines() if line.startswith("[warning]"))
        self.assertRegex(warning, r"\b3 call.*\$2\b")
        result = self.chat("hi", "-q", ALLTOKEN_BUDGET="3.51/day")
        self.assertQuietly(0, result)
        self.assertEqual(result.err, warning + "\n")

    def test_a_failed_run_that_bought_nothing_is_not_counted(self):
        self.put({"cost": "1"})
        self.gateway.on(CHAT, refuse(402, "insufficient_balance"), refuse(400, "invalid_request"), refuse(500, "x"))
        for status in (6, 1):
            result = self.chat("hi", ALLTOKEN_BUDGET="2/day")
            self.assertQuietly(status, result)
            self.assertNotIn("[warning]", result.err)
        self.assertQuietly(3, self.chat("hi", ALLTOKEN_BUDGET="2/day", ALLTOKEN_BASE_URL="http://127.0.0.1:1"))
        self.assertQuietly(5, self.chat("hi", ALLTOKEN_BUDGET="2/day"))  # may have been billed: counts as $1
        self.assertEqual(self.asked(), 3)
        self.assertQuietly(6, self.chat("hi", ALLTOKEN_BUDGET="2/day"))
        self.assertEqual([row["source"] for row in self.rows()], ["gateway", "none", "none", "none", None])

    def test_the_window_ends_at_local_midnight_and_a_new_one_begins(self):
        with zone(ZURICH):
            for before, window in (
                ("2026-11-18 23:59:50", "day"),
                ("2026-03-29 23:59:50", "day"),  # 23 hours
                ("2026-10-25 23:59:50", "day"),  # 25 hours
                ("2026-10-25 23:59:50", "week"),  # Sunday, Monday
                ("2026-10-31 23:59:50", "month"),
                ("2026-11-18 08:59:50", "hour"),
            ):
                with self.subTest(window, before=before):
                    self.fresh()
                    self.clock.ahead = dt.datetime.fromisoformat(before).timestamp() - time.time()
                    self.put({"cost": "5"})
                    self.gateway.on(CHAT, costing("0"))
                    self.assertQuietly(6, self.chat("hi", ALLTOKEN_BUDGET=f"5/{window}"))
                    self.clock.ahead += 20
                    self.assertQuietly(0, self.chat("hi", ALLTOKEN_BUDGET=f"5/{window}"))
                    for other in ("month",) if window != "month" else ():
                        self.assertQuietly(6, self.chat("hi", ALLTOKEN_BUDGET=f"5/{other}"))
                    self.assertEqual(self.asked(), 1)

    def test_a_fallback_has_the_row_of_its_run(self):
        self.gateway.on(CHAT, refuse(503, "all_providers_failed"), costing("0.25"))
        self.assertQuietly(0, self.chat("hi", "--fallback", "gpt-5.4-nano", ALLTOKEN_BUDGET="1/day"))
        (row,) = self.rows()
        self.assertEqual((row["model"], row["cost"], row["exit_status"]), ("gpt-5.4-nano", "0.25", 0))

    def tool(self) -> str:
        """A tool that answers."""
        path = self.file(
            "ping", '#!/bin/sh\n# tool: {"description": "p", "parameters": {"type": "object"}}\necho pong\n'
        )
        os.chmod(path, 0o755)
        return path

    def test_each_step_of_a_tool_loop_asks_the_budget(self):
        comment = DONE + b': {"cost":"1"}\n\n'
        self.gateway.on(CHAT, stream(CALLING, comment), stream(CALLING, comment), costing("1"))
        result = self.chat("--tool", self.tool(), "hi", ALLTOKEN_BUDGET="2/day")
        self.assertEqual((result.status, self.asked()), (6, 2), result.err)
        self.assertIn("[error] budget", result.err)
        self.assertEqual([row["cost"] for row in self.rows()], ["1", "1"])

    def test_one_warning_a_run_however_many_steps_are_unknown(self):
        self.put({"cost": "1"}, {})
        self.gateway.on(CHAT, stream(CALLING, DONE), stream(CALLING, DONE), costing("1"))
        result = self.chat("--tool", self.tool(), "hi", ALLTOKEN_BUDGET="9/day")
        self.assertEqual((result.status, self.asked()), (0, 3), result.err)
        self.assertEqual(result.err.count("of unknown cost"), 1)


class Together(BudgetCase):
    def test_the_row_is_in_the_ledger_before_the_request_leaves(self):
        for argv, request in ((("chat", "hi"), CHAT), (("image", "x"), IMAGE), (("video", "x"), VIDEO)):
            with self.subTest(argv):
                self.fresh()
                seen: list[list[dict[str, Any]]] = []

                def step(exchange: Any, seen: list = seen) -> None:
                    seen.append(self.rows())
                    exchange.refuse(402, "insufficient_balance", "billing_error", "no")

                self.gateway.on(request, step)
                self.assertQuietly(6, self.call(*argv, ALLTOKEN_BUDGET="5/day"))
                ((row,),) = seen
                self.assertEqual(
                    (row["command"], row["cost"], row["source"], row["exit_status"]), (argv[0], None, None, None)
                )
                (row,) = self.rows()
                self.assertEqual((row["source"], row["exit_status"]), ("none", 6))

    def test_of_20_at_once_exactly_4_send_their_request(self):
        self.put({"cost": "1"})
        go, came = threading.Event(), threading.Semaphore(0)

        def step(exchange: Any) -> None:
            came.release()
            if go.wait(PATIENCE):
                costing("1")(exchange)

        self.gateway.on(CHAT, step)
        environ = {"ALLTOKEN_BUDGET": "5/day"}
        runs = [self.spawn("chat", "-q", "hi", environ=environ) for _ in range(20)]
        try:
            for _ in range(4):
                self.assertTrue(came.acquire(timeout=PATIENCE))
            until = time.monotonic() + PATIENCE
            while sum(run.poll() is not None for run in runs) < 16 and time.monotonic() < until:
                time.sleep(0.02)
            self.assertEqual(sum(run.poll() is not None for run in runs), 16)
        finally:
            go.set()
        ends = [(run.wait(PATIENCE), run.stdout.read(), run.stderr.read().decode()) for run in runs]
        self.assertEqual(sorted(status for status, _, _ in ends), [0] * 4 + [6] * 16)
        self.assertEqual((self.asked(), len(self.gateway.requests)), (4, 4))
        for status, out, err in ends:
            self.assertEqual(out, b"yes\n" if status == 0 else b"")
            self.assertEqual("[error] budget" in err, status == 6)
            self.assertNotIn("cannot be used", err)
        rows = self.rows()
        self.assertEqual([(row["cost"], row["source"]) for row in rows], [("1", "gateway")] * 5)

    def test_a_run_that_was_killed_stays_one_of_unknown_cost(self):
        self.put({"cost": "1"})
        seen = threading.Event()
        self.gateway.on(CHAT, held(seen))
        process = self.spawn("chat", "hi", environ={"ALLTOKEN_BUDGET": "5/day"})
        self.assertTrue(seen.wait(PATIENCE))
        process.kill()
        process.wait(PATIENCE)
        result = self.chat("hi", ALLTOKEN_BUDGET="2/day")
        self.assertQuietly(6, result)
        self.assertRegex(result.err, r"\[warning\] 1 call.*\$1\b")
        self.assertEqual(self.asked(), 1)


if __name__ == "__main__":
    unittest.main()
