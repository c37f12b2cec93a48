"""Videos at new-api and at servers with OpenAI's API: submitted once, polled in either shape, fetched with or without
the key, and charged as the gateway says."""

from __future__ import annotations

import signal
import threading
from typing import Any
from unittest import mock

from alltoken_call.calls import tasks

from .gateway import Gateway, png, raw, refuse, reply
from .harness import PATIENCE, Result
from .relay import HTML
from .relay_support import RelayCase
from .task_support import held, normal, strike

SUBMIT = "POST /v1/video/generations"
FRAME = "https://images.example/cat.png"


class NewApi(RelayCase):
    T2V = ("video", "-m", "wan2.6-t2v", "a cat")

    def make(self, *argv: str, status: int = 0, **options: Any) -> Result:
        """A run of `video`, which ends with this status."""
        self.relay.requests.clear()
        result = self.call(*self.T2V, *argv, **options)
        self.assertQuietly(status, result)
        return result

    def assertSlept(self, result: Result, *seconds: float) -> None:
        """The pauses between polls, whatever the machine was busy with."""
        self.assertEqual([round(one) for one in result.sleeps], list(seconds))

    def polls(self) -> int:
        return sum(path.startswith("GET /v1/videos/") for path in self.paths())

    @property
    def task(self) -> str:
        """The id of the last task."""
        return list(self.relay.jobs)[-1]


class Shapes(NewApi):
    def test_every_shape_of_a_poll_and_what_it_leads_to(self):
        self.relay.work = 12.0
        for shape in (None, "A", "B", "vertex", "docs"):
            with self.subTest(shape):
                self.relay.task_shape = shape
                result = self.make("-o", "x.mp4", "--json", "--force")
                self.assertHolds("x.mp4", self.relay.video)
                document = result.document
                self.assertEqual((document["task_id"], document["status"]), (self.task, "completed"))
                self.assertRegex(document["video_url"], rf"^{self.relay.url}/cdn/")
                self.assertSlept(result, 5, 5, 5)  # a poll at once, then every 5 s
                self.assertEqual(self.polls(), 4)
                if shape in (None, "B"):  # the others tell no quota
                    self.assertEqual(document["cost"], {"usd": "0.290000", "source": "gateway"})

    def test_a_failed_task_is_status_10_and_costs_nothing(self):
        self.relay.task_end = "failed"
        for shape in (None, "A", "B", "vertex", "docs"):
            with self.subTest(shape):
                self.relay.task_shape = shape
                result = self.make("--json", status=10)
                self.assertEqual(result.document["cost"], {"usd": None, "source": "none"})
                self.assertIn("[cost] none", result.err)
                self.assertEqual(self.cost(), (None, "none"))
                if shape != "vertex":
                    self.assertIn("the upstream failed", result.err)
                self.assertNotIn("--resume", result.err)

    def test_the_charge_is_in_the_relays_own_unit(self):
        self.relay.unit = 1_000_000
        self.assertEqual(self.make("--json").document["cost"]["usd"], "0.290000")

    def test_a_charge_that_is_not_told_does_not_keep_the_clip(self):
        for step in (reply(404, {"code": "no", "message": "no", "data": None}), raw(b""), reply(200, b"x")):
            self.relay.work = 0.0
            submitted = self.make("--detach").out.decode().strip()
            self.relay.on(f"GET /v1/video/generations/{submitted}", step)
            self.assertQuietly(0, self.call("video", "--resume", submitted, "-o", "x.mp4", "--force"))
            self.assertHolds("x.mp4", self.relay.video)

    def test_words_that_nobody_knows_go_on(self):
        made = {"id": "task_1", "status": "queued"}
        self.relay.on(SUBMIT, reply(200, made))
        words = ("unknown", "pending", "NOT_START", "SUBMITTED", "processing")
        steps = [reply(200, {"id": "task_1", "status": word}) for word in words]
        steps += [reply(200, {"code": "success", "data": {"task_id": "task_1", "status": word}}) for word in words]
        url = self.relay.publish(self.relay.video, "mp4")
        self.relay.on("GET /v1/videos/task_1", *steps, reply(200, {"id": "task_1", "status": "SUCCESS", "url": url}))
        result = self.make()
        self.assertEqual((result.out.decode().strip(), len(result.sleeps)), (url, 10))


class Addresses(NewApi):
    def test_an_address_is_opened_without_the_key(self):
        self.make("-o", "x.mp4")
        (fetched,) = [one for one in self.relay.requests if one.path.startswith("/cdn/")]
        self.assertNotIn("Authorization", fetched.headers)
        with Gateway() as cdn:
            answer = {"id": "t", "status": "completed", "metadata": {"url": f"{cdn.url}/files/a.mp4"}}
            self.relay.on(SUBMIT, reply(200, {"id": "t"}))
            self.relay.on("GET /v1/videos/t", reply(200, answer))
            self.make("-o", "y.mp4")
            self.assertNotIn("Authorization", cdn.requests[0].headers)

    def test_the_relays_own_bytes_are_fetched_at_our_root_with_the_key(self):
        for result in ("none", "proxy"):  # no address, and one with the operator's idea of the host
            self.relay.task_result = result
            done = self.make("-o", "x.mp4", "--force")
            self.assertHolds("x.mp4", self.relay.video)
            self.assertEqual(self.paths()[-1], f"GET /v1/videos/{self.task}/content")
            self.assertIn("Authorization", self.relay.requests[-1].headers)
            done = self.make()
            self.assertEqual(done.out.decode(), f"{self.relay.url}/v1/videos/{self.task}/content\n")
            self.assertIn("needs the key", done.err)

    def test_the_key_does_not_follow_a_redirect(self):
        self.relay.task_result = "none"
        with Gateway() as cdn:
            submitted = self.make("--detach").out.decode().strip()
            where = {"Location": f"{cdn.url}/files/a.mp4"}
            self.relay.on(f"GET /v1/videos/{submitted}/content", reply(302, b"", where))
            self.assertQuietly(0, self.call("video", "--resume", submitted, "-o", "x.mp4"))
            self.assertHolds("x.mp4", cdn.tasks.video)
            self.assertNotIn("Authorization", cdn.requests[0].headers)

    def test_an_address_that_we_do_not_open_is_told(self):
        self.relay.on(SUBMIT, reply(200, {"id": "t"}))
        url = "http://cdn.example/a.mp4"
        self.relay.on("GET /v1/videos/t", reply(200, {"id": "t", "status": "completed", "metadata": {"url": url}}))
        self.assertIn(url, self.make("-o", "x.mp4", status=3).err)

    def test_what_failed_is_no_address(self):
        self.relay.task_end = "failed"
        self.assertNotIn("http", self.make("-o", "x.mp4", status=10).out.decode())


class Submits(NewApi):
    def test_the_answer_may_hold_the_id_anywhere(self):
        url = self.relay.publish(self.relay.video, "mp4")
        done = {"code": "success", "data": {"task_id": "t1", "status": "SUCCESS", "result_url": url, "quota": 5}}
        self.relay.on("GET /v1/videos/t1", reply(200, done))
        for answer in (
            {"id": "t1"},
            {"task_id": "t1"},
            {"code": "success", "data": {"task_id": "t1"}},
            {"data": {"id": "t1"}},
        ):
            self.relay.on(SUBMIT, reply(201, answer))
            self.assertEqual(self.make().out.decode().strip(), url)

    def test_a_lost_answer_is_status_12_and_names_the_log(self):
        steps = {
            "closed": raw(b""),
            "reset": raw(b"", then="reset"),
            "silent": raw(b"", then="hold"),
            "half": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"),
            "502": reply(502, b"<html></html>"),
            "524": reply(524, b""),
            "no id": reply(200, {"status": "queued"}),
            "no JSON": reply(200, b"ok"),
        }
        for name, step in steps.items():
            with self.subTest(name):
                self.relay.on(SUBMIT, step)
                result = self.make("--timeout", "0.2", "--json", status=12)
                self.assertEqual(self.posts(), 1)
                hint = result.document["error"]["hint"]
                self.assertIn("log", hint)
                self.assertNotIn("--list", result.err)
                self.assertEqual(self.rows()[-1]["status"], "unknown")

    def test_a_refusal_has_the_status_of_its_code(self):
        for http, code, status in (
            (400, "model_price_error", 1),
            (401, "", 4),
            (403, "insufficient_user_quota", 6),
            (500, "sensitive_words_detected", 1),
            (500, "fail_to_fetch_task", 5),
            (503, "model_not_found", 1),
        ):
            task_shape = reply(http, {"code": code, "message": "no", "data": None})
            for step in (task_shape, refuse(http, code)) if code else (refuse(http, code),):
                self.relay.on(SUBMIT, step)
                self.make(status=status)
                self.assertEqual(self.posts(), 1)
                self.assertEqual(self.rows()[-1]["status"], "refused")

    def test_a_429_is_waited_for_and_a_web_page_is_a_wrong_root(self):
        self.relay.on(SUBMIT, reply(429, b""), normal)
        self.make()
        self.assertEqual(self.posts(), 2)
        for status in (200, 404):
            self.relay.on(SUBMIT, reply(status, HTML))
            self.assertIn("ALLTOKEN_RELAY_BASE_URL", self.make(status=3).err)

    def test_a_signal_while_the_answer_is_waited_for_says_that_it_may_be_billed(self):
        def step(exchange: Any) -> None:
            strike(signal.SIGTERM)
            exchange.hold()

        self.relay.on(SUBMIT, step)
        with mock.patch.object(tasks, "GRACE", 0.1):
            result = self.make(status=143, signals=True)
        self.assertIn("may be billed", result.err)

    def test_options_without_a_field_are_status_2(self):
        for options in (("--ratio", "16:9"), ("--reference", FRAME)):
            self.assertIn(options[0], self.make(*options, status=2).err)
        for argv in (("video", "--list"), ("video", "--cancel", "task_1")):
            self.assertQuietly(2, self.call(*argv))
        self.assertEqual(self.paths(), [])

    def test_files_of_every_kind_go_along_as_data_urls(self):
        for data, kind in ((png(), "png"), (b"BM" + bytes(60), "bmp"), (b"\0\0\0\x18ftypheic" + bytes(40), "heic")):
            path = self.file("frame", data)
            shown = self.call(*self.T2V, "--first-frame", path, "--dry-run").document["body"]
            self.assertTrue(shown["input_reference"].startswith(f"data:image/{kind};base64,"), kind)


class Waiting(NewApi):
    def test_a_task_that_is_not_in_the_books_yet_is_waited_for(self):
        self.relay.task_lag = 14.0
        result = self.make()
        self.assertSlept(result, 5, 5, 5)
        self.assertNotIn("task_not_exist", result.err)

    def test_after_30_seconds_it_is_gone(self):
        self.relay.task_lag = 1e9
        result = self.make(status=1)
        self.assertAlmostEqual(sum(result.sleeps), 30, delta=1)
        self.assertNotIn("--resume", result.err)
        self.assertEqual(self.rows()[-1]["status"], "not_found")

    def test_a_task_of_old_is_gone_at_once(self):
        self.relay.work = 99.0
        self.make("--max-wait", "10", status=8)
        name = self.task
        self.relay.jobs.clear()
        self.clock.ahead += 60
        result = self.call("video", "--resume", name)
        self.assertQuietly(1, result)
        self.assertEqual(result.sleeps, [])

    def test_a_failing_poll_is_not_a_failing_task(self):
        self.relay.on(SUBMIT, reply(200, {"id": "t"}))
        url = self.relay.publish(self.relay.video, "mp4")
        done = reply(200, {"id": "t", "status": "completed", "metadata": {"url": url}})
        self.relay.on("GET /v1/videos/t", raw(b""), reply(502, b""), reply(429, b""), reply(200, HTML), done)
        self.assertEqual(self.make().out.decode().strip(), url)

    def test_the_time_is_over_and_the_task_goes_on(self):
        self.relay.work = 99.0
        result = self.make("-o", "x.mp4", "--max-wait", "12", "--json", status=8)
        command = f"alltoken-call video --resume {self.task}"
        self.assertEqual(result.document["resume"], command)
        self.assertEqual(result.err.rstrip().rpartition("\n")[2], command)  # nobody knows when it expires
        self.clock.ahead += 99
        del self.environ["ALLTOKEN_GATEWAY"]  # the row knows where
        result = self.call("video", "--resume", "--json")
        self.assertQuietly(0, result)
        self.assertEqual((result.document["gateway"], result.document["cost"]["usd"]), ("relay", "0.290000"))
        self.assertHolds("x.mp4", self.relay.video)
        self.assertEqual(len(self.rows()), 1)
        self.assertQuietly(1, self.call("video", "--resume"))

    def test_detached_and_killed_runs_are_resumed(self):
        result = self.make("--detach", "-o", "x.mp4")
        self.assertEqual(result.out.decode().strip(), self.task)
        self.assertQuietly(0, self.call("video", "--resume", self.task))
        self.assertHolds("x.mp4", self.relay.video)
        seen = threading.Event()
        self.relay.on(SUBMIT, reply(200, {"id": "t9"}))
        url = self.relay.publish(self.relay.video, "mp4")
        done = reply(200, {"id": "t9", "status": "completed", "metadata": {"url": url}})
        self.relay.on("GET /v1/videos/t9", held(seen), done)
        process = self.spawn(*self.T2V, "-o", "y.mp4")
        self.assertTrue(seen.wait(PATIENCE))
        process.kill()
        process.wait(PATIENCE)
        self.assertQuietly(0, self.call("video", "--resume"))
        self.assertHolds("y.mp4", self.relay.video)


class OpenAI(NewApi):
    dialect = "openai"
    T2V = ("video", "-m", "sora-2", "a cat", "--duration", "4")

    def test_what_goes_out(self):
        path = self.file("frame.png", png())
        self.make("--resolution", "1280x720", "--first-frame", path, "-p", "x=1", "--json")
        (job,) = self.relay.jobs.values()
        body = job["request"]
        self.assertTrue(body.pop("input_reference").startswith("data:image/png;base64,"))
        expected = {"model": "sora-2", "prompt": "a cat", "seconds": "4", "size": "1280x720", "x": 1}
        self.assertEqual(body, expected)
        self.assertEqual(self.paths()[:2], ["POST /v1/videos", f"GET /v1/videos/{self.task}"])

    def test_the_bytes_are_fetched_with_the_key(self):
        self.relay.work = 7.0
        result = self.make("-o", "x.mp4", "--json")
        self.assertHolds("x.mp4", self.relay.video)
        self.assertEqual(self.paths()[-1], f"GET /v1/videos/{self.task}/content")
        self.assertSlept(result, 5, 5)
        self.assertEqual(result.document["cost"], {"usd": None, "source": None})
        result = self.make()
        self.assertEqual(result.out.decode(), f"{self.relay.url}/v1/videos/{self.task}/content\n")
        self.assertIn("needs the key", result.err)

    def test_a_failed_task_is_of_unknown_cost(self):
        self.relay.task_end = "failed"
        result = self.make("--json", status=10)
        self.assertEqual(result.document["cost"], {"usd": None, "source": None})
        self.assertIn("the upstream failed", result.err)

    def test_options_without_a_field_are_status_2(self):
        for options in (
            ("--ratio", "16:9"),
            ("--audio",),
            ("--no-audio",),
            ("--seed", "1"),
            ("--last-frame", FRAME),
            ("--reference", FRAME),
        ):
            self.assertIn(options[0].replace("--no-", "--"), self.make(*options, status=2).err)
        for argv in (("video", "--list"), ("video", "--cancel", "video_1")):
            self.assertQuietly(2, self.call(*argv))
        self.assertEqual(self.paths(), [])

    def test_lost_and_refused_submits(self):
        for step, status in (
            (raw(b""), 12),
            (reply(502, b""), 12),
            (refuse(500, "server_error"), 5),
            (refuse(400, "invalid_value"), 1),
            (reply(200, HTML), 3),
        ):
            self.relay.on("POST /v1/videos", step)
            self.make(status=status)
            self.assertEqual(self.posts(), 1)

    def test_a_task_that_is_not_there_is_gone(self):
        self.make("--detach")
        name = self.task
        self.relay.jobs.clear()
        self.assertQuietly(1, self.call("video", "--resume", name))
        self.assertEqual(self.rows()[-1]["status"], "not_found")
