"""cli.py: argv, the choice of a command, and every outcome as an exit status and one JSON document."""

from __future__ import annotations

import io
import os
import signal
import unittest
from unittest import mock

from alltoken_call import __version__
from alltoken_call.cli import main as cli
from alltoken_call.cli import parser as command_lines
from alltoken_call.commands.chat import FIELDS
from alltoken_call.errors import CallError, ExitStatus, Interrupted

from .. import support
from ..gateway import CHAT, DONE, KEY, delta, event, frames, raw, refuse, reply, stream
from ..harness import ALWAYS, Case

DONE_WELL = stream(frames("hi") + DONE)


class Words(Case):
    def test_options_stand_before_between_and_after_the_words(self):
        for argv in (
            ["-t", "1", "a", "b", "c"],
            ["a", "-t", "1", "b", "c"],
            ["a", "b", "-t1", "c"],
            ["a", "b", "c", "--temperature", "1"],
            ["a", "--temperature=1", "b", "-q", "c", "-v"],
        ):
            with self.subTest(argv):
                body = self.body(*argv)
                self.assertEqual((body["messages"][0]["content"], body["temperature"]), ("a b c", 1))

    def test_after_two_hyphens_nothing_is_an_option(self):
        for argv, prompt in (
            (["--", "-t", "9", "--json"], "-t 9 --json"),
            (["a", "--", "--help"], "a --help"),
            (["a", "-t", "1", "--", "b", "--", "c"], "a b -- c"),
            (["--", "--thinking", "5"], "--thinking 5"),
            (["--", "--"], "--"),
            (["--", "-h"], "-h"),
            (["--", "--no-such"], "--no-such"),
        ):
            with self.subTest(argv):
                result = self.chat("--dry-run", *argv)
                self.assertEqual(result.status, 0, result.err)
                self.assertEqual(result.document["body"]["messages"][0]["content"], prompt)

    def test_json_after_two_hyphens_is_a_word_also_when_the_run_fails(self):
        result = self.chat("-t", "9", "--", "--json")
        self.assertEqual((result.status, result.out), (2, b""))

    def test_words_that_look_like_numbers_or_sentences_are_words(self):
        self.assertEqual(self.body("-5", "degrees", "-1.5")["messages"][0]["content"], "-5 degrees -1.5")
        self.assertEqual(self.body("-- is a dash")["messages"][0]["content"], "-- is a dash")

    def test_abbreviations_and_unknown_options_are_not_accepted(self):
        for word in ("--temp=1", "--js", "--dry", "--no-such", "-Z", "--jsonn", "--thinkin"):
            with self.subTest(word):
                self.assertQuietly(2, self.chat("hi", word))
        self.assertEqual(self.gateway.requests, [])

    def test_an_empty_prompt_is_status_2(self):
        for words in ((), ("",), ("  ", "\n"), ("gpt-5.4-mini", ""), ("--",), ("--", " "), ("-",)):
            with self.subTest(words):
                result = self.chat(*words)
                self.assertQuietly(2, result)
                self.assertIn("usage: alltoken-call chat", result.err)
        self.assertEqual(self.gateway.requests, [])

    def test_a_commands_name_may_be_its_slash_form(self):
        result = self.call("/alltoken-chat", "hi", "--json")
        self.assertEqual((result.status, result.document["command"]), (0, "chat"))

    def test_thinking_takes_a_number_that_follows_and_no_word(self):
        for argv, fields in (
            (["--thinking", "50", "hi"], {"thinking": True, "thinking_budget": 50}),
            (["--thinking", "hi"], {"thinking": True}),
            (["hi", "--thinking"], {"thinking": True}),
        ):
            body = self.body(*argv)
            self.assertEqual({name: body[name] for name in body if "thinking" in name}, fields)
            self.assertEqual(body["messages"][0]["content"], "hi")


class Values(Case):
    def test_values_out_of_range_are_refused_with_the_option_named(self):
        for option, values in {
            "--temperature": ("-1", "2.1", "nan", "inf", "1_0", "x", "", "\u0661"),
            "--max-tokens": ("0", "-1", "1.5", "1_000", "+5", "x", "\u0665", "9" * 30),
            "--timeout": ("0", "-1", "nan", "inf", "x", "1e9"),
            "--max-wait": ("0", "-1", "nan", "inf", "x"),
            "--thinking": ("-1", "0", "x", "1.5"),
            "--param": ("x", "=1", " =1"),
        }.items():
            for value in values:
                with self.subTest(option, value=value):
                    result = self.chat("hi", f"{option}={value}")
                    self.assertQuietly(2, result)
                    self.assertIn(option, result.err)
        self.assertEqual(self.gateway.requests, [])

    def test_good_values_are_taken(self):
        for value in ("0", "2", "0.7", "1e-3"):
            self.assertEqual(self.body("hi", "-t", value)["temperature"], float(value))
        self.assertEqual(self.body("hi", "--max-tokens", "600", "--timeout", "0.5", "--max-wait=3")["max_tokens"], 600)


class Top(Case):
    def test_help_and_version_go_to_stdout_with_status_0(self):
        for argv, wanted in (
            (["--help"], "exit statuses:"),
            (["-h"], "chat"),
            (["chat", "--help"], "--max-tokens"),
            (["chat", "hi", "-h", "--json"], "--dry-run"),
            (["--version"], f"alltoken-call {__version__}"),
            (["-V"], f"alltoken-call {__version__}"),
            (["help"], "exit statuses:"),
        ):
            with self.subTest(argv):
                result = self.call(*argv, ALLTOKEN_API_KEY=None)
                self.assertEqual((result.status, result.err), (0, ""))
                self.assertIn(wanted, result.out.decode())

    def test_help_before_a_command_is_the_commands_help(self):
        for name in command_lines.COMMANDS:
            with self.subTest(name):
                wanted = self.call(name, "--help").out
                self.assertIn(f"usage: alltoken-call {name}".encode(), wanted)
                for argv in (["help", name], ["help", f"/alltoken-{name}"], [f"/alltoken-{name}", "-h"]):
                    self.assertEqual(self.call(*argv).out, wanted)
                self.assertIs(command_lines.command_parser(name).color, False)  # which 3.14 looks at
        self.assertQuietly(2, self.call("help", "chta"))
        self.assertIn("did you mean chat", self.call("help", "chta").err)

    def test_what_does_not_exist_is_refused_with_the_nearest_that_does(self):
        for argv, named, nearest in (
            (["chta", "hi"], "chta", "chat"),
            (["serach", "hi"], "serach", "search"),
            (["/alltoken-imag", "hi"], "/alltoken-imag", "image"),
            (["--verson"], "--verson", "--version"),
            (["--install-skill", "x"], "--install-skill", "--install-skills"),
            (["chat", "hi", "--temprature", "1"], "--temprature", "--temperature"),
            (["chat", "hi", "--temprature=1"], "--temprature", "--temperature"),
            (["image", "hi", "--siez", "auto"], "--siez", "--size"),
            (["video", "--lst"], "--lst", "--list"),
            (["search", "q", "--modle", "x"], "--modle", "--model"),
            (["models", "--filtre", "x"], "--filtre", "--filter"),
            (["cost", "--sicne", "7d"], "--sicne", "--since"),
        ):
            with self.subTest(argv):
                result = self.call(*argv)
                self.assertQuietly(2, result)
                self.assertEqual(result.out, b"")
                lines = result.err.splitlines()
                self.assertLessEqual(len(lines), 2, result.err)
                self.assertIn(named, lines[0])
                self.assertIn(f"did you mean {nearest}?", result.err)
                self.assertNotIn("usage:", result.err.replace("[error] usage:", ""))
        self.assertEqual(self.gateway.requests, [])

    def test_what_is_like_nothing_is_refused_with_where_to_look(self):
        for argv, told in (
            (["xyzzy"], "chat"),
            (["chat", "hi", "--xyzzy"], "alltoken-call chat --help"),
            (["-Z"], "-Z"),
        ):
            with self.subTest(argv):
                result = self.call(*argv)
                self.assertQuietly(2, result)
                self.assertLessEqual(result.err.count("\n"), 2)
                self.assertIn(told, result.err)

    def test_every_common_option_is_in_the_help(self):
        text = self.call("chat", "--help").out.decode()
        for option in ("--help", "--json", "--quiet", "--verbose", "--timeout", "--max-wait", "--dry-run"):
            self.assertIn(option, text)

    def test_no_command_and_an_unknown_one_are_status_2(self):
        for argv in (
            [],
            ["caht", "hi"],
            ["/alltoken-", "hi"],
            ["hi there"],
            ["--json"],
            ["-q", "hi"],
            ["-m", "chat", "hi"],
            [""],
        ):
            with self.subTest(argv):
                result = self.call(*argv)
                self.assertQuietly(2, result)
                self.assertTrue("--json" in argv or result.out == b"")
        self.assertIn("did you mean chat", self.call("caht", "hi").err)

    def test_what_every_command_takes_may_stand_before_the_command(self):
        result = self.call("-q", "--json", "/Alltoken-Chat", "hi")
        self.assertQuietly(0, result)
        self.assertEqual(result.err, "")
        self.assertTrue(result.document["ok"])

    def test_so_may_what_has_a_value(self):
        for argv in (
            ["--gateway", "alltoken"],
            ["--gateway=alltoken"],
            ["--timeout", "5", "-q"],
            ["--json", "--max-wait", "9"],
            ["--max-wait=9", "--gateway", "AllToken", "--timeout=5"],
        ):
            with self.subTest(argv):
                self.assertQuietly(0, self.call(*argv, "chat", "hi"))
                self.assertEqual(self.sent(), "hi")
                self.assertQuietly(2, self.call(*argv, "chat", "hi", "--max-wait", "x"))
                result = self.call(*argv, "chta", "hi")
                self.assertQuietly(2, result)
                self.assertIn("did you mean chat?", result.err)
                self.assertQuietly(2, self.call(*argv))
        self.assertEqual(
            self.call("--gateway", "ollama", "chat", "-m", "x", "hi", "--dry-run").document["url"][:22],
            "http://localhost:11434",
        )
        self.assertQuietly(2, self.call("--timeout", "soon", "chat", "hi"))
        self.assertQuietly(2, self.call("--gateway"))

    def test_help_and_version_take_no_words(self):
        for option in ("--version", "-V", "--help", "-h"):
            for words in (["x"], ["chat", "hi"], ["--json"]):
                with self.subTest(option, words=words):
                    result = self.call(option, *words)
                    self.assertQuietly(2, result)
                    self.assertIn(f"{option} takes no words", result.err)
                    self.assertNotIn("did you mean", result.err)

    def test_what_stands_at_the_top_takes_one_word(self):
        for option, good in (("--completion", "bash"), ("--install-skills", self.folder)):
            for argv in ([option], [f"{option}="], [option, ""], [option, good, "more"], [f"{option}={good}", "more"]):
                with self.subTest(argv):
                    result = self.call(*argv)
                    self.assertQuietly(2, result)
                    self.assertIn(f"{option} takes", result.err)
            self.assertQuietly(0, self.call(f"{option}={good}"))
            self.assertQuietly(0, self.call(option, good))

    def test_help_fits_80_columns(self):
        for words in (["--help"], *([name, "--help"] for name in command_lines.COMMANDS)):
            with self.subTest(words), mock.patch.dict(os.environ, {"COLUMNS": "80"}):
                longest = max(self.call(*words).out.decode().splitlines(), key=len)
                self.assertLessEqual(len(longest), 80, longest)

    def test_every_exit_status_is_in_the_help(self):
        for status in ExitStatus:
            self.assertRegex(command_lines.EXIT_STATUSES, rf"\b{status.value}\b")


class Statuses(Case):
    def test_an_http_status_has_its_exit_status(self):
        for http, status in {410: 11, 418: 1, 408: 1, 500: 5, 599: 5, 401: 4, 403: 4, 402: 6, 429: 7, 404: 1}.items():
            with self.subTest(http):
                self.gateway.on(CHAT, refuse(http, "x"))
                result = self.chat("hi", "--fallback", "none")
                self.assertQuietly(status, result)
                self.assertIn(f"[error] x ({http} test_error): no", result.err)


class Json(Case):
    def test_every_failure_is_one_ascii_document_with_every_key(self):
        error = event({"error": {"code": "upstream_error", "message": "nö"}})
        for name, status, step, argv, environ in (
            ("no prompt", 2, DONE_WELL, [], {}),
            ("an unknown option", 2, DONE_WELL, ["hi", "--no-such-ö"], {}),
            ("a reserved field", 2, DONE_WELL, ["hi", "-p", "n=2"], {}),
            ("a bad address", 2, DONE_WELL, ["hi"], {"ALLTOKEN_BASE_URL": "http://ö"}),
            ("no key", 4, DONE_WELL, ["hi"], {"ALLTOKEN_API_KEY": None}),
            ("a bad thread", 2, DONE_WELL, ["hi", "--thread", __file__], {}),
            ("no place for the thread", 13, DONE_WELL, ["hi", "--thread", "/no/such/place.json"], {}),
            ("refused", 1, refuse(400, "x", "ö\u2028\U0001f600"), ["hi"], {}),
            ("out of credit", 6, refuse(402, "x"), ["hi"], {}),
            ("rate-limited", 7, refuse(429, "x"), ["hi"], {}),
            ("failed", 5, reply(500, b"\xff<html>"), ["hi"], {}),
            ("unreachable", 3, DONE_WELL, ["hi"], {"ALLTOKEN_BASE_URL": "http://127.0.0.1:1"}),
            ("closed", 3, raw(b""), ["hi"], {}),
            ("silence", 3, stream("hold"), ["hi", "--timeout", "0.1"], {}),
            ("max-wait", 3, stream("hold"), ["hi", "--max-wait", "0.1"], {}),
            ("no protocol", 3, reply(200, b"<html>"), ["hi"], {}),
            ("a redirect", 3, reply(307, b""), ["hi"], {}),
            ("an error in the stream", 5, stream(error), ["hi"], {}),
            ("an error after text", 9, stream(event(delta("kept")), error), ["hi"], {}),
            ("a cut", 9, stream(event(delta("kept")), "cut"), ["hi"], {}),
        ):
            with self.subTest(name):
                self.gateway.on(CHAT, step)
                result = self.chat("--json", *argv, **environ)
                self.assertQuietly(status, result)
                document = self.document_of(result, *FIELDS)
                self.assertEqual(document["command"], "chat")
                self.assertEqual(document["text"], "kept" if status == 9 else None)
                self.assertIn("[error] ", result.err)

    def test_a_failure_names_the_model_that_was_asked_for(self):
        self.gateway.on(CHAT, refuse(402, "x"))
        for argv, environ in (
            (("chat", "hi"), {}),
            (("chat", "hi"), {"ALLTOKEN_API_KEY": None}),
            (("chat", "hi", "--attach", "/no/such.png"), {}),
            (("search", "hi"), {}),
            (("image", "hi", "-o", "/no/such/place.png"), {}),
            (("video",), {}),
        ):
            with self.subTest(argv):
                result = self.call(*argv, "-m", "glm-5.1", "--json", **environ)
                self.assertNotEqual(result.status, 0)
                self.assertEqual(result.document["model"], "glm-5.1")

    def test_so_does_one_whose_model_was_not_named_with_an_option(self):
        kept = self.file("full.json", b'{"model": "kept-1", "messages": [{"role": "user", "content": "x"}]}')
        keyless = {"ALLTOKEN_API_KEY": None}
        unusable = {"ALLTOKEN_BUDGET": "nonsense"}
        for model, argv, environ in (
            ("gpt-5.4-mini", ("chat", "hi"), keyless),
            ("gpt-5.4-mini", ("chat",), {}),
            ("gpt-5.4-mini", ("chat", "hi", "--no-such"), {}),
            ("glm-5.1", ("chat", "glm-5.1", "hi"), keyless),
            ("glm-5.1", ("chat", "glm-5.1", "hi", "-t", "x"), {}),
            ("glm-5.1", ("chat", "hi", "--model=glm-5.1", "-t", "x"), {}),
            ("glm-5.1", ("chat", "glm-5.1", "hi", "--resume"), {}),
            ("own-model", ("chat", "hi"), {**keyless, "ALLTOKEN_CHAT_MODEL": "own-model"}),
            ("own-model", ("chat", "hi", "--gateway", "openai"), {"ALLTOKEN_OPENAI_CHAT_MODEL": "own-model"}),
            ("kept-1", ("chat", "hi", "--thread", kept), keyless),
            ("kept-1", ("search", "hi", "--thread", kept), keyless),
            ("deepseek-v4-pro", ("search", "hi"), keyless),
            ("gpt-image-2", ("image", "x"), keyless),
            ("gpt-image-2", ("image", "x", "--size"), {}),
            ("gpt-image-2", ("image", "x"), unusable),
            ("gpt-5.4-mini", ("chat", "hi"), unusable),
            ("seedance-1.5-pro", ("video", "x"), unusable),
            ("seedance-1.5-pro", ("video",), {}),
            (None, ("image", "--resume", "igen_1"), keyless),
            (None, ("video", "--list"), keyless),
            (None, ("models", "--no-such"), {}),
        ):
            with self.subTest(argv, **environ):
                result = self.call(*argv, "--json", **environ)
                self.assertNotEqual(result.status, 0)
                self.assertEqual(result.document["model"], model)

    def test_an_unknown_command_is_one_document_too(self):
        for argv in (["nothing", "--json"], ["--json"], ["--no-such", "--json"]):
            with self.subTest(argv):
                self.document_of(self.call(*argv))

    def test_success_is_one_ascii_document_with_every_key(self):
        result = self.chat("--json", "-m", "gpt-5.4-mini", "ö")
        document = self.document_of(result, *FIELDS)
        self.assertEqual(list(document)[: len(ALWAYS)], list(ALWAYS))
        self.assertTrue(document["text"].endswith("echoes: ö"))
        self.assertEqual((document["model"], document["served_model"]), ("gpt-5.4-mini", "gpt-5.4-mini-2026-03-17"))
        self.assertEqual(document["finish_reason"], "stop")
        self.assertEqual(document["usage"]["completion_tokens_details"], {"reasoning_tokens": 0})
        self.assertEqual((document["reasoning"], document["tool_calls"]), (None, None))
        self.assertEqual(document["request_id"], "req_loopback_1")
        self.assertRegex(document["cost"]["usd"], r"^0\.\d{10}$")
        self.assertEqual(document["cost"]["source"], "gateway")

    def test_reasoning_is_kept_in_the_document(self):
        document = self.chat("--json", "--thinking", "why").document
        self.assertEqual(document["reasoning"], "The user wrote something; an echo will do.\n")


class Outcomes(Case):
    def broken_by(self, error: BaseException, *argv: str):
        """A run in which the gateway's answer makes stdout raise `error`."""

        class Broken(io.BytesIO):
            def write(self, _):
                raise error

        return self.chat(*argv, "hi", stdout=Broken())

    def test_a_bug_is_one_line_without_a_traceback(self):
        result = self.broken_by(ZeroDivisionError("boom"))
        self.assertEqual(result.status, 1)
        self.assertRegex(result.err, r"\[error\] bug: ZeroDivisionError in alltoken-call \S+\n")
        self.assertNotIn("Traceback", result.err)

    def test_a_bug_shows_itself_under_verbose(self):
        self.assertRaises(ZeroDivisionError, self.broken_by, ZeroDivisionError("boom"), "-v")

    def test_what_is_too_deep_or_too_large_for_python_is_an_error_of_its_own(self):
        for error, status, code in ((RecursionError(), 3, "protocol"), (MemoryError(), 1, "memory")):
            for argv in ((), ("-v",)):
                with self.subTest(code, argv=argv):
                    result = self.broken_by(error, *argv)
                    self.assertQuietly(status, result)
                    self.assertIn(f"[error] {code}: ", result.err)

    def test_a_failure_whose_document_cannot_be_written_tells_of_both(self):
        self.gateway.on(CHAT, refuse(400, "x"))
        result = self.broken_by(OSError(28, "No space left on device"), "--json")
        self.assertEqual(result.status, 13)
        self.assertRegex(result.err, r"(?s)\[error\] x .*\[error\] .*No space left on device")
        self.assertEqual(self.broken_by(BrokenPipeError(32, "Broken pipe"), "--json").status, 141)

    def test_a_run_is_recorded_with_the_exit_status_that_it_had(self):
        for step, status in ((DONE_WELL, 0), (refuse(402, "x"), 6)):
            self.gateway.on(CHAT, step)
            self.assertQuietly(status, self.chat("hi"))
            shown = self.call("cost").out.decode()
            self.assertEqual("exit status:" in shown, status != 0, shown)

    def test_the_last_line_of_a_task_that_goes_on_is_how_to_resume_it(self):
        self.gateway.work = 100
        result = self.call("image", "x", "--max-wait", "0.25")
        self.assertQuietly(8, result)
        self.assertRegex(result.err, r"\nalltoken-call image --resume igen_\w+  # [^\n]*\n\Z")

    def test_a_signal_is_128_and_its_number(self):
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            with self.subTest(name):
                number = getattr(signal, name)
                self.assertEqual(self.broken_by(Interrupted(number)).status, 128 + number)

    def test_a_signal_while_the_command_line_is_parsed_is_no_bug(self):
        for signum in (signal.SIGINT, signal.SIGTERM):
            with self.subTest(signum):
                context = support.context(program=["alltoken-call"], environ=self.environ)
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                    self.addCleanup(signal.signal, number, signal.getsignal(number))
                context.signals.install()
                parse = command_lines.Parser.parse_known_args

                def struck(parser, *given, parse=parse, signum=signum):  # inside parse_intermixed_args
                    os.kill(os.getpid(), signum)
                    return parse(parser, *given)

                with mock.patch.object(command_lines.Parser, "parse_known_args", struck):
                    self.assertEqual(cli.main(["chat", "hi"], context), 128 + signum)
                self.assertIn(b"[error] interrupted", context.stderr.written)
                self.assertEqual(self.gateway.requests, [])

    def test_a_second_signal_while_the_first_is_told_is_not_a_traceback(self):
        class Impatient(io.BytesIO):
            def write(self, data):
                if b"[error]" in data:
                    raise Interrupted(signal.SIGINT)
                return super().write(data)

        self.gateway.on(CHAT, refuse(400, "x"))
        try:
            self.assertEqual(self.chat("hi", stderr=Impatient()).status, 130)
        except Interrupted:
            self.fail("the second signal went through")

    def test_a_full_disk_is_status_13_said_once(self):
        for argv in ((), ("--json",), ("--dry-run",)):
            with self.subTest(argv):
                result = self.broken_by(OSError(28, "No space left on device"), *argv)
                self.assertEqual(result.status, 13)
                self.assertEqual(result.err.count("[error]"), 1, result.err)

    def test_a_reader_that_went_away_is_status_141_and_nothing_is_said(self):
        for argv in (("-q",), ("-q", "--json"), ("--dry-run",), ("--no-stream",)):
            with self.subTest(argv):
                result = self.broken_by(BrokenPipeError(32, "Broken pipe"), *argv)
                self.assertEqual((result.status, result.err), (141, ""))

    def test_it_is_141_also_in_the_middle_of_a_surrogate_pair(self):
        self.gateway.on(CHAT, stream(b'data: {"choices":[{"delta":{"content":"a\\ud83d"}}]}\n\n', DONE))
        result = self.broken_by(BrokenPipeError(32, "Broken pipe"))
        self.assertEqual((result.status, result.err), (141, ""))


class Meta(Case):
    def test_quiet_drops_meta_lines_and_keeps_warnings_and_errors(self):
        self.gateway.on(CHAT, refuse(429, "x"), stream(frames("hi", finish="length") + DONE))
        result = self.chat("-q", "hi")
        self.assertEqual((result.status, result.out), (0, b"hi\n"))
        self.assertRegex(result.err, r"\A\[warning\] [^\n]*length[^\n]*\n\Z")
        self.gateway.on(CHAT, refuse(400, "x"))
        self.assertIn("[error] x", self.chat("-q", "hi").err)

    def test_quiet_leaves_stderr_empty_if_all_is_well(self):
        self.assertQuietly(0, self.chat("hi"))
        for argv in (
            ["chat", "hi"],
            ["search", "hi"],
            ["models"],
            ["models", "-l"],
            ["cost"],
            ["cost", "--since", "7d"],
        ):
            for word in ("-q", "--quiet"):
                with self.subTest(argv):
                    result = self.call(*argv, word)
                    self.assertQuietly(0, result)
                    self.assertEqual(result.err, "")
                    self.assertEqual(result.out, self.call(word, *argv).out)

    def test_quiet_leaves_errors_with_all_their_lines(self):
        self.gateway.on(CHAT, refuse(402, "x"))
        loud, quiet = (self.chat("hi", *more).err.splitlines() for more in ((), ("-q",)))
        self.assertEqual(quiet, [line for line in loud if not line.startswith("[cost]")])
        self.assertEqual(len(quiet), 3)

    def test_meta_lines_stand_on_stderr_alone(self):
        result = self.chat("-m", "gpt-5.4-mini", "hi")
        self.assertEqual(result.out, b"This is the loopback gateway, which echoes: hi\n")
        usage, cost = result.err.splitlines()
        self.assertRegex(usage, r"^\[usage\] prompt=5 completion=8 total=13 model=gpt-5.4-mini$")
        self.assertRegex(cost, r"^\[cost\] \$0\.\d{10} \(gateway\)$")

    def test_colour_is_for_terminals_and_not_under_no_color(self):
        self.gateway.on(CHAT, refuse(400, "x"))
        self.assertIn("\x1b[", self.chat("hi", terminals="err").err)
        self.assertNotIn("\x1b", self.chat("hi", terminals="err", NO_COLOR="1").err)
        self.assertNotIn("\x1b", self.chat("hi", terminals="out").err)

    def test_a_dry_run_prints_the_request_and_needs_and_shows_no_key(self):
        for key in (None, "bad key", KEY):
            for more in ((), ("--json",), ("-v",)):
                result = self.chat("--dry-run", "hi", *more, ALLTOKEN_API_KEY=key)
                self.assertEqual(result.status, 0)
                self.assertNotIn(str(key), result.err + result.out.decode())
                document = result.document
                self.assertEqual(set(document), {"method", "url", "body"})
                self.assertEqual((document["method"], document["url"]), ("POST", self.gateway.url + CHAT.split()[1]))
        self.assertEqual(self.gateway.requests, [])
        self.assertFalse(os.path.exists(self.environ["XDG_STATE_HOME"]))

    def test_what_is_wrong_is_wrong_in_a_dry_run_too(self):
        self.assertQuietly(2, self.chat("--dry-run"))
        self.assertQuietly(2, self.chat("--dry-run", "hi", ALLTOKEN_BASE_URL="http://gateway.invalid"))

    def test_an_error_is_what_happened_the_request_id_and_what_to_do(self):
        self.gateway.on(CHAT, refuse(400, "x"))
        first, *lines = self.chat("hi").err.splitlines()
        self.assertEqual(first, "[cost] none")
        self.assertEqual(lines[:2], ["[error] x (400 test_error): no", "request_id: req_loopback_1"])
        self.assertIn("quote the request id to support", lines[2])
        self.assertEqual(len(lines), 3)


class Errors(unittest.TestCase):
    def test_a_call_error_carries_its_exit_status(self):
        for kind in CallError.__subclasses__():
            self.assertIsInstance(kind.status, ExitStatus)
