"""What several test modules use: streams in memory, and a context over them."""

from __future__ import annotations

import io

from alltoken_call.cli.context import Context


class Stream(io.TextIOWrapper):
    """A text stream over bytes in memory, posing as a terminal if asked to."""

    def __init__(self, *, terminal: bool = False, encoding: str = "utf-8") -> None:
        super().__init__(io.BytesIO(), encoding)
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal

    @property
    def written(self) -> bytes:
        """What has reached the stream's bottom."""
        return self.buffer.getvalue()


def context(**given) -> Context:
    """A context over streams in memory, with stdin closed and an empty environment, unless given."""
    return Context(**{"stdin": None, "stdout": Stream(), "stderr": Stream(), "environ": {}, "program": ["x"]} | given)
