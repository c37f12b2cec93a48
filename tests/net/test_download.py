"""Downloads: whole or not at all, gone on with where they broke, and never with the key."""

import gzip
import os
import time

from ..gateway import refuse, reply
from ..task_support import GET_VIDEO, VGEN, TaskCase, normal, strike

FILE = f"GET /files/{VGEN}.mp4"
DATA = bytes(range(256)) * 400


def send(data, *, status=200, length=None, **headers):
    """A step: a file's bytes, cut where `length` promises more."""

    def step(exchange):
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        exchange.head(status, ({} if length == "none" else {"Content-Length": str(length or len(data))}) | fields)
        exchange.raw(data)

    return step


def ranged(tag='"one"', data=DATA):
    """A step: what a server with ranges answers, which goes by If-Range too."""

    def step(exchange):
        start = int(exchange.headers.get("Range", "bytes=0-")[6:-1])
        if exchange.headers.get("If-Range") != tag:
            start = 0
        if not start:
            return send(data, ETag=tag)(exchange)
        send(data[start:], status=206, ETag=tag, Content_Range=f"bytes {start}-{len(data) - 1}/{len(data)}")(exchange)

    return step


class Downloads(TaskCase):
    def run_on(self, *steps, argv=(), **options):
        self.fresh()
        self.gateway.on(FILE, *steps)
        self.result = self.video("waves", "-o", "x.mp4", *argv, **options)
        return self.result

    def asked(self):
        return [one for one in self.gateway.requests if one.path.startswith("/files/")]

    def ranges(self):
        return [one.headers.get("Range") for one in self.asked()]

    def assertWhole(self, data=DATA):
        self.assertQuietly(0, self.result)
        self.assertHolds("x.mp4", data)
        self.assertPlace("x.mp4")

    def test_a_part_of_another_version_is_never_joined_to_what_came_before(self):
        self.run_on(
            send(DATA[:1000], length=len(DATA), ETag='"old"'),
            send(DATA[1000:], status=206, ETag='"new"', Content_Range=f"bytes 1000-{len(DATA) - 1}/{len(DATA)}"),
            send(DATA, ETag='"new"'),
        )
        self.assertWhole()
        self.assertEqual(self.ranges(), [None, "bytes=1000-", None])

    def test_where_no_length_was_told_a_cut_looks_like_the_end_and_is_warned_of(self):
        self.run_on(send(DATA, length="none"))
        self.assertWhole()
        self.assertIn("[warning] the server sent no length", self.result.err)

    def test_a_file_is_put_in_place_whole_and_the_key_stays_at_home(self):
        self.run_on(ranged())
        self.assertWhole()
        self.assertEqual(self.result.out, b"x.mp4\n")
        self.assertNotIn("[warning]", self.result.err)
        self.assertEqual(len(self.asked()), 1)
        self.assertNotIn("Authorization", self.asked()[0].headers)
        self.assertNotIn(self.environ["ALLTOKEN_API_KEY"], str(self.asked()[0].headers))
        self.assertEqual(self.asked()[0].query, "signature=loopback")

    def test_chunks_and_a_body_without_a_length_are_whole_at_their_end(self):
        def chunks(exchange):
            exchange.head(200, {"Transfer-Encoding": "chunked"})
            exchange.chunk(DATA[:1000])
            exchange.chunk(DATA[1000:])
            exchange.end()

        for step in (chunks, send(DATA, length="none")):
            self.run_on(step)
            self.assertWhole()

    def test_a_cut_file_is_gone_on_with_from_the_byte_reached(self):
        for at in (1, 1000, len(DATA) - 1):
            with self.subTest(at=at):
                self.run_on(send(DATA[:at], length=len(DATA), ETag='"one"'), ranged())
                self.assertWhole()
                self.assertEqual(self.ranges(), [None, f"bytes={at}-"])
                self.assertEqual(self.asked()[1].headers["If-Range"], '"one"')
                self.assertIn("[retry]", self.result.err)

    def test_a_file_cut_many_times_is_whole_in_the_end(self):
        def some(exchange):
            start = int(exchange.headers.get("Range", "bytes=0-")[6:-1])
            total = len(DATA)
            piece = DATA[start : start + 7000]
            head = {"Content_Range": f"bytes {start}-{total - 1}/{total}"} if start else {}
            send(piece, status=206 if start else 200, length=total - start, ETag='"one"', **head)(exchange)

        self.run_on(some)
        self.assertWhole()
        self.assertEqual(len(self.asked()), -(-len(DATA) // 7000))

    def test_a_file_that_has_changed_is_begun_again(self):
        other = DATA[::-1]
        self.run_on(send(DATA[:1000], length=len(DATA), ETag='"one"'), ranged('"two"', other))
        self.assertWhole(other)

    def test_a_server_without_ranges_or_tags_is_begun_again(self):
        for first in (send(DATA[:1000], length=len(DATA)), send(DATA[:1000], length=len(DATA), ETag='"one"')):
            self.run_on(first, send(DATA))
            self.assertWhole()

    def test_without_a_tag_no_range_is_asked_for(self):
        self.run_on(send(DATA[:1000], length=len(DATA)), send(DATA))
        self.assertEqual(self.ranges(), [None, None])

    def test_a_weak_tag_is_no_mark(self):
        self.run_on(send(DATA[:1000], length=len(DATA), ETag='W/"one"'), ranged('W/"one"'))
        self.assertWhole()
        self.assertNotIn("If-Range", self.asked()[1].headers)
        self.assertEqual(self.ranges(), [None, None])

    def test_416_begins_again(self):
        self.run_on(send(DATA[:1000], length=len(DATA), ETag='"one"'), send(b"", status=416), send(DATA))
        self.assertWhole()
        self.assertEqual(self.ranges(), [None, "bytes=1000-", None])

    def test_a_part_that_is_not_the_one_asked_for_damages_no_file(self):
        total = len(DATA)
        for name, (start, end) in {
            "later": (2000, total),
            "earlier": (500, total),
            "shorter": (1000, 3000),
            "from zero": (0, total),
        }.items():
            with self.subTest(name):
                head = f"bytes {start}-{end - 1}/{total}"
                odd = send(DATA[start:end], status=206, ETag='"one"', Content_Range=head)
                self.run_on(send(DATA[:1000], length=total, ETag='"one"'), odd, ranged())
                self.assertWhole()

    def test_a_part_that_nobody_asked_for_is_not_the_file(self):
        head = f"bytes 500-{len(DATA) - 1}/{len(DATA)}"
        self.run_on(send(DATA[500:], status=206, ETag='"one"', Content_Range=head), ranged())
        self.assertWhole()

    def test_everything_passing_is_repeated(self):
        for name, step in {
            "500": reply(500, b""),
            "503": reply(503, b"<Error/>"),
            "429": refuse(429, "SlowDown"),
            "408": reply(408, b""),
            "closed": lambda one: None,
            "reset": lambda one: one.reset(),
            "silence": lambda one: one.hold(),
        }.items():
            with self.subTest(name):
                self.run_on(step, step, step, step, ranged(), argv=("--timeout", "0.1"))
                self.assertWhole()
                self.assertEqual(len(self.asked()), 5)

    def test_a_refusal_ends_it_and_leaves_nothing_but_the_url(self):
        for code in (300, 304, 400, 401, 403, 404, 410):
            with self.subTest(code=code):
                self.run_on(reply(code, b"<Error><Code>AccessDenied</Code></Error>"))
                self.assertQuietly(1, self.result)  # also 401: no key was sent
                self.assertIn("may have expired", self.result.err)
                self.assertNotIn("ALLTOKEN_API_KEY", self.result.err)
                self.assertPlace()
                self.assertEqual(len(self.asked()), 1)
                self.assertResumable(self.result, "video", VGEN)

    def test_a_server_that_never_recovers_is_asked_until_the_deadline(self):
        before = self.clock.monotonic()
        self.run_on(reply(503, b""), argv=("--max-wait", "60"))
        self.assertQuietly(8, self.result)
        self.assertResumable(self.result, "video", VGEN)
        self.assertLess(self.clock.monotonic() - before, 61)
        self.assertGreater(len(self.asked()), 3)
        self.assertPlace()

    def test_a_server_that_always_breaks_off_at_the_same_byte_is_not_hammered(self):
        self.run_on(send(DATA[:1000], length=len(DATA)), argv=("--max-wait", "60"))
        self.assertQuietly(8, self.result)
        self.assertPlace()
        self.assertEqual(self.result.sleeps, sorted(self.result.sleeps))
        self.assertTrue(6 <= self.result.sleeps[-1] <= 8, self.result.sleeps)
        self.assertLess(len(self.asked()), 20)

    def test_pauses_grow_and_begin_anew_where_bytes_have_come(self):
        cut = [send(DATA[:at], length=len(DATA)) for at in (0, 0, 0, 1000, 0)]
        self.run_on(*cut, ranged())
        self.assertWhole()
        self.assertEqual(self.result.sleeps, [0.38, 0.75, 1.5, 0.38, 0.75])

    def test_a_compressed_file_is_inflated_and_has_no_length_and_no_ranges(self):
        data = gzip.compress(DATA)
        fields = {"Content_Encoding": "gzip", "ETag": '"one"'}
        self.run_on(send(data[:100], length=len(data), **fields), send(data, **fields))
        self.assertWhole()
        self.assertEqual(self.ranges(), [None, None])

    def test_an_encoding_that_was_not_asked_for_is_status_3_and_nothing_is_put_in_place(self):
        self.run_on(send(DATA, Content_Encoding="br"))
        self.assertQuietly(3, self.result)
        self.assertEqual(len(self.asked()), 1)
        self.assertPlace()

    def test_redirects_are_followed_five_times_at_most(self):
        for hops, end in ((1, 0), (5, 0), (6, 3)):
            for code in (301, 302, 303, 307, 308):
                with self.subTest(hops=hops, code=code):
                    for hop in range(hops):
                        target = f"/files/hop{hop + 1}.mp4" if hop + 1 < hops else "/files/last.mp4"
                        self.gateway.on(f"GET /files/hop{hop}.mp4", reply(code, b"", {"Location": target}))
                    self.gateway.on("GET /files/last.mp4", ranged())
                    result = self.run_on(
                        reply(code, b"", {"Location": "/files/hop1.mp4" if hops > 1 else "/files/last.mp4"})
                    )
                    self.assertQuietly(end, result)
                    self.assertEqual("[error] redirect: " in result.err, end != 0)
                    self.assertTrue(all("Authorization" not in one.headers for one in self.asked()))
                    if end == 0:
                        self.assertWhole()

    def test_redirects_lead_to_https_or_loopback_only(self):
        for where in (
            "file:///etc/passwd",
            "ftp://127.0.0.1/x",
            "http://192.0.2.1/x",
            "http://example.com/x",
            "data:,x",
            "http://user@127.0.0.1/x",
            "http://[bad",
            "",
            None,
        ):
            with self.subTest(where=where):
                self.run_on(reply(302, b"", {} if where is None else {"Location": where}))
                self.assertIn(self.result.status, (1, 3), self.result.err)
                self.assertNotIn("Traceback", self.result.err)
                self.assertNotIn("bug", self.result.err)
                self.assertPlace()

    def test_the_url_itself_is_https_or_loopback_only(self):
        for url in (
            "file:///etc/passwd",
            "ftp://127.0.0.1/x",
            "data:video/mp4;base64,AAAA",
            "http://192.0.2.1/x.mp4",
            "http://example.com/x.mp4",
            "http://localhost.example.com/x",
            "HTTP://127.1.2.3.4/x",
            "http://user:pw@127.0.0.1/x",
            "//127.0.0.1/x",
            "javascript:1",
            "x.mp4",
            "https://",
            "\x1b[31m",
            "http://[bad",
        ):
            for argv in ((), ("-o", "x.mp4")):
                with self.subTest(url=url, argv=argv):
                    self.fresh()
                    self.gateway.on(GET_VIDEO, reply(200, {"status": "completed", "video_url": url}))
                    result = self.video("waves", *argv)
                    self.assertQuietly(3, result)
                    self.assertEqual((self.methods(), result.out), (["POST", "GET"], b""))
                    self.assertNotIn("\x1b", result.err)
                    self.assertPlace()

    def test_progress_is_shown_on_a_terminal(self):
        self.run_on(ranged(), terminals="out err")
        self.assertRegex(self.result.err, rf"\rdownloading {len(DATA):,} bytes of {len(DATA):,}\x1b\[K")

    def test_a_download_that_is_interrupted_leaves_no_piece_and_can_be_resumed(self):
        def step(exchange):
            exchange.head(200, {"Content-Length": str(len(DATA))})
            exchange.raw(DATA[:1000])
            time.sleep(0.05)
            strike()
            exchange.hold()

        self.run_on(step, ranged(), signals=True)
        self.assertQuietly(130, self.result)
        self.assertPlace()
        self.assertResumable(self.result, "video", VGEN)
        self.result = self.video("--resume")
        self.assertWhole()

    def test_a_file_that_appeared_meanwhile_is_not_overwritten(self):
        def step(exchange):
            self.file("place/x.mp4", b"somebody else's")
            ranged()(exchange)

        self.run_on(step)
        self.assertQuietly(13, self.result)
        self.assertHolds("x.mp4", b"somebody else's")
        self.assertPlace("x.mp4")

    def test_a_directory_that_vanished_meanwhile_is_status_13_and_the_url_is_told(self):
        os.mkdir("sub")
        self.gateway.on(FILE, ranged())

        def poll(exchange):
            os.rmdir("sub")
            normal(exchange)

        self.gateway.on(GET_VIDEO, poll)
        result = self.video("waves", "-o", "sub/x.mp4")
        self.assertQuietly(13, result)
        self.assertIn(f"/files/{VGEN}.mp4?signature=loopback", result.err)
