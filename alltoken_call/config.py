"""The key, the base URL, the paths and the default models, from an environment that is handed in."""

from __future__ import annotations

import os
import re
import sys

from .errors import KeyProblem, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_BASE_URL = "https://api.alltoken.ai"


class Gateway:
    """Where to call, and how it is spoken to there. `proxied`: the environment may name proxies."""

    def __init__(self, name: str, root: str, dialect: str, *, proxied: bool = False) -> None:
        self.name = name
        self.root = root
        self.dialect = dialect
        self.proxied = proxied


def gateway(environ: Mapping[str, str]) -> Gateway:
    """The gateway that the environment names. Raises `UsageError`."""
    proxied = sys.platform in ("darwin", "win32") or any(name.lower().endswith("_proxy") for name in environ)
    return Gateway("alltoken", base_url(environ), "alltoken", proxied=proxied)


def api_key(environ: Mapping[str, str]) -> str:
    """The key from ALLTOKEN_API_KEY, stripped. Raises `KeyProblem` if it is missing or cannot be a header's value.

    http.client would refuse such a value with an exception that quotes it, so it is checked first.
    """
    key = environ.get("ALLTOKEN_API_KEY", "").strip()
    if not key:
        raise KeyProblem(
            "ALLTOKEN_API_KEY is not set", hint="export ALLTOKEN_API_KEY=… (AllToken → Settings → API keys)"
        )
    if not all("!" <= character <= "~" for character in key):
        raise KeyProblem(
            "ALLTOKEN_API_KEY holds a space, a line break or a character that is not ASCII; nothing was sent",
            hint="copy the key again: it is one word of printable ASCII",
        )
    return key


def is_loopback(host: str | None) -> bool:
    """Whether `host` can only be this machine: localhost, 127.0.0.0/8 or ::1."""
    return host in ("localhost", "::1") or bool(
        re.fullmatch(r"127(\.(25[0-5]|2[0-4]\d|1?\d?\d)){3}", host or "", re.ASCII)
    )


def base_url(environ: Mapping[str, str]) -> str:
    """The gateway's root without a trailing slash or /v1. Raises `UsageError`, which never quotes the value."""
    from urllib.parse import urlsplit  # not for --help

    value = environ.get("ALLTOKEN_BASE_URL", "").strip() or DEFAULT_BASE_URL
    # urlsplit drops tabs and line breaks in silence, so they are looked for first.
    if not all("!" <= character <= "~" for character in value):
        raise _unusable("it holds white space or a character that is not ASCII")
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # its text quotes what may be a password
        usable = False
    if not usable:
        raise _unusable("it must look like https://host")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise _unusable("it must not have a user, query or fragment")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise _unusable("http:// is for loopback only, since the key would travel in clear")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix('/v1').rstrip('/')}"


def _unusable(reason: str) -> UsageError:
    return UsageError(f"ALLTOKEN_BASE_URL cannot be used: {reason}", hint=f"the default is {DEFAULT_BASE_URL}")


def default_model(environ: Mapping[str, str], command: str) -> str | None:
    """The model that the environment names for a command; None if it names none."""
    return environ.get(f"ALLTOKEN_{command.upper()}_MODEL", "").strip() or None


def state_dir(environ: Mapping[str, str]) -> str | None:
    """Where the ledger and the spools are; None if the environment names no home.

    XDG's rule: a relative path is invalid and ignored. https://specifications.freedesktop.org/basedir-spec/
    """
    if os.name == "nt":
        candidates = [environ.get("LOCALAPPDATA", "")]
    else:
        home = environ.get("HOME", "")
        candidates = [environ.get("XDG_STATE_HOME", ""), home and os.path.join(home, ".local", "state")]
    for candidate in candidates:
        if os.path.isabs(candidate):
            return os.path.join(candidate, "alltoken-call")
    return None


def ledger_path(environ: Mapping[str, str]) -> str | None:
    """The ledger's path; None if it is off or has no place."""
    value = environ.get("ALLTOKEN_LEDGER", "")
    if value:
        return None if value == "off" else value
    state = state_dir(environ)
    return state and os.path.join(state, "ledger.db")
