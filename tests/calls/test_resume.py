"""--resume: the task of an earlier run, and whether anything of it is left to do."""

import os
import shlex
import shutil
import sys
import unittest

from ..gateway import png, reply
from ..harness import PACKAGE
from ..task_support import (
    GET_IMAGE,
    IGEN,
    VGEN,
    TaskCase,
    document,
    entry,
    normal,
)


class Resuming(TaskCase):
    def detached(self, command="image", *argv):
        result = self.call(command, "x", "--detach", *argv)
        self.assertQuietly(0, result)
        return result.out.decode().strip()

    def test_the_latest_unfinished_task_of_the_command_is_taken_and_never_submitted_again(self):
        self.detached("image", "-o", "one.png")
        self.detached("image", "-o", "two.png")
        self.detached("video")
        self.gateway.requests.clear()
        for name in ("two.png", "one.png"):
            result = self.image("--resume")
            self.assertQuietly(0, result)
            self.assertEqual(result.out.decode(), os.path.join(self.place, name) + "\n")
        self.assertEqual(set(self.methods()), {"GET"})
        last = self.image("--resume")
        self.assertQuietly(1, last)
        self.assertIn("[error] nothing_to_resume: ", last.err)
        self.assertQuietly(0, self.video("--resume"))
        self.assertQuietly(1, self.video("--resume"))

    def test_there_is_nothing_to_resume_without_a_record(self):
        for command in ("image", "video"):
            result = self.call(command, "--resume", "--json")
            self.assertQuietly(1, result)
            self.assertEqual(result.document["error"]["code"], "nothing_to_resume")
            self.assertNotIn("[warning]", result.err)
        self.assertEqual(self.gateway.requests, [])

    def test_the_comment_that_an_interactive_zsh_hands_on_is_no_prompt(self):
        for command, suffix in (("image", "png"), ("video", "mp4")):
            made = self.call(command, "x", "-o", f"x.{suffix}", "--detach")
            line = made.err.splitlines()[-1]
            self.assertIn(" # the task expires in 30 min", line)
            self.assertQuietly(0, self.call(*line.split()[1:]))

    @unittest.skipUnless(os.path.exists("/dev/full"), "no /dev/full")
    def test_a_detached_id_that_stdout_does_not_take_is_told_with_the_resume_line(self):
        for command, task_id in (("image", IGEN), ("video", VGEN.replace("1", "2"))):
            with open("/dev/full", "wb") as full:
                result = self.execute(command, "x", "--detach", stdout=full)
            self.assertQuietly(13, result)
            self.assertResumable(result, command, task_id)
            self.assertEqual(self.row(task_id)["exit_status"], 13)

    def test_words_together_with_resume_are_wrong_usage(self):
        self.detached()
        self.gateway.requests.clear()
        for argv in (
            ("image", "--resume", IGEN, "a fox"),
            ("image", "a", "--resume"),
            ("image", "--resume", "--", "a"),
            ("video", "--resume", VGEN, "waves"),
        ):
            with self.subTest(argv):
                self.assertQuietly(2, self.call(*argv))
        self.assertEqual(self.gateway.requests, [])

    def test_an_id_that_is_not_on_record_is_asked_for(self):
        task_id = self.detached("image", "-o", "there.png")
        shutil.rmtree(self.state)
        result = self.image("--resume", task_id)
        self.assertQuietly(0, result)
        self.assertHolds(result.out.decode().strip(), self.gateway.tasks.image)
        self.assertRegex(result.out.decode(), r"\A\./alltoken-image-[0-9a-f]{8}\.png\n\Z")

    def test_an_image_goes_where_it_was_going_unless_told_otherwise(self):
        self.detached("image", "-o", "there.png")
        os.mkdir("elsewhere")
        os.chdir("elsewhere")
        self.assertQuietly(0, self.image("--resume"))
        os.chdir(self.place)
        self.detached("image", "-o", "not-there.png")
        self.assertQuietly(0, self.image("--resume", "-o", "here.png"))
        self.assertPlace("elsewhere", "here.png", "there.png")

    def test_one_that_an_earlier_run_has_saved_is_shown_and_not_asked_for(self):
        for command, out in (("image", "x.png"), ("video", "x.mp4")):
            with self.subTest(command):
                self.assertQuietly(0, self.call(command, "x", "-o", out))
                self.gateway.requests.clear()
                result = self.call(command, "--resume", f"{command[0]}gen_0000000{1 + (command == 'video')}")
                self.assertQuietly(0, result)
                self.assertEqual(result.out.decode(), os.path.join(self.place, out) + "\n")
                self.assertEqual(self.gateway.requests, [])

    def test_an_unwritable_place_is_noticed_before_the_one_answer_is_asked_for(self):
        self.file("place/old.png", b"old")
        for out in ("missing/x.png", "missing/", "old.png", "x" * 300 + ".png"):
            with self.subTest(out=out[:20]):
                self.detached("image", "-o", "x.png")
                self.gateway.requests.clear()
                self.assertQuietly(13, self.image("--resume", "-o", out))
                self.assertEqual(self.gateway.requests, [])

    def test_without_a_home_the_resume_line_saves_where_the_image_was_going(self):
        environ = {"HOME": None, "XDG_STATE_HOME": None}
        self.gateway.on(GET_IMAGE, reply(200, {"id": IGEN, "status": "processing"}))
        result = self.image("x", "-o", "there.png", "--max-wait", "3", **environ)
        self.assertQuietly(8, result)
        last = result.err.rstrip("\n").rpartition("\n")[2].partition("  # ")[0]
        self.gateway.on(GET_IMAGE, normal)
        self.assertQuietly(0, self.call(*shlex.split(last)[1:], **environ))
        self.assertHolds("there.png", self.gateway.tasks.image)

    def test_the_printed_resume_line_runs_as_it_stands(self):
        for command, out, environ in (
            ("image", "my fox.png", {}),
            ("video", "my 'clip'.mp4", {"ALLTOKEN_LEDGER": "off"}),
        ):
            with self.subTest(command):
                detached = self.execute(command, "x", "-o", out, "--detach", environ=environ)
                self.assertQuietly(0, detached)
                line = detached.err.splitlines()[-1]
                self.assertEqual(shlex.split(line)[:2], [sys.executable, PACKAGE])
                self.assertEqual("-o" in shlex.split(line), bool(environ))
                self.assertQuietly(0, self.execute(command=["sh", "-c", line], environ=environ))
                made = self.gateway.tasks.image if command == "image" else self.gateway.tasks.video
                self.assertHolds(out, made)

    def test_the_time_until_the_task_expires_counts_from_the_submit(self):
        self.gateway.on(GET_IMAGE, reply(200, {"id": IGEN, "status": "processing"}))
        for ahead, shown in ((0, "expires in 30 min"), (600, "expires in 20 min"), (1500, "has expired")):
            self.clock.ahead += ahead
            with self.subTest(shown):
                result = self.image(*(("--resume",) if ahead else ("x",)), "--max-wait", "1")
                self.assertQuietly(8, result)
                self.assertIn(f"# the task {shown}\n", result.err)

    def test_a_finished_spool_is_used_and_nobody_asked(self):
        image = png(noise=5000)
        self.detached("image", "-o", "x.png")
        self.gateway.requests.clear()
        for name, data in (("1", document(entry(image))), ("0", document(entry(image))[:3000]), ("2", b"")):
            self.spool(IGEN, name, data)
        result = self.image("--resume", "--json")
        self.assertQuietly(0, result)
        self.assertHolds("x.png", image)
        self.assertPlace("x.png")
        self.assertEqual((self.gateway.requests, self.kept()), ([], []))
        self.assertEqual(result.document["files"], [os.path.join(self.place, "x.png")])
        self.assertEqual(self.row(IGEN)["status"], "completed")

    def test_a_spool_that_holds_no_last_answer_does_not_end_the_task(self):
        for data in (b'{"status": "processing"}', b"<html>portal</html>", b"", document(entry(png()))[:-20]):
            with self.subTest(data=data[:30]):
                task_id = self.detached("image")
                self.spool(task_id, "0", data)
                result = self.image("--resume")
                self.assertQuietly(0, result)
                self.assertHolds(result.out.decode().strip(), self.gateway.tasks.image)
                self.assertEqual(self.kept(), [])
                self.assertFalse([name for name in os.listdir(self.place) if name.endswith(".part")])
