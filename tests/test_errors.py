"""errors: which end has which exit status and code, and that nobody changes a raised one."""

import signal
import unittest

from alltoken_call import errors
from alltoken_call.errors import CallError, ExitStatus, NetError


class Statuses(unittest.TestCase):
    def test_the_exit_statuses_are_the_documented_ones(self):
        self.assertEqual(
            {status.name: int(status) for status in ExitStatus if status != 129},
            {
                "OK": 0,
                "REFUSED": 1,
                "USAGE": 2,
                "NETWORK": 3,
                "KEY": 4,
                "GATEWAY": 5,
                "CREDIT": 6,
                "RATE_LIMITED": 7,
                "PENDING": 8,
                "CUT_SHORT": 9,
                "TASK_FAILED": 10,
                "GONE": 11,
                "UNKNOWN": 12,
                "CANNOT_WRITE": 13,
                "INTERRUPTED": 130,
                "BROKEN_PIPE": 141,
                "TERMINATED": 143,
            },
        )


class Ends(unittest.TestCase):
    def test_each_class_has_its_status_and_code(self):
        for kind, status, code in (
            (CallError, ExitStatus.REFUSED, "error"),
            (errors.UsageError, ExitStatus.USAGE, "usage"),
            (errors.KeyProblem, ExitStatus.KEY, "api_key"),
            (errors.OutputError, ExitStatus.CANNOT_WRITE, "cannot_write"),
        ):
            with self.subTest(kind.__name__):
                error = kind("why")
                self.assertIsInstance(error, CallError)
                self.assertEqual((error.status, error.code), (status, code))
                self.assertEqual((str(error), error.message, error.hint), ("why", "why", None))
                self.assertEqual((error.http, error.type, error.request_id, error.partial), (None, None, None, None))

    def test_what_is_given_replaces_the_classs_own(self):
        error = CallError("why", hint="do", code="odd", status=ExitStatus.OK)
        self.assertEqual((error.hint, error.code, error.status), ("do", "odd", ExitStatus.OK))
        self.assertEqual((CallError.code, CallError.status), ("error", ExitStatus.REFUSED))

    def test_a_failure_becomes_an_end_that_says_the_same_but_where_the_call_knows_better(self):
        fields = {"status": ExitStatus.CREDIT, "hint": "do", "http": 402, "type": "t", "request_id": "req_1"}
        failure = NetError("no", "slug", sent=True, **fields)
        before = dict(vars(failure))
        for changes in ({}, {"status": ExitStatus.PENDING}, {"message": "over", "hint": None, "partial": [1]}):
            with self.subTest(changes):
                end = CallError.of(failure, **changes)
                expected = {"message": "no", "code": "slug", "partial": None, **fields} | changes
                self.assertEqual({name: getattr(end, name) for name in expected}, expected)
                self.assertEqual(str(end), expected["message"])
                self.assertEqual(vars(failure), before)

    def test_an_end_of_an_end_keeps_what_was_obtained(self):
        first = CallError("no", code="slug", partial=["text"])
        for end in (CallError.of(first), CallError.of(first, status=ExitStatus.GONE)):
            self.assertEqual((end.message, end.code, end.partial), ("no", "slug", ["text"]))
        self.assertEqual((first.status, CallError.of(first, partial=None).partial), (ExitStatus.REFUSED, None))
        end = CallError.of(errors.OutputError("full"), partial=["text"])
        self.assertEqual((end.status, end.code, end.partial), (ExitStatus.CANNOT_WRITE, "cannot_write", ["text"]))


class Failures(unittest.TestCase):
    def test_a_failure_is_final_and_unsent_and_of_the_network_unless_told(self):
        error = NetError("why", "code")
        self.assertEqual((str(error), error.message, error.code), ("why", "why", "code"))
        self.assertEqual((error.sent, error.passing, error.progress, error.enveloped), (False,) * 4)
        self.assertEqual((error.status, error.hint, error.retry_after), (ExitStatus.NETWORK, None, None))
        self.assertEqual((error.http, error.type, error.request_id, error.task_id), (None,) * 4)

    def test_a_changed_failure_is_another_one(self):
        error = NetError("why", "code", sent=True, passing=True, http=429, retry_after=2.0, task_id="igen_1")
        before = dict(vars(error))
        other = error.but(sent=False, progress=True)
        self.assertEqual(vars(other), before | {"sent": False, "progress": True})
        self.assertEqual((vars(error), str(other)), (before, "why"))

    def test_no_end_is_a_failure_and_no_failure_an_end(self):
        self.assertNotIsInstance(NetError("why", "code"), CallError)
        self.assertNotIsInstance(CallError("why"), NetError)


class Signals(unittest.TestCase):
    def test_no_handler_of_exceptions_swallows_a_signal(self):
        self.assertNotIsInstance(errors.Interrupted(signal.SIGINT), Exception)

    def test_every_signal_that_we_take_over_has_an_exit_status(self):
        for name, status in {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}.items():
            with self.subTest(name):
                self.assertEqual(errors.Interrupted(getattr(signal, name)).status, status)
                self.assertEqual(ExitStatus(status), status)
