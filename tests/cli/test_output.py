"""output: the result on stdout, the rest on stderr, nothing that drives a terminal, no secret."""

import errno
import fcntl
import json
import os
import pty
import signal
import struct
import termios
import threading
import time
import unittest
from unittest import mock

from alltoken_call.cli.output import Output
from alltoken_call.cli.report import document, tell_error, tell_money
from alltoken_call.errors import CallError, ExitStatus, Interrupted, NetError, OutputError, UsageError
from alltoken_call.gateways.alltoken import AllToken
from alltoken_call.net.clock import Clock
from alltoken_call.text import inert
from alltoken_call.values import Answer, Cost, Downloading, Note, Reasoning, Stored, Text, Trace, Waiting, Warned

from .. import support
from ..test_text import DRIVING

KEY = "loopback-test-key"


class Shown(unittest.TestCase):
    """An `Output` over streams in memory."""

    def make(self, stdout_terminal=False, stderr_terminal=False, encoding="utf-8", environ=(), **modes) -> Output:
        self.out = support.Stream(terminal=stdout_terminal, encoding=encoding)
        self.err = support.Stream(terminal=stderr_terminal, encoding=encoding)
        environ = {"ALLTOKEN_API_KEY": KEY} | dict(environ)
        self.context = support.context(stdout=self.out, stderr=self.err, environ=environ)
        return Output(self.context, **modes)

    @property
    def stdout(self) -> str:
        return self.out.written.decode()

    @property
    def stderr(self) -> str:
        return self.err.written.decode()


class Stdout(Shown):
    def test_a_pipe_gets_the_text_byte_for_byte(self):
        shown = self.make(encoding="ascii")
        text = "Grüße 🙂\x1b[2J\r\n\u202e\0 " + KEY
        shown.text(text)
        self.assertEqual(self.out.written, text.encode())

    def test_text_arrives_before_the_next(self):
        shown = self.make()
        for piece, all_of_it in (("a", "a"), ("", "a"), ("b\n", "ab\n"), ("c", "ab\nc")):
            shown.text(piece)
            self.assertEqual(self.stdout, all_of_it)

    def test_a_terminal_gets_inert_text_in_its_own_encoding(self):
        for encoding, seen in {"utf-8": "é🙂\\x1b[2J\n".encode(), "latin-1": b"\xe9\\U0001f642\\x1b[2J\n"}.items():
            with self.subTest(encoding):
                self.make(stdout_terminal=True, encoding=encoding).line("é🙂\x1b[2J")
                self.assertEqual(self.out.written, seen)

    def test_the_end_of_the_text_is_a_newline_unless_there_is_one(self):
        for pieces, seen in {(): "", ("",): "", ("a",): "a\n", ("a\n",): "a\n", ("a\n", "b"): "a\nb\n"}.items():
            with self.subTest(pieces):
                shown = self.make()
                for piece in pieces:
                    shown.text(piece)
                shown.end_text()
                shown.end_text()
                self.assertEqual(self.stdout, seen)

    def test_halves_of_a_surrogate_pair_meet_and_lone_ones_are_replaced(self):
        for pieces, seen in (
            (["\ud83d\ude42"], "🙂\n"),
            (["a\ud83d", "\ude42b"], "a🙂b\n"),
            (["a\ud83d", "", "\ude42"], "a🙂\n"),
            (["\ud800", "\udc00"], "\U00010000\n"),
            (["\udbff", "\udfff"], "\U0010ffff\n"),
            (["a\ud83d", "b"], "a\ufffdb\n"),
            (["a\ud83d"], "a\ufffd\n"),
            (["\ud83d", "\ud83d", "\ude42"], "\ufffd🙂\n"),
            (["\ude42", "a"], "\ufffda\n"),
            (["\udc00"], "\ufffd\n"),
        ):
            with self.subTest(ascii(pieces)):
                shown = self.make()
                for piece in pieces:
                    shown.text(piece)
                shown.end_text()
                self.assertEqual(self.stdout, seen)

    def test_a_lone_low_half_does_not_wait_for_anything(self):
        shown = self.make()
        shown.text("\udc00")
        self.assertEqual(self.stdout, "\ufffd")

    def test_lines_and_bytes(self):
        shown = self.make()
        shown.line("igen_1")
        shown.binary(b"\x89PNG\xff")
        self.assertEqual(self.out.written, b"igen_1\n\x89PNG\xff")

    def test_a_table_is_aligned_and_its_names_keep_to_their_line(self):
        self.make().table([["id", "cost"], ["a\nb", "$10"], ["longest", "-"]])
        self.assertEqual(self.stdout, "id       cost\na b       $10\nlongest     -\n")

    def test_a_closed_stdout_is_noticed_before_anything_is_sent(self):
        shown = Output(support.context(stdout=None))
        for notice in (shown.check_stdout, lambda: shown.line("a"), lambda: shown.document({})):
            with self.assertRaisesRegex(OutputError, "stdout is closed") as caught:
                notice()
            self.assertIs(caught.exception.status, ExitStatus.CANNOT_WRITE)
        self.make().check_stdout()

    def test_whether_a_person_watches(self):
        self.assertIs(self.make(stdout_terminal=True).to_terminal, True)
        self.assertIs(self.make(stderr_terminal=True).to_terminal, False)


class Documents(Shown):
    def test_a_document_has_every_key_whatever_happened(self):
        for result in (None, Answer("m")):
            for error in (None, UsageError("why")):
                shown = self.make()
                made = document("chat", ("text", "finish_reason"), result, error, self.context, shown)
                wanted = {"command": "chat", "gateway": "alltoken", "usage": None, "request_id": None, "text": None}
                wanted |= {"finish_reason": None, "cost": {"usd": None, "source": None}, "ok": error is None}
                self.assertEqual({name: made[name] for name in wanted}, wanted)
                self.assertEqual(made["model"], result and "m")
                self.assertEqual(made["error"] is None, error is None)

    def test_json_holds_back_all_text_and_gives_one_ascii_document(self):
        shown = self.make(json_mode=True)
        shown.text("delta")
        shown.line("line")
        shown.path("path")
        shown.end_text()
        self.assertEqual(self.stdout, "")
        answer = Answer("m")
        answer.text = "Grüße 🙂 \ud83d \u2028"
        made = document("chat", ("text",), answer, None, self.context, shown)
        shown.document(made)
        self.assertTrue(self.stdout.isascii())
        self.assertEqual((self.stdout.count("\n"), self.stdout[-1]), (1, "\n"))
        self.assertEqual(json.loads(self.stdout), made)
        self.assertEqual(made["text"], answer.text)

    def test_any_document_may_be_given_an_empty_one_too(self):
        for value in ({"a": 1}, {}, []):
            with self.subTest(value):
                self.make().document(value)
                self.assertEqual(json.loads(self.stdout), value)

    def test_a_document_is_never_what_json_does_not_have(self):
        with self.assertRaises(ValueError):
            self.make().document(float("nan"))

    def test_a_document_on_a_terminal_is_json_and_inert(self):
        text = "".join(map(chr, DRIVING))
        self.make(stdout_terminal=True).document(text)
        self.assertEqual(json.loads(self.stdout), text)
        self.assertEqual(inert(self.stdout), self.stdout)


class Stderr(Shown):
    def test_each_kind_of_line_under_each_mode(self):
        for kind, arguments, line, modes in (
            ("note", ("usage", "prompt=1"), "[usage] prompt=1\n", ("", "verbose")),
            ("debug", ("GET /",), "[http] GET /\n", ("verbose",)),
            ("warning", ("odd",), "[warning] odd\n", ("", "quiet", "verbose")),
            ("say", ("plain",), "plain\n", ("", "quiet", "verbose")),
            ("reasoning", ("hm\n",), "hm\n", ("", "verbose")),
            ("progress", ("1 s",), "", ()),
        ):
            for mode in ("", "quiet", "verbose"):
                with self.subTest(kind, mode=mode):
                    getattr(self.make(**({mode: True} if mode else {})), kind)(*arguments)
                    self.assertEqual(self.stderr, line if mode in modes else "")
                    self.assertEqual(self.stdout, "")

    def test_a_warning_is_said_once(self):
        shown = self.make()
        for text in ("a", "b", "a"):
            shown.warning(text)
        self.assertEqual(self.stderr, "[warning] a\n[warning] b\n")

    def test_usage_is_told_in_whole_numbers_and_kept_as_it_came(self):
        for usage, line in (
            ({"prompt_tokens": 1, "output_tokens": 2, "total_tokens": True}, "[usage] prompt=1 output=2 model=m\n"),
            ({"input_tokens": "3"}, "[usage] model=m\n"),
            (None, ""),
        ):
            with self.subTest(usage=usage):
                shown, answer = self.make(), Answer("m")
                answer.usage = usage
                tell_money(answer, shown)
                self.assertEqual(self.stderr, line)
                self.assertEqual(document("chat", (), answer, None, self.context, shown)["usage"], usage)

    def test_a_cost_has_a_source_if_it_is_known(self):
        for usd, source, line in (
            ("0.1", "gateway", "[cost] $0.1 (gateway)\n"),
            ("0.1", "estimate", "[cost] $0.1 (estimate)\n"),
            (None, "none", "[cost] none\n"),
            (None, "local", ""),
            (None, None, "[cost] unknown\n"),
        ):
            with self.subTest(source):
                shown, answer = self.make(), Answer("m")
                answer.tried, answer.cost = True, Cost(usd, source)
                tell_money(answer, shown)
                self.assertEqual(self.stderr, line)
                made = document("chat", (), answer, None, self.context, shown)
                self.assertEqual(made["cost"], {"usd": usd, "source": source})

    def test_what_did_not_try_to_reach_a_gateway_has_no_cost(self):
        tell_money(Answer("m"), self.make())
        self.assertEqual(self.stderr, "")

    def test_stderr_is_inert_and_without_the_key_everywhere(self):
        for terminal in (False, True):
            with self.subTest(terminal=terminal):
                shown = self.make(stderr_terminal=terminal)
                for show in (shown.say, shown.reasoning, shown.warning):
                    show(f"\x1b]0;{KEY}\x07\u202e")
                self.assertNotIn(KEY, self.stderr)
                self.assertEqual(self.stderr.count("\\x1b]0;[key]\\x07\\u202e"), 3)

    def test_the_key_is_hidden_also_if_the_environment_has_it_with_white_space(self):
        self.make(environ={"ALLTOKEN_API_KEY": f" {KEY}\n"}).say(KEY)
        self.assertEqual(self.stderr, "[key]\n")

    def test_an_encoding_that_lacks_a_character_gets_it_escaped(self):
        self.make(encoding="ascii").say("é\ud800")
        self.assertEqual(self.stderr, "\\xe9\\ud800\n")

    def test_a_key_that_is_split_over_pieces_of_reasoning_is_hidden(self):
        for terminal in (False, True):
            for at in range(1, len(KEY)):
                with self.subTest(at):
                    shown = self.make(stderr_terminal=terminal)
                    for piece in ("the key is ", KEY[:at], KEY[at:], ", a secret"):
                        shown.reasoning(piece)
                    shown.say("done")
                    self.assertEqual(self.stderr, "the key is [key], a secret\ndone\n")
        shown = self.make()
        for character in KEY * 2 + "x":
            shown.reasoning(character)
        shown.say("")
        self.assertEqual(self.stderr, "[key][key]x\n\n")

    def test_what_only_begins_like_the_key_is_shown_whole(self):
        shown = self.make()
        for piece in (KEY[:5], "x", KEY[:3]):
            shown.reasoning(piece)
        shown.say("done")
        self.assertEqual(self.stderr, f"{KEY[:5]}x{KEY[:3]}\ndone\n")

    def test_reasoning_and_answer_have_lines_of_their_own_on_one_terminal(self):
        for out, err, environ, seen in (
            (True, True, {}, "hm\n"),
            (True, True, {"NO_COLOR": "1"}, "hm\n"),
            (True, False, {}, "hm"),
            (False, True, {}, "hm"),
        ):
            for pieces in (("hm",), ("h", "m"), ("hm\n",)):
                with self.subTest(out=out, err=err, pieces=pieces, **environ):
                    shown = self.make(stdout_terminal=out, stderr_terminal=err, environ=environ)
                    for piece in pieces:
                        shown.reasoning(piece)
                    shown.text("answer")
                    self.assertEqual(self.stderr, seen if pieces[-1] != "hm\n" else "hm\n")
                    shown.text(" goes on")
                    shown.end_text()
                    shown.note("cost", "unknown")
                    self.assertEqual(self.stderr, "hm\n[cost] unknown\n")
                    self.assertEqual(self.stdout, "answer goes on\n")

    def test_the_end_of_reasoning_that_may_be_the_key_stands_before_the_answer(self):
        shown = self.make(stdout_terminal=True, stderr_terminal=True)
        shown.reasoning(KEY[:3])
        shown.text("answer")
        self.assertEqual(self.stderr, f"{KEY[:3]}\n")

    def test_a_line_after_unended_reasoning_begins_a_line_of_its_own(self):
        shown = self.make()
        for piece in ("one ", "two"):
            shown.reasoning(piece)
        shown.reasoning("")
        shown.say("a")
        shown.reasoning("three\n")
        shown.say("b")
        self.assertEqual(self.stderr, "one two\na\nthree\nb\n")

    def test_colour_is_for_errors_and_warnings_on_a_terminal(self):
        shown = self.make(stderr_terminal=True)
        shown.warning("odd")
        shown.say("[error] bad")
        shown.note("cost", "unknown")
        shown.say("error] [warning] not a tag")
        self.assertEqual(
            self.stderr,
            "\x1b[33m[warning]\x1b[0m odd\n\x1b[31m[error]\x1b[0m bad\n[cost] unknown\nerror] [warning] not a tag\n",
        )

    def test_no_color_means_no_colour_and_no_motion(self):
        for environ, lively in (({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({}, True)):
            with self.subTest(environ):
                shown = self.make(stderr_terminal=True, environ=environ)
                shown.progress("1 s")
                shown.warning("odd")
                self.assertIs(shown.lively, lively)
                self.assertEqual("\x1b" in self.stderr, lively)

    def test_progress_is_one_living_line_that_gives_way(self):
        for follow, out, err in (
            (lambda shown: shown.say("done"), "", "done\n"),
            (lambda shown: shown.reasoning("hm"), "", "hm"),
            (lambda shown: shown.text("hi"), "hi", ""),
        ):
            shown = self.make(stderr_terminal=True)
            shown.progress("1 s")
            shown.progress("2 s")
            for _ in range(2):
                follow(shown)
            self.assertEqual(self.stderr, "\r1 s\x1b[K\r2 s\x1b[K\r\x1b[K" + err * 2)
            self.assertEqual(self.stdout, out * 2)

    def test_progress_fits_in_a_line_and_is_inert(self):
        shown = self.make(stderr_terminal=True)
        shown.progress("x" * 78)
        shown.progress("\x1b\n" + "y" * 78)
        self.assertEqual(self.stderr, f"\r{'x' * 78}\x1b[K\r\\x1b {'y' * 72}…\x1b[K")

    def test_quiet_shows_no_progress_and_is_not_lively(self):
        shown = self.make(stderr_terminal=True, quiet=True)
        shown.progress("1 s")
        self.assertEqual((self.stderr, shown.lively), ("", False))
        self.assertIs(self.make().lively, False)

    def test_a_closed_stderr_is_not_a_failure(self):
        shown = Output(support.context(stderr=None))
        shown.say("a")
        shown.progress("1 s")
        shown.reasoning("hm")
        tell_error(UsageError("why"), shown)

    def test_progress_fits_into_a_narrow_terminal(self):
        for columns, longest in ((30, 29), (80, 78), (300, 78), (0, 78)):
            with self.subTest(columns):
                main, side = pty.openpty()
                self.addCleanup(os.close, main)
                fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
                with open(side, "w", encoding="utf-8") as terminal:
                    shown = Output(support.context(stderr=terminal))
                    shown.on_event(Waiting("igen_" + "1" * 60, "processing", 12.0))
                    shown.on_event(Downloading(1 << 40, 1 << 41))
                    seen = ""
                    while seen.count("\x1b[K") < 2:
                        seen += os.read(main, 4096).decode()
                self.assertEqual(seen.count("\r"), 2)
                for line in seen.split("\r")[1:]:
                    self.assertTrue(line.endswith("\x1b[K"))
                    self.assertLessEqual(len(line) - 3, longest, line)
                self.assertIn("…", seen)


class Events(Shown):
    def test_each_event_has_its_place(self):
        for event, out, err in (
            (Text("hi"), "hi", ""),
            (Reasoning("hm\n"), "", "hm\n"),
            (Trace("GET /"), "", "[http] GET /\n"),
            (Warned("odd"), "", "[warning] odd\n"),
            (Note("retry", "again"), "", "[retry] again\n"),
            (Waiting("igen_1", "queued", 1.25), "", "[status] queued after 1.2 s\n"),
            (Downloading(5, 10), "", ""),
        ):
            with self.subTest(type(event).__name__):
                shown = self.make(verbose=True)
                shown.thinking = True
                shown.on_event(event)
                self.assertEqual((self.stdout, self.stderr), (out, err))

    def test_a_status_is_told_when_it_changes(self):
        shown = self.make()
        for status, seconds in (("queued", 0), ("queued", 2), ("processing", 4), ("processing", 6)):
            shown.on_event(Waiting("igen_1", status, seconds))
        self.assertEqual(self.stderr, "[status] queued after 0.0 s\n[status] processing after 4.0 s\n")

    def test_the_time_that_a_result_took_does_not_follow_a_wall_clock_that_steps_back(self):
        now = [1000.0]
        self.make()
        self.context.clock = Clock(now=lambda: now[0], monotonic=lambda: 5.0)
        now[0] -= 21
        Output(self.context).on_event(Stored("a.png", 1204, only=True))
        self.assertEqual(self.stderr, "saved a.png (1,204 bytes) in 0.0 s; the gateway keeps no second copy\n")


class Failures(Shown):
    def refused(self, message="no", http=400, secret=KEY, **inner) -> CallError:
        """The end that the gateway's error makes."""
        document = {"error": {"message": message, **inner}}
        return CallError.of(AllToken("https://gateway.invalid").refusal(document, http, secret=secret))

    def test_an_error_of_our_own_is_a_line_and_a_hint(self):
        tell_error(UsageError("the prompt is empty", hint="usage: …"), self.make(quiet=True))
        self.assertEqual(self.stderr, "[error] usage: the prompt is empty\nusage: …\n")

    def test_an_api_error_is_a_line_the_request_id_and_a_hint(self):
        error = self.refused("empty", 402, code="insufficient_balance", type="billing_error", request_id="req_1")
        shown = self.make()
        tell_error(error, shown)
        first, second, hint = self.stderr.splitlines()
        self.assertEqual(first, "[error] insufficient_balance (402 billing_error): empty")
        self.assertEqual(second, "request_id: req_1")
        self.assertIn("top up", hint)
        made = document("chat", (), None, error, self.context, shown)
        self.assertEqual(
            made["error"],
            {
                "code": "insufficient_balance",
                "type": "billing_error",
                "message": "empty",
                "status": 402,
                "request_id": "req_1",
                "hint": hint,
            },
        )
        self.assertEqual((made["request_id"], made["ok"]), ("req_1", False))

    def test_without_status_or_type_nothing_stands_in_brackets(self):
        for http, type_, line in (
            (404, None, "[error] x (404): no"),
            (0, "odd", "[error] x (odd): no"),
            (0, None, "[error] x: no"),
        ):
            with self.subTest(line):
                tell_error(self.refused(http=http, code="x", type=type_), self.make())
                self.assertEqual(self.stderr.splitlines()[0], line)

    def test_the_request_id_of_the_answer_serves_if_the_error_has_none(self):
        answer = Answer("m")
        answer.request_id = "req_0"
        made = document("chat", (), answer, CallError.of(NetError("no", "x")), self.make()._context, self.make())
        self.assertEqual((made["request_id"], made["error"]["request_id"]), ("req_0", "req_0"))

    def test_what_a_stranger_sends_stays_in_its_line_without_the_key(self):
        for secret in (KEY, ""):  # redacted where it comes in, and again where it goes out
            shown = self.make()
            error = self.refused(f"a\n[error] b {KEY}\x1b", request_id="r\n[error] c" + "d" * 300, secret=secret)
            tell_error(error, shown)
            lines = self.stderr.splitlines()
            self.assertEqual(lines[0], "[error] http_400 (400): a [error] b [key]\\x1b")
            self.assertEqual(lines[1], ("request_id: r [error] c" + "d" * 300)[: 12 + 199] + "…")
            self.assertEqual(len(lines), 3)
            self.assertNotIn(KEY, json.dumps(document("chat", (), None, error, self.context, shown)))


class Descriptors(unittest.TestCase):
    """Real pipes and devices, which fail as memory does not."""

    def opened(self, descriptor: int):
        stream = open(descriptor, "w", encoding="utf-8")
        self.addCleanup(stream.close)  # which fails where the descriptor still does
        return stream

    def broken(self):
        reader, writer = os.pipe()
        os.close(reader)
        return self.opened(writer)

    @unittest.skipUnless(os.path.exists("/dev/full"), "needs /dev/full")
    def test_a_full_stdout_is_status_13_and_the_reason_is_told(self):
        stdout = self.opened(os.open("/dev/full", os.O_WRONLY))
        shown = Output(support.context(stdout=stdout))
        with self.assertRaisesRegex(OutputError, f"cannot write to stdout: {os.strerror(errno.ENOSPC)}") as caught:
            shown.text("hi")
        self.assertIs(caught.exception.status, ExitStatus.CANNOT_WRITE)
        shown.end_text()
        with self.assertRaisesRegex(OutputError, "stdout is closed"):
            shown.line("more")
        stdout.close()

    def test_a_stdout_that_is_closed_under_us_is_status_13(self):
        stdout = support.Stream()
        shown = Output(support.context(stdout=stdout))
        stdout.close()
        with self.assertRaisesRegex(OutputError, "^cannot write to stdout: closed$"):
            shown.line("hi")

    def test_a_reader_that_went_away_is_status_141_and_nothing_is_said(self):
        context = support.context(stdout=self.broken())
        shown = Output(context)
        with self.assertRaises(CallError) as caught:
            shown.text("hi")
        self.assertIs(caught.exception.status, ExitStatus.BROKEN_PIPE)
        shown.end_text()
        shown.say("nothing")
        self.assertEqual(context.stderr.written, b"")
        context.stdout.close()

    def test_a_stderr_that_nobody_reads_is_not_a_failure(self):
        context = support.context(stderr=self.broken())
        shown = Output(context)
        shown.say("a")
        shown.say("b")
        shown.line("result")
        self.assertEqual(context.stdout.written, b"result\n")
        context.stderr.close()

    def full(self):
        """A pipe that nobody reads and that has no room."""
        reader, writer = os.pipe()
        self.addCleanup(os.close, reader)
        os.set_blocking(writer, False)
        while True:
            try:
                os.write(writer, b"x" * 4096)
            except BlockingIOError:
                break
        os.set_blocking(writer, True)
        return writer

    def test_a_reader_that_stands_still_is_waited_for_until_the_deadline(self):
        stdout = self.opened(self.full())
        shown = Output(support.context(stdout=stdout, clock=Clock(max_wait=0.05)))
        begun = time.monotonic()
        with self.assertRaises(CallError) as caught:
            shown.text("hi")
        self.assertIs(caught.exception.status, ExitStatus.CUT_SHORT)
        self.assertLess(time.monotonic() - begun, 1)
        shown.end_text()  # nothing is written any more

    def test_a_stderr_that_stands_still_keeps_an_ending_run_for_half_a_second(self):
        shown = Output(support.context(stderr=self.opened(self.full())))
        shown.ending = True
        begun = time.monotonic()
        for _ in range(3):
            shown.say("x")
        self.assertLess(time.monotonic() - begun, 2)

    def test_a_signal_ends_the_wait_for_a_reader_and_nothing_more_is_written(self):
        class Stop(BaseException):
            pass

        def stop(*_):
            raise Stop

        self.addCleanup(signal.signal, signal.SIGALRM, signal.signal(signal.SIGALRM, stop))
        stdout = self.opened(self.full())
        shown = Output(support.context(stdout=stdout))
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with self.assertRaises(Stop):
            shown.text("hi")
        self.assertFalse(shown.stdout_works)
        shown.end_text()

    def test_a_signal_while_stderr_is_written_to_leaves_it_open_if_it_takes_more(self):
        reader, writer = os.pipe()
        self.addCleanup(os.close, reader)
        shown = Output(support.context(stderr=self.opened(writer)))
        with mock.patch.object(os, "write", side_effect=Interrupted(signal.SIGTERM)), self.assertRaises(Interrupted):
            shown.note("usage", "x")
        shown.say("[error] interrupted")
        self.assertEqual(os.read(reader, 999), b"[error] interrupted\n")

    def test_a_signal_ends_the_wait_for_a_reader_of_stderr(self):
        shown = Output(support.context(stderr=self.opened(self.full())))
        with mock.patch.object(os, "write", side_effect=Interrupted(signal.SIGTERM)), self.assertRaises(Interrupted):
            shown.say("x")
        begun = time.monotonic()
        shown.say("nothing is written any more")
        self.assertLess(time.monotonic() - begun, 0.2)

    def test_a_non_blocking_pipe_gets_every_byte(self):
        for size in (100, 3_000_000):
            with self.subTest(size):
                reader, writer = os.pipe()
                os.set_blocking(writer, False)
                filling = 0
                while True:  # so full that the first write finds no room
                    try:
                        filling += os.write(writer, b"x" * 4096)
                    except BlockingIOError:
                        break
                got = bytearray()
                thread = threading.Thread(target=lambda reader=reader, got=got: read_all(reader, got))
                stdout = self.opened(writer)
                shown = Output(support.context(stdout=stdout))
                thread.start()
                try:
                    shown.binary(b"y" * size)
                finally:
                    stdout.close()
                    thread.join()
                self.assertEqual((len(got) - filling, got.count(b"y")), (size, size))


def read_all(reader: int, into: bytearray) -> None:
    while data := os.read(reader, 1 << 16):
        into += data
    os.close(reader)
