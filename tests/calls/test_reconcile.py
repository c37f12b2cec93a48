"""Costs that a gateway tells in its log: joined by request id, few reads, never for what is known."""

from __future__ import annotations

import os
import unittest
from typing import Any

from alltoken_call.calls import reconcile
from alltoken_call.calls.client import Client
from alltoken_call.config import Gateway
from alltoken_call.net.clock import Clock
from alltoken_call.store import ledger
from alltoken_call.values import Warned

from ..gateway import refuse, reply
from ..relay import RELAY_KEY
from ..relay_support import RelayCase

LOG, STATUS = "GET /api/log/token", "GET /api/status"


class ReconcileCase(RelayCase):
    """A test with a relay whose log has rows, and a client that reads it on a handed-in clock."""

    def setUp(self) -> None:
        super().setUp()
        self.path = os.path.join(self.state, "ledger.db")
        self.warnings: list[str] = []

    def client(self, dialect: str = "new-api") -> Client:
        """A client of one run."""
        clock = Clock(monotonic=self.clock.monotonic, now=self.clock.time, sleep=self.clock.sleep)
        book = ledger.Ledger(self.path, self.warnings.append)

        def on_event(event: Any) -> None:
            if isinstance(event, Warned):
                self.warnings.append(event.text)

        gateway = Gateway("relay", self.relay.url, dialect)
        return Client(gateway, key=RELAY_KEY, clock=clock, on_event=on_event, ledger=book)

    def put(self, request_id: str | None, **fields: Any) -> int:
        """A row of the ledger; its number."""
        plain = {"started": 1000.0, "gateway": "relay", "command": "chat", "model": "m", "request_id": request_id}
        return ledger.put(self.path, plain | fields)

    def log(self, request_id: str, quota: int, kind: int = 2) -> None:
        """A row of the relay's log."""
        self.relay.record(request_id, "m", quota, {}, kind)

    def row(self, number: int) -> tuple[Any, ...]:
        """Cost and source of a row."""
        (found,) = ledger.rows(self.path, "id = ?", (number,), ("cost", "source"))
        return found

    def last(self, number: int, **options: Any) -> Any:
        """What `of_last` says of a row."""
        (found,) = ledger.rows(self.path, "id = ?", (number,), ("id", *ledger.COLUMNS))
        return reconcile.of_last(self.client(**options), dict(zip(("id", *ledger.COLUMNS), found)))


class OfLast(ReconcileCase):
    def test_it_is_quota_by_unit_exact_and_put_into_the_row(self):
        for quota, usd in ((1, "0.000002"), (250_000, "0.500000"), (123_456_789, "246.913578"), (0, "0.000000")):
            with self.subTest(quota):
                number = self.put(f"r{quota}")
                self.log(f"r{quota}", quota)
                cost = self.last(number)
                self.assertEqual((cost.usd, cost.source), (usd, "gateway"))
                self.assertEqual(self.row(number), (usd, "gateway"))

    def test_the_unit_is_the_gateways_own_and_500000_where_it_does_not_say(self):
        for unit, usd in ((1_000_000, "0.500000"), (7, "71428.571428571")):
            self.relay.unit = unit
            number = self.put(f"u{unit}")
            self.log(f"u{unit}", 500_000)
            self.assertTrue(self.last(number).usd.startswith(usd))
        for step in (
            refuse(500, "x"),
            refuse(404, "not_found"),
            reply(200, {"success": True, "data": {}}),
            reply(200, {"success": True, "data": {"quota_per_unit": 0}}),
            reply(200, {"success": True, "data": {"quota_per_unit": "500"}}),
        ):
            self.relay.on(STATUS, step)
            number = self.put(f"s{len(self.relay.rows)}")
            self.log(f"s{len(self.relay.rows)}", 250_000)
            self.assertEqual(self.last(number).usd, "0.500000")

    def test_a_call_that_is_not_in_it_yet_is_looked_for_once_more_after_2_s(self):
        number = self.put("late")
        self.relay.log_lag = 1
        self.log("late", 500_000)
        self.assertEqual(self.last(number).usd, "1.000000")
        self.assertEqual((self.clock.sleeps, self.paths().count(LOG), self.paths().count(STATUS)), ([2.0], 2, 1))

    def test_then_it_is_unknown(self):
        number = self.put("later")
        self.relay.log_lag = 2
        self.log("later", 500_000)
        self.assertIsNone(self.last(number))
        self.assertEqual((self.clock.sleeps, self.paths().count(LOG)), ([2.0], 2))
        self.assertEqual((self.row(number), self.warnings), ((None, None), []))

    def test_a_log_that_cannot_be_read_is_one_warning_and_is_not_read_again(self):
        number = self.put("r")
        for off, limit in (("refused", 20), ("missing", 20), ("", 0)):
            with self.subTest(off, limit=limit):
                self.relay.log_off, self.relay.limit, self.relay.reads = off, limit, 0
                self.relay.requests.clear()
                self.warnings.clear()
                self.assertIsNone(self.last(number))
                self.assertEqual((self.paths().count(LOG), len(self.warnings), self.clock.sleeps), (1, 1, []))
                self.assertEqual(self.row(number), (None, None))

    def test_a_call_without_a_request_id_or_at_a_gateway_without_a_log_is_not_asked_for(self):
        self.assertIsNone(self.last(self.put(None)))
        self.assertIsNone(self.last(self.put("r"), dialect="openai"))
        self.assertIsNone(self.last(self.put("r"), dialect="alltoken"))
        self.assertEqual(self.paths(), [])

    def test_what_was_given_back_is_taken_off_and_errors_are_no_charge(self):
        for name, rows, usd in (
            ("refunded", ((500_000, 2), (500_000, 6)), "0.000000"),
            ("partly", ((500_000, 2), (100_000, 6)), "0.800000"),
            ("twice", ((500_000, 2), (250_000, 2)), "1.500000"),
            ("failed", ((500_000, 5),), None),
        ):
            with self.subTest(name):
                number = self.put(name)
                for quota, kind in rows:
                    self.log(name, quota, kind)
                cost = self.last(number)
                self.assertEqual(cost and cost.usd, usd)

    def test_an_id_inside_the_row_is_found_and_odd_rows_are_passed_over(self):
        number = self.put("inner")
        rows = [
            None,
            "text",
            {"type": 2, "request_id": "inner", "quota": "500000"},
            {"type": 2, "request_id": "inner", "quota": True},
            {"type": 2, "request_id": "inner"},
            {"type": 2, "quota": 5, "other": "not JSON"},
            {"type": 2, "quota": 500_000, "request_id": "", "other": '{"request_id": "inner"}'},
        ]
        self.relay.on(LOG, reply(200, {"success": True, "data": rows}))
        self.assertEqual(self.last(number).usd, "1.000000")
        for data in (None, {}, "x", []):
            self.relay.on(LOG, reply(200, {"success": True, "data": data}))
            self.assertIsNone(self.last(self.put("other")))


class AllSince(ReconcileCase):
    def test_one_read_fills_in_whatever_the_number_of_rows(self):
        numbers = [self.put(f"r{number}") for number in range(40)]
        for number in range(0, 40, 2):
            self.log(f"r{number}", 500 * (number + 1))
        reconcile.all_since(self.client(), 0.0)
        self.assertEqual((self.paths().count(LOG), self.paths().count(STATUS), self.clock.sleeps), (1, 1, []))
        found = [self.row(number) for number in numbers]
        self.assertEqual(found[0::2], [(f"{(number + 1) / 1000:.6f}", "gateway") for number in range(0, 40, 2)])
        self.assertEqual(found[1::2], [(None, None)] * 20)

    def test_only_what_is_unknown_or_estimated_here_and_since_then_is_filled_in(self):
        before = self.put("a", started=999.0)
        elsewhere = self.put("a", gateway="other")
        known = self.put("a", cost="9", source="gateway")
        free = self.put("a", source="none")
        unknown = self.put("a")
        estimated = self.put("a", cost="0.4", source="estimate")
        task = self.put("a", command="image", status="completed", task_id="t", output="/x.png")
        self.log("a", 500_000)
        reconcile.all_since(self.client(), 1000.0)
        for number in (unknown, estimated, task):
            self.assertEqual(self.row(number), ("1.000000", "gateway"))
        for number, row in (
            (before, (None, None)),
            (elsewhere, (None, None)),
            (known, ("9", "gateway")),
            (free, (None, "none")),
        ):
            self.assertEqual(self.row(number), row)
        (found,) = ledger.rows(self.path, "id = ?", (task,), ("status", "task_id", "output", "started"))
        self.assertEqual(found, ("completed", "t", "/x.png", 1000.0))

    def test_trouble_with_the_log_changes_nothing(self):
        number = self.put("a")
        self.log("a", 500_000)
        for off, limit in (("refused", 20), ("missing", 20), ("unwritten", 20), ("", 0)):
            self.relay.log_off, self.relay.limit = off, limit
            if off == "unwritten":
                self.relay.rows.clear()
            self.warnings.clear()
            reconcile.all_since(self.client(), 0.0)
            self.assertEqual(len(self.warnings), int(off != "unwritten"))
        self.assertEqual(self.row(number), (None, None))

    def test_the_gateways_to_ask_are_those_with_something_unknown_since_then(self):
        self.put("a", gateway="b")
        self.put("b", gateway="b")
        self.put("c", gateway="c", started=1.0)
        self.put("d", gateway="d", cost="1", source="gateway")
        self.put(None, gateway="e")
        self.put("f", gateway="f", source="none")
        self.put("g", gateway="g", source="local")
        self.put("h", gateway="a", cost="1", source="estimate")
        self.assertEqual(sorted(reconcile.gateways_with_unknown(self.path, 1000.0)), ["a", "b"])


if __name__ == "__main__":
    unittest.main()
