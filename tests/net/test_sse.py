"""sse: the same events and comments however the bytes arrive."""

import random
import unittest

from alltoken_call.net import sse

CHAT = """\
: keep-alive
event: note
id: 7
data: {"delta":"Grüße 🙂"}
data:second line
data

: {"cost":"0.0000188000"}
data:  two spaces, one is text
retry: 1500

data: [DONE]

"""
CHAT_ITEMS = [
    ("comment", " keep-alive"),
    ("event", '{"delta":"Grüße 🙂"}\nsecond line\n'),
    ("comment", ' {"cost":"0.0000188000"}'),
    ("event", " two spaces, one is text"),
    ("event", "[DONE]"),
]


def parse(*reads: bytes, limit: int = sse.LIMIT) -> list[tuple]:
    """What a new parser makes of these reads."""
    parser = sse.Parser(limit)
    return [item for read in reads for item in parser.feed(read)]


def slowly(stream: bytes) -> list[tuple]:
    """The same by WHATWG's text, step by step, on the whole stream."""
    text = stream.decode("utf-8", "replace").removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    items, data = [], ""
    for line in text.split("\n")[:-1]:
        field, _, value = line.partition(":")
        value = value[1:] if value[:1] == " " else value
        if line == "":
            if data != "":
                items.append(("event", data[:-1]))
            data = ""
        elif line[0] == ":":
            items.append(("comment", line[1:]))
        elif field == "data":
            data += value + "\n"
    return items


class Splits(unittest.TestCase):
    def assert_however_split(self, stream: bytes, items: list[tuple]) -> None:
        self.assertEqual(parse(stream), items, "whole")
        self.assertEqual(parse(*(stream[at : at + 1] for at in range(len(stream)))), items, "byte by byte")
        for at in range(len(stream) + 1):
            self.assertEqual(parse(stream[:at], stream[at:]), items, f"split at {at}")
            self.assertEqual(parse(stream[:at], b"", stream[at:]), items, f"split at {at} by an empty read")

    def test_every_line_ending_gives_the_same_at_every_split(self):
        lines = CHAT.encode().split(b"\n")[:-1]
        mixed = b"".join(line + (b"\n", b"\r", b"\r\n")[at % 3] for at, line in enumerate(lines, 1))
        for name, stream in {
            "LF": CHAT.encode(),
            "CR": CHAT.encode().replace(b"\n", b"\r"),
            "CRLF": CHAT.encode().replace(b"\n", b"\r\n"),
            "mixed": mixed,
        }.items():
            with self.subTest(name):
                self.assert_however_split(stream, CHAT_ITEMS)

    def test_cr_lf_and_lf_cr_count_as_one_and_as_two_line_ends(self):
        self.assert_however_split(b"data:a\r\ndata:b\r\n\r\n", [("event", "a\nb")])
        self.assert_however_split(b"data:a\n\rdata:b\n\r", [("event", "a"), ("event", "b")])

    def test_an_event_that_a_cr_ends_does_not_wait_for_the_next_read(self):
        parser = sse.Parser()
        self.assertEqual(list(parser.feed(b"data: now\r\n\r")), [("event", "now")])
        self.assertEqual(list(parser.feed(b"\n")), [])
        self.assertEqual(list(parser.feed(b"\n:next\n")), [("comment", "next")])

    def test_one_byte_order_mark_is_dropped_at_the_beginning_only(self):
        bom = "\ufeff".encode()
        self.assert_however_split(bom + b"data: x\n\n", [("event", "x")])
        self.assert_however_split(bom + b"\ndata: x\n\n", [("event", "x")])
        self.assert_however_split(bom * 2 + b"data: x\n\n", [])
        self.assert_however_split(b":a\n" + bom + b"data: x\n\n", [("comment", "a")])

    def test_invalid_utf_8_becomes_replacement_characters(self):
        for data, text in {
            b"a\xffb": "a\ufffdb",
            b"\xe2\x82": "\ufffd",  # the line ends inside a sequence
            b"\xe2\x82(": "\ufffd(",
            b"\xf0\x9f\x99": "\ufffd",
            b"\xc0\xaf": "\ufffd\ufffd",
            b"\xed\xa0\x80": "\ufffd\ufffd\ufffd",
        }.items():
            with self.subTest(data):
                self.assert_however_split(b"data:" + data + b"\n\n", [("event", text)])

    def test_only_cr_and_lf_end_lines(self):
        text = "a\x0bb\x0cc\x85d\u2028e\u2029f\x1cg\x1dh\x1ei"
        self.assert_however_split(f"data: {text}\n\n".encode(), [("event", text)])

    def test_random_streams_agree_with_a_slow_parser(self):
        pieces = [b"data", b"event", b"id", b"retry", b":", b": ", b" ", b"x", b"\0", b"7", b"\xef\xbb\xbf", b"\xe2"]
        pieces += [b"\x82", b"\xac", b"\xff", b"\x0b", b"data: a", b"\n", b"\r", b"\r\n", b"\n\n", b"\r\r", b"\r\n\r\n"]
        chance = random.Random(20260813)
        for _ in range(1500):
            stream = b"".join(chance.choices(pieces, k=chance.randrange(40)))
            cuts = sorted(chance.choices(range(len(stream) + 1), k=chance.randrange(6)))
            reads = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)])]
            self.assertEqual(parse(*reads), slowly(stream), reads)


class Fields(unittest.TestCase):
    def test_a_stream_means_what_the_standard_says(self):
        for stream, items in {
            b"data\n\n": [("event", "")],
            b"data:\n\n": [("event", "")],
            b"data\ndata\n\n": [("event", "\n")],
            b"data: a\ndata:b\ndata:  c\n\n": [("event", "a\nb\n c")],
            b"data:a:b: c\n\n": [("event", "a:b: c")],
            b"Data:a\n data:b\ndata :c\nunknown:d\n\n": [],
            b"\n\n\n": [],
            b"event: x\n\ndata: a\n\n": [("event", "a")],
            b"event: x\nid: 1\nretry: 5\ndata: a\n\nid: 2\0\nid\n\n": [("event", "a")],
            b":\n: a\n::b\n": [("comment", ""), ("comment", " a"), ("comment", ":b")],
            b"data: a\n: between\ndata: b\n\n": [("comment", " between"), ("event", "a\nb")],
        }.items():
            with self.subTest(stream):
                self.assertEqual(parse(stream), items)

    def test_an_object_or_an_error_that_is_in_no_field_is_given_as_json_beside_the_events(self):
        for line, text in {
            b'{"error":{"code":"x:y"}}': '{"error":{"code":"x:y"}}',
            b'error: {"code":"x"}': '{"error": {"code":"x"}}',
            b"error:": '{"error":}',
            b'{"a":"\xe2\x82"}': '{"a":"\ufffd"}',
        }.items():
            with self.subTest(line):
                self.assertEqual(parse(line + b"\n"), [("stray", text)])
                around = b"data: a\n" + line + b"\n\ndata: b\n\n"
                self.assertEqual(parse(around), [("stray", text), ("event", "a"), ("event", "b")])
                for at in range(len(around)):
                    self.assertEqual(parse(around[:at], around[at:]), parse(around))
                for at in range(len(line) + 1):
                    parser = sse.Parser()
                    for read in (b"data: a\n\n" + line[:at], line[at:]):
                        list(parser.feed(read))
                    self.assertEqual(parser.close(), ("stray", text))
        for line in (b"errors: 1", b'"error": 1', b"[1]", b'Error: {"code":"x"}', b' {"error":1}', b"{}x"):
            expected = [("stray", "{}x:")] if line == b"{}x" else []
            with self.subTest(line):
                self.assertEqual(parse(line + b"\n"), expected)

    def test_what_the_end_leaves_unfinished_is_dropped(self):
        for stream in (b"data: a", b"data: a\n", b"data: a\r\n", b": comment"):
            with self.subTest(stream):
                self.assertEqual(parse(stream), [])

    def test_a_comment_that_the_end_leaves_unfinished_is_given_when_the_stream_is_closed(self):
        for stream, text in {
            b": comment": " comment",
            b'data: a\n\n: {"cost":"0.1"}': ' {"cost":"0.1"}',
            b":": "",
            b": a\xe2\x82": " a\ufffd",
        }.items():
            for at in range(len(stream) + 1):
                with self.subTest(stream, at=at):
                    parser = sse.Parser()
                    for read in (stream[:at], stream[at:]):
                        list(parser.feed(read))
                    self.assertEqual(parser.close(), ("comment", text))

    def test_there_is_nothing_to_give_where_a_closed_stream_ended_in_anything_else(self):
        for stream in (
            b"",
            b"data: a",
            b"data: a\n",
            b": a\n",
            b": a\r",
            b"data: a\n\n",
            b"x: a",
            b'data: {"error":7}',
        ):
            with self.subTest(stream):
                parser = sse.Parser()
                list(parser.feed(stream))
                self.assertIsNone(parser.close())


class Limits(unittest.TestCase):
    def test_a_line_may_be_as_long_as_the_limit(self):
        line = b"data:" + b"x" * 15
        for reads in ([line + b"\n\n"], [line, b"\n\n"], [line[:7], line[7:] + b"\n\n"], [b"\n" + line, b"\n\n"]):
            with self.subTest(reads):
                self.assertEqual(parse(*reads, limit=20), [("event", "x" * 15)])

    def test_a_line_of_one_byte_more_is_refused_ended_or_not(self):
        line = b"data:" + b"x" * 16
        for reads in ([line + b"\n"], [line], [line[:7], line[7:]], [line[:7], line[7:] + b"\n"], [b"\n" + line]):
            with self.subTest(reads), self.assertRaisesRegex(sse.LimitExceeded, "more than 20 bytes"):
                parse(*reads, limit=20)

    def test_an_events_lines_count_together_each_with_its_line_feed(self):
        self.assertEqual(parse(b"data:1234\ndata:6789\n\n" * 2, limit=10), [("event", "1234\n6789")] * 2)
        for excess in (b"data:1234\ndata:67890\n", b"data:1234\ndata:678\ndata\ndata\n"):
            for before in (b"", b"data:1\n\n"):
                with self.subTest(before + excess), self.assertRaises(sse.LimitExceeded):
                    parse(before + excess, limit=10)

    def test_what_came_before_the_excess_is_given_first(self):
        before, excess = b":a\ndata:b\n\n", b"x" * 21
        for reads in ([before + excess + b"\n"], [before + excess], [before, excess]):
            with self.subTest(reads):
                parser, items = sse.Parser(20), []
                with self.assertRaises(sse.LimitExceeded):
                    for read in reads:
                        for item in parser.feed(read):
                            items.append(item)
                self.assertEqual(items, [("comment", "a"), ("event", "b")])

    def test_sixty_four_mebibytes_are_the_limit_unless_another_is_given(self):
        line = b":" + b"x" * (64 * 1024 * 1024 - 1)
        parser = sse.Parser()
        self.assertEqual([len(text) for _, text in parser.feed(line + b"\n")], [len(line) - 1])
        with self.assertRaises(sse.LimitExceeded):
            list(parser.feed(line + b"x"))
