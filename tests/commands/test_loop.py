"""Tools on the command line: consent, what is shown, what is kept and how it is resumed, search, --dry-run."""

import json
import os
import signal
import stat
import time
import unittest

from ..gateway import DONE, KEY, delta, event, refuse, stream
from ..harness import PACKAGE, PATIENCE, PYTHON
from ..loop_support import LoopCase, calling, saying, wanted

DAY = 86400


class Output(LoopCase):
    def test_in_a_pipe_stdout_has_the_final_answer_alone(self):
        self.answer(calling("weather", text="Let me see."), calling("weather"), saying("Sun", "ny."))
        run = self.chat("--tool", self.tool(), "x")
        self.assertEqual((run.status, run.out), (0, b"Sunny.\n"), run.err)
        lines = run.err.split("\n")
        self.assertEqual(lines[:2], ["Let me see.", '[tool] weather {"city":"Bern"}'])
        self.assertRegex(lines[2], r"^\[tool\] weather ok, 5 characters in \d+\.\d s$")
        self.assertEqual(lines[3], '[tool] weather {"city":"Bern"}')
        self.assertEqual(lines[5], "[usage] prompt=57 completion=36 total=93 model=gpt-5.4-mini")
        self.assertEqual(lines[6], "[cost] $0.0000564000 (gateway)")

    def test_on_a_terminal_all_text_is_on_stdout(self):
        self.answer(calling("weather", text="Let me see."), saying("Sunny."))
        run = self.chat("--tool", self.tool(), "x", terminals="out")
        self.assertEqual((run.status, run.out), (0, b"Let me see.\nSunny.\n"), run.err)
        self.assertNotIn("Let me see.", run.err)

    def test_a_failed_call_is_told_as_one(self):
        self.answer(calling("weather"), saying("ok"))
        run = self.chat("--tool", self.tool("weather", "exit 7"), "x")
        self.assertRegex(run.err, r"\[tool\] weather failed, 20 characters in \d+\.\d s\n")

    def test_quiet_leaves_the_answer(self):
        self.answer(calling("weather", text="Let me see."), saying("Sunny."))
        run = self.chat("-q", "--tool", self.tool(), "x")
        self.assertEqual((run.out, run.err), (b"Sunny.\n", ""))

    def test_after_a_cut_what_was_held_back_is_shown(self):
        self.answer(calling("weather", text="one"), stream(event(delta("ha")), event(delta("lf")), "cut"))
        run = self.chat("--tool", self.tool(), "x")
        self.assertQuietly(9, run)
        self.assertEqual(run.out, b"half\n")

    def test_what_a_model_sends_drives_no_terminal_and_shows_no_key(self):
        name = "\x1b[2Jweather\n[error] x"
        self.answer(calling(wanted(name, {"a": f"\x1b]0;t\x07\u202e{KEY}"}), text=f"\x1b[1m{KEY}"), saying("ok"))
        run = self.chat("--tool", self.tool(), "x")
        self.assertQuietly(0, run)
        for bad in ("\x1b", "\u202e", "\x07", "\n[error]"):
            self.assertNotIn(bad, run.err)

    def test_a_reader_that_goes_away_ends_the_run_and_its_requests_are_recorded(self):
        self.answer(stream(event(delta("a")), 0.2, event(delta("b")), 0.2, *[event(delta("c"))] * 50, DONE))
        process = self.spawn("chat", "--tool", self.tool(), "x", code=CLOSING)
        process.communicate(timeout=PATIENCE)
        self.assertEqual(process.returncode, 141)
        cost = self.call("cost", "--since", "1d", "--json")
        self.assertEqual(cost.document["calls"], 1)


CLOSING = f"""
import os, sys
sys.argv[0] = {PACKAGE!r}
sys.path.insert(0, {os.path.dirname(PACKAGE)!r})
os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
reader, writer = os.pipe()
os.dup2(writer, 1)
os.close(reader)
from alltoken_call.__main__ import entry
entry()
"""


class ConsentWithoutAnybody(LoopCase):
    """Where nobody can be asked; test_terminal has the other half."""

    def with_server(self, *argv, steps=None):
        self.answer(*(steps or (calling("clock__now", "weather"), saying("done"))))
        return self.chat("--mcp", self.server(), "--tool", self.tool(), *argv, "x")

    def assertRan(self, run, status, ran, refused):
        self.assertQuietly(status, run)
        self.assertEqual(run.out, b"done\n")
        self.assertEqual(self.ran, ran)
        self.assertEqual([text.startswith("refused:") for text in self.results()], refused, self.results())
        self.assertEqual("refused_calls" in run.err, status == 1)
        self.assertEqual("[warning] nobody can be asked" in run.err, status == 1, run.err)

    def test_what_is_named_runs_and_what_a_server_brings_is_refused(self):
        run = self.with_server()
        self.assertRan(run, 1, ["weather"], [True, False])
        self.assertIn("--allow 'clock__now' --allow 'clock__zone'", run.err)
        self.assertLess(run.err.index("[warning]"), run.err.index("[tool]"))

    def test_allow_lets_pass(self):
        for globs in (["clock__now"], ["clock__*", "x"], ["*"], ["clock__[mn]ow"]):
            with self.subTest(globs):
                before = len(self.ran)
                run = self.with_server(*[word for glob in globs for word in ("--allow", glob)])
                self.assertQuietly(0, run)
                self.assertEqual(self.ran[before:], ["clock", "weather"])
                self.assertEqual(self.results(), ["noon", "sunny"])

    def test_another_allow_does_not(self):
        for glob in ("clock", "now", "CLOCK__*", "clock__"):
            with self.subTest(glob):
                self.assertQuietly(1, self.with_server("--allow", glob))
                self.assertNotIn("clock", self.ran)

    def test_approve_asks_about_everything_else(self):
        self.assertRan(self.with_server("--approve", "--allow", "clock__*"), 1, ["clock"], [False, True])

    def test_approve_and_allow_for_all_run_all(self):
        run = self.with_server("--approve", "--allow", "*")
        self.assertRan(run, 0, ["clock", "weather"], [False, False])

    def test_a_run_that_fails_otherwise_keeps_its_own_status(self):
        run = self.with_server(steps=[calling("clock__now"), refuse(402, "insufficient_balance")])
        self.assertQuietly(6, run)
        run = self.with_server("--max-steps", "1", steps=[calling("clock__now")])
        self.assertQuietly(8, run)

    def test_calls_that_are_handed_back_ask_nobody(self):
        tools = self.file("t.json", [{"type": "function", "function": {"name": "theirs"}}])
        self.answer(calling("weather"), saying("done"))
        run = self.chat("--tools", tools, "--tool", self.tool(), "--approve", "--allow", "weather", "x")
        self.assertEqual((run.status, "[warning]" in run.err), (0, False), run.err)

    def test_the_document_says_it_too(self):
        document = self.with_server("--json").document
        self.assertEqual(
            (document["ok"], document["error"]["code"], document["text"]), (False, "refused_calls", "done")
        )
        self.assertEqual([call["ok"] for call in document["steps"][0]["calls"]], [False, True])

    def test_a_server_that_does_not_come_up_is_refused_before_anything_is_sent(self):
        for command in (self.script("dead", "exit 3"), "no-such-server-anywhere", "'"):
            with self.subTest(command):
                self.assertQuietly(2, self.chat("--mcp", command, "x"))
        self.assertEqual(self.gateway.requests, [])

    def test_the_server_is_gone_behind_the_run(self):
        self.with_server()
        self.assertGone(self.exists("clock.pid"))


class Kept(LoopCase):
    def unfinished(self, *argv, **options):
        """A run that ends at its first step, kept in the state directory."""
        self.answer(calling("weather"))
        run = self.chat("--tool", self.tool(), "--max-steps", "1", *argv, "x", **options)
        self.assertQuietly(8, run)
        return run

    def test_a_run_that_comes_to_its_end_keeps_nothing(self):
        self.answer(calling("weather"), saying("ok"))
        self.assertQuietly(0, self.chat("--tool", self.tool(), "x"))
        self.assertEqual(self.kept(), [])

    def test_an_unfinished_one_is_kept_for_the_user_alone_and_named_in_the_last_line(self):
        run = self.unfinished("-s", "be brief")
        (path,) = self.kept()
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode), 0o700)
        self.assertIn(path, self.resume_words(run))
        self.assertEqual([one["role"] for one in self.thread(path)], ["system", "user", "assistant", "tool"])

    def test_it_goes_on_and_is_removed_at_its_end(self):
        run = self.unfinished("-s", "be brief")
        before = self.thread(self.kept()[0])
        self.answer(calling(wanted("weather", "{}", "call_2")), saying("ok"))
        again = self.call(*self.resume_words(run))
        self.assertQuietly(8, again)  # its limit is one request again
        self.assertEqual(self.messages(), before)
        self.assertEqual(self.resume_words(again), self.resume_words(run))
        last = self.call(*self.resume_words(again))
        self.assertEqual((last.status, last.out), (0, b"ok\n"), last.err)
        self.assertEqual((self.ran, self.kept()), (["weather"] * 2, []))

    def test_words_may_follow(self):
        run = self.unfinished()
        self.answer(saying("ok"))
        self.assertQuietly(0, self.call(*self.resume_words(run), "--", "and", "tomorrow?"))
        self.assertEqual(self.messages()[-1], {"role": "user", "content": "and tomorrow?"})
        self.assertValid(self.messages())

    def test_what_failed_before_a_whole_answer_keeps_nothing(self):
        self.answer(refuse(500, "boom"))
        run = self.chat("--tool", self.tool(), "--fallback", "none", "x")
        self.assertQuietly(5, run)
        self.assertNotIn("--resume", run.err)
        self.assertEqual(self.kept(), [])

    def test_the_resume_line_has_all_that_shaped_the_run_and_can_be_run_as_it_is(self):
        tools = self.file("a b.json", [{"type": "function", "function": {"name": "theirs"}}])
        options = ["--tools", tools, "--mcp", f"sh {self.server()}", "--allow", "weather", "--allow", "x*"]
        options += ["--approve", "--max-steps", "1", "--max-cost", "0.123456789", "--tool-timeout", "7.5"]
        options += ["--tool-output", "500", "-t", "0.25", "--max-tokens", "99", "--thinking", "300", "--no-stream"]
        options += ["-p", 'stop=["a b"]', "-p", "seed=3", "-p", 'user="5"', "-p", "note=it's", "--max-wait", "50"]
        self.answer(calling("weather"))
        process = self.execute("chat", "-m", "gpt-5.4-nano", "--tool", self.tool(), *options, "x")
        self.assertQuietly(8, process)
        line = process.err.rstrip("\n").split("\n")[-1]
        self.answer(calling("weather"), saying("ok"))
        again = self.execute(command=["sh", "-c", line.replace("--max-steps=1", "--max-steps=2")])
        self.assertEqual((again.status, again.out), (0, b"ok\n"), again.err)
        first, second = self.bodies()[0], self.bodies()[1]
        self.assertEqual(first | {"messages": 0}, second | {"messages": 0})
        self.assertEqual(first["user"], "5")
        for word in (
            "--approve",
            "--allow=weather",
            "--max-cost=0.123456789",
            "--tool-timeout=7.5",
            "--tool-output=500",
        ):
            self.assertIn(word, self.resume_words(process))

    def test_a_gateway_that_was_named_is_named_again(self):
        more = {"ALLTOKEN_MINE_BASE_URL": self.gateway.url, "ALLTOKEN_MINE_API_KEY": "another-key-1"}
        more |= {"ALLTOKEN_MINE_DIALECT": "openai"}
        self.answer(calling("weather"))
        run = self.chat("--gateway", "mine", "-m", "a-model", "--tool", self.tool(), "--max-steps", "1", "x", **more)
        self.assertQuietly(8, run)
        self.answer(saying("ok"))
        self.assertQuietly(0, self.call(*self.resume_words(run), **more))
        self.assertEqual(self.bodies()[-1]["model"], "a-model")

    def test_a_thread_of_the_users_has_every_turn_and_stays(self):
        path = os.path.join(self.folder, "t.json")
        self.answer(calling("weather"), saying("ok"))
        self.assertQuietly(0, self.chat("--thread", path, "--tool", self.tool(), "one"))
        self.assertQuietly(0, self.chat("--thread", path, "--tool", self.tool(), "two"))
        self.assertEqual(
            [one["role"] for one in self.thread(path)],
            ["user", "assistant", "tool", "assistant", "user", "assistant"],
        )
        self.assertEqual((stat.S_IMODE(os.stat(path).st_mode), self.kept()), (0o600, []))

    def test_resume_needs_a_thread_with_something_in_it(self):
        empty = os.path.join(self.folder, "none.json")
        for argv in (["--resume"], ["--resume", "x"], ["--thread", empty, "--resume"]):
            self.assertQuietly(2, self.chat(*argv))
        self.assertEqual(self.gateway.requests, [])

    def test_a_resumed_thread_is_sent_as_it_stands(self):
        messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "half"}]
        path = self.file("t.json", {"model": "gpt-5.4-nano", "messages": messages})
        self.assertQuietly(0, self.chat("--thread", path, "--resume"))
        self.assertEqual((self.bodies()[0]["messages"], self.bodies()[0]["model"]), (messages, "gpt-5.4-nano"))

    def test_what_is_older_than_30_days_is_removed_and_nothing_else(self):
        self.unfinished()
        (path,) = self.kept()
        folder = os.path.dirname(path)
        others = ["notes.json", "thread-0123456789abcdef.json", "0123456789abcdef.txt"]
        for name in others:
            with open(os.path.join(folder, name), "w") as file:
                file.write("{}")
        for name in (*others, os.path.basename(path)):
            old = time.time() - 31 * DAY
            os.utime(os.path.join(folder, name), (old, old))
        self.unfinished()
        names = [os.path.basename(one) for one in self.kept()]
        self.assertNotIn(os.path.basename(path), names)
        self.assertEqual(len(names), 4)
        young = next(one for one in self.kept() if os.path.basename(one) not in others)
        os.utime(young, (time.time() - 29 * DAY,) * 2)
        self.unfinished()
        self.assertIn(young, self.kept())

    def test_a_path_that_looks_like_an_option_can_be_resumed_as_it_is_told(self):
        self.answer(calling("weather"), saying("ok"))
        argv = ["chat", "--thread=-t.json", "--tool", self.tool(), "--max-steps", "1"]
        run = self.execute(*argv, "x", cwd=self.folder)
        self.assertQuietly(8, run)
        words = [word for word in self.resume_words(run) if not word.startswith("--max-steps")]
        self.assertQuietly(0, self.execute(*words, cwd=self.folder))

    def test_an_answer_that_did_not_reach_stdout_is_kept_and_not_asked_for_again(self):
        for argv in ((), ("--thread", os.path.join(self.folder, "t.json"))):
            self.answer(calling("weather"), saying("the answer"))
            with open("/dev/full", "wb") as full:
                run = self.execute("chat", "--tool", self.tool(), *argv, "x", stdout=full)
            self.assertQuietly(13, run)
            self.assertNotIn("--resume", run.err)
            if not argv:
                self.assertIn(self.kept()[0], run.err)
                self.assertEqual(self.thread(self.kept()[0])[-1]["content"], "the answer")

    def test_without_a_home_it_runs_and_keeps_nothing(self):
        self.answer(calling("weather"), saying("ok"))
        nowhere = {"XDG_STATE_HOME": None, "HOME": None, "ALLTOKEN_LEDGER": "off"}
        self.assertQuietly(0, self.chat("--tool", self.tool(), "x", **nowhere))
        run = self.unfinished(**nowhere)
        self.assertNotIn("--resume", run.err)

    def test_a_state_directory_that_cannot_be_written_is_one_warning(self):
        self.file("state", "a file is in its place")
        self.answer(calling("weather"), saying("ok"))
        run = self.chat("--tool", self.tool(), "x", ALLTOKEN_LEDGER="off")
        self.assertEqual((run.status, run.out), (0, b"ok\n"), run.err)
        self.assertEqual(run.err.count("[warning]"), 1)


class Unsaved(LoopCase):
    """A conversation whose place fails while it goes on."""

    def setUp(self):
        super().setUp()
        self.place = os.path.join(self.folder, "place")
        os.mkdir(self.place)
        self.path = os.path.join(self.place, "t.json")

    def breaking(self, number):
        """A tool that takes the thread's place away at its call of that number."""
        body = f"test $(wc -l <'{self.folder}/ran') -eq {number} && rm -r '{self.place}' && : >'{self.place}'; echo ok"
        return self.tool("breaker", body)

    def test_the_state_directory_takes_it_and_the_run_ends_with_13(self):
        self.answer(calling("breaker", "breaker"), saying("never"))
        run = self.chat("--thread", self.path, "--tool", self.breaking(1), "x")
        self.assertQuietly(13, run)
        (path,) = self.kept()
        self.assertEqual((self.ran, self.asked()), (["breaker"], 1))
        self.assertEqual([one["content"] for one in self.thread(path)[2:]], ["ok", "[not run]"])
        self.assertEqual(run.err.count(path), 2)  # the error and the resume line
        self.answer(saying("ok"))
        resumed = self.call(*self.resume_words(run))
        self.assertEqual((resumed.status, resumed.out), (0, b"ok\n"), resumed.err)
        self.assertEqual(self.kept(), [path])  # it is the only copy of the user's own conversation
        self.assertEqual(self.thread(path)[-1]["content"], "ok")

    def test_the_last_answer_is_shown_all_the_same(self):
        self.answer(self.gone_before(saying("the answer")))
        run = self.chat("--thread", self.path, "--tool", self.tool(), "x")
        self.assertQuietly(13, run)
        self.assertEqual(run.out, b"the answer\n")
        self.assertEqual(self.thread(self.kept()[0])[-1]["content"], "the answer")

    def gone_before(self, step):
        def answer(exchange):
            os.rmdir(self.place)
            self.file("place", "")
            step(exchange)

        return answer

    def test_the_document_has_it_too(self):
        self.answer(self.gone_before(saying("the answer")))
        run = self.chat("--thread", self.path, "--tool", self.tool(), "--json", "x")
        self.assertEqual((run.status, run.document["text"]), (13, "the answer"))
        self.assertEqual(run.document["cost"]["usd"], "0.0000188000")

    def test_a_thread_that_cannot_be_written_is_13_before_anything_is_sent(self):
        run = self.chat("--thread", os.path.join(self.folder, "missing", "t.json"), "--tool", self.tool(), "x")
        self.assertQuietly(13, run)
        self.assertEqual(self.gateway.requests, [])


class Search(LoopCase):
    def test_search_takes_tools_and_goes_on_searching(self):
        self.answer(calling("weather"), saying("ok"))
        run = self.call("search", "--tool", self.tool(), "x")
        self.assertEqual((run.status, run.out, self.ran), (0, b"ok\n", ["weather"]), run.err)
        for body in self.bodies():
            self.assertEqual((body["model"], body["enable_search"]), ("deepseek-v4-pro", True))
            self.assertEqual(body["max_tokens"], 600)
        rows = self.call("cost", "--calls", "--json").document["rows"]
        self.assertEqual([row["command"] for row in rows], ["search", "search"])

    def test_an_unfinished_search_is_resumed_as_one(self):
        self.answer(calling("weather"))
        run = self.call("search", "--tool", self.tool(), "--max-steps", "1", "--max-tokens", "50", "x")
        self.assertQuietly(8, run)
        self.answer(saying("ok"))
        words = self.resume_words(run)
        self.assertEqual(words[0], "search")
        resumed = self.call(*words)
        self.assertEqual((resumed.status, resumed.out), (0, b"ok\n"), resumed.err)
        self.assertEqual((self.bodies()[-1]["enable_search"], self.bodies()[-1]["max_tokens"]), (True, 50))

    def test_definitions_without_commands_are_handed_back(self):
        tools = self.file("t.json", [{"type": "function", "function": {"name": "theirs"}}])
        self.answer(calling("theirs"))
        document = self.call("search", "--tools", tools, "--json", "x").document
        self.assertEqual(document["tool_calls"][0]["function"]["name"], "theirs")
        self.assertIsNone(document["steps"])

    def test_a_model_that_does_not_search_is_refused_with_tools_as_well(self):
        self.assertQuietly(2, self.call("search", "-m", "gpt-5.4", "--tool", self.tool(), "x"))


class DryRun(LoopCase):
    def test_it_starts_nothing_says_so_and_shows_the_first_request(self):
        server = self.server()
        run = self.chat("--dry-run", "--tool", self.tool(), "--mcp", server, "-s", "be brief", "x")
        self.assertEqual(run.status, 0, run.err)
        self.assertIn("[dry-run]", run.err)
        body = run.document["body"]
        self.assertEqual([one["role"] for one in body["messages"]], ["system", "user"])
        self.assertEqual([tool["function"]["name"] for tool in body["tools"]], ["weather"])
        self.assertFalse(os.path.exists(os.path.join(self.folder, "clock.pid")))
        self.assertEqual((self.ran, self.kept(), self.gateway.requests), ([], [], []))

    def test_it_needs_no_key(self):
        run = self.chat("--dry-run", "--tool", self.tool(), "x", ALLTOKEN_API_KEY=None)
        self.assertEqual(run.status, 0, run.err)

    def test_a_resumed_thread_is_shown_as_it_would_be_sent(self):
        messages = [{"role": "user", "content": "x"}]
        path = self.file("t.json", messages)
        self.assertEqual(self.body("--thread", path, "--resume")["messages"], messages)


class Options(LoopCase):
    def test_a_conversation_needs_terminals(self):
        for terminals in ("", "in", "err", "out", "in out"):
            for command in ("chat", "search"):
                with self.subTest(terminals, command=command):
                    run = self.call(command, "-i", terminals=terminals)
                    self.assertQuietly(2, run)
        self.assertQuietly(2, self.chat("-i", "--json", terminals="in out err"))
        self.assertEqual(self.gateway.requests, [])

    def test_values_that_cannot_be_are_refused(self):
        for argv in (
            ["--max-steps", "0"],
            ["--max-steps", "x"],
            ["--max-cost", "-1"],
            ["--max-cost", "nan"],
            ["--tool-timeout", "0"],
            ["--tool-output", "0"],
            ["--tools", self.file("t.json", "{}")],
            ["--tools", "/no/such/file"],
        ):
            with self.subTest(argv):
                self.assertQuietly(2, self.chat(*argv, "x"))

    def test_a_model_that_there_is_not_is_told_with_the_nearest(self):
        run = self.chat("--tool", self.tool(), "gpt-5.4-mimi", "hello", "there")
        self.assertQuietly(1, run)
        self.assertIn("gpt-5.4-mini", run.err)
        self.assertIn("-m ID", run.err)

    def test_a_chat_without_tools_loads_nothing_of_the_agent(self):
        code = (
            "import os, sys\n"
            f"sys.argv[:] = [{PACKAGE!r}, *sys.argv[1:]]\n"
            f"sys.path.insert(0, {os.path.dirname(PACKAGE)!r})\n"
            "def leave(status):\n"
            "    print([name for name in sys.modules if 'alltoken' in name or name in heavy], file=sys.stderr)\n"
            "    sys.stderr.flush()\n"
            "    end(status)\n"
            "end, os._exit = os._exit, leave\n"
            "heavy = ('subprocess', 'selectors', 'readline', 'termios', 'shlex', 'fnmatch', 'ctypes', 'shutil')\n"
            "from alltoken_call.__main__ import entry\n"
            "entry()\n"
        )
        tools = self.file("t.json", [{"type": "function", "function": {"name": "theirs"}}])
        for argv in (["chat", "x"], ["chat", "--tools", tools, "x"], ["search", "x"]):
            run = self.execute(*argv, command=[*PYTHON, "-c", code])
            self.assertEqual(run.status, 0, run.err)
            loaded = run.err.rstrip().split("\n")[-1]
            self.assertIn("alltoken_call.calls.chat", loaded)
            for name in (
                "agent",
                "running",
                "talk",
                "tooling",
                "kept",
                "terminal",
                "subprocess",
                "readline",
                "fnmatch",
            ):
                self.assertNotIn(name, loaded)


class Signals(LoopCase):
    """Ctrl-C and its like, with real processes."""

    def interrupt(self, process, signum=signal.SIGINT, within=5.0):
        begun = time.monotonic()
        process.send_signal(signum)
        out, err = process.communicate(timeout=PATIENCE)
        self.assertLess(time.monotonic() - begun, within)
        self.assertEqual(process.returncode, 128 + signum, err)
        self.assertNotIn(b"Traceback", err)
        return out, err.decode()

    def resume(self, err):
        """Run the last line of stderr."""
        self.assertIn("--resume", err.rstrip("\n").split("\n")[-1])
        return self.execute(command=["sh", "-c", err.rstrip("\n").split("\n")[-1]])

    def test_in_a_tool_its_group_ends_and_the_resume_line_is_last(self):
        body = f"sleep 60 & echo $! >'{self.folder}/child'; wait"
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            with self.subTest(signum):
                self.answer(calling("weather", "weather"), saying("never"))
                process = self.spawn("chat", "--tool", self.tool("weather", body), "x")
                child = self.exists("child")
                _, err = self.interrupt(process, signum)
                self.assertGone(child)
                os.remove(os.path.join(self.folder, "child"))
                path = self.kept()[-1]
                self.assertEqual(
                    [one["content"] for one in self.thread(path)[2:]],
                    ["[interrupted: may have taken effect]", "[not run]"],
                )
                self.assertIn(path, err.rstrip("\n").split("\n")[-1])
                os.remove(path)
        self.assertEqual(self.ran, ["weather"] * 3)

    def test_what_was_interrupted_goes_on_and_nothing_runs_twice(self):
        self.answer(calling("weather"), saying("ok"))
        body = f"echo $$ >'{self.folder}/pid'; exec sleep 60"
        process = self.spawn("chat", "--tool", self.tool("weather", body), "x")
        self.exists("pid")
        _, err = self.interrupt(process)
        resumed = self.resume(err)
        self.assertEqual((resumed.status, resumed.out), (0, b"ok\n"), resumed.err)
        self.assertEqual((self.ran, self.kept()), (["weather"], []))
        self.assertEqual(self.results(), ["[interrupted: may have taken effect]"])

    def test_the_document_tells_of_the_call_that_was_interrupted(self):
        self.answer(calling("weather", "weather"))
        process = self.spawn(
            "chat", "--json", "--tool", self.tool("weather", f"echo $$ >'{self.folder}/pid'; exec sleep 60"), "x"
        )
        self.exists("pid")
        time.sleep(0.1)
        out, _ = self.interrupt(process)
        (call,) = json.loads(out)["steps"][0]["calls"]
        self.assertEqual((call["result"], call["ok"]), ("[interrupted: may have taken effect]", False))
        self.assertGreater(call["seconds"], 0.05)

    def test_stubborn_groups_and_servers_end_side_by_side_within_5_s(self):
        loop = "while :; do sleep 0.2; done"
        server = self.server("clock", f"trap '' TERM INT; echo $$ >'{self.folder}/stuck'; {loop}")
        tool = self.tool("weather", f"trap '' TERM; echo $$ >'{self.folder}/pid'; {loop}")
        argv = ["--mcp", server, "--allow", "*", "--tool", tool, "--tool-timeout", "0.4", "x"]
        self.answer(calling("clock__now", "weather"), saying("never"))
        process = self.spawn("chat", *argv)
        self.exists("pid")
        _, err = self.interrupt(process)
        self.assertGone(self.exists("pid"))
        self.assertGone(self.exists("stuck"))
        self.assertIn("--resume", err.rstrip("\n").split("\n")[-1])

    def test_one_while_the_servers_end_takes_nothing_back(self):
        server = self.server()
        with open(server, "a", encoding="utf-8") as file:
            file.write(f"\ntrap '' TERM; echo closing >'{self.folder}/closing'; while :; do sleep 0.2; done\n")
        for options, status in ((["--max-steps", "1"], 8), (["--json"], 0)):
            for signum in (signal.SIGINT, signal.SIGTERM):
                with self.subTest(options=options, signum=signum):
                    self.answer(calling("weather"), saying("the answer"))
                    process = self.spawn("chat", "--tool", self.tool(), "--mcp", server, *options, "x")
                    self.exists("closing")
                    process.send_signal(signum)
                    out, err = process.communicate(timeout=PATIENCE)
                    self.assertEqual(process.returncode, status, err)
                    self.assertGone(self.exists("clock.pid"))
                    os.remove(os.path.join(self.folder, "closing"))
                    if status:
                        self.assertIn(b"[cost] $", err)
                        self.assertIn(b"--resume", err.rstrip().split(b"\n")[-1])
                    else:
                        self.assertEqual(json.loads(out)["text"], "the answer")

    def test_in_a_servers_tool(self):
        server = self.server("clock", f"echo $$ >'{self.folder}/busy'; sleep 60")
        self.answer(calling("clock__now"), saying("never"))
        process = self.spawn("chat", "--mcp", server, "--allow", "*", "x")
        self.exists("busy")
        self.interrupt(process)
        self.assertGone(self.exists("clock.pid"))
        self.assertEqual(self.thread(self.kept()[0])[-1]["content"], "[interrupted: may have taken effect]")

    def test_while_a_server_starts(self):
        server = self.script("slow", f"echo $$ >'{self.folder}/pid'; exec sleep 60")
        process = self.spawn("chat", "--mcp", server, "x")
        pid = self.exists("pid")
        _, err = self.interrupt(process)
        self.assertGone(pid)
        self.assertEqual((self.gateway.requests, "--resume" in err), ([], False))

    def test_while_the_model_is_silent_before_any_answer(self):
        self.answer(stream("hold"))
        process = self.spawn("chat", "--tool", self.tool(), "x")
        self.until(lambda: self.asked() == 1)
        time.sleep(0.2)
        out, err = self.interrupt(process)
        self.assertEqual((out, "--resume" in err, self.kept()), (b"", False, []))

    def test_while_the_second_answer_arrives(self):
        self.answer(calling("weather"), stream(event(delta("half")), "hold"))
        process = self.spawn("chat", "--tool", self.tool(), "--json", "x")
        self.until(lambda: self.asked() == 2)
        time.sleep(0.3)
        out, err = self.interrupt(process)
        document = json.loads(out)
        self.assertEqual((document["text"], len(document["steps"])), ("half", 2))
        self.answer(saying("ok"))
        resumed = self.resume(err)
        self.assertEqual((resumed.status, json.loads(resumed.out)["text"]), (0, "ok"), resumed.err)
        self.assertEqual((self.ran, self.results()), (["weather"], ["sunny"]))

    def test_an_answer_that_is_whole_but_for_its_cost_is_not_lost(self):
        calls = [event(delta(tool_calls=[wanted("weather")])), event(delta(finish="tool_calls"))]
        self.answer(stream(*calls, "hold"))
        process = self.spawn("chat", "--tool", self.tool(), "x")
        self.until(lambda: self.asked() == 1)
        time.sleep(0.3)
        _, err = self.interrupt(process)
        self.assertEqual(self.thread(self.kept()[0])[-1]["content"], "[not run]")
        self.answer(saying("ok"))
        self.assertEqual(self.resume(err).out, b"ok\n")


if __name__ == "__main__":
    unittest.main()
