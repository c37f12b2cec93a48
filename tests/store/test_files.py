"""Where results land: checks before, parts beside, and nothing overwritten."""

import errno
import os
import stat
import tempfile
import unittest
from unittest import mock

from alltoken_call.errors import OutputError, UsageError
from alltoken_call.store import files


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

    def test_a_name_that_is_too_long_is_refused(self):
        with self.assertRaises(OutputError):
            files.check_new([self.path("x" * 300 + ".png")], force=False)

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
            self.assertRegex(part, rf"\A{self.folder}/out\.[0-9a-f]{{8}}\.part\Z")
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
