"""--completion: a script for bash, zsh or fish, generated from the parsers; Tab starts no Python and no network.

Ids of models come from the files that `models` writes (store/seen.py), ids of tasks from the ledger if sqlite3's own
command is there, and from nowhere else.
"""

from __future__ import annotations

from .. import config
from ..store.ledger import ENDED
from . import scripts

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

SHELLS = ("bash", "zsh", "fish")
_FILES = ("FILE", "FILE|URL", "PATH", "DIR", "FILE|COMMAND")
_RATIOS = ("16:9", "9:16", "4:3", "3:4", "21:9", "1:1")
_VALUES = {  # what is offered for options that take other values as well
    "--size": ("1024x1024", "1536x1024", "1024x1536", "auto"),
    "--quality": ("low", "medium", "high", "auto"),
    "--ratio": _RATIOS,
    "video --ratio": (*_RATIOS, "adaptive"),
    "--resolution": ("480p", "720p", "1080p"),
    "--gateway": tuple(config.KNOWN),
    "--since": ("24h", "7d", "30d"),
    "--fallback": ("auto", "none"),
}
_KINDS = {"models": "chat image video", "cost": "chat image video"}  # of ids; a command's own name for the others
_FIRST = ("chat", "models", "cost")  # their first word may be a model
_TASKS = f"""SELECT task_id FROM calls WHERE command = '{{}}' AND task_id IS NOT NULL \
AND (status IS NULL OR status NOT IN ({", ".join(f"'{status}'" for status in ENDED)})) ORDER BY id DESC LIMIT 20"""  # noqa: S608


class _Option:
    """What completion needs of one option."""

    def __init__(self, command: str, action: argparse.Action) -> None:
        self.names = list(action.option_strings)
        self.about = (action.help or "").partition(";")[0].partition(" (")[0]
        self.takes = action.nargs != 0
        self.optional = action.nargs == "?"
        name = self.names[-1]
        suggested = _VALUES.get(f"{command} {name}") or _VALUES.get(name, ())
        self.values = list(action.choices or suggested)
        self.files = action.metavar in _FILES
        self.models = name == "--model"
        self.tasks = name in ("--resume", "--cancel") and self.takes


def script(shell: str, parsers: Mapping[str, argparse.ArgumentParser], top: list[str]) -> str:
    """The completion script of `shell` for the commands' `parsers` and the `top` level's options."""
    options = {
        name: [_Option(name, action) for action in parser._actions if action.option_strings]  # noqa: SLF001  # no public way
        for name, parser in parsers.items()
    }
    about = {name: parser.description or "" for name, parser in parsers.items()}
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](options, about, top)


def _filled(template: str, **parts: str) -> str:
    """A template with its @NAME@s replaced; shells have other uses for braces and percent signs."""
    for name, part in parts.items():
        template = template.replace(f"@{name}@", part)
    return template.strip()


def _bash(options: dict[str, list[_Option]], about: dict[str, str], top: list[str]) -> str:
    def action(command: str, option: _Option) -> str | None:
        if option.models:
            return f"_alltoken_call_models {_KINDS.get(command, command)}"
        if option.tasks:
            return f"_alltoken_call_tasks {command}"
        if option.values:
            return f"_alltoken_call_offer {' '.join(option.values)}"
        return "_alltoken_call_files" if option.files else "" if option.takes else None

    values = []
    for command, all_of in options.items():
        for option in all_of:
            act = action(command, option)
            if act is not None:
                pattern = " | ".join(f"{command}:{name}" for name in option.names)
                values.append(f"        {pattern}) {act and act + '; '}return ;;")
    flags = [
        f"        {command}:-*)"
        f" _alltoken_call_offer {' '.join(name for option in all_of for name in option.names)}; return ;;"
        for command, all_of in options.items()
    ]
    first = [f"        {name}) _alltoken_call_models {_KINDS.get(name, name)} ;;" for name in _FIRST]
    return _filled(
        scripts.BASH,
        tasks=_TASKS.format("$1"),
        shells=" ".join(SHELLS),
        commands=" ".join(about),
        top=" ".join(top),
        values="\n".join(values),
        flags="\n".join(flags),
        first="\n".join(first),
    )


def _zsh(options: dict[str, list[_Option]], about: dict[str, str], top: list[str]) -> str:
    def quoted(text: str) -> str:
        return text.replace("'", "'\\''")

    def value(command: str, option: _Option) -> str:
        if option.models:
            act = f"{{_alltoken_call_models {_KINDS.get(command, command)}}}"
        elif option.tasks:
            act = f"{{_alltoken_call_tasks {command}}}"
        elif option.values:
            act = f"({' '.join(option.values)})".replace(":", "\\:")
        else:
            act = "_files" if option.files else " "
        return f":{':' * option.optional}value:{act}" if option.takes else ""

    def spec(command: str, option: _Option, name: str) -> str:
        about = option.about.replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]").replace(":", "\\:")
        equals = "=" if option.takes and name.startswith("--") else ""  # --name VALUE and --name=VALUE
        return f"'*{name}{equals}[{quoted(about)}]{value(command, option)}'"

    cases = []
    for command, all_of in options.items():
        specs = [spec(command, option, name) for option in all_of for name in option.names]
        if command in _FIRST:
            specs.append(f"'1:word:{{_alltoken_call_models {_KINDS.get(command, command)} || _files}}'")
        cases.append(f"        {command}) _arguments -S {' '.join(specs)} '*:word:_files' ;;")
    return _filled(
        scripts.ZSH,
        tasks=_TASKS.format("$1"),
        shells=" ".join(SHELLS),
        commands=" ".join(about),
        top=" ".join(top),
        anywhere="--json|-q|--quiet|-v|--verbose|--dry-run",
        described=" ".join(f"'{name}:{quoted(text)}'" for name, text in about.items()),
        cases="\n".join(cases),
    )


def _fish(options: dict[str, list[_Option]], about: dict[str, str], top: list[str]) -> str:
    def quoted(text: str) -> str:
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"

    def value(command: str, option: _Option) -> str:
        if option.models:
            return f" -x -a '(__alltoken_call_models {_KINDS.get(command, command)})'"
        if option.tasks:
            return f" -x -k -a '(__alltoken_call_tasks {command})'"
        if option.values:
            return f" -x -a {quoted(' '.join(option.values))}"
        return " -r -F" if option.files else " -x" if option.takes else ""

    start = "complete -c alltoken-call"
    first = f"{start} -n __alltoken_call_is -f"
    lines = [f"{first} -a {name} -d {quoted(text)}" for name, text in about.items()]
    lines += [f"{first} -a {name}" for name in ("help", *top)]
    lines.append(f"{start} -n '__alltoken_call_is help' -f -a {quoted(' '.join(about))}")
    lines.append(f"{start} -n 'contains -- --completion (commandline -opc)' -f -a {quoted(' '.join(SHELLS))}")
    for command, all_of in options.items():
        test = f"-n '__alltoken_call_is {command}'"
        if command in _FIRST:
            alone = f"-n '__alltoken_call_is {command}; and test (count (commandline -opc)) -eq 2'"
            lines.append(f"{start} {alone} -a '(__alltoken_call_models {_KINDS.get(command, command)})'")
        for option in all_of:
            names = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names)
            lines.append(f"{start} {test} {names}{value(command, option)} -d {quoted(option.about)}")
    return "\n".join([_filled(scripts.FISH, tasks=_TASKS.format("$argv[1]")), *lines])
