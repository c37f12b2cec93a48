"""commands/chat.py: what PRODUCT.md says of chat, line by line."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pty
import socket
import stat
import threading
from unittest import mock

from alltoken_call.cli import prompt
from alltoken_call.commands.chat import FIELDS

from ..gateway import CHAT, DONE, KEY, delta, event, frames, png, raw, refuse, reply, stream
from ..harness import PATIENCE, Case, Watched


class Model(Case):
    def test_the_first_word_is_the_model_if_it_looks_like_an_id_and_more_follow(self):
        for model in (
            "gpt-5.4-mini",
            "gpt-image-2",
            "claude-sonnet-4-6",
            "gemini-3.1-pro-preview",
            "deepseek-v3.2",
            "glm-5.1",
            "qwen3.6-plus",
            "qwen3-coder-next",
            "kimi-k2.6",
            "minimax-m2.7",
            "mimo-v2",
            "o1-mini",
            "o3-pro",
            "o4-mini",
            "doubao-1.5-pro",
            "step-2.5",
        ):
            with self.subTest(model):
                body = self.body(model, "the", "rest")
                self.assertEqual((body["model"], body["messages"][0]["content"]), (model, "the rest"))

    def test_other_first_words_are_the_prompts(self):
        for words in (
            ["well-known", "facts"],
            ["covid-19", "symptoms"],
            ["qwen", "or", "glm"],
            ["qwen is what?"],
            ["gpt-5.4-mini is what?", "tell"],
            ["gpt-5.4-mini"],
            ["o1", "or", "o3"],
            ["o2-arena", "concerts"],
            ["claude", "monet"],
            ["gpt-", "what"],
            ["state-of-the-art", "models"],
            ["python-3", "features"],
            ["utf-8", "explained"],
            ["1.5-pro", "x"],
            ["gpt-5?", "really"],
            ["gpt-5,", "really"],
            ["gemini:", "a", "poem"],
        ):
            with self.subTest(words):
                body = self.body(*words)
                self.assertEqual((body["model"], body["messages"][0]["content"]), ("gpt-5.4-mini", " ".join(words)))

    def test_m_settles_it(self):
        body = self.body("-m", "glm-5.1", "gpt-5.4-mini", "is", "what?")
        self.assertEqual((body["model"], body["messages"][0]["content"]), ("glm-5.1", "gpt-5.4-mini is what?"))

    def test_the_environment_gives_the_default(self):
        self.assertEqual(self.body("hi", ALLTOKEN_CHAT_MODEL="glm-5.1")["model"], "glm-5.1")

    def test_a_404_for_a_model_taken_from_the_words_says_so(self):
        words = self.chat("gpt-9", "hi")
        self.assertQuietly(1, words)
        self.assertRegex(words.err, "'gpt-9' was taken for the model.*-m")
        self.assertNotIn("taken for", self.chat("-m", "gpt-9", "hi").err)

    def test_a_404_for_a_model_names_the_nearest_ids(self):
        for argv in (("-m", "gpt-5.4-mni", "hi"), ("gpt-5.4-mni", "hi")):
            with self.subTest(argv):
                self.gateway.requests.clear()
                result = self.chat(*argv)
                self.assertQuietly(1, result)
                self.assertRegex(result.err, r"did you mean gpt-5\.4-mini\b")
                self.assertEqual((self.gateway.count("GET /v1/models"), len(self.gateway.requests)), (1, 2))
                self.assertIn("gpt-5.4-mini", self.chat(*argv, "--json").document["error"]["hint"])

    def test_trouble_with_the_list_of_nearest_ids_is_silent(self):
        for name, step in (
            ("refused", refuse(401, "invalid_api_key")),
            ("busy", refuse(429, "rate_limited", headers={"Retry-After": "1"})),
            ("down", refuse(503, "upstream_error")),
            ("not a list", reply(200, {"object": "list"})),
            ("not JSON", reply(200, b"<html>")),
            ("cut", raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{")),
            ("nothing like it", reply(200, {"data": [{"id": "zzz"}]})),
            ("silent", raw(b"", then="hold")),
        ):
            with self.subTest(name):
                self.gateway.requests.clear()
                self.gateway.on("GET /v1/models", step)
                result = self.chat("-m", "gpt-5.4-mni", "hi", "--timeout", "0.5")
                self.assertQuietly(1, result)
                self.assertEqual(self.gateway.count("GET /v1/models"), 1)
                self.assertNotIn("did you mean", result.err)
                self.assertEqual(result.err.count("["), 2, result.err)  # [cost] and [error]
                self.assertEqual(result.sleeps, [])

    def test_a_lone_model_with_text_on_stdin_is_the_model(self):
        for argv, data, model, prompt_ in (
            (["gpt-5.4"], b"x", "gpt-5.4", "x"),
            (["gpt-5.4"], b"", "gpt-5.4-mini", "gpt-5.4"),
            (["hello"], b"x", "gpt-5.4-mini", "x\n\nhello"),
            (["-m", "glm-5.1", "gpt-5.4"], b"x", "glm-5.1", "x\n\ngpt-5.4"),
            (["gpt-5.4", "why?"], b"x", "gpt-5.4", "x\n\nwhy?"),
        ):
            with self.subTest(argv, data=data):
                stdin, writer = self.pipe(data)
                os.close(writer)
                self.assertQuietly(0, self.chat(*argv, stdin=stdin))
                body = self.gateway.requests[-1].json
                self.assertEqual((body["model"], body["messages"][-1]["content"]), (model, prompt_))
        self.assertEqual(self.execute("chat", "gpt-5.4", input=b"x").status, 0)
        self.assertEqual((self.gateway.requests[-1].json["model"], self.sent()), ("gpt-5.4", "x"))
        self.assertEqual(self.execute("chat", "gpt-5.4").status, 0)  # </dev/null
        self.assertEqual((self.gateway.requests[-1].json["model"], self.sent()), ("gpt-5.4-mini", "gpt-5.4"))
        self.assertEqual(self.shell('{ sleep 0.5; printf x; } | "$@"', "chat", "gpt-5.4").status, 0)
        self.assertEqual((self.gateway.requests[-1].json["model"], self.sent()), ("gpt-5.4", "x"))

    def test_a_web_page_is_a_wrong_root_also_if_a_word_was_taken_for_the_model(self):
        tool = self.file("tool", '#!/bin/sh\n# tool: {"description": "d", "parameters": {"type": "object"}}\n')
        os.chmod(tool, 0o755)
        for status in (200, 404):
            for argv in (("gpt-5.4-mini", "hi"), ("gpt-5.4-mini", "hi", "--tool", tool)):
                self.gateway.requests.clear()
                self.gateway.on(CHAT, reply(status, b"<html>"))
                result = self.chat(*argv)
                self.assertQuietly(3, result)
                self.assertIn("ALLTOKEN_BASE_URL", result.err)
                self.assertEqual(len(self.gateway.requests), 1)
        self.gateway.on(CHAT, reply(404, b"no such page"))
        self.assertQuietly(1, self.chat("hi"))


class Request(Case):
    def test_the_options_become_fields(self):
        body = self.body("hi", "-s", "be brief", "-t", "0.5", "--max-tokens", "9", "-p", "top_p=0.9", "-p", "stop=x y")
        self.assertEqual(
            body,
            {
                "model": "gpt-5.4-mini",
                "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}],
                "temperature": 0.5,
                "max_tokens": 9,
                "stream": True,
                "stream_options": {"include_usage": True},
                "top_p": 0.9,
                "stop": "x y",
            },
        )

    def test_nothing_is_sent_that_was_not_asked_for(self):
        self.assertEqual(set(self.body("hi")), {"model", "messages", "stream", "stream_options"})

    def test_a_params_value_is_json_if_it_parses_strictly_else_a_string(self):
        for value, expected in (
            ("1", 1),
            ("true", True),
            ("null", None),
            ('["a", 1]', ["a", 1]),
            ('{"type": "json_object"}', {"type": "json_object"}),
            ('"1"', "1"),
            ("", ""),
            ("a=b", "a=b"),
            ("01", "01"),
            ("[1,", "[1,"),
            ("'x'", "'x'"),
            ("True", "True"),
            ("NaNcy", "NaNcy"),
            ("Infinity pool", "Infinity pool"),
            ("[" * 9999, "[" * 9999),
        ):
            with self.subTest(value[:20]):
                self.assertEqual(self.body("hi", "-p", f"user={value}")["user"], expected)

    def test_reserved_fields_and_nan_are_refused(self):
        for given in (
            "model=x",
            "messages=[]",
            "stream=false",
            "stream_options={}",
            "n=2",
            " n =2",
            "x=NaN",
            "x=[-Infinity]",
            "x=1e999",
        ):
            with self.subTest(given):
                self.assertQuietly(2, self.chat("hi", "-p", given))
        self.assertEqual(self.gateway.requests, [])

    def test_a_bare_thinking_leaves_the_next_word_alone(self):
        for argv, words, budget in (
            (["--thinking", "why"], "why", None),
            (["why", "--thinking"], "why", None),
            (["--thinking", "500", "why"], "why", 500),
            (["why", "not", "--thinking", "500"], "why not", 500),
            (["--thinking=500", "7"], "7", 500),
            (["--thinking", "5e2", "why"], "5e2 why", None),
            (["--thinking", "\u0665", "why"], "\u0665 why", None),
            (["--thinking", "--", "500"], "500", None),
            (["--thinking", "-q", "500"], "500", None),
        ):
            with self.subTest(argv):
                body = self.body(*argv)
                self.assertEqual(body["messages"][0]["content"], words)
                self.assertEqual((body["thinking"], body.get("thinking_budget")), (True, budget))

    def test_no_stream_asks_for_one_piece(self):
        self.assertEqual({k: v for k, v in self.body("hi", "--no-stream").items() if "stream" in k}, {"stream": False})
        result = self.chat("--no-stream", "-m", "gpt-5.4-mini", "hi")
        self.assertEqual(result.out, b"This is the loopback gateway, which echoes: hi\n")
        self.assertIn("[cost] unknown", result.err)

    def test_chat_never_asks_the_catalog(self):
        self.chat("--no-stream", "hi")
        self.gateway.on(CHAT, stream(frames("hi") + DONE))
        self.assertIn("[cost] unknown", self.chat("hi").err)
        self.assertEqual({exchange.path for exchange in self.gateway.requests}, {"/v1/chat/completions"})


class Attachments(Case):
    def test_images_go_as_data_urls_and_urls_as_they_are(self):
        images = {
            "png": png(),
            "jpeg": b"\xff\xd8\xff\xe0rest",
            "gif": b"GIF89arest",
            "webp": b"RIFF\x04\0\0\0WEBPrest",
        }
        argv = ["what?", "-a", "https://example.invalid/a b.png"]
        expected = ["https://example.invalid/a b.png"]
        for kind, data in images.items():
            argv += ["--attach", self.file(f"image.{kind}.txt", data)]
            expected.append(f"data:image/{kind};base64,{base64.b64encode(data).decode()}")
        parts = self.body(*argv)["messages"][0]["content"]
        self.assertEqual(parts[0], {"type": "text", "text": "what?"})
        self.assertEqual([part["image_url"]["url"] for part in parts[1:]], expected)
        self.assertEqual({part["type"] for part in parts[1:]}, {"image_url"})

    def test_what_is_not_an_image_is_refused(self):
        for path in (
            self.file("a.png", b"text"),
            self.file("b.png", b""),
            self.folder,
            "/no/such.png",
            "file:///etc/passwd",
        ):
            with self.subTest(path):
                self.assertQuietly(2, self.chat("hi", "-a", path))
        self.assertEqual(self.gateway.requests, [])


class Tools(Case):
    def setUp(self):
        super().setUp()
        self.tools = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
        self.path = self.file("tools.json", self.tools)
        pieces = [
            delta("Let me see."),
            delta(tool_calls=[{"index": 0, "id": "call_1", "function": {"name": "weather", "arguments": '{"city":'}}]),
            delta(tool_calls=[{"index": 0, "function": {"arguments": '"Zürich"}'}}]),
            delta(finish="tool_calls"),
        ]
        self.gateway.on(CHAT, stream(*map(event, pieces), DONE))
        function = {"name": "weather", "arguments": '{"city":"Zürich"}'}
        self.wanted = {"id": "call_1", "type": "function", "function": function}

    def test_the_calls_are_json_lines_on_stdout(self):
        result = self.chat("hi", "--tools", self.path)
        self.assertEqual(self.gateway.requests[0].json["tools"], self.tools)
        text, line = result.out.decode().splitlines()
        self.assertEqual((result.status, text, json.loads(line)), (0, "Let me see.", self.wanted))

    def test_the_calls_are_in_the_document(self):
        document = self.chat("hi", "--tools", self.path, "--json").document
        self.assertEqual((document["tool_calls"], document["finish_reason"]), ([self.wanted], "tool_calls"))

    def test_the_calls_are_in_the_thread(self):
        thread = os.path.join(self.folder, "thread.json")
        self.chat("hi", "--tools", self.path, "--thread", thread)
        with open(thread, encoding="utf-8") as file:
            self.assertEqual(json.load(file)["messages"][-1]["tool_calls"], [self.wanted])

    def test_a_call_cut_short_is_status_9(self):
        piece = delta(tool_calls=[{"index": 0, "id": "c", "function": {"name": "weather", "arguments": "{"}}])
        self.gateway.on(CHAT, stream(event(piece), "cut"))
        self.assertQuietly(9, self.chat("hi", "--tools", self.path))

    def test_what_is_not_an_array_of_tools_is_refused(self):
        for content in (b"", b"{}", b"[1]", b"[", b"\xff", b"[" * 100_000):
            with self.subTest(content[:5]):
                self.assertQuietly(2, self.chat("hi", "--tools", self.file("bad.json", content)))
        self.assertQuietly(2, self.chat("hi", "--tools", "/no/such.json"))
        self.assertEqual(self.gateway.requests, [])


class Thread(Case):
    def setUp(self):
        super().setUp()
        self.path = os.path.join(self.folder, "thread.json")
        self.gateway.on(CHAT, stream(frames("Grüße") + DONE + b': {"cost":"0"}\n\n'))

    def messages(self):
        with open(self.path, encoding="utf-8") as file:
            value = json.load(file)
        messages = value["messages"] if isinstance(value, dict) else value
        return [(message["role"], message["content"]) for message in messages]

    def test_a_new_thread_is_written_0600_and_goes_on(self):
        self.assertEqual(self.chat("one", "--thread", self.path, "-s", "be brief").status, 0)
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)
        first = [("system", "be brief"), ("user", "one"), ("assistant", "Grüße")]
        self.assertEqual(self.messages(), first)
        self.assertEqual(self.chat("two", "--thread", self.path).status, 0)
        self.assertEqual(self.messages(), [*first, ("user", "two"), ("assistant", "Grüße")])
        self.assertEqual(len(self.gateway.requests[1].json["messages"]), 4)
        self.assertEqual(sorted(os.listdir(self.folder)), ["state", "thread.json"])

    def test_a_blank_path_is_status_2_and_nothing_is_sent(self):
        for command in ("chat", "search"):
            for path in ("", "  "):
                result = self.call(command, "hi", "--thread", path)
                self.assertQuietly(2, result)
                self.assertIn("--thread", result.err)
        self.assertEqual(self.gateway.requests, [])

    def test_an_old_thread_keeps_its_mode_and_s_replaces_its_system_message(self):
        self.file("thread.json", [{"role": "system", "content": "old"}, {"role": "user", "content": "a", "name": "x"}])
        os.chmod(self.path, 0o644)
        self.chat("b", "--thread", self.path, "-s", "new")
        self.assertEqual(self.messages()[:3], [("system", "new"), ("user", "a"), ("user", "b")])
        self.assertEqual(self.gateway.requests[0].json["messages"][1]["name"], "x")
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o644)

    def test_a_thread_stays_as_it_is_unless_the_answer_is_whole(self):
        before = b'[{"role": "user", "content": "a"}]'
        for step in (stream(event(delta("kept")), "cut"), refuse(400, "x"), stream(event({"error": {"code": "x"}}))):
            self.file("thread.json", before)
            self.gateway.on(CHAT, step)
            self.assertNotEqual(self.chat("b", "--thread", self.path).status, 0)
            with open(self.path, "rb") as file:
                self.assertEqual(file.read(), before)
        self.assertEqual(sorted(os.listdir(self.folder)), ["state", "thread.json"])

    def test_what_is_not_a_regular_file_is_refused_unsent_and_stays_what_it_is(self):
        os.mkfifo(self.path)
        for path in (self.path, "/dev/null", self.folder):
            with self.subTest(path):
                self.assertQuietly(2, self.chat("a", "--thread", path))
                self.assertFalse(os.path.isfile(path))
        self.assertEqual(self.asked(), 0)

    def test_the_second_of_two_runs_at_once_waits_and_no_turn_is_lost(self):
        came, go = threading.Event(), threading.Event()

        def step(exchange):
            came.set()
            if go.wait(PATIENCE):
                stream(frames("hi") + DONE)(exchange)

        self.gateway.on(CHAT, step)
        first = self.spawn("chat", "a", "--thread", self.path)
        self.assertTrue(came.wait(PATIENCE))
        late = self.chat("c", "--thread", self.path, "--max-wait", "0.1")
        self.assertQuietly(8, late)
        self.assertIn(self.path, late.err)
        second = self.spawn("chat", "b", "--thread", self.path)
        self.assertEqual(self.asked(), 1)
        go.set()
        for process in (first, second):
            out, err = process.communicate(timeout=PATIENCE)
            self.assertEqual((process.returncode, out), (0, b"hi\n"), err)
        turns = [("user", "a"), ("assistant", "hi"), ("user", "b"), ("assistant", "hi")]
        self.assertEqual(self.messages(), turns)

    def test_a_thread_keeps_its_model_and_says_so(self):
        models = []
        for argv, environ in (
            (("claude-haiku-4-5", "one"), {}),
            (("two",), {}),
            (("three",), {"ALLTOKEN_CHAT_MODEL": "glm-5.1"}),
            (("-m", "gpt-5.4", "four"), {}),
            (("five",), {}),
        ):
            result = self.chat(*argv, "--thread", self.path, **environ)
            self.assertQuietly(0, result)
            models.append((self.gateway.requests[-1].json["model"], "[thread] model claude-haiku-4-5\n" in result.err))
        kept = ("claude-haiku-4-5", True)
        self.assertEqual(models, [("claude-haiku-4-5", False), kept, kept, ("gpt-5.4", False), kept])
        self.assertEqual(self.chat("six", "-q", "--thread", self.path).err, "")
        self.assertEqual(self.chat("seven", "--json", "--thread", self.path).document["model"], "claude-haiku-4-5")

    def test_a_bare_list_stays_one_and_has_no_model(self):
        self.file("thread.json", b"[]")
        result = self.chat("a", "-m", "glm-5.1", "--thread", self.path)
        self.assertQuietly(0, result)
        with open(self.path, encoding="utf-8") as file:
            self.assertIsInstance(json.load(file), list)
        result = self.chat("b", "--thread", self.path)
        self.assertEqual(self.gateway.requests[-1].json["model"], "gpt-5.4-mini")
        self.assertNotIn("[thread]", result.err)

    def test_a_dry_run_writes_no_thread(self):
        self.body("a", "--thread", self.path)
        self.assertFalse(os.path.exists(self.path))

    def test_what_is_not_a_list_of_messages_is_refused_and_stays(self):
        for content in (b"{}", b"null", b"[1]", b'[{"content":"x"}]', b'[{"role":1}]', b"[", b"text", b"\xff"):
            with self.subTest(content):
                self.file("thread.json", content)
                self.assertQuietly(2, self.chat("hi", "--thread", self.path))
                with open(self.path, "rb") as file:
                    self.assertEqual(file.read(), content)
        self.assertEqual(self.gateway.requests, [])

    def test_a_place_that_cannot_be_written_is_status_13_before_anything_is_sent(self):
        for path in (os.path.join(self.folder, "none", "x.json"), "/proc/thread.json"):
            with self.subTest(path):
                self.assertQuietly(13, self.chat("hi", "--thread", path))
        self.file("thread.json", b"[]")
        with mock.patch("os.access", return_value=False):
            self.assertQuietly(13, self.chat("hi", "--thread", self.path))
        self.assertEqual(self.gateway.requests, [])

    def test_a_link_stays_a_link(self):
        target = self.file("target.json", b"[]")
        os.symlink(target, self.path)
        self.assertEqual(self.chat("a", "--thread", self.path).status, 0)
        self.assertTrue(os.path.islink(self.path))
        self.assertEqual(len(self.messages()), 2)


class Answer(Case):
    def test_it_ends_with_one_newline(self):
        for texts, out in ((["a"], b"a\n"), (["a\n"], b"a\n"), (["a", "\n"], b"a\n"), (["a\n\n"], b"a\n\n"), ([], b"")):
            with self.subTest(texts):
                self.gateway.on(CHAT, stream(frames(*texts) + DONE))
                self.assertEqual(self.chat("hi").out, out)

    def test_an_incomplete_answer_is_a_warning_and_status_0(self):
        for reason in ("length", "content_filter"):
            with self.subTest(reason):
                self.gateway.on(CHAT, stream(frames("kept", finish=reason) + DONE))
                result = self.chat("hi")
                self.assertEqual((result.status, result.out), (0, b"kept\n"))
                self.assertRegex(result.err, rf"\[warning\] .*{reason}")

    def test_reasoning_is_shown_on_stderr_if_it_was_asked_for(self):
        shown = "The user wrote something; an echo will do.\n"
        self.assertIn(shown, self.chat("--thinking", "-m", "gpt-5.4-mini", "why").err)
        self.gateway.on(CHAT, stream(event(delta(reasoning_content="hidden")), frames("hi") + DONE))
        result = self.chat("why")
        self.assertNotIn("hidden", result.err)
        self.assertEqual(result.out, b"hi\n")

    def test_the_key_is_not_in_the_reasoning_also_if_it_comes_in_two_pieces(self):
        pieces = [delta(reasoning_content=text) for text in ("the key is ", KEY[:7], KEY[7:], "!")]
        self.gateway.on(CHAT, stream(*map(event, pieces), frames("hi") + DONE))
        for terminals in ("", "out err"):
            result = self.chat("why", "--thinking", terminals=terminals, NO_COLOR="1")
            self.assertQuietly(0, result)
            gap = "\n" if terminals else ""
            self.assertTrue(result.err.startswith(f"the key is [key]!\n{gap}[usage]"), result.err)

    def test_reasoning_and_answer_are_apart_on_a_terminal_without_a_stray_line(self):
        for reasoning in (["so"], ["s", "o"], ["so\n"]):
            pieces = [delta(reasoning_content=text) for text in reasoning]
            self.gateway.on(CHAT, stream(*map(event, pieces), frames("h", "i") + DONE))
            main, side = pty.openpty()
            process = self.spawn("chat", "why", "--thinking", stdout=side, stderr=side)
            os.close(side)
            shown = b""
            with contextlib.suppress(OSError):  # the terminal's end
                while block := os.read(main, 65536):
                    shown += block
            os.close(main)
            self.assertEqual(process.wait(PATIENCE), 0)
            lines = shown.decode().replace("\r\n", "\n").split("\n")
            self.assertEqual(lines[:3], ["so", "hi", ""])  # an empty line, and the rest is dim
            self.assertEqual([line.split()[0] for line in lines[3:5]], ["\x1b[2m[usage]", "\x1b[2m[cost]"])

    def test_a_terminal_gets_inert_text_and_a_pipe_every_byte(self):
        evil = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202eabc\x7f\r\b\ttab"
        self.gateway.on(CHAT, stream(event(delta(evil, reasoning_content=evil)), frames("") + DONE))
        self.assertEqual(self.chat("hi").out, f"{evil}\n".encode())
        result = self.chat("hi", "--thinking", terminals="out")
        shown = result.out.decode() + result.err
        self.assertNotRegex(shown, "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]")
        self.assertEqual(shown.count("abc"), 2)
        self.assertEqual(shown.count("\ttab"), 2)


class Stdin(Case):
    def test_with_words_a_pipe_stands_before_them_and_is_told(self):
        stdin, writer = self.pipe(b"x" * 1203 + b"\n")
        os.close(writer)
        result = self.chat("write", "it", stdin=stdin)
        self.assertEqual(self.sent(), "x" * 1203 + "\n\nwrite it")
        self.assertIn("[stdin] 1,204 bytes read\n", result.err)

    def test_an_empty_pipe_adds_nothing_and_is_not_told(self):
        stdin, writer = self.pipe()
        os.close(writer)
        result = self.chat("hi", stdin=stdin)
        self.assertEqual(self.sent(), "hi")
        self.assertNotIn("[stdin]", result.err)

    def test_with_words_a_file_is_read_at_its_beginning_only(self):
        with open(self.file("notes", "first\nsecond\n"), encoding="utf-8") as file:
            os.read(file.fileno(), 6)
            self.chat("hi", stdin=file)
            self.assertEqual(self.sent(), "hi")
            os.lseek(file.fileno(), 0, os.SEEK_SET)
            self.chat("hi", stdin=file)
            self.assertEqual(self.sent(), "first\nsecond\n\nhi")

    def test_with_words_a_socket_a_terminal_dev_null_and_a_closed_stdin_are_not_read(self):
        ours, theirs = socket.socketpair()
        self.addCleanup(theirs.close)
        theirs.send(b"not for you")
        theirs.shutdown(socket.SHUT_WR)
        with ours, ours.makefile("r") as sock, open(os.devnull, encoding="utf-8") as null:
            for stdin in (sock, null, None):
                self.assertEqual(self.chat("hi", stdin=stdin).status, 0)
                self.assertEqual(self.sent(), "hi")
        self.chat("hi", stdin=b"typed", terminals="in")
        self.assertEqual(self.sent(), "hi")

    def test_a_hyphen_among_the_words_is_stdins_place(self):
        for words, sent in (
            (["-"], "text"),
            (["before", "-", "after"], "before text after"),
            (["gpt-5.4-mini", "-"], "text"),
            (["-m", "gpt-5.4-nano", "-", "what?"], "text what?"),
        ):
            with self.subTest(words):
                self.chat(*words, stdin=b"text\n")
                self.assertEqual(self.sent(), sent)

    def test_a_hyphen_reads_a_file_wherever_it_stands(self):
        with open(self.file("notes", "first\nsecond\n"), encoding="utf-8") as file:
            os.read(file.fileno(), 6)
            self.chat("-", stdin=file)
        self.assertEqual(self.sent(), "second")

    def test_with_no_words_stdin_is_the_prompt(self):
        self.chat(stdin=b"\xef\xbb\xbftext\r\n")
        self.assertEqual(self.sent(), "text")

    def test_with_no_words_a_terminal_is_status_2_with_the_usage(self):
        result = self.chat(terminals="in err", NO_COLOR="1")
        self.assertQuietly(2, result)
        self.assertIn("usage: alltoken-call chat", result.err)

    def test_bytes_that_are_not_utf_8_are_replaced_and_told(self):
        result = self.chat("-", stdin=b"a\xffb")
        self.assertEqual(self.sent(), "a\ufffdb")
        self.assertIn("[warning] stdin is not UTF-8", result.err)
        self.assertNotIn("[warning]", self.chat("-", stdin="a\ufffdb".encode()).err)

    def test_a_pipe_that_stays_open_and_empty_is_status_2_with_advice(self):
        self.assertEqual(prompt.PATIENCE, 10)
        stdin, writer = self.pipe()
        self.addCleanup(os.close, writer)
        with mock.patch.object(prompt, "PATIENCE", 0.4):
            result = self.chat("hi", stdin=stdin)
        self.assertQuietly(2, result)
        self.assertIn("</dev/null", result.err)
        self.assertIn(" - ", result.err)
        self.assertEqual(self.gateway.requests, [])

    def test_if_stderr_is_a_terminal_it_is_waited_for_and_that_is_said(self):
        stdin, writer = self.pipe()
        err = Watched(b"waiting")

        def type_after_the_notice():
            if err.seen.wait(PATIENCE):
                os.write(writer, b"late")
            os.close(writer)

        thread = threading.Thread(target=type_after_the_notice)
        thread.start()
        self.addCleanup(thread.join)
        with mock.patch.object(prompt, "PATIENCE", 0.31):
            self.chat("hi", stdin=stdin, stderr=err, terminals="err")
        self.assertEqual(self.sent(), "late\n\nhi")

    def test_a_pipe_that_began_is_read_to_its_end(self):
        stdin, writer = self.pipe(b"begun ")
        answered = threading.Timer(0.4, lambda: (os.write(writer, b"ended"), os.close(writer)))
        answered.start()
        self.addCleanup(answered.join)
        with mock.patch.object(prompt, "PATIENCE", 0.31):
            self.chat("hi", stdin=stdin)
        self.assertEqual(self.sent(), "begun ended\n\nhi")

    def test_max_wait_bounds_the_wait_for_stdin(self):
        for name, data, more in (("empty", b"", []), ("begun", b"x", []), ("asked for", b"", ["-"])):
            with self.subTest(name):
                stdin, writer = self.pipe(data)
                result = self.chat("hi", *more, "--max-wait", "0.1", stdin=stdin)
                os.close(writer)
                self.assertQuietly(3, result)
                self.assertIn("[error] max_wait", result.err)
        self.assertEqual(self.gateway.requests, [])


class Document(Case):
    def test_what_was_obtained_is_kept_in_a_failure(self):
        usage = {"prompt_tokens": 1}
        self.gateway.on(CHAT, stream(event(delta("kept", reasoning_content="so") | {"usage": usage}), "cut"))
        document = self.document_of(self.chat("hi", "--json"), *FIELDS)
        self.assertEqual([document[name] for name in ("text", "reasoning", "usage")], ["kept", "so", usage])
        self.assertEqual((document["served_model"], document["finish_reason"]), ("served-1", None))
