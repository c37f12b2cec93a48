"""models: ids on stdout, the count on stderr; odd lists are survived."""

from __future__ import annotations

import unittest
from typing import Any

from ..gateway import KEY, raw, refuse, reply
from ..harness import Case, Result

CHAT_MODELS = "GET /v1/models"
IMAGE_MODELS = "GET /v1/images/models"
VIDEO_MODELS = "GET /v1/videos/models"
CATALOG = "GET /api-account/models"
MIXED = [
    {"id": "talks", "modality": "text"},
    {"id": "sees", "modality": "vision"},
    {"id": "unsaid"},
    {"id": "paints", "modality": "image"},
    {"id": "films", "modality": "video"},
    {"id": "sings", "modality": "audio"},
]


class ModelsCase(Case):
    """A test that lists models."""

    def models(self, *argv: str, **options: Any) -> Result:
        """Run `models` here."""
        return self.call("models", *argv, **options)

    def ids(self, *argv: str) -> list[str]:
        """The first word of each line of stdout."""
        result = self.models(*argv)
        self.assertQuietly(0, result)
        return [line.split()[0] for line in result.out.decode().splitlines()]

    def table(self, *entries: dict[str, Any]) -> list[list[str]]:
        """The cells of the rows of -l, of a catalog of these entries."""
        self.gateway.on(CATALOG, reply(200, {"data": list(entries)}))
        result = self.models("-l")
        self.assertQuietly(0, result)
        header, *rows = result.out.decode().splitlines()
        self.assertEqual(header.split("  ")[0].strip(), "id")
        self.assertEqual(len({len(line) for line in (header, *rows)}), 1)
        return [row.split() for row in rows]


class Lists(ModelsCase):
    def test_ids_are_on_stdout_and_the_count_on_stderr(self):
        self.gateway.on(CHAT_MODELS, reply(200, {"object": "list", "data": MIXED}))
        result = self.models()
        self.assertQuietly(0, result)
        self.assertEqual((result.out, result.err), (b"talks\nsees\nunsaid\n", "chat: 3 model(s)\n"))

    def test_a_filter_is_named_with_the_count(self):
        result = self.models("--filter", "claude")
        self.assertQuietly(0, result)
        self.assertEqual(result.out, b"claude-haiku-4-5\nclaude-sonnet-4-6\n")
        self.assertEqual(result.err, "chat: 2 model(s) matching 'claude'\n")

    def test_a_filter_finds_text_anywhere_in_either_case(self):
        for text, found in (("5.4-MI", ["gpt-5.4-mini"]), ("haiku", ["claude-haiku-4-5"])):
            with self.subTest(text):
                self.assertEqual(self.ids("--filter", text), found)

    def test_without_a_match_there_is_nothing_to_show(self):
        for argv in (("--filter", "nothing"), ("--filter", "nothing", "-l"), ("--filter", "nothing", "--type", "all")):
            for more in ((), ("-q",)):
                with self.subTest(argv, more=more):
                    result = self.models(*argv, *more)
                    self.assertQuietly(1, result)
                    self.assertEqual(result.out, b"")
                    self.assertIn("0 model(s) matching 'nothing'", result.err)

    def test_quiet_leaves_the_ids_alone(self):
        result = self.models("-q", "--filter", "haiku")
        self.assertEqual((result.status, result.out, result.err), (0, b"claude-haiku-4-5\n", ""))

    def test_each_type_has_its_list(self):
        self.gateway.on(CHAT_MODELS, reply(200, {"data": MIXED}))
        self.gateway.on(IMAGE_MODELS, reply(200, {"data": [{"id": "paints", "modality": "image"}, {"id": "draws"}]}))
        self.gateway.on(VIDEO_MODELS, reply(200, {"data": [{"id": "films", "modality": "video"}, {"id": "animates"}]}))
        for kind, found, lists in (
            ("chat", ["talks", "sees", "unsaid"], [CHAT_MODELS]),
            ("image", ["paints", "draws"], [IMAGE_MODELS]),
            ("video", ["films", "animates"], [VIDEO_MODELS]),
        ):
            with self.subTest(kind):
                self.gateway.requests.clear()
                result = self.models("--type", kind)
                self.assertQuietly(0, result)
                self.assertEqual(result.out.decode().split(), found)
                self.assertEqual(result.err, f"{kind}: {len(found)} model(s)\n")
                self.assertEqual([f"{one.method} {one.path}" for one in self.gateway.requests], lists)
                self.assertEqual(self.gateway.requests[0].headers["Authorization"], f"Bearer {KEY}")
        result = self.models("--type", "all")
        everything = {entry["id"] for entry in MIXED} | {"draws", "animates"}
        self.assertEqual(sorted(result.out.decode().split()), sorted(everything))
        self.assertEqual(result.err, f"all: {len(everything)} model(s)\n")

    def test_a_model_listed_twice_is_one(self):
        self.gateway.on(CHAT_MODELS, reply(200, {"data": [{"id": "a"}, {"id": "b"}, {"id": "a"}]}))
        self.assertEqual(self.ids(), ["a", "b"])

    def test_json_passes_the_entries_on_as_they_came(self):
        entries = [{"id": "a", "odd": [1, {"x": None}]}, {"name": "b", "modality": "vision", "é": "ü"}]
        self.gateway.on(CHAT_MODELS, reply(200, {"data": entries}))
        document = self.document_of(self.models("--json"), "models")
        self.assertEqual((document["command"], document["model"], document["models"]), ("models", None, entries))
        self.assertEqual(self.document_of(self.models("--json", "--filter", "B"), "models")["models"], entries[1:])
        nothing = self.models("--json", "--filter", "z")
        self.assertQuietly(1, nothing)
        self.assertEqual(self.document_of(nothing, "models")["models"], [])
        priced = [{"id": "a", "prompt_price": "1", "odd": 1}]
        self.gateway.on(CATALOG, reply(200, priced))
        self.assertEqual(self.document_of(self.models("--json", "-l"), "models")["models"], priced)

    def test_the_list_needs_a_key_and_the_catalog_none(self):
        self.assertQuietly(4, self.models(ALLTOKEN_API_KEY=None))
        self.assertQuietly(4, self.models(ALLTOKEN_API_KEY="wrong"))
        self.gateway.requests.clear()
        for argv in (("-l",), ("gpt-5.4-mini",)):
            for key in (KEY, None):
                with self.subTest(argv, key=key):
                    self.assertQuietly(0, self.models(*argv, ALLTOKEN_API_KEY=key))
        for request in self.gateway.requests:
            self.assertTrue(request.path.startswith("/api-account/models"))
            self.assertNotIn("authorization", str(request.headers).lower())

    def test_wrong_usage_is_status_2_and_nothing_is_sent(self):
        for argv in (("a", "b"), ("--type", "audio"), ("--type",), ("--filter",), ("--lon",)):
            with self.subTest(argv):
                self.assertQuietly(2, self.models(*argv))
                self.assertEqual(self.gateway.requests, [])

    def test_a_closed_stdout_is_noticed_before_anything_is_sent(self):
        for words in ([], ["-l"], ["gpt-5.4-mini"]):
            self.assertQuietly(13, self.execute("models", *words, closed=(1,)))
        self.assertEqual(self.gateway.requests, [])

    def test_a_dry_run_shows_the_request(self):
        for argv, path in (
            ((), "/v1/models"),
            (("--type", "image"), "/v1/images/models"),
            (("-l",), "/api-account/models"),
            (("a/b",), "/api-account/models/a%2Fb"),
        ):
            with self.subTest(argv):
                result = self.models(*argv, "--dry-run", ALLTOKEN_API_KEY=None)
                self.assertQuietly(0, result)
                self.assertEqual(result.document, {"method": "GET", "url": self.gateway.url + path, "body": None})
        self.assertEqual(self.gateway.requests, [])


class OddLists(ModelsCase):
    def test_every_shape_of_a_list_is_read(self):
        entries = [{"id": "a"}, {"id": "b"}]
        for name, answer in (
            ("today's", {"object": "list", "data": entries}),
            ("bare", entries),
            ("wrapped twice", {"data": {"object": "list", "data": entries}}),
            ("with strangers", {"data": [None, 3, "x", [], {}, {"id": None}, {"id": 7}, {"id": " "}, *entries, True]}),
            ("other names of ids", {"data": [{"model_id": "a"}, {"model_path": "b"}]}),
            ("names", {"data": [{"name": "a"}, {"id": "", "name": "b"}]}),
            ("odd modalities", {"data": [{"id": "a", "modality": None}, {"id": "b", "modality": ["text"]}]}),
        ):
            with self.subTest(name):
                self.gateway.on(CHAT_MODELS, reply(200, answer))
                self.gateway.on(CATALOG, reply(200, answer))
                for argv in ((), ("-l",)):
                    found = self.ids(*argv)
                    self.assertEqual(found[1:] if argv else found, ["a", "b"])
                self.assertEqual(len(self.document_of(self.models("--json"), "models")["models"]), 2)

    def test_an_empty_or_unreadable_list_is_not_a_crash(self):
        for name, status, step in (
            ("empty", 1, reply(200, {"data": []})),
            ("bare and empty", 1, reply(200, b"[]")),
            ("null", 3, reply(200, {"data": None})),
            ("a word", 3, reply(200, {"data": "models"})),
            ("an object", 3, reply(200, {"data": {"data": {"a": 1}}})),
            ("no data", 3, reply(200, {"models": [{"id": "a"}]})),
            ("nothing", 3, reply(200, b"")),
            ("a number", 3, reply(200, b"3")),
            ("broken", 3, reply(200, b'{"data":[{"id":"a"},')),
            ("a broken bare list", 3, reply(200, b'[{"id":"a"},')),
            ("a page", 3, reply(200, b"<html>hello</html>")),
            ("deep", 3, reply(200, b'{"data":' + b"[" * 100_000)),
            ("cut", 3, raw(b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"data":[{"id":"a"}')),
            ("refused", 1, refuse(404, "not_found")),
            ("down", 5, refuse(500, "upstream_error")),
        ):
            for argv, request in (((), CHAT_MODELS), (("-l",), CATALOG)):
                with self.subTest(name, argv=argv):
                    self.gateway.on(request, step)
                    result = self.models(*argv)
                    self.assertQuietly(status, result)
                    self.assertEqual("chat: 0 model(s)" in result.err, "empty" in name)
                    self.document_of(self.models(*argv, "--json"), "models")

    def test_names_are_made_inert_and_stay_one_line(self):
        self.gateway.on(CHAT_MODELS, reply(200, {"data": [{"id": "a\x1b[31m\nb\u202e"}, {"id": "half\ud83d"}]}))
        result = self.models(terminals="out")
        self.assertQuietly(0, result)
        self.assertNotIn(b"\x1b", result.out)
        self.assertNotIn("\u202e".encode(), result.out)
        self.assertEqual(len(result.out.splitlines()), 2)
        self.assertEqual(len(self.document_of(self.models("--json"), "models")["models"]), 2)


class Long(ModelsCase):
    def test_a_row_has_prices_context_and_modalities(self):
        rows = self.table(
            {
                "id": "a",
                "input_price": "0.2000000000",
                "output_price": 1.25,
                "context_length": 1050000,
                "input_modalities": ["text", "image"],
                "output_modalities": ["text"],
            }
        )
        self.assertEqual(rows, [["a", "$0.2000", "$1.2500", "1,050,000", "text+image→text"]])

    def test_the_prices_have_had_other_names_and_wrappings(self):
        for name, prices in (
            ("older", {"prompt_price": 1, "completion_price": "2"}),
            ("pricing", {"pricing": {"input_price": "1", "output_price": 2}}),
            ("data", {"data": {"prompt_price": "1.0", "completion_price": 2.0}}),
        ):
            with self.subTest(name):
                self.assertEqual(self.table({"model_id": "a"} | prices)[0][:3], ["a", "$1.0000", "$2.0000"])

    def test_the_unpriced_are_last_and_a_free_one_is_priced(self):
        rows = self.table(
            {"id": "none"},
            {"id": "dear", "input_price": 30, "output_price": 180},
            {"id": "half", "input_price": 0},
            {"id": "free", "input_price": 0, "output_price": "0"},
            {"id": "cheap", "input_price": "0.05", "output_price": "0.4"},
            {"id": "odd", "input_price": "n/a", "output_price": -1},
        )
        names = [row[0] for row in rows]
        self.assertEqual(set(names[:3]), {"dear", "free", "cheap"})
        self.assertEqual(set(names[3:]), {"none", "half", "odd"})
        cells = {row[0]: row[1:3] for row in rows}
        self.assertEqual(cells["free"], ["$0.0000", "$0.0000"])
        self.assertEqual((cells["none"], cells["half"], cells["odd"]), (["-", "-"], ["$0.0000", "-"], ["-", "-"]))

    def test_odd_fields_are_dashes(self):
        for field, value in (
            ("context_length", "many"),
            ("context_length", None),
            ("context_length", 1.5),
            ("context_length", True),
            ("input_modalities", "text"),
            ("input_modalities", [None, 3]),
            ("input_modalities", {}),
            ("modality", 7),
        ):
            with self.subTest(field, value=value):
                ((name, *cells),) = self.table({"id": "a", field: value})
                self.assertEqual((name, cells[:3]), ("a", ["-", "-", "-"]))

    def test_type_and_filter_choose_here_too(self):
        self.gateway.on(CATALOG, reply(200, {"data": MIXED}))
        for argv, found in (
            ((), {"talks", "sees", "unsaid"}),
            (("--type", "image"), {"paints"}),
            (("--type", "video"), {"films"}),
            (("--type", "all"), {entry["id"] for entry in MIXED}),
            (("--filter", "S"), {"talks", "sees", "unsaid"}),
            (("--filter", "see"), {"sees"}),
        ):
            with self.subTest(argv):
                result = self.models("-l", *argv)
                self.assertQuietly(0, result)
                _, *rows = result.out.decode().splitlines()
                self.assertEqual({row.split()[0] for row in rows}, found)
                self.assertIn(f": {len(found)} model(s)", result.err)
        self.assertEqual({one.path for one in self.gateway.requests}, {"/api-account/models"})


class One(ModelsCase):
    def test_it_tells_what_the_catalog_says(self):
        for wrapped in (False, True):
            with self.subTest(wrapped=wrapped):
                entry = {"id": "a", "input_price": "0.2", "modes": ["text", "image"], "more": {"x": 1}, "none": None}
                self.gateway.on("GET /api-account/models/a", reply(200, {"data": entry} if wrapped else entry))
                result = self.models("a")
                self.assertQuietly(0, result)
                lines = result.out.decode().splitlines()
                self.assertEqual([line.split(":")[0] for line in lines], list(entry))
                self.assertRegex(result.out.decode(), r"(?m)^input_price: +0[.]2$")
                self.assertRegex(result.out.decode(), r'(?m)^modes: +\["text", "image"\]$')
                document = self.document_of(self.models("a", "--json"), "models")
                self.assertEqual(document["models"], [entry])

    def test_an_unknown_one_is_status_1(self):
        for step in (refuse(404, "not_found"), reply(404, b""), reply(200, {"data": {}})):
            self.gateway.on("GET /api-account/models/nope", step)
            result = self.models("nope")
            self.assertQuietly(1, result)
            self.assertEqual(result.out, b"")
            self.assertIn("nope", result.err)
            self.document_of(self.models("nope", "--json"), "models")

    def test_its_text_is_made_inert(self):
        entry = {"id": "a", "de\x1bscription\n": "two\nlines \x9b31m", "list": ["\x1b[2J"]}
        self.gateway.on("GET /api-account/models/a", reply(200, entry))
        result = self.models("a", terminals="out")
        self.assertQuietly(0, result)
        self.assertEqual(len(result.out.decode().splitlines()), 3)
        self.assertNotRegex(result.out.decode(), "[\x1b\x9b]")


if __name__ == "__main__":
    unittest.main()
