"""desktop.py: --open starts the desktop's program, waits for nothing, and gives no secret away."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from ..gateway import reply
from ..harness import PATIENCE, Case, Result

NAME = "open" if sys.platform == "darwin" else "xdg-open"


class Opens(Case):
    def setUp(self):
        super().setUp()
        self.said = Path(self.folder, "said")
        # It writes down its process and all that it was given, and stays.
        script = f'#!/bin/sh\n{{ echo $$; echo "$@"; env; }} >"{self.said}.part"\nmv "{self.said}.part" "{self.said}"\nexec sleep 5\n'
        os.mkdir(os.path.join(self.folder, "bin"))
        os.chmod(self.file(f"bin/{NAME}", script), 0o755)
        self.path = {"PATH": f"{self.folder}/bin:{os.environ.get('PATH', os.defpath)}"}

    def open(self, *words: str, **options: Any) -> Result:
        options.setdefault("environ", self.path)
        return self.execute(*words, "--open", cwd=self.folder, **options)

    def shown(self) -> list[str]:
        """What the program was given: its arguments, and then the environment."""
        end = time.monotonic() + PATIENCE
        while not self.said.exists() and time.monotonic() < end:
            time.sleep(0.01)
        process, *lines = self.said.read_text().splitlines()
        self.said.unlink()
        os.kill(int(process), 9)  # it was still there
        return lines

    def test_an_image_is_shown_by_its_absolute_path_and_not_waited_for(self):
        result = self.open("image", "x", "--out=-odd.png")
        self.assertQuietly(0, result)
        self.assertEqual(result.out, b"-odd.png\n")
        arguments, *environ = self.shown()
        self.assertEqual(os.path.realpath(arguments), os.path.realpath(os.path.join(self.folder, "-odd.png")))
        self.assertFalse([line for line in environ if self.environ["ALLTOKEN_API_KEY"] in line])

    def test_a_clip_is_shown_by_its_file_or_else_its_address(self):
        result = self.open("video", "x", "-o", "clip.mp4")
        self.assertQuietly(0, result)
        self.assertTrue(self.shown()[0].endswith("/clip.mp4"))
        result = self.open("video", "x")
        self.assertQuietly(0, result)
        self.assertEqual(self.shown()[0], result.out.decode().strip())

    def test_once_shows_a_file_that_is_there(self):
        self.file("there.png", b"x")
        self.assertQuietly(0, self.open("image", "x", "--once", "-o", "there.png"))
        self.assertTrue(self.shown()[0].endswith("/there.png"))
        self.assertEqual(self.gateway.requests, [])

    def test_an_address_that_we_would_not_open_is_not_handed_on(self):
        for url in ("file:///etc/passwd", "http://example.com/x.mp4", "-x"):
            self.gateway.on(
                "GET /v1/videos/generations/vgen_1",
                reply(200, {"id": "vgen_1", "status": "completed", "video_url": url}),
            )
            result = self.open("video", "--resume", "vgen_1")
            self.assertQuietly(3, result)
            self.assertFalse(self.said.exists())

    def test_without_a_program_it_is_a_warning(self):
        os.unlink(os.path.join(self.folder, "bin", NAME))
        result = self.open("image", "x", "-o", "x.png", environ={"PATH": f"{self.folder}/bin"})
        self.assertQuietly(0, result)
        self.assertIn(f"[warning] --open: there is no {NAME} here\n", result.err)
        self.assertEqual(result.out, b"x.png\n")

    def test_what_leaves_nothing_to_show_is_status_2(self):
        for words in (
            ["image", "x", "-o", "-"],
            ["image", "x", "--detach"],
            ["video", "x", "--detach"],
            ["video", "--list"],
            ["video", "--cancel", "vgen_1"],
        ):
            with self.subTest(words):
                result = self.call(*words, "--open")
                self.assertQuietly(2, result)
                self.assertIn("--open does not go with", result.err)
        self.assertEqual(self.gateway.requests, [])
