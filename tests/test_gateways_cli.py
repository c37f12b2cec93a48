"""Gateways by name: which one a command calls, whose key goes where, and how its dialect is found out."""

from __future__ import annotations

import ast
import os
import shutil
import unittest
from typing import Any

from alltoken_call import config

from .gateway import DONE, KEY, Gateway, frames, png, raw, refuse, reply, stream
from .harness import ROOT, Case
from .relay import RELAY_KEY, Relay
from .relay_support import CHAT, MAKE, RelayCase
from .task_support import normal

LIST = "GET /v1/models"
OTHER_KEY = "another-loopback-key"


class Choosing(RelayCase):
    name = "my-relay"

    def asked(self, *argv: str, **environ: Any) -> tuple[int, str]:
        """The gateway that a run names, and which of the two servers got a request."""
        self.relay.requests.clear()
        self.gateway.requests.clear()
        result = self.call("chat", "-m", "claude-sonnet-4-6", "hi", "--json", *argv, **environ)
        self.assertQuietly(0, result)
        where = {(1, 0): "relay", (0, 1): "alltoken"}[len(self.relay.requests), len(self.gateway.requests)]
        return result.document["gateway"], where

    @staticmethod
    def settings(name: str, relay: Relay, dialect: str | None = None) -> dict[str, str]:
        return RelayCase.settings(name.replace("-", "_"), relay, dialect)

    def test_the_option_goes_before_the_variable_and_alltoken_is_the_way_back(self):
        self.assertEqual(self.asked(), ("my-relay", "relay"))
        self.assertEqual(self.asked("--gateway", "alltoken"), ("alltoken", "alltoken"))
        self.assertEqual(self.asked(ALLTOKEN_GATEWAY=None), ("alltoken", "alltoken"))
        self.assertEqual(self.asked(ALLTOKEN_GATEWAY=" "), ("alltoken", "alltoken"))
        self.assertEqual(self.asked("--gateway", "my-relay", ALLTOKEN_GATEWAY="alltoken"), ("my-relay", "relay"))

    def test_names_that_differ_in_case_and_marks_are_one(self):
        for name in ("my-relay", "My_Relay", "MY-RELAY"):
            self.assertEqual(self.asked("--gateway", name), ("my-relay", "relay"))
        self.assertEqual({row["gateway"] for row in self.rows()}, {"my-relay"})

    def test_a_name_that_cannot_be_one_or_has_no_address_is_status_2(self):
        for name in ("", "1st", "my relay", "my/relay", "ä", "-x", "unheard-of"):
            for argv in (("chat", "-m", "x", "hi"), ("models",), ("image", "x")):
                result = self.call(*argv, f"--gateway={name}", ALLTOKEN_GATEWAY="")
                self.assertQuietly(2 if name else 0, result) if name else None
        result = self.call("chat", "-m", "x", "hi", "--gateway", "unheard-of")
        self.assertIn("ALLTOKEN_UNHEARD_OF_BASE_URL", result.err)
        self.assertIn("openrouter", result.err)

    def test_an_unknown_dialect_is_status_2(self):
        for command in (("chat", "-m", "x", "hi"), ("image", "-m", "x", "hi"), ("models",), ("cost", "--balance")):
            result = self.call(*command, ALLTOKEN_MY_RELAY_DIALECT="newapi")
            self.assertQuietly(2, result)
            self.assertIn("ALLTOKEN_MY_RELAY_DIALECT", result.err)
        self.assertEqual(self.paths(), [])

    def test_an_address_follows_the_same_rules_as_alltokens(self):
        for url in (
            "http://relay.example",
            "ftp://127.0.0.1",
            "https://u:p@relay.example",
            "https://relay.example/?a=1",
        ):
            self.assertQuietly(2, self.call("models", ALLTOKEN_MY_RELAY_BASE_URL=url))
        self.assertEqual(self.asked(ALLTOKEN_MY_RELAY_BASE_URL=f"{self.relay.url}/v1/"), ("my-relay", "relay"))

    def test_dry_run_shows_the_address_of_known_names(self):
        for name, start in (
            ("openclaw", "https://token.openclaw-token.shop/v1/"),
            ("openrouter", "https://openrouter.ai/api/v1/"),
            ("openai", "https://api.openai.com/v1/"),
            ("ollama", "http://localhost:11434/v1/"),
            ("llamacpp", "http://localhost:8080/v1/"),
            ("lmstudio", "http://localhost:1234/v1/"),
        ):
            result = self.call("chat", "--gateway", name, "-m", "x", "hi", "--dry-run")
            self.assertQuietly(0, result)
            self.assertEqual(result.document["url"], f"{start}chat/completions")
            self.assertQuietly(0, self.call("image", "--gateway", name, "-m", "x", "hi", "--dry-run"))

    def test_default_models_are_each_gateways_own(self):
        for command, argv in (("chat", ("hi",)), ("image", ("x",)), ("video", ("x",))):
            result = self.call(command, *argv, "--json")
            self.assertQuietly(2, result)
            self.assertEqual(result.document["error"]["code"], "no_model")
            self.assertIn(f"ALLTOKEN_MY_RELAY_{command.upper()}_MODEL", result.err)
            self.assertIn("models", result.err)
            variable = {f"ALLTOKEN_MY_RELAY_{command.upper()}_MODEL": "own-model"}
            result = self.call(command, *argv, "--dry-run", **variable, **{f"ALLTOKEN_{command.upper()}_MODEL": "home"})
            self.assertEqual(result.document["body"]["model"], "own-model")
        self.assertEqual(self.paths(), [])

    def test_another_gateway_of_alltokens_dialect(self):
        own = {"ALLTOKEN_TWIN_BASE_URL": self.gateway.url, "ALLTOKEN_TWIN_API_KEY": KEY}
        own |= {"ALLTOKEN_TWIN_DIALECT": "alltoken", "ALLTOKEN_GATEWAY": "twin"}
        self.assertQuietly(2, self.call("chat", "hi", **own))  # its models are not known
        self.assertQuietly(0, self.call("chat", "-m", "gpt-5.4-mini", "hi", "--thinking", **own))
        self.assertQuietly(2, self.call("search", "news", **own))
        self.assertQuietly(0, self.call("search", "news", **own, ALLTOKEN_TWIN_SEARCH_MODEL="deepseek-v4-pro"))
        self.assertQuietly(0, self.call("image", "-m", "gpt-image-2", "x", "-o", "x.png", **own))
        self.assertEqual(self.rows()[-1]["gateway"], "twin")

    def test_alltokens_address_may_speak_another_dialect(self):
        own = {"ALLTOKEN_BASE_URL": self.relay.url, "ALLTOKEN_API_KEY": RELAY_KEY, "ALLTOKEN_DIALECT": "new-api"}
        result = self.call("image", "-m", "wan2.6-t2i", "x", "-o", "x.png", **own, ALLTOKEN_GATEWAY=None)
        self.assertEqual((result.status, result.out), (0, b"x.png\n"), result.err)


class Words(Case):
    """The first word as the model, which AllToken's commands know by its family."""

    def model(self, *words: str, gateway: str = "ollama") -> str:
        result = self.call("chat", *words, "--dry-run", ALLTOKEN_GATEWAY=gateway, ALLTOKEN_OLLAMA_CHAT_MODEL="default")
        self.assertQuietly(0, result)
        return result.document["body"]["model"]

    def test_a_word_that_looks_like_an_id_is_one(self):
        for word in (
            "llama3.2",
            "openai/gpt-4o",
            "qwen2.5-coder:7b",
            "deepseek-r1:8b",
            "meta-llama/Llama-3.1-8B",
            "phi3.5",
        ):
            self.assertEqual(self.model(word, "hi"), word)
        for word in ("claude-sonnet-4-6", "gpt-5.4-mini"):
            self.assertEqual((self.model(word, "hi"), self.model(word, "hi", gateway="alltoken")), (word, word))

    def test_a_word_that_does_not_is_the_prompts(self):
        words = ("covid-19", "Llama3.2", "and/or", "http://x.test/1", "https://a.b/3", "3.14", "e.g.", "v2", "it's")
        for word in words:
            self.assertEqual(self.model(word, "is", "what?"), "default", word)
        self.assertEqual(self.model("llama3.2"), "default")  # alone
        self.assertEqual(self.model("llama3.2 is what?", "hi"), "default")  # white space

    def test_the_option_settles_it(self):
        self.assertEqual(self.model("-m", "x", "llama3.2", "hi"), "x")

    def test_at_alltoken_such_words_are_the_prompts(self):
        self.assertNotEqual(self.model("phi3.5", "hi", gateway="alltoken"), "phi3.5")


class Keys(RelayCase):
    """No key goes anywhere but home; `RelayCase` looks at every credential that came to a relay."""

    def setUp(self) -> None:
        super().setUp()
        self.second = self.another("openai", key=OTHER_KEY)
        self.environ |= self.settings("second", self.second, "openai")
        self.environ["ALLTOKEN_SEARCH_MODEL"] = "deepseek-v4-pro"

    def test_each_gateway_gets_its_own(self):
        home = {"ALLTOKEN_GATEWAY": "alltoken"}
        for argv, environ in (
            (("chat", "-m", "claude-sonnet-4-6", "hi"), {}),
            (("chat", "-m", "gpt-5.4-mini", "hi", "--gateway", "second"), {}),
            (("chat", "hi"), home),
            (("image", "-m", "wan2.6-t2i", "x", "-o", "a.png"), {}),
            (("image", "-m", "dall-e-3", "x", "-o", "b.png", "--gateway", "second"), {}),
            (("image", "x", "-o", "c.png"), home),
            (("video", "-m", "wan2.6-t2v", "x", "-o", "a.mp4"), {}),
            (("video", "-m", "sora-2", "--duration", "4", "x", "-o", "b.mp4", "--gateway", "second"), {}),
            (("video", "x", "-o", "c.mp4"), home),
            (("models", "-l"), {}),
            (("models", "-l", "--gateway", "second"), {}),
            (("models", "-l"), home),
            (("search", "news"), home),
            (("cost", "--balance"), {}),
            (("cost",), {}),
            (("cost", "--since", "1d", "--reconcile"), {}),
        ):
            with self.subTest(argv):
                self.assertQuietly(0, self.call(*argv, **environ))
        self.assertEqual(set(self.relay.keys), {f"Bearer {RELAY_KEY}"})
        self.assertEqual(set(self.second.keys), {f"Bearer {OTHER_KEY}"})
        home_keys = {exchange.headers.get("Authorization") for exchange in self.gateway.requests}
        self.assertEqual(home_keys, {f"Bearer {KEY}", None})

    def test_a_gateway_on_loopback_may_have_none(self):
        open_door = self.another("openai", key=None)
        self.environ |= {"ALLTOKEN_DOOR_BASE_URL": open_door.url, "ALLTOKEN_DOOR_DIALECT": "openai"}
        self.assertQuietly(0, self.call("chat", "--gateway", "door", "-m", "gpt-5.4-mini", "hi"))
        self.assertQuietly(0, self.call("image", "--gateway", "door", "-m", "dall-e-3", "x", "-o", "x.png"))
        self.assertQuietly(0, self.call("models", "--gateway", "door"))
        self.assertEqual(open_door.keys, [])
        self.assertFalse(any("Authorization" in exchange.headers for exchange in open_door.requests))

    def test_one_that_is_not_on_loopback_must_have_one(self):
        for name in ("openclaw", "openrouter", "openai"):
            result = self.call("chat", "--gateway", name, "-m", "x", "hi")
            self.assertQuietly(4, result)
            self.assertIn(f"ALLTOKEN_{name.upper()}_API_KEY", result.err)

    def test_a_key_file_is_each_gateways_own(self):
        path = self.file("key", f" {RELAY_KEY}\n")
        other = self.file("other", "two words\n")
        files = {"ALLTOKEN_RELAY_API_KEY": "", "ALLTOKEN_RELAY_API_KEY_FILE": path, "ALLTOKEN_API_KEY_FILE": other}
        result = self.call("chat", "-m", "claude-sonnet-4-6", "hi", **files)
        self.assertQuietly(0, result)
        result = self.call("chat", "-m", "x", "hi", **files | {"ALLTOKEN_RELAY_API_KEY_FILE": other})
        self.assertQuietly(4, result)
        self.assertNotIn("two words", result.err)

    def test_a_redirect_is_not_followed_with_a_key(self):
        for status in (301, 302, 307, 308):
            for request, argv in (
                (CHAT, ("chat", "-m", "x", "hi")),
                (LIST, ("models",)),
                (MAKE, ("image", "-m", "wan2.6-t2i", "x", "-o", "x.png")),
                ("POST /v1/video/generations", ("video", "-m", "x", "x")),
                ("GET /api/usage/token/", ("cost", "--balance")),
                ("GET /api/pricing", ("models", "-l")),
            ):
                path = request.split()[1]
                self.relay.on(request, reply(status, b"", {"Location": f"{self.second.url}{path}"}))
                result = self.call(*argv)
                self.assertQuietly(3, result)
        self.assertEqual((self.second.requests, self.second.keys), ([], []))

    def test_no_key_of_any_gateway_is_shown(self):
        echo = refuse(400, "invalid_request", f"{KEY} {RELAY_KEY} {OTHER_KEY}")
        self.relay.on(CHAT, echo)
        for argv in (("-v",), ("--json",), ()):
            result = self.call("chat", "-m", "x", "hi", *argv)
            self.assertQuietly(1, result)
            self.assertNotIn(OTHER_KEY, result.err + result.out.decode())


class Unknown(RelayCase):
    """A gateway whose dialect nobody has told: it is asked once, and only where it matters."""

    def setUp(self) -> None:
        super().setUp()
        del self.environ["ALLTOKEN_RELAY_DIALECT"]

    def image(self, *argv: str, **options: Any) -> Any:
        return super().image("-m", "wan2.6-t2i", "x", "-o", "x.png", "--force", *argv, **options)

    def test_it_is_asked_once_and_remembered(self):
        self.assertQuietly(0, self.image())
        self.assertEqual(self.paths()[:2], [LIST, MAKE])
        self.relay.requests.clear()
        self.assertQuietly(0, self.image())
        self.assertQuietly(0, self.call("video", "-m", "wan2.6-t2v", "x"))
        self.assertQuietly(0, self.call("models", "-l"))
        self.assertQuietly(0, self.call("cost", "--balance"))
        self.assertNotIn(LIST, self.paths())
        self.assertIn("POST /v1/video/generations", self.paths())

    def test_each_of_these_asks_first(self):
        for argv in (
            ("video", "-m", "wan2.6-t2v", "x"),
            ("models", "-l"),
            ("models", "gpt-image-2"),
            ("cost", "gpt-image-2", "1", "1"),
            ("cost", "--balance"),
        ):
            shutil.rmtree(self.state, ignore_errors=True)
            self.relay.requests.clear()
            self.assertQuietly(0, self.call(*argv))
            self.assertEqual((self.paths()[0], self.paths().count(LIST)), (LIST, 1))

    def test_chat_and_models_take_it_from_their_own_answers(self):
        for argv in (("chat", "-m", "claude-sonnet-4-6", "hi"), ("models",)):
            shutil.rmtree(self.state, ignore_errors=True)
            self.relay.requests.clear()
            self.assertQuietly(0, self.call(*argv))
            self.assertEqual(len(self.paths()), 1)
            self.relay.requests.clear()
            self.assertQuietly(0, self.image())
            self.assertEqual(self.paths()[0], MAKE)

    def test_what_chat_has_learnt_holds_for_its_own_answer(self):
        self.relay.ending = "cut"  # [DONE], and no finish reason
        self.assertQuietly(9, self.call("chat", "-m", "claude-sonnet-4-6", "hi"))

    def test_an_error_tells_as_much_as_an_answer(self):
        result = self.call("chat", "-m", "nothing", "hi")
        self.assertQuietly(1, result)  # new-api's meaning of its 503
        self.assertQuietly(0, self.image())
        self.assertEqual(self.paths(), [CHAT, MAKE, *self.paths()[2:]])

    def test_a_plain_server_is_remembered_as_one(self):
        plain = self.another("openai")
        self.environ |= self.settings("plain", plain)
        posts: list[int] = []
        for _ in range(2):
            argv = ("video", "-m", "sora-2", "--duration", "4", "x", "--gateway", "plain")
            self.assertQuietly(0, self.call(*argv))
            posts.append(self.paths(plain).index("POST /v1/videos"))
            plain.requests.clear()
        self.assertEqual(posts, [1, 0])  # what comes after it are the prices

    def test_another_root_is_another_server(self):
        self.assertQuietly(0, self.image())
        second = self.another("openai")
        result = self.call("models", "-l", ALLTOKEN_RELAY_BASE_URL=second.url)
        self.assertQuietly(0, result)
        self.assertEqual(set(self.paths(second)), {LIST})

    def test_without_a_ledger_it_is_asked_each_time(self):
        for _ in range(2):
            self.assertQuietly(0, self.image(ALLTOKEN_LEDGER="off"))
        self.assertEqual(self.paths().count(LIST), 2)

    def test_a_probe_that_fails_is_not_remembered(self):
        page = b"HTTP/1.1 %s x\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>"
        for status in (b"200", b"404", b"502"):  # of whoever stands before the relay
            shutil.rmtree(self.state, ignore_errors=True)
            self.relay.on(LIST, raw(page % status))
            self.call("models", "-l")
            self.relay.on(LIST, normal)
            self.relay.requests.clear()
            self.assertQuietly(0, self.call("models", "-l"))
            self.assertEqual(self.paths(), [LIST, "GET /api/pricing"])

    def test_nobody_there_is_status_3(self):
        url = self.relay.url
        self.relay.__exit__()
        result = self.image()
        self.assertQuietly(3, result)
        self.assertTrue(url)

    def test_dry_run_never_asks(self):
        result = self.call("video", "-m", "x", "x", "--dry-run")
        self.assertEqual(result.document["url"], f"{self.relay.url}/v1/videos")  # openai's form
        self.assertQuietly(0, self.call("models", "--dry-run", "-l"))
        self.assertQuietly(0, self.call("cost", "x", "1", "1", "--dry-run"))
        self.assertEqual(self.paths(), [])
        self.call("models")
        result = self.call("video", "-m", "x", "x", "--dry-run")
        self.assertEqual(result.document["url"], f"{self.relay.url}/v1/video/generations")
        self.assertEqual(self.paths(), [LIST])

    def test_what_is_wrong_here_is_seen_before_it_is_asked(self):
        with open("there.png", "wb") as file:
            file.write(png())
        for argv, status in (
            (("image", "-m", "x"), 2),
            (("image", "x"), 2),
            (("image", "-m", "x", "x", "--mask", "there.png"), 2),
            (("image", "-m", "x", "x", "-o", "missing/"), 13),
            (("video", "x"), 2),
            (("video", "-m", "x", "x", "-o", "-"), 2),
        ):
            with self.subTest(argv):
                self.assertQuietly(status, self.call(*argv))
        self.assertEqual(self.paths(), [])


class Rows(RelayCase):
    """The ledger knows where a call went: nobody has to say so again."""

    def setUp(self) -> None:
        super().setUp()
        self.second = self.another("openai", key=OTHER_KEY)
        self.environ |= self.settings("second", self.second, "openai")
        del self.environ["ALLTOKEN_GATEWAY"]

    def test_a_task_is_resumed_where_it_is(self):
        for name, argv in (("relay", ("wan2.6-t2v",)), ("second", ("sora-2", "--duration", "4"))):
            submitted = self.call("video", "--gateway", name, "-m", *argv, "x", "--detach", "-o", f"{name}.mp4")
            task = submitted.out.decode().strip()
            for resume in (("--resume", task), ("--resume", task, "--json")):
                result = self.call("video", *resume)
                self.assertQuietly(0, result)
            self.assertEqual(result.document["gateway"], name)
        self.assertPlace("relay.mp4", "second.mp4")
        self.assertEqual(self.gateway.requests, [])

    def test_one_id_at_two_gateways(self):
        url = self.relay.publish(self.relay.video, "mp4")
        for relay, submit, video in (
            (self.relay, "POST /v1/video/generations", self.relay.video),
            (self.second, "POST /v1/videos", self.second.video),
        ):
            relay.on(submit, reply(200, {"id": "t1"}))
            relay.on("GET /v1/videos/t1", reply(200, {"id": "t1", "status": "completed", "metadata": {"url": url}}))
            relay.on("GET /v1/videos/t1/content", reply(200, video))
        for name in ("relay", "second"):
            argv = ("video", "--gateway", name, "-m", "m", "x", "--detach", "-o", f"{name}.mp4")
            self.assertQuietly(0, self.call(*argv))
        for name in ("relay", "second"):
            result = self.call("video", "--resume", "t1", "--gateway", name, "--json")
            self.assertQuietly(0, result)
            self.assertEqual(
                (result.document["gateway"], result.document["files"]), (name, [os.path.abspath(f"{name}.mp4")])
            )
        self.assertEqual([row["status"] for row in self.rows()], ["completed"] * 2)

    def test_an_estimate_names_the_group_whose_prices_it_takes(self):
        for model, words in (("claude-sonnet-4-6", "0.5200"), ("gpt-image-2", "0.0100")):
            out = self.call("cost", model, "1000", "10", "--gateway", "relay").out.decode()
            self.assertRegex(out, r"(?m)^group: +default$")
            self.assertIn(words, out)

    def test_cost_tells_of_the_last_call_wherever_it_was(self):
        self.call("chat", "-m", "claude-sonnet-4-6", "hi", "--gateway", "relay")
        document = self.call("cost", "--json").document
        self.assertEqual((document["gateway"], document["cost"]["source"]), ("relay", "gateway"))
        self.call("chat", "gpt-5.4-mini", "hi")
        document = self.call("cost", "--json").document
        self.assertEqual((document["gateway"], document["model"]), ("alltoken", "gpt-5.4-mini"))
        document = self.call("cost", "--json", "--gateway", "relay").document
        self.assertEqual((document["gateway"], document["model"]), ("relay", "claude-sonnet-4-6"))
        self.assertRegex(self.call("cost", "--gateway", "relay").out.decode(), r"gateway: +relay\n")

    def test_sums_and_lists_are_filtered_by_a_name_that_is_given(self):
        self.call("chat", "-m", "claude-sonnet-4-6", "hi", "--gateway", "relay")
        self.call("chat", "-m", "gpt-5.4-mini", "hi", "--gateway", "second")
        self.call("chat", "gpt-5.4-mini", "hi")
        self.assertEqual(self.call("cost", "--since", "1d", "--json").document["calls"], 3)
        groups = self.call("cost", "--since", "1d", "--by", "gateway", "--json").document["groups"]
        self.assertEqual(
            {group["gateway"]: group["calls"] for group in groups}, dict.fromkeys(("relay", "second", "alltoken"), 1)
        )
        for name in ("relay", "second", "alltoken"):
            self.assertEqual(self.call("cost", "--since", "1d", "--gateway", name, "--json").document["calls"], 1)
            (row,) = self.call("cost", "--calls", "--gateway", name, "--json").document["rows"]
            self.assertEqual(row["gateway"], name)
        roots = {row["gateway"]: row["root"] for row in self.rows()}
        self.assertEqual(roots, {"relay": self.relay.url, "second": self.second.url, "alltoken": self.gateway.url})

    def test_a_row_whose_gateway_is_not_set_up_any_more_is_still_told(self):
        self.call("chat", "-m", "claude-sonnet-4-6", "hi", "--gateway", "relay")
        result = self.call("cost", ALLTOKEN_RELAY_BASE_URL=None)
        self.assertQuietly(0, result)
        self.assertRegex(result.out.decode(), r"gateway: +relay\n[\s\S]*unknown")
        self.assertQuietly(0, self.call("cost", "--since", "1d", ALLTOKEN_RELAY_BASE_URL=None))


class Documents(RelayCase):
    def test_every_command_names_its_gateway(self):
        self.call("chat", "-m", "claude-sonnet-4-6", "hi")
        for argv in (
            ("chat", "-m", "claude-sonnet-4-6", "hi"),
            ("chat", "-m", "nothing", "hi"),
            ("chat",),
            ("image", "-m", "wan2.6-t2i", "x", "-o", "x.png"),
            ("image", "-m", "wan2.6-t2i", "x", "--nonsense"),
            ("video", "-m", "wan2.6-t2v", "x"),
            ("video", "--list"),
            ("search", "x"),
            ("models",),
            ("cost", "--since", "1d"),
            ("cost", "--balance"),
        ):
            document = self.call(*argv, "--json", stdin=None).document
            self.assertEqual(document["gateway"], "relay", argv)
            self.assertEqual(
                self.call(*argv, "--json", "--gateway", "Alltoken", stdin=None).document["gateway"], "alltoken"
            )


class Names(unittest.TestCase):
    def test_no_command_and_no_call_asks_which_gateway_it_talks_to(self):
        names = {*config.KNOWN, *config.DIALECTS, "litellm", "newapi"}
        package = ROOT / "alltoken_call"
        for path in package.rglob("*.py"):
            if path.parent.name == "gateways" or path == package / "config.py":
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Compare):
                    found = {leaf.value for leaf in ast.walk(node) if isinstance(leaf, ast.Constant)}
                    self.assertFalse(found & names, f"{path}:{node.lineno}")


class Local(Case):
    """Known servers on this machine; anywhere else they are strangers with a price."""

    def test_a_local_server_is_one_only_on_loopback(self):
        with Gateway() as server:
            server.on(CHAT, stream(frames("hi"), DONE))
            for name in ("ollama", "llamacpp", "lmstudio"):
                own = {f"ALLTOKEN_{name.upper()}_BASE_URL": server.url}
                result = self.call("chat", "--gateway", name, "-m", "llama3.2", "hi", "--json", **own)
                self.assertQuietly(0, result)
                self.assertEqual(result.document["cost"], {"usd": None, "source": "local"})
        result = self.call(
            "chat", "--gateway", "ollama", "-m", "x", "hi", ALLTOKEN_OLLAMA_BASE_URL="https://far.example"
        )
        self.assertQuietly(4, result)  # it needs a key there
