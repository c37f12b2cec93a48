"""ALLTOKEN_BUDGET: what it may say, when its window begins and ends, and what was spent in it."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import shutil
import sqlite3
import tempfile
import threading
import time
import unittest
from decimal import Decimal
from typing import Any

from alltoken_call.errors import CallError, UsageError
from alltoken_call.store import budget, ledger

from ..harness import MEMORY

ZURICH = "CET-1CEST,M3.5.0,M10.5.0/3"
NEW_YORK = "EST5EDT,M3.2.0,M11.1.0"
SYDNEY = "AEST-10AEDT,M10.1.0,M4.1.0/3"
SANTIAGO = "<-04>4<-03>,M9.1.6/24,M4.1.6/24"  # summer time begins at midnight, which that day does not have
HAVANA = "CST5CDT,M3.2.0/0,M11.1.0/1"  # it ends at 1:00, so that one day has two midnights
LORD_HOWE = "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0"  # half an hour
HOUR = 3600.0


@contextlib.contextmanager
def zone(name: str) -> Any:
    """The local time of a place, by POSIX's rules, so that no database of zones is needed."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = name
    time.tzset()
    try:
        yield
    finally:
        os.environ.pop("TZ") if before is None else os.environ.update(TZ=before)
        time.tzset()


def at(text: str, fold: int = 0) -> float:
    """The instant of a local time."""
    return dt.datetime.fromisoformat(text).replace(fold=fold).timestamp()


def utc(text: str) -> float:
    return dt.datetime.fromisoformat(f"{text}+00:00").timestamp()


class Values(unittest.TestCase):
    def test_a_decimal_number_of_dollars_and_a_window(self):
        for text, limit, window in (
            ("5/day", "5", "day"),
            ("0/day", "0", "day"),
            ("0.00/hour", "0", "hour"),
            ("12.50/week", "12.50", "week"),
            ("0.000000000001/month", "0.000000000001", "month"),
            ("999999999999/month", "999999999999", "month"),
            ("007/day", "7", "day"),
            (" 5/day\n", "5", "day"),
        ):
            with self.subTest(text):
                found = budget.parse(text)
                self.assertEqual((found.limit, found.window), (Decimal(limit), window))

    def test_anything_else_is_refused_and_not_quoted(self):
        for text in (
            "5",
            "/day",
            "day",
            "5/",
            "5/days",
            "5/Day",
            "5/year",
            "5 /day",
            "5/ day",
            "$5/day",
            "-5/day",
            "+5/day",
            "5./day",
            ".5/day",
            "5,5/day",
            "1e3/day",
            "1_0/day",
            "nan/day",
            "inf/day",
            "٣/day",
            "5/day/hour",
            "5/day 6/week",
            "1" * 13 + "/day",
            "0." + "1" * 13 + "/day",
            "5/day\0",
        ):
            with self.subTest(text):
                with self.assertRaises(UsageError) as caught:
                    budget.parse(text)
                self.assertEqual(caught.exception.status, 2)
                self.assertIn("/day", caught.exception.hint)
                self.assertNotIn(text, caught.exception.message)


@unittest.skipUnless(hasattr(time, "tzset"), "needs another time zone")
class Windows(unittest.TestCase):
    def span(self, window: str, now: float) -> tuple[float, float]:
        begin, end = budget.parse(f"1/{window}").span(now)
        self.assertLessEqual(begin, now)
        self.assertLess(now, end)
        return begin, end

    def test_the_edges_of_every_window_are_those_of_local_time(self):
        for name in (ZURICH, NEW_YORK, SYDNEY, "IST-5:30", "UTC0"):
            with zone(name):
                for window, begin, end in (
                    ("hour", "2026-05-20 14:00", "2026-05-20 15:00"),
                    ("day", "2026-05-20 00:00", "2026-05-21 00:00"),
                    ("week", "2026-05-18 00:00", "2026-05-25 00:00"),
                    ("month", "2026-05-01 00:00", "2026-06-01 00:00"),
                ):
                    edges = (at(begin), at(end))
                    for now in (edges[0], edges[0] + 0.25, at("2026-05-20 14:30"), edges[1] - 0.25):
                        with self.subTest(name, window=window, now=now):
                            self.assertEqual(self.span(window, now), edges)
                    with self.subTest(name, window=window, beyond=True):
                        self.assertEqual(self.span(window, edges[1])[0], edges[1])
                        self.assertEqual(self.span(window, edges[0] - 0.25)[1], edges[0])

    def test_days_have_their_own_length_when_summer_time_changes(self):
        for name, day, hours in (
            (ZURICH, "2026-03-29", 23),
            (ZURICH, "2026-10-25", 25),
            (NEW_YORK, "2026-03-08", 23),
            (NEW_YORK, "2026-11-01", 25),
            (SYDNEY, "2026-10-04", 23),
            (SYDNEY, "2026-04-05", 25),
            (SANTIAGO, "2026-09-06", 23),
            (SANTIAGO, "2026-04-04", 25),
            (HAVANA, "2026-03-08", 23),
            (HAVANA, "2026-11-01", 25),
            (LORD_HOWE, "2026-10-04", 23.5),
            (LORD_HOWE, "2026-04-05", 24.5),
        ):
            with self.subTest(name, day=day), zone(name):
                begin, end = self.span("day", at(f"{day} 12:00"))
                self.assertEqual(end - begin, hours * HOUR)
                after = (dt.date.fromisoformat(day) + dt.timedelta(days=1)).isoformat()
                for now in (begin, begin + 1, end - 1):
                    self.assertEqual(self.span("day", now), (begin, end))
                    self.assertEqual(time.strftime("%F", time.localtime(now)), day)
                self.assertEqual(time.strftime("%F", time.localtime(end)), after)
                self.assertEqual(self.span("day", end)[0], end)
                for window, least in (("week", 7), ("month", 28)):
                    wide = self.span(window, at(f"{day} 12:00"))
                    self.assertLessEqual(wide[0], begin)
                    self.assertGreaterEqual(wide[1], end)
                    self.assertNotEqual((wide[1] - wide[0]) % (24 * HOUR), 0)
                    self.assertGreater((wide[1] - wide[0]) / 24 / HOUR, least - 0.1)

    def test_an_hour_that_comes_twice_is_two_hours(self):
        with zone(ZURICH):
            first, second = utc("2026-10-25 00:00"), utc("2026-10-25 01:00")  # both are 2:00 there
            for begin in (first, second, second + HOUR):
                for now in (begin, begin + 1800, begin + HOUR - 0.25):
                    self.assertEqual(self.span("hour", now), (begin, begin + HOUR))
            skipped = utc("2026-03-29 01:00")  # 3:00: there is no 2:00
            self.assertEqual(self.span("hour", skipped), (skipped, skipped + HOUR))
            self.assertEqual(self.span("hour", skipped - 1), (skipped - HOUR, skipped))

    def test_where_half_an_hour_is_skipped_the_hour_begins_there(self):
        with zone(LORD_HOWE):
            change = utc("2026-10-03 15:30")  # 2:00 becomes 2:30
            self.assertEqual(self.span("hour", change + 600)[0], change)

    def test_the_week_begins_on_monday(self):
        with zone(ZURICH):
            for day in range(23, 30):
                self.assertEqual(
                    self.span("week", at(f"2026-11-{day} 23:59:59")), (at("2026-11-23 00:00"), at("2026-11-30 00:00"))
                )
            # Over the end of a year.
            self.assertEqual(
                self.span("week", at("2027-01-01 00:00")), (at("2026-12-28 00:00"), at("2027-01-04 00:00"))
            )

    def test_months_have_their_own_length(self):
        with zone(ZURICH):
            for month in range(1, 13):
                first = f"2028-{month:02}-01 00:00"  # a leap year
                after = f"2028-{month + 1:02}-01 00:00" if month < 12 else "2029-01-01 00:00"
                for now in (at(first), at(after) - 1):
                    self.assertEqual(self.span("month", now), (at(first), at(after)))


class Spent(unittest.TestCase):
    """What `admit` counts: the ledger's rows in the window, and of what is unknown the dearest of its kind."""

    NOW = 1_790_000_000.0

    def setUp(self) -> None:
        folder = tempfile.mkdtemp(dir=MEMORY)
        self.addCleanup(shutil.rmtree, folder)
        self.path = os.path.join(folder, "ledger.db")
        self.warnings: list[str] = []
        self.begin, self.end = budget.parse("1/day").span(self.NOW)

    def put(self, *rows: dict[str, Any]) -> None:
        for row in rows:
            plain = {"started": self.NOW - 60, "gateway": "alltoken", "command": "chat", "model": "m"}
            ledger.put(self.path, plain | {"source": "gateway" if row.get("cost") else None} | row)

    def admit(self, limit: str, window: str = "day", **row: Any) -> int:
        self.warnings.clear()
        new = {"started": self.NOW, "command": "chat", "model": "m", "gateway": "alltoken"} | row
        return budget.parse(f"{limit}/{window}").admit(self.path, new, self.NOW, self.warnings.append)

    def rows(self) -> int:
        with contextlib.closing(sqlite3.connect(self.path)) as database:
            return database.execute("SELECT count(*) FROM calls").fetchone()[0]

    def spent(self, window: str = "day") -> Decimal:
        """The sum that counts: at it the budget is used up, and just above it is not."""
        with self.assertRaises(CallError) as caught:
            self.admit("0", window)
        text = caught.exception.message
        figure = Decimal(text.split()[0].removeprefix("$"))
        before = self.rows()
        if figure:
            with self.assertRaises(CallError):
                self.admit(f"{figure:f}", window)
        self.assertEqual(self.rows(), before)
        return figure

    def test_a_new_ledger_admits_and_has_the_row_before_anything_is_sent(self):
        number = self.admit("0.01")
        self.assertEqual(self.rows(), 1)
        found = ledger.rows(self.path, "id = ?", (number,), ("command", "model", "cost", "source", "started"))
        self.assertEqual(found, [("chat", "m", None, None, self.NOW)])

    def test_the_sum_is_of_the_window_and_of_all_gateways_commands_and_models(self):
        self.put(
            {"cost": "1.1", "started": self.begin},
            {"cost": "0.02", "started": self.NOW, "gateway": "openclaw"},
            {"cost": "0.003", "command": "image", "source": "estimate"},
            {"cost": "0.0004", "model": None},
            {"cost": "100", "started": self.begin - 0.5},
            {"source": "none"},
            {"source": "local", "gateway": "ollama"},
        )
        self.assertEqual(self.spent(), Decimal("1.1234"))
        self.assertEqual(self.warnings, [])
        self.admit("1.12340001")

    def test_the_sum_is_exact(self):
        for cost in ("0.1", "0.0000000001", "0.333333333333"):
            self.put(*[{"cost": cost}] * 3)
        self.assertEqual(self.spent(), Decimal("1.300000000299"))

    def test_more_digits_than_a_float_or_the_usual_decimal_has_count(self):
        self.put({"cost": "4.99999999999999999999999999999"}, {"cost": "0.00000000000000000000000000001"})
        self.assertEqual(self.spent(), 5)

    def test_at_the_budget_it_is_refused_and_below_it_is_not(self):
        self.put({"cost": "4.9999999999"})
        self.admit("5", source="none")
        self.put({"cost": "0.0000000001"})
        with self.assertRaises(CallError) as caught:
            self.admit("5")
        self.assertEqual((caught.exception.code, caught.exception.status), ("budget", 6))
        self.assertEqual(self.rows(), 3)

    def test_a_refusal_says_the_sum_the_budget_when_the_window_ends_and_what_to_do(self):
        self.put({"cost": "1.5"}, {"cost": "0.75"})
        with self.assertRaises(CallError) as caught:
            self.admit("2")
        for part in ("2.25", "$2 ", "day", time.strftime("%Y-%m-%d %H:%M", time.localtime(self.end))):
            self.assertIn(part, caught.exception.message)
        self.assertIn("ALLTOKEN_BUDGET", caught.exception.hint)

    def test_a_budget_of_0_refuses_everything(self):
        for window in ("hour", "day", "week", "month"):
            with self.subTest(window), self.assertRaises(CallError) as caught:
                self.admit("0", window)
            self.assertEqual((caught.exception.status, self.rows()), (6, 0))

    def test_unknown_calls_count_as_the_dearest_of_their_command_and_model_in_the_window(self):
        self.put(
            {"cost": "0.25"},
            {"cost": "0.5", "source": "estimate"},
            {"cost": "9", "started": self.begin - 1},  # before the window: not looked at if there is one in it
            {"cost": "7", "model": "other"},
            {"cost": "8", "command": "search"},
            {},
            {},
        )
        self.assertEqual(self.spent(), Decimal("0.75") + 15 + Decimal("1.0"))

    def test_else_as_the_dearest_on_record_else_as_nothing(self):
        self.put({"cost": "2", "started": 1.0}, {"cost": "3.5", "started": 2.0, "source": "estimate"}, {})
        self.put({"model": "never priced"}, {"model": None})
        self.assertEqual(self.spent(), Decimal("3.5"))
        self.assertEqual(len(self.warnings), 1)
        self.assertRegex(self.warnings[0], r"\b3\b.*3\.5")

    def test_the_dearest_is_the_dearest_number_and_not_the_last_in_the_alphabet(self):
        self.put({"cost": "10"}, {"cost": "9"}, {"cost": "9.5"}, {})
        self.assertEqual(self.spent(), Decimal("38.5"))

    def test_a_free_call_in_the_window_is_a_known_one(self):
        self.put({"cost": "5", "started": 1.0}, {"cost": "0"}, {})
        self.assertEqual(self.spent(), 0)

    def test_one_warning_says_how_many_are_unknown_and_what_they_count(self):
        self.put({"cost": "0.25"}, {}, {})
        self.admit("5")
        self.assertEqual(len(self.warnings), 1)
        self.assertRegex(self.warnings[0], r"\b2\b.*\b0\.5")
        self.put({"source": "none"})
        self.admit("5")
        self.assertRegex(self.warnings[0], r"\b3\b.*\b0\.75")  # the first one that was admitted is one now

    def test_calls_that_bought_nothing_and_local_ones_are_not_unknown(self):
        self.put({"cost": "3"}, {"source": "none"}, {"source": "local"})
        self.assertEqual(self.spent(), 3)
        self.assertEqual(self.warnings, [])

    def test_a_cost_that_was_damaged_by_hand_is_unknown(self):
        for damaged in ("NaN", "-1", "1e999", "free", "", "1,5", "1.2.3", "1\n2", "9" * 95, b"\xff"):
            with self.subTest(damaged):
                self.put({"cost": "0.5"}, {"cost": "1"})
                with contextlib.closing(sqlite3.connect(self.path)) as database, database:
                    database.execute("UPDATE calls SET cost = ? WHERE id = 2", (damaged,))
                self.assertEqual(self.spent(), 1)
                self.assertEqual(len(self.warnings), 1)
                os.unlink(self.path)

    def test_runs_that_are_under_way_count_each_other(self):
        self.put({"cost": "1"})
        admitted = 0
        with self.assertRaises(CallError):
            while True:
                self.admit("5")
                admitted += 1
        self.assertEqual((admitted, self.rows()), (4, 5))

    def test_a_run_that_is_just_being_put_down_is_counted(self):
        self.put({"cost": "1"})
        statuses: list[int] = []

        def admit() -> None:
            try:
                self.admit("5")
            except CallError as error:
                statuses.append(error.status)

        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            thread = threading.Thread(target=admit)
            thread.start()
            time.sleep(0.1)  # it waits, and has not counted yet
            other.execute("INSERT INTO calls (started, command, cost) VALUES (?, 'chat', '4')", (self.NOW,))
            other.execute("COMMIT")
            thread.join()
        self.assertEqual((statuses, self.rows()), ([6], 2))

    def test_a_look_at_it_leaves_no_row(self):
        self.put({"cost": "1"})
        budget.parse("1.5/day").check(self.path, self.NOW)
        with self.assertRaises(CallError) as caught:
            budget.parse("1/day").check(self.path, self.NOW)
        self.assertEqual((caught.exception.status, caught.exception.code, self.rows()), (6, "budget", 1))

    def test_a_ledger_that_cannot_tell_is_a_usage_error(self):
        with open(self.path, "wb") as file:
            file.write(b"no database" * 99)
        for path in (self.path, os.path.dirname(self.path), None):
            with self.subTest(path), self.assertRaises(UsageError) as caught:
                budget.parse("5/day").admit(path, {"started": 1.0, "command": "chat"}, self.NOW, print)
            self.assertEqual((caught.exception.status, caught.exception.code), (2, "no_ledger"))


if __name__ == "__main__":
    unittest.main()
