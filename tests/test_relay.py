"""relay.py: the loopback relay keeps to GATEWAYS.md in each of its dialects, and runs a command."""

from __future__ import annotations

import base64
import http.client
import json
import struct
import subprocess
import tempfile
import unittest
from decimal import Decimal
from pathlib import Path
from typing import Any

from .gateway import CHAT, delta, png, refuse, reply
from .harness import PYTHON
from .relay import RELAY_KEY, Relay
from .relay_media import JPEG, MODELS, SERVER, WEBP

ROOT = Path(__file__).resolve().parent.parent
PATH = CHAT.split()[1]
VIDEO = {"model": "wan2.6-t2v", "prompt": "a cat", "resolution": "720P", "duration": 5}
WAN = {"model": "wan2.6-t2i", "prompt": "a cat"}


def ask(model: str, said: Any = "hi", **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": said}], **fields}


class Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.data = response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.data)

    @property
    def frames(self) -> list[dict[str, Any]]:
        lines = self.data.split(b"\n\n")
        return [json.loads(line[6:]) for line in lines if line.startswith(b"data: {")]

    @property
    def text(self) -> str:
        deltas = [choice["delta"] for frame in self.frames for choice in frame.get("choices", ())]
        return "".join(one.get("content") or "" for one in deltas)


class Case(unittest.TestCase):
    dialect = "new-api"

    def setUp(self) -> None:
        self.relay = self.enterRelay()

    def enterRelay(self, dialect: str | None = None, **given: Any) -> Relay:
        relay = Relay(dialect or self.dialect, **given)
        relay.__enter__()
        self.addCleanup(relay.__exit__, None, None, None)
        return relay

    def send(self, method: str, path: str, body: Any = None, *, key: str | None = RELAY_KEY, **headers: str) -> Answer:
        connection = http.client.HTTPConnection(self.relay.url.removeprefix("http://"), timeout=5)
        if key:
            headers["Authorization"] = f"Bearer {key}"
        data = body if body is None or isinstance(body, bytes) else json.dumps(body)
        connection.request(method, path, data, headers)
        try:
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def form(self, path: str, *parts: tuple[str, str | None, bytes], kind: str = "application/octet-stream") -> Answer:
        lines = b""
        for name, file, data in parts:
            about = f'name="{name}"' + (f'; filename="{file}"\r\nContent-Type: {kind}' if file else "")
            lines += f"--edge\r\nContent-Disposition: form-data; {about}\r\n\r\n".encode() + data + b"\r\n"
        return self.send(
            "POST", path, lines + b"--edge--\r\n", **{"Content-Type": "multipart/form-data; boundary=edge"}
        )

    def fetch(self, url: str, **given: Any) -> Answer:
        return self.send("GET", url.removeprefix(self.relay.url), **{"key": None} | given)

    def assertRefused(self, answer: Answer, status: int, code: str) -> None:
        document = answer.json
        self.assertEqual((answer.status, document.get("error", document)["code"]), (status, code), document)


class Headers(Case):
    def test_every_answer_has_an_id_of_its_own_and_the_version(self):
        self.relay.on("GET /v1/models", reply(200, {}), refuse(500, "scripted"))
        calls = [self.send("GET", path) for path in ("/v1/models", "/v1/models", "/v1/no", "/", "/api/pricing")]
        calls.append(self.send("POST", PATH, ask("claude-sonnet-4-6"), key=None))
        ids = {answer.headers["X-Oneapi-Request-Id"] for answer in calls}
        self.assertEqual((len(ids), None in ids), (6, False))
        self.assertEqual({answer.headers["X-New-Api-Version"] for answer in calls}, {self.relay.version})

    def test_the_cdn_is_another_host_and_refuses_a_key(self):
        url = self.relay.publish(b"0123456789", "png")
        answer = self.fetch(url, Range="bytes=4-")
        self.assertEqual((answer.status, answer.data, answer.headers["X-Oneapi-Request-Id"]), (206, b"456789", None))
        self.assertEqual(self.fetch(url, key=RELAY_KEY).status, 400)
        self.assertEqual(self.fetch("/cdn/nothing.png").status, 404)

    def test_every_credential_is_remembered(self):
        self.send("GET", "/api/pricing", key=None)
        self.send("GET", "/v1/models")
        self.assertEqual((self.relay.keys, self.relay.strangers()), ([f"Bearer {RELAY_KEY}"], []))
        self.send("GET", "/api/log/token?key=abc", key="other", **{"x-api-key": "third"})
        self.assertEqual(self.relay.strangers(), ["Bearer other", "third", "abc"])


class Errors(Case):
    def test_errors_have_the_shape_of_their_place(self):
        for answer in (self.send("GET", "/v1/models", key=None), self.send("POST", PATH, ask("no"), key="wrong")):
            error = answer.json["error"]
            self.assertEqual((answer.status, error["type"], error["code"]), (401, "new_api_error", ""))
            self.assertNotIn("param", error)
        self.assertEqual(self.send("GET", "/api/log/token", key=None).json["success"], False)
        self.assertRefused(self.send("POST", PATH, ask("nothing")), 503, "model_not_found")
        self.assertRefused(self.send("POST", PATH, ask("unpriced-model")), 400, "model_price_error")
        answer = self.send("POST", PATH, ask("claude-sonnet-4-6", "a sensitive-word here"))
        self.assertRefused(answer, 500, "sensitive_words_detected")
        self.assertIn(answer.headers["X-Oneapi-Request-Id"], answer.json["error"]["message"])
        self.assertRefused(self.send("POST", PATH, ask("gpt-image-2")), 500, "convert_request_failed")
        self.assertEqual(self.relay.rows, [])

    def test_without_credit_everything_is_403(self):
        self.relay.balance = 0
        self.assertRefused(self.send("POST", PATH, ask("claude-sonnet-4-6")), 403, "insufficient_user_quota")
        answer = self.send("POST", "/v1/video/generations", VIDEO)
        self.assertRefused(answer, 403, "insufficient_user_quota")
        self.assertEqual(set(answer.json), {"code", "message", "data"})

    def test_a_wrong_root_is_html_and_a_wrong_path_is_json(self):
        answer = self.send("GET", "/chat/completions")
        self.assertEqual(
            (answer.status, answer.headers["Content-Type"][:9], answer.data[:9]), (200, "text/html", b"<!doctype")
        )
        answer = self.send("POST", "/v1/v1/chat/completions", key=None)
        self.assertEqual((answer.status, answer.json["error"]["message"][:11]), (404, "Invalid URL"))


class Chat(Case):
    def test_an_answer_in_one_piece_has_a_cost_that_is_not_ours(self):
        answer = self.send("POST", PATH, ask("claude-sonnet-4-6", reasoning_effort="low"))
        message, usage = answer.json["choices"][0]["message"], answer.json["usage"]
        self.assertTrue(message["content"].endswith("echoes: hi") and message["reasoning_content"])
        self.assertEqual((usage["cost"], answer.headers["x-litellm-response-cost"]), (99.5, "99.5"))

    def test_a_stream_pings_and_counts_unless_told_not_to(self):
        answer = self.send("POST", PATH, ask("claude-sonnet-4-6", stream=True))
        self.assertTrue(answer.data.startswith(b": PING\n\n") and answer.data.endswith(b"data: [DONE]\n\n"))
        self.assertEqual(answer.text, "This is the loopback relay, which echoes: hi")
        last, before = answer.frames[-1], answer.frames[-2]
        self.assertEqual((last["choices"], before["choices"][0]["finish_reason"]), ([], "stop"))
        answer = self.send("POST", PATH, ask("gpt5.4-plus", stream=True, stream_options={"include_usage": False}))
        self.assertTrue(all(frame["choices"] for frame in answer.frames))

    def test_a_stream_can_end_badly_in_five_ways(self):
        seen = {}
        for ending in ("cut", "error", "bare", "late", "restart"):
            self.relay.ending = ending
            answer = self.send("POST", PATH, ask("claude-sonnet-4-6", stream=True))
            done = answer.data.endswith(b"data: [DONE]\n\n")
            finished = any(choice["finish_reason"] for frame in answer.frames for choice in frame.get("choices", ()))
            begun, ids = bool(answer.text), {frame["id"] for frame in answer.frames if "id" in frame}
            seen[ending] = (done, finished, begun, b'"bad_response"' in answer.data, len(ids))
        self.assertEqual(seen["cut"], (True, False, True, False, 1))
        self.assertEqual(seen["error"], (True, False, True, True, 1))
        self.assertEqual(seen["bare"], (False, False, True, True, 1))
        self.assertEqual(seen["late"], (False, False, False, True, 0))
        self.assertEqual(seen["restart"], (True, True, True, False, 2))
        self.assertEqual(len(self.relay.rows), 3)  # a cut is billed; raw errors are not
        answer = self.send("POST", PATH, ask("claude-sonnet-4-6"))
        self.assertEqual((answer.status, "choices" in answer.json, "error" in answer.json), (200, False, True))

    def test_a_script_goes_before_everything(self):
        self.relay.on(CHAT, reply(429, b"", {"Retry-After": "1"}), reply(200, {"choices": [delta("x")]}))
        first, second = (self.send("POST", PATH, ask("nothing")) for _ in range(2))
        self.assertEqual((first.status, first.data, second.status), (429, b"", 200))


class ImagesInChat(Case):
    def draw(self, model: str, said: Any = "a cat", **fields: Any) -> Any:
        answer = self.send("POST", PATH, ask(model, said, **fields))
        self.assertEqual(answer.status, 200, answer.data)
        return answer.json["choices"][0]["message"]["content"]

    def test_flash_image_is_markdown_with_an_address(self):
        content = self.draw("gemini-3.1-flash-image")
        self.assertRegex(content, r"^!\[image\]\(http://127\.0\.0\.1\S+\)$")
        answer = self.fetch(content[9:-1])
        self.assertEqual((answer.status, answer.headers["Content-Type"]), (200, "image/png"))
        self.assertEqual(struct.unpack(">II", answer.data[16:24]), (1024, 1024))

    def test_the_preview_is_text_and_a_data_url_also_streamed_on_one_line(self):
        content = self.draw("gemini-3.1-flash-image-preview")
        self.assertRegex(content, r"^Here is your image.\n\n!\[image\]\(data:image/png;base64,[A-Za-z0-9+/=]+\)$")
        streamed = self.send("POST", PATH, ask("gemini-3.1-flash-image-preview", stream=True))
        self.assertEqual(streamed.text, content)
        self.assertEqual(sum(b"base64" in line for line in streamed.data.splitlines()), 1)

    def test_image_config_is_read_where_this_relay_reads_it(self):
        google = {"google": {"image_config": {"image_size": "512", "aspect_ratio": "16:9"}}}
        for stock, fields, size in (
            (False, google, (704, 384)),
            (False, {"extra_body": google}, (1024, 1024)),
            (True, {"extra_body": google}, (704, 384)),
            (True, google, (1024, 1024)),
        ):
            self.relay.stock = stock
            content = self.draw("gemini-3.1-flash-image", **fields)
            data = base64.b64decode(content.partition(",")[2][:-1]) if stock else self.fetch(content[9:-1]).data
            self.assertEqual(struct.unpack(">II", data[16:24]), size)
        for config in ({"image_size": "2k"}, {"aspect_ratio": "5:3"}):
            answer = self.send(
                "POST",
                PATH,
                ask(
                    "gemini-3.1-flash-image",
                    google={"image_config": config},
                    extra_body={"google": {"image_config": config}},
                ),
            )
            self.assertRefused(answer, 400, "invalid_argument")

    def test_references_and_the_system_message_are_recorded(self):
        url = "data:image/png;base64," + base64.b64encode(png()).decode()
        part = {"type": "image_url", "image_url": {"url": url}}
        body = ask("gemini-3.1-flash-image", [{"type": "text", "text": "red"}, part])
        body["messages"].insert(0, {"role": "system", "content": "kawaii"})
        self.assertEqual(self.send("POST", PATH, body).status, 200)
        seen = self.relay.images[-1]
        self.assertEqual(
            (seen["prompt"], seen["system"], seen["references"]), ("red", ["kawaii"], [("image/png", png())])
        )
        for wrong in ([part] * 15, [{"type": "image_url", "image_url": {"url": url + "!"}}]):
            self.assertRefused(self.send("POST", PATH, ask("gemini-3.1-flash-image", wrong)), 400, "invalid_argument")

    def test_wan_takes_a_list_and_gives_four(self):
        content = self.draw("wan2.7-image", [{"type": "text", "text": "a cat"}])
        self.assertEqual([list(item) for item in content], [["image"]] * 4)
        self.assertEqual(self.fetch(content[3]["image"]).data[:4], b"\x89PNG")
        self.assertRefused(self.send("POST", PATH, ask("wan2.7-image")), 400, "invalid_parameter")
        self.assertEqual(self.relay.rows[-1]["quota"], 13500)


class Images(Case):
    def test_wan_makes_four_unless_told_and_wants_stars(self):
        for fields, count in (({}, 4), ({"n": 1, "size": "1696*960"}, 1)):
            answer = self.send("POST", "/v1/images/generations", WAN | fields)
            self.assertEqual((answer.status, len(answer.json["data"])), (200, count))
            self.assertEqual(self.relay.rows[-1]["quota"], 10000 * count)
        for fields in ({"size": "1280x1280"}, {"size": "640*640"}, {"n": 5}):
            answer = self.send("POST", "/v1/images/generations", WAN | fields)
            self.assertRefused(answer, 400, "InvalidParameter")

    def test_gpt_images_come_as_addresses_unless_base64_is_asked_for(self):
        body = {"model": "gpt-image-1.5-vvip", "prompt": "a cat", "size": "1536x1024", "quality": "low", "n": 2}
        answer = self.send("POST", "/v1/images/generations", body)
        item = answer.json["data"][1]
        self.assertEqual(
            (item["b64_json"], item["revised_prompt"], answer.json["usage"]["output_tokens"]), ("", "", 544)
        )
        self.assertEqual(struct.unpack(">II", self.fetch(item["url"]).data[16:24]), (1536, 1024))
        for ending, data in (("jpeg", JPEG), ("webp", WEBP)):
            more = {"response_format": "b64_json", "output_format": ending}
            item = self.send("POST", "/v1/images/generations", body | more).json["data"][0]
            self.assertEqual((item["url"], base64.b64decode(item["b64_json"])), ("", data))
        for wrong in (
            {"size": "1024*1024"},
            {"output_format": "jpeg", "background": "transparent"},
            {"quality": "best"},
        ):
            self.assertRefused(self.send("POST", "/v1/images/generations", body | wrong), 400, "invalid_value")
        self.assertRefused(
            self.send("POST", "/v1/images/generations", body | {"model": "gpt-image-2"}), 400, "invalid_value"
        )

    def test_an_edit_is_a_form_and_its_bytes_are_kept(self):
        hard = png() + bytes(range(256)) + b"\r\n--edg\r\n\n\r\r\n"
        fields = (("model", None, b"gpt-image-2"), ("prompt", None, "café 猫".encode()), ("n", None, b"1"))
        answer = self.form(
            "/v1/images/edits",
            *fields,
            ("image", "a.png", hard),
            ("image", "b.JPG", JPEG),
            ("mask", "m.png", png(8, 8)),
        )
        self.assertEqual((answer.status, len(answer.json["data"])), (200, 1))
        seen = self.relay.images[-1]
        self.assertEqual((seen["via"], seen["prompt"], seen["names"]), ("edits", "café 猫", ["a.png", "b.JPG"]))
        self.assertEqual((seen["references"], seen["mask"]), ([hard, JPEG], png(8, 8)))
        self.assertEqual(self.form("/v1/images/edits", *fields, ("image[]", "a.webp", WEBP)).status, 200)
        self.assertRefused(self.form("/v1/images/edits", *fields, ("image", "a.bin", JPEG)), 400, "invalid_image_file")
        self.assertRefused(self.form("/v1/images/edits", *fields), 500, "invalid_request")


class Videos(Case):
    def submit(self, path: str = "/v1/video/generations", **fields: Any) -> dict[str, Any]:
        answer = self.send("POST", path, VIDEO | fields)
        self.assertEqual(answer.status, 200, answer.data)
        return answer.json

    def poll(self, task: str, path: str = "/v1/videos") -> Any:
        return self.send("GET", f"{path}/{task}").json

    def test_a_video_goes_its_way_in_both_shapes(self):
        self.relay.work = 3600.0
        task = self.submit()
        self.assertEqual((task["status"], task["id"], task["task_id"][:5]), ("queued", task["task_id"], "task_"))
        job, seen = self.relay.jobs[task["id"]], []
        for gone in (0, 2000, 4000):
            job["since"] -= gone
            seen.append(
                (self.poll(task["id"])["status"], self.poll(task["id"], "/v1/video/generations")["data"]["status"])
            )
        self.assertEqual(seen, [("queued", "QUEUED"), ("in_progress", "IN_PROGRESS"), ("completed", "SUCCESS")])
        a, b = self.poll(task["id"]), self.poll(task["id"], "/v1/video/generations")["data"]
        self.assertEqual((a["metadata"]["url"], b["quota"]), (b["result_url"], 145_000))
        self.assertEqual(self.fetch(b["result_url"]).data, self.relay.video)

    def test_shapes_and_results_can_be_chosen(self):
        task = self.submit()["id"]
        words = {}
        for shape in ("A", "B", "vertex", "docs"):
            self.relay.task_shape = shape
            one, other = self.poll(task), self.poll(task, "/v1/video/generations")
            self.assertEqual(one, other)
            words[shape] = one.get("data", one)["status"]
        self.assertEqual(words, {"A": "completed", "B": "SUCCESS", "vertex": "succeeded", "docs": "succeeded"})
        self.relay.task_shape = None
        self.relay.task_result = "proxy"
        task = self.submit("/v1/videos")["id"]
        self.assertEqual(self.poll(task)["metadata"]["url"], f"{SERVER}/v1/videos/{task}/content")
        self.relay.task_result = "none"
        task = self.submit()["id"]
        self.assertNotIn("metadata", self.poll(task))
        self.assertEqual(self.send("GET", f"/v1/videos/{task}/content").data, self.relay.video)
        self.assertEqual(self.send("GET", f"/v1/videos/{task}/content", key=None).status, 401)

    def test_a_task_is_not_there_at_once(self):
        self.relay.task_lag = 3600.0
        task = self.submit()["id"]
        answer = self.send("GET", f"/v1/videos/{task}")
        self.assertEqual(
            (answer.status, answer.json), (400, {"code": "task_not_exist", "message": "task_not_exist", "data": None})
        )
        self.relay.task_lag = 0.0
        self.assertEqual(self.poll(task)["status"], "completed")
        self.assertEqual(self.send("GET", "/v1/video/generations/task_0").json["code"], "task_not_exist")

    def test_a_failed_video_is_refunded(self):
        self.relay.task_end = "failed"
        before = self.relay.balance
        task = self.submit(model="wan2.6-i2v-flash", audio=True, input_reference="https://x.invalid/a.png")["id"]
        self.assertEqual(before - self.relay.balance, 72_500)
        a, b = self.poll(task), self.poll(task, "/v1/video/generations")["data"]
        self.assertEqual(
            (a["error"]["message"], b["fail_reason"], b["quota"]), ("the upstream failed", "the upstream failed", 0)
        )
        row = self.relay.rows[-1]
        self.assertEqual((self.relay.balance, row["type"], json.loads(row["other"])["task_id"]), (before, 6, task))

    def test_price_factors_are_a_header_and_wrong_videos_are_refused_free(self):
        answer = self.send("POST", "/v1/video/generations", VIDEO | {"resolution": "1080P", "duration": 10})
        factors = json.loads(answer.headers["X-New-Api-Other-Ratios"])
        self.assertEqual((factors["seconds"], round(factors["resolution-1080P"], 4)), (10, 1.7241))
        self.assertEqual(self.relay.rows[-1]["quota"], 500_000)
        for wrong in ({"duration": 16}, {"resolution": "480p"}, {"model": "wan2.6-i2v"}):
            self.assertRefused(self.send("POST", "/v1/video/generations", VIDEO | wrong), 400, "invalid_request")
        self.assertEqual(len(self.relay.rows), 1)


class Money(Case):
    def log(self) -> list[dict[str, Any]]:
        return self.send("GET", "/api/log/token").json["data"]

    def test_a_row_of_the_log_is_the_call_priced_by_the_catalog(self):
        self.relay.group = "vip"
        answer = self.send("POST", PATH, ask("claude-sonnet-4-6", "word " * 500, stream=True))
        row, catalog = self.log()[0], self.send("GET", "/api/pricing", key=None).json
        self.assertEqual(row["request_id"], answer.headers["X-Oneapi-Request-Id"])
        entry = next(one for one in catalog["data"] if one["model_name"] == "claude-sonnet-4-6")
        tokens = row["prompt_tokens"] + row["completion_tokens"] * Decimal(str(entry["completion_ratio"]))
        quota = tokens * Decimal(str(entry["model_ratio"])) * Decimal(str(catalog["group_ratio"]["vip"]))
        self.assertEqual(row["quota"], round(quota))
        self.assertEqual(json.loads(row["other"])["group_ratio"], 0.5)
        dollars = (
            entry["model_ratio"] * 10**6 / self.send("GET", "/api/status", key=None).json["data"]["quota_per_unit"]
        )
        self.assertEqual(dollars, 0.52)
        self.assertNotIn("unpriced-model", [one["model_name"] for one in catalog["data"]])

    def test_calls_are_priced_each(self):
        catalog = self.send("GET", "/api/pricing", key=None).json["data"]
        entry = next(one for one in catalog if one["model_name"] == "wan2.6-t2i")
        self.assertEqual((entry["quota_type"], entry["model_price"]), (1, 0.02))

    def test_the_log_can_lag_be_off_and_run_out(self):
        self.relay.log_lag = 1
        self.send("POST", PATH, ask("claude-sonnet-4-6"))
        self.assertEqual([len(self.log()) for _ in range(3)], [0, 1, 1])
        self.relay.log_off = "refused"
        answer = self.send("GET", "/api/log/token")
        self.assertEqual((answer.status, answer.json["success"]), (200, False))
        self.relay.log_off = "missing"
        self.assertEqual(self.send("GET", "/api/log/token").status, 404)
        self.relay.log_off, self.relay.limit = "", 5
        answers = [self.send("GET", path) for path in ("/api/usage/token/", "/api/log/token", "/api/usage/token/")]
        self.assertEqual([answer.status for answer in answers], [200, 429, 429])
        self.assertEqual(answers[1].data, b"")

    def test_the_balance_needs_the_slash(self):
        self.assertEqual(self.send("GET", "/api/usage/token").headers["Location"], "/api/usage/token/")
        self.send("POST", "/v1/images/generations", WAN | {"n": 1})
        data = self.send("GET", "/api/usage/token/").json["data"]
        self.assertEqual(
            (data["total_granted"], data["total_used"], data["total_available"]), (5_000_000, 10_000, 4_990_000)
        )

    def test_models_tell_their_endpoints_and_not_their_prices(self):
        document = self.send("GET", "/v1/models").json
        kinds = {one["id"]: one["supported_endpoint_types"] for one in document["data"]}
        self.assertEqual((document["success"], "object" in document), (True, False))
        self.assertEqual(
            (kinds["gpt-image-1-vvip"], kinds["gpt-image-2"]), (["image-generation", "openai"], ["openai"])
        )
        self.assertEqual(set(kinds) | {"unpriced-model"}, set(MODELS["new-api"]))


class OpenAI(Case):
    dialect = "openai"

    def test_answers_are_plain(self):
        answer = self.send("POST", PATH, ask("gpt-5.4-mini"))
        self.assertEqual(set(map(str.lower, answer.headers)), {"connection", "content-type", "content-length"})
        self.assertNotIn("cost", answer.json["usage"])
        stream = ask("gpt-5.4-mini", stream=True)
        self.assertTrue(all(frame["choices"] for frame in self.send("POST", PATH, stream).frames))
        counted = self.send("POST", PATH, stream | {"stream_options": {"include_usage": True}})
        self.assertEqual((counted.frames[-1]["choices"], counted.data[:6]), ([], b"data: "))
        self.assertRefused(self.send("POST", PATH, ask("nothing")), 404, "model_not_found")
        self.assertRefused(self.send("GET", "/v1/models", key=None), 401, "invalid_api_key")

    def test_fields_are_refused_when_told_to(self):
        self.relay.refuses = {"stream_options": 422, "max_tokens": 400, "temperature": 400}
        body = ask("gpt-5.4-mini", stream=True)
        answer = self.send("POST", PATH, body | {"stream_options": {"include_usage": True}})
        self.assertEqual((answer.status, answer.json["message"]["detail"][0]["loc"]), (422, ["body", "stream_options"]))
        answer = self.send("POST", PATH, body | {"max_tokens": 9})
        self.assertRefused(answer, 400, "unsupported_parameter")
        self.assertIn("'max_completion_tokens'", answer.json["error"]["message"])
        self.assertRefused(self.send("POST", PATH, body | {"temperature": 1}), 400, "unsupported_parameter")
        self.assertEqual(self.send("POST", PATH, body | {"max_completion_tokens": 9}).status, 200)

    def test_images_are_base64_or_addresses_by_model(self):
        body = {"model": "gpt-image-1", "prompt": "a cat"}
        self.assertEqual(list(self.send("POST", "/v1/images/generations", body).json["data"][0]), ["b64_json"])
        wrong = body | {"response_format": "url"}
        self.assertRefused(self.send("POST", "/v1/images/generations", wrong), 400, "invalid_value")
        answer = self.send("POST", "/v1/images/generations", body | {"model": "dall-e-3"})
        self.assertEqual(list(answer.json["data"][0]), ["url"])
        fields = (("model", None, b"gpt-image-1"), ("prompt", None, b"red"), ("image[]", "a.png", png()))
        self.assertRefused(self.form("/v1/images/edits", *fields), 400, "invalid_image_file")
        self.assertEqual(self.form("/v1/images/edits", *fields, kind="image/png").status, 200)

    def test_a_video_has_seconds_as_a_string_and_its_bytes_behind_the_key(self):
        body = {"model": "sora-2", "prompt": "a cat", "seconds": "8", "size": "1280x720"}
        task = self.send("POST", "/v1/videos", body).json
        self.assertEqual((task["object"], task["status"], task["seconds"]), ("video", "queued", "8"))
        path = f"/v1/videos/{task['id']}"
        self.assertEqual(
            (self.send("GET", path).json["status"], "metadata" in self.send("GET", path).json), ("completed", False)
        )
        self.assertEqual(self.send("GET", f"{path}/content").data, self.relay.video)
        self.assertEqual(self.send("GET", f"{path}/content", key=None).status, 401)
        self.assertRefused(self.send("POST", "/v1/videos", body | {"seconds": 8}), 400, "invalid_value")
        self.assertEqual(self.send("POST", "/v1/video/generations", body).status, 404)

    def test_a_local_server_asks_for_no_key(self):
        self.relay = self.enterRelay(key=None)
        self.assertEqual(self.send("POST", PATH, ask("gpt-5.4-mini"), key=None).status, 200)
        self.assertEqual(self.relay.keys, [])


class OpenRouter(Case):
    dialect = "openrouter"

    def test_costs_are_in_the_usage_and_behind_the_generation(self):
        answer = self.send("POST", PATH, ask("openai/gpt-5.4-mini", stream=True, reasoning={"effort": "low"}))
        self.assertTrue(answer.data.startswith(b": OPENROUTER PROCESSING\n\n"))
        thought = answer.frames[1]["choices"][0]["delta"]
        self.assertEqual(thought["reasoning"], thought["reasoning_details"][0]["text"])
        usage = answer.frames[-1]["usage"]
        self.assertEqual(
            Decimal(str(usage["cost"])),
            (usage["prompt_tokens"] * Decimal("0.2") + usage["completion_tokens"] * Decimal("1.25")) / 10**6,
        )
        name = answer.headers["X-Generation-Id"]
        self.assertEqual(self.send("GET", f"/v1/generation?id={name}").json["data"]["total_cost"], usage["cost"])
        self.assertGreater(self.send("GET", "/v1/key").json["data"]["usage"], 0)
        self.relay.ending = "error"
        broken = self.send("POST", PATH, ask("openai/gpt-5.4-mini", stream=True)).frames[-2]
        self.assertEqual((broken["error"]["code"], broken["choices"][0]["finish_reason"]), (500, "error"))

    def test_images_come_in_the_message_when_asked_for(self):
        body = ask("google/gemini-3.1-flash-image")
        self.assertNotIn("images", self.send("POST", PATH, body).json["choices"][0]["message"])
        message = self.send("POST", PATH, body | {"modalities": ["image", "text"]}).json["choices"][0]["message"]
        self.assertRegex(message["images"][0]["image_url"]["url"], "^data:image/png;base64,")
        self.assertEqual(self.send("POST", "/v1/images/generations", WAN).status, 404)

    def test_models_are_public_and_priced_by_the_token(self):
        listed = {one["id"]: one for one in self.send("GET", "/v1/models", key=None).json["data"]}
        self.assertEqual(listed["openai/gpt-5.4-mini"]["pricing"]["completion"], "0.00000125")
        self.assertIn("image", listed["google/gemini-3.1-flash-image"]["architecture"]["output_modalities"])
        answer = self.send("POST", PATH, ask("nothing"))
        self.assertEqual((answer.status, answer.json["error"]["code"]), (400, 400))


class LiteLLM(Case):
    dialect = "litellm"

    def test_the_cost_is_a_header_and_in_streams_only_if_told_to(self):
        answer = self.send("POST", PATH, ask("gpt-5.4-mini"))
        usage = answer.json["usage"]
        cost = (usage["prompt_tokens"] * Decimal("0.2") + usage["completion_tokens"] * Decimal("1.25")) / 10**6
        self.assertEqual(Decimal(answer.headers["x-litellm-response-cost"]), cost)
        body = ask("gpt-5.4-mini", stream=True, stream_options={"include_usage": True})
        streamed = self.send("POST", PATH, body)
        self.assertNotIn("x-litellm-response-cost", streamed.headers)
        self.assertNotIn("cost", streamed.frames[-1]["usage"])
        self.relay.stream_cost = True
        self.assertEqual(self.send("POST", PATH, body).frames[-1]["usage"]["cost"], float(cost))
        self.assertRefused(self.send("POST", PATH, ask("nothing")), 400, "400")
        info = self.send("GET", "/model/info").json["data"][0]["model_info"]
        self.assertEqual(info["output_cost_per_token"], 0.00000125)


class Runnable(unittest.TestCase):
    def test_it_runs_a_command_and_its_key_is_the_only_one_that_comes(self):
        other = {"ALLTOKEN_API_KEY": "another", "ALLTOKEN_BASE_URL": "http://127.0.0.1:9"}
        with tempfile.TemporaryDirectory() as home:
            for words in (
                ["chat", "claude-sonnet-4-6", "hi"],
                ["--dialect", "openrouter", "chat", "openai/gpt-5.4-mini", "hi"],
            ):
                command = [*PYTHON, "-m", "tests.relay", *words]
                run = subprocess.run(
                    command, check=False, cwd=ROOT, env=other | {"HOME": home}, capture_output=True, timeout=30
                )
                self.assertEqual((run.returncode, b"echoes: hi" in run.stdout), (0, True), run.stderr)
