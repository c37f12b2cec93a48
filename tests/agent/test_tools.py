"""agent/tools.py through the CLI: how executables declare themselves, what a call of one gets, and what comes of it."""

import json
import os
import re
import shlex
import sys
import unittest

from alltoken_call.agent.tools import shortened

from ..harness import KEY, PACKAGE, PYTHON, ROOT
from ..loop_support import DECLARATION, LoopCase, calling, saying, wanted

DECLARED = json.dumps(DECLARATION)


class Declarations(LoopCase):
    def definition(self, path, *argv):
        """What a model would be told of a tool."""
        body = self.body("--tool", path, *argv, "x")
        (tool,) = body["tools"]
        self.assertEqual((tool["type"], {*tool["function"]}), ("function", {"name", "description", "parameters"}))
        return tool["function"]

    def refused(self, path, *words):
        """A tool that is refused with status 2 before anything is sent, for a reason that has these words."""
        run = self.chat("--tool", path, "x")
        self.assertQuietly(2, run)
        self.assertEqual((self.gateway.requests, self.ran), ([], []))
        for word in (os.path.basename(path), *words):
            self.assertIn(word, run.err)
        return run

    def test_any_comment_sign_will_do(self):
        for line in (
            f"# tool: {DECLARED}",
            f"#tool:{DECLARED}",
            f"// tool: {DECLARED}",
            f"  -- tool: {DECLARED}",
            f";; tool: {DECLARED}",
            f"% tool: {DECLARED}",
            f'" tool: {DECLARED}',
            f" * tool: {DECLARED}",
            f"/* tool: {DECLARED} */",
            f"<!-- tool: {DECLARED} -->",
            f"REM tool: {DECLARED}\r",
            f"dnl tool: {DECLARED}",
            f"tool: {DECLARED}",
            f"# tool: {DECLARED}\ndef run(\n    tool: str = 'x',\n\ttool: 'hammer',\n",  # code is no comment
        ):
            with self.subTest(line):
                path = self.script("weather", f"echo ran >'{self.folder}/ran'\n{line}\nexit 0")
                found = self.definition(path)
                self.assertEqual((found["name"], found["description"]), ("weather", "the weather of a city"))
                self.assertEqual(found["parameters"]["properties"], {"city": {"type": "string"}})
        self.assertEqual(self.ran, [])  # it is read and never run for it

    def test_several_lines_are_one_declaration(self):
        lines = ['{"description": "two lines",', '  "parameters": {"type": "object",', '  "properties": {}}}']
        path = self.script("weather", "\n".join(f"# tool: {line}\n# another comment" for line in lines))
        self.assertEqual(self.definition(path)["description"], "two lines")

    def test_the_name_is_the_declared_one_or_else_the_files_stem(self):
        self.assertEqual(self.definition(self.tool("weather.sh"))["name"], "weather")
        self.assertEqual(self.definition(self.tool("x", declaration=DECLARATION | {"name": "y-2_Z"}))["name"], "y-2_Z")
        self.refused(self.tool("two.dots.sh"), "two.dots")
        self.refused(self.tool("bad", declaration=DECLARATION | {"name": "no spaces"}), "no spaces")
        self.refused(self.tool("long", declaration=DECLARATION | {"name": "n" * 65}))

    def test_a_schema_always_has_type_and_properties(self):
        for given in ({}, {"properties": {}}, {"type": "object"}):
            path = self.tool("it", declaration={"description": "d", "parameters": given})
            self.assertEqual(self.definition(path)["parameters"], {"type": "object", "properties": {}})
        path = self.tool("it", declaration={"description": "d"})
        self.assertEqual(self.definition(path)["parameters"], {"type": "object", "properties": {}})

    def test_one_without_a_declaration_is_refused_with_lines_to_paste_that_work(self):
        run = self.refused(self.script("it", f"echo ran >'{self.folder}/ran'"))
        lines = [line for line in run.err.split("\n") if line.startswith("# tool:")]
        path = self.script("it", "\n".join(lines))
        self.assertEqual(self.definition(path)["parameters"]["required"], ["city"])

    def test_a_declaration_behind_the_first_64_kib_does_not_count(self):
        self.assertTrue(self.definition(self.script("it", "#" * 60_000 + f"\n# tool: {DECLARED}")))
        self.refused(self.script("it", "#" * 66_000 + f"\n# tool: {DECLARED}"))

    def test_a_declaration_that_is_no_such_json_is_refused(self):
        for text in (
            "not json",
            "[]",
            '"x"',
            '{"description": "d"',
            '{"parameters": {}}',
            '{"description": 3}',
            '{"description": "d", "parameters": []}',
            '{"description": "d", "parameters": {"type": "string"}}',
            '{"description": "d", "name": 3}',
        ):
            with self.subTest(text):
                self.refused(self.script("it", f"# tool: {text}"))

    def test_what_is_no_executable_file_is_refused_and_not_waited_for(self):
        os.mkfifo(os.path.join(self.folder, "fifo"))
        os.mkdir(os.path.join(self.folder, "folder"))
        self.refused(os.path.join(self.folder, "missing"))
        self.refused(os.path.join(self.folder, "fifo"))
        self.refused(os.path.join(self.folder, "folder"))
        self.refused(self.script("plain", f"# tool: {DECLARED}", mode=0o644), "chmod")

    def test_two_tools_of_one_name_are_refused(self):
        os.mkdir(os.path.join(self.folder, "other"))
        run = self.chat("--tool", self.tool(), "--tool", self.tool("other/weather"), "x")
        self.assertQuietly(2, run)
        tools = self.file("tools.json", [{"type": "function", "function": {"name": "weather"}}])
        self.assertQuietly(2, self.chat("--tool", self.tool(), "--tools", tools, "x"))
        self.assertEqual(self.gateway.requests, [])

    def test_a_relative_path_without_a_slash_is_a_file_here_and_not_one_of_the_path(self):
        self.tool("true", "echo mine")
        process = self.execute("chat", "--tool", "true", "--dry-run", "x", cwd=self.folder)
        self.assertEqual(process.document["body"]["tools"][0]["function"]["name"], "true")


class Files(LoopCase):
    """--tools with commands."""

    def tools(self, *items):
        return self.file("tools.json", list(items))

    def item(self, name, *command, **more):
        function = {"name": name, "description": "d", "parameters": {"type": "object", "properties": {}}}
        return {"type": "function", "function": function} | ({"command": list(command)} if command else {}) | more

    def test_an_element_with_a_command_is_run_relative_to_the_file(self):
        self.script("x", 'echo "$1 $(cat)"')
        os.mkdir(os.path.join(self.folder, "elsewhere"))
        path = self.tools(self.item("here", "./x", "one two"), self.item("path", "sh", "-c", "echo from the path"))
        self.answer(calling(wanted("here", '{"a": 1}'), wanted("path", "{}", "call_2")), saying("ok"))
        run = self.execute("chat", "--tools", path, "x", cwd=os.path.join(self.folder, "elsewhere"))
        self.assertEqual((run.status, run.out), (0, b"ok\n"), run.err)
        self.assertEqual(self.results(), ['one two {"a": 1}', "from the path"])
        self.assertEqual(self.bodies()[0]["tools"], [self.item("here"), self.item("path")])  # no command goes out

    def test_without_a_command_calls_are_handed_back_as_before(self):
        path = self.tools(self.item("theirs"))
        self.answer(calling(wanted("theirs", "{}")))
        run = self.chat("--tools", path, "x")
        self.assertEqual(run.status, 0, run.err)
        self.assertEqual(json.loads(run.out)["function"]["name"], "theirs")
        self.assertEqual(self.kept(), [])

    def test_the_file_may_be_a_pipe(self):
        self.script("x", "echo mine")
        for command in ((), (os.path.join(self.folder, "x"),)):
            stream, writer = self.pipe(json.dumps([self.item("it", *command)]).encode())
            os.close(writer)
            self.answer(calling("it"), saying("ok"))
            run = self.chat("--tools", f"/dev/fd/{stream.fileno()}", "x")
            self.assertQuietly(0, run)
            self.assertEqual(self.bodies()[-1]["tools"], [self.item("it")])

    def test_of_both_kinds_ours_are_run_and_the_others_handed_back(self):
        self.script("x", "echo mine")
        path = self.tools(self.item("ours", "./x"), self.item("theirs"))
        thread = os.path.join(self.folder, "t.json")
        both = calling(wanted("theirs", '{"b": 2}', "call_t"), wanted("ours", "{}", "call_o"), text="both")
        self.answer(both)
        run = self.chat("--tools", path, "--thread", thread, "x")
        self.assertQuietly(0, run)
        self.assertEqual(self.asked(), 1)
        (line,) = [line for line in run.out.decode().split("\n") if line.startswith("{")]
        self.assertEqual(json.loads(line)["id"], "call_t")
        messages = self.thread(thread)
        self.assertEqual([one["content"] for one in messages[2:]], ["[not run]", "mine"])
        messages[2]["content"] = "theirs"  # as its caller would
        self.file("t.json", {"messages": messages})
        self.answer(saying("done"))
        resumed = self.call(*self.resume_words(run))
        self.assertEqual((resumed.status, resumed.out), (0, b"done\n"), resumed.err)
        self.assertEqual(self.results(), ["theirs", "mine"])
        document = self.document(path, both)
        self.assertEqual([one["id"] for one in document["tool_calls"]], ["call_t"])
        self.assertEqual([one["id"] for one in document["steps"][0]["calls"]], ["call_o"])

    def document(self, path, step):
        self.answer(step)
        return self.chat("--tools", path, "--json", "x").document

    def test_what_was_handed_back_without_a_thread_is_kept(self):
        self.script("x", "echo mine")
        path = self.tools(self.item("ours", "./x"), self.item("theirs"))
        self.answer(calling(wanted("theirs", "{}")))
        run = self.chat("--tools", path, "x")
        self.assertQuietly(0, run)
        self.assertIn(self.kept()[0], self.resume_words(run))

    def test_what_cannot_be_run_is_refused_before_anything_is_sent(self):
        plain = os.path.basename(self.script("plain", "", mode=0o644))
        for item in (
            self.item("a", "./missing"),
            self.item("a", "no-such-command-anywhere"),
            self.item("a", f"./{plain}"),
            self.item("a", command="./x"),
            self.item("a", command=[]),
            self.item("a", command=[1]),
            self.item("a b", "true"),
            {"command": ["true"]},
            {"command": ["true"], "function": {"name": 3}},
            {"command": ["true"], "function": {"name": "a", "parameters": []}},
            {"command": None, "function": {"name": "a"}},
        ):
            with self.subTest(item):
                run = self.chat("--tools", self.tools(item), "x")
                self.assertQuietly(2, run)
        self.assertEqual(self.gateway.requests, [])


class Calls(LoopCase):
    def test_the_arguments_come_as_one_json_object_on_stdin(self):
        told = self.result_of("cat", arguments='{"city": "Zürich",\n "n": [1, 2.5, null]}')
        self.assertEqual(json.loads(told), {"city": "Zürich", "n": [1, 2.5, None]})

    def test_what_it_prints_is_the_result_without_line_breaks_at_its_end(self):
        self.assertEqual(self.result_of("printf '\\n a \\n b\\n\\r\\n\\n'"), "\n a \n b")
        self.assertEqual(self.result_of("true"), "")
        self.assertEqual(self.result_of("printf 'a\\377b'"), "a\ufffdb")

    def test_another_exit_status_is_told_with_the_end_of_stderr_and_stdout(self):
        told = self.result_of("echo out; echo why >&2; exit 3")
        self.assertEqual(told, "error: exit status 3\nwhy\nout")
        self.assertIn("error: exit status", self.result_of("kill -9 $$"))

    def test_what_cannot_be_run_is_a_result(self):
        path = self.file("odd", f"#!/no/such/interpreter\n# tool: {DECLARED}\n")
        os.chmod(path, 0o755)
        self.answer(calling("odd"), saying("ok"))
        self.assertQuietly(0, self.chat("--tool", path, "x"))
        self.assertTrue(self.results()[0].startswith("error: cannot run"), self.results())

    def test_stderr_of_one_that_went_well_is_shown_with_v_alone(self):
        body = "echo a word aside >&2; echo fine"
        for argv, shown in (((), False), (("-v",), True)):
            self.answer(calling("it"), saying("ok"))
            run = self.chat("--tool", self.tool("it", body), *argv, "x")
            self.assertEqual("a word aside" in run.err, shown, run.err)
            self.assertEqual(self.results(), ["fine"])

    def test_the_time_out_ends_the_whole_group_and_says_that_it_may_have_taken_effect(self):
        body = f"sleep 60 & echo $! >'{self.folder}/child'; echo begun; echo note >&2; wait"
        told = self.result_of(body, "--tool-timeout", "0.3")
        self.assertIn("ended after 0.3 s; it may have taken effect", told)
        self.assertTrue("begun" in told and "note" in told, told)
        self.assertGone(self.exists("child"))

    def test_one_that_ignores_term_is_killed(self):
        body = f"trap '' TERM; echo $$ >'{self.folder}/pid'; while :; do sleep 1; done"
        self.assertIn("may have taken effect", self.result_of(body, "--tool-timeout", "0.2"))
        self.assertGone(self.exists("pid"))

    def test_what_it_leaves_behind_is_ended_with_it(self):
        told = self.result_of(f"sleep 60 & echo $! >'{self.folder}/child'; echo done")
        self.assertEqual(told, "done")
        self.assertGone(self.exists("child"))

    def test_long_results_keep_head_and_tail_and_say_how_much_is_missing(self):
        text = "".join(f"{number:05}" for number in range(300))  # 1,500 characters
        told = self.result_of(f"printf {text}", "--tool-output", "300")
        self.assertEqual(told, f"{text[:200]}\n[… 1200 bytes left out …]\n{text[-100:]}")
        self.assertEqual(self.result_of(f"printf {text}", "--tool-output", "1500"), text)

    def test_a_failure_with_much_to_say_is_as_short_and_counts_right(self):
        text = "x" * 5000
        told = self.result_of(f"printf %s {text}; echo why >&2; exit 4", "--tool-output", "300")
        head, _, rest = told.partition("\n[… ")
        left_out, _, tail = rest.partition(" bytes left out …]\n")
        self.assertTrue(head.startswith("error: exit status 4\nwhy\nx"), told)
        self.assertEqual(head.count("x") - 1 + tail.count("x") + int(left_out), 5000)  # one is of "exit"
        self.assertLess(len(told), 340)
        self.assertEqual(told.count("left out"), 1)

    def test_30_000_characters_are_the_default(self):
        self.assertEqual(len(self.result_of("head -c 30000 /dev/zero | tr '\\0' x")), 30_000)
        self.assertIn("[… 1 bytes left out …]", self.result_of("head -c 30001 /dev/zero | tr '\\0' x"))

    def test_it_runs_here_without_a_terminal_and_in_a_group_of_its_own(self):
        self.answer(calling("it"), saying("ok"))
        body = "pwd; ps -o tty= -p $$ | tr -d ' '; test $(ps -o pgid= -p $$) = $$ && echo own"
        process = self.execute("chat", "--tool", self.tool("it", body), "x", cwd=self.folder)
        self.assertEqual(process.status, 0, process.err)
        self.assertEqual(self.results()[0].split("\n"), [os.path.realpath(self.folder), "?", "own"])

    def test_no_key_of_any_gateway_is_in_its_environment_nor_in_that_of_its_parent(self):
        body = 'env; echo; echo "$MINE $ALLTOKEN_API_KEY_FILE"; tr "\\0" "\\n" </proc/$PPID/environ; true'
        self.answer(calling("it"), saying("ok"))
        more = {
            "ALLTOKEN_OTHER_API_KEY": "sk-of-another-gateway",
            "MY_COPY": f"Bearer {KEY}",
            "ALLTOKEN_SHORT_API_KEY": "abc",
            "MINE": "stays",
            "ALLTOKEN_API_KEY_FILE": "/a/file",
        }
        process = self.execute("chat", "--tool", self.tool("it", body), "x", environ=more)
        self.assertEqual(process.status, 0, process.err)
        told = self.results()[0]
        self.assertNotIn("another-gateway", told)
        self.assertNotIn(KEY, told)
        self.assertNotIn("[key]", told)  # it was not there to be redacted
        self.assertNotIn("SHORT_API_KEY", told)
        self.assertIn("stays /a/file", told)

    def test_a_key_from_a_file_is_in_no_environment_either(self):
        path = self.file("key", "key-from-a-file\n")
        self.answer(calling("it"), saying("ok"))
        more = {"ALLTOKEN_API_KEY": "", "ALLTOKEN_API_KEY_FILE": path, "COPY": "x key-from-a-file"}
        process = self.execute("chat", "--tool", self.tool("it", f"env; cat {path}"), "x", environ=more)
        self.assertEqual(process.status, 0, process.err)
        self.assertIn("[key]", self.results()[0])  # it can read the file; the model and we do not see it
        self.assertNotIn("key-from-a-file", str(self.bodies()) + process.err)
        self.assertNotIn("COPY", self.results()[0])

    def test_the_key_is_redacted_from_results_also_before_they_are_shortened(self):
        self.answer(calling("it"), saying("ok"))
        run = self.chat("--tool", self.tool("it", f"echo 'it is {KEY}.'"), "--json", "x")
        self.assertEqual(self.results(), ["it is [key]."])
        self.assertNotIn(KEY.encode(), run.out)

    def test_a_cut_leaves_no_part_of_the_key(self):
        part = KEY[: len(KEY) - 2]
        for at in (18, 19, 20, 21):  # 20 of 30 characters are kept of the beginning
            told = self.result_of(
                f"printf '%{at - len(part)}s' ''; echo '{KEY} and then some more of it'", "--tool-output", "30"
            )
            self.assertNotIn(part, told)
            self.assertIn("bytes left out", told)
        for status in (0, 3):
            body = f"{{ printf '{KEY} '; printf '%1998s' end; }} >&2; exit {status}"
            self.answer(calling("it"), saying("ok"))
            run = self.chat("--tool", self.tool("it", body), "-v", "x")
            self.assertIn("  end", run.err + self.results()[0])
            self.assertNotIn(KEY[2:], run.err + self.results()[0])

    def test_lone_surrogates_and_nul_in_arguments_do_no_harm(self):
        told = self.result_of("cat", arguments='{"a": "\\ud800 \\u0000"}')
        self.assertEqual(json.loads(told), {"a": "\ud800 \0"})


class Recipe(LoopCase):
    def test_the_readmes_tool_gives_any_model_a_search(self):
        text = (ROOT / "README.md").read_text("utf-8")
        recipe = next(block for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) if "# tool:" in block)
        path = self.file("web", recipe)
        os.chmod(path, 0o755)
        self.script("alltoken-call", f'exec {shlex.join([*PYTHON, PACKAGE])} "$@"')
        self.script("python3", f'exec {sys.executable} "$@"')

        def step(exchange):
            body = exchange.json
            if body.get("enable_search"):
                self.assertEqual(body["messages"], [{"role": "user", "content": "what's $(new)?"}])
                return saying("a lot")(exchange)
            last = body["messages"][-1]
            call = calling(wanted("web", {"query": "what's $(new)?"}))
            return (call if last["role"] == "user" else saying(f"there is {last['content']}"))(exchange)

        self.answer(step)
        more = {
            "ALLTOKEN_API_KEY": "",
            "ALLTOKEN_API_KEY_FILE": self.file("key", KEY),
            "PATH": f"{self.folder}:{os.environ.get('PATH', os.defpath)}",
        }
        run = self.execute("chat", "--tool", path, "-m", "claude-haiku-4-5", "x", environ=more)
        self.assertEqual((run.status, run.out), (0, b"there is a lot\n"), run.err)
        self.assertEqual([body["model"] for body in self.bodies()].count("deepseek-v4-pro"), 1)


class Shortened(unittest.TestCase):
    def test_the_limit_counts_characters_and_the_rest_bytes(self):
        self.assertEqual(shortened("ab", 2), "ab")
        self.assertEqual(shortened("äöüäöüäöü", 3), "äö\n[… 12 bytes left out …]\nü")


if __name__ == "__main__":
    unittest.main()
