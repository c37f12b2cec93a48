"""Talk with the agent in a terminal: `python3 chat.py`. Ctrl-C stops an answer, Ctrl-D leaves."""

from __future__ import annotations

import sys
from typing import Any

from alltoken_call import CallError

from agent import make_agent

try:
    import readline  # line editing and history, where Python has it
except ImportError:
    pass


def show(text: str) -> None:
    """Print a piece of text as it comes; what could drive the terminal is replaced."""
    print("".join(one if one.isprintable() or one in "\n\t" else "\ufffd" for one in text), end="", flush=True)


def show_call(tool: str, arguments: dict[str, Any] | None, _: str) -> None:
    """Print which tool is called."""
    show(f"[{tool} {arguments}]\n")


def main() -> None:
    """Read and answer until the user leaves."""
    with make_agent() as agent:
        agent.on("stream:delta", lambda text, _: show(text))
        agent.on("stream:end", lambda text: show("\n" if text else ""))
        agent.on("tool:call", show_call)
        while True:
            try:
                message = input("> ").strip()
            except (EOFError, KeyboardInterrupt):
                break
            try:
                if message:
                    agent.send(message)
            except KeyboardInterrupt:
                show("\n[interrupted]\n")
            except CallError as error:
                show(f"\n[{error.code}] {error.message}\n")
        show(f"\n{'unknown cost' if agent.cost is None else f'${agent.cost}'}\n")


if __name__ == "__main__":
    try:
        main()
    except CallError as problem:  # there is no key, for example
        sys.exit(f"{problem.code}: {problem.message}")
