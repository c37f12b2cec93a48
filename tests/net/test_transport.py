"""transport.py: the key, what is repeated and what never, and refusals of every shape."""

from __future__ import annotations

import json
import os
import socket
import time
from email.utils import formatdate
from unittest import mock

from alltoken_call.calls import client
from alltoken_call.errors import NetError
from alltoken_call.net import transport
from alltoken_call.net.clock import Clock
from alltoken_call.request import Request
from alltoken_call.values import Trace

from ..gateway import CHAT, DONE, KEY, Exchange, delta, event, frames, raw, refuse, reply, stream
from ..harness import PATIENCE, Case

STATUSES = {400: 1, 401: 4, 402: 6, 403: 4, 404: 1, 409: 1, 422: 1, 429: 7, 500: 5, 502: 5, 503: 5, 504: 5}
REPEATED = (429, 503)


def bare(status: int, body: bytes, *headers: bytes) -> object:
    """A step: an answer with no headers but these."""
    return raw(b"\r\n".join([b"HTTP/1.1 %d X" % status, b"Connection: close", *headers, b"", body]))


class Refusals(Case):
    def test_the_http_status_decides_whatever_the_body_holds(self):
        deep = b'{"error":' * 50_000
        envelope = {"error": {"code": "some_slug", "type": "some_error", "message": "no", "request_id": "req_1"}}
        for status, expected in STATUSES.items():
            for name, body in (
                ("an envelope", json.dumps(envelope).encode()),
                ("a number for a code", b'{"error":{"code":402,"type":null,"message":"no"}}'),
                ("nothing", b""),
                ("HTML", b"<html><h1>502 Bad Gateway</h1></html>"),
                ("a cut envelope", b'{"error":{"code":"insuff'),
                ("an empty envelope", b'{"error":{}}'),
                ("words", b'{"error":"no"}'),
                ("a list", b'[{"error":1}]'),
                ("odd types", b'{"error":{"code":[],"type":{},"message":["x"],"request_id":7,"param":NaN}}'),
                ("bytes", b"\xff\xfe\x00\x1b[2J"),
                ("a deep one", deep),
            ):
                with self.subTest(name, status=status):
                    self.gateway.requests.clear()
                    self.gateway.on(CHAT, reply(status, body))
                    result = self.chat("hi")
                    page = status == 404 and name == "HTML"  # nobody's API is there
                    self.assertQuietly(3 if page else expected, result)
                    self.assertEqual((result.out, self.asked()), (b"", 3 if status in REPEATED else 1))
                    self.assertIn("[error] ", result.err)
                    self.assertIn(f"{status}", result.err)
                    self.assertRegex(result.err, r"request_id: (req_1|req_loopback_1|7)\n")

    def test_the_error_line_gives_code_status_type_and_message_then_id_then_hint(self):
        self.gateway.on(CHAT, refuse(402, "insufficient_balance", "no credit", type="billing_error"))
        lines = self.chat("hi").err.splitlines()
        at = lines.index("[error] insufficient_balance (402 billing_error): no credit")
        self.assertEqual(lines[at + 1], "request_id: req_loopback_1")
        self.assertIn("Billing", lines[at + 2])
        self.assertEqual(len(lines), at + 3)

    def test_the_request_id_is_found_wherever_it_sits(self):
        for name, body, *headers in (
            ("the envelope", b'{"error":{"code":"x","request_id":"req_found"}}'),
            ("the top", b'{"error":{"code":"x"},"request_id":"req_found"}'),
            ("the top, in the gateway's name", b'{"error":{"code":"x"},"x-gateway-request-id":"req_found"}'),
            ("a header", b'{"error":{"code":"x"}}', b"x-request-id: req_found"),
            ("the gateway's header", b"<html>", b"X-Gateway-Request-Id: req_found"),
        ):
            with self.subTest(name):
                self.gateway.on(CHAT, bare(400, body, *headers))
                result = self.chat("hi")
                self.assertIn("request_id: req_found\n", result.err)
                document = self.chat("hi", "--json").document
                self.assertEqual((document["request_id"], document["error"]["request_id"]), ("req_found", "req_found"))

    def test_a_redirect_is_not_followed_and_its_request_id_is_told(self):
        for status in (301, 302, 303, 307, 308):
            with self.subTest(status):
                self.gateway.requests.clear()
                self.gateway.on(CHAT, reply(status, b"", {"Location": f"{self.gateway.url}/elsewhere"}))
                result = self.chat("hi")
                self.assertQuietly(3, result)
                self.assertEqual(len(self.gateway.requests), 1)
                self.assertIn("request_id: req_loopback_1", result.err)

    def test_a_huge_body_is_not_read_to_its_end(self):
        sent = []

        def step(exchange):
            exchange.head(402, {"Content-Length": str(30 << 20)})
            exchange.raw(b'{"error":{"message":"')
            for _ in range(480):
                exchange.raw(b"x" * (1 << 16))
                sent.append(1)

        self.gateway.on(CHAT, step)
        result = self.chat("hi")
        self.assertQuietly(6, result)
        self.assertIn("request_id: req_loopback_1", result.err)
        self.assertLess(len(result.err), 2000)
        self.assertTrue(self.gateway.answered.acquire(timeout=5))
        self.assertLess(len(sent), 480)

    def test_a_body_that_never_ends_is_waited_for_a_bounded_time(self):
        def drip(exchange):
            exchange.head(500, chunked=True)
            while not exchange.gateway.stopping.wait(0.02):
                exchange.chunk(b" ")

        self.gateway.on(CHAT, drip)
        started = time.monotonic()
        with mock.patch.object(client, "ERROR_PATIENCE", 0.1):
            self.assertQuietly(5, self.chat("hi"))
        self.assertLess(time.monotonic() - started, 5)

    def test_a_message_cannot_drive_the_terminal_or_pose_as_another_line(self):
        self.gateway.on(CHAT, refuse(400, "x", "a\n[cost] $0\r\x1b[2J\u202e\x9b1m\u2028[cost] $1" + "y" * 5000))
        err = self.chat("hi").err
        self.assertNotRegex(err, "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]")
        self.assertEqual([line for line in err.splitlines() if line.startswith("[cost]")], ["[cost] none"])
        self.assertLess(len(err), 1500)


class Repeats(Case):
    def test_429_and_503_are_repeated_twice_with_growing_waits_each_told(self):
        for status in REPEATED:
            with self.subTest(status):
                self.gateway.requests.clear()
                self.gateway.on(CHAT, refuse(status, "slug"))
                result = self.chat("hi")
                self.assertEqual((self.asked(), result.sleeps), (3, [0.375, 0.75]))
                self.assertIn(f"[retry] {status} slug: waiting 0.375 s (1 of 2)\n", result.err)
                self.assertIn(f"[retry] {status} slug: waiting 0.75 s (2 of 2)\n", result.err)

    def test_a_repeat_that_succeeds_is_a_success(self):
        self.gateway.on(CHAT, refuse(429, "rate_limited"), stream(frames("hi") + DONE))
        result = self.chat("hi")
        self.assertEqual((result.status, result.out, self.asked()), (0, b"hi\n", 2))
        bodies = [exchange.body for exchange in self.gateway.requests]
        self.assertEqual(bodies[0], bodies[1])

    def test_retry_after_replaces_our_own_wait(self):
        for value, expected in (
            ("1", [1.0, 1.0]),
            (" 60 ", [60.0, 60.0]),
            ("0", [0.0, 0.0]),
            ("Wed, 21 Oct 2015 07:28:00 GMT", [0.0, 0.0]),
            ("soon", [0.375, 0.75]),
            ("-1", [0.375, 0.75]),
            ("1_0", [0.375, 0.75]),
            ("1.5", [0.375, 0.75]),
            ("\xb2", [0.375, 0.75]),
            ("", [0.375, 0.75]),
        ):
            with self.subTest(value):
                self.gateway.on(CHAT, refuse(429, "rate_limited", headers={"Retry-After": value}))
                result = self.chat("hi")
                self.assertQuietly(7, result)
                self.assertEqual(result.sleeps, expected)

    def test_a_long_retry_after_ends_the_command_at_once_with_the_seconds_told(self):
        for value, told in (("86400", "86400"), ("61", "61"), ("9" * 5000, "9999999999")):
            with self.subTest(value[:9]):
                self.gateway.requests.clear()
                self.gateway.on(CHAT, refuse(429, "rate_limited", headers={"Retry-After": value}))
                result = self.chat("hi")
                self.assertQuietly(7, result)
                self.assertEqual((self.asked(), result.sleeps), (1, []))
                self.assertIn(told, result.err)

    def test_a_retry_after_that_is_a_date_is_waited_for(self):
        self.gateway.on(CHAT, refuse(503, "x", headers={"Retry-After": formatdate(time.time() + 30, usegmt=True)}))
        for seconds in self.chat("hi").sleeps:
            self.assertTrue(25 < seconds <= 30, seconds)

    def test_a_wait_longer_than_max_wait_is_not_begun(self):
        self.gateway.on(CHAT, refuse(429, "rate_limited", headers={"Retry-After": "30"}))
        result = self.chat("hi", "--max-wait", "5")
        self.assertQuietly(7, result)
        self.assertEqual((self.asked(), result.sleeps), (1, []))

    def test_nothing_is_repeated_after_the_first_byte_of_an_answer(self):
        self.gateway.on(CHAT, stream(event({"error": {"code": "rate_limited"}})))
        self.assertQuietly(7, self.chat("hi"))
        self.gateway.on(CHAT, stream(event(delta("a")), event({"error": {"code": 503}})))
        self.assertQuietly(9, self.chat("hi"))
        self.assertEqual(self.asked(), 2)


class Keys(Case):
    def test_a_bad_key_is_status_4_with_nothing_sent_and_nothing_of_it_shown(self):
        for name, key in (
            ("missing", None),
            ("empty", ""),
            ("blank", " \t\n"),
            ("a line break", "secret-one\nsecret-two"),
            ("CR LF", "secret-one\r\nX-Evil: secret-two"),
            ("a space", "secret-one secret-two"),
            ("a tab", "secret-one\tsecret-two"),
            ("not ASCII", "secret-é"),
            ("not UTF-8", "secret-\udcff"),
            ("NUL", "secret\0secret"),
            ("DEL", "secret\x7f"),
        ):
            for more in ((), ("--json",), ("-v",)):
                with self.subTest(name, more=more):
                    result = self.chat("hi", *more, ALLTOKEN_API_KEY=key)
                    self.assertEqual(result.status, 4)
                    self.assertEqual(self.gateway.requests, [])
                    self.assertNotIn("secret", result.err + result.out.decode())
                    self.assertNotIn("Traceback", result.err)

    def test_white_space_around_the_key_is_dropped(self):
        self.assertEqual(self.chat("hi", ALLTOKEN_API_KEY=f" \t{KEY}\r\n").status, 0)
        self.assertEqual(self.gateway.requests[0].headers["Authorization"], f"Bearer {KEY}")

    def test_a_key_that_is_rejected_is_status_4(self):
        self.assertEqual(self.chat("hi", ALLTOKEN_API_KEY="wrong").status, 4)
        self.assertEqual(self.asked(), 1)

    def test_a_key_that_the_gateway_echoes_is_never_shown(self):
        key = self.environ["ALLTOKEN_API_KEY"] = "echoed-secret"
        for name, step in {
            "message": refuse(400, "x", f"the key {key} is bad"),
            "at the message's cut": refuse(400, "x", "x" * 990 + key),
            "code": refuse(400, key),
            "type": refuse(400, "x", type=key),
            "request id": refuse(400, "x", request_id=key),
            "words": reply(429, {"error": f"{key} is limited"}),
            "header": bare(500, b"", b"x-request-id: " + key.encode()),
            "redirect": bare(302, b"", b"Location: http://localhost/" + key.encode()),
            "in a stream": stream(event({"error": {"code": key, "message": key, "request_id": key}})),
            "a whole answer": reply(200, {"error": {"message": key}, "x-gateway-request-id": key}),
        }.items():
            self.gateway.on(CHAT, step)
            for more in ((), ("--json",), ("-v",)):
                with self.subTest(name, more=more):
                    result = self.chat("hi", *more)
                    self.assertNotIn(key[:8], result.err + result.out.decode())

    def test_reasoning_that_quotes_the_key_does_not_show_it(self):
        self.gateway.on(CHAT, stream(event(delta(reasoning_content=f"the key is {KEY}\n")), frames("hi") + DONE))
        self.assertIn("the key is [key]\n", self.chat("hi", "--thinking").err)

    def test_verbose_tells_the_requests_without_the_key(self):
        result = self.chat("-v", "hi")
        self.assertIn(f"POST {self.gateway.url}{CHAT.split()[1]}\n", result.err)
        self.assertNotIn(KEY, result.err)

    def test_the_request_is_json_with_the_key_as_bearer(self):
        self.chat("Grüße \ud83d", "-m", "gpt-5.4-nano")
        request = self.gateway.requests[0]
        self.assertEqual(request.headers["Authorization"], f"Bearer {KEY}")
        self.assertEqual(request.headers["Content-Type"], "application/json")
        self.assertEqual(request.headers["Content-Length"], str(len(request.body)))
        self.assertEqual(request.json["messages"], [{"role": "user", "content": "Grüße ?"}])


class Requests(Case):
    """`Transport.send` itself, of which the key's and the clock's promises must hold for every request."""

    def setUp(self) -> None:
        super().setUp()
        self.events: list[Trace] = []
        self.transport = self.make()

    def make(self, *, key: str = KEY, timeout: float = 5.0, **clock: float) -> transport.Transport:
        return transport.Transport(Clock(**clock), key=key, timeout=timeout, proxied=False, on_event=self.events.append)

    def send(self, method: str, path: str = "/v1/x", **fields) -> Exchange:
        """The request as it came, sent by the transport."""
        self.transport.send(Request(method, self.gateway.url + path, **fields)).close()
        return self.gateway.requests[-1]

    def test_the_key_goes_where_the_request_says_whatever_its_path_and_headers(self):
        for path in ("/v1/chat/completions", "/api-account/models", "/files/x?Authorization=1"):
            for headers in ({}, {"X-Other": "1"}):
                for keyed in (True, False):
                    with self.subTest(path, headers=headers, keyed=keyed):
                        one = self.send("GET", path, keyed=keyed, headers=headers)
                        self.assertEqual(one.headers.get("Authorization"), f"Bearer {KEY}" if keyed else None)
                        self.assertEqual(KEY in str(one.headers), keyed)
                        self.assertEqual(one.headers.get("X-Other"), headers.get("X-Other"))
        self.transport = self.make(key="")
        self.assertNotIn("Authorization", self.send("GET").headers)

    def test_a_body_is_json_and_data_goes_out_as_it_is(self):
        one = self.send("POST", body={"a": "ü\ud800", "b": [1]})
        self.assertEqual((one.json, one.headers["Content-Type"]), ({"a": "ü?", "b": [1]}, "application/json"))
        data = bytes(range(256)) * 1000
        one = self.send("PUT", data=data, headers={"Content-Type": "image/png"}, keyed=False)
        self.assertEqual((one.body, one.headers["Content-Type"]), (data, "image/png"))
        for method, fields in (("PUT", {"data": b""}), ("POST", {"body": {}})):
            self.assertEqual(self.send(method, **fields).headers["Content-Length"], str(len(fields.get("data", b"{}"))))
        self.assertNotIn("Content-Length", self.send("GET").headers)

    def test_it_says_who_is_calling_and_keeps_no_connection(self):
        headers = self.send("GET").headers
        self.assertRegex(headers["User-Agent"], r"^alltoken-call/\d")
        self.assertEqual(headers["Connection"], "close")
        self.assertEqual(headers["Host"], self.gateway.url.removeprefix("http://"))
        self.assertNotIn("gzip", headers.get("Accept-Encoding", "identity"))

    def test_a_secret_address_is_not_traced_and_the_status_is(self):
        self.send("GET", "/files/one.png?signature=hidden")
        self.send("GET", "/files/one.png?signature=hidden", secret=True)
        told = [event.text for event in self.events]
        self.assertEqual(told[0], f"GET {self.gateway.url}/files/one.png?signature=hidden")
        self.assertEqual([text for text in told[2:] if "hidden" in text], [])
        self.assertRegex(told[1], r"^200 in \d")
        self.assertNotIn(KEY, str(told))

    def test_what_may_cost_something_is_a_post_with_the_key_that_has_left(self):
        for method, keyed, sent in (
            ("GET", True, False),
            ("POST", False, False),
            ("PUT", True, False),
            ("POST", True, True),
        ):
            self.send(method, keyed=keyed)
            self.assertIs(self.transport.sent, sent)
        self.transport = self.make()
        with socket.socket() as taken:  # bound, not listening: refuses
            taken.bind(("127.0.0.1", 0))
            with self.assertRaises(NetError) as caught:
                self.transport.send(Request("POST", f"http://127.0.0.1:{taken.getsockname()[1]}/"))
        self.assertEqual((caught.exception.sent, self.transport.sent), (False, False))

    def test_the_shorter_of_timeout_and_the_requests_silence_counts(self):
        self.gateway.on("GET /v1/x", Exchange.hold)
        for timeout, silence in ((0.1, 9.0), (9.0, 0.1)):
            with self.subTest(timeout=timeout, silence=silence):
                self.transport = self.make(timeout=timeout)
                with self.assertRaises(NetError) as caught:
                    self.send("GET", silence=silence)
                self.assertEqual((caught.exception.code, caught.exception.sent), ("timeout", True))

    def test_a_request_may_outlast_the_deadline_by_its_grace(self):
        def late(exchange):
            exchange.gateway.stopping.wait(0.15)
            exchange.reply(200, {})

        self.gateway.on("GET /v1/x", late)
        self.transport = self.make(max_wait=0.05)
        self.send("GET", grace=PATIENCE)
        with self.assertRaises(NetError) as caught:
            self.send("GET")
        self.assertEqual(caught.exception.code, "max_wait")

    def test_a_refusal_in_an_answer_of_status_200_is_not_repeated(self):
        refusal = {"success": False, "message": "no"}
        for place, argv, status in (
            (CHAT, ("chat", "hi", "--no-stream"), 1),
            ("POST /v1/images/generations/async", ("image", "hi", "-o", os.path.join(self.folder, "x.png")), 1),
            ("POST /v1/videos/generations", ("video", "hi"), 1),
        ):
            for document in (refusal, {"error": {"code": "odd", "message": "no"}}):
                with self.subTest(place, document=document):
                    self.gateway.requests.clear()
                    self.gateway.on(place, reply(200, document))
                    result = self.call(*argv)
                    self.assertQuietly(status, result)
                    self.assertEqual((self.gateway.count(place), result.sleeps), (1, []))


class BaseUrl(Case):
    def test_a_trailing_slash_and_v1_are_dropped(self):
        for ending in ("/", "/v1", "/v1/"):
            with self.subTest(ending):
                self.assertEqual(self.chat("hi", ALLTOKEN_BASE_URL=self.gateway.url + ending).status, 0)

    def test_an_address_that_is_not_for_the_key_is_refused_with_nothing_of_a_password_shown(self):
        for url in (
            "http://gateway.invalid",
            "http://127.0.0.1.gateway.invalid",
            "http://127.1.gateway.invalid",
            "http://0.0.0.0",
            "http://localhost.gateway.invalid",
            "https://user:hidden@gateway.invalid",
            "https://user:hid/den@gateway.invalid",
            "https://gateway.invalid?hidden=1",
            "https://gateway.invalid#hidden",
            "https://gateway.invalid:0",
            "https://gateway.invalid:hidden",
            "https://gateway.invalid:99999",
            "https://",
            "ftp://127.0.0.1",
            "file:///etc/hidden",
            "gateway.invalid",
            "https://gate\nway.invalid",
            "https://[::1",
        ):
            with self.subTest(url):
                result = self.chat("hi", ALLTOKEN_BASE_URL=url)
                self.assertQuietly(2, result)
                self.assertNotRegex(result.err, "hidden|'hid'")

    def test_what_the_gateway_points_to_is_opened_over_https_or_between_loopbacks(self):
        local, remote = "http://127.0.0.1:1", "https://api.alltoken.ai"
        for url, base, allowed in (
            ("https://x/y", remote, True),
            ("https://x/y", local, True),
            ("http://localhost/y", local, True),
            ("http://127.0.0.1/y", remote, False),
            ("http://x/y", local, False),
            ("ftp://127.0.0.1/y", local, False),
            ("https://user:pw@x/y", remote, False),
            ("https:///y", remote, False),
            ("https://[x", remote, False),
            ("https://x:99999/y", remote, False),
            ("/y", local, False),
        ):
            with self.subTest(url, base=base):
                self.assertIs(transport.is_allowed(url, base), allowed)
