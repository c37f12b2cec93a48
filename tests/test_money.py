"""What every ending of every command cost: the source of the figure, and whether it counts as unknown.

Each row is run with and without --json: the document, the line on stderr, the ledger's row and `cost --since` agree.
"""

from __future__ import annotations

import errno
import io
import json
import os
import sqlite3
import time
import unittest
from collections.abc import Callable
from contextlib import closing
from typing import Any

from .gateway import CHAT, DONE, USAGE, Exchange, Step, delta, event, frames, png, raw, refuse, reply, stream
from .harness import Result
from .relay import Relay
from .relay_support import RelayCase
from .task_support import (
    GET_IMAGE,
    GET_VIDEO,
    IMAGE,
    VIDEO,
    TaskCase,
    document,
    entry,
    lost,
    strike,
)

CLOSED = "http://127.0.0.1:1"
UNKNOWN, NONE, LOCAL, NO_ROW = (None, None), (None, "none"), (None, "local"), None
Money = Any  # (usd, source), or None: no row, and no word of cost
HANG: Step = lambda exchange: exchange.hold()  # noqa: E731
PRICES = {"input_price": "5", "output_price": "40"}
IMAGE_COST = ("0.0109300000", "estimate")  # 10 × $5 and 272 × $40 for 1M
VIDEO_COST = ("1.9200000000", "estimate")  # 48,000 × $40 for 1M


class Full(io.BytesIO):
    """A stdout on a full disk, or one whose reader went away."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    def write(self, _: Any) -> int:
        raise OSError(self._number, os.strerror(self._number))


class MoneyCase(TaskCase):
    """A test whose rows say how a command ends and what it cost."""

    def rows(self) -> list[dict[str, Any]]:
        """The ledger's rows, oldest first."""
        path = os.path.join(self.state, "ledger.db")
        if not os.path.exists(path):
            return []
        with closing(sqlite3.connect(path)) as database:
            database.row_factory = sqlite3.Row
            return [dict(row) for row in database.execute("SELECT * FROM calls ORDER BY id")]

    def ends(
        self,
        status: int,
        money: Money,
        *argv: str,
        on: dict[str, Any] | None = None,
        before: Callable[[], Any] | None = None,
        silent: bool = False,
        rows: int = 1,
        **options: Any,
    ) -> None:
        """One row of the table: the command ends with `status`, and cost `money`. `on` scripts the gateway, `before`
        sets the stage, `silent`: nothing is said on stderr, `rows` is how many the run has in the ledger."""
        for as_json in (False, True):
            with self.subTest(status, argv=argv, money=money, json=as_json):
                self.fresh()
                for request, steps in (on or {}).items():
                    self.gateway.on(request, *(steps if isinstance(steps, tuple) else (steps,)))
                if before is not None:
                    before()
                given = {name: value() if callable(value) else value for name, value in options.items()}
                result = self.call(*argv, *(["--json"] if as_json else []), **given)
                for request in on or {}:
                    self.gateway._scripts.pop(request)
                self.assertQuietly(status, result)
                self.told(result, money, as_json=as_json and not silent, silent=silent)
                self.recorded(status, money, rows, summed=not as_json)

    def told(self, result: Result, money: Money, *, as_json: bool, silent: bool) -> None:
        """The document and stderr say what it cost."""
        usd, source = money or (None, None)
        if as_json and result.out:
            self.assertEqual(result.document["cost"], {"usd": usd, "source": source})
        lines = [line for line in result.err.splitlines() if line.startswith("[cost]")]
        word = f"${usd} ({source})" if usd else source or "unknown"
        expected = [] if silent or money in (NO_ROW, LOCAL) else [f"[cost] {word}"]
        self.assertEqual([line.replace(" until: alltoken-call cost", "") for line in lines], expected, result.err)

    def recorded(self, status: int, money: Money, count: int, *, summed: bool = True) -> None:
        """The ledger has it, and the sum counts it."""
        found = self.rows()
        if money is NO_ROW:
            self.assertEqual(found, [])
            return
        self.assertEqual(len(found), count)
        row = found[-1]
        self.assertEqual(((row["cost"], row["source"]), row["exit_status"]), (money, status))
        self.assertIsNotNone(row["ended"])
        self.assertEqual(any(row["source"] is None for row in found), money == UNKNOWN)
        if not summed:
            return
        counted = self.call("cost", "--since", "1d", "--json").document
        unknown = sum(row["source"] is None for row in found)
        estimated = sum(row["source"] == "estimate" for row in found)
        self.assertEqual((counted["calls"], counted["unknown"], counted["estimated"]), (count, unknown, estimated))


def comment(cost: str) -> bytes:
    return DONE + b': {"cost":"%s"}\n\n' % cost.encode()


def broken(*pieces: Any) -> Step:
    """A step: an answer that breaks off after text."""
    return stream(event(delta("Hello")), *pieces, "cut")


class Talking(MoneyCase):
    """chat and search."""

    def test_every_status(self):
        whole, free = frames("yes"), {"input_price": "0.0000000000", "output_price": "0"}
        none = stream(b"data: {}\n\n", "reset")
        for argv in (("chat", "hi"), ("search", "hi")):
            for status, money, step, more in (
                (0, ("0.0000188000", "gateway"), stream(whole, comment("0.0000188000")), ()),
                (0, UNKNOWN, stream(whole, DONE), ()),
                (0, UNKNOWN, stream(whole, DONE + f": {json.dumps({'cost': '0'} | USAGE)}\n\n".encode()), ()),
                (
                    0,
                    ("0", "gateway"),
                    stream(whole, DONE + f": {json.dumps({'cost': '0'} | free | USAGE)}\n\n".encode()),
                    (),
                ),
                (
                    0,
                    UNKNOWN,
                    reply(200, {"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}]}),
                    ("--no-stream",),
                ),
                (1, NONE, refuse(400, "invalid_request"), ()),
                (1, NONE, refuse(404, "upstream_model_not_found"), ()),
                (1, NONE, refuse(422, "invalid_request"), ()),
                (3, UNKNOWN, HANG, ("--timeout", "0.05")),
                (3, UNKNOWN, HANG, ("--max-wait", "0.4")),
                (3, UNKNOWN, raw(b""), ()),
                (3, UNKNOWN, raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"), ()),
                (3, UNKNOWN, reply(200, b"<html>a portal"), ()),
                (3, UNKNOWN, none, ()),
                (4, NONE, refuse(401, "invalid_api_key"), ()),
                (4, NONE, refuse(403, "forbidden"), ()),
                (5, UNKNOWN, refuse(500, "upstream_error"), ()),
                (5, UNKNOWN, reply(502, b"<html>"), ()),
                (5, UNKNOWN, refuse(503, "all_providers_failed"), ("--fallback", "none")),
                (5, UNKNOWN, stream(event({"error": {"code": "upstream_error", "message": "x"}})), ()),
                (6, NONE, refuse(402, "insufficient_balance"), ()),
                (7, NONE, refuse(429, "rate_limited", headers={"Retry-After": "100"}), ()),
                (9, UNKNOWN, broken(), ()),
                (9, UNKNOWN, broken(event({"error": {"code": "upstream_error", "message": "x"}})), ()),
                (9, UNKNOWN, broken(event(delta(finish="error")), DONE), ()),
                (9, ("0.5", "gateway"), broken(event(delta(finish="error")), comment("0.5")), ()),
                (9, UNKNOWN, stream(event(delta("Hello")), "hold"), ("--timeout", "0.05")),
            ):
                self.ends(status, money, *argv, *more, on={CHAT: step})

    def test_what_never_left_bought_nothing(self):
        for argv in (("chat", "hi"), ("search", "hi")):
            self.ends(3, NONE, *argv, ALLTOKEN_BASE_URL=CLOSED)
            self.ends(3, NONE, *argv, ALLTOKEN_BASE_URL="https://name.invalid")

    def test_what_was_not_tried_has_no_cost(self):
        for argv in (("chat", "hi"), ("search", "hi")):
            self.ends(2, NO_ROW, *argv, "--nonsense")
            self.ends(2, NO_ROW, argv[0])
            self.ends(2, NO_ROW, *argv, ALLTOKEN_BASE_URL="nonsense")
            self.ends(2, NO_ROW, *argv, ALLTOKEN_BUDGET="nonsense")
            self.ends(4, NO_ROW, *argv, ALLTOKEN_API_KEY="")
            self.ends(4, NO_ROW, *argv, ALLTOKEN_API_KEY="not one word")
            self.ends(6, NO_ROW, *argv, ALLTOKEN_BUDGET="0/day")
            self.ends(0, NO_ROW, *argv, "--dry-run", silent=True)
        self.ends(2, NO_ROW, "search", "-m", "gpt-5.4", "hi")

    def test_a_stdout_that_takes_no_more(self):
        for argv in (("chat", "hi"), ("search", "hi")):
            # Under --json the answer is whole by then, and its cost is known.
            for number, status in ((errno.ENOSPC, 13), (errno.EPIPE, 141)):
                for more, money in (((), UNKNOWN), (("--json",), ("0.0000188000", "gateway"))):
                    with self.subTest(argv, status=status, more=more):
                        self.fresh()
                        rest = frames("") + comment("0.0000188000")
                        self.gateway.on(CHAT, stream(event(delta("a")), *([rest] if more else ["hold"])))
                        result = self.call(*argv, *more, stdout=Full(number))
                        self.assertQuietly(status, result)
                        self.assertEqual("[cost]" in result.err, status == 13 or bool(more))
                        self.recorded(status, money, 1)

    def test_a_signal_in_the_middle_leaves_it_unknown(self):
        for argv in (("chat", "hi"), ("search", "hi")):
            for signum, status in ((2, 130), (15, 143), (1, 129)):

                def step(exchange: Exchange, signum: int = signum) -> None:
                    exchange.head(chunked=True)
                    exchange.event(delta("Hello"))
                    strike(signum)
                    exchange.hold()

                self.ends(status, UNKNOWN, *argv, on={CHAT: step}, signals=True)

    def test_a_limit_of_the_tool_loop_keeps_what_was_spent(self):
        tool = self.file(
            "ping", '#!/bin/sh\n# tool: {"description": "p", "parameters": {"type": "object"}}\necho pong\n'
        )
        os.chmod(tool, 0o755)
        function = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "ping", "arguments": "{}"}}
        calling = stream(event(delta(tool_calls=[function])) + event(delta(finish="tool_calls")), comment("0.25"))
        for status, steps in ((8, (calling,)), (0, (calling, stream(frames("yes"), comment("0.5"))))):
            self.fresh()
            self.gateway.on(CHAT, *steps)
            limits = ("--max-steps", str(len(steps)))
            result = self.chat("--tool", tool, *limits, "--json", "hi")
            self.assertQuietly(status, result)
            self.assertEqual(result.document["cost"], {"usd": "0.25" if status else "0.75", "source": "gateway"})
            self.assertEqual([row["cost"] for row in self.rows()], ["0.25", "0.5"][: len(steps)])

    def test_models_and_cost_have_none(self):
        self.ends(0, NO_ROW, "models")
        self.ends(1, NO_ROW, "models", "--filter", "no such model")
        self.ends(3, NO_ROW, "models", ALLTOKEN_BASE_URL=CLOSED)
        self.ends(1, NO_ROW, "cost")
        self.ends(3, NO_ROW, "cost", "gpt-5.4-mini", "1", "1", ALLTOKEN_BASE_URL=CLOSED)
        result = self.call("cost", "gpt-5.4-mini", "1000000", "0", "--json")
        self.assertEqual(result.document["cost"], {"usd": "0.200000", "source": "estimate"})
        self.assertEqual(self.rows(), [])


class Making(MoneyCase):
    """image and video at AllToken: there are prices for both."""

    COMMANDS = (("image", IMAGE, GET_IMAGE, IMAGE_COST), ("video", VIDEO, GET_VIDEO, VIDEO_COST))

    def setUp(self) -> None:
        super().setUp()
        for name in ("gpt-image-2", "seedance-1.5-pro"):
            self.gateway.catalog[name] |= PRICES
        self.waited = reply(200, {"status": "processing", "next_poll_after_ms": 1})

    def test_what_is_done_is_estimated_by_the_tokens_and_the_price_list(self):
        for command, _, poll, money in self.COMMANDS:
            self.ends(0, money, command, "x")
            self.ends(0, money, command, "x", "-o", "x.out")
            self.ends(0, money, command, "x", on={poll: (self.waited, self.waited, self._normal)})
            self.ends(0, money, command, "--resume", before=lambda command=command: self.call(command, "x", "--detach"))
        self.ends(0, IMAGE_COST, "image", "x", "-n", "2")  # by the tokens, which are those of both

    @staticmethod
    def _normal(exchange: Exchange) -> None:
        exchange.gateway._route(exchange)(exchange)

    def test_without_prices_or_tokens_it_is_unknown_and_nothing_takes_longer(self):
        lists = {"image": "GET /api-account/models/gpt-image-2", "video": "GET /api-account/models/seedance-1.5-pro"}
        for command, _, poll, _ in self.COMMANDS:
            for step in (
                refuse(404, "not_found"),
                refuse(500, "x"),
                reply(200, {"id": "x"}),
                reply(200, b"<html>"),
                raw(b""),
            ):
                self.ends(0, UNKNOWN, command, "x", on={lists[command]: step})
            before = time.monotonic()
            self.ends(0, UNKNOWN, command, "x", on={lists[command]: HANG, poll: (self.waited, self._normal)})
            self.assertLess(time.monotonic() - before, 3)
        bare = reply(200, json.loads(document(entry(png()))))
        self.ends(0, UNKNOWN, "image", "x", on={GET_IMAGE: bare})
        for usage in ({}, {"total_tokens": 5}, {"input_tokens": "10", "output_tokens": 1}):
            bare = reply(200, json.loads(document(entry(png()), usage=usage)))
            self.ends(0, UNKNOWN, "image", "x", on={GET_IMAGE: bare})

    def test_a_figure_in_the_answer_goes_before_any_estimate(self):
        usage = {"input_tokens": 10, "output_tokens": 272}
        for more, money in (
            ({"cost": "0.04"}, ("0.04", "gateway")),
            ({"cost": {"total_cost": 0.04}}, ("0.04", "gateway")),
            ({"cost_in_usd_ticks": 400_000_000, "cost": 9}, ("0.0400000000", "gateway")),
            ({"cost": 0}, IMAGE_COST),
        ):
            answer = reply(200, json.loads(document(entry(png()), usage=usage | more)))
            self.ends(0, money, "image", "x", on={GET_IMAGE: answer})

    def test_a_model_that_is_free_by_the_price_list_costs_0(self):
        self.gateway.catalog["gpt-image-2"] |= {"input_price": "0", "output_price": "0"}
        self.ends(0, ("0.0000000000", "estimate"), "image", "x")

    def test_a_submit_that_was_refused_or_never_left_bought_nothing(self):
        for command, submit, _, _ in self.COMMANDS:
            for status, step in (
                (1, refuse(400, "invalid_request")),
                (1, refuse(404, "upstream_model_not_found")),
                (1, refuse(422, "upstream_content_violation")),
                (4, refuse(401, "invalid_api_key")),
                (6, refuse(402, "insufficient_balance")),
                (7, refuse(429, "rate_limited", headers={"Retry-After": "100"})),
            ):
                self.ends(status, NONE, command, "x", on={submit: step})
            self.ends(3, NONE, command, "x", ALLTOKEN_BASE_URL=CLOSED)

    def test_a_submit_of_unknown_outcome_is_unknown(self):
        for command, submit, _, _ in self.COMMANDS:
            for step in (reply(502, b"<html>"), raw(b""), lost(raw(b"")), reply(202, {"status": "queued"})):
                self.ends(12, UNKNOWN, command, "x", on={submit: step})
            self.ends(5, UNKNOWN, command, "x", on={submit: refuse(500, "upstream_error")})
        self.ends(12, UNKNOWN, "image", "x", on={IMAGE: refuse(409, "duplicate_request")})

    def test_what_was_not_tried_has_no_cost(self):
        open("there.png", "wb").close()
        for command, _, _, _ in self.COMMANDS:
            self.ends(2, NO_ROW, command)
            self.ends(2, NO_ROW, command, "x", "--ratio", "1:1", "--nonsense")
            self.ends(4, NO_ROW, command, "x", ALLTOKEN_API_KEY="")
            self.ends(6, NO_ROW, command, "x", ALLTOKEN_BUDGET="0/day")
            self.ends(13, NO_ROW, command, "x", "-o", os.path.join(self.folder, "no", "such", "place"))
            self.ends(1, NO_ROW, command, "--resume")
            self.ends(0, NO_ROW, command, "x", "--dry-run", silent=True)
        self.ends(0, NO_ROW, "video", "--list")

    def test_a_task_that_goes_on_is_unknown(self):
        for command, _, poll, _ in self.COMMANDS:
            self.ends(0, UNKNOWN, command, "x", "--detach")
            self.ends(8, UNKNOWN, command, "x", "--max-wait", "0.3", on={poll: self.waited})
            for signum, status in ((2, 130), (15, 143)):

                def step(exchange: Exchange, signum: int = signum) -> None:
                    strike(signum)
                    self.waited(exchange)

                self.ends(status, UNKNOWN, command, "x", on={poll: step}, signals=True)

    def test_a_task_that_ended_without_a_result_is_unknown_where_the_gateway_does_not_say(self):
        for command, _, poll, _ in self.COMMANDS:
            for word in ("failed", "cancelled", "expired"):
                self.ends(10, UNKNOWN, command, "x", on={poll: reply(200, {"status": word})})
            self.ends(1, UNKNOWN, command, "x", on={poll: refuse(404, "task_not_found")})
            self.ends(11, UNKNOWN, command, "x", on={poll: refuse(410, "image_already_retrieved")})

    def test_what_came_and_could_not_be_used_was_paid_for(self):
        usage = {"input_tokens": 10, "output_tokens": 272}
        bad = reply(200, json.loads(document(entry(b"no image"), usage=usage)))
        self.ends(9, IMAGE_COST, "image", "x", on={GET_IMAGE: bad})
        empty = reply(200, json.loads(document(usage=usage)))
        self.ends(11, IMAGE_COST, "image", "x", on={GET_IMAGE: empty})
        address = reply(200, json.loads(document({"r2_url": "http://elsewhere.invalid/x.png"}, usage=usage)))
        self.ends(3, IMAGE_COST, "image", "x", on={GET_IMAGE: (self.waited, address)})

        def taken(exchange: Exchange) -> None:
            open("x.out", "wb").close()
            self._normal(exchange)

        self.ends(13, IMAGE_COST, "image", "x", "-o", "x.out", on={GET_IMAGE: taken})
        self.ends(13, VIDEO_COST, "video", "x", "-o", "x.out", on={GET_VIDEO: (self.waited, taken)})
        clip = "GET /files/vgen_00000001.mp4"
        self.ends(
            9,
            VIDEO_COST,
            "video",
            "x",
            "-o",
            "x.out",
            on={GET_VIDEO: (self.waited, self._normal), clip: reply(200, b"<html>")},
        )
        elsewhere = {"status": "completed", "video_url": "http://elsewhere.invalid/x.mp4"}
        elsewhere["usage"] = {"completion_tokens": 48000, "total_tokens": 48000}
        self.ends(3, VIDEO_COST, "video", "x", on={GET_VIDEO: (self.waited, reply(200, elsewhere))})

    def test_an_answer_that_broke_off_is_unknown(self):
        whole = document(entry(png(noise=100_000)))

        def cut(exchange: Exchange) -> None:
            exchange.head(200, {"Content-Type": "application/json", "Content-Length": str(len(whole))})
            exchange.raw(whole[:50_000])

        self.ends(11, UNKNOWN, "image", "x", on={GET_IMAGE: (cut, refuse(410, "image_already_retrieved"))})

    def test_a_stdout_that_takes_no_more(self):
        for number, status in ((errno.ENOSPC, 13), (errno.EPIPE, 141)):
            for argv, money in ((("image", "x"), IMAGE_COST), (("video", "x"), VIDEO_COST)):
                with self.subTest(argv, status=status):
                    self.fresh()
                    self.assertQuietly(status, self.call(*argv, stdout=Full(number)))
                    self.recorded(status, money, 1)


class Elsewhere(RelayCase, MoneyCase):
    """The same at other gateways: who tells what it cost, and when."""

    def at(self, dialect: str, name: str = "relay", **given: Any) -> Relay:
        """Another relay in the place of the first."""
        self.relay = self.gateway = relay = self.another(dialect, **given)
        self.environ |= self.settings(name, relay, "new-api" if dialect == "new-api" else "openai")
        self.environ["ALLTOKEN_GATEWAY"] = name
        return relay

    def fresh(self) -> None:
        for folder in (self.state, self.place):
            for name in os.listdir(folder) if os.path.isdir(folder) else ():
                path = os.path.join(folder, name)
                if os.path.isfile(path):
                    os.unlink(path)

    def rows(self) -> list[dict[str, Any]]:
        return MoneyCase.rows(self)

    def test_new_api_tells_it_later_but_for_videos(self):
        self.at("new-api")
        make, poll = "POST /v1/images/generations", None
        self.ends(0, UNKNOWN, "chat", "-m", "claude-sonnet-4-6", "hi")
        self.ends(0, ("0.0200000000", "estimate"), "image", "-m", "wan2.6-t2i", "x")
        self.ends(0, ("0.0600000000", "estimate"), "image", "-m", "wan2.6-t2i", "-n", "3", "x")
        self.ends(0, ("0.0500000000", "estimate"), "image", "-m", "gemini-3.1-flash-image", "x")
        self.ends(0, ("0.290000", "gateway"), "video", "-m", "wan2.6-t2v", "x")
        self.assertIsNone(poll)
        # Without a charge in the task: the price per call is of a second, and only the submit tells how many count.
        bill = "GET /v1/video/generations/task_1"
        submit, times = "POST /v1/video/generations", "X-New-Api-Other-Ratios"
        task = {"id": "task_1", "status": "queued"}
        done = reply(200, {"id": "task_1", "status": "completed", "metadata": {"url": "https://x.test/a.mp4"}})
        for told, money in (
            ({times: '{"seconds":5,"resolution-720P":1}'}, ("0.2900000000", "estimate")),
            ({times: '{"seconds":5,"resolution-1080P":1.5}'}, ("0.4350000000", "estimate")),
            ({times: '{"seconds":"many"}'}, UNKNOWN),
            ({times: "{}"}, UNKNOWN),
            ({times: "5"}, UNKNOWN),
            ({}, UNKNOWN),
        ):
            steps = {submit: reply(200, task, told), "GET /v1/videos/task_1": done, bill: refuse(500, "x")}
            self.ends(0, money, "video", "-m", "wan2.6-t2v", "x", on=steps)
        steps = {submit: reply(200, task, {times: '{"seconds":5}'}), "GET /v1/videos/task_1": done}
        self.gateway.on(bill, refuse(500, "x"))
        for request, step in steps.items():
            self.gateway.on(request, step)
        self.fresh()
        self.assertQuietly(0, self.call("video", "-m", "wan2.6-t2v", "x", "--detach"))
        self.assertQuietly(0, self.call("video", "--resume"))
        self.assertEqual(self.cost(), UNKNOWN)  # nobody remembers what its submit has told
        for request in (bill, *steps):
            self.gateway._scripts.pop(request)
        for status, money, step in (
            (1, NONE, refuse(400, "model_price_error")),
            (6, NONE, refuse(403, "insufficient_user_quota")),
            (4, NONE, refuse(401, "")),
            (7, NONE, refuse(429, "", headers={"Retry-After": "100"})),
            (5, UNKNOWN, refuse(500, "do_request_failed")),
            (12, UNKNOWN, reply(524, b"<html>")),
            (12, UNKNOWN, raw(b"")),
            (9, UNKNOWN, reply(200, {"data": []})),
        ):
            self.ends(status, money, "image", "-m", "gpt-image-2", "x", on={make: step})

    def test_where_nobody_tells_the_dialect_nothing_was_bought(self):
        self.at("new-api")
        del self.environ["ALLTOKEN_RELAY_DIALECT"]
        silent = {"GET /v1/models": HANG}
        for command in ("image", "video"):
            ask = (command, "-m", "m", "x")
            self.ends(3, NONE, *ask, ALLTOKEN_RELAY_BASE_URL=CLOSED)
            self.ends(3, NONE, *ask, ALLTOKEN_RELAY_BASE_URL=CLOSED, ALLTOKEN_BUDGET="1/day")
            self.assertEqual(len(self.clock.sleeps), 2)  # a connection that was not made is tried again, as for a chat
            self.ends(3, NONE, *ask, "--timeout", "0.05", on=silent)
            self.ends(130, NONE, *ask, on={"GET /v1/models": lambda _: strike()}, signals=True)
            row = self.rows()[-1]
            self.assertEqual((row["command"], row["model"], row["gateway"]), (command, "m", "relay"))
            self.assertEqual((row["status"], row["task_id"]), ("refused", None))
            self.assertQuietly(1, self.call(command, "--resume"))
        self.assertEqual(self.posts(), 0)
        self.fresh()
        result = self.call("video", "--resume", "task_7", ALLTOKEN_RELAY_BASE_URL=CLOSED)
        self.assertQuietly(3, result)  # the task is left as it is, and can be taken up
        self.assertIn("video --resume task_7", result.err.splitlines()[-1])
        self.assertEqual([(row["task_id"], row["source"]) for row in self.rows()], [("task_7", None)])

    def test_new_apis_failed_video_costs_nothing(self):
        relay = self.at("new-api")
        relay.task_end = "failed"
        self.ends(10, NONE, "video", "-m", "wan2.6-t2v", "x")

    def test_a_local_server_has_no_prices_however_it_ends(self):
        self.at("openai", "ollama", key=None)
        del self.environ["ALLTOKEN_OLLAMA_API_KEY"]
        chat = ("chat", "-m", "gpt-5.4-mini", "hi")
        self.ends(0, LOCAL, *chat)
        self.ends(0, LOCAL, "image", "-m", "gpt-image-1", "x")
        self.ends(0, LOCAL, "video", "-m", "sora-2", "--duration", "4", "x")
        self.ends(5, LOCAL, *chat, on={CHAT: refuse(500, "x")})
        self.ends(9, LOCAL, *chat, on={CHAT: broken()})
        self.ends(3, LOCAL, *chat, "--timeout", "0.05", on={CHAT: HANG})
        self.ends(1, NONE, *chat, on={CHAT: refuse(400, "x")})
        self.ends(3, NONE, *chat, ALLTOKEN_OLLAMA_BASE_URL=CLOSED)

    def test_figures_in_the_answer_of_other_gateways(self):
        self.at("openrouter", "openrouter")
        usd = ("0.000011", "gateway")
        self.ends(0, usd, "chat", "-m", "openai/gpt-5.4-mini", "hi")
        self.at("openai")
        self.ends(0, UNKNOWN, "chat", "-m", "gpt-5.4-mini", "hi")
        self.ends(0, UNKNOWN, "image", "-m", "gpt-image-1", "x")
        for usage, money in (
            ({"cost": 0.25}, ("0.25", "gateway")),
            ({"cost": "0.250"}, ("0.250", "gateway")),
            ({"cost": {"total_cost": 0.125, "request": 1}}, ("0.125", "gateway")),
            ({"cost_in_usd_ticks": 37_756_000, "cost": 9}, ("0.0037756000", "gateway")),
            ({"cost": 0}, UNKNOWN),
            ({"cost": -1}, UNKNOWN),
            ({"cost": "free"}, UNKNOWN),
        ):
            step = stream(frames("yes", usage=USAGE | usage), DONE)
            self.ends(0, money, "chat", "-m", "gpt-5.4-mini", "hi", on={CHAT: step})

    def test_litellms_header(self):
        self.at("litellm")
        self.ends(0, UNKNOWN, "chat", "-m", "gpt-5.4-mini", "hi")  # it is not sent with streams
        whole = {"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}], "usage": USAGE}
        for value, money in (("2.5e-05", ("0.000025", "gateway")), ("0", UNKNOWN), ("x", UNKNOWN)):
            step = reply(200, whole, {"x-litellm-response-cost": value})
            self.ends(0, money, "chat", "-m", "gpt-5.4-mini", "--no-stream", "hi", on={CHAT: step})

    def test_new_apis_own_figures_are_not_believed(self):
        self.at("new-api")
        step = stream(frames("yes", usage=USAGE | {"cost": 99.5}), DONE)
        self.ends(0, UNKNOWN, "chat", "-m", "claude-sonnet-4-6", "hi", on={CHAT: step})


if __name__ == "__main__":
    unittest.main()
