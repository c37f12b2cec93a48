"""options: which words on the command line are values, and which are refused."""

import argparse
import math
import unittest

from alltoken_call.commands import options


class Numbers(unittest.TestCase):
    def assert_refused(self, check, texts) -> None:
        for text in texts:
            with self.subTest(refused=text), self.assertRaises(argparse.ArgumentTypeError):
                check(text)

    def test_a_whole_number_is_ascii_digits_with_a_minus_perhaps(self):
        for text, value in {"0": 0, "-5": -5, "007": 7, "9" * 15: 10**15 - 1, "-" + "9" * 15: 1 - 10**15}.items():
            with self.subTest(text):
                self.assertEqual(options.integer(text), value)
        self.assert_refused(options.integer, ("", "-", "--5", "+5", "1_000", "1.0", " 1", "1e3", "٣", "²", "9" * 16))

    def test_a_positive_number_begins_at_one(self):
        self.assertEqual(options.positive("1"), 1)
        self.assert_refused(options.positive, ("0", "-1", "x"))

    def test_a_number_keeps_to_its_bounds(self):
        check = options.number(0, 2)
        for text, value in {"0": 0, "2": 2, "0.7": 0.7, "1e-3": 0.001, "2.0": 2, ".5": 0.5}.items():
            with self.subTest(text):
                self.assertEqual(check(text), value)
        self.assert_refused(check, ("-0.001", "2.001", "nan", "inf", "-inf", "1e999", "0_1", "١", "", "warm"))

    def test_a_number_without_an_upper_bound_is_finite_still(self):
        self.assertEqual(options.number(0, math.inf)("1e300"), 1e300)
        self.assert_refused(options.number(0, math.inf), ("inf", "1e999", "nan", "-1"))

    def test_the_refusal_quotes_the_word_and_names_the_bounds(self):
        for check, message in (
            (options.number(0, 2), "'x' is not a number from 0 to 2"),
            (options.number(0.5, math.inf), "'x' is not a number of 0.5 or more"),
            (options.integer, "'x' is not a whole number"),
        ):
            with self.subTest(message):
                with self.assertRaises(argparse.ArgumentTypeError) as caught:
                    check("x")
                self.assertEqual(str(caught.exception), message)

    def test_seconds_go_from_a_millisecond_to_four_months(self):
        for text, value in {"0.001": 0.001, "120": 120, "1e7": 10_000_000}.items():
            with self.subTest(text):
                self.assertEqual(options.seconds(text), value)
        self.assert_refused(options.seconds, ("0", "0.0009", "-1", "10000001", "inf"))


class Fields(unittest.TestCase):
    def test_a_value_is_json_if_it_parses_strictly_and_else_a_string(self):
        for text, value in {
            "0.5": 0.5,
            "1e3": 1000.0,
            "12": 12,
            "true": True,
            "null": None,
            '"quoted"': "quoted",
            '{"type": "json_object"}': {"type": "json_object"},
            "[1, 2]": [1, 2],
            "high": "high",
            "True": "True",
            "nan": "nan",
            "1_0": "1_0",
            "[1, 2": "[1, 2",
            "'a'": "'a'",
            "a=b": "a=b",
            "": "",
            "[" * 100_000: "[" * 100_000,
        }.items():
            with self.subTest(text[:30]):
                self.assertEqual(options.field(f"key={text}"), ("key", value))

    def test_the_key_is_stripped_and_the_value_is_not(self):
        self.assertEqual(options.field(" top p = a "), ("top p", " a "))

    def test_what_is_not_a_pair_is_refused(self):
        for text in ("key", "", "=value", " =value"):
            with self.subTest(text), self.assertRaisesRegex(argparse.ArgumentTypeError, "is not KEY=VALUE"):
                options.field(text)

    def test_the_commands_own_fields_are_refused(self):
        for key in ("model", "prompt", "stream", "messages", "stream_options", "n", " stream "):
            with self.subTest(key), self.assertRaisesRegex(argparse.ArgumentTypeError, "sets it itself"):
                options.field(f"{key}=1")

    def test_numbers_that_json_does_not_have_are_refused(self):
        for value in ("NaN", "Infinity", "-Infinity", "[NaN]", '{"a": -Infinity}', "1e999", "[-1e999]"):
            with self.subTest(value), self.assertRaisesRegex(argparse.ArgumentTypeError, "is not a JSON number"):
                options.field(f"top_p={value}")


class Words(unittest.TestCase):
    def test_a_name_is_stripped_and_not_blank(self):
        self.assertEqual(options.name(" gpt-5.4 \n"), "gpt-5.4")
        for word in ("", " ", "\n"):
            with self.subTest(word), self.assertRaisesRegex(argparse.ArgumentTypeError, "empty"):
                options.name(word)

    def test_a_fallback_is_a_word_of_two_or_a_list_of_ids(self):
        for word, value in {"auto": "auto", "none": "none", "a": ["a"], " a, b ": ["a", "b"]}.items():
            with self.subTest(word):
                self.assertEqual(options.fallback(word), value)
        for word in ("", ",", "a,", "a,,b"):
            with self.subTest(word), self.assertRaises(argparse.ArgumentTypeError):
                options.fallback(word)

    def test_a_word_is_utf_8_whatever_the_locale_has_made_of_it(self):
        for word, text in (("ü", "ü"), ("\udcc3\udcbc", "ü"), ("\udcff", "\ufffd"), ("\ud800", "\ud800")):
            with self.subTest(ascii(word)):
                self.assertEqual(options.text(word), text)


class SplitModel(unittest.TestCase):
    def test_an_id_before_more_words_is_the_model(self):
        for word in (
            "gpt-5.4-mini",
            "gpt-4o",
            "chatgpt-4o-latest",
            "claude-sonnet-4-6",
            "gemini-3.1-pro-preview",
            "gemma3",
            "deepseek-v4-pro",
            "glm-5.1",
            "qwen3",
            "qwen3.6-flash",
            "qwen3-coder-next",
            "qwq-32b",
            "kimi-k2.6",
            "minimax-m2.7",
            "mimo-v2",
            "grok-4",
            "llama-4-scout",
            "llama3.3:70b",
            "mistral-large",
            "mixtral-8x7b",
            "doubao-1.5-pro",
            "hunyuan-t1",
            "ernie-5",
            "o1-mini",
            "o3-pro",
            "o4-mini-2025-04-16",
            "seedance-1.5-pro",
            "unheard-10.25",
            "openai/gpt-5.4-mini",
            "meta.ai-2/llama-4",
            "x/o3-pro",
        ):
            with self.subTest(word):
                self.assertEqual(options.split_model([word, "say", "hi"]), (word, ["say", "hi"]))
        self.assertEqual(options.split_model(["gpt-4o", "hi"]), ("gpt-4o", ["hi"]))

    def test_any_other_first_word_belongs_to_the_prompt(self):
        for word in (
            "well-known",
            "covid-19",
            "qwen",
            "gpt",
            "gpt-",
            "gpt-?",
            "gpt-5.",
            "gpt-5-",
            "gpt-5:",
            "gpt-5_",
            "gpt-4?",
            "gptx-4",
            "a-gpt-4",
            "qwen is what?",
            "gpt-4 or",
            "o1",
            "o1-",
            "o3-pro.",
            "o2-mini",
            "o5-mini",
            "o31-mini",
            "python-3",
            "python-3.",
            "python-3.x",
            "python-3.10?",
            "python-3.10-",
            "py3-3.10",
            "-3.10",
            "3.10",
            "/gpt-5",
            "a/b/gpt-5",
            "gpt-5\n",
            "",
        ):
            with self.subTest(word):
                self.assertEqual(options.split_model([word, "facts"]), (None, [word, "facts"]))

    def test_a_single_word_is_a_prompt_whatever_it_looks_like(self):
        self.assertEqual(options.split_model(["gpt-5.4-mini"]), (None, ["gpt-5.4-mini"]))
        self.assertEqual(options.split_model([]), (None, []))
