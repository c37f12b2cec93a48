"""Which MCP servers there are: how they and their tools are called, the files that list them, what they may see."""

from __future__ import annotations

import re

from ..errors import UsageError
from ..wire import as_object, parse_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    Entry = tuple[str, list[str], dict[str, str], str | None]  # name, argv, env, cwd

LONGEST_NAME = 64  # characters of a tool's name that models take

_RUNNER = re.compile(
    r"(python|pypy|pip|pipx|uv|uvx|node|npm|npx|pnpm|pnpx|yarn|bun|bunx|deno|ruby|php|java|go|dotnet|poetry|hatch|conda"
    r"|docker|podman|env|sudo|sh|bash|zsh|cmd|tsx|ts-node)[0-9.]*(\.exe)?"
)
_PART_OF_RUNNER = {"run", "x", "dlx", "exec", "tool", "compose"}
_WITH_VALUE = {"--from", "--with", "--python", "--directory", "--project", "--package", "-p", "--env-file"}
_WITH_VALUE |= {"-c", "-e", "--env", "-v", "--volume", "--mount", "--name", "--network"}
_VERSION = re.compile(r"(?<=.)([@=<>~!\[:;]|\s).*", re.DOTALL)
_ENDING = re.compile(r"(?<=.)\.(py|pyz|js|mjs|cjs|ts|mts|sh|rb|php|jar|exe)$")
_PREFIX = re.compile(r"^(mcp[-_]server[-_]|server[-_])(?=.)")

_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_NAME = re.compile(r"(?:env:)?([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)

_SEEN = {"HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER", "LANG", "TMPDIR", "TZ"}
_SEEN |= {"SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"}
_PROXIES = {"http_proxy", "https_proxy", "all_proxy", "no_proxy"}


def server_name(words: list[str]) -> str:
    """What the server of a command is called: `uvx mcp-server-time` is time.

    It is the first word that is neither a runner nor an option, without scope, version, ending and usual prefix.
    """
    value = False  # of the option before
    for number, word in enumerate(words):
        base = word.rstrip("/").rpartition("/")[2]
        runner = _RUNNER.fullmatch(base) or (number and base in _PART_OF_RUNNER)
        if not (value or runner or word.startswith("-") or re.match(r"[A-Za-z_]\w*=", word)):
            plain = _VERSION.sub("", base)
            return _PREFIX.sub("", _ENDING.sub("", plain)) or "server"
        value = not value and word in _WITH_VALUE
    return words[0].rpartition("/")[2] if words else "server"


def tool_name(server: str, tool: str, taken: set[str]) -> str:
    """What a server's tool is called: `SERVER__TOOL`, made fit for models and unlike the `taken` names.

    A name that had to be changed is cut and ends in 6 hex digits that are always the same for the same names.
    """
    full = f"{server}__{tool}"
    name = plain = re.sub(r"[^A-Za-z0-9_-]", "_", full, flags=re.ASCII)
    count = 0
    while name in taken or len(name) > LONGEST_NAME or (name == plain != full):
        from hashlib import sha256

        digits = sha256(f"{full}\0{count}".encode("utf-8", "replace")).hexdigest()[:6]
        name = f"{plain[: LONGEST_NAME - 7]}_{digits}"
        count += 1
    return name


def read_config(path: str, environ: Mapping[str, str]) -> list[Entry]:
    """The servers that a file lists, as coding agents have it: name, argv, env and cwd of each. Raises `UsageError`."""
    try:
        with open(path, "rb") as file:
            document = as_object(parse_json(file.read()))
    except OSError as error:
        raise UsageError(f"--mcp {path}: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"--mcp {path} is not JSON: {error}") from None
    listed = as_object(document.get("mcpServers", document.get("servers")))
    if not listed:
        raise UsageError(f'--mcp {path} lists no servers: it needs an object "mcpServers"')
    return [
        _entry(name, as_object(value), f"--mcp {path}: the server {name!r}", environ) for name, value in listed.items()
    ]


def _entry(name: str, value: Mapping[str, Any], where: str, environ: Mapping[str, str]) -> Entry:
    if value.get("type", "stdio") != "stdio" or ("url" in value and "command" not in value):
        raise UsageError(f"{where} is not one that is started here (type stdio)")
    command, args, env, cwd = (
        value.get("command"),
        value.get("args", []),
        value.get("env") or {},
        value.get("cwd") or "",
    )
    lists = isinstance(args, list) and isinstance(env, dict)
    if not lists or not command or not all(isinstance(word, str) for word in [command, *args, *env.values(), cwd]):
        raise UsageError(
            f'{where} needs a "command", and may have "args", "env" and "cwd": strings, args a list, env an object'
        )

    def expanded(text: str) -> str:
        return _VARIABLE.sub(lambda match: _value(match[1], where, environ), text)

    own = {key: expanded(word) for key, word in env.items()}
    return name, [expanded(word) for word in [command, *args]], own, expanded(cwd) or None


def _value(inside: str, where: str, environ: Mapping[str, str]) -> str:
    """The value of what stands in `${…}`."""
    found = _NAME.fullmatch(inside)
    value = environ.get(found[1]) if found else None
    if found and found[2] is not None:
        return value or found[2]
    if value is None:
        raise UsageError(f"{where} needs ${{{inside}}}, which is not set")
    return value


def limited_environ(environ: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """What a server from a file sees: what a program needs in order to run, and the variables that the file gives."""
    seen = {
        name: value
        for name, value in environ.items()
        if name in _SEEN or name.lower() in _PROXIES or name.startswith("LC_")
    }
    return seen | dict(own)
