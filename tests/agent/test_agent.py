"""`Agent`: runs and their events, their ends, the conversation, tools, limits, and what is left after `close`."""

from __future__ import annotations

import gc
import json
import os
import shlex
import socket
import ssl
import subprocess
import threading
import time
import unittest
import uuid
from decimal import Decimal
from unittest import mock
from urllib.parse import urlsplit

from alltoken_call import Agent, CallError, Event, Tool, Unfinished
from alltoken_call.agent import events
from alltoken_call.agent.tools import declared
from alltoken_call.errors import KeyProblem, UsageError

from ..gateway import CHAT, KEY, USAGE, Gateway, delta, event, refuse, reply, stream
from ..harness import PATIENCE, PYTHON
from ..loop_support import calling, saying, wanted
from .processes import running
from .support import AgentCase, weather
from .test_mcp import SCRIPT

NAMES = [one.name for one in events.ALL]
TWO_CALLS = [
    *("message:user", "thinking:start", "stream:start", "stream:delta", "stream:end"),
    *("tool:call", "tool:result", "tool:call", "tool:result", "step"),
    *("stream:start", "stream:delta", "stream:end", "step", "message:assistant", "thinking:end"),
]
SILENT = stream(event(delta("begun")), "hold")


def heard(agent: Agent) -> list[tuple]:
    """A list that gets every event of an agent's handlers: its name and its fields."""
    found: list[tuple] = []
    for name in NAMES:
        agent.on(name, lambda *fields, name=name: found.append((name, *fields)))
    return found


class Events(AgentCase):
    def two_calls(self) -> None:
        first = calling(wanted("weather"), wanted("weather", '{"city":"Rome","days":2}', id="call_2"), text="Well.")
        self.gateway.on(CHAT, first, saying("All sunny"))

    def test_a_run_with_two_calls_has_its_events_in_their_order(self):
        self.two_calls()
        agent = self.agent(tools=[weather])
        told = heard(agent)
        seen = list(agent.stream("the weather?"))
        self.assertEqual([one.name for one in seen], TWO_CALLS)
        self.assertEqual([(one.name, *one.values()) for one in seen], told)
        self.assertTrue(all(isinstance(one, Event) for one in seen))
        calls = [one for one in told if one[0].startswith("tool:")]
        self.assertEqual(calls[0], ("tool:call", "weather", {"city": "Bern"}, "call_1"))
        self.assertEqual(calls[3], ("tool:result", "weather", "Rome: sunny for 2 day(s)", "call_2"))
        steps = [one for one in told if one[0] == "step"]
        self.assertEqual(steps[0][2], Decimal("0.0000188000"))
        self.assertEqual(steps[0][1]["total_tokens"], 31)
        self.assertEqual(told[-2][1], {"role": "assistant", "content": "All sunny"})
        delta_event = next(one for one in seen if one.name == "stream:delta")
        self.assertEqual((delta_event.text, delta_event.so_far), ("Well.", "Well."))

    def test_send_tells_the_same_events_and_returns_the_final_text(self):
        self.two_calls()
        agent = self.agent(tools=[weather])
        told = heard(agent)
        self.assertEqual(agent.send("the weather?"), "All sunny")
        self.assertEqual([one[0] for one in told], TWO_CALLS)

    def test_a_delta_tells_the_text_so_far(self):
        self.gateway.on(CHAT, stream(event(delta("a")), 0.2, event(delta("b")), event(delta(finish="stop"))))
        agent = self.agent()
        told = heard(agent)
        agent.send("hi")
        self.assertEqual([one[1:] for one in told if one[0] == "stream:delta"], [("a", "a"), ("b", "ab")])

    def test_an_error_is_told_and_raised_and_thinking_ends(self):
        self.gateway.on(CHAT, refuse(402, "insufficient_balance"))
        agent = self.agent()
        told = heard(agent)
        seen = []
        with self.assertRaises(CallError) as caught:
            for one in agent.stream("hi"):
                seen.append(one.name)
        order = ["message:user", "thinking:start", "stream:start", "error", "thinking:end"]
        self.assertEqual((seen, [one[0] for one in told]), (order, order))
        error = caught.exception
        self.assertIs(error, told[3][1])
        self.assertEqual((error.code, int(error.status), error.http), ("insufficient_balance", 6, 402))
        self.assertTrue(error.hint and error.message)
        self.assertEqual(error.partial.cost.source, "none")

    def test_a_cancelled_run_has_its_events_in_their_order(self):
        self.gateway.on(CHAT, SILENT)
        agent = self.agent()
        told = heard(agent)
        with self.cancelled(agent, ready=lambda: "stream:delta" in [one[0] for one in told]):
            agent.send("hi")
        order = ["message:user", "thinking:start", "stream:start", "stream:delta", "error", "thinking:end"]
        self.assertEqual([one[0] for one in told], order)
        self.assertEqual(told[4][1].partial.text, "begun")

    def test_on_returns_a_function_that_takes_the_handler_off(self):
        agent = self.agent()
        told = []
        off = agent.on("thinking:start", lambda: told.append(1))
        other = agent.on("thinking:start", lambda: told.append(2))
        agent.send("hi")
        off()
        off()
        agent.send("hi")
        other()
        agent.send("hi")
        self.assertEqual(told, [1, 2, 2])

    def test_one_handler_twice_is_called_twice_and_comes_off_once(self):
        agent = self.agent()
        told = []
        first = agent.on("thinking:start", lambda: told.append(1))
        agent.on("thinking:start", lambda: told.append(1))
        first()
        agent.send("hi")
        self.assertEqual(told, [1])

    def test_a_name_that_there_is_not_is_refused_with_those_that_there_are(self):
        error = self.failure(self.agent().on, "stream:detla", print)
        self.assertIsInstance(error, UsageError)
        self.assertIn("stream:delta", error.hint)

    def test_a_handlers_exception_ends_the_run_and_is_raised_whatever_the_event(self):
        for name in NAMES:
            with self.subTest(name):
                self.gateway.on(CHAT, calling("weather", text="Well."), saying("sunny"))
                if name == "error":
                    self.gateway.on(CHAT, refuse(401, "invalid_api_key"))
                with Agent(tools=[weather]) as agent:
                    ends = []
                    agent.on("thinking:end", lambda: ends.append(1))  # noqa: B023

                    def fail(*_, name=name):
                        raise ZeroDivisionError(name)

                    off = agent.on(name, fail)
                    with self.assertRaisesRegex(ZeroDivisionError, name):
                        agent.send("hi")
                    self.assertEqual(ends, [1])
                    off()
                    self.gateway.on(CHAT, saying("again"))
                    self.assertEqual(agent.send("hi"), "again")  # no harm was done

    def test_handlers_hear_that_thinking_ends_if_the_iterator_is_closed(self):
        agent = self.agent()
        told = heard(agent)
        run = agent.stream("hi")
        next(run)
        run.close()
        self.assertEqual([one[0] for one in told], ["message:user", "thinking:end"])

    def test_a_handler_may_start_the_next_run_only_after_this_one(self):
        agent = self.agent()
        errors = []
        agent.on("thinking:start", lambda: errors.append(self.failure(agent.send, "inner").code))
        agent.send("outer")
        self.assertEqual(errors, ["busy"])
        for one in agent.stream("outer"):
            if one.name == "thinking:end":
                agent.send("after it")
        self.assertEqual(self.asked(), 3)

    def test_a_server_that_does_not_come_up_is_an_error_event(self):
        agent = self.agent(mcp=["false"])
        told = heard(agent)
        error = self.failure(agent.send, "hi")
        self.assertEqual((error.code, [one[0] for one in told]), ("usage", ["error", "thinking:end"]))
        self.assertEqual((self.asked(), agent.get_messages()), (0, []))


class Cancel(AgentCase):
    def test_while_a_stream_is_silent(self):
        self.gateway.on(CHAT, SILENT)
        agent = self.agent()
        with self.cancelled(agent, ready=self.asked):
            agent.send("hi")
        self.assertEqual(self.rows("exit_status, source, request_id"), [(130, None, "req_loopback_1")])

    def test_before_the_answer_begins_and_while_it_flows(self):
        agent = self.agent()
        self.gateway.on(CHAT, lambda exchange: exchange.hold())
        with self.cancelled(agent, ready=self.asked):
            agent.send("hi")
        self.gateway.on(CHAT, stream(*[event(delta("a")), 0.02] * 400))
        with self.cancelled(agent, ready=lambda: self.asked() == 2):
            agent.send("hi")
        self.assertEqual(self.rows("exit_status"), [(130,), (130,)])

    def test_while_a_server_starts(self):
        agent = self.agent(mcp=["sleep 60"])
        with self.cancelled(agent, after=0.3):
            agent.send("hi")
        self.assertEqual(self.asked(), 0)

    def test_in_one_piece_too(self):
        self.gateway.on(CHAT, lambda exchange: exchange.hold())
        agent = self.agent()
        with self.cancelled(agent, ready=self.asked):
            agent.send_sync("hi")

    def test_while_nobody_takes_the_connection(self):
        with socket.socket() as deaf:
            deaf.bind(("127.0.0.1", 0))
            deaf.listen(0)
            address = deaf.getsockname()
            fillers = [socket.socket() for _ in range(3)]
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(address)
                self.addCleanup(filler.close)
            time.sleep(0.05)
            agent = self.agent(base_url=f"http://127.0.0.1:{address[1]}")
            with self.cancelled(agent, after=0.3):
                agent.send("hi")
        self.assertEqual(self.rows("exit_status, source"), [(130, "none")])  # it never left

    def test_while_a_handshake_hangs(self):
        with socket.socket() as deaf:
            deaf.bind(("127.0.0.1", 0))
            deaf.listen(5)
            agent = self.agent(base_url=f"https://127.0.0.1:{deaf.getsockname()[1]}")
            with self.cancelled(agent, after=0.3):
                agent.send("hi")

    def test_while_a_body_is_not_taken(self):
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.bind(("127.0.0.1", 0))
            deaf.listen(5)
            agent = self.agent(base_url=f"http://127.0.0.1:{deaf.getsockname()[1]}")
            with self.cancelled(agent, after=0.3):
                agent.send("x" * (16 << 20))

    def test_while_a_retry_waits(self):
        self.gateway.on(CHAT, refuse(429, "rate_limited", headers={"Retry-After": "30"}))
        agent = self.agent()
        with self.cancelled(agent, ready=self.asked):
            agent.send("hi")
        self.assertEqual(len(self.rows()), 1)

    def test_while_a_function_sleeps(self):
        woken = threading.Event()
        self.addCleanup(woken.set)

        def nap() -> str:
            """Sleep."""
            woken.wait(PATIENCE)
            return "late"

        self.gateway.on(CHAT, calling(wanted("nap", "{}")))
        agent = self.agent(tools=[nap])
        told = heard(agent)
        with self.cancelled(agent, ready=lambda: told and told[-1][0] == "tool:call"):
            agent.send("hi")
        self.assertEqual([one[0] for one in told[-3:]], ["tool:result", "error", "thinking:end"])
        self.assertIn("may have taken effect", agent.get_messages()[-1]["content"])

    def test_while_a_program_sleeps_which_is_ended(self):
        marker = uuid.uuid4().hex
        path = self.file("nap", f'#!/bin/sh\n# tool: {{"description": "sleep"}}\nexec sleep 60.{int(marker[:8], 16)}\n')
        os.chmod(path, 0o755)
        environ = {"PATH": os.defpath}
        self.gateway.on(CHAT, calling(wanted("nap", "{}")))
        agent = self.agent(tools=[declared(path, environ)])
        sleeping = f"sleep 60.{int(marker[:8], 16)}"
        with self.cancelled(agent, ready=lambda: running(sleeping)):
            agent.send("hi")
        self.assertEqual(running(sleeping), [])

    def test_between_two_events(self):
        agent = self.agent()
        with self.assertRaises(CallError) as caught:
            for one in agent.stream("hi"):
                if one.name == "thinking:start":
                    agent.cancel()
        self.assertEqual((caught.exception.code, self.asked()), ("cancelled", 0))

    def test_without_a_run_it_does_not_end_the_next_one(self):
        agent = self.agent()
        agent.cancel()
        self.assertTrue(agent.send("hi"))

    def test_the_agent_goes_on_after_it(self):
        agent = self.agent()
        self.gateway.on(CHAT, SILENT, saying("fine"))
        with self.cancelled(agent, ready=self.asked):
            agent.send("hi")
        self.assertEqual((agent.get_messages(), agent.send("again")), ([], "fine"))
        self.assertEqual((agent.cost, agent.usage), (None, None))  # what the first one cost is not known


class Tls(AgentCase):
    def test_while_a_stream_is_silent_under_tls(self):
        files = [os.path.join(self.folder, name) for name in ("cert.pem", "key.pem")]
        make = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
        names = ["-addext", "subjectAltName=IP:127.0.0.1", "-out", files[0], "-keyout", files[1]]
        try:
            subprocess.run(["/usr/bin/openssl", *make.split(), *names], check=True, capture_output=True)
        except FileNotFoundError:
            raise unittest.SkipTest("openssl makes the certificate") from None
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*files)
        trust = ssl.create_default_context(cafile=files[0])
        with (
            Gateway(tls=tls) as secure,
            mock.patch("alltoken_call.net.trust.quick", lambda: None),
            mock.patch("alltoken_call.net.trust.full", lambda: trust),
        ):
            agent = self.agent(base_url=secure.url)
            self.assertTrue(agent.send("hi"))
            secure.on(CHAT, SILENT)
            with self.cancelled(agent, after=0.5, ready=lambda: secure.count(CHAT) == 2):
                agent.send("hi")


class Servers(AgentCase):
    def server(self, **behaviour) -> str:
        self.marker = f"marker-{uuid.uuid4().hex}"
        return shlex.join([*PYTHON, "-E", SCRIPT, json.dumps(behaviour), self.marker])

    def test_their_tools_are_called_once_approved_and_they_end_with_the_agent(self):
        self.gateway.on(CHAT, calling(wanted("mcp_server__echo", '{"text":"hi"}')), saying("done"))
        asked = []
        agent = self.agent(mcp=[self.server()], approve=lambda call: asked.append(call.name) or True)
        self.assertEqual(running(self.marker), [])
        agent.send("hi")
        self.assertEqual((asked, agent.get_messages()[2]["content"]), (["mcp_server__echo"], "hi"))
        self.assertEqual(len(running(self.marker)), 1)
        agent.send("again")
        self.assertEqual(len(running(self.marker)), 1)
        agent.close()
        self.assertEqual(running(self.marker), [])

    def test_without_approve_their_calls_are_refused_and_functions_run(self):
        calls = calling(wanted("mcp_server__echo", '{"text":"hi"}'), wanted("weather", id="call_2"))
        self.gateway.on(CHAT, calls, saying("done"))
        agent = self.agent(mcp=[self.server()], tools=[weather])
        agent.send("hi")
        results = [one["content"] for one in agent.get_messages() if one["role"] == "tool"]
        self.assertIn("refused", results[0])
        self.assertIn("approve", results[0])
        self.assertEqual(results[1], "Bern: sunny for 1 day(s)")

    def test_cancel_while_one_hangs_in_a_call_or_at_its_start(self):
        self.gateway.on(CHAT, calling(wanted("mcp_server__silent", "{}")))
        agent = self.agent(mcp=[self.server()], approve=lambda _: True)
        told = heard(agent)
        with self.cancelled(agent, ready=lambda: told and told[-1][0] == "tool:call"):
            agent.send("hi")
        agent.close()
        agent = self.agent(mcp=[self.server(mute="initialize")])
        with self.cancelled(agent, ready=lambda: running(self.marker)):
            agent.send("hi")
        agent.close()
        self.assertEqual(running(self.marker), [])

    def test_an_agent_that_nobody_closes_leaves_none_behind(self):
        self.gateway.on(CHAT, saying("done"))
        agent = Agent(mcp=[self.server()])
        agent.send("hi")
        del agent
        gc.collect()
        self.assertEqual(running(self.marker), [])


class Ends(AgentCase):
    def test_two_sends_at_once_are_one_answer_and_one_busy(self):
        gate = threading.Event()

        def slow(exchange) -> None:
            gate.wait(PATIENCE)
            saying("one")(exchange)

        self.gateway.on(CHAT, slow)
        agent = self.agent()
        answers = []
        thread = threading.Thread(target=lambda: answers.append(agent.send("hi")))
        thread.start()
        while not self.asked():
            time.sleep(0.01)
        for second in (agent.send, agent.send_sync, lambda text: list(agent.stream(text))):
            error = self.failure(second, "me too")
            self.assertEqual((error.code, int(error.status)), ("busy", 2))
        gate.set()
        thread.join()
        self.assertEqual((answers, self.asked(), len(agent.get_messages())), (["one"], 1, 2))

    def test_what_a_closed_run_has_cost_is_known_if_that_had_come(self):
        self.gateway.on(
            CHAT, reply(200, {"choices": [{"message": {"content": "all"}}], "usage": USAGE | {"cost": 0.5}})
        )
        agent = self.agent(ledger=False)
        off = agent.on("stream:delta", lambda *_: 1 / 0)
        with self.assertRaises(ZeroDivisionError):
            agent.send_sync("hi")
        off()
        self.assertEqual((agent.cost, agent.usage["total_tokens"]), (Decimal("0.5"), USAGE["total_tokens"]))

    def test_closing_the_iterator_cancels_and_leaves_a_row(self):
        self.gateway.on(CHAT, SILENT, saying("fine"))
        agent = self.agent()
        run = agent.stream("hi")
        for one in run:
            if one.name == "stream:delta":
                break
        run.close()
        self.assertEqual(self.rows("exit_status, source, request_id"), [(130, None, "req_loopback_1")])
        self.assertEqual((agent.get_messages(), list(run)), ([], []))
        self.assertEqual(agent.send("hi"), "fine")

    def test_leaving_the_loop_early_cancels_too(self):
        self.gateway.on(CHAT, SILENT, saying("fine"))
        agent = self.agent()
        for one in agent.stream("hi"):
            if one.name == "stream:delta":
                break
        gc.collect()
        self.assertEqual((self.rows("exit_status"), agent.send("hi")), ([(130,)], "fine"))

    def test_a_run_that_is_never_begun_costs_nothing(self):
        agent = self.agent()
        agent.stream("hi")
        self.assertEqual((agent.send("hi") != "", self.asked()), (True, 1))

    def test_after_a_failed_request_the_history_ends_with_what_was_whole(self):
        agent = self.agent(tools=[weather], instructions="be brief")
        self.gateway.on(CHAT, saying("fine"))
        agent.send("one")
        before = agent.get_messages()
        for step in (refuse(400, "invalid_request"), stream(event(delta("cut")), "cut"), refuse(401, "invalid_token")):
            self.gateway.on(CHAT, step)
            self.failure(agent.send, "two")
            self.assertEqual(agent.get_messages(), before)
        self.gateway.on(CHAT, calling("weather"), refuse(400, "invalid_request"), saying("sunny"))
        self.failure(agent.send, "three")
        roles = [one["role"] for one in agent.get_messages()[len(before) :]]
        self.assertEqual(roles, ["user", "assistant", "tool"])
        self.assertEqual(agent.send(None), "sunny")
        self.assertEqual(agent.get_messages()[-1], {"role": "assistant", "content": "sunny"})

    def test_limits_raise_unfinished_and_none_goes_on(self):
        steps = (calling("weather"), calling(wanted("weather", id="b")), saying("sunny"))
        for options, code in (({"max_steps": 1}, "max_steps"), ({"max_cost": "0.0000188"}, "max_cost")):
            with self.subTest(code):
                self.gateway.on(CHAT, *steps)
                agent = self.agent(tools=[weather], **options)
                for content in ("hi", None):
                    with self.assertRaises(Unfinished) as caught:
                        agent.send(content)
                    self.assertEqual((caught.exception.code, int(caught.exception.status)), (code, 8))
                self.assertEqual(agent.send(None), "sunny")
                self.assertEqual(agent.cost, 3 * Decimal("0.0000188"))

    def test_max_cost_is_exact(self):
        for limit, ends in ((Decimal("0.0000188"), True), (Decimal("0.0000188001"), False), (0.00002, False)):
            self.gateway.on(CHAT, calling("weather"), saying("sunny"))
            with Agent(tools=[weather], max_cost=limit) as agent:
                self.assertEqual(
                    self.failure(agent.send, "hi").code if ends else agent.send("hi"), "max_cost" if ends else "sunny"
                )

    def test_max_wait_ends_a_tool_and_the_next_run_has_its_own_time(self):
        def nap() -> str:
            """Sleep."""
            time.sleep(0.6)
            return "late"

        self.gateway.on(CHAT, calling(wanted("nap", "{}")), saying("fine"))
        agent = self.agent(tools=[nap], max_wait=0.4)
        with self.assertRaises(Unfinished) as caught:
            agent.send("hi")
        self.assertEqual(caught.exception.code, "max_wait")
        self.assertEqual(agent.send(None), "fine")
        self.gateway.on(CHAT, SILENT)
        self.assertEqual(int(self.failure(agent.send, "hi").status), 9)

    def test_nothing_to_go_on_with_is_refused_unsent(self):
        self.assertEqual((self.failure(self.agent().send, None).code, self.gateway.requests), ("usage", []))

    def test_close_ends_a_run_in_another_thread_and_there_are_no_more(self):
        self.gateway.on(CHAT, SILENT)
        agent = self.agent()
        codes = []
        thread = threading.Thread(target=lambda: codes.append(self.failure(agent.send, "hi").code))
        thread.start()
        while not self.asked():
            time.sleep(0.01)
        agent.close()
        thread.join(PATIENCE)
        agent.close()
        self.assertEqual(codes, ["cancelled"])
        self.assertEqual(self.failure(agent.send, "hi").code, "closed")
        self.assertEqual(self.rows("exit_status"), [(130,)])

    def test_close_ends_a_run_that_its_consumer_has_left_hanging(self):
        self.gateway.on(CHAT, SILENT)
        with Agent() as agent:
            run = agent.stream("hi")
            while next(run).name != "stream:delta":
                pass
        self.assertEqual((self.rows("exit_status"), list(run)), ([(130,)], []))

    def test_close_in_a_handler_ends_the_run(self):
        agent = self.agent()
        agent.on("stream:start", agent.close)
        self.assertEqual(self.failure(agent.send, "hi").code, "cancelled")
        self.assertEqual(self.asked(), 0)

    def test_ten_agents_in_ten_threads(self):
        answers: dict[int, list[str]] = {}

        def talk(number: int) -> None:
            with Agent(instructions=f"you are {number}") as agent:
                answers[number] = [agent.send(f"question {number}.{turn}") for turn in range(3)]
                assert len(agent.get_messages()) == 7

        threads = [threading.Thread(target=talk, args=(number,)) for number in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for number in range(10):
            for turn, text in enumerate(answers[number]):
                self.assertTrue(text.endswith(f"echoes: question {number}.{turn}"), text)
        self.assertEqual(self.rows("exit_status, source"), [(0, "gateway")] * 30)


class Conversation(AgentCase):
    def test_instructions_are_the_system_message_and_can_be_changed(self):
        agent = self.agent(instructions="one")
        agent.send("hi")
        agent.set_instructions("two")
        agent.send("hi")
        systems = [
            [m["content"] for m in one.json["messages"] if m["role"] == "system"] for one in self.gateway.requests
        ]
        self.assertEqual(systems, [["one"], ["two"]])
        agent.clear_history()
        self.assertEqual(agent.get_messages(), [{"role": "system", "content": "two"}])
        agent.set_instructions("")
        self.assertEqual(agent.get_messages(), [])

    def test_get_messages_is_a_copy(self):
        agent = self.agent()
        agent.send("hi")
        agent.get_messages()[0]["content"] = "changed"
        self.assertEqual(agent.get_messages()[0]["content"], "hi")

    def test_params_temperature_and_the_model_are_in_each_request(self):
        agent = self.agent("glm-5.1", temperature=0, params={"top_p": 0.5, "max_tokens": 9})
        agent.send("hi")
        agent.send_sync("hi")
        first, second = [one.json for one in self.gateway.requests]
        for body in (first, second):
            self.assertEqual(
                (body["model"], body["temperature"], body["top_p"], body["max_tokens"]), ("glm-5.1", 0, 0.5, 9)
            )
        self.assertEqual((first["stream"], first["stream_options"]), (True, {"include_usage": True}))
        self.assertEqual((second["stream"], "stream_options" in second), (False, False))

    def test_send_sync_is_the_same_loop_unstreamed(self):
        def whole(*calls, text=None):
            message = {"role": "assistant", "content": text, "tool_calls": list(calls)}
            return {
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"total_tokens": 3},
            }

        def reply(document):
            return lambda exchange: exchange.reply(200, document)

        self.gateway.on(CHAT, reply(whole(wanted("weather"))), reply(whole(text="sunny")))
        agent = self.agent(tools=[weather])
        told = heard(agent)
        self.assertEqual(agent.send_sync("hi"), "sunny")
        self.assertEqual([one[1:] for one in told if one[0] == "stream:delta"], [("sunny", "sunny")])
        self.assertEqual([one[0] for one in told if one[0].startswith("tool")], ["tool:call", "tool:result"])

    def test_enable_search_searches_and_is_recorded_as_search(self):
        agent = self.agent(enable_search=True)
        agent.send("hi")
        body = self.gateway.requests[0].json
        self.assertEqual((body["model"], body["enable_search"]), ("deepseek-v4-pro", True))
        self.assertEqual(self.rows("command, model"), [("search", "deepseek-v4-pro")])
        self.assertEqual(self.failure(Agent, "gpt-5.4", enable_search=True).code, "usage")

    def test_images_go_in_a_list_of_parts(self):
        parts = [
            {"type": "text", "text": "what is it?"},
            {"type": "image_url", "image_url": {"url": "https://x/a.png"}},
        ]
        self.agent().send(parts)
        self.assertEqual(self.gateway.requests[0].json["messages"], [{"role": "user", "content": parts}])

    def test_usage_and_cost_are_sums_and_a_refusal_costs_nothing(self):
        agent = self.agent()
        self.assertEqual((agent.usage, agent.cost), ({}, 0))
        self.gateway.on(CHAT, refuse(402, "insufficient_balance"), saying("one"), saying("two"))
        self.failure(agent.send, "hi")
        self.assertEqual((agent.usage, agent.cost), ({}, 0))
        inside = []
        agent.on("step", lambda *_: inside.append(agent.cost))
        agent.send("hi")
        agent.send("hi")
        agent.clear_history()
        self.assertEqual((agent.usage["total_tokens"], agent.cost), (62, Decimal("0.0000376")))
        self.assertEqual(inside, [Decimal("0.0000188"), Decimal("0.0000376")])
        self.gateway.on(CHAT, saying("three", cost=None))
        agent.send("hi")
        self.assertEqual((agent.usage["total_tokens"], agent.cost), (93, None))

    def test_what_cannot_be_used_is_refused_before_anything_is_sent(self):
        for options in (
            *({"params": {name: 1}} for name in ("model", "messages", "stream", "n")),
            *({"params": {"a": value}} for value in (float("nan"), object(), {1})),
            *({"max_steps": value} for value in (0, float("inf"))),
            *({"max_cost": value} for value in (-1, "much", float("nan"), "inf")),
            *({"temperature": value} for value in (-1, 2.5, float("nan"), "hot")),
            *({name: value} for name in ("timeout", "tool_timeout", "max_wait") for value in (0, -1, float("nan"))),
            *({"gateway": value} for value in ("no such", "unheard-of")),
            {"base_url": "http://example.com"},
            {"thread": self.file("not.json", "not a thread")},
            {"mcp": ["'"]},
        ):
            with self.subTest(options):
                error = self.failure(lambda options=options: Agent(**options).send("hi"))
                self.assertEqual(int(error.status), 2, error)
        self.assertEqual(self.gateway.requests, [])

    def test_the_key_and_the_base_url_may_be_the_programs_own(self):
        with mock.patch.dict(os.environ):
            del os.environ["ALLTOKEN_API_KEY"], os.environ["ALLTOKEN_BASE_URL"]
            self.assertIsInstance(self.failure(Agent), KeyProblem)
            self.assertTrue(self.agent(api_key=KEY, base_url=self.gateway.url).send("hi"))
            agent = self.agent("m", gateway="my-own", base_url=self.gateway.url)  # loopback: no key is needed
            self.assertEqual(self.failure(agent.send, "hi").http, 401)
        self.assertEqual(self.gateway.requests[0].headers["Authorization"], f"Bearer {KEY}")
        self.assertNotIn("Authorization", self.gateway.requests[1].headers)

    def test_the_default_model_is_the_environments(self):
        with mock.patch.dict(os.environ, ALLTOKEN_CHAT_MODEL="glm-5.1"):
            self.agent().send("hi")
        self.assertEqual(self.gateway.requests[0].json["model"], "glm-5.1")


class Thread(AgentCase):
    def setUp(self) -> None:
        super().setUp()
        self.path = os.path.join(self.folder, "talk.json")

    def saved(self):
        with open(self.path, encoding="utf-8") as file:
            return json.load(file)

    def test_a_thread_is_kept_and_taken_up_with_its_model_by_the_command_line_and_by_an_agent(self):
        with Agent("glm-5.1", thread=self.path, instructions="be brief") as agent:
            agent.send("one")
            self.assertEqual(self.saved(), {"model": "glm-5.1", "messages": agent.get_messages()})
        self.assertEqual(self.chat("--thread", self.path, "two").status, 0)
        agent = self.agent(thread=self.path)
        agent.send("three")
        self.assertEqual({one.json["model"] for one in self.gateway.requests}, {"glm-5.1"})
        roles = [one["role"] for one in self.saved()["messages"]]
        self.assertEqual(roles, ["system", *["user", "assistant"] * 3])
        agent.clear_history()
        self.assertEqual([one["role"] for one in self.saved()["messages"]], ["system"])

    def test_a_failed_request_leaves_the_file_as_it_was(self):
        agent = self.agent(thread=self.path)
        agent.send("one")
        before = self.saved()
        self.gateway.on(CHAT, refuse(400, "invalid_request"))
        self.failure(agent.send, "two")
        self.assertEqual(self.saved(), before)

    def test_no_turn_is_lost_between_two_agents_and_the_command_line(self):
        one, two = self.agent(thread=self.path), self.agent(thread=self.path, instructions="of two")
        threads = [
            threading.Thread(target=lambda agent=agent: [agent.send("hi") for _ in range(5)]) for agent in (one, two)
        ]
        for thread in threads:
            thread.start()
        self.assertEqual(self.chat("--thread", self.path, "from the shell").status, 0)
        for thread in threads:
            thread.join()
        roles = [message["role"] for message in self.saved()["messages"] if message["role"] != "system"]
        self.assertEqual(roles, ["user", "assistant"] * 11)

    def test_a_place_that_cannot_be_written_is_refused_at_once(self):
        error = self.failure(Agent, thread=os.path.join(self.folder, "none", "talk.json"))
        self.assertEqual((int(error.status), self.gateway.requests), (13, []))

    def test_a_save_that_fails_ends_the_run_with_13_and_loses_nothing(self):
        agent = self.agent(thread=self.path)
        agent.on("stream:start", lambda: os.path.lexists(self.path) or os.mkdir(self.path))
        self.assertEqual(int(self.failure(agent.send, "hi").status), 13)
        self.assertEqual(len(agent.get_messages()), 2)


class Calls(AgentCase):
    def results(self, agent: Agent, *calls) -> list[str]:
        """What the model is told after calls."""
        self.gateway.on(CHAT, calling(*calls), saying("done"))
        agent.clear_history()
        self.assertEqual(agent.send("hi"), "done")
        return [one["content"] for one in agent.get_messages() if one["role"] == "tool"]

    def test_approve_is_asked_about_every_call_and_may_give_a_reason(self):
        asked = []
        answers = iter([True, False, "not today", ""])

        def approve(call):
            asked.append((call.name, call.arguments))
            return next(answers)

        agent = self.agent(tools=[weather], approve=approve)
        calls = [wanted("weather", json.dumps({"city": city}), id=city) for city in ("A", "B", "C", "D")]
        results = self.results(agent, *calls)
        self.assertEqual(asked, [("weather", {"city": city}) for city in ("A", "B", "C", "D")])
        self.assertEqual(results[0], "A: sunny for 1 day(s)")
        for result, reason in zip(results[1:], ("does not allow", "not today", "does not allow")):
            self.assertTrue(result.startswith("refused: ") and reason in result, result)

    def test_what_approve_raises_ends_the_run(self):
        def approve(_):
            raise ZeroDivisionError

        self.gateway.on(CHAT, calling("weather"))
        agent = self.agent(tools=[weather], approve=approve)
        with self.assertRaises(ZeroDivisionError):
            agent.send("hi")
        self.assertEqual(agent.get_messages()[-1]["content"], "[not run]")

    def test_what_a_function_does_wrong_is_told_to_the_model(self):
        def breaks(how: str) -> object:
            """Break."""
            if how == "exit":
                raise SystemExit(3)
            if how == "odd":
                return {"set": {1}}
            raise ValueError(f"not {how}")

        agent = self.agent(tools=[breaks])
        calls = [wanted("breaks", json.dumps({"how": how}), id=how) for how in ("so", "exit", "odd")]
        calls += [wanted("breaks", "{}", id="x"), wanted("breaks", "not JSON", id="y"), wanted("other", id="z")]
        results = self.results(agent, *calls)
        self.assertEqual(results[:3], ["error: ValueError: not so", "error: SystemExit: 3", '{"set": "{1}"}'])
        self.assertIn("missing", results[3])
        self.assertIn("not a JSON object", results[4])
        self.assertIn("there are: breaks", results[5])

    def test_results_are_texts_as_they_are_and_json_otherwise(self):
        values = iter(["plain", {"ü": 1}, None, 1.5, ["a"]])

        def give() -> object:
            """Give."""
            return next(values)

        agent = self.agent(tools=[give])
        results = self.results(agent, *[wanted("give", "{}", id=str(number)) for number in range(5)])
        self.assertEqual(results, ["plain", '{"ü": 1}', "null", "1.5", '["a"]'])

    def test_a_call_that_takes_too_long_is_given_up(self):
        woken = threading.Event()
        self.addCleanup(woken.set)

        def nap() -> None:
            """Sleep."""
            woken.wait(PATIENCE)

        agent = self.agent(tools=[nap], tool_timeout=0.2)
        self.assertEqual(
            self.results(agent, wanted("nap", "{}")), ["error: no result within 0.2 s; it may have taken effect"]
        )

    def test_a_tool_gets_its_arguments_by_keyword_and_its_schema_goes_out(self):
        parameters = {"properties": {"a": {"type": "integer"}}, "required": ["a"]}
        agent = self.agent()
        agent.add_tool(Tool("double", "Double a number.", parameters, lambda a: a * 2))
        self.assertEqual(self.results(agent, wanted("double", '{"a": 4}')), ["8"])
        told = self.gateway.requests[0].json["tools"][0]["function"]
        self.assertEqual(
            told, {"name": "double", "description": "Double a number.", "parameters": {"type": "object", **parameters}}
        )

    def test_two_tools_of_one_name_and_what_is_no_tool_are_refused(self):
        agent = self.agent(tools=[weather])
        for tool in (weather, Tool("weather", "", {}, print), Tool("bare", "", {}), 7, print):
            self.assertIsInstance(self.failure(agent.add_tool, tool), UsageError)

    def test_the_key_never_reaches_the_model_or_a_tool(self):
        def leak() -> str:
            """Leak."""
            return os.environ["ALLTOKEN_API_KEY"]

        self.assertNotIn(KEY, self.results(self.agent(tools=[leak]), wanted("leak", "{}"))[0])


class Records(AgentCase):
    def test_rows_are_as_from_the_command_line(self):
        script = (
            calling("weather"),
            saying("sunny"),
            refuse(402, "insufficient_balance"),
            stream(event(delta("a")), "cut"),
        )
        tool = self.file("weather", '#!/bin/sh\n# tool: {"description": "weather"}\necho sunny\n')
        os.chmod(tool, 0o755)
        self.gateway.on(CHAT, *script)
        self.chat("-m", "gpt-5.4-mini", "--tool", tool, "hi")
        self.chat("-m", "gpt-5.4-mini", "hi")
        self.chat("-m", "gpt-5.4-mini", "hi")
        by_the_shell = self.rows()
        self.gateway.on(CHAT, *script)
        agent = self.agent("gpt-5.4-mini", tools=[weather])
        agent.send("hi")
        self.failure(agent.send, "hi")
        self.failure(agent.send, "hi")
        self.assertEqual(self.rows()[len(by_the_shell) :], by_the_shell)
        self.assertEqual([row[-1] for row in by_the_shell], [0, 0, 6, 9])

    def test_each_row_has_its_own_time(self):
        agent = self.agent()
        agent.send("one")
        time.sleep(0.05)
        agent.send("two")
        (first, ended), (second, last) = self.rows("started, ended")
        self.assertLess(first, ended)
        self.assertLess(ended, second)
        self.assertLess(second, last)

    def test_without_a_ledger_nothing_is_recorded(self):
        self.agent(ledger=False).send("hi")
        self.assertEqual(self.rows(), [])

    def test_the_budget_holds(self):
        with mock.patch.dict(os.environ, ALLTOKEN_BUDGET="0/day"):
            error = self.failure(self.agent().send, "hi")
            self.assertEqual((error.code, int(error.status), self.gateway.requests, self.rows()), ("budget", 6, [], []))

    def test_a_programs_interrupt_passes_and_leaves_a_row(self):
        self.gateway.on(CHAT, SILENT)
        done = self.program(
            "from alltoken_call import Agent\nagent = Agent()\ntry:\n    agent.send('hi')\n"
            "except KeyboardInterrupt:\n    print(agent.get_messages())",
            interrupt=self.asked,
        )
        self.assertEqual((done.stdout, done.stderr), ("[]\n", ""))
        self.assertEqual(self.rows("exit_status, source"), [(130, None)])


class Silence(AgentCase):
    def test_nothing_is_written_to_stdout_or_stderr_ever(self):
        self.gateway.on(
            CHAT,
            calling("breaks", text="Well."),
            saying("done", finish="length"),
            refuse(429, "rate_limited", headers={"Retry-After": "0"}),
            stream(b"data: {not json\n\n", event(delta("a")), "cut"),
            SILENT,
        )
        done = self.program(
            """
import gc
from alltoken_call import Agent, CallError, generate_image
def breaks(city: str) -> str:
    "Break."
    raise SystemExit("loudly")
with Agent(tools=[breaks]) as agent:
    agent.send("hi")
    try:
        agent.send("hi")
    except CallError:
        pass
    for event in agent.stream("hi"):
        if event.name == "stream:delta":
            break
gc.collect()
generate_image("a fox", "fox.png")
try:
    generate_image("a fox", "fox.png")
except CallError:
    pass
""",
            "-X",
            "dev",
            "-W",
            "error",
        )
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
        self.assertEqual([row[-1] for row in self.rows()], [0, 0, 9, 130, 0])

    def test_the_gateways_port_is_the_only_one_that_is_called(self):
        agent = self.agent()
        agent.send("hi")
        self.assertEqual({one.headers["Host"] for one in self.gateway.requests}, {urlsplit(self.gateway.url).netloc})
