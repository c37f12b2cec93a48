"""Images that come in the answer to their request: asked for once, kept from their first byte, paid for and never lost."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import threading
from typing import Any
from unittest import mock

from alltoken_call.calls import tasks

from .gateway import COST, Gateway, png, raw, refuse, reply
from .harness import PATIENCE, Result
from .relay import HTML
from .relay_support import CHAT, EDIT, MAKE, RelayCase
from .task_support import held, normal, pieces, strike, trickle
from .test_kills import DYING

PICTURE = png(16, 16, noise=20_000)
WAN = ("image", "-m", "wan2.6-t2i", "a cat", "-o", "x.png")
GEMINI = ("image", "-m", "gemini-3.1-flash-image", "a cat", "-o", "x.png")
PATHS = ((WAN, MAKE), (GEMINI, CHAT))


def made(data: bytes = PICTURE, **fields: Any) -> bytes:
    """An answer of the images endpoint that holds an image."""
    entry = {"b64_json": base64.b64encode(data).decode(), "url": "", "revised_prompt": ""}
    return json.dumps({"created": 1, "data": [entry], **fields}).encode()


def said(content: Any, **fields: Any) -> Any:
    """A step: an answer of a chat."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content, **fields}, "finish_reason": "stop"}
    return reply(200, {"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}})


def inline(data: bytes = PICTURE) -> str:
    """A data URL."""
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


class AtOnce(RelayCase):
    def fresh(self) -> None:
        super().fresh()
        self.relay.requests.clear()

    def calls(self) -> list[str]:
        """The requests that came, but for the price list."""
        return [path for path in self.paths() if path != "GET /api/pricing"]

    def addressed(self, request: str, *steps: Any, count: int = 1) -> None:
        """Answer `request` with addresses on the CDN, the first of which is answered by `steps`."""
        urls = [f"{self.relay.url}/cdn/{number}.png" for number in range(count)]
        self.relay.files |= {f"{number}.png": PICTURE for number in range(count)}
        content = [{"image": url} for url in urls]
        self.relay.on(
            request, said(content) if request == CHAT else reply(200, {"data": [{"url": url} for url in urls]})
        )
        self.relay.on(f"GET /cdn/{count - 1}.png", *steps)

    def state_of(self) -> tuple[str | None, int | None]:
        """Status and exit status of the last row."""
        row = self.rows()[-1]
        return row["status"], row["exit_status"]

    def assertNothingLeft(self) -> None:
        """`image --resume` has nothing to do, and no spool or lock is left."""
        again = self.image("--resume")
        self.assertQuietly(1, again)
        self.assertIn("nothing_to_resume", again.err)
        self.assertEqual(self.kept(), [])


class Lost(AtOnce):
    """What happens if no answer comes, or one that is no image."""

    def test_an_answer_that_is_lost_is_status_12_and_never_asked_for_twice(self):
        steps = {
            "closed": raw(b""),
            "reset": raw(b"", then="reset"),
            "half a head": raw(b"HTTP/1.1 200 OK\r\nContent-Le"),
            "half a body": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"),
            "silent": raw(b"", then="hold"),
            "502": reply(502, b"<html>Bad gateway</html>"),
            "504": reply(504, b""),
            "524": reply(524, b"error code: 524"),
            "no JSON": reply(200, b"done"),
        }
        for argv, request in PATHS:
            for name, step in steps.items():
                with self.subTest(name, request=request):
                    self.fresh()
                    self.relay.on(request, step)
                    result = self.call(*argv, "--json", "--timeout", "0.2")
                    self.assertQuietly(12, result)
                    self.assertEqual(self.calls(), [request])
                    self.assertEqual(self.state_of(), ("unknown", 12))
                    self.assertEqual(self.cost(), (None, None))
                    error = result.document["error"]
                    self.assertIn("may be billed", error["message"])
                    self.assertIn("log", error["hint"])
                    self.assertIsNone(result.document["resume"])
                    self.assertNotIn("--resume", result.err)
                    self.assertPlace()
                    self.assertQuietly(1, self.image("--resume"))

    def test_what_came_of_a_lost_answer_is_kept(self):
        whole = made()
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(whole)
        for data in (head + whole[:9000], b"HTTP/1.1 200 OK\r\n\r\n" + whole[:9000]):
            self.fresh()
            self.relay.on(MAKE, raw(data))
            result = self.call(*WAN)
            self.assertQuietly(12, result)
            (kept,) = self.kept()
            self.assertIn(kept, result.err)
            self.assertHolds(os.path.join(self.state, kept), whole[:9000])

    def test_a_failure_that_the_gateway_tells_is_its_own(self):
        for status in (500, 502, 503, 504):
            self.fresh()
            self.relay.on(MAKE, refuse(status, "do_request_failed"))
            self.assertQuietly(5, self.call(*WAN))
            self.assertEqual(self.calls(), [MAKE])
            self.assertEqual(self.state_of(), ("refused", 5))
        for status in (500, 503, 520):  # without a word of the gateway
            self.fresh()
            self.relay.on(MAKE, reply(status, b"x"))
            self.assertQuietly(5, self.call(*WAN))
            self.assertEqual(self.calls(), [MAKE])

    def test_refusals_have_their_status_and_cost_nothing(self):
        for http, code, status in (
            (400, "model_price_error", 1),
            (401, "", 4),
            (403, "access_denied", 4),
            (403, "insufficient_user_quota", 6),
            (500, "sensitive_words_detected", 1),
            (503, "model_not_found", 1),
        ):
            for argv, request in PATHS:
                self.fresh()
                self.relay.on(request, refuse(http, code))
                self.assertQuietly(status, self.call(*argv))
                self.assertEqual(self.posts(), 1)
                self.assertEqual(self.cost(), (None, "none" if http < 500 else None))
                self.assertNothingLeft()

    def test_an_error_with_status_200_is_an_error(self):
        for document, status in (
            ({"error": {"message": "no", "code": "insufficient_user_quota"}}, 6),
            ({"error": "no"}, 1),
            ({"success": False, "message": "no"}, 1),
        ):
            for argv, request in PATHS:
                self.fresh()
                self.relay.on(request, reply(200, document))
                self.assertQuietly(status, self.call(*argv))
                self.assertNothingLeft()

    def test_too_many_requests_are_waited_for(self):
        self.relay.on(MAKE, reply(429, b""), reply(429, b""), normal)
        result = self.call(*WAN)
        self.assertQuietly(0, result)
        self.assertEqual((self.posts(), len(result.sleeps)), (3, 2))

    def test_what_never_left_is_status_3_and_cost_nothing(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{taken.getsockname()[1]}"
            result = self.call(*WAN, ALLTOKEN_RELAY_BASE_URL=url)
        self.assertQuietly(3, result)
        self.assertEqual((self.state_of(), self.cost()), (("refused", 3), (None, "none")))
        self.assertNothingLeft()

    def test_a_web_page_is_a_wrong_root(self):
        for argv, request in PATHS:
            for status in (200, 404):
                self.fresh()
                self.relay.on(request, reply(status, HTML))
                result = self.call(*argv)
                self.assertQuietly(3, result)
                self.assertIn("ALLTOKEN_RELAY_BASE_URL", result.err)
                self.assertNothingLeft()

    def test_a_refused_field_is_left_out_once(self):
        self.relay.refuses = {"max_tokens": 400, "temperature": 422}
        result = self.call(*GEMINI, "-p", "max_tokens=2000", "-p", "temperature=1.5")
        self.assertQuietly(0, result)
        self.assertEqual(self.posts(), 3)
        body = self.relay.images[-1]["body"]
        self.assertEqual((body["max_completion_tokens"], "temperature" in body), (2000, False))
        self.assertEqual(len(self.rows()), 1)

    def test_an_answer_without_an_image_is_status_9_with_the_text(self):
        text = "I cannot draw this. " * 30
        self.relay.on(CHAT, said(text))
        result = self.call(*GEMINI, "--json")
        self.assertQuietly(9, result)
        self.assertIn(text.strip(), result.err)
        self.assertIn(text.strip(), result.document["error"]["message"])
        self.assertEqual(result.document["usage"]["total_tokens"], 7)
        self.assertNothingLeft()
        for document in ({"created": 1, "data": []}, {"created": 1}, {"data": [{"url": "", "b64_json": ""}]}):
            self.relay.on(MAKE, reply(200, document))
            self.assertQuietly(9, self.call(*WAN))

    def test_what_is_not_an_image_is_status_9_and_kept(self):
        self.relay.on(MAKE, reply(200, made(b"no image, but as long as one")))
        result = self.call(*WAN)
        self.assertQuietly(9, result)
        self.assertEqual(len(self.kept()), 1)
        self.relay.image = b"<html>"
        self.relay.on(MAKE)
        self.assertQuietly(9, self.call(*WAN))
        self.assertPlace()

    def test_the_time_is_over(self):
        seen = threading.Event()
        for argv, request in PATHS:
            self.fresh()
            self.relay.on(request, held(seen))
            result = self.call(*argv, "--max-wait", "0.2")
            self.assertQuietly(12, result)
            self.assertIn("may be billed", result.err)
            self.assertNotIn("--resume", result.err)

    def test_a_signal_while_it_is_waited_for(self):
        for signum, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
            self.fresh()

            def step(exchange: Any, signum: int = signum) -> None:
                strike(signum)
                exchange.hold()

            self.relay.on(MAKE, step)
            with mock.patch.object(tasks, "GRACE", 0.1):
                result = self.call(*WAN, signals=True)
            self.assertQuietly(status, result)
            self.assertIn("may be billed", result.err)
            self.assertNotIn("--resume", result.err)
            self.assertEqual(self.state_of(), ("unknown", status))


class Found(AtOnce):
    """Images, wherever an answer has them."""

    def test_the_row_is_there_before_the_request_leaves(self):
        seen: list[dict[str, Any]] = []

        def step(exchange: Any) -> None:
            seen.append(self.rows()[-1])
            normal(exchange)

        for argv, request in PATHS:
            self.relay.on(request, step)
            self.assertQuietly(0, self.call(*argv, "--force"))
            row = seen[-1]
            self.assertEqual((row["gateway"], row["root"], row["status"]), ("relay", self.relay.url, "processing"))
            self.assertEqual((row["output"], row["exit_status"]), (os.path.abspath("x.png"), None))
            self.assertEqual(self.state_of(), ("completed", 0))
            self.assertRegex(self.rows()[-1]["request_id"], "Loopback$")
        self.assertEqual(len(self.rows()), 2)
        self.assertNothingLeft()

    def test_every_shape_of_a_chat(self):
        url = self.relay.publish(PICTURE, "png")
        for content, fields in (
            (f"Here: ![image]({inline()})", {}),
            (f"![image]({url})", {}),
            (f"![a cat]( <{url}> 'title' )", {}),
            ([{"image": url}], {}),
            ([{"type": "image_url", "image_url": {"url": inline()}}, {"type": "text", "text": "so"}], {}),
            ([{"type": "image_url", "image_url": url}], {}),
            ([{"type": "text", "text": f"![image]({url})"}], {}),
            ("", {"images": [{"type": "image_url", "image_url": {"url": inline()}}]}),
            (None, {"images": [{"image_url": {"url": url}}]}),
        ):
            with self.subTest(content=str(content)[:40]):
                self.relay.on(CHAT, said(content, **fields))
                self.assertQuietly(0, self.call(*GEMINI, "--force"))
                self.assertHolds("x.png", PICTURE)
                self.assertNotIn("modalities", self.body_of())  # which is OpenRouter's

    def test_several_images_are_several_files_in_order(self):
        others = [png(8, 8, noise=noise) for noise in (1, 2, 3)]
        text = " and ".join(f"![image]({inline(data)})" for data in others)
        self.relay.on(CHAT, said(text))
        result = self.call(*GEMINI)
        self.assertQuietly(0, result)
        self.assertEqual(result.out, b"x-1.png\nx-2.png\nx-3.png\n")
        for number, data in enumerate(others, 1):
            self.assertHolds(f"x-{number}.png", data)
        self.assertIn("[text] and and", result.err)

    def test_bytes_and_addresses_in_one_answer(self):
        url = self.relay.publish(PICTURE, "png")
        entries = [json.loads(made())["data"][0], {"url": url, "b64_json": ""}]
        self.relay.on(MAKE, reply(200, {"data": entries}))
        self.assertQuietly(0, self.call(*WAN, "-n", "2"))
        self.assertHolds("x-1.png", PICTURE)
        self.assertHolds("x-2.png", PICTURE)

    def test_a_data_url_in_an_address_is_the_image(self):
        self.relay.on(MAKE, reply(200, {"data": [{"url": inline()}]}))
        self.assertQuietly(0, self.call(*WAN))
        self.assertHolds("x.png", PICTURE)

    def test_fewer_than_were_asked_for_is_a_warning(self):
        self.relay.on(MAKE, reply(200, made()))
        result = self.call(*WAN, "-n", "3")
        self.assertQuietly(0, result)
        self.assertIn("[warning] 3 image(s) were asked for, 1 came", result.err)
        self.assertEqual(result.out, b"x-1.png\n")

    def test_a_model_that_always_makes_four_is_no_warning(self):
        result = self.call("image", "-m", "wan2.7-image", "x", "-o", "x.png", "-q")
        self.assertQuietly(0, result)
        self.assertEqual(result.err, "")

    def test_the_bytes_go_to_stdout(self):
        self.relay.image = PICTURE
        for argv in (WAN, GEMINI):
            result = self.call(*argv[:-1], "-")
            self.assertQuietly(0, result)
            self.assertEqual(result.out, PICTURE)
        self.assertNothingLeft()

    def test_the_server_of_an_address_learns_no_key(self):
        with Gateway() as cdn:
            other = f"{cdn.url}/files/a.png"
            cdn.tasks.image = PICTURE
            self.relay.on("GET /cdn/x", reply(302, b"", {"Location": other}))
            for url in (other, f"{self.relay.url}/cdn/x"):
                self.relay.on(MAKE, reply(200, {"data": [{"url": url}]}))
                self.assertQuietly(0, self.call(*WAN, "--force"))
                self.assertHolds("x.png", PICTURE)
            self.assertEqual([exchange.headers.get("Authorization") for exchange in cdn.requests], [None, None])
        keyed = [exchange.path for exchange in self.relay.requests if "Authorization" in exchange.headers]
        self.assertEqual(set(keyed), {MAKE.split()[1]})

    def test_an_address_that_is_not_https_is_told_and_not_opened(self):
        for url in ("http://cdn.example/x.png", "ftp://127.0.0.1/x.png", "file:///etc/passwd"):
            self.relay.on(MAKE, reply(200, {"data": [{"url": url}]}))
            result = self.call(*WAN)
            self.assertQuietly(3, result)
            self.assertIn(url, result.err)
            self.assertNotIn("--resume", result.err)
            self.assertNotEqual(self.cost()[1], "none")  # it was made
            self.assertPlace()

    def test_the_existing_file_is_seen_before_anything_is_sent(self):
        self.assertQuietly(0, self.call(*WAN))
        self.relay.requests.clear()
        self.assertQuietly(13, self.call(*WAN))
        self.assertEqual(self.calls(), [])

    def test_dry_run_shows_what_would_go_out(self):
        shown = self.call(*GEMINI, "--size", "2k", "--dry-run").document
        self.assertEqual((shown["method"], shown["url"]), ("POST", f"{self.relay.url}/v1/chat/completions"))
        self.assertEqual(shown["body"]["google"], {"image_config": {"image_size": "2K"}})
        path = self.file("in.png", PICTURE)
        shown = self.call(*WAN, "--edit", path, "--edit", path, "-p", "seed=1", "--dry-run").document
        self.assertEqual(f"POST {shown['url'].removeprefix(self.relay.url)}", EDIT)
        self.assertEqual((shown["body"]["seed"], len(shown["body"]["image"])), ("1", 2))
        self.assertEqual(self.calls(), [])


class Refused(AtOnce):
    """What has no place there is status 2, and nothing is sent."""

    def test_there_are_no_tasks(self):
        for argv in (*((*one, "--detach") for one, _ in PATHS), ("image", "--resume", "igen_1")):
            self.assertQuietly(2, self.call(*argv))
        self.assertEqual((self.calls(), self.rows()), ([], []))

    def test_options_without_a_field_are_named(self):
        path = self.file("in.png", PICTURE)
        many = [word for _ in range(15) for word in ("--edit", path)]
        for argv, options in (
            (WAN, ("--ratio", "16:9")),
            (WAN, ("-s", "a style")),
            (GEMINI, ("-n", "2")),
            (GEMINI, ("--quality", "low")),
            (GEMINI, ("--format", "png")),
            (GEMINI, ("--background", "opaque")),
            (GEMINI, ("--size", "1024x1024")),
            (GEMINI, ("--mask", path, "--edit", path)),
            (GEMINI, tuple(many)),
        ):
            with self.subTest(options[:2]):
                result = self.call(*argv, *options)
                self.assertQuietly(2, result)
                self.assertIn({"-s": "--system"}.get(options[0], options[0]), result.err)
        self.assertEqual((self.calls(), self.rows()), ([], []))

    def test_what_is_alltokens_alone_and_what_is_not(self):
        path = self.file("in.png", PICTURE)
        home = {"ALLTOKEN_GATEWAY": None}
        for options in (("--ratio", "1:1"), ("--via", "chat"), ("-s", "x"), ("--edit", path, "--edit", path)):
            self.assertQuietly(2, self.call("image", "x", *options, **home))
        self.assertEqual(self.gateway.requests, [])

    def test_via_chooses_the_endpoint(self):
        self.relay.models["wan2.6-t2i"] = self.relay.models["wan2.6-t2i"]._replace(kind="chat")
        self.assertQuietly(0, self.call("image", "-m", "gemini-3.1-flash-image", "--via", "chat", "x", "-o", "a.png"))
        self.assertQuietly(0, self.call(*WAN[:-1], "b.png", "--via", "chat"))
        self.assertEqual([path for path in self.calls() if "POST" in path], [CHAT, CHAT])
        self.assertQuietly(1, self.call(*GEMINI[:-1], "c.png", "--via", "images"))
        self.assertEqual(self.calls()[-1], MAKE)

    def test_ids_that_are_made_in_chats(self):
        for model, url in (
            ("gemini-3.1-flash-image", CHAT),
            ("google/gemini-2.5-flash-image-preview", CHAT),
            ("wan2.7-image-pro", CHAT),
            ("qwen-image-edit", CHAT),
            ("ali/qwen-image", CHAT),
            ("gpt-image-2", MAKE),
            ("wan2.6-t2i", MAKE),
            ("imagen-4", MAKE),
            ("gemini-3-flash", MAKE),
        ):
            shown = self.call("image", "-m", model, "x", "--dry-run").document
            self.assertEqual(f"POST {shown['url'].removeprefix(self.relay.url)}", url, model)


class Unplaced(AtOnce):
    """The answer is on the disk: from here on `image --resume` makes the image of it, and nobody is asked for it."""

    def assertResumed(self, *argv: str) -> None:
        """`image --resume` saves the image without a POST."""
        self.relay.requests.clear()
        result = self.image("--resume", *argv)
        self.assertQuietly(0, result)
        self.assertEqual(self.posts(), 0)
        self.assertHolds("x.png", PICTURE)
        self.assertEqual(self.state_of(), ("completed", 0))
        self.assertNothingLeft()

    def assertOffered(self, result: Result) -> None:
        """The last line is the resume command, which knows of no task that expires."""
        self.assertEqual(result.err.rstrip("\n").rpartition("\n")[2], "alltoken-call image --resume", result.err)

    def test_a_signal_while_the_answer_arrives_waits_for_its_end(self):
        whole = made()
        self.relay.on(MAKE, pieces(whole[:5000], whole[5000:], between=strike))
        result = self.call(*WAN, signals=True)
        self.assertQuietly(130, result)
        self.assertOffered(result)
        self.assertResumed()

    def test_the_deadline_does_not_cut_an_answer_that_arrives(self):
        whole = made()
        self.relay.on(MAKE, pieces(whole[:5000], whole[5000:], between=lambda: setattr(self.clock, "ahead", 700.0)))
        self.assertQuietly(0, self.call(*WAN))
        self.assertHolds("x.png", PICTURE)

    def test_an_address_that_does_not_answer_in_time_is_resumed(self):
        for argv, request in PATHS:
            self.fresh()
            self.addressed(request, reply(503, b""))
            result = self.call(*argv, "--max-wait", "30", "--json")
            self.assertQuietly(8, result)
            self.assertEqual(self.calls()[0], request)
            self.assertEqual(result.document["resume"], "alltoken-call image --resume")
            self.assertOffered(result)
            self.assertEqual(self.state_of(), ("unsaved", 8))
            self.assertNotEqual(self.cost()[1], "none")
            self.addressed(request, normal)
            self.assertResumed()

    def test_a_signal_during_a_download_is_resumed(self):
        def step(exchange: Any) -> None:
            strike()
            exchange.hold()

        self.addressed(MAKE, step, normal)
        result = self.call(*WAN, signals=True)
        self.assertQuietly(130, result)
        self.assertOffered(result)
        self.assertResumed()

    def test_what_is_there_already_is_not_in_the_way(self):
        self.addressed(MAKE, reply(503, b""), count=2)
        result = self.call(*WAN, "-n", "2", "--max-wait", "30")
        self.assertQuietly(8, result)
        self.assertOffered(result)
        self.assertPlace("x-1.png")
        self.addressed(MAKE, normal, count=2)
        self.relay.requests.clear()
        self.assertQuietly(0, self.image("--resume"))
        self.assertEqual(self.posts(), 0)
        self.assertPlace("x-1.png", "x-2.png")

    def test_an_address_where_nothing_is_any_more_is_status_11_and_nothing_is_left(self):
        for argv, request in PATHS:
            for http in (404, 403, 410):
                with self.subTest(http, request=request):
                    self.fresh()
                    self.addressed(request, reply(http, b""))
                    result = self.call(*argv, "--json")
                    self.assertQuietly(11, result)
                    self.assertEqual((self.state_of(), result.document["resume"]), (("gone", 11), None))
                    self.assertNotIn("--resume", result.err)
                    self.assertNotEqual(self.cost()[1], "none")
                    self.assertNothingLeft()

    def test_the_images_that_are_still_there_are_saved(self):
        self.addressed(MAKE, normal, count=3)
        self.relay.on("GET /cdn/0.png", reply(404, b""))
        result = self.call(*WAN, "-n", "3")
        self.assertQuietly(11, result)
        self.assertPlace("x-2.png", "x-3.png")
        self.assertNothingLeft()

    def test_another_place_may_be_named(self):
        self.addressed(MAKE, reply(503, b""))
        self.assertQuietly(8, self.call(*WAN, "--max-wait", "30"))
        self.addressed(MAKE, normal)
        self.assertQuietly(0, self.image("--resume", "-o", "y.png"))
        self.assertPlace("y.png")


class Killed(AtOnce):
    def die(self, where: str, moment: str, *argv: str) -> Result:
        """A run that is killed before or after a function of the package."""
        module, _, name = where.partition(":")
        how = (f"alltoken_call.{module}", name, moment, "1", str(int(signal.SIGKILL)))
        return self.execute(*how, *argv, code=DYING)

    def kill(self, *argv: str, seen: threading.Event) -> None:
        process = self.spawn(*argv)
        self.assertTrue(seen.wait(PATIENCE))
        process.kill()
        process.communicate(timeout=PATIENCE)
        self.assertEqual(process.returncode, -9)

    def assertClosed(self) -> Result:
        """`image --resume` says that it may be billed, and a second one that nothing is left."""
        self.assertEqual(self.state_of(), ("processing", None))
        posts = self.posts()
        result = self.image("--resume")
        self.assertQuietly(12, result)
        self.assertIn("may be billed", result.err)
        self.assertNotIn("--resume", result.err)
        self.assertEqual(self.state_of(), ("unknown", 12))
        again = self.image("--resume")
        self.assertQuietly(1, again)
        self.assertIn("nothing_to_resume", again.err)
        self.assertEqual(self.posts(), posts)
        return result

    def test_before_it_is_on_record_nothing_was_sent(self):
        self.assertEqual(self.die("calls.client:Client.record", "before", *WAN).status, -9)
        self.assertEqual((self.calls(), self.rows()), ([], []))
        self.assertQuietly(1, self.image("--resume"))

    def test_before_it_is_sent(self):
        self.assertEqual(self.die("calls.image:_ask", "before", *WAN).status, -9)
        self.assertEqual(self.calls(), [])
        self.assertClosed()

    def test_while_it_is_waited_for(self):
        for argv, request in PATHS:
            self.fresh()
            seen = threading.Event()
            self.relay.on(request, held(seen))
            self.kill(*argv, seen=seen)
            self.assertClosed()

    def test_with_half_an_answer(self):
        seen = threading.Event()
        self.relay.on(MAKE, trickle(made(), seen, threading.Event()))
        process = self.spawn(*WAN)
        self.assertTrue(seen.wait(PATIENCE))
        for _ in range(1000):
            spools = [name for name in self.kept() if name.startswith("spool")]
            if spools and os.path.getsize(os.path.join(self.state, spools[0])) == len(made()) // 2:
                break
            threading.Event().wait(0.01)
        process.kill()
        process.wait(PATIENCE)
        self.assertIn(spools[0], self.assertClosed().err)  # where the piece lies
        self.assertPlace()

    def test_with_the_answer_on_the_disk(self):
        for where, moment in (
            ("calls.landing:take_apart", "before"),
            ("calls.landing:save", "before"),
            ("store.files:put", "before"),
            ("store.files:put", "after"),
            ("calls.image:_finish", "before"),
        ):
            for argv, request, step in (
                (WAN, MAKE, reply(200, made())),
                (GEMINI, CHAT, said(f"![image]({inline()})")),
            ):
                with self.subTest(where, moment=moment, request=request):
                    self.fresh()
                    self.relay.on(request, step)
                    self.assertEqual(self.die(where, moment, *argv).status, -9)
                    self.assertEqual((self.calls(), self.state_of()), ([request], ("processing", None)))
                    result = self.image("--resume")
                    self.assertQuietly(0, result)
                    self.assertEqual(result.out.decode().strip(), os.path.abspath("x.png"))
                    self.assertHolds("x.png", PICTURE)
                    self.assertEqual(self.calls(), [request])
                    self.assertNothingLeft()

    def test_before_an_address_is_opened(self):
        self.relay.image = PICTURE
        self.assertEqual(self.die("calls.landing:fetch_copy", "before", *WAN).status, -9)
        self.assertEqual(self.calls(), [MAKE])
        self.assertQuietly(0, self.image("--resume"))
        self.assertHolds("x.png", PICTURE)
        self.assertEqual(self.posts(), 1)
        self.assertNothingLeft()

    def test_a_run_that_lives_is_left_alone(self):
        seen, go = threading.Event(), threading.Event()
        self.relay.on(MAKE, held(seen, go, reply(200, made())))
        process = self.spawn(*WAN)
        self.assertTrue(seen.wait(PATIENCE))
        result = self.image("--resume")
        self.assertQuietly(8, result)
        self.assertEqual(self.state_of(), ("processing", None))
        go.set()
        out, err = process.communicate(timeout=PATIENCE)
        self.assertEqual((process.returncode, out), (0, b"x.png\n"), err)
        self.assertEqual(self.state_of(), ("completed", 0))
        self.assertNothingLeft()


class Costs(AtOnce):
    """A figure in the answer, where the dialect believes it."""

    def cost_of(self, gateway: str, usage: dict[str, Any] | None, headers: dict[str, str] | None = None) -> Any:
        document = json.loads(made()) | ({"usage": usage} if usage else {})
        self.relay.on(MAKE, reply(200, document, headers))
        relay = self.settings("own", self.relay, "openai")
        result = self.call(*WAN, "--force", "--json", "--gateway", gateway, **relay)
        self.assertQuietly(0, result)
        return result.document["cost"]["usd"]

    def test_by_dialect(self):
        usage = {"input_tokens": 10, "output_tokens": 272, "cost": 0.04}
        header = {"x-litellm-response-cost": "0.03"}
        self.assertEqual(self.cost_of("own", usage, header), "0.04")
        self.assertEqual(self.cost_of("own", None, header), "0.03")
        self.assertNotIn(self.cost_of("relay", usage, header), ("0.04", "0.03"))

    def test_the_comment_of_chats_has_no_meaning_here(self):
        self.relay.on(MAKE, reply(200, made() + b"\n" + COST.strip()))
        self.assertQuietly(12, self.call(*WAN))


class OpenAI(AtOnce):
    dialect = "openai"

    def test_images_at_once_and_edited(self):
        for model in ("gpt-image-1", "dall-e-3"):
            result = self.call("image", "-m", model, "--size", "1024x1024", "a cat", "-o", f"{model}.png")
            self.assertQuietly(0, result)
            self.assertEqual(self.relay.images[-1]["body"]["n"], 1)
            self.assertNotIn("response_format", self.relay.images[-1]["body"])
        self.assertQuietly(0, self.call("image", "-m", "gpt-image-1", "--edit", "gpt-image-1.png", "x", "-o", "e.png"))
        self.assertEqual(len(self.relay.images[-1]["references"]), 1)


class OpenRouter(AtOnce):
    dialect = "openrouter"
    name = "openrouter"
    PAINT = ("image", "-m", "google/gemini-3.1-flash-image", "a cat", "-o", "x.png")

    def test_everything_goes_through_chat(self):
        result = self.call(*self.PAINT, "--size", "1K", "--ratio", "4:3", "--json")
        self.assertQuietly(0, result)
        body = self.body_of()
        self.assertEqual((self.calls(), body["modalities"]), ([CHAT], ["image", "text"]))
        self.assertEqual(body["google"]["image_config"], {"image_size": "1K", "aspect_ratio": "4:3"})
        self.assertEqual((body["stream"], result.document["cost"]["source"]), (False, "gateway"))
        shown = self.call("image", "-m", "openai/gpt-image-2", "x", "--dry-run").document
        self.assertTrue(shown["url"].endswith("/v1/chat/completions"))
        self.assertQuietly(2, self.call(*self.PAINT, "--via", "images", "--force"))

    def test_a_model_that_only_talks_is_status_9(self):
        self.relay.on(CHAT, said("Here is no image."))
        result = self.call(*self.PAINT)
        self.assertQuietly(9, result)
        self.assertIn("Here is no image.", result.err)

    def test_videos_are_status_2(self):
        self.assertQuietly(2, self.call("video", "-m", "google/veo-3", "x"))
        self.assertEqual(self.calls(), [])


class LiteLLM(AtOnce):
    dialect = "litellm"

    def test_images_at_once_and_through_chat(self):
        result = self.call("image", "-m", "dall-e-3", "a cat", "-o", "a.png", "--json")
        self.assertQuietly(0, result)
        self.assertEqual(result.document["cost"], {"usd": "0.04", "source": "gateway"})
        self.assertQuietly(0, self.call("image", "-m", "gemini/gemini-3.1-flash-image", "a cat", "-o", "b.png"))
        self.assertEqual(self.calls()[-1], CHAT)
