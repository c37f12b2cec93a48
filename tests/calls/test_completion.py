"""completion.py: from frames to text, usage and cost, however the bytes come in."""

from __future__ import annotations

import json
import threading
import time

from alltoken_call.calls import completion
from alltoken_call.cli.context import Context
from alltoken_call.cli.output import Output
from alltoken_call.commands.chat import FIELDS
from alltoken_call.errors import ApiError, CallError, ExitStatus
from alltoken_call.net.response import Response

from ..gateway import CHAT, COST, DONE, USAGE, delta, frames, raw, reply, stream
from ..harness import PATIENCE, Case, Watched

WHOLE = frames("Grüße\n", "\N{OLD PERSONAL COMPUTER}\r\u2028", "x\x00\x85y") + DONE + COST
TEXT = "Grüße\n\N{OLD PERSONAL COMPUTER}\r\u2028x\x00\x85y"


def event(value: object) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


class Canned:
    """A transport, and its response, that hands out given pieces."""

    key = "canned-test-key"
    request_id = None

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = [*pieces, b""]
        self.limits: list[float] = []

    def stream(self, *_: object) -> Canned:
        return self

    def read(self) -> bytes:
        return self.pieces.pop(0)

    def limit(self, seconds: float, *, total: bool = False) -> None:
        self.limits.append(seconds)

    body = Response.body

    def close(self) -> None:
        pass


def take(*pieces: bytes) -> tuple[completion.Completion, dict]:
    """What `ask` makes of the pieces, and its report."""
    context = Context(stdin=None, stdout=None, stderr=None, environ={}, program=[])
    output = Output(context, "chat", FIELDS, json_mode=True)
    output.report["model"] = "m"
    try:
        answer = completion.ask(Canned(*pieces), output, {"model": "m"})
    except CallError as error:
        answer = error
    return answer, output.report


class Framing(Case):
    def test_the_answer_is_the_same_under_every_line_end_and_split_anywhere(self):
        for name, end in (("LF", b"\n"), ("CRLF", b"\r\n"), ("CR", b"\r")):
            data = WHOLE.replace(b"\n", end)
            for at in range(1, len(data)):
                answer, report = take(data[:at], data[at:])
                found = (answer.text, report["cost"]["usd"], answer.finish_reason, answer.done)
                self.assertEqual(found, (TEXT, "0.0000188000", "stop", True), f"{name} split at {at}")

    def test_a_pipe_gets_the_answer_byte_for_byte_one_byte_per_chunk(self):
        for end in (b"\n", b"\r\n", b"\r"):
            with self.subTest(end=end):
                data = WHOLE.replace(b"\n", end)
                self.gateway.on(CHAT, stream(*(data[at : at + 1] for at in range(len(data)))))
                result = self.chat("hi")
                self.assertEqual((result.status, result.out), (0, f"{TEXT}\n".encode()))
                self.assertIn("[cost] $0.0000188000 (gateway)", result.err)

    def test_surrogate_halves_in_two_deltas_are_one_character(self):
        data = b"".join(
            b'data: {"choices":[{"delta":{"content":"%s"}}]}\n\n' % half for half in (rb"\ud83d", rb"\ude00")
        )
        self.gateway.on(CHAT, stream(data[:50], data[50:], DONE))
        self.assertEqual(self.chat("hi").out, "😀\n".encode())
        self.assertEqual(self.document_of(self.chat("hi", "--json"), *FIELDS)["text"], "😀")

    def test_a_lone_surrogate_half_is_shown_as_a_replacement_character(self):
        self.gateway.on(CHAT, stream(b'data: {"choices":[{"delta":{"content":"a\\ud83d"}}]}\n\n', DONE))
        self.assertEqual(self.chat("hi").out, "a\ufffd\n".encode())


class Order(Case):
    def test_each_delta_is_on_stdout_before_the_next_one_is_sent(self):
        first, second = Watched(b"first"), threading.Event()

        def step(exchange):
            exchange.head(chunked=True)
            exchange.event(delta("first"))
            if first.seen.wait(PATIENCE):
                second.set()
            exchange.chunk(frames(" second") + DONE)
            exchange.end()

        self.gateway.on(CHAT, step)
        result = self.chat("hi", stdout=first)
        self.assertTrue(second.is_set(), "the first delta was held back")
        self.assertEqual(result.out, b"first second\n")

    def test_reasoning_is_on_stderr_before_the_answer_is_sent(self):
        err = Watched(b"let me think")

        def step(exchange):
            exchange.head(chunked=True)
            exchange.event(delta(reasoning_content="let me think"))
            exchange.chunk(frames("yes" if err.seen.wait(PATIENCE) else "held back") + DONE)
            exchange.end()

        self.gateway.on(CHAT, step)
        result = self.chat("hi", "--thinking", stderr=err)
        self.assertEqual(result.out, b"yes\n")
        self.assertIn("let me think\n[", result.err)


class Whole(Case):
    def test_the_end_decides_between_0_and_9(self):
        finish = event(delta(finish="stop"))
        for name, pieces, status in (
            ("[DONE] alone", (event(delta("kept")), DONE), 0),
            ("a finish reason alone", (event(delta("kept")), finish), 0),
            ("a finish reason, then a cut", (event(delta("kept")), finish, "cut"), 0),
            ("a finish reason, then RST", (event(delta("kept")), finish, "reset"), 0),
            ("[DONE], then RST", (event(delta("kept")), DONE, "reset"), 0),
            ("neither", (event(delta("kept")),), 9),
            ("a cut between events", (event(delta("kept")), "cut"), 9),
            ("RST", (event(delta("kept")), "reset"), 9),
        ):
            with self.subTest(name):
                self.gateway.on(CHAT, stream(*pieces))
                result = self.chat("hi")
                self.assertQuietly(status, result)
                self.assertEqual(result.out, b"kept\n")
                self.assertEqual("cut short" in result.err, status == 9)
                self.assertIn("[cost] unknown", result.err)

    def test_the_cost_comment_is_caught_0_6_s_after_done(self):
        self.gateway.on(CHAT, stream(frames("hi") + DONE, 0.6, COST))
        result = self.chat("hi")
        self.assertEqual(result.status, 0)
        self.assertIn("[usage] prompt=19 completion=12 total=31 model=gpt-5.4-mini\n", result.err)
        self.assertIn("[cost] $0.0000188000 (gateway)\n", result.err)

    def test_a_connection_held_open_after_done_ends_in_2_s_with_status_0(self):
        self.gateway.on(CHAT, stream(frames("hi") + DONE, "hold"))
        started = time.monotonic()
        result = self.chat("hi")
        self.assertEqual((result.status, result.out), (0, b"hi\n"))
        self.assertIn("[cost] unknown", result.err)
        self.assertTrue(1.5 < time.monotonic() - started < 4)

    def test_keep_alives_do_not_lengthen_the_wait_after_done(self):
        def step(exchange):
            exchange.head(chunked=True)
            exchange.chunk(frames("hi") + DONE)
            while not exchange.gateway.stopping.wait(0.02):
                exchange.chunk(b": keep-alive\n\n")

        patience, completion.COST_PATIENCE = completion.COST_PATIENCE, 0.2
        self.addCleanup(setattr, completion, "COST_PATIENCE", patience)
        self.gateway.on(CHAT, step)
        started = time.monotonic()
        self.assertEqual(self.chat("hi").status, 0)
        self.assertLess(time.monotonic() - started, 2)

    def test_the_cost_ends_the_reading_at_once(self):
        self.gateway.on(CHAT, stream(frames("hi") + DONE + COST, "hold"))
        started = time.monotonic()
        self.assertEqual(self.chat("hi").status, 0)
        self.assertLess(time.monotonic() - started, 1.5)

    def test_after_a_finish_reason_silence_is_no_failure(self):
        patience, completion.USAGE_PATIENCE = completion.USAGE_PATIENCE, 0.1
        self.addCleanup(setattr, completion, "USAGE_PATIENCE", patience)
        self.gateway.on(CHAT, stream(event(delta("hi")) + event(delta(finish="stop")), "hold"))
        self.assertEqual(self.chat("hi").status, 0)

    def test_a_cut_wait_for_the_cost_is_0_also_when_max_wait_ends_it(self):
        self.gateway.on(CHAT, stream(frames("hi") + DONE, "hold"))
        self.assertEqual(self.chat("hi", "--max-wait", "0.2").status, 0)

    def test_the_cost_of_a_request_whose_answer_never_came_is_said_to_be_unknown(self):
        self.gateway.on(CHAT, raw(b"", then="reset"))
        result = self.chat("hi")
        self.assertQuietly(3, result)
        self.assertIn("[cost] unknown\n", result.err)
        self.assertIn("it may have been answered, and billed", result.err)
        result = self.chat("hi", ALLTOKEN_BASE_URL="http://127.0.0.1:1")
        self.assertQuietly(3, result)
        self.assertNotIn("[cost]", result.err)

    def test_what_is_no_completion_is_status_3(self):
        for answer in (
            b"",
            b"<html>hello</html>",
            b"[]",
            b"null",
            b"{}",
            b'{"object":"list"}',
            b"data: hi\n\n",
            b"\xff\n\n",
        ):
            with self.subTest(answer):
                self.gateway.on(CHAT, reply(200, answer))
                result = self.chat("hi")
                self.assertQuietly(3, result)
                self.assertIn("[error] protocol", result.err)
                self.assertIn("request_id: req_loopback_1", result.err)
                self.assertEqual(result.out, b"")

    def test_a_frame_without_end_is_refused_and_not_kept_in_memory(self):
        def step(exchange):
            exchange.head(chunked=True)
            exchange.event(delta("kept"))
            for _ in range(200):
                exchange.chunk(b"x" * (1 << 16))

        self.gateway.on(CHAT, step)
        result = self.chat("hi")
        self.assertQuietly(9, result)
        self.assertEqual(result.out, b"kept\n")


class InStreamErrors(Case):
    def error(self, code, type_=None, **more):
        return event({"error": {"code": code, "type": type_, "message": "not today", **more}})

    def test_before_text_the_code_decides_the_status(self):
        for code, type_, status in (
            ("insufficient_balance", None, 6),
            ("invalid_api_key", None, 4),
            ("rate_limited", None, 7),
            ("rate_limit_exceeded", None, 7),
            ("invalid_request", None, 1),
            ("upstream_error", None, 5),
            (None, "billing_error", 6),
            (402, None, 6),
            ("503", None, 5),
        ):
            with self.subTest(code=code, type=type_):
                self.gateway.on(CHAT, stream(self.error(code, type_, request_id="req_inside"), DONE))
                result = self.chat("hi")
                self.assertQuietly(status, result)
                self.assertEqual(result.out, b"")
                self.assertIn("not today", result.err)
                self.assertIn("request_id: req_inside", result.err)
        self.assertEqual(self.asked(), 9)

    def test_after_text_the_status_is_9_and_the_code_is_shown(self):
        self.gateway.on(CHAT, stream(event(delta("kept")), self.error("insufficient_balance"), "hold"))
        result = self.chat("hi")
        self.assertQuietly(9, result)
        self.assertEqual(result.out, b"kept\n")
        self.assertIn("[error] insufficient_balance", result.err)
        document = self.document_of(self.chat("hi", "--json"), *FIELDS)
        self.assertEqual((document["text"], document["error"]["code"]), ("kept", "insufficient_balance"))

    def test_errors_of_odd_shapes_are_failures_too(self):
        for error in ("plain words", {"message": ["x"], "code": {}}, [1], {"code": None}, 7, True):
            with self.subTest(error=error):
                answer, _ = take(event(delta("a")), event({"error": error}))
                self.assertIsInstance(answer, ApiError)
                self.assertEqual(answer.status, ExitStatus.CUT_SHORT)

    def test_a_null_error_is_none(self):
        answer, _ = take(event(delta("a") | {"error": None}), DONE)
        self.assertEqual(answer.text, "a")


class Contents(Case):
    def test_tool_calls_are_put_together_by_index(self):
        def piece(index, **fields):
            return event(delta(tool_calls=[{"index": index, **fields}]))

        answer, report = take(
            piece(1, id="call_b", function={"name": "b", "arguments": "{}"}),
            piece(0, id="call_a", function={"name": "a", "arguments": '{"x"'}),
            piece(0, function={"arguments": ":1}"}),
            event(delta(finish="tool_calls")),
        )
        self.assertEqual(
            report["tool_calls"],
            [
                {"id": "call_a", "type": "function", "function": {"name": "a", "arguments": '{"x":1}'}},
                {"id": "call_b", "type": "function", "function": {"name": "b", "arguments": "{}"}},
            ],
        )
        self.assertEqual(answer.finish_reason, "tool_calls")

    def test_a_strangers_frames_break_nothing(self):
        deep = b"data: " + b"[" * 100_000 + b"\n\n"
        for odd in (
            deep,
            event([]),
            event({"choices": [None, 3, {"delta": 3}, {"delta": {"content": 3, "tool_calls": [3, {"function": 1}]}}]}),
            event({"choices": [{"delta": {"content": [{"text": 3}, 3]}, "finish_reason": 3}]}),
            event({"choices": "x", "usage": [], "model": {}}),
            event({"choices": [], "usage": {"prompt_tokens": "x", "completion_tokens": None, "cost": []}}),
            b'data: {"choices": [], "usage": {"total_tokens": NaN}}\n\n',
            b"data: {\n\ndata: \xff\xfe\n\nevent: ping\ndata: {}\n\n: PING\n\n: {\n\n: [1]\n\n",
        ):
            with self.subTest(odd[:40]):
                answer, report = take(event(delta("a")), odd, event(delta("b")), DONE)
                self.assertEqual((answer.text, report["cost"]["usd"]), ("ab", None))
                json.dumps(report, allow_nan=False)

    def test_usage_nested_as_deep_as_it_parses_still_gives_one_document(self):
        for depth in (100, 800, 900, *range(930, 1000, 5)):
            usage = b'{"a":' * depth + b"1" + b"}" * depth
            self.gateway.on(CHAT, stream(b'data: {"choices":[],"usage":' + usage + b"}\n\n", DONE + COST))
            self.assertIn("usage", self.chat("hi", "--json").document, depth)

    def test_the_cost_is_the_gateways_figure_or_unknown(self):
        for name, pieces, expected in (
            ("the comment", (DONE, COST), "0.0000188000"),
            ("the comment before [DONE]", (COST, DONE), "0.0000188000"),
            (
                "the comment wins over usage.cost",
                (event({"choices": [], "usage": {"cost": 9}}), DONE, COST),
                "0.0000188000",
            ),
            ("usage.cost", (event({"choices": [], "usage": {"cost": 1.88e-05}}), DONE), "0.0000188"),
            ("a free model", (DONE, b': {"cost":"0"}\n\n'), "0"),
            ("a keep-alive", (DONE, b": keep-alive\n\n"), None),
            ("no cost in the figures", (DONE, b': {"input_price":"1"}\n\n'), None),
            ("null", (DONE, b': {"cost":null}\n\n'), None),
            ("negative", (DONE, b': {"cost":"-1"}\n\n'), None),
            ("not finite", (DONE, b': {"cost":"inf"}\n\n'), None),
            ("absurd", (DONE, b': {"cost":"1e999999"}\n\n'), None),
            ("words", (DONE, b': {"cost":"much"}\n\n'), None),
        ):
            with self.subTest(name):
                _, report = take(event(delta("a")), *pieces)
                self.assertEqual(report["cost"], {"usd": expected, "source": expected and "gateway"})

    def test_usage_may_come_on_the_finish_chunk(self):
        _, report = take(event(delta("a")), event(delta(finish="stop") | {"usage": USAGE}), DONE)
        self.assertEqual(report["usage"], USAGE)

    def test_an_answer_that_was_not_streamed_is_read_as_well(self):
        message = {"role": "assistant", "content": "whole", "reasoning_content": "so"}
        document = {"model": "served-1", "usage": USAGE, "x-gateway-request-id": "req_top"}
        document["choices"] = [{"index": 0, "message": message, "finish_reason": "stop"}]
        data = b"  \n" + json.dumps(document).encode()
        for at in (1, 4, len(data) // 2):
            answer, report = take(data[:at], data[at:])
            self.assertEqual((answer.text, answer.whole), ("whole", True))
            found = [report[name] for name in ("reasoning", "served_model", "usage", "request_id")]
            self.assertEqual(found, ["so", "served-1", USAGE, "req_top"])

    def test_a_document_cut_short_is_status_3(self):
        self.gateway.on(CHAT, raw(b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"choices":['))
        result = self.chat("hi", "--no-stream")
        self.assertQuietly(3, result)
        self.assertIn("[error] connection_lost", result.err)
