"""Tools that a model may call: plain functions, executables that declare themselves, and the tools of MCP servers."""

from __future__ import annotations

import json
import os
import re

from ..errors import UsageError
from ..wire import parse_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from .mcp import Server

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
HEAD = 1 << 16  # bytes of an executable in which its declaration is looked for
_LINE = re.compile(r"^\W{0,40}tool:(.*)$", re.MULTILINE)
_PASTE = """\
put lines like these into it, behind its comment sign:
# tool: {"description": "what it does", "parameters": {"type": "object",
# tool:   "properties": {"city": {"type": "string"}}, "required": ["city"]}}"""
TYPES: dict[object, str] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    list: "array",
    dict: "object",
}


class ToolCall:
    """A call that the model wants made; `arguments` is None if what it sent is not an object."""

    def __init__(self, id: str, name: str, arguments: dict[str, Any] | None, raw: str) -> None:
        self.id = id
        self.name = name
        self.arguments = arguments
        self.raw = raw

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> ToolCall:
        """The call in a message's `tool_calls`; empty arguments are an empty object."""
        function = document.get("function") or {}
        raw = function.get("arguments") or ""
        try:
            arguments = parse_json(raw) if raw.strip() else {}
        except ValueError:
            arguments = None
        known = arguments if isinstance(arguments, dict) else None
        return cls(document.get("id") or "", function.get("name") or "", known, raw)


class Limits:
    """What a call may take: seconds, and characters of its result. `stop` tells whether it is to end now."""

    def __init__(self, seconds: float, characters: int, stop: Callable[[], bool]) -> None:
        self.seconds = seconds
        self.characters = characters
        self.stop = stop


class Tool:
    """A tool: its name, what it does, a JSON Schema of its arguments, and a function that gets them by keyword.

    What `run` returns is the result: a text as it is, anything else as JSON. `asks`: each call needs consent.
    """

    asks = False

    def __init__(
        self, name: str, description: str, parameters: dict[str, Any], run: Callable[..., Any] | None = None
    ) -> None:
        if not NAME.fullmatch(name):
            raise UsageError(f"{name!r} cannot be a tool's name: letters, digits, _ and -, at most 64")
        self.name = name
        self.description = description
        self.parameters = {"type": "object", "properties": {}, **parameters}
        self.run = run

    def definition(self) -> dict[str, Any]:
        """What the model is told of it."""
        about = {"name": self.name, "description": self.description, "parameters": self.parameters}
        return {"type": "function", "function": about}

    def call(self, arguments: dict[str, Any], limits: Limits) -> tuple[str, bool]:
        """The result of a call, and whether it went well. A function runs in a thread, so that it can be given up."""
        import threading

        found: list[tuple[str, bool]] = []
        done = threading.Event()

        def work() -> None:
            try:
                assert self.run is not None
                value = self.run(**arguments)
                found.append((value if isinstance(value, str) else json.dumps(value, default=str), True))
            except Exception as error:  # noqa: BLE001  # whatever a tool does wrong is a result
                found.append((f"error: {type(error).__name__}: {error}", False))
            finally:
                done.set()

        threading.Thread(target=work, daemon=True).start()
        waited = 0.0
        while not done.wait(0.05) and waited < limits.seconds and not limits.stop():
            waited += 0.05
        return found[0] if found else ("error: no result in time; it may have taken effect", False)


class Program(Tool):
    """A tool that is an executable: it gets its arguments as one JSON object on stdin, and prints its result."""

    def __init__(
        self,
        name: str,
        description: str,
        parameters: dict[str, Any],
        argv: list[str],
        environ: Mapping[str, str],
        cwd: str | None = None,
    ) -> None:
        super().__init__(name, description, parameters)
        self._argv = argv
        self._environ = environ
        self._cwd = cwd

    def call(self, arguments: dict[str, Any], limits: Limits) -> tuple[str, bool]:
        """Run it once; a status that is not 0 is told, with the end of its stderr."""
        from . import process

        data = json.dumps(arguments).encode()
        try:
            ended = process.run(
                self._argv,
                data,
                environ=self._environ,
                timeout=limits.seconds,
                limit=limits.characters,
                stop=limits.stop,
                cwd=self._cwd,
            )
        except OSError as error:
            return f"error: cannot run {self._argv[0]}: {error.strerror}", False
        if ended.timed_out or ended.stopped:
            why = f"ended after {limits.seconds:g} s" if ended.timed_out else "interrupted"
            return _joined(f"error: {why}; it may have taken effect", ended.errors, ended.output), False
        if ended.status:
            return _joined(f"error: exit status {ended.status}", ended.errors, ended.output), False
        self.errors = ended.errors
        return ended.output, True

    errors = ""  # what the last call that went well wrote to stderr


class Remote(Tool):
    """A tool of an MCP server: each call needs consent."""

    asks = True

    def __init__(self, name: str, server: Server, definition: Mapping[str, Any]) -> None:
        super().__init__(name, str(definition.get("description") or ""), dict(definition.get("parameters") or {}))
        self._server = server
        self._own_name = str(definition["name"])

    def call(self, arguments: dict[str, Any], limits: Limits) -> tuple[str, bool]:
        """Ask the server."""
        return self._server.call(self._own_name, arguments, limits.seconds)


class Handed(Tool):
    """A tool that only the caller can run: its calls are handed back."""

    def __init__(self, definition: dict[str, Any]) -> None:
        function = definition.get("function")
        name = function.get("name") if isinstance(function, dict) else None
        super().__init__(name if isinstance(name, str) else "", "", {})
        self._definition = definition

    def definition(self) -> dict[str, Any]:
        """As it was given."""
        return self._definition


def _joined(*texts: str) -> str:
    return "\n".join(text for text in texts if text)


def declared(path: str, environ: Mapping[str, str]) -> Program:
    """The tool that an executable declares itself to be; it is read, not run. Raises `UsageError`."""
    full = path if os.sep in path else os.path.join(os.curdir, path)
    try:
        with open(full, "rb") as file:
            head = file.read(HEAD).decode("utf-8", "replace")
    except OSError as error:
        raise UsageError(f"--tool {path}: {error.strerror}") from None
    if not os.path.isfile(full) or not os.access(full, os.X_OK):
        raise UsageError(f"--tool {path} is not an executable file", hint=f"chmod +x {path}")
    text = "".join(_LINE.findall(head))
    if not text:
        raise UsageError(f"--tool {path} does not say what it is", hint=_PASTE)
    try:
        value = parse_json(text)
    except ValueError:
        value = None
    if not isinstance(value, dict) or not isinstance(value.get("parameters", {}), dict):
        raise UsageError(
            f"--tool {path}: its `tool:` lines are not a JSON object with description and parameters", hint=_PASTE
        )
    name = value.get("name") or os.path.splitext(os.path.basename(path))[0]
    return Program(
        str(name), str(value.get("description") or ""), value.get("parameters", {}), [os.path.abspath(full)], environ
    )


def defined(path: str, document: list[dict[str, Any]], environ: Mapping[str, str]) -> list[Tool]:
    """The tools of a --tools file: those with a `command` are run, the others are handed back. Raises `UsageError`."""
    folder = os.path.dirname(os.path.abspath(path))
    found: list[Tool] = []
    for item in document:
        command = item.get("command")
        rest = {name: value for name, value in item.items() if name != "command"}
        if command is None:
            found.append(Handed(rest))
            continue
        function = item.get("function")
        sound = isinstance(command, list) and command and all(isinstance(word, str) for word in command)
        if not sound or not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise UsageError(f'{path}: "command" is a list of words, beside a "function" with a name')
        first = command[0] if os.sep not in command[0] else os.path.join(folder, command[0])
        parameters = function.get("parameters")
        found.append(
            Program(
                function["name"],
                str(function.get("description") or ""),
                parameters if isinstance(parameters, dict) else {},
                [first, *command[1:]],
                environ,
            )
        )
    return found


def from_function(function: Callable[..., Any]) -> Tool:
    """The tool that a plain function is: its docstring says what it does, its annotations what it takes.

    str, int, float, bool, list, dict, list[str], Literal and X | None are understood. Raises `UsageError`.
    """
    import inspect
    import typing

    name = getattr(function, "__name__", "")
    description = inspect.getdoc(function)
    if not description:
        raise UsageError(f"the tool {name} needs a docstring, which tells the model what it does")
    hints = typing.get_type_hints(function)
    properties: dict[str, Any] = {}
    required = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise UsageError(f"the tool {name}: every argument needs a name ({parameter})")
        if parameter.name not in hints:
            raise UsageError(f"the tool {name}: its argument {parameter.name} needs an annotation")
        properties[parameter.name] = schema = _schema(hints[parameter.name], f"{name}({parameter.name})")
        if parameter.default is parameter.empty:
            required.append(parameter.name)
        elif parameter.default is not None:
            schema["default"] = parameter.default
    return Tool(name, description, {"properties": properties, "required": required}, function)


def _schema(hint: Any, where: str) -> dict[str, Any]:
    """The JSON Schema of an annotation."""
    import types
    import typing

    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint in TYPES:
        return {"type": TYPES[hint]}
    if origin is typing.Literal:
        kinds = {TYPES[type(value)] for value in inner}
        return {"enum": list(inner)} | ({"type": kinds.pop()} if len(kinds) == 1 else {})
    if origin is list and len(inner) == 1:
        return {"type": "array", "items": _schema(inner[0], where)}
    if origin is dict:
        return {"type": "object"}
    if origin in (typing.Union, types.UnionType) and type(None) in inner and len(inner) == 2:
        other = next(one for one in inner if one is not type(None))
        schema = _schema(other, where)
        return schema | ({"type": [schema["type"], "null"]} if "type" in schema and "enum" not in schema else {})
    raise UsageError(f"the tool argument {where} has an annotation that cannot be told to a model: {hint}")
