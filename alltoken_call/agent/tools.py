"""Tools that a model may call: functions, executables that declare themselves, and the tools of MCP servers."""

from __future__ import annotations

import contextlib
import json
import os
import re

from ..errors import UsageError
from ..text import shortened
from ..wire import as_object, object_of, parse_json, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from .mcp import Server
    from .process import Process

    Outcome = tuple[str, bool, str]  # for the model; whether it went well; what a program that did wrote to stderr

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
NAME_RULE = "letters, digits, _ and -, at most 64"
RESULT_LIMIT = 30_000  # characters of a result
LOOK = 0.05  # seconds between two looks at what may end a call
HEAD = 1 << 16  # bytes of an executable in which its declaration is looked for
_SIGN = r"[^\w\n]{0,40}[^\w\s][^\w\n]{0,40}|[ \t]*(?:rem|REM|dnl)[ \t]+"  # of a comment; code is indented without one
_LINE = re.compile(rf"^(?:{_SIGN})?tool:(.*?)(?:\*/|-->)?[ \t\r]*$", re.MULTILINE)
_SURROGATE = re.compile("[\ud800-\udfff]")  # what a text that can be sent does not have
_PASTE = """\
put lines like these into it, behind its comment sign:
# tool: {"description": "what it does", "parameters": {"type": "object",
# tool:   "properties": {"city": {"type": "string"}}, "required": ["city"]}}"""


class ToolCall:
    """A call that the model wants made: its `id`, or one of ours, the tool's `name`, and the `arguments`: None if what
    it sent is not an object; nothing at all is an empty one.

    `document` is the call for the history: as it came, but with that id, and with JSON for arguments.
    """

    def __init__(self, sent: Mapping[str, Any]) -> None:
        function = sent.get("function") or {}
        raw = function.get("arguments") or ""
        try:
            value = parse_json(raw) if raw.strip() else {}
            text = json.dumps(value)
            with contextlib.suppress(ValueError):  # NaN, a line break in a string, nothing at all: servers refuse that
                json.dumps(json.loads(raw), allow_nan=False)
                text = raw
        except (ValueError, RecursionError):
            value, text = None, json.dumps({"INVALID_JSON": raw})
        self.id: str = sent.get("id") or f"call_{os.urandom(6).hex()}"
        self.name: str = function.get("name") or ""
        self.arguments: dict[str, Any] | None = value if isinstance(value, dict) else None
        self.document = {**sent, "id": self.id, "function": {**function, "arguments": text}}


class Limits:
    """What a call may take: seconds, and characters of its result. `stop` tells whether it is to end now, `clean`
    takes the key out of a result, `end` ends a tool's processes if a signal comes."""

    def __init__(
        self,
        seconds: float,
        characters: int,
        stop: Callable[[], bool],
        clean: Callable[[str], str],
        end: Callable[[Process], None] | None = None,
    ) -> None:
        self.seconds = seconds
        self.characters = characters
        self.stop = stop
        self.clean = clean
        self.end = end

    def cut(self, text: str, missing: int = 0) -> str:
        """A result as the model gets it; first the key is taken out, of which a cut could leave a part. `missing` bytes
        were left out before."""
        return _SURROGATE.sub("\ufffd", shortened(self.clean(text), self.characters, missing))


class Tool:
    """A tool: its name, what it does, a JSON Schema of its arguments, and a function that gets them by keyword.

    What `run` returns is the result: a text as it is, anything else as JSON; what it raises is told to the model. It
    runs in a thread of its own, and one that takes too long is given up: it goes on there to its end.
    `asks`: each call needs consent.
    """

    asks = False

    def __init__(
        self, name: str, description: str, parameters: dict[str, Any], run: Callable[..., Any] | None = None
    ) -> None:
        if not NAME.fullmatch(name):
            raise UsageError(f"{name!r} cannot be a tool's name: {NAME_RULE}")
        self.name = name
        self.description = description
        self.parameters = {"type": "object", "properties": {}, **parameters}
        self.run = run

    def definition(self) -> dict[str, Any]:
        """What the model is told of it."""
        about = {"name": self.name, "description": self.description, "parameters": self.parameters}
        return {"type": "function", "function": about}

    def call(self, arguments: dict[str, Any], limits: Limits) -> Outcome:
        """What a call comes to. A function runs in a thread, so that it can be given up."""
        import contextvars
        import threading

        found: list[tuple[str, bool]] = []

        def work() -> None:
            try:
                assert self.run is not None
                value = self.run(**arguments)
                text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
                found.append((text, True))
            except BaseException as error:  # noqa: BLE001  # whatever a tool does wrong is a result, also SystemExit
                about = f": {error}" if str(error) else ""
                found.append((f"error: {type(error).__name__}{about}", False))

        thread = threading.Thread(target=contextvars.copy_context().run, args=(work,), daemon=True)
        thread.start()
        left = limits.seconds
        while thread.is_alive() and left > 0 and not limits.stop():
            thread.join(min(left, LOOK))
            left -= LOOK
        why = f"no result within {limits.seconds:g} s" if left <= 0 else "interrupted"
        text, ok = found[0] if found else (f"error: {why}; it may have taken effect", False)
        return limits.cut(text), ok, ""


class Program(Tool):
    """A tool that is an executable: it gets its arguments as one JSON object on stdin, and prints its result.

    `value` describes it, as a user has written it. If it cannot be used, `UsageError` is raised, which says `where`
    that is, and by `hint` what is needed.
    """

    def __init__(
        self, value: Mapping[str, Any], argv: list[str], environ: Mapping[str, str], where: str, hint: str | None = None
    ) -> None:
        name, description, parameters = value.get("name"), value.get("description"), value.get("parameters", {})
        if not isinstance(name, str) or not NAME.fullmatch(name):
            hint = f'"name", beside the description, gives it one: {NAME_RULE}'
            raise UsageError(f"{where}: {name!r} cannot be a tool's name", hint=hint)
        schema = isinstance(parameters, dict) and parameters.get("type", "object") == "object"
        if not schema or not isinstance(description, str):
            message = f'{where} needs a "description", and as "parameters" the JSON Schema of an object'
            raise UsageError(message, hint=hint)
        super().__init__(name, description, parameters)
        self._argv = argv
        self._environ = environ

    def call(self, arguments: dict[str, Any], limits: Limits) -> Outcome:
        """Run it once; a status that is not 0 is told, with the end of its stderr."""
        from . import process

        data = json.dumps(arguments).encode()
        try:
            status, output, errors = process.run(self._argv, data, limits, self._environ)
        except OSError as error:
            return f"error: cannot run {self._argv[0]}: {error.strerror}", False, ""
        if status == 0:
            return limits.cut(output.text, output.missing), True, errors
        if status is None:
            why = "interrupted" if limits.stop() else f"ended after {limits.seconds:g} s"
            what = f"error: {why}; it may have taken effect"
        else:
            what = f"error: exit status {status}"
        parts = [what, limits.clean(errors)[-limits.characters // 2 :], output.text]
        return limits.cut("\n".join(filter(None, parts)), output.missing), False, ""


class Remote(Tool):
    """A tool of an MCP server: each call needs consent."""

    asks = True

    def __init__(self, name: str, server: Server, definition: Mapping[str, Any]) -> None:
        super().__init__(name, str(definition.get("description") or ""), dict(definition.get("parameters") or {}))
        self._server = server
        self._own_name = str(definition["name"])

    def call(self, arguments: dict[str, Any], limits: Limits) -> Outcome:
        """Ask the server."""
        text, ok = self._server.call(self._own_name, arguments, limits.seconds)
        return limits.cut(text), ok, ""


class Handed(Tool):
    """A tool that only the caller can run: its calls are handed back."""

    def __init__(self, definition: dict[str, Any]) -> None:
        function = as_object(definition.get("function"))
        if isinstance(function.get("name"), str):
            super().__init__(function["name"], str(function.get("description") or ""), {})
        else:  # the gateway's own, which has no calls
            self.name, self.description = f"({definition.get('type')})", ""
        self._definition = definition

    def definition(self) -> dict[str, Any]:
        """As it was given."""
        return self._definition


def declared(path: str, environ: Mapping[str, str]) -> Program:
    """The tool that an executable declares itself to be; it is read, not run. Raises `UsageError`."""
    full = os.path.abspath(path)
    if not os.path.isfile(full):
        raise UsageError(f"--tool {path}: {'this is not a file' if os.path.exists(full) else 'there is no such file'}")
    if not os.access(full, os.X_OK):
        import shlex

        raise UsageError(f"--tool {path} is not executable", hint=f"chmod +x {shlex.quote(path)}")
    try:
        with open(full, "rb") as file:
            head = file.read(HEAD).decode("utf-8", "replace")
    except OSError as error:
        raise UsageError(f"--tool {path}: {error.strerror}") from None
    text = "".join(_LINE.findall(head))
    if not text:
        raise UsageError(f"--tool {path} does not say what it is", hint=_PASTE)
    stem = os.path.splitext(os.path.basename(path))[0]
    return Program({"name": stem, **object_of(text)}, [full], environ, f"--tool {path}", _PASTE)


def defined(path: str, item: dict[str, Any], environ: Mapping[str, str]) -> Tool:
    """A tool of a --tools file: one with a `command`, which is relative to that file, is run, any other is handed back.
    Raises `UsageError`."""
    if "command" not in item:
        return Handed(item)
    import shutil

    command, function = item["command"], as_object(item.get("function"))
    where = ": ".join(filter(None, [path, text_of(function.get("name"))]))
    if not isinstance(command, list) or not command or not all(isinstance(word, str) for word in command):
        raise UsageError(f'{where}: its "command" is not a list of words')
    first = command[0]
    if os.path.dirname(first):
        first = os.path.join(os.path.dirname(os.path.abspath(path)), first)
    found = shutil.which(first, path=environ.get("PATH", os.defpath))
    if found is None:
        raise UsageError(f"{where}: its command {command[0]} is missing or not executable")
    described = {**function, "description": function.get("description") or ""}
    return Program(described, [found, *command[1:]], environ, where)
