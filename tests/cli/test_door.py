"""__main__.py: however it is started, the standard library goes first and no stranger's module is loaded."""

from __future__ import annotations

import os
import shutil
import sys

from ..harness import PACKAGE, PYTHON, ROOT, Case

# What the commands load in the course of a run, and what the standard library only tries to load.
NAMES = (
    *("json", "argparse", "ssl", "socket", "sqlite3", "decimal", "tempfile", "subprocess", "urllib", "email", "http"),
    *("base64", "hashlib", "shlex", "difflib", "datetime", "random", "errors", "config", "values", "msvcrt", "_winapi"),
)
RUNS = (
    (["chat", "-m", "gpt-9", "hi"], 1),
    (["image", "x", "-o", "x.png", "--force"], 0),
    (["video", "x", "-o", "x.mp4", "--force"], 0),
    (["models", "-l"], 0),
    (["cost"], 0),
    (["cost", "--since", "7d", "--by", "day"], 0),
    (["--completion", "bash"], 0),
    (["chta"], 2),
)


class Door(Case):
    def hostile(self, folder: str, *names: str) -> str:
        """A folder with modules that tell of being imported, and end the process."""
        path = os.path.join(self.folder, folder)
        os.makedirs(path, exist_ok=True)
        for name in names:
            self.file(f"{folder}/{name}.py", f"import os\nos.write(2, b'HOSTILE {name}')\nos._exit(99)\n")
        return path

    def check(self, *command: str, runs=RUNS[:1], **environ: str) -> None:
        """Commands run to their ends, and nothing hostile is imported."""
        work = os.path.join(self.folder, "work")
        os.makedirs(work, exist_ok=True)
        for argv, status in runs:
            with self.subTest(command[1:], argv=argv, **environ):
                result = self.execute(*argv, command=list(command), cwd=work, environ=environ)
                self.assertQuietly(status, result)
                self.assertNotIn("HOSTILE", result.err)

    def test_what_lies_beside_the_package_is_not_imported(self):
        place = self.hostile("skill", *NAMES)
        inside = shutil.copytree(PACKAGE, os.path.join(place, "alltoken_call"))
        self.check(sys.executable, inside)
        self.check(*PYTHON, inside, runs=RUNS[1:])
        self.check(sys.executable, "-I", inside)
        self.check(sys.executable, os.path.join(inside, "__main__.py"))

    def test_what_lies_in_the_working_directory_is_not_imported(self):
        place = self.hostile("work", *NAMES)
        shutil.copytree(PACKAGE, os.path.join(place, "alltoken_call"))
        self.check(*PYTHON, "-m", "alltoken_call", runs=RUNS[:4])
        self.check(sys.executable, "alltoken_call")
        self.check(sys.executable, PACKAGE)
        self.check(sys.executable, "-m", "alltoken_call", PYTHONPATH=str(ROOT))

    def test_the_standard_library_goes_before_other_packages(self):
        place = self.hostile("packages", "argparse", "json", "ssl", "decimal")
        shutil.copytree(PACKAGE, os.path.join(place, "alltoken_call"))
        script = self.file("alltoken-call", "from alltoken_call.__main__ import entry\nentry()\n")
        self.check(sys.executable, script, PYTHONPATH=place)
        self.check(sys.executable, "-m", "alltoken_call", PYTHONPATH=place)
        # Python itself may load enum before us, unless told to do without other packages.
        self.check(sys.executable, "-S", PACKAGE, PYTHONPATH=self.hostile("packages", "enum"))

    def test_another_installed_version_does_not_stand_in_for_the_one_that_was_started(self):
        other = os.path.join(self.folder, "other")
        os.makedirs(os.path.join(other, "alltoken_call"))
        self.file("other/alltoken_call/__init__.py", "raise SystemExit('HOSTILE')\n")
        self.check(sys.executable, PACKAGE, PYTHONPATH=other)

    def test_our_own_folder_shadows_nobody(self):
        code = (
            "import importlib.util, os, runpy, sys; sys.argv = [sys.argv[1], '-V']\n"
            "def leave(status):\n"
            "    print([name for name in ('errors', 'config', 'values') if importlib.util.find_spec(name)], flush=True)\n"
            "    leaving(status)\n"
            "leaving, os._exit = os._exit, leave\n"
            "runpy.run_path(sys.argv[0], run_name='__main__')\n"
        )
        result = self.execute(command=[sys.executable, "-c", code, PACKAGE], cwd=self.folder)
        self.assertQuietly(0, result)
        self.assertIn(b"[]\n", result.out)
