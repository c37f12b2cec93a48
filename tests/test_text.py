"""text: inert, on one line, and without the key."""

import unittest

from alltoken_call.text import inert, one_line, redacted

KEY = "loopback-test-key"
DRIVING = [*range(9), *range(0x0B, 0x20), *range(0x7F, 0xA0), 0x61C, 0x200E, 0x200F]
DRIVING += [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]


class Texts(unittest.TestCase):
    def test_every_character_that_could_drive_a_terminal_is_escaped_and_no_other(self):
        changed = [code for code in range(0x3000) if inert(chr(code)) != chr(code)]
        self.assertEqual(changed, DRIVING)

    def test_an_escape_is_visible_ascii(self):
        for text, shown in {"\x1b[2J": "\\x1b[2J", "a\rb": "a\\rb", "\x9b": "\\x9b", "\u202e": "\\u202e"}.items():
            with self.subTest(shown):
                self.assertEqual(inert(text), shown)

    def test_one_line_has_no_line_breaks_and_an_end(self):
        self.assertEqual(one_line("a\n [error] b\u2028\x85\r\n c "), "a [error] b c")
        for text, limit, shown in (("abc", 3, "abc"), ("abcd", 3, "ab…"), ("abcd", 4, "abcd"), ("abcd", 1, "…")):
            with self.subTest(text, limit=limit):
                self.assertEqual(one_line(text, limit), shown)
        self.assertEqual(one_line("x" * 1000), "x" * 1000)
        self.assertEqual(one_line("x" * 1001), "x" * 999 + "…")

    def test_a_secret_is_replaced_wherever_it_stands(self):
        self.assertEqual(redacted(f"{KEY} is {KEY}!", KEY), "[key] is [key]!")
        self.assertEqual(redacted("abcdef", "abcdef"), "[key]")

    def test_what_is_too_short_for_a_secret_is_not_replaced(self):
        for secret in ("", "a", "abcde"):
            with self.subTest(secret):
                self.assertEqual(redacted("abcdef", secret), "abcdef")
