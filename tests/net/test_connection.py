"""connection.py: one HTTP exchange, and every way in which it can fail."""

from __future__ import annotations

import gzip
import http.client
import math
import os
import shutil
import socket
import ssl
import subprocess
import unittest
import urllib.error
import zlib
from unittest import mock

from alltoken_call.errors import NetworkError
from alltoken_call.net import connection, response
from alltoken_call.net.exchange import Exchange

from ..calls.test_completion import event
from ..gateway import CHAT, DONE, Gateway, delta, frames, raw, reply, stream
from ..harness import Case

HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\nx-request-id: req_raw\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
KEPT = event(delta("kept"))


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


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
            (b"<html>", 99, 3, r"\(200\) is not a JSON object\nrequest_id: req_raw\nis ALLTOKEN_BASE_URL right"),
            (b"[1, 2", 99, 3, "is not a JSON object"),
            (b'[{"id": "one"}]', 15, 0, "1 model"),
            (b'[{"id": "one"}]', 14, 3, "larger than 14 bytes"),
        ):
            with self.subTest(data, largest=largest), mock.patch.object(response, "LARGEST_JSON", largest):
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
            (ValueError("Bearer secret"), False, "protocol", False, "ValueError"),
        ):
            for raised in (error, urllib.error.URLError(error)):
                with self.subTest(error=raised, sent=sent):
                    exchange = Exchange(lambda: 0.0, 40.0, math.inf, "h")
                    exchange.sent = sent
                    with self.assertRaises(NetworkError) as caught, exchange.mapped():
                        raise raised
                    found = caught.exception
                    self.assertEqual((found.code, found.passing, found.sent), (code, passing, sent))
                    self.assertIn(text, found.message)
                    self.assertNotIn("secret", found.message)

    def test_the_patience_is_the_silence_or_what_the_deadline_leaves(self):
        for silence, deadline, patience in ((5.0, 9.0, 5.0), (5.0, 3.0, 2.0)):
            self.assertEqual(Exchange(lambda: 1.0, silence, deadline, "h").patience(), patience)
        exchange = Exchange(lambda: 1.0, 5.0, 1.0, "h")
        with self.assertRaises(NetworkError) as caught, exchange.mapped():
            exchange.patience()
        self.assertEqual(caught.exception.code, "max_wait")

    def test_each_block_that_is_sent_has_the_patience_of_its_instant(self):
        sock, now = mock.Mock(), iter((1.0, 3.0))
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

    def test_a_proxy_is_asked_to_connect_and_never_sees_the_key(self):
        with mock.patch.dict(os.environ, {"https_proxy": self.gateway.url, "no_proxy": ""}):
            result = self.chat("hi", ALLTOKEN_BASE_URL="https://gateway.invalid")
        self.assertQuietly(3, result)
        seen = {(one.method, "Authorization" in one.headers, one.body) for one in self.gateway.requests}
        self.assertEqual(seen, {("CONNECT", False, b"")})


@unittest.skipUnless(shutil.which("openssl"), "openssl makes the certificate")
class Tls(Case):
    def setUp(self) -> None:
        super().setUp()
        self.files = [os.path.join(self.folder, name) for name in ("cert.pem", "key.pem")]
        make = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
        names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
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
                mock.patch.object(connection, "_quick_trust", lambda quick=quick: quick),
                mock.patch.object(connection, "_full_trust", lambda full=full: full),
            ):
                self.assertQuietly(status, self.chat("hi"))
        self.assertEqual(self.secure.count(CHAT), 3)

    def test_a_directory_of_certificates_is_the_quick_trust_where_it_is_hashed_and_nothing_else_is_named(self):
        folder = os.path.join(self.folder, "certs")
        os.mkdir(folder)

        def trusted(capath: str | None, cafile: str | None = None) -> bool:
            paths = ssl.DefaultVerifyPaths(cafile, capath, "SSL_CERT_FILE", "/usual.pem", "SSL_CERT_DIR", "/usual")
            with (
                mock.patch("ssl.get_default_verify_paths", return_value=paths),
                mock.patch.object(ssl.SSLContext, "set_alpn_protocols") as offered,
            ):
                trust = connection._quick_trust.__wrapped__()
            if trust is not None:
                offered.assert_called_once_with(["http/1.1"])
            return trust is not None

        self.file("certs/bundle.pem", b"")
        self.assertFalse(trusted(folder))
        self.file("certs/0a1b2c3d.0", b"")
        self.assertTrue(trusted(folder))
        self.assertTrue(trusted(folder, "/usual.pem"))
        self.assertFalse(trusted(folder, "/named.pem"))
        self.assertFalse(trusted(os.path.join(self.folder, "missing")))
        self.assertFalse(trusted(None))
