"""shell.py: the completion scripts, in real shells where they are installed."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import time
import unittest
import warnings
from pathlib import Path

from alltoken_call.cli import parser as command_lines
from alltoken_call.cli import shell

from ..harness import Case

CASES = (  # what stands on the line, what Tab must offer, what it must not
    (["alltoken-call", "cha"], {"chat"}, {"cost"}),
    (["alltoken-call", "--comp"], {"--completion"}, {"--help"}),
    (["alltoken-call", "--completion", ""], {"bash", "zsh", "fish"}, {"chat"}),
    (["alltoken-call", "help", "v"], {"video"}, {"chat", "--version"}),
    (["alltoken-call", "chat", "--th"], {"--thread", "--thinking"}, {"--timeout", "--size"}),
    (["alltoken-call", "--json", "chat", "--th"], {"--thread", "--thinking"}, {"--timeout", "--size"}),
    (["alltoken-call", "/alltoken-chat", "--th"], {"--thread", "--thinking"}, {"--timeout", "--size"}),
    (["alltoken-call", "image", "--format", ""], {"png", "jpeg", "webp"}, {"--size", "auto"}),
    (["alltoken-call", "image", "--size", "1"], {"1024x1024", "1536x1024", "1024x1536"}, {"auto", "low"}),
    (["alltoken-call", "image", "--quality", ""], {"low", "medium", "high", "auto"}, {"png"}),
    (["alltoken-call", "image", "--background", "t"], {"transparent"}, {"opaque"}),
    (["alltoken-call", "image", "--via", ""], {"images", "chat"}, {"png"}),
    (["alltoken-call", "image", "x", "--gateway", "open"], {"openai", "openclaw", "openrouter"}, {"ollama"}),
    (["alltoken-call", "image", "--edit", "pict"], {"picture.png"}, {"--mask"}),
    (["alltoken-call", "video", "--resolution", ""], {"480p", "720p", "1080p"}, {"16:9"}),
    (["alltoken-call", "video", "--ratio", ""], {"16:9", "9:16", "21:9", "adaptive"}, {"480p"}),
    (["alltoken-call", "models", "--type", "v"], {"video"}, {"chat"}),
    (["alltoken-call", "cost", "--by", ""], {"model", "command", "day", "gateway"}, {"chat"}),
)
MODELS = (  # the same, of what `models --type all` has seen
    (["alltoken-call", "chat", "-m", "gpt"], {"gpt-5.4", "gpt-5.4-mini"}, {"gpt-image-2"}),
    (["alltoken-call", "chat", "--model", "clau"], {"claude-haiku-4-5", "claude-sonnet-4-6"}, {"gpt-5.4"}),
    (["alltoken-call", "chat", "gpt-5.4-m"], {"gpt-5.4-mini"}, {"gpt-5.4"}),
    (["alltoken-call", "image", "-m", "gpt"], {"gpt-image-2"}, {"gpt-5.4", "seedance-1.5-pro"}),
    (["alltoken-call", "video", "x", "-m", "seed"], {"seedance-1.5-pro", "seedance-2.0"}, {"gpt-image-2"}),
    (["alltoken-call", "search", "-m", ""], {"deepseek-v4-pro", "qwen3.6-flash"}, {"gpt-5.4", "glm-5.1"}),
    (["alltoken-call", "models", "seed"], {"seedance-2.0"}, {"gpt-5.4"}),
    (["alltoken-call", "cost", "glm"], {"glm-5.1"}, {"gpt-5.4"}),
    (["alltoken-call", "chat", "--gateway", "home", "-m", "ll"], {"llama3.2:3b", "llama3.2:70b"}, {"gpt-5.4"}),
    (["alltoken-call", "image", "--gateway", "home", "-m", "ll"], {"llama3.2:3b"}, {"gpt-image-2"}),
    (["alltoken-call", "chat", "--gateway", "else", "-m", "gpt"], set(), {"gpt-5.4"}),
)
TASKS = (  # the same, of the ledger, where igen_00000002 is saved
    (["alltoken-call", "image", "--resume", ""], {"igen_00000001"}, {"vgen_00000003", "igen_00000002"}),
    (["alltoken-call", "video", "--resume", "vg"], {"vgen_00000003"}, {"igen_00000001"}),
    (["alltoken-call", "video", "--cancel", ""], {"vgen_00000003"}, {"igen_00000001"}),
)
TYPED = (  # what is typed after the command, and the words that it becomes
    ("video x --ratio 16\t-q", ["video", "x", "--ratio", "16:9", "-q"]),
    ("video x --ratio 21:\t-q", ["video", "x", "--ratio", "21:9", "-q"]),
    ("video x --ratio=ada\t-q", ["video", "x", "--ratio=adaptive", "-q"]),
    ("chat --gateway home -m llama3.2:7\t-q", ["chat", "--gateway", "home", "-m", "llama3.2:70b", "-q"]),
    ("chat -m gpt-5.4-mi\t-q", ["chat", "-m", "gpt-5.4-mini", "-q"]),
    ("image --edit my\t", ["image", "--edit", "my cat photo.png"]),
    ("image --edit my\\ c\t", ["image", "--edit", "my cat photo.png"]),
    ('image --edit "my c\t', ["image", "--edit", "my cat photo.png"]),
)
BASH = """
compopt() { :; }; . "$0"
COMP_WORDS=("$@"); COMP_CWORD=$(($#-1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
_alltoken_call; printf "%s\\n" "${COMPREPLY[@]}"
"""


class Completion(Case):
    def setUp(self):
        super().setUp()
        self.root = Path(self.folder)
        (self.root / "picture.png").touch()
        # A Tab that starts the command would leave a trace.
        (self.root / "alltoken-call").write_text(f"#!/bin/sh\ntouch {self.root}/started\n")
        (self.root / "alltoken-call").chmod(0o755)
        self.plain = {"PATH": f"{self.root}:{os.environ.get('PATH', os.defpath)}", "HOME": self.folder, "TERM": "dumb"}
        self.plain["XDG_STATE_HOME"] = self.environ["XDG_STATE_HOME"]

    def cases(self) -> list[tuple[list[str], set[str], set[str]]]:
        """All cases, with what has to be on this disk for them."""
        self.assertEqual(self.call("models", "--type", "all").status, 0)
        state = Path(self.environ["XDG_STATE_HOME"], "alltoken-call")
        (state / "models" / "home.chat").write_text("llama3.2:3b\nllama3.2:70b\n")
        for words in (["image", "--detach"], ["image", "-o", f"{self.folder}/saved.png"], ["video", "--detach"]):
            self.assertEqual(self.call(*words, "x").status, 0)
        return [*CASES, *MODELS, *(TASKS if shutil.which("sqlite3") else ())]

    def script(self, name: str) -> Path:
        result = self.call("--completion", name)
        self.assertEqual((result.status, result.err), (0, ""))
        path = self.root / f"script.{name}"
        path.write_bytes(result.out)
        return path

    def check(self, offered, words, wanted, unwanted):
        with self.subTest(" ".join(words)):
            self.assertLessEqual(wanted, offered)
            self.assertFalse(unwanted & offered)
            self.assertFalse((self.root / "started").exists())

    def ask(self, *command: str) -> str:
        return subprocess.run(
            command, cwd=self.root, env=self.plain, capture_output=True, text=True, timeout=30, check=True
        ).stdout

    @unittest.skipUnless(shutil.which("bash"), "bash is not installed")
    def test_bash_offers_commands_options_choices_and_files(self):
        script = self.script("bash")
        for words, wanted, unwanted in self.cases():
            self.check(set(self.ask("bash", "-c", BASH, str(script), *words).split()), words, wanted, unwanted)
        self.assertIn("_alltoken_call", self.ask("bash", "-c", '. "$0"; complete -p alltoken-call', str(script)))

    @unittest.skipUnless(shutil.which("bash"), "bash is not installed")
    def test_bash_completes_a_file_name_with_spaces_to_one_word(self):
        script = self.script("bash")
        (self.root / "alltoken-call").write_text("#!/bin/sh\nprintf '<%s>' \"$@\"; echo; echo do''ne\n")
        (self.root / "my cat photo.png").touch()
        (self.root / "a dir with spaces").mkdir()
        (self.root / "it's * odd.png").touch()
        self.cases()
        for typed, words in (
            *TYPED,
            ("image --edit=my\t", ["image", "--edit=my cat photo.png"]),
            ("video x --first-frame ./my\t-q", ["video", "x", "--first-frame", "./my cat photo.png", "-q"]),
            ("image -o a\\ d\t", ["image", "-o", "a dir with spaces/"]),
            ("chat -a it\t", ["chat", "-a", "it's * odd.png"]),
        ):
            with self.subTest(typed):
                shown = self.type_in_bash(f". {script}", typed)
                self.assertIn("".join(f"<{word}>" for word in words), shown.replace("\r\n", "\n").split("\n"))
        # Where the builtins are missing, as in macOS's bash:
        code = (
            'compopt() { return 127; }; type() { return 1; }; . "$0"; COMP_WORDS=(alltoken-call image --edit my);'
            ' COMP_CWORD=3; COMP_LINE="${COMP_WORDS[*]}"; COMP_POINT=${#COMP_LINE}; _alltoken_call;'
            ' printf "<%s>" "${COMPREPLY[@]}"'
        )
        self.assertEqual(self.ask("bash", "-c", code, str(script)), "<my cat photo.png>")

    def type_in_bash(self, setup: str, typed: str) -> str:
        """What an interactive bash shows once `alltoken-call` with what is typed has run."""
        pid, terminal = self.fork("bash", "--noprofile", "--norc", "-i")
        try:
            os.write(terminal, f"bind 'set enable-bracketed-paste off'; {setup}; PS1=REA''DY\n".encode())
            self.until(terminal, b"READY")
            os.write(terminal, f"alltoken-call {typed}\n".encode())
            return self.until(terminal, b"done\r\n")
        finally:
            self.end(pid, terminal)

    @unittest.skipUnless(shutil.which("fish"), "fish is not installed")
    def test_fish_offers_commands_options_choices_and_files(self):
        script = self.script("fish")
        cases = self.cases()
        lines = "; echo ----; ".join(f"complete -C '{' '.join(words)}'" for words, _, _ in cases)
        said = self.ask("fish", "--no-config", "-c", f"source {script}; {lines}").split("----\n")
        for (words, wanted, unwanted), offers in zip(cases, said, strict=True):
            self.check({line.partition("\t")[0] for line in offers.splitlines()}, words, wanted, unwanted)

    @unittest.skipUnless(shutil.which("fish"), "fish is not installed")
    def test_fish_completes_names_with_spaces_and_describes_without_brackets(self):
        script = self.script("fish")
        (self.root / "my cat photo.png").touch()
        said = self.ask("fish", "--no-config", "-c", f"source {script}; complete -C 'alltoken-call image --edit my'")
        self.assertIn("my cat photo.png", said)
        lines = "; ".join(f"complete -C 'alltoken-call {command} -'" for command in command_lines.COMMANDS)
        for line in self.ask("fish", "--no-config", "-c", f"source {script}; {lines}").splitlines():
            self.assertNotIn("(", line.partition("\t")[2])  # fish puts a description in brackets of its own
            self.assertTrue(line.partition("\t")[2], line)

    @unittest.skipUnless(shutil.which("zsh"), "zsh is not installed")
    def test_zsh_offers_commands_options_choices_and_files(self):
        script = self.script("zsh")
        (self.root / "_alltoken-call").write_bytes(script.read_bytes())
        installed = f"fpath=({self.root} $fpath); compinit -u -D"
        for how, cases in ((installed, self.cases()), (f"compinit -u -D; . {script}", CASES[:2])):
            pid, terminal = self.zsh(f"autoload -Uz compinit; {how}")
            try:
                for words, wanted, unwanted in cases:
                    # ^D lists: completion runs only in the line editor, which has the terminal in raw mode then. ^U
                    # drops the line.
                    os.write(terminal, " ".join(words).encode() + b"\x04\x15echo do''ne\n")
                    shown = self.until(terminal, b"done\r\nREADY").replace("\r", " ").split()
                    self.check(set(shown), words, wanted, unwanted)
            finally:
                self.end(pid, terminal)

    @unittest.skipUnless(shutil.which("zsh"), "zsh is not installed")
    def test_zsh_completes_values_with_colons_and_names_with_spaces_to_one_word(self):
        script = self.script("zsh")
        self.cases()
        (self.root / "alltoken-call").write_text("#!/bin/sh\nprintf '<%s>' \"$@\"; echo; echo do''ne\n")
        (self.root / "my cat photo.png").touch()
        pid, terminal = self.zsh(f"autoload -Uz compinit; compinit -u -D; . {script}")
        try:
            for typed, words in TYPED:
                with self.subTest(typed):
                    os.write(terminal, f"alltoken-call {typed}\n".encode())
                    shown = self.until(terminal, b"done\r\nREADY").replace("\r\n", "\n")
                    self.assertIn("".join(f"<{word}>" for word in words), shown.split("\n"))
        finally:
            self.end(pid, terminal)

    def zsh(self, setup: str) -> tuple[int, int]:
        """An interactive zsh that is ready."""
        pid, terminal = self.fork("zsh", "-f", "-i")
        listing = "zstyle ':completion:*' menu no; setopt no_auto_menu no_list_ambiguous; unsetopt zle_bracketed_paste prompt_sp prompt_cr"
        os.write(terminal, f"{listing}; {setup}; PS1=REA''DY\n".encode())
        self.until(terminal, b"READY")
        return pid, terminal

    def fork(self, *command: str) -> tuple[int, int]:
        """A shell on a terminal of its own: its process and the terminal."""
        with warnings.catch_warnings():  # 3.12 warns of our gateways' threads, with which an exec does not share
            warnings.simplefilter("ignore", DeprecationWarning)
            pid, terminal = pty.fork()
        if pid == 0:
            os.chdir(self.root)
            os.execvpe(command[0], command, self.plain)
        return pid, terminal

    @staticmethod
    def end(pid: int, terminal: int) -> None:
        os.close(terminal)
        os.kill(pid, 9)
        os.waitpid(pid, 0)

    @staticmethod
    def until(terminal: int, mark: bytes) -> str:
        data = b""
        end = time.monotonic() + 20
        while mark not in data and time.monotonic() < end:
            if select.select([terminal], [], [], 0.5)[0]:
                data += os.read(terminal, 65536)
        return data.decode("utf-8", "replace")


class Scripts(Case):
    def test_every_option_of_every_command_is_in_every_script(self):
        parsers = {name: command_lines.command_parser(name) for name in command_lines.COMMANDS}
        for name in shell.SHELLS:
            text = shell.script(name, parsers, command_lines.TOP)
            for parser in parsers.values():
                for action in parser._actions:
                    for option in action.option_strings:
                        wanted = (
                            option if name != "fish" else f"-l {option[2:]}" if option[1] == "-" else f"-s {option[1:]}"
                        )
                        self.assertIn(wanted, text, name)

    def test_another_shell_is_status_2(self):
        for words in (["--completion"], ["--completion", "tcsh"], ["--completion", "bash", "zsh"], ["--completion="]):
            with self.subTest(words):
                self.assertEqual(self.call(*words).status, 2)
        self.assertEqual(self.call("--completion=bash").status, 0)
