"""openai: what every compatible server's replies mean, whatever they hold."""

from __future__ import annotations

import unittest
from decimal import Decimal

from alltoken_call.errors import ExitStatus
from alltoken_call.gateways import prices
from alltoken_call.gateways.delta import read_delta
from alltoken_call.gateways.figures import dollars
from alltoken_call.gateways.openai import OpenAI
from alltoken_call.gateways.refusals import meaning
from alltoken_call.request import UNANSWERED
from alltoken_call.wire import text_of

SERVER = OpenAI("https://x.test")


def chunk(choice: object, **fields: object) -> dict[str, object]:
    """A frame with one choice."""
    return {"choices": [choice], **fields}


class Refusals(unittest.TestCase):
    def test_the_http_status_decides_whatever_the_code(self):
        for http, status in {
            400: ExitStatus.REFUSED,
            401: ExitStatus.KEY,
            402: ExitStatus.CREDIT,
            403: ExitStatus.KEY,
            404: ExitStatus.REFUSED,
            409: ExitStatus.REFUSED,
            410: ExitStatus.GONE,
            422: ExitStatus.REFUSED,
            429: ExitStatus.RATE_LIMITED,
            499: ExitStatus.REFUSED,
            500: ExitStatus.GATEWAY,
            503: ExitStatus.GATEWAY,
            599: ExitStatus.GATEWAY,
        }.items():
            for document in ({}, {"error": {"code": "insufficient_balance", "type": "rate_limit_error"}}):
                with self.subTest(http, document=document):
                    error = SERVER.refusal(document, http)
                    self.assertIs(error.status, status)
                    self.assertEqual((error.http, error.sent), (http, True))

    def test_only_what_may_pass_is_passing(self):
        passing = {http for http in range(400, 600) if SERVER.refusal({}, http).passing}
        self.assertEqual(passing, {408, 425, 429, *range(500, 600)})

    def test_every_shape_of_an_envelope_is_read(self):
        for document, expected in (
            ({}, ("http_400", None, "the gateway gave no reason", False)),
            ({"error": "no"}, ("http_400", None, "no", True)),
            ({"error": ""}, ("http_400", None, "the gateway gave no reason", False)),
            ({"error": {}}, ("http_400", None, "the gateway gave no reason", False)),
            ({"error": ["no"]}, ("http_400", None, "the gateway gave no reason", False)),
            ({"error": None, "message": "no"}, ("http_400", None, "no", False)),
            ({"error": {"code": "c", "type": "t", "message": "no"}}, ("c", "t", "no", True)),
            ({"error": {"code": 402, "message": 7}}, ("402", None, "7", True)),
            (
                {"error": {"code": True, "type": [], "message": {}}},
                ("http_400", None, "the gateway gave no reason", True),
            ),
            ({"error": {"message": " "}, "code": "c", "message": "outer"}, ("c", None, "outer", True)),
            ({"code": "outer", "error": {"code": "inner"}}, ("inner", None, "the gateway gave no reason", True)),
            ({"success": False, "message": "no"}, ("http_400", None, "no", False)),
        ):
            with self.subTest(document):
                error = SERVER.refusal(document, 400)
                self.assertEqual((error.code, error.type, error.message, error.enveloped), expected)

    def test_the_request_id_of_the_envelope_goes_before_the_documents_and_the_headers(self):
        full = {
            "error": {"request_id": "inner", "x-gateway-request-id": "inner gateway"},
            "request_id": "outer",
            "x-gateway-request-id": "outer gateway",
        }
        for document, found in (
            (full, "inner"),
            (full | {"error": {}}, "outer"),
            ({"x-gateway-request-id": "outer gateway"}, "outer gateway"),
            ({"request_id": 7}, "7"),
            ({"request_id": " "}, "header"),
            ({}, "header"),
        ):
            with self.subTest(document):
                self.assertEqual(SERVER.refusal(document, 500, request_id="header").request_id, found)
        self.assertIsNone(SERVER.refusal({}, 500).request_id)

    def test_what_is_quoted_is_one_line_with_an_end_and_without_the_key(self):
        for name in ("message", "code", "type", "request_id"):
            text = "a\n[cost] $0\u2028loopback-test-key b" + "y" * 5000
            error = SERVER.refusal({"error": {name: text}}, 400, secret="loopback-test-key")
            found = getattr(error, name)
            self.assertTrue(found.startswith("a [cost] $0 [key] b"), found[:40])
            self.assertEqual(len(found), 1000)
        error = SERVER.refusal({"error": "the loopback-test-key\nis bad"}, 400, secret="loopback-test-key")
        self.assertEqual(error.message, "the [key] is bad")

    def test_each_refusal_says_what_to_do(self):
        for http, advice in {
            400: "quote the request id",
            401: "key",
            402: "top up",
            404: "alltoken-call models",
            410: "new generation",
            429: "wait",
            503: "another model",
        }.items():
            with self.subTest(http):
                self.assertIn(advice, SERVER.refusal({}, http).hint)

    def test_the_wait_that_is_asked_for_is_kept_and_told(self):
        for asked, told in ((90.0, "90 s"), (0.0, None), (None, None)):
            error = SERVER.refusal({}, 429, retry_after=asked)
            self.assertEqual(error.retry_after, asked)
            self.assertEqual("asks to wait" in error.hint, told is not None)
            self.assertIn(told or "wait", error.hint)

    def test_the_task_that_an_identical_request_has_made_is_handed_over(self):
        self.assertEqual(SERVER.refusal({"error": {"task_id": "igen_1"}}, 409).task_id, "igen_1")
        self.assertEqual(SERVER.refusal({"task_id": "igen_1"}, 409).task_id, "igen_1")
        self.assertIsNone(SERVER.refusal({"error": {"task_id": None}}, 409).task_id)

    def test_without_an_http_status_the_code_or_else_the_type_decides(self):
        for code, type_, http in (
            ("429", None, 429),
            ("402", "server_error", 402),
            ("404", None, 404),
            ("503", "billing_error", 503),
            ("rate_limited", None, 429),
            ("rate_limit_exceeded", None, 429),
            ("upstream_rate_limit", None, 429),
            ("other", "rate_limit_error", 429),
            ("40", None, 0),
            ("4020", None, 0),
            ("٤٠٢", None, 0),
            ("all_providers_failed", None, 0),
            (None, None, 0),
        ):
            with self.subTest(code=code, type=type_):
                self.assertEqual(meaning(code, type_, SERVER.slugs, SERVER.types), http)
                error = SERVER.refusal({"error": {"code": code, "type": type_}}, 0)
                self.assertIs(error.status, SERVER.refusal({}, http or 500).status)
                self.assertEqual(error.http, 0)

    def test_a_code_that_nobody_knows_means_what_its_place_makes_of_it(self):
        for otherwise, status in ((500, ExitStatus.GATEWAY), (400, ExitStatus.REFUSED)):
            error = SERVER.refusal({"error": {"code": "unheard_of"}}, 0, otherwise=otherwise)
            self.assertEqual((error.status, error.code, error.passing), (status, "unheard_of", otherwise == 500))
        self.assertEqual(SERVER.refusal({}, 0).code, "api_error")

    def test_that_all_providers_have_failed_is_known_by_its_code(self):
        for code, found in (("all_providers_failed", True), ("http_503", False), ("", False)):
            self.assertIs(SERVER.fails_everywhere(code), found)

    def test_the_request_id_is_in_either_header(self):
        for headers, found in (
            ({"x-request-id": "a"}, "a"),
            ({"x-gateway-request-id": "b"}, "b"),
            ({"x-request-id": "a", "x-gateway-request-id": "b"}, "a"),
            ({"x-request-id": ""}, None),
            ({}, None),
        ):
            with self.subTest(headers):
                self.assertEqual(SERVER.request_id(headers.get), found)


class Chat(unittest.TestCase):
    def test_a_completion_is_a_post_with_the_key_that_is_not_repeated_after_silence(self):
        request = SERVER.chat({"model": "m"})
        self.assertEqual((request.method, request.url), ("POST", "https://x.test/v1/chat/completions"))
        self.assertEqual((request.body, request.keyed, request.repeat), ({"model": "m"}, True, UNANSWERED))

    def test_text_is_a_string_or_parts_and_a_refusal_is_text(self):
        for content, text in (
            ("Grüße\0", "Grüße\0"),
            ("", ""),
            (None, ""),
            (7, ""),
            ({"text": "a"}, ""),
            ([{"type": "text", "text": "a"}, {"text": "b"}, {"text": 7}, {"type": "image_url"}, "c", None], "ab"),
        ):
            for place in ("delta", "message"):
                with self.subTest(content, place=place):
                    self.assertEqual(read_delta(chunk({place: {"content": content}})).text, text)
        self.assertEqual(read_delta(chunk({"delta": {"content": None, "refusal": "no"}})).text, "no")
        self.assertEqual(read_delta(chunk({"delta": {"content": "a", "refusal": "no"}})).text, "ano")

    def test_reasoning_has_two_names(self):
        for fields, text in (
            ({"reasoning_content": "a"}, "a"),
            ({"reasoning": "b"}, "b"),
            ({"reasoning_content": "a", "reasoning": "b"}, "a"),
            ({"reasoning_content": None, "reasoning": "b"}, "b"),
            ({"reasoning": {"text": "b"}}, ""),
            ({}, ""),
        ):
            with self.subTest(fields):
                self.assertEqual(read_delta(chunk({"delta": fields})).reasoning, text)

    def test_calls_are_the_objects_of_a_list(self):
        call = {"index": 0, "function": {"name": "f"}}
        for calls, found in (([call, "odd", None, call], [call, call]), (call, []), (None, []), ([], [])):
            with self.subTest(calls):
                self.assertEqual(read_delta(chunk({"delta": {"tool_calls": calls}})).calls, found)

    def test_the_reason_to_finish_is_a_word(self):
        for reason, found in (("stop", "stop"), ("odd", "odd"), ("null", None), (None, None), ("", None), (7, None)):
            with self.subTest(reason):
                self.assertEqual(read_delta(chunk({"delta": {}, "finish_reason": reason})).finish, found)

    def test_only_the_first_choice_counts(self):
        second, first = {"index": 1, "delta": {"content": "b"}}, {"index": 0, "delta": {"content": "a"}}
        for choices, text in (
            ([second, first], "a"),
            ([first, second], "a"),
            ([second], ""),
            ([{"delta": {"content": "c"}}, first], "c"),
            (["odd", None, first], "a"),
            ([], ""),
        ):
            with self.subTest(choices):
                delta = read_delta({"choices": choices})
                self.assertEqual((delta.text, delta.understood), (text, True))

    def test_what_is_not_of_this_protocol_is_not_understood(self):
        for frame in ({}, {"choices": None}, {"choices": {}}, {"choices": "x"}, {"type": "ping"}, {"object": "list"}):
            with self.subTest(frame):
                delta = read_delta(frame)
                self.assertEqual((delta.understood, delta.failed, delta.text), (False, False, ""))

    def test_an_error_in_a_frame_is_one_whatever_its_shape(self):
        for frame in (
            {"error": {"code": "x"}},
            {"error": "no"},
            {"success": False},
            chunk({"delta": {}}, error={"a": 1}),
        ):
            with self.subTest(frame):
                self.assertTrue(read_delta(frame).failed)
        for frame in ({"error": None}, {"error": {}}, {"success": True}, {"success": None}, {"success": 0}):
            with self.subTest(frame):
                self.assertFalse(read_delta(frame).failed)

    def test_model_request_id_and_usage_are_taken_where_they_have_the_right_type(self):
        delta = read_delta({"model": "m-1", "x-gateway-request-id": "req_1", "usage": {"prompt_tokens": 1}})
        self.assertEqual((delta.model, delta.request_id, delta.usage), ("m-1", "req_1", {"prompt_tokens": 1}))
        for value in (None, "", 7, [], True):
            delta = read_delta({"model": value, "x-gateway-request-id": value, "usage": value})
            self.assertEqual((text_of(delta.model), delta.request_id, delta.usage), (None, None, None))


class Costs(unittest.TestCase):
    def test_a_decimal_string_is_kept_to_the_digit(self):
        for figure in ("0", "0.0000188000", "12", "1" * 20 + "." + "3" * 30, "007.10"):
            with self.subTest(figure):
                cost = dollars(figure)
                self.assertEqual((cost.usd, cost.source), (figure, "gateway"))
                self.assertEqual(prices.amount(figure), Decimal(figure))  # so that sums count it

    def test_a_number_becomes_a_decimal_string_without_an_exponent(self):
        for figure, usd in (
            (0, "0"),
            (3, "3"),
            (0.2, "0.2"),
            (1.88e-05, "0.0000188"),
            ("1e-7", "0.0000001"),
            (" 2 ", "2"),
        ):
            with self.subTest(figure):
                cost = dollars(figure)
                self.assertEqual((cost.usd, cost.source), (usd, "gateway"))

    def test_anything_else_is_not_an_amount(self):
        for figure in (
            None,
            True,
            "",
            "free",
            "-1",
            -0.1,
            "NaN",
            float("inf"),
            "1_0",
            "٣",
            [],
            {},
            "1" * 50,
            "$1",
            "1e99",
        ):
            with self.subTest(figure):
                self.assertIsNone(dollars(figure))

    def test_a_figure_in_the_usage_block_is_the_cost(self):
        for usage, usd in (
            ({"cost": "0.25"}, "0.25"),
            ({"cost": 0.25, "total_tokens": 3}, "0.25"),
            ({"cost": None}, None),
            ({"cost": "odd"}, None),
            ({"total_tokens": 3}, None),
            ({}, None),
            (None, None),
        ):
            with self.subTest(usage):
                cost = SERVER.usage_cost(usage)
                self.assertEqual(cost and cost.usd, usd)

    def test_a_comment_is_about_something_else_unless_the_dialect_knows_it(self):
        self.assertIsNone(SERVER.comment_cost({"cost": "0.25"}, None))
