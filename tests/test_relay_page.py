"""The OpenClaw Token relay's page, example by example, with one command each: what arrives there, what the user gets."""

from __future__ import annotations

import os
import struct
from typing import Any

from .gateway import png
from .harness import Result
from .relay_media import JPEG
from .relay_support import CHAT, COMPLETIONS, EDIT, MAKE, RelayCase

INPUT, SECOND, MASK = png(64, 64), png(48, 48), png(64, 64, noise=40)
FRAME = "https://your-image-url.example/cat.png"
SUBMIT = "POST /v1/video/generations"


def pixels(path: str) -> tuple[int, int]:
    """Width and height of a PNG file."""
    with open(path, "rb") as file:
        return struct.unpack(">II", file.read(24)[16:])


class Page(RelayCase):
    """The known name `openclaw`, whose dialect nobody has to tell or to ask for."""

    def setUp(self) -> None:
        super().setUp()
        del self.environ["ALLTOKEN_GATEWAY"]
        self.environ |= self.settings("openclaw", self.relay)
        for name, data in (("input.png", INPUT), ("second.png", SECOND), ("mask.png", MASK)):
            with open(name, "wb") as file:
                file.write(data)

    def tearDown(self) -> None:
        self.assertEqual(self.gateway.requests, [])  # AllToken's

    def run_one(self, command: str, *argv: str) -> Result:
        """One command at the relay, which ends well."""
        self.relay.requests.clear()
        result = self.call(command, "--gateway", "openclaw", *argv)
        self.assertQuietly(0, result)
        return result

    def image(self, *argv: str, **_: Any) -> dict[str, Any]:
        """One image command; what the relay was asked for."""
        self.relay.images.clear()
        self.result = self.run_one("image", *argv)
        self.assertEqual(len(self.relay.images), 1)
        return self.relay.images[0]

    def video(self, *argv: str, **_: Any) -> dict[str, Any]:
        """One video command, whose file has the clip; the fields that the relay was asked for."""
        self.relay.jobs.clear()
        self.result = self.run_one("video", *argv, "-o", "clip.mp4", "--json")
        self.assertHolds("clip.mp4", self.relay.video)
        os.unlink("clip.mp4")
        (job,) = self.relay.jobs.values()
        self.assertEqual(self.paths()[:2], [SUBMIT, f"GET /v1/videos/{job['id']}"])
        document = self.result.document
        self.assertEqual((document["gateway"], document["task_id"]), ("openclaw", job["id"]))
        self.charged = document["cost"]
        return job["request"]

    def assertMade(self, *names: str) -> None:
        """Stdout names these files and no other, and each is an image."""
        self.assertEqual(self.result.out.decode().split(), list(names))
        for name in names:
            self.assertHolds(name, b"\x89PNG")


class Texts(Page):
    def test_the_first_request(self):
        result = self.run_one("chat", "claude-sonnet-4-6", "Hello!", "--max-tokens", "1024")
        self.assertEqual(result.out, b"This is the loopback relay, which echoes: Hello!\n")
        (request,) = self.relay.requests
        self.assertEqual(request.path, COMPLETIONS)
        body = request.json
        self.assertEqual((body["model"], body["max_tokens"], body["stream"]), ("claude-sonnet-4-6", 1024, True))
        self.assertEqual(body["messages"], [{"role": "user", "content": "Hello!"}])

    def test_claude_with_a_system_message(self):
        argv = ("-m", "claude-sonnet-4-6", "-s", "You are a helpful assistant.", "Write a Python quicksort")
        self.run_one("chat", *argv)
        roles = [message["role"] for message in self.body_of()["messages"]]
        self.assertEqual(roles, ["system", "user"])

    def test_gpt_and_gemini_with_their_names_as_the_first_word(self):
        for model in ("gpt5.4-plus", "gpt-5.4-mini-plus", "gemini-3-flash-preview"):
            result = self.run_one("chat", model, "Hello, Gemini!")
            self.assertEqual(self.body_of()["model"], model)
            self.assertTrue(result.out.endswith(b"echoes: Hello, Gemini!\n"))

    def test_the_exact_cost_is_in_the_log(self):
        result = self.run_one("chat", "-m", "claude-sonnet-4-6", "Hello!")
        self.assertIn("[cost] unknown", result.err)
        self.assertNotIn("99.5", result.err)  # what the operator pays upstream
        result = self.run_one("cost", "--json")
        self.assertEqual(
            result.document["cost"], {"usd": f"{self.relay.rows[0]['quota'] / 500_000:.6f}", "source": "gateway"}
        )

    def test_prices_and_balance(self):
        result = self.run_one("models", "-l", "--filter", "claude-sonnet")
        self.assertRegex(result.out.decode(), r"claude-sonnet-4-6 +\$0\.5200 +\$2\.6000")
        self.assertEqual(self.paths(), ["GET /api/pricing"])
        self.assertNotIn("Authorization", self.relay.requests[0].headers)
        self.relay.charge(self.relay.requests[0], "gpt-image-2")
        self.assertIn(b"$9.99", self.run_one("cost", "--balance").out)


class GeminiImages(Page):
    def test_text_to_image(self):
        asked = self.image(
            "-m", "gemini-3.1-flash-image", "-p", "max_tokens=2000", "Draw a cute orange cat at sunset", "-o", "cat.png"
        )
        self.assertEqual((asked["via"], asked["prompt"]), ("chat", "Draw a cute orange cat at sunset"))
        self.assertEqual((asked["body"]["max_tokens"], asked["config"]), (2000, {}))
        self.assertMade("cat.png")

    def test_2k_at_16_to_9(self):
        asked = self.image(
            "-m", "gemini-3.1-flash-image", "--size", "2K", "--ratio", "16:9", "A mountain landscape", "-o", "m.png"
        )
        self.assertEqual(asked["config"], {"image_size": "2K", "aspect_ratio": "16:9"})
        self.assertEqual(asked["body"]["extra_body"], {"google": asked["body"]["google"]})
        self.assertEqual(pixels("m.png"), (2816, 1536))

    def test_the_same_at_a_relay_as_published(self):
        self.relay.stock = True
        self.image(
            "-m", "gemini-3.1-flash-image", "--size", "2k", "--ratio", "9:16", "A mountain landscape", "-o", "m.png"
        )
        self.assertEqual(pixels("m.png"), (1536, 2816))
        self.assertIn("Here is your image.", self.result.err)

    def test_every_size_and_shape_of_the_page(self):
        for size, ratio, expected in (
            ("512", "16:9", (704, 384)),
            ("1K", "4:3", (1152, 896)),
            ("4k", "1:1", (4096, 4096)),
            ("1K", "21:9", None),
            ("512", "1:8", None),
        ):
            self.image("-m", "gemini-3.1-flash-image", "--size", size, "--ratio", ratio, "x", "-o", "x.png", "--force")
            if expected:
                self.assertEqual(pixels("x.png"), expected)

    def test_a_style_that_a_system_message_sets(self):
        style = "You are a cartoon artist. Always draw in cute kawaii style."
        argv = ("-p", "max_tokens=2000", "-p", "temperature=1.5", "-p", "top_p=0.9", "-p", "top_k=40")
        asked = self.image(
            "-m", "gemini-3.1-flash-image", "-s", style, *argv, "Draw a dog playing in a park", "-o", "dog.png"
        )
        self.assertEqual((asked["system"], asked["prompt"]), ([style], "Draw a dog playing in a park"))
        self.assertEqual([asked["body"][name] for name in ("temperature", "top_p", "top_k")], [1.5, 0.9, 40])
        self.assertMade("dog.png")

    def test_an_image_and_what_to_change_in_it(self):
        asked = self.image(
            "-m",
            "gemini-3.1-flash-image",
            "--edit",
            "input.png",
            "Change the background to a beach scene",
            "-o",
            "beach.png",
        )
        (message,) = asked["messages"]
        self.assertEqual([part["type"] for part in message["content"]], ["text", "image_url"])
        self.assertEqual(asked["references"], [("image/png", INPUT)])

    def test_three_turns_of_one_picture(self):
        model = ("-m", "gemini-3.1-flash-image", "-o", "last.png")
        before = b""
        for prompt in ("Draw a simple red house", "Add a blue sky and green grass", "Add a sun and some clouds"):
            self.relay.image = png(32, 32, noise=20)  # another one each time
            edit = ("--edit", "last.png", "--force") if before else ()
            asked = self.image(*model, *edit, prompt)
            self.assertEqual(asked["references"], [("image/png", before)] if before else [])
            self.assertEqual(asked["prompt"], prompt)
            self.assertHolds("last.png", self.relay.image)
            before = self.relay.image

    def test_two_references_and_fourteen(self):
        asked = self.image(
            "-m", "gemini-3.1-flash-image", "--edit", "input.png", "--edit", "second.png", "Both", "-o", "both.png"
        )
        self.assertEqual(asked["references"], [("image/png", INPUT), ("image/png", SECOND)])
        many = [word for _ in range(14) for word in ("--edit", "second.png")]
        self.assertEqual(
            len(self.image("-m", "gemini-3.1-flash-image", *many, "All", "-o", "all.png")["references"]), 14
        )

    def test_a_heic_photo(self):
        photo = b"\0\0\0\x18ftypheic\0\0\0\0" + bytes(40)
        path = self.file("photo.heic", photo)
        asked = self.image("-m", "gemini-3.1-flash-image", "--edit", path, "As a drawing", "-o", "drawn.png")
        self.assertEqual(asked["references"], [("image/heic", photo)])


class GptImages(Page):
    MODEL = ("-m", "gpt-image-1.5-vvip")

    def test_generate(self):
        asked = self.image(
            *self.MODEL, "--size", "1024x1024", "--quality", "high", "-n", "1", "A cute orange cat", "-o", "cat.png"
        )
        body = {
            "model": "gpt-image-1.5-vvip",
            "prompt": "A cute orange cat",
            "size": "1024x1024",
            "quality": "high",
            "n": 1,
        }
        self.assertEqual(asked["body"], body)
        self.assertMade("cat.png")
        self.assertIn("[usage] input=10 output=4160", self.result.err)

    def test_all_options(self):
        options = (
            "--size",
            "1024x1024",
            "--quality",
            "high",
            "--background",
            "transparent",
            "--format",
            "png",
            "-n",
            "1",
        )
        fields = ("-p", "moderation=low", "-p", "output_compression=30", "-p", "response_format=b64_json")
        asked = self.image(*self.MODEL, *options, *fields, "A product photo of a sneaker", "-o", "output.png")
        body = {"model": "gpt-image-1.5-vvip", "prompt": "A product photo of a sneaker", "n": 1, "size": "1024x1024"}
        body |= {"quality": "high", "background": "transparent", "output_format": "png"}
        self.assertEqual(
            asked["body"], body | {"moderation": "low", "output_compression": 30, "response_format": "b64_json"}
        )
        self.assertMade("output.png")
        self.assertEqual(self.paths()[0], MAKE)
        self.assertFalse(any("/cdn/" in path for path in self.paths()))  # the image was in the answer

    def test_four_at_once(self):
        asked = self.image(
            *self.MODEL, "--size", "1024x1024", "--quality", "medium", "-n", "4", "A butterfly", "-o", "b.png"
        )
        self.assertEqual((asked["n"], asked["via"]), (4, "images"))
        self.assertMade("b-1.png", "b-2.png", "b-3.png", "b-4.png")

    def test_an_edit(self):
        asked = self.image(*self.MODEL, "--edit", "input.png", "Add red sunglasses to the cat", "-o", "edited.png")
        self.assertEqual(self.paths()[0], EDIT)
        self.assertEqual((asked["references"], asked["mask"], asked["n"]), ([INPUT], None, 1))
        self.assertEqual(asked["names"], ["input.png"])  # the type is told from it
        self.assertMade("edited.png")

    def test_an_edit_where_a_mask_says(self):
        argv = ("--edit", "input.png", "--mask", "mask.png", "--size", "1024x1024", "--quality", "low")
        asked = self.image(
            *self.MODEL, *argv, "-p", "response_format=b64_json", "Place a golden crown here", "-o", "crown.png"
        )
        self.assertEqual((asked["references"], asked["mask"]), ([INPUT], MASK))
        self.assertEqual((asked["body"]["response_format"], asked["size"]), ("b64_json", "1024x1024"))
        self.assertMade("crown.png")

    def test_an_edit_with_two_references(self):
        asked = self.image(
            *self.MODEL, "--edit", "input.png", "--edit", "second.png", "One room with both", "-o", "room.png"
        )
        self.assertEqual(asked["references"], [INPUT, SECOND])

    def test_a_name_that_lies_about_the_type_is_set_right(self):
        with open("photo.png", "wb") as file:
            file.write(JPEG)
        asked = self.image(*self.MODEL, "--edit", "photo.png", "x", "-o", "out.png")
        self.assertEqual(asked["names"], ["photo.jpg"])

    def test_gpt_image_2_in_4k_and_webp(self):
        asked = self.image("-m", "gpt-image-2", "--size", "3840x2160", "x", "-o", "x.png")
        self.assertEqual((asked["size"], pixels("x.png")), ("3840x2160", (3840, 2160)))
        asked = self.image(*self.MODEL, "--format", "webp", "-p", "output_compression=50", "x", "-o", "x.webp")
        self.assertEqual(asked["body"]["output_format"], "webp")
        self.assertHolds("x.webp", b"RIFF")


class OtherImages(Page):
    def test_wan_2_6_with_all_options(self):
        prompt, avoid = "一只柴犬在草地上奔跑,摄影大片风格", "模糊, 低质量, 变形, 多余的腿"
        fields = (
            "-p",
            f"negative_prompt={avoid}",
            "-p",
            "seed=42",
            "-p",
            "prompt_extend=false",
            "-p",
            "watermark=false",
        )
        asked = self.image("-m", "wan2.6-t2i", "--size", "1472*1104", "-n", "2", *fields, prompt, "-o", "dog.png")
        body = {"model": "wan2.6-t2i", "prompt": prompt, "size": "1472*1104", "n": 2, "seed": 42}
        self.assertEqual(asked["body"], body | {"negative_prompt": avoid, "prompt_extend": False, "watermark": False})
        self.assertMade("dog-1.png", "dog-2.png")
        self.assertEqual(pixels("dog-2.png"), (1472, 1104))

    def test_wan_2_6_makes_one_unless_told_otherwise(self):
        self.assertEqual(self.image("-m", "wan2.6-t2i", "一朵盛开的红色玫瑰", "-o", "rose.png")["n"], 1)
        self.assertMade("rose.png")
        self.assertEqual(self.image("-m", "wan2.6-t2i", "-n", "4", "一朵盛开的红色玫瑰", "-o", "four.png")["n"], 4)
        self.assertMade(*(f"four-{number}.png" for number in range(1, 5)))

    def test_wan_2_7_makes_four_in_a_chat(self):
        asked = self.image("-m", "wan2.7-image", "A cute shiba inu", "-o", "shiba.png")
        self.assertEqual(
            (asked["via"], asked["messages"][0]["content"]), ("chat", [{"type": "text", "text": "A cute shiba inu"}])
        )
        self.assertMade(*(f"shiba-{number}.png" for number in range(1, 5)))

    def test_doubao(self):
        for model in ("doubao-seedream-5-0-260128", "doubao-seedream-4-5-251128"):
            asked = self.image("-m", model, "--size", "2K", "A cute shiba inu, photorealistic", "-o", f"{model}.png")
            self.assertEqual((asked["via"], asked["size"]), ("images", "2K"))
            self.assertMade(f"{model}.png")


class Videos(Page):
    def test_text_to_video(self):
        prompt = "An orange cat running on a beach, slow motion"
        argv = ("--resolution", "720P", "--duration", "5", "--seed", "42", "-p", "negative_prompt=blurry, low quality")
        body = self.video("-m", "wan2.6-t2v", *argv, prompt)
        expected = {"model": "wan2.6-t2v", "prompt": prompt, "resolution": "720P", "duration": 5, "seed": 42}
        self.assertEqual(body, expected | {"negative_prompt": "blurry, low quality"})
        self.assertEqual(self.charged, {"usd": "0.290000", "source": "gateway"})  # 5 × $0.058

    def test_image_to_video_silent(self):
        body = self.video(
            "-m",
            "wan2.6-i2v-flash",
            "--first-frame",
            FRAME,
            "--resolution",
            "720P",
            "--duration",
            "5",
            "The cat starts running",
        )
        self.assertEqual((body["input_reference"], body["duration"], "audio" in body), (FRAME, 5, False))
        self.assertEqual(self.charged["usd"], "0.072500")

    def test_image_to_video_from_a_file(self):
        body = self.video("-m", "wan2.6-i2v-flash", "--first-frame", "input.png", "--no-audio", "x")
        self.assertTrue(body["input_reference"].startswith("data:image/png;base64,"))
        self.assertIs(body["audio"], False)

    def test_image_to_video_with_audio(self):
        body = self.video(
            "-m",
            "wan2.6-i2v-flash",
            "--first-frame",
            FRAME,
            "--resolution",
            "1080P",
            "--audio",
            "A guitarist performing on stage",
        )
        self.assertEqual((body["audio"], body["resolution"]), (True, "1080P"))
        self.assertEqual(self.charged["usd"], "0.240000")

    def test_image_to_video_with_an_audio_file(self):
        sound = "https://your-audio.example/a.mp3"
        body = self.video(
            "-m",
            "wan2.6-i2v-flash",
            "--first-frame",
            FRAME,
            "--resolution",
            "720P",
            "--audio",
            "-p",
            f"audio_url={sound}",
            "Musician performing",
        )
        self.assertEqual((body["audio"], body["audio_url"]), (True, sound))
        self.assertEqual(self.charged["usd"], "0.145000")

    def test_multi_shot(self):
        fields = (
            "-p",
            "negative_prompt=blurry, shaky",
            "-p",
            "shot_type=multi",
            "-p",
            "prompt_extend=true",
            "-p",
            "watermark=false",
        )
        argv = ("--first-frame", FRAME, "--resolution", "1080P", "--duration", "10", "--seed", "42")
        body = self.video("-m", "wan2.6-i2v", *argv, *fields, "Cat exploring a garden, multiple angles")
        expected = {
            "model": "wan2.6-i2v",
            "prompt": "Cat exploring a garden, multiple angles",
            "input_reference": FRAME,
        }
        expected |= {"resolution": "1080P", "duration": 10, "seed": 42, "negative_prompt": "blurry, shaky"}
        self.assertEqual(body, expected | {"shot_type": "multi", "prompt_extend": True, "watermark": False})
        self.assertEqual(self.charged["usd"], "1.000000")

    def test_first_and_last_frame(self):
        body = self.video("-m", "wan2.6-i2v", "--first-frame", FRAME, "--last-frame", "second.png", "x")
        self.assertEqual((body["images"][0], "input_reference" in body), (FRAME, False))
        self.assertTrue(body["images"][1].startswith("data:image/png;base64,"))

    def test_the_older_models(self):
        for model, usd in (
            ("wan2.2-t2v-plus", "0.020000"),
            ("wan2.2-i2v-plus", "0.020000"),
            ("wan2.2-i2v-flash", "0.020000"),
            ("wan2.5-t2v-preview", "0.040000"),
            ("wan2.5-i2v-preview", "0.040000"),
        ):
            frame = ("--first-frame", FRAME) if "i2v" in model else ()
            body = self.video("-m", model, *frame, "x")
            expected = {"model": model, "prompt": "x", "duration": 5}
            self.assertEqual(body, expected | ({"input_reference": FRAME} if frame else {}))
            self.assertEqual(self.charged, {"usd": usd, "source": "gateway"})

    def test_without_a_file_the_address_is_the_result(self):
        result = self.run_one("video", "-m", "wan2.6-t2v", "x")
        self.assertRegex(result.out.decode(), rf"\A{self.relay.url}/cdn/\d+\.mp4\?\S+\n\Z")
        self.assertNotIn(CHAT, self.paths())
