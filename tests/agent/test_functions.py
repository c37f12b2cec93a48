"""`from_function`: what a model is told of a plain function, and what cannot be told."""

from __future__ import annotations

import functools
import unittest
from typing import Any, Literal, Optional, Union

from alltoken_call.agent.functions import from_function
from alltoken_call.errors import UsageError

STRING, INTEGER = {"type": "string"}, {"type": "integer"}


class Schemas(unittest.TestCase):
    def schema(self, annotation: object) -> dict:
        """What a model is told of an argument that is annotated so."""

        def tool(value):
            """Do it."""

        tool.__annotations__ = {"value": annotation}
        return from_function(tool).parameters["properties"]["value"]

    def test_every_annotation_that_is_understood(self):
        for annotation, schema in (
            (str, STRING),
            (int, INTEGER),
            (float, {"type": "number"}),
            (bool, {"type": "boolean"}),
            (list, {"type": "array"}),
            (dict, {"type": "object"}),
            (list[str], {"type": "array", "items": STRING}),
            (list[list[int]], {"type": "array", "items": {"type": "array", "items": INTEGER}}),
            (dict[str, int], {"type": "object"}),
            (Literal["a", "b"], {"enum": ["a", "b"], "type": "string"}),
            (Literal["a", 1], {"enum": ["a", 1]}),
            (str | None, {"type": ["string", "null"]}),
            (Optional[int], {"type": ["integer", "null"]}),
            (Union[None, list[str]], {"type": ["array", "null"], "items": STRING}),
            (Literal["a"] | None, {"enum": ["a", None], "type": ["string", "null"]}),
            ("str", STRING),
            ("list[str] | None", {"type": ["array", "null"], "items": STRING}),
        ):
            with self.subTest(annotation=annotation):
                self.assertEqual(self.schema(annotation), schema)

    def test_what_cannot_be_told_to_a_model_is_refused(self):
        for annotation in (
            bytes,
            object,
            Any,
            set[str],
            tuple[int, ...],
            str | int,
            Literal[b"a"],
            "Missing",
            7,
            list[Any],
        ):
            with self.subTest(annotation=annotation), self.assertRaises(UsageError):
                self.schema(annotation)

    def test_the_docstring_the_name_and_defaults_are_told(self):
        def find(query: str, limit: int = 5, kind: Literal["a", "b"] = "a", near: str | None = None) -> str:
            """Find things.

            As many as there are.
            """

        tool = from_function(find)
        self.assertEqual((tool.name, tool.description), ("find", "Find things.\n\nAs many as there are."))
        told = tool.parameters["properties"]
        self.assertEqual(tool.parameters["required"], ["query"])
        self.assertEqual([one.get("default") for one in told.values()], [None, 5, "a", None])
        self.assertNotIn("default", told["near"])

    def test_a_default_that_is_no_json_makes_an_argument_optional_all_the_same(self):
        def tool(a: float = float("inf"), b: list = [object()]) -> None:  # noqa: B006, B008
            """Do it."""

        parameters = from_function(tool).parameters
        self.assertEqual((parameters["required"], parameters["properties"]["a"]), ([], {"type": "number"}))

    def test_a_method_is_a_tool_without_its_self(self):
        class Shop:
            def price(self, item: str) -> int:
                """Tell a price."""
                return len(item)

        tool = from_function(Shop().price)
        self.assertEqual((list(tool.parameters["properties"]), tool.run(item="abc")), (["item"], 3))

    def test_no_arguments_are_an_object_without_properties(self):
        def now() -> str:
            """Tell the time."""

        self.assertEqual(from_function(now).parameters, {"type": "object", "properties": {}, "required": []})

    def test_wrong_signatures_are_refused_with_the_functions_name(self):
        def no_docstring(a: str): ...

        def no_annotation(a):
            """Do it."""

        def stars(*words: str):
            """Do it."""

        def keywords(**fields: str):
            """Do it."""

        def positional(a: str, /):
            """Do it."""

        async def later(a: str):
            """Do it."""

        def pieces(a: str):
            """Do it."""
            yield a

        for function in (no_docstring, no_annotation, stars, keywords, positional, later, pieces):
            with self.subTest(function.__name__), self.assertRaisesRegex(UsageError, function.__name__):
                from_function(function)
        for other in (lambda a: a, functools.partial(stars), 7, "weather", None):
            with self.subTest(other), self.assertRaises(UsageError):
                from_function(other)
