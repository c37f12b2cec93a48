"""SKILL.md, the skills that --install-skills writes, and the README: valid, honest about options, and safe to run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import unittest
import zipfile
from glob import glob
from pathlib import Path
from unittest import mock

from alltoken_call.cli import parser as command_lines
from alltoken_call.cli import skills
from alltoken_call.errors import ExitStatus

from .harness import PACKAGE, PYTHON, ROOT, Case

ALLOWED = {"name", "description", "license", "compatibility", "allowed-tools", "metadata"}
PAGES = ("README.md", "SKILL.md")
ALWAYS = (  # in each of the six skills
    "ALLTOKEN_API_KEY",
    "Never ask for the key in the chat",
    "upper or lower case",
    "--help",
    "request_id",
    "[error]",
    "Settings → Billing",
    "--new-agent",
    "companion skill `alltoken`",
    "https://alltoken.ai/docs/apis/overview",
)
_CHAT = (
    "all_providers_failed",
    "invalid_api_key",
    "insufficient_balance",
    "Retry-After",
    "incomplete",
    "These lists age",
)
_TASK = (*_CHAT, "image_already_retrieved", "last line of stderr", "never run it again at once", "--detach", "--resume")
PARTS = {  # what else each has
    "chat": (
        *_CHAT,
        "ask alltoken with model X",
        "prompt + completion = total",
        "gpt-5.4-nano",
        "claude-opus-4-7",
        "gpt-5.3-codex",
    ),
    "image": (*_TASK, "draw with alltoken", "no second copy", "A variation is a new run", "gpt-image-2"),
    "video": (
        *_TASK,
        "make a video on alltoken",
        "when it expires",
        "video --cancel ID",
        "video --list",
        "seedance-2.0",
        "happyhorse-1.0-i2v",
        "happyhorse-1.0-video-edit",
        "models --type video",
    ),
    "search": (
        *_CHAT,
        "find with alltoken",
        "use alltoken web search",
        "qwen3.6-max-preview",
        "deepseek-v3.2",
        "cannot search",
        "current dates",
    ),
    "models": (
        "what alltoken models are available",
        "code block",
        "gpt-5.3-codex",
        "which is the cheapest",
        "not `--filter`",
    ),
    "cost": ("how much did that cost", "6 places", "(gateway)", "(estimate)", "no price is published"),
}


def old_python() -> str | None:
    """A Python before 3.10 that runs; None if there is none."""
    for version in ("3.9", "3.8"):
        for found in (
            shutil.which(f"python{version}"),
            *glob(f"{Path.home()}/.pyenv/versions/{version}.*/bin/python3"),
        ):
            test = ["-S", "-c", f"import sys; assert sys.version.startswith({version!r})"]
            if found and subprocess.run([found, *test], check=False, stderr=subprocess.DEVNULL).returncode == 0:
                return found
    return None


def front(text: str) -> dict[str, str]:
    """The top level of a frontmatter: name → the text of its value, folded lines joined."""
    head = text.split("---", 2)[1]
    found = re.findall(r"^([\w-]+):(.*(?:\n[ ].*)*)", head, re.MULTILINE)
    return {name: " ".join(value.replace(">-", "").split()) for name, value in found}


def options_of(parser) -> set[str]:
    return {name for action in parser._actions for name in action.option_strings}


class Pages(unittest.TestCase):
    def test_every_option_that_a_page_names_exists(self):
        parsers = {name: options_of(command_lines.command_parser(name)) for name in command_lines.COMMANDS}
        known = set().union(*parsers.values(), command_lines.TOP)
        for page in PAGES:
            text = (ROOT / page).read_text("utf-8")
            ours = re.sub(r"^.*\b(?:git|pip|pipx|jq|zipapp|xargs|mkdir)\b.*$", "", text, flags=re.MULTILINE)
            named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", ours))
            self.assertGreater(len(named), 10)
            self.assertEqual(named - known, set(), page)

    def test_every_command_line_on_a_page_is_taken_by_its_parser(self):
        count = 0
        for page in PAGES:
            for block in re.findall(
                r"```(?:sh|console|crontab)\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL
            ):
                for name, rest in re.findall(
                    r'alltoken(?:-call|_call"?) (chat|image|video|search|models|cost)\b([^\n|<;]*)', block
                ):
                    words = [
                        word.strip('"')
                        for word in re.sub(r'"[^"]*"', "words", rest).split("#")[0].split()
                        if word not in ("||", "&&")
                    ]
                    words = words[: words.index("test")] if "test" in words else words
                    known = options_of(command_lines.command_parser(name))
                    for word in words:
                        if re.match(r"--?[a-z]", word):
                            count += 1
                            self.assertIn(word, known, f"{page}: {name}{rest}")
        self.assertGreater(count, 20)

    def test_every_exit_status_is_on_both_pages(self):
        for page in PAGES:
            rows = set(
                re.findall(
                    r"\d+", " ".join(re.findall(r"^\| ([\d, ]+) \|", (ROOT / page).read_text("utf-8"), re.MULTILINE))
                )
            )
            wanted = {str(int(status)) for status in ExitStatus}
            self.assertEqual(wanted - rows, set(), page)

    def test_every_variable_that_the_package_reads_is_in_the_readme(self):
        source = " ".join(path.read_text("utf-8") for path in (ROOT / "alltoken_call").rglob("*.py"))
        readme = (ROOT / "README.md").read_text("utf-8")
        for name in set(re.findall(r"\"(ALLTOKEN_[A-Z_]+[A-Z])\"", source)):
            self.assertIn(name, readme)

    def test_every_package_and_top_module_is_in_the_readmes_development_part_and_no_other(self):
        table = (ROOT / "README.md").read_text("utf-8").partition("## Development")[2]
        named = set(re.findall(r"`(\w+)/?`", "".join(re.findall(r"^\|(.*?)\|", table, re.MULTILINE))))
        package = ROOT / "alltoken_call"
        rooms = {path.parent.name for path in package.glob("*/__init__.py")}
        self.assertEqual(named, rooms | {path.stem for path in package.glob("[a-z_]*.py")} - {"__init__"})


class Skill(Case):
    def check(self, path: Path, name: str, longest: int):
        text = path.read_text("utf-8")
        self.assertTrue(text.startswith("---\n"))
        fields = front(text)
        self.assertLessEqual(set(fields), ALLOWED)
        self.assertEqual(fields["name"], name)
        self.assertTrue(0 < len(fields["description"]) <= longest, len(fields["description"]))
        self.assertNotIn(": ", fields["description"].replace("description: ", ""))
        self.assertNotRegex(text.split("---", 2)[1], r"[{}\[\]]")  # flow style fails the reference validator
        for flagged in ("os.environ[", "Authorization", "curl", "sk-"):
            self.assertNotIn(flagged, text)
        return text

    def test_the_repository_is_a_skill(self):
        text = self.check(ROOT / "SKILL.md", "alltoken-call", 1024)
        self.assertLess(text.count("\n"), 200)
        self.assertLess(len(text), 4 * 2300)  # about four characters a token
        for command in command_lines.COMMANDS:
            self.assertIn(f"/alltoken-{command}", text)

    def test_six_skills_are_written_and_told(self):
        target = os.path.join(self.folder, "deep", "skills")
        result = self.call("--install-skills", target)
        paths = [os.path.join(target, f"alltoken-{command}", "SKILL.md") for command in command_lines.COMMANDS]
        self.assertEqual((result.status, result.out.decode().split("\n")), (0, [*paths, ""]), result.err)
        for command, path in zip(command_lines.COMMANDS, paths):
            text = self.check(Path(path), f"alltoken-{command}", 159)
            self.assertNotIn("\n", front(text)["description"])
            line = re.search(rf"^alltoken-call {command} OPTIONS.*$", text, re.MULTILINE)
            self.assertIsNotNone(line)
            self.assertEqual(line[0].endswith(" - <<'EOF'"), command not in ("models", "cost"))
            explained = re.findall(r"^- `(-[\w-]+)", text, re.MULTILINE)
            self.assertGreater(len(explained), 4)
            self.assertLessEqual(set(explained), options_of(command_lines.command_parser(command)))
            known = set().union(
                *(options_of(command_lines.command_parser(name)) for name in command_lines.COMMANDS), command_lines.TOP
            )
            self.assertLessEqual(set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)), known)
            self.assertNotRegex(text, r"@\w+@|PROGRAM")

    def test_each_of_the_six_stands_alone(self):
        self.call("--install-skills", self.folder)
        for command in command_lines.COMMANDS:
            text = Path(self.folder, f"alltoken-{command}", "SKILL.md").read_text("utf-8")
            for wanted in (*ALWAYS, *PARTS[command]):
                with self.subTest(f"{command}: {wanted}"):
                    self.assertIn(wanted, text)

    def test_each_option_is_explained_as_the_help_does(self):
        self.call("--install-skills", self.folder)
        for command, wanted in (
            ("image", ("1536x1024", "1024x1536", "default: 1024x1024", "low, medium, high or auto (default: low")),
            (
                "video",
                ("default: 5", "16:9, 9:16, 4:3, 3:4, 21:9, 1:1 or adaptive (default: 16:9)", "480p, 720p or 1080p"),
            ),
            ("search", ("default: 600", "deepseek-v4-pro")),
            ("models", ("chat, image, video or all (default: chat)",)),
            ("chat", ("gpt-5.4-mini", "0 to 2")),
            ("cost", ("7d, 24h, 30m or 2026-11-01", "model, command, gateway or day")),
        ):
            text = Path(self.folder, f"alltoken-{command}", "SKILL.md").read_text("utf-8")
            options = "\n".join(re.findall(r"^- `-.*$", text, re.MULTILINE))
            for value in wanted:
                self.assertIn(value, options)

    def test_what_it_wrote_it_writes_again_and_what_it_did_not_it_leaves_alone(self):
        self.call("--install-skills", self.folder)
        ours, theirs, empty = (Path(self.folder, f"alltoken-{name}", "SKILL.md") for name in ("chat", "image", "video"))
        ours.write_text(f"old\n{skills.MARK}\n")
        theirs.write_text("my own")
        empty.unlink()
        result = self.call("--install-skills", self.folder)
        self.assertEqual(result.status, 13)
        self.assertIn("alltoken-image", result.err)
        self.assertIn("name: alltoken-chat", ours.read_text())
        self.assertEqual(theirs.read_text(), "my own")
        self.assertNotIn("alltoken-chat", result.err)
        self.assertEqual(result.out.count(b"SKILL.md"), 5)

    def test_a_skill_file_that_is_a_pipe_or_a_link_is_left_alone_without_a_hang(self):
        target = self.file("target", f"mine\n{skills.MARK}\n")
        folders = {
            name: Path(self.folder, f"alltoken-{name}") for name in ("chat", "image", "video", "search", "models")
        }
        for folder in folders.values():
            folder.mkdir()
        os.mkfifo(folders["chat"] / "SKILL.md")
        (folders["image"] / "SKILL.md").symlink_to(target)
        (folders["video"] / "SKILL.md").symlink_to(os.path.join(self.folder, "nowhere"))
        (folders["search"] / "SKILL.md").mkdir()
        result = self.execute("--install-skills", self.folder)
        self.assertQuietly(13, result)
        self.assertEqual(
            result.out.decode().split(), [f"{self.folder}/alltoken-{n}/SKILL.md" for n in ("models", "cost")]
        )
        for name in ("chat", "image", "video", "search"):
            self.assertIn(str(folders[name] / "SKILL.md"), result.err)
        self.assertTrue((folders["chat"] / "SKILL.md").is_fifo())
        self.assertEqual(os.readlink(folders["image"] / "SKILL.md"), target)
        self.assertEqual(Path(target).read_text(), f"mine\n{skills.MARK}\n")
        self.assertFalse(os.path.lexists(os.path.join(self.folder, "nowhere")))
        self.assertEqual(list((folders["search"] / "SKILL.md").iterdir()), [])

    def test_a_directory_that_cannot_be_is_status_13_and_none_is_status_2(self):
        result = self.call("--install-skills", self.file("plain", ""))
        self.assertEqual(result.status, 13)
        self.assertEqual(result.err.count("Not a directory"), 6)
        for words in ([], [""], ["a", "b"]):
            self.assertEqual(self.call("--install-skills", *words).status, 2)

    def test_the_reason_of_a_write_that_fails_is_told(self):
        with mock.patch("os.replace", side_effect=OSError(28, "No space left on device")):
            result = self.call("--install-skills", self.folder)
        self.assertEqual(result.status, 13)
        self.assertEqual(result.err.count("No space left on device"), 6)

    def test_the_slash_form_is_the_command(self):
        self.assertEqual(self.call("/alltoken-chat", "gpt-5.4", "hi").out, self.call("chat", "gpt-5.4", "hi").out)
        self.assertEqual(self.call("/alltoken-nothing", "hi").status, 2)

    def test_a_clone_runs_as_a_skill_from_a_hostile_directory(self):
        for name in ("sqlite3", "json", "errors", "config", "argparse", "urllib", "tempfile", "decimal"):
            self.file(f"{name}.py", "raise SystemExit('hostile')")
        shutil.copytree(ROOT / "alltoken_call", os.path.join(self.folder, "skill", "alltoken_call"))
        command = [*PYTHON, os.path.join("skill", "alltoken_call")]
        for words in (
            ["chat", "-m", "gpt-5.4-mini", "-"],
            ["search", "-"],
            ["image", "-o", "a.png", "-"],
            ["cost"],
            ["models", "-l"],
        ):
            result = self.execute(*words, command=command, input=b"what $(is) --this\n", cwd=self.folder)
            self.assertEqual(result.status, 0, result.err)
        self.assertEqual(self.gateway.requests[0].json["messages"][0]["content"], "what $(is) --this")

    def test_the_zip_file_recipe_of_the_readme_works_twice_and_leaves_one_small_file(self):
        blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
        recipe = next(block for block in blocks if "zipapp" in block)
        package = os.path.join(self.folder, "alltoken_call")
        shutil.copytree(ROOT / "alltoken_call", package, ignore=shutil.ignore_patterns("__pycache__"))
        os.mkdir(os.path.join(package, "__pycache__"))
        self.file("alltoken_call/__pycache__/errors.cpython-311.pyc", b"stale")
        self.file("other.py", "raise SystemExit('packed')")
        script = f'python3() {{ "{sys.executable}" -S "$@"; }}\n{recipe}'
        temporary = os.path.join(self.folder, "temporary")
        os.mkdir(temporary)
        for _ in range(2):
            environ = {"PATH": os.environ.get("PATH", os.defpath), "TMPDIR": temporary}
            subprocess.run(["sh", "-ec", script], cwd=self.folder, check=True, env=environ)
        self.assertEqual(os.listdir(temporary), [])
        self.assertEqual(
            sorted(os.listdir(self.folder)), ["alltoken-call.pyz", "alltoken_call", "other.py", "temporary"]
        )
        with zipfile.ZipFile(os.path.join(self.folder, "alltoken-call.pyz")) as packed:
            names = packed.namelist()
        ours = r"__main__\.py|alltoken_call/([\w/]*(\.py|/)|py\.typed)?"
        self.assertEqual([name for name in names if not re.fullmatch(ours, name) or "__pycache__" in name], [])
        command = [*PYTHON, os.path.join(self.folder, "alltoken-call.pyz")]
        self.assertEqual(self.execute("chat", "hi", command=command).out[-3:], b"hi\n")
        self.assertEqual(self.execute("chat", command=command).status, 2)
        result = self.execute("image", "x", "--detach", command=command)
        self.assertIn("alltoken-call.pyz image --resume igen_", result.err)


class Project(Case):
    def test_the_project_file_leaves_no_field_blank(self):
        text = (ROOT / "pyproject.toml").read_text("utf-8").partition("[tool.")[0]
        for line in (
            r'license = "MIT"',
            r'license-files = \["LICENSE"\]',
            r"authors = \[.*name.*email",
            'Homepage = "https',
        ):
            self.assertRegex(text, rf"(?m)^{line}")
        self.assertIn('Documentation = "https://alltoken.ai/docs/apis/overview"', text)
        for version in ("3.10", "3.11", "3.12", "3.13"):
            self.assertIn(f'"Programming Language :: Python :: {version}"', text)

    def test_an_older_python_gets_one_plain_line(self):
        old = old_python()
        if old is None:
            self.skipTest("there is no Python before 3.10 here")
        doors = ([PACKAGE], ["-m", "alltoken_call"], ["-c", "from alltoken_call.__main__ import entry; entry()"])
        for door in doors:
            result = self.execute("chat", "hi", command=[old, "-B", *door], cwd=ROOT)
            self.assertEqual((result.status, result.out), (2, b""))
            self.assertRegex(result.err, r"\Aalltoken-call needs Python 3\.10 or later; this is 3\.[0-9]\n\Z")
