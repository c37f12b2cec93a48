"""cli/terminal.py, commands/talk.py: conversations and questions, at a real pseudo-terminal."""

import json
import os
import signal
import stat
import time
import unittest

from ..gateway import DONE, KEY, delta, event, refuse, reply, stream
from ..loop_support import LoopCase, Pty, calling, saying, wanted

try:
    import readline
except ImportError:
    readline = None

NO_READLINE = "sys.modules['readline'] = None\n"
LIBEDIT = "import readline\nreadline.__doc__ = 'as with libedit: ' + readline.__doc__.replace('GNU', 'libedit')\n"
PASTED = "\x1b[200~{}\x1b[201~"


class TerminalCase(LoopCase):
    def talk(self, *argv, **options):
        """A conversation at a terminal."""
        return Pty(self, "chat", *argv, **options)

    def said(self):
        """What the user said, by the requests: of each its last message."""
        return [body["messages"][-1]["content"] for body in self.bodies()]


class Conversation(TerminalCase):
    def test_chat_without_words_is_one_and_ctrl_d_leaves_with_one_line(self):
        self.answer(saying("Hello."), saying("Fine."))
        talk = self.talk()
        talk.line("hi")
        talk.until("Hello.", "[cost] $0.0000188000 (gateway)")
        talk.line("how are you?")
        talk.until("Fine.")
        self.assertEqual(talk.leave(), "2 turn(s), 62 tokens, $0.0000376000 (gateway)")
        self.assertEqual(
            self.messages(),
            [
                {"role": "user", "content": "hi"},
                {"role": "assistant", "content": "Hello."},
                {"role": "user", "content": "how are you?"},
            ],
        )

    def test_exit_leaves_too_and_nothing_is_stored(self):
        before = set(os.listdir(self.folder))
        talk = self.talk()
        talk.line("a secret of mine")
        talk.line("/exit")
        self.assertEqual(talk.wait(), 0)
        self.assertIn("1 turn(s)", talk.plain())
        stored = [os.path.join(folder, name) for folder, _, names in os.walk(self.folder) for name in names]
        for path in stored:
            with open(path, "rb") as file:
                self.assertNotIn(b"a secret of mine", file.read())
        self.assertEqual({*os.listdir(self.folder)} - before, {"state"})

    def test_all_of_chats_options_count_and_words_begin_with_i(self):
        image = self.file("a.png", b"\x89PNG\r\n\x1a\n")
        talk = self.talk("-i", "-m", "gpt-5.4", "-s", "be brief", "-t", "0.5", "-a", image, "first", "words")
        talk.until("first words")
        talk.line("second")
        talk.leave()
        body = self.bodies()[1]
        self.assertEqual((body["model"], body["temperature"]), ("gpt-5.4", 0.5))
        self.assertEqual([one["role"] for one in body["messages"]], ["system", "user", "assistant", "user"])
        self.assertEqual([part["type"] for part in body["messages"][1]["content"]], ["text", "image_url"])
        self.assertEqual(body["messages"][3]["content"], "second")

    def test_i_works_with_stdout_in_a_pipe_which_gets_the_answers_alone(self):
        for before in ("", NO_READLINE):
            talk = self.talk("-i", piped=["stdout"], before=before)
            talk.line("hi")
            talk.until("[cost]")
            talk.until("> ")
            talk.type("\x04")
            self.assertEqual(talk.wait(), 0, talk.seen)
            self.assertEqual(talk.process.stdout.read(), b"This is the loopback gateway, which echoes: hi\n")

    def test_search_is_one_with_i_alone(self):
        talk = Pty(self, "search", "-i")
        talk.line("what is new?")
        talk.line("and then?")
        talk.leave()
        self.assertEqual([body["enable_search"] for body in self.bodies()], [True, True])
        talk = Pty(self, "search")
        self.assertEqual(talk.wait(), 2)

    def test_json_and_chat_without_words_is_no_conversation(self):
        talk = self.talk("--json")
        self.assertEqual(talk.wait(), 2)

    def test_the_answer_is_inert_and_the_key_is_not_shown_in_errors(self):
        self.answer(saying("a\x1b[2Jb"), refuse(400, "invalid_request", f"your key {KEY} \x1b[31m"))
        talk = self.talk()
        talk.line("hi")
        talk.line("hi")
        talk.leave()
        self.assertIn("a\\x1b[2Jb", talk.seen)
        self.assertNotIn(KEY, talk.seen)
        self.assertNotIn("\x1b[31m", talk.seen)

    def test_a_conversation_that_is_terminated_ends_with_143_and_one_hung_up_with_129(self):
        for signum in (signal.SIGTERM, signal.SIGHUP):
            talk = self.talk()
            talk.until("> ")
            time.sleep(0.1)
            talk.process.send_signal(signum)
            self.assertEqual(talk.wait(), 128 + signum, talk.seen)


class Lines(TerminalCase):
    def test_three_quotes_begin_a_message_that_goes_on_to_three_more(self):
        talk = self.talk()
        for message in (['"""', "one", "", "/two", '"""'], ['"""a', 'b"""'], ['"""c"""'], ['"""/help"""']):
            talk.line('""""""')  # nothing is in it
            talk.line(message[0])
            for line in message[1:]:
                talk.until("\x1b[?2004h. " if readline else ". ")
                talk.type(line + "\r")
            talk.until("[cost]")
        talk.leave()
        self.assertEqual(self.said(), ["one\n\n/two", "a\nb", "c", "/help"])

    @unittest.skipIf(readline is None, "this Python has no readline")
    def test_a_paste_is_one_message_with_readline(self):
        talk = self.talk()
        talk.line(PASTED.format("one\ntwo\n\tthree") + " and more")
        talk.until("[cost]")  # readline shows the prompt again while it edits
        talk.line("/" + PASTED.format("etc\nx"))
        talk.leave()
        self.assertEqual(self.said(), ["one\ntwo\n\tthree and more"])

    @unittest.skipIf(readline is None, "this Python has no readline")
    def test_lines_can_be_edited_and_called_back_in_this_session(self):
        talk = self.talk()
        talk.line("helo\x1b[Dl")  # one to the left
        talk.until("[cost]")
        talk.line("\x1b[A")  # up
        talk.leave()
        self.assertEqual(self.said(), ["hello", "hello"])

    @unittest.skipIf(readline is None, "this Python has no readline")
    def test_a_paste_is_one_message_as_libedit_has_it(self):
        talk = self.talk(before=LIBEDIT)
        talk.until("> ")
        talk.type("one\rtwo\rthree\r")
        talk.until("[cost]")
        talk.leave()
        self.assertEqual(self.said(), ["one\ntwo\nthree"])

    def test_a_paste_is_one_message_without_readline(self):
        talk = self.talk(before=NO_READLINE)
        talk.until("> ")
        talk.type("one\n\ntwo\n")
        talk.until("[cost]")
        talk.line("alone")
        talk.leave()
        self.assertEqual(self.said(), ["one\n\ntwo", "alone"])

    def test_long_lines_come_whole_with_readline(self):
        talk = self.talk(before="" if readline else NO_READLINE)
        text = "x" * (6000 if readline else 3000)
        talk.line(text)
        talk.until("[cost]")
        talk.leave()
        self.assertEqual(self.said(), [text])

    def test_keys_that_are_not_utf_8_do_not_end_it(self):
        for before in ("", NO_READLINE):
            talk = self.talk(before=before)
            talk.until("> ")
            os.write(talk.master, b"\xff\xfe x\r")
            talk.line("well")
            talk.until("[cost]")
            talk.leave()
            self.assertEqual(self.said()[-1], "well")

    def test_empty_lines_are_nothing(self):
        talk = self.talk()
        talk.line("")
        talk.line("   ")
        self.assertIn("0 turn(s)", talk.leave())
        self.assertEqual(self.gateway.requests, [])

    def test_ctrl_c_at_the_prompt_drops_the_line(self):
        for before in ("", NO_READLINE):
            with self.subTest(before):
                talk = self.talk(before=before)
                talk.until("> ")
                time.sleep(0.05)
                talk.type("not this\x03")
                talk.line("this")
                talk.until("[cost]")
                talk.until("> ")
                talk.type('"""\r')
                talk.until(". ")
                time.sleep(0.05)
                talk.type("nor this\x03")
                talk.leave()
                self.assertEqual(self.said()[-1], "this")
        self.assertEqual(len(self.said()), 2)


class Turns(TerminalCase):
    def test_ctrl_c_in_an_answer_keeps_its_text_as_the_turn(self):
        self.answer(stream(event(delta("half an answer")), "hold"), saying("ok"))
        talk = self.talk()
        talk.line("one")
        talk.until("half an answer")
        talk.type("\x03")
        talk.line("two")
        talk.until("ok")
        self.assertTrue(talk.leave().startswith("2 turn(s)"))
        self.assertEqual(
            self.messages(),
            [
                {"role": "user", "content": "one"},
                {"role": "assistant", "content": "half an answer [interrupted]"},
                {"role": "user", "content": "two"},
            ],
        )

    def test_ctrl_c_before_any_text_takes_the_message_out(self):
        self.answer(stream("hold"), saying("ok"))
        talk = self.talk()
        talk.line("one")
        self.until(lambda: self.asked() == 1)
        time.sleep(0.2)
        talk.type("\x03")
        talk.until("[interrupted]")
        talk.line("two")
        talk.until("ok")
        talk.leave()
        self.assertEqual(self.messages(), [{"role": "user", "content": "two"}])

    def test_ctrl_c_in_a_tool_ends_the_tool_and_the_turn(self):
        self.answer(calling("weather"), saying("ok"))
        body = f"sleep 60 & echo $! >'{self.folder}/child'; wait"
        talk = self.talk("--tool", self.tool("weather", body))
        talk.line("one")
        child = self.exists("child")
        talk.type("\x03")
        talk.line("two")
        talk.until("ok")
        talk.leave()
        self.assertGone(child)
        self.assertValid(self.messages())
        self.assertEqual([one["role"] for one in self.messages()], ["user", "assistant", "tool", "user"])
        self.assertEqual(self.results(), ["[interrupted: may have taken effect]"])

    def test_ctrl_c_in_a_later_answer_keeps_calls_results_and_text(self):
        self.answer(calling("weather"), stream(event(delta("half")), "hold"), saying("ok"))
        talk = self.talk("--tool", self.tool())
        talk.line("one")
        talk.until("half")
        talk.type("\x03")
        talk.line("two")
        talk.until("ok")
        talk.leave()
        roles = [(one["role"], one["content"]) for one in self.messages()[2:]]
        self.assertEqual(roles, [("tool", "sunny"), ("assistant", "half [interrupted]"), ("user", "two")])

    def test_an_error_ends_the_turn_and_retry_sends_it_again(self):
        steps = [refuse(500, "boom"), reply(200, b"nonsense"), stream(event(delta("ha")), "cut")]
        for step in (*steps, refuse(400, "interrupted"), refuse(400, "closed")):  # also under codes of ours
            with self.subTest(step):
                self.gateway.requests.clear()
                self.answer(saying("one"), step, saying("two"), saying("three"))
                talk = self.talk("--fallback", "none")
                talk.line("first")
                talk.line("second")
                talk.until("[error]")
                talk.line("third")
                talk.line("/retry")
                talk.until("three")
                talk.leave()
                bodies = [[one["content"] for one in body["messages"]] for body in self.bodies()]
                self.assertEqual(bodies[2], ["first", "one", "third"])
                self.assertEqual(bodies[3], ["first", "one", "third"])  # the last message is the third

    def test_retry_after_an_error_sends_the_message_that_failed(self):
        self.answer(refuse(500, "boom"), saying("ok"))
        talk = self.talk("--fallback", "none")
        talk.line("first")
        talk.until("[error]")
        talk.line("/retry")
        talk.until("ok")
        self.assertTrue(talk.leave().startswith("1 turn(s)"))
        self.assertEqual(self.said(), ["first", "first"])

    def test_a_limit_ends_the_turn_and_continue_goes_on(self):
        self.answer(calling("weather"), saying("ok"))
        talk = self.talk("--tool", self.tool(), "--max-steps", "1")
        talk.line("first")
        talk.until("max_steps", "/continue")
        talk.line("/continue")
        talk.until("ok")
        talk.leave()
        self.assertEqual((self.results(), self.ran), (["sunny"], ["weather"]))

    def test_one_that_is_terminated_in_a_turn_ends_also_if_a_command_began_the_turn(self):
        for line in ("first", "/retry"):
            with self.subTest(line):
                self.gateway.requests.clear()
                self.answer(saying("one"), stream("hold"))
                talk = self.talk()
                talk.line("first")
                talk.until("[cost]")
                talk.line(line)
                self.until(lambda: self.asked() == 2)
                time.sleep(0.2)
                talk.process.send_signal(signal.SIGTERM)
                self.assertEqual(talk.wait(), 143, talk.seen)

    def test_a_thread_is_saved_as_each_turn_ends(self):
        path = os.path.join(self.folder, "t.json")
        self.answer(saying("one"), refuse(500, "boom"), stream(event(delta("half")), "hold"))
        talk = self.talk("--thread", path, "--fallback", "none")
        talk.line("first")
        talk.until("[cost]")
        talk.until("> ")
        self.assertEqual([one["content"] for one in self.thread(path)], ["first", "one"])
        talk.type("second\r")
        talk.until("[error]")
        talk.line("third")
        talk.until("half")
        talk.type("\x03")
        talk.until("> ")
        self.assertEqual([one["content"] for one in self.thread(path)], ["first", "one", "third", "half [interrupted]"])
        talk.process.kill()
        talk.wait()
        self.answer(saying("again"))
        talk = self.talk("--thread", path)
        talk.line("fourth")
        talk.until("again")
        talk.leave()
        self.assertEqual(len(self.messages()), 5)

    def test_a_thread_that_cannot_be_saved_any_more_goes_on_elsewhere(self):
        place = os.path.join(self.folder, "place")
        os.mkdir(place)
        talk = self.talk("--thread", os.path.join(place, "t.json"))
        talk.until("> ")
        os.rmdir(place)
        talk.type("first\r")
        talk.until("cannot_write", "kept in ")
        talk.line("second")
        talk.until("echoes: second")
        talk.leave()
        (path,) = self.kept()
        self.assertEqual(len(self.thread(path)), 4)
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)

    def test_a_thread_whose_place_works_again_has_every_turn(self):
        place = os.path.join(self.folder, "place")
        os.mkdir(place)
        path = os.path.join(place, "t.json")
        talk = self.talk("--thread", path)
        talk.until("> ")
        os.rmdir(place)
        talk.type("first\r")
        talk.until("kept in ")
        talk.until("> ")
        self.assertNotIn("/continue", talk.seen)  # the answer is whole
        os.mkdir(place)
        talk.type("second\r")
        talk.until("echoes: second")
        self.assertEqual(talk.leave().split(",")[0], "2 turn(s)")
        self.assertEqual((len(self.thread(path)), self.kept()), (4, []))

    def test_resume_goes_on_at_once(self):
        path = self.file("t.json", [{"role": "user", "content": "from before"}])
        talk = self.talk("--thread", path, "--resume", "-i")
        talk.until("echoes: from before")
        talk.leave()
        with open(path, encoding="utf-8") as file:
            self.assertEqual(len(json.load(file)), 2)

    def test_calls_that_are_handed_back_are_on_stdout(self):
        theirs = self.file("tools.json", [{"type": "function", "function": {"name": "theirs"}}])
        self.answer(calling("theirs"), saying("ok"))
        talk = self.talk("--tools", theirs, "--tool", self.tool())
        talk.line("hi")
        talk.until('"function": {"name": "theirs"')
        talk.leave()

    def test_what_goes_on_with_a_turn_is_no_turn_of_its_own(self):
        self.answer(*(calling("weather") for _ in range(3)), saying("ok"))
        talk = self.talk("--tool", self.tool(), "--max-steps", "1")
        talk.line("first")
        for _ in range(3):
            talk.line("/continue")
        talk.until("ok")
        self.assertEqual(talk.leave().split(",")[0], "1 turn(s)")

    def test_a_turn_of_unknown_cost_ends_no_conversation_with_max_cost(self):
        self.answer(refuse(500, "boom"), saying("fine"))
        talk = self.talk("--max-cost", "1", "--fallback", "none")
        talk.line("first")
        talk.until("[cost] unknown")
        talk.line("second")
        talk.until("fine")
        talk.leave()

    def test_max_cost_counts_all_turns(self):
        path = os.path.join(self.folder, "t.json")
        self.answer(saying("one"), saying("two"))
        talk = self.talk("--max-cost", "0.00003", "--thread", path)
        talk.line("first")
        talk.line("second")
        talk.until("[cost]")
        talk.line("third")
        talk.until("$0.0000376000 of the limit of $0.00003 is spent")
        self.assertNotIn("/continue", talk.seen)
        self.assertEqual(talk.leave().split(",")[0], "2 turn(s)")
        self.assertEqual((self.said(), len(self.thread(path))), (["first", "second"], 4))

    def test_what_is_known_to_have_been_spent_is_told_beside_what_is_not(self):
        self.answer(calling("weather"), refuse(500, "boom"), saying("ok"))
        talk = self.talk("--tool", self.tool(), "--fallback", "none")
        talk.line("first")
        talk.until("[cost] unknown")
        talk.line("second")
        last = talk.leave()
        self.assertEqual(last, "2 turn(s), 62 tokens, $0.0000376000 (gateway), 1 of unknown cost")


class Commands(TerminalCase):
    def test_help_names_every_command(self):
        talk = self.talk()
        talk.line("/help")
        talk.leave()
        names = "help model system attach tools save cost clear undo retry continue exit".split()
        for name in names[1:]:
            self.assertIn(f"/{name}", talk.plain())
            self.assertNotIn(f"unknown command /{name}", talk.plain())
        self.assertEqual(self.gateway.requests, [])

    def test_an_unknown_one_is_told_and_not_sent_and_two_slashes_send_one(self):
        talk = self.talk()
        for line in ("/nonsense x", "/etc/passwd", "/", "/Model", "/_do_help"):
            talk.line(line)
            talk.until("unknown command")
        talk.line("//usr/bin is what?")
        talk.until("[cost]")
        talk.leave()
        self.assertEqual(self.said(), ["/usr/bin is what?"])

    def test_model_and_system(self):
        path = os.path.join(self.folder, "t.json")
        talk = self.talk("-s", "old", "--thread", path)
        talk.line("one")
        talk.line("/model gpt-5.4-nano")
        talk.line("/system new rules")
        talk.line("two")
        talk.line("/system")
        talk.line("/model")
        talk.until("the model is gpt-5.4-nano")
        talk.line("three")
        talk.until("[cost]")
        talk.leave()
        self.assertEqual([body["model"] for body in self.bodies()], ["gpt-5.4-mini", "gpt-5.4-nano", "gpt-5.4-nano"])
        first = [body["messages"][0] for body in self.bodies()]
        self.assertEqual(
            first,
            [
                {"role": "system", "content": "old"},
                {"role": "system", "content": "new rules"},
                {"role": "user", "content": "one"},
            ],
        )
        with open(path, encoding="utf-8") as file:
            self.assertEqual(json.load(file)["model"], "gpt-5.4-mini")  # of its beginning

    def test_attach_goes_with_the_next_message_alone(self):
        self.file("a.png", b"\x89PNG\r\n\x1a\n")
        talk = self.talk()
        talk.line("/attach ~/a.png")  # the home directory is the test's
        talk.line("/attach https://example.com/b.png")
        talk.line("/attach ~/missing.png")
        talk.until("cannot read")
        talk.line("look")
        talk.line("and now?")
        talk.leave()
        said = self.said()
        self.assertEqual([part["type"] for part in said[0]], ["text", "image_url", "image_url"])
        self.assertEqual(said[1], "and now?")

    def test_tools_lists_them(self):
        function = {"name": "theirs", "description": "what they do"}
        tools = self.file("tools.json", [{"type": "function", "function": function}, {"type": "web_search"}])
        talk = self.talk("--tool", self.tool(), "--tools", tools)
        talk.line("/tools")
        talk.until("weather: the weather of a city", "theirs: what they do", "(web_search): ")
        talk.leave()

    def test_save_writes_a_conversation_that_thread_takes_and_overwrites_nothing(self):
        path = os.path.join(self.folder, "saved.json")
        talk = self.talk()
        talk.line("one")
        talk.line("/save ~/saved.json")
        talk.until("saved")
        talk.line("/save ~/saved.json")
        talk.until("already exists")
        talk.line("/save")
        talk.line("/save /no/such/folder/x")
        talk.until("cannot write")
        talk.leave()
        self.assertEqual(len(self.thread(path)), 2)
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
        self.assertQuietly(0, self.chat("--thread", path, "two"))
        self.assertEqual(len(self.messages()), 3)

    def test_cost_says_what_is_unknown(self):
        self.answer(saying("a"), saying("b", cost=None))
        talk = self.talk()
        talk.line("one")
        talk.line("two")
        talk.until("[cost] unknown")
        talk.line("/cost")
        talk.until("2 turn(s), 62 tokens, $0.0000188000 (gateway), 1 of unknown cost")
        talk.leave()

    def test_clear_and_undo(self):
        talk = self.talk("-s", "rules")
        for line in ("one", "two", "/undo", "three", "/clear", "four", "/undo", "/undo"):
            talk.line(line)
        talk.until("there is no turn")
        talk.leave()
        sent = [[one["content"] for one in body["messages"] if one["role"] != "assistant"] for body in self.bodies()]
        self.assertEqual(
            sent, [["rules", "one"], ["rules", "one", "two"], ["rules", "one", "three"], ["rules", "four"]]
        )

    def test_retry_asks_anew_instead_of_the_last_turn(self):
        talk = self.talk()
        talk.line("/retry")
        talk.until("no message")
        talk.line("/continue")
        talk.until("nothing to go on")
        talk.line("one")
        talk.line("/retry")
        talk.until("[cost]")
        talk.leave()
        self.assertEqual([len(body["messages"]) for body in self.bodies()], [1, 1])


class Questions(TerminalCase):
    """Consent, where somebody can be asked."""

    def asked_about(self, *argv, answers=("y",), piped=("stdin", "stdout"), steps=None, before_question="", **options):
        """The process of a run with a server, in which questions are answered."""
        self.answer(*(steps or (calling(*["clock__now"] * len(answers)), saying("done"))))
        pty = self.talk("--mcp", self.server(), *argv, "x", piped=piped, **options)
        if "stdin" in piped:
            pty.type(before_question)
            pty.process.stdin.close()
        for answer in answers:
            pty.until("run clock__now ", '{"city": "Bern"}? ')
            pty.type(answer)
        status = pty.wait()
        self.assertEqual(status, 0, pty.seen)
        self.assertNotIn("[warning]", pty.seen)
        return pty

    def test_y_runs_it_once_and_stdin_and_stdout_may_be_pipes(self):
        for word in ("y\n", "YES\n", " y \n"):
            pty = self.asked_about(answers=(word, "n\n"))
            self.assertEqual(pty.process.stdout.read(), b"done\n")
            self.assertEqual(self.results()[0], "noon")
            self.assertIn("the user does not allow", self.results()[1])
        self.assertEqual(self.ran, ["clock"] * 3)

    def test_a_allows_it_from_here_on(self):
        self.answer(calling("clock__now", "clock__now"), calling("clock__now", "clock__zone"), saying("done"))
        pty = self.talk("--mcp", self.server(), "x")
        pty.until("run clock__now ")
        pty.type("a\n")
        pty.until("run clock__zone ")
        pty.type("n\n")
        self.assertEqual(pty.wait(), 0, pty.seen)
        self.assertEqual(pty.plain().count("run clock__"), 2)
        self.assertEqual(self.ran, ["clock"] * 3)

    def test_n_or_words_are_told_to_the_model_and_the_run_goes_on(self):
        for word, told in (("n\n", "the user does not allow"), ("\n", "the user does not allow"), ("NO\n", "allow")):
            self.asked_about(answers=(word,))
            self.assertIn(told, self.results()[0])
        self.asked_about(answers=("only in UTC, please\n",))
        self.assertIn("only in UTC, please", self.results()[0])
        self.assertEqual(self.ran, [])

    def test_what_was_typed_before_the_question_is_thrown_away(self):
        slow = stream(0.4, event(delta(tool_calls=[wanted("clock__now")])), event(delta(finish="tool_calls")), DONE)
        pty = self.asked_about(answers=("n\n",), before_question="y\ny\n", steps=(slow, saying("done")))
        self.assertEqual((self.ran, pty.process.returncode), ([], 0))

    def test_ctrl_d_is_a_no(self):
        self.asked_about(answers=("\x04",))
        self.assertIn("the user does not allow", self.results()[0])

    def test_ctrl_c_at_the_question_ends_the_run_and_the_call_has_not_run(self):
        self.answer(calling("clock__now"), saying("never"))
        pty = self.talk("--mcp", self.server(), "x")
        pty.until("run clock__now ")
        pty.type("\x03")
        self.assertEqual(pty.wait(), 130)
        self.assertEqual(self.thread(self.kept()[0])[-1]["content"], "[not run]")
        self.assertIn("--resume", pty.plain().rstrip().split("\n")[-1])
        self.assertGone(self.exists("clock.pid"))

    def test_max_wait_ends_a_question(self):
        self.answer(calling("clock__now"), saying("never"))
        pty = self.talk("--mcp", self.server(), "--max-wait", "1", "x")
        pty.until("run clock__now ")
        self.assertEqual(pty.wait(), 8, pty.seen)
        self.assertEqual(self.thread(self.kept()[0])[-1]["content"], "[not run]")

    def test_the_question_is_inert_and_shows_all_arguments(self):
        arguments = {"a": "\x1b[2J\nrun it? y\u202e", "b": "\ud800", "long": "x" * 3000 + "!"}
        self.answer(calling(wanted("clock__now", json.dumps(arguments))), saying("done"))
        pty = self.talk("--mcp", self.server(), "x")
        pty.until("run clock__now ")
        pty.until("? (y once")
        pty.type("n\n")
        self.assertEqual(pty.wait(), 0, pty.seen)
        for bad in ("\x1b[2J", "\u202e", "\nrun it? y"):
            self.assertNotIn(bad, pty.seen)
        self.assertIn("x!", pty.seen.replace("\r\n", ""))

    def test_allow_asks_nothing_and_approve_asks_about_what_was_named(self):
        self.answer(calling("clock__now", "weather"), saying("done"))
        pty = self.talk("--mcp", self.server(), "--tool", self.tool(), "--allow", "clock__*", "--approve", "x")
        pty.until("run weather ")
        pty.type("y\n")
        self.assertEqual(pty.wait(), 0, pty.seen)
        self.assertEqual((self.ran, pty.plain().count("run ")), (["clock", "weather"], 1))

    def test_what_is_named_asks_nothing(self):
        self.answer(calling("weather"), saying("done"))
        pty = self.talk("--tool", self.tool(), "x")
        self.assertEqual(pty.wait(), 0, pty.seen)
        self.assertNotIn("run weather", pty.plain())

    def test_with_stderr_in_a_pipe_nobody_is_asked(self):
        self.answer(calling("clock__now"), saying("done"))
        process = self.execute("chat", "--mcp", self.server(), "x")
        self.assertQuietly(1, process)
        self.assertIn("[warning] nobody can be asked", process.err)
        self.assertEqual(self.ran, [])

    def test_in_a_conversation_too(self):
        self.answer(calling("clock__now"), saying("done"), calling("clock__now"), saying("done again"))
        talk = self.talk("--mcp", self.server())
        talk.line("one")
        talk.until("run clock__now ")
        talk.type("a\r")
        talk.until("done")
        talk.line("two")
        talk.until("done again")
        talk.leave()
        self.assertEqual(self.ran, ["clock", "clock"])
        self.assertGone(self.exists("clock.pid"))

    def test_a_tool_has_no_terminal_to_ask_on(self):
        self.answer(calling("weather"), saying("done"))
        body = "if (exec </dev/tty) 2>/dev/null; then read -r x </dev/tty; else echo no terminal; fi"
        pty = self.talk("--tool", self.tool("weather", body), "x")
        self.assertEqual(pty.wait(), 0, pty.seen)
        self.assertEqual(self.results(), ["no terminal"])


if __name__ == "__main__":
    unittest.main()
