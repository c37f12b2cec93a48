"""Gateways, keys, paths and default models, from an environment that is handed in."""

from __future__ import annotations

import os
import re
import sys

from .errors import KeyProblem, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

DIALECTS = ("alltoken", "new-api", "openai")
# name: (root, dialect, local: a server on this machine has no prices)
KNOWN = {
    "alltoken": ("https://api.alltoken.ai", "alltoken", False),
    "openclaw": ("https://token.openclaw-token.shop", "new-api", False),
    "openrouter": ("https://openrouter.ai/api", "openai", False),
    "openai": ("https://api.openai.com", "openai", False),
    "ollama": ("http://localhost:11434", "openai", True),
    "llamacpp": ("http://localhost:8080", "openai", True),
    "lmstudio": ("http://localhost:1234", "openai", True),
}
DEFAULTS = {  # AllToken's models to use if neither the command line nor the environment names one
    "chat": "gpt-5.4-mini",
    "image": "gpt-image-2",
    "video": "seedance-1.5-pro",
    "search": "deepseek-v4-pro",
}
LARGEST_KEY_FILE = 1 << 16  # bytes
SHORTEST_KEY = 6  # characters of one that is looked for; shorter ones would match ordinary text
KEY_PATIENCE = 5.0  # seconds that a pipe may take to bring the key


class Gateway:
    """An address, and the dialect of its API.

    `dialect` is None if it is to be found out. `home`: it is AllToken, whose models have names that are known.
    `local`: a known server on this machine, which has no prices. `proxied`: the environment may name proxies.
    `prefix` begins the names of its variables.
    """

    def __init__(
        self, name: str, root: str, dialect: str | None, *, local: bool = False, proxied: bool = False
    ) -> None:
        self.name = name
        self.home = name == "alltoken"
        self.root = root
        self.dialect = dialect
        self.local = local
        self.proxied = proxied
        self.prefix = prefix_of(name)


def prefix_of(name: str) -> str:
    """What the names of a gateway's variables begin with."""
    return "ALLTOKEN_" if name == "alltoken" else f"ALLTOKEN_{name.upper().replace('-', '_')}_"


def gateway(environ: Mapping[str, str], name: str | None = None) -> Gateway:
    """The gateway called `name`, or the one that the environment chooses. Raises `UsageError`."""
    name = name or environ.get("ALLTOKEN_GATEWAY", "").strip() or "alltoken"
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name):
        raise UsageError(f"{name!r} cannot be a gateway's name: letters, digits, - and _, beginning with a letter")
    name = name.lower().replace("_", "-")
    prefix = prefix_of(name)
    root, dialect, local = KNOWN.get(name, (None, None, False))
    dialect = environ.get(f"{prefix}DIALECT", "").strip() or dialect
    if dialect not in (None, *DIALECTS):
        raise UsageError(f"{prefix}DIALECT cannot be used: it is one of {', '.join(DIALECTS)}")
    root = _base_url(environ, f"{prefix}BASE_URL", root)
    local = local and is_loopback(_host(root))
    proxied = sys.platform in ("darwin", "win32") or any(name.lower().endswith("_proxy") for name in environ)
    return Gateway(name, root, dialect, local=local, proxied=proxied)


def api_key(environ: Mapping[str, str], gateway: Gateway) -> str:
    """The key of a gateway, stripped; "" if a gateway on loopback has none. Never another gateway's.

    Raises `KeyProblem` if it is missing or cannot be a header's value: http.client would refuse such a value with an
    exception that quotes it, so it is checked first.
    """
    variable = f"{gateway.prefix}API_KEY"
    key, source = environ.get(variable, "").strip(), variable
    path = environ.get(f"{variable}_FILE", "")
    if not key and path:
        source = f"the file that {variable}_FILE names"
        key = _read_key(path, source)
        if not key:
            raise KeyProblem(f"{source} is empty; nothing was sent")
    if not key:
        if not gateway.home and is_loopback(_host(gateway.root)):
            return ""
        where = "AllToken → Settings → API keys" if gateway.home else f"a key of {gateway.root}"
        raise KeyProblem(f"{variable} is not set", hint=f"export {variable}=… ({where})")
    if not all("!" <= character <= "~" for character in key):
        raise KeyProblem(
            f"{source} holds a space, a line break or a character that is not ASCII; nothing was sent",
            hint="copy the key again: it is one word of printable ASCII",
        )
    return key


def secrets(environ: Mapping[str, str]) -> list[str]:
    """The keys of all gateways that are in the environment itself."""
    return [value.strip() for name, value in environ.items() if _is_key(name)]


def without_keys(environ: Mapping[str, str], *more: str | None) -> dict[str, str]:
    """What other programs may see of the environment: no variable that holds a key, of a gateway or one `more`."""
    known = [key for key in (*secrets(environ), *more) if key and len(key) >= SHORTEST_KEY]
    return {
        name: value for name, value in environ.items() if not _is_key(name) and not any(key in value for key in known)
    }


def _is_key(name: str) -> bool:
    return name.startswith("ALLTOKEN_") and name.endswith("API_KEY")


def _read_key(path: str, source: str) -> str:
    """The content of a key file: a regular file or a pipe. Raises `KeyProblem`, and shows nothing of the content."""
    import select
    import stat
    import time

    until = time.monotonic() + KEY_PATIENCE  # noqa: TID251  # there is no clock yet
    data = b""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        try:
            mode = os.fstat(descriptor).st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISFIFO(mode):
                raise KeyProblem(f"{source} is neither a regular file nor a pipe")
            while len(data) <= LARGEST_KEY_FILE:
                left = until - time.monotonic()  # noqa: TID251
                if stat.S_ISFIFO(mode) and not select.select([descriptor], [], [], max(0.0, left))[0]:
                    raise KeyProblem(f"{source} is a pipe that brought nothing for {KEY_PATIENCE:.0f} s")
                block = os.read(descriptor, 1 << 14)
                if not block:
                    break
                data += block
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        raise KeyProblem(f"cannot read {source}: {getattr(error, 'strerror', None) or 'it is not a path'}") from None
    if len(data) > LARGEST_KEY_FILE:
        raise KeyProblem(f"{source} is larger than {LARGEST_KEY_FILE:,} bytes: it is not a key")
    return data.decode("utf-8", "replace").strip()


def is_loopback(host: str | None) -> bool:
    """Whether `host` can only be this machine: localhost, 127.0.0.0/8 or ::1."""
    return host in ("localhost", "::1") or bool(
        re.fullmatch(r"127(\.(25[0-5]|2[0-4]\d|1?\d?\d)){3}", host or "", re.ASCII)
    )


def _host(url: str) -> str | None:
    from urllib.parse import urlsplit

    return urlsplit(url).hostname


def _base_url(environ: Mapping[str, str], variable: str, default: str | None) -> str:
    """A gateway's root without a trailing slash or /v1. Raises `UsageError`, which never quotes the value."""
    from urllib.parse import urlsplit  # not for --help

    value = environ.get(variable, "").strip() or default
    if value is None:
        known = ", ".join(KNOWN)
        raise UsageError(f"{variable} is not set", hint=f"set it to the gateway's root, or use a known name: {known}")

    def unusable(reason: str) -> UsageError:
        hint = f"the default is {default}" if default else "for example https://gateway.example"
        return UsageError(f"{variable} cannot be used: {reason}", hint=hint)

    # urlsplit drops tabs and line breaks in silence, so they are looked for first.
    if not all("!" <= character <= "~" for character in value):
        raise unusable("it holds white space or a character that is not ASCII")
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # its text quotes what may be a password
        usable = False
    if not usable:
        raise unusable("it must look like https://host")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise unusable("it must not have a user, query or fragment")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise unusable("http:// is allowed for this machine only: the key would be sent unencrypted")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix('/v1').rstrip('/')}"


def default_model(environ: Mapping[str, str], gateway: Gateway, command: str) -> str | None:
    """The model that the environment names for a command at a gateway, or else AllToken's own; None for another
    gateway, whose models are not known."""
    named = environ.get(f"{gateway.prefix}{command.upper()}_MODEL", "").strip()
    return named or (DEFAULTS.get(command) if gateway.home else None)


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
