"""prices: a price that cannot be found is unknown, never zero."""

import unittest
from decimal import Decimal

from alltoken_call.calls import models
from alltoken_call.calls.client import Client
from alltoken_call.config import Gateway
from alltoken_call.errors import CallError, ExitStatus, NetError
from alltoken_call.gateways import prices
from alltoken_call.net.clock import Clock

from ..gateway import KEY, refuse, reply
from ..harness import Case


class Amounts(unittest.TestCase):
    def test_numbers_and_decimal_strings_are_exact(self):
        for value, number in (
            (0, "0"),
            (3, "3"),
            (0.2, "0.2"),
            (1e-07, "0.0000001"),
            ("0", "0"),
            ("0.0000188000", "0.0000188000"),
            (" 1.5\n", "1.5"),
            ("1e-7", "0.0000001"),
            ("1e29", "1" + "0" * 29),
            ("1e-29", "0." + "0" * 28 + "1"),
            ("1e30", "1" + "0" * 30),
            ("0." + "3" * 58, "0." + "3" * 58),
        ):
            with self.subTest(value):
                self.assertEqual(prices.plain(prices.amount(value)), number)

    def test_anything_else_is_unknown(self):
        for value in (
            None,
            True,
            False,
            [],
            {},
            b"1",
            "",
            " ",
            "free",
            "$1",
            "1,5",
            "1_0",
            "٣",
            -1,
            "-0.1",
            float("nan"),
            float("inf"),
            "NaN",
            "sNaN",
            "Infinity",
            "1e31",
            "1e-31",
            "1e999999999999999999999",
            "0e31",
            "0." + "3" * 59,
        ):
            with self.subTest(value):
                self.assertIsNone(prices.amount(value))


class Catalog(Case):
    """The public price list as `calls` reads it."""

    def client(self) -> Client:
        return Client(Gateway("alltoken", self.gateway.url, "alltoken"), key=KEY, clock=Clock(sleep=lambda _: None))

    def test_the_catalog_is_read_from_its_public_place_by_id_and_without_the_key(self):
        entry = {"id": "a", "input_price": 1}
        for document in ({"data": [entry, {"no": "id"}]}, [entry, 7], {"data": {"data": [entry]}}):
            with self.subTest(document):
                self.gateway.on("GET /api-account/models", reply(200, document))
                self.assertEqual(models.catalog(self.client()), {"a": entry})
        self.assertFalse([one for one in self.gateway.requests if "Authorization" in one.headers])

    def test_an_answer_that_is_not_a_list_is_a_failure_and_not_an_empty_catalog(self):
        for document in ({"data": None}, {"models": []}, b"<html>"):
            with self.subTest(document):
                self.gateway.on("GET /api-account/models", reply(200, document))
                with self.assertRaises(NetError) as caught:
                    models.catalog(self.client())
                self.assertEqual((caught.exception.code, caught.exception.status), ("protocol", ExitStatus.NETWORK))

    def test_one_model_is_asked_for_by_one_segment_and_may_be_wrapped(self):
        for answer in ({"id": "a/b"}, {"data": {"id": "a/b"}}):
            with self.subTest(answer):
                self.gateway.on("GET /api-account/models/a%2Fb", reply(200, answer))
                self.assertEqual(models.price_entry(self.client(), "a/b"), {"id": "a/b"})
        self.assertFalse([one for one in self.gateway.requests if "Authorization" in one.headers])

    def test_a_model_that_the_list_does_not_know_is_status_1_and_trouble_is_trouble(self):
        for step in (refuse(404, "not_found"), reply(200, {"data": {}}), reply(200, {"data": {"id": None}, "ok": [1]})):
            self.gateway.on("GET /api-account/models/a", step)
            with self.assertRaises(CallError) as caught:
                models.price_entry(self.client(), "a")
            self.assertEqual((caught.exception.code, caught.exception.status), ("unknown_model", ExitStatus.REFUSED))
        self.gateway.on("GET /api-account/models/a", reply(500, b""))
        with self.assertRaises(NetError) as caught:
            models.price_entry(self.client(), "a")
        self.assertEqual((caught.exception.code, caught.exception.status), ("http_500", ExitStatus.GATEWAY))

    def test_dots_are_no_model_and_not_asked_for(self):
        for name in (".", ".."):
            with self.assertRaises(CallError) as caught:
                models.price_entry(self.client(), name)
            self.assertEqual(caught.exception.code, "unknown_model")
        self.assertEqual(self.gateway.requests, [])


class Totals(unittest.TestCase):
    def test_a_total_is_exact_to_the_last_digit(self):
        for tokens, per_million, dollars in (
            ((19, 12), ("0.2000000000", "1.2500000000"), "0.0000188"),
            ((1019, 12), ("0.2", "1.25"), "0.0002188"),
            ((1_000_000, 0), ("3", "15"), "3"),
            ((0, 1_000_000), ("3", "15"), "15"),
            ((0, 0), ("3", "15"), "0"),
            ((10**15 + 1, 1), ("0.123456789012345678901234567", "0"), "123456789.012345802358023579345678901234567"),
        ):
            with self.subTest(tokens):
                found = prices.Prices(*map(Decimal, per_million))
                for sides in (("prompt_tokens", "completion_tokens"), ("input_tokens", "output_tokens")):
                    total = found.estimate(dict(zip(sides, tokens)))
                    self.assertEqual(total, Decimal(dollars))
                    self.assertNotIn("E", prices.plain(total))

    def test_without_both_prices_or_both_counts_the_total_is_unknown_and_never_zero(self):
        two, counts = Decimal(2), {"prompt_tokens": 19, "completion_tokens": 12}
        for found in (prices.Prices(), prices.Prices(two), prices.Prices(None, two), prices.Prices(cached=two)):
            self.assertIsNone(found.estimate(counts))
            self.assertFalse(found.known)
        self.assertTrue(prices.Prices(two, two).known)
        for usage in (
            {},
            {"prompt_tokens": 19},
            {"prompt_tokens": "19", "completion_tokens": 12},
            counts | {"prompt_tokens": -1},
            counts | {"completion_tokens": True},
            counts | {"completion_tokens": 1 << 63},
        ):
            with self.subTest(usage):
                self.assertIsNone(prices.Prices(two, two).estimate(usage))

    def test_tokens_with_a_price_of_their_own_are_not_counted_twice(self):
        one, ten = Decimal(1), Decimal(10)
        for own, name, details in (
            ("cached", "cached_tokens", "prompt_tokens_details"),
            ("cached", "cached_tokens", "input_tokens_details"),
            ("created", "cached_creation_tokens", "prompt_tokens_details"),
            ("created", "cache_creation_tokens", "prompt_tokens_details"),
            ("created", "cache_write_tokens", "prompt_tokens_details"),
            ("image", "image_tokens", "input_tokens_details"),
        ):
            for count, dollars in (
                (0, "500"),
                (40, "140"),
                (50, "50"),
                (60, "50"),
                (-1, "500"),
                ("40", "500"),
                (None, "500"),
            ):
                with self.subTest(own, details=details, count=count):
                    usage = {"prompt_tokens": 50, "completion_tokens": 0, details: {name: count}}
                    found = prices.Prices(ten, one, **{own: one})
                    self.assertEqual(found.estimate(usage).scaleb(6), Decimal(dollars))
                    self.assertEqual(prices.Prices(ten, one).estimate(usage).scaleb(6), 500)
        usage = {
            "prompt_tokens": 50,
            "completion_tokens": 2,
            "prompt_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 20, "image_tokens": 20},
        }
        found = prices.Prices(ten, Decimal(1000), cached=one, created=Decimal(2), image=Decimal(3))
        self.assertEqual(found.estimate(usage).scaleb(6), 2000 + 20 + 40 + 30)
        for odd in (None, [], "x", 7):
            usage = {"prompt_tokens": 50, "completion_tokens": 0, "prompt_tokens_details": odd}
            self.assertEqual(found.estimate(usage).scaleb(6), 500)

    def test_a_price_per_call_counts_calls_and_not_tokens(self):
        for price, count, dollars in (("0.04", 1, "0.04"), ("0.027", 4, "0.108"), ("0", 3, "0")):
            found = prices.Prices(call=Decimal(price))
            self.assertEqual(found.estimate({"input_tokens": 7, "output_tokens": 9}, count), Decimal(dollars))
            self.assertTrue(found.known)
        self.assertEqual(prices.Prices(call=Decimal("0.04")).estimate({}), Decimal("0.04"))

    def test_places_are_at_least_so_many_and_never_too_few(self):
        for value, least, shown in (
            ("0.2", 4, "0.2000"),
            ("0.20000", 4, "0.2000"),
            ("0.00021880", 6, "0.0002188"),
            ("3", 0, "3"),
            ("1E+3", 2, "1000.00"),
            ("1E-12", 6, "0.000000000001"),
            ("0", 6, "0.000000"),
        ):
            with self.subTest(value):
                self.assertEqual(prices.places(Decimal(value), least), shown)

    def test_a_recorded_cost_that_was_damaged_is_none(self):
        for text in ("0.0000188000", "0", "12"):
            self.assertEqual(prices.figure(text), text)
        for text in (None, 1, 0.5, "", "free", "-1", "NaN", b"1"):
            with self.subTest(text):
                self.assertIsNone(prices.figure(text))
