"""The chunked transfer coding: any split, any size, and what is refused."""

import unittest

from alltoken_call.net.chunked import LONGEST_LINE, Dechunker

BODY = b"4\r\nWiki\r\n6;name=value\r\npedia \r\nE\r\nin \r\n\r\nchunks.\r\n0\r\n\r\n"
TEXT = b"Wikipedia in \r\n\r\nchunks."


def decoded(*pieces: bytes) -> tuple[bytes, bool]:
    text, ended, fault = faulty(*pieces)
    if fault is not None:
        raise AssertionError(fault)
    return text, ended


def faulty(*pieces: bytes) -> tuple[bytes, bool, str | None]:
    """What comes out up to the end or the first fault, as a reader takes it."""
    dechunker = Dechunker()
    text = b""
    for piece in pieces:
        if not dechunker.fault:
            text += dechunker.feed(piece)
    return text, dechunker.ended, dechunker.fault


class Chunks(unittest.TestCase):
    def test_a_body_is_the_same_split_at_any_byte(self):
        for at in range(len(BODY) + 1):
            with self.subTest(at=at):
                self.assertEqual(decoded(BODY[:at], BODY[at:]), (TEXT, True))
        self.assertEqual(decoded(*(BODY[at : at + 1] for at in range(len(BODY)))), (TEXT, True))

    def test_bare_line_feeds_capitals_leading_zeros_and_spaces_are_taken(self):
        for body, text in {
            b"4\nWiki\n0\n\n": b"Wiki",
            b"000A\r\n0123456789\r\n0\r\n\r\n": b"0123456789",
            b"a \r\n0123456789\r\n0 \r\n\r\n": b"0123456789",
        }.items():
            with self.subTest(body=body):
                self.assertEqual(decoded(body), (text, True))

    def test_bytes_are_handed_out_before_their_chunk_is_whole(self):
        dechunker = Dechunker()
        self.assertEqual(
            [dechunker.feed(b"5\r\nhe"), dechunker.feed(b"l"), dechunker.feed(b"lo\r\n")], [b"he", b"l", b"lo"]
        )
        self.assertFalse(dechunker.ended)

    def test_a_body_without_its_last_chunk_has_not_ended(self):
        for at in range(len(BODY) - len(b"0\r\n\r\n") + 1):
            with self.subTest(at=at):
                self.assertFalse(decoded(BODY[:at])[1])

    def test_trailers_of_any_length_and_what_follows_them_are_left_alone(self):
        for rest in (b"X-Trailer: 1\r\n\r\n", b"X: " + b"y" * 2 * LONGEST_LINE + b"\r\n\r\n", b"zz\r\n\r\n"):
            with self.subTest(rest=rest[:20]):
                self.assertEqual(decoded(b"4\r\nWiki\r\n0\r\n" + rest), (b"Wiki", True))
                self.assertEqual(decoded(b"4\r\nWiki\r\n0\r\n", rest), (b"Wiki", True))

    def test_what_is_no_chunk_is_a_fault_and_what_came_before_it_is_handed_out(self):
        for body, text in {
            b"\r\nWiki": b"",
            b"-4\r\nWiki\r\n": b"",
            b"+4\r\nWiki\r\n": b"",
            b"0x4\r\nWiki\r\n": b"",
            b"4_0\r\nWiki\r\n": b"",
            b"\xd9\xa4\r\nWiki\r\n": b"",
            b'{"id": 1}\r\n': b"",
            b"1" * 16 + b"\r\n": b"",
            b"3\r\nWiki\r\n0\r\n\r\n": b"Wik",
        }.items():
            for before, told in ((b"", b""), (b"5\r\nhello\r\n", b"hello")):
                whole = before + body
                for at in range(len(whole) + 1):
                    with self.subTest(body=whole, at=at):
                        found, ended, fault = faulty(whole[:at], whole[at:])
                        self.assertEqual((found, ended), (told + text, False))
                        self.assertTrue(fault)

    def test_an_endless_line_is_a_fault(self):
        text, ended, fault = faulty(*[b"4;" + b"x" * 1000] * 6)
        self.assertEqual((text, ended), (b"", False))
        self.assertTrue(fault)
        self.assertTrue(faulty(b"4\r\nWiki\r\n" + b"4;" + b"x" * (LONGEST_LINE + 1))[2])
