"""`generate_image` and `generate_video`: the commands' promises, silently, beside a program's own signal handlers."""

from __future__ import annotations

import os
import signal
import threading
import time
from unittest import mock

from alltoken_call import CallError, generate_image, generate_video
from alltoken_call.errors import UsageError

from ..gateway import KEY, refuse, reply
from ..harness import PATIENCE
from ..task_support import GET_IMAGE, GET_VIDEO, IGEN, IMAGE, VGEN, VIDEO, document, entry
from .support import AgentCase

SLOW_IMAGE = """
from alltoken_call import generate_image
try:
    generate_image("a fox", "fox.png")
except KeyboardInterrupt:
    print("interrupted")
"""


class MediaCase(AgentCase):
    def setUp(self) -> None:
        super().setUp()
        before = os.getcwd()
        os.chdir(self.folder)
        self.addCleanup(os.chdir, before)

    def read(self, path: str) -> bytes:
        with open(path, "rb") as file:
            return file.read()

    def spools(self) -> list[str]:
        folder = os.path.join(self.environ["XDG_STATE_HOME"], "alltoken-call", "spool")
        return os.listdir(folder) if os.path.isdir(folder) else []


class Image(MediaCase):
    def test_an_image_is_saved_and_recorded_as_by_the_command(self):
        self.assertEqual(self.call("image", "a fox", "-o", "one.png").status, 0)
        self.assertEqual(generate_image("a fox", "two.png"), ["two.png"])
        self.assertEqual(self.read("two.png"), self.gateway.tasks.image)
        first, second = self.rows("command, model, status, prompt_tokens, completion_tokens, cost, source, exit_status")
        self.assertEqual(first, second)
        places = [os.path.basename(row[0]) for row in self.rows("output")]
        self.assertEqual((places, self.spools()), (["one.png", "two.png"], []))
        bodies = [one.json for one in self.gateway.requests if one.path.endswith("async")]
        self.assertEqual(bodies[0], bodies[1])

    def test_every_option_goes_out_and_a_directory_takes_a_name_of_ours(self):
        os.mkdir("pictures")
        found = generate_image(
            "a fox", "pictures", size="1536x1024", quality="high", format="jpeg", background="opaque", count=2,
            model="gpt-image-2", params={"moderation": "low"},
        )  # fmt: skip
        body = next(one.json for one in self.gateway.requests if one.path.endswith("async"))
        self.assertEqual(
            body,
            {"model": "gpt-image-2", "prompt": "a fox", "size": "1536x1024", "quality": "high"}
            | {"output_format": "jpeg", "background": "opaque", "n": 2, "moderation": "low"},
        )
        self.assertEqual(len(found), 2)
        for path in found:
            self.assertRegex(path, r"^pictures/alltoken-image-[0-9a-f]{8}-[12]\.jpg$")
            self.assertTrue(os.path.isfile(path))
        self.assertRegex(generate_image("a fox")[0], r"^\./alltoken-image-[0-9a-f]{8}\.png$")

    def test_an_edit_uploads_its_files(self):
        self.file("old.png", self.gateway.tasks.image)
        generate_image("with a hat", "new.png", edit="old.png", mask="old.png")
        body = next(one.json for one in self.gateway.requests if one.path.endswith("edits"))
        self.assertEqual(set(body) & {"image_upload_id", "mask_upload_id"}, {"image_upload_id", "mask_upload_id"})

    def test_status_words_and_the_whole_value_are_told_in_the_callers_thread(self):
        waiting = [reply(200, {"id": IGEN, "status": word, "next_poll_after_ms": 1}) for word in ("queued", "queued")]
        waiting.append(reply(200, {"id": IGEN, "status": "processing", "next_poll_after_ms": 1}))
        self.gateway.on(
            GET_IMAGE, *waiting, reply(200, document(entry(self.gateway.tasks.image), usage={"total_tokens": 3}))
        )
        words, done, threads = [], [], set()

        def on_status(word: str) -> None:
            words.append(word)
            threads.add(threading.current_thread())

        generate_image("a fox", "fox.png", on_status=on_status, on_done=done.append)
        self.assertEqual((words, threads), (["queued", "processing"], {threading.current_thread()}))
        self.assertEqual((done[0].files, done[0].task_id, done[0].status), (["fox.png"], IGEN, "completed"))
        self.assertEqual((done[0].usage, done[0].cost.source), ({"total_tokens": 3}, None))

    def test_what_cannot_be_is_refused_before_anything_is_sent(self):
        self.file("there.png", b"mine")
        for status, arguments, options in (
            (13, ("a fox", "there.png"), {}),
            (13, ("a fox", "nowhere/"), {}),
            (2, ("a fox", "-"), {}),
            (2, (" ",), {}),
            (2, ("a fox",), {"mask": "there.png"}),
            (2, ("a fox",), {"edit": "there.png"}),
            (2, ("a fox",), {"count": 0}),
            (2, ("a fox",), {"params": {"model": "x"}}),
            (2, ("a fox",), {"ratio": "16:9"}),
            (2, ("a fox",), {"max_wait": -1}),
            (4, ("a fox",), {"api_key": "a key"}),
        ):
            with self.subTest(arguments, **options):
                error = self.failure(generate_image, *arguments, **options)
                self.assertEqual(int(error.status), status)
        self.assertEqual((self.gateway.requests, self.read("there.png"), self.rows()), ([], b"mine", []))
        self.assertEqual(generate_image("a fox", "there.png", force=True), ["there.png"])

    def test_a_failure_has_the_task_and_its_row_and_the_command_line_takes_it_up(self):
        self.gateway.on(GET_IMAGE, reply(200, {"id": IGEN, "status": "processing"}))
        error = self.failure(generate_image, "a fox", "fox.png", max_wait=0.3)
        self.assertEqual((int(error.status), error.partial.task_id), (8, IGEN))
        self.assertEqual(self.rows("task_id, status, exit_status"), [(IGEN, "processing", 8)])
        self.gateway.on(GET_IMAGE, reply(200, document(entry(self.gateway.tasks.image))))
        result = self.call("image", "--resume")
        self.assertEqual((result.status, self.read("fox.png")), (0, self.gateway.tasks.image), result.err)

    def test_a_refusal_and_a_lost_submit_are_the_commands_errors(self):
        self.gateway.on(IMAGE, refuse(402, "insufficient_balance"))
        error = self.failure(generate_image, "a fox", "fox.png")
        self.assertEqual(
            (error.code, int(error.status), error.partial.cost.source), ("insufficient_balance", 6, "none")
        )
        self.gateway.on(VIDEO, lambda exchange: exchange.reset())
        error = self.failure(generate_video, "a fox")
        self.assertEqual((error.code, int(error.status)), ("unknown_outcome", 12))
        self.assertEqual(self.rows("command, status, exit_status"), [("image", "refused", 6), ("video", "unknown", 12)])

    def test_what_a_handler_raises_ends_the_wait_and_the_task_can_be_taken_up(self):
        self.gateway.on(GET_IMAGE, reply(200, {"id": IGEN, "status": "queued"}))

        def fail(_):
            raise ZeroDivisionError

        with self.assertRaises(ZeroDivisionError):
            generate_image("a fox", "fox.png", on_status=fail)
        self.assertEqual(self.rows("task_id, status, exit_status"), [(IGEN, "queued", 130)])

    def test_where_nobody_tells_the_dialect_there_is_a_row_that_cost_nothing(self):
        closed = "http://127.0.0.1:1"
        for make, command in ((generate_image, "image"), (generate_video, "video")):
            with self.assertRaises(CallError) as caught:
                make("a fox", model="m", gateway="relay", base_url=closed, api_key=KEY)
            error = caught.exception
            self.assertEqual((error.status, error.partial.cost.source), (3, "none"))
            row = self.rows("command, gateway, model, status, cost, source, exit_status")[-1]
            self.assertEqual(row, (command, "relay", "m", "refused", None, "none", 3))

    def test_the_budget_and_ledger_false_hold(self):
        with mock.patch.dict(os.environ, ALLTOKEN_BUDGET="0/day"):
            self.assertEqual(self.failure(generate_image, "a fox").code, "budget")
        generate_image("a fox", "fox.png", ledger=False)
        self.assertEqual(self.rows(), [])


class Signals(MediaCase):
    def answer_slowly(self) -> threading.Event:
        """The image's answer comes in two halves, the second one after a while; set once the first is on its way."""
        begun = threading.Event()
        data = document(entry(self.gateway.tasks.image), padding="x" * (1 << 18))

        def slow(exchange) -> None:
            exchange.head(200, {"Content-Length": str(len(data))})
            exchange.raw(data[: 1 << 17])
            begun.set()
            self.gateway.stopping.wait(0.7)
            exchange.raw(data[1 << 17 :])

        self.gateway.on(GET_IMAGE, slow)
        return begun

    def test_an_interrupt_while_the_image_arrives_loses_nothing(self):
        begun = self.answer_slowly()
        done = self.program(SLOW_IMAGE, interrupt=begun.is_set)
        self.assertEqual((done.stdout, done.stderr, done.returncode), ("interrupted\n", "", 0))
        self.gateway.on(GET_IMAGE, refuse(410, "image_already_retrieved"))
        if not os.path.exists("fox.png"):  # as with the command: the whole answer lies in the spool
            self.assertEqual(self.call("image", "--resume").status, 0)
        self.assertEqual(self.read("fox.png"), self.gateway.tasks.image)

    def test_an_interrupt_while_the_task_is_waited_for_ends_at_once_and_it_can_be_taken_up(self):
        for step in (reply(200, {"id": IGEN, "status": "queued", "next_poll_after_ms": 60000}), lambda one: one.hold()):
            self.gateway.on(GET_IMAGE, step)
            begun = time.monotonic()
            count = self.gateway.count(GET_IMAGE)
            done = self.program(SLOW_IMAGE, interrupt=lambda count=count: self.gateway.count(GET_IMAGE) > count)
            self.assertEqual((done.stdout, done.stderr), ("interrupted\n", ""))
            self.assertLess(time.monotonic() - begun, 5)
            self.gateway.tasks.all.clear()  # the next one has the same id
        self.assertEqual(self.rows("task_id, exit_status"), [(IGEN, 130)])
        self.gateway.on(GET_IMAGE, reply(200, document(entry(self.gateway.tasks.image))))
        self.assertEqual((self.call("image", "--resume").status, self.read("fox.png")), (0, self.gateway.tasks.image))

    def test_a_programs_handlers_stay_and_are_called(self):
        begun = self.answer_slowly()
        called = []
        before = signal.signal(signal.SIGUSR1, lambda *_: called.append(1))
        self.addCleanup(signal.signal, signal.SIGUSR1, before)
        handlers = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        thread = threading.Thread(target=lambda: begun.wait(PATIENCE) and os.kill(os.getpid(), signal.SIGUSR1))
        thread.start()
        self.assertEqual(generate_image("a fox", "fox.png"), ["fox.png"])
        thread.join()
        self.assertEqual(called, [1])
        self.assertEqual({name: signal.getsignal(name) for name in handlers}, handlers)


class Video(MediaCase):
    def test_without_a_place_it_is_the_url_and_with_one_the_file(self):
        url = generate_video("waves")
        self.assertEqual(url, f"{self.gateway.url}/files/{VGEN}.mp4?signature=loopback")
        self.assertEqual(generate_video("waves", "waves.mp4"), "waves.mp4")
        self.assertEqual(self.read("waves.mp4"), self.gateway.tasks.video)
        self.assertEqual(self.rows("command, status, exit_status"), [("video", "completed", 0)] * 2)

    def test_every_option_goes_out(self):
        self.file("first.png", self.gateway.tasks.image)
        done = []
        generate_video(
            "waves", model="seedance-2.0", duration=8, ratio="9:16", resolution="720p", audio=False, seed=7,
            first_frame="first.png", last_frame="https://example.com/last.png", references=["https://example.com/a.mp4"],
            params={"watermark": True}, on_done=done.append,
        )  # fmt: skip
        body = next(one.json for one in self.gateway.requests if one.method == "POST" and "videos" in one.path)
        wanted = {"model": "seedance-2.0", "duration": 8, "ratio": "9:16", "resolution": "720p", "seed": 7}
        self.assertLessEqual((wanted | {"generate_audio": False, "watermark": True}).items(), body.items())
        self.assertEqual([part["role"] for part in body["content"]], ["first_frame", "last_frame", "reference_video"])
        self.assertEqual((done[0].facts["resolution"], done[0].usage["total_tokens"]), ("720p", 48000))

    def test_a_task_that_fails_is_status_10(self):
        self.gateway.on(GET_VIDEO, reply(200, {"id": VGEN, "status": "failed", "error": {"message": "no"}}))
        self.assertEqual(int(self.failure(generate_video, "waves").status), 10)

    def test_a_task_without_an_end_is_taken_up_by_the_command(self):
        self.gateway.on(GET_VIDEO, reply(200, {"id": VGEN, "status": "queued"}))
        self.assertEqual(int(self.failure(generate_video, "waves", "waves.mp4", max_wait=0.3).status), 8)
        self.gateway.on(GET_VIDEO)
        del self.gateway._scripts[GET_VIDEO]
        self.assertEqual(self.call("video", "--resume").status, 0)
        self.assertEqual(self.read("waves.mp4"), self.gateway.tasks.video)


class Several(MediaCase):
    def test_eight_at_once_in_threads_of_their_own(self):
        found: dict[int, object] = {}

        def make(number: int) -> None:
            try:
                made = generate_video if number % 2 else generate_image
                found[number] = made(f"number {number}", f"{number}.{'mp4' if number % 2 else 'png'}")
            except CallError as error:
                found[number] = error

        threads = [threading.Thread(target=make, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(found, {n: f"{n}.mp4" if n % 2 else [f"{n}.png"] for n in range(8)})
        self.assertEqual(self.rows("exit_status"), [(0,)] * 8)

    def test_elsewhere_the_model_has_to_be_named(self):
        error = self.failure(generate_image, "a fox", gateway="openai", api_key=KEY)
        self.assertEqual((type(error), error.code), (UsageError, "no_model"))
