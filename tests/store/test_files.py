"""Where results land: checks before, parts beside, and nothing overwritten."""

import contextlib
import errno
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

from alltoken_call.errors import OutputError, UsageError
from alltoken_call.store import files

from ..gateway import png
from ..harness import MEMORY, ROOT
from ..task_support import TaskCase, document, entry, small_disk


@contextlib.contextmanager
def as_user(uid):
    """Be another user, whom modes bind; only root can."""
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def file(self, name, data=b"old", mode=0o644):
        with open(os.open(self.path(name), os.O_CREAT | os.O_WRONLY, 0o600), "wb") as file:
            file.write(data)
        os.chmod(self.path(name), mode)
        return self.path(name)

    def read(self, *names):
        with open(self.path(*names), "rb") as file:
            return file.read()

    def mode(self, *names):
        return stat.S_IMODE(os.stat(self.path(*names)).st_mode)


class Inputs(Case):
    def test_an_input_is_bounded_also_where_it_has_no_end(self):
        with mock.patch.object(files, "LARGEST_INPUT", 3 << 20):
            with self.assertRaisesRegex(UsageError, "larger than 3,145,728 bytes"):
                files.read_input("/dev/zero")
            self.assertEqual(len(files.read_input(self.file("x", bytes(3 << 20)))), 3 << 20)

    def test_what_cannot_be_read_is_wrong_usage(self):
        for path in (self.path("missing"), self.folder):
            with self.assertRaisesRegex(UsageError, "cannot read"):
                files.read_input(path)


class Magic(unittest.TestCase):
    def test_four_kinds_are_images(self):
        for head in (png()[:16], b"\xff\xd8\xff\xe0", b"GIF87a", b"GIF89a", b"RIFF1234WEBPVP8 ", b"RIFF\n\n\n\nWEBP"):
            self.assertIs(files.is_image(head), True, head)
        for head in (b"", b"\x89PNG", b"RIFF1234WAVE", b" GIF89a", b"<svg", b"%PDF"):
            self.assertIs(files.is_image(head), False, head)


class Folders(Case):
    def test_every_directory_that_is_made_is_private(self):
        files.make_private(self.path("a", "b", "c"))
        self.assertEqual([self.mode("a"), self.mode("a", "b"), self.mode("a", "b", "c")], [0o700] * 3)

    def test_one_that_exists_keeps_its_mode(self):
        os.mkdir(self.path("a"))
        os.chmod(self.path("a"), 0o755)
        files.make_private(self.path("a", "b"))
        self.assertEqual((self.mode("a"), self.mode("a", "b")), (0o755, 0o700))

    def test_one_that_another_process_makes_meanwhile_is_taken(self):
        with mock.patch("os.mkdir", side_effect=FileExistsError):
            files.make_private(self.path("a"))

    def test_a_file_in_the_way_is_an_oserror(self):
        self.file("a")
        with self.assertRaises(OSError):
            files.make_private(self.path("a", "b"))

    def test_without_a_temporary_directory_the_working_one_serves(self):
        with mock.patch("tempfile.gettempdir", side_effect=FileNotFoundError):
            self.assertEqual(files.temporary(), os.curdir)

    def test_a_check_leaves_nothing_behind(self):
        files.check_folder(self.path("out.png"))
        self.assertEqual(os.listdir(self.folder), [])

    def test_a_disk_without_room_for_a_result_is_refused_and_nothing_is_left_on_it(self):
        for room in (0, 1, 4_096, 65_535):
            with self.subTest(room=room), small_disk(self.folder, room), self.assertRaises(OutputError) as caught:
                files.check_folder(self.path("out.png"))
            self.assertIn("No space left", caught.exception.message)
            self.assertEqual(os.listdir(self.folder), [])
        with small_disk(self.folder, 65_536):
            files.check_folder(self.path("out.png"))

    @unittest.skipIf(os.name == "nt", "limits of POSIX")
    def test_a_limit_on_the_size_of_files_is_met_by_the_check(self):
        script = (
            "import resource, sys; sys.path.insert(0, sys.argv[1])\n"
            "from alltoken_call.errors import OutputError\n"
            "from alltoken_call.store import files\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))\n"
            "try: files.check_folder(sys.argv[2])\n"
            "except OutputError: sys.exit(13)\n"
        )
        command = [sys.executable, "-S", "-c", script, str(ROOT), self.path("out.png")]
        self.assertEqual(subprocess.run(command, check=False, timeout=10).returncode, 13)
        self.assertEqual(os.listdir(self.folder), [])

    def test_a_place_where_no_file_can_be_made_is_refused(self):
        self.file("plain")
        for path in (self.path("missing", "out.png"), self.path("plain", "out.png"), "/proc/out.png"):
            with self.subTest(path=path), self.assertRaises(OutputError) as caught:
                files.check_folder(path)
            self.assertIn(os.path.dirname(path), caught.exception.message)

    @unittest.skipIf(os.name == "nt" or os.geteuid() == 0, "permission bits say nothing to root")
    def test_a_directory_without_write_permission_is_refused(self):
        os.chmod(self.folder, 0o500)
        self.addCleanup(os.chmod, self.folder, 0o700)
        with self.assertRaises(OutputError):
            files.check_folder(self.path("out.png"))

    @unittest.skipIf(os.name == "nt", "users of POSIX")
    def test_a_file_that_a_sticky_directory_protects_is_refused_for_whoever_may_not_replace_it(self):
        path = self.file("out.png")
        owner = os.stat(path).st_uid
        for mode, user, may in (
            (0o1777, owner + 1, False),
            (0o0777, owner + 1, True),
            (0o1777, owner, True),
            (0o1777, 0, True),
        ):
            os.chmod(self.folder, mode)
            with self.subTest(mode=oct(mode), user=user), mock.patch("os.geteuid", return_value=user):
                files.check_folder(self.path("new.png"))
                if may:
                    files.check_folder(path)
                else:
                    with self.assertRaises(OutputError):
                        files.check_folder(path)
        os.chmod(self.folder, 0o1777)
        mine = os.stat_result((0o100644, 0, 0, 1, owner + 1, *[0] * 5))  # my file, in another's directory
        with mock.patch("os.geteuid", return_value=owner + 1), mock.patch("os.lstat", return_value=mine):
            files.check_folder(path)

    @unittest.skipUnless(hasattr(os, "geteuid") and os.geteuid() == 0, "makes another user's files")
    def test_the_check_refuses_what_the_system_would_refuse(self):
        os.chmod(self.folder, 0o1777)
        for name, owner in (("root", 0), ("other", 65533), ("mine", 65534)):
            path = self.file(name, mode=0o666)
            os.chown(path, owner, -1)
            with self.subTest(name), as_user(65534):
                refused = False
                try:
                    files.check_folder(path)
                except OutputError:
                    refused = True
                with open(self.path("part"), "wb"):
                    pass
                try:
                    os.replace(self.path("part"), path)
                    replaced = True
                except PermissionError:
                    replaced = False
                self.assertEqual((refused, replaced), (name != "mine", name == "mine"))
                files.discard(self.path("part"))

    def test_in_a_working_directory_that_was_deleted_nothing_can_be_written(self):
        self.addCleanup(os.chdir, os.getcwd())
        os.mkdir(self.path("gone"))
        os.chdir(self.path("gone"))
        os.rmdir(self.path("gone"))
        for name, fails in (
            ("absolute", lambda: files.absolute("out.png")),
            ("check_new", lambda: files.check_new(["out.png"], force=False)),
            ("check_replaceable", lambda: files.check_replaceable("thread.json")),
            ("replace", lambda: files.replace("thread.json", b"data")),
        ):
            with self.subTest(name), self.assertRaises(OutputError) as caught:
                fails()
            self.assertEqual(caught.exception.status, 13)
        self.assertEqual(files.absolute(self.path("out.png")), self.path("out.png"))
        files.check_new([self.path("out.png")], force=False)


class Names(Case):
    def test_several_results_are_numbered(self):
        for path, count, names in (
            ("a/out.png", 1, ["a/out.png"]),
            ("a/out.png", 3, ["a/out-1.png", "a/out-2.png", "a/out-3.png"]),
            ("a.b/out", 2, ["a.b/out-1", "a.b/out-2"]),
            (".hidden", 2, [".hidden-1", ".hidden-2"]),
            ("out.tar.gz", 2, ["out.tar-1.gz", "out.tar-2.gz"]),
        ):
            with self.subTest(path=path, count=count):
                self.assertEqual(files.numbered(path, count), names)

    def test_a_result_goes_to_a_file_or_into_a_directory(self):
        self.assertEqual(files.in_folder(None, "x.png"), "./x.png")
        self.assertEqual(files.in_folder("out.png", "x.png"), "out.png")
        self.assertEqual(files.in_folder(self.folder, "x.png"), self.path("x.png"))
        self.assertEqual(files.in_folder(self.folder + "/", "x.png"), self.path("x.png"))

    def test_a_missing_directory_is_refused(self):
        self.file("plain")
        for path in (self.path("missing/"), self.path("plain/"), ""):
            with self.subTest(path=path), self.assertRaises(OutputError):
                files.in_folder(path, "x.png")


class Checks(Case):
    def test_an_existing_file_is_refused_without_force(self):
        paths = [self.path("new"), self.file("old")]
        with self.assertRaises(OutputError) as caught:
            files.check_new(paths, force=False)
        self.assertIn(paths[1], caught.exception.message)
        files.check_new(paths, force=True)
        files.check_new(paths[:1], force=False)

    def test_what_is_no_regular_file_is_refused_with_force_too(self):
        os.mkdir(self.path("directory"))
        os.mkfifo(self.path("fifo"))
        os.symlink("nowhere", self.path("dangling"))
        for name in ("directory", "fifo", "dangling"):
            for force in (False, True):
                with self.subTest(name=name, force=force), self.assertRaises(OutputError):
                    files.check_new([self.path(name)], force=force)

    def test_a_name_of_250_bytes_is_a_name(self):
        for name in ("x" * 246 + ".png", "é" * 123 + ".png", "x" * 255):
            with self.subTest(name=name):
                files.check_new([self.path(name)], force=False)
                file, part = files.part_of(self.path(name))
                file.close()
                files.put(part, self.path(name), force=False)
                files.replace(self.path(name), b"data")
                self.assertEqual(self.read(name), b"data")
        self.assertEqual(len(os.listdir(self.folder)), 3)

    def test_a_name_that_is_too_long_is_refused(self):
        for name in ("x" * 300 + ".png", "x" * 252 + ".png", "é" * 126 + ".png"):
            with self.subTest(name=name), self.assertRaises(OutputError):
                files.check_new([self.path(name)], force=False)
            self.assertEqual(os.listdir(self.folder), [])

    def test_a_link_into_a_missing_directory_is_refused(self):
        os.symlink(self.path("missing", "out"), self.path("link"))
        with self.assertRaises(OutputError):
            files.check_new([self.path("link")], force=True)


class Replacing(Case):
    def test_a_new_file_is_private_and_nothing_is_left_beside_it(self):
        files.replace(self.path("new"), b"data")
        self.assertEqual((self.read("new"), self.mode("new"), os.listdir(self.folder)), (b"data", 0o600, ["new"]))

    def test_an_existing_one_keeps_its_mode_and_the_link_to_it(self):
        self.file("old", mode=0o640)
        os.symlink("old", self.path("link"))
        files.replace(self.path("link"), b"data")
        self.assertEqual((self.read("old"), self.mode("old")), (b"data", 0o640))
        self.assertTrue(os.path.islink(self.path("link")))

    def test_where_it_fails_the_old_content_stands_and_nothing_is_left(self):
        self.file("old")
        for call in ("alltoken_call.store.files.sync", "os.replace"):
            with mock.patch(call, side_effect=OSError(errno.ENOSPC, "No space left on device")):
                with self.assertRaises(OutputError) as caught:
                    files.replace(self.path("old"), b"data")
            self.assertIn("No space left", caught.exception.message)
            self.assertEqual((self.read("old"), os.listdir(self.folder)), (b"old", ["old"]))

    def test_a_place_without_a_directory_is_refused_by_the_check(self):
        with self.assertRaises(OutputError):
            files.check_replaceable(self.path("missing", "thread.json"))

    def test_a_write_protected_file_is_refused_by_the_check(self):
        with mock.patch("os.access", return_value=False), self.assertRaises(OutputError):
            files.check_replaceable(self.file("old", mode=0o400))
        files.check_replaceable(self.path("new"))


class Putting(Case):
    def part(self, data=b"new"):
        file, part = files.part_of(self.path("out"))
        with file:
            file.write(data)
        return part

    def test_a_part_lies_beside_its_target_and_follows_the_umask(self):
        for umask, mode in ((0o022, 0o644), (0o077, 0o600)):
            before = os.umask(umask)
            try:
                part = self.part()
            finally:
                os.umask(before)
            self.assertRegex(part, rf"\A{self.folder}/\.[^/]{{1,40}}\.part\Z")
            self.assertEqual(self.mode(os.path.basename(part)), mode)

    def test_a_name_that_is_taken_is_not_used(self):
        with mock.patch("os.urandom", side_effect=[b"aaaa", b"aaaa", b"bbbb"]):
            first, second = self.part(), self.part()
        self.assertNotEqual(first, second)

    def test_a_part_becomes_the_file_and_is_gone(self):
        for force in (False, True):
            with self.subTest(force=force):
                files.put(self.part(), self.path(f"out{force}"), force=force)
                self.assertEqual(self.read(f"out{force}"), b"new")
        self.assertEqual(sorted(os.listdir(self.folder)), ["outFalse", "outTrue"])

    def test_an_existing_file_is_never_overwritten_without_force(self):
        self.file("out")
        for error in (None, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):  # with hard links, and where there are none
            patch = mock.patch("os.link", side_effect=OSError(error, "no")) if error else mock.patch("os.getpid")
            with self.subTest(error=error), patch:
                part = self.part()
                with self.assertRaises(FileExistsError):
                    files.put(part, self.path("out"), force=False)
                self.assertEqual(self.read("out"), b"old")
                with open(part, "rb") as file:
                    self.assertEqual(file.read(), b"new")

    def test_where_there_are_no_hard_links_a_rename_does(self):
        with mock.patch("os.link", side_effect=OSError(errno.EPERM, "no")):
            files.put(self.part(), self.path("out"), force=False)
        self.assertEqual((self.read("out"), os.listdir(self.folder)), (b"new", ["out"]))

    def test_force_replaces_what_a_link_points_to_and_keeps_the_link(self):
        self.file("real")
        os.symlink("real", self.path("link"))
        files.put(self.part(), self.path("link"), force=True)
        self.assertTrue(os.path.islink(self.path("link")))
        self.assertEqual(self.read("real"), b"new")

    @unittest.skipUnless(MEMORY, "two file systems")
    def test_force_replaces_what_lies_behind_a_link_to_another_file_system(self):
        far = tempfile.mkdtemp(dir=MEMORY)
        self.addCleanup(shutil.rmtree, far)
        os.symlink(os.path.join(far, "real"), self.path("link"))
        for full in (False, True):
            with open(os.path.join(far, "real"), "wb") as file:
                file.write(b"old")
            disk = small_disk(far, 2) if full else contextlib.nullcontext()
            with self.subTest(full=full), disk:
                if full:
                    part = self.part()
                    with self.assertRaises(OSError):
                        files.put(part, self.path("link"), force=True)
                    self.assertTrue(os.path.exists(part))
                else:
                    files.put(self.part(), self.path("link"), force=True)
                    self.assertEqual(os.listdir(self.folder), ["link"])
                with open(os.path.join(far, "real"), "rb") as file:
                    self.assertEqual(file.read(), b"old" if full else b"new")
                self.assertEqual(os.listdir(far), ["real"])
        self.assertTrue(os.path.islink(self.path("link")))

    def test_what_is_synced_has_left_the_buffer(self):
        with (
            open(self.path("out"), "wb") as file,
            mock.patch("os.fsync", lambda _: self.assertEqual(self.read("out"), b"new")),
        ):
            file.write(b"new")
            files.sync(file)

    def test_files_are_the_same_by_their_bytes(self):
        one, other = self.file("one", b"x" * 3_000_000), self.file("other", b"x" * 2_999_999 + b"y")
        self.assertIs(files.same(one, one), True)
        self.assertIs(files.same(one, other), False)
        self.assertIs(files.same(one, self.file("shorter", b"x" * 2_999_999)), False)
        self.assertIs(files.same(one, self.path("missing")), False)

    def test_discarding_what_is_gone_is_no_error(self):
        files.discard(self.path("missing"))


class Keeping(Case):
    """A finished file whose place has failed."""

    def part(self, folder="."):
        os.makedirs(self.path(folder), exist_ok=True)
        file, part = files.part_of(self.path(folder, "out"))
        with file:
            file.write(b"paid for")
        return part

    def assertKept(self, kept, folder, part):
        self.assertEqual(os.path.dirname(os.path.normpath(kept)), self.path(folder).rstrip("/."))
        self.assertFalse(kept.endswith(".part"))
        with open(kept, "rb") as file:
            self.assertEqual(file.read(), b"paid for")
        self.assertFalse(os.path.exists(part))
        self.assertEqual(stat.S_IMODE(os.stat(kept).st_mode), 0o600)

    def test_it_gets_a_name_of_its_own_in_the_folder_which_is_made(self):
        for name in ("out.png", "out", ".hidden", "caf\udce9.png", "x" * 251 + ".png", "é" * 127, "🜁" * 62 + ".webp"):
            with self.subTest(name=name):
                part = self.part()
                kept = files.keep(part, self.path("state", "kept"), name)
                self.assertKept(kept, "state/kept", part)
                self.assertEqual(os.path.splitext(kept)[1], os.path.splitext(name)[1])
        self.assertEqual(self.mode("state"), 0o700)

    def test_two_of_one_name_are_two_files(self):
        kept = {files.keep(self.part(), self.path("state"), "out.png") for _ in range(3)}
        self.assertEqual({os.path.basename(path) for path in kept}, set(os.listdir(self.path("state"))))
        self.assertEqual(len(kept), 3)

    def test_it_stays_beside_its_first_place_if_the_folder_does_not_take_it(self):
        self.file("plain")
        for folder in ("plain", "plain/below"):
            with self.subTest(folder=folder):
                part = self.part("first")
                self.assertKept(files.keep(part, self.path(folder), "out.png"), "first", part)

    @unittest.skipUnless(MEMORY, "two file systems")
    def test_it_crosses_file_systems_whole_or_not_at_all(self):
        far = tempfile.mkdtemp(dir=MEMORY)
        self.addCleanup(shutil.rmtree, far)
        kept = files.keep(self.part("first"), far, "out.png")
        with open(kept, "rb") as file:
            self.assertEqual(file.read(), b"paid for")
        part = self.part("first")
        with mock.patch("shutil.copyfile", side_effect=OSError(errno.ENOSPC, "full")):
            self.assertKept(files.keep(part, far, "out.png"), "first", part)
        self.assertEqual(os.listdir(far), [os.path.basename(kept)])

    def test_it_is_there_under_its_own_name_if_nothing_works(self):
        part = self.part()
        with mock.patch("os.rename", side_effect=OSError), mock.patch("shutil.copyfile", side_effect=OSError):
            self.assertEqual(files.keep(part, self.path("state"), "out.png"), part)
        with open(part, "rb") as file:
            self.assertEqual(file.read(), b"paid for")


class CommandLine(TaskCase):
    """The same, as the user meets it."""

    def test_a_full_disk_is_status_13_before_anything_is_sent(self):
        full = os.path.join(self.folder, "full")
        os.mkdir(full)
        for argv in (
            ("image", "-o", os.path.join(full, "a.png"), "hi"),
            ("image", "-o", full, "hi"),
            ("video", "-o", os.path.join(full, "a.mp4"), "hi"),
            ("chat", "--thread", os.path.join(full, "thread.json"), "hi"),
        ):
            with self.subTest(argv), small_disk(full, 60_000):
                self.assertQuietly(13, self.call(*argv))
                self.assertEqual((self.gateway.requests, os.listdir(full)), ([], []))

    def test_a_deleted_working_directory_is_status_13_before_anything_is_sent(self):
        os.rmdir(self.place)
        for argv in (("image", "hi"), ("image", "-o", "a.png", "hi"), ("video", "-o", "a.mp4", "hi")):
            with self.subTest(argv):
                self.assertQuietly(13, self.call(*argv))
        self.assertQuietly(13, self.call("chat", "--thread", "thread.json", "hi"))
        self.assertEqual(self.gateway.requests, [])

    def test_a_name_of_250_bytes_gets_its_image(self):
        for name in ("x" * 246 + ".png", "é" * 123 + ".png"):
            with self.subTest(name=name):
                self.assertQuietly(0, self.image("-o", name, "hi"))
                self.assertPlace(name)
                os.unlink(name)

    @unittest.skipUnless(MEMORY and os.stat(MEMORY).st_dev != os.stat(tempfile.gettempdir()).st_dev, "two file systems")
    def test_force_through_links_to_another_file_system_replaces_what_they_point_to(self):
        far = tempfile.mkdtemp(dir=tempfile.gettempdir())
        self.addCleanup(shutil.rmtree, far)
        pictures = [png(), png(noise=70_000)]
        for links, count in ((["a.png"], 1), (["a-1.png", "a-2.png"], 2)):
            self.fresh()
            for link in links:
                with open(os.path.join(far, link), "wb"):
                    pass
                os.symlink(os.path.join(far, link), link)
            answer = document(*map(entry, pictures[:count]))
            self.gateway.on(
                "GET /v1/images/generations/igen_00000001",
                lambda exchange, answer=answer: exchange.reply(200, answer),
            )
            result = self.image("-n", str(count), "--force", "-o", "a.png", "hi")
            with self.subTest(count=count):
                self.assertQuietly(0, result)
                for link, picture in zip(links, pictures):
                    self.assertTrue(os.path.islink(link))
                    self.assertHolds(os.path.join(far, link), picture)
                self.assertPlace(*links)
                self.assertEqual(self.kept(), [])
            for link in links:
                os.unlink(os.path.join(far, link))
        self.assertEqual(os.listdir(far), [])
