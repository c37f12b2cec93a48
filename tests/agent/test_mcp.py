"""`agent.mcp`: servers of both eras, and servers that do what they should not; none of them is ever left behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import types
import unittest
from unittest import mock

from alltoken_call.agent import mcp, process, servers
from alltoken_call.errors import Interrupted, UsageError

from ..harness import MEMORY
from .processes import PYTHON, ROOT, Marked, eventually, running

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "mcp_server.py")


def never():
    return False


class Case(Marked):
    def setUp(self) -> None:
        super().setUp()
        self.folder = tempfile.mkdtemp(dir=MEMORY)
        self.addCleanup(shutil.rmtree, self.folder)
        self.log = os.path.join(self.folder, "log")

    def make(self, *, environ=None, cwd=None, stop=never, **behaviour):
        """A server that was not started."""
        words = [*PYTHON, SCRIPT, json.dumps({"log": self.log} | behaviour), self.marker]
        server = mcp.Server("scripted", words, environ or {}, cwd, stop)
        self.addCleanup(server.close)
        return server

    def start(self, **behaviour):
        server = self.make(**behaviour)
        server.start(20.0)
        return server

    def refused(self, timeout=20.0, **behaviour) -> str:
        """Why a server does not come up; nothing of it is left."""
        before = len(running(self.marker))
        with self.assertRaises(mcp.ServerError) as caught:
            self.make(**behaviour).start(timeout)
        self.assertEqual(len(running(self.marker)), before)
        return str(caught.exception)

    def heard(self, method=None):
        """What the server has read."""
        with open(self.log) as file:
            messages = [json.loads(line) for line in file]
        return [message for message in messages if method in (None, message.get("method"))]

    def assertAnswers(self, server, text="fine") -> None:
        self.assertEqual(server.call("echo", {"text": text}, 20.0), (text, True))


class Start(Case):
    def test_initialize_comes_first_and_initialized_before_anything_else(self):
        server = self.start()
        self.assertAnswers(server)
        methods = [message["method"] for message in self.heard()]
        self.assertEqual(methods, ["initialize", "notifications/initialized", "tools/list", "tools/call"])
        self.assertNotIn("id", self.heard("notifications/initialized")[0])
        self.assertEqual(self.heard("initialize")[0]["params"]["protocolVersion"], "2025-11-25")

    def test_earlier_versions_are_accepted_and_others_are_not(self):
        for version in ("2025-06-18", "2025-03-26", "2024-11-05"):
            with self.subTest(version):
                self.assertAnswers(self.start(version=version))
        for version in ("2024-10-07", "2099-01-01", None):
            with self.subTest(version):
                self.assertIn(str(version), self.refused(version=version))

    def test_a_server_that_refuses_initialize_is_asked_by_server_discover(self):
        server = self.start(era="modern")
        self.assertIn("echo", [tool["name"] for tool in server.tools])
        self.assertAnswers(server)
        methods = [message["method"] for message in self.heard()]
        self.assertEqual(methods, ["initialize", "server/discover", "tools/list", "tools/call"])
        about = self.heard("tools/call")[0]["params"]["_meta"]
        self.assertEqual(about["io.modelcontextprotocol/clientInfo"]["name"], "alltoken-call")
        self.assertEqual(about["io.modelcontextprotocol/clientCapabilities"], {})

    def test_a_server_of_neither_era_is_refused(self):
        self.assertIn("unsupported", self.refused(era="none"))
        self.assertIn("2027-01-01", self.refused(era="modern", versions=["2027-01-01"]))

    def test_tools_have_name_description_and_parameters_with_properties(self):
        tools = [
            {"name": "a", "description": "does a", "inputSchema": {"type": "object", "properties": {"x": {}}}},
            {"name": "b", "title": "B", "inputSchema": {"type": "object", "additionalProperties": False}},
            {"name": "c", "inputSchema": None},
            {"name": ""},
            {"name": 7},
            "no tool",
        ]
        empty = {"type": "object", "properties": {}}
        self.assertEqual(
            self.start(tools=tools).tools,
            [
                {"name": "a", "description": "does a", "parameters": {"type": "object", "properties": {"x": {}}}},
                {"name": "b", "description": "B", "parameters": empty | {"additionalProperties": False}},
                {"name": "c", "description": "", "parameters": empty},
            ],
        )

    def test_all_pages_are_listed_until_a_cursor_is_missing_or_was_seen(self):
        names = sorted(tool["name"] for tool in self.start().tools)
        for pages in (2, 5):
            with self.subTest(pages):
                self.assertEqual(sorted(tool["name"] for tool in self.start(pages=pages).tools), names)
        self.assertLessEqual(len(self.start(pages="loop").tools), 3)
        self.assertIn("in time", self.refused(1.0, pages="endless"))

    def test_a_server_without_tools_has_none_and_one_that_fails_to_list_them_is_refused(self):
        self.assertIn("cannot do that", self.refused(refuse="tools/list"))
        self.assertEqual(self.start(lacks="tools/list").tools, [])

    def test_a_server_that_cannot_be_run_is_told(self):
        for argv in (["/nowhere/server"], [os.path.join(ROOT, "README.md")], ["a\0b"]):
            with self.subTest(argv), self.assertRaises(mcp.ServerError) as caught:
                mcp.Server("x", argv, {}, None, never).start()
            self.assertIn(argv[0], str(caught.exception))

    def test_death_at_the_start_is_told_at_once_with_the_end_of_stderr(self):
        for method in ("initialize", "tools/list"):
            with self.subTest(method):
                begun = time.monotonic()
                told = self.refused(die=method)
                self.assertIn("exit status 3", told)
                self.assertEqual(told.count("Traceback: no more"), 1)
                self.assertLess(time.monotonic() - begun, 5)

    def test_silence_at_the_start_ends_at_the_timeout_with_the_end_of_stderr(self):
        told = self.refused(0.5, mute="initialize", flood=10)
        self.assertIn("in time", told)
        self.assertIn("end of the flood", told)
        self.assertEqual(self.heard("notifications/cancelled"), [])
        self.assertIn("in time", self.refused(0.5, mute="tools/list"))

    def test_a_slow_start_is_waited_for(self):
        self.assertAnswers(self.start(slow=0.4))

    def test_a_flood_on_stderr_before_the_first_answer_does_not_stop_it(self):
        server = self.start(flood=1_200_000)
        self.assertAnswers(server)
        text, _ = server.call("die", {}, 20.0)
        self.assertIn("end of the flood\nTraceback: died", text)
        self.assertLess(len(text), 2200)

    def test_stop_ends_a_start(self):
        asked = threading.Event()
        timer = threading.Timer(0.3, asked.set)
        timer.start()
        self.addCleanup(timer.join)
        begun = time.monotonic()
        self.refused(mute="initialize", stop=asked.is_set)
        self.assertLess(time.monotonic() - begun, 5)

    def test_it_sees_the_environment_and_the_directory_that_it_was_given_and_no_terminal(self):
        server = self.start(environ={"ONLY": "this"}, cwd=self.folder)
        environ, cwd = json.loads(server.call("environment", {}, 20.0)[0])
        self.assertEqual(environ.get("ONLY"), "this")
        self.assertLessEqual(set(environ), {"ONLY", "LC_CTYPE"})
        self.assertEqual(cwd, os.path.realpath(self.folder))


class Results(Case):
    def test_every_kind_of_content_becomes_text(self):
        resource = {"type": "resource", "resource": {"uri": "x:y", "text": "in a resource"}}
        blob = {"type": "resource", "resource": {"uri": "x:y", "mimeType": "application/pdf", "blob": "AAAA"}}
        link = {"type": "resource_link", "uri": "file:///a", "name": "a", "text": "no"}
        image = {"type": "image", "data": "AAAA", "mimeType": "image/png"}
        text = {"type": "text", "text": "one\n"}
        structured = {"structuredContent": {"ä": [1]}}
        server = self.start()
        for result, expected in (
            ({"content": [text, {"type": "text", "text": "two"}]}, "one\n\ntwo"),
            ({"content": [resource, blob, link]}, "in a resource\n[application/pdf, not shown]\nfile:///a"),
            (
                {"content": [image, {"type": "audio", "mimeType": "audio/wav"}]},
                "[image/png, not shown]\n[audio/wav, not shown]",
            ),
            ({"content": [{"type": "hologram"}, {}]}, "[hologram, not shown]\n[None, not shown]"),
            ({"content": [text], **structured}, "one\n"),
            (structured, '{"ä": [1]}'),
            ({"content": [], **structured}, '{"ä": [1]}'),
            ({}, ""),
            ({"content": "no list"}, ""),
            ({"content": ["no object", 7, None]}, ""),
            ([], ""),
            (None, ""),
        ):
            with self.subTest(result):
                self.assertEqual(server.call("gives", {"result": result}, 20.0), (expected, True))

    def test_errors_are_results_that_went_wrong(self):
        server = self.start()
        wrong = {"content": [{"type": "text", "text": "no such city"}], "isError": True}
        self.assertEqual(server.call("gives", {"result": wrong}, 20.0), ("no such city", False))
        self.assertFalse(server.call("gives", {"result": {"isError": True}}, 20.0)[1])
        for name, told in (("fails", "it broke"), ("missing", "Unknown tool: missing"), ("null_fails", "cannot read")):
            with self.subTest(name):
                text, ok = server.call(name, {}, 20.0)
                self.assertFalse(ok)
                self.assertIn(told, text)
        self.assertAnswers(server)

    def test_input_that_is_required_is_an_error(self):
        server = self.start(era="modern")
        result = {"resultType": "input_required", "inputRequests": {"a": {}}}
        text, ok = server.call("gives", {"result": result}, 20.0)
        self.assertFalse(ok)
        self.assertIn("input_required", text)
        self.assertAnswers(server)


class BadServers(Case):
    def test_junk_on_stdout_is_skipped(self):
        server = self.start(junk=True)
        self.assertEqual(server.call("junk", {}, 20.0), ("between junk", True))
        self.assertAnswers(server)

    def test_3_mb_of_arguments_are_written_while_the_answer_is_read(self):
        server = self.start()
        text = "é😀" * 500_000
        self.assertEqual(server.call("length", {"text": text}, 20.0), ("1000000", True))
        self.assertEqual(server.call("echo", {"text": text}, 20.0), (text, True))

    def test_a_batch_is_understood(self):
        self.assertEqual(self.start().call("batch", {}, 20.0), ("in a batch", True))

    def test_requests_of_its_own_are_answered(self):
        text, _ = self.start().call("asks", {}, 20.0)
        answers = json.loads(text)
        self.assertEqual(answers[:2], [[1, {}, None], ["s", None, -32601]])
        self.assertEqual(answers[2][1:], [None, -32601])

    def test_pings_that_it_never_reads_the_answers_of_do_not_stop_us(self):
        server = self.start()
        self.assertEqual(server.call("floods_with_pings", {"count": 5_000}, 20.0), ("done", True))
        self.assertAnswers(server)
        with mock.patch.object(mcp, "LARGEST_OUTBOX", 100_000):
            self.assertEqual(server.call("floods_with_pings", {"count": 20_000, "read": False}, 20.0), ("done", True))
            self.assertLess(len(server._wire.outbox), 200_000)

    def test_of_two_answers_the_first_counts_and_the_second_is_dropped(self):
        server = self.start()
        self.assertEqual(server.call("twice", {}, 20.0), ("first", True))
        self.assertAnswers(server)

    def test_silence_ends_at_the_timeout_and_the_call_is_cancelled(self):
        for era in ("legacy", "modern"):
            with self.subTest(era):
                server = self.start(era=era)
                begun = time.monotonic()
                text, ok = server.call("silent", {}, 0.3)
                self.assertFalse(ok)
                self.assertIn("may have taken effect", text)
                self.assertLess(time.monotonic() - begun, 3)
                self.assertAnswers(server)
                asked, cancelled = self.heard("tools/call")[-2], self.heard("notifications/cancelled")[-1]
                self.assertEqual(cancelled["params"]["requestId"], asked["id"])
                self.assertNotIn("id", cancelled)

    def test_an_answer_that_comes_too_late_is_dropped(self):
        server = self.start()
        self.assertFalse(server.call("sleep", {"seconds": 0.5}, 0.2)[1])
        self.assertAnswers(server)
        self.assertAnswers(server, "again")

    def test_stop_ends_a_call_and_cancels_it(self):
        asked = threading.Event()
        server = self.start(stop=asked.is_set)
        timer = threading.Timer(0.3, asked.set)
        timer.start()
        self.addCleanup(timer.join)
        begun = time.monotonic()
        text, ok = server.call("silent", {}, 20.0)
        self.assertFalse(ok)
        self.assertIn("may have taken effect", text)
        self.assertLess(time.monotonic() - begun, 1.5)
        self.assertTrue(eventually(lambda: self.heard("notifications/cancelled")))
        self.assertNotIn("may have taken effect", server.call("echo", {"text": "x"}, 20.0)[0])
        self.assertEqual(len(self.heard("tools/call")), 1)

    def test_a_signal_that_passes_cancels_the_call_and_leaves_the_server_usable(self):
        def arrived(signum, frame):
            raise Interrupted(signal.SIGINT)

        server = self.start()
        self.addCleanup(signal.signal, signal.SIGALRM, signal.signal(signal.SIGALRM, arrived))
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with self.assertRaises(Interrupted):
            server.call("silent", {}, 20.0)
        self.assertAnswers(server)
        self.assertEqual(len(self.heard("notifications/cancelled")), 1)

    def test_a_signal_that_comes_while_a_server_is_started_leaves_it_to_close(self):
        def arrived(signum, frame):
            raise Interrupted(signal.SIGINT)

        self.addCleanup(signal.signal, signal.SIGALRM, signal.signal(signal.SIGALRM, arrived))
        server = self.make(mute="initialize")
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with self.assertRaises(Interrupted):
            server.start()
        server.close()
        self.assertEqual(running(self.marker), [])

    def test_a_line_of_10_mb_is_read_and_one_of_more_than_16_mib_is_not(self):
        server = self.start()
        text, ok = server.call("long", {"size": 10_000_000}, 30.0)
        self.assertEqual((len(text), ok), (10_000_000, True))
        begun = time.monotonic()
        text, ok = server.call("long", {"size": 17 << 20}, 30.0)
        self.assertFalse(ok)
        self.assertIn("16 MiB", text)
        self.assertLess(time.monotonic() - begun, 10)
        self.assertAnswers(server)
        self.assertFalse(server.call("noise", {"size": 40 << 20}, 30.0)[1])
        self.assertAnswers(server)

    @unittest.skipUnless(sys.platform.startswith("linux"), "peak memory is read from /proc")
    def test_long_lines_take_less_than_60_mib(self):
        for name, arguments in (
            ("escaped", {"size": 16_000_000, "escape": "\\ud83d\\ude00"}),
            ("noise", {"size": 40 << 20}),
        ):
            script = f"""
                import sys
                sys.path.insert(0, {str(ROOT)!r})
                from alltoken_call.agent import mcp
                server = mcp.Server("x", {[*PYTHON, SCRIPT, "{}", self.marker]!r}, {{}}, None, lambda: False)
                server.start()
                text, ok = server.call({name!r}, {arguments!r}, 30.0)
                server.close()
                with open("/proc/self/status") as file:
                    print(len(text) > 4_000_000, [line.split()[1] for line in file if line.startswith("VmHWM")][0])
            """
            with self.subTest(name, **arguments):
                words = [*PYTHON, "-c", textwrap.dedent(script), self.marker]
                whole, peak = subprocess.check_output(words, env={}, timeout=60.0, text=True).split()
                self.assertEqual(whole, str(name != "noise"))
                self.assertLess(int(peak), 60 << 10)

    def test_of_an_overlong_text_wide_characters_are_lost_and_the_rest_is_kept(self):
        server = self.start()
        for arguments, expected in (
            ({"size": 3_000_000, "end": "😀’é"}, "x😀’é"),
            ({"size": 6_000_000, "end": "😀’é"}, "x?’é"),
            ({"size": 5_000_000, "text": "中", "end": "😀"}, "中?"),
        ):
            with self.subTest(arguments):
                text, ok = server.call("long", arguments, 30.0)
                self.assertEqual((text[-len(expected) :], ok), (expected, True))
        arguments = {"size": 8_000_000, "escape": r"\\u\\\ud83d\ude00"}
        text, ok = server.call("escaped", arguments, 30.0)
        self.assertEqual((text[8_000_000:], ok), (r"\u\/ud83d/ude00", True))
        for size, expected in ((5_000_000, "Zürich П/ud83d/ude00"), (8_000_000, "Zürich /u041f/ud83d/ude00")):
            text, ok = server.call("escaped", {"size": size, "escape": r"Z\u00fcrich \u041f\ud83d\ude00"}, 30.0)
            self.assertEqual((text[size:], ok), (expected, True))

    def test_a_long_line_of_escapes_is_a_short_text(self):
        line = '{"jsonrpc": "2.0", "id": @, "result": {"content": [{"type": "text", "text": "'
        text, ok = self.start().call("raw", {"text": line, "again": r"\u4e2d\ud83d\ude00\\u", "times": 500_000}, 30.0)
        self.assertEqual((len(text), text[-4:], ok), (2_000_000, "中😀\\u", True))

    def test_what_only_looks_like_an_answer_is_junk(self):
        answer = '{"jsonrpc": "2.0", "id": @, "result": {"content": [{"type": "text", "text": "hi"}]}}'
        for junk in (
            "2026-01-01 DEBUG send " + answer,
            "<- " + answer,
            '{\n  "jsonrpc": "2.0",\n  "id": @\n}',
            '{"jsonrpc": "2.0", "id": 0, "result": ' + "[" * 100_000 + "}",
            '{"error": "disk full", "level": "warning"}',
        ):
            with self.subTest(junk[:20]):
                self.assertEqual(self.start().call("raw", {"text": f"{junk}\n{answer}\n"}, 20.0), ("hi", True))

    def test_an_answer_that_cannot_be_read_is_told_at_once(self):
        server = self.start()
        for value in ("[" * 100_000 + "]" * 100_000, "9" * 5000, '{"a": 1'):
            begun = time.monotonic()
            text, ok = server.call("raw", {"text": '{"jsonrpc": "2.0", "id": @, "result": ' + value + "}\n"}, 20.0)
            self.assertFalse(ok)
            self.assertIn("cannot be read", text)
            self.assertLess(time.monotonic() - begun, 5)
        self.assertAnswers(server)

    def test_a_mark_before_the_line_and_an_error_that_is_null_do_no_harm(self):
        result = '{"jsonrpc": "2.0", "id": @, "error": null, "result": {"content": [{"type": "text", "text": "hi"}]}}'
        self.assertEqual(self.start().call("raw", {"text": "\ufeff" + result + "\n"}, 20.0), ("hi", True))
        error = '{"jsonrpc": "2.0", "id": @, "error": "boom"}\n'
        self.assertEqual(self.start().call("raw", {"text": error}, 20.0), ("error: boom", False))


class Death(Case):
    def test_death_in_a_call_is_told_at_once_and_may_have_taken_effect(self):
        server = self.start()
        begun = time.monotonic()
        text, ok = server.call("die", {"status": 7}, 20.0)
        self.assertFalse(ok)
        self.assertLess(time.monotonic() - begun, 3)
        for part in ("exit status 7", "Traceback: died", "may have taken effect"):
            self.assertIn(part, text)

    def test_a_dead_server_is_started_again_once_and_then_it_is_told_at_once_that_it_is_dead(self):
        for era in ("legacy", "modern"):
            with self.subTest(era):
                server = self.start(era=era)
                server.call("die", {}, 20.0)
                self.assertAnswers(server, "risen")
                server.call("die", {}, 20.0)
                begun = time.monotonic()
                for _ in range(2):
                    text, ok = server.call("echo", {"text": "x"}, 20.0)
                    self.assertFalse(ok)
                    self.assertIn("is dead", text)
                    self.assertIn("exit status 3", text)
                    self.assertNotIn("may have taken effect", text)
                self.assertLess(time.monotonic() - begun, 0.5)

    def test_a_server_that_died_between_two_calls_is_started_again_before_the_second(self):
        server = self.start()
        self.assertEqual(server.call("answer_and_die", {}, 20.0), ("my last words", True))
        self.assertTrue(eventually(lambda: server._wire.poll() is not None))
        self.assertAnswers(server)

    def test_one_that_does_not_come_up_again_is_dead(self):
        once = os.path.join(self.folder, "once")
        server = self.start(die="tools/call")
        self.assertFalse(server.call("echo", {"text": "x"}, 20.0)[1])
        with mock.patch.object(server, "_command", (["/nowhere/x"], {}, None)):
            text, ok = server.call("echo", {"text": "x"}, 20.0)
        self.assertFalse(ok)
        self.assertIn("cannot be run", text)
        self.assertIn("is dead", server.call("echo", {"text": "x"}, 20.0)[0])
        other = self.start(die="tools/call", once=once)
        self.assertFalse(other.call("echo", {"text": "x"}, 20.0)[1])
        self.assertAnswers(other)

    def test_one_that_is_mute_when_started_again_is_ended_at_the_timeout(self):
        server = self.start()
        server.call("die", {}, 20.0)
        words = [*PYTHON, SCRIPT, json.dumps({"mute": "initialize"}), self.marker]
        with mock.patch.object(server, "_command", (words, {}, None)):
            text, ok = server.call("echo", {"text": "x"}, 0.5)
        self.assertFalse(ok)
        self.assertIn("in time", text)
        self.assertEqual(running(self.marker), [])

    def test_closed_pipes_are_death(self):
        server = self.start()
        begun = time.monotonic()
        text, ok = server.call("close", {}, 20.0)
        self.assertFalse(ok)
        self.assertIn("closed", text)
        self.assertEqual(running(self.marker), [])
        self.assertTrue(server.call("deaf", {}, 20.0)[1])
        self.assertFalse(server.call("length", {"text": "x" * 1_000_000}, 20.0)[1])
        self.assertLess(time.monotonic() - begun, 6)

    def test_one_that_has_closed_its_stdout_since_is_started_again_before_it_is_asked(self):
        server = self.start()
        self.assertEqual(server.call("mutes", {}, 20.0), ("not a word more", True))
        self.assertTrue(eventually(lambda: len(self.heard()) == 4))
        time.sleep(0.1)
        self.assertAnswers(server)

    def test_the_tools_stay_as_they_were(self):
        server = self.start()
        tools = server.tools
        server.call("die", {}, 20.0)
        self.assertAnswers(server)
        self.assertIs(server.tools, tools)
        self.assertEqual(len(self.heard("tools/list")), 1)


class Close(Case):
    def test_the_end_of_stdin_ends_a_server_and_close_can_be_called_twice(self):
        server = self.start()
        begun = time.monotonic()
        server.close()
        server.close()
        self.assertLess(time.monotonic() - begun, 1.5)
        self.assertEqual(running(self.marker), [])
        text, ok = server.call("echo", {"text": "x"}, 20.0)
        self.assertFalse(ok)
        self.assertIn("closed", text)

    def test_one_that_was_never_started_can_be_closed(self):
        server = self.make()
        server.close()
        self.assertFalse(server.call("echo", {"text": "x"}, 20.0)[1])
        self.assertEqual(running(self.marker), [])

    def test_one_in_the_middle_of_a_call_is_closed(self):
        server = self.start()
        server.call("silent", {}, 0.1)
        server.call("sleep", {"seconds": 1.0}, 0.1)
        server.close()

    def test_stubborn_servers_are_ended_side_by_side_stdin_first_then_term_then_kill(self):
        servers = [self.start(stubborn=True) for _ in range(3)]
        with mock.patch.object(process, "GRACE", 0.4):
            begun = time.monotonic()
            mcp.close_all(servers)
            took = time.monotonic() - begun
        self.assertEqual(running(self.marker), [])
        self.assertGreater(took, 0.8)
        self.assertLess(took, 1.8)

    def test_the_graces_are_two_seconds_each(self):
        self.assertEqual(process.GRACE, 2.0)

    def test_what_a_server_has_started_ends_with_it_also_if_it_ignores_term(self):
        server = self.start()
        self.assertEqual(server.call("fork", {}, 20.0), ("forked", True))
        self.assertEqual(len(running(self.marker)), 2)
        with mock.patch.object(process, "GRACE", 0.3):
            server.close()
        self.assertEqual(running(self.marker), [])

    def test_a_server_that_floods_its_output_at_the_end_can_end(self):
        script = (
            "import sys\nfor line in sys.stdin: pass\nsys.stdout.write('x' * 3_000_000)\nopen(sys.argv[2], 'w').close()"
        )
        flag = os.path.join(self.folder, "flag")
        server = mcp.Server("x", [*PYTHON, "-c", script, self.marker, flag], {}, None, never)
        self.assertRaises(mcp.ServerError, server.start, 0.5)
        self.assertTrue(os.path.exists(flag))

    def test_a_tool_is_ended_side_by_side_with_the_servers(self):
        servers = [self.start(stubborn=True)]
        said: list[bytes] = []
        script = f"trap '' TERM; echo up; while :; do sleep 0.1; done # {self.marker}"
        tool = process.Process(["/bin/sh", "-c", script], {}, None, said.append)
        self.addCleanup(tool.close)
        self.assertTrue(eventually(lambda: tool.turn(0.01)))
        with mock.patch.object(process, "GRACE", 0.4):
            begun = time.monotonic()
            mcp.close_all(servers, [tool])
            self.assertLess(time.monotonic() - begun, 1.6)
        self.assertEqual(running(self.marker), [])

    def test_a_signal_in_the_middle_of_closing_leaves_nothing(self):
        def arrived(signum, frame):
            raise Interrupted(signal.SIGINT)

        servers = [self.start(stubborn=True) for _ in range(2)]
        self.addCleanup(signal.signal, signal.SIGALRM, signal.signal(signal.SIGALRM, arrived))
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with mock.patch.object(process, "GRACE", 0.3), self.assertRaises(Interrupted):
            mcp.close_all(servers)
        self.assertEqual(running(self.marker), [])


class Names(unittest.TestCase):
    def test_a_commands_server_is_its_first_word_that_is_neither_a_runner_nor_an_option(self):
        for command, name in (
            ("uvx mcp-server-time", "time"),
            ("uvx mcp-server-time@2026.10.1 --local-timezone=UTC", "time"),
            ("uvx --from mcp-server-git==1.0 mcp-server-git", "git"),
            ("uvx --from git+https://x.example/y mcp-server-fetch", "fetch"),
            ("pipx run mcp-server-fetch", "fetch"),
            ("npx -y @modelcontextprotocol/server-everything stdio", "everything"),
            ("npx @modelcontextprotocol/server-filesystem@2026.8.31 /tmp", "filesystem"),
            ("npm exec -- @scope/server-memory", "memory"),
            ("bunx @scope/name@latest", "name"),
            ("python -m mcp_server_time", "time"),
            ("python3.12 -u -m mcp_server_time", "time"),
            ("/usr/bin/python3 ./tools/weather.py", "weather"),
            ("./weather.py", "weather"),
            ("/opt/mcp-server-foo/bin/mcp-server-foo --x", "foo"),
            ("node dist/server-x.mjs", "x"),
            ("uv --directory /srv/x run server.py", "server"),
            ("uv run weather", "weather"),
            ("uv tool run mcp-server-git[extra]>=1", "git"),
            ("env KEY=1 uvx mcp-server-time", "time"),
            ("docker run -i --rm -e TOKEN ghcr.io/github/github-mcp-server:latest", "github-mcp-server"),
            ("mcp-server-", "mcp-server-"),
            ("server", "server"),
            ("run", "run"),
            ("python", "python"),
        ):
            with self.subTest(command):
                self.assertEqual(servers.server_name(command.split()), name)

    def test_a_tools_name_is_server_and_tool(self):
        self.assertEqual(servers.tool_name("time", "get_current-time", set()), "time__get_current-time")
        exact = "t" * 58
        self.assertEqual(servers.tool_name("time", exact, set()), f"time__{exact}")

    def test_a_name_that_has_to_be_changed_ends_in_six_hex_digits(self):
        for server, tool, taken, begin in (
            ("time", "a.b", set(), "time__a_b_"),
            ("größe", "x", set(), "gr__e__x_"),
            ("time", "now", {"time__now"}, "time__now_"),
            ("time", "t" * 59, set(), "time__" + "t" * 51 + "_"),
            ("\ud800", "x", set(), "___x_"),
        ):
            with self.subTest(tool):
                name = servers.tool_name(server, tool, taken)
                self.assertRegex(name, r"\A[A-Za-z0-9_-]{1,64}\Z")
                self.assertRegex(name, rf"\A{begin}[0-9a-f]{{6}}\Z")
                self.assertEqual(servers.tool_name(server, tool, taken), name)

    def test_names_that_become_alike_stay_different(self):
        taken: set[str] = set()
        for tool in ("a.b", "a:b", "a_b", "a.b", "a.b", "x" * 70 + "1", "x" * 70 + "2"):
            name = servers.tool_name("s", tool, taken)
            self.assertNotIn(name, taken)
            taken.add(name)


class Config(Case):
    def read(self, document, seen=types.MappingProxyType({})):
        path = os.path.join(self.folder, "mcp.json")
        with open(path, "w") as file:
            file.write(document if isinstance(document, str) else json.dumps(document))
        return servers.read_config(path, {"TOKEN": "t", "EMPTY": "", "HOME": "/home/me"}, seen)

    def test_a_file_of_either_form_is_read(self):
        server = {"command": "uvx", "args": ["mcp-server-time"], "env": {"A": "b"}, "cwd": "/srv"}
        expected = [("time", ["uvx", "mcp-server-time"], {"A": "b"}, "/srv")]
        self.assertEqual(self.read({"mcpServers": {"time": server}}), expected)
        self.assertEqual(self.read({"servers": {"time": server | {"type": "stdio"}}}), expected)
        self.assertEqual(self.read({"mcpServers": {"a": {"command": "x"}}}), [("a", ["x"], {}, None)])

    def test_variables_expand_in_every_part(self):
        server = {
            "command": "${HOME}/bin/x",
            "args": ["--token=${env:TOKEN}", "$HOME ${NONE:-a:-b} ${EMPTY:-e} ${NONE:-}"],
            "env": {"T": "${TOKEN}${TOKEN}", "E": "[${EMPTY}]"},
            "cwd": "${CWD:-/srv}",
        }
        ((_, argv, env, cwd),) = self.read({"mcpServers": {"s": server}})
        self.assertEqual(argv, ["/home/me/bin/x", "--token=t", "$HOME a:-b e "])
        self.assertEqual((env, cwd), ({"T": "tt", "E": "[]"}, "/srv"))

    def test_what_cannot_be_started_here_is_wrong_usage_and_says_which(self):
        for server in (
            {"command": "${NONE}"},
            {"command": "x", "env": {"A": "${env:NONE}"}},
            {"command": "x", "args": ["${input:key}"]},
            {"type": "http", "url": "https://x.example"},
            {"type": "sse", "command": "x"},
            {"url": "https://x.example"},
            {"command": "x", "args": "no list"},
            {"command": "x", "args": [1]},
            {"command": "x", "env": {"A": 1}},
            {"command": "x", "env": "A=1"},
            {"command": "x", "cwd": 1},
            {"command": ""},
            {"command": ["x"]},
            {},
            "x",
        ):
            with self.subTest(server), self.assertRaises(UsageError) as caught:
                self.read({"mcpServers": {"fine": {"command": "x"}, "bad one": server}})
            self.assertIn("bad one", str(caught.exception))

    def test_a_file_that_lists_nothing_is_wrong_usage(self):
        for document in (
            "",
            "{",
            "[]",
            "{}",
            {"mcpServers": {}},
            {"mcpServers": []},
            "[" * 100_000,
            " " * (1 << 20) + "{}",
        ):
            with self.subTest(document[:9] if isinstance(document, str) else document), self.assertRaises(UsageError):
                self.read(document)
        for path in (os.path.join(self.folder, "missing.json"), self.folder):
            with self.assertRaises(UsageError):
                servers.read_config(path, {}, {})

    def test_a_server_from_a_file_sees_little_of_the_environment(self):
        allowed = "HOME LOGNAME PATH SHELL TERM USER LANG LC_ALL LC_TIME TMPDIR TZ HTTPS_PROXY https_proxy NO_PROXY"
        environ = dict.fromkeys([*allowed.split(), "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"], "1")
        secret = dict.fromkeys(["ALLTOKEN_API_KEY", "AWS_SECRET", "PYTHONPATH", "LD_PRELOAD", "X_PROXY"], "2")
        server = {"command": "x", "env": {"AWS_SECRET": "own", "TZ": "UTC"}}
        ((_, _, found, _),) = self.read({"mcpServers": {"s": server}}, environ | secret)
        self.assertEqual(found, environ | {"AWS_SECRET": "own", "TZ": "UTC"})


if __name__ == "__main__":
    unittest.main()
