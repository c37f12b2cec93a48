"""What the tests of other gateways share: a loopback relay beside the loopback AllToken, and runs on a quick clock."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import Any

from .harness import Result
from .relay import RELAY_KEY, Relay
from .task_support import TaskCase

COMPLETIONS, GENERATIONS, EDITS = "/v1/chat/completions", "/v1/images/generations", "/v1/images/edits"
CHAT, MAKE, EDIT = (f"POST {path}" for path in (COMPLETIONS, GENERATIONS, EDITS))


class RelayCase(TaskCase):
    """A `TaskCase` whose default gateway is called `name` and speaks `dialect`; AllToken is there, with its own key.

    At its end no credential but the relay's own has come to the relay, and AllToken was asked nothing.
    """

    dialect = "new-api"
    name = "relay"

    def setUp(self) -> None:
        super().setUp()
        self.relay = self.another(self.dialect)
        self.environ |= self.settings(self.name, self.relay, "new-api" if self.dialect == "new-api" else "openai")
        self.environ["ALLTOKEN_GATEWAY"] = self.name

    def another(self, dialect: str, **given: Any) -> Relay:
        """One more relay, whose tasks go by the quick clock."""
        relay = Relay(dialect, **given)
        relay.__enter__()
        self.addCleanup(relay.__exit__, None, None, None)
        relay.monotonic = self.clock.monotonic
        self.addCleanup(lambda: self.assertEqual(relay.strangers(), []))
        return relay

    @staticmethod
    def settings(name: str, relay: Relay, dialect: str | None = None) -> dict[str, str]:
        """The variables of a gateway called `name`."""
        prefix = f"ALLTOKEN_{name.upper()}_"
        found = {f"{prefix}BASE_URL": relay.url, f"{prefix}API_KEY": relay.key or ""}
        return found | ({f"{prefix}DIALECT": dialect} if dialect else {})

    def paths(self, relay: Relay | None = None) -> list[str]:
        """The requests that came to a relay, like "POST /v1/chat/completions"."""
        return [f"{exchange.method} {exchange.path}" for exchange in (relay or self.relay).requests]

    def posts(self) -> int:
        """How many requests came that can cost something."""
        return self.methods_of(self.relay).count("POST")

    @staticmethod
    def methods_of(relay: Relay) -> list[str]:
        """The methods of the requests that came, in order."""
        return [exchange.method for exchange in relay.requests]

    def body_of(self, number: int = -1) -> dict[str, Any]:
        """The JSON body of one of the POSTs that came, the last one by default."""
        return [exchange for exchange in self.relay.requests if exchange.method == "POST"][number].json

    def rows(self) -> list[dict[str, Any]]:
        """The rows of the ledger, oldest first."""
        path = os.path.join(self.state, "ledger.db")
        if not os.path.exists(path):
            return []
        with contextlib.closing(sqlite3.connect(path)) as database:
            database.row_factory = sqlite3.Row
            return [dict(row) for row in database.execute("SELECT * FROM calls ORDER BY id")]

    def cost(self) -> tuple[str | None, str | None]:
        """Cost and source of the last row."""
        row = self.rows()[-1]
        return row["cost"], row["source"]

    def assertQuietly(self, status: int, result: Result) -> None:
        """As everywhere, and the relay's key is not told either."""
        super().assertQuietly(status, result)
        self.assertNotIn(RELAY_KEY, result.err + result.out.decode("utf-8", "replace"))

    def assertHolds(self, path: str, data: bytes) -> None:
        """The file at `path` has these bytes; `data` may be their beginning."""
        with open(path, "rb") as file:
            self.assertTrue(file.read().startswith(data), f"{path} holds something else")
