"""retry: how long to wait, or stop."""

import unittest

from alltoken_call.net import retry

NOON = 784111777.0  # Sun, 06 Nov 1994 08:49:37 GMT, RFC 9110's own example


class RetryAfter(unittest.TestCase):
    def test_ascii_digits_are_seconds(self):
        for value, seconds in {"0": 0, "1": 1, "60": 60, " 7\t": 7, "007": 7, "9999999999": 9999999999}.items():
            with self.subTest(value):
                self.assertEqual(retry.parse_retry_after(value, NOON), seconds)

    def test_thousands_of_digits_are_a_very_long_time(self):
        self.assertGreaterEqual(retry.parse_retry_after("9" * 5000, NOON), 9_999_999_999)

    def test_each_of_the_three_forms_of_an_http_date_is_a_wait_until_then(self):
        for value in (
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ):
            with self.subTest(value):
                self.assertEqual(retry.parse_retry_after(value, NOON - 90.5), 90.5)

    def test_a_date_that_has_passed_is_no_wait(self):
        for later in (0, 0.5, 1e6):
            with self.subTest(later):
                self.assertEqual(retry.parse_retry_after("Sun, 06 Nov 1994 08:49:37 GMT", NOON + later), 0)

    def test_anything_else_is_none(self):
        for value in (
            None,
            "",
            " ",
            "-1",
            "+5",
            "1.5",
            "1_0",
            "0x10",
            "5 s",
            "120, 120",
            "٣",
            "²",
            "soon",
            "Sun",
            ",",
            "Sun, 99 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 99999 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 +99999999999",
            "Sün, 06 Nov 1994 08:49:37 GMT",
        ):
            with self.subTest(value):
                self.assertIsNone(retry.parse_retry_after(value, NOON))


class Wait(unittest.TestCase):
    def test_back_off_doubles_up_to_eight_seconds(self):
        for attempt, longest in enumerate((0.5, 1, 2, 4, 8, 8, 8)):
            with self.subTest(attempt):
                self.assertEqual(retry.backoff(attempt, 1), longest)
                self.assertEqual(retry.backoff(attempt, 0), longest * 0.75)
                self.assertEqual(retry.backoff(attempt, 0.5), longest * 0.875)

    def test_there_are_two_repeats(self):
        self.assertEqual([retry.wait(attempt, None, 1) for attempt in range(4)], [0.5, 1, None, None])
        self.assertEqual([retry.wait(attempt, 3, 1) for attempt in range(4)], [3, 3, None, None])

    def test_the_gateways_own_wait_replaces_ours_up_to_a_minute(self):
        for asked, waited in ((0, 0), (0.25, 0.25), (60, 60), (60.001, None), (3600, None)):
            with self.subTest(asked):
                self.assertEqual(retry.wait(0, asked, 0.5), waited)
