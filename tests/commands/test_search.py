"""search: only models that search are asked, and only with enable_search."""

from __future__ import annotations

import unittest
from typing import Any

from ..gateway import CHAT, COST, DONE, frames, refuse, reply, stream
from ..harness import Case, Result

VERIFIED = (
    "deepseek-v4-pro",
    "deepseek-v3.2",
    "qwen3.6-flash",
    "qwen3.6-max-preview",
    "qwen3.6-plus",
    "qwen3.6-27b",
)
OTHERS = (
    "gpt-5.4-mini",
    "claude-sonnet-4-6",
    "gemini-3-flash-preview",
    "glm-5.1",
    "kimi-k2.6",
    "minimax-m2.7",
    "deepseeker-1.0",
    "not-deepseek-v3",
    "qwenish-2.0",
    "3.6-qwen",
    "qwq-32b",
    "通义",
)
FAILED = refuse(503, "all_providers_failed")
FIELDS = ("text", "reasoning", "tool_calls", "finish_reason", "served_model", "steps")
LIST = "GET /v1/models"
CATALOG = "GET /api-account/models"


class SearchCase(Case):
    """A test that searches."""

    def setUp(self) -> None:
        super().setUp()
        self.gateway.on(CHAT, stream(frames("found"), DONE, COST))

    def search(self, *argv: str, **options: Any) -> Result:
        """Run `search` here."""
        return self.call("search", *argv, **options)

    def asked_for(self) -> dict[str, Any]:
        """The body of the one completion that was asked for."""
        self.assertEqual([f"{one.method} {one.path}" for one in self.gateway.requests], [CHAT])
        return self.gateway.requests.pop().json

    def tried(self) -> list[str]:
        """The models that were asked, in turn."""
        return [one.json["model"] for one in self.gateway.requests if f"{one.method} {one.path}" == CHAT]


class Requests(SearchCase):
    def test_it_streams_with_enable_search_and_600_tokens(self):
        result = self.search("what", "is new?")
        self.assertQuietly(0, result)
        self.assertEqual(result.out, b"found\n")
        self.assertEqual(
            result.err,
            "[usage] prompt=19 completion=12 total=31 model=deepseek-v4-pro\n[cost] $0.0000188000 (gateway)\n",
        )
        expected = {
            "model": "deepseek-v4-pro",
            "messages": [{"role": "user", "content": "what is new?"}],
            "enable_search": True,
            "max_tokens": 600,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        self.assertEqual(self.asked_for(), expected)

    def test_options_change_the_request(self):
        for argv, environ, changed in (
            (("--max-tokens", "50"), {}, {"max_tokens": 50}),
            (("-m", "qwen3.6-plus"), {}, {"model": "qwen3.6-plus"}),
            ((), {"ALLTOKEN_SEARCH_MODEL": "deepseek-v3.2"}, {"model": "deepseek-v3.2"}),
            (("-m", "qwen3.6-plus"), {"ALLTOKEN_SEARCH_MODEL": "deepseek-v3.2"}, {"model": "qwen3.6-plus"}),
            (("-p", "top_p=0.5"), {}, {"top_p": 0.5}),
        ):
            with self.subTest(argv, environ=environ):
                self.assertQuietly(0, self.search(*argv, "q", **environ))
                body = self.asked_for()
                self.assertEqual({name: body[name] for name in changed}, changed)
                self.assertIs(body["enable_search"], True)

    def test_in_one_piece_it_asks_for_no_stream(self):
        answer = {"choices": [{"message": {"content": "found"}, "finish_reason": "stop"}]}
        self.gateway.on(CHAT, reply(200, answer))
        result = self.search("--no-stream", "q")
        self.assertQuietly(0, result)
        self.assertEqual(result.out, b"found\n")
        body = self.asked_for()
        self.assertEqual((body["stream"], body["enable_search"], body["max_tokens"]), (False, True, 600))

    def test_the_first_word_is_never_a_model(self):
        self.assertQuietly(0, self.search("qwen3.6-plus", "release date"))
        body = self.asked_for()
        self.assertEqual(
            (body["model"], body["messages"][0]["content"]), ("deepseek-v4-pro", "qwen3.6-plus release date")
        )

    def test_stdin_is_read_as_in_chat(self):
        for argv, stdin, query in (
            (("-",), b"from stdin\n", "from stdin"),
            (("about", "-"), b"this", "about this"),
            ((), b"only stdin", "only stdin"),
            (("words",), b"not a file", "words"),
        ):
            with self.subTest(argv):
                self.assertQuietly(0, self.search(*argv, stdin=stdin))
                self.assertEqual(self.asked_for()["messages"][0]["content"], query)

    def test_an_empty_query_or_a_bad_option_is_status_2_and_not_sent(self):
        for argv in (
            (),
            ("",),
            (" \n",),
            ("--max-tokens", "0", "q"),
            ("--max-tokens", "many", "q"),
            ("-p", "model=x", "q"),
            ("--system", "x", "q"),
        ):
            with self.subTest(argv):
                self.assertQuietly(2, self.search(*argv))
                self.assertEqual(self.gateway.requests, [])

    def test_json_has_every_key(self):
        document = self.document_of(self.search("--json", "q"), *FIELDS)
        expected = {
            "command": "search",
            "model": "deepseek-v4-pro",
            "text": "found",
            "finish_reason": "stop",
            "served_model": "served-1",
        }
        self.assertEqual({name: document[name] for name in expected}, expected)
        self.assertEqual(document["cost"], {"usd": "0.0000188000", "source": "gateway"})

    def test_a_closed_stdout_is_noticed_before_anything_is_sent(self):
        self.assertQuietly(13, self.execute("search", "q", closed=(1,)))
        self.assertEqual(self.gateway.requests, [])

    def test_a_dry_run_shows_the_request_and_needs_no_key(self):
        result = self.search("--dry-run", "q", ALLTOKEN_API_KEY=None)
        self.assertQuietly(0, result)
        self.assertEqual(self.gateway.requests, [])
        body = result.document["body"]
        self.assertEqual((body["enable_search"], body["max_tokens"], body["stream"]), (True, 600, True))

    def test_an_answer_stopped_by_the_limit_draws_a_warning(self):
        self.gateway.on(CHAT, stream(frames("half", finish="length"), DONE, COST))
        for argv in ((), ("-q",), ("--json",)):
            with self.subTest(argv):
                result = self.search(*argv, "q")
                self.assertQuietly(0, result)
                self.assertRegex(result.err, r"(?m)^\[warning\] .*length.*--max-tokens")
        self.gateway.on(CHAT, stream(frames("whole"), DONE, COST))
        self.assertNotIn("[warning]", self.search("q").err)


class Families(SearchCase):
    def test_a_model_that_does_not_search_is_refused_unsent_with_those_that_do(self):
        for model in OTHERS:
            for argv, environ in ((("-m", model), {}), ((), {"ALLTOKEN_SEARCH_MODEL": model})):
                with self.subTest(model, argv=argv):
                    result = self.search(*argv, "q", **environ)
                    self.assertQuietly(2, result)
                    self.assertEqual((result.out, self.gateway.requests), (b"", []))
                    self.assertIn("DeepSeek and Qwen", result.err)
                    self.assertIn(f"{model} does not search", result.err)
                    for working in VERIFIED:
                        self.assertIn(working, result.err)

    def test_the_refusal_is_a_document_under_json(self):
        document = self.document_of(self.search("-m", "gpt-5.4", "q", "--json"), *FIELDS)
        self.assertEqual((document["model"], document["error"]["code"]), ("gpt-5.4", "usage"))
        self.assertIn("qwen3.6-flash", document["error"]["hint"])

    def test_a_verified_model_draws_no_warning(self):
        for model in VERIFIED:
            with self.subTest(model):
                result = self.search("-m", model, "q")
                self.assertQuietly(0, result)
                self.assertNotIn("[warning]", result.err)
                self.assertEqual(self.asked_for()["model"], model)

    def test_another_model_of_the_families_is_asked_with_a_warning(self):
        for model in ("deepseek-v4-flash", "qwen3-coder-next", "Qwen3.7-plus", "vendor/deepseek-v9"):
            with self.subTest(model):
                result = self.search("-m", model, "q", "-q")
                self.assertQuietly(0, result)
                self.assertRegex(result.err, rf"\A\[warning\] .*{model}.*\n\Z")
                self.assertEqual(self.asked_for()["model"], model)

    def test_the_warning_comes_also_if_the_gateway_refuses(self):
        self.gateway.on(CHAT, refuse(402, "insufficient_balance"))
        result = self.search("-m", "deepseek-v4-flash", "q")
        self.assertQuietly(6, result)
        self.assertEqual(result.err.count("[warning] deepseek-v4-flash"), 1)


class Fallback(SearchCase):
    def serve_only(self, *models: str) -> None:
        """All providers fail but for these models."""

        def step(exchange):
            answer = stream(frames("found"), DONE, COST) if exchange.json["model"] in models else FAILED
            answer(exchange)

        self.gateway.on(CHAT, step)

    def cheap(self, *models: str) -> None:
        """List these models, each cheaper than the one before."""
        entries = [{"id": name, "input_price": 9 - at, "output_price": 9 - at} for at, name in enumerate(models)]
        self.gateway.on(LIST, reply(200, {"data": [{"id": name} for name in models]}))
        self.gateway.on(CATALOG, reply(200, {"data": entries}))

    def test_it_stays_inside_the_two_families(self):
        self.serve_only("gpt-5.4-nano", "claude-haiku-4-5", "glm-5.1")
        self.cheap("deepseek-v4-pro", "deepseek-v3.2", "gpt-5.4-nano", "glm-5.1", "claude-haiku-4-5", "qwen3.6-flash")
        result = self.search("q")
        self.assertQuietly(5, result)
        self.assertEqual(self.tried(), ["deepseek-v4-pro", "deepseek-v3.2", "qwen3.6-flash"])

    def test_it_asks_the_next_with_search_and_says_so(self):
        for serving, tried in (
            ("deepseek-v3.2", ["deepseek-v4-pro", "deepseek-v3.2"]),
            ("qwen3.6-flash", ["deepseek-v4-pro", "deepseek-v3.2", "qwen3.6-flash"]),
        ):
            with self.subTest(serving):
                self.gateway.requests.clear()
                self.serve_only(serving)
                result = self.search("q")
                self.assertQuietly(0, result)
                self.assertEqual((result.out, self.tried()), (b"found\n", tried))
                self.assertIn(f"asking {serving}", result.err)
                for request in self.gateway.requests:
                    if request.body:
                        self.assertEqual((request.json["enable_search"], request.json["max_tokens"]), (True, 600))

    def test_candidates_that_are_named_are_of_the_two_families(self):
        self.serve_only()
        self.gateway.on(CATALOG, refuse(404, "not_found"))
        result = self.search("q")
        self.assertQuietly(5, result)
        self.assertEqual(self.tried(), ["deepseek-v4-pro"])
        self.assertNotRegex(result.err, "gpt|claude|glm")

    def test_explicit_ids_outside_the_families_are_refused_unsent(self):
        for ids in ("gpt-5.4", "deepseek-v3.2,gpt-5.4", "glm-5.1,qwen3.6-plus", "deepseek-v3.2, kimi-k2.6", "", ","):
            with self.subTest(ids):
                result = self.search("--fallback", ids, "q")
                self.assertQuietly(2, result)
                self.assertEqual(self.gateway.requests, [])
                if ids.strip(","):
                    self.assertIn("qwen3.6-flash", result.err)

    def test_explicit_ids_inside_them_are_asked_in_turn(self):
        self.serve_only("qwen3.6-plus")
        result = self.search("--fallback", "deepseek-v3.2, qwen3.6-plus", "q")
        self.assertQuietly(0, result)
        self.assertEqual(self.tried(), ["deepseek-v4-pro", "deepseek-v3.2", "qwen3.6-plus"])

    def test_a_fallback_that_is_not_verified_draws_the_warning_too(self):
        self.serve_only("qwen3-coder-next")
        self.cheap("deepseek-v4-pro", "qwen3-coder-next")
        for argv in (("--fallback", "qwen3-coder-next"), ()):
            with self.subTest(argv):
                result = self.search(*argv, "q")
                self.assertQuietly(0, result)
                self.assertRegex(result.err, r"(?m)^\[warning\] qwen3-coder-next: ")

    def test_none_means_none(self):
        self.serve_only("deepseek-v3.2")
        self.assertQuietly(5, self.search("--fallback", "none", "q"))
        self.assertEqual(self.tried(), ["deepseek-v4-pro"])


if __name__ == "__main__":
    unittest.main()
