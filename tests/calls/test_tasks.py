"""Submitting, polling, resuming, and what a signal leaves."""

import io
import os
import signal
import socket
import threading
import time
import unittest
from email.utils import formatdate
from unittest import mock

from alltoken_call.calls import tasks
from alltoken_call.net import connection
from alltoken_call.store import ledger

from ..gateway import png, raw, refuse, reply
from ..task_support import (
    GET_IMAGE,
    GET_VIDEO,
    IGEN,
    IMAGE,
    VGEN,
    VIDEO,
    TaskCase,
    cut,
    document,
    entry,
    lost,
    normal,
    pieces,
    strike,
)

PENDING = {"id": IGEN, "status": "processing"}
LOOKS = {404: ["GET"]}  # for a model that does not exist, the list is read once


def status(name, **fields):
    return reply(200, {"id": IGEN, "status": name, **fields})


def silent(exchange):
    exchange.hold()


def gone(exchange):
    """Close without a word."""


def reset(exchange):
    exchange.reset()


LOSSES = {
    "closed": gone,
    "reset": reset,
    "silence": silent,
    "a proxy's 502": reply(502, b"<html>bad gateway</html>"),
    "an empty 504": reply(504, b""),
    "garbage": reply(202, b"<html>fine</html>"),
    "cut": cut(b'{"id": "igen_1"}', 9),
    "no id": reply(202, {"status": "queued"}),
    "an id of another type": reply(202, {"id": 17}),
    "an empty id": reply(202, {"id": " "}),
}


class ImageSubmits(TaskCase):
    def test_a_lost_answer_is_asked_for_again_with_the_same_key_and_the_one_task_is_adopted(self):
        for number, (name, loss) in enumerate(LOSSES.items(), 1):
            with self.subTest(name):
                self.gateway.requests.clear()
                self.gateway.on(IMAGE, lost(loss), normal)
                result = self.image("a fox", "-o", f"{number}.png", "--timeout", "0.3")
                self.assertQuietly(0, result)
                posts = [one for one in self.gateway.requests if one.method == "POST"]
                keys = {one.headers["Idempotency-Key"] for one in posts}
                self.assertEqual((len(posts), len(keys), len(self.gateway.tasks.all)), (2, 1, number))
                self.assertEqual(posts[0].body, posts[1].body)
                self.assertRegex(keys.pop(), r"\A[0-9a-f]{32}\Z")
                self.assertIn("[retry]", result.err)
                self.assertHolds(f"{number}.png", self.gateway.tasks.image)

    def test_an_answer_that_stays_lost_is_status_12_after_three_posts_with_one_key(self):
        for name, loss in LOSSES.items():
            with self.subTest(name):
                self.gateway.requests.clear()
                self.gateway.on(IMAGE, loss)
                result = self.image("a fox", "--timeout", "0.1", "--json")
                self.assertQuietly(12, result)
                self.assertEqual(self.methods(), ["POST"] * 3)
                self.assertEqual(len({one.headers["Idempotency-Key"] for one in self.gateway.requests}), 1)
                self.assertIn("may be billed", result.err)
                self.assertIsNone(result.document["task_id"])

    def test_each_run_has_a_key_of_its_own(self):
        for _ in range(2):
            self.assertQuietly(0, self.image("a fox"))
        keys = [one.headers["Idempotency-Key"] for one in self.gateway.requests if one.method == "POST"]
        self.assertEqual(len(set(keys)), 2)

    def test_what_is_refused_for_now_is_repeated_twice_at_most(self):
        for code in (429, 503):
            for refusals, end, posts in ((2, 0, 3), (3, 7 if code == 429 else 5, 3)):
                with self.subTest(code=code, refusals=refusals):
                    self.gateway.requests.clear()
                    self.gateway.on(IMAGE, *[refuse(code, "busy", headers={"Retry-After": "3"})] * refusals, normal)
                    result = self.image("a fox")
                    self.assertQuietly(end, result)
                    self.assertEqual(self.gateway.count(IMAGE), posts)
                    self.assertEqual([seconds for seconds in result.sleeps if seconds > 2], [3.0, 3.0])
                    self.assertIn(f"[retry] {code} busy: waiting 3 s (1 of 2)", result.err)

    def test_what_the_gateway_refuses_is_asked_once(self):
        for code, slug, end in (
            (400, "invalid_request", 1),
            (401, "invalid_api_key", 4),
            (402, "insufficient_balance", 6),
            (403, "forbidden", 4),
            (404, "upstream_model_not_found", 1),
            (422, "upstream_invalid_parameter", 1),
            (500, "upstream_error", 5),
            (502, "upstream_error", 5),
            (503, "all_providers_failed", 5),
        ):
            with self.subTest(code=code):
                self.gateway.requests.clear()
                self.gateway.on(IMAGE, refuse(code, slug, "no way"))
                result = self.image("a fox", "--json")
                self.assertQuietly(end, result)
                self.assertEqual(self.methods(), ["POST", *LOOKS.get(code, ())])
                self.assertEqual(result.document["error"]["code"], slug)
                self.assertIn("request_id: req_loopback_1", result.err)
                self.assertPlace()

    def test_a_longer_retry_after_ends_the_command_at_once_and_is_told(self):
        self.gateway.on(IMAGE, refuse(429, "rate_limited", headers={"Retry-After": "61"}))
        result = self.image("a fox")
        self.assertQuietly(7, result)
        self.assertEqual((self.methods(), result.sleeps), (["POST"], []))
        self.assertIn("61 s", result.err)

    def test_no_attempt_starts_later_than_50_s_after_the_first(self):
        for waits, posts in ((("30", "30"), 2), (("49", "1"), 2), (("51",), 1), (("20", "20"), 3)):
            with self.subTest(waits=waits):
                self.gateway.requests.clear()
                answers = [refuse(503, "busy", headers={"Retry-After": wait}) for wait in waits]
                self.gateway.on(IMAGE, *answers, refuse(503, "busy"))
                self.assertQuietly(5, self.image("a fox"))
                self.assertEqual(self.gateway.count(IMAGE), posts)

    def test_a_loss_followed_by_a_wait_that_is_too_long_is_unknown(self):
        self.gateway.on(IMAGE, reset, refuse(503, "busy", headers={"Retry-After": "55"}))
        result = self.image("a fox")
        self.assertQuietly(12, result)
        self.assertEqual(self.gateway.count(IMAGE), 2)

    def test_a_loss_followed_by_a_refusal_is_the_refusal(self):
        self.gateway.on(IMAGE, reset, refuse(400, "invalid_request", "bad size"))
        result = self.image("a fox")
        self.assertQuietly(1, result)
        self.assertIn("bad size", result.err)

    def test_an_adopted_id_that_is_no_name_is_never_asked_for(self):
        for task_id in ("..", ".", " ", "", None):
            with self.subTest(task_id=task_id):
                self.gateway.requests.clear()
                self.gateway.on(IMAGE, refuse(409, "duplicate_request", task_id=task_id))
                result = self.image("a fox", "--max-wait", "5")
                self.assertEqual(self.gets(), [])
                self.assertQuietly(12, result)


class VideoSubmits(TaskCase):
    def test_a_lost_answer_is_one_post_and_status_12_with_the_advice_to_look(self):
        for name, loss in LOSSES.items():
            with self.subTest(name):
                self.gateway.requests.clear()
                self.gateway.on(VIDEO, lost(loss))
                result = self.video("waves", "--timeout", "0.1", "--json")
                self.assertQuietly(12, result)
                self.assertEqual(self.methods(), ["POST"])
                self.assertNotIn("Idempotency-Key", self.gateway.requests[0].headers)
                self.assertIn("alltoken-call video --list", result.err)
                self.assertEqual(result.document["error"]["code"], "unknown_outcome")

    def test_only_429_is_repeated(self):
        for steps, end, posts in (
            ([refuse(429, "rate_limited")] * 2 + [normal], 0, 3),
            ([refuse(429, "rate_limited")], 7, 3),
            ([refuse(503, "all_providers_failed")], 5, 1),
            ([refuse(503, "busy")], 5, 1),
            ([refuse(500, "upstream_error")], 5, 1),
            ([refuse(400, "invalid_request")], 1, 1),
            ([refuse(402, "insufficient_balance")], 6, 1),
            ([refuse(429, "rate_limited"), reset], 12, 2),
        ):
            with self.subTest(end=end, posts=posts):
                self.gateway.requests.clear()
                self.gateway.on(VIDEO, *steps)
                self.assertQuietly(end, self.video("waves"))
                self.assertEqual(self.gateway.count(VIDEO), posts)


class Refusals(TaskCase):
    def test_a_4xx_without_an_envelope_is_a_refusal_and_asked_once(self):
        for code, end in ((400, 1), (401, 4), (402, 6), (403, 4), (404, 1), (413, 1), (422, 1)):
            for command, submit in (("image", IMAGE), ("video", VIDEO)):
                with self.subTest(code=code, command=command):
                    self.gateway.requests.clear()
                    self.gateway.on(submit, reply(code, b"no"))
                    self.assertQuietly(end, self.call(command, "x"))
                    self.assertEqual(self.methods(), ["POST", *LOOKS.get(code, ())])

    def test_a_web_page_with_404_is_a_wrong_root(self):
        for command, submit in (("image", IMAGE), ("video", VIDEO)):
            self.gateway.requests.clear()
            self.gateway.on(submit, reply(404, b"<html>no</html>"))
            result = self.call(command, "x")
            self.assertQuietly(3, result)
            self.assertIn("ALLTOKEN_BASE_URL", result.err)
            self.assertIn("[cost] none", result.err)
            self.assertEqual(self.methods(), ["POST"])

    def test_a_200_that_is_an_error_is_that_error_and_not_an_unknown_outcome(self):
        for answer, end in (
            ({"error": {"code": "insufficient_balance", "message": "not today"}}, 6),
            ({"error": {"code": "invalid_api_key", "message": "not today"}}, 4),
            ({"error": {"code": "upstream_error", "message": "not today"}}, 5),
            ({"error": {"code": "odd", "message": "not today"}}, 1),
            ({"error": {"message": "not today"}, "status": "failed"}, 1),
            ({"error": "not today"}, 1),
            ({"success": False, "message": "not today"}, 1),
            ({"success": False, "message": "not today", "code": "insufficient_balance", "status": "error"}, 6),
        ):
            for command, submit in (("image", IMAGE), ("video", VIDEO)):
                with self.subTest(answer=answer, command=command):
                    self.gateway.requests.clear()
                    self.gateway.on(submit, reply(200, answer))
                    result = self.call(command, "x")
                    self.assertQuietly(end, result)
                    self.assertEqual(self.methods(), ["POST"])
                    self.assertIn("not today", result.err)
                    self.assertNotIn("--resume", result.err)

    def test_a_task_that_is_accepted_failed_is_a_failed_task(self):
        for command, submit, poll in (("image", IMAGE, GET_IMAGE), ("video", VIDEO, GET_VIDEO)):
            failed = {"id": IGEN if command == "image" else VGEN, "status": "failed", "error": {"message": "no foxes"}}
            self.gateway.on(submit, reply(200, failed))
            self.gateway.on(poll, reply(200, failed))
            result = self.call(command, "x")
            self.assertQuietly(10, result)
            self.assertIn("no foxes", result.err)

    def test_a_poll_that_answers_200_with_an_error_ends_by_its_code_and_can_be_resumed(self):
        for answer, end in (
            ({"error": {"code": "invalid_api_key", "message": "not today"}}, 4),
            ({"success": False, "message": "not today"}, 1),
        ):
            for command, poll, task_id in (("image", GET_IMAGE, IGEN), ("video", GET_VIDEO, VGEN)):
                with self.subTest(answer=answer, command=command):
                    self.fresh()
                    self.gateway.on(poll, reply(200, answer))
                    result = self.call(command, "x")
                    self.assertQuietly(end, result)
                    self.assertEqual(self.methods(), ["POST", "GET"])
                    self.assertResumable(result, command, task_id)

    def test_a_redirected_submit_is_status_3_and_not_followed(self):
        for code in (301, 302, 303, 307, 308):
            for command, submit in (("image", IMAGE), ("video", VIDEO)):
                with self.subTest(code=code, command=command):
                    self.gateway.requests.clear()
                    self.gateway.on(submit, reply(code, b"", {"Location": f"{self.gateway.url}/elsewhere"}))
                    self.assertQuietly(3, self.call(command, "x"))
                    self.assertEqual(self.methods(), ["POST"])


class Unreachable(TaskCase):
    def test_a_request_that_never_left_is_repeated_and_then_status_3(self):
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{closed.getsockname()[1]}"
            path = os.path.join(self.state, "ledger.db")
            for command in ("image", "video"):
                with self.subTest(command):
                    result = self.call(command, "x", ALLTOKEN_BASE_URL=url)
                    self.assertQuietly(3, result)
                    self.assertEqual(result.err.count("[retry]"), 2)
                    self.assertIn("[cost] none\n", result.err)
                    (row,) = ledger.rows(path, "command = ?", (command,), ("task_id", "cost", "source", "exit_status"))
                    self.assertEqual(row, (None, None, "none", 3))


class Ids(TaskCase):
    ODD = (
        "../../etc/passwd",
        "a/b",
        "a%2Fb",
        "\x1b[31mred",
        "a\rb",
        "x\n[error] forged",
        "\u202eabc",
        "é?#",
        "\ud800",
        ".hidden",
    )

    def test_an_odd_id_is_one_segment_of_the_path_and_names_no_file(self):
        for task_id in self.ODD:
            for command, submit in (("image", IMAGE), ("video", VIDEO)):
                with self.subTest(task_id=task_id, command=command):
                    self.gateway.requests.clear()
                    self.gateway.on(submit, reply(202, {"id": task_id, "status": "queued"}))
                    result = self.call(command, "x", "--max-wait", "5")
                    self.assertQuietly(1, result)  # the gateway does not know it
                    self.assertEqual(len(self.gets()), 1)
                    self.assertEqual(self.gets()[0].path.count("/"), 4)
                    self.assertNotIn("..", self.gets()[0].path.split("/"))
                    self.assertNotRegex(result.err, "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]")
                    self.assertNotRegex(result.err, r"(?m)^\[error\] forged")
        self.assertPlace()

    def test_the_whole_result_of_an_odd_id_stays_in_its_directories(self):
        odd = "../../../escape"
        path = "GET /v1/images/generations/..%2F..%2F..%2Fescape"
        self.gateway.on(IMAGE, reply(202, {"id": odd, "status": "queued"}))
        self.gateway.on(path, cut(document(entry(png())), 200), refuse(410, "image_already_retrieved"))
        self.assertQuietly(11, self.image("x", "-o", "out.png"))
        self.assertEqual(sorted(os.listdir(self.folder)), ["place", "state"])
        self.assertRegex(" ".join(self.kept()), r"\Aspool/[0-9a-f]{32}\.[0-9a-f]{8}\.json\Z")

    def test_on_a_terminal_an_id_is_inert(self):
        for task_id in ("\x1b]0;title\x07", "\u202eabc", "a\rb"):
            for command, submit in (("image", IMAGE), ("video", VIDEO)):
                with self.subTest(task_id=task_id, command=command):
                    self.gateway.on(submit, reply(202, {"id": task_id, "status": "queued"}))
                    result = self.call(command, "x", "--detach", terminals="out err")
                    self.assertQuietly(0, result)
                    shown = result.out.decode() + result.err
                    shown = shown.replace("\r\x1b[K", "").replace("\x1b[2m[cost] unknown\x1b[0m", "")
                    self.assertNotRegex(shown, "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]")

    def test_an_id_with_a_line_break_forges_no_line_on_stderr(self):
        for command, submit in (("image", IMAGE), ("video", VIDEO)):
            self.gateway.on(submit, reply(202, {"id": "x\n[error] forged", "status": "queued"}))
            self.assertNotRegex(self.call(command, "x", "--detach", "--max-wait", "5").err, r"(?m)^\[error\] forged")

    def test_an_id_that_would_climb_is_refused_by_hand_too(self):
        for argv in (("image", "--resume", ".."), ("video", "--resume", "."), ("video", "--cancel", "..")):
            with self.subTest(argv):
                self.assertQuietly(2, self.call(*argv))
        self.assertEqual(self.gateway.requests, [])

    def test_an_id_that_begins_like_an_option_is_resumed_by_the_line_that_was_told(self):
        self.gateway.on(IMAGE, reply(202, {"id": "-rf", "status": "queued"}))
        told = self.image("x", "--detach")
        self.assertIn("alltoken-call image --resume=-rf  # ", told.err)
        self.gateway.on("GET /v1/images/generations/-rf", reply(200, document(entry(png()))))
        self.assertQuietly(0, self.image("--resume=-rf"))

    def test_an_id_that_the_gateway_does_not_know_is_not_found_and_no_longer_resumed(self):
        for command in ("image", "video"):
            result = self.call(command, "--resume", "unknown", "--json")
            self.assertQuietly(1, result)
            self.assertEqual((result.document["status"], result.document["resume"]), ("not_found", None))

    def test_the_id_may_stand_under_task_id(self):
        self.gateway.on(IMAGE, reply(200, {"task_id": "igen_x", "status": "queued"}))
        self.gateway.on("GET /v1/images/generations/igen_x", reply(200, document(entry(png()))))
        self.assertQuietly(0, self.image("x"))


class Records(TaskCase):
    def test_the_id_is_told_and_recorded_before_the_first_poll(self):
        seen = {}

        def look(exchange):
            seen["row"] = self.row(IGEN)
            seen["err"] = err.getvalue()
            normal(exchange)

        err = io.BytesIO()
        self.gateway.on(GET_IMAGE, look)
        self.assertQuietly(0, self.image("a fox", "-o", "fox.png", stderr=err))
        row = seen["row"]
        self.assertEqual((row["command"], row["status"], row["model"]), ("image", "queued", "gpt-image-2"))
        self.assertEqual(row["output"], os.path.join(self.place, "fox.png"))
        self.assertIn(f"submitted {IGEN}".encode(), seen["err"])

    def test_without_a_ledger_the_id_is_told_before_the_first_poll_also_with_quiet(self):
        seen = []

        def look(exchange):
            seen.append(err.getvalue().decode())
            normal(exchange)

        err = io.BytesIO()
        self.gateway.on(GET_IMAGE, look)
        self.assertQuietly(0, self.image("a fox", "-q", stderr=err, ALLTOKEN_LEDGER="off"))
        self.assertIn(IGEN, seen[0])

    def test_a_finished_row_says_what_it_cost_and_never_what_was_asked(self):
        self.gateway.on(
            GET_IMAGE,
            reply(200, document(entry(png()), usage={"input_tokens": 10, "output_tokens": 272, "cost": "0.02"})),
        )
        self.assertQuietly(0, self.image("a very secret fox", "-o", "x.png"))
        row = self.row(IGEN)
        self.assertEqual(
            (row["status"], row["exit_status"], row["prompt_tokens"], row["completion_tokens"]),
            ("completed", 0, 10, 272),
        )
        self.assertEqual((row["cost"], row["source"], row["request_id"]), ("0.02", "gateway", "req_loopback_1"))
        self.assertGreaterEqual(row["ended"], row["started"])
        data = b""
        for name in (name for name in os.listdir(self.state) if name.startswith("ledger.db")):
            with open(os.path.join(self.state, name), "rb") as file:
                data += file.read()
        self.assertIn(IGEN.encode(), data)
        for secret in (
            b"secret fox",
            self.environ["ALLTOKEN_API_KEY"].encode(),
            self.environ["ALLTOKEN_API_KEY"].encode("utf-16-le"),
        ):
            self.assertNotIn(secret, data)
        self.assertEqual(os.stat(os.path.join(self.state, "ledger.db")).st_mode & 0o777, 0o600)

    def test_a_failed_row_has_its_exit_status_and_a_resume_finishes_the_same_row(self):
        self.gateway.on(GET_IMAGE, status("processing"))
        self.assertQuietly(8, self.image("a fox", "--max-wait", "5"))
        first = self.row(IGEN)
        self.assertEqual((first["exit_status"], first["status"]), (8, "processing"))
        self.gateway.on(GET_IMAGE, normal)
        self.assertQuietly(0, self.image("--resume"))
        second = self.row(IGEN)
        self.assertEqual(
            (second["exit_status"], second["status"], second["started"]), (0, "completed", first["started"])
        )

    def test_a_ledger_that_cannot_be_used_is_one_warning_and_the_image_is_made(self):
        broken = self.file("broken.db", b"this is no database, but long enough to be looked at as one" * 20)
        for path in (broken, os.path.join(broken, "below.db"), self.folder):
            with self.subTest(path=path):
                result = self.image("a fox", ALLTOKEN_LEDGER=path)
                self.assertQuietly(0, result)
                self.assertEqual(result.err.count("[warning]"), 1)
                self.assertIn(path, result.err)

    def test_with_the_ledger_off_nothing_is_written_and_nothing_is_said_of_it(self):
        self.gateway.on(GET_IMAGE, status("processing"), normal)
        first = self.image("a fox", "-o", "my fox.png", "--detach", ALLTOKEN_LEDGER="off")
        self.assertEqual(self.kept(), [])
        self.assertFalse(os.path.exists(os.path.join(self.state, "ledger.db")))
        self.assertIn(f"alltoken-call image --resume {IGEN} -o 'my fox.png'  # ", first.err)
        second = self.image("--resume", IGEN, "-o", "my fox.png", ALLTOKEN_LEDGER="off")
        self.assertQuietly(0, second)
        self.assertNotIn("[warning]", first.err + second.err)
        self.assertHolds("my fox.png", self.gateway.tasks.image)

    def test_an_image_taken_for_a_video_leaves_the_other_commands_task_on_record(self):
        self.assertQuietly(0, self.video("waves", "--detach"))
        self.assertQuietly(1, self.image("--resume", VGEN))
        result = self.video("--resume")
        self.assertQuietly(0, result)
        self.assertIn(VGEN.encode(), result.out)


class Polls(TaskCase):
    def waited(self, *steps, command="image"):
        self.gateway.on(GET_IMAGE if command == "image" else GET_VIDEO, *steps, normal)
        result = self.call(command, "x")
        self.assertQuietly(0, result)
        return result.sleeps

    def test_the_first_poll_goes_out_at_once(self):
        self.assertEqual(self.waited(), [])

    def test_the_gateways_hint_goes_before_its_header_and_its_header_before_ours(self):
        header = {"Retry-After": "7"}
        date = {"Retry-After": formatdate(self.clock.time() + 3600, usegmt=True)}
        for name, fields, headers, low, high in (
            ("hint", {"next_poll_after_ms": 50000}, header, 49.6, 50),  # less what asking for the price takes
            ("fraction", {"next_poll_after_ms": 1500.5}, {}, 1.1, 1.6),
            ("header", {}, header, 6.6, 7),
            ("date", {}, date, 59, 60),
            ("ours", {}, {}, 1.6, 2),
            ("soon", {"next_poll_after_ms": 0}, {}, 0, 0.05),
            ("never", {"next_poll_after_ms": 10**12}, {}, 59, 60),
            ("late header", {}, {"Retry-After": "86400"}, 59, 60),
        ):
            with self.subTest(name):
                self.gateway.on(IMAGE, reply(202, {"id": IGEN}))
                self.gateway.on(GET_IMAGE, reply(200, PENDING | fields, headers), reply(200, document(entry(png()))))
                result = self.image("x")
                self.assertQuietly(0, result)
                self.assertLessEqual(len(result.sleeps), 1)
                self.assertTrue(low <= sum(result.sleeps) <= high, result.sleeps)

    def test_garbage_for_either_hint_counts_as_absent(self):
        for hint in ("soon", "5000", None, [], {}, True, float("nan"), -1):
            for header in (
                {},
                {"Retry-After": "garbage"},
                {"Retry-After": "-5"},
                {"Retry-After": "1_0"},
                {"Retry-After": ""},
            ):
                with self.subTest(hint=hint, header=header):
                    self.gateway.on(IMAGE, reply(202, {"id": IGEN}))
                    answer = reply(200, PENDING | {"next_poll_after_ms": hint}, header)
                    self.gateway.on(GET_IMAGE, answer, reply(200, document(entry(png()))))
                    result = self.image("x")
                    self.assertQuietly(0, result)
                    self.assertEqual([round(seconds + 0.1) for seconds in result.sleeps], [2])

    def test_a_hint_that_no_float_holds_ends_nothing(self):
        for number in (b"1e999", b"1" + b"0" * 400, b"-1" + b"0" * 400):
            with self.subTest(number=number[:6]):
                self.gateway.on(IMAGE, reply(202, {"id": IGEN}))
                answer = b'{"id": "x", "status": "queued", "next_poll_after_ms": %s}' % number
                self.gateway.on(GET_IMAGE, reply(200, answer), reply(200, document(entry(png()))))
                self.assertQuietly(0, self.image("x"))

    def test_videos_are_polled_every_3_s_where_nothing_is_said(self):
        found = self.waited(reply(200, {"status": "queued"}), command="video")
        self.assertEqual([round(seconds + 0.1) for seconds in found], [3])

    def test_a_failing_poll_is_not_a_failing_task(self):
        failures = {
            "500": refuse(500, "upstream_error"),
            "502": reply(502, b"<html>"),
            "503": refuse(503, "all_providers_failed"),
            "504": reply(504, b""),
            "429": refuse(429, "rate_limited"),
            "408": refuse(408, "timeout"),
            "closed": gone,
            "reset": reset,
            "silence": silent,
            "cut": cut(b'{"status": "queued"}', 10),
            "a page": reply(200, b"<html>captive portal</html>"),
            "nothing": reply(200, b""),
            "no object": reply(200, b"[1, 2"),
            "null": reply(200, None),
            "binary": reply(200, bytes(range(256))),
            "not HTTP": raw(b"\x16\x03\x01garbage\r\n\r\n"),
            "a strange encoding": reply(200, b"x", {"Content-Encoding": "br"}),
            "no status": reply(200, {"id": IGEN}),
            "an empty status": reply(200, {"status": ""}),
            "a status of another type": reply(200, {"status": {"a": 1}}),
            "an unknown status": status("pondering"),
        }
        for command, submit, poll in (("image", IMAGE, GET_IMAGE), ("video", VIDEO, GET_VIDEO)):
            self.gateway.on(submit, reply(202, {"id": IGEN if command == "image" else VGEN}))
            end = document(entry(png())) if command == "image" else {"status": "completed", "video_url": "https://x/y"}
            for name, failure in failures.items():
                with self.subTest(name, command=command):
                    self.gateway.requests.clear()
                    again = gone if failure is silent else failure  # which takes its time
                    self.gateway.on(poll, failure, again, again, reply(200, end))
                    result = self.call(command, "x", "--timeout", "0.4")
                    self.assertQuietly(0, result)
                    self.assertEqual(self.methods(), ["POST"] + ["GET"] * 4)
                    self.assertEqual(len(result.sleeps), 3)
            self.assertEqual(self.kept(), [])

    def test_a_gateway_that_keeps_failing_is_asked_until_max_wait(self):
        for name, failure in {
            "500": refuse(500, "x"),
            "reset": reset,
            "page": reply(200, b"<html>"),
            "409": refuse(409, "busy"),
            "unknown": status("pondering"),
        }.items():
            for command, poll, task_id in (("image", GET_IMAGE, IGEN), ("video", GET_VIDEO, VGEN)):
                with self.subTest(name, command=command):
                    self.fresh()
                    self.gateway.on(poll, failure)
                    before = self.clock.monotonic()
                    result = self.call(command, "x", "--max-wait", "90", "--json")
                    self.assertQuietly(8, result)
                    self.assertTrue(90 <= self.clock.monotonic() - before < 93)
                    self.assertGreater(len(self.gets()), 5)
                    line = self.assertResumable(result, command, task_id)
                    found = result.document
                    self.assertEqual(
                        (found["task_id"], found["resume"], found["error"]["code"]), (task_id, line, "pending")
                    )
                    self.assertEqual(found["status"], "pondering" if name == "unknown" else "queued")

    def test_the_last_look_at_a_failing_gateway_is_at_the_deadline_and_may_bring_the_image(self):
        for pause in ("60", "31"):
            with self.subTest(pause=pause):
                self.fresh()
                self.gateway.on(GET_IMAGE, refuse(503, "busy", headers={"Retry-After": pause}), normal)
                result = self.image("x", "-o", "x.png", "--max-wait", "30")
                self.assertQuietly(0, result)
                self.assertTrue(29 < sum(result.sleeps) <= 30, result.sleeps)
                self.assertEqual(self.methods(), ["POST", "GET", "GET"])
                self.assertHolds("x.png", self.gateway.tasks.image)

    def test_max_wait_is_10_minutes_for_an_image_and_30_for_a_video(self):
        for command, poll, seconds in (("image", GET_IMAGE, 600), ("video", GET_VIDEO, 1800)):
            with self.subTest(command):
                self.fresh()
                self.gateway.on(poll, reply(200, {"status": "processing", "next_poll_after_ms": 60000}))
                before = self.clock.monotonic()
                self.assertQuietly(8, self.call(command, "x"))
                self.assertAlmostEqual(self.clock.monotonic() - before, seconds, delta=2)

    def test_failing_polls_are_told_and_wait_longer_and_longer(self):
        self.gateway.on(GET_IMAGE, *[refuse(500, "upstream_error", "tea break")] * 6, normal)
        result = self.image("x")
        self.assertEqual(result.err.count("[retry] 500 upstream_error: waiting "), 6)
        self.assertEqual(
            [round(seconds, 1) for seconds in result.sleeps], [2, 2, 2, 3, 6, 6]
        )  # min(8, 0.5·2ⁿ)·0.75, and not before 2 s

    def test_a_failing_polls_retry_after_is_kept_to_within_bounds(self):
        for value, low, high in (
            ("5", 4.9, 5),
            ("86400", 59, 60),
            ("0", 0.04, 8),
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0.04, 8),
        ):
            for code in (429, 503, 409):
                with self.subTest(value=value, code=code):
                    self.gateway.on(IMAGE, reply(202, {"id": IGEN}))
                    answer = refuse(code, "busy", headers={"Retry-After": value})
                    self.gateway.on(GET_IMAGE, answer, answer, reply(200, document(entry(png()))))
                    result = self.image("x")
                    self.assertQuietly(0, result)
                    self.assertEqual(len(result.sleeps), 2)
                    self.assertTrue(all(low <= seconds <= high for seconds in result.sleeps), result.sleeps)

    def test_another_reader_is_waited_for(self):
        self.gateway.on(GET_IMAGE, *[refuse(409, "image_being_read")] * 3, normal)
        result = self.image("x", "-o", "x.png")
        self.assertQuietly(0, result)
        self.assertEqual([round(seconds, 1) for seconds in result.sleeps], [2.0] * 3)
        self.assertEqual(result.err.count("[retry] 409 image_being_read: waiting 2 s\n"), 3)

    def test_what_no_waiting_mends_ends_it(self):
        for code, slug, end, resumable in (
            (401, "invalid_api_key", 4, True),
            (402, "insufficient_balance", 6, True),
            (403, "forbidden", 4, True),
            (404, "task_not_found", 1, False),
            (410, "image_already_retrieved", 11, False),
            (410, "image_expired", 11, False),
            (410, "http_410", 11, False),
        ):
            for command, poll, task_id in (("image", GET_IMAGE, IGEN), ("video", GET_VIDEO, VGEN)):
                with self.subTest(code=code, command=command):
                    self.fresh()
                    self.gateway.on(poll, reply(410, b"") if slug == "http_410" else refuse(code, slug))
                    result = self.call(command, "x", "--json")
                    self.assertQuietly(end, result)
                    self.assertEqual(self.methods(), ["POST", "GET"])
                    self.assertEqual(result.document["error"]["code"], slug)
                    self.assertEqual(result.document["task_id"], task_id)
                    self.assertEqual(result.document["resume"] is not None, resumable)
                    self.assertEqual("--resume" in result.err, resumable)
                    self.assertEqual(self.call(command, "--resume").status, end if resumable else 1)

    def test_a_redirected_poll_is_not_followed_with_the_key(self):
        self.gateway.on(GET_IMAGE, reply(302, b"", {"Location": f"{self.gateway.url}/elsewhere"}))
        result = self.image("x")
        self.assertQuietly(3, result)
        self.assertEqual(self.methods(), ["POST", "GET"])
        self.assertResumable(result, "image", IGEN)


class Ends(TaskCase):
    def test_succeeded_is_completed(self):
        self.gateway.on(GET_IMAGE, reply(200, document(entry(png()), status="succeeded")))
        result = self.image("x", "--json")
        self.assertQuietly(0, result)
        self.assertEqual(result.document["status"], "completed")
        self.gateway.on(
            "GET /v1/videos/generations/vgen_00000002", reply(200, {"status": "succeeded", "video_url": "https://x/y"})
        )
        result = self.video("x", "--json")
        self.assertQuietly(0, result)
        self.assertEqual(result.document["status"], "completed")

    def test_a_task_that_failed_was_cancelled_or_expired_is_status_10_with_the_gateways_reason(self):
        error = {"code": "upstream_content_violation", "type": "invalid_request_error", "message": "no foxes"}
        for name, shown in (
            ("failed", "failed"),
            ("cancelled", "cancelled"),
            ("canceled", "cancelled"),
            ("expired", "expired"),
        ):
            for fields, code, message in (
                ({"error": error}, error["code"], "no foxes"),
                ({}, f"task_{shown}", shown),
                ({"error": None}, f"task_{shown}", shown),
                ({"error": {"message": "hm"}}, None, "hm"),
                ({"error": "just so"}, None, "just so"),
            ):
                for command, poll in (("image", GET_IMAGE), ("video", GET_VIDEO)):
                    with self.subTest(name, command=command, fields=fields):
                        self.fresh()
                        self.gateway.on(poll, status(name, **fields))
                        result = self.call(command, "x", "--json")
                        self.assertQuietly(10, result)
                        found = result.document
                        self.assertEqual(
                            (found["status"], found["error"]["code"]), (shown, code or found["error"]["code"])
                        )
                        self.assertIn(message, found["error"]["message"])
                        self.assertIsNone(found["resume"])
                        self.assertNotIn("--resume", result.err)
        self.assertQuietly(1, self.image("--resume"))

    def test_the_error_line_shows_code_type_and_request_id(self):
        error = {"code": "upstream_content_violation", "type": "invalid_request_error", "message": "no foxes"}
        self.gateway.on(GET_IMAGE, status("failed", error=error))
        result = self.image("x")
        self.assertIn("[error] upstream_content_violation (invalid_request_error): no foxes\n", result.err)
        self.assertIn("request_id: req_loopback_1\n", result.err)


@unittest.skipUnless(hasattr(signal, "pthread_kill"), "signals of POSIX")
class Signals(TaskCase):
    def interrupted(self, step, *more, signum=signal.SIGINT, command="image"):
        self.gateway.on(GET_IMAGE if command == "image" else GET_VIDEO, step, *more, normal)
        self.out = f"{len(self.gateway.requests)}.out"
        return self.call(command, "x", "-o", self.out, signals=True)

    def test_a_signal_between_two_polls_ends_it_at_once_with_the_resume_command(self):
        for signum, end in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)):
            for command, submit, task_id in (("image", IMAGE, IGEN), ("video", VIDEO, VGEN)):
                with self.subTest(signum=signum, command=command):
                    self.gateway.on(submit, reply(202, {"id": task_id}))

                    def step(exchange, signum=signum):
                        exchange.reply(200, PENDING)

                    def sleep(seconds, signum=signum):
                        signal.raise_signal(signum)

                    with mock.patch.object(self.clock, "sleep", sleep):
                        result = self.interrupted(step, signum=signum, command=command)
                    self.assertQuietly(end, result)
                    self.assertResumable(result, command, task_id)
                    self.assertEqual(self.row(task_id)["exit_status"], end)

    def test_a_signal_during_a_poll_that_then_fails_ends_the_command(self):
        for name, then in {
            "503": refuse(503, "busy"),
            "closed": gone,
            "cut": cut(b'{"status": "queued"}', 9),
            "page": reply(200, b"<html>"),
            "pending": status("processing"),
        }.items():
            for signum, end in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
                with self.subTest(name, signum=signum):
                    self.fresh()

                    def step(exchange, then=then, signum=signum):
                        strike(signum)
                        time.sleep(0.01)
                        then(exchange)

                    result = self.interrupted(step)
                    self.assertQuietly(end, result)
                    self.assertResumable(result, "image", IGEN)
                    self.assertQuietly(0, self.image("--resume"))
                    self.assertHolds(self.out, self.gateway.tasks.image)

    def test_a_signal_while_a_status_arrives_in_pieces_leaves_the_task_to_be_resumed(self):
        for name, parts in {
            "a status": (b'{"id": "x", "sta', b'tus": "processing"}'),
            "a page": (b"<html>", b"</html>"),
        }.items():
            with self.subTest(name):
                self.fresh()
                result = self.interrupted(pieces(*parts, between=strike))
                self.assertQuietly(130, result)
                self.assertQuietly(0, self.image("--resume"))
                self.assertHolds(self.out, self.gateway.tasks.image)

    def test_a_signal_while_the_id_is_being_recorded_still_gives_the_resume_command(self):
        put = ledger.put
        for signum, end in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
            for command, task_id in (("image", IGEN), ("video", VGEN)):
                with self.subTest(signum=signum, command=command):
                    self.fresh()
                    struck = []

                    def record(*arguments, struck=struck, signum=signum):
                        if not struck:
                            struck.append(signum)
                            signal.raise_signal(signum)
                        return put(*arguments)

                    with mock.patch.object(ledger, "put", record):
                        result = self.call(command, "x", "-o", f"{signum}.out", signals=True)
                    self.assertQuietly(end, result)
                    self.assertResumable(result, command, task_id)
                    self.assertEqual(self.row(task_id)["output"], os.path.join(self.place, f"{signum}.out"))

    def test_a_signal_during_a_submit_says_nothing_of_a_task(self):
        def step(exchange):
            strike()
            exchange.hold()

        self.gateway.on(IMAGE, step)
        with mock.patch.object(tasks, "GRACE", 0.1):
            result = self.call("image", "x", "--json", signals=True)
        self.assertQuietly(130, result)
        self.assertIsNone(result.document["task_id"])
        self.assertNotIn("--resume", result.err)

    def test_a_signal_before_a_submit_leaves_buys_nothing(self):
        def resolve(*_):
            strike()
            time.sleep(10)  # until the grace is over

        slow = mock.patch.object(connection, "_resolve", resolve)
        for command in ("image", "video"):
            with self.subTest(command), mock.patch.object(tasks, "GRACE", 0.1), slow:
                result = self.call(command, "x", "--json", signals=True)
                self.assertQuietly(130, result)
                self.assertEqual(result.document["cost"], {"usd": None, "source": "none"})
                self.assertNotIn("billed", result.err)
                self.assertEqual(self.gateway.requests, [])


class Waiters(TaskCase):
    def test_two_waiters_on_one_task_one_has_the_image_and_the_other_a_clear_status(self):
        for keeps_copies, ends in ((False, [0, 11]), (True, [0, 0])):
            with self.subTest(keeps_copies=keeps_copies):
                self.gateway.tasks.keeps_copies = keeps_copies
                self.gateway.tasks.image = png(noise=100_000)
                task_id = self.image("x", "--detach", "-o", f"{keeps_copies}.png").out.decode().strip()
                seen, go = threading.Event(), threading.Event()
                data = document(entry(self.gateway.tasks.image), r2_url=None)
                poll = f"GET /v1/images/generations/{task_id}"

                def first(exchange, data=data, seen=seen, go=go, task_id=task_id):
                    self.gateway.tasks.all[task_id] |= {"read": True, "status": "completed"}
                    exchange.head(200, {"Content-Length": str(len(data))})
                    exchange.raw(data[: len(data) // 2])
                    seen.set()
                    go.wait(10)
                    exchange.raw(data[len(data) // 2 :])

                def second(exchange, go=go):
                    exchange.refuse(409, "image_being_read", "conflict_error", "busy")
                    go.set()

                self.gateway.on(poll, first, second, normal)
                one = self.spawn("image", "--resume", task_id, "-o", "one.png")
                self.assertTrue(seen.wait(10))
                other = self.image("--resume", task_id, "-o", "other.png")
                one.communicate(timeout=10)
                self.assertEqual([one.returncode, other.status], ends, other.err)
                self.assertHolds("one.png", self.gateway.tasks.image)
                if keeps_copies:
                    self.assertHolds("other.png", self.gateway.tasks.image)
                else:
                    self.assertFalse(os.path.exists("other.png"))
                    self.assertIn("retrieved already", other.err)
                self.assertEqual(self.kept(), [])
                self.assertFalse([name for name in os.listdir(".") if name.endswith(".part")])
                os.unlink("one.png")

    def test_a_waiter_that_came_too_late_does_not_take_the_result_off_the_record(self):
        self.assertQuietly(0, self.image("x", "-o", "x.png"))
        late = self.image("--resume", IGEN, "-o", "y.png")
        self.assertQuietly(11, late)
        self.assertIn(f"another run has saved it: {self.place}/x.png", late.err)
        result = self.image("--resume", IGEN)
        self.assertQuietly(0, result)
        self.assertEqual(result.out.decode().strip(), os.path.join(self.place, "x.png"))
