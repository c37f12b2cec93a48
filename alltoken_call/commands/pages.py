"""What models shows of AllToken's public pages, whatever they hold: tables, and lines `name: value`."""

from __future__ import annotations

import json

from ..text import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..cli.output import Output

NAMES = ("health", "providers", "rankings")
WIDEST = 48  # characters of a table's cell


def show(value: Any, output: Output, name: str = "") -> None:
    """Show a value of JSON; `name` is what it is called where it stands."""
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        if name:
            output.line(f"{one_line(name)}:")
        output.table(table_of(value))
    elif isinstance(value, dict) and value:
        for key, inner in value.items():
            show(inner, output, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list) and not name:
        for item in value:
            output.line(text_of(item))
    else:
        text = ", ".join(map(text_of, value)) if isinstance(value, list) else text_of(value)
        output.line(f"{one_line(name, 60) + ':':<24} {text}" if name else text)


def table_of(items: list[dict[str, Any]]) -> list[list[str]]:
    """The rows of a table with a column for each key of any item, the head first."""
    keys = list(dict.fromkeys(key for item in items for key in item))
    head = [one_line(key, WIDEST) for key in keys]
    return [head, *([one_line(text_of(item.get(key)), WIDEST) for key in keys] for item in items)]


def text_of(value: Any) -> str:
    """A value in one line; a dash if there is none."""
    if value is None:
        return "-"
    return one_line(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), 400)
