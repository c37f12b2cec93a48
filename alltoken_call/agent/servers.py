"""The MCP servers of an agent: which there are, what they and their tools are called, what they may see.

They are started before the agent's first request, and end with it.
"""

from __future__ import annotations

import contextlib
import re
import weakref

from .. import config
from ..errors import CallError, ExitStatus, Interrupted, UsageError
from ..wire import as_object, parse_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from ..calls.client import Client
    from .mcp import Server
    from .process import Process
    from .tools import Tool

    Entry = tuple[str, list[str], dict[str, str], str | None]  # name, argv, environment, cwd

LONGEST_NAME = 64  # characters of a tool's name that models take

_RUNNER = (
    r"(python|pypy|pip|pipx|uv|uvx|node|npm|npx|pnpm|pnpx|yarn|bun|bunx|deno|ruby|php|java|go|dotnet|poetry|hatch|conda"
    r"|docker|podman|env|sudo|sh|bash|zsh|cmd|tsx|ts-node)[0-9.]*(\.exe)?"
)
_PART_OF_RUNNER = {"run", "x", "dlx", "exec", "tool", "compose"}
_WITH_VALUE = {"--from", "--with", "--python", "--directory", "--project", "--package", "-p", "--env-file"}
_WITH_VALUE |= {"-c", "-e", "--env", "-v", "--volume", "--mount", "--name", "--network"}
_PREFIX = r"(?:(?:mcp[-_])?server[-_])?"
_ENDING = r"(?:\.(?:py|pyz|js|mjs|cjs|ts|mts|sh|rb|php|jar|exe))?"
_VERSION = r"(?:[@=<>~!\[:;\s].*)?"
_VARIABLE = r"\$\{(?:(?:env:)?([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?|[^}]*)\}"

_SEEN = {"HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER", "LANG", "TMPDIR", "TZ"}
_SEEN |= {"SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"}
_SEEN |= {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy"}


class Serving:
    """The servers that are `named`: command lines, or .json files that list some, with variables from `environ`."""

    def __init__(self, named: Iterable[str], environ: Mapping[str, str], client: Client) -> None:
        self._named = list(named)
        self._environ = environ
        self._client = client
        self._servers: list[Server] = []

    def start(self, tools: dict[str, Tool]) -> dict[str, Tool]:
        """Start what is not up yet; `tools` with those of the servers.

        Raises `UsageError`, and `CallError` if the client is to give up; then none is up.
        """
        if not self._named or self._servers:
            return tools
        from . import mcp
        from .tools import Remote

        client = self._client
        self._servers = servers = [server for text in self._named for server in self._made(text)]
        weakref.finalize(self, mcp.close_all, servers)  # nobody has to call `close`
        found = dict(tools)
        try:
            for server in servers:
                server.start(max(0.1, min(mcp.START, client.clock.left())))
                for definition in server.tools:
                    name = tool_name(server.name, definition["name"], set(found))
                    found[name] = Remote(name, server, definition)
        except BaseException as error:
            self.close()
            if not isinstance(error, mcp.ServerError):
                raise
            if client.clock.left() <= 0:
                message = "the time of --max-wait is over, and the servers are not up"
                raise CallError(message, code="max_wait", status=ExitStatus.NETWORK) from None
            if client.over():
                raise CallError("cancelled", code="cancelled", status=ExitStatus.INTERRUPTED) from None
            raise UsageError(f"the server {server.name}: {error}") from None
        return found

    def _made(self, text: str) -> list[Server]:
        import shlex

        from .mcp import Server

        seen, stop = config.without_keys(self._environ, self._client.key), self._client.over
        if text.endswith(".json"):
            return [Server(*entry, stop) for entry in read_config(text, self._environ, seen)]
        try:
            words = shlex.split(text)
            return [Server(server_name(words), words, seen, None, stop)]
        except (ValueError, IndexError):  # an open quote; no words
            raise UsageError(f"mcp: {text!r} is not a command line") from None

    def close(self, *groups: Process) -> None:
        """End the servers, and a tool's processes side by side with them. Idempotent."""
        if self._servers or groups:
            from .mcp import close_all
            from .process import signals_held

            with contextlib.suppress(Interrupted), signals_held():  # a run that has ended stays as it is
                close_all(self._servers, groups)
            self._servers = []


def server_name(words: list[str]) -> str:
    """What the server of a command is called: `uvx mcp-server-time` is time.

    It is the first word that is neither a runner nor an option, without scope, version, ending and usual prefix.
    """
    value = False  # of the option before
    for number, word in enumerate(words):
        base = word.rstrip("/").rpartition("/")[2]
        runner = re.fullmatch(_RUNNER, base) or (number and base in _PART_OF_RUNNER)
        if not (value or runner or word.startswith("-") or re.match(r"[A-Za-z_]\w*=", word)):
            found = re.fullmatch(f"{_PREFIX}(.+?){_ENDING}{_VERSION}", base, re.DOTALL)
            return found[1] if found else "server"
        value = not value and word in _WITH_VALUE
    return words[0].rpartition("/")[2]


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


def read_config(path: str, environ: Mapping[str, str], seen: Mapping[str, str]) -> list[Entry]:
    """The servers that a file lists, as coding agents have it. Its variables come from `environ`; of `seen` a server
    sees what a program needs in order to run, beside its own `env`. Raises `UsageError`."""
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
    few = {name: seen[name] for name in seen if name in _SEEN or name.startswith("LC_")}
    return [_entry(f"--mcp {path}: server {name!r}", name, as_object(listed[name]), environ, few) for name in listed]


def _entry(
    where: str, name: str, value: Mapping[str, Any], environ: Mapping[str, str], few: Mapping[str, str]
) -> Entry:
    if value.get("type", "stdio") != "stdio":
        raise UsageError(f"{where} is not one that is started here (type stdio)")
    command, args = value.get("command"), value.get("args", [])
    env, cwd = value.get("env") or {}, value.get("cwd") or ""
    lists = isinstance(args, list) and isinstance(env, dict)
    if not lists or not command or not all(isinstance(word, str) for word in [command, *args, *env.values(), cwd]):
        forms = 'strings; "args" is a list of them, "env" an object'
        raise UsageError(f'{where} needs a "command", and may have "args", "env" and "cwd": {forms}')

    def valued(variable: re.Match[str]) -> str:
        found = environ.get(variable[1] or "")
        if variable[2] is not None:
            return found or variable[2]
        if found is None:
            raise UsageError(f"{where} needs {variable[0]}, which is not set")
        return found

    words = [re.sub(_VARIABLE, valued, word) for word in [command, *args, cwd]]
    own = {key: re.sub(_VARIABLE, valued, word) for key, word in env.items()}
    return name, words[:-1], {**few, **own}, words[-1] or None
