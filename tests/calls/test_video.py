"""calls/video.py: from a completed task to its address, or the file."""

from ..gateway import reply
from ..task_support import GET_VIDEO, VGEN, TaskCase


class Addresses(TaskCase):
    def completed(self, url, **fields):
        return reply(200, {"id": VGEN, "status": "completed", "video_url": url, **fields})

    def test_an_address_that_is_not_ours_to_open_is_told_in_one_line_and_is_status_3(self):
        for url in (
            "https://x/a\nhttps://forged/b",
            "https://x/a\r\n[error] forged",
            "https://x/\x1b[2Jb",
            "https://x/a b",
            "https://user:word@x/b",
            "http://192.0.2.1/x.mp4",
            "file:///etc/passwd",
            "javascript:alert(1)",
            "//x/y.mp4",
        ):
            for argv in ((), ("-o", "x.mp4")):
                with self.subTest(url=url, argv=argv):
                    self.fresh()
                    self.gateway.on(GET_VIDEO, self.completed(url))
                    result = self.video("waves", *argv)
                    self.assertQuietly(3, result)
                    self.assertEqual(self.methods(), ["POST", "GET"])
                    self.assertEqual(result.out, b"")
                    (told,) = [line for line in result.err.splitlines() if line.startswith("[error] ")]
                    self.assertTrue(told.startswith("[error] address"), told)
                    self.assertNotRegex(result.err, r"(?m)^(https://forged|\[error\] forged)|\x1b")
                    self.assertPlace()

    def test_the_document_has_such_an_address_as_it_came(self):
        self.gateway.on(GET_VIDEO, self.completed("https://x/a\nb"))
        result = self.video("waves", "--json")
        self.assertQuietly(3, result)
        self.assertEqual(result.document["video_url"], "https://x/a\nb")
        self.assertEqual(result.document["error"]["code"], "address")

    def test_an_address_of_https_is_shown_and_not_opened(self):
        self.gateway.on(GET_VIDEO, self.completed("https://192.0.2.1/x.mp4?a=b"))
        result = self.video("waves")
        self.assertQuietly(0, result)
        self.assertEqual(result.out, b"https://192.0.2.1/x.mp4?a=b\n")
        self.assertEqual(self.methods(), ["POST", "GET"])

    def test_completed_without_an_address_is_status_3_and_can_be_resumed(self):
        for url in (None, "", 7, ["https://x/y"]):
            with self.subTest(url=url):
                self.fresh()
                self.gateway.on(GET_VIDEO, self.completed(url))
                result = self.video("waves")
                self.assertQuietly(3, result)
                self.assertResumable(result, "video", VGEN)
