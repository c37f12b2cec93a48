"""What the ledger's rows add up to: to the last digit, by every key, in memory that does not grow."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import unittest
from decimal import Context, Decimal
from typing import Any

from alltoken_call.store import ledger, sums
from alltoken_call.store.database import LedgerError, opened

from ..harness import MEMORY, PACKAGE
from .test_budget import HAVANA, LORD_HOWE, NEW_YORK, SANTIAGO, SYDNEY, ZURICH, zone

EXACT = Context(prec=300)
COLUMNS = ("started", "gateway", "command", "model", "prompt_tokens", "completion_tokens", "cost", "source")
DAMAGED = (
    "", " ", "NaN", "inf", "-Infinity", "-1", "+1", "free", "1,5", "1.2.3", "..", ".", ".5", "1e5", "1e999", "-1e999", "0x10",
    "1_0", "1\n2", "1\n", " 1", "1 ", "٣", "0.٣", "9" * 90, "0." + "1" * 88, b"\xff", b"\xff" * 12,
)  # fmt: skip
# Fills a ledger quickly with rows whose costs all differ: one each {step} seconds until now, every {long}th with 13 places.
MANY = """
WITH RECURSIVE n(x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM n WHERE x < {rows})
INSERT INTO calls (started, ended, gateway, command, model, prompt_tokens, completion_tokens, cost, source, exit_status)
SELECT unixepoch - x * {step}, unixepoch, 'alltoken', 'chat', 'model-' || (x % 7), x % 5000, x % 700,
    CASE WHEN x % 50 THEN printf(CASE WHEN x % {long} THEN '%d.%010d' ELSE '%d.000%010d' END, x % 3,
        x * 7919 % 10000000000) END,
    CASE WHEN x % 50 THEN CASE WHEN x % 3 THEN 'gateway' ELSE 'estimate' END END, 0
FROM n, (SELECT CAST(strftime('%s', 'now') AS INTEGER) AS unixepoch)
"""


def fill(path: str, rows: int, *, step: float = 2.5, long: int = 1 << 60) -> None:
    """A ledger of so many rows."""
    with opened(path, write=True):
        pass
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("PRAGMA synchronous = OFF")
        database.execute(MANY.format(rows=rows, step=step, long=long))


class SumsCase(unittest.TestCase):
    """A test with a ledger of its own."""

    def setUp(self) -> None:
        self.folder = tempfile.mkdtemp(dir=MEMORY)
        self.addCleanup(shutil.rmtree, self.folder)
        self.path = os.path.join(self.folder, "ledger.db")

    def put(self, *rows: dict[str, Any]) -> None:
        """Rows at once, with a cost or another value as a hand may have left it."""
        plain = {"started": 1000.0, "gateway": "alltoken", "command": "chat", "model": "m"}
        with opened(self.path, write=True) as database:
            marks = ", ".join("?" * len(COLUMNS))
            statement = f"INSERT INTO calls ({', '.join(COLUMNS)}) VALUES ({marks})"
            database.execute("BEGIN")
            for row in rows:
                full = plain | {"source": "gateway" if row.get("cost") is not None else None} | row
                database.execute(statement, [full.get(name) for name in COLUMNS])
            database.execute("COMMIT")

    def costs(self, *costs: Any) -> sums.Sum:
        """The sum of calls with these costs."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        self.put(*[{"cost": cost} for cost in costs])
        (one,) = sums.groups(self.path, 0.0, "model").values()
        self.assertEqual(one.calls, len(costs))
        return one


class Exact(SumsCase):
    def test_random_costs_of_all_shapes_add_up_as_decimals_do(self):
        chance = random.Random(20261118)

        def digits(least: int, most: int) -> str:
            return "".join(chance.choice("0123456789") for _ in range(chance.randint(least, most)))

        shapes = (
            lambda: f"0.{digits(10, 10)}",
            lambda: f"{digits(1, 1)}.{digits(10, 10)}",
            lambda: f"{digits(1, 2)}.{digits(1, 10)}",
            lambda: f"{digits(1, 2)}",
            lambda: f"{digits(3, 6)}.{digits(1, 12)}",
            lambda: f"0.{digits(11, 30)}",
            lambda: f"{digits(1, 31)}",
            lambda: f"{digits(10, 30)}.{digits(20, 55)}",
            lambda: f"0.{'0' * chance.randint(1, 50)}{digits(1, 30)}",
            lambda: f"{'0' * chance.randint(1, 9)}{digits(1, 3)}.{digits(1, 9)}",
            lambda: f"{digits(1, 3)}.",
            lambda: chance.choice(("99.9999999999", "9.9999999999", "0.0000000001", "0.0", "0", "00", "99", "100")),
            lambda: chance.choice(("99.99999999995", "0.00000000005", "0.99999999999", "999999", "1000000")),
        )
        for number in range(24):
            # By turns one shape alone, and a mixture of all.
            chosen = [shapes[number // 2 % len(shapes)]] if number % 2 else shapes
            costs = [chance.choice(chosen)() for _ in range(chance.choice((1, 2, 40, 200)))]
            with self.subTest(number):
                one = self.costs(*costs)
                wanted = Decimal(0)
                for cost in costs:
                    wanted = EXACT.add(wanted, Decimal(cost))
                self.assertEqual((one.usd, one.unknown), (wanted, 0))

    def test_every_figure_that_a_gateway_may_give_is_counted_to_the_digit(self):
        for cost in ("9" * 20 + "." + "9" * 30, "0." + "0" * 29 + "1", "1" + "0" * 30, "0.1000000000", "12.3400000000"):
            with self.subTest(cost):
                self.assertEqual(
                    self.costs(cost, cost, "0.5").usd, EXACT.add(EXACT.multiply(2, Decimal(cost)), Decimal("0.5"))
                )

    def test_what_a_float_cannot_hold_is_not_lost(self):
        self.assertEqual(self.costs(*["0.1"] * 1000).usd, 100)
        self.assertEqual(self.costs("0.3", "0.1", "0.2").usd, Decimal("0.6"))
        self.assertEqual(
            self.costs("99999999999999999999", "0.0000000001").usd, Decimal("99999999999999999999.0000000001")
        )

    def test_sums_beyond_64_bits_are_sums(self):
        for cost in ("99.9999999999", "99999.9999999999", "922337203.6854775807", "9223372036854775807"):
            with self.subTest(cost):
                self.assertEqual(self.costs(*[cost] * 1000).usd, EXACT.multiply(1000, Decimal(cost)))

    def test_what_was_damaged_by_hand_is_unknown_and_harms_no_other(self):
        for damaged in DAMAGED:
            for others in (("0.5000000000",), ("0.25", "0.25"), ("0.2500000000001", "0.2499999999999")):
                with self.subTest(damaged, others=others):
                    one = self.costs(*others, damaged, damaged)
                    self.assertEqual((one.usd, one.unknown, one.is_known), (Decimal("0.5"), 2, True))
        one = self.costs(*DAMAGED)
        self.assertEqual((one.usd, one.unknown, one.is_known), (0, len(DAMAGED), False))

    def test_many_damaged_ones_do_not_overflow(self):
        for damaged in ("9e999", "-9e999", "99999999999999999999x", "-5"):
            with self.subTest(damaged):
                one = self.costs(*[damaged] * 500, "1.5")
                self.assertEqual((one.usd, one.unknown), (Decimal("1.5"), 500))


class Counts(SumsCase):
    def test_each_source_is_counted_as_what_it_is(self):
        self.put(
            {"cost": "1"},
            {"cost": "2", "source": "estimate"},
            {"cost": "0.00000000000001", "source": "estimate"},
            {"source": "none"},
            {"source": "local"},
            {},
            {"source": "gateway", "cost": None},
            {"source": "estimate", "cost": None},
            {"source": "estimate", "cost": "damaged"},
            {"source": "none", "cost": "damaged"},
            {"source": None, "cost": "4"},
        )
        (one,) = sums.groups(self.path, 0.0, "command").values()
        self.assertEqual((one.calls, one.estimated, one.unknown), (11, 2, 4))
        self.assertEqual(one.usd, Decimal("7.00000000000001"))

    def test_tokens_are_added_and_none_counts_as_nothing(self):
        self.put(
            {"prompt_tokens": 19, "completion_tokens": 12},
            {"prompt_tokens": None, "completion_tokens": 5},
            {"prompt_tokens": 1 << 40, "completion_tokens": None},
        )
        (one,) = sums.groups(self.path, 0.0, "model").values()
        self.assertEqual((one.prompt_tokens, one.completion_tokens), ((1 << 40) + 19, 17))

    def test_by_each_key(self):
        self.put(
            {"cost": "1", "model": "a", "gateway": "alltoken"},
            {"cost": "2", "model": "b", "gateway": "openclaw", "command": "image"},
            {"cost": "4", "model": "a", "gateway": "openclaw", "command": "video", "started": 90_000.0},
            {"cost": "8.00000000000001", "model": None, "command": "image", "started": 90_000.0},
            {"cost": "16", "model": "unknown", "started": 900_000.0},
        )
        tiny = Decimal("0.00000000000001")
        for key, wanted in (
            ("model", {"a": 5, "b": 2, "unknown": 24 + tiny}),
            ("command", {"chat": 17, "image": 10 + tiny, "video": 4}),
            ("gateway", {"alltoken": 25 + tiny, "openclaw": 6}),
        ):
            with self.subTest(key):
                found = sums.groups(self.path, 0.0, key)
                self.assertEqual({name: one.usd for name, one in found.items()}, wanted)
                self.assertEqual(list(found), sorted(found))
        with zone("UTC0"):
            days = sums.groups(self.path, 0.0, "day")
        self.assertEqual(
            {name: one.usd for name, one in days.items()}, {"1970-01-01": 3, "1970-01-02": 12 + tiny, "1970-01-11": 16}
        )

    def test_since_an_instant_and_at_one_gateway(self):
        self.put(
            {"cost": "1", "started": 999.0},
            {"cost": "2", "started": 1000.0},
            {"cost": "4.000000000001", "started": 1001.0, "gateway": "openclaw"},
        )
        for key in sums.KEYS:
            for since, gateway, wanted in (
                (0.0, None, "7.000000000001"),
                (1000.0, None, "6.000000000001"),
                (1000.5, None, "4.000000000001"),
                (1002.0, None, "0"),
                (0.0, "alltoken", "3"),
                (1000.0, "openclaw", "4.000000000001"),
                (0.0, "nowhere", "0"),
            ):
                with self.subTest(key, since=since, gateway=gateway):
                    found = sums.groups(self.path, since, key, gateway).values()
                    self.assertEqual(sum(one.usd for one in found), Decimal(wanted))
                    self.assertTrue(all(one.calls for one in found))

    def test_a_ledger_that_is_not_there_is_empty_and_is_not_made(self):
        for key in sums.KEYS:
            self.assertEqual(sums.groups(self.path, 0.0, key), {})
        self.assertEqual(os.listdir(self.folder), [])
        with self.assertRaises(LedgerError):
            sums.groups(None, 0.0, "day")

    def test_sums_are_added_to_sums(self):
        self.put({"cost": "1", "prompt_tokens": 3}, {"source": "estimate", "cost": "2"}, {"model": "other"})
        everything = sums.Sum()
        for one in sums.groups(self.path, 0.0, "model").values():
            everything.add(one)
        self.assertEqual(vars(everything) | {"usd": 0}, vars(everything) | {"usd": 0})
        self.assertEqual((everything.calls, everything.estimated, everything.unknown), (3, 1, 1))
        self.assertEqual((everything.usd, everything.prompt_tokens, everything.completion_tokens), (3, 3, 0))

    def test_the_last_call_is_the_one_that_ended_last(self):
        with opened(self.path, write=True) as database:
            for number, (started, ended, gateway) in enumerate(
                (
                    (100.0, 500.0, "alltoken"),
                    (200.0, 300.0, "openclaw"),
                    (400.0, None, "openclaw"),
                    (400.0, None, "openclaw"),
                )
            ):
                ledger.insert(
                    database,
                    {"started": started, "ended": ended, "gateway": gateway, "command": "chat", "model": str(number)},
                )
        self.assertEqual(sums.last(self.path)["model"], "0")
        self.assertEqual(sums.last(self.path, "openclaw")["model"], "3")
        self.assertEqual(sums.last(self.path, "nowhere"), {})
        self.assertEqual(sums.last(os.path.join(self.folder, "none.db")), {})


@unittest.skipUnless(hasattr(time, "tzset"), "needs another time zone")
class Days(SumsCase):
    def test_a_call_counts_to_its_local_day_over_both_changes_of_summer_time(self):
        for name, around in (
            (ZURICH, ("2026-03-29", "2026-10-25")),
            (NEW_YORK, ("2026-03-08", "2026-11-01")),
            (SYDNEY, ("2026-04-05", "2026-10-04")),
            (SANTIAGO, ("2026-04-04", "2026-09-06")),
            (HAVANA, ("2026-03-08", "2026-11-01")),
            (LORD_HOWE, ("2026-04-05", "2026-10-04")),
        ):
            for day in around:
                with self.subTest(name, day=day), zone(name):
                    noon = dt.datetime.fromisoformat(f"{day} 12:00").timestamp()
                    instants = [noon + 1800 * half for half in range(-96, 97)]  # 2 days before and behind
                    # A second before each midnight, too.
                    instants += [dt.datetime.fromisoformat(f"{day} 00:00").timestamp() - 1]
                    self.put(*[{"started": instant, "cost": "0.1"} for instant in instants])
                    found = sums.groups(self.path, 0.0, "day")
                    wanted: dict[str, int] = {}
                    for instant in sorted(instants):
                        local = time.strftime("%Y-%m-%d", time.localtime(instant))
                        wanted[local] = wanted.get(local, 0) + 1
                    self.assertEqual({key: one.calls for key, one in found.items()}, wanted)
                    self.assertEqual(sum(one.usd for one in found.values()), Decimal("0.1") * len(instants))
                    os.unlink(self.path)

    def test_a_time_that_was_damaged_by_hand_is_a_day_of_its_own_and_no_call_is_lost(self):
        self.put({"cost": "1"}, *[{"cost": "2", "started": started} for started in (1e300, 1e12, "soon", "2026-11-18")])
        found = sums.groups(self.path, 0.0, "day")
        self.assertEqual(sum(one.usd for one in found.values()), 9)
        self.assertEqual(found["unknown"].calls, 4)

    def test_the_first_day_may_begin_in_its_middle(self):
        with zone(ZURICH):
            noon = dt.datetime.fromisoformat("2026-05-20 12:00").timestamp()
            self.put(*[{"started": noon + hours * 3600, "cost": "1"} for hours in (-1, 0, 1, 11, 12, 13)])
            found = sums.groups(self.path, noon, "day")
            self.assertEqual({day: one.calls for day, one in found.items()}, {"2026-05-20": 3, "2026-05-21": 2})


class Large(SumsCase):
    """100,000 rows whose costs all differ, in a process that says how much memory it took."""

    # A small one measures: a process's peak counts what it was forked from.
    MEASURE = (
        "import resource, subprocess, sys;"
        "out = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, check=True).stdout.decode().splitlines();"
        "peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss;"
        "print(peak // (1 << 20 if sys.platform == 'darwin' else 1 << 10), len(out), out[-1])"
    )

    def test_memory_stays_under_40_mib_and_the_sum_is_exact(self):
        fill(self.path, 100_000, step=25, long=2)
        with contextlib.closing(sqlite3.connect(self.path)) as database:
            costs = database.execute("SELECT cost FROM calls WHERE cost IS NOT NULL").fetchall()
        total = sum(Decimal(cost) for (cost,) in costs)
        command = [sys.executable, "-S", PACKAGE, "cost", "--since", "30d", "--by", "day"]
        measured = subprocess.run(
            [sys.executable, "-S", "-c", self.MEASURE, *command],
            env={"ALLTOKEN_LEDGER": self.path},
            stdout=subprocess.PIPE,
            check=True,
        ).stdout.decode()
        peak, lines, last = measured.strip().split(" ", 2)
        self.assertLess(int(peak), 40)
        self.assertIn(int(lines), (31, 32, 33))
        _, figure, counts = last.split(" ", 2)
        self.assertEqual(Decimal(figure.removeprefix("$")), total)
        self.assertEqual(counts, "(100,000 calls, 32,667 estimated, 2,000 unknown)")


if __name__ == "__main__":
    unittest.main()
