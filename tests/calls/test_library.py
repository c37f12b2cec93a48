"""calls/ as a library: values in, events and a value out, and nothing of the command line."""

from __future__ import annotations

import os
import subprocess

from alltoken_call import config
from alltoken_call.calls.chat import ask
from alltoken_call.calls.client import Client
from alltoken_call.calls.image import make_image
from alltoken_call.calls.video import make_video
from alltoken_call.errors import CallError, ExitStatus
from alltoken_call.net.clock import Clock
from alltoken_call.values import Film, Picture, Reasoning, Stored, Submitted, Text, Waiting

from ..gateway import CHAT, COST, DONE, delta, event, frames, refuse, reply, stream
from ..harness import PYTHON, ROOT, Case
from ..task_support import GET_IMAGE, GET_VIDEO, IGEN, IMAGE, VGEN, document, entry

BODY = {"model": "gpt-5.4-mini", "messages": [{"role": "user", "content": "hi"}], "stream": True}
FOX = Picture("gpt-image-2", "a fox")
FILM = Film("seedance-1.5-pro", "a fox")
CHECK = """
import sys
strange = [name for name in sys.modules if name.startswith(("alltoken_call.cli", "alltoken_call.commands", "argparse"))]
assert not strange, strange
"""


class Programs(Case):
    """Five lines of Python, in a process of their own."""

    def python(self, script: str) -> str:
        done = subprocess.run(
            [*PYTHON, "-c", script + CHECK],
            env={**self.environ, "PYTHONPATH": str(ROOT)},
            cwd=self.folder,
            capture_output=True,
            timeout=20,
            check=False,
        )
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        return done.stdout.decode()

    def test_a_chat_in_five_lines_loads_nothing_of_the_command_line(self):
        self.gateway.on(CHAT, stream(frames("Grüße") + DONE + COST))
        out = self.python("""
import os
from alltoken_call import config
from alltoken_call.calls import chat, client
gateway = config.gateway(os.environ)
gateway = client.Client(gateway, key=config.api_key(os.environ, gateway))
answer = chat.ask(gateway, {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True})
print(ascii((answer.text, answer.cost.usd, answer.usage["total_tokens"], answer.request_id)))
""")
        self.assertEqual(out, ascii(("Grüße", "0.0000188000", 31, "req_loopback_1")) + "\n")

    def test_an_image_in_five_lines_loads_nothing_of_the_command_line(self):
        out = self.python("""
import os
from alltoken_call import config
from alltoken_call.calls import client, image
from alltoken_call.values import Picture
gateway = config.gateway(os.environ)
gateway = client.Client(gateway, key=config.api_key(os.environ, gateway))
saved = image.make_image(gateway, Picture("gpt-image-2", "a fox", count=2), target="fox.png")
print(saved.files, saved.task_id, saved.status, saved.cost.usd)
""")
        self.assertEqual(out, f"['fox-1.png', 'fox-2.png'] {IGEN} completed None\n")
        for name in ("fox-1.png", "fox-2.png"):
            with open(os.path.join(self.folder, name), "rb") as file:
                self.assertEqual(file.read(), self.gateway.tasks.image)
        self.assertEqual(sorted(os.listdir(self.folder)), ["fox-1.png", "fox-2.png"])


class Values(Case):
    def setUp(self) -> None:
        super().setUp()
        self.events = []
        self.target = os.path.join(self.folder, "fox.png")

    def client(self, max_wait: float = 60.0) -> Client:
        gateway = config.gateway(self.environ)
        return Client(
            gateway,
            key=config.api_key(self.environ, gateway),
            clock=Clock(max_wait=max_wait),
            on_event=self.events.append,
            state=os.path.join(self.folder, "state"),
        )

    def texts(self, kind: type[Text]) -> list[str]:
        return [one.text for one in self.events if type(one) is kind]

    def test_a_chat_emits_its_pieces_and_returns_them_whole(self):
        self.gateway.on(
            CHAT, stream(event(delta(reasoning_content="hm")), event(delta("a")), frames("b") + DONE + COST)
        )
        answer = ask(self.client(), BODY)
        self.assertEqual((self.texts(Reasoning), "".join(self.texts(Text))), (["hm"], "ab"))
        self.assertEqual((answer.text, answer.reasoning, answer.model), ("ab", "hm", "gpt-5.4-mini"))
        self.assertEqual((answer.cost.usd, answer.cost.source), ("0.0000188000", "gateway"))

    def test_an_image_emits_its_id_before_anything_else_of_it(self):
        self.gateway.on(GET_IMAGE, reply(200, {"status": "processing", "next_poll_after_ms": 1}), reply(200, DOCUMENT))
        saved = make_image(self.client(), FOX, target=self.target)
        kinds = [type(one) for one in self.events if isinstance(one, (Submitted, Waiting, Stored))]
        self.assertEqual((kinds[0], kinds[-1]), (Submitted, Stored))
        self.assertIn(Waiting, kinds)
        self.assertEqual((saved.files, saved.status, saved.resumable), ([self.target], "completed", False))

    def test_a_detached_image_is_returned_as_soon_as_it_exists(self):
        saved = make_image(self.client(), FOX, target=self.target, detach=True)
        self.assertEqual((saved.task_id, saved.files, saved.resumable), (IGEN, [], True))
        self.assertEqual(self.gateway.count(GET_IMAGE), 0)

    def failure(self, call, *arguments, **options) -> CallError:
        with self.assertRaises(CallError) as caught:
            call(*arguments, **options)
        return caught.exception

    def test_the_error_of_a_cut_answer_has_its_text(self):
        self.gateway.on(CHAT, stream(event(delta("kept", reasoning_content="hm")), "cut"))
        error = self.failure(ask, self.client(), BODY)
        self.assertEqual((error.status, error.code), (ExitStatus.CUT_SHORT, "connection_lost"))
        found = error.partial
        self.assertEqual((found.text, found.reasoning, found.cost.usd, found.cost.source), ("kept", "hm", None, None))
        self.assertEqual((error.request_id, found.request_id), ("req_loopback_1", "req_loopback_1"))

    def test_the_error_of_a_refused_chat_says_that_nothing_was_bought(self):
        self.gateway.on(CHAT, refuse(402, "insufficient_balance"))
        error = self.failure(ask, self.client(), BODY)
        self.assertEqual((error.status, error.http, error.code), (ExitStatus.CREDIT, 402, "insufficient_balance"))
        self.assertEqual((error.partial.text, error.partial.cost.source), (None, "none"))

    def test_the_error_of_a_pending_task_has_its_id_and_what_may_be_resumed(self):
        for poll, call, wanted, task_id in (
            (GET_IMAGE, make_image, FOX, IGEN),
            (GET_VIDEO, make_video, FILM, VGEN),
        ):
            with self.subTest(task_id):
                self.gateway.tasks.all.clear()
                self.gateway.on(poll, reply(200, {"id": task_id, "status": "processing"}))
                error = self.failure(call, self.client(max_wait=0.3), wanted, target=self.target)
                self.assertEqual((error.status, error.code), (ExitStatus.PENDING, "pending"))
                found = error.partial
                self.assertEqual((found.task_id, found.status, found.resumable), (task_id, "processing", True))
                self.assertEqual((found.files, found.target), ([], self.target))

    def test_the_error_of_a_lost_submit_has_no_id_and_an_unknown_cost(self):
        self.gateway.on(IMAGE, lambda exchange: exchange.reset())
        client = self.client()
        client.clock.sleep = lambda _: None
        error = self.failure(make_image, client, FOX, target=self.target)
        self.assertEqual((error.status, error.partial.task_id), (ExitStatus.UNKNOWN, None))
        self.assertEqual((error.partial.tried, error.partial.cost.source), (True, None))

    def test_what_is_refused_here_was_not_tried(self):
        self.file("fox.png", b"somebody else's")
        error = self.failure(make_image, self.client(), FOX, target=self.target)
        self.assertEqual((error.status, self.gateway.requests), (ExitStatus.CANNOT_WRITE, []))

    def test_a_raised_error_is_left_as_it_is_by_those_it_passes(self):
        self.gateway.on(CHAT, refuse(401, "invalid_api_key"))
        first = self.failure(ask, self.client(), BODY)
        before = dict(vars(first))
        again = CallError.of(first, hint="another")
        self.assertEqual((vars(first), again.hint, again.partial), (before, "another", first.partial))


DOCUMENT = document(entry(b"\x89PNG\r\n\x1a\n" + bytes(40)))
