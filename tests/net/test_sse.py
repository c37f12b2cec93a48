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
    ("note", '{"delta":"Grüße 🙂"}\nsecond line\n', "7"),
    ("comment", ' {"cost":"0.0000188000"}'),
    ("message", " two spaces, one is text", "7"),
    ("message", "[DONE]", "7"),
]


def parse(*reads: bytes, limit: int = sse.LIMIT) -> list[tuple]:
    """What a new parser makes of these reads."""
    parser = sse.Parser(limit)
    return [seen(item) for read in reads for item in parser.feed(read)]


def seen(item: "sse.Event | sse.Comment") -> tuple:
    return ("comment", item.text) if isinstance(item, sse.Comment) else (item.type, item.data, item.id)


def slowly(stream: bytes) -> list[tuple]:
    """The same by WHATWG's text, step by step, on the whole stream."""
    text = stream.decode("utf-8", "replace").removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    items, data, kind, last_id = [], "", "", ""
    for line in text.split("\n")[:-1]:
        field, _, value = line.partition(":")
        value = value[1:] if value[:1] == " " else value
        if line == "":
            if data != "":
                items.append((kind or "message", data[:-1], last_id))
            data, kind = "", ""
        elif line[0] == ":":
            items.append(("comment", line[1:]))
        elif field == "data":
            data += value + "\n"
        elif field == "event":
            kind = value
        elif field == "id" and "\0" not in value:
            last_id = value
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
        self.assert_however_split(b"data:a\r\ndata:b\r\n\r\n", [("message", "a\nb", "")])
        self.assert_however_split(b"data:a\n\rdata:b\n\r", [("message", "a", ""), ("message", "b", "")])

    def test_an_event_that_a_cr_ends_does_not_wait_for_the_next_read(self):
        parser = sse.Parser()
        self.assertEqual([seen(item) for item in parser.feed(b"data: now\r\n\r")], [("message", "now", "")])
        self.assertEqual(list(parser.feed(b"\n")), [])
        self.assertEqual([seen(item) for item in parser.feed(b"\n:next\n")], [("comment", "next")])

    def test_one_byte_order_mark_is_dropped_at_the_beginning_only(self):
        bom = "\ufeff".encode()
        self.assert_however_split(bom + b"data: x\n\n", [("message", "x", "")])
        self.assert_however_split(bom + b"\ndata: x\n\n", [("message", "x", "")])
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
                self.assert_however_split(b"data:" + data + b"\n\n", [("message", text, "")])

    def test_only_cr_and_lf_end_lines(self):
        text = "a\x0bb\x0cc\x85d\u2028e\u2029f\x1cg\x1dh\x1ei"
        self.assert_however_split(f"data: {text}\n\n".encode(), [("message", text, "")])

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
            b"data\n\n": [("message", "", "")],
            b"data:\n\n": [("message", "", "")],
            b"data\ndata\n\n": [("message", "\n", "")],
            b"data: a\ndata:b\ndata:  c\n\n": [("message", "a\nb\n c", "")],
            b"data:a:b: c\n\n": [("message", "a:b: c", "")],
            b"Data:a\n data:b\ndata :c\nunknown:d\n\n": [],
            b"\n\n\n": [],
            b"event: x\n\ndata: a\n\n": [("message", "a", "")],
            b"event: x\nevent: y\ndata: a\n\ndata: b\n\n": [("y", "a", ""), ("message", "b", "")],
            b"event: x\nevent\ndata: a\n\n": [("message", "a", "")],
            b"id: 1\n\ndata: a\n\n": [("message", "a", "1")],
            b"id: 1\ndata: a\n\ndata: b\n\nid\ndata: c\n\n": [
                ("message", "a", "1"),
                ("message", "b", "1"),
                ("message", "c", ""),
            ],
            b"id: 1\nid: 2\0\ndata: a\n\n": [("message", "a", "1")],
            b":\n: a\n::b\n": [("comment", ""), ("comment", " a"), ("comment", ":b")],
            b"data: a\n: between\ndata: b\n\n": [("comment", " between"), ("message", "a\nb", "")],
        }.items():
            with self.subTest(stream):
                self.assertEqual(parse(stream), items)

    def test_what_the_end_leaves_unfinished_is_dropped(self):
        for stream in (b"data: a", b"data: a\n", b"data: a\r\n", b": comment"):
            with self.subTest(stream):
                self.assertEqual(parse(stream), [])

    def test_retry_takes_up_to_nine_ascii_digits(self):
        for value, retry in {
            "0": 0,
            "1500": 1500,
            "999999999": 999999999,
            "1000000000": 5,
            "": 5,
            "-1": 5,
            "1.5": 5,
            "1 ": 5,
            "٣": 5,
            "²": 5,
        }.items():
            with self.subTest(value):
                parser = sse.Parser()
                self.assertIsNone(parser.retry)
                self.assertEqual(list(parser.feed(f"retry: 5\nretry: {value}\n".encode())), [])
                self.assertEqual(parser.retry, retry)


class Limits(unittest.TestCase):
    def test_a_line_may_be_as_long_as_the_limit(self):
        line = b"data:" + b"x" * 15
        for reads in ([line + b"\n\n"], [line, b"\n\n"], [line[:7], line[7:] + b"\n\n"], [b"\n" + line, b"\n\n"]):
            with self.subTest(reads):
                self.assertEqual(parse(*reads, limit=20), [("message", "x" * 15, "")])

    def test_a_line_of_one_byte_more_is_refused_ended_or_not(self):
        line = b"data:" + b"x" * 16
        for reads in ([line + b"\n"], [line], [line[:7], line[7:]], [line[:7], line[7:] + b"\n"], [b"\n" + line]):
            with self.subTest(reads), self.assertRaisesRegex(sse.LimitExceeded, "more than 20 bytes"):
                parse(*reads, limit=20)

    def test_an_events_lines_count_together_each_with_its_line_feed(self):
        self.assertEqual(parse(b"data:1234\ndata:6789\n\n" * 2, limit=10), [("message", "1234\n6789", "")] * 2)
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
                            items.append(seen(item))
                self.assertEqual(items, [("comment", "a"), ("message", "b", "")])

    def test_eight_mebibytes_are_the_limit_unless_another_is_given(self):
        line = b":" + b"x" * (8 * 1024 * 1024 - 1)
        parser = sse.Parser()
        self.assertEqual([len(comment.text) for comment in parser.feed(line + b"\n")], [len(line) - 1])
        with self.assertRaises(sse.LimitExceeded):
            list(parser.feed(line + b"x"))
