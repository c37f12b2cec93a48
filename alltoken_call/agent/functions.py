"""Plain functions as tools: what a model is told of one comes from its docstring and its annotations."""

from __future__ import annotations

import inspect
import json
import types
import typing

from ..errors import UsageError
from .tools import Tool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

TYPES: dict[object, str] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    list: "array",
    dict: "object",
}


def from_function(function: Callable[..., Any]) -> Tool:
    """The tool that a plain function is: its docstring says what it does, its annotations what it takes.

    str, int, float, bool, list, dict, list[str], Literal and X | None are understood. Raises `UsageError`.
    """
    name = getattr(function, "__name__", "")
    if not callable(function) or not name:
        raise UsageError(f"a tool is a function or a Tool, not {function!r}")
    check_plain(function, name)
    description = inspect.getdoc(function)
    if not description:
        raise UsageError(f"the tool {name} needs a docstring, which tells the model what it does")
    try:
        hints = typing.get_type_hints(function)
        signature = inspect.signature(function)
    except Exception as error:  # noqa: BLE001  # an annotation is any code
        raise UsageError(f"the tool {name} has annotations that cannot be read: {error}") from None
    properties: dict[str, Any] = {}
    required = []
    for parameter in signature.parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise UsageError(f"the tool {name}: every argument needs a name ({parameter})")
        if parameter.name not in hints:
            raise UsageError(f"the tool {name}: its argument {parameter.name} needs an annotation")
        properties[parameter.name] = schema = _schema(hints[parameter.name], f"{name}({parameter.name})")
        if parameter.default is parameter.empty:
            required.append(parameter.name)
        elif type(parameter.default) in TYPES and _is_json(parameter.default):
            schema["default"] = parameter.default
    return Tool(name, description, {"properties": properties, "required": required}, function)


def check_plain(function: Callable[..., Any], name: str) -> None:
    """Raise `UsageError` if a function would not return its result: `async def`, or one with `yield`."""
    for kind in (inspect.iscoroutinefunction, inspect.isasyncgenfunction, inspect.isgeneratorfunction):
        if kind(function):
            raise UsageError(f"the tool {name} is not a plain function that returns its result (async, or with yield)")


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


def _schema(hint: Any, where: str) -> dict[str, Any]:
    """The JSON Schema of an annotation. Raises `UsageError`."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is None and isinstance(hint, type) and hint in TYPES:
        return {"type": TYPES[hint]}
    if origin is typing.Literal and all(type(value) in (str, int, bool) for value in inner):
        kinds = {TYPES[type(value)] for value in inner}
        return {"enum": list(inner)} | ({"type": kinds.pop()} if len(kinds) == 1 else {})
    if origin is list:
        return {"type": "array", "items": _schema(inner[0], where)}
    if origin is dict:
        return {"type": "object"}
    if origin in (typing.Union, types.UnionType) and type(None) in inner and len(inner) == 2:
        schema = _schema(next(one for one in inner if one is not type(None)), where)
        if "enum" in schema:
            schema["enum"] = [*schema["enum"], None]
        return schema | ({"type": [schema["type"], "null"]} if "type" in schema else {})
    raise UsageError(f"the tool argument {where} has an annotation that cannot be told to a model: {hint}")
