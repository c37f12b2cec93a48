"""models --health, --providers and --rankings: AllToken's public pages, whatever they hold."""

from __future__ import annotations

from ..gateway import HEALTH, PROVIDERS, RANKINGS, refuse, reply
from ..harness import Case

PAGES = {
    "health": ("/api-account/health/summary", HEALTH),
    "providers": ("/api-account/providers", PROVIDERS),
    "rankings": ("/api-account/rankings/all", RANKINGS),
}
HEALTH_SHOWN = """\
status:                  degraded
routes:                  3
latency_ms.p50:          412
latency_ms.p95:          1830
incidents:
route                       since  error_rate
gpt-5.4@one  2026-11-21T10:00:00Z        0.42
"""
PROVIDERS_SHOWN = """\
id           name  models  availability  region
one  Provider One      21         0.998       -
two  Provider Two       9             -      eu
"""
RANKINGS_SHOWN = """\
usage:
rank         model  share
1     gpt-5.4-mini  31.2%
updated:                 2026-11-21
"""


class Public(Case):
    def show(self, name: str, page: object, *argv: str, status: int = 200, **options):
        """The result of showing a page that holds something else."""
        self.gateway.on(f"GET {PAGES[name][0]}", reply(status, page))
        return self.call("models", f"--{name}", *argv, **options)

    def test_lists_of_objects_are_tables_and_anything_else_is_lines(self):
        for name, shown in (("health", HEALTH_SHOWN), ("providers", PROVIDERS_SHOWN), ("rankings", RANKINGS_SHOWN)):
            result = self.call("models", f"--{name}")
            self.assertEqual((result.status, result.out.decode(), result.err), (0, shown, ""))

    def test_no_key_is_needed_and_none_is_sent(self):
        for name, (path, _) in PAGES.items():
            self.assertEqual(self.call("models", f"--{name}", ALLTOKEN_API_KEY=None).status, 0)
            self.call("models", f"--{name}")
            for request in self.gateway.requests[-2:]:
                self.assertEqual((request.method, request.path), ("GET", path))
                self.assertNotIn("Authorization", request.headers)

    def test_json_passes_them_on(self):
        for name, (_, page) in PAGES.items():
            result = self.call("models", f"--{name}", "--json")
            self.assertEqual(self.document_of(result, "models")["models"], page)

    def test_a_page_without_an_envelope_is_the_same(self):
        self.assertEqual(self.show("health", HEALTH).out.decode(), HEALTH_SHOWN)
        self.assertEqual(self.show("providers", PROVIDERS).out.decode(), PROVIDERS_SHOWN)

    def test_whatever_a_page_holds_is_shown(self):
        for page, shown in (
            ({"data": {"a": {"b": {"c": [1, "x", None, True]}}}}, ["a.b.c:                   1, x, -, true"]),
            ({"data": ["one", 2, {"three": 3}]}, ["one", "2", '{"three": 3}']),
            ({"data": "all is well"}, ["all is well"]),
            (
                {"data": {"empty": [], "none": None, "object": {}}},
                ["empty:", "none:                    -", "object:                  {}"],
            ),
            ({"data": {"ü": "ä\nö"}}, ["ü:                       ä ö"]),
        ):
            with self.subTest(page):
                result = self.show("rankings", page)
                lines = [line.rstrip() for line in result.out.decode().splitlines()]
                self.assertEqual((result.status, lines[: len(shown)]), (0, shown))
                self.assertLess(max(map(len, lines)), 110)

    def test_a_cell_is_one_short_line(self):
        lines = self.show("rankings", {"data": [{"a": {"deep": [1]}, "b": "x\ny" * 99}]}).out.decode().splitlines()
        self.assertEqual(len(lines), 2)
        self.assertTrue(lines[1].startswith('{"deep": [1]}  x yx y'))
        self.assertLess(len(lines[1]), 80)

    def test_a_terminal_is_not_driven_by_a_page(self):
        result = self.show("health", {"data": {"status\x1b]0;x\x07": "\x1b[31mred"}}, terminals="out err")
        self.assertNotIn(b"\x1b[31m", result.out)
        self.assertNotIn(b"\x1b]0", result.out)

    def test_an_empty_page_is_status_1(self):
        for page in ({"data": []}, {"data": {}}, {"data": None}):
            self.assertQuietly(1, self.show("health", page))

    def test_errors_are_those_of_any_request(self):
        for status, page, ends in (
            (404, {"error": {"code": "x"}}, 1),
            (200, b"<html>", 3),
            (200, {"success": False}, 1),
        ):
            self.assertQuietly(ends, self.show("health", page, status=status))
        self.gateway.on("GET /api-account/providers", refuse(503, "unavailable"), reply(200, {"data": PROVIDERS}))
        self.assertQuietly(0, self.call("models", "--providers"))

    def test_elsewhere_it_is_status_2_and_unsent(self):
        elsewhere = {"ALLTOKEN_MINE_BASE_URL": self.gateway.url, "ALLTOKEN_MINE_API_KEY": "some-other-key"}
        for dialect in ("openai", "new-api"):
            for name in PAGES:
                result = self.call(
                    "models", f"--{name}", "--gateway", "mine", ALLTOKEN_MINE_DIALECT=dialect, **elsewhere
                )
                self.assertQuietly(2, result)
        self.assertEqual(self.gateway.requests, [])
        result = self.call("models", "--health", "--gateway", "mine", ALLTOKEN_MINE_DIALECT="alltoken", **elsewhere)
        self.assertEqual((result.status, result.out.decode()), (0, HEALTH_SHOWN))

    def test_it_goes_with_nothing_else(self):
        for argv in (["gpt-5.4"], ["-l"], ["--filter", "x"], ["--providers"]):
            self.assertQuietly(2, self.call("models", "--health", *argv))
        self.assertEqual(self.gateway.requests, [])

    def test_a_dry_run_shows_the_request(self):
        result = self.call("models", "--rankings", "--dry-run", ALLTOKEN_API_KEY=None)
        url = f"{self.gateway.url}/api-account/rankings/all"
        self.assertEqual(result.document, {"method": "GET", "url": url, "body": None})
        self.assertEqual(self.gateway.requests, [])
