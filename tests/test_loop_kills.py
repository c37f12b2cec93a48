"""What is left where a run of the tool loop is killed, arrow by arrow (agent/loop.py tells the order): always a
conversation that servers take, which goes on, and in which nothing runs twice."""

import os
import signal
import time
import unittest

from .gateway import DONE, delta, event, stream
from .harness import PATIENCE
from .loop_support import LoopCase, calling, saying, wanted
from .test_kills import DYING

SAVE = ("alltoken_call.store.thread", "Thread.save")
ASK = ("alltoken_call.calls.client", "Client.complete")
RUN = ("alltoken_call.agent.tools", "Program.call")
RECORD = ("alltoken_call.calls.client", "Client.record")
INTERRUPTED = "[interrupted: may have taken effect]"
# where, which call of it, the moment; the results in the thread (None: there is none), and how often the tool ran
ARROWS = [
    (ASK, 1, "before", None, 0),
    (ASK, 1, "after", None, 0),
    (SAVE, 1, "before", None, 0),
    (SAVE, 1, "after", ["[not run]", "[not run]"], 0),
    (RECORD, 1, "before", ["[not run]", "[not run]"], 0),
    (RECORD, 1, "after", ["[not run]", "[not run]"], 0),
    (SAVE, 2, "before", ["[not run]", "[not run]"], 0),
    (SAVE, 2, "after", [INTERRUPTED, "[not run]"], 0),
    (RUN, 1, "before", [INTERRUPTED, "[not run]"], 0),
    (RUN, 1, "after", [INTERRUPTED, "[not run]"], 1),
    (SAVE, 3, "before", [INTERRUPTED, "[not run]"], 1),
    (SAVE, 3, "after", ["sunny", "[not run]"], 1),
    (RUN, 2, "before", ["sunny", INTERRUPTED], 1),
    (RUN, 2, "after", ["sunny", INTERRUPTED], 2),
    (SAVE, 5, "after", ["sunny", "sunny"], 2),
    (ASK, 2, "before", ["sunny", "sunny"], 2),
    (ASK, 2, "after", ["sunny", "sunny"], 2),
    (SAVE, 6, "before", ["sunny", "sunny"], 2),
]


class Kills(LoopCase):
    def setUp(self):
        super().setUp()
        self.path = os.path.join(self.folder, "t.json")

    def die(self, where, number, moment, *argv, signum=signal.SIGKILL):
        """The result of a run that gets a signal before or after a call of a function."""
        return self.execute(*where, moment, str(number), str(int(signum)), *argv, code=DYING)

    def fresh(self):
        for path in (self.path, os.path.join(self.folder, "ran"), *self.kept()):
            if os.path.exists(path):
                os.remove(path)
        self.gateway.requests.clear()

    def as_a_model(self):
        """Answer as a model would: what was not run is called for again, then there is an answer."""

        def step(exchange):
            results = [one["content"] for one in exchange.json["messages"] if one["role"] == "tool"]
            again = [
                wanted("weather", "{}", f"again_{len(results)}_{number}")
                for number in range(results.count("[not run]"))
            ]
            last = exchange.json["messages"][-1]["role"]
            (calling(*again) if again and last == "tool" and len(results) == 2 else saying("ok"))(exchange)

        self.answer(step)

    def test_killed_at_every_arrow_the_thread_is_valid_and_goes_on_and_nothing_runs_twice(self):
        for where, number, moment, results, ran in ARROWS:
            with self.subTest(where, number=number, moment=moment):
                self.fresh()
                self.answer(calling("weather", "weather", text="Let me see."), saying("ok"))
                died = self.die(where, number, moment, "chat", "--thread", self.path, "--tool", self.tool(), "x")
                self.assertEqual((died.status, len(self.ran)), (-signal.SIGKILL, ran), died.err)
                if results is None:
                    self.assertFalse(os.path.exists(self.path))
                    self.answer(calling("weather", "weather"), saying("ok"))
                    words = ["x"]
                else:
                    messages = self.thread(self.path)
                    self.assertEqual([one["content"] for one in messages], ["x", "Let me see.", *results])
                    self.as_a_model()
                    words = ["--resume"]
                resumed = self.chat("--thread", self.path, "--tool", self.tool(), *words)
                self.assertEqual((resumed.status, resumed.out), (0, b"ok\n"), resumed.err)
                self.assertEqual(
                    len(self.ran), 2 - (results or []).count(INTERRUPTED) + (ran - (results or []).count("sunny"))
                )
                self.assertEqual(self.thread(self.path)[-1], {"role": "assistant", "content": "ok"})
                if results is not None:
                    self.assertEqual(self.bodies()[-1]["messages"][: len(messages)], messages)

    def test_killed_behind_the_last_answer_the_thread_has_it(self):
        self.answer(calling("weather"), saying("ok"))
        for argv, path in ((["--thread", self.path], lambda: self.path), ([], lambda: self.kept()[0])):
            self.fresh()
            self.answer(calling("weather"), saying("the answer"))
            self.die(SAVE, 4, "after", "chat", *argv, "--tool", self.tool(), "x")
            self.assertEqual(self.thread(path())[-1]["content"], "the answer")

    def test_killed_while_a_tool_runs(self):
        body = f"echo $$ >'{self.folder}/pid'; sleep 0.3; echo late"
        self.answer(calling("weather", "weather"), saying("ok"))
        argv = ["--tool", self.tool("weather", body)]
        process = self.spawn("chat", "--thread", self.path, *argv, "x")
        self.exists("pid")
        process.kill()
        process.communicate(timeout=PATIENCE)
        self.assertEqual([one["content"] for one in self.thread(self.path)[2:]], [INTERRUPTED, "[not run]"])
        resumed = self.chat("--thread", self.path, *argv, "--resume")
        self.assertEqual((resumed.status, resumed.out, self.ran), (0, b"ok\n", ["weather"]), resumed.err)

    def test_killed_while_an_answer_arrives(self):
        calls = event(delta(tool_calls=[wanted("weather", "{}", "call_9")]))
        for step in (stream("hold"), stream(event(delta("half")), "hold"), stream(event(delta("half")), calls, "hold")):
            for whole in (0, 1):
                with self.subTest(whole):
                    self.fresh()
                    self.answer(*[calling("weather")] * whole, step)
                    process = self.spawn("chat", "--thread", self.path, "--tool", self.tool(), "x")
                    self.until(lambda count=whole + 1: self.asked() == count)
                    time.sleep(0.1)
                    process.kill()
                    process.communicate(timeout=PATIENCE)
                    self.assertEqual(os.path.exists(self.path), bool(whole))
                    self.answer(saying("ok"))
                    if whole:
                        self.assertEqual(len(self.thread(self.path)), 3)
                        resumed = self.chat("--thread", self.path, "--tool", self.tool(), "--resume")
                        self.assertEqual((resumed.status, resumed.out), (0, b"ok\n"), resumed.err)
                    self.assertEqual(len(self.ran), whole)

    def test_a_signal_while_the_thread_is_being_saved_waits_for_it(self):
        for moment in ("before", "after"):
            for number, results in ((1, ["[not run]"]), (3, ["sunny"])):
                with self.subTest(moment, number=number):
                    self.fresh()
                    self.answer(calling("weather"), saying("never"))
                    argv = ["chat", "--thread", self.path, "--tool", self.tool(), "x"]
                    died = self.die(SAVE, number, moment, *argv, signum=signal.SIGINT)
                    self.assertEqual(died.status, 130, died.err)
                    self.assertEqual([one["content"] for one in self.thread(self.path)[2:]], results)
                    self.answer(saying("ok"))
                    self.assertEqual(self.call(*self.resume_words(died)).out, b"ok\n")

    def test_a_kept_conversation_is_there_after_a_kill_too(self):
        self.answer(calling("weather"), saying("ok"))
        self.die(RUN, 1, "after", "chat", "--tool", self.tool(), "x")
        (path,) = self.kept()
        self.assertEqual(self.thread(path)[-1]["content"], INTERRUPTED)
        resumed = self.chat("--thread", path, "--tool", self.tool(), "--resume")
        self.assertEqual(
            (resumed.status, resumed.out, self.ran, self.kept()), (0, b"ok\n", ["weather"], []), resumed.err
        )

    def test_a_run_that_was_killed_holds_nobody_up(self):
        self.answer(calling("weather"), saying("ok"))
        self.die(RUN, 1, "before", "chat", "--thread", self.path, "--tool", self.tool(), "x")
        begun = time.monotonic()
        self.assertQuietly(0, self.chat("--thread", self.path, "--tool", self.tool(), "--resume"))
        self.assertLess(time.monotonic() - begun, 2)

    def test_a_run_of_two_calls_saves_six_times(self):
        """The steps above count saves: this is what they count."""
        self.answer(calling("weather", "weather"), stream(event(delta("ok")), event(delta(finish="stop")), DONE))
        count = "import sys\n" + DYING.replace("os.kill(os.getpid(), int(signum))", "print(-calls)").replace(
            "    global calls\n", "    global calls\n    print('save', file=sys.stderr)\n"
        )
        run = self.execute(
            *SAVE, "never", "1", "9", "chat", "--thread", self.path, "--tool", self.tool(), "x", code=count
        )
        self.assertEqual(run.err.count("save\n"), 6, run.err)


if __name__ == "__main__":
    unittest.main()
