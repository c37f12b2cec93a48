"""cost: the gateway's own figure to the digit, an estimate named as one, unknown never zero."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sqlite3
import time
import unittest
from decimal import Decimal
from typing import Any

from alltoken_call.store import ledger, sums

from ..gateway import CHAT, DONE, KEY, PRICES, frames, raw, refuse, reply, stream
from ..harness import Case, Result

MINI = "GET /api-account/models/gpt-5.4-mini"
CLOSED = "http://127.0.0.1:1"
TABLE = """\
model:             gpt-5.4-mini
prompt tokens:              1,019
completion tokens:             12
input  $/1M:              $0.2000
output $/1M:              $1.2500
total cost:            $0.0002188 (estimate)
"""
FIELDS = (
    "prompt_tokens",
    "completion_tokens",
    "input_price",
    "output_price",
    "groups",
    "calls",
    "estimated",
    "unknown",
    "rows",
    "balance",
)


class CostCase(Case):
    """A test that asks what calls cost."""

    def cost(self, *argv: str, **options: Any) -> Result:
        """Run `cost` here."""
        return self.call("cost", *argv, **options)

    def ask(self, cost: str | None, **options: Any) -> None:
        """A chat whose cost the gateway gives as a JSON value, or does not give."""
        comment = b"" if cost is None else b': {"cost":%s,"input_price":0,"output_price":0}\n\n' % cost.encode()
        self.gateway.on(CHAT, stream(frames("a"), DONE + comment))
        self.assertQuietly(0, self.chat("hi", **options))

    def put(self, *rows: dict[str, Any]) -> None:
        """Rows for the ledger, of calls just now unless they say when."""
        path = os.path.join(self.folder, "state", "alltoken-call", "ledger.db")
        for row in rows:
            plain = {"started": time.time(), "command": "chat", "model": "gpt-5.4-mini", "exit_status": 0}
            ledger.put(path, plain | {"source": "gateway" if row.get("cost") else None} | row)

    def last_line(self, *argv: str) -> str:
        """The last line of what `cost` shows."""
        result = self.cost(*argv)
        self.assertQuietly(0, result)
        self.assertEqual(result.err, "")
        return result.out.decode().splitlines()[-1]


class Estimates(CostCase):
    def test_the_table_is_the_documented_one(self):
        result = self.cost("gpt-5.4-mini", "1019", "12")
        self.assertQuietly(0, result)
        self.assertEqual((result.out.decode(), result.err), (TABLE, ""))

    def test_no_key_is_needed_and_none_is_sent(self):
        for key in (None, KEY, "not a usable key"):
            with self.subTest(key):
                self.gateway.requests.clear()
                result = self.cost("gpt-5.4-mini", "19", "12", ALLTOKEN_API_KEY=key)
                self.assertQuietly(0, result)
                self.assertIn(b"$0.0000188 (estimate)\n", result.out)
                (request,) = self.gateway.requests
                self.assertEqual((request.method, request.path), ("GET", "/api-account/models/gpt-5.4-mini"))
                sent = f"{request.headers}{request.query}{request.body}"
                self.assertNotIn("authorization", sent.lower())
                self.assertNotIn(key or KEY, sent)

    def test_the_total_is_exact_and_has_six_places_at_least(self):
        for tokens, prices, total in (
            (("19", "12"), ("0.2000000000", "1.2500000000"), "0.0000188"),
            (("1000000", "0"), ("3", "15"), "3.000000"),
            (("1", "0"), ("0.1", "0"), "0.0000001"),
            (("3", "3"), (0.1, 0.2), "0.0000009"),
            (("0", "0"), ("3", "15"), "0.000000"),
            (("999999999", "999999999"), ("0.123456789", "0.987654321"), "1111.11110888888889"),
            (("123456789012345", "1"), ("12.3456789012345", "0.0000000001"), "1524157875.3238669120562400025"),
        ):
            with self.subTest(tokens, prices=prices):
                entry = {"id": "gpt-5.4-mini", "input_price": prices[0], "output_price": prices[1]}
                self.gateway.on(MINI, reply(200, entry))
                result = self.cost("gpt-5.4-mini", *tokens)
                self.assertQuietly(0, result)
                self.assertRegex(result.out.decode(), rf"(?m)^total cost: +\${total.replace('.', '[.]')} \(estimate\)$")
                document = self.document_of(self.cost("gpt-5.4-mini", *tokens, "--json"), *FIELDS)
                self.assertEqual(document["cost"], {"usd": total, "source": "estimate"})

    def test_prices_are_found_under_every_name_and_wrapping(self):
        today, older = {"input_price": "0.2", "output_price": 1.25}, {"prompt_price": 0.2, "completion_price": "1.25"}
        other = {"id": "gpt-5.4-mini", "owned_by": "x"}
        for name, answer in (
            ("today's names", other | today),
            ("older names", other | older),
            ("under data", {"data": other | today}),
            ("older, under data", {"data": other | older}),
            ("under pricing", other | {"pricing": today}),
            ("both", {"data": other | {"pricing": older}}),
            ("one name of each", other | {"input_price": "0.2", "completion_price": "1.25"}),
            ("nulls before the older", other | {"input_price": None, "output_price": None} | older),
        ):
            with self.subTest(name):
                self.gateway.on(MINI, reply(200, answer))
                result = self.cost("gpt-5.4-mini", "1019", "12")
                self.assertEqual((result.status, result.out.decode()), (0, TABLE), result.err)

    def test_a_price_of_zero_is_free(self):
        for zero in (0, "0", "0.0000000000", 0.0):
            with self.subTest(zero):
                self.gateway.on(MINI, reply(200, {"input_price": zero, "output_price": zero}))
                result = self.cost("gpt-5.4-mini", "1019", "12")
                self.assertQuietly(0, result)
                self.assertIn(b"$0.000000 (estimate)\n", result.out)

    def test_a_missing_price_is_unknown_and_the_fields_that_came_are_named(self):
        for name, answer, fields in (
            ("neither", {"id": "m", "image_price": 3, "context_length": 1}, ("id", "image_price", "context_length")),
            ("one", {"id": "m", "input_price": "0"}, ("id", "input_price")),
            ("null", {"data": {"id": "m", "input_price": None, "output_price": 1}}, ("input_price", "output_price")),
            ("words", {"id": "m", "input_price": "free", "output_price": "1"}, ("id", "input_price", "output_price")),
            ("negative", {"input_price": -1, "output_price": -1}, ("input_price", "output_price")),
            ("not finite", {"input_price": "NaN", "output_price": "inf"}, ("input_price", "output_price")),
            ("booleans", {"input_price": False, "output_price": True}, ("input_price", "output_price")),
            ("lists", {"input_price": [1], "output_price": {}, "pricing": [3]}, ("input_price", "pricing")),
            ("odd names", {"a\x1b[31m\nb": 1}, (r"a\x1b[31m b",)),
        ):
            with self.subTest(name):
                self.gateway.on(MINI, reply(200, answer))
                result = self.cost("gpt-5.4-mini", "1019", "12")
                self.assertQuietly(1, result)
                self.assertEqual(result.out, b"")
                for field in fields:
                    self.assertIn(field, result.err)
                document = self.document_of(self.cost("gpt-5.4-mini", "1", "1", "--json"), *FIELDS)
                self.assertEqual(document["cost"], {"usd": None, "source": None})

    def test_the_gateways_own_model_without_a_price_is_one(self):
        self.assertIsNone(PRICES["glm-5.1"][0])
        result = self.cost("glm-5.1", "1", "1")
        self.assertQuietly(1, result)
        self.assertIn("context_length, id, modality, object, owned_by", result.err)

    def test_json_has_every_key(self):
        document = self.document_of(self.cost("gpt-5.4-mini", "1019", "12", "--json"), *FIELDS)
        expected = {
            "ok": True,
            "command": "cost",
            "model": "gpt-5.4-mini",
            "usage": None,
            "cost": {"usd": "0.0002188", "source": "estimate"},
            "error": None,
            "prompt_tokens": 1019,
            "completion_tokens": 12,
            "groups": None,
            "calls": None,
            "estimated": None,
            "unknown": None,
            "rows": None,
            "balance": None,
        }
        self.assertEqual({name: document[name] for name in expected}, expected)
        self.assertEqual(
            (Decimal(document["input_price"]), Decimal(document["output_price"])), (Decimal("0.2"), Decimal("1.25"))
        )

    def test_failures_of_the_catalog_have_their_statuses(self):
        for name, status, step in (
            ("unknown model", 1, refuse(404, "not_found")),
            ("busy", 7, refuse(429, "rate_limited", headers={"Retry-After": "100"})),
            ("down", 5, refuse(500, "upstream_error")),
            ("not JSON", 3, reply(200, b"<html>")),
            ("a bare word", 3, reply(200, b'"free"')),
            ("cut", 3, raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")),
        ):
            with self.subTest(name):
                self.gateway.on(MINI, step)
                result = self.cost("gpt-5.4-mini", "1", "1")
                self.assertQuietly(status, result)
                self.assertEqual(result.out, b"")
        self.assertQuietly(3, self.cost("gpt-5.4-mini", "1", "1", ALLTOKEN_BASE_URL=CLOSED))

    def test_wrong_words_are_status_2_and_nothing_is_sent(self):
        for argv in (
            ("gpt-5.4-mini",),
            ("gpt-5.4-mini", "1"),
            ("gpt-5.4-mini", "1", "2", "3"),
            ("gpt-5.4-mini", "a", "2"),
            ("gpt-5.4-mini", "1", "2.5"),
            ("gpt-5.4-mini", "1_0", "2"),
            ("gpt-5.4-mini", "٣", "2"),
            ("gpt-5.4-mini", "1", ""),
            ("gpt-5.4-mini", "1" * 5000, "2"),
            ("--", "gpt-5.4-mini", "-1", "2"),
            (" ", "1", "2"),
            ("--since", "7d", "gpt-5.4-mini", "1", "2"),
            ("--by", "model", "gpt-5.4-mini", "1", "2"),
            ("--calls", "1", "gpt-5.4-mini", "1", "2"),
            ("--balance", "gpt-5.4-mini", "1", "2"),
            ("--calls", "1", "--since", "7d"),
            ("--calls", "--by", "day"),
            ("--calls", "--balance"),
            ("--balance", "--since", "7d"),
            ("--reconcile",),
            ("--reconcile", "--by", "day"),
        ):
            with self.subTest(argv):
                self.assertQuietly(2, self.cost(*argv))
                self.assertEqual(self.gateway.requests, [])

    def test_a_closed_stdout_is_noticed_before_anything_is_sent(self):
        self.assertQuietly(13, self.execute("cost", "gpt-5.4-mini", "1", "2", closed=(1,)))
        self.assertEqual(self.gateway.requests, [])

    def test_a_name_with_a_slash_is_one_segment(self):
        self.gateway.on("GET /api-account/models/vendor%2Fm%3Fx", reply(200, {"input_price": 1, "output_price": 1}))
        self.assertQuietly(0, self.cost("vendor/m?x", "1", "1"))

    def test_a_name_of_dots_alone_is_not_a_place_in_a_url(self):
        for name in (".", ".."):
            self.assertQuietly(1, self.cost(name, "1", "1"))
        self.assertEqual(self.gateway.requests, [])

    def test_a_dry_run_shows_the_request_and_sends_none(self):
        result = self.cost("gpt-5.4-mini", "1", "1", "--dry-run", ALLTOKEN_API_KEY=None)
        self.assertQuietly(0, result)
        url = f"{self.gateway.url}/api-account/models/gpt-5.4-mini"
        self.assertEqual(result.document, {"method": "GET", "url": url, "body": None})
        self.assertEqual(self.gateway.requests, [])

    def test_under_json_a_dry_run_leaves_a_document_too(self):
        self.ask('"1"')
        for argv in ((), ("--since", "7d"), ("gpt-5.4-mini", "1", "1")):
            with self.subTest(argv):
                result = self.cost(*argv, "--json", "--dry-run")
                self.assertQuietly(0, result)
                self.assertEqual(set(result.document), {"method", "url", "body"})
                self.assertEqual(self.cost(*argv, "--dry-run").out, result.out)


class LastCall(CostCase):
    def test_after_a_chat_it_is_the_same_figure_to_the_digit(self):
        for figure in ('"0.0000188000"', '"0"', '"12"', '"0.000000000000000000000000000001"', '"3.140"'):
            with self.subTest(figure):
                self.ask(figure)
                usd = json.loads(figure)
                result = self.cost()
                self.assertQuietly(0, result)
                self.assertRegex(result.out.decode(), rf"(?m)^total cost: +\${usd.replace('.', '[.]')} \(gateway\)$")
                document = self.document_of(self.cost("--json"), *FIELDS)
                self.assertEqual(document["cost"], {"usd": usd, "source": "gateway"})
                self.assertEqual(self.gateway.count(MINI), 0)

    def test_chat_and_cost_print_one_figure(self):
        chat = self.chat("hi")
        self.assertEqual(chat.status, 0)
        told = next(line for line in chat.err.splitlines() if line.startswith("[cost]")).split(maxsplit=1)[1]
        self.assertEqual(told, "$0.0000110000 (gateway)")
        self.assertEqual(" ".join(self.last_line().split()[2:]), told)

    def test_a_figure_that_came_as_a_number_loses_nothing(self):
        self.ask("1.88e-05")
        self.assertIn("$0.0000188 (gateway)", self.last_line())

    def test_it_says_when_command_model_and_tokens(self):
        self.put(
            {"started": 1790000000.0},
            {
                "started": 1795000000.7,
                "command": "search",
                "model": "qwen3.6-plus",
                "prompt_tokens": 1019,
                "completion_tokens": 12,
                "cost": "0.5",
            },
        )
        out = self.cost().out.decode()
        when = time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(1795000000))
        self.assertEqual(
            [line.split(maxsplit=1)[-1].strip() for line in out.splitlines()[:3]], [when, "search", "qwen3.6-plus"]
        )
        for line in ("prompt tokens:              1,019\n", "completion tokens:             12\n", "$0.5 (gateway)\n"):
            self.assertIn(line, out)
        document = self.document_of(self.cost("--json"), *FIELDS)
        self.assertEqual(
            (document["model"], document["prompt_tokens"], document["completion_tokens"]), ("qwen3.6-plus", 1019, 12)
        )

    def test_without_the_gateways_figure_it_is_an_estimate_and_named_so(self):
        self.ask(None)
        for key in (KEY, None):
            self.gateway.requests.clear()
            result = self.cost(ALLTOKEN_API_KEY=key)
            self.assertQuietly(0, result)
            self.assertRegex(result.out.decode(), r"(?m)^total cost: +\$0[.]0000188 \(estimate\)$")
            self.assertNotIn("gateway", result.out.decode())
            (request,) = self.gateway.requests
            self.assertNotIn(KEY, str(request.headers))
        document = self.document_of(self.cost("--json"), *FIELDS)
        self.assertEqual(document["cost"], {"usd": "0.0000188", "source": "estimate"})
        self.assertEqual(Decimal(document["input_price"]), Decimal("0.2"))

    def test_an_estimate_is_not_written_down(self):
        self.ask(None)
        self.cost()
        self.assertEqual(self.last_line("--since", "7d"), "total: unknown (1 call, 1 unknown)")

    def test_without_prices_it_is_unknown_and_no_error(self):
        self.ask(None)
        for name, step, url in (
            ("unreachable", None, CLOSED),
            ("down", refuse(500, "upstream_error"), None),
            ("not there", refuse(404, "not_found"), None),
            ("no price", reply(200, {"id": "gpt-5.4-mini", "input_price": "0.2"}), None),
            ("not JSON", reply(200, b"<html>"), None),
        ):
            with self.subTest(name):
                if step:
                    self.gateway.on(MINI, step)
                environ = {"ALLTOKEN_BASE_URL": url} if url else {}
                result = self.cost(**environ)
                self.assertQuietly(0, result)
                self.assertNotIn("[error]", result.err)
                self.assertRegex(result.out.decode(), r"(?m)^total cost: +unknown$")
                self.assertNotIn("$0", result.out.decode())
                document = self.document_of(self.cost("--json", **environ), *FIELDS)
                self.assertEqual(document["cost"], {"usd": None, "source": None})

    def test_a_call_without_tokens_is_unknown_or_was_free_and_the_catalog_is_not_asked(self):
        for step, status, shown, source in (
            (refuse(402, "insufficient_balance"), 6, "none", "none"),
            (refuse(500, "upstream_error"), 5, "unknown", None),
        ):
            with self.subTest(status):
                self.gateway.on(CHAT, step)
                self.assertEqual(self.chat("hi").status, status)
                self.gateway.requests.clear()
                self.assertRegex(self.last_line(), rf"^total cost: +{shown}$")
                document = self.document_of(self.cost("--json"), *FIELDS)
                self.assertEqual(document["cost"], {"usd": None, "source": source})
                self.assertEqual(self.gateway.requests, [])

    def test_a_text_that_is_not_utf_8_is_shown_as_far_as_it_is(self):
        self.put({"cost": "0.5", "prompt_tokens": 19, "completion_tokens": 12})
        path = os.path.join(self.folder, "state", "alltoken-call", "ledger.db")
        with contextlib.closing(sqlite3.connect(path)) as database, database:
            database.execute("UPDATE calls SET model = CAST(x'61ff62' AS TEXT)")
        for argv in ((), ("--calls",), ("--since", "2020-01-01")):
            result = self.cost(*argv)
            self.assertQuietly(0, result)
            self.assertIn("a\ufffdb", result.out.decode())

    def test_rows_that_were_damaged_by_hand_are_no_crash(self):
        numbers, texts = (
            ("started", "ended", "prompt_tokens", "completion_tokens", "exit_status"),
            ("command model cost source status task_id request_id output root gateway").split(),
        )
        turns = itertools.cycle(((), ("--json",), ()))
        for value in ("junk", b"\xff\x00", 9e999, -9e999, 1e300, -5, "", "٣", "\x1b[31m", 1.5):
            for names in (("started",), numbers, texts, numbers + tuple(texts)):
                with self.subTest(value, names=names):
                    self.put({"cost": "0.5", "prompt_tokens": 19, "completion_tokens": 12})
                    changes = ", ".join(f"{name} = ?" for name in names)
                    path = os.path.join(self.folder, "state", "alltoken-call", "ledger.db")
                    with contextlib.closing(sqlite3.connect(path)) as database, database:
                        database.execute(f"UPDATE calls SET {changes}", [value] * len(names))
                    for argv in (
                        (),
                        ("--calls",),
                        ("--since", "2020-01-01"),
                        *(("--by", key) for key in sums.KEYS),
                        ("--since", "2020-01-01", "--reconcile"),
                    ):
                        more = next(turns)
                        result = self.cost(*argv, *more)
                        if result.status != 1 or "nothing_recorded" not in result.err:  # "junk" is never since
                            self.assertQuietly(0, result)
                        if more:
                            self.assertIn("cost", result.document)
                    os.unlink(path)
        self.put({"cost": "0.5"})

    def test_an_exit_status_that_is_not_0_and_another_gateway_are_told(self):
        self.put({"cost": "1"})
        self.assertNotRegex(self.cost().out.decode(), "(?m)^(exit status|gateway):")
        self.put({"cost": "1", "exit_status": 9, "gateway": "work"})
        out = self.cost().out.decode()
        self.assertRegex(out, r"(?m)^exit status: +9$")
        self.assertRegex(out, r"(?m)^gateway: +work$")

    def test_the_last_call_at_one_gateway_is_found_behind_others(self):
        self.put({"cost": "1", "gateway": "openai", "model": "a"}, {"cost": "2", "model": "b"})
        for name, line in (("openai", r"\$1 \(gateway\)$"), ("OpenAI", r"\$1 \("), ("alltoken", r"\$2 \(")):
            self.assertRegex(self.last_line("--gateway", name), line)
        self.assertQuietly(1, self.cost("--gateway", "ollama"))
        self.assertRegex(self.last_line(), r"\$2 \(gateway\)$")

    def test_a_figure_of_every_length_that_is_taken_is_shown(self):
        for usd in ("9" * 20 + "." + "9" * 30, "0." + "0" * 29 + "1", "1" + "0" * 19):
            with self.subTest(usd):
                self.ask(f'"{usd}"')
                self.assertIn(f"${usd} (gateway)", self.last_line())
        self.assertIn("(3 calls, 0 unknown)", self.last_line("--since", "7d"))

    def test_a_cost_that_was_damaged_by_hand_is_unknown_and_no_crash(self):
        good = {"cost": "0.5", "prompt_tokens": 19, "completion_tokens": 12}
        for number, damaged in enumerate(
            (
                "NaN",
                "-1",
                "-0.5",
                "inf",
                "-Infinity",
                "free",
                "",
                " ",
                "1,5",
                "1e999",
                "0x10",
                "1_0",
                "1\n2",
                "٣",
                b"\xff",
            )
        ):
            with self.subTest(damaged):
                path = os.path.join(self.folder, f"ledger{number}.db")
                for row in (good, good | {"started": time.time() + 60}):
                    ledger.put(
                        path, {"started": time.time(), "command": "chat", "model": "m", "source": "gateway"} | row
                    )
                with contextlib.closing(sqlite3.connect(path)) as database, database:
                    statement = "UPDATE calls SET cost = ? WHERE started = (SELECT max(started) FROM calls)"
                    database.execute(statement, (damaged,))
                for argv in ((), ("--since", "7d"), ("--by", "day"), ("--by", "command")):
                    result = self.cost(*argv, ALLTOKEN_LEDGER=path)
                    self.assertQuietly(0, result)
                    last = result.out.decode().splitlines()[-1]
                    if argv:
                        self.assertEqual(last, "total: $0.500000 (2 calls, 1 unknown)")
                    else:
                        self.assertRegex(last, r"^total cost: +unknown$")
                    document = self.document_of(self.cost(*argv, "--json", ALLTOKEN_LEDGER=path), *FIELDS)
                    wanted = {"usd": "0.500000", "source": "gateway"} if argv else {"usd": None, "source": None}
                    self.assertEqual(document["cost"], wanted)

    def test_with_no_call_on_record_there_is_nothing_to_show(self):
        for argv in ((), ("--since", "7d"), ("--by", "day"), ("--calls",)):
            with self.subTest(argv):
                result = self.cost(*argv)
                self.assertQuietly(1, result)
                self.assertEqual(result.out, b"")
                self.assertIn("[error] nothing_recorded", result.err)
                self.assertFalse(os.path.exists(os.path.join(self.folder, "state")))

    def test_a_ledger_that_is_off_or_cannot_be_read_is_status_1(self):
        self.ask('"1"')
        with open(os.path.join(self.folder, "state", "alltoken-call", "ledger.db"), "wb") as file:
            file.write(b"no database" * 99)
        for environ in ({}, {"ALLTOKEN_LEDGER": "off"}):
            for argv in ((), ("--since", "7d"), ("--by", "day"), ("--calls",)):
                with self.subTest(argv, **environ):
                    result = self.cost(*argv, **environ)
                    self.assertQuietly(1, result)
                    self.assertEqual(result.out, b"")
                    self.assertIn("[error] no_ledger", result.err)


class Spent(CostCase):
    def setUp(self) -> None:
        super().setUp()
        self.zone("UTC0")

    def zone(self, name: str) -> None:
        """Live in a time zone."""
        before = os.environ.get("TZ")

        def restore():
            if before is None:
                os.environ.pop("TZ", None)
            else:
                os.environ["TZ"] = before
            time.tzset()

        os.environ["TZ"] = name
        time.tzset()
        self.addCleanup(restore)

    @staticmethod
    def at(text: str) -> float:
        """Seconds since the epoch of a moment in UTC."""
        import calendar

        return float(calendar.timegm(time.strptime(text, "%Y-%m-%d %H:%M:%S")))

    def groups(self, *argv: str) -> dict[str, Any]:
        """The groups of --json by their keys."""
        document = self.document_of(self.cost(*argv, "--json"), *FIELDS)
        by = next((argv[at + 1] for at, word in enumerate(argv) if word == "--by"), "model")
        return {group.pop(by): group for group in document["groups"]}

    def test_three_known_and_one_unknown_are_the_sum_of_three_and_one_unknown(self):
        for cost in ('"0.0000188000"', None, '"0.0000188000"', '"0.0000188000"'):
            self.ask(cost)
        self.assertEqual(self.last_line("--since", "7d"), "total: $0.0000564 (4 calls, 1 unknown)")
        self.assertEqual(self.last_line("--by", "day"), "total: $0.0000564 (4 calls, 1 unknown)")
        document = self.document_of(self.cost("--since", "7d", "--json"), *FIELDS)
        self.assertEqual((document["calls"], document["unknown"]), (4, 1))
        self.assertEqual(document["cost"]["usd"], "0.0000564")

    def test_what_is_unknown_is_never_zero(self):
        self.ask(None)
        self.ask(None)
        result = self.cost("--since", "7d")
        self.assertQuietly(0, result)
        self.assertNotIn("$", result.out.decode())
        self.assertEqual(result.out.decode().splitlines()[-1], "total: unknown (2 calls, 2 unknown)")
        document = self.document_of(self.cost("--since", "7d", "--json"), *FIELDS)
        self.assertEqual(document["cost"], {"usd": None, "source": None})
        self.assertEqual((document["calls"], document["unknown"]), (2, 2))

    def test_what_is_free_is_known(self):
        self.ask('"0"')
        self.assertEqual(self.last_line("--since", "7d"), "total: $0.000000 (1 call, 0 unknown)")

    def test_an_estimate_is_summed_and_counted_and_never_called_the_gateways_figure(self):
        self.put({"cost": "1"}, {"cost": "0.5", "source": "estimate", "model": "b"}, {"model": "b"})
        self.assertEqual(self.last_line("--since", "7d"), "total: $1.500000 (3 calls, 1 estimated, 1 unknown)")
        lines = self.cost("--since", "7d").out.decode().splitlines()
        self.assertEqual(lines[0].split()[:4], ["model", "calls", "estimated", "unknown"])
        document = self.document_of(self.cost("--since", "7d", "--json"), *FIELDS)
        self.assertEqual(document["cost"], {"usd": "1.500000", "source": "estimate"})
        self.assertEqual((document["calls"], document["estimated"], document["unknown"]), (3, 1, 1))
        found = {group["model"]: (group["estimated"], group["usd"]) for group in document["groups"]}
        self.assertEqual(found, {"gpt-5.4-mini": (0, "1.000000"), "b": (1, "0.500000")})

    def test_what_bought_nothing_counts_as_a_call_and_not_as_unknown(self):
        self.put({"cost": "1"}, {"source": "none", "exit_status": 6}, {"source": "local", "gateway": "ollama"}, {})
        self.assertEqual(self.last_line("--since", "7d"), "total: $1.000000 (4 calls, 1 unknown)")

    def test_one_gateway_alone_can_be_asked_for(self):
        self.put({"cost": "1"}, {"cost": "2", "gateway": "openai"}, {"gateway": "openai"})
        self.assertEqual(
            self.last_line("--since", "7d", "--gateway", "OpenAI"), "total: $2.000000 (2 calls, 1 unknown)"
        )
        self.assertEqual(
            self.last_line("--since", "7d", "--gateway", "alltoken"), "total: $1.000000 (1 call, 0 unknown)"
        )
        self.assertQuietly(1, self.cost("--since", "7d", "--gateway", "ollama"))

    def test_days_have_a_bar_on_a_terminal_as_long_as_their_share_and_none_in_a_pipe(self):
        day = self.at("2026-11-01 12:00:00")
        for days, cost in ((0, "4"), (1, "1"), (2, None)):
            self.put({"started": day + days * 86400, "cost": cost})
        lines = self.cost("--by", "day", terminals="out").out.decode().splitlines()
        self.assertEqual([line.count("█") for line in lines], [0, 20, 5, 0, 0])
        self.assertNotIn("█", self.cost("--by", "day").out.decode())
        self.assertNotIn("█", self.cost("--by", "model", terminals="out").out.decode())
        self.put({"started": day - 86400, "cost": "0"})
        self.assertEqual(self.cost("--by", "day", terminals="out").out.decode().count("█"), 25)

    def test_the_catalog_is_not_asked(self):
        self.ask(None)
        self.gateway.requests.clear()
        self.assertQuietly(0, self.cost("--since", "7d", ALLTOKEN_API_KEY=None, ALLTOKEN_BASE_URL=CLOSED))
        self.assertEqual(self.gateway.requests, [])

    def test_a_sum_is_exact(self):
        for costs, total in (
            (["0.1"] * 10, "1.000000"),
            (["0.0000188000"] * 7, "0.0001316"),
            (["123456789.0000000001", "0.0000000001"], "123456789.0000000002"),
            (["12345678901234567890", "0.0000000000000000000001"], "12345678901234567890.0000000000000000000001"),
        ):
            with self.subTest(costs[0]):
                self.put(*({"cost": cost, "model": costs[0]} for cost in costs))
                self.assertEqual(self.groups("--by", "model")[costs[0]]["usd"], total)

    def test_groups_are_of_a_model_a_command_a_gateway_or_a_day(self):
        day = self.at("2026-11-01 12:00:00")
        rows = (
            {"model": "a", "command": "chat", "cost": "1", "prompt_tokens": 10, "completion_tokens": 1},
            {"model": "b", "command": "chat", "cost": "2", "prompt_tokens": 20, "gateway": "openai"},
            {"model": "b", "command": "search", "started": day - 86400},
            {"model": None, "command": "image", "cost": "4", "started": day - 86400, "completion_tokens": 3},
        )
        self.put(*({"started": day} | row for row in rows))
        for by, expected in (
            (
                "model",
                {"a": ("1.000000", 1, 0, 10, 1), "b": ("2.000000", 2, 1, 20, 0), "unknown": ("4.000000", 1, 0, 0, 3)},
            ),
            (
                "command",
                {"chat": ("3.000000", 2, 0, 30, 1), "search": (None, 1, 1, 0, 0), "image": ("4.000000", 1, 0, 0, 3)},
            ),
            ("day", {"2026-10-31": ("4.000000", 2, 1, 0, 3), "2026-11-01": ("3.000000", 2, 0, 30, 1)}),
            ("gateway", {"alltoken": ("5.000000", 3, 1, 10, 4), "openai": ("2.000000", 1, 0, 20, 0)}),
        ):
            with self.subTest(by):
                names = ("usd", "calls", "unknown", "prompt_tokens", "completion_tokens")
                found = self.groups("--by", by)
                self.assertEqual({key: tuple(group[name] for name in names) for key, group in found.items()}, expected)
                lines = self.cost("--by", by).out.decode().splitlines()
                self.assertEqual(lines[-1], "total: $7.000000 (4 calls, 1 unknown)")
                self.assertEqual(lines[0].split()[0], by)
                self.assertEqual(sorted(line.split()[0] for line in lines[1:-1]), sorted(expected))
                self.assertEqual(len({len(line) for line in lines[:-1]}), 1, lines)

    def test_without_by_it_is_by_model(self):
        self.put({"model": "a", "cost": "1"}, {"model": "b", "cost": "1"})
        self.assertEqual(self.cost("--since", "7d").out, self.cost("--since", "7d", "--by", "model").out)
        self.assertEqual(set(self.groups("--since", "7d")), {"a", "b"})

    def test_since_takes_days_hours_and_minutes(self):
        for text, seconds in (
            ("7d", 7 * 86400),
            ("24h", 86400),
            ("30m", 1800),
            ("1d", 86400),
            ("99999d", 99999 * 86400),
        ):
            with self.subTest(text):
                model = f"just {text}"
                now = time.time()
                self.put(
                    {"model": model, "started": now - seconds + 60}, {"model": model, "started": now - seconds - 60}
                )
                self.assertEqual(self.groups("--since", text)[model]["calls"], 1)

    def test_since_takes_a_day_that_begins_at_local_midnight(self):
        for zone, day, midnight in (
            ("UTC0", "2026-11-01", "2026-11-01 00:00:00"),
            ("EAST-13", "2026-11-01", "2026-10-31 11:00:00"),
            ("WEST8", "2026-11-01", "2026-11-01 08:00:00"),
            ("CET-1CEST,M3.5.0,M10.5.0/3", "2026-07-01", "2026-06-30 22:00:00"),
            ("CET-1CEST,M3.5.0,M10.5.0/3", "2026-12-01", "2026-11-30 23:00:00"),
        ):
            with self.subTest(zone, day=day):
                self.zone(zone)
                model = f"{zone} {day}"
                start = self.at(midnight)
                self.put({"model": model, "started": start}, {"model": model, "started": start - 1})
                self.assertEqual(self.groups("--since", day)[model]["calls"], 1)

    def test_a_day_is_a_local_one(self):
        self.put({"started": self.at("2026-10-31 12:00:00"), "cost": "1"})
        for zone, day in (("EAST-13", "2026-11-01"), ("WEST8", "2026-10-31"), ("UTC0", "2026-10-31")):
            with self.subTest(zone):
                self.zone(zone)
                self.assertEqual(list(self.groups("--by", "day")), [day])
        self.zone("CET-1CEST,M3.5.0,M10.5.0/3")
        self.put({"started": self.at("2026-07-01 22:30:00")}, {"started": self.at("2026-12-01 22:30:00")})
        self.assertEqual(list(self.groups("--by", "day")), ["2026-07-02", "2026-10-31", "2026-12-01"])

    def test_nothing_since_then_is_status_1(self):
        self.put({"started": time.time() - 7200, "cost": "1"})
        for since in ("30m", "0d", "2999-01-01"):
            with self.subTest(since):
                result = self.cost("--since", since)
                self.assertQuietly(1, result)
                self.assertEqual(result.out, b"")
                self.document_of(self.cost("--since", since, "--json"), *FIELDS)

    def test_a_bad_value_is_status_2(self):
        self.put({"cost": "1"})
        for argv in (
            ("--since",),
            ("--since", ""),
            ("--since", "7"),
            ("--since", "d"),
            ("--since", "7w"),
            ("--since", "7D"),
            ("--since", "7 d"),
            ("--since", "-7d"),
            ("--since=-7d",),
            ("--since", "1.5d"),
            ("--since", "٣d"),
            ("--since", "1_0d"),
            ("--since", "yesterday"),
            ("--since", "2026-13-01"),
            ("--since", "2026-02-30"),
            ("--since", "2026-11"),
            ("--since", "2026-11-01T00:00"),
            ("--since", "01.11.2026"),
            ("--since", " 2026-11-01"),
            ("--since", "２０２６-11-01"),
            ("--since", "999999999999999999d"),
            ("--by",),
            ("--by", ""),
            ("--by", "week"),
            ("--by", "MODEL"),
            ("--group", "model"),
        ):
            with self.subTest(argv):
                result = self.cost(*argv)
                self.assertQuietly(2, result)
                self.assertEqual(result.out, b"")

    def test_the_first_and_the_last_day_of_all_are_not_bugs(self):
        self.put({"cost": "1"})
        for zone in ("UTC0", "EAST-13", "WEST8"):
            for day in ("0001-01-01", "1969-12-31", "9999-12-31"):
                with self.subTest(zone, day=day):
                    self.zone(zone)
                    result = self.cost("--since", day)
                    self.assertNotIn("[error] bug", result.err)
                    self.assertIn(result.status, (0, 1, 2))

    def test_names_of_groups_are_made_inert(self):
        self.put({"model": "a\x1b[31m\nb", "cost": "1"})
        result = self.cost("--by", "model", terminals="out")
        self.assertQuietly(0, result)
        self.assertNotIn(b"\x1b", result.out)
        self.assertEqual(len(result.out.splitlines()), 3)

    def test_json_has_every_key(self):
        self.put({"cost": "1", "prompt_tokens": 3, "completion_tokens": 4})
        document = self.document_of(self.cost("--since", "7d", "--json"), *FIELDS)
        self.assertEqual(
            document["groups"],
            [
                {
                    "model": "gpt-5.4-mini",
                    "calls": 1,
                    "estimated": 0,
                    "unknown": 0,
                    "prompt_tokens": 3,
                    "completion_tokens": 4,
                    "usd": "1.000000",
                }
            ],
        )
        self.assertEqual((document["command"], document["model"], document["error"]), ("cost", None, None))
        self.assertEqual((document["input_price"], document["output_price"]), (None, None))


class Calls(CostCase):
    def models(self, *argv: str) -> list[str]:
        """The models of the listed calls, as text and as JSON."""
        lines = self.cost("--calls", *argv).out.decode().splitlines()[1:]
        document = self.document_of(self.cost("--calls", *argv, "--json"), *FIELDS)
        found = [row["model"] for row in document["rows"]]
        self.assertEqual([line.split()[3] for line in lines], found)
        return found

    def test_the_last_calls_are_listed_newest_first(self):
        self.put(*({"model": f"m-{number}"} for number in range(25)))
        self.assertEqual(self.models("3"), ["m-24", "m-23", "m-22"])
        self.assertEqual(self.models(), [f"m-{number}" for number in range(24, 4, -1)])
        self.assertEqual(len(self.models("999")), 25)

    def test_a_line_has_when_command_model_cost_exit_status_and_the_task_or_the_file(self):
        now = 1795000000.7
        self.put(
            {"started": now, "cost": "0.0000188000", "prompt_tokens": 19, "request_id": "req_1"},
            {"started": now, "command": "image", "model": None, "task_id": "igen_1", "output": "/tmp/fox.png"},
            {
                "started": now,
                "command": "video",
                "task_id": "vgen_1",
                "exit_status": None,
                "cost": "0.5",
                "source": "estimate",
            },
            {"started": now, "source": "none", "exit_status": 6},
        )
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))
        lines = self.cost("--calls").out.decode().splitlines()
        self.assertEqual(
            [line.removeprefix(when).split() for line in lines[1:]],
            [
                ["chat", "gpt-5.4-mini", "none", "6", "-"],
                ["video", "gpt-5.4-mini", "$0.5", "(estimate)", "-", "vgen_1"],
                ["image", "-", "unknown", "0", "/tmp/fox.png"],
                ["chat", "gpt-5.4-mini", "$0.0000188000", "(gateway)", "0", "-"],
            ],
        )
        rows = self.document_of(self.cost("--calls", "--json"), *FIELDS)["rows"]
        self.assertEqual([set(row) for row in rows], [set(ledger.COLUMNS)] * 4)
        found = {
            name: rows[3][name] for name in ("started", "gateway", "cost", "source", "prompt_tokens", "request_id")
        }
        self.assertEqual(tuple(found.values()), (now, "alltoken", "0.0000188000", "gateway", 19, "req_1"))

    def test_one_gateway_alone_can_be_asked_for(self):
        self.put({"model": "a"}, {"model": "b", "gateway": "openai"}, {"model": "c"})
        self.assertEqual(self.models("--gateway", "openai"), ["b"])
        self.assertEqual(self.models("1", "--gateway", "alltoken"), ["c"])
        self.assertQuietly(1, self.cost("--calls", "--gateway", "ollama"))

    def test_names_are_made_inert_and_nobody_is_asked(self):
        self.put({"model": "a\x1b[31m\nb", "cost": "1"})
        result = self.cost("--calls", terminals="out")
        self.assertQuietly(0, result)
        self.assertNotIn(b"\x1b", result.out)
        self.assertEqual((len(result.out.splitlines()), self.gateway.requests), (2, []))

    def test_a_count_that_is_not_one_is_status_2(self):
        self.put({})
        for count in ("0", "-1", "x", "1.5", "٣", "1_0"):
            with self.subTest(count):
                self.assertQuietly(2, self.cost(f"--calls={count}"))


if __name__ == "__main__":
    unittest.main()
