"""pricing: a price that cannot be found is unknown, never zero."""

import unittest
from decimal import Decimal
from unittest import mock

from alltoken_call.errors import ApiError, CallError
from alltoken_call.gateways import pricing


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
            ("0." + "3" * 38, "0." + "3" * 38),
        ):
            with self.subTest(value):
                self.assertEqual(pricing.plain(pricing.amount(value)), number)

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
            "1e30",
            "1e-30",
            "1e999999999999999999999",
            "0e30",
            "0." + "3" * 39,
        ):
            with self.subTest(value):
                self.assertIsNone(pricing.amount(value))


class Catalog(unittest.TestCase):
    def test_a_list_may_be_bare_or_wrapped(self):
        one, two = {"id": "a"}, {"id": "b"}
        for document in ([one, two], {"data": [one, "odd", None, two]}, {"data": {"data": [one, two]}}):
            with self.subTest(document):
                self.assertEqual(pricing.entries(document), [one, two])
        for document in (None, {}, "ab", 3, {"data": None}, {"models": [one]}):
            with self.subTest(document):
                self.assertEqual(pricing.entries(document), [])

    def test_the_id_stands_under_one_of_four_names_in_this_order(self):
        entry = {"id": "a", "model_id": "b", "model_path": "c", "name": "d"}
        for name, value in tuple(entry.items()):
            with self.subTest(name):
                self.assertEqual(pricing.model_id(entry), value)
                entry[name] = None
        self.assertIsNone(pricing.model_id(entry))
        self.assertEqual(pricing.model_id({"id": 7, "name": "d"}), "d")

    def test_prices_are_found_under_every_known_name_and_wrapping(self):
        for entry in (
            {"input_price": 2, "output_price": "3"},
            {"prompt_price": "2", "completion_price": 3},
            {"data": {"input_price": 2, "output_price": 3}},
            {"pricing": {"prompt_price": 2, "completion_price": 3}},
            {"data": {"pricing": {"input_price": 2, "output_price": 3}}},
            {"input_price": 2, "pricing": {"output_price": 3}},
            {"input_price": None, "prompt_price": 2, "output_price": "?", "data": {"output_price": 3}},
            {"input_price": 2, "prompt_price": 9, "output_price": 3, "pricing": {"output_price": 9}},
            {"pricing": {"input_price": 2, "output_price": 3}, "data": {"input_price": 9, "output_price": 9}},
            {"pricing": "none", "data": {"pricing": None, "input_price": 2, "output_price": 3}},
        ):
            with self.subTest(entry):
                self.assertEqual(pricing.prices(entry), (2, 3))

    def test_a_price_of_zero_is_free_and_a_missing_one_unknown(self):
        self.assertEqual(pricing.prices({"input_price": 0, "output_price": "0.0"}), (0, 0))
        self.assertEqual(pricing.prices({"input_price": 0}), (0, None))
        self.assertEqual(pricing.prices({"output_price": 1, "input_price": None}), (None, 1))
        self.assertEqual(pricing.prices({}), (None, None))

    def test_the_catalog_is_read_from_its_public_place_by_id(self):
        class Transport:
            @staticmethod
            def get(path):
                return {"data": {"/api-account/models": [{"id": "a", "input_price": 1}, {"no": "id"}]}[path]}

        self.assertEqual(pricing.catalog(Transport()), {"a": {"id": "a", "input_price": 1}})

    def test_one_model_is_asked_for_by_one_segment_and_may_be_wrapped_or_unknown(self):
        for answer, found in (({"id": "a/b"}, {"id": "a/b"}), ({"data": {"id": "a/b"}}, {"id": "a/b"})):
            transport = mock.Mock(**{"get.return_value": answer})
            self.assertEqual(pricing.entry(transport, "a/b"), found)
            transport.get.assert_called_once_with("/api-account/models/a%2Fb")
        for http, code in ((404, "unknown_model"), (500, "http_500")):
            transport = mock.Mock(**{"get.side_effect": ApiError("no", http=http)})
            with self.subTest(http), self.assertRaises(CallError) as caught:
                pricing.entry(transport, "a")
            self.assertEqual(caught.exception.code, code)


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
                total = pricing.total(tokens, tuple(map(Decimal, per_million)))
                self.assertEqual(total, Decimal(dollars))
                self.assertNotIn("E", pricing.plain(total))
