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

from alltoken_call.store import spool
from alltoken_call.store.spool import BESIDE, Spool, extract, name_of, open_left

from ..gateway import png, raw, reply
from ..harness import MEMORY
from ..task_support import BIG, GET_IMAGE, IGEN, TaskCase, cut, document, entry, pieces, small_disk

DONE = document(entry(png()), usage={"input_tokens": 1})
ROOT = "https://gateway.example"
TASK = name_of(ROOT, "image", "igen_1")
NAME = re.compile(rf"\A{TASK}\.[0-9a-f]{{8}}\.json\Z")
ROOTLIKE = hasattr(os, "geteuid") and os.geteuid() == 0


class Folder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(dir=MEMORY)
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.target = os.path.join(self.folder, "out.png")

    def path(self, *names):
        return os.path.join(self.folder, *names)


class Names(unittest.TestCase):
    def test_a_name_is_a_hash_whatever_the_id(self):
        names = set()
        odd = (
            "igen_1",
            "../x",
            "/etc/passwd",
            ".",
            "..",
            "",
            "a\0b",
            "a\n",
            "-rf",
            "\x1b[31m",
            "x" * 101,
            "\ud800",
            "é",
        )
        for task_id in odd:
            with self.subTest(task_id=task_id):
                self.assertRegex(name_of(ROOT, "image", task_id), r"\A[0-9a-f]{32}\Z")
                self.assertEqual(name_of(ROOT, "image", task_id), name_of(ROOT, "image", task_id))
                names.add(name_of(ROOT, "image", task_id))
        self.assertEqual(len(names), len(odd))

    def test_the_same_id_at_another_gateway_or_of_another_command_has_another_name(self):
        names = {name_of(root, command, "1") for root in (ROOT, f"{ROOT}/eu") for command in ("image", "video")}
        self.assertEqual(len(names), 4)


class Arrivals(Folder):
    def setUp(self):
        super().setUp()
        os.mkdir(self.path("tmp"))
        patch = mock.patch.object(tempfile, "tempdir", self.path("tmp"))
        patch.start()
        self.addCleanup(patch.stop)

    def spool(self, *folders):
        return Spool([self.path(folder) for folder in folders or ("state",)], TASK)

    def receive(self, kept, *pieces):
        """What `whole` hands out of an answer that comes in these pieces."""
        kept.begin()
        for piece in pieces:
            kept.write(piece)
        with kept.whole() as file:
            return file.read()

    def receive_cut(self, kept, *pieces):
        kept.begin()
        for piece in pieces:
            kept.write(piece)
        kept.leave()

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
        self.assertHolds(kept.path, data)

    def assertHolds(self, path, data):
        with open(path, "rb") as file:
            self.assertTrue(file.read() == data, "the answer was damaged")

    def test_the_temporary_directory_is_looked_for_only_if_no_other_takes_the_answer(self):
        with mock.patch.object(spool.files, "temporary", side_effect=AssertionError):
            kept = Spool([self.folder], TASK)
            kept.begin()
            kept.write(DONE)
            kept.whole().close()
        self.assertTrue(kept.path.startswith(self.folder))

    def test_nothing_is_made_before_an_answer_begins(self):
        kept = self.spool()
        self.assertEqual((kept.path, kept.kept, os.listdir(self.folder)), (None, [], ["tmp"]))

    def test_an_answer_in_pieces_is_on_disk_until_it_is_dropped(self):
        kept = self.spool()
        self.receive(kept, b'{"status": ', b'"queued"}')
        self.assertKept(b'{"status": "queued"}', kept)
        kept.drop()
        self.assertEqual((kept.kept, os.listdir(self.path("state"))), ([], []))

    def test_an_answer_can_be_read_though_another_run_has_removed_it(self):
        kept = self.spool()
        kept.begin()
        for piece in (DONE[:50], DONE[50:]):
            kept.write(piece)
        self.spool().remove()
        self.assertEqual(os.listdir(self.path("state")), [])
        with kept.whole() as file:
            self.assertTrue(file.read() == DONE)

    def test_an_answer_is_a_private_file_of_the_tasks_name(self):
        kept = self.spool()
        self.assertTrue(self.receive(kept, DONE[:50], DONE[50:]) == DONE)
        self.assertKept(DONE, kept)
        self.assertEqual(os.stat(self.path("state")).st_mode & 0o777, 0o700)
        self.assertEqual(os.listdir(self.path("state")), [os.path.basename(kept.path)])

    def test_an_answer_is_on_disk_piece_by_piece_before_it_is_whole(self):
        kept = self.spool()
        kept.begin()
        sizes = []
        for piece in (DONE[:50], DONE[50:60], DONE[60:]):
            kept.write(piece)
            (name,) = os.listdir(self.path("state"))
            self.assertRegex(name, NAME)
            sizes.append((os.path.getsize(self.path("state", name)), kept.size))
        kept.leave()
        self.assertEqual(sizes, [(50, 50), (60, 60), (len(DONE),) * 2])

    def test_an_answer_that_breaks_off_is_kept_and_found_by_the_next_run(self):
        kept = self.spool()
        self.receive_cut(kept, DONE[:50])
        (path,) = kept.kept
        self.assertHolds(path, DONE[:50])
        self.assertEqual(self.spool().left, [path])

    def test_of_answers_that_break_off_the_largest_is_kept_until_one_is_whole_and_done_with(self):
        kept = self.spool()
        for size in (30, 50, 40, 0):
            self.receive_cut(kept, DONE[:size])
        self.receive(kept, b"<html>")
        kept.drop()
        (path,) = kept.kept
        self.assertHolds(path, DONE[:50])
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
            self.receive_cut(kept, DONE[:50])
        self.assertEqual(len(os.listdir("/dev/fd")), before)

    def test_what_earlier_runs_have_left_is_found_in_every_folder_and_removed_at_the_end(self):
        wanted = {self.file(folder, f"{TASK}.0a1b2c3d.json") for folder in ("state", "we[i]rd *", BESIDE)}
        wanted.add(self.file("state", f"{TASK}.ffffffff.json", b"cut"))
        other = name_of(ROOT, "image", "igen_10")
        names = (
            f"{other}.0a1b2c3d.json",
            f"{TASK}.0a1b2c3d.json.png",
            f"{TASK}.0A1B2C3D.json",
            f"{TASK}.0a1b2c3.json",
            f"{TASK}.0a1b2c3d.json\n",
            f"{TASK}.json",
            f"x{TASK}.0a1b2c3d.json",
            "igen_1.0a1b2c3d.json",
            "x.png",
        )
        others = {self.file("state", name) for name in names}
        found = self.spool("state", "we[i]rd *", "missing", BESIDE)
        self.assertEqual((found.path, set(found.left)), (None, wanted))
        found.remove()
        self.assertEqual({self.path("state", name) for name in os.listdir(self.path("state"))}, others)
        self.assertEqual(os.listdir(self.path("we[i]rd *")), [])
        self.assertFalse(os.path.exists(self.path(BESIDE)), "an empty directory of ours was left beside the output")

    def test_the_directory_beside_the_output_stays_while_something_else_is_in_it(self):
        other = self.file(BESIDE, f"{name_of(ROOT, 'image', 'igen_2')}.00000000.json")
        kept = self.spool(BESIDE)
        self.assertEqual(kept.left, [])
        for _ in range(2):
            self.receive_cut(kept, DONE[:50])
        self.receive(kept, DONE)
        kept.remove()
        self.assertEqual(os.listdir(self.path(BESIDE)), [os.path.basename(other)])
        os.unlink(other)
        os.rmdir(self.path(BESIDE))
        for end in ("drop", "remove"):
            kept = self.spool(BESIDE)
            self.receive(kept, DONE)
            self.assertEqual(os.stat(self.path(BESIDE)).st_mode & 0o777, 0o700)
            getattr(kept, end)()
            self.assertFalse(os.path.exists(self.path(BESIDE)), end)

    @unittest.skipUnless(hasattr(os, "mkfifo"), "named pipes of POSIX")
    def test_what_has_a_spools_name_and_is_not_a_regular_file_is_left_alone(self):
        victim = self.file("elsewhere", "victim", DONE)
        os.mkdir(self.path("state"))
        pipe, link, dangling, folder = (self.path("state", f"{TASK}.0000000{number}.json") for number in range(4))
        os.mkfifo(pipe)
        os.symlink(victim, link)
        os.symlink("nowhere", dangling)
        os.mkdir(folder)
        for path in (pipe, link, dangling, folder):
            self.assertIsNone(open_left(path), path)  # without waiting for anybody to write into a pipe
        ours = self.file("state", f"{TASK}.00000009.json")
        found = self.spool()
        self.assertEqual(found.left, [ours])
        self.receive(found, DONE)
        found.remove()
        self.assertEqual(
            {*os.listdir(self.path("state"))}, {os.path.basename(path) for path in (pipe, link, dangling, folder)}
        )
        self.assertHolds(victim, DONE)

    @unittest.skipUnless(ROOTLIKE, "makes another user's files")
    def test_another_users_file_of_a_spools_name_is_neither_read_nor_removed(self):
        ours, others = (self.file("state", f"{TASK}.0000000{number}.json") for number in range(2))
        os.chown(others, 65534, -1)
        self.assertIsNone(open_left(others))
        with open_left(ours) as file:
            self.assertTrue(file.read() == DONE)
        found = self.spool()
        self.assertEqual(found.left, [ours])
        found.remove()
        self.assertEqual(os.listdir(self.path("state")), [os.path.basename(others)])

    def test_a_file_that_was_replaced_by_another_kind_after_it_was_found_is_not_read(self):
        path = self.file("state", f"{TASK}.00000000.json")
        (left,) = self.spool().left
        os.rename(path, self.path("state", "real"))
        os.symlink("real", path)
        self.assertIsNone(open_left(left))
        os.unlink(path)
        self.assertIsNone(open_left(left))

    def test_a_directory_beside_the_output_that_is_not_ours_is_not_used(self):
        os.mkdir(self.path("theirs"))
        os.symlink("theirs", self.path(BESIDE))
        kept = self.spool(BESIDE)
        self.receive(kept, DONE)
        self.assertKept(DONE, kept, "tmp")
        self.assertEqual(os.listdir(self.path("theirs")), [])
        kept.remove()
        os.unlink(self.path(BESIDE))
        if ROOTLIKE:
            os.mkdir(self.path(BESIDE))
            os.chown(self.path(BESIDE), 65534, -1)
            kept = self.spool(BESIDE, "state")
            self.receive(kept, DONE)
            self.assertKept(DONE, kept, "state")
            self.assertEqual(os.listdir(self.path(BESIDE)), [])

    def test_a_full_folder_gives_way_to_the_next_and_the_answer_is_whole(self):
        big = document(entry(png(noise=90_000)))
        blocks = [big[at : at + 10_000] for at in range(0, len(big), 10_000)]
        for room in (0, 1, 4_096, 10_000, 16_384, 99_999):
            full, beside = f"full-{room}", f"beside-{room}"
            with self.subTest(room=room), small_disk(self.path(full), room) as refused:
                kept = self.spool(full, beside)
                self.assertTrue(self.receive(kept, *blocks) == big, "the answer was damaged")
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
                self.assertTrue(self.receive(kept, *blocks) == big, "the answer was damaged")
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
            self.assertTrue(self.receive(kept, DONE[:50], DONE[50:]) == DONE)
        self.assertEqual((kept.path, kept.kept, kept.size), (None, [], len(DONE)))
        self.assertEqual(os.listdir(self.folder), ["tmp"])

    def test_a_disk_that_fails_on_the_way_or_at_the_end_damages_no_answer(self):
        for call in ("os.fsync", "os.write", "os.close"):
            failing = mock.patch(call, side_effect=OSError(errno.EIO, "input/output error"))
            with self.subTest(call=call):
                kept = self.spool()
                kept.begin()
                with failing:
                    for piece in (DONE[:50], DONE[50:]):
                        kept.write(piece)
                    opened = kept.whole()
                with opened as file:
                    self.assertEqual(file.read(), DONE)
                kept.remove()
                self.assertEqual(kept.kept, [])


class AtTheCommandLine(TaskCase):
    """The same, seen from outside."""

    def test_a_status_never_reaches_the_disk(self):
        self.gateway.on(GET_IMAGE, *[reply(200, {"status": word}) for word in ("queued", "processing", "failed")])
        with mock.patch.object(Spool, "begin", side_effect=AssertionError("a status was spooled")):
            self.assertQuietly(10, self.image("-o", "a.png", "hi"))
        self.assertEqual((self.kept(), len(self.gets())), ([], 3))

    def test_an_answer_without_a_byte_leaves_nothing(self):
        self.gateway.on(GET_IMAGE, cut(DONE, 0), raw(b"", then="reset"), reply(200, {"status": "failed"}))
        result = self.image("-o", "a.png", "hi")
        self.assertQuietly(10, result)
        self.assertEqual((self.kept(), len(self.gets())), ([], 3))
        self.assertNotIn("kept in", result.err)

    def test_an_answer_without_an_end_is_given_up_wherever_it_goes(self):
        endless = document(entry(b"\x89PNG\r\n\x1a\n" + bytes(8_000_000)))
        for works in (True, False):
            self.fresh()
            refusing = mock.patch("alltoken_call.store.files.make_private", side_effect=None if works else OSError)
            self.gateway.on(GET_IMAGE, reply(200, endless))
            with self.subTest(disk=works), mock.patch("alltoken_call.calls.landing.LARGEST", 1_000_000):
                with refusing if not works else contextlib.nullcontext():
                    result = self.image("-o", "a.png", "hi", "--json", ALLTOKEN_LEDGER="off")
                self.assertQuietly(3, result)
                self.assertEqual((result.document["error"]["code"], len(self.gets())), ("too_large", 1))
                sizes = [os.path.getsize(os.path.join(self.state, name)) for name in self.kept()]
                self.assertEqual(len(sizes), int(works))
                self.assertLess(sum(sizes), 3_000_000)
                self.assertPlace()

    def test_an_answer_in_small_pieces_is_whole_in_place_and_nothing_is_left(self):
        answer = document(entry(BIG))
        blocks = [answer[at : at + 50_000] for at in range(0, len(answer), 50_000)]
        seen = []
        self.gateway.on(GET_IMAGE, pieces(*blocks, between=lambda: seen.append(self.kept())))
        self.assertQuietly(0, self.image("-o", "a.png", "hi"))
        self.assertHolds("a.png", BIG)
        self.assertEqual({len(names) for names in seen}, {1})
        self.assertRegex(seen[0][0], r"\Aspool/[0-9a-f]{32}\.[0-9a-f]{8}\.json\Z")
        self.assertEqual(self.kept(), [])

    def test_without_a_state_directory_a_whole_answer_that_a_killed_run_left_beside_the_output_is_used(self):
        nowhere = {"HOME": None, "XDG_STATE_HOME": None, "ALLTOKEN_LEDGER": "off"}
        answer = document(entry(BIG))
        self.gateway.on(GET_IMAGE, cut(answer, 90_000), reply(410, {"error": {"code": "image_already_retrieved"}}))
        result = self.image("-o", "a.png", "hi", **nowhere)
        self.assertQuietly(11, result)
        self.assertPlace(BESIDE)
        (name,) = os.listdir(BESIDE)
        path = os.path.join(self.place, BESIDE, name)
        self.assertIn(path, result.err)
        self.assertHolds(path, answer[:90_000])
        with open(path, "wb") as file:  # what would lie there if the run had been killed at the end of the answer
            file.write(answer)
        asked = len(self.gateway.requests)
        self.assertQuietly(0, self.image("--resume", IGEN, "-o", "a.png", **nowhere))
        self.assertHolds("a.png", BIG)
        self.assertPlace("a.png")
        self.assertEqual(len(self.gateway.requests), asked)

    def test_images_of_an_odd_answer_are_saved_once_and_what_repeats_their_numbers_is_none(self):
        first, second = png(), png(noise=100)
        self.gateway.on(
            GET_IMAGE, reply(200, document(entry(first), {"b64_json": 0}, {"b64_json": "0"}, entry(second)))
        )
        result = self.image("-n", "4", "-o", "a.png", "hi")
        self.assertIn(result.status, (0, 9, 11))
        self.assertNotIn("alltoken-call 0.", result.err)
        self.assertPlace("a-1.png", "a-4.png")
        self.assertHolds("a-1.png", first)
        self.assertHolds("a-4.png", second)


class OddAnswers(TaskCase):
    """Images that `extract` does not see, from outside."""

    FIRST, SECOND = png(), png(noise=3_000)

    def saves(self, answer: bytes, *images: bytes) -> None:
        """The images of an answer are saved, and nothing else is left."""
        self.fresh()
        self.gateway.on(GET_IMAGE, reply(200, answer))
        self.assertQuietly(0, self.image("-n", str(len(images)), "-o", "a.png", "hi"))
        names = [f"a-{number}.png" for number in range(1, len(images) + 1)] if len(images) > 1 else ["a.png"]
        self.assertPlace(*names)
        for name, image in zip(names, images):
            self.assertHolds(name, image)
        self.assertEqual(self.kept(), [])

    def respelled(self, key: str) -> bytes:
        """An answer of two images, the second under a key that is written otherwise."""
        answer = document(entry(self.FIRST), entry(self.SECOND))
        at = answer.rindex(b"b64_json")
        return answer[:at] + key.encode() + answer[at + 8 :]

    def test_a_key_that_is_written_with_escapes_is_found(self):
        spelled = "".join(f"\\u{ord(character):04x}" for character in "b64_json")
        for key in ("b64\\u005fjson", "\\u006264_json", spelled):
            self.assertEqual(json.loads(f'"{key}"'), "b64_json")
            for size in (7, 1 << 16):
                with self.subTest(key, size=size), mock.patch.object(spool, "BLOCK", size):
                    self.saves(self.respelled(key), self.FIRST, self.SECOND)
        with self.subTest("both"):
            answer = self.respelled("b64\\u005fjson")
            self.saves(answer.replace(b'"b64_json"', b'"b64_jso\\u006e"'), self.FIRST, self.SECOND)

    def test_white_space_around_the_colon_may_be_long(self):
        answer = document(entry(self.FIRST)).replace(b'"b64_json": "', b'"b64_json"' + b" \n\t" * 60 + b": \r\n" + b'"')
        for size in (1, 10, 63, 64, 65, 1 << 16):
            with self.subTest(size=size), mock.patch.object(spool, "BLOCK", size):
                self.saves(answer, self.FIRST)

    def test_what_is_not_base64_of_an_image_there_is_no_image_either(self):
        for value in (b"", b"!!!!", b"0", b"1", b"QQ==", base64.b64encode(b"<html>sorry</html>"), "é".encode()):
            answer = document(entry(self.FIRST), {"b64_json": "x"}).replace(
                b'b64_json": "x', b'b64\\u005fjson": "' + value
            )
            with self.subTest(value):
                self.fresh()
                self.gateway.on(GET_IMAGE, reply(200, answer))
                result = self.image("-n", "2", "-o", "a.png", "hi")
                self.assertIn(result.status, (0, 9))
                self.assertNotIn("alltoken-call 0.", result.err)
                self.assertPlace("a-1.png")
                self.assertHolds("a-1.png", self.FIRST)

    def test_no_part_is_left_if_the_disk_is_full(self):
        self.gateway.on(GET_IMAGE, reply(200, self.respelled("b64\\u005fjson")))
        with small_disk(self.place, 66_000):  # room for the check, and for one of the images
            self.gateway.tasks.image = self.FIRST
            result = self.image("-n", "2", "-o", "a.png", "hi")
        self.assertIn(result.status, (0, 13))
        found = set(os.listdir(self.place)) | {os.path.basename(name) for name in self.kept()}
        self.assertFalse([name for name in found if name.endswith(".part")], found)


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

    def test_any_escape_of_json_is_the_character_that_it_stands_for(self):
        image = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) + b"\xfb\xef\xbe\xff\xff\xff" * 3
        encoded = base64.b64encode(image).decode()
        self.assertTrue({"+", "/"} <= {*encoded})
        escapes = {
            "lower case": lambda character: f"\\u{ord(character):04x}",
            "upper case": lambda character: f"\\u{ord(character):04X}",
            "only plus": lambda character: "\\u002b" if character == "+" else character,
            "only slash": lambda character: "\\/" if character == "/" else character,
            "both kinds of slash": lambda character: {"/": "\\/", "+": "\\u002B"}.get(character, character),
            "every third": lambda character: f"\\u{ord(character):04x}" if ord(character) % 3 == 0 else character,
        }
        for name, escape in escapes.items():
            text = "".join(map(escape, encoded))
            answer = b'{"status": "completed", "data": [{"b64_json": "%s"}]}' % text.encode()
            self.assertEqual(json.loads(answer)["data"][0]["b64_json"], encoded)
            wrong = []
            for size in (*range(1, 70), len(answer)):  # split at every byte of an escape
                with mock.patch.object(spool, "BLOCK", size):
                    found, parts = self.extract(answer)
                if (self.contents(parts), [part.sound for part in parts]) != ([image], [True]):
                    wrong.append(size)
                self.assertEqual(found["status"], "completed")
                for part in parts:
                    part.discard()
            with self.subTest(name):
                self.assertEqual(wrong, [])

    def test_an_escape_of_anything_else_is_not_sound(self):
        sound = base64.b64encode(png()).decode()
        for escape in ("\\n", "\\u000a", "\\u0020", "\\u00e9", "\\u2603", "\\ud83d\\ude00", "\\\\", "\\u0022", "\\x41"):
            for size in (1, 5, 1 << 16):
                answer = b'{"data": [{"b64_json": "%s"}]}' % f"{sound[:40]}{escape}{sound[40:]}".encode()
                with self.subTest(escape, size=size), mock.patch.object(spool, "BLOCK", size):
                    _, parts = self.extract(answer)
                    self.assertEqual([part.sound for part in parts], [False])

    def test_white_space_around_the_colon_may_be_long_as_far_as_a_block_sees_it(self):
        answer = document(entry(png())).replace(b'"b64_json": "', b'"b64_json"' + b" \n\t" * 6 + b": \r\n" + b'"')
        for size in (1, 10, 63, 64, 65, 1 << 16):
            with self.subTest(size=size), mock.patch.object(spool, "BLOCK", size):
                found, parts = self.extract(answer)
                self.assertEqual((self.contents(parts), [part.sound for part in parts]), ([png()], [True]))
                self.assertEqual(found["status"], "completed")

    def test_what_is_not_seen_is_left_in_the_document(self):
        encoded = base64.b64encode(png()).decode()
        for member, value in (
            (f'"b64\\u005fjson": "{encoded}"', encoded),
            (f'"b64_json"{" " * 99}: "{encoded}"', encoded),
            (f'"url": "data:image/png;base64,{encoded}"', f"data:image/png;base64,{encoded}"),
        ):
            with self.subTest(member[:20]), mock.patch.object(spool, "BLOCK", 7):
                found, parts = self.extract(b'{"data": [{%s}]}' % member.encode())
                self.assertEqual((parts, list(found["data"][0].values())), ([], [value]))

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
