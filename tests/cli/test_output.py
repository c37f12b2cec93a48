"""output: the result on stdout, the rest on stderr, nothing that drives a terminal, no secret."""

import errno
import json
import os
import threading
import unittest

from alltoken_call.cli.output import Output
from alltoken_call.errors import ApiError, CallError, ExitStatus, OutputError, UsageError
from alltoken_call.text import inert

from .. import support
from ..test_text import DRIVING

KEY = "loopback-test-key"


class Shown(unittest.TestCase):
    """An `Output` over streams in memory."""

    def make(
        self, *fields, stdout_terminal=False, stderr_terminal=False, encoding="utf-8", environ=(), **modes
    ) -> Output:
        self.out = support.Stream(terminal=stdout_terminal, encoding=encoding)
        self.err = support.Stream(terminal=stderr_terminal, encoding=encoding)
        environ = {"ALLTOKEN_API_KEY": KEY} | dict(environ)
        return Output(support.context(stdout=self.out, stderr=self.err, environ=environ), "chat", fields, **modes)

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
        shown = Output(support.context(stdout=None), "chat")
        for notice in (shown.check_stdout, lambda: shown.line("a"), shown.document):
            with self.assertRaisesRegex(OutputError, "stdout is closed") as caught:
                notice()
            self.assertIs(caught.exception.status, ExitStatus.CANNOT_WRITE)
        self.make().check_stdout()

    def test_whether_a_person_watches(self):
        self.assertIs(self.make(stdout_terminal=True).to_terminal, True)
        self.assertIs(self.make(stderr_terminal=True).to_terminal, False)


class Documents(Shown):
    def test_the_report_has_every_key_from_the_beginning(self):
        report = self.make("text", "finish_reason").report
        self.assertEqual(
            report,
            {
                "ok": False,
                "command": "chat",
                "model": None,
                "usage": None,
                "cost": {"usd": None, "source": None},
                "request_id": None,
                "error": None,
                "text": None,
                "finish_reason": None,
            },
        )

    def test_json_holds_back_all_text_and_gives_one_ascii_document(self):
        shown = self.make("text", json_mode=True)
        shown.text("delta")
        shown.line("line")
        shown.end_text()
        self.assertEqual(self.stdout, "")
        shown.report["text"] = "Grüße 🙂 \ud83d \u2028"
        shown.document()
        self.assertTrue(self.stdout.isascii())
        self.assertEqual((self.stdout.count("\n"), self.stdout[-1]), (1, "\n"))
        self.assertEqual(json.loads(self.stdout), shown.report)

    def test_another_document_may_be_given_an_empty_one_too(self):
        for document in ({"a": 1}, {}, []):
            with self.subTest(document):
                self.make().document(document)
                self.assertEqual(json.loads(self.stdout), document)

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

    def test_usage_is_told_and_kept_as_it_came_and_shows_whole_numbers_alone(self):
        for usage, line in (
            ({"prompt_tokens": 1, "output_tokens": 2, "total_tokens": True}, "[usage] prompt=1 output=2 model=None\n"),
            ({"input_tokens": "3"}, "[usage] model=None\n"),
            ([1], ""),
        ):
            with self.subTest(usage=usage):
                shown = self.make()
                shown.usage(usage)
                self.assertEqual((self.stderr, shown.report["usage"]), (line, usage if line else None))

    def test_a_cost_has_a_source_where_it_is_known(self):
        for usd, source, line in (("0.1", "gateway", "$0.1 (gateway)"), (None, None, "unknown")):
            shown = self.make()
            shown.cost(usd)
            self.assertEqual(self.stderr, f"[cost] {line}\n")
            self.assertEqual(shown.report["cost"], {"usd": usd, "source": source})

    def test_stderr_is_inert_and_without_the_key_everywhere(self):
        for terminal in (False, True):
            with self.subTest(terminal=terminal):
                shown = self.make(stderr_terminal=terminal)
                for show in (shown.say, shown.reasoning, shown.warning):
                    show(f"\x1b]0;{KEY}\x07\u202e")
                self.assertNotIn(KEY, self.stderr)
                self.assertEqual(self.stderr.count("\\x1b]0;[key]\\x07\\u202e"), 3)

    def test_the_key_is_hidden_also_where_the_environment_has_it_with_white_space(self):
        self.make(environ={"ALLTOKEN_API_KEY": f" {KEY}\n"}).say(KEY)
        self.assertEqual(self.stderr, "[key]\n")

    def test_an_encoding_that_lacks_a_character_gets_it_escaped(self):
        self.make(encoding="ascii").say("é\ud800")
        self.assertEqual(self.stderr, "\\xe9\\ud800\n")

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

    def test_a_closed_stderr_is_no_failure(self):
        shown = Output(support.context(stderr=None), "chat")
        shown.say("a")
        shown.failed(UsageError("why"))


class Failures(Shown):
    def test_an_error_of_our_own_is_a_line_and_a_hint(self):
        self.make(quiet=True).failed(UsageError("there is no prompt", hint="usage: …"))
        self.assertEqual(self.stderr, "[error] usage: there is no prompt\nusage: …\n")

    def test_an_api_error_is_a_line_the_request_id_and_a_hint(self):
        error = ApiError("empty", http=402, code="insufficient_balance", type="billing_error", request_id="req_1")
        shown = self.make()
        shown.failed(error)
        self.assertEqual(
            self.stderr,
            "[error] insufficient_balance (402 billing_error): empty\nrequest_id: req_1\n"
            "top up in Settings → Billing, then run the command again\n",
        )
        self.assertEqual(
            shown.report["error"],
            {
                "code": "insufficient_balance",
                "type": "billing_error",
                "message": "empty",
                "status": 402,
                "request_id": "req_1",
                "hint": "top up in Settings → Billing, then run the command again",
            },
        )
        self.assertEqual((shown.report["request_id"], shown.report["ok"]), ("req_1", False))

    def test_without_status_or_type_nothing_stands_in_brackets(self):
        for http, type_, line in (
            (404, None, "[error] x (404): no"),
            (0, "odd", "[error] x (odd): no"),
            (0, None, "[error] x: no"),
        ):
            with self.subTest(line):
                self.make().failed(ApiError("no", http=http, code="x", type=type_))
                self.assertEqual(self.stderr.splitlines()[0], line)

    def test_the_request_id_of_the_answer_serves_where_the_error_has_none(self):
        shown = self.make()
        shown.report["request_id"] = "req_0"
        shown.failed(ApiError("no", http=400))
        self.assertIn("\nrequest_id: req_0\n", self.stderr)
        self.assertEqual((shown.report["request_id"], shown.report["error"]["request_id"]), ("req_0", "req_0"))

    def test_what_a_stranger_sends_stays_in_its_line_without_the_key(self):
        shown = self.make()
        shown.failed(ApiError(f"a\n[error] b {KEY}\x1b", http=400, request_id="r\n[error] c" + "d" * 300))
        lines = self.stderr.splitlines()
        self.assertEqual(lines[0], "[error] http_400 (400): a [error] b [key]\\x1b")
        self.assertEqual(lines[1], ("request_id: r [error] c" + "d" * 300)[: 12 + 199] + "…")
        self.assertEqual(len(lines), 3)
        self.assertNotIn(KEY, json.dumps(shown.report))


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
        shown = Output(support.context(stdout=stdout), "chat")
        with self.assertRaisesRegex(OutputError, f"cannot write to stdout: {os.strerror(errno.ENOSPC)}") as caught:
            shown.text("hi")
        self.assertIs(caught.exception.status, ExitStatus.CANNOT_WRITE)
        shown.end_text()
        with self.assertRaisesRegex(OutputError, "stdout is closed"):
            shown.line("more")
        stdout.close()

    def test_a_stdout_that_is_closed_under_us_is_status_13(self):
        stdout = support.Stream()
        shown = Output(support.context(stdout=stdout), "chat")
        stdout.close()
        with self.assertRaisesRegex(OutputError, "^cannot write to stdout: closed$"):
            shown.line("hi")

    def test_a_reader_that_went_away_is_status_141_and_nothing_is_said(self):
        context = support.context(stdout=self.broken())
        shown = Output(context, "chat")
        with self.assertRaises(CallError) as caught:
            shown.text("hi")
        self.assertIs(caught.exception.status, ExitStatus.BROKEN_PIPE)
        shown.end_text()
        shown.say("nothing")
        self.assertEqual(context.stderr.written, b"")
        context.stdout.close()

    def test_a_stderr_that_nobody_reads_is_no_failure(self):
        context = support.context(stderr=self.broken())
        shown = Output(context, "chat")
        shown.say("a")
        shown.say("b")
        shown.line("result")
        self.assertEqual(context.stdout.written, b"result\n")
        context.stderr.close()

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
                shown = Output(support.context(stdout=stdout), "chat")
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
