"""image from outside: what is sent, where results go, what is shown."""

import fcntl
import os
import pty
import re
import struct
import sys
import termios
import time
import unittest

from ..gateway import png, reply
from ..harness import PACKAGE, PYTHON
from ..task_support import GET_IMAGE, IGEN, IMAGES, TASK_KEYS, TaskCase, document, entry, normal


class Requests(TaskCase):
    def body(self, *argv, **options):
        """The body that is sent, which is the one that --dry-run shows."""
        shown = self.image("--dry-run", *argv, **options)
        self.assertQuietly(0, shown)
        self.fresh()
        self.assertQuietly(0, self.image(*argv, **options))
        sent = next(one for one in self.gateway.requests if one.method == "POST")
        self.assertEqual(shown.document, {"method": "POST", "url": self.gateway.url + sent.path, "body": sent.json})
        return sent.json

    def test_model_prompt_size_and_quality_are_always_sent_and_nothing_else(self):
        self.assertEqual(
            self.body("a fox"),
            {"model": "gpt-image-2", "prompt": "a fox", "size": "1024x1024", "quality": "low"},
        )

    def test_other_fields_are_sent_when_given(self):
        body = self.body(
            "a",
            "fox",
            "-m",
            "wan2.7-image",
            "--size",
            "1536x1024",
            "--quality",
            "high",
            "--format",
            "webp",
            "--background",
            "transparent",
            "-n",
            "2",
            "-p",
            "seed=7",
            "-p",
            "moderation=low",
        )
        self.assertEqual(
            body,
            {
                "model": "wan2.7-image",
                "prompt": "a fox",
                "size": "1536x1024",
                "quality": "high",
                "output_format": "webp",
                "background": "transparent",
                "n": 2,
                "seed": 7,
                "moderation": "low",
            },
        )

    def test_the_model_comes_from_the_environment_unless_given(self):
        self.assertEqual(self.body("a fox", ALLTOKEN_IMAGE_MODEL="wan2.7-image")["model"], "wan2.7-image")
        self.assertEqual(self.body("a fox", "-m", "one", ALLTOKEN_IMAGE_MODEL="other")["model"], "one")

    def test_words_are_a_prompt_and_never_a_model(self):
        self.assertEqual(self.body("gpt-image-2", "fox")["prompt"], "gpt-image-2 fox")
        self.assertEqual(self.body("--", "--size", "-n")["prompt"], "--size -n")

    def test_the_format_follows_the_outputs_ending_unless_it_is_given(self):
        for argv, form in (
            (("-o", "a.jpg"), "jpeg"),
            (("-o", "a.JPEG"), "jpeg"),
            (("-o", "a.webp"), "webp"),
            (("-o", "a.png"), "png"),
            (("-o", "a.gif"), None),
            (("-o", "a"), None),
            (("-o", "-"), None),
            ((), None),
            (("-o", "a.png", "--format", "webp"), "webp"),
        ):
            with self.subTest(argv):
                self.assertEqual(self.body("x", *argv).get("output_format"), form)

    def test_stdin_is_read_for_the_dash_and_for_nothing_else(self):
        self.assertEqual(self.body("-", stdin=b"a fox\n")["prompt"], "a fox")
        self.assertEqual(self.body("paint", "-", stdin=b"a fox\n")["prompt"], "paint a fox")
        self.assertEqual(self.body("a cat", stdin=b"a fox\n")["prompt"], "a cat")
        self.assertQuietly(2, self.image(stdin=b"a fox\n"))
        reader, writer = os.pipe()
        os.write(writer, b"a fox")
        os.close(writer)
        with open(reader) as pipe:
            done = self.execute("image", "a cat", "--dry-run", stdin=pipe)
        self.assertEqual(done.document["body"]["prompt"], "a cat")

    def test_wrong_usage_is_status_2_and_nothing_is_sent(self):
        self.file("place/m.png", png())
        for argv in (
            (),
            ("",),
            (" ",),
            ("-",),
            ("x", "-n", "0"),
            ("x", "-n", "two"),
            ("x", "--format", "gif"),
            ("x", "--background", "blue"),
            ("x", "--mask", "m.png"),
            ("x", "--edit", "missing.png"),
            ("x", "--qual", "low"),
            ("x", "-p", "n=2"),
            ("x", "-p", "model=y"),
            ("x", "-p", "seed=NaN"),
            ("x", "-o", "-", "--json"),
            ("x", "-o", "-", "-n", "2"),
            ("x", "--max-wait", "0"),
            ("x", "--timeout", "nan"),
            ("x", "--list"),
            ("x", "--cancel", "y"),
        ):
            with self.subTest(argv):
                self.assertQuietly(2, self.image(*argv))
        self.assertEqual(self.gateway.requests, [])

    def test_dry_run_needs_no_key_and_sends_nothing_whatever_goes_with_it(self):
        self.assertQuietly(0, self.image("x", "--detach"))
        self.gateway.requests.clear()
        for argv in (
            ("x",),
            ("x", "--json"),
            ("x", "--detach"),
            ("x", "-o", "missing/x.png"),
            ("--resume",),
            ("--resume", IGEN),
        ):
            with self.subTest(argv):
                self.gateway.requests.clear()
                result = self.image(*argv, "--dry-run", ALLTOKEN_API_KEY=None)
                self.assertEqual(self.gateway.requests, [])
                self.assertQuietly(0, result)
                self.assertEqual(result.document["method"], "GET" if "--resume" in argv else "POST")
        self.assertPlace()

    def test_dry_run_of_a_resume_shows_the_poll(self):
        self.assertQuietly(0, self.image("x", "--detach"))
        self.gateway.requests.clear()
        row = self.row(IGEN)
        for argv, task_id in ((("--resume",), IGEN), (("--resume", "igen/9"), "igen%2F9")):
            result = self.image(*argv, "--dry-run", ALLTOKEN_API_KEY=None)
            self.assertQuietly(0, result)
            wanted = {"method": "GET", "url": f"{self.gateway.url}{IMAGES}/{task_id}", "body": None}
            self.assertEqual(result.document, wanted)
        self.assertEqual((self.gateway.requests, self.row(IGEN)), ([], row))
        self.assertQuietly(2, self.image("--resume", "..", "--dry-run"))

    def test_without_a_key_nothing_is_sent(self):
        self.assertQuietly(0, self.image("x", "--detach"))
        self.gateway.requests.clear()
        for argv in (("x",), ("--resume",), ("--resume", IGEN)):
            self.assertQuietly(4, self.image(*argv, ALLTOKEN_API_KEY=""))
        self.assertEqual(self.gateway.requests, [])


class Places(TaskCase):
    def test_an_output_that_cannot_be_is_status_13_and_nothing_is_sent(self):
        os.mkdir("folder")
        os.mkfifo("fifo")
        os.symlink("nowhere", "dangling")
        for name in ("old.png", "many-2.png", "folder/inner.png"):
            self.file(f"place/{name}", b"old")
        for argv in (
            ("-o", "missing/x.png"),
            ("-o", "missing/"),
            ("-o", "old.png/"),
            ("-o", "old.png/x.png"),
            ("-o", "/proc/x.png"),
            ("-o", "old.png"),
            ("-o", "many.png", "-n", "2"),
            ("-o", "fifo"),
            ("-o", "fifo", "--force"),
            ("-o", "dangling"),
            ("-o", "dangling", "--force"),
            ("-o", "missing/x.png", "--force"),
            ("-o", ""),
            ("-o", "x" * 300 + ".png"),
            ("-o", "/dev/null"),
            ("-o", "old.png", "--detach"),
        ):
            with self.subTest(str(argv)[:40]):
                self.gateway.requests.clear()
                result = self.image("a fox", *argv, "--json")
                self.assertQuietly(13, result)
                self.assertEqual(result.document["error"]["code"], "cannot_write")
                self.assertEqual(self.gateway.requests, [])
        self.assertHolds("old.png", b"old")

    @unittest.skipIf(os.geteuid() == 0, "permission bits say nothing to root")
    def test_a_directory_without_write_permission_is_status_13_and_nothing_is_sent(self):
        os.mkdir("locked", 0o500)
        self.assertQuietly(13, self.image("a fox", "-o", "locked/x.png"))
        self.assertEqual(self.gateway.requests, [])

    def test_a_closed_stdout_is_noticed_before_anything_is_sent(self):
        for words in (["x", "-o", "x.png"], ["--resume", IGEN]):
            self.assertQuietly(13, self.execute("image", *words, closed=(1,)))
        self.assertEqual(self.gateway.requests, [])

    def test_each_path_that_was_saved_is_a_line(self):
        os.mkdir("folder")
        name = r"alltoken-image-[0-9a-f]{8}"
        for argv, pattern in (
            ((), rf"\./{name}\.png\n"),
            (("--format", "jpeg"), rf"\./{name}\.jpg\n"),
            (("-o", "x.png"), r"x\.png\n"),
            (("-o", "folder"), rf"folder/{name}\.png\n"),
            (("-o", "folder/"), rf"folder/{name}\.png\n"),
            (("-o", "folder/y.webp"), r"folder/y\.webp\n"),
            (("-o", "many.png", "-n", "2"), r"many-1\.png\nmany-2\.png\n"),
            (("-o", "no ending"), r"no ending\n"),
        ):
            with self.subTest(argv):
                result = self.image("a fox", *argv)
                self.assertQuietly(0, result)
                self.assertRegex(result.out.decode(), rf"\A{pattern}\Z")
                for path in result.out.decode().splitlines():
                    self.assertHolds(path, self.gateway.tasks.image)

    def test_a_file_has_the_users_own_mode(self):
        self.assertQuietly(0, self.image("x", "-o", "x.png"))
        umask = os.umask(0)
        os.umask(umask)
        self.assertEqual(os.stat("x.png").st_mode & 0o777, 0o666 & ~umask)

    def test_force_overwrites_and_keeps_a_link(self):
        self.file("place/old.png", b"old")
        os.symlink("old.png", "link.png")
        for path in ("link.png", "old.png"):
            self.gateway.tasks.image = png(noise=len(path))
            self.assertQuietly(0, self.image("x", "-o", path, "--force"))
            self.assertHolds("old.png", self.gateway.tasks.image)
        self.assertTrue(os.path.islink("link.png"))
        self.assertPlace("link.png", "old.png")

    def test_a_dash_puts_the_bytes_on_stdout_alone(self):
        result = self.image("x", "-o", "-")
        self.assertQuietly(0, result)
        self.assertEqual(result.out, self.gateway.tasks.image)
        self.assertNotIn("saved", result.err)
        self.assertPlace()
        self.assertEqual(self.kept(), [])

    def test_a_dash_on_a_terminal_is_status_13_and_nothing_is_sent(self):
        self.assertQuietly(13, self.image("x", "-o", "-", terminals="out err"))
        self.assertEqual(self.gateway.requests, [])

    def test_a_reader_that_goes_away_loses_no_image(self):
        self.gateway.tasks.image = png(noise=400_000)
        done = self.shell('{ "$@"; echo $? >status; } | head -c 10 >/dev/null', "image", "x", "-o", "-")
        with open("status") as file:
            self.assertEqual(file.read(), "141\n", done.err)
        self.assertHolds(os.path.join(self.state, self.kept()[0]), self.gateway.tasks.image)

    def test_a_detached_task_is_told_of_if_stdout_is_full(self):
        with open("/dev/full", "wb") as full:
            done = self.execute("image", "x", "--detach", stdout=full)
        self.assertQuietly(13, done)
        self.assertIn(f"image --resume {IGEN}", done.err)

    def test_fewer_images_than_were_asked_for_are_told(self):
        self.gateway.on(GET_IMAGE, reply(200, document(entry(png()))))
        result = self.image("x", "-n", "2", "-o", "x.png")
        self.assertQuietly(0, result)
        self.assertIn("[warning] 2 image(s) were asked for, 1 came\n", result.err)

    def test_a_full_stdout_loses_no_image(self):
        with open("/dev/full", "wb") as full:
            done = self.execute("image", "x", "-o", "-", stdout=full)
        self.assertQuietly(13, done)
        self.assertHolds(os.path.join(self.state, self.kept()[0]), self.gateway.tasks.image)
        self.assertIn(os.path.join(self.state, self.kept()[0]), done.err)

    def test_a_working_directory_that_is_gone_is_noticed_before_anything_is_sent_or_does_not_matter(self):
        self.addCleanup(os.chdir, os.getcwd())
        gone = os.path.join(self.folder, "gone")
        os.mkdir(gone)
        os.chdir(gone)
        os.rmdir(gone)
        thread = ("--thread", "t.json")
        for argv, status in (
            (("image", "x"), 13),
            (("image", "x", "-o", "x.png"), 13),
            (("image", "x", "-o", "x.png", "--force"), 13),
            (("video", "x", "-o", "x.mp4"), 13),
            (("chat", "x", *thread), 13),
            (("--install-skills", "skills"), 13),
            (("image", "x", "--edit", "a.png"), 2),
            (("chat", "x", "-a", "a.png"), 2),
        ):
            with self.subTest(argv):
                done = self.call(*argv)
                self.assertQuietly(status, done)
                self.assertNotIn("bug", done.err)
                self.assertEqual(self.gateway.requests, [])
        place = os.path.join(self.folder, "x.png")
        for argv in (("image", "x", "-o", "-"), ("image", "x", "-o", place), ("chat", "x"), ("cost",), ("models",)):
            with self.subTest(argv):
                self.assertQuietly(0, self.call(*argv))
        self.assertHolds(place, self.gateway.tasks.image)


class Shown(TaskCase):
    def test_stderr_tells_the_id_the_statuses_the_file_and_the_cost(self):
        self.gateway.on(
            GET_IMAGE,
            reply(200, {"status": "queued"}),
            reply(200, {"status": "queued"}),
            reply(200, {"status": "processing"}),
            normal,
        )
        result = self.image("a fox", "-o", "fox.png", "--quality", "high")
        self.assertRegex(
            result.err,
            rf"""\Asubmitted {IGEN} \(size=1024x1024 quality=high\)
\[status\] queued after 0\.\d s
\[status\] processing after 4\.\d s
saved fox\.png \(\d+ bytes\) in 6\.\d s; the gateway keeps no second copy
\[usage\] input=10 output=272 total=282 model=gpt-image-2
\[cost\] unknown
\Z""",
        )

    def test_a_wall_clock_that_steps_back_makes_no_negative_time(self):
        self.clock.time = lambda: time.time() - 21 * bool(self.gateway.requests)
        self.gateway.on(GET_IMAGE, reply(200, {"status": "processing"}), normal)
        result = self.image("x", "-o", "x.png")
        self.assertQuietly(0, result)
        self.assertRegex(result.err, r"\[status\] processing after 0\.\d s\nsaved x\.png \([^)]*\) in 2\.\d s;")
        self.fresh()
        self.gateway.on(GET_IMAGE, reply(200, {"status": "processing"}))
        result = self.image("x", "--max-wait", "1")
        self.assertQuietly(8, result)
        self.assertIn("expires in 30 min", result.err)

    def test_quiet_leaves_nothing_if_all_is_well(self):
        result = self.image("a fox", "-q", "-o", "x.png")
        self.assertQuietly(0, result)
        self.assertEqual((result.out, result.err), (b"x.png\n", ""))

    def test_quiet_leaves_the_id_at_once_if_no_ledger_keeps_it(self):
        told = f"submitted {IGEN} (size=1024x1024 quality=low)\n"
        result = self.image("a fox", "-q", ALLTOKEN_LEDGER="off")
        self.assertQuietly(0, result)
        self.assertEqual(result.err, told)
        self.fresh()
        result = self.image("a fox", "-q", ALLTOKEN_LEDGER="/dev/null")
        self.assertQuietly(0, result)
        self.assertRegex(result.err, rf"\A\[warning\] [^\n]*/dev/null[^\n]*\n{re.escape(told)}\Z")

    def test_quiet_leaves_the_id_of_a_task_that_ends_without_its_result(self):
        for name, step, status in (
            ("failed", reply(200, {"status": "failed", "error": {"code": "x", "message": "y"}}), 10),
            ("cancelled", reply(200, {"status": "cancelled"}), 10),
            ("gone", reply(410, {"error": {"code": "image_expired"}}), 11),
            ("going on", reply(200, {"status": "processing"}), 8),
        ):
            for resumed in (False, True):
                with self.subTest(name, resumed=resumed):
                    self.fresh()
                    if resumed:
                        self.assertQuietly(0, self.image("x", "--detach"))
                    self.gateway.on(GET_IMAGE, step)
                    result = self.image(*(["--resume"] if resumed else ["x"]), "-q", "--max-wait", "3")
                    self.assertQuietly(status, result)
                    self.assertEqual(result.err.count(IGEN), 1, result.err)
                    self.assertNotIn("[usage]", result.err)
                    self.assertNotIn("[status]", result.err)

    def test_a_terminal_has_one_living_line_with_the_seconds(self):
        self.gateway.on(GET_IMAGE, *[reply(200, {"status": "processing"})] * 2, normal)
        result = self.image("a fox", terminals="out err")
        self.assertQuietly(0, result)
        self.assertIn(f"\r{IGEN} processing 0 s\x1b[K", result.err)
        self.assertIn(f"\r{IGEN} processing 3 s\x1b[K", result.err)
        self.assertIn("\r\x1b[Ksaved", result.err)
        self.assertNotIn("[status]", result.err)
        for environ in ({"NO_COLOR": "1"}, {}):
            with self.subTest(environ=environ):
                self.fresh()
                self.gateway.on(GET_IMAGE, reply(200, {"status": "processing"}), normal)
                result = self.image("a fox", terminals="err" if environ else "", **environ)
                self.assertNotIn("\x1b", result.err)
                self.assertIn("[status] processing", result.err)

    def test_on_a_real_terminal_the_line_moves(self):
        self.gateway.on(GET_IMAGE, reply(200, {"status": "processing", "next_poll_after_ms": 50}), normal)
        main, side = pty.openpty()
        done = self.execute("image", "a fox", "-o", "x.png", stderr=side)
        os.close(side)
        seen = os.read(main, 65536).decode()
        os.close(main)
        self.assertEqual((done.status, done.out), (0, b"x.png\n"), seen)
        self.assertIn(f"\r{IGEN} processing 0 s\x1b[K", seen)

    def test_on_a_narrow_terminal_the_line_fits(self):
        self.gateway.on(GET_IMAGE, reply(200, {"status": "processing " * 9, "next_poll_after_ms": 50}), normal)
        main, side = pty.openpty()
        fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 30, 0, 0))
        done = self.execute("image", "a fox", "-o", "x.png", stderr=side)
        os.close(side)
        seen = os.read(main, 65536).decode()
        os.close(main)
        self.assertEqual(done.status, 0, seen)
        lines = re.findall(r"\r([^\r\n]*)\x1b\[K", seen)
        self.assertIn(IGEN[:9], lines[0])
        self.assertLess(max(map(len, lines)), 30, lines)

    def test_verbose_shows_requests_and_no_secret(self):
        result = self.image("a fox", "-v")
        self.assertQuietly(0, result)
        self.assertIn(f"[http] POST {self.gateway.url}/v1/images/generations/async\n", result.err)
        self.assertIn("request_id=req_loopback_1", result.err)

    def test_json_is_one_document_with_every_key(self):
        found = self.document_of(self.image("a fox", "-o", "x.png", "--json"), *TASK_KEYS)
        wanted = {
            "ok": True,
            "command": "image",
            "model": "gpt-image-2",
            "request_id": "req_loopback_1",
            "task_id": IGEN,
            "status": "completed",
            "files": ["x.png"],
            "resume": None,
            "error": None,
        }
        self.assertEqual({name: found[name] for name in wanted}, wanted)
        self.assertEqual(found["usage"], {"input_tokens": 10, "output_tokens": 272, "total_tokens": 282})
        self.assertEqual(found["cost"], {"usd": None, "source": None})

    def test_json_of_a_failure_keeps_what_was_obtained(self):
        for step, end, status in (
            (reply(200, {"status": "processing"}), 8, "processing"),
            (reply(200, {"status": "failed", "error": {"code": "x", "message": "y"}}), 10, "failed"),
            (reply(410, {"error": {"code": "image_expired"}}), 11, "gone"),
            (reply(200, document({"b64_json": "?"})), 9, "completed"),
        ):
            with self.subTest(end=end):
                self.fresh()
                self.gateway.on(GET_IMAGE, step)
                result = self.image("a fox", "--json", "--max-wait", "3")
                self.assertQuietly(end, result)
                found = self.document_of(result, *TASK_KEYS)
                self.assertEqual((found["task_id"], found["status"]), (IGEN, status))
                self.assertEqual(found["resume"] is not None, end == 8)

    def test_detach_prints_the_id_and_how_to_resume_and_asks_no_more(self):
        result = self.image("a fox", "-o", "x.png", "--detach")
        self.assertQuietly(0, result)
        self.assertEqual(result.out.decode(), IGEN + "\n")
        self.assertEqual(self.assertResumable(result, "image", IGEN), f"alltoken-call image --resume {IGEN}")
        self.assertEqual(self.methods(), ["POST"])
        found = self.document_of(self.image("a fox", "--detach", "--json"), *TASK_KEYS)
        self.assertEqual((found["task_id"], found["files"]), ("igen_00000002", None))
        self.assertEqual(found["resume"], "alltoken-call image --resume igen_00000002")

    def test_an_escape_in_a_status_or_a_message_reaches_no_terminal(self):
        self.gateway.on(
            GET_IMAGE,
            reply(200, {"status": "\x1b]0;x\x07\u202e"}),
            reply(200, {"status": "failed", "error": {"code": "\x1bc", "message": "a\r\n\x9b31m"}}),
        )
        for terminals in ("", "out err"):
            self.fresh()
            result = self.image("x", terminals=terminals)
            self.assertQuietly(10, result)
            self.assertNotRegex(
                re.sub(r"\r\x1b\[K|\x1b\[(31m\[error\]|2m\[cost\] unknown)\x1b\[0m", "", result.err),
                r"\x1b[^\[]|\x1b\[[^K]|\x07|\x9b|\u202e",
            )


class Resumes(TaskCase):
    def test_the_image_goes_where_it_should_have_gone_unless_another_place_is_named(self):
        for words, name in (((), "x.png"), (("-o", "y.png"), "y.png")):
            with self.subTest(words):
                self.fresh()
                self.assertQuietly(0, self.image("x", "-o", "x.png", "--detach"))
                result = self.image("--resume", *words)
                self.assertQuietly(0, result)
                self.assertEqual(os.path.abspath(result.out.decode().rstrip()), os.path.join(self.place, name))
                self.assertPlace(name)

    def test_what_an_earlier_run_has_saved_is_told_and_nobody_asked(self):
        self.assertQuietly(0, self.image("x", "-o", "x.png"))
        self.gateway.requests.clear()
        result = self.image("--resume", IGEN)
        self.assertQuietly(0, result)
        self.assertEqual(result.out.decode(), os.path.join(self.place, "x.png\n"))
        self.assertEqual(self.gateway.requests, [])

    def test_a_task_of_no_record_has_the_model_that_its_answer_names(self):
        self.assertQuietly(0, self.image("x", "-m", "wan2.7-image", "--detach", ALLTOKEN_LEDGER="off"))
        self.gateway.on(GET_IMAGE, reply(200, document(entry(png()), model="wan2.7-image")))
        self.assertEqual(self.image("--resume", IGEN, "--json").document["model"], "wan2.7-image")


class Memory(TaskCase):
    def test_an_image_of_30_mb_takes_less_than_64_mib(self):
        data = document(entry(b"\x89PNG\r\n\x1a\n" + os.urandom(1 << 20) * 30), usage={"input_tokens": 1})
        self.gateway.on(GET_IMAGE, reply(200, data))
        measure = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        done = self.execute(command=[*PYTHON, "-c", measure, *PYTHON, PACKAGE, "image", "x", "-o", "x.png"])
        self.assertQuietly(0, done)
        peak = int(done.out.split()[-1]) // (1024 if sys.platform != "darwin" else 1 << 20)
        self.assertLess(peak, 64, "MiB")
        self.assertEqual(os.path.getsize("x.png"), (30 << 20) + 8)
