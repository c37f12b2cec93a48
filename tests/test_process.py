"""The CLI as a process: signals, pipes, terminals, what it inherits, and where it is started."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import shlex
import shutil
import signal
import subprocess
import sys
import termios
import threading
import time
import unittest

from .gateway import CHAT, DONE, KEY, delta, event, frames, refuse, stream
from .harness import PACKAGE, PATIENCE, PYTHON, ROOT, Case

LAST = b"This is the loopback gateway, which echoes: "


def read_terminal(master: int) -> bytes:
    """What was written to a terminal until its other end was closed."""
    data = b""
    with contextlib.suppress(OSError):  # EIO is a terminal's end
        while block := os.read(master, 65536):
            data += block
    return data


def pending(descriptor: int) -> int:
    """How many bytes wait in a pipe."""
    return int.from_bytes(fcntl.ioctl(descriptor, termios.FIONREAD, b"...."), sys.byteorder)


class Begun(Case):
    """A process whose first delta has come, and whose gateway waits for `go`."""

    def begin(self, *argv: str, **options):
        self.go = threading.Event()

        def step(exchange):
            exchange.head(chunked=True)
            exchange.event(delta("first"))
            if self.go.wait(PATIENCE):
                exchange.chunk(frames(" rest", *["x" * 70_000] * 4) + DONE)
                exchange.end()

        self.gateway.on(CHAT, step)
        process = self.spawn("chat", "hi", *argv, **options)
        self.assertEqual(os.read(process.stdout.fileno(), 99), b"first")
        return process

    def tearDown(self):
        self.go.set()

    def test_the_first_delta_is_in_the_pipe_before_the_rest_is_sent(self):
        process = self.begin()
        self.go.set()
        out, _ = process.communicate(timeout=PATIENCE)
        self.assertEqual((process.returncode, len(out)), (0, 5 + 280_000 + 1))

    def test_a_signal_ends_it_with_the_text_kept_and_its_own_status(self):
        for signum, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)):
            with self.subTest(signum):
                process = self.begin()
                process.send_signal(signum)
                out, err = process.communicate(timeout=PATIENCE)
                self.assertEqual((process.returncode, out), (status, b"\n"), err)
                self.assertIn(b"[error] interrupted", err)
                self.assertNotIn(b"Traceback", err)

    def test_a_signal_that_is_ignored_stays_ignored(self):
        command = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *PYTHON, PACKAGE]
        process = self.begin(command=command)
        process.send_signal(signal.SIGINT)
        self.go.set()
        process.communicate(timeout=PATIENCE)
        self.assertEqual(process.returncode, 0)

    def test_a_reader_that_goes_away_is_141_and_nothing_is_said(self):
        process = self.begin()
        process.stdout.close()
        self.go.set()
        self.assertEqual(process.stderr.read(), b"")
        self.assertEqual(process.wait(PATIENCE), 141)


class Early(Case):
    forked = False

    def test_a_signal_during_the_start_is_no_traceback(self):
        script = (
            "import importlib, os, signal, sys\n"
            "load = importlib.import_module\n"
            "def interrupted(*words):\n"
            "    os.kill(os.getpid(), signal.SIGTERM)\n"
            "    return load(*words)\n"
            "importlib.import_module = interrupted\n"
            "from alltoken_call.__main__ import entry\n"
            "sys.exit(entry())\n"
        )
        result = self.execute("chat", "hi", command=[*PYTHON, "-c", script], cwd=str(ROOT))
        self.assertQuietly(143, result)


class Streams(Case):
    def test_a_full_stdout_is_status_13_said_once(self):
        for argv in (["chat", "hi"], ["chat", "hi", "--json"], ["--version"], ["chat", "--help"], ["--help"]):
            with self.subTest(argv), open("/dev/full", "wb") as full:
                result = self.execute(*argv, stdout=full)
                self.assertQuietly(13, result)
                self.assertEqual(result.err.count("[error]"), 1, result.err)
                self.assertNotIn("Exception ignored", result.err)

    def test_a_pipe_that_somebody_made_non_blocking_gets_every_byte(self):
        self.gateway.on(CHAT, stream(frames("x" * 300_000) + DONE))
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        process = self.spawn("chat", "hi", stdout=writer)
        os.close(writer)
        with open(reader, "rb") as pipe:
            while process.poll() is None and pending(reader) < 65536:  # until the pipe is full
                time.sleep(0.002)
            out = pipe.read()
        self.assertEqual((process.wait(PATIENCE), len(out)), (0, 300_001), process.stderr.read())

    def test_a_closed_stdout_is_status_13_before_anything_is_sent(self):
        for more in ((), ("--json",)):
            self.assertQuietly(13, self.shell('exec "$@" >&-', "chat", "hi", *more))
        self.assertEqual(self.gateway.requests, [])

    def test_a_reader_that_reads_nothing_is_141_and_nothing_is_said(self):
        for argv in (["chat", "hi", "-q", "--json"], ["chat", "--help"], ["--help"], ["--version"]):
            with self.subTest(argv):
                reader, writer = os.pipe()
                os.close(reader)
                result = self.execute(*argv, stdout=writer)
                os.close(writer)
                self.assertEqual((result.status, result.err), (141, ""))

    def test_a_closed_stderr_and_a_full_one_change_nothing(self):
        for script in ('exec "$@" 2>&-', 'exec "$@" 2>/dev/full'):
            result = self.shell(script, "chat", "-m", "gpt-5.4-mini", "hi")
            self.assertEqual((result.status, result.out), (0, LAST + b"hi\n"), result.err)

    def test_a_closed_stdin_is_not_read(self):
        self.assertEqual(self.shell('exec "$@" <&-', "chat", "hi").status, 0)
        self.assertEqual(self.sent(), "hi")
        self.assertQuietly(2, self.shell('exec "$@" <&-', "chat"))

    def test_a_pipe_a_file_and_dev_null(self):
        for script, sent in (
            ('printf "a\\nb\\n" | "$@"', "a\nb\n\nhi"),
            ('printf "a\\nb\\n" >"$HOME/notes"; "$@" <"$HOME/notes"', "a\nb\n\nhi"),
            ('"$@" </dev/null', "hi"),
        ):
            with self.subTest(script):
                self.assertEqual(self.shell(script, "chat", "hi").status, 0)
                self.assertEqual(self.sent(), sent)

    def test_a_while_read_loop_keeps_its_lines(self):
        self.file("lines", "one\ntwo\nthree\n")
        script = 'while read -r line; do "$@" chat "$line"; done <"$HOME/lines"'
        result = self.execute(command=["sh", "-c", script, "sh", *PYTHON, PACKAGE])
        self.assertEqual(result.status, 0, result.err)
        prompts = [one.json["messages"][0]["content"] for one in self.gateway.requests]
        self.assertEqual(prompts, ["one", "two", "three"])

    @unittest.skipUnless(shutil.which("node"), "node is not here")
    def test_nodes_exec_whose_stdin_never_ends_is_no_hang(self):
        command = shlex.join([*PYTHON, PACKAGE, "chat", "hi"])
        script = f"require('child_process').exec({command!r}, (e, out, err) => {{ process.stdout.write(out); process.exit(e ? e.code : 0) }})"
        result = self.execute(command=[shutil.which("node"), "-e", script])
        self.assertEqual((result.status, self.sent()), (0, "hi"))
        self.assertIn(LAST, result.out)


class Surroundings(Case):
    forked = False

    def test_an_empty_environment_is_enough_to_be_told_of_the_key(self):
        self.environ = {}
        result = self.execute("chat", "hi")
        self.assertEqual((result.status, result.out), (4, b""))
        self.assertIn("ALLTOKEN_API_KEY", result.err)

    def test_nothing_is_imported_from_the_working_directory(self):
        for name in (
            "sqlite3",
            "json",
            "errors",
            "argparse",
            "config",
            "sse",
            "urllib",
            "ssl",
            "select",
            "random",
            "email",
        ):
            self.file(f"{name}.py", f"import os\nos.write(2, b'HOSTILE {name}')\nos._exit(99)\n")
        module = [sys.executable, "-m", "alltoken_call"]
        for name, command in (("-m", module), ("the directory", [sys.executable, PACKAGE])):
            with self.subTest(name):
                result = self.execute("chat", "hi", command=command, cwd=self.folder, environ={"PYTHONPATH": str(ROOT)})
                self.assertEqual(result.status, 0, result.err)

    def test_every_form_of_starting_it_gives_the_same(self):
        link = os.path.join(self.folder, "alltoken_call")
        os.symlink(PACKAGE, link)
        relative = os.path.relpath(PACKAGE, self.folder)
        for command in ([PACKAGE], [relative], [link], ["-I", PACKAGE], ["-m", "alltoken_call"]):
            with self.subTest(command):
                place = str(ROOT) if "-m" in command else self.folder
                result = self.execute("--version", command=[sys.executable, *command], cwd=place)
                self.assertEqual((result.status, result.err), (0, ""))
                self.assertRegex(result.out, rb"^alltoken-call \d+\.\d+\.\d+\n$")

    def test_an_ascii_locale_changes_no_byte(self):
        locale = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
        self.gateway.on(CHAT, stream(frames("é → \U0001f600") + DONE), refuse(400, "x", "é → \U0001f600"))
        result = self.execute("chat", "Grüße", environ=locale)
        self.assertEqual((result.status, result.out), (0, "é → \U0001f600\n".encode()), result.err)
        self.assertEqual(self.sent(), "Grüße")
        result = self.execute("chat", "hi", environ=locale)
        self.assertQuietly(1, result)
        self.assertTrue(result.err.isascii())

    def test_words_that_are_no_text_are_sent_as_well_as_they_can(self):
        result = self.execute("chat", os.fsdecode(b"a\xffb"))
        self.assertQuietly(0, result)
        self.assertRegex(self.sent(), "^a.b$")

    def test_proxies_in_the_environment_do_not_see_loopback_traffic(self):
        proxies = dict.fromkeys(("http_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
        self.assertEqual(self.execute("chat", "hi", environ=proxies).status, 0)

    def test_the_key_is_not_in_a_bugs_traceback(self):
        script = (
            "import sys, alltoken_call.calls.reading as one\n"
            "one.object_of = None\n"
            "from alltoken_call.__main__ import entry\n"
            "sys.exit(entry())\n"
        )
        command = [*PYTHON, "-c", script]
        for more in ((), ("-v",)):
            result = self.execute("chat", "hi", *more, command=command, cwd=str(ROOT))
            self.assertEqual((result.status, "Traceback" in result.err), (1, bool(more)))
            self.assertNotIn(KEY, result.err)


class Terminals(Case):
    forked = False

    EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31mabc\u202e\r"

    def on_terminal(self, *argv: str, **environ: str) -> tuple[int, str]:
        """Run with stdout and stderr on a pseudo terminal."""
        master, slave = pty.openpty()
        process = self.spawn(*argv, stdout=slave, stderr=slave, environ=environ)
        os.close(slave)
        shown = read_terminal(master)
        os.close(master)
        return process.wait(PATIENCE), shown.replace(b"\r\n", b"\n").decode()

    def test_remote_text_cannot_drive_the_terminal(self):
        self.gateway.on(
            CHAT, stream(event(delta(self.EVIL, reasoning_content=self.EVIL)), DONE), refuse(400, self.EVIL, self.EVIL)
        )
        for status in (0, 1):
            found, shown = self.on_terminal("chat", "hi", "--thinking", "-v", NO_COLOR="1")
            self.assertEqual(found, status)
            self.assertNotRegex(shown, "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]")
            self.assertIn("\\x1b]0;owned\\x07", shown)

    def test_a_narrow_terminal_gets_escapes_and_no_traceback(self):
        self.gateway.on(CHAT, stream(frames("é\ud83d") + DONE))
        status, shown = self.on_terminal("chat", "hi", NO_COLOR="1", PYTHONIOENCODING="ascii")
        self.assertEqual(status, 0, shown)
        self.assertIn("\\xe9", shown)

    def test_no_words_on_a_terminal_is_status_2_with_the_usage(self):
        master, slave = pty.openpty()
        process = self.spawn("chat", stdin=slave, stderr=subprocess.PIPE)
        os.close(slave)
        _, err = process.communicate(timeout=PATIENCE)
        os.close(master)
        self.assertEqual(process.returncode, 2)
        self.assertIn(b"usage: alltoken-call chat", err)

    def test_ctrl_c_on_a_terminal_is_130(self):
        self.gateway.on(CHAT, stream(event(delta("first")), "hold"))
        master, slave = pty.openpty()
        process = self.spawn("chat", "hi", stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
        os.close(slave)
        shown = b""
        while b"first" not in shown:
            shown += os.read(master, 999)
        process.send_signal(signal.SIGINT)
        shown = read_terminal(master)
        os.close(master)
        self.assertEqual(process.wait(PATIENCE), 130)
        self.assertNotIn(b"Traceback", shown)
