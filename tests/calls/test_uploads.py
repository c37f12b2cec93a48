"""Local inputs: checksums, no key, and a URL that nobody sees."""

import base64
import hashlib
import os

from ..gateway import png, refuse, reply
from ..task_support import IGEN, TaskCase, normal

PRESIGN = "POST /v1/uploads/presign"
PUT = "PUT /upload/upl_00000001"
EDITS = "POST /v1/images/edits"
KINDS = {
    "image/png": png(),
    "image/jpeg": b"\xff\xd8\xff\xe0" + bytes(20),
    "image/webp": b"RIFF\n\0\0\0WEBPVP8 ",
    "video/mp4": b"\0\0\0\x18ftypmp42" + bytes(20),
    "video/quicktime": b"\0\0\0\x14ftypqt  " + bytes(20),
    "video/webm": b"\x1a\x45\xdf\xa3" + bytes(20),
    "audio/mp4": b"\0\0\0\x18ftypM4A " + bytes(20),
    "audio/wav": b"RIFF\n\0\0\0WAVEfmt ",
    "audio/ogg": b"OggS" + bytes(20),
    "audio/mpeg": b"ID3\x04" + bytes(20),
    "audio/aac": b"\xff\xf1" + bytes(20),
}


class Uploads(TaskCase):
    def setUp(self):
        super().setUp()
        self.source = self.file("place/source.png", png(noise=3000))
        self.mask = self.file("place/mask.png", png())

    def edit(self, *argv, **options):
        return self.image("wider", "--edit", "source.png", "-o", "out.png", *argv, **options)

    def sent(self, method):
        return [one for one in self.gateway.requests if one.method == method]

    def test_a_source_and_its_mask_are_presigned_put_and_edited(self):
        self.assertQuietly(0, self.edit("--mask", "mask.png"))
        self.assertEqual(self.methods(), ["POST", "PUT", "POST", "PUT", "POST", "GET"])
        for (path, purpose), presign, put in zip(
            ((self.source, "image_edit_source"), (self.mask, "image_edit_mask")), self.sent("POST"), self.sent("PUT")
        ):
            with open(path, "rb") as file:
                data = file.read()
            md5 = base64.b64encode(hashlib.md5(data).digest()).decode()
            self.assertEqual(
                presign.json,
                {
                    "purpose": purpose,
                    "content_type": "image/png",
                    "content_length": len(data),
                    "content_md5": md5,
                    "checksum_sha256": hashlib.sha256(data).hexdigest(),
                },
            )
            self.assertEqual(put.body, data)
            self.assertEqual((put.headers["Content-MD5"], put.headers["Content-Type"]), (md5, "image/png"))
        body = self.sent("POST")[-1].json
        self.assertEqual((body["image_upload_id"], body["mask_upload_id"]), ("upl_00000001", "upl_00000002"))
        self.assertEqual((self.sent("POST")[-1].path, body["prompt"]), ("/v1/images/edits", "wider"))
        self.assertHolds("out.png", self.gateway.tasks.image)

    def test_the_key_goes_to_the_gateway_and_not_to_the_upload(self):
        self.assertQuietly(0, self.edit())
        for one in self.gateway.requests:
            shown = str(one.headers) + one.path + one.query
            public = one.method == "PUT" or one.path.startswith("/api-account/")
            self.assertEqual(self.environ["ALLTOKEN_API_KEY"] in shown, not public)

    def test_the_upload_url_is_a_secret_also_with_verbose(self):
        for name, url in {
            "elsewhere": None,
            "under the API": f"{self.gateway.url}/v1/uploads/1?signature=secret-signature",
        }.items():
            for step in (
                None,
                reply(400, b"no"),
                reply(302, b"", {"Location": "https://x/?signature=secret-signature"}),
            ):
                with self.subTest(name, step=step):
                    self.gateway.on(
                        PRESIGN,
                        normal
                        if url is None
                        else reply(200, {"upload_url": url, "upload_id": "upl_1", "required_headers": {}}),
                    )
                    self.gateway.on("PUT /v1/uploads/1", step or reply(200, b""))
                    self.gateway.on(PUT, step or normal)
                    for flag in ("-v", "--json"):
                        self.gateway.tasks.uploads.clear()
                        result = self.image("x", "--edit", "source.png", flag)
                        self.assertNotIn("signature", result.err + result.out.decode())
                        self.assertEqual(result.status == 0, step is None, result.err)

    def test_the_headers_are_exactly_the_required_ones(self):
        answer = {
            "upload_url": f"{self.gateway.url}/put",
            "upload_id": "upl_x",
            "required_headers": {"Content-Type": "image/png", "x-amz-thing": "1"},
        }
        self.gateway.on(PRESIGN, reply(200, answer))
        self.gateway.on("PUT /put", reply(200, b""))
        self.assertQuietly(0, self.edit())
        (put,) = self.sent("PUT")
        self.assertEqual(put.headers["x-amz-thing"], "1")
        self.assertNotIn("Content-MD5", put.headers)
        self.assertNotIn("Authorization", put.headers)

    def test_a_failing_upload_is_repeated_and_then_told(self):
        for steps, end, puts in (
            ([reply(503, b"")] * 2 + [normal], 0, 3),
            ([lambda one: one.reset(), normal], 0, 2),
            ([reply(500, b"")], 5, 3),
            ([reply(400, b"<Error/>")], 1, 1),
        ):
            with self.subTest(end=end, puts=puts):
                self.gateway.requests.clear()
                self.gateway.tasks.uploads.clear()
                self.gateway.on(PUT, *steps)
                self.assertQuietly(end, self.edit("--force"))
                self.assertEqual(len(self.sent("PUT")), puts)
                self.assertEqual(self.gateway.count(EDITS), int(end == 0))

    def test_a_refused_upload_is_no_matter_of_the_key(self):
        self.gateway.on(PUT, reply(403, b"<Error><Code>AccessDenied</Code></Error>"))
        result = self.edit()
        self.assertNotEqual(result.status, 4)
        self.assertNotIn("ALLTOKEN_API_KEY", result.err)

    def test_an_upload_address_that_is_not_ours_to_open_gets_nothing(self):
        ours = f"{self.gateway.url}/put"
        for url, upload_id in (
            *((url, "upl_1") for url in ("file:///tmp/x", "ftp://127.0.0.1/x", "http://192.0.2.1/x", "data:,x")),
            *((url, "upl_1") for url in ("", None, 7)),
            *((ours, upload_id) for upload_id in ("", None, 7)),
        ):
            with self.subTest(url=url, upload_id=upload_id):
                self.gateway.requests.clear()
                self.gateway.on(PRESIGN, reply(200, {"upload_url": url, "upload_id": upload_id}))
                self.assertQuietly(3, self.edit())
                self.assertEqual(self.methods(), ["POST"])

    def test_a_file_that_is_too_large_is_refused_before_it_is_sent(self):
        self.gateway.on(
            PRESIGN, reply(200, {"upload_url": f"{self.gateway.url}/put", "upload_id": "u", "max_content_length": 1000})
        )
        result = self.edit()
        self.assertQuietly(2, result)
        self.assertIn("1,000 bytes", result.err)
        self.assertEqual(self.methods(), ["POST"])

    def test_a_limit_that_the_file_keeps_or_that_is_none_stops_nothing(self):
        size = os.path.getsize(self.source)
        for largest in (size, 0, -1, None, "1"):
            with self.subTest(largest=largest):
                answer = {"upload_url": f"{self.gateway.url}/put", "upload_id": "u", "max_content_length": largest}
                self.gateway.on(PRESIGN, reply(200, answer))
                self.gateway.on("PUT /put", reply(200, b""))
                self.assertQuietly(0, self.edit("--force"))
                put = self.sent("PUT")[-1]
                self.assertEqual((put.headers["Content-Type"], "Content-MD5" in put.headers), ("image/png", True))

    def test_a_presign_that_the_gateway_refuses_ends_the_command(self):
        for code, end in ((400, 1), (401, 4), (402, 6), (404, 1)):
            self.gateway.requests.clear()
            self.gateway.on(PRESIGN, refuse(code, "no"))
            result = self.edit()
            self.assertQuietly(end, result)
            self.assertEqual(self.methods(), ["POST"])
            self.assertIn("[cost] none", result.err)

    def test_a_run_whose_upload_failed_has_submitted_nothing_and_left_nothing_to_resume(self):
        answer = {"upload_url": f"{self.gateway.url}/put", "upload_id": "u", "max_content_length": 1000}
        for step, end in ((refuse(500, "no"), 5), (reply(200, answer), 2)):
            for options in ((), ("--once",)):
                with self.subTest(end, options=options):
                    self.gateway.on(PRESIGN, step)
                    self.assertQuietly(end, self.edit(*options))
                    self.assertQuietly(1, self.image("--resume"))
        self.gateway.on(PRESIGN, normal)
        self.assertQuietly(0, self.edit("--once"))

    def test_a_source_that_is_no_image_or_cannot_be_read_is_wrong_usage(self):
        self.file("place/text.png", b"<html>")
        self.file("place/empty.png", b"")
        self.file("place/clip.mp4", KINDS["video/mp4"])
        for path in ("text.png", "empty.png", "clip.mp4", "missing.png", ".", "https://x/y.png"):
            with self.subTest(path=path):
                self.assertQuietly(2, self.image("x", "--edit", path))
                self.assertQuietly(2, self.image("x", "--edit", "source.png", "--mask", path))
                self.assertQuietly(
                    2,
                    self.video("x", "--first-frame", path) if "https" not in path else self.image("x", "--edit", path),
                )
        self.assertEqual(self.gateway.requests, [])

    def test_nothing_is_uploaded_where_the_output_cannot_be_written_or_with_dry_run(self):
        self.file("place/out.png", b"old")
        self.assertQuietly(13, self.edit())
        self.assertQuietly(0, self.edit("--dry-run"))
        self.assertQuietly(0, self.video("x", "--first-frame", "source.png", "--dry-run"))
        self.assertEqual(self.gateway.requests, [])

    def test_every_kind_of_video_input_has_its_purpose_and_role(self):
        for kind, data in KINDS.items():
            with self.subTest(kind):
                self.gateway.requests.clear()
                self.file("place/input", data)
                self.assertQuietly(0, self.video("x", "--reference", "input"))
                presign, submit = self.sent("POST")
                media = kind.partition("/")[0]
                self.assertEqual(
                    (presign.json["purpose"], presign.json["content_type"]), (f"video_input_{media}", kind)
                )
                upload_id = f"upl_{len(self.gateway.tasks.uploads):08d}"
                self.assertEqual(
                    submit.json["content"], [{"type": media, "role": f"reference_{media}", "upload_id": upload_id}]
                )
                self.assertEqual(self.gateway.tasks.uploads[upload_id]["stored"], data)

    def test_urls_of_video_inputs_pass_through_and_frames_come_first(self):
        self.assertQuietly(
            0,
            self.video(
                "x",
                "--reference",
                "https://x/a.mp4?b",
                "--last-frame",
                "https://x/l.png",
                "--first-frame",
                "source.png",
                "--reference",
                "http://x/s.WAV",
            ),
        )
        self.assertEqual(
            self.sent("POST")[-1].json["content"],
            [
                {"type": "image", "role": "first_frame", "upload_id": "upl_00000001"},
                {"type": "image", "role": "last_frame", "url": "https://x/l.png"},
                {"type": "video", "role": "reference_video", "url": "https://x/a.mp4?b"},
                {"type": "audio", "role": "reference_audio", "url": "http://x/s.WAV"},
            ],
        )

    def test_an_edit_has_a_key_against_double_billing_as_any_image(self):
        self.gateway.on(EDITS, lambda one: one.reset(), normal)
        self.assertQuietly(0, self.edit())
        posts = [one for one in self.gateway.requests if one.path == "/v1/images/edits"]
        self.assertEqual((len(posts), len({one.headers["Idempotency-Key"] for one in posts})), (2, 1))
        self.assertEqual(len(self.sent("PUT")), 1)
        self.assertIn(IGEN, self.gateway.tasks.all)
        self.assertTrue(os.path.exists("out.png"))
