"""The tests: `python3 -m unittest`. They need no key and no network: a model on this machine answers by script."""

from __future__ import annotations

import http.client
import json
import os
import threading
import unittest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from unittest import mock

from alltoken_call import Agent

from agent import make_agent
from serve import Handler, Server
from tools import calculate, current_time


def calling(tool: str, **arguments: str) -> dict[str, Any]:
    """A model's message that calls a tool."""
    function = {"name": tool, "arguments": json.dumps(arguments)}
    return {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": function}]}


class Model(BaseHTTPRequestHandler):
    """Answers with the next message of the script or, without one, with an echo."""

    script: list[dict[str, Any]] = []

    def do_POST(self) -> None:  # http.server's name
        """Answer one request for a completion."""
        messages = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"]
        echo = {"role": "assistant", "content": f"You said: {messages[-1]['content']}"}
        message = self.script.pop(0) if self.script else echo
        data = json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Case(unittest.TestCase):
    """A test with a model on this machine, and nothing of the environment."""

    def setUp(self) -> None:
        environment = mock.patch.dict(os.environ, clear=True)
        environment.start()
        self.addCleanup(environment.stop)
        Model.script = []
        self.url = f"http://127.0.0.1:{self.serve(ThreadingHTTPServer(('127.0.0.1', 0), Model))}"

    def serve(self, server: ThreadingHTTPServer) -> int:
        """Let a server run until the end of the test; its port."""
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return server.server_port

    def make(self) -> Agent:
        """An agent that asks the model on this machine."""
        agent = make_agent(base_url=self.url, api_key="no-key-is-needed", ledger=False)
        self.addCleanup(agent.close)
        return agent


class Tools(unittest.TestCase):
    """The tools by themselves."""

    def test_the_calculator_works_out_what_it_knows(self) -> None:
        for expression, value in (("2 + 3 * 4", 14), ("-(7 - 10) / 2", 1.5), ("17 // 5 + 17 % 5", 5), ("1e3", 1000)):
            self.assertEqual(calculate(expression), value)

    def test_the_calculator_refuses_everything_else(self) -> None:
        for expression in ("__import__('os')", "2 ** 99", "'a' * 9", "[1]", "x", "True", "1 if 1 else 2", "1+" * 200):
            with self.assertRaises(ValueError):
                calculate(expression)
        with self.assertRaises(ZeroDivisionError):
            calculate("1 / 0")

    def test_the_time_is_told_with_its_zone(self) -> None:
        self.assertRegex(current_time(), r"^\w+, \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC$")
        with self.assertRaises((KeyError, ValueError)):
            current_time("Nowhere/At all")


class Conversation(Case):
    """The agent, with its tools."""

    def test_a_tool_is_called_and_its_result_goes_back(self) -> None:
        Model.script = [calling("calculate", expression="6 * 7"), {"role": "assistant", "content": "It is 42."}]
        agent = self.make()
        self.assertEqual(agent.send("What is six times seven?"), "It is 42.")
        roles = [message["role"] for message in agent.get_messages()]
        self.assertEqual(roles, ["system", "user", "assistant", "tool", "assistant"])
        self.assertEqual(agent.get_messages()[3]["content"], "42")

    def test_a_failing_tool_does_not_end_the_run(self) -> None:
        Model.script = [calling("calculate", expression="1 / 0"), {"role": "assistant", "content": "I cannot."}]
        agent = self.make()
        self.assertEqual(agent.send("One by nothing?"), "I cannot.")
        self.assertIn("ZeroDivisionError", agent.get_messages()[3]["content"])


class Quiet(Handler):
    """The handler of `serve.py`, without its log."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Http(Case):
    """The agent behind `serve.py`."""

    def setUp(self) -> None:
        super().setUp()
        server = Server(0, self.make)
        server.RequestHandlerClass = Quiet
        self.port = self.serve(server)

    def post(self, document: object, path: str = "/chat", **headers: str) -> tuple[int, Any]:
        """The status and the document of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        self.addCleanup(connection.close)
        connection.request("POST", path, json.dumps(document), headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())

    def test_each_session_has_a_conversation_of_its_own(self) -> None:
        for session in ("a", "b", "a"):
            status, document = self.post({"sessionId": session, "message": f"I am {session}"})
            self.assertEqual((status, document["response"]), (200, f"You said: I am {session}"))
        said = [message["content"] for message in document["history"] if message["role"] == "user"]
        self.assertEqual(said, ["I am a", "I am a"])

    def test_what_is_wrong_is_told(self) -> None:
        right = {"sessionId": "a", "message": "hi"}
        self.assertEqual(self.post(right, "/other")[0], 404)
        self.assertEqual(self.post(right, Origin="https://example.com")[0], 403)
        wrongs: list[object] = [{}, [], {"sessionId": 1, "message": "hi"}, {"sessionId": "a", "message": " "}]
        for wrong in wrongs:
            self.assertEqual(self.post(wrong)[0], 400)


if __name__ == "__main__":
    unittest.main()
