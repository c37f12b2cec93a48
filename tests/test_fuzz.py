"""Random bytes and JSON of any shape in every place where something else is expected: a status of the table, never a
bug. The suite runs a seeded few; `python3 -m tests.test_fuzz 100000` runs more.
"""

from __future__ import annotations

import io
import json
import os
import random
import sys
import time
import unittest

from alltoken_call.cli import main as cli
from alltoken_call.cli.context import Context
from alltoken_call.errors import ExitStatus
from alltoken_call.gateways.alltoken import AllToken
from alltoken_call.net import chunked
from alltoken_call.net import clock as net_clock
from alltoken_call.wire import object_of

from .gateway import KEY, png, raw, reply
from .harness import Case

ROUNDS = 120
NAMES = (
    "id task_id status data error code type message request_id model choices delta message content finish_reason usage "
    "cost prompt_tokens total_tokens b64_json r2_url video_url video_url_expires_at video_url_ttl next_poll_after_ms items "
    "total input_price output_price pricing modality tool_calls function name arguments index reasoning_content upload_url "
    "upload_id required_headers max_content_length resolution context_length input_modalities output_modalities"
).split()
TEXTS = (
    "",
    " ",
    "x",
    "completed",
    "failed",
    "queued",
    "..",
    "a/b",
    "\x1b[2J",
    "\ud83d",
    "1e999",
    "-1",
    "0.5",
    "9" * 50,
)
TEXTS += (
    "https://127.0.0.1:1/x",
    "file:///etc/passwd",
    "2026-11-01T00:00:00Z",
    "0001-01-01T00:00:00Z",
    "all_providers_failed",
)
COMMANDS = (
    ("POST /v1/chat/completions", ["chat", "--no-stream", "hi"]),
    ("POST /v1/chat/completions", ["search", "--json", "hi"]),
    ("GET /v1/models", ["models", "--json"]),
    ("GET /api-account/models", ["models", "-l"]),
    ("GET /api-account/models/x", ["models", "x"]),
    ("GET /api-account/models/x", ["cost", "x", "1", "2"]),
    ("POST /v1/images/generations/async", ["image", "x"]),
    ("GET /v1/images/generations/igen_1", ["image", "--resume", "igen_1", "--json", "--max-wait", "3"]),
    ("POST /v1/uploads/presign", ["image", "--edit", "PICTURE", "x"]),
    ("POST /v1/videos/generations", ["video", "x"]),
    ("GET /v1/videos/generations/vgen_1", ["video", "--resume", "vgen_1", "-o", "clip.mp4", "--max-wait", "3"]),
    ("GET /v1/videos/generations", ["video", "--list"]),
    ("POST /v1/videos/generations/vgen_1/cancel", ["video", "--cancel", "vgen_1"]),
)


def value(chance: random.Random, depth: int = 0):
    """A JSON value of any shape, with the wire's own names in its objects."""
    kind = chance.randrange(8 if depth < 4 else 6)
    if kind < 3:
        return chance.choice((*TEXTS, chance.choice(NAMES)))
    if kind < 6:
        return chance.choice((None, True, False, 0, 1, -1, 2**63, 10**400, 0.5, -0.0, 1e308))
    if kind == 6:
        return [value(chance, depth + 1) for _ in range(chance.randrange(4))]
    return {chance.choice(NAMES): value(chance, depth + 1) for _ in range(chance.randrange(6))}


def document(chance: random.Random) -> bytes:
    """A body: mostly an object, sometimes broken, sometimes an event stream."""
    top = (
        {chance.choice(NAMES): value(chance) for _ in range(chance.randrange(8))}
        if chance.random() < 0.8
        else value(chance)
    )
    data = json.dumps(top).encode()
    if chance.random() < 0.2:
        data = b": x\ndata: " + data + b"\n\n"
    if chance.random() < 0.2:
        at = chance.randrange(len(data) + 1)
        data = data[:at] + chance.randbytes(chance.randrange(5)) + data[at + chance.randrange(9) :]
    return data


def slow_chunks(data: bytes) -> tuple[bytes, bool]:
    """The body in chunked data, and whether it is whole: obviously, by reading the RFC's grammar from a file."""
    stream, body = io.BytesIO(data), b""
    while True:
        line = stream.readline()
        digits = line.split(b";")[0].strip()
        if (
            not line.endswith(b"\n")
            or not digits
            or len(digits) > 15
            or any(byte not in b"0123456789abcdefABCDEF" for byte in digits)
        ):
            return body, False
        size = int(digits, 16)
        if size == 0:
            return body, True
        piece = stream.read(size)
        body += piece
        end = stream.readline()
        if len(piece) < size or not end.endswith(b"\n") or end.strip():
            return body, False


class Fuzz(Case):
    def each(self, name: str, check):
        """Run `check` with seeded generators; the seed stands in a failure."""
        for number in range(ROUNDS):
            seed = f"{name} {number}"
            with self.subTest(seed):
                check(random.Random(seed))

    def test_json_of_any_shape_is_never_a_bug(self):
        picture = self.file("picture.png", png())
        here = os.getcwd()
        self.addCleanup(os.chdir, here)
        os.chdir(self.folder)

        def check(chance: random.Random):
            place, words = chance.choice(COMMANDS)
            status = chance.choice((200, 200, 200, 202, 400, 409, 410, 429, 503))
            headers = {"Retry-After": chance.choice(("0", "1", "-1", "x", "9" * 5000, "Sun, 06 Nov 1994 08:49:37 GMT"))}
            self.gateway.on(place, reply(status, document(chance), headers if chance.random() < 0.3 else None))
            for other in ("POST /v1/images/generations/async", "GET /v1/models", "GET /api-account/models"):
                if other != place and chance.random() < 0.3:
                    self.gateway.on(other, reply(200, document(chance)))
            self.check([picture if word == "PICTURE" else word for word in words])
            self.gateway._scripts.clear()

        self.each("shapes", check)

    def check(self, words: list[str]):
        out, err, skipped = io.BytesIO(), io.BytesIO(), [0.0]
        context = Context(
            stdin=None,
            stdout=io.TextIOWrapper(out, "utf-8"),
            stderr=io.TextIOWrapper(err, "utf-8"),
            environ=self.environ,
            program=["alltoken-call"],
            clock=net_clock.Clock(
                monotonic=lambda: time.monotonic() + skipped[0],
                sleep=lambda seconds: skipped.__setitem__(0, skipped[0] + seconds),
            ),
        )
        status = cli.main(words, context)
        said = err.getvalue().decode("utf-8", "replace")
        self.assertIn(status, list(ExitStatus), said)
        self.assertNotIn("error] bug", said)
        self.assertNotIn("\x1b", said)
        self.assertNotIn(KEY, said + out.getvalue().decode("utf-8", "replace"))
        if "--json" in words:
            json.loads(out.getvalue())

    def test_error_bodies_of_random_bytes_are_read(self):
        def check(chance: random.Random):
            data = chance.choice((document, lambda one: one.randbytes(one.randrange(200))))(chance)
            http = chance.choice((0, 400, 401, 418, 500, 599))
            error = AllToken("https://x.test").refusal(object_of(data), http, secret=KEY)
            self.assertIsInstance(error.message, str)
            self.assertIsInstance(error.code, str)
            self.assertIsInstance(error.status, ExitStatus)
            self.assertNotEqual(error.status, ExitStatus.OK)

        self.each("errors", check)

    def test_http_answers_of_random_bytes_end(self):
        def check(chance: random.Random):
            head = (
                b"HTTP/1.1 200 OK\r\n"
                + chance.choice((b"", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 40\r\n"))
                + b"\r\n"
            )
            data = bytearray(
                head
                + b"".join(chance.choice((b"5\r\nhello\r\n", b"0\r\n\r\n", b"data: {}\n\n", b"\r\n")) for _ in range(9))
            )
            for _ in range(chance.randrange(6)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            self.gateway.on("POST /v1/chat/completions", raw(bytes(data)))
            self.check(["chat", "--json", "hi"])

        self.each("bytes", check)

    def test_chunks_split_anywhere_are_what_a_slow_parser_reads(self):
        def check(chance: random.Random):
            data = b"".join(
                b"%x%s\r\n%s\r\n" % (len(piece), chance.choice((b"", b";a=b", b" ")), piece)
                for piece in (chance.randbytes(chance.randrange(1, 40)) for _ in range(chance.randrange(6)))
            )
            data = bytearray(data + b"0\r\n\r\n")
            for _ in range(chance.choice((0, 0, 1, 3))):
                data[chance.randrange(len(data))] = chance.choice(b"\r\n;0fz\x00")
            parser, body, at = chunked.Dechunker(), b"", 0
            while at < len(data):
                step = chance.randrange(1, 30)
                body += parser.feed(bytes(data[at : at + step]))
                at += step
            expected, whole = slow_chunks(bytes(data))
            self.assertEqual((body, parser.ended and not parser.fault), (expected, whole))

        self.each("chunks", check)


if __name__ == "__main__":
    ROUNDS = int(sys.argv.pop()) if len(sys.argv) > 1 else ROUNDS
    unittest.main()
