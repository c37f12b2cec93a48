"""A conversation in a file: what `chat --thread` reads, sends and writes, and several runs on one file."""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import signal
import stat
import threading
import time
import unittest
from typing import Any
from unittest import mock

from alltoken_call.errors import UsageError
from alltoken_call.store.thread import Thread

from ..gateway import CHAT, refuse
from ..harness import PATIENCE, Case
from ..task_support import held, normal

USER = {"role": "user", "content": "a"}
SYSTEM = {"role": "system", "content": "old"}


effective = functools.partial(os.access, effective_ids=os.access in os.supports_effective_ids)


def echo(text: str) -> str:
    """What the loopback gateway answers."""
    return f"This is the loopback gateway, which echoes: {text}"


class ThreadCase(Case):
    def setUp(self) -> None:
        super().setUp()
        self.path = os.path.join(self.folder, "thread.json")
        self.locks = os.path.join(self.folder, "state", "alltoken-call", "locks")

    def document(self, path: str | None = None) -> Any:
        """What the file holds."""
        with open(path or self.path, encoding="ascii") as file:
            return json.load(file)

    def texts(self) -> list[str]:
        """The contents of the messages in the file."""
        document = self.document()
        messages = document if isinstance(document, list) else document["messages"]
        return [message["content"] for message in messages]

    def model(self) -> str:
        """The model that was asked last."""
        return self.gateway.requests[-1].json["model"]

    def say(self, *argv: str, status: int = 0, **options: Any) -> Any:
        """Run `chat --thread` on the file."""
        result = self.chat("--thread", self.path, *argv, **options)
        self.assertQuietly(status, result)
        return result

    def assertTold(self, result: Any, model: str | None) -> None:
        """The run says that it uses the thread's model, or says nothing."""
        told = [line for line in result.err.splitlines() if line.startswith("[thread]")]
        self.assertEqual(told, [f"[thread] model {model}"] if model else [])


class Documents(ThreadCase):
    def test_a_new_one_has_model_and_messages_and_is_private(self):
        before = os.umask(0)
        try:
            result = self.say("-m", "claude-haiku-4-5", "-s", "be brief", "one")
        finally:
            os.umask(before)
        self.assertTold(result, None)
        turn = [{"role": "user", "content": "one"}, {"role": "assistant", "content": echo("one")}]
        messages = [{"role": "system", "content": "be brief"}, *turn]
        self.assertEqual(self.document(), {"model": "claude-haiku-4-5", "messages": messages})
        self.assertEqual(list(self.document()), ["model", "messages"])
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)
        self.assertEqual(self.gateway.requests[0].json["messages"], messages[:2])
        self.assertEqual(sorted(os.listdir(self.folder)), ["state", "thread.json"])

    def test_a_new_one_has_the_default_model_if_none_is_named(self):
        self.say("one", ALLTOKEN_CHAT_MODEL="gpt-5.4-nano")
        self.assertEqual(self.document()["model"], "gpt-5.4-nano")
        os.unlink(self.path)
        self.say("one")
        self.assertEqual(self.document()["model"], "gpt-5.4-mini")

    def test_an_empty_file_is_a_new_one_and_keeps_its_mode(self):
        self.file("thread.json", b"")
        os.chmod(self.path, 0o640)
        self.say("one")
        self.assertEqual(self.document()["model"], "gpt-5.4-mini")
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o640)

    def test_a_bare_list_stays_a_list(self):
        for content in ([], [USER], [SYSTEM, USER]):
            with self.subTest(content):
                self.file("thread.json", content)
                self.assertTold(self.say("b"), None)
                self.assertEqual(self.model(), "gpt-5.4-mini")
                asked = [*content, {"role": "user", "content": "b"}]
                self.assertEqual(self.gateway.requests[-1].json["messages"], asked)
                self.assertEqual(self.document(), [*asked, {"role": "assistant", "content": echo("b")}])

    def test_other_keys_are_kept(self):
        other = {
            "title": "Grüße",
            "model": "gpt-5.4",
            "tags": [1, None, {"x": True}],
            "messages": [USER],
            "\ud800": 0.5,
        }
        self.file("thread.json", other)
        self.say("b")
        document = self.document()
        self.assertEqual(list(document), list(other))
        self.assertEqual(document | {"messages": [USER]}, other)
        self.assertEqual(self.texts(), ["a", "b", echo("b")])
        self.assertEqual(set(self.gateway.requests[0].json) & {"title", "tags"}, set())

    def test_other_fields_of_a_message_are_kept_and_sent(self):
        message = USER | {"name": "x", "reasoning_content": "hm"}
        self.file("thread.json", {"model": "gpt-5.4", "messages": [message]})
        self.say("b")
        self.assertEqual(self.gateway.requests[0].json["messages"][0], message)
        self.assertEqual(self.document()["messages"][0], message)

    def test_a_byte_order_mark_is_taken(self):
        self.file("thread.json", b"\xef\xbb\xbf" + json.dumps([USER]).encode())
        self.say("b")
        self.assertEqual(self.texts(), ["a", "b", echo("b")])

    def test_what_is_no_conversation_is_refused_and_stays(self):
        for content in (
            b"{}",
            b"null",
            b'"text"',
            b"[1]",
            b'[{"content":"x"}]',
            b'[{"role":1}]',
            b'{"messages":{}}',
            b'{"messages":[1]}',
            b'{"model":"gpt-5.4"}',
            b"[",
            b"text",
            b" ",
            b"\xff",
            b'[{"role":"user","content":"caf\xe9"}]',  # Latin-1: what cannot be read must not be rewritten
            json.dumps([USER]).encode("utf-16"),
        ):
            with self.subTest(content):
                self.file("thread.json", content)
                self.say("hi", status=2)
                with open(self.path, "rb") as file:
                    self.assertEqual(file.read(), content)
                with self.assertRaises(UsageError):
                    Thread(self.path)
        self.assertEqual(self.gateway.requests, [])

    def test_a_dry_run_shows_the_conversation_and_writes_nothing(self):
        content = {"model": "claude-haiku-4-5", "messages": [USER]}
        self.file("thread.json", content)
        body = self.body("b", "--thread", self.path)
        self.assertEqual(
            (body["model"], body["messages"]), (content["model"], [USER, {"role": "user", "content": "b"}])
        )
        self.assertEqual(self.document(), content)
        self.assertEqual(self.body("b", "--thread", os.path.join(self.folder, "new.json"))["model"], "gpt-5.4-mini")
        self.assertEqual(os.listdir(self.folder), ["thread.json"])


class Models(ThreadCase):
    def test_a_run_that_names_no_model_uses_the_threads_and_says_so(self):
        self.say("-m", "claude-haiku-4-5", "one")
        for argv, environ, told in (
            (("two",), {}, "claude-haiku-4-5"),
            (("three",), {"ALLTOKEN_CHAT_MODEL": "gpt-5.4-nano"}, "claude-haiku-4-5"),
            (("-q", "four"), {}, None),
        ):
            with self.subTest(argv):
                self.assertTold(self.say(*argv, **environ), told)
                self.assertEqual(self.model(), "claude-haiku-4-5")
        self.assertEqual(self.document()["model"], "claude-haiku-4-5")
        self.assertEqual(len(self.texts()), 8)

    def test_json_has_the_threads_model(self):
        self.file("thread.json", {"model": "gpt-5.4", "messages": []})
        document = self.say("--json", "hi").document
        self.assertEqual((document["model"], document["text"]), ("gpt-5.4", echo("hi")))

    def test_another_model_is_used_and_does_not_change_it(self):
        self.say("-m", "claude-haiku-4-5", "one")
        for argv in (("-m", "gpt-5.4", "two"), ("gpt-5.4", "three")):
            with self.subTest(argv):
                self.assertTold(self.say(*argv), None)
                self.assertEqual(self.model(), "gpt-5.4")
                self.assertEqual(self.document()["model"], "claude-haiku-4-5")
        self.assertTold(self.say("four"), "claude-haiku-4-5")
        self.assertEqual(len(self.texts()), 8)

    def test_a_fallback_does_not_change_it(self):
        for content in (None, {"model": "gpt-5.4", "messages": [USER]}):
            with self.subTest(content):
                if content:
                    self.file("thread.json", content)
                self.gateway.on(CHAT, refuse(503, "all_providers_failed"), normal)
                self.say(*(() if content else ("-m", "gpt-5.4")), "hi", "--fallback", "gpt-5.4-mini")
                self.assertEqual(self.model(), "gpt-5.4-mini")
                self.assertEqual(self.document()["model"], "gpt-5.4")
                self.assertEqual(self.texts()[-1], echo("hi"))

    def test_what_is_no_model_is_none(self):
        for odd in (None, "", " ", 5, ["gpt-5.4"]):
            with self.subTest(odd):
                self.file("thread.json", {"model": odd, "messages": []})
                self.assertTold(self.say("hi"), None)
                self.assertEqual(self.model(), "gpt-5.4-mini")


class SystemMessages(ThreadCase):
    def test_s_sets_it_or_replaces_it(self):
        new = {"role": "system", "content": "new"}
        late = {"role": "system", "content": "late"}
        for before, after in (
            ([], [new]),
            ([SYSTEM, USER], [new, USER]),
            ([USER], [new, USER]),
            ([SYSTEM, USER, late], [new, USER, late]),
        ):
            for content in (before, {"model": "gpt-5.4", "messages": before}):
                with self.subTest(content):
                    self.file("thread.json", content)
                    self.say("-s", "new", "b")
                    asked = [*after, {"role": "user", "content": "b"}]
                    self.assertEqual(self.gateway.requests[-1].json["messages"], asked)
                    document = self.document()
                    self.assertEqual((document if content is before else document["messages"])[:-1], asked)

    def test_without_s_it_stays(self):
        self.say("-s", "be brief", "one")
        self.say("two")
        self.assertEqual(self.gateway.requests[-1].json["messages"][0], {"role": "system", "content": "be brief"})
        self.assertEqual(self.texts(), ["be brief", "one", echo("one"), "two", echo("two")])

    def test_a_run_that_fails_replaces_nothing(self):
        self.file("thread.json", [SYSTEM, USER])
        self.gateway.on(CHAT, refuse(400, "invalid_request"))
        self.say("-s", "new", "b", status=1)
        self.assertEqual(self.document(), [SYSTEM, USER])


class Places(ThreadCase):
    @contextlib.contextmanager
    def as_anybody(self, *paths: str) -> Any:
        """Be a user whom modes bind, with `paths` as their own: root may write anywhere."""
        if os.geteuid() != 0:
            yield
            return
        for path in (self.folder, *paths):
            os.chown(path, 65534, -1)
        os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(0)

    @unittest.skipUnless(hasattr(os, "mkfifo"), "devices and pipes of POSIX")
    def test_a_device_a_pipe_and_a_directory_are_status_2_for_everybody(self):
        os.mkfifo(self.path)
        os.symlink("/dev/null", os.path.join(self.folder, "link"))
        self.chat("--dry-run", "hi")  # loads what another user may not read
        with self.assertRaises(UsageError):
            Thread(self.path)
        for anybody in (False, True):
            for path in (self.path, "/dev/null", "/dev/zero", self.folder, os.path.join(self.folder, "link")):
                with self.subTest(path, anybody=anybody), self.as_anybody() if anybody else contextlib.nullcontext():
                    self.assertQuietly(2, self.chat("hi", "--thread", path))
                    self.assertQuietly(2, self.chat("hi", "--thread", path, "--dry-run"))
                self.assertTrue(os.path.exists(path) and not os.path.isfile(path))
        self.assertEqual(self.gateway.requests, [])
        self.assertEqual(sorted(os.listdir(self.folder)), ["link", "thread.json"])

    @unittest.skipIf(os.name == "nt", "pipes of POSIX")
    def test_a_shells_pipe_is_status_2(self):
        self.assertQuietly(2, self.shell('"$@" --thread <(echo "[]")', "chat", "hi", shell="bash"))
        self.assertEqual(self.gateway.requests, [])

    @unittest.skipIf(os.name == "nt", "modes of POSIX")
    def test_what_cannot_be_written_is_status_13_before_anything_is_sent(self):
        folder = os.path.join(self.folder, "fixed")
        os.mkdir(folder)
        path = os.path.join(folder, "thread.json")
        self.say("hi")  # loads what another user may not read
        self.gateway.requests.clear()
        with open(path, "wb") as file:
            file.write(b"[]")
        for mode, folder_mode, place in (
            (0o400, 0o700, path),
            (0o600, 0o500, path),
            (0o600, 0o500, os.path.join(folder, "new.json")),
            (0o600, 0o700, os.path.join(folder, "none", "new.json")),
            (0o600, 0o700, os.path.join(path, "new.json")),
        ):
            with self.subTest(place, mode=oct(mode)):
                os.chmod(path, mode)
                os.chmod(folder, folder_mode)
                with mock.patch("os.access", effective), self.as_anybody(folder, path):
                    self.assertQuietly(13, self.chat("hi", "--thread", place))
                os.chmod(folder, 0o700)
                self.assertEqual(self.document(path), [])
                self.assertEqual(os.listdir(folder), ["thread.json"])
        self.assertEqual(self.gateway.requests, [])

    def test_a_disk_that_fills_up_meanwhile_is_status_13_with_the_answer_shown_and_the_thread_as_it_was(self):
        self.file("thread.json", [USER])

        def step(exchange):
            full.start()
            normal(exchange)

        full = mock.patch("alltoken_call.store.files.sync", side_effect=OSError(errno.ENOSPC, "full"))
        self.addCleanup(full.stop)
        self.gateway.on(CHAT, step)
        result = self.say("b", status=13)
        self.assertEqual(result.out.decode(), echo("b") + "\n")
        self.assertEqual(self.document(), [USER])
        self.assertEqual(sorted(os.listdir(self.folder)), ["state", "thread.json"])

    def test_a_dangling_link_leads_to_the_new_file(self):
        os.symlink(os.path.join(self.folder, "real.json"), self.path)
        self.say("one")
        self.assertTrue(os.path.islink(self.path))
        self.assertEqual(stat.S_IMODE(os.stat(os.path.join(self.folder, "real.json")).st_mode), 0o600)
        self.assertEqual(self.texts(), ["one", echo("one")])


class Turns(ThreadCase):
    """Several runs on one file at once."""

    def start(self, *argv: str, **options: Any) -> Any:
        """Start `chat --thread` on the file as a process."""
        return self.spawn("chat", "--thread", self.path, *argv, **options)

    def until(self, happened: Any) -> None:
        """Wait for what no event tells of: another process's state."""
        end = time.monotonic() + PATIENCE
        while not happened():
            self.assertLess(time.monotonic(), end, "it did not happen")
            time.sleep(0.005)

    def until_it_waits(self, process: Any) -> None:
        """Wait until a process has opened a lock, and had the time to ask if it did not respect it."""

        def has_opened() -> bool:
            self.assertIsNone(process.poll(), "it has ended")
            folder = f"/proc/{process.pid}/fd"
            with contextlib.suppress(OSError):
                return any(os.readlink(f"{folder}/{fd}").startswith(self.locks) for fd in os.listdir(folder))
            return False

        self.until(has_opened)
        time.sleep(0.15)

    def end(self, process: Any, status: int = 0) -> str:
        """Wait for a process's end; its stderr."""
        out, err = process.communicate(timeout=PATIENCE)
        self.assertEqual(process.returncode, status, err)
        self.assertNotIn(b"Traceback", err)
        if status:
            self.assertEqual(out, b"")
        return err.decode()

    def hold_first(self) -> tuple[threading.Event, threading.Event]:
        """Script the gateway: the first question is `seen`, and answered when `go` is set."""
        seen, go = threading.Event(), threading.Event()
        self.addCleanup(go.set)
        self.gateway.on(CHAT, held(seen, go), normal)
        return seen, go

    @unittest.skipUnless(os.path.isdir("/proc/self/fd"), "sees what a process has opened")
    def test_the_second_of_two_waits_and_both_turns_are_in_the_file(self):
        link = os.path.join(self.folder, "link.json")
        os.symlink("thread.json", link)
        for content, name in (
            (None, self.path),
            ([USER], link),
            ([USER], os.path.join(self.folder, ".", "thread.json")),
        ):
            with self.subTest(name, content=content):
                self.gateway.requests.clear()
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.path)
                if content is not None:
                    self.file("thread.json", content)
                seen, go = self.hold_first()
                first = self.start("one")
                self.assertTrue(seen.wait(PATIENCE))
                second = self.spawn("chat", "--thread", name, "two")
                self.until_it_waits(second)
                self.assertEqual(self.asked(), 1)
                go.set()
                self.end(first)
                self.end(second)
                before = [message["content"] for message in content or ()]
                self.assertEqual(self.texts(), [*before, "one", echo("one"), "two", echo("two")])
                self.assertEqual(len(self.gateway.requests[1].json["messages"]), len(before) + 3)

    def test_of_many_at_once_no_turn_is_lost(self):
        running = [self.start(f"number {number}") for number in range(8)]
        for process in running:
            self.end(process)
        texts = self.texts()
        self.assertEqual(set(texts[::2]), {f"number {number}" for number in range(8)})
        self.assertEqual(texts[1::2], [echo(text) for text in texts[::2]])
        counts = sorted(len(exchange.json["messages"]) for exchange in self.gateway.requests)
        self.assertEqual(counts, list(range(1, 16, 2)))

    def test_another_file_is_not_waited_for(self):
        seen, go = self.hold_first()
        first = self.start("one")
        self.assertTrue(seen.wait(PATIENCE))
        other = os.path.join(self.folder, "other.json")
        self.end(self.spawn("chat", "--thread", other, "two"))
        self.end(self.spawn("chat", "three"))
        self.assertIsNone(first.poll())
        go.set()
        self.end(first)
        self.assertEqual(self.texts(), ["one", echo("one")])

    @unittest.skipIf(os.name == "nt", "signals of POSIX")
    def test_a_run_that_was_killed_holds_nobody_up(self):
        seen, _ = self.hold_first()
        first = self.start("one")
        self.assertTrue(seen.wait(PATIENCE))
        second = self.start("two")
        if os.path.isdir("/proc/self/fd"):
            self.until_it_waits(second)
            self.assertEqual(self.asked(), 1)
        first.send_signal(signal.SIGKILL)
        self.end(second)
        self.assertEqual(first.wait(PATIENCE), -signal.SIGKILL)
        self.end(self.start("three"))
        self.assertEqual(self.texts(), ["two", echo("two"), "three", echo("three")])
        self.assertEqual(sorted(os.listdir(self.folder)), ["state", "thread.json"])

    def test_a_run_that_failed_holds_nobody_up(self):
        seen, go = threading.Event(), threading.Event()
        self.addCleanup(go.set)
        self.gateway.on(CHAT, held(seen, go, refuse(400, "invalid_request")), normal)
        first = self.start("one")
        self.assertTrue(seen.wait(PATIENCE))
        second = self.start("two")
        go.set()
        self.end(first, 1)
        self.end(second)
        self.assertEqual(self.texts(), ["two", echo("two")])

    def test_max_wait_ends_the_waiting_and_nothing_is_sent(self):
        seen, go = self.hold_first()
        first = self.start("one")
        self.assertTrue(seen.wait(PATIENCE))
        begun = time.monotonic()
        second = self.start("two", "--max-wait", "0.4", "--json")
        out, err = second.communicate(timeout=PATIENCE)
        self.assertLess(time.monotonic() - begun, 3)
        self.assertIn(second.returncode, (3, 8), err)
        document = json.loads(out)
        self.assertEqual((document["ok"], document["error"]["status"], document["text"]), (False, None, None))
        self.assertIn(b"--max-wait", err)
        self.assertEqual(self.asked(), 1)
        go.set()
        self.end(first)
        self.assertEqual(self.texts(), ["one", echo("one")])

    @unittest.skipUnless(os.path.isdir("/proc/self/fd"), "sees what a process has opened")
    def test_a_signal_ends_the_waiting_and_nothing_is_sent(self):
        seen, go = self.hold_first()
        first = self.start("one")
        self.assertTrue(seen.wait(PATIENCE))
        for signum, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
            second = self.start("two")
            self.until_it_waits(second)
            second.send_signal(signum)
            self.end(second, status)
        self.assertEqual(self.asked(), 1)
        go.set()
        self.end(first)
        self.assertEqual(self.texts(), ["one", echo("one")])

    @unittest.skipIf(os.name == "nt", "modes of POSIX")
    def test_locks_are_private_files_in_the_state_directory_and_hold_nothing(self):
        before = os.umask(0)
        try:
            self.say("one")
            self.say("two")
        finally:
            os.umask(before)
        self.assertEqual(stat.S_IMODE(os.stat(self.locks).st_mode), 0o700)
        (name,) = os.listdir(self.locks)
        found = os.stat(os.path.join(self.locks, name))
        self.assertEqual((stat.S_IMODE(found.st_mode), found.st_size), (0o600, 0))
        self.assertNotIn("thread", name)
        self.assertEqual(sorted(os.listdir(self.folder)), ["state", "thread.json"])

    def test_without_a_place_for_locks_a_run_goes_on(self):
        self.say("one", HOME=None, XDG_STATE_HOME=None, ALLTOKEN_LEDGER="off")
        plain = self.file("plain", b"")
        self.say("two", XDG_STATE_HOME=plain, ALLTOKEN_LEDGER="off")
        with mock.patch("fcntl.flock", side_effect=OSError(errno.ENOLCK, "no locks available")):
            self.say("three", "--max-wait", "5")  # on a file system without locks
        self.assertEqual(self.texts()[::2], ["one", "two", "three"])


if __name__ == "__main__":
    unittest.main()
