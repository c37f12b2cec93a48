"""video from outside: what is sent, what is shown, and its tasks."""

import os
import time
from unittest import mock

from ..gateway import png, refuse, reply
from ..task_support import GET_VIDEO, VGEN, VIDEO_KEYS, VIDEOS, TaskCase, normal

URL = "https://videos.example/clip.mp4?signature=1"
DONE = {
    "status": "completed",
    "video_url": URL,
    "video_url_ttl": 86400,
    "resolution": "480p",
    "ratio": "16:9",
    "fps": 24,
    "duration": 5,
}
CANCEL = f"POST {VIDEOS}/{VGEN}/cancel"


class Requests(TaskCase):
    def body(self, *argv, **options):
        shown = self.video("--dry-run", *argv, **options)
        self.assertQuietly(0, shown)
        self.fresh()
        self.assertQuietly(0, self.video(*argv, **options))
        sent = self.gateway.requests[0]
        self.assertEqual(shown.document, {"method": "POST", "url": self.gateway.url + VIDEOS, "body": sent.json})
        return sent.json

    def test_the_defaults_are_sent(self):
        self.assertEqual(
            self.body("waves", "at dusk"),
            {
                "model": "seedance-1.5-pro",
                "prompt": "waves at dusk",
                "duration": 5,
                "ratio": "16:9",
                "resolution": "480p",
            },
        )

    def test_options_become_fields(self):
        self.assertEqual(
            self.body(
                "waves",
                "-m",
                "seedance-2.0",
                "--duration",
                "-1",
                "--ratio",
                "9:16",
                "--resolution",
                "1080p",
                "--audio",
                "--seed",
                "0",
                "-p",
                "watermark=false",
                "--first-frame",
                "https://x/y.png",
            ),
            {
                "model": "seedance-2.0",
                "prompt": "waves",
                "duration": -1,
                "ratio": "9:16",
                "resolution": "1080p",
                "generate_audio": True,
                "seed": 0,
                "watermark": False,
                "content": [{"type": "image", "role": "first_frame", "url": "https://x/y.png"}],
            },
        )
        self.assertIs(self.body("waves", "--no-audio")["generate_audio"], False)
        self.assertEqual(self.body("waves", ALLTOKEN_VIDEO_MODEL="seedance-2.0")["model"], "seedance-2.0")
        self.assertEqual(self.body("-", stdin=b"waves\n")["prompt"], "waves")

    def test_wrong_usage_is_status_2_and_nothing_is_sent(self):
        for argv in (
            (),
            ("x", "--duration", "five"),
            ("x", "--duration", "5.5"),
            ("x", "--seed", "1_0"),
            ("x", "-o", "-"),
            ("x", "--list"),
            ("x", "--cancel", "vgen_1"),
            ("x", "--resume", "vgen_1"),
            ("--list", "--resume"),
            ("--list", "--cancel", "vgen_1"),
            ("--resume", "vgen_1", "--cancel", "vgen_1"),
            ("--cancel",),
            ("--cancel", ""),
            ("x", "--first-frame", "missing.png"),
            ("x", "--reference", "ftp://x/y.png"),
            ("x", "-p", "model=y"),
        ):
            with self.subTest(argv):
                self.assertQuietly(2, self.video(*argv))
        self.assertEqual(self.gateway.requests, [])

    def test_an_output_that_cannot_be_is_status_13_and_nothing_is_sent(self):
        self.file("place/old.mp4", b"old")
        os.mkfifo("fifo")
        for out in ("missing/x.mp4", "missing/", "old.mp4", "old.mp4/x", "fifo", "", "x" * 300, "/dev/null"):
            with self.subTest(out=out[:20]):
                self.gateway.requests.clear()
                self.assertQuietly(13, self.video("waves", "-o", out))
                self.assertEqual(self.gateway.requests, [])
        self.assertHolds("old.mp4", b"old")

    def test_a_closed_stdout_is_noticed_before_anything_is_sent(self):
        for words in (["waves"], ["--resume", VGEN], ["--list"], ["--cancel", VGEN]):
            with self.subTest(words):
                self.assertQuietly(13, self.execute("video", *words, closed=(1,)))
                self.assertEqual(self.gateway.requests, [])

    def test_dry_run_sends_nothing_whatever_goes_with_it(self):
        self.gateway.work = 100
        self.assertQuietly(0, self.video("x", "--detach"))
        for argv, method, url in (
            (("--list",), "GET", f"{VIDEOS}?limit=50"),
            (("--cancel", VGEN), "POST", f"{VIDEOS}/{VGEN}/cancel"),
            (("--resume", "--max-wait", "1"), "GET", f"{VIDEOS}/{VGEN}"),
            (("--resume", "a/b"), "GET", f"{VIDEOS}/a%2Fb"),
            (("x", "-o", "missing/x.mp4"), "POST", VIDEOS),
        ):
            with self.subTest(argv):
                self.gateway.requests.clear()
                result = self.video(*argv, "--dry-run", ALLTOKEN_API_KEY=None)
                self.assertQuietly(0, result)
                found = result.document
                self.assertEqual((found["method"], found["url"]), (method, self.gateway.url + url))
                self.assertEqual(bool(found["body"]), "x" in argv)
                self.assertEqual(self.gateway.requests, [])
        self.assertEqual(self.gateway.tasks.all[VGEN]["status"], "queued")


class Results(TaskCase):
    def test_without_an_output_stdout_has_the_url_and_stderr_the_rest(self):
        self.gateway.on(
            GET_VIDEO,
            reply(200, {"status": "processing"}),
            reply(
                200,
                DONE
                | {
                    "video_url_expires_at": "2026-11-20T12:00:00Z",
                    "usage": {"completion_tokens": 48000, "total_tokens": 48000},
                },
            ),
        )
        result = self.video("waves")
        self.assertQuietly(0, result)
        self.assertEqual(result.out.decode(), URL + "\n")
        for line in (
            rf"submitted {VGEN} \(duration=5 ratio=16:9 resolution=480p\)",
            r"\[status\] processing after 0\.\d s",
            r"\[usage\] completion=48000 total=48000 model=seedance-1\.5-pro",
            r"\[cost\] unknown",
            r"resolution=480p ratio=16:9 fps=24 duration=5; the URL expires at 2026-11-\d\d \d\d:00 \S+",
        ):
            self.assertRegex(result.err, rf"(?m)^{line}$")

    def test_an_output_is_the_file_and_stdout_its_path(self):
        os.mkdir("folder")
        for out, pattern in (
            ("x.mp4", r"x\.mp4"),
            ("folder", r"folder/alltoken-video-[0-9a-f]{8}\.mp4"),
            ("folder/", r"folder/alltoken-video-[0-9a-f]{8}\.mp4"),
        ):
            with self.subTest(out=out):
                result = self.video("waves", "-o", out)
                self.assertQuietly(0, result)
                self.assertRegex(result.out.decode(), rf"\A{pattern}\n\Z")
                self.assertHolds(result.out.decode().strip(), self.gateway.tasks.video)
                self.assertRegex(result.err, rf"saved {pattern} \({len(self.gateway.tasks.video):,} bytes\) in \d")

    def test_force_overwrites_and_keeps_a_link(self):
        self.file("place/old.mp4", b"old")
        os.symlink("old.mp4", "link.mp4")
        self.assertQuietly(0, self.video("waves", "-o", "link.mp4", "--force"))
        self.assertHolds("old.mp4", self.gateway.tasks.video)
        self.assertPlace("link.mp4", "old.mp4")
        self.assertTrue(os.path.islink("link.mp4"))

    def test_when_the_url_expires_is_told_however_it_is_said(self):
        unsaid = "at a time that the gateway did not say"
        for name, told, fields in (
            ("ttl", "in 3,600 s", {"video_url_ttl": 3600}),
            ("offset", "at 2026-11-", {"video_url_expires_at": "2026-11-20T12:00:00.123+08:00"}),
            ("garbage", "at soon", {"video_url_expires_at": "soon\x1b[31m"}),
            ("an unset time", "at ", {"video_url_expires_at": "0001-01-01T00:00:00Z"}),
            ("the end of time", "at 9999-12-31", {"video_url_expires_at": "9999-12-31T23:59:59Z"}),
            ("a number", unsaid, {"video_url_expires_at": 7, "video_url_ttl": "x"}),
            ("nothing", unsaid, {"video_url_ttl": None}),
        ):
            for zone in ("UTC", "America/New_York", "Asia/Tokyo"):
                with self.subTest(name, zone=zone), mock.patch.dict(os.environ, {"TZ": zone}):
                    time.tzset()
                    self.addCleanup(time.tzset)
                    self.fresh()
                    self.gateway.on(GET_VIDEO, reply(200, DONE | {"video_url_ttl": None} | fields))
                    result = self.video("waves")
                    self.assertQuietly(0, result)
                    self.assertIn(f"the URL expires {told}", result.err)
                    self.assertNotIn("\x1b", result.err)

    def test_an_answer_of_odd_types_is_shown_as_far_as_it_goes(self):
        self.gateway.on(
            GET_VIDEO,
            reply(
                200,
                {
                    "status": "completed",
                    "video_url": URL,
                    "fps": [1],
                    "ratio": {"a": "\n"},
                    "resolution": "4k\x1b[31m",
                    "duration": None,
                    "usage": "much",
                },
            ),
        )
        result = self.video("waves")
        self.assertQuietly(0, result)
        self.assertNotIn("\x1b", result.err)

    def test_completed_without_a_url_is_status_3_and_can_be_resumed(self):
        for url in (None, "", " ", 7, []):
            with self.subTest(url=url):
                self.fresh()
                self.gateway.on(GET_VIDEO, reply(200, DONE | {"video_url": url}), normal)
                result = self.video("waves")
                self.assertQuietly(3, result)
                self.assertResumable(result, "video", VGEN)
                self.assertQuietly(0, self.video("--resume"))

    def test_a_url_with_controls_is_inert_on_a_terminal_and_exact_in_a_pipe(self):
        url = "https://x/\u202ea\u200f"
        self.gateway.on(GET_VIDEO, reply(200, DONE | {"video_url": url}))
        self.assertEqual(self.video("waves").out.decode(), url + "\n")
        self.fresh()
        self.assertEqual(self.video("waves", terminals="out").out.decode(), "https://x/\\u202ea\\u200f\n")

    def test_an_address_with_control_characters_is_told_inert_and_is_status_3(self):
        self.gateway.on(GET_VIDEO, reply(200, DONE | {"video_url": "https://x/\x1b[31m\u202e"}))
        for argv in ((), ("-o", "x.mp4")):
            self.fresh()
            result = self.video("waves", *argv)
            self.assertQuietly(3, result)
            self.assertIn("https://x/\\x1b[31m\\u202e", result.err)
            self.assertNotRegex(result.err, "[\x1b\u202e]")
            self.assertEqual(result.out, b"")

    def test_json_is_one_document_with_every_key(self):
        self.gateway.on(GET_VIDEO, reply(200, DONE | {"video_url_expires_at": "2026-11-20T12:00:00Z"}))
        found = self.document_of(self.video("waves", "--json"), *VIDEO_KEYS)
        wanted = {
            "video_url": URL,
            "expires_at": "2026-11-20T12:00:00Z",
            "resolution": "480p",
            "ratio": "16:9",
            "fps": 24,
            "duration": 5,
            "files": None,
            "tasks": None,
            "status": "completed",
            "task_id": VGEN,
            "command": "video",
            "model": "seedance-1.5-pro",
        }
        self.assertEqual({name: found[name] for name in wanted}, wanted)
        self.fresh()
        self.gateway.on(GET_VIDEO, normal)
        found = self.document_of(self.video("waves", "-o", "x.mp4", "--json"), *VIDEO_KEYS)
        self.assertEqual(found["files"], ["x.mp4"])
        self.assertIn("/files/", found["video_url"])

    def test_json_of_a_failed_download_keeps_the_url(self):
        self.gateway.on(f"GET /files/{VGEN}.mp4", reply(404, b""))
        found = self.document_of(self.video("waves", "-o", "x.mp4", "--json"), *VIDEO_KEYS)
        self.assertEqual((found["ok"], found["files"]), (False, None))
        self.assertIn(f"/files/{VGEN}.mp4", found["video_url"])
        self.assertIn(f"--resume {VGEN}", found["resume"])
        self.assertEqual((found["status"], self.row(VGEN)["status"]), ("completed", "unsaved"))


class Tasks(TaskCase):
    def test_a_list_is_a_line_a_task_with_id_status_model_and_time(self):
        self.gateway.work = 100
        for _ in range(2):
            self.assertQuietly(0, self.video("waves", "--detach"))
        result = self.video("--list")
        self.assertQuietly(0, result)
        lines = result.out.decode().splitlines()
        self.assertEqual(len(lines), 2)
        self.assertRegex(lines[0], r"\Avgen_00000002 +queued +seedance-1\.5-pro +\d{4}-\d\d-\d\dT")
        self.assertEqual(result.err, "2 task(s)\n")
        self.assertEqual(self.gateway.requests[-1].method, "GET")

    def test_what_is_looked_at_or_fails_to_be_cancelled_is_not_a_call_on_record(self):
        self.assertQuietly(0, self.video("--list"))
        self.assertQuietly(1, self.video("--cancel", "vgen_unknown"))
        self.assertEqual(os.path.exists(self.state), False)

    def test_a_list_of_odd_items_is_a_list(self):
        for items, lines in (
            ([], 0),
            ([{}], 0),
            ([{"id": "a\nb", "status": None}, 7, None], 1),
            (None, 0),
        ):
            with self.subTest(items=items):
                self.gateway.on(f"GET {VIDEOS}", reply(200, {"items": items, "total": 9}))
                result = self.video("--list")
                self.assertQuietly(0, result)
                self.assertEqual(result.out.count(b"\n"), lines)

    def test_what_is_not_a_list_of_tasks_is_never_an_empty_one(self):
        for answer in ({"items": {"a": 1}}, {"object": "list"}, {"data": "x"}):
            with self.subTest(answer):
                self.gateway.on(f"GET {VIDEOS}", reply(200, answer))
                self.assertQuietly(3, self.video("--list"))
        for answer in ({"data": [{"id": "vgen_1"}]}, [{"id": "vgen_1"}]):
            with self.subTest(answer):
                self.gateway.on(f"GET {VIDEOS}", reply(200, answer))
                self.assertTrue(self.video("--list").out.startswith(b"vgen_1"))

    def test_the_help_promises_no_stdout_for_the_clip(self):
        shown = " ".join(self.video("--help").out.decode().split())
        self.assertRegex(shown, r"--out PATH a file or a directory for the clip \(default: print its URL\)")
        self.assertNotRegex(shown, r"-o - |- for stdout")
        self.assertQuietly(2, self.video("waves", "-o", "-"))
        self.assertEqual(self.gateway.requests, [])

    def test_quiet_leaves_nothing_if_all_is_well_and_the_id_if_not(self):
        result = self.video("waves", "-q", "-o", "x.mp4")
        self.assertQuietly(0, result)
        self.assertEqual((result.out, result.err), (b"x.mp4\n", ""))
        for words in (["waves"], ["--resume"]):
            with self.subTest(words):
                self.fresh()
                self.gateway.on(GET_VIDEO, reply(200, {"status": "processing"}))
                if words == ["--resume"]:
                    self.video("waves", "--detach")
                self.gateway.on(GET_VIDEO, reply(200, {"status": "cancelled"}))
                result = self.video(*words, "-q")
                self.assertQuietly(10, result)
                self.assertEqual(result.err.count(VGEN), 1)
                self.assertIn("[error]", result.err)

    def test_a_full_stdout_is_told_with_where_the_clip_is(self):
        with open("/dev/full", "wb") as full:
            done = self.execute("video", "waves", stdout=full)
        self.assertQuietly(13, done)
        self.assertIn(f"the clip is at {self.gateway.url}/", done.err)

    def test_a_url_that_has_expired_is_told(self):
        self.gateway.on(f"GET {VIDEOS}/{VGEN}", reply(200, DONE | {"is_expired": True}))
        self.assertIn("[warning] the gateway says that this URL has expired", self.video("waves").err)

    def test_content_that_is_not_a_list_has_no_place_for_frames(self):
        for frame in ("https://a.example/a.png", self.file("a.png", png())):
            self.assertQuietly(2, self.video("waves", "-p", "content=x", "--first-frame", frame))
        self.assertEqual(self.gateway.requests, [])

    def test_a_list_in_json_has_the_tasks_as_they_came(self):
        items = [{"id": "vgen_1", "status": "odd", "extra": {"a": [1]}}]
        self.gateway.on(f"GET {VIDEOS}", reply(200, {"items": items, "total": 1}))
        found = self.document_of(self.video("--list", "--json"), *VIDEO_KEYS)
        self.assertEqual(found["tasks"], items)

    def test_a_cancel_that_is_refused_says_where_to_look(self):
        for status in (404, 409):
            self.gateway.on(CANCEL, refuse(status, "no"))
            result = self.video("--cancel", VGEN)
            self.assertQuietly(1, result)
            self.assertIn("video --list", result.err)
            self.assertNotIn("alltoken-call models", result.err)
            self.assertNotIn("[cost]", result.err)

    def test_a_cancel_prints_the_new_status_and_leaves_nothing_to_resume(self):
        self.gateway.work = 100
        self.assertQuietly(0, self.video("waves", "--detach"))
        result = self.video("--cancel", VGEN)
        self.assertQuietly(0, result)
        self.assertEqual(result.out, b"cancelled\n")
        self.assertEqual(self.row(VGEN)["status"], "cancelled")
        self.assertQuietly(1, self.video("--resume"))

    def test_a_task_that_cannot_be_cancelled_or_is_unknown_is_status_1(self):
        self.assertQuietly(0, self.video("waves"))
        late = self.video("--cancel", VGEN, "--json")
        self.assertQuietly(1, late)
        found = self.document_of(late, *VIDEO_KEYS)
        self.assertEqual((found["error"]["status"], found["task_id"]), (409, VGEN))
        self.assertQuietly(1, self.video("--cancel", "vgen_unknown"))

    def test_a_refused_cancel_leaves_the_task_on_record(self):
        self.assertQuietly(0, self.video("waves", "--detach"))
        self.gateway.on(CANCEL, refuse(409, "cannot_cancel"))
        self.assertQuietly(1, self.video("--cancel", VGEN))
        self.assertQuietly(0, self.video("--resume"))

    def test_an_id_is_one_segment_of_the_path(self):
        self.assertQuietly(1, self.video("--cancel", "../../x/y?z#%"))
        self.assertEqual(self.gateway.requests[-1].path, f"{VIDEOS}/..%2F..%2Fx%2Fy%3Fz%23%25/cancel")

    def test_detach_prints_the_id_and_how_to_resume(self):
        result = self.video("waves", "-o", "x.mp4", "--detach")
        self.assertQuietly(0, result)
        self.assertEqual(result.out.decode(), VGEN + "\n")
        self.assertResumable(result, "video", VGEN)
        self.assertEqual(self.methods(), ["POST"])
        self.assertQuietly(0, self.video("--resume"))
        self.assertHolds("x.mp4", self.gateway.tasks.video)

    def test_what_is_not_a_clip_is_status_9_and_not_put_in_place(self):
        for data in (b"<html>sorry</html>", b' {"error": "gone"}', b""):
            with self.subTest(data):
                self.fresh()
                self.gateway.on(f"GET /files/{VGEN}.mp4", reply(200, data))
                result = self.video("waves", "-o", "x.mp4")
                self.assertQuietly(9, result)
                self.assertIn("[error] not_a_video: ", result.err)
                self.assertPlace()

    def test_an_address_that_is_not_ours_to_open_is_told_and_ends_the_task(self):
        self.gateway.on(GET_VIDEO, reply(200, DONE | {"video_url": "ftp://x/y.mp4"}))
        result = self.video("waves", "-o", "x.mp4")
        self.assertQuietly(3, result)
        self.assertRegex(result.err, r"\[error\] address: .*ftp://x/y\.mp4")
        self.assertEqual(self.row(VGEN)["status"], "completed")
        self.assertPlace()

    def test_what_an_earlier_run_has_saved_is_told_and_nobody_asked(self):
        self.assertQuietly(0, self.video("waves", "-o", "x.mp4"))
        self.gateway.requests.clear()
        result = self.video("--resume", VGEN)
        self.assertQuietly(0, result)
        self.assertEqual(result.out.decode(), os.path.join(self.place, "x.mp4\n"))
        self.assertEqual(self.gateway.requests, [])

    def test_a_resume_without_an_output_shows_the_url(self):
        self.assertQuietly(0, self.video("waves", "--detach"))
        result = self.video("--resume")
        self.assertQuietly(0, result)
        self.assertIn(f"/files/{VGEN}.mp4", result.out.decode())
        self.assertPlace()

    def test_a_resume_whose_place_has_been_taken_is_status_13_and_overwrites_nothing(self):
        # The clip has to be fetched to tell whether it is what an earlier run has put there.
        self.assertQuietly(0, self.video("waves", "-o", "x.mp4", "--detach"))
        self.file("place/x.mp4", b"somebody else's")
        self.gateway.requests.clear()
        result = self.video("--resume")
        self.assertQuietly(13, result)
        self.assertHolds("x.mp4", b"somebody else's")
        self.assertPlace("x.mp4")
        self.assertIn(f"/files/{VGEN}.mp4", result.err)
        self.assertResumable(result, "video", VGEN)
        self.gateway.requests.clear()
        self.assertQuietly(13, self.video("--resume", "-o", "x.mp4"))
        self.assertEqual(self.gateway.requests, [])
        self.assertQuietly(0, self.video("--resume", "-o", "y.mp4"))
        self.assertHolds("y.mp4", self.gateway.tasks.video)
