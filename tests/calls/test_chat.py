"""calls/chat.py and reading.py: from frames to text, usage and cost, however the bytes come in."""

from __future__ import annotations

import json
import random
import threading
import time
from unittest import mock

from alltoken_call import config
from alltoken_call.calls import chat, reading
from alltoken_call.calls.client import Client
from alltoken_call.commands.chat import FIELDS
from alltoken_call.errors import CallError, ExitStatus
from alltoken_call.net.response import Response
from alltoken_call.values import Answer, Event

from ..gateway import CHAT, COST, DONE, USAGE, delta, event, frames, raw, reply, stream
from ..harness import PATIENCE, Case, Watched

WHOLE = frames("Grüße\n", "\N{OLD PERSONAL COMPUTER}\r\u2028", "x\x00\x85y") + DONE + COST
TEXT = "Grüße\n\N{OLD PERSONAL COMPUTER}\r\u2028x\x00\x85y"


class Canned:
    """An answer in given pieces."""

    status = 200

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = [*pieces, b""]

    def read(self) -> bytes:
        return self.pieces.pop(0)

    def limit(self, seconds: float) -> None:
        pass

    def header(self, _name: str) -> None:
        return None

    body = Response.body

    def close(self) -> None:
        pass


def take(*pieces: bytes, events: list[Event] | None = None) -> tuple[Answer, CallError | None]:
    """What `ask` makes of the pieces: the answer, and the error if it ended with one."""
    on_event = (lambda _: None) if events is None else events.append
    gateway = config.Gateway("alltoken", "http://127.0.0.1:1", "alltoken")
    client = Client(gateway, key="canned-test-key", on_event=on_event)
    client.open = lambda _request: Canned(*pieces)
    try:
        return chat.ask(client, {"model": "m", "stream": True}), None
    except CallError as error:
        return error.partial, error


class Pattern(Case):
    """Frames that differ in their text alone are read in a short way: the answer has to be the same."""

    STRINGS = (
        '"a"',
        '"b\\"}, \\"c"',
        '"\\u00e9\\ud83d"',
        '""',
        '"\\u0000"',
        '"x","content":"y"',
        "null",
        "7",
        '["d"]',
        '"e',
        "",
    )
    ENDS = (
        "}}]}",
        "}}]}",
        "}}]}",
        '},"finish_reason":"stop"}]}',
        ',"role":"assistant"}}],"id":"2"}',
        ',"refusal":"no"}}]}',
        ',"refusal":"\\u0000"}}]}',
        '}}],"usage":{"prompt_tokens":9,"completion_tokens":3,"cost":"0.5"}}',
        ',"reasoning_content":"r"}}]}',
        ',"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":"{}"}}]}}]}',
        '}}],"usage":{"prompt_tokens":1}}',
        '}}],"error":{"code":"broken"}}',
        '}}],"model":"other"}',
        ',"content":"last"}}]}',
    )
    HEADS = ('{"id":"1","choices":[{"delta":{"content":',) * 4 + (
        '{"id":"1","content":"z","choices":[{"delta":{"content": ',
        '{"id":"1","choices":[{"index":1,"delta":{"content":',
        '{"choices":[{"delta":{"text":',
        '{"x":"',
    )

    def test_the_answer_is_the_same_as_without_it(self):
        learnt = 0
        for seed in range(100):
            chance = random.Random(seed)
            usual = chance.choice(self.HEADS), chance.choice(self.ENDS)
            stream = []
            for _ in range(chance.randrange(1, 9)):
                head, end = usual if chance.random() < 0.7 else (chance.choice(self.HEADS), chance.choice(self.ENDS))
                stream.append(f"data: {head}{chance.choice(self.STRINGS)}{end}\n\n".encode())
            found = []
            for lessons in (0, 3):
                with (
                    mock.patch.object(reading, "LESSONS", lessons),
                    mock.patch.object(
                        reading._Pattern, "text", autospec=True, side_effect=reading._Pattern.text
                    ) as text,
                ):
                    answer, error = take(*stream, DONE)
                learnt += sum(call.args[0]._head != "" for call in text.call_args_list) if lessons else 0
                shown = {name: str(value) for name, value in vars(answer).items() if name != "cost"}
                found.append((shown, answer.cost.usd, error and error.code))
            self.assertEqual(found[0], found[1], stream)
        self.assertGreater(learnt, 50)


class Framing(Case):
    def test_the_answer_is_the_same_under_every_line_end_and_split_anywhere(self):
        for name, end in (("LF", b"\n"), ("CRLF", b"\r\n"), ("CR", b"\r")):
            data = WHOLE.replace(b"\n", end)
            for at in range(1, len(data)):
                answer, error = take(data[:at], data[at:])
                found = (answer.text, answer.cost.usd, answer.finish_reason, error)
                self.assertEqual(found, (TEXT, "0.0000188000", "stop", None), f"{name} split at {at}")

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

        patience, reading.COST_PATIENCE = reading.COST_PATIENCE, 0.2
        self.addCleanup(setattr, reading, "COST_PATIENCE", patience)
        self.gateway.on(CHAT, step)
        started = time.monotonic()
        self.assertEqual(self.chat("hi").status, 0)
        self.assertLess(time.monotonic() - started, 2)

    def test_the_cost_ends_the_reading_at_once(self):
        self.gateway.on(CHAT, stream(frames("hi") + DONE + COST, "hold"))
        started = time.monotonic()
        self.assertEqual(self.chat("hi").status, 0)
        self.assertLess(time.monotonic() - started, 1.5)

    def test_a_reader_that_leaves_before_the_last_newline_takes_no_cost_off_the_record(self):
        self.gateway.on(CHAT, stream(frames("hi") + DONE + COST))
        result = self.shell('{ "$@"; echo $? >&2; } | head -c 2', "chat", "hi")
        self.assertEqual((result.out, result.status), (b"hi", 0))
        self.assertIn("$0.0000188", self.call("cost").out.decode())

    def test_after_a_finish_reason_silence_is_no_failure(self):
        patience, reading.USAGE_PATIENCE = reading.USAGE_PATIENCE, 0.1
        self.addCleanup(setattr, reading, "USAGE_PATIENCE", patience)
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

    def test_the_cost_of_a_request_that_never_left_is_none(self):
        result = self.chat("hi", ALLTOKEN_BASE_URL="http://127.0.0.1:1")
        self.assertQuietly(3, result)
        self.assertIn("[cost] none\n", result.err)
        self.assertNotIn("billed", result.err)

    def test_a_200_that_is_cut_before_any_text_may_be_billed(self):
        for name, pieces in {
            "at once": ("cut",),
            "RST": ("reset",),
            "after a keep-alive": (b": hello\n\n", "cut"),
            "after the role": (event(delta(role="assistant")), "cut"),
            "whole, and empty": (),
        }.items():
            with self.subTest(name):
                self.gateway.on(CHAT, stream(*pieces))
                result = self.chat("hi")
                self.assertQuietly(3, result)
                self.assertEqual(result.out, b"")
                self.assertIn("it may have been answered, and billed", result.err)
                self.assertIn("[cost] unknown\n", result.err)
        self.assertEqual(self.asked(), 5)

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

    def test_a_code_of_ours_means_nothing_there(self):
        for code in ("cancelled", "interrupted", "max_wait", "protocol"):
            for step in (self.error(code), event(delta(finish=code))) if code == "cancelled" else (self.error(code),):
                with self.subTest(code, step=step):
                    self.gateway.on(CHAT, stream(event(delta("half")), step, DONE))
                    result = self.chat("hi", "--json")
                    self.assertQuietly(9, result)
                    error = result.document["error"]
                    self.assertEqual((error["code"], error["status"]), (f"gateway_{code}", None))
                    self.assertIn("cut short", error["message"])
                    self.assertEqual(result.document["text"], "half")

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

    def test_an_error_that_is_in_no_event_counts_too_and_also_as_the_last_line_without_its_end(self):
        inner = b'{"code":"insufficient_balance","message":"not today"}'
        for line in (b'{"error":%s}' % inner, b"error: %s" % inner):
            for end in (b"", b"\n", b"\n\n"):
                for before, status, text in (
                    (b"", ExitStatus.CREDIT, None),
                    (event(delta("a")), ExitStatus.CUT_SHORT, "a"),
                ):
                    with self.subTest(line, end=end, before=before):
                        answer, failed = take(*filter(None, (before, line + end)))
                        self.assertEqual(
                            (answer.text, failed.status, failed.code), (text, status, "insufficient_balance")
                        )

    def test_errors_of_odd_shapes_are_failures_too(self):
        for error in ("plain words", {"message": ["x"], "code": {}}, [1], {"code": None}, 7, True):
            with self.subTest(error=error):
                answer, end = take(event(delta("a")), event({"error": error}))
                self.assertEqual((answer.text, end and end.status), ("a", ExitStatus.CUT_SHORT))

    def test_a_null_error_is_none(self):
        answer, end = take(event(delta("a") | {"error": None}), DONE)
        self.assertEqual((answer.text, end), ("a", None))

    def test_a_200_whose_body_is_an_error_ends_with_the_status_of_its_code(self):
        for document, status in (
            ({"error": {"code": "insufficient_balance", "message": "not today"}}, 6),
            ({"error": {"code": "invalid_api_key", "message": "not today"}}, 4),
            ({"error": {"type": "billing_error", "message": "not today"}}, 6),
            ({"error": {"code": "rate_limited", "message": "not today"}}, 7),
            ({"error": {"code": 503, "message": "not today"}}, 5),
            ({"error": {"code": "upstream_error", "message": "not today"}}, 5),
            ({"error": {"message": "not today"}}, 1),
            ({"error": {"message": "not today"}, "status": "error"}, 1),
            ({"error": "not today"}, 1),
            ({"success": False, "message": "not today"}, 1),
            ({"success": False, "code": "insufficient_balance", "message": "not today"}, 6),
        ):
            for argv in ((), ("--no-stream",)):
                with self.subTest(document, argv=argv):
                    self.gateway.requests.clear()
                    self.gateway.on(CHAT, reply(200, document))
                    result = self.chat("hi", "--fallback", "none", *argv)
                    self.assertQuietly(status, result)
                    self.assertEqual((result.out, self.asked()), (b"", 1))
                    self.assertIn("not today", result.err)
                    self.assertIn("request_id: req_loopback_1", result.err)

    def test_a_200_that_says_that_all_providers_failed_falls_back(self):
        failed = reply(200, {"error": {"code": "all_providers_failed", "message": "not today"}})
        self.gateway.on(CHAT, failed, stream(frames("hi") + DONE))
        self.assertEqual(self.chat("hi").out, b"hi\n")

    def test_success_false_in_a_stream_is_a_failure(self):
        for before, status in (([], 6), ([event(delta("kept"))], 9)):
            self.gateway.on(CHAT, stream(*before, event({"success": False, "code": "insufficient_balance"}), DONE))
            self.assertQuietly(status, self.chat("hi"))


class Contents(Case):
    def test_a_strangers_frames_break_nothing(self):
        for odd in (
            event({"choices": [None, 3, {"delta": 3}, {"delta": {"content": 3, "tool_calls": [3, {"function": 1}]}}]}),
            event({"choices": [{"delta": {"content": [{"text": 3}, 3]}, "finish_reason": 3}]}),
            event({"choices": "x", "usage": [], "model": {}}),
            event({"choices": [], "usage": {"prompt_tokens": "x", "completion_tokens": None, "cost": []}}),
            b'data: {"choices": [], "usage": {"total_tokens": NaN}}\n\n',
            b"event: ping\ndata: {}\n\n: PING\n\n: {\n\n: [1]\n\ndata:\n\n",
        ):
            with self.subTest(odd[:40]):
                answer, error = take(event(delta("a")), odd, event(delta("b")), DONE)
                self.assertEqual((answer.text, answer.cost.usd, error), ("ab", None, None))
                json.dumps([answer.usage, answer.fields()], allow_nan=False)

    def test_a_frame_that_cannot_be_read_is_told_and_is_status_9_with_the_text(self):
        for name, odd in self.BROKEN.items():
            with self.subTest(name):
                self.gateway.on(CHAT, stream(event(delta("a")), odd, frames("b") + DONE + COST))
                result = self.chat("hi")
                self.assertQuietly(9, result)
                self.assertEqual(result.out, b"ab\n")
                self.assertEqual(result.err.count("[warning] "), 1)
                self.assertIn("[error] protocol", result.err)
                self.assertIn("[cost] $0.0000188000 (gateway)\n", result.err)
                document = self.document_of(self.chat("hi", "--json"), *FIELDS)
                self.assertEqual((document["text"], document["finish_reason"]), ("ab", "stop"))

    def test_without_any_text_a_frame_that_cannot_be_read_is_status_3(self):
        for name, odd in self.BROKEN.items():
            with self.subTest(name):
                self.gateway.on(CHAT, stream(odd, event(delta(finish="stop")), DONE))
                result = self.chat("hi")
                self.assertQuietly(3, result)
                self.assertEqual(result.out, b"")
                self.assertIn("[warning] ", result.err)
                self.assertIn("[error] protocol", result.err)
        self.assertEqual(self.asked(), len(self.BROKEN))

    BROKEN = {  # noqa: RUF012
        "half an object": b'data: {"choices":[{"delta":{"content":"lost"\n\n',
        "words": b"data: hello\n\n",
        "a list": event([]),
        "a number": event(3),
        "nested too deeply": b"data: " + b"[" * 100_000 + b"\n\n",
        "bytes": b"data: \xff\xfe\n\n",
    }

    def test_raw_control_characters_in_a_frames_strings_are_taken(self):
        for raw_text in (b"a\tb", b"a\x01b", b"a\x1bb", b"a\x00b"):
            data = b'data: {"choices":[{"delta":{"content":"%s"}}]}\n\n' % raw_text
            self.gateway.on(CHAT, stream(data, DONE))
            result = self.chat("hi")
            self.assertQuietly(0, result)
            self.assertEqual(result.out, raw_text + b"\n")

    def test_a_refusal_is_text_of_the_answer(self):
        self.gateway.on(CHAT, stream(event(delta(refusal="I can")), event(delta(refusal="not")), frames() + DONE))
        result = self.chat("hi")
        self.assertQuietly(0, result)
        self.assertEqual(result.out, b"I cannot\n")
        message = {"role": "assistant", "content": None, "refusal": "I cannot"}
        whole = json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()
        self.assertEqual(take(whole)[0].text, "I cannot")

    def test_of_several_choices_only_the_first_counts(self):
        def choices(*texts, finish=None):
            return event(
                {
                    "choices": [
                        {"index": at, "delta": {"content": text}, "finish_reason": finish}
                        for at, text in enumerate(texts)
                    ]
                }
            )

        second = event({"choices": [{"index": 1, "delta": {"content": "B"}, "finish_reason": "length"}]})
        turned = event({"choices": [{"index": 1, "delta": {"content": "B"}}, {"index": 0, "delta": {"content": "a"}}]})
        for name, pieces in {
            "in one frame": (choices("a", "B"), choices("a", "B", finish="stop")),
            "in frames of their own": (choices("a"), second, choices("a", finish="stop")),
            "the second first": (second, turned, choices("a", finish="stop")),
        }.items():
            with self.subTest(name):
                answer, error = take(*pieces, DONE)
                self.assertEqual((answer.text, answer.finish_reason, error), ("aa", "stop", None))

    def test_the_end_of_another_choice_is_not_the_end_of_the_first(self):
        second = event({"choices": [{"index": 1, "delta": {"content": "B"}, "finish_reason": "stop"}]})
        answer, error = take(event(delta("kept")), second)
        self.assertEqual((answer.text, error and error.status), ("kept", 9))

    def test_usage_nested_as_deep_as_it_parses_still_gives_one_document(self):
        for depth in (100, 800, 900, *range(930, 1000, 5)):
            usage = b'{"a":' * depth + b"1" + b"}" * depth
            self.gateway.on(CHAT, stream(b'data: {"choices":[],"usage":' + usage + b"}\n\n", DONE + COST))
            self.assertIn("usage", self.chat("hi", "--json").document, depth)

    def test_the_cost_is_the_gateways_figure_or_unknown(self):
        for name, pieces, expected in (
            ("the comment", (DONE, COST), "0.0000188000"),
            ("a comment before [DONE]", (COST, DONE), None),
            ("one before [DONE], and the comment", (b': {"cost":"9"}\n\n', DONE, COST), "0.0000188000"),
            ("no [DONE]", (event(delta(finish="stop")), COST), None),
            (
                "the comment wins over usage.cost",
                (event({"choices": [], "usage": {"cost": 9}}), DONE, COST),
                "0.0000188000",
            ),
            ("usage.cost", (event({"choices": [], "usage": {"cost": 1.88e-05}}), DONE), "0.0000188"),
            ("a free model", (DONE, b': {"cost":"0","input_price":"0","output_price":"0.0"}\n\n'), "0"),
            ("0 with a price", (DONE, b': {"cost":"0","input_price":"0","output_price":"1.25"}\n\n'), None),
            ("0 without prices", (DONE, b': {"cost":"0"}\n\n'), None),
            (
                "0 for the tokens of the usage",
                (event({"choices": [], "usage": USAGE}), DONE, b': {"cost":"0"}\n\n'),
                None,
            ),
            (
                "0 for no tokens",
                (event({"choices": [], "usage": dict.fromkeys(USAGE, 0)}), DONE, b': {"cost":"0"}\n\n'),
                "0",
            ),
            ("a keep-alive", (DONE, b": keep-alive\n\n"), None),
            ("no cost in the figures", (DONE, b': {"input_price":"1"}\n\n'), None),
            ("null", (DONE, b': {"cost":null}\n\n'), None),
            ("negative", (DONE, b': {"cost":"-1"}\n\n'), None),
            ("not finite", (DONE, b': {"cost":"inf"}\n\n'), None),
            ("absurd", (DONE, b': {"cost":"1e999999"}\n\n'), None),
            ("words", (DONE, b': {"cost":"much"}\n\n'), None),
        ):
            with self.subTest(name):
                answer, _ = take(event(delta("a")), *pieces)
                self.assertEqual((answer.cost.usd, answer.cost.source), (expected, expected and "gateway"))

    def test_usage_may_come_on_the_finish_chunk(self):
        answer, _ = take(event(delta("a")), event(delta(finish="stop") | {"usage": USAGE}), DONE)
        self.assertEqual(answer.usage, USAGE)

    def test_an_answer_that_was_not_streamed_is_read_as_well(self):
        message = {"role": "assistant", "content": "whole", "reasoning_content": "so"}
        document = {"model": "served-1", "usage": USAGE, "x-gateway-request-id": "req_top"}
        document["choices"] = [{"index": 0, "message": message, "finish_reason": "stop"}]
        data = b"  \n" + json.dumps(document).encode()
        for at in (1, 4, len(data) // 2):
            answer, error = take(data[:at], data[at:])
            self.assertEqual((answer.text, error), ("whole", None))
            found = [answer.reasoning, answer.served_model, answer.usage, answer.request_id]
            self.assertEqual(found, ["so", "served-1", USAGE, "req_top"])

    def test_a_document_cut_short_is_status_3(self):
        self.gateway.on(CHAT, raw(b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"choices":['))
        result = self.chat("hi", "--no-stream")
        self.assertQuietly(3, result)
        self.assertIn("[error] connection_lost", result.err)


class Reasons(Case):
    """What the finish reason says of the answer."""

    def ended(self, reason, *argv):
        self.gateway.on(CHAT, stream(event(delta("kept")), event(delta(finish=reason)), DONE))
        return self.chat("hi", *argv)

    def test_a_reason_that_says_that_the_answer_broke_is_status_9_with_the_text(self):
        for reason in ("error", "network_error", "abort", "aborted", "cancelled", "insufficient_system_resource"):
            with self.subTest(reason):
                result = self.ended(reason)
                self.assertQuietly(9, result)
                self.assertEqual(result.out, b"kept\n")
                self.assertIn(reason, result.err)
                document = self.document_of(self.ended(reason, "--json"), *FIELDS)
                self.assertEqual((document["text"], document["finish_reason"]), ("kept", reason))
                self.gateway.on(CHAT, stream(event(delta(finish=reason)), DONE))
                self.assertQuietly(9, self.chat("hi"))

    def test_the_word_null_is_no_reason(self):
        self.gateway.on(CHAT, stream(event(delta("a", finish="null")), event(delta("b", finish="null"))))
        result = self.chat("hi")
        self.assertQuietly(9, result)
        self.assertEqual(result.out, b"ab\n")
        answer, error = take(event(delta("a", finish="null")), event(delta("b", finish="stop")))
        self.assertEqual((answer.text, answer.finish_reason, error), ("ab", "stop", None))
        answer, error = take(event(delta("a", finish="null")), DONE)
        self.assertEqual((answer.text, answer.finish_reason, error), ("a", None, None))

    def test_an_unknown_reason_is_named_in_a_warning(self):
        result = self.ended("moonrise\n[error] forged\x1b[2J")
        self.assertQuietly(0, result)
        self.assertEqual(result.out, b"kept\n")
        self.assertEqual(result.err.count("[warning] "), 1)
        self.assertIn("moonrise", result.err)
        self.assertNotRegex(result.err, r"(?m)^\[error\]|\x1b")

    def test_a_known_reason_is_a_warning_only_if_something_is_missing(self):
        for reason, warned in (
            ("stop", False),
            ("tool_calls", False),
            ("end_turn", False),
            ("length", True),
            ("content_filter", True),
        ):
            with self.subTest(reason):
                result = self.ended(reason)
                self.assertQuietly(0, result)
                self.assertEqual("[warning] " in result.err, warned)


class ToolCalls(Case):
    """Pieces of the calls that the model wants made, put together."""

    def calls(self, *pieces, finish="tool_calls"):
        answer, error = take(*(event(delta(tool_calls=list(piece))) for piece in pieces), event(delta(finish=finish)))
        self.assertIsNone(error)
        self.assertEqual(answer.finish_reason, finish)
        return answer.tool_calls

    def made(self, id, name, arguments, **more):
        return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}, **more}

    def piece(self, id=None, index=None, name=None, arguments=None, **more):
        function = {"name": name, "arguments": arguments}
        piece = {"id": id, "index": index, **more}
        piece = {key: value for key, value in piece.items() if value is not None}
        return piece | {"function": {key: value for key, value in function.items() if value is not None}}

    def test_pieces_are_put_together_by_index(self):
        piece = self.piece
        found = self.calls(
            [piece("call_b", 1, "b", "{}")],
            [piece("call_a", 0, "a", '{"x"')],
            [piece(index=0, arguments=":1}")],
        )
        self.assertEqual(found, [self.made("call_a", "a", '{"x":1}'), self.made("call_b", "b", "{}")])

    def test_two_ids_at_one_index_are_two_calls(self):
        piece = self.piece
        found = self.calls(
            [piece("call_a", 0, "a", '{"x":')],
            [piece(index=0, arguments="1}")],
            [piece("call_b", 0, "b", '{"y":')],
            [piece(index=0, arguments="2}")],
        )
        self.assertEqual(found, [self.made("call_a", "a", '{"x":1}'), self.made("call_b", "b", '{"y":2}')])

    def test_without_an_index_the_ids_tell_the_calls_apart(self):
        piece = self.piece
        for pieces in (
            ([piece("a", name="f", arguments='{"x":')], [piece("b", name="f", arguments='{"y":2}')]),
            ([piece("a", name="f", arguments='{"x":'), piece("b", name="f", arguments='{"y":2}')],),
        ):
            found = self.calls(*pieces, [piece("a", arguments="1}")])
            self.assertEqual(found, [self.made("a", "f", '{"x":1}'), self.made("b", "f", '{"y":2}')])

    def test_a_name_that_is_repeated_in_each_piece_is_one_name(self):
        pieces = [[self.piece("a", 0, "weather", text)] for text in ('{"ci', 'ty":', '"Bern"}')]
        self.assertEqual(self.calls(*pieces), [self.made("a", "weather", '{"city":"Bern"}')])
        pieces = [[self.piece(name="weather", arguments=text)] for text in ('{"ci', 'ty":', '"Bern"}')]
        self.assertEqual(self.calls(*pieces), [self.made(None, "weather", '{"city":"Bern"}')])

    def test_a_name_in_pieces_is_put_together(self):
        pieces = [[self.piece("a", 0, "wea")], [self.piece(index=0, name="ther", arguments="{}")]]
        self.assertEqual(self.calls(*pieces), [self.made("a", "weather", "{}")])

    def test_arguments_that_are_an_object_become_its_json(self):
        (call,) = self.calls([self.piece("a", 0, "weather", {"city": "Bern", "days": [1, 2]})])
        self.assertEqual(json.loads(call["function"]["arguments"]), {"city": "Bern", "days": [1, 2]})
        (call,) = self.calls([self.piece("a", 0, "now", {})])
        self.assertEqual(call["function"]["arguments"], "{}")

    def test_what_else_comes_with_a_call_is_kept(self):
        signature = {"google": {"thought_signature": "c2ln"}}
        found = self.calls(
            [self.piece("a", 0, "f", "{", extra_content=signature)], [self.piece(index=0, arguments="}")]
        )
        self.assertEqual(found, [self.made("a", "f", "{}", extra_content=signature)])

    def test_without_ids_calls_are_told_apart_by_index_or_place_or_by_being_complete(self):
        piece = self.piece
        expected = [self.made(None, "f", '{"x":1}'), self.made(None, "f", '{"x":2}')]
        for name, pieces in {
            "by index": (
                [piece(None, 0, "f", '{"x":')],
                [piece(None, 1, "f", '{"x":')],
                [piece(None, 0, None, "1}")],
                [piece(None, 1, None, "2}")],
            ),
            "by place": (
                [piece(None, None, "f", '{"x":'), piece(None, None, "f", '{"x":')],
                [piece(None, None, None, "1}"), piece(None, None, None, "2}")],
            ),
            "one after the other": ([piece(None, None, "f", '{"x":1}')], [piece(None, None, "f", '{"x":2}')]),
        }.items():
            with self.subTest(name):
                self.assertEqual(self.calls(*pieces), expected)

    def test_a_cut_inside_a_call_is_status_9_and_keeps_it(self):
        self.gateway.on(CHAT, stream(event(delta(tool_calls=[self.piece("a", 0, "f", '{"x"')])), "cut"))
        result = self.chat("hi", "--json")
        self.assertQuietly(9, result)
        self.assertEqual(self.document_of(result, *FIELDS)["tool_calls"], [self.made("a", "f", '{"x"')])
