"""cost at gateways that keep a log or tell a balance: the last call's figure, --reconcile, --balance, and bars."""

from __future__ import annotations

import io
import os
import re
import unittest
from typing import Any
from unittest import mock

from alltoken_call.store import ledger

from ..gateway import reply
from ..harness import Result
from ..relay import RELAY_KEY
from ..relay_support import RelayCase
from .test_cost import FIELDS

LOG, STATUS, PRICING, BALANCE = "GET /api/log/token", "GET /api/status", "GET /api/pricing", "GET /api/usage/token/"
MODEL = "claude-sonnet-4-6"


class LogCase(RelayCase):
    """A test that asks a relay what calls cost."""

    def ask(self, **options: Any) -> Result:
        """A chat at the relay, whose cost only the log tells."""
        result = self.chat("-m", MODEL, "hi", **options)
        self.assertQuietly(0, result)
        return result

    def cost_of(self, *argv: str, status: int = 0, **options: Any) -> Result:
        """Run `cost` here; what was asked until then is forgotten."""
        self.relay.requests.clear()
        result = self.call("cost", *argv, **options)
        self.assertQuietly(status, result)
        return result

    def put(self, count: int, gateway: str = "relay", **fields: Any) -> None:
        """Rows of unknown cost, whose charges of $0.01 are in the relay's log."""
        plain = {"started": self.clock.time() - 60, "gateway": gateway, "command": "chat", "model": MODEL}
        for _ in range(count):
            name = os.urandom(8).hex()
            self.relay.record(name, MODEL, 5000, {})
            ledger.put(os.path.join(self.state, "ledger.db"), plain | {"request_id": name} | fields)


class LastCall(LogCase):
    def test_what_was_unknown_is_in_the_log_and_then_in_the_ledger(self):
        result = self.ask()
        self.assertIn("[cost] unknown until: alltoken-call cost\n", result.err)
        self.assertEqual(self.cost(), (None, None))
        usd = f"{self.relay.rows[0]['quota'] / 500_000:.6f}"
        result = self.cost_of()
        self.assertRegex(result.out.decode(), rf"(?m)^total cost: +\${re.escape(usd)} \(gateway\)$")
        self.assertEqual((result.err, self.paths(), self.clock.sleeps), ("", [LOG, STATUS], []))
        self.assertEqual(self.cost(), (usd, "gateway"))
        # From here on nobody needs to be asked.
        document = self.document_of(self.cost_of("--json", ALLTOKEN_RELAY_API_KEY=""), *FIELDS)
        self.assertEqual(document["cost"], {"usd": usd, "source": "gateway"})
        self.assertEqual(self.paths(), [])
        self.assertIn(f"total: ${usd} (1 call, 0 unknown)", self.cost_of("--since", "1d").out.decode())

    def test_it_is_looked_for_again_after_2_s_and_then_estimated(self):
        for lag, asked, source in ((1, [LOG, STATUS, LOG], "gateway"), (2, [LOG, STATUS, LOG, PRICING], "estimate")):
            with self.subTest(lag):
                self.relay.log_lag = lag
                self.ask()
                result = self.cost_of()
                self.assertEqual((self.paths(), self.clock.sleeps, result.err), (asked, [2.0], ""))
                self.assertRegex(result.out.decode(), rf"(?m)^total cost: +\$0[.][0-9]+ \({source}\)$")
                self.assertEqual(self.cost()[1], "gateway" if lag == 1 else None)

    def test_the_wait_for_the_second_look_is_part_of_max_wait(self):
        self.relay.log_lag = 9
        self.ask()
        self.cost_of("--max-wait", "0.5")
        self.assertLessEqual(sum(self.clock.sleeps), 0.5)

    def test_a_log_that_cannot_be_read_is_one_warning_and_an_estimate(self):
        self.ask()
        for off, limit in (("refused", 20), ("missing", 20), ("", 0)):
            with self.subTest(off, limit=limit):
                self.relay.log_off, self.relay.limit = off, limit
                result = self.cost_of()
                self.assertEqual((self.paths().count(LOG), result.err.count("[warning]")), (1, 1))
                self.assertIn(b" (estimate)\n", result.out)

    def test_without_the_key_it_is_a_warning_and_an_estimate(self):
        self.ask()
        with mock.patch("alltoken_call.config.is_loopback", return_value=False):
            result = self.call("cost", ALLTOKEN_RELAY_API_KEY="", ALLTOKEN_RELAY_BASE_URL="https://relay.invalid")
        self.assertQuietly(0, result)
        self.assertIn("[warning]", result.err)

    def test_another_gateways_calls_are_asked_for_there_and_with_its_key(self):
        self.ask()
        result = self.call("cost", ALLTOKEN_GATEWAY="alltoken")
        self.assertQuietly(0, result)
        self.assertIn(b" (gateway)\n", result.out)
        self.assertEqual(self.gateway.requests, [])
        self.assertEqual(set(self.relay.keys), {f"Bearer {RELAY_KEY}"})


class Reconciled(LogCase):
    def test_one_read_whatever_the_number_of_rows(self):
        self.put(60)
        result = self.cost_of("--since", "1d")
        self.assertIn(b"total: unknown (60 calls, 60 unknown)\n", result.out)
        self.assertEqual(self.paths(), [])
        result = self.cost_of("--since", "1d", "--reconcile")
        self.assertIn(b"total: $0.600000 (60 calls, 0 unknown)\n", result.out)
        self.assertEqual((result.err, self.paths(), self.clock.sleeps), ("", [LOG, STATUS], []))
        self.cost_of("--since", "1d", "--reconcile")  # nothing is unknown any more
        self.assertEqual(self.paths(), [])

    def test_one_read_for_each_gateway_and_none_where_there_is_no_log(self):
        other = self.another("new-api")
        self.environ |= self.settings("other", other, "new-api")
        self.put(3)
        self.put(2, "other")
        other.rows = list(self.relay.rows)
        self.put(1, "alltoken", cost="5", source="estimate")
        self.put(1, "alltoken")
        result = self.cost_of("--since", "1d", "--by", "gateway", "--reconcile", ALLTOKEN_API_KEY=None)
        self.assertEqual((result.err, self.paths(), self.paths(other)), ("", [LOG, STATUS], [LOG, STATUS]))
        self.assertEqual(self.gateway.requests, [])
        self.assertIn(b"total: $5.050000 (7 calls, 1 estimated, 1 unknown)\n", result.out)

    def test_one_gateway_alone(self):
        other = self.another("new-api")
        self.environ |= self.settings("other", other, "new-api")
        self.put(1)
        self.put(1, "other")
        other.rows = list(self.relay.rows)
        result = self.cost_of("--since", "1d", "--reconcile", "--gateway", "other")
        self.assertIn(b"total: $0.010000 (1 call, 0 unknown)\n", result.out)
        self.assertEqual((self.paths(), self.paths(other)), ([], [LOG, STATUS]))

    def test_trouble_is_one_warning_and_the_sum_is_shown(self):
        self.put(5)
        for off, limit in (("refused", 20), ("missing", 20), ("", 0)):
            with self.subTest(off, limit=limit):
                self.relay.log_off, self.relay.limit = off, limit
                result = self.cost_of("--since", "1d", "--reconcile")
                self.assertEqual((self.paths().count(LOG), result.err.count("[warning]")), (1, 1))
                self.assertIn(b"total: unknown (5 calls, 5 unknown)\n", result.out)
        result = self.cost_of("--since", "1d", "--reconcile", ALLTOKEN_RELAY_BASE_URL="http://127.0.0.1:1")
        self.assertEqual(result.err.count("[warning]"), 1)
        result = self.cost_of("--since", "1d", "--reconcile", ALLTOKEN_RELAY_BASE_URL=None)
        self.assertEqual(result.err.count("[warning]"), 1)

    def test_only_rows_of_that_time(self):
        self.put(1)
        self.put(1, started=self.clock.time() - 100_000)
        self.cost_of("--since", "1d", "--reconcile")
        self.assertIn(b"total: $0.010000 (2 calls, 1 unknown)\n", self.cost_of("--since", "3d").out)

    def test_it_goes_with_since_and_nothing_else(self):
        self.put(1)
        for argv in (
            ("--reconcile",),
            ("--by", "day", "--reconcile"),
            ("--calls", "--reconcile"),
            ("m", "1", "1", "--reconcile"),
        ):
            with self.subTest(argv):
                self.cost_of(*argv, status=2)
                self.assertEqual(self.paths(), [])

    def test_a_dry_run_asks_nobody(self):
        self.put(1)
        self.cost_of("--since", "1d", "--reconcile", "--dry-run")
        self.assertEqual((self.paths(), self.cost()), ([], (None, None)))


class Balance(LogCase):
    def test_new_api_tells_it_in_dollars(self):
        self.relay.charge(self.relay_call(), "gpt-image-2")
        result = self.cost_of("--balance")
        lines = dict(re.findall(r"(?m)^(\w+): +(\S+)$", result.out.decode()))
        self.assertEqual(
            {name: float(usd.removeprefix("$")) for name, usd in lines.items()},
            {"left": 9.99, "used": 0.01, "granted": 10},
        )
        self.assertEqual((sorted(self.paths()), result.err), (sorted([BALANCE, STATUS]), ""))
        document = self.document_of(self.cost_of("--balance", "--json"), *FIELDS)
        self.assertEqual(
            {name: float(usd) for name, usd in document["balance"].items()}, {"left": 9.99, "used": 0.01, "granted": 10}
        )

    def relay_call(self) -> Any:
        """A request that came, in whose name something can be charged."""
        self.ask()
        self.relay.used, self.relay.balance = 0, 10 * 500_000
        return self.relay.requests[-1]

    def test_a_key_without_a_limit(self):
        data = {"total_granted": 0, "total_used": 1_000_000, "total_available": 0, "unlimited_quota": True}
        self.relay.on(BALANCE, reply(200, {"code": True, "data": data}))
        result = self.cost_of("--balance")
        self.assertRegex(result.out.decode(), r"(?m)^left: +no limit$")
        self.assertRegex(result.out.decode(), r"(?m)^used: +\$2\.000000$")

    def test_openrouter_tells_it(self):
        router = self.another("openrouter")
        self.environ |= self.settings("openrouter", router)
        result = self.cost_of("--balance", "--gateway", "openrouter")
        self.assertRegex(result.out.decode(), r"(?m)^left: +\$10(\.0+)?$")
        self.assertEqual(self.paths(router), ["GET /v1/key"])
        data = {"usage": 0.25, "limit": None, "limit_remaining": None}
        router.on("GET /v1/key", reply(200, {"data": data}))
        result = self.cost_of("--balance", "--gateway", "openrouter")
        self.assertRegex(result.out.decode(), r"(?m)^left: +no limit$")
        self.assertRegex(result.out.decode(), r"(?m)^used: +\$0\.25$")

    def test_elsewhere_it_is_status_1_with_where_to_look(self):
        plain = self.another("openai")
        self.environ |= self.settings("plain", plain, "openai")
        for name, root in (("alltoken", self.gateway.url), ("plain", plain.url)):
            with self.subTest(name):
                result = self.cost_of("--balance", "--gateway", name, status=1)
                self.assertEqual(result.out, b"")
                self.assertIn(root, result.err)
                self.assertEqual((self.gateway.requests, self.paths(plain)), ([], []))

    def test_failures_have_their_statuses(self):
        self.relay.limit = 0
        self.cost_of("--balance", status=7)
        self.cost_of("--balance", status=4, ALLTOKEN_RELAY_API_KEY="another-key")
        self.relay.keys.clear()
        self.cost_of("--balance", status=3, ALLTOKEN_RELAY_BASE_URL="http://127.0.0.1:1")

    def test_it_goes_with_nothing_else(self):
        for argv in (("--since", "1d"), ("--by", "day"), ("--calls",), ("m", "1", "1")):
            self.cost_of("--balance", *argv, status=2)
        self.assertEqual(self.paths(), [])


class Bars(LogCase):
    def test_a_terminal_that_is_not_utf8_gets_another_mark(self):
        day = self.clock.time()
        for days, cost in ((0, "4"), (1, "1"), (2, "0.01")):
            row = {"started": day - days * 86400, "command": "chat", "cost": cost, "source": "gateway"}
            ledger.put(os.path.join(self.state, "ledger.db"), row | {"gateway": "relay"})
        for encoding, mark in (("utf-8", "█"), ("UTF8", "█"), ("ascii", "#"), ("latin-1", "#")):
            with self.subTest(encoding), mock.patch("tests.task_support.Terminal", _terminal_of(encoding)):
                lines = self.cost_of("--by", "day", terminals="out").out.decode("utf-8").splitlines()
                self.assertEqual([line.count(mark) for line in lines], [0, 0, 5, 20, 0])
                self.assertEqual(sum(line.count("#") + line.count("█") for line in lines), 25)
        for argv in (("--by", "day"), ("--since", "7d", "--by", "day")):
            out = self.cost_of(*argv).out.decode()
            self.assertNotIn("█", out)
            self.assertNotIn("#", out)


def _terminal_of(encoding: str) -> Any:
    """What makes a terminal of another encoding."""

    class Other(io.TextIOWrapper):
        def __init__(self, buffer: Any, _: str) -> None:
            super().__init__(buffer, encoding)

        def isatty(self) -> bool:
            return True

    return Other


if __name__ == "__main__":
    unittest.main()
