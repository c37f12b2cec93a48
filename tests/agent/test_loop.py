"""agent/loop.py through the CLI: what goes back to the model, when the loop ends, and what each request is said to
cost."""

import json
import os
import sqlite3
import unittest

from ..gateway import CHAT, DONE, USAGE, delta, event, frames, refuse, reply, stream
from ..loop_support import LoopCase, calling, saying, wanted

MESSAGE = {"role": "user", "content": "plan my day"}


def result(id, content):
    return {"role": "tool", "tool_call_id": id, "content": content}


def call(id, name, arguments, **rest):
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}, **rest}


class Requests(LoopCase):
    def test_three_steps_with_two_calls_each_are_byte_for_byte_what_openai_wants(self):
        cat = self.tool("cat", "cat")
        self.answer(
            calling(
                wanted("weather", '{"city": "Bern"}', "call_a"), wanted("cat", '{"n":1}', "call_b"), text="Let me."
            ),
            calling(wanted("cat", "{}", "call_c"), wanted("cat", '{"x":"ü"}', "call_d")),
            calling(wanted("weather", "{}", "call_e"), wanted("weather", "{}", "call_f")),
            saying("Stay ", "in."),
        )
        run = self.chat("--tool", self.tool(), "--tool", cat, "plan my day")
        self.assertEqual((run.status, run.out), (0, b"Stay in.\n"), run.err)
        self.assertEqual(self.ran, ["weather", "cat", "cat", "cat", "weather", "weather"])
        first = [
            MESSAGE,
            {
                "role": "assistant",
                "content": "Let me.",
                "tool_calls": [call("call_a", "weather", '{"city": "Bern"}'), call("call_b", "cat", '{"n":1}')],
            },
            result("call_a", "sunny"),
            result("call_b", '{"n": 1}'),
        ]
        second = [
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [call("call_c", "cat", "{}"), call("call_d", "cat", '{"x":"ü"}')],
            },
            result("call_c", "{}"),
            result("call_d", '{"x": "\\u00fc"}'),
        ]
        third = [
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [call("call_e", "weather", "{}"), call("call_f", "weather", "{}")],
            },
            result("call_e", "sunny"),
            result("call_f", "sunny"),
        ]
        tools = [
            {
                "type": "function",
                "function": {
                    "name": name,
                    "description": "the weather of a city",
                    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
                },
            }
            for name in ("weather", "cat")
        ]
        head = {"model": "gpt-5.4-mini", "stream": True, "stream_options": {"include_usage": True}}
        wanted_bodies = [
            {**head, "messages": messages, "tools": tools}
            for messages in ([MESSAGE], first, [*first, *second], [*first, *second, *third])
        ]
        sent = [one.body for one in self.gateway.requests]
        self.assertEqual(
            sent, [json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode() for body in wanted_bodies]
        )

    def test_an_unstreamed_answer_with_calls_is_the_same(self):
        message = {"role": "assistant", "content": None, "tool_calls": [call("call_1", "weather", "{}")]}
        whole = {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}], "usage": USAGE}
        end = {"choices": [{"index": 0, "message": {"content": "ok"}, "finish_reason": "stop"}], "usage": USAGE}
        self.answer(reply(200, whole), reply(200, end))
        run = self.chat("--no-stream", "--tool", self.tool(), "x")
        self.assertEqual((run.status, run.out), (0, b"ok\n"), run.err)
        self.assertEqual([body["stream"] for body in self.bodies()], [False, False])
        self.assertEqual(self.messages()[1:], [message, result("call_1", "sunny")])

    def test_calls_decide_and_not_the_finish_reason(self):
        self.answer(calling("weather", finish="stop"), saying("ok", finish="tool_calls"))
        run = self.chat("--tool", self.tool(), "x")
        self.assertEqual((run.status, run.out, self.ran), (0, b"ok\n", ["weather"]), run.err)

    def test_reasoning_and_what_else_came_with_a_call_goes_back_as_it_came(self):
        extra = {"extra_content": {"google": {"thought_signature": "c2ln"}}}
        self.answer(calling(wanted("weather", "{}", **extra), reasoning_content="hm, hm"), saying("ok"))
        self.assertQuietly(0, self.chat("--tool", self.tool(), "x"))
        sent = self.messages()[1]
        self.assertEqual(sent["reasoning_content"], "hm, hm")
        self.assertEqual(sent["tool_calls"], [call("call_1", "weather", "{}", **extra)])

    def test_a_missing_id_gets_one_of_ours_in_both_places(self):
        self.answer(calling(wanted("weather", "{}", id=None), wanted("weather", "{}", id=None)), saying("ok"))
        self.assertQuietly(0, self.chat("--tool", self.tool(), "x"))
        self.assertValid(self.messages())
        ids = [one["id"] for one in self.messages()[1]["tool_calls"]]
        self.assertEqual(len({*ids}), 2)
        self.assertTrue(all(isinstance(id, str) and id for id in ids))

    def test_parallel_calls_at_one_index_are_two(self):
        pieces = [event(delta(tool_calls=[wanted("weather", "{}", id)])) for id in ("a", "b")]
        self.answer(stream(*pieces, event(delta(finish="tool_calls")), DONE), saying("ok"))
        self.assertQuietly(0, self.chat("--tool", self.tool(), "x"))
        self.assertEqual(self.results(), ["sunny", "sunny"])

    def test_reasoning_that_a_server_refuses_is_left_out_once_and_for_all(self):
        for status in (400, 422):
            with self.subTest(status):
                refused = refuse(status, "invalid_request", "unknown field messages[1].reasoning_content")
                thought = {"reasoning_content": "hm"}
                self.answer(calling("weather", **thought), refused, calling("weather", **thought), saying("ok"))
                self.gateway.requests.clear()
                run = self.chat("--tool", self.tool(), "--json", "x")
                self.assertQuietly(0, run)
                self.assertEqual(["reasoning_content" in str(body) for body in self.bodies()], [0, 1, 0, 0])
                document = run.document
                self.assertEqual([len(step["calls"]) for step in document["steps"]], [1, 1, 0])
                self.assertEqual(document["usage"]["total_tokens"], 3 * USAGE["total_tokens"])
        rows = self.rows()
        self.assertEqual([row["exit_status"] for row in rows][:4], [0, 1, 0, 0])

    def test_a_refusal_of_reasoning_where_there_is_none_is_the_end(self):
        self.answer(calling("weather"), refuse(400, "invalid_request", "reasoning_content is missing"), saying("ok"))
        self.assertQuietly(1, self.chat("--tool", self.tool(), "x"))
        self.assertEqual(self.asked(), 2)

    def rows(self):
        with sqlite3.connect(os.path.join(self.folder, "state", "alltoken-call", "ledger.db")) as ledger:
            ledger.row_factory = sqlite3.Row
            found = [dict(row) for row in ledger.execute("SELECT * FROM calls ORDER BY id")]
        ledger.close()
        return found

    def test_the_ledger_has_a_row_for_each_request(self):
        self.answer(calling("weather"), calling("weather", cost=None), refuse(500, "boom"))
        self.assertQuietly(5, self.chat("--tool", self.tool(), "--fallback", "none", "x"))
        rows = self.rows()
        self.assertEqual([row["command"] for row in rows], ["chat"] * 3)
        self.assertEqual([row["exit_status"] for row in rows], [0, 0, 5])
        self.assertEqual([row["cost"] for row in rows], ["0.0000188000", None, None])
        self.assertEqual([row["prompt_tokens"] for row in rows], [19, 19, None])
        self.assertEqual(len({row["started"] for row in rows}), 3)

    def test_all_providers_fail_and_another_model_goes_on_to_the_end(self):
        failed = refuse(503, "all_providers_failed")
        self.answer(failed, calling("weather"), saying("ok"))
        run = self.chat("--tool", self.tool(), "-m", "gpt-5.4-mini", "--fallback", "gpt-5.4-nano", "--json", "x")
        self.assertQuietly(0, run)
        self.assertEqual([body["model"] for body in self.bodies()], ["gpt-5.4-mini", "gpt-5.4-nano", "gpt-5.4-nano"])
        self.assertEqual(run.document["model"], "gpt-5.4-nano")


class Arguments(LoopCase):
    def test_a_tool_that_there_is_not_is_told_with_those_that_there_are(self):
        self.answer(calling("whether"), saying("ok"))
        self.assertQuietly(0, self.chat("--tool", self.tool(), "--tool", self.tool("cat"), "x"))
        self.assertEqual(self.ran, [])
        told = self.results()[0]
        self.assertTrue(told.startswith("error:"), told)
        self.assertTrue("whether" in told and "weather, cat" in told, told)

    def test_arguments_that_are_no_json_are_told_and_stay_in_the_history_as_json(self):
        for raw in ('{"city": "Bern', "Bern", "{]", "[" * 5000, '{"city"="Bern"}'):
            with self.subTest(raw[:20]):
                self.answer(calling(wanted("weather", raw), wanted("weather", "{}", "call_2")), saying("ok"))
                self.assertQuietly(0, self.chat("--tool", self.tool(), "x"))
                self.assertEqual(len(self.results()), 2)
                self.assertIn("error:", self.results()[0])
                self.assertEqual(self.results()[1], "sunny")
                sent = self.messages()[1]["tool_calls"][0]["function"]["arguments"]
                self.assertEqual(json.loads(sent), {"INVALID_JSON": raw})

    def test_json_that_is_no_object_is_told_and_stays_as_it_came(self):
        for raw in ('["Bern"]', '"Bern"', "3", "null"):
            with self.subTest(raw):
                self.answer(calling(wanted("weather", raw)), saying("ok"))
                self.assertQuietly(0, self.chat("--tool", self.tool(), "x"))
                self.assertIn("not a JSON object", self.results()[0])
                self.assertEqual(self.messages()[1]["tool_calls"][0]["function"]["arguments"], raw)
        self.assertEqual(self.ran, [])

    def test_empty_arguments_are_an_empty_object(self):
        for raw in ("", "  ", "{}"):
            with self.subTest(raw=raw):
                self.answer(calling(wanted("it", raw)), saying("ok"))
                self.assertQuietly(0, self.chat("--tool", self.tool("it", "cat"), "x"))
                self.assertEqual(self.results(), ["{}"])
                self.assertEqual(json.loads(self.messages()[1]["tool_calls"][0]["function"]["arguments"]), {})

    def test_an_object_with_raw_line_breaks_runs_and_is_strict_json_in_the_history(self):
        self.answer(calling(wanted("it", '{"text":"a\nb","n":NaN}')), saying("ok"))
        self.assertQuietly(0, self.chat("--tool", self.tool("it", "cat"), "x"))
        self.assertEqual(json.loads(self.results()[0]), {"text": "a\nb", "n": None})
        self.assertEqual(
            json.loads(self.messages()[1]["tool_calls"][0]["function"]["arguments"]), {"text": "a\nb", "n": None}
        )

    def test_json_that_is_no_object_and_no_text_is_not_taken_for_an_empty_object(self):
        for arguments in (5, True, [1]):
            with self.subTest(arguments):
                step = wanted("weather", "")
                step["function"]["arguments"] = arguments
                self.answer(calling(step), saying("ok"))
                self.assertQuietly(0, self.chat("--tool", self.tool(), "x"))
                self.assertEqual((self.ran, self.results()), ([], ["error: the arguments are not a JSON object"]))
                self.assertEqual(self.messages()[1]["tool_calls"][0]["function"]["arguments"], json.dumps(arguments))


class Ends(LoopCase):
    def run_with(self, *steps, argv=(), tool=None):
        self.answer(*steps)
        return self.chat("--tool", tool or self.tool(), *argv, "x")

    def test_after_finish_reason_length_no_call_runs(self):
        for count, reason in enumerate(("length", "max_tokens"), 1):
            run = self.run_with(calling("weather", text="I will", finish=reason))
            self.assertQuietly(9, run)
            self.assertEqual((self.ran, self.asked(), run.out), ([], count, b"I will\n"))
            self.assertEqual(self.kept(), [])

    def test_a_length_without_calls_is_an_answer_as_ever(self):
        run = self.run_with(calling("weather"), saying("half", finish="length"))
        self.assertEqual((run.status, run.out), (0, b"half\n"), run.err)
        self.assertIn("[warning]", run.err)

    def test_after_a_cut_no_call_runs_and_what_was_whole_can_be_resumed(self):
        cut = stream(event(delta("half")), event(delta(tool_calls=[wanted("weather", "{}")])), "cut")
        run = self.run_with(calling("weather"), cut)
        self.assertQuietly(9, run)
        self.assertEqual((self.ran, run.out), (["weather"], b"half\n"))
        self.answer(saying("ok"))
        resumed = self.call(*self.resume_words(run))
        self.assertEqual((resumed.status, resumed.out, self.ran), (0, b"ok\n", ["weather"]), resumed.err)

    def test_max_steps_runs_the_last_calls_and_is_status_8(self):
        for limit in (1, 2):
            with self.subTest(limit):
                self.gateway.requests.clear()
                before = len(self.ran)
                run = self.run_with(calling("weather"), argv=("--max-steps", str(limit), "--json"))
                self.assertQuietly(8, run)
                self.assertEqual((self.asked(), len(self.ran) - before), (limit, limit))
                self.assertEqual(run.document["error"]["code"], "max_steps")
                self.assertEqual([step["calls"][0]["result"] for step in run.document["steps"]], ["sunny"] * limit)
                self.resume_words(run)

    def test_ten_steps_are_the_default(self):
        self.assertQuietly(8, self.run_with(calling("weather")))
        self.assertEqual((self.asked(), len(self.ran)), (10, 10))

    def test_max_cost_is_compared_before_each_further_request(self):
        for limit, requests in (("0", 1), ("0.0000188", 1), ("0.00001881", 2), ("0.0000376", 2), ("0.00004", 3)):
            with self.subTest(limit):
                self.gateway.requests.clear()
                run = self.run_with(calling("weather"), argv=("--max-cost", limit, "--json"))
                self.assertQuietly(8, run)
                self.assertEqual((self.asked(), run.document["error"]["code"]), (requests, "max_cost"))
                self.assertEqual(run.document["cost"]["source"], "gateway")

    def test_max_cost_does_not_take_the_answer_away(self):
        run = self.run_with(calling("weather"), saying("ok"), argv=("--max-cost", "0.00003"))
        self.assertEqual((run.status, run.out), (0, b"ok\n"), run.err)

    def test_max_cost_goes_by_an_estimate_where_there_is_no_figure(self):
        run = self.run_with(calling("weather", cost=None), argv=("--max-cost", "0.00002", "--json"))
        self.assertQuietly(8, run)
        self.assertEqual(self.asked(), 2)  # 19 × $0.2 and 12 × $1.25 per million are $0.0000188
        self.assertEqual(run.document["cost"], {"usd": "0.0000376000", "source": "estimate"})
        self.assertEqual(run.document["steps"][0]["cost"], {"usd": "0.0000188000", "source": "estimate"})
        self.assertEqual([one.path for one in self.gateway.requests].count("/api-account/models/gpt-5.4-mini"), 1)

    def test_max_cost_stops_where_the_cost_is_not_known(self):
        unknown = calling("weather", cost=None, usage=None)
        run = self.run_with(unknown, saying("never"), argv=("--max-cost", "100", "--json", "-m", "glm-5.1"))
        self.assertQuietly(8, run)
        self.assertEqual((self.asked(), self.ran), (1, ["weather"]))
        self.assertEqual(run.document["error"]["code"], "max_cost")
        self.assertEqual(run.document["cost"], {"usd": None, "source": None})

    def test_without_max_cost_no_prices_are_asked_for(self):
        self.assertQuietly(0, self.run_with(calling("weather", cost=None), saying("ok", cost=None)))
        self.assertEqual({one.path for one in self.gateway.requests}, {"/v1/chat/completions"})

    def test_max_wait_in_a_tool_ends_it_with_status_8(self):
        tool = self.tool("weather", f"echo $$ >'{self.folder}/pid'; sleep 30 & wait")
        run = self.run_with(calling("weather", "weather"), argv=("--max-wait", "0.6", "--json"), tool=tool)
        self.assertQuietly(8, run)
        self.assertEqual((run.document["error"]["code"], self.ran), ("max_wait", ["weather"]))
        self.assertIn("interrupted; it may have taken effect", run.document["steps"][0]["calls"][0]["result"])
        self.assertGone(self.exists("pid"))
        messages = self.thread(self.kept()[0])
        self.assertEqual(messages[-1]["content"], "[not run]")

    def test_a_budget_is_asked_before_each_request(self):
        self.answer(calling("weather"), saying("never"))
        run = self.chat("--tool", self.tool(), "x", ALLTOKEN_BUDGET="0.00001/day")
        self.assertQuietly(6, run)
        self.assertEqual((self.asked(), self.ran), (1, ["weather"]))
        self.resume_words(run)

    def test_an_error_later_on_keeps_what_was_bought(self):
        run = self.run_with(calling("weather"), refuse(402, "insufficient_balance"), argv=("--json",))
        self.assertQuietly(6, run)
        document = run.document
        self.assertEqual(document["usage"], USAGE)  # a refusal buys nothing
        self.assertEqual(document["cost"], {"usd": "0.0000188000", "source": "gateway"})
        self.assertEqual(len(document["steps"]), 2)
        self.assertEqual(self.thread(self.kept()[0])[-1], result("call_1", "sunny"))

    def test_sums_are_null_where_a_part_is_unknown(self):
        run = self.run_with(calling("weather", cost=None, usage=None), saying("ok"), argv=("--json",))
        self.assertQuietly(0, run)
        self.assertEqual((run.document["usage"], run.document["cost"]["usd"]), (None, None))
        self.assertEqual(run.document["steps"][1]["usage"], USAGE)

    def test_an_empty_last_answer_is_told_and_no_failure(self):
        run = self.run_with(calling("weather"), stream(frames(), DONE))
        self.assertEqual((run.status, run.out), (0, b""), run.err)
        self.assertIn("empty", run.err)

    def test_json_has_each_step(self):
        bad = calling(
            wanted("weather", "no"), wanted("fog", "{}", "call_2"), wanted("weather", "{}", "call_3"), text="a"
        )
        run = self.run_with(bad, saying("b", "c"), argv=("--json",))
        self.assertQuietly(0, run)
        document = run.document
        self.assertEqual((document["text"], document["tool_calls"]), ("bc", None))
        first, second = document["steps"]
        self.assertEqual({*first}, {"model", "request_id", "usage", "cost", "finish_reason", "text", "calls"})
        self.assertEqual(
            (first["text"], first["finish_reason"], first["request_id"]), ("a", "tool_calls", "req_loopback_1")
        )
        self.assertEqual(first["cost"], {"usd": "0.0000188000", "source": "gateway"})
        self.assertEqual([call["ok"] for call in first["calls"]], [False, False, True])
        self.assertEqual([call["arguments"] for call in first["calls"]], [None, {}, {}])
        self.assertEqual({*first["calls"][0]}, {"id", "name", "arguments", "result", "ok", "seconds"})
        self.assertEqual((second["text"], second["calls"]), ("bc", []))
        self.assertEqual(self.gateway.count(CHAT), 2)


if __name__ == "__main__":
    unittest.main()
