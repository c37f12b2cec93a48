"""report.py: what is told of a call's money, and of a rate limit."""

from __future__ import annotations

import os

from ..gateway import CHAT, KEY, refuse
from ..harness import Case

USAGE = "[usage] prompt=5 completion=8 total=13 model=gpt-5.4-mini"


class Money(Case):
    def test_on_a_terminal_an_empty_line_comes_first_and_the_lines_are_dim(self):
        result = self.chat("hi", terminals="out err")
        self.assertQuietly(0, result)
        told = result.err.replace("\r\x1b[K", "")
        self.assertRegex(told, r"\A\n\x1b\[2m\[usage\] .*\x1b\[0m\n\x1b\[2m\[cost\] \$.*\x1b\[0m\n\Z")
        self.assertTrue(self.chat("hi", terminals="out err", NO_COLOR="1").err.startswith(f"\n{USAGE}\n[cost] $"))

    def test_in_a_pipe_there_is_neither(self):
        for terminals in ("", "out"):
            self.assertTrue(self.chat("hi", terminals=terminals).err.startswith(f"{USAGE}\n[cost] $"))
        told = self.chat("hi", terminals="err").err.replace("\x1b[2m", "").replace("\x1b[0m", "")
        self.assertTrue(told.startswith(f"{USAGE}\n[cost] $"))  # the answer is elsewhere

    def test_quiet_and_json_leave_no_empty_line(self):
        self.assertEqual(self.chat("-q", "hi", terminals="out err").err, "")
        self.assertTrue(self.chat("--json", "hi", terminals="out err").err.startswith("\x1b[2m[usage]"))


class Resume(Case):
    """The resume command, which says more if there is no ledger to look it up in."""

    def setUp(self) -> None:
        super().setUp()
        self.target = os.path.join(self.folder, "x.png")
        self.detached = ["image", "-m", "gpt-image-2", "x", "-o", self.target, "--detach", "--json"]

    def test_it_names_the_gateway_if_neither_the_ledger_nor_the_environment_does(self):
        twin = {"ALLTOKEN_TWIN_BASE_URL": self.gateway.url, "ALLTOKEN_TWIN_API_KEY": KEY}
        twin |= {"ALLTOKEN_TWIN_DIALECT": "alltoken"}
        for named, environ, wanted in (
            ("twin", {}, " --gateway twin"),
            ("twin", {"ALLTOKEN_GATEWAY": "twin"}, ""),
            (None, {"ALLTOKEN_GATEWAY": "Twin"}, ""),
            ("alltoken", {"ALLTOKEN_GATEWAY": "twin"}, " --gateway alltoken"),
            ("alltoken", {"ALLTOKEN_GATEWAY": "unheard-of"}, " --gateway alltoken"),
            ("alltoken", {}, ""),
            (None, {}, ""),
        ):
            for ledger in ("off", "/dev/null/ledger.db", None):
                with self.subTest(named=named, ledger=ledger, **environ):
                    option = ["--gateway", named] if named else []
                    argv = [*self.detached, *option]
                    result = self.call(*argv, ALLTOKEN_LEDGER=ledger, **twin, **environ)
                    self.assertQuietly(0, result)
                    task, more = result.document["task_id"], f" -o {self.target}{wanted}" if ledger else ""
                    command = f"alltoken-call image --resume {task}{more}"
                    self.assertEqual(result.document["resume"], command)
                    self.assertIn(f"\n{command}  # ", result.err)

    def test_it_finds_the_task_without_a_ledger(self):
        own = {"ALLTOKEN_TWIN_BASE_URL": self.gateway.url, "ALLTOKEN_TWIN_API_KEY": KEY, "ALLTOKEN_LEDGER": "off"}
        own |= {"ALLTOKEN_TWIN_DIALECT": "alltoken", "ALLTOKEN_BASE_URL": "http://127.0.0.1:1"}
        argv = [*self.detached, "--gateway", "twin"]
        resume = self.call(*argv, **own).document["resume"]
        self.assertQuietly(0, self.call(*resume.split()[1:], **own))


class RateLimits(Case):
    def test_a_wait_that_is_too_long_is_named_with_our_limit_and_not_waited_for(self):
        self.gateway.on(CHAT, refuse(429, "rate_limited", headers={"Retry-After": "90"}))
        result = self.chat("hi")
        self.assertQuietly(7, result)
        self.assertEqual((result.sleeps, self.asked()), ([], 1))
        self.assertRegex(result.err, r"90 s \(Retry-After\), longer than we do \(60 s\)")

    def test_after_waiting_in_vain_the_retries_are_told(self):
        self.gateway.on(CHAT, *[refuse(429, "rate_limited", headers={"Retry-After": "3"})] * 3)
        result = self.chat("hi")
        self.assertQuietly(7, result)
        self.assertEqual((result.sleeps, self.asked()), ([3.0, 3.0], 3))
        self.assertEqual(result.err.count("[retry]"), 2)
        self.assertNotIn("longer than", result.err)
