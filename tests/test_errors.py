"""errors: which end has which exit status, code and hint."""

import signal
import unittest

from alltoken_call import errors
from alltoken_call.errors import ApiError, CallError, ExitStatus, status_of


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

    def test_an_http_status_decides_whatever_the_slug(self):
        for http, status in {
            300: ExitStatus.REFUSED,
            400: ExitStatus.REFUSED,
            401: ExitStatus.KEY,
            402: ExitStatus.CREDIT,
            403: ExitStatus.KEY,
            404: ExitStatus.REFUSED,
            409: ExitStatus.REFUSED,
            410: ExitStatus.GONE,
            422: ExitStatus.REFUSED,
            429: ExitStatus.RATE_LIMITED,
            499: ExitStatus.REFUSED,
            500: ExitStatus.GATEWAY,
            503: ExitStatus.GATEWAY,
            599: ExitStatus.GATEWAY,
        }.items():
            with self.subTest(http):
                self.assertIs(status_of(http), status)
                self.assertIs(status_of(http, "insufficient_balance", "rate_limit_error"), status)

    def test_inside_a_stream_the_code_or_else_the_type_decides(self):
        for code, type_, status in (
            ("insufficient_balance", None, ExitStatus.CREDIT),
            ("invalid_api_key", None, ExitStatus.KEY),
            ("invalid_token", None, ExitStatus.KEY),
            ("invalid_request", None, ExitStatus.REFUSED),
            ("upstream_invalid_parameter", None, ExitStatus.REFUSED),
            ("upstream_content_violation", None, ExitStatus.REFUSED),
            ("upstream_model_not_found", None, ExitStatus.REFUSED),
            ("rate_limited", None, ExitStatus.RATE_LIMITED),
            ("upstream_rate_limit", None, ExitStatus.RATE_LIMITED),
            ("other", "rate_limit_error", ExitStatus.RATE_LIMITED),
            (None, "billing_error", ExitStatus.CREDIT),
            (None, "authentication_error", ExitStatus.KEY),
            (None, "permission_error", ExitStatus.KEY),
            (None, "invalid_request_error", ExitStatus.REFUSED),
            (None, "not_found_error", ExitStatus.REFUSED),
            ("insufficient_balance", "invalid_request_error", ExitStatus.CREDIT),
            ("429", None, ExitStatus.RATE_LIMITED),
            ("402", "server_error", ExitStatus.CREDIT),
            ("404", None, ExitStatus.REFUSED),
            ("503", "billing_error", ExitStatus.GATEWAY),
            ("40", None, ExitStatus.GATEWAY),
            ("4020", None, ExitStatus.GATEWAY),
            ("٤٠٢", None, ExitStatus.GATEWAY),
            ("all_providers_failed", None, ExitStatus.GATEWAY),
            ("unheard_of", "unheard_of", ExitStatus.GATEWAY),
            (None, None, ExitStatus.GATEWAY),
        ):
            with self.subTest(code=code, type=type_):
                self.assertIs(status_of(0, code, type_), status)


class Tree(unittest.TestCase):
    def test_each_class_has_its_status_code_and_chance_of_passing(self):
        for kind, status, code, passing in (
            (CallError, ExitStatus.REFUSED, "error", False),
            (errors.UsageError, ExitStatus.USAGE, "usage", False),
            (errors.KeyProblem, ExitStatus.KEY, "api_key", False),
            (errors.NetworkError, ExitStatus.NETWORK, "network", False),
            (errors.DeadlineError, ExitStatus.NETWORK, "max_wait", False),
            (errors.OutputError, ExitStatus.CANNOT_WRITE, "cannot_write", False),
        ):
            with self.subTest(kind.__name__):
                error = kind("why")
                self.assertEqual((error.status, error.code, error.passing), (status, code, passing))
                self.assertEqual((str(error), error.message, error.hint, error.sent), ("why", "why", None, False))
                self.assertEqual((error.http, error.type, error.request_id), (None, None, None))

    def test_what_is_given_replaces_the_classs_own(self):
        error = CallError("why", hint="do", code="odd", status=ExitStatus.OK, sent=True)
        self.assertEqual((error.hint, error.code, error.status, error.sent), ("do", "odd", ExitStatus.OK, True))
        self.assertEqual((CallError.code, CallError.status), ("error", ExitStatus.REFUSED))

    def test_no_handler_of_exceptions_swallows_a_signal(self):
        self.assertNotIsInstance(errors.Interrupted(signal.SIGINT), Exception)

    def test_every_signal_that_we_take_over_has_an_exit_status(self):
        for name, status in {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}.items():
            with self.subTest(name):
                self.assertEqual(errors.Interrupted(getattr(signal, name)).status, status)
                self.assertEqual(ExitStatus(status), status)


class Refusals(unittest.TestCase):
    def test_an_api_error_keeps_what_the_gateway_said(self):
        error = ApiError("no", http=409, code="duplicate_request", type="conflict", request_id="r1", task_id="igen_1")
        self.assertEqual((error.http, error.code, error.type), (409, "duplicate_request", "conflict"))
        self.assertEqual((error.request_id, error.task_id), ("r1", "igen_1"))
        self.assertEqual((error.message, error.enveloped, error.sent), ("no", True, True))
        self.assertIsNone(error.retry_after)

    def test_without_a_slug_the_http_status_is_the_code(self):
        self.assertEqual(ApiError("no", http=502, enveloped=False).code, "http_502")

    def test_inside_a_stream_there_is_no_http_status(self):
        error = ApiError("no", http=0, code="insufficient_balance")
        self.assertEqual((error.http, error.status, error.passing), (None, ExitStatus.CREDIT, False))
        self.assertEqual(ApiError("no", http=0).code, "api_error")

    def test_only_what_may_pass_is_passing(self):
        passing = {http for http in range(400, 600) if ApiError("no", http=http).passing}
        self.assertEqual(passing, {408, 425, 429, *range(500, 600)})

    def test_each_refusal_says_what_to_do(self):
        for http, advice in {
            401: "ALLTOKEN_API_KEY",
            402: "Settings → Billing",
            410: "new generation",
            429: "wait",
            503: "another model",
        }.items():
            with self.subTest(http):
                self.assertIn(advice, ApiError("no", http=http).hint)
        for http, advice in {400: "quote the request id", 404: "alltoken-call models"}.items():
            self.assertIn(advice, ApiError("no", http=http).hint)
