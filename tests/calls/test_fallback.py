"""calls/fallback.py: another model when all providers of one have failed; never a dearer one, never after text."""

from __future__ import annotations

import json
import unittest
from itertools import pairwise

from alltoken_call import config
from alltoken_call.calls import fallback
from alltoken_call.calls.client import Client

from ..gateway import CHAT, DONE, Exchange, delta, event, frames, refuse, reply, stream
from ..harness import Case

FAILED = refuse(503, "all_providers_failed", "no provider could serve this request")
LIST, CATALOG = "GET /v1/models", "GET /api-account/models"


class Choices(unittest.TestCase):
    def test_the_closest_of_the_family_comes_first_then_other_families(self):
        others = ["claude-haiku-4-5", "gpt-5.4", "gpt-5.4-mini", "gpt-4.1", "gpt-5.4-mini-2026", "gpt-5.4-micro"]
        expected = ["gpt-5.4-mini-2026", "gpt-5.4-micro", "gpt-5.4", "gpt-4.1", "claude-haiku-4-5"]
        self.assertEqual(fallback.closest("gpt-5.4-mini", others), expected)

    def test_a_family_is_the_letters_that_an_id_begins_with(self):
        for model, family in (("gpt-5.4", "gpt"), ("qwen3.6-plus", "qwen"), ("vendor/GLM-5", "glm"), ("5", "5")):
            self.assertEqual(fallback.family(model), family)

    def test_affordable_means_both_prices_known_and_neither_higher(self):
        prices = {
            "asked": (1, 2),
            "same": ("1.0", "2.00"),
            "free": (0, 0),
            "dear in": (1.01, 0),
            "dear out": (0, 2.01),
            "half": (1, None),
            "none": (None, None),
        }
        catalog = {name: {"input_price": pair[0], "output_price": pair[1]} for name, pair in prices.items()}
        client = Client(config.gateway({}))
        found = fallback.affordable(client, "asked", [*catalog, "absent"], catalog)
        self.assertEqual(found, ["asked", "same", "free"])
        for unknown in ("none", "half", "absent"):
            self.assertEqual(fallback.affordable(client, unknown, ["free"], catalog), [])


class Fallback(Case):
    def serve_only(self, *models: str) -> None:
        """Let all providers fail but those of `models`."""

        def step(exchange: Exchange) -> None:
            (stream(frames("hi") + DONE) if exchange.json["model"] in models else FAILED)(exchange)

        self.gateway.on(CHAT, step)

    def tried(self) -> list[str]:
        return [one.json["model"] for one in self.gateway.requests if one.path.endswith("/completions")]

    def test_auto_tries_the_family_then_another_and_never_a_dearer_one(self):
        for asked, serving, tried in (
            ("gpt-5.4-mini", "gpt-5.4-nano", ["gpt-5.4-mini", "gpt-5.4-nano"]),
            ("gpt-5.4-mini", "deepseek-v3.2", ["gpt-5.4-mini", "gpt-5.4-nano", "deepseek-v3.2"]),
            ("claude-haiku-4-5", "deepseek-v3.2", ["claude-haiku-4-5", "deepseek-v3.2"]),
        ):
            with self.subTest(asked, serving=serving):
                self.gateway.requests.clear()
                self.serve_only(serving)
                result = self.chat("-m", asked, "hi")
                self.assertEqual((result.status, result.out, self.tried()), (0, b"hi\n", tried), result.err)
                for before, after in pairwise(tried):
                    self.assertIn(f"{before} failed; asking {after}", result.err)
                self.assertIn(f"model={serving}", result.err)
                self.assertEqual(result.sleeps, [])

    def test_a_list_goes_on_behind_an_id_that_does_not_exist_and_never_asks_the_same_model_again(self):
        def step(exchange: Exchange) -> None:
            known = {"gpt-5.4-mini": FAILED, "glm-5.1": stream(frames("hi") + DONE)}
            known.get(exchange.json["model"], refuse(404, "model_not_found"))(exchange)

        self.gateway.on(CHAT, step)
        result = self.chat("hi", "--fallback", "gpt-5.4-mini,nope,glm-5.1")
        self.assertEqual((result.status, self.tried()), (0, ["gpt-5.4-mini", "nope", "glm-5.1"]), result.err)
        self.assertRegex(result.err, r"\[warning\] .*\bnope\b.*; asking glm-5\.1\n")
        self.assertEqual(self.chat("hi", "-m", "nope", "--fallback", "glm-5.1").status, 1)

    def test_json_names_the_model_asked_after_the_fallback(self):
        self.serve_only("gpt-5.4-nano")
        self.assertEqual(self.chat("hi", "--json").document["model"], "gpt-5.4-nano")

    def test_where_everything_fails_it_is_status_5_after_one_of_each(self):
        self.serve_only()
        result = self.chat("hi")
        self.assertQuietly(5, result)
        self.assertEqual(len(self.tried()), 3)
        self.assertIn("all_providers_failed", result.err)

    def test_the_cheapest_model_has_no_affordable_other_and_candidates_are_named(self):
        self.serve_only("gpt-5.4")
        result = self.chat("-m", "qwen3.6-flash", "hi")
        self.assertQuietly(5, result)
        self.assertEqual(self.tried(), ["qwen3.6-flash"])
        self.assertRegex(result.err, "deepseek-v3.2|gpt-5.4")

    def test_a_search_chooses_among_those_that_search(self):
        models = ("gpt-5.4-mini", "deepseek-v3.2", "deepseek-v3.1", "qwen3.6-plus", "qwen3.6-flash")
        self.gateway.on(LIST, reply(200, {"data": [{"id": name} for name in models]}))
        prices = {"input_price": 1, "output_price": 1}
        self.gateway.on(CATALOG, reply(200, [{"id": name} | prices for name in ("deepseek-v4-pro", *models)]))
        self.serve_only()
        self.assertQuietly(5, self.call("search", "q"))
        self.assertEqual(self.tried(), ["deepseek-v4-pro", "deepseek-v3.1", "qwen3.6-flash"])

    def test_without_prices_nothing_is_chosen_and_candidates_are_named(self):
        priceless = [{"id": "gpt-5.4-mini"}, {"id": "gpt-5.4-nano"}]
        for name, step in (
            ("refused", refuse(404, "x")),
            ("empty", reply(200, {"data": []})),
            ("none", reply(200, priceless)),
        ):
            with self.subTest(name):
                self.gateway.requests.clear()
                self.serve_only("gpt-5.4-nano")
                self.gateway.on(CATALOG, step)
                result = self.chat("hi")
                self.assertQuietly(5, result)
                self.assertEqual(self.tried(), ["gpt-5.4-mini"])
                self.assertIn("gpt-5.4-nano", result.err)

    def test_without_the_live_list_the_failure_stands(self):
        for step in (refuse(401, "invalid_api_key"), reply(200, b"<html>"), reply(200, {"data": 3}), reply(200, b"[]")):
            self.gateway.requests.clear()
            self.serve_only("gpt-5.4-nano")
            self.gateway.on(LIST, step)
            self.assertQuietly(5, self.chat("hi"))
            self.assertEqual(self.tried(), ["gpt-5.4-mini"])

    def test_the_catalog_is_understood_in_every_shape_it_has_had(self):
        def entries(name, *prices):
            models = ("gpt-5.4-mini", "gpt-5.4-nano")
            return [{name: model, prices[0]: 2 - at, prices[1]: "3.0"} for at, model in enumerate(models)]

        today, older = ("input_price", "output_price"), ("prompt_price", "completion_price")
        for name, catalog in (
            ("under data", {"data": entries("id", *today)}),
            ("a bare list", entries("id", *today)),
            ("older prices", {"data": entries("model_id", *older)}),
            ("by path", {"data": entries("model_path", *today)}),
            ("by name", {"data": entries("name", *today)}),
            ("with strangers among them", {"data": [None, 3, {}, {"id": 7}, *entries("id", *today)]}),
        ):
            with self.subTest(name):
                self.gateway.requests.clear()
                self.serve_only("gpt-5.4-nano")
                self.gateway.on(CATALOG, reply(200, catalog))
                result = self.chat("hi")
                self.assertEqual((result.status, self.tried()), (0, ["gpt-5.4-mini", "gpt-5.4-nano"]), result.err)

    def test_images_and_videos_are_no_candidates(self):
        self.serve_only()
        self.gateway.on(CATALOG, reply(200, {"data": []}))
        self.assertNotRegex(self.chat("-m", "gpt-5.4", "hi").err, "gpt-image|seedance")

    def test_the_catalog_is_asked_without_the_key(self):
        self.serve_only("gpt-5.4-nano")
        self.chat("hi")
        by_path = {exchange.path: "Authorization" in exchange.headers for exchange in self.gateway.requests}
        self.assertEqual(by_path, {"/v1/chat/completions": True, "/v1/models": True, "/api-account/models": False})

    def test_none_asks_nobody_else(self):
        self.serve_only("gpt-5.4-nano")
        self.assertQuietly(5, self.chat("hi", "--fallback", "none"))
        self.assertEqual(len(self.gateway.requests), 1)

    def test_named_models_are_asked_in_their_order_whatever_they_cost(self):
        self.serve_only("gpt-5.4")
        result = self.chat("hi", "--fallback", "claude-haiku-4-5, gpt-5.4")
        self.assertEqual(result.status, 0, result.err)
        self.assertEqual(self.tried(), ["gpt-5.4-mini", "claude-haiku-4-5", "gpt-5.4"])
        self.assertEqual(len(self.gateway.requests), 3)

    def test_a_list_that_names_nobody_is_refused_before_anything_is_sent(self):
        for value in ("", ",", "gpt-5.4,,glm-5.1"):
            with self.subTest(value):
                self.assertQuietly(2, self.chat("hi", f"--fallback={value}"))
        self.assertEqual(self.gateway.requests, [])

    def test_never_after_text(self):
        error = event({"error": {"code": "all_providers_failed", "message": "gone"}})
        self.gateway.on(CHAT, stream(event(delta("kept")), error))
        result = self.chat("hi")
        self.assertQuietly(9, result)
        self.assertEqual((result.out, len(self.gateway.requests)), (b"kept\n", 1))

    def test_any_other_503_is_no_reason(self):
        self.gateway.on(CHAT, refuse(503, "upstream_error"))
        self.assertQuietly(5, self.chat("hi"))
        self.assertEqual((self.asked(), len(self.gateway.requests)), (3, 3))

    def test_a_hostile_list_cannot_pose_as_a_line_of_ours(self):
        self.serve_only()
        self.gateway.on(LIST, reply(200, {"data": [{"id": "gpt-5.4-x\n[cost] $0\x1b[2J"}]}))
        err = self.chat("hi").err
        self.assertNotIn("\n[cost]", err)
        self.assertNotIn("\x1b", err)

    def test_one_document_tells_of_the_failure(self):
        self.serve_only()
        document = self.chat("hi", "--json").document
        self.assertEqual(document["error"]["code"], "all_providers_failed")
        self.assertEqual(json.dumps(document["text"]), "null")
