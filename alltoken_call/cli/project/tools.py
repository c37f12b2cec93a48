"""What the model may call: plain functions. It is told their docstrings, and the names and types of their arguments.

What a function returns is the result: a text as it is, anything else as JSON. What it raises is told to the model,
which may try again.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any
from zoneinfo import ZoneInfo

LONGEST = 200  # characters of an expression

BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}


def current_time(time_zone: str = "UTC") -> str:
    """Tell the date and the time in a time zone, like UTC, Europe/Zurich or Asia/Tokyo."""
    zone = timezone.utc if time_zone == "UTC" else ZoneInfo(time_zone)
    return datetime.now(zone).strftime("%A, %Y-%m-%d %H:%M:%S %Z")


def calculate(expression: str) -> float:
    """Work out an expression of numbers, + - * / // % and parentheses."""
    if len(expression) > LONGEST:
        raise ValueError(f"the expression has more than {LONGEST} characters")
    return _value(ast.parse(expression.strip(), mode="eval").body)


def _value(node: ast.expr) -> float:
    """The value of a part of an expression. There is no `eval`: what is not listed above is refused."""
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)) and not isinstance(node.value, bool):
        return node.value
    if isinstance(node, ast.BinOp) and type(node.op) in BINARY:
        result: float = BINARY[type(node.op)](_value(node.left), _value(node.right))
        return result
    if isinstance(node, ast.UnaryOp) and type(node.op) in UNARY:
        signed: float = UNARY[type(node.op)](_value(node.operand))
        return signed
    raise ValueError("only numbers, + - * / // % and parentheses can be worked out")


TOOLS = [current_time, calculate]
