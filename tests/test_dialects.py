"""What differs by dialect, row by row: chats, errors, costs, images at once, videos, prices, at new-api and the others."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from .gateway import DONE, Step, delta, event, frames, reply, stream
from .relay import HTML, RELAY_KEY
from .relay_support import CHAT, RelayCase

MODELS = {
    "new-api": {
        "chat": "claude-sonnet-4-6",
        "image": "wan2.6-t2i",
        "painter": "gemini-3.1-flash-image",
        "video": "wan2.6-t2v",
    },
    "openai": {"chat": "gpt-5.4-mini", "image": "dall-e-3", "painter": None, "video": "sora-2"},
    "openrouter": {
        "chat": "openai/gpt-5.4-mini",
        "image": None,
        "painter": "google/gemini-3.1-flash-image",
        "video": None,
    },
    "litellm": {
        "chat": "gpt-5.4-mini",
        "image": "dall-e-3",
        "painter": "gemini/gemini-3.1-flash-image",
        "video": "sora-2",
    },
}
WHOLE = "This is the loopback relay, which echoes: hi"


def failing(status: int, code: str, message: str = "no", *, shape: str = "full") -> Step:
    """A step: one of new-api's error shapes."""
    documents: dict[str, Any] = {
        "full": {"error": {"message": message, "type": "new_api_error", "param": "", "code": code}},
        "early": {"error": {"message": message, "type": "new_api_error", "code": code}},
        "task": {"code": code, "message": message, "data": None},
    }
    return reply(status, documents[shape])


class Chats:
    """What holds for each dialect."""

    dialect: str

    def ask(self, *argv: str, **options: Any) -> Any:
        self.relay.requests.clear()
        return self.call("chat", "-m", MODELS[self.dialect]["chat"], *argv, "hi", **options)

    def test_a_streamed_answer_and_one_in_one_piece(self):
        for argv in ((), ("--no-stream",)):
            result = self.ask(*argv)
            self.assertQuietly(0, result)
            self.assertEqual(result.out.decode(), f"{WHOLE}\n")
            self.assertIn("[usage] prompt=5 completion=8 total=13", result.err)
            self.assertEqual(self.paths(), [CHAT])
            self.assertEqual(self.rows()[-1]["exit_status"], 0)

    def test_a_document_names_the_gateway_and_the_request(self):
        document = self.ask("--json").document
        self.assertTrue(document["ok"])
        self.assertEqual((document["gateway"], document["text"], document["finish_reason"]), (self.name, WHOLE, "stop"))
        self.assertEqual(document["served_model"], MODELS[self.dialect]["chat"])

    def test_reasoning_is_taken_from_wherever_it_is(self):
        result = self.ask("--json", "-p", "reasoning_effort=low")
        self.assertEqual(result.document["reasoning"], "An echo will do.\n")

    def test_what_breaks_off_is_status_9_with_the_text_kept(self):
        for ending in ("cut", "error", "bare", "restart"):
            with self.subTest(ending):
                self.relay.ending = ending
                result = self.ask("--json", "--fallback", "none")
                self.assertQuietly(9, result)
                self.assertEqual(result.document["text"], "This is the ")
                self.assertEqual(self.posts(), 1)
                if ending in ("error", "bare"):
                    self.assertIn("the upstream failed", result.document["error"]["message"])

    def test_an_error_before_any_text_has_the_status_of_its_code(self):
        self.relay.ending = "late"
        result = self.ask("--fallback", "none")
        self.assertQuietly(5, result)
        self.assertIn("the upstream failed", result.err)
        for code, status in ((401, 4), (402, 6), (429, 7), (503, 5)):
            error = {"error": {"message": "no", "code": code}}
            self.relay.on(CHAT, stream(b": PING\n\n", event(error)))
            self.assertQuietly(status, self.ask("--fallback", "none"))
            self.assertEqual(self.posts(), 1)  # an answer has begun

    def test_an_error_in_one_piece_with_status_200(self):
        for document in ({"error": "Unexpected endpoint"}, {"success": False, "message": "no such model"}):
            self.relay.on(CHAT, reply(200, document))
            for argv in ((), ("--no-stream",)):
                self.assertQuietly(1, self.ask(*argv))
        self.relay.ending = "error"
        self.relay.on(CHAT)

    def test_pings_and_comments_say_nothing(self):
        pieces = (b": PING\n\n", frames("a"), b": PING\n\n", b":\n\n", DONE)
        self.relay.on(CHAT, stream(*pieces))
        self.assertEqual(self.ask().out, b"a\n")

    def test_a_finish_reason_is_enough_without_done(self):
        self.relay.on(CHAT, stream(frames("a")))
        result = self.ask()
        self.assertQuietly(0, result)
        self.assertEqual(result.out, b"a\n")

    def test_done_alone(self):
        self.relay.on(CHAT, stream(event(delta("a", role="assistant")), DONE))
        self.assertQuietly(9 if self.dialect == "new-api" else 0, self.ask())

    def test_a_second_role_alone_is_no_second_answer(self):
        again = delta("b", role="assistant")  # some servers repeat the role in each chunk, with the same id
        self.relay.on(CHAT, stream(event(delta("a", role="assistant")), event(again), frames("c"), DONE))
        result = self.ask()
        self.assertQuietly(0, result)
        self.assertEqual(result.out, b"abc\n")

    def test_odd_streams_of_real_servers(self):
        first = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": None}, "finish_reason": ""}]}
        parts = {"choices": [{"index": 0, "delta": {"content": [{"type": "text", "text": "a"}]}}], "usage": None}
        bare = [b"data:" + json.dumps(frame).encode() + b"\r\n\r\n" for frame in (first, parts, delta("b", "stop"))]
        for last in ({"choices": [], "usage": {"prompt_tokens": 1}}, {"usage": {"prompt_tokens": 1}}):
            self.relay.on(CHAT, stream(*bare, event(last), DONE))
            result = self.ask("--json")
            self.assertQuietly(0, result)
            self.assertEqual((result.document["text"], result.document["usage"]), ("ab", {"prompt_tokens": 1}))

    def test_a_refused_field_is_left_out_once_for_each(self):
        self.relay.refuses = {"stream_options": 422, "max_tokens": 400, "temperature": 400}
        result = self.ask("--max-tokens", "7", "-t", "0.5")
        self.assertQuietly(0, result)
        self.assertEqual(self.posts(), 4)
        body = self.body_of()
        self.assertEqual((body["max_completion_tokens"], body["stream"]), (7, True))
        self.assertEqual({"stream_options", "max_tokens", "temperature"} & set(body), set())
        for name in self.relay.refuses:
            self.assertIn(f"refuses {name}", result.err)

    def test_other_refusals_are_not_repeated(self):
        for message in ("max_tokens is too large: 9999999", "unknown parameter: 'top_k'", "no"):
            for status in (400, 422):
                self.relay.on(CHAT, reply(status, {"error": {"message": message, "code": None}}))
                self.assertQuietly(1, self.ask("--max-tokens", "7", "-p", "top_k=1"))
                self.assertEqual(self.posts(), 1)

    def test_a_field_that_is_refused_again_is_not_left_out_twice(self):
        self.relay.on(CHAT, reply(400, {"error": {"message": "Unsupported parameter: 'max_tokens'"}}))
        self.assertQuietly(1, self.ask("--max-tokens", "7"))
        self.assertEqual(self.posts(), 2)

    def test_a_web_page_is_a_wrong_root(self):
        page = {"Content-Type": "text/html"}
        for status in (200, 404):
            for request in (CHAT, "GET /v1/models"):
                self.relay.on(request, reply(status, HTML, page))
            for argv in (("chat", "-m", "x", "hi"), ("models",)):
                result = self.call(*argv)
                self.assertQuietly(3, result)
                self.assertIn("BASE_URL", result.err)

    def test_thinking_and_search_are_refused_with_what_could_be_sent(self):
        result = self.ask("--thinking")
        self.assertQuietly(2, result)
        self.assertIn("-p reasoning_effort=", result.err)
        result = self.call("search", "-m", MODELS[self.dialect]["chat"], "news")
        self.assertQuietly(2, result)
        self.assertRegex(result.err, r"chat .*-p ")
        self.assertEqual(self.paths(), [])

    def test_the_statuses_of_http(self):
        for status, expected in (
            (400, 1),
            (401, 4),
            (402, 6),
            (403, 4),
            (404, 1),
            (413, 1),
            (422, 1),
            (500, 5),
            (502, 5),
        ):
            for body in (b"", b'{"error":"no"}', b'{"detail":"no"}'):
                self.relay.on(CHAT, reply(status, body))
                result = self.ask("--json", "--fallback", "none")
                self.assertQuietly(expected, result)
                self.assertEqual(self.posts(), 1)
                self.assertEqual(result.document["cost"]["source"], "none" if status < 500 else None)

    def test_too_many_requests_without_a_word(self):
        self.relay.on(CHAT, reply(429, b""))
        result = self.ask("--json")
        self.assertQuietly(7, result)
        self.assertEqual((self.posts(), len(result.sleeps)), (3, 2))
        self.assertEqual(result.document["error"]["status"], 429)
        self.relay.on(CHAT, reply(429, b"", {"Retry-After": "9"}), self.relay_answers)
        result = self.ask()
        self.assertQuietly(0, result)
        self.assertEqual(result.sleeps, [9.0])

    @staticmethod
    def relay_answers(call: Any) -> None:
        call.gateway._route(call)(call)

    def test_models_are_one_list(self):
        names = self.call("models").out.decode().split()
        self.assertIn(MODELS[self.dialect]["chat"], names)
        everything = self.call("models", "--type", "all").out.decode().split()
        self.assertLessEqual(set(names), set(everything))
        self.assertEqual(set(self.paths()), {"GET /v1/models"})


class NewApiChats(Chats, RelayCase):
    def test_an_error_in_one_piece_after_all(self):
        self.relay.ending = "error"
        result = self.ask("--no-stream")
        self.assertQuietly(5, result)
        self.assertIn("bad_response_body", result.err)

    def test_done_after_a_cut_upstream_is_a_cut_and_billed(self):
        self.relay.ending = "cut"
        result = self.ask("--json")
        self.assertQuietly(9, result)
        self.assertEqual(result.document["usage"]["total_tokens"], 13)  # the relay's own count
        self.assertEqual(result.document["cost"], {"usd": None, "source": None})

    def test_each_code_has_its_status_and_only_what_may_pass_is_repeated(self):
        for http, code, status, posts in (
            (401, "", 4, 1),
            (403, "", 4, 1),
            (403, "access_denied", 4, 1),
            (403, "insufficient_user_quota", 6, 1),
            (403, "pre_consume_token_quota_failed", 6, 1),
            (503, "model_not_found", 1, 1),
            (503, "system_cpu_overloaded", 5, 3),
            (500, "sensitive_words_detected", 1, 1),
            (500, "prompt_blocked", 1, 1),
            (500, "violation_fee.csam", 1, 1),
            (500, "invalid_request", 1, 1),
            (500, "convert_request_failed", 1, 1),
            (500, "do_request_failed", 5, 1),
            (500, "bad_response_status_code", 5, 1),
            (400, "model_price_error", 1, 1),
            (413, "read_request_body_failed", 1, 1),
            (429, "rate_limit", 7, 3),
        ):
            for shape in ("full", "early"):
                with self.subTest(code, shape=shape):
                    self.relay.on(CHAT, failing(http, code, shape=shape))
                    result = self.ask("--json", "--fallback", "none")
                    self.assertQuietly(status, result)
                    self.assertEqual(self.posts(), posts)
                    self.assertEqual(result.document["error"]["code"], code or f"http_{http}")
                    self.assertEqual(result.document["cost"]["source"], "none" if http < 500 else None)

    def test_a_code_counts_where_the_http_status_says_200(self):
        for code, status in (("insufficient_user_quota", 6), ("model_not_found", 1), ("sensitive_words_detected", 1)):
            error = {"error": {"message": "no", "type": "new_api_error", "code": code}}
            for step in (reply(200, error), stream(event(error), DONE)):
                self.relay.on(CHAT, step)
                self.assertQuietly(status, self.ask("--fallback", "none"))

    def test_the_loopback_relays_own_refusals(self):
        for model, status in (("nothing", 1), ("unpriced-model", 1), ("gpt-image-2", 1)):
            self.assertQuietly(status, self.call("chat", "-m", model, "hi"))
        self.assertQuietly(1, self.call("chat", "-m", "claude-sonnet-4-6", "a sensitive-word"))
        self.relay.balance = 0
        self.assertQuietly(6, self.ask())
        self.environ["ALLTOKEN_RELAY_API_KEY"] = RELAY_KEY[:-1]  # not this relay's, but nobody else's either
        result = self.ask()
        self.assertEqual(result.status, 4)
        self.relay.keys = [key for key in self.relay.keys if key == f"Bearer {RELAY_KEY}"]

    def test_the_header_has_the_request_id(self):
        self.relay.on(CHAT, failing(500, "do_request_failed", "no (request id: upstream-1)"))
        result = self.ask("--json")
        self.assertRegex(result.document["request_id"], r"^\d+Loopback$")
        self.assertIn(f"request_id: {result.document['request_id']}", result.err)
        inner = {"error": {"message": "no", "request_id": "upstream-2", "code": "do_request_failed"}}
        self.relay.on(CHAT, reply(500, inner))
        self.assertRegex(self.ask("--json").document["request_id"], r"^\d+Loopback$")
        self.assertRegex(self.rows()[-1]["request_id"], r"^\d+Loopback$")

    def test_figures_of_the_operators_upstream_are_not_believed(self):
        for argv in ((), ("--no-stream",)):
            result = self.ask(*argv, "--json")
            self.assertEqual(result.document["usage"]["cost"], 99.5)
            self.assertEqual(result.document["cost"], {"usd": None, "source": None})
            self.assertIn("[cost] unknown until: alltoken-call cost", result.err)

    def test_a_key_in_an_old_error_is_not_shown(self):
        self.relay.on(CHAT, failing(401, "", f"Invalid token {RELAY_KEY}"))
        self.assertQuietly(4, self.ask())


class OpenAIChats(Chats, RelayCase):
    dialect = "openai"

    def cost_of(self, usage: dict[str, Any], headers: dict[str, str] | None = None) -> tuple[str | None, str | None]:
        """The cost of an answer with such a usage block."""
        message = {"role": "assistant", "content": "a"}
        document = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}
        self.relay.on(CHAT, reply(200, document, headers))
        found = self.ask("--no-stream", "--json").document["cost"]
        self.assertEqual((found["usd"], found["source"]), self.cost())
        return found["usd"], found["source"]

    def test_the_first_of_the_figures_counts(self):
        used = {"prompt_tokens": 5, "completion_tokens": 2}
        header = {"x-litellm-response-cost": "0.0003"}
        ticks, cost = {"cost_in_usd_ticks": 158500}, {"cost": 0.00014}
        self.assertEqual(self.cost_of(used | ticks | cost, header), ("0.0000158500", "gateway"))
        self.assertEqual(self.cost_of(used | cost, header), ("0.00014", "gateway"))
        self.assertEqual(self.cost_of(used | {"cost": "0.000140"}, header), ("0.000140", "gateway"))
        self.assertEqual(self.cost_of(used | {"cost": {"total_cost": 0.006, "currency": "USD"}}), ("0.006", "gateway"))
        self.assertEqual(self.cost_of(used, header), ("0.0003", "gateway"))
        self.assertEqual(self.cost_of(used), (None, None))
        self.assertEqual(self.cost_of(used | {"cost": 1.4e-07}), ("0.00000014", "gateway"))

    def test_zero_with_tokens_is_unknown(self):
        used = {"prompt_tokens": 5, "completion_tokens": 2}
        for zero in ({"cost": 0}, {"cost": "0.0"}, {"cost_in_usd_ticks": 0}, {"cost": {"total_cost": 0}}):
            self.assertEqual(self.cost_of(used | zero), (None, None))
        self.assertEqual(self.cost_of(used, {"x-litellm-response-cost": "0.0"}), (None, None))

    def test_what_is_not_an_amount_is_unknown(self):
        used = {"prompt_tokens": 5}
        for odd in (-1, True, "free", [], {"total_cost": None}, float("inf"), "1e400"):
            self.assertEqual(self.cost_of(used | {"cost": odd})[1], None)

    def test_without_a_figure_it_is_unknown_without_a_promise(self):
        result = self.ask()
        self.assertTrue(result.err.endswith("[cost] unknown\n"), result.err)

    def test_a_known_local_server_has_no_cost(self):
        local = self.settings("ollama", self.relay)
        result = self.ask("--gateway", "ollama", "--json", **local)
        self.assertEqual(result.document["cost"], {"usd": None, "source": "local"})
        self.assertNotIn("[cost]", result.err)
        self.assertEqual(self.cost(), (None, "local"))


class OpenRouterChats(Chats, RelayCase):
    dialect = "openrouter"
    name = "openrouter"

    def test_the_figure_is_in_the_answer(self):
        expected = (5 * Decimal("0.20") + 8 * Decimal("1.25")) / 10**6
        for argv in ((), ("--no-stream",)):
            result = self.ask(*argv, "--json")
            self.assertEqual(result.document["cost"], {"usd": f"{expected:f}", "source": "gateway"})
            self.assertRegex(result.document["request_id"], r"^gen-\d+Loopback$")


class LiteLLMChats(Chats, RelayCase):
    dialect = "litellm"

    def test_the_figure_is_in_a_header_or_in_the_stream(self):
        expected = (5 * Decimal("0.20") + 8 * Decimal("1.25")) / 10**6
        self.assertEqual(self.ask("--no-stream", "--json").document["cost"]["usd"], f"{expected:f}")
        document = self.ask("--json").document
        self.assertEqual(document["cost"], {"usd": None, "source": None})
        self.assertRegex(document["request_id"], r"^\d+Loopback$")
        self.relay.stream_cost = True
        self.assertEqual(self.ask("--json").document["cost"], {"usd": f"{expected:f}", "source": "gateway"})


class NewApiPrices(RelayCase):
    def test_the_price_list_is_asked_for_without_a_key_and_labelled(self):
        result = self.call("models", "-l", "--type", "all")
        self.assertQuietly(0, result)
        table = result.out.decode()
        self.assertRegex(table, r"claude-haiku-4-5-20251001 +\$0\.1800 +\$0\.9000")
        self.assertRegex(table, r"gpt-image-2 +a call +\$0\.0100")
        self.assertIn("group=default", result.err)
        self.assertEqual(self.paths(), ["GET /api/pricing"])
        self.assertNotIn("Authorization", self.relay.requests[0].headers)
        self.assertQuietly(0, self.call("models", "-l", ALLTOKEN_RELAY_API_KEY=None, ALLTOKEN_RELAY_API_KEY_FILE=None))

    def test_the_default_groups_ratio_counts(self):
        self.relay.groups["default"] = 0.5
        result = self.call("cost", "claude-sonnet-4-6", "1000000", "1000000", "--json")
        self.assertQuietly(0, result)
        document = result.document
        self.assertEqual(
            (Decimal(document["input_price"]), Decimal(document["output_price"])), (Decimal("0.26"), Decimal("1.3"))
        )
        self.assertEqual((Decimal(document["cost"]["usd"]), document["cost"]["source"]), (Decimal("1.56"), "estimate"))

    def test_without_the_default_group_the_plain_price_counts(self):
        self.relay.groups = {"vip": 0.5}
        result = self.call("cost", "claude-sonnet-4-6", "1000000", "0", "--json")
        self.assertQuietly(0, result)
        self.assertEqual(Decimal(result.document["input_price"]), Decimal("0.52"))

    def test_a_price_per_call_and_no_price(self):
        result = self.call("cost", "gpt-image-2", "10", "272", "--json")
        self.assertEqual(Decimal(result.document["cost"]["usd"]), Decimal("0.01"))
        result = self.call("cost", "unpriced-model", "10", "272")
        self.assertQuietly(1, result)
        self.relay.on("GET /api/pricing", reply(401, {"success": False, "message": "no"}))
        self.assertQuietly(4, self.call("models", "-l"))

    def test_what_is_left_of_the_key(self):
        self.relay.record("x", "gpt-image-2", 250_000, {})
        result = self.call("cost", "--balance", "--json")
        self.assertQuietly(0, result)
        found = {label: Decimal(usd) for label, usd in result.document["balance"].items()}
        self.assertEqual(found, {"left": Decimal("9.5"), "used": Decimal("0.5"), "granted": Decimal(10)})
        self.relay.unit = 1_000_000  # as /api/status says
        self.assertEqual(Decimal(self.call("cost", "--balance", "--json").document["balance"]["used"]), Decimal("0.25"))
        self.assertEqual(set(self.paths()), {"GET /api/usage/token/", "GET /api/status"})

    def test_a_key_without_a_limit(self):
        data = {"total_granted": 0, "total_used": 500, "total_available": 0, "unlimited_quota": True}
        self.relay.on("GET /api/usage/token/", reply(200, {"code": True, "data": data}))
        result = self.call("cost", "--balance")
        self.assertQuietly(0, result)
        self.assertRegex(result.out.decode(), r"left: +no limit\nused: +\$0\.001000\n\Z")

    def test_too_many_reads_are_status_7(self):
        self.relay.limit = 0
        self.assertQuietly(7, self.call("cost", "--balance"))

    def test_kinds_that_entries_tell(self):
        painters = self.call("models", "--type", "image").out.decode().split()
        self.assertIn("gpt-image-1.5-vvip", painters)
        self.assertNotIn("claude-sonnet-4-6", painters)
        chats = self.call("models").out.decode().split()
        self.assertIn("wan2.6-t2i", chats)  # it does not say what it is
        self.assertNotIn("gpt-image-1.5-vvip", chats)


class OpenRouterPrices(RelayCase):
    dialect = "openrouter"
    name = "openrouter"

    def test_dollars_per_token_are_shown_per_million(self):
        result = self.call("models", "-l")
        self.assertQuietly(0, result)
        self.assertRegex(result.out.decode(), r"openai/gpt-5\.4-mini +\$0\.2000 +\$1\.2500 +128,000")
        result = self.call("cost", "openai/gpt-5.4-mini", "1000000", "0", "--json")
        self.assertEqual(Decimal(result.document["cost"]["usd"]), Decimal("0.2"))
        self.assertEqual(self.call("models", "--type", "image").out.decode().split(), ["google/gemini-3.1-flash-image"])

    def test_what_is_left_of_the_key(self):
        self.relay.record("x", "openai/gpt-5.4-mini", 500_000, {})
        found = self.call("cost", "--balance", "--json").document["balance"]
        self.assertEqual({label: Decimal(usd) for label, usd in found.items()}, {"left": 9, "used": 1, "granted": 10})
        self.assertEqual(self.paths(), ["GET /v1/key"])
        self.relay.on("GET /v1/key", reply(200, {"data": {"usage": 1, "limit": None, "limit_remaining": None}}))
        result = self.call("cost", "--balance")
        self.assertQuietly(0, result)
        self.assertRegex(result.out.decode(), r"left: +no limit")


class OtherPrices(RelayCase):
    dialect = "litellm"

    def test_lists_without_prices(self):
        result = self.call("models", "-l")
        self.assertQuietly(0, result)
        self.assertRegex(result.out.decode(), r"gpt-5\.4-mini +- +-")
        self.assertQuietly(1, self.call("cost", "gpt-5.4-mini", "1", "1"))
        self.assertQuietly(1, self.call("cost", "nothing", "1", "1"))

    def test_there_is_no_balance_to_ask_for(self):
        result = self.call("cost", "--balance")
        self.assertQuietly(1, result)
        self.assertIn(self.relay.url, result.err)
        self.assertQuietly(1, self.call("cost", "--balance", ALLTOKEN_GATEWAY="alltoken"))
        self.assertEqual((self.paths(), self.gateway.requests), ([], []))
