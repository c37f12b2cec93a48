"""wire: a stranger's JSON, whatever it is."""

import unittest

from alltoken_call import wire


class Json(unittest.TestCase):
    def test_json_is_read_from_bytes_and_text(self):
        for data in ('{"a": "ü"}', '{"a": "ü"}'.encode(), '\ufeff{"a": "ü"}'.encode()):
            with self.subTest(data):
                self.assertEqual(wire.parse_json(data), {"a": "ü"})

    def test_bytes_that_are_not_utf_8_are_replaced(self):
        self.assertEqual(wire.parse_json(b'["a\xffb"]'), ["a\ufffdb"])

    def test_numbers_that_json_does_not_have_become_null(self):
        text = "[NaN, Infinity, -Infinity, 1e999, -1e999, 1e308, 0.5]"
        self.assertEqual(wire.parse_json(text), [None, None, None, None, None, 1e308, 0.5])

    def test_anything_else_is_a_value_error(self):
        for data in ("", "{", "<html>", "{'a': 1}", "1 2", b"\xff", "[" * 100_000, '{"a":' * 100_000):
            with self.subTest(data[:20]), self.assertRaises(ValueError):
                wire.parse_json(data)


class Segments(unittest.TestCase):
    def test_nothing_leaves_its_segment(self):
        for text, segment in {"a-b_c.1~": "a-b_c.1~", "../x?y#z%": "..%2Fx%3Fy%23z%25", "ü\ud800": "%C3%BC%3F"}.items():
            with self.subTest(segment):
                self.assertEqual(wire.segment(text), segment)


class Types(unittest.TestCase):
    def test_an_object_is_itself_and_everything_else_an_empty_one(self):
        self.assertEqual(wire.object_of(b'{"a": 1}'), {"a": 1})
        for data in ("[1]", "null", "3", '"a"', "", "{", "[" * 100_000):
            with self.subTest(data[:20]):
                self.assertEqual(wire.object_of(data), {})

    def test_text_is_a_string_with_something_in_it(self):
        for value, text in (
            ("a", "a"),
            (" a ", " a "),
            ("", None),
            (" \n", None),
            (1, None),
            (None, None),
            (["a"], None),
        ):
            with self.subTest(value):
                self.assertEqual(wire.text_of(value), text)
