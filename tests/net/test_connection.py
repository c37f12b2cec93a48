"""connection.py: one HTTP exchange, and every way in which it can fail."""

from __future__ import annotations

import base64
import contextlib
import functools
import gc
import gzip
import http.client
import math
import os
import select
import shutil
import socket
import ssl
import subprocess
import time
import unittest
import warnings
import zlib
from functools import partialmethod
from unittest import mock
from urllib.parse import urlsplit

from alltoken_call.errors import NetError
from alltoken_call.net import connection, response, trust
from alltoken_call.net.exchange import Exchange

from ..gateway import CHAT, DONE, KEY, Gateway, delta, event, frames, raw, reply, stream
from ..gateway import Exchange as Received
from ..harness import PACKAGE, PATIENCE, PYTHON, Case, Result

HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\nx-request-id: req_raw\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
KEPT = event(delta("kept"))


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def relay(one: Received, server: socket.socket) -> bytes:
    """Pass bytes both ways until one side ends; what the client sent."""
    client, sent = one._socket, b""
    while True:
        for source in select.select([client, server], [], [], PATIENCE)[0]:
            data = source.recv(1 << 16)
            if not data:
                return sent
            (server if source is client else client).sendall(data)
            sent += data if source is client else b""


@contextlib.contextmanager
def nothing_left_open(case: unittest.TestCase):
    """In the block, no socket is left to the garbage collector."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
        gc.collect()
    case.assertEqual([str(one.message) for one in caught], [])


class Cuts(Case):
    def test_a_cut_stream_is_status_9_and_keeps_the_text(self):
        for name, data in (
            ("between chunks", CHUNKED + chunk(KEPT)),
            ("inside a chunk", CHUNKED + chunk(KEPT) + b"ff\r\ndata: {"),
            ("inside a chunk's size", CHUNKED + chunk(KEPT) + b"f"),
            ("a chunk's size that is none", CHUNKED + chunk(KEPT) + b"zz\r\n"),
            ("short Content-Length", HEAD + b"Content-Length: 9999\r\n\r\n" + KEPT),
            ("no length at all", HEAD + b"\r\n" + KEPT),
            ("compressed", HEAD + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(KEPT)[:-8]),
        ):
            for then in ("close", "reset"):
                with self.subTest(name, then=then):
                    self.gateway.on(CHAT, raw(data, then=then))
                    result = self.chat("hi")
                    self.assertQuietly(9, result)
                    self.assertEqual(result.out, b"kept\n")
                    self.assertIn("request_id: req_raw", result.err)
        self.assertEqual(self.asked(), 14)

    def test_no_answer_or_none_of_http_is_status_3_and_asked_once(self):
        for name, data, then in (
            ("closed at once", b"", "close"),
            ("reset at once", b"", "reset"),
            ("garbage", b"\x16\x03\x01garbage\r\n\r\n", "close"),
            ("half a head", b"HTTP/1.1 200 OK\r\nContent-Le", "close"),
            ("a status that is none", b"HTTP/1.1 abc\r\n\r\n", "close"),
            ("an endless header", b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70_000, "close"),
            ("a thousand headers", b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 1000 + b"\r\n", "close"),
            ("an empty body", HEAD + b"Content-Length: 0\r\n\r\n", "close"),
            ("a negative length", HEAD + b"Content-Length: -1\r\n\r\n", "close"),
        ):
            with self.subTest(name):
                self.gateway.requests.clear()
                self.gateway.on(CHAT, raw(data, then=then))
                result = self.chat("hi")
                self.assertQuietly(3, result)
                self.assertEqual((result.out, self.asked(), result.sleeps), (b"", 1, []))

    def test_interim_answers_are_passed_over(self):
        hints = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
        self.gateway.on(CHAT, raw(hints + HEAD + b"\r\n" + frames("hi") + DONE))
        self.assertEqual(self.chat("hi").out, b"hi\n")

    def test_a_compressed_answer_is_inflated_and_a_strange_one_refused(self):
        data = frames("hi") + DONE
        deflated = zlib.compress(data)
        for encoding, body, status in (
            ("gzip", gzip.compress(data), 0),
            ("X-GZIP", gzip.compress(data), 0),
            ("deflate", deflated, 0),
            ("gzip", b"no gzip at all", 3),
            ("br", b"brotli", 3),
        ):
            with self.subTest(encoding=encoding, status=status):
                self.gateway.on(CHAT, reply(200, body, {"Content-Encoding": encoding}))
                result = self.chat("hi")
                self.assertQuietly(status, result)
                self.assertEqual(result.out, b"" if status else b"hi\n")
                if status:
                    self.assertIn("request_id: req_loopback_1", result.err)

    def test_every_member_of_a_compressed_answer_is_read(self):
        data = frames("Grüße") + DONE
        at = len(data) // 2
        two = gzip.compress(data[:at]) + gzip.compress(data[at:])
        empty = gzip.compress(b"")
        for name, body, status, out in (
            ("two", two, 0, "Grüße\n"),
            (
                "an empty one in between",
                empty + two[: len(gzip.compress(data[:at]))] + empty + gzip.compress(data[at:]),
                0,
                "Grüße\n",
            ),
            ("zeros behind", two + b"\0" * 100, 0, "Grüße\n"),
            ("the second is cut", two[: len(gzip.compress(data[:at])) + 12], 9, "Grüße\n"),
            ("the second is none", gzip.compress(data[:at]) + b"no gzip", 9, None),
            (
                "a member for each byte",
                b"".join(gzip.compress(data[n : n + 1]) for n in range(len(data))),
                0,
                "Grüße\n",
            ),
        ):
            for whole in (True, False):
                with self.subTest(name, whole=whole):
                    pieces = [body] if whole else [body[n : n + 7] for n in range(0, len(body), 7)]
                    fields = b"Transfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n\r\n"
                    self.gateway.on(CHAT, raw(HEAD + fields + b"".join(map(chunk, pieces)) + b"0\r\n\r\n"))
                    result = self.chat("hi")
                    self.assertIn(result.status, (status,) if out else (3, 9))
                    self.assertQuietly(result.status, result)
                    if out:
                        self.assertEqual(result.out.decode(), out)

    def test_tens_of_thousands_of_members_are_no_depth(self):
        ids = [f"m-{number}" for number in range(3000)]
        listed = b'{"data": [%s]}' % ", ".join(f'{{"id": "{name}"}}' for name in ids).encode()
        member = functools.cache(lambda data: gzip.compress(data, 1))  # most are the same
        packed = b"".join(member(listed[n : n + 2]) for n in range(0, len(listed), 2))
        packed += gzip.compress(b"") * 30_000
        self.gateway.on("GET /v1/models", reply(200, packed, {"Content-Encoding": "gzip"}))
        result = self.call("models")
        self.assertQuietly(0, result)
        self.assertEqual(sorted(result.out.decode().split()), sorted(ids))

    def test_what_a_small_answer_inflates_to_comes_in_pieces_and_is_bounded(self):
        packed = gzip.compress(b" " * (40 << 20))
        self.assertLess(len(packed), response.BLOCK)
        self.gateway.on("GET /x", reply(200, packed, {"Content-Encoding": "gzip"}))

        def answer() -> response.Response:
            return connection.open_url(
                "GET", f"{self.gateway.url}/x", None, {}, Exchange(time.monotonic, 9.0, math.inf, "h")
            )

        found, sizes = answer(), []
        while data := found.read():
            sizes.append(len(data))
        found.close()
        self.assertEqual((sum(sizes), max(sizes)), (40 << 20, response.LARGEST_PIECE))
        with self.assertRaises(NetError) as caught:
            answer().body(limit=4 << 20)
        self.assertEqual(caught.exception.code, "too_large")

    def test_a_json_answer_in_chunks_is_whole_or_refused(self):
        answer = b'{"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}'
        for name, data, status in (
            ("whole", CHUNKED + chunk(answer[:9]) + chunk(answer[9:]) + b"0\r\n\r\n", 0),
            ("without its end", CHUNKED + chunk(answer), 3),
            ("a chunk's size that is none", CHUNKED + chunk(answer) + b"zz\r\n", 3),
            ("cut", HEAD + b"Content-Length: %d\r\n\r\n" % len(answer) + answer[:9], 3),
            ("compressed", HEAD + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(answer), 0),
            ("no object", HEAD + b'Content-Length: 4\r\n\r\n"hi"', 3),
        ):
            with self.subTest(name):
                self.gateway.requests.clear()
                self.gateway.on(CHAT, raw(data))
                result = self.chat("hi", "--no-stream")
                self.assertQuietly(status, result)
                self.assertEqual((result.out, self.asked()), (b"" if status else b"hi\n", 1))

    def test_an_answer_that_is_no_json_object_or_too_large_is_status_3_and_a_list_is_one(self):
        for data, largest, status, told in (
            (b'[{"id": "one"}]', 99, 0, "1 model"),
            (b' \n[{"id": "one"}]', 99, 0, "1 model"),
            (b"<html>", 99, 3, r"\(200\) is not a JSON object\nrequest_id: req_raw\n.*BASE_URL"),
            (b"[1, 2", 99, 3, "is not a JSON object"),
            (b'[{"id": "one"}]', 15, 0, "1 model"),
            (b'[{"id": "one"}]', 14, 3, "larger than 14 bytes"),
        ):
            with (
                self.subTest(data, largest=largest),
                mock.patch.object(response.Response, "body", partialmethod(response.Response.body, limit=largest)),
            ):
                self.gateway.on("GET /v1/models", raw(HEAD + b"\r\n" + data))
                result = self.call("models")
                self.assertQuietly(status, result)
                self.assertEqual(result.out, b"" if status else b"one\n")
                self.assertRegex(result.err, told)

    def test_an_answer_that_is_cut_is_asked_for_again_where_that_costs_nothing(self):
        listed = b'{"data": [{"id": "one"}]}'
        packed = gzip.compress(listed)
        for name, head, body in (
            ("short", b"", listed[:9]),
            ("compressed", b"Content-Encoding: gzip\r\n", packed[:-8]),
            ("chunks", b"Transfer-Encoding: chunked\r\n", chunk(listed) + b"zz\r\n"),
        ):
            with self.subTest(name):
                length = b"" if b"chunked" in head else b"Content-Length: %d\r\n" % (len(body) + (name == "short"))
                self.gateway.on("GET /v1/models", raw(HEAD + head + length + b"\r\n" + body), reply(200, listed))
                result = self.call("models")
                self.assertQuietly(0, result)
                self.assertEqual((result.out, len(result.sleeps)), (b"one\n", 1))


class Failures(unittest.TestCase):
    def test_whatever_the_standard_library_raises_has_a_code_a_text_and_is_passing_or_not(self):
        certificate = ssl.SSLCertVerificationError(1, "no")
        certificate.verify_message = "expired"
        end = ssl.SSLEOFError(8, "eof")
        end.reason = None  # as OpenSSL's own have it
        for error, sent, code, passing, text in (
            (TimeoutError(), False, "timeout", True, "no connection within 30 s"),
            (TimeoutError(), True, "timeout", True, "no answer for 40 s"),
            (ConnectionResetError(), True, "connection_lost", True, "closed"),
            (http.client.IncompleteRead(b""), True, "connection_lost", True, "closed"),
            (end, True, "connection_lost", True, "closed"),
            (end, False, "tls", False, "TLS failed: handshake"),
            (certificate, False, "tls", False, "not trusted: expired"),
            (http.client.BadStatusLine("x"), True, "protocol", False, "BadStatusLine"),
            (ConnectionRefusedError(111, "refused"), False, "unreachable", True, "cannot connect to h: refused"),
            (OSError(), False, "unreachable", True, "cannot connect to h: OSError"),
            (socket.gaierror(-2, "unknown name"), False, "unreachable", True, "cannot connect to h: unknown name"),
            (UnicodeError("secret"), False, "protocol", False, "UnicodeError"),
            (ValueError("Bearer secret"), False, "protocol", False, "ValueError"),
        ):
            with self.subTest(error=error, sent=sent):
                exchange = Exchange(lambda: 0.0, 40.0, math.inf, "h")
                exchange.sent = sent
                with self.assertRaises(NetError) as caught, exchange.mapped():
                    raise error
                found = caught.exception
                self.assertEqual((found.code, found.passing, found.sent), (code, passing, sent))
                self.assertIn(text, found.message)
                self.assertNotIn("secret", found.message)

    def test_the_patience_is_the_silence_or_what_the_deadline_leaves(self):
        for silence, deadline, patience in ((5.0, 9.0, 5.0), (5.0, 3.0, 2.0)):
            self.assertEqual(Exchange(lambda: 1.0, silence, deadline, "h").patience(), patience)
        exchange = Exchange(lambda: 1.0, 5.0, 1.0, "h")
        with self.assertRaises(NetError) as caught, exchange.mapped():
            exchange.patience()
        self.assertEqual(caught.exception.code, "max_wait")

    def test_reaching_the_server_has_half_a_minute_or_the_silence_and_the_answer_has_not(self):
        now = [1.0]
        for silence, left in ((60.0, 30.0), (20.0, 20.0)):
            now[0] = 1.0
            exchange = Exchange(lambda: now[0], silence, 1000.0, "h")
            self.assertEqual(exchange.patience(), left)
            now[0] += left - 5.0
            self.assertEqual(exchange.patience(), 5.0)
            now[0] += 5.0
            with self.assertRaises(NetError) as caught, exchange.mapped():
                exchange.patience()
            self.assertEqual((caught.exception.code, caught.exception.passing), ("timeout", True))
            exchange.connected()
            self.assertEqual(exchange.patience(), silence)

    def test_a_request_for_which_no_time_is_left_has_not_been_sent(self):
        sock = mock.Mock()
        exchange = Exchange(lambda: 1.0, 5.0, 1.0, "h")
        with self.assertRaises(NetError) as caught, exchange.mapped():
            connection._Socket(sock, exchange).sendall(b"x")
        self.assertEqual((caught.exception.code, caught.exception.sent), ("max_wait", False))
        sock.sendall.assert_not_called()

    def test_each_block_that_is_sent_has_the_patience_of_its_instant(self):
        sock, now = mock.Mock(), iter((1.0, 1.0, 3.0))
        body = connection._Socket(sock, Exchange(lambda: next(now), 60.0, 9.0, "h"))
        for _ in range(2):
            body.sendall(b"x")
        self.assertEqual([call.args for call in sock.settimeout.call_args_list], [(8.0,), (6.0,)])

    def test_nothing_more_is_sent_to_who_has_hung_up(self):
        for error in (BrokenPipeError, ConnectionResetError):
            sock = mock.Mock(**{"sendall.side_effect": error})
            body = connection._Socket(sock, Exchange(lambda: 0.0, 1.0, math.inf, "h"))
            for _ in range(2):
                body.sendall(b"x")
            self.assertEqual(sock.sendall.call_count, 1)


class Clocks(Case):
    def test_silence_and_max_wait_are_3_before_text_and_9_after_and_never_asked_again(self):
        def mute(exchange):
            exchange.hold()

        for option, code in (("--timeout", "timeout"), ("--max-wait", "max_wait")):
            for name, step, status, out in (
                ("no head", mute, 3, b""),
                ("no text", stream("hold"), 3, b""),
                ("half a line", stream(b"data: {", "hold"), 3, b""),
                ("after text", stream(KEPT, "hold"), 9, b"kept\n"),
            ):
                with self.subTest(name, option=option):
                    self.gateway.requests.clear()
                    self.gateway.on(CHAT, step)
                    result = self.chat("hi", option, "0.1")
                    self.assertQuietly(status, result)
                    self.assertEqual((result.out, self.asked(), result.sleeps), (out, 1, []))
                    self.assertIn(f"[error] {code}", result.err)

    def test_max_wait_counts_the_whole_though_bytes_keep_coming(self):
        def drip(exchange):
            exchange.head(chunked=True)
            exchange.event(delta("kept"))
            while not exchange.gateway.stopping.wait(0.02):
                exchange.chunk(b": keep-alive\n\n")

        self.gateway.on(CHAT, drip)
        result = self.chat("hi", "--max-wait", "0.3", "--timeout", "9")
        self.assertQuietly(9, result)
        self.assertEqual(result.out, b"kept\n")

    def test_headers_that_drip_do_not_outlast_max_wait(self):
        def drip(exchange):
            exchange.raw(b"HTTP/1.1 200 OK\r\n")
            while not exchange.gateway.stopping.wait(0.02):
                exchange.raw(b"a: b\r\n")

        self.gateway.on(CHAT, drip)
        self.assertQuietly(3, self.chat("hi", "--max-wait", "0.3"))

    def test_keep_alives_are_no_silence(self):
        pieces = [piece for _ in range(8) for piece in (b": keep-alive\n\n", 0.05)]
        self.gateway.on(CHAT, stream(*pieces, frames("hi") + DONE))
        self.assertEqual(self.chat("hi", "--timeout", "0.3").out, b"hi\n")


class Reaching(Case):
    def test_a_connection_that_failed_before_the_request_left_is_tried_3_times(self):
        with socket.socket() as taken:  # bound, not listening: refuses
            taken.bind(("127.0.0.1", 0))
            result = self.chat("hi", ALLTOKEN_BASE_URL=f"http://127.0.0.1:{taken.getsockname()[1]}")
        self.assertQuietly(3, result)
        self.assertEqual(result.sleeps, [0.375, 0.75])
        self.assertIn("(1 of 2)", result.err)
        self.assertIn("(2 of 2)", result.err)
        self.assertIn("[error] unreachable", result.err)

    def test_a_name_without_an_address_is_status_3(self):
        with mock.patch("socket.getaddrinfo", side_effect=socket.gaierror(-2, "Name or service not known")):
            result = self.chat("hi", ALLTOKEN_BASE_URL="https://gateway.invalid")
        self.assertQuietly(3, result)

    def test_no_proxy_sees_loopback_traffic(self):
        with socket.create_server(("127.0.0.1", 0)) as proxy:
            url = f"http://127.0.0.1:{proxy.getsockname()[1]}"
            names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
            with mock.patch.dict(os.environ, {n: url for name in names for n in (name, name.lower())}):
                self.assertEqual(self.chat("hi").status, 0)
                result = self.chat("hi", ALLTOKEN_BASE_URL=self.gateway.url.replace("127.0.0.1", "localhost"))
                self.assertEqual(result.status, 0)
            proxy.setblocking(False)
            self.assertRaises(BlockingIOError, proxy.accept)

    def test_a_name_server_that_never_answers_ends_with_timeout_and_with_max_wait(self):
        for option, code, tries in (("--timeout", "timeout", 3), ("--max-wait", "max_wait", 1)):
            with self.subTest(option), self.resolver(self.mute):
                started = time.monotonic()
                result = self.chat("hi", option, "0.1", ALLTOKEN_BASE_URL="https://gateway.invalid")
                self.assertLess(time.monotonic() - started, 3)
                self.assertQuietly(3, result)
                self.assertIn(f"[error] {code}", result.err)
                self.assertIn("[cost] none", result.err)
                self.assertEqual(len(result.sleeps), tries - 1)

    def test_a_process_ends_in_time_though_its_name_server_goes_on_not_answering(self):
        script = (
            "import runpy, socket, sys, time\n"
            "socket.getaddrinfo = lambda *_, **__: time.sleep(60)\n"
            "sys.argv = sys.argv[1:]\n"
            "runpy.run_path(sys.argv[0], run_name='__main__')\n"
        )
        started = time.monotonic()
        result = self.execute(
            *("chat", "hi", "--max-wait", "0.3"),
            command=[*PYTHON, "-c", script, PACKAGE],
            environ={"ALLTOKEN_BASE_URL": "https://gateway.invalid"},
        )
        self.assertLess(time.monotonic() - started, 5)
        self.assertQuietly(3, result)
        self.assertIn("[error] max_wait", result.err)

    def test_finding_and_reaching_share_their_half_minute_and_addresses_what_is_left_of_it(self):
        now, given, set_timeout = [0.0], [], socket.socket.settimeout

        def watched(sock, seconds):
            given.append(seconds)
            set_timeout(sock, seconds)

        def slow(*_, **__):
            now[0] += 24.0
            return [self.address(self.gateway.url)] * 3

        self.gateway.on("GET /x", reply(200, {}))
        with self.resolver(slow), mock.patch.object(socket.socket, "settimeout", watched):
            clock = Exchange(lambda: now[0], 60.0, 1000.0, "h")
            self.assertEqual(connection.open_url("GET", "http://localhost/x", None, {}, clock).body(), b"{}")
        self.assertEqual((given[0], set(given[1:])), (2.0, {60.0}))

    def test_another_address_is_tried_within_the_time_if_one_does_not_answer_or_refuses(self):
        good = self.address(self.gateway.url)
        with socket.socket() as taken:  # bound, not listening: refuses
            taken.bind(("127.0.0.1", 0))
            refusing = self.at(taken.getsockname())
            for name, addresses in (
                ("silent", [self.deaf(), good]),
                ("two silent", [self.deaf(), self.deaf(), good]),
                ("refusing", [refusing, good]),
                ("both", [refusing, self.deaf(), good]),
            ):
                with self.subTest(name), self.resolver(lambda *_, found=addresses, **__: found):
                    started = time.monotonic()
                    result = self.chat("hi", "--timeout", "0.9", ALLTOKEN_BASE_URL="http://localhost")
                    self.assertQuietly(0, result)
                    self.assertLess(time.monotonic() - started, 3)
                    self.assertEqual(result.sleeps, [])
        self.assertEqual(self.asked(), 4)

    def test_addresses_none_of_which_answers_share_the_time(self):
        with self.resolver(lambda *_, **__: [self.deaf(), self.deaf(), self.deaf()]):
            for option in ("--timeout", "--max-wait"):
                with self.subTest(option):
                    started = time.monotonic()
                    result = self.chat("hi", option, "0.15", ALLTOKEN_BASE_URL="http://localhost")
                    self.assertLess(time.monotonic() - started, 3)
                    self.assertQuietly(3, result)
                    self.assertEqual(len(result.sleeps), 2 if option == "--timeout" else 0)

    def test_a_name_with_no_address_at_all_is_status_3(self):
        with self.resolver(lambda *_, **__: []):
            self.assertQuietly(3, self.chat("hi", ALLTOKEN_BASE_URL="https://gateway.invalid"))

    def test_a_handshake_that_never_comes_ends_with_timeout_and_with_max_wait(self):
        with socket.create_server(("127.0.0.1", 0)) as mute:
            url = f"https://127.0.0.1:{mute.getsockname()[1]}"
            for option, code in (("--timeout", "timeout"), ("--max-wait", "max_wait")):
                with self.subTest(option):
                    started = time.monotonic()
                    result = self.chat("hi", option, "0.1", ALLTOKEN_BASE_URL=url)
                    self.assertLess(time.monotonic() - started, 3)
                    self.assertQuietly(3, result)
                    self.assertIn(f"[error] {code}", result.err)

    def test_the_port_of_the_address_is_named_in_host_unless_it_is_the_usual(self):
        asked = []

        def find(_, port, **__):
            asked.append(port)
            return [self.address(self.gateway.url)]

        with self.resolver(find):
            for url in ("http://localhost", "http://localhost:8080", "http://[::1]:81"):
                self.assertQuietly(0, self.chat("hi", ALLTOKEN_BASE_URL=url))
        self.assertEqual(asked, [80, 8080, 81])
        hosts = [one.headers["Host"] for one in self.gateway.requests]
        self.assertEqual(hosts, ["localhost", "localhost:8080", "[::1]:81"])

    def test_an_answer_that_would_keep_the_connection_leaves_none_open(self):
        whole = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\n{}"
        self.gateway.on("GET /x", raw(whole, then="hold"))
        with nothing_left_open(self):
            for read in (True, False):
                exchange = Exchange(time.monotonic, 5.0, math.inf, "h")
                answer = connection.open_url("GET", f"{self.gateway.url}/x", None, {}, exchange)
                if read:
                    self.assertEqual(answer.body(), b"{}")
                answer.close()
                self.assertTrue(self.gateway.answered.acquire(timeout=PATIENCE))  # it has seen the end
            del answer

    # Name servers

    @contextlib.contextmanager
    def resolver(self, answer):
        """`answer` is who answers for names."""
        with mock.patch("socket.getaddrinfo", side_effect=answer) as asked:
            yield asked

    def mute(self, *_: object, **__: object) -> list:
        """A name server that says nothing while the test goes on."""
        self.gateway.stopping.wait()
        return []

    @staticmethod
    def at(address: tuple) -> tuple:
        """An entry of getaddrinfo's."""
        return (socket.AF_INET, socket.SOCK_STREAM, 6, "", address)

    def address(self, url: str) -> tuple:
        """An entry of getaddrinfo's for the server of a URL."""
        parts = urlsplit(url)
        return self.at((parts.hostname, parts.port))

    def deaf(self) -> tuple:
        """An entry of getaddrinfo's for a server that answers no attempt to connect: its queue is full."""
        server = socket.socket()
        self.addCleanup(server.close)
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(3):
            queued = socket.socket()
            self.addCleanup(queued.close)
            queued.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                queued.connect(server.getsockname())
        return self.at(server.getsockname())


class Proxies(Case):
    """The gateway poses as the proxy, and is asked to connect to gateway.invalid."""

    CONNECT = "CONNECT gateway.invalid:443"

    def through(
        self, *argv: str, proxy: str | None = None, base: str = "https://gateway.invalid", **more: str
    ) -> Result:
        """Run `chat hi` for a gateway behind a proxy."""
        settings = {"https_proxy": proxy or self.gateway.url, "no_proxy": "", **more}
        with mock.patch.dict(os.environ, settings):
            return self.chat("hi", *argv, ALLTOKEN_BASE_URL=base, **settings)

    def test_a_proxy_is_asked_to_connect_and_never_sees_the_key(self):
        result = self.through()
        self.assertQuietly(3, result)
        seen = {(one.method, one.path, "Authorization" in one.headers, one.body) for one in self.gateway.requests}
        self.assertEqual(seen, {("CONNECT", "gateway.invalid:443", False, b"")})
        self.assertFalse([one for one in self.gateway.requests if KEY in str(one.headers)])

    def test_a_proxy_that_refuses_is_not_asked_again_and_its_status_is_told(self):
        for status in (301, 403, 404, 407):
            with self.subTest(status):
                self.gateway.requests.clear()
                self.gateway.on(self.CONNECT, reply(status, b"<html>no</html>"))
                with nothing_left_open(self):
                    result = self.through()
                self.assertQuietly(3, result)
                self.assertEqual((len(self.gateway.requests), result.sleeps, result.out), (1, [], b""))
                self.assertIn("[error] proxy", result.err)
                self.assertIn("gateway.invalid", result.err)
                self.assertIn(str(status), result.err)
                self.assertIn("HTTPS_PROXY", result.err)
                self.assertIn("[cost] none", result.err)

    def test_a_proxy_that_fails_is_asked_again(self):
        for name, step in (
            ("502", reply(502, b"")),
            ("503", reply(503, b"")),
            ("closed", lambda _: None),
            ("reset", Received.reset),
        ):
            with self.subTest(name):
                self.gateway.requests.clear()
                self.gateway.on(self.CONNECT, step)
                result = self.through()
                self.assertQuietly(3, result)
                self.assertEqual((len(self.gateway.requests), result.sleeps), (3, [0.375, 0.75]))
                self.assertIn("[cost] none", result.err)

    def test_a_proxy_that_does_not_speak_http_is_status_3(self):
        for data in (
            b"\x16\x03\x01garbage\r\n\r\n",
            b"HTTP/1.1 abc\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70_000,
        ):
            with self.subTest(data[:20]):
                self.gateway.on(self.CONNECT, raw(data))
                self.assertQuietly(3, self.through())

    def test_a_proxy_that_says_nothing_or_drips_its_head_ends_with_each_of_the_clocks(self):
        def drip(exchange):
            exchange.raw(b"HTTP/1.1 200 Connection established\r\n")
            while not exchange.gateway.stopping.wait(0.02):
                exchange.raw(b"a: b\r\n")

        def drip_bytes(exchange):
            while not exchange.gateway.stopping.wait(0.02):
                exchange.raw(b"H")

        for name, step in (("headers", drip), ("bytes", drip_bytes), ("nothing", Received.hold)):
            for argv, patience, code, tries in (
                (("--max-wait", "0.1"), 30.0, "max_wait", 1),
                (("--timeout", "0.1"), 30.0, "timeout", 3),
                ((), 0.1, "timeout", 3),
            ):
                with self.subTest(name, argv=argv), mock.patch("alltoken_call.net.exchange.CONNECT_PATIENCE", patience):
                    self.gateway.requests.clear()
                    self.gateway.on(self.CONNECT, step)
                    started = time.monotonic()
                    result = self.through(*argv)
                    self.assertLess(time.monotonic() - started, 3)
                    self.assertQuietly(3, result)
                    self.assertIn(f"[error] {code}", result.err)
                    self.assertIn("[cost] none", result.err)
                    self.assertEqual(len(result.sleeps), tries - 1)

    def test_a_proxys_address_that_cannot_be_used_is_told_plainly_and_not_tried_again(self):
        for value in (
            "http://proxy.invalid:port",
            "http://proxy.invalid:99999",
            "http://proxy.invalid:0",
            "http://me:hidden@proxy.invalid:port",
            "http://:3128",
            "http://",
            "http://[::1",
            "socks5://127.0.0.1:1080",
            "ftp://127.0.0.1",
        ):
            with self.subTest(value), mock.patch("socket.getaddrinfo") as looked_up:
                result = self.through(proxy=value)
                self.assertQuietly(3, result)
                self.assertRegex(result.err, r"\[error\] proxy.*HTTPS_PROXY")
                self.assertIn("http://host:port", result.err)
                self.assertNotIn("hidden", result.err)
                self.assertEqual(result.sleeps, [])
                looked_up.assert_not_called()
        self.assertEqual(self.gateway.requests, [])

    def test_no_proxy_names_hosts_that_are_reached_without_one(self):
        real = socket.getaddrinfo

        def find(name, *more, **fields):
            if name == b"127.0.0.1":
                return real(name, *more, **fields)
            raise socket.gaierror(-2, "unknown")

        for hosts, proxied in (("gateway.invalid", False), ("invalid", False), ("*", False), ("other.invalid", True)):
            with self.subTest(hosts), mock.patch("socket.getaddrinfo", find):
                self.gateway.requests.clear()
                self.assertQuietly(3, self.through(no_proxy=hosts))
                self.assertEqual(bool(self.gateway.requests), proxied)

    def test_an_address_may_lack_its_scheme_and_a_literal_address_has_its_brackets(self):
        result = self.through(proxy=self.gateway.url.removeprefix("http://"), base="https://[2001:db8::1]:8443")
        self.assertQuietly(3, result)
        self.assertEqual(self.gateway.requests[0].path, "[2001:db8::1]:8443")
        self.assertEqual(self.gateway.requests[0].headers["Host"], "[2001:db8::1]:8443")

    def test_a_plain_request_goes_to_the_proxy_whole_and_with_its_credentials(self):
        url = "http://gateway.invalid:81/files/x.png?a=1"
        self.gateway.on("GET http://gateway.invalid:81/files/x.png", reply(200, {}))
        proxy = self.gateway.url.replace("//", "//me:p%40ss@")
        with mock.patch.dict(os.environ, {"http_proxy": proxy, "no_proxy": ""}):
            answer = connection.open_url(
                "GET", url, None, {}, Exchange(time.monotonic, 5.0, math.inf, "h"), proxied=True
            )
            self.assertEqual((answer.status, answer.body()), (200, b"{}"))
        one = self.gateway.requests[0]
        self.assertEqual((one.query, one.headers["Host"]), ("a=1", "gateway.invalid:81"))
        self.assertEqual(one.headers["Proxy-Authorization"], "Basic " + base64.b64encode(b"me:p@ss").decode())


@unittest.skipUnless(shutil.which("openssl"), "openssl makes the certificate")
class Tls(Case):
    def setUp(self) -> None:
        super().setUp()
        self.files = [os.path.join(self.folder, name) for name in ("cert.pem", "key.pem")]
        make = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
        names = ["-addext", "subjectAltName=DNS:localhost,DNS:gateway.invalid,IP:127.0.0.1"]
        names += ["-out", self.files[0], "-keyout", self.files[1]]
        subprocess.run(["openssl", *make.split(), *names], check=True, capture_output=True)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*self.files)
        self.secure = Gateway(tls=tls).__enter__()
        self.addCleanup(self.secure.__exit__)
        self.environ["ALLTOKEN_BASE_URL"] = self.secure.url

    def test_an_untrusted_certificate_is_status_3_and_a_named_one_is_trusted(self):
        result = self.execute("chat", "hi")
        self.assertQuietly(3, result)
        self.assertIn("[error] tls", result.err)
        self.assertNotIn("[retry]", result.err)
        self.assertEqual(self.secure.requests, [])
        self.assertEqual(self.execute("chat", "hi", environ={"SSL_CERT_FILE": self.files[0]}).status, 0)

    def test_the_quick_trust_or_else_the_full_one_decides(self):
        sure, unsure = ssl.create_default_context(cafile=self.files[0]), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        for quick, full, status in ((sure, unsure, 0), (unsure, sure, 0), (None, sure, 0), (unsure, unsure, 3)):
            with (
                self.subTest(quick=quick, full=full),
                mock.patch.object(trust, "quick", lambda quick=quick: quick),
                mock.patch.object(trust, "full", lambda full=full: full),
            ):
                self.assertQuietly(status, self.chat("hi"))
        self.assertEqual(self.secure.count(CHAT), 3)

    def test_through_a_proxy_its_credentials_stay_with_it_and_the_key_goes_to_the_server_alone(self):
        port = urlsplit(self.secure.url).port
        passed = []

        def tunnel(one):
            one.raw(b"HTTP/1.1 200 Connection established\r\nX-Proxy: 1\r\n\r\n")
            with socket.create_connection(("127.0.0.1", port)) as server:
                passed.append(relay(one, server))

        self.gateway.on("CONNECT gateway.invalid:443", tunnel)
        proxy = self.gateway.url.replace("//", "//me%40x:p%3Ass@")
        settings = {"https_proxy": proxy, "no_proxy": "", "ALLTOKEN_BASE_URL": "https://gateway.invalid"}
        sure, unsure = ssl.create_default_context(cafile=self.files[0]), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        for quick in (sure, unsure):  # the second try of the certificate has a tunnel of its own
            with (
                self.subTest(quick=quick),
                mock.patch.object(trust, "quick", lambda quick=quick: quick),
                mock.patch.object(trust, "full", lambda: sure),
                mock.patch.dict(os.environ, settings),
            ):
                result = self.chat("hi", **settings)
                self.assertQuietly(0, result)
                self.assertTrue(result.out.endswith(b"hi\n"), result.out)
        self.assertEqual(len(self.gateway.requests), 3)
        for one in self.gateway.requests:
            self.assertEqual(one.headers["Proxy-Authorization"], "Basic " + base64.b64encode(b"me@x:p:ss").decode())
            self.assertNotIn("Authorization", one.headers)
            self.assertNotIn(KEY, str(one.headers))
        self.assertFalse([data for data in passed if KEY.encode() in data])
        self.assertEqual(self.secure.count(CHAT), 2)
        for one in self.secure.requests:
            self.assertEqual(one.headers["Authorization"], f"Bearer {KEY}")
            self.assertEqual(one.headers["Host"], "gateway.invalid")
            self.assertFalse([name for name in one.headers if name.lower().startswith("proxy")])
            self.assertNotIn("p:ss", str(one.headers))

    def test_a_directory_of_certificates_is_the_quick_trust_where_it_is_hashed_and_nothing_else_is_named(self):
        folder = os.path.join(self.folder, "certs")
        os.mkdir(folder)

        def trusted(capath: str | None, cafile: str | None = None) -> bool:
            paths = ssl.DefaultVerifyPaths(cafile, capath, "SSL_CERT_FILE", "/usual.pem", "SSL_CERT_DIR", "/usual")
            with (
                mock.patch("ssl.get_default_verify_paths", return_value=paths),
                mock.patch.object(ssl.SSLContext, "set_alpn_protocols") as offered,
            ):
                found = trust.quick.__wrapped__()
            if found is not None:
                offered.assert_called_once_with(["http/1.1"])
            return found is not None

        self.file("certs/bundle.pem", b"")
        self.assertFalse(trusted(folder))
        self.file("certs/0a1b2c3d.0", b"")
        self.assertTrue(trusted(folder))
        self.assertTrue(trusted(folder, "/usual.pem"))
        self.assertFalse(trusted(folder, "/named.pem"))
        self.assertFalse(trusted(os.path.join(self.folder, "missing")))
        self.assertFalse(trusted(None))
