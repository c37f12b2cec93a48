"""What a Python program asks for, and its environment, as the client of a call: silent, and with no signal held back.

Raised here: `UsageError` for what cannot be used, and `KeyProblem`.
"""

from __future__ import annotations

import json
import math
import os

from .. import config
from ..errors import UsageError
from ..request import RESERVED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from decimal import Decimal
    from typing import Any

    from ..calls.client import Client
    from ..net.clock import Clock
    from ..values import Event, Shield


def environment(gateway: str | None, api_key: str | None, base_url: str | None) -> dict[str, str]:
    """The process's environment, with a key and a base URL of the program's own."""
    environ = dict(os.environ)  # noqa: TID251  # the door of Python programs, as cli/ is the shell's
    prefix = config.prefix_of(gateway or environ.get("ALLTOKEN_GATEWAY", "").strip() or "alltoken")
    if api_key is not None:
        environ[f"{prefix}API_KEY"] = api_key
    if base_url is not None:
        environ[f"{prefix}BASE_URL"] = base_url
    return environ


def client_of(
    environ: Mapping[str, str],
    name: str | None,
    clock: Clock,
    *,
    timeout: float | None,
    ledger: bool,
    stop: Callable[[], bool],
    on_event: Callable[[Event], None] = lambda _: None,
    shield: Shield | None = None,
) -> Client:
    """The client for a gateway. `stop` tells whether to give up now."""
    from ..calls.client import Client
    from ..store.ledger import Ledger

    gateway = config.gateway(environ, name)
    off = not ledger or environ.get("ALLTOKEN_LEDGER") == "off"
    return Client(
        gateway,
        key=config.api_key(environ, gateway),
        clock=clock,
        on_event=on_event,
        ledger=Ledger(config.ledger_path(environ), lambda _: None, off=off, left=clock.left),
        budget=environ.get("ALLTOKEN_BUDGET", ""),
        shield=shield,
        state=config.state_dir(environ),
        timeout=None if timeout is None else seconds("timeout", timeout),
        stop=stop,
    )


def model_of(client: Client, environ: Mapping[str, str], command: str, *named: str | None) -> str:
    """The model to ask: the first that is named, the environment's, or the gateway's default."""
    names = (*named, config.default_model(environ, client.gateway, command))
    found = next((name.strip() for name in names if name and name.strip()), None)
    if found is None:
        hint = f"model=…, or {client.gateway.prefix}{command.upper()}_MODEL"
        raise UsageError(f"no model is named for {client.gateway.name}", code="no_model", hint=hint)
    return found


def search_fields(client: Client, model: str) -> dict[str, Any]:
    """The request fields that ask for a search. Raises `UsageError`."""
    from ..calls.fallback import check_searching

    fields = client.dialect.search()
    check_searching(client.dialect, model)
    return fields


def fields(params: Mapping[str, Any] | None) -> dict[str, Any]:
    """More request fields, which are JSON and are not set elsewhere."""
    found = dict(params or {})
    for name in found:
        if name in RESERVED:
            raise UsageError(f"{name!r} is not for params: it is set elsewhere")
    try:
        json.dumps(found, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"params is not JSON: {error}") from None
    return found


def number(name: str, value: float, low: float, high: float = math.inf) -> float:
    """A finite number within limits."""
    if not isinstance(value, (int, float)) or not low <= value <= high or math.isinf(value):
        limits = f"of {low:g} or more" if math.isinf(high) else f"from {low:g} to {high:g}"
        raise UsageError(f"{name}={value!r} is not a number {limits}")
    return value


def seconds(name: str, value: float) -> float:
    """A time, more than zero; a socket's timeout has room for so much."""
    return number(name, value, 0.001, 1e7)


def dollars(value: Decimal | float | str | None) -> Decimal | None:
    """A limit in dollars, exact."""
    if value is None:
        return None
    from ..gateways.prices import amount

    found = amount(str(value))
    if found is None:
        raise UsageError(f"max_cost={value!r} is not an amount of dollars")
    return found
