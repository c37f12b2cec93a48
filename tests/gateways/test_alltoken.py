"""alltoken: the gateway's own codes, lists, prices, tasks and requests."""

from __future__ import annotations

import unittest

from alltoken_call import gateways
from alltoken_call.config import Gateway
from alltoken_call.errors import ExitStatus
from alltoken_call.gateways.alltoken import AllToken
from alltoken_call.gateways.entries import model_id
from alltoken_call.gateways.task import is_task_id
from alltoken_call.request import POLLING, READING, Upload
from alltoken_call.values import Film, Picture

ROOT = "https://x.test"
SERVER = AllToken(ROOT)
FILE = Upload("fox.png", b"", "image/png")


class Refusals(unittest.TestCase):
    def test_without_an_http_status_the_code_or_else_the_type_decides(self):
        for code, type_, status in (
            ("insufficient_balance", None, ExitStatus.CREDIT),
            ("invalid_api_key", None, ExitStatus.KEY),
            ("invalid_token", None, ExitStatus.KEY),
            ("invalid_request", None, ExitStatus.REFUSED),
            ("upstream_invalid_parameter", None, ExitStatus.REFUSED),
            ("upstream_content_violation", None, ExitStatus.REFUSED),
            ("upstream_model_not_found", None, ExitStatus.REFUSED),
            ("rate_limited", None, ExitStatus.RATE_LIMITED),
            ("upstream_rate_limit", None, ExitStatus.RATE_LIMITED),
            ("other", "rate_limit_error", ExitStatus.RATE_LIMITED),
            (None, "billing_error", ExitStatus.CREDIT),
            (None, "authentication_error", ExitStatus.KEY),
            (None, "permission_error", ExitStatus.KEY),
            (None, "invalid_request_error", ExitStatus.REFUSED),
            (None, "not_found_error", ExitStatus.REFUSED),
            ("insufficient_balance", "invalid_request_error", ExitStatus.CREDIT),
            ("429", None, ExitStatus.RATE_LIMITED),
            ("402", "server_error", ExitStatus.CREDIT),
            ("404", None, ExitStatus.REFUSED),
            ("503", "billing_error", ExitStatus.GATEWAY),
            ("40", None, ExitStatus.GATEWAY),
            ("4020", None, ExitStatus.GATEWAY),
            ("٤٠٢", None, ExitStatus.GATEWAY),
            ("all_providers_failed", None, ExitStatus.GATEWAY),
            ("upstream_error", "billing_error", ExitStatus.GATEWAY),
            ("unheard_of", "unheard_of", ExitStatus.GATEWAY),
            (None, None, ExitStatus.GATEWAY),
        ):
            with self.subTest(code=code, type=type_):
                self.assertIs(SERVER.refusal({"error": {"code": code, "type": type_}}, 0).status, status)

    def test_with_an_http_status_the_code_decides_nothing(self):
        for http, status in ((400, ExitStatus.REFUSED), (401, ExitStatus.KEY), (503, ExitStatus.GATEWAY)):
            document = {"error": {"code": "insufficient_balance", "type": "rate_limit_error"}}
            self.assertIs(SERVER.refusal(document, http).status, status)

    def test_the_same_request_is_not_repeated_where_all_providers_have_failed(self):
        for code, passing in (("all_providers_failed", False), ("overloaded", True)):
            error = SERVER.refusal({"error": {"code": code, "message": "no"}}, 503, request_id="req_1")
            self.assertEqual((error.passing, error.http, error.code), (passing, 503, code))
            self.assertEqual((error.message, error.request_id, error.enveloped), ("no", "req_1", True))
            self.assertIs(error.status, ExitStatus.GATEWAY)

    def test_key_and_credit_have_advice_of_their_own(self):
        for http, advice in {401: "ALLTOKEN_API_KEY", 403: "ALLTOKEN_API_KEY", 402: "Settings → Billing"}.items():
            self.assertIn(advice, SERVER.refusal({}, http).hint)
        for http, advice in {400: "quote the request id", 404: "alltoken-call models", 503: "another model"}.items():
            self.assertIn(advice, SERVER.refusal({}, http).hint)


class Costs(unittest.TestCase):
    def test_the_cost_is_in_the_comment_after_the_end(self):
        for figures, usd in (
            ({"cost": "0.0000188000", "input_price": "0.2"}, "0.0000188000"),
            ({"cost": 0.25}, "0.25"),
            ({"cost": "0.00", "prompt_tokens": 0, "completion_tokens": 0}, "0.00"),
            ({"cost": "0.00", "prompt_tokens": 19, "input_price": "0.0", "output_price": "0"}, "0.00"),
            ({"cost": None}, None),
            ({"cost": "free"}, None),
            ({"cost": -1}, None),
            ({"input_price": "0.2"}, None),
            ({}, None),
        ):
            with self.subTest(figures):
                cost = SERVER.comment_cost(figures, {"prompt_tokens": 0, "completion_tokens": 0})
                self.assertEqual(cost and (cost.usd, cost.source), usd and (usd, "gateway"))

    def test_a_cost_of_zero_for_tokens_is_unknown_unless_the_comments_own_prices_are_zero(self):
        own = {"prompt_tokens": 19, "completion_tokens": 0}
        for prices in ({}, {"input_price": "0"}, {"input_price": "0.2", "output_price": "0"}, {"output_price": 0}):
            for figures, usage in ((own, None), ({}, {"total_tokens": 31}), ({}, {}), ({}, None), (own, {"total": 0})):
                with self.subTest(prices, usage=usage):
                    cost = SERVER.comment_cost({"cost": "0.00"} | figures | prices, usage)
                    self.assertEqual((cost.usd, cost.source), (None, None))
        free = {"cost": "0.00", "input_price": "0", "output_price": "0"}
        self.assertEqual(SERVER.comment_cost(free, {"total_tokens": 31}).usd, "0.00")


class Lists(unittest.TestCase):
    def test_a_list_may_be_bare_or_wrapped(self):
        one, two = {"id": "a"}, {"id": "b"}
        for document in (
            {"data": [one, two]},
            {"data": [one, "odd", None, {}, {"id": 7}, two]},
            {"data": {"data": [one, two]}},
        ):
            with self.subTest(document):
                self.assertEqual(SERVER.entries(document), [("a", one), ("b", two)])
        self.assertEqual(SERVER.entries({"data": []}), [])

    def test_what_is_not_a_list_is_none(self):
        for document in ({}, {"data": None}, {"data": "ab"}, {"data": 3}, {"data": {}}, {"models": [{"id": "a"}]}):
            with self.subTest(document):
                self.assertIsNone(SERVER.entries(document))

    def test_the_id_stands_under_one_of_five_names_in_this_order(self):
        entry = {"id": "a", "model_id": "b", "model_path": "c", "model_name": "e", "name": "d"}
        for name, value in tuple(entry.items()):
            with self.subTest(name):
                self.assertEqual(model_id(entry), value)
                self.assertEqual(SERVER.entries({"data": [entry]}), [(value, entry)])
                entry[name] = None
        self.assertIsNone(model_id(entry))
        self.assertEqual(model_id({"id": 7, "name": "d"}), "d")

    def test_each_kind_has_its_list_and_all_means_the_three(self):
        lists = {"chat": "/v1/models", "image": "/v1/images/models", "video": "/v1/videos/models"}
        for kind, path in lists.items():
            self.assertEqual([one.url for one in SERVER.model_lists(kind)], [ROOT + path])
        self.assertEqual([one.url for one in SERVER.model_lists("all")], [ROOT + path for path in lists.values()])
        for one in SERVER.model_lists("all"):
            self.assertEqual((one.method, one.keyed, one.repeat), ("GET", True, READING))

    def test_an_entry_is_of_the_kind_it_says_or_else_of_its_lists(self):
        lists = {kind: SERVER.model_lists(kind)[0] for kind in ("chat", "image", "video")}
        for modality, listed, kinds in (
            ("text", "chat", {"chat"}),
            ("vision", "chat", {"chat"}),
            ("Chat", "chat", {"chat"}),
            (None, "chat", {"chat"}),
            (7, "chat", {"chat"}),
            ("image", "chat", {"image"}),
            ("video", "chat", {"video"}),
            ("audio", "chat", set()),
            ("IMAGE", "image", {"image"}),
            ("", "image", {"image"}),
            (None, "video", {"video"}),
        ):
            for kind in ("chat", "image", "video", "all"):
                asked = listed if modality in (None, "", 7) and listed != "chat" else kind
                if asked != kind and kind != "all":
                    continue  # no other kind's command asks for that list
                with self.subTest(modality, listed=listed, kind=kind):
                    found = SERVER.is_of({"modality": modality}, kind, lists[listed])
                    self.assertIs(found, kind == "all" or kind in kinds)


def pair(entry):
    """Input and output price of an entry of the catalog."""
    found = SERVER.prices(entry)
    return found.input, found.output


class Prices(unittest.TestCase):
    def test_the_catalog_is_public_and_a_model_is_one_segment_of_its_address(self):
        for model, path in ((None, ""), ("a-1", "/a-1"), ("a/b", "/a%2Fb"), ("../x?y", "/..%2Fx%3Fy")):
            request = SERVER.price_list() if model is None else SERVER.price_entry(model)
            self.assertEqual((request.method, request.url), ("GET", f"{ROOT}/api-account/models{path}"))
            self.assertFalse(request.keyed)

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
                self.assertEqual(pair(entry), (2, 3))

    def test_a_price_of_zero_is_free_and_a_missing_one_unknown(self):
        self.assertEqual(pair({"input_price": 0, "output_price": "0.0"}), (0, 0))
        self.assertEqual(pair({"input_price": 0}), (0, None))
        self.assertEqual(pair({"output_price": 1, "input_price": None}), (None, 1))
        self.assertEqual(pair({}), (None, None))
        for entry, known in (({"input_price": 0, "output_price": 0}, True), ({"input_price": 0}, False), ({}, False)):
            self.assertIs(SERVER.prices(entry).known, known)


class Tasks(unittest.TestCase):
    def test_status_words_are_known_under_all_their_spellings(self):
        for word, status, done, ended in (
            ("completed", "completed", True, False),
            ("succeeded", "completed", True, False),
            ("failed", "failed", False, True),
            ("cancelled", "cancelled", False, True),
            ("canceled", "cancelled", False, True),
            ("expired", "expired", False, True),
            ("queued", "queued", False, False),
            ("processing", "processing", False, False),
            ("unheard of", "unheard of", False, False),
            ("", "unknown", False, False),
            (None, "unknown", False, False),
            (7, "unknown", False, False),
            (["completed"], "unknown", False, False),
        ):
            with self.subTest(word):
                document = {"status": word}
                task = SERVER.task(document)
                self.assertEqual((task.status, task.done, task.ended), (status, done, ended))
                self.assertIs(task.document, document)
        self.assertEqual(SERVER.task({}).status, "unknown")

    def test_the_pause_is_what_the_gateway_asks_for(self):
        for asked, pause in (
            (0, 0.0),
            (250, 0.25),
            (1500.5, 1.5005),
            (10**12, 1000.0),
            (-1, None),
            (True, None),
            ("250", None),
            (None, None),
            ([], None),
        ):
            with self.subTest(asked):
                self.assertEqual(SERVER.task({"next_poll_after_ms": asked}).pause, pause)
        self.assertIsNone(SERVER.task({}).pause)

    def test_usage_and_model_are_taken_where_they_have_the_right_type(self):
        task = SERVER.task({"usage": {"total_tokens": 1}, "model": "m-1"})
        self.assertEqual((task.usage, task.model), ({"total_tokens": 1}, "m-1"))
        for value in (None, [], "", 7, True):
            task = SERVER.task({"usage": value, "model": value})
            self.assertEqual((task.usage, task.model), (None, None))

    def test_an_id_is_not_blank_and_not_another_place_in_an_address(self):
        for text, usable in (
            ("igen_1", True),
            ("a/b?c", True),
            ("...", True),
            ("", False),
            (" ", False),
            (".", False),
            ("..", False),
            (" .. ", False),
            (None, False),
        ):
            with self.subTest(text):
                self.assertIs(is_task_id(text), usable)
                self.assertEqual(SERVER.accepted({"id": text}), text if usable else None)

    def test_the_id_of_an_accepted_task_has_two_names(self):
        for document, found in (
            ({"id": "a", "task_id": "b"}, "a"),
            ({"id": None, "task_id": "b"}, "b"),
            ({"id": 7}, None),
            ({"task_id": ".."}, None),
            ({}, None),
        ):
            with self.subTest(document):
                self.assertEqual(SERVER.accepted(document), found)

    def test_only_a_duplicate_hands_over_a_task(self):
        for code, task_id, found in (
            ("duplicate_request", "igen_1", "igen_1"),
            ("duplicate_request", "..", None),
            ("duplicate_request", None, None),
            ("conflict", "igen_1", None),
        ):
            with self.subTest(code, task_id=task_id):
                error = SERVER.refusal({"error": {"code": code, "task_id": task_id}}, 409)
                self.assertEqual(SERVER.duplicate(error), found)

    def test_the_images_are_the_objects_of_a_list(self):
        one = {"b64_json": "AAAA"}
        image = {"b64_json": "AAAA", "url": None}
        for data, found in (([one, None, "odd", one], [image, image]), ([], []), (one, []), (None, []), ("x", [])):
            with self.subTest(data):
                self.assertEqual(SERVER.images({"data": data}), found)
        self.assertEqual(SERVER.images({}), [])
        copy = {"r2_url": "https://x.test/a.png", "url": "https://x.test/b.png"}
        self.assertEqual(SERVER.images({"data": [copy]}), [{"b64_json": None, "url": "https://x.test/a.png"}])

    def test_an_answer_that_may_hold_the_images_is_known_whatever_it_calls_its_status(self):
        for document, may in (
            ({"status": "completed"}, True),
            ({"status": "succeeded"}, True),
            ({"status": "Completed"}, True),
            ({"status": "odd", "data": None}, True),
            ({"data": []}, True),
            ({"status": "processing"}, False),
            ({"status": ["completed"]}, False),
            ({}, False),
        ):
            with self.subTest(document):
                self.assertIs(SERVER.may_hold_images(document), may)


class Requests(unittest.TestCase):
    def test_an_image_and_an_edit_are_submitted_with_a_key_that_makes_a_repeat_harmless(self):
        asked = {"model": "m", "prompt": "x", "size": "1024x1024", "quality": "low"}
        for edit, uploads, path in (
            ([], {}, "/v1/images/generations/async"),
            ([FILE], {"image_upload_id": "upl_1"}, "/v1/images/edits"),
        ):
            request = SERVER.image(Picture("m", "x", edit=edit), key="k-1", uploads=uploads)
            self.assertEqual((request.method, request.url, request.body), ("POST", ROOT + path, asked | uploads))
            self.assertEqual((request.headers, request.keyed), ({"Idempotency-Key": "k-1"}, True))
            self.assertTrue(request.repeat.lost)
            # The last attempt, and its silence, end well before the gateway forgets the key.
            self.assertLessEqual(request.repeat.latest, 50)
            self.assertEqual(request.silence, 20)

    def test_a_video_is_submitted_without_one_and_never_twice_in_doubt(self):
        request = SERVER.video(Film("m", "x"))
        self.assertEqual((request.method, request.url), ("POST", f"{ROOT}/v1/videos/generations"))
        asked = {"model": "m", "prompt": "x", "duration": 5, "ratio": "16:9", "resolution": "480p"}
        self.assertEqual(request.body, asked)
        self.assertEqual((request.headers, request.repeat.lost), ({}, False))

    def test_a_task_is_asked_for_as_one_segment_until_the_deadline(self):
        for command, path in (("image", "/v1/images/generations"), ("video", "/v1/videos/generations")):
            request = SERVER.poll(command, "a/../b?c", grace=2.0)
            self.assertEqual((request.method, request.url), ("GET", f"{ROOT}{path}/a%2F..%2Fb%3Fc"))
            self.assertEqual((request.repeat, request.grace, request.keyed), (POLLING, 2.0, True))
        self.assertEqual(SERVER.cancel("a/b").url, f"{ROOT}/v1/videos/generations/a%2Fb/cancel")
        self.assertEqual(SERVER.cancel("a/b").method, "POST")

    def test_every_request_goes_to_the_root_with_the_key_but_those_for_the_public_list(self):
        for request in (
            SERVER.chat({}),
            SERVER.image(Picture("m", "x", edit=[FILE]), key="k"),
            SERVER.video(Film("m", "x")),
            SERVER.videos(),
            SERVER.poll("image", "x"),
            SERVER.cancel("x"),
            SERVER.presign({}),
            SERVER.price_list(),
            SERVER.price_entry("m"),
            *SERVER.model_lists("all"),
        ):
            with self.subTest(request.url):
                self.assertTrue(request.url.startswith(f"{ROOT}/"))
                self.assertIs(request.keyed, "/v1/" in request.url)

    def test_it_is_found_by_its_name(self):
        for name, dialect in (("alltoken", "alltoken"), ("work", "alltoken")):
            found = gateways.dialect(Gateway(name, ROOT, dialect))
            self.assertEqual((type(found), found.name, found.root), (AllToken, "alltoken", ROOT))
        found = gateways.dialect(Gateway("work", ROOT, None), "alltoken")  # as it was found out
        self.assertEqual((type(found), found.root), (AllToken, ROOT))
