"""The agent: its instructions and its tools. `python3 agent.py "a question"` asks it once."""

from __future__ import annotations

import sys
from typing import Any

from alltoken_call import Agent, CallError

from tools import TOOLS

INSTRUCTIONS = "You are a helpful assistant. Be brief. Use your tools when they help."


def make_agent(**options: Any) -> Agent:
    """A new conversation. The options are those of `Agent`: model="gpt-5.4-mini", thread="talk.json", max_cost=0.10."""
    return Agent(**{"instructions": INSTRUCTIONS, "tools": TOOLS, **options})


def main() -> None:
    """Ask one question, and print the answer."""
    question = " ".join(sys.argv[1:]) or "What time is it in Tokyo?"
    try:
        with make_agent() as agent:
            print(agent.send(question))
    except CallError as error:
        sys.exit(f"{error.code}: {error.message}")


if __name__ == "__main__":
    main()
