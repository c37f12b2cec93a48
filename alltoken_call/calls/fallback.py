"""Which model to try when all providers of one have failed: the closest of its family, then one of another.

Never a dearer one: if prices cannot be known, nothing is chosen, and candidates are only named.
"""

from __future__ import annotations

import re

from ..errors import CallError, NetError, UsageError
from ..text import one_line
from ..values import Answer, Warned
from .chat import answering
from .models import catalog, listing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any

    from ..gateways.openai import OpenAI
    from ..values import Event
    from .client import Client


def family(model: str) -> str:
    """The letters that a model's id begins with: gpt-5.4-mini → gpt, qwen3.6-plus → qwen."""
    match = re.match(r"(?:.*/)?([a-z]+)", model.lower())
    return match[1] if match else model


def check_searching(dialect: OpenAI, model: str) -> None:
    """Raise `UsageError` if a model is of a family that does not search."""
    if family(model) not in dialect.searching:
        message = "does not search: only DeepSeek and Qwen models do, other models ignore the search option"
        raise UsageError(f"{model} {message}", hint=f"models that search: {', '.join(dialect.verified)}")


def closest(model: str, others: list[str]) -> list[str]:
    """`others` by likeness to `model`: its own family first, then the longest common beginning."""
    return sorted(
        (other for other in others if other != model),
        key=lambda other: (family(other) != family(model), -_shared(model, other), other),
    )


def _shared(one: str, other: str) -> int:
    """How many characters two ids have in common at their beginnings."""
    return next((at for at, pair in enumerate(zip(one, other)) if pair[0] != pair[1]), min(len(one), len(other)))


def affordable(client: Client, model: str, others: list[str], catalog: dict[str, dict[str, Any]]) -> list[str]:
    """Those of `others` whose two prices are known and neither above `model`'s; none if its own are unknown."""
    limit = client.dialect.prices(catalog.get(model, {}))

    def fits(other: str) -> bool:
        price = client.dialect.prices(catalog.get(other, {}))
        pairs = ((price.input, limit.input), (price.output, limit.output))
        return all(mine is not None and most is not None and mine <= most for mine, most in pairs)

    return [other for other in others if fits(other)]


def answering_with_fallback(
    client: Client, body: dict[str, Any], choice: str | list[str], command: str = "chat"
) -> Generator[Event, None, Answer]:
    """`answering`, and if all providers fail before any text, ask again as `choice` says: auto, none, or ids.

    A fallback that does not exist is passed over. For a search, auto chooses among models that search. The answer's
    `model` is the one that was asked in the end. Raises as `answering`.
    """
    first = body["model"]
    plan = [name for name in choice if name != first] if isinstance(choice, list) else None if choice == "auto" else []
    partial: Answer | None = None
    while True:
        try:
            return (yield from answering(client, body, command, partial))
        except CallError as error:
            if not isinstance(error.partial, Answer):  # refused here
                raise
            model, partial = body["model"], error.partial
            failed = client.dialect.fails_everywhere(error.code)
            missing = error.http == 404 and model != first
            if not (failed or missing) or partial.text or partial.tool_calls:
                raise
            if plan is None:
                plan, names = _plan(client, model, client.dialect.searching if command == "search" else ())
                if not plan and names:
                    hint = f"no other model is known to cost as little; choose one with -m: {names}"
                    raise CallError.of(error, hint=hint) from None
            if not plan:
                raise
            what = f"all providers of {one_line(model)} failed" if failed else f"there is no model {one_line(model)}"
            client.emit(Warned(f"{what}; asking {one_line(plan[0])}"))
            body = body | {"model": plan.pop(0)}


def _plan(client: Client, model: str, families: tuple[str, ...]) -> tuple[list[str], str]:
    """At most one model of the same family and one of another; and the names of what could be tried by hand."""
    try:
        listed = [name for name, _, _ in listing(client, "chat")]
        others = closest(model, [name for name in listed if not families or family(name) in families])
        names = one_line(", ".join(others[:4]))
    except NetError:
        return [], ""
    try:
        fitting = affordable(client, model, others, catalog(client))
    except NetError:
        return [], names
    relatives = [other for other in fitting if family(other) == family(model)]
    strangers = [other for other in fitting if family(other) != family(model)]
    return relatives[:1] + strangers[:1], names
