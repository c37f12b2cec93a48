"""gateway.py: the loopback gateway keeps to the protocol, and runs a command."""

from __future__ import annotations

import http.client
import json
from decimal import Decimal

from .gateway import CHAT, KEY, refuse, stream
from .harness import PYTHON, ROOT, Case

PATH = CHAT.split()[1]
ASK = {"model": "gpt-5.4-mini", "messages": [{"role": "user", "content": "hi"}]}
STREAM = ASK | {"stream": True}
COUNT = STREAM | {"stream_options": {"include_usage": True}}


class Protocol(Case):
    def request(self, method: str, path: str, body: object = None, key: str | None = KEY) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.gateway.url.removeprefix("http://"), timeout=5)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        with connection.getresponse() as response:
            data = response.read()
        connection.close()
        return response.status, data

    def test_the_key_is_asked_for_under_v1_alone(self):
        for path in (PATH, "/v1/models", "/v1/nothing"):
            for key in (None, "wrong"):
                status, data = self.request("POST", path, ASK, key)
                self.assertEqual((status, json.loads(data)["error"]["code"]), (401, "invalid_api_key"))
        self.assertEqual(self.request("GET", "/api-account/models", key=None)[0], 200)
        self.assertEqual(self.request("GET", "/api-account/models/gpt-5.4-mini", key=None)[0], 200)
        self.assertEqual(self.request("GET", "/api-account/user/balance")[0], 401)

    def chunks(self, data: bytes) -> list[dict]:
        lines = data.split(b"data: [DONE]")[0].split(b"\n\n")
        return [json.loads(line.removeprefix(b"data: ")) for line in lines if line]

    def test_usage_is_null_unless_include_usage_asks_for_it(self):
        _, without = self.request("POST", PATH, STREAM)
        self.assertEqual({chunk["usage"] is None for chunk in self.chunks(without)}, {True})
        _, asked = self.request("POST", PATH, COUNT)
        last = self.chunks(asked)[-1]
        self.assertEqual((last["choices"], last["usage"]["total_tokens"]), ([], 13))

    def test_the_first_chunk_alone_says_whose_turn_it_is(self):
        for body in (STREAM, STREAM | {"thinking": True}):
            _, data = self.request("POST", PATH, body)
            roles = [chunk["choices"][0]["delta"].get("role") for chunk in self.chunks(data) if chunk["choices"]]
            self.assertEqual((roles[0], set(roles[1:])), ("assistant", {None}))

    def test_the_cost_is_a_comment_after_done_and_adds_up(self):
        _, data = self.request("POST", PATH, COUNT)
        comment = data.partition(b"data: [DONE]\n\n")[2]
        self.assertTrue(comment.startswith(b": {") and comment.endswith(b"}\n\n"))
        found = json.loads(comment[2:])
        tokens = (found["prompt_tokens"], found["completion_tokens"])
        cost = sum(
            Decimal(count) * Decimal(found[name]) for count, name in zip(tokens, ("input_price", "output_price"))
        )
        self.assertEqual(Decimal(found["cost"]), cost / 10**6)

    def test_a_model_without_a_price_has_no_cost_comment(self):
        _, data = self.request("POST", PATH, COUNT | {"model": "glm-5.1"})
        self.assertTrue(data.endswith(b"data: [DONE]\n\n"))

    def test_an_answer_in_one_piece_has_its_usage_and_request_id(self):
        document = json.loads(self.request("POST", PATH, ASK)[1])
        choice = document["choices"][0]
        self.assertEqual((choice["message"]["role"], choice["finish_reason"]), ("assistant", "stop"))
        self.assertTrue(document["usage"]["total_tokens"] and document["x-gateway-request-id"])

    def test_wrong_requests_are_refused_in_the_envelope(self):
        for body, status, code in (
            (ASK | {"model": "nothing"}, 404, "upstream_model_not_found"),
            (ASK | {"messages": []}, 400, "invalid_request"),
            (ASK | {"enable_search": True}, 503, "all_providers_failed"),
        ):
            found, data = self.request("POST", PATH, body)
            error = json.loads(data)["error"]
            self.assertEqual((found, error["code"]), (status, code))
            self.assertTrue({"type", "message", "param", "request_id"} <= set(error))

    def test_models_are_told_apart_by_modality_and_priced_in_the_catalog_alone(self):
        listed = json.loads(self.request("GET", "/v1/models")[1])["data"]
        self.assertEqual({one["modality"] for one in listed}, {"text", "image", "video"})
        self.assertFalse([one for one in listed if "input_price" in one])
        images = json.loads(self.request("GET", "/v1/images/models")[1])["data"]
        self.assertEqual({one["modality"] for one in images}, {"image"})
        entry = json.loads(self.request("GET", "/api-account/models/gpt-5.4-mini")[1])["data"]
        self.assertEqual(entry["input_price"], "0.2000000000")

    def test_a_script_answers_in_order_and_its_last_step_stays(self):
        self.gateway.on(CHAT, refuse(400, "one"), refuse(402, "two"))
        self.assertEqual([self.request("POST", PATH, ASK)[0] for _ in range(3)], [400, 402, 402])
        self.gateway.on(CHAT, stream(b"cut", "cut"))
        self.assertRaises(http.client.IncompleteRead, self.request, "POST", PATH, ASK)


class Runnable(Case):
    def test_it_runs_a_command_and_passes_its_exit_status_on(self):
        command = [*PYTHON, "-m", "tests.gateway"]
        for argv, status, shown in (
            (["chat", "gpt-5.4-mini", "hi"], 0, "echoes: hi"),
            (["chat", "-m", "nothing", "hi"], 1, "upstream_model_not_found"),
            (["chat", "hi", "--no-such"], 2, "--no-such"),
        ):
            with self.subTest(argv):
                environ = {"ALLTOKEN_API_KEY": "another", "ALLTOKEN_BASE_URL": "http://127.0.0.1:9"}
                result = self.execute(*argv, command=command, cwd=str(ROOT), environ=environ)
                self.assertQuietly(status, result)
                self.assertIn(shown, result.out.decode() + result.err)
