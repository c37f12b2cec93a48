"""The one answer on disk as it arrives, and the images out of it."""

import base64
import contextlib
import errno
import io
import json
import os
import re
import tempfile
import unittest
from unittest import mock

from alltoken_call.errors import NetworkError
from alltoken_call.store import spool
from alltoken_call.store.spool import Spool, extract, is_image, name_of

from ..gateway import png
from ..task_support import document, entry, small_disk

DONE = document(entry(png()), usage={"input_tokens": 1})
NAME = re.compile(r"\Aigen_1\.[0-9a-f]{8}\.json\Z")


class Answer:
    """A response whose body comes in these pieces, and may break off."""

    def __init__(self, *pieces: bytes, breaks: bool = False) -> None:
        self.pieces = [*pieces]
        self.breaks = breaks

    def read(self) -> bytes:
        if self.pieces:
            return self.pieces.pop(0)
        if self.breaks:
            raise NetworkError("cut", code="connection_lost")
        return b""


class Folder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.target = os.path.join(self.folder, "out.png")

    def path(self, *names):
        return os.path.join(self.folder, *names)


class Names(unittest.TestCase):
    def test_a_plain_id_is_its_own_name(self):
        for task_id in ("igen_1", "A-b_9", "x" * 100):
            self.assertEqual(name_of(task_id), task_id)

    def test_any_other_id_becomes_a_name_without_path_or_control_characters(self):
        names = set()
        odd = ("../x", "/etc/passwd", ".", "..", "", "a\0b", "a\n", "-rf", "\x1b[31m", "x" * 101, "\ud800", "C:x", "é")
        for task_id in odd:
            with self.subTest(task_id=task_id):
                self.assertRegex(name_of(task_id), r"\A[0-9a-f]{32}\Z")
                names.add(name_of(task_id))
        self.assertEqual(len(names), len(odd))


class Arrivals(Folder):
    def setUp(self):
        super().setUp()
        os.mkdir(self.path("tmp"))
        patch = mock.patch.object(tempfile, "tempdir", self.path("tmp"))
        patch.start()
        self.addCleanup(patch.stop)

    def spool(self, *folders):
        return Spool([self.path(folder) for folder in folders or ("state",)], "igen_1")

    def receive(self, kept, *pieces, breaks=False):
        return kept.receive(Answer(*pieces, breaks=breaks), lambda: None, lambda document: "data" in document)

    def file(self, folder, name, data=DONE):
        os.makedirs(self.path(folder), exist_ok=True)
        with open(self.path(folder, name), "wb") as file:
            file.write(data)
        return self.path(folder, name)

    def assertKept(self, data, kept, folder="state"):
        """`kept` is a private file of the task's name in `folder`, and holds `data`."""
        self.assertEqual(os.path.dirname(kept.path), self.path(folder))
        self.assertRegex(os.path.basename(kept.path), NAME)
        self.assertEqual(os.stat(kept.path).st_mode & 0o777, 0o600)
        with kept.open() as opened, open(kept.path, "rb") as file:
            self.assertTrue(opened.read() == file.read() == data, "the answer was damaged")

    def test_a_status_is_handed_out_and_never_reaches_the_disk(self):
        kept = self.spool()
        self.assertEqual(self.receive(kept, b'{"status": "queued"}'), {"status": "queued"})
        self.assertEqual((kept.kept, os.listdir(self.folder)), ([], ["tmp"]))

    def test_an_answer_in_pieces_is_on_disk_until_it_is_dropped(self):
        kept = self.spool()
        self.assertEqual(self.receive(kept, b'{"status": ', b'"queued"}'), {})
        self.assertKept(b'{"status": "queued"}', kept)
        kept.drop()
        self.assertEqual((kept.kept, os.listdir(self.path("state"))), ([], []))

    def test_an_answer_can_be_read_though_another_run_has_removed_it(self):
        kept = self.spool()
        self.receive(kept, DONE[:50], DONE[50:])
        Spool([self.path("state")], "igen_1").remove()
        self.assertEqual(os.listdir(self.path("state")), [])
        with kept.open() as file:
            self.assertTrue(file.read() == DONE)

    def test_an_answer_is_a_private_file_of_the_tasks_name(self):
        kept = self.spool()
        self.receive(kept, DONE[:50], DONE[50:])
        self.assertKept(DONE, kept)
        self.assertEqual(os.stat(self.path("state")).st_mode & 0o777, 0o700)
        self.assertEqual(os.listdir(self.path("state")), [os.path.basename(kept.path)])

    def test_an_answer_is_on_disk_piece_by_piece_before_it_is_whole(self):
        seen = []

        class Watching(Answer):
            def read(inner):
                names = os.listdir(self.path("state")) if os.path.isdir(self.path("state")) else []
                seen.append([(bool(NAME.search(name)), os.path.getsize(self.path("state", name))) for name in names])
                return super().read()

        kept = self.spool()
        kept.receive(Watching(DONE[:50], DONE[50:60], DONE[60:]), lambda: seen.append("begun"), lambda _: True)
        self.assertEqual(seen, [[], "begun", [(True, 50)], [(True, 60)], [(True, len(DONE))]])

    def test_an_answer_without_a_byte_has_not_begun_and_leaves_nothing(self):
        kept = self.spool()
        begun = mock.Mock()
        with self.assertRaises(NetworkError):
            kept.receive(Answer(breaks=True), begun, lambda _: True)
        begun.assert_not_called()
        self.assertEqual((kept.path, kept.left, os.listdir(self.folder)), (None, [], ["tmp"]))

    def test_an_answer_that_breaks_off_is_kept_and_found_by_the_next_run(self):
        kept = self.spool()
        with self.assertRaises(NetworkError):
            self.receive(kept, DONE[:50], breaks=True)
        (path,) = kept.kept
        with open(path, "rb") as file:
            self.assertEqual(file.read(), DONE[:50])
        self.assertEqual(self.spool().left, [path])

    def test_of_answers_that_break_off_the_largest_is_kept_until_one_is_whole_and_done_with(self):
        kept = self.spool()
        for size in (30, 50, 40):
            with self.assertRaises(NetworkError):
                self.receive(kept, DONE[:size], breaks=True)
        self.receive(kept, b"<html>")
        kept.drop()
        (path,) = kept.kept
        with open(path, "rb") as file:
            self.assertEqual(file.read(), DONE[:50])
        self.receive(kept, DONE)
        self.assertKept(DONE, kept)
        self.assertEqual(kept.kept[1:], [path])
        kept.remove()
        self.assertEqual((kept.kept, os.listdir(self.path("state"))), ([], []))

    def test_a_whole_answer_is_synced(self):
        kept = self.spool()
        with mock.patch("os.fsync") as sync:
            self.receive(kept, DONE[:50], DONE[50:])
        self.assertEqual(sync.call_count, 1)

    def test_an_answer_that_breaks_off_leaves_no_open_file(self):
        kept = self.spool()
        before = len(os.listdir("/dev/fd"))
        for _ in range(3):
            with self.assertRaises(NetworkError):
                self.receive(kept, DONE[:50], breaks=True)
        self.assertEqual(len(os.listdir("/dev/fd")), before)

    def test_what_earlier_runs_have_left_is_found_in_every_folder_and_removed_at_the_end(self):
        wanted = {self.file(folder, "igen_1.0a1b2c3d.json") for folder in ("state", "we[i]rd *")}
        wanted.add(self.file("state", "igen_1.ffffffff.json", b"cut"))
        others = {self.file("state", name) for name in ("igen_10.0a1b2c3d.json", "igen_2.0a1b2c3d.json", "x.png")}
        found = self.spool("state", "we[i]rd *", "missing")
        self.assertEqual((found.path, set(found.left)), (None, wanted))
        found.remove()
        self.assertEqual({self.path("state", name) for name in os.listdir(self.path("state"))}, others)
        self.assertEqual(os.listdir(self.path("we[i]rd *")), [])

    def test_a_full_folder_gives_way_to_the_next_and_the_answer_is_whole(self):
        big = document(entry(png(noise=90_000)))
        blocks = [big[at : at + 10_000] for at in range(0, len(big), 10_000)]
        for room in (0, 1, 4_096, 10_000, 16_384, 99_999):
            full, beside = f"full-{room}", f"beside-{room}"
            with self.subTest(room=room), small_disk(self.path(full), room) as refused:
                kept = self.spool(full, beside)
                self.receive(kept, *blocks)
                self.assertTrue(refused)
                self.assertKept(big, kept, beside)
                self.assertEqual(os.listdir(self.path(full)), [])

    def test_one_full_folder_after_the_other_leaves_the_answer_whole_in_the_temporary_one_or_in_memory(self):
        big = document(entry(png(noise=90_000)))
        blocks = [big[at : at + 10_000] for at in range(0, len(big), 10_000)]
        for room in (None, 30_000):
            with self.subTest(room=room), contextlib.ExitStack() as disks:
                for folder, size in (("one", 25_000), ("two", 15_000), ("tmp", room)):
                    if size is not None:
                        disks.enter_context(small_disk(self.path(folder), size))
                kept = self.spool("one", "two")
                self.receive(kept, *blocks)
                with kept.open() as file:
                    self.assertTrue(file.read() == big, "the answer was damaged")
                self.assertEqual(os.listdir(self.path("one")) + os.listdir(self.path("two")), [])
                self.assertEqual(len(os.listdir(self.path("tmp"))), int(room is None))
                self.assertEqual(kept.path is None, room is not None)
                kept.remove()

    def test_a_folder_that_cannot_be_made_gives_way_to_the_next(self):
        with open(self.path("state"), "wb"):
            pass
        kept = self.spool("state", "beside")
        self.receive(kept, DONE)
        self.assertKept(DONE, kept, "beside")

    def test_memory_takes_what_no_folder_takes(self):
        with mock.patch("alltoken_call.store.files.make_private", side_effect=OSError(errno.EROFS, "read-only")):
            kept = self.spool()
            self.receive(kept, DONE[:50], DONE[50:])
        self.assertIsNone(kept.path)
        with kept.open() as file:
            self.assertEqual(file.read(), DONE)
        self.assertEqual(os.listdir(self.folder), ["tmp"])

    def test_an_answer_without_an_end_is_given_up_wherever_it_goes(self):
        for works in (True, False):
            refusing = mock.patch("alltoken_call.store.files.make_private", side_effect=None if works else OSError)
            answer = Answer(*[DONE[:50]] * 9)
            with self.subTest(disk=works), mock.patch.object(spool, "LARGEST", 100), refusing:
                os.makedirs(self.path("state"), exist_ok=True)
                with self.assertRaises(NetworkError) as caught:
                    self.spool().receive(answer, lambda: None, bool)
                self.assertEqual((caught.exception.code, len(answer.pieces)), ("too_large", 6))

    def test_a_disk_that_fails_on_the_way_or_at_the_end_damages_no_answer(self):
        for call in ("os.fsync", "os.write", "os.close"):
            failing = mock.patch(call, side_effect=OSError(errno.EIO, "input/output error"))
            with self.subTest(call=call):
                kept = self.spool()
                with failing:
                    self.receive(kept, DONE[:50], DONE[50:])
                with kept.open() as file:
                    self.assertEqual(file.read(), DONE)
                kept.remove()


class Extraction(Folder):
    def extract(self, answer, target=None):
        found, parts = extract(io.BytesIO(answer), target or self.target)
        self.addCleanup(lambda: [part.discard() for part in parts])
        return found, parts

    def contents(self, parts):
        found = []
        for part in parts:
            with open(part.path, "rb") as file:
                found.append(file.read())
        return found

    def test_images_become_parts_beside_the_target_and_the_rest_is_parsed(self):
        images = [png(), b"\xff\xd8\xff" + bytes(100), b"GIF89a" + bytes(100), b"RIFF\x10\0\0\0WEBP" + bytes(101)]
        found, parts = self.extract(document(*map(entry, images), usage={"input_tokens": 3}))
        self.assertEqual(self.contents(parts), images)
        self.assertEqual([(part.sound, part.size) for part in parts], [(True, len(image)) for image in images])
        self.assertEqual({os.path.dirname(part.path) for part in parts}, {self.folder})
        self.assertEqual(found["usage"], {"input_tokens": 3})
        self.assertEqual(len(found["data"]), len(images))

    def test_blocks_of_any_size_give_the_same_images(self):
        images = [png(), b"GIF89a" + bytes(range(48, 56))]
        answer = document(*map(entry, images)).replace(b'"b64_json": "', b'"b64_json" :\n\t "').replace(b"/", b"\\/")
        wrong = []
        for size in (*range(1, 120), len(answer) - 1, len(answer)):
            with mock.patch.object(spool, "BLOCK", size):
                found, parts = self.extract(answer)
            seen = (self.contents(parts), [part.sound for part in parts], found["status"])
            if seen != (images, [True, True], "completed"):
                wrong.append(size)
        self.assertEqual(wrong, [])

    def test_an_image_that_begins_at_the_end_of_a_block_is_an_image(self):
        first = png(noise=7_000)
        wrong = []
        block = 1 << 14
        for before in range(24):
            lead = document(entry(first)).index(b"iVBOR") + len(entry(first)["b64_json"])
            gap = block - before - lead - len(b'", "mime_type": "image/png", "x": ""}, {"b64_json": "')
            with mock.patch.object(spool, "BLOCK", block):
                _, parts = self.extract(document(entry(first, x="y" * gap), entry(png())))
            if [part.sound for part in parts] != [True, True]:
                wrong.append(before)
            for part in parts:
                part.discard()
        self.assertEqual(wrong, [])

    def test_escaped_slashes_are_slashes(self):
        image = b"\x89PNG\r\n\x1a\n" + b"\xff" * 99
        for escaped in (b"\\/", b"/"):
            _, parts = self.extract(document(entry(image)).replace(b"/", escaped))
            self.assertEqual((self.contents(parts), parts[0].sound), ([image], True))

    def test_what_is_not_strict_base64_of_an_image_is_not_sound(self):
        sound = base64.b64encode(png()).decode()
        unsound = {
            "garbage": "!!!!" + sound,
            "garbage inside": sound[:40] + "*" + sound[41:],
            "white space": sound[:40] + " " + sound[40:],
            "a line break": sound[:40] + "\n" + sound[40:],
            "url-safe": sound.replace("+", "-").replace("/", "_") + "-_-_",
            "cut": sound[:-3],
            "one more": sound + "A",
            "padding inside": "QQ==" + sound,
            "padding alone": "====",
            "data URL": "data:image/png;base64," + sound,
            "a page": base64.b64encode(b"<html>sorry</html>").decode(),
            "a half magic": base64.b64encode(png()[:6]).decode(),
        }
        for name, text in unsound.items():
            with self.subTest(name):
                _, parts = self.extract(document({"b64_json": text}))
                self.assertEqual([part.sound for part in parts], [False])
        self.assertIs(self.extract(document({"b64_json": sound}))[1][0].sound, True)

    def test_a_null_makes_no_part(self):
        found, parts = self.extract(document({"b64_json": None, "r2_url": "https://x"}))
        self.assertEqual((parts, found["data"]), ([], [{"b64_json": None, "r2_url": "https://x"}]))

    def test_a_text_that_speaks_of_b64_json_is_a_text(self):
        said = 'write "b64_json": "QUJD" on it'
        found, parts = self.extract(document(entry(png(), revised_prompt=said)))
        self.assertEqual((len(parts), found["data"][0]["revised_prompt"]), (1, said))

    def test_a_cut_answer_gives_no_sound_image_and_no_document(self):
        found, parts = self.extract(document(entry(png()))[:100])
        self.assertEqual((found, [part.sound for part in parts]), ({}, [False]))

    def test_no_part_is_left_where_the_disk_is_full(self):
        with small_disk(self.folder, 1000), self.assertRaises(OSError):
            extract(io.BytesIO(document(entry(png()), entry(png(noise=9000)))), self.target)
        self.assertEqual(os.listdir(self.folder), [])

    def test_what_is_no_json_object_is_empty(self):
        for data in (b"", b"[]", b"null", b"<html>", b"\xff\xfe", json.dumps("x").encode(), b"[" * 100_000):
            with self.subTest(data=data[:10]):
                self.assertEqual(self.extract(data), ({}, []))


class Magic(unittest.TestCase):
    def test_four_kinds_are_images(self):
        for head in (png()[:16], b"\xff\xd8\xff\xe0", b"GIF87a", b"GIF89a", b"RIFF1234WEBPVP8 ", b"RIFF\n\n\n\nWEBP"):
            self.assertIs(is_image(head), True, head)
        for head in (b"", b"\x89PNG", b"RIFF1234WAVE", b" GIF89a", b"<svg", b"%PDF"):
            self.assertIs(is_image(head), False, head)
