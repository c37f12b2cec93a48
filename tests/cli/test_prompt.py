"""prompt: stdin by the rule, over real pipes, files, sockets and terminals."""

import io
import math
import os
import socket
import tempfile
import threading
import unittest
from unittest import mock

from alltoken_call.cli import prompt
from alltoken_call.cli.output import Output
from alltoken_call.errors import CallError, ExitStatus, UsageError
from alltoken_call.net.clock import Clock

from .. import support


class Stdin(unittest.TestCase):
    """A stdin of every kind, and `assemble` on it."""

    def setUp(self):
        self.stderr = support.Stream()

    def opened(self, descriptor: int) -> io.TextIOWrapper:
        stream = open(descriptor, encoding="utf-8")
        self.addCleanup(stream.close)
        return stream

    def pipe(self, data: bytes = b"", *, stays_open: bool = False) -> io.TextIOWrapper:
        """The reading end of a pipe that holds `data`."""
        reader, writer = os.pipe()
        os.write(writer, data)
        if stays_open:
            self.addCleanup(os.close, writer)
        else:
            os.close(writer)
        return self.opened(reader)

    def file(self, data: bytes, read: int = 0) -> io.TextIOWrapper:
        """A file that holds `data`, of which somebody has read some bytes already."""
        descriptor, path = tempfile.mkstemp()
        self.addCleanup(os.unlink, path)
        os.write(descriptor, data)
        os.lseek(descriptor, read, os.SEEK_SET)
        return self.opened(descriptor)

    def socket(self, data: bytes) -> io.TextIOWrapper:
        """A socket whose other end has sent `data` and gone."""
        ours, theirs = socket.socketpair()
        theirs.sendall(data)
        theirs.close()
        self.addCleanup(ours.close)
        return self.opened(os.dup(ours.fileno()))

    def terminal(self) -> io.TextIOWrapper:
        controlling, terminal = os.openpty()
        self.addCleanup(os.close, controlling)
        return self.opened(terminal)

    def closed(self) -> io.TextIOWrapper:
        stream = self.pipe()
        stream.close()
        return stream

    def world(self, stdin, left=math.inf, clock=None, **modes):
        """A context with that stdin and so many seconds left, and its output."""
        clock = Clock(monotonic=clock, max_wait=left) if clock else Clock(max_wait=left)
        context = support.context(stdin=stdin, stderr=self.stderr, clock=clock)
        return context, Output(context, **modes)

    def assemble(self, words, stdin, *, quiet=False, left=math.inf, clock=None, **given) -> str:
        return prompt.assemble(words, *self.world(stdin, left, clock, quiet=quiet), **given)

    def assert_late(self, words, stdin, left) -> None:
        """The deadline ends it, with status 3 and the code max_wait."""
        with self.assertRaises(CallError) as caught:
            self.assemble(words, stdin, left=left)
        self.assertEqual((caught.exception.status, caught.exception.code), (ExitStatus.NETWORK, "max_wait"))

    @property
    def said(self) -> str:
        return self.stderr.written.decode()


class Assembling(Stdin):
    def test_words_are_joined_by_a_space(self):
        self.assertEqual(self.assemble(["say", "hi  there"], None), "say hi  there")

    def test_a_pipe_and_a_file_at_its_beginning_stand_before_the_words_and_are_told(self):
        data = b"x" * 1203 + b"\n"
        for stdin in (self.pipe(data), self.file(data)):
            with self.subTest(stdin):
                self.stderr = support.Stream()
                self.assertEqual(self.assemble(["why?"], stdin), "x" * 1203 + "\n\nwhy?")
                self.assertEqual(self.said, "[stdin] 1,204 bytes read\n")

    def test_whatever_else_stdin_is_is_left_alone_if_there_are_words(self):
        with open(os.devnull, encoding="utf-8") as null:
            for name, stdin in {
                "a file that was read from": self.file(b"data", read=1),
                "a socket": self.socket(b"data"),
                "a terminal": self.terminal(),
                "/dev/null": null,
                "closed before we began": None,
                "closed": self.closed(),
                "in memory": support.Stream(),
            }.items():
                with self.subTest(name):
                    self.assertEqual(self.assemble(["why?"], stdin), "why?")
        self.assertEqual(self.said, "")

    def test_an_empty_pipe_adds_nothing_and_is_not_told(self):
        self.assertEqual(self.assemble(["why?"], self.pipe()), "why?")
        self.assertEqual(self.said, "")

    def test_quiet_reads_and_does_not_tell(self):
        self.assertEqual(self.assemble(["why?"], self.pipe(b"data"), quiet=True), "data\n\nwhy?")
        self.assertEqual(self.said, "")

    def test_without_words_stdin_is_the_prompt_whatever_it_is(self):
        for name, stdin in {
            "a pipe": self.pipe(b"data"),
            "a file": self.file(b"data"),
            "a file that was read from": self.file(b"old data", read=4),
            "a socket": self.socket(b"data"),
        }.items():
            with self.subTest(name):
                self.assertEqual(self.assemble([], stdin), "data")
        self.assertEqual(self.said, "")

    def test_a_dash_is_where_stdin_stands(self):
        for name, make in {
            "a pipe": lambda: self.pipe(b"data\n"),
            "a file that was read from": lambda: self.file(b"old data", read=4),
            "a socket": lambda: self.socket(b"data"),
        }.items():
            for words, text in {("-",): "data", ("a", "-", "b"): "a data b", ("-", "-"): "data data"}.items():
                with self.subTest(name, words=words):
                    self.assertEqual(self.assemble(list(words), make()), text)
        self.assertEqual(self.said, "")

    def test_only_dash_reads_stdin_for_a_dash_and_nothing_else(self):
        self.assertEqual(self.assemble(["why?"], self.pipe(b"data"), only_dash=True), "why?")
        self.assertEqual(self.assemble(["-"], self.pipe(b"data"), only_dash=True), "data")
        with self.assertRaises(UsageError):
            self.assemble([], self.pipe(b"data"), only_dash=True)

    def test_no_prompt_is_status_2(self):
        for words, stdin in (
            ([""], None),
            ([" ", "\n"], None),
            ([], None),
            ([], self.terminal()),
            ([], self.pipe(b" \n")),
            (["-"], self.pipe()),
            (["-"], None),
        ):
            with self.subTest(words=words, stdin=stdin):
                with self.assertRaises(UsageError) as caught:
                    self.assemble(words, stdin)
                self.assertEqual((caught.exception.status, caught.exception.code), (ExitStatus.USAGE, "no_prompt"))

    def test_line_breaks_at_the_end_and_a_byte_order_mark_are_dropped(self):
        for data, text in {
            b"\n a \n\nb \r\n\n": "\n a \n\nb ",
            "\ufeffa\ufeff".encode(): "a\ufeff",
            "Grüße\n".encode(): "Grüße",
        }.items():
            with self.subTest(data):
                self.assertEqual(self.assemble(["-"], self.pipe(data)), text)

    def test_windows_which_cannot_watch_pipes_reads_without(self):
        with (
            mock.patch.object(prompt.os, "name", "nt"),
            mock.patch.object(prompt.select, "select", side_effect=AssertionError),
        ):
            self.assertEqual(self.assemble(["why?"], self.pipe(b"data")), "data\n\nwhy?")

    def test_a_long_input_is_read_to_its_end(self):
        data = b"0123456789abcdef" * 20_000
        self.assertEqual(self.assemble(["-"], self.file(data)), data.decode())

    def test_what_is_not_utf_8_is_replaced_and_told(self):
        self.assertEqual(self.assemble(["-"], self.pipe(b"a\xffb")), "a\ufffdb")
        self.assertEqual(self.said, "[warning] stdin is not UTF-8: invalid bytes were replaced\n")

    def test_a_replacement_character_in_the_input_is_not_a_cause_for_a_warning(self):
        self.assertEqual(self.assemble(["-"], self.pipe("a\ufffdb".encode())), "a\ufffdb")
        self.assertEqual(self.said, "")

    def test_a_stdin_that_cannot_be_read_is_status_2(self):
        only_written = self.opened(os.open(os.devnull, os.O_WRONLY))
        for stdin, reason in ((only_written, "Bad file descriptor"), (self.closed(), "closed")):
            with self.subTest(reason), self.assertRaisesRegex(UsageError, f"^cannot read stdin: {reason}$"):
                self.assemble(["-"], stdin)


class Waiting(Stdin):
    """`assemble` on a pipe that stays open. The clock is asked before every wait: that is when a slow writer writes."""

    def slow_pipe(self, *pieces: bytes):
        """A pipe that gets a piece each time the clock is read, and is closed when there are no more."""
        reader, writer = os.pipe()
        script = iter([b"", *pieces])  # a Clock looks once when it is made

        def clock() -> float:
            piece = next(script, None)
            if piece is not None:
                os.write(writer, piece)
            elif not closed:
                closed.append(os.close(writer))
            return 0.0

        closed: list[None] = []
        return self.opened(reader), clock

    def test_a_dash_waits_for_the_end_of_a_slow_pipe(self):
        stdin, clock = self.slow_pipe(b"one ", b"two ", b"three")
        with mock.patch.object(prompt, "PATIENCE", 0):
            self.assertEqual(self.assemble(["-"], stdin, clock=clock), "one two three")
        self.assertEqual(self.said, "")

    def test_in_sight_of_a_person_an_empty_pipe_is_waited_for_and_that_is_said(self):
        self.stderr = support.Stream(terminal=True)
        stdin, clock = self.slow_pipe(b"one ", b"two")
        with mock.patch.object(prompt, "PATIENCE", 0):
            self.assertEqual(self.assemble(["why?"], stdin, clock=clock), "one two\n\nwhy?")
        self.assertRegex(self.said, r"\A\[stdin\] waiting .*\n\[stdin\] 7 bytes read\n\Z")

    def test_elsewhere_a_pipe_that_fills_in_time_is_read(self):
        stdin, clock = self.slow_pipe(b"one ", b"two")
        self.assertEqual(self.assemble(["why?"], stdin, clock=clock), "one two\n\nwhy?")
        self.assertEqual(self.said, "[stdin] 7 bytes read\n")

    def test_a_pipe_that_has_something_is_not_hurried(self):
        with mock.patch.object(prompt, "PATIENCE", 0):
            self.assertEqual(self.assemble(["why?"], self.pipe(b"data")), "data\n\nwhy?")

    def test_an_empty_pipe_that_stays_open_ends_after_ten_seconds_in_status_2(self):
        for words in (["why?"], []):
            with self.subTest(words), mock.patch.object(prompt, "_ready", return_value=False) as ready:
                with self.assertRaisesRegex(UsageError, "stayed open and empty for 10 s") as caught:
                    self.assemble(words, self.pipe(stays_open=True))
                self.assertIn("use - to wait for it, or </dev/null", caught.exception.hint)
                self.assertAlmostEqual(sum(call.args[1] for call in ready.call_args_list), 10)

    def test_a_dash_and_a_person_have_all_the_time_until_the_deadline(self):
        for words, terminal in ((["-"], False), (["why?"], True), ([], True)):
            with self.subTest(words), mock.patch.object(prompt, "_ready", return_value=False) as ready:
                self.stderr = support.Stream(terminal=terminal)
                self.assert_late(words, self.pipe(stays_open=True), math.inf)
                self.assertEqual(ready.call_args.args[1], math.inf)

    def test_patience_is_over_on_a_real_pipe_too(self):
        with mock.patch.object(prompt, "PATIENCE", 0.31), self.assertRaises(UsageError):
            self.assemble(["why?"], self.pipe(stays_open=True))

    def test_max_wait_ends_the_wait_in_status_3(self):
        for words, terminal, left in (
            (["-"], False, 0.01),
            (["-"], False, 0),
            (["-"], False, -1),
            (["why?"], True, 0.01),
            (["why?"], False, 0.01),
            ([], False, 0.01),
        ):
            with self.subTest(words=words, terminal=terminal, left=left):
                self.stderr = support.Stream(terminal=terminal)
                self.assert_late(words, self.pipe(stays_open=True), left)

    def test_max_wait_ends_the_wait_for_the_rest_too(self):
        self.assert_late(["why?"], self.pipe(b"data", stays_open=True), 0.01)

    def test_an_endless_stdin_is_refused_within_bounds(self):
        with open("/dev/zero", encoding="utf-8") as zero, self.assertRaisesRegex(UsageError, "stdin has more than"):
            self.assemble(["-"], zero)


class Offered(Stdin):
    """Whether a lone word is a model: only if stdin was meant for us and holds text, of which nothing is lost."""

    def test_a_pipe_or_a_file_with_text_is_and_its_text_is_still_there(self):
        for make in (lambda: self.pipe(b"data"), lambda: self.file(b"data")):
            context, output = self.world(make())
            self.assertTrue(prompt.holds_text(context, output))
            self.assertEqual(prompt.assemble(["-"], context, output), "data")

    def test_nothing_else_is(self):
        with open(os.devnull, encoding="utf-8") as null:
            for name, stdin in {
                "an empty pipe": self.pipe(),
                "an empty file": self.file(b""),
                "a file that was read from": self.file(b"data", read=1),
                "a socket": self.socket(b"data"),
                "a terminal": self.terminal(),
                "/dev/null": null,
                "closed before we began": None,
                "closed": self.closed(),
                "in memory": support.Stream(),
            }.items():
                with self.subTest(name):
                    self.assertFalse(prompt.holds_text(*self.world(stdin)))

    def test_a_slow_pipe_is_waited_for_as_for_any_prompt(self):
        reader, writer = os.pipe()
        late = threading.Timer(0.45, lambda: (os.write(writer, b"data"), os.close(writer)))
        late.start()
        self.addCleanup(late.join)
        context, output = self.world(self.opened(reader))
        self.assertTrue(prompt.holds_text(context, output))
        self.assertEqual(prompt.assemble(["-"], context, output), "data")
        with mock.patch.object(prompt, "PATIENCE", 0.31), self.assertRaises(UsageError):
            prompt.holds_text(*self.world(self.pipe(stays_open=True)))
        with self.assertRaises(CallError) as caught:
            prompt.holds_text(*self.world(self.pipe(stays_open=True), 0.01))
        self.assertEqual(caught.exception.code, "max_wait")
