"""retry: what is repeated, how long it waits, and when it stops."""

from __future__ import annotations

import math
import unittest

from alltoken_call.errors import NetError
from alltoken_call.gateways.alltoken import ONE_KEY
from alltoken_call.gateways.openai import ONE_ATTEMPT
from alltoken_call.net import retry
from alltoken_call.net.clock import Clock
from alltoken_call.request import DOWNLOADING, POLLING, READING, UNANSWERED, Repeat

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


class Backoff(unittest.TestCase):
    def test_back_off_doubles_up_to_eight_seconds(self):
        for attempt, longest in enumerate((0.5, 1, 2, 4, 8, 8, 8)):
            with self.subTest(attempt):
                self.assertEqual(retry.backoff(attempt, 1), longest)
                self.assertEqual(retry.backoff(attempt, 0), longest * 0.75)
                self.assertEqual(retry.backoff(attempt, 0.5), longest * 0.875)


class World:
    """A clock that nobody has to wait for, and attempts that fail as told."""

    def __init__(self, *failures: NetError | None, takes: float = 0.0, chance: float = 1.0, max_wait: float = math.inf):
        self.time = 1000.0
        self.takes = takes  # seconds of each attempt
        self.begun: list[float] = []  # when each attempt was made, in seconds since the first
        self.sleeps: list[float] = []
        self.events: list[object] = []
        self.failures = failures
        self.clock = Clock(
            monotonic=lambda: self.time, now=lambda: NOON, sleep=self.sleep, chance=lambda: chance, max_wait=max_wait
        )

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.time += seconds

    def attempt(self) -> str:
        number = len(self.begun)
        self.begun.append(self.time - 1000.0)
        self.time += self.takes
        if failure := self.failures[min(number, len(self.failures) - 1)]:  # the last one stays
            raise failure
        return f"answer {number}"

    def run(self, policy: Repeat, least: float = 0.0) -> str:
        return retry.repeat(self.attempt, policy, self.clock, self.events.append, least)

    def fails(self, policy: Repeat, least: float = 0.0) -> NetError:
        """The failure that is left in the end."""
        try:
            found = self.run(policy, least)
        except NetError as error:
            return error
        raise AssertionError(found)


def refused(http: int, *, enveloped: bool = True, retry_after: float | None = None, **more) -> NetError:
    """A refusal as a dialect makes one."""
    passing = http in (408, 425, 429) or http >= 500
    fields = {"sent": True, "passing": passing, "http": http, "enveloped": enveloped, "retry_after": retry_after}
    return NetError("no", "slug", **fields | more)


UNREACHED = NetError("nobody there", "unreachable", passing=True)
LOST = NetError("cut", "connection_lost", sent=True, passing=True)
SILENT = NetError("silence", "timeout", sent=True, passing=True)
TLS = NetError("not trusted", "tls")


class Repeats(unittest.TestCase):
    def test_an_answer_is_returned_at_once(self):
        world = World(None)
        self.assertEqual(world.run(UNANSWERED), "answer 0")
        self.assertEqual((world.sleeps, world.events), ([], []))

    def test_what_each_kind_of_request_repeats_and_whether_its_outcome_is_known_then(self):
        table = (  # failure, then for each policy: attempts, and whether the gateway may have acted
            (UNREACHED, (3, False), (3, False), (3, False), (3, False)),
            (TLS, (1, False), (1, False), (1, False), (1, False)),
            (LOST, (1, True), (3, True), (3, True), (1, True)),
            (SILENT, (1, True), (3, True), (3, True), (1, True)),
            (refused(400), (1, False), (1, False), (1, False), (1, False)),
            (refused(401), (1, False), (1, False), (1, False), (1, False)),
            (refused(408), (1, False), (1, False), (1, False), (1, False)),
            (refused(409), (1, False), (1, False), (1, False), (1, False)),
            (refused(429), (3, False), (3, False), (3, False), (3, False)),
            (refused(429, enveloped=False), (3, False), (3, False), (3, False), (3, False)),
            (refused(500), (1, False), (3, False), (1, False), (1, False)),
            (refused(503), (3, False), (3, False), (3, False), (1, False)),
            (refused(503, passing=False), (1, False), (1, False), (1, False), (1, False)),
            (refused(502, enveloped=False), (1, False), (3, False), (3, True), (1, True)),
            (refused(504, enveloped=False), (1, False), (3, False), (3, True), (1, True)),
            (refused(0), (1, False), (1, False), (1, False), (1, False)),
            (refused(0, enveloped=False), (1, False), (1, False), (1, False), (1, False)),
        )
        policies = {"chat": UNANSWERED, "reading": READING, "image": ONE_KEY, "video": ONE_ATTEMPT}
        for failure, *expected in table:
            for (name, policy), (attempts, sent) in zip(policies.items(), expected):
                with self.subTest(name, failure=(failure.code, failure.http, failure.enveloped)):
                    world = World(failure)
                    error = world.fails(policy)
                    self.assertEqual((len(world.begun), error.sent), (attempts, sent))
                    self.assertEqual(
                        (error.code, error.http, error.message), (failure.code, failure.http, failure.message)
                    )

    def test_a_repeat_that_succeeds_is_a_success(self):
        self.assertEqual(World(refused(429), UNREACHED, None).run(UNANSWERED), "answer 2")

    def test_an_outcome_that_was_once_unknown_stays_unknown(self):
        for failures in ((LOST, refused(429)), (LOST, UNREACHED), (refused(502, enveloped=False), refused(400))):
            with self.subTest([failure.code for failure in failures]):
                self.assertTrue(World(*failures).fails(ONE_KEY).sent)
        self.assertFalse(World(UNREACHED, refused(400)).fails(ONE_KEY).sent)

    def test_a_failure_is_passed_on_as_it_is_and_not_changed(self):
        failure = refused(429, retry_after=99.0, hint="do", request_id="req_1", type="odd", task_id="igen_1")
        before = dict(vars(failure))
        error = World(failure).fails(UNANSWERED)
        self.assertEqual(vars(failure), before)
        self.assertEqual(vars(error), before | {"sent": False})

    def test_another_exception_is_not_repeated(self):
        def attempt():
            raise KeyError("bug")

        with self.assertRaises(KeyError):
            retry.repeat(attempt, READING, World(None).clock, lambda _: None)


class Pauses(unittest.TestCase):
    def test_the_two_pauses_grow_and_each_is_told_before_it_is_waited(self):
        world = World(UNREACHED)
        world.fails(READING)
        self.assertEqual(world.sleeps, [0.5, 1.0])
        self.assertEqual([event.tag for event in world.events], ["retry", "retry"])
        for event, told in zip(world.events, ("0.5 s (1 of 2)", "1 s (2 of 2)")):
            self.assertIn("nobody there", event.text)
            self.assertTrue(event.text.endswith(told), event.text)

    def test_a_refusal_is_told_by_its_status_and_code(self):
        world = World(refused(429), None)
        world.run(UNANSWERED)
        self.assertIn("429 slug", world.events[0].text)

    def test_the_gateways_own_wait_replaces_ours_up_to_a_minute(self):
        for asked, sleeps in (
            (0.0, [0, 0]),
            (0.25, [0.25] * 2),
            (3.0, [3, 3]),
            (60.0, [60, 60]),
            (60.001, []),
            (3600.0, []),
        ):
            with self.subTest(asked):
                world = World(refused(429, retry_after=asked))
                self.assertEqual(world.fails(UNANSWERED).retry_after, asked)
                self.assertEqual(world.sleeps, sleeps)

    def test_no_pause_is_shorter_than_the_least(self):
        for failure, sleeps in ((UNREACHED, [0.75, 1.0]), (refused(429, retry_after=0.0), [0.75, 0.75])):
            world = World(failure)
            world.fails(READING, least=0.75)
            self.assertEqual(world.sleeps, sleeps)

    def test_a_pause_that_the_deadline_cuts_is_not_begun(self):
        for max_wait, sleeps in ((0.5, []), (0.6, [0.5]), (1.5, [0.5]), (1.6, [0.5, 1.0])):
            with self.subTest(max_wait):
                world = World(UNREACHED, max_wait=max_wait)
                self.assertEqual(world.fails(READING).code, "unreachable")
                self.assertEqual((world.sleeps, len(world.begun)), (sleeps, len(sleeps) + 1))

    def test_no_attempt_begins_later_than_the_latest_after_the_first(self):
        for takes, begun in ((20.0, [0.0, 20.5, 41.5]), (24.8, [0.0, 25.3]), (49.5, [0.0, 50.0]), (49.6, [0.0])):
            with self.subTest(takes):
                world = World(SILENT, takes=takes)
                self.assertTrue(world.fails(ONE_KEY).sent)
                self.assertEqual(len(world.begun), len(begun))
                for found, expected in zip(world.begun, begun):
                    self.assertAlmostEqual(found, expected)
                self.assertLessEqual(world.begun[-1], ONE_KEY.latest)
        world = World(refused(429, retry_after=50.5), None)
        self.assertEqual((world.fails(ONE_KEY).http, world.sleeps), (429, []))


class Forever(unittest.TestCase):
    def test_everything_passing_is_repeated_without_a_count(self):
        failures = (UNREACHED, LOST, SILENT, refused(408), refused(429), refused(500), refused(503, enveloped=False))
        world = World(*failures, None)
        self.assertEqual(world.run(POLLING), f"answer {len(failures)}")
        self.assertEqual(world.sleeps, [0.5, 1, 2, 4, 8, 8, 8])
        self.assertFalse([event for event in world.events if " of " in event.text])

    def test_statuses_and_codes_of_the_policy_are_repeated_too_and_nothing_else(self):
        garbled = NetError("not JSON", "protocol", sent=True)
        other = NetError("another part", "range", sent=True)
        for policy, failure, again in (
            (POLLING, refused(409), True),
            (POLLING, garbled, True),
            (POLLING, other, False),
            (POLLING, refused(404), False),
            (POLLING, refused(410), False),
            (POLLING, TLS, False),
            (DOWNLOADING, refused(416), True),
            (DOWNLOADING, other, True),
            (DOWNLOADING, garbled, False),
            (DOWNLOADING, refused(409), False),
        ):
            with self.subTest(failure.code, http=failure.http):
                world = World(failure, None)
                if again:
                    self.assertEqual(world.run(policy), "answer 1")
                else:
                    self.assertEqual((world.fails(policy).code, world.sleeps), (failure.code, []))

    def test_the_deadline_ends_it_as_max_wait(self):
        world = World(refused(503), max_wait=60.0, takes=0.1)
        self.assertEqual(world.fails(DOWNLOADING).code, "max_wait")
        self.assertLess(world.time - 1000.0, 60.0)
        self.assertGreater(len(world.begun), 5)

    def test_a_policy_with_a_last_attempt_makes_it_at_the_deadline(self):
        world = World(refused(503), max_wait=60.0, takes=0.125)
        self.assertEqual(world.fails(POLLING).code, "max_wait")
        self.assertEqual(world.begun[-1], 60.0)
        world = World(refused(503), None, max_wait=0.25)
        self.assertEqual((world.run(POLLING), world.begun), ("answer 1", [0.0, 0.25]))
        self.assertEqual(World(refused(503), max_wait=0.0).fails(POLLING).code, "max_wait")

    def test_a_failure_that_is_final_is_not_called_max_wait(self):
        self.assertEqual(World(refused(410), max_wait=0.0).fails(POLLING).http, 410)

    def test_a_wait_that_is_asked_for_is_kept_between_half_a_second_and_a_minute(self):
        for asked, waited in ((0.0, 0.5), (0.4, 0.5), (7.0, 7.0), (60.0, 60.0), (3600.0, 60.0)):
            with self.subTest(asked):
                world = World(refused(429, retry_after=asked), None)
                world.run(POLLING)
                self.assertEqual(world.sleeps, [waited])

    def test_pauses_begin_anew_where_something_new_has_come(self):
        came = LOST.but(progress=True)
        world = World(LOST, LOST, LOST, came, LOST, came, came, None)
        world.run(DOWNLOADING)
        self.assertEqual(world.sleeps, [0.5, 1, 2, 0.5, 1, 0.5, 0.5])

    def test_the_least_pause_holds_here_too(self):
        world = World(LOST, LOST, LOST, LOST, None)
        world.run(POLLING, least=3.0)
        self.assertEqual(world.sleeps, [3, 3, 3, 4])
