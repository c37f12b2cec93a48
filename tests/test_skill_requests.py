"""What a user asks for in words, the command line that the installed skill prescribes for it, and the request that
arrives."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import sys
from pathlib import Path
from typing import Any

from alltoken_call.cli import parser as command_lines

from .gateway import CHAT, png
from .harness import PACKAGE, Case

IMAGE, EDIT, VIDEO = "POST /v1/images/generations/async", "POST /v1/images/edits", "POST /v1/videos/generations"
WORDS = 'it\'s "quoted" $(touch pwned) `touch pwned` --json'
INPUTS = ("cat.png", "mask.png", "a.png", "b.png", "talk.json")
UPLOADED = object()  # any id of an upload

# command, what the user says, OPTIONS, the request, and what its body must hold (None: nothing is sent)
ROWS: tuple[tuple[str, str, str, str | None, dict[str, Any]], ...] = (
    ("chat", "why is the sky blue?", "", CHAT, {"model": "gpt-5.4-mini", "stream": True}),
    (
        "chat",
        "with model claude-sonnet-4-6; `/alltoken-chat claude-sonnet-4-6 …`",
        "-m claude-sonnet-4-6",
        CHAT,
        {"model": "claude-sonnet-4-6"},
    ),
    (
        "chat",
        "answer in one sentence",
        "-s 'answer in one sentence'",
        CHAT,
        {"messages": [{"role": "system", "content": "answer in one sentence"}, {"role": "user", "content": WORDS}]},
    ),
    ("chat", "as repeatable as you can", "-t 0", CHAT, {"temperature": 0}),
    ("chat", "in at most 200 tokens", "--max-tokens 200", CHAT, {"max_tokens": 200}),
    ("chat", "think hard about it", "--thinking", CHAT, {"thinking": True}),
    ("chat", "what is in cat.png?", "-a cat.png", CHAT, {"model": "gpt-5.4-mini"}),
    (
        "chat",
        "answer as JSON",
        '-p \'response_format={"type":"json_object"}\'',
        CHAT,
        {"response_format": {"type": "json_object"}},
    ),
    (
        "chat",
        "go on with our conversation in talk.json",
        "--thread talk.json",
        CHAT,
        {"messages": [{"role": "user", "content": "before"}, {"role": "user", "content": WORDS}]},
    ),
    ("chat", "this model and no other", "-m gpt-5.4 --fallback none", CHAT, {"model": "gpt-5.4"}),
    ("image", "a lighthouse in fog", "", IMAGE, {"model": "gpt-image-2", "size": "1024x1024", "quality": "low"}),
    ("image", "wide, landscape", "--size 1536x1024", IMAGE, {"size": "1536x1024", "quality": "low"}),
    ("image", "tall, portrait", "--size 1024x1536", IMAGE, {"size": "1024x1536"}),
    ("image", "in the best quality", "--quality high", IMAGE, {"size": "1024x1024", "quality": "high"}),
    (
        "image",
        "`… --size=auto --quality=medium --out=fox.png`",
        "--size auto --quality medium -o fox.png",
        IMAGE,
        {"size": "auto", "quality": "medium"},
    ),
    (
        "image",
        "a logo on a transparent background",
        "--background transparent -o logo.png",
        IMAGE,
        {"background": "transparent"},
    ),
    ("image", "as a JPEG", "-o fox.jpg", IMAGE, {"output_format": "jpeg"}),
    ("image", "three of them", "-n 3", IMAGE, {"n": 3}),
    ("image", "make cat.png look like winter", "--edit cat.png", EDIT, {"image_upload_id": UPLOADED}),
    (
        "image",
        "change cat.png only where mask.png marks it",
        "--edit cat.png --mask mask.png",
        EDIT,
        {"image_upload_id": UPLOADED, "mask_upload_id": UPLOADED},
    ),
    ("image", "do not wait for it", "--detach", IMAGE, {"model": "gpt-image-2"}),
    (
        "video",
        "waves at dusk",
        "-o waves.mp4",
        VIDEO,
        {"model": "seedance-1.5-pro", "duration": 5, "ratio": "16:9", "resolution": "480p"},
    ),
    (
        "video",
        "1080p, 10 s",
        "--resolution 1080p --duration 10 -o clip.mp4",
        VIDEO,
        {"duration": 10, "ratio": "16:9", "resolution": "1080p"},
    ),
    (
        "video",
        "for a phone, in 720p",
        "--ratio 9:16 --resolution 720p -o clip.mp4",
        VIDEO,
        {"duration": 5, "ratio": "9:16", "resolution": "720p"},
    ),
    (
        "video",
        "`… --model=seedance-2.0 --ratio=21:9`",
        "-m seedance-2.0 --ratio 21:9 -o clip.mp4",
        VIDEO,
        {"model": "seedance-2.0", "ratio": "21:9", "resolution": "480p"},
    ),
    ("video", "beginning with a.png", "--first-frame a.png -o clip.mp4", VIDEO, {"content": ("first_frame",)}),
    (
        "video",
        "beginning with a.png, ending with b.png",
        "--first-frame a.png --last-frame b.png -o clip.mp4",
        VIDEO,
        {"content": ("first_frame", "last_frame")},
    ),
    (
        "video",
        "in the manner of a.png",
        "-m happyhorse-1.0-r2v --reference a.png -o clip.mp4",
        VIDEO,
        {"model": "happyhorse-1.0-r2v", "content": ("reference_image",)},
    ),
    ("video", "with sound", "--audio -o clip.mp4", VIDEO, {"generate_audio": True}),
    ("video", "without sound", "--no-audio -o clip.mp4", VIDEO, {"generate_audio": False}),
    ("video", "with seed 7", "--seed 7 -o clip.mp4", VIDEO, {"seed": 7}),
    ("video", "only the link", "", VIDEO, {"model": "seedance-1.5-pro"}),
    ("video", "do not wait for it", "--detach", VIDEO, {"model": "seedance-1.5-pro"}),
    (
        "search",
        "what does a bitcoin cost now?",
        "",
        CHAT,
        {"model": "deepseek-v4-pro", "enable_search": True, "max_tokens": 600},
    ),
    (
        "search",
        "`--model=qwen3.6-flash …`",
        "-m qwen3.6-flash",
        CHAT,
        {"model": "qwen3.6-flash", "enable_search": True},
    ),
    ("search", "in detail", "--max-tokens 2000", CHAT, {"max_tokens": 2000, "enable_search": True}),
    ("search", "with the best model for it", "-m deepseek-v4-pro", CHAT, {"model": "deepseek-v4-pro"}),
    ("models", "what models are available?", "", "GET /v1/models", {}),
    ("models", "models for video", "--type video", "GET /v1/videos/models", {}),
    ("models", "models for images", "--type image", "GET /v1/images/models", {}),
    ("models", "all of every kind", "--type all", "GET /v1/images/models", {}),
    ("models", "which claude models are there?", "--filter claude", "GET /v1/models", {}),
    ("models", "which is the cheapest?", "-l", "GET /api-account/models", {}),
    ("models", "tell me about gpt-5.4", "gpt-5.4", "GET /api-account/models/gpt-5.4", {}),
    ("models", "which is the best, or the fastest?", "--rankings", "GET /api-account/rankings/all", {}),
    ("models", "does it work now?", "--health", "GET /api-account/health/summary", {}),
    ("cost", "how much did that cost? (after an AllToken call)", "", None, {}),
    ("cost", "`gpt-5.4-mini 1019 12`", "gpt-5.4-mini 1019 12", "GET /api-account/models/gpt-5.4-mini", {}),
    ("cost", "what did I spend this week?", "--since 7d --by model", None, {}),
    ("cost", "day by day since November", "--since 2026-11-01 --by day", None, {}),
    ("cost", "what were my last calls?", "--calls 20", None, {}),
)
LISTED = ("--size", "--quality", "--background", "--ratio", "--resolution", "--type", "--by")


class Requests(Case):
    def setUp(self):
        super().setUp()
        self.assertEqual(self.call("--install-skills", os.path.join(self.folder, "skills")).status, 0)
        self.pages = {
            name: Path(self.folder, "skills", f"alltoken-{name}", "SKILL.md").read_text("utf-8")
            for name in command_lines.COMMANDS
        }
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.folder)
        for name in INPUTS[:4]:
            self.file(name, png())
        self.fresh()

    def fresh(self) -> None:
        """The folder as it was, and no request yet."""
        for name in os.listdir(self.folder):
            if name not in (*INPUTS, "state", "skills"):
                os.unlink(name)
        self.file("talk.json", {"model": "gpt-5.4", "messages": [{"role": "user", "content": "before"}]})
        self.gateway.requests.clear()

    def prescribed(self, command: str, options: str, words: str) -> str:
        """The shell lines of a skill, with these options and words."""
        block = re.search(r"```sh\n(.*?)```", self.pages[command], re.DOTALL)[1]
        self.assertEqual(block.count("OPTIONS"), 1)
        first, _, rest = block.partition("\n")
        if rest:
            self.assertTrue(rest.endswith("\nEOF\n"))
            rest = f"{words}\nEOF\n"
        return first.replace("OPTIONS", options) + "\n" + rest

    def run_row(self, command: str, options: str) -> Any:
        """Run the prescribed lines here, as a shell would."""
        first, _, rest = self.prescribed(command, options, WORDS).partition("\n")
        line, _, _ = first.partition(" <<'EOF'")
        words = shlex.split(line)
        self.assertEqual(words[:2], ["alltoken-call", command])
        self.assertEqual(words[-1] == "-", bool(rest))
        return self.call(*words[1:], stdin=rest.removesuffix("EOF\n").encode())

    def test_what_the_user_says_becomes_the_request_that_is_meant(self):
        self.assertGreaterEqual(len(ROWS), 40)
        for command, said, options, wanted, body in ROWS:
            with self.subTest(f"{command}: {said}"):
                self.fresh()
                shown = f"`{options}`" if options else "none"
                self.assertIn(f"\n| {said} | {shown} |\n", self.pages[command])
                result = self.run_row(command, options)
                self.assertQuietly(0, result)
                self.assertTrue(result.out)
                if wanted is None:
                    self.assertEqual(self.gateway.requests, [])
                    continue
                found = [one for one in self.gateway.requests if f"{one.method} {one.path}" == wanted]
                self.assertEqual(len(found), 1, [one.path for one in self.gateway.requests])
                self.holds(found[0], body)

    def holds(self, request: Any, body: dict[str, Any]) -> None:
        """A request's body has what is wanted, and the user's words as they are."""
        if request.method == "GET":
            return
        sent = request.json
        for name, value in body.items():
            self.assertIn(name, sent)
            if isinstance(value, tuple):  # the roles of uploads
                self.assertEqual([item["role"] for item in sent[name] if "upl_" in item["upload_id"]], list(value))
            elif value is UPLOADED:
                self.assertIn("upl_", str(sent[name]))
            else:
                self.assertEqual(sent[name], value)
        prompt = sent["prompt"] if "prompt" in sent else sent["messages"][-1]["content"]
        if isinstance(prompt, list):
            self.assertTrue(prompt[1]["image_url"]["url"].startswith("data:image/png;base64,"))
            prompt = prompt[0]["text"]
        self.assertEqual(prompt, WORDS)

    def test_every_row_of_a_skill_is_in_the_table(self):
        for command, page in self.pages.items():
            rows = re.search(r"\| the user says \|.*?\n\n", page, re.DOTALL)[0].strip().split("\n")[2:]
            self.assertEqual(len(rows), sum(row[0] == command for row in ROWS), command)

    def test_a_value_that_is_prescribed_is_among_those_that_the_skill_lists(self):
        checked = 0
        for command, _, options, _, _ in ROWS:
            words = shlex.split(options)
            for option, value in itertools.pairwise([*words, ""]):
                if option.startswith("-"):
                    line = re.search(rf"^- `(?:-\w, )?{option}\b.*$", self.pages[command], re.MULTILINE)
                    self.assertIsNotNone(line, option)
                    if option in LISTED:
                        checked += 1
                        self.assertIn(value, line[0])
        self.assertGreater(checked, 12)

    def test_in_a_real_shell_the_words_act_as_nothing_but_words(self):
        script = f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -S {shlex.quote(PACKAGE)} "$@"\n'
        os.chmod(self.file("alltoken-call", script), 0o755)
        path = {"PATH": f"{self.folder}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
        for command, options in (("chat", "-m gpt-5.4"), ("image", "-o out.png"), ("search", "")):
            lines = self.prescribed(command, options, WORDS)
            result = self.execute(command=["sh", "-c", lines], environ=path)
            self.assertQuietly(0, result)
        self.assertFalse(os.path.exists("pwned"))
        prompts = [one.json for one in self.gateway.requests if one.method == "POST"]
        sent = [one.get("prompt") or one["messages"][-1]["content"] for one in prompts]
        self.assertEqual(sent, [WORDS] * 3)
