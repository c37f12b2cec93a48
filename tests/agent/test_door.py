"""`import alltoken_call`: it loads nothing, names are there when they are used, and the help reads well."""

from __future__ import annotations

import inspect
import os
import pydoc
import re
import subprocess
import unittest

import alltoken_call
from alltoken_call import Agent, generate_image
from alltoken_call.agent import events

from ..gateway import CHAT, refuse
from ..harness import PYTHON, ROOT
from ..loop_support import calling, saying
from .support import AgentCase

NAMES = ("Agent", "CallError", "Event", "Tool", "ToolCall", "Unfinished", "generate_image", "generate_video")
IMPORTS = """
import importlib, os, sys, time
os.makedirs("empty_package", exist_ok=True)
open("empty_package/__init__.py", "w").close()
sys.path.insert(0, "")
def seconds(name):
    sys.modules.pop(name, None)
    begun = time.perf_counter()
    importlib.import_module(name)
    return time.perf_counter() - begun
print(min(seconds("alltoken_call") for _ in range(30)) - min(seconds("empty_package") for _ in range(30)))
"""


class Door(AgentCase):
    def test_an_import_takes_less_than_a_millisecond_more_than_that_of_an_empty_package(self):
        done = self.program(IMPORTS)
        self.assertEqual(done.stderr, "")
        self.assertLess(float(done.stdout), 0.001)

    def test_each_name_is_loaded_when_it_is_used_and_the_command_line_is_not(self):
        script = (
            "import sys, alltoken_call\n"
            "print([name for name in sys.modules if name.startswith('alltoken_call')])\n"
            f"for name in {NAMES}: getattr(alltoken_call, name)\n"
            "print([n for n in sys.modules if n.startswith(('alltoken_call.cli', 'alltoken_call.commands', 'argparse'))])\n"
            "from alltoken_call import *\nprint(Agent.__module__)\n"
        )
        done = self.program(script)
        self.assertEqual((done.stdout, done.stderr), ("['alltoken_call']\n[]\nalltoken_call.agent.agent\n", ""))

    def test_a_name_that_there_is_not_is_an_attribute_error(self):
        with self.assertRaisesRegex(AttributeError, "Agnet"):
            _ = alltoken_call.Agnet
        self.assertLessEqual(set(NAMES), set(dir(alltoken_call)))
        self.assertEqual(sorted(alltoken_call.__all__), sorted(NAMES))

    def test_the_package_is_typed(self):
        self.assertTrue(os.path.exists(ROOT / "alltoken_call" / "py.typed"))


class Readme(AgentCase):
    def test_its_example_runs_as_it_stands(self):
        self.gateway.on(CHAT, calling("weather"), saying("No rain."))
        done = self.program(example())
        self.assertEqual(done.stderr, "")
        shown = "[weather {'city': 'Bern'}]\nNo rain.\ncost: 0.0000376000\n['lighthouse.png']\n"
        self.assertEqual(done.stdout, shown)
        self.assertTrue(os.path.isfile(os.path.join(self.folder, "lighthouse.png")))

    def test_its_example_tells_an_error_and_a_limit(self):
        self.gateway.on(CHAT, refuse(402, "insufficient_balance"))
        self.assertIn("insufficient_balance", self.program(example()).stdout)
        self.gateway.on(CHAT, calling("weather"))
        self.assertIn("the limit of 10 request(s)", self.program(example().replace("lighthouse.png", "b.png")).stdout)

    def test_its_example_is_short(self):
        self.assertLessEqual(len([line for line in example().splitlines() if line.strip()]), 20)

    def test_each_event_has_a_line_with_its_fields(self):
        text = (ROOT / "README.md").read_text("utf-8")
        for event in events.ALL:
            fields = ", ".join(f"`{field}`" for field in event.fields)
            self.assertIn(f"| `{event.name}` | {fields}{' ' if fields else ''}|", text)


def example() -> str:
    """The Python program of the README's part on Python."""
    part = (ROOT / "README.md").read_text("utf-8").partition("## From Python")[2]
    return re.search(r"```python\n(.*?)```", part, re.DOTALL)[1]


class Help(unittest.TestCase):
    def test_of_the_package_shows_how_to_begin_and_every_name(self):
        text = pydoc.render_doc(alltoken_call, renderer=pydoc.plaintext)
        self.assertIn("with Agent(", text)
        for name in NAMES:
            self.assertRegex(text, rf"\b{name}\b")
        self.assertNotIn("<object object", text)

    def test_of_agent_explains_every_parameter_method_and_event(self):
        about = Agent.__doc__
        for name in inspect.signature(Agent).parameters:
            self.assertRegex(about, rf"\n *{name} +\w", name)
        for name in dir(Agent):
            if not name.startswith("_"):
                self.assertTrue(getattr(Agent, name).__doc__, name)
        for event in events.ALL:
            fields = f" ({', '.join(event.fields)})" if event.fields else ""
            self.assertIn(f"{event.name}{fields}", " ".join(Agent.on.__doc__.split()))

    def test_of_the_media_helpers_says_what_they_return(self):
        self.assertIn("paths of the files", generate_image.__doc__)

    def test_the_typed_program_runs_nothing_when_it_is_imported(self):
        path = ROOT / "tests" / "agent" / "typed_program.py"
        done = subprocess.run(
            [*PYTHON, str(path)], env={"PYTHONPATH": str(ROOT)}, capture_output=True, timeout=30, check=False
        )
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"", b""))
