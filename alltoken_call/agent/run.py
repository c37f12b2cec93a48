"""What a run of the loop comes to: its steps, and the sums of their tokens and dollars."""

from __future__ import annotations

import functools

from ..gateways import prices
from ..values import LOCAL, NOTHING, UNKNOWN, Answer, Cost

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Run(Answer):
    """The value of a run: the final text, and its `steps`: of each request the answer, and the calls that were made
    for it, as documents. `model` is the one asked last."""

    def __init__(self, model: str) -> None:
        super().__init__(model)
        self.steps: list[tuple[Answer, list[dict[str, Any]]]] = []
        self.recorded = True  # each request has its row in the ledger

    @property
    def answers(self) -> list[Answer]:
        """The answers alone."""
        return [answer for answer, _ in self.steps]

    def add(self, answer: Answer) -> None:
        """Take in a request that has ended, well or not."""
        self.tried = True
        self.model = answer.model
        self.request_id = answer.request_id
        self.served_model = answer.served_model
        self.finish_reason = answer.finish_reason
        self.reasoning = answer.reasoning
        self.steps.append((answer, []))
        self.sum_up()

    def sum_up(self) -> None:
        """Make the sums anew: the cost of an answer was learnt."""
        self.usage = sum_of_usage([answer.usage for answer in self.answers if answer.cost.source != "none"])
        self.cost = sum_of_costs([answer.cost for answer in self.answers])

    def fields(self) -> dict[str, Any]:
        """The keys of chat and search, and the steps."""
        steps = [
            {
                "model": answer.model,
                "request_id": answer.request_id,
                "usage": answer.usage,
                "cost": {"usd": answer.cost.usd, "source": answer.cost.source},
                "finish_reason": answer.finish_reason,
                "text": answer.text,
                "calls": calls,
            }
            for answer, calls in self.steps
        ]
        return super().fields() | {"steps": steps}


def sum_of_usage(blocks: list[dict[str, Any] | None]) -> dict[str, Any] | None:
    """The counts of usage blocks together; None if one is unknown, or if there is none."""
    if len(blocks) == 1:
        return blocks[0]  # as it came
    total: dict[str, Any] = {}
    for block in blocks:
        if block is None:
            return None
        for name, value in block.items():
            if type(value) is int:
                total[name] = total.get(name, 0) + value
    return total if blocks else None


def sum_of_costs(costs: list[Cost]) -> Cost:
    """Costs together: unknown if one is; an estimate if it holds one."""
    bought = [cost for cost in costs if cost.source not in ("none", "local")]
    if not bought:
        return LOCAL if any(cost.source == "local" for cost in costs) else NOTHING if costs else UNKNOWN
    amounts = [usd for cost in bought if (usd := prices.amount(cost.usd)) is not None]
    if len(amounts) < len(bought):
        return UNKNOWN
    source = "gateway" if all(cost.source == "gateway" for cost in bought) else "estimate"
    return Cost(prices.plain(functools.reduce(prices.EXACT.add, amounts)), source)
