"""Servers of others with OpenAI's API, where a virtual environment has them: LiteLLM's proxy with mock answers, and
llmock, which breaks its answers on demand. `ALLTOKEN_TEST_STRANGERS` names the environment.

    python3 -m venv /tmp/strangers && /tmp/strangers/bin/pip install 'litellm[proxy]' llmock
    ALLTOKEN_TEST_STRANGERS=/tmp/strangers python3 -m unittest tests.test_strangers
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.request
from decimal import Decimal
from typing import Any

from .task_support import TaskCase

PLACE = os.environ.get("ALLTOKEN_TEST_STRANGERS", "")
STARTING = 120.0  # seconds that a proxy may take until it answers
STRANGER_KEY = "sk-loopback-stranger"
MODELS = {  # name: LiteLLM's model, and what it answers
    "gpt-4o-mini": ("openai/gpt-4o-mini", "Hello from the mock"),
    "gpt-5-mini": ("openai/gpt-5-mini", "Without a temperature"),
    "unpriced": ("openai/a-model-that-nobody-knows", "Without a price"),
    "limited": ("openai/gpt-4o", "litellm.RateLimitError"),
    "broken": ("openai/gpt-4o", "litellm.InternalServerError"),
    "long": ("openai/gpt-4o", "litellm.ContextWindowExceededError"),
}


@unittest.skipUnless(PLACE, "ALLTOKEN_TEST_STRANGERS names no environment with LiteLLM and llmock")
class Stranger(TaskCase):
    """A server of `program`, on a port of its own, for all tests of a class."""

    program = ""
    ready = "/health"
    url = ""

    @classmethod
    def words(cls, folder: str, port: int) -> list[str]:
        """The words that start it."""
        raise NotImplementedError

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        path = os.path.join(PLACE, "bin", cls.program)
        if not os.path.exists(path):
            raise unittest.SkipTest(f"there is no {path}")
        folder = tempfile.mkdtemp()
        cls.addClassCleanup(shutil.rmtree, folder, ignore_errors=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        environ = {"PATH": os.environ.get("PATH", ""), "HOME": folder, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        environ |= {"LITELLM_TELEMETRY": "False", "LITELLM_LOG": "ERROR", "NO_PROXY": "*"}
        with open(os.path.join(folder, "log"), "wb") as log:
            process = subprocess.Popen(
                [path, *cls.words(folder, port)],
                cwd=folder,
                env=environ,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        cls.addClassCleanup(process.wait)
        cls.addClassCleanup(process.kill)
        cls.url = f"http://127.0.0.1:{port}"
        until = time.monotonic() + STARTING
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{cls.url}{cls.ready}", timeout=5).close()
                return
            if process.poll() is not None or time.monotonic() > until:
                with open(os.path.join(folder, "log"), errors="replace") as log_file:
                    raise AssertionError(f"{cls.program} does not start: {log_file.read()[-2000:]}")
            time.sleep(0.2)

    def setUp(self) -> None:
        super().setUp()
        self.at("")

    def at(self, path: str) -> None:
        """Make the API below `path` of the server the default gateway, of a dialect that nobody tells."""
        self.environ |= {"ALLTOKEN_GATEWAY": "stranger", "ALLTOKEN_STRANGER_API_KEY": STRANGER_KEY}
        self.environ["ALLTOKEN_STRANGER_BASE_URL"] = self.url + path

    def ask(self, model: str, *argv: str, status: int = 0) -> dict[str, Any]:
        """The document of one chat, which ends with this status."""
        result = self.call("chat", "-m", model, "hello", *argv, "--json", "--fallback", "none")
        self.assertQuietly(status, result)
        self.err, self.sleeps = result.err, result.sleeps
        return result.document


class LiteLLM(Stranger):
    program = "litellm"
    ready = "/health/liveliness"

    @classmethod
    def words(cls, folder: str, port: int) -> list[str]:
        listed = [
            {"model_name": name, "litellm_params": {"model": model, "api_key": "none", "mock_response": answer}}
            for name, (model, answer) in MODELS.items()
        ]
        config = {"model_list": listed, "general_settings": {"master_key": STRANGER_KEY}}
        config["litellm_settings"] = {"num_retries": 0, "include_cost_in_streaming_usage": True}
        path = os.path.join(folder, "config.yaml")
        with open(path, "w") as file:
            json.dump(config, file)  # which is YAML, too
        return ["--config", path, "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]

    def test_answers_have_their_cost_streamed_or_not(self):
        for argv in ((), ("--no-stream",)):
            document = self.ask("gpt-4o-mini", *argv)
            self.assertEqual((document["text"], document["finish_reason"]), ("Hello from the mock", "stop"))
            self.assertEqual(document["cost"]["source"], "gateway")
            self.assertGreater(Decimal(document["cost"]["usd"]), 0)
            self.assertTrue(document["request_id"])

    def test_a_model_without_a_price_is_of_unknown_cost(self):
        for argv in ((), ("--no-stream",)):
            document = self.ask("unpriced", *argv)
            self.assertEqual((document["text"], document["cost"]["usd"]), ("Without a price", None))

    def test_a_field_that_the_model_does_not_take_is_left_out(self):
        self.assertEqual(self.ask("gpt-5-mini", "-t", "0.2")["text"], "Without a temperature")
        self.assertIn("refuses temperature", self.err)

    def test_errors(self):
        self.ask("limited", status=7)
        self.assertEqual(len(self.sleeps), 2)
        self.ask("broken", status=5)
        self.assertEqual(self.ask("long", status=1)["cost"]["source"], "none")
        self.assertIn("nothing", self.ask("nothing", status=1)["error"]["message"])

    def test_models(self):
        result = self.call("models")
        self.assertQuietly(0, result)
        self.assertEqual(set(result.out.decode().split()), set(MODELS))
        self.assertQuietly(0, self.call("models", "-l"))
        self.assertQuietly(1, self.call("cost", "--balance"))

    def test_a_video_model_that_is_not_there(self):
        self.assertQuietly(1, self.call("video", "-m", "sora-2", "x"))


class Llmock(Stranger):
    program = "llmock"

    @classmethod
    def words(cls, folder: str, port: int) -> list[str]:
        return ["serve", "--host", "127.0.0.1", "--port", str(port), "--response-style", "echo"]

    def next(self, **behaviour: Any) -> None:
        """What the next request meets."""
        data = json.dumps({"behaviors": [behaviour]}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/_llmock/scenario", data, headers)
        urllib.request.urlopen(request, timeout=10).close()

    def test_the_compatible_ends_of_seven_providers(self):
        for path in ("", "/groq/openai", "/mistral", "/perplexity", "/together", "/xai", "/ai21"):
            with self.subTest(path):
                self.at(path)
                names = self.call("models").out.decode().split()
                self.assertTrue(names)
                for argv in ((), ("--no-stream",)):
                    document = self.ask(names[0], *argv)
                    self.assertIn(document["finish_reason"], ("stop", "eos"))  # Together says eos
                    self.assertIsNone(document["cost"]["source"])
                    self.assertTrue(document["text"] and document["usage"]["total_tokens"])

    def test_errors_of_http(self):
        for http, status in ((400, 1), (401, 4), (402, 6), (403, 4), (404, 1), (422, 1), (500, 5), (502, 5)):
            self.next(type="fail", status=http)
            self.assertEqual(self.ask("gpt-4o", status=status)["error"]["status"], http)
        for http in (429, 503):  # once, and then an answer
            self.next(type="fail", status=http, retry_after=3)
            self.ask("gpt-4o")
            self.assertEqual(self.sleeps, [3.0])

    def test_streams_that_break(self):
        for kind in ("disconnect", "truncate", "malformed"):
            with self.subTest(kind):
                self.next(type="stream_fault", kind=kind, after_chunks=3)
                document = self.ask("gpt-4o", status=9)
                self.assertTrue(document["text"])
                self.assertIn("cut short", document["error"]["message"])

    def test_an_image_that_is_none_of_ours_is_kept(self):
        result = self.call("image", "-m", "gpt-image-1", "a cat", "-o", "x.png")  # a drawing in SVG
        self.assertQuietly(9, result)
        self.assertTrue(any(name.startswith("spool") for name in self.kept()))
        self.assertPlace()
