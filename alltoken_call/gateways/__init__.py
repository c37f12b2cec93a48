"""What differs between gateways, without I/O."""

from __future__ import annotations

from .alltoken import AllToken

DIALECTS = {dialect.name: dialect for dialect in (AllToken,)}


def dialect(name: str, root: str) -> AllToken:
    """The dialect of that name, for the gateway at `root`."""
    return DIALECTS[name](root)
