"""calls/image.py: from the one answer to the files, and what is kept if a step fails."""

import errno
import os
import re
import subprocess
import time
import unittest
from pathlib import Path
from unittest import mock
from urllib.parse import quote

from ..gateway import png, refuse, reply
from ..task_support import (
    BIG,
    GET_IMAGE,
    IGEN,
    IMAGE,
    IMAGES,
    TaskCase,
    cut,
    document,
    entry,
    normal,
    pieces,
    small_disk,
    strike,
)

RETRIEVED = refuse(410, "image_already_retrieved", "the image was retrieved already")
DONE = document(entry(BIG))
SPOOL = r"\A[0-9a-f]{32}\.[0-9a-f]{8}\.json\Z"  # the name of one: nothing of the task's id


class Completed(TaskCase):
    def run_on(self, *steps, argv=(), **options):
        self.gateway.on(GET_IMAGE, *steps)
        return self.image("x", "-o", "x.png", *argv, **options)

    def url(self, name=f"{IGEN}.png"):
        return f"{self.gateway.url}/files/{name}"

    def test_another_format_than_the_name_says_is_a_warning_and_the_image_stays_under_the_name(self):
        jpeg, webp = b"\xff\xd8\xff\xe0" + bytes(90), b"RIFF....WEBPVP8 " + bytes(90)
        for name, data, argv, warned in (
            ("x.jpg", png(), (), True),
            ("x.PNG", jpeg, (), True),
            ("x.png", webp, ("--format", "webp"), True),
            ("x.jpeg", jpeg, (), False),
            ("x.webp", webp, (), False),
            ("x.png", png(), (), False),
            ("x.image", jpeg, (), False),
            ("x", webp, (), False),
        ):
            for field in ("b64_json", "url"):
                with self.subTest(name, data=data[:4], field=field):
                    self.fresh()
                    made = entry(data)
                    if field == "url":
                        made = {"r2_url": self.url()}
                        self.gateway.on(f"GET /files/{IGEN}.png", reply(200, data))
                    self.gateway.on(GET_IMAGE, reply(200, document(made)))
                    result = self.image("x", "-o", name, "-q", *argv)
                    self.assertQuietly(0, result)
                    self.assertEqual(result.err.startswith("[warning] "), warned, result.err)
                    self.assertEqual(name in result.err, warned)
                    self.assertHolds(name, data)

    def test_the_one_answer_becomes_the_file_and_nothing_else_is_left(self):
        escaped = DONE.replace(b"+", b"\\u002b").replace(b"/", b"\\u002f")
        for name, step in {
            "whole": reply(200, DONE),
            "in pieces": pieces(DONE[:10], DONE[10:90_000], DONE[90_000:]),
            "in a row of blanks": reply(200, b" \n" * 9 + DONE),
            "with escaped slashes": reply(200, DONE.replace(b"/", b"\\/")),
            "with escaped plus signs": reply(200, DONE.replace(b"+", b"\\u002b")),
            "with escapes in upper case": reply(200, DONE.replace(b"+", b"\\u002B").replace(b"A", b"\\u0041")),
            "with escapes in pieces": pieces(*(escaped[at : at + 9973] for at in range(0, len(escaped), 9973))),
            "with an escaped key": reply(200, DONE.replace(b"b64_json", b"b64\\u005fjson")),
            "of an unknown status": reply(200, DONE.replace(b'"completed"', b'"odd"')),
            "succeeded": reply(200, DONE.replace(b'"completed"', b'"succeeded"')),
        }.items():
            with self.subTest(name):
                self.fresh()
                self.assertQuietly(0, self.run_on(step, RETRIEVED))
                self.assertEqual(self.methods(), ["POST", "GET"])
                self.assertHolds("x.png", BIG)
                self.assertPlace("x.png")
                self.assertEqual(self.kept(), [])

    def test_the_answer_is_on_disk_while_it_arrives(self):
        seen = []
        spool = os.path.join(self.state, "spool")

        def look():
            for _ in range(1000):
                names = os.listdir(spool) if os.path.isdir(spool) else []
                seen[:] = [(name, os.path.getsize(os.path.join(spool, name))) for name in names]
                if seen and seen[0][1] == 50_000:
                    break
                time.sleep(0.01)

        self.assertQuietly(0, self.run_on(pieces(DONE[:50_000], DONE[50_000:], between=look)))
        ((name, size),) = seen
        self.assertEqual(size, 50_000)
        self.assertRegex(name, SPOOL)

    def test_several_images_are_numbered(self):
        images = [png(noise=size) for size in (10, 20, 30)]
        result = self.run_on(reply(200, document(*map(entry, images))), argv=("-n", "3", "--json"))
        self.assertQuietly(0, result)
        self.assertEqual(result.document["files"], ["x-1.png", "x-2.png", "x-3.png"])
        for number, image in enumerate(images, 1):
            self.assertHolds(f"x-{number}.png", image)
        self.assertPlace("x-1.png", "x-2.png", "x-3.png")

    def test_more_or_fewer_images_than_asked_for_are_all_saved(self):
        images = [png(noise=size) for size in (10, 20)]
        for count, sent in ((1, 2), (3, 2), (3, 1)):
            with self.subTest(count=count, sent=sent):
                self.fresh()
                self.gateway.on(GET_IMAGE, reply(200, document(*map(entry, images[:sent]))))
                result = self.image("x", "-o", f"{count}{sent}.png", "-n", str(count), "--json")
                self.assertQuietly(0, result)
                self.assertEqual(len(result.document["files"]), sent)
                for path, image in zip(result.document["files"], images):
                    self.assertHolds(path, image)

    def test_fewer_than_asked_for_still_are_numbered_and_touch_no_other_name(self):
        for argv in ((), ("--force",)):
            with self.subTest(argv):
                self.fresh()
                self.file("place/x.png", b"somebody else's")
                result = self.run_on(reply(200, document(entry(BIG))), argv=("-n", "2", *argv))
                self.assertQuietly(0, result)
                self.assertHolds("x.png", b"somebody else's")
                self.assertHolds("x-1.png", BIG)
                self.assertPlace("x.png", "x-1.png")
                self.assertIn("[warning] ", result.err)

    def test_more_than_asked_for_overwrite_no_name_that_nobody_looked_at(self):
        for argv in ((), ("--force",)):
            with self.subTest(argv):
                self.fresh()
                self.file("place/x-2.png", b"somebody else's")
                result = self.run_on(reply(200, document(entry(BIG), entry(png()))), argv=argv)
                self.assertQuietly(13, result)
                self.assertHolds("x-1.png", BIG)
                self.assertHolds("x-2.png", b"somebody else's")
                (kept,) = self.kept()
                self.assertHolds(os.path.join(self.state, kept), png())
                self.assertIn(os.path.join(self.state, kept), result.err)

    def test_the_names_of_all_that_are_asked_for_are_looked_at_before_anything_is_sent(self):
        self.file("place/x-2.png", b"somebody else's")
        self.assertQuietly(13, self.image("x", "-o", "x.png", "-n", "2"))
        self.assertEqual(self.gateway.requests, [])
        self.gateway.on(GET_IMAGE, reply(200, document(entry(BIG), entry(png()))))
        self.assertQuietly(0, self.image("x", "-o", "x.png", "-n", "2", "--force"))
        self.assertHolds("x-2.png", png())

    def test_an_answer_with_a_url_alone_is_downloaded(self):
        for fields in ({}, {"b64_json": None}, {"b64_json": ""}, {"b64_json": "no image"}):
            with self.subTest(fields=fields):
                self.fresh()
                result = self.run_on(reply(200, document(fields | {"r2_url": self.url()})))
                self.assertQuietly(0, result)
                self.assertHolds("x.png", self.gateway.tasks.image)
                self.assertPlace("x.png")
                self.assertNotIn("Authorization", self.gateway.requests[-1].headers)
                self.assertEqual(self.kept(), [])

    def test_an_image_beside_its_url_is_not_downloaded(self):
        self.assertQuietly(0, self.run_on(reply(200, document(entry(BIG, r2_url=self.url())))))
        self.assertHolds("x.png", BIG)
        self.assertEqual(self.methods(), ["POST", "GET"])

    def test_urls_and_images_in_one_answer_each_have_their_own_place(self):
        for order in ("url first", "image first"):
            for force in ((), ("--force",)):
                with self.subTest(order, force=force):
                    self.fresh()
                    entries = [{"r2_url": self.url()}, entry(BIG)]
                    wanted = [self.gateway.tasks.image, BIG]
                    if order == "image first":
                        entries.reverse()
                        wanted.reverse()
                    result = self.run_on(reply(200, document(*entries)), argv=("-n", "2", *force))
                    self.assertQuietly(0, result)
                    self.assertHolds("x-1.png", wanted[0])
                    self.assertHolds("x-2.png", wanted[1])

    def test_a_url_that_is_not_ours_to_open_is_told_and_not_opened(self):
        for url in (
            "file:///etc/passwd",
            "ftp://127.0.0.1/x.png",
            "data:image/png;base64,AAAA",
            "http://192.0.2.1/x.png",
            "http://user@127.0.0.1/x.png",
            "//127.0.0.1/x",
            "x.png",
            "https://",
        ):
            with self.subTest(url=url):
                self.fresh()
                self.assertQuietly(3, self.run_on(reply(200, document({"r2_url": url}))))
                self.assertEqual(self.methods(), ["POST", "GET"])
                self.assertPlace()

    def test_completed_without_an_image_is_status_11(self):
        for data in (
            b"",
            b', "data": []',
            b', "data": null',
            b', "data": {}',
            b', "data": [null, 1, "x"]',
            b', "data": [{}]',
            b', "data": [{"r2_url": ""}]',
        ):
            with self.subTest(data=data):
                for word in (b"completed", b"Completed", b"succeeded", b"success"):
                    self.fresh()
                    result = self.run_on(reply(200, b'{"status": "%s"%s}' % (word, data)))
                    self.assertQuietly(11, result)
                    self.assertIn("[error] no_image: ", result.err)
                    self.assertPlace()
                    (kept,) = self.kept()
                    self.assertIn(os.path.join(self.state, kept), result.err)

    def test_base64_garbage_and_what_is_no_image_are_status_9_and_kept(self):
        whole = entry(png())["b64_json"]
        for name, text in {
            "garbage": "*" + whole,
            "cut base64": whole[:-2],
            "a page": "PGh0bWw+",
            "not padded": "QUJDR",
        }.items():
            with self.subTest(name):
                self.fresh()
                data = document({"b64_json": text})
                result = self.run_on(reply(200, data))
                self.assertQuietly(9, result)
                self.assertIn("[error] not_an_image: ", result.err)
                self.assertPlace()
                (kept,) = self.kept()
                self.assertIn(os.path.join(self.state, kept), result.err)
                self.assertHolds(os.path.join(self.state, kept), data)

    def test_one_damaged_image_of_two_leaves_the_other_saved(self):
        result = self.run_on(reply(200, document(entry(b"no image"), entry(BIG))), argv=("-n", "2", "--json"))
        self.assertQuietly(9, result)
        self.assertPlace("x-2.png")
        self.assertHolds("x-2.png", BIG)
        self.assertEqual(result.document["files"], ["x-2.png"])

    def test_what_arrived_is_kept_where_one_image_is_damaged_and_anothers_place_has_failed(self):
        def step(exchange):
            self.file("place/x-2.png", b"somebody else's")
            exchange.reply(200, document(entry(b"no image"), entry(BIG)))

        result = self.run_on(step, argv=("-n", "2"))
        self.assertIn(result.status, (9, 13))
        self.assertHolds("x-2.png", b"somebody else's")
        (image, answer) = sorted(self.kept(), key=lambda name: name.startswith("spool/"))
        self.assertRegex(os.path.basename(answer), SPOOL)
        self.assertHolds(os.path.join(self.state, image), BIG)
        for name in (image, answer):
            self.assertIn(os.path.join(self.state, name), result.err)

    def test_what_is_no_answer_is_asked_for_again_and_not_kept(self):
        for data in (b"<html>sorry</html>", b'{"status": "completed"', b"[1]"):
            with self.subTest(data):
                self.fresh()
                self.assertQuietly(0, self.run_on(reply(200, data), reply(200, DONE)))
                self.assertEqual(self.methods(), ["POST", "GET", "GET"])
                self.assertEqual(self.kept(), [])

    def test_a_dash_puts_the_image_on_stdout_and_keeps_nothing(self):
        result = self.run_on(reply(200, DONE), argv=("-o", "-"))
        self.assertQuietly(0, result)
        self.assertTrue(result.out == BIG, "stdout has something else")
        self.assertEqual(self.kept(), [])

    def test_of_two_images_one_is_on_stdout_and_the_other_is_kept_and_told(self):
        for argv in ((), ("-q",)):
            with self.subTest(argv):
                self.fresh()
                images = [png(noise=5000), png(noise=6000)]
                result = self.run_on(reply(200, document(*map(entry, images))), argv=("-o", "-", *argv))
                self.assertQuietly(0, result)
                self.assertTrue(result.out == images[0], "stdout has something else")
                (kept,) = self.kept()
                self.assertHolds(os.path.join(self.state, kept), images[1])
                self.assertIn(os.path.join(self.state, kept), result.err)
                self.assertPlace()

    def test_usage_and_cost_are_the_gateways_or_unknown(self):
        usage = {"input_tokens": 10, "output_tokens": 272, "total_tokens": 282}
        for fields, cost in ((usage, None), (usage | {"cost": "0.0200"}, "0.0200"), (usage | {"cost": "much"}, None)):
            with self.subTest(fields=fields):
                self.fresh()
                result = self.run_on(reply(200, document(entry(BIG), usage=fields)), argv=("--json", "--force"))
                self.assertQuietly(0, result)
                self.assertEqual(result.document["usage"], fields)
                self.assertEqual(result.document["cost"], {"usd": cost, "source": cost and "gateway"})
                self.assertIn("[usage] input=10 output=272 total=282 model=gpt-image-2\n", result.err)
                self.assertIn("[cost] $0.0200 (gateway)\n" if cost else "[cost] unknown\n", result.err)


class Broken(TaskCase):
    """The first completed answer breaks off."""

    def run_on(self, *steps, argv=()):
        self.gateway.on(GET_IMAGE, *steps)
        return self.image("x", "-o", "x.png", *argv)

    def copy(self):
        return reply(200, document({"r2_url": f"{self.gateway.url}/files/{IGEN}.png"}))

    def test_a_further_get_that_offers_a_url_is_status_0(self):
        for at in (1, len(DONE) // 2, len(DONE) * 2 // 3, len(DONE) - 1):
            with self.subTest(at=at):
                self.fresh()
                self.assertQuietly(0, self.run_on(cut(DONE, at), self.copy()))
                self.assertHolds("x.png", self.gateway.tasks.image)
                self.assertPlace("x.png")
                self.assertEqual(self.kept(), [])

    def test_410_instead_is_status_11_and_what_arrived_is_kept_and_named(self):
        for slug in ("image_already_retrieved", "image_expired"):
            with self.subTest(slug):
                self.fresh()
                result = self.run_on(cut(DONE, len(DONE) * 2 // 3), refuse(410, slug), normal)
                self.assertQuietly(11, result)
                self.assertPlace()
                (kept,) = self.kept()
                self.assertIn(os.path.join(self.state, kept), result.err)
                self.assertHolds(os.path.join(self.state, kept), DONE[: len(DONE) * 2 // 3])
                self.assertNotIn("--resume", result.err)
                self.assertQuietly(1, self.image("--resume"))

    def test_what_arrived_survives_failing_polls_until_410(self):
        for name, failure in {
            "500": refuse(500, "x"),
            "a page": reply(200, b"<html>"),
            "a cut page": cut(b"<html></html>", 8),
            "a cut status": cut(b'{"status": "completed"}', 8),
        }.items():
            with self.subTest(name):
                self.fresh()
                result = self.run_on(cut(DONE, len(DONE) * 2 // 3), failure, RETRIEVED)
                self.assertQuietly(11, result)
                sizes = {os.path.getsize(os.path.join(self.state, kept)) for kept in self.kept()}
                self.assertIn(len(DONE) * 2 // 3, sizes)

    def test_a_later_run_that_finds_it_gone_names_what_an_earlier_one_has_kept(self):
        self.gateway.on(GET_IMAGE, cut(DONE, len(DONE) * 2 // 3), reply(200, {"status": "processing"}))
        self.assertQuietly(8, self.image("x", "--max-wait", "3"))
        (kept,) = self.kept()
        self.gateway.on(GET_IMAGE, RETRIEVED)
        result = self.image("--resume")
        self.assertQuietly(11, result)
        self.assertIn(os.path.join(self.state, kept), result.err)

    def test_a_body_that_ends_early_without_a_length_is_not_taken_for_whole(self):
        def step(exchange):
            exchange.head(200)
            exchange.raw(DONE[: len(DONE) * 2 // 3])

        result = self.run_on(step, RETRIEVED)
        self.assertIn(result.status, (9, 11))
        self.assertPlace()
        self.assertEqual(
            [os.path.getsize(os.path.join(self.state, kept)) for kept in self.kept()], [len(DONE) * 2 // 3]
        )


class Places(TaskCase):
    """The place has failed by the time the image is there."""

    def kept_image(self, result, data):
        """The image's path, which is named by the message."""
        found = [name for name in self.kept() if name.endswith(".png")]
        self.assertEqual(len(found), 1, self.kept())
        path = os.path.join(self.state, found[0])
        self.assertIn(path, result.err)
        self.assertHolds(path, data)
        return path

    def test_a_file_that_appeared_meanwhile_is_not_overwritten(self):
        def step(exchange):
            self.file("place/x.png", b"somebody else's")
            exchange.reply(200, DONE)

        self.gateway.on(GET_IMAGE, step)
        result = self.image("x", "-o", "x.png", "--json")
        self.assertQuietly(13, result)
        self.assertHolds("x.png", b"somebody else's")
        self.assertEqual(result.document["files"], [self.kept_image(result, BIG)])
        self.assertRegex(self.kept()[0], r"\Ax-[0-9a-f]{8}\.png\Z")
        self.assertPlace("x.png")
        self.assertQuietly(1, self.image("--resume"))

    def test_a_place_that_is_taken_is_noticed_before_a_resume_takes_the_one_answer(self):
        self.assertQuietly(0, self.image("x", "-o", "x.png", "--detach"))
        self.file("place/x.png", b"somebody else's")
        self.gateway.requests.clear()
        self.assertQuietly(13, self.image("--resume"))
        self.assertEqual(self.gateway.requests, [])
        self.assertQuietly(0, self.image("--resume", "-o", "y.png"))
        self.assertHolds("y.png", self.gateway.tasks.image)

    def test_where_no_disk_takes_the_image_the_answer_is_kept_and_resumed_from(self):
        patch = mock.patch(
            "alltoken_call.store.files.part_of", side_effect=OSError(errno.ENOSPC, "No space left on device")
        )

        def step(exchange):
            patch.start()
            exchange.reply(200, DONE)

        self.gateway.on(GET_IMAGE, step, RETRIEVED)
        result = self.image("x", "-o", "x.png")
        patch.stop()
        self.assertQuietly(13, result)
        self.assertIn("No space left on device", result.err)
        self.assertResumable(result, "image", IGEN)
        self.assertQuietly(0, self.image("--resume"))
        self.assertHolds("x.png", BIG)
        self.assertEqual(len(self.gets()), 1)

    def test_an_image_that_can_be_put_nowhere_stays_where_it_was_made(self):
        self.gateway.on(GET_IMAGE, reply(200, DONE))
        full = OSError(errno.ENOSPC, "No space left on device")
        with mock.patch("os.link", side_effect=full), mock.patch("shutil.move", side_effect=full):
            result = self.image("x", "-o", "x.png", "--json")
        self.assertQuietly(13, result)
        (path,) = result.document["files"]
        self.assertPlace(os.path.basename(path))
        self.assertIn(path, result.err)
        self.assertHolds(path, BIG)

    @unittest.skipUnless(os.path.exists("/dev/full"), "no /dev/full")
    def test_a_stdout_that_is_full_loses_neither_the_image_nor_its_record(self):
        with open("/dev/full", "wb") as full:
            result = self.execute("image", "x", "-o", "x.png", stdout=full)
        self.assertQuietly(13, result)
        self.assertHolds("x.png", self.gateway.tasks.image)
        self.assertIn("[cost] unknown\n", result.err)
        row = self.row(IGEN)
        self.assertEqual((row["status"], row["exit_status"], row["completion_tokens"]), ("completed", 13, 272))
        self.assertNotIn("--resume", result.err)

    @unittest.skipUnless(os.path.exists("/dev/full"), "no /dev/full")
    def test_a_stdout_that_is_full_keeps_an_image_that_was_to_go_there(self):
        with open("/dev/full", "wb") as full:
            result = self.execute("image", "x", "-o", "-", stdout=full)
        self.assertQuietly(13, result)
        self.kept_image(result, self.gateway.tasks.image)

    def test_with_force_it_is(self):
        def step(exchange):
            self.file("place/x.png", b"somebody else's")
            exchange.reply(200, DONE)

        self.gateway.on(GET_IMAGE, step)
        self.assertQuietly(0, self.image("x", "-o", "x.png", "--force"))
        self.assertHolds("x.png", BIG)

    def test_a_directory_that_vanished_meanwhile_loses_no_image(self):
        os.mkdir("sub")

        def step(exchange):
            os.rmdir("sub")
            exchange.reply(200, DONE)

        self.gateway.on(GET_IMAGE, step)
        result = self.image("x", "-o", "sub/x.png")
        self.assertQuietly(13, result)
        self.kept_image(result, BIG)

    def test_every_kept_path_of_several_is_named_also_with_quiet(self):
        def step(exchange):
            for number in (1, 2):
                self.file(f"place/x-{number}.png", b"somebody else's")
            exchange.reply(200, document(entry(BIG), entry(png())))

        self.gateway.on(GET_IMAGE, step)
        result = self.image("x", "-o", "x.png", "-n", "2", "-q")
        self.assertQuietly(13, result)
        self.assertEqual(len(self.kept()), 2)
        for name in self.kept():
            self.assertIn(os.path.join(self.state, name), result.err)

    def full_place(self, place, **options):
        """A place that has room for 64 KiB, and not for the image."""
        self.gateway.on(GET_IMAGE, reply(200, DONE), RETRIEVED)
        result = self.image("x", "-o", os.path.join(place, "x.png"), **options)
        self.assertQuietly(13, result)
        self.assertEqual(os.listdir(place), [])
        self.kept_image(result, BIG)
        self.assertNotIn("--resume", result.err)
        self.assertIn("No space left", result.err)

    def no_place(self, place):
        """A place that has no room for 64 KiB: nothing is sent."""
        self.gateway.requests.clear()
        result = self.image("x", "-o", os.path.join(place, "x.png"))
        self.assertQuietly(13, result)
        self.assertEqual((self.gateway.requests, os.listdir(place)), ([], []))
        self.assertIn("No space left", result.err)

    def test_a_disk_that_is_too_small_leaves_the_whole_image_in_the_state_directory(self):
        for room in (1 << 16, 150_000, len(BIG) - 1):
            with self.subTest(room=room):
                self.fresh()
                with small_disk(self.place, room):
                    self.full_place(self.place)

    def test_a_disk_without_room_for_64_kib_is_status_13_before_anything_is_sent(self):
        for room in (0, 16384, (1 << 16) - 1):
            with self.subTest(room=room), small_disk(self.place, room):
                self.no_place(self.place)

    def test_a_disk_that_fills_up_while_the_task_runs_leaves_the_image_in_the_state_directory(self):
        def step(exchange):
            disk.__enter__()
            exchange.reply(200, DONE)

        disk = small_disk(self.place, 16384)
        self.gateway.on(GET_IMAGE, step, RETRIEVED)
        try:
            result = self.image("x", "-o", "x.png")
        finally:
            disk.__exit__(None, None, None)
        self.assertQuietly(13, result)
        self.assertPlace()
        self.kept_image(result, BIG)
        self.assertIn("No space left", result.err)

    def test_a_full_state_directory_does_not_matter_to_an_output_elsewhere(self):
        for room in (0, 1, 16384, 65536, 200_000):
            with self.subTest(room=room):
                self.fresh()
                self.gateway.on(GET_IMAGE, reply(200, DONE), RETRIEVED)
                spool = os.path.join(self.state, "spool")
                with small_disk(spool, room) as refused:
                    self.assertQuietly(0, self.image("x", "-o", f"{room}.png"))
                self.assertTrue(refused)
                self.assertHolds(f"{room}.png", BIG)
                self.assertEqual(self.kept(), [])

    def mounted(self, size):
        place = os.path.join(self.folder, "disk")
        os.mkdir(place)
        try:
            done = subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], check=False, capture_output=True
            )
        except OSError as error:
            self.skipTest(f"nothing can be mounted here: {error}")
        if done.returncode:
            self.skipTest(f"nothing can be mounted here: {done.stderr.decode().strip()}")
        self.addCleanup(subprocess.run, ["umount", "-l", place], check=True)
        return place

    def test_a_real_disk_that_is_too_small_leaves_the_whole_image_in_the_state_directory(self):
        self.full_place(self.mounted("128k"))

    def test_a_real_disk_without_room_for_64_kib_is_status_13_before_anything_is_sent(self):
        self.no_place(self.mounted("16k"))

    def test_a_real_full_state_directory_does_not_matter_to_an_output_elsewhere(self):
        self.gateway.on(GET_IMAGE, reply(200, DONE), RETRIEVED)
        result = self.image("x", "-o", "x.png", XDG_STATE_HOME=self.mounted("16k"))
        self.assertQuietly(0, result)
        self.assertHolds("x.png", BIG)
        self.assertPlace("x.png")

    def test_without_a_home_the_outputs_directory_serves(self):
        self.gateway.on(GET_IMAGE, cut(DONE, 100_000), RETRIEVED)
        result = self.image("x", "-o", "x.png", HOME=None, XDG_STATE_HOME=None)
        self.assertQuietly(11, result)
        self.assertPlace(".alltoken-call")
        self.assertEqual(os.stat(".alltoken-call").st_mode & 0o777, 0o700)
        (name,) = os.listdir(".alltoken-call")
        kept = os.path.join(self.place, ".alltoken-call", name)
        self.assertIn(kept, result.err)
        self.assertHolds(kept, DONE[:100_000])
        self.assertQuietly(0, self.image("x", "-o", "x.png", HOME=None, XDG_STATE_HOME=None))
        self.assertHolds("x.png", self.gateway.tasks.image)
        self.assertHolds(kept, DONE[:100_000])

    def test_without_a_home_the_directory_beside_the_output_goes_when_it_is_empty(self):
        self.gateway.on(GET_IMAGE, reply(200, DONE))
        self.assertQuietly(0, self.image("x", "-o", "x.png", HOME=None, XDG_STATE_HOME=None))
        self.assertHolds("x.png", BIG)
        self.assertPlace("x.png")

    def test_without_a_home_and_an_output_the_temporary_directory_serves(self):
        self.gateway.on(GET_IMAGE, cut(DONE, 100_000), RETRIEVED)
        os.mkdir(os.path.join(self.folder, "tmp"))
        with mock.patch("tempfile.tempdir", os.path.join(self.folder, "tmp")):
            result = self.image("x", "-o", "-", HOME=None, XDG_STATE_HOME=None)
        self.assertQuietly(11, result)
        self.assertPlace()
        (name,) = os.listdir(os.path.join(self.folder, "tmp"))
        self.assertRegex(name, SPOOL)
        self.assertIn(os.path.join(self.folder, "tmp", name), result.err)

    def test_an_answer_that_no_disk_takes_is_still_saved_where_the_image_fits(self):
        with mock.patch(
            "alltoken_call.store.spool.files.make_private", side_effect=OSError(30, "Read-only file system")
        ):
            self.gateway.on(GET_IMAGE, reply(200, DONE))
            self.assertQuietly(0, self.image("x", "-o", "x.png"))
        self.assertHolds("x.png", BIG)

    def test_a_state_directory_that_fills_up_keeps_no_half_and_the_image_has_a_name_of_its_own_elsewhere(self):
        def half(source, target):
            with open(source, "rb") as whole, open(target, "wb") as file:
                file.write(whole.read()[:1000])
                if os.path.dirname(target) == self.state:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                file.write(whole.read())
            os.unlink(source)

        def step(exchange):
            os.mkdir("x.png")
            exchange.reply(200, DONE)

        self.gateway.on(GET_IMAGE, step)
        with mock.patch("shutil.move", lambda *paths: half(*paths) if "state" in paths[1] else os.rename(*paths)):
            result = self.image("x", "-o", "x.png", "--json")
        self.assertQuietly(13, result)
        (path,) = result.document["files"]
        self.assertRegex(path, rf"\A{re.escape(self.place)}/x-[0-9a-f]{{8}}\.png\Z")
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
        self.assertHolds(path, BIG)
        self.assertEqual(self.kept(), [])

    def test_an_earlier_answer_that_another_run_has_just_removed_is_asked_for(self):
        task_id = self.image("x", "--detach", "-o", "x.png").out.decode().strip()
        path = self.spool(task_id, "0", DONE)
        open_ = os.open

        def opened(name, *arguments, **options):
            if name == path and os.path.exists(path):
                os.unlink(path)
            return open_(name, *arguments, **options)

        with mock.patch("os.open", opened):
            self.assertQuietly(0, self.image("--resume"))
        self.assertHolds("x.png", self.gateway.tasks.image)
        self.assertEqual(len(self.gets()), 1)


class Copies(TaskCase):
    """What happens while an `r2_url` is downloaded."""

    def run_on(self, *steps, argv=(), **options):
        self.gateway.on(GET_IMAGE, reply(200, document({"r2_url": f"{self.gateway.url}/files/a.png"})))
        self.gateway.on("GET /files/a.png", *steps)
        return self.image("x", "-o", "x.png", *argv, **options)

    def test_a_refused_download_can_be_resumed(self):
        for code in (401, 403, 404):
            with self.subTest(code=code):
                self.fresh()
                result = self.run_on(refuse(code, "NoSuchKey"), normal)
                self.assertQuietly(1, result)  # also 401: no key was sent
                self.assertIn("may have expired", result.err)
                self.assertNotIn("ALLTOKEN_API_KEY", result.err)
                self.assertPlace()
                self.assertEqual(self.row(IGEN)["status"], "unsaved")
                self.assertResumable(result, "image", IGEN)
                self.assertQuietly(0, self.image("--resume"))
                self.assertHolds("x.png", self.gateway.tasks.image)
                self.assertEqual(self.row(IGEN)["status"], "completed")

    def test_max_wait_during_it_is_still_pending(self):
        result = self.run_on(reply(503, b""), argv=("--max-wait", "20"))
        self.assertResumable(result, "image", IGEN)
        self.assertQuietly(8, result)

    def test_a_signal_during_it_leaves_no_piece_and_can_be_resumed(self):
        def step(exchange):
            exchange.head(200, {"Content-Length": "1000"})
            exchange.raw(png()[:50])
            time.sleep(0.05)
            strike()
            exchange.hold()

        result = self.run_on(step, normal, signals=True)
        self.assertQuietly(130, result)
        self.assertPlace()
        self.assertResumable(result, "image", IGEN)
        self.assertQuietly(0, self.image("--resume"))
        self.assertHolds("x.png", self.gateway.tasks.image)

    def test_what_is_no_image_is_status_9(self):
        result = self.run_on(reply(200, b"<html>sorry</html>"))
        self.assertQuietly(9, result)
        self.assertPlace()


class Held(TaskCase):
    """Signals and the deadline, from the first byte of the answer on."""

    def test_a_signal_inside_the_answer_waits_for_its_end_and_the_image_is_there_or_can_be_made(self):
        self.gateway.on(GET_IMAGE, pieces(DONE[:90_000], DONE[90_000:], between=strike), RETRIEVED)
        with mock.patch("alltoken_call.calls.tasks.GRACE", 0.005):  # is for what comes before the first byte
            result = self.image("x", "-o", "x.png", signals=True)
        self.assertQuietly(130, result)
        self.assertIn("[status] stopping as soon as what is arriving is saved\n", result.err)
        self.assertResumable(result, "image", IGEN)
        self.gateway.requests.clear()
        self.assertQuietly(0, self.image("--resume"))
        self.assertHolds("x.png", BIG)
        self.assertEqual((self.gateway.requests, self.kept()), ([], []))
        self.assertQuietly(1, self.image("--resume"))

    def test_a_signal_inside_an_answer_that_then_breaks_off_ends_the_command(self):
        def step(exchange):
            exchange.head(200, {"Content-Length": str(len(DONE))})
            exchange.raw(DONE[:90_000])
            time.sleep(0.05)
            strike()
            time.sleep(0.05)

        self.gateway.on(GET_IMAGE, step, reply(200, {"status": "processing"}))
        result = self.image("x", "--max-wait", "9", signals=True)
        self.assertQuietly(130, result)

    def test_a_signal_before_the_first_byte_does_not_wait_for_the_timeout(self):
        def step(exchange):
            exchange.head(200, {"Content-Length": "9"})
            time.sleep(0.05)
            strike()
            exchange.hold()

        self.gateway.on(GET_IMAGE, step)
        before = time.monotonic()
        with mock.patch("alltoken_call.calls.tasks.GRACE", 0.2):
            result = self.image("x", "--timeout", "2", "--max-wait", "3", signals=True)
        self.assertQuietly(130, result)
        self.assertLess(time.monotonic() - before, 1.5)

    def test_the_deadline_waits_for_the_end_of_the_answer(self):
        def later():
            self.clock.ahead += 590

        self.gateway.on(GET_IMAGE, pieces(DONE[:90_000], DONE[90_000:], between=later), RETRIEVED)
        self.assertQuietly(0, self.image("x", "-o", "x.png", "--max-wait", "20"))
        self.assertHolds("x.png", BIG)

    def test_an_answer_that_takes_more_than_10_minutes_is_waited_for_no_longer_and_what_came_is_kept(self):
        def later():
            self.clock.ahead += 601

        self.gateway.on(GET_IMAGE, pieces(DONE[:90_000], DONE[90_000:], between=later), RETRIEVED)
        result = self.image("x", "-o", "x.png", "--max-wait", "20")
        self.assertQuietly(8, result)
        self.assertPlace()
        (kept,) = self.kept()
        size = os.path.getsize(os.path.join(self.state, kept))
        self.assertGreaterEqual(size, 90_000)
        self.assertHolds(os.path.join(self.state, kept), DONE[:size])
        self.assertIn(os.path.join(self.state, kept), result.err)
        self.assertResumable(result, "image", IGEN)


class Strangers(TaskCase):
    """What lies in our directories and beside the output, and is not ours, whatever a task is called."""

    IDS = ("messages", "../x", "../../place/notes", "x.png", "*", "[a-z]*", "????????", "ledger", "spool/a")
    NAMES = ("messages.fr.json", "messages.01234567.json", "notes.json", "x.json", "ledger.00000000.json")

    def lay(self, folder):
        """Files and pipes of the user's: names that such an id, or a pattern made of it, could find."""
        os.makedirs(folder, exist_ok=True)
        for name in self.NAMES:
            with open(os.path.join(folder, name), "wb") as file:
                file.write(document(entry(png(noise=10))))
        for name in ("messages.11111111.json", "x.22222222.json"):
            os.mkfifo(os.path.join(folder, name))

    def everything(self):
        """All that there is but the ledger: the content of files, None for pipes."""
        found = {}
        for folder, _, names in os.walk(self.folder):
            for path in (os.path.join(folder, name) for name in names if not name.startswith("ledger.db")):
                found[path] = Path(path).read_bytes() if os.path.isfile(path) else None
        return found

    def test_a_tasks_id_names_no_file_that_is_read_or_removed(self):
        spool, beside = os.path.join(self.state, "spool"), os.path.join(self.place, ".alltoken-call")
        for folder in (self.folder, self.place, self.state, spool, beside):
            self.lay(folder)
        before = self.everything()
        for task_id in self.IDS:
            for home in (True, False):
                with self.subTest(task_id, home=home):
                    environ = {} if home else {"HOME": None, "XDG_STATE_HOME": None}
                    poll = f"GET {IMAGES}/{quote(task_id, safe='')}"
                    self.gateway.on(IMAGE, reply(202, {"id": task_id}))
                    self.gateway.on(poll, cut(DONE, 90_000), reply(200, {"status": "processing"}))
                    self.assertQuietly(8, self.image("x", "-o", "fox.png", "--max-wait", "9", **environ))
                    self.assertEqual(len(self.everything()), len(before) + 1)
                    self.gateway.on(poll, reply(200, DONE))
                    self.assertQuietly(0, self.image("--resume", task_id, "-o", "fox.png", **environ))
                    self.assertHolds("fox.png", BIG)
                    os.unlink("fox.png")
                    self.assertEqual(self.everything(), before)

    def test_what_has_a_spools_name_and_is_not_a_regular_file_is_neither_read_nor_removed(self):
        self.assertQuietly(0, self.image("x", "--detach", "-o", "fox.png"))
        stranger = document(entry(png(noise=10)))
        pipe, link = self.spool(IGEN, "0", b""), self.spool(IGEN, "1", b"")
        os.unlink(pipe)
        os.mkfifo(pipe)
        os.unlink(link)
        os.symlink(self.file("stranger.json", stranger), link)
        self.assertQuietly(0, self.image("--resume"))
        self.assertHolds("fox.png", self.gateway.tasks.image)
        self.assertEqual(len(self.kept()), 2)
        self.assertHolds(link, stranger)
