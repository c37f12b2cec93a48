"""Which model to try when all providers of one have failed: the closest of its family, then one of another.

Never a dearer one: where prices cannot be known, nothing is chosen, and candidates are only named.
"""

from __future__ import annotations

import re

from .completion import ask
from ..errors import ApiError, NetworkError
from ..text import one_line
from ..wire import text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .completion import Completion
    from ..cli.output import Output
    from ..net.transport import Transport

MODELS = "/v1/models"


def family(model: str) -> str:
    """The letters that a model's id begins with: gpt-5.4-mini → gpt, qwen3.6-plus → qwen."""
    match = re.match(r"(?:.*/)?([a-z]+)", model.lower())
    return match[1] if match else model


def closest(model: str, others: list[str]) -> list[str]:
    """`others` by likeness to `model`: its own family first, then the longest common beginning."""
    return sorted(
        (other for other in others if other != model),
        key=lambda other: (family(other) != family(model), -_shared(model, other), other),
    )


def _shared(one: str, other: str) -> int:
    """How many characters two ids have in common at their beginnings."""
    return next((at for at, pair in enumerate(zip(one, other)) if pair[0] != pair[1]), min(len(one), len(other)))


def affordable(model: str, others: list[str], catalog: dict[str, dict[str, Any]]) -> list[str]:
    """Those of `others` whose two prices are known and neither above `model`'s; none where its own are unknown."""
    from ..gateways import pricing

    limits = pricing.prices(catalog.get(model, {}))

    def fits(other: str) -> bool:
        found = pricing.prices(catalog.get(other, {}))
        return all(limit is not None and price is not None and price <= limit for limit, price in zip(limits, found))

    return [other for other in others if fits(other)]


def is_chat(entry: dict[str, Any]) -> bool:
    """Whether a model list's entry is a chat model; an entry without a modality is one (PROTOCOL: Models)."""
    modality = text_of(entry.get("modality"))
    return modality is None or modality.lower() in ("text", "vision", "chat")


def ask_with_fallback(
    transport: Transport,
    output: Output,
    body: dict[str, Any],
    choice: str | list[str],
    *,
    families: tuple[str, ...] = (),
    show_reasoning: bool = False,
) -> Completion:
    """`ask`, and on `all_providers_failed` before any text, ask again as `choice` says: auto, none, or ids.

    A fallback that does not exist is passed over. `families` bounds what auto may choose from. Raises as `ask`.
    """
    first = body["model"]
    plan = [name for name in choice if name != first] if isinstance(choice, list) else None if choice == "auto" else []
    while True:
        try:
            return ask(transport, output, body, show_reasoning=show_reasoning)
        except ApiError as error:
            model = body["model"]
            failed = error.code == "all_providers_failed"
            missing = error.http == 404 and model != first
            if not (failed or missing) or output.report["text"] or output.report["tool_calls"]:
                raise
            if plan is None:
                plan = _plan(transport, model, families, error)
            if not plan:
                raise
            what = f"all providers of {one_line(model)} failed" if failed else f"there is no {one_line(model)}"
            output.warning(f"{what}; asking {one_line(plan[0])}")
            body["model"] = output.report["model"] = plan.pop(0)


def _plan(transport: Transport, model: str, families: tuple[str, ...], error: ApiError) -> list[str]:
    """At most one model of the same family and one of another; where there is none, `error`'s hint says what could
    be tried by hand."""
    from ..gateways import pricing  # decimal is for those who need it

    try:
        listed = [name for name, entry in pricing.listed(transport, MODELS) if is_chat(entry)]
        others = closest(model, [name for name in listed if not families or family(name) in families])
        if others:
            names = one_line(", ".join(others[:4]))
            error.hint = f"no other model is known to be as cheap; choose one with -m: {names}"
        fitting = affordable(model, others, pricing.catalog(transport))
    except (ApiError, NetworkError):
        return []
    relatives = [other for other in fitting if family(other) == family(model)]
    strangers = [other for other in fitting if family(other) != family(model)]
    return relatives[:1] + strangers[:1]
