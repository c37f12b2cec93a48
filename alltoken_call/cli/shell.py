"""--completion: a script for bash, zsh or fish, generated from the parsers; Tab starts no Python."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

SHELLS = ("bash", "zsh", "fish")
_FILES = ("FILE", "FILE|URL", "PATH", "DIR")


class _Option:
    """What completion needs of one option."""

    def __init__(self, action: argparse.Action) -> None:
        self.names = list(action.option_strings)
        self.help = (action.help or "").partition(";")[0]
        self.takes = action.nargs != 0
        self.choices = list(action.choices or ())
        self.files = action.metavar in _FILES


def script(shell: str, parsers: Mapping[str, argparse.ArgumentParser], top: list[str]) -> str:
    """The completion script of `shell` for the commands' `parsers` and the `top` level's options."""
    options = {
        name: [_Option(action) for action in parser._actions if action.option_strings]  # noqa: SLF001  # no public way
        for name, parser in parsers.items()
    }
    about = {name: parser.description or "" for name, parser in parsers.items()}
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](options, about, top)


def _bash(options: dict[str, list[_Option]], about: dict[str, str], top: list[str]) -> str:
    def offer(words: list[str]) -> str:
        return f'COMPREPLY=($(compgen -W "{" ".join(words)}" -- "$cur")); return ;;'

    lines = []
    for command, all_of in options.items():
        for option in all_of:
            pattern = "|".join(f"{command}:{name}" for name in option.names)
            if option.choices:
                lines.append(f"        {pattern}) {offer(option.choices)}")
            elif option.files:
                lines.append(f"        {pattern}) _alltoken_call_files; return ;;")
            elif option.takes:
                lines.append(f"        {pattern}) return ;;")
    flags = [
        f"        {command}:-*) {offer([name for option in all_of for name in option.names])}"
        for command, all_of in options.items()
    ]
    return "\n".join(
        [
            "_alltoken_call_files() {  # a line a name, which may hold spaces; macOS's bash lacks both builtins",
            "    compopt -o filenames 2>/dev/null",
            '    if type mapfile >/dev/null 2>&1; then mapfile -t COMPREPLY < <(compgen -f -- "$cur")',
            """    else local IFS=$'\\n'; COMPREPLY=($(compgen -f -- "$cur")); fi""",
            "}",
            "_alltoken_call() {",
            '    local cur="${COMP_WORDS[COMP_CWORD]}" prev="${COMP_WORDS[COMP_CWORD-1]}" command="${COMP_WORDS[1]}"',
            "    COMPREPLY=()",
            '    case "$COMP_CWORD:$command:$prev" in',
            f"        1:*) {offer([*about, *top])}",
            "    esac",
            '    case "$command:$prev" in',
            f"        --completion:*) {offer(list(SHELLS))}",
            *lines,
            "    esac",
            '    case "$command:$cur" in',
            *flags,
            "    esac",
            "}",
            "complete -o default -F _alltoken_call alltoken-call",
        ]
    )


def _zsh(options: dict[str, list[_Option]], about: dict[str, str], top: list[str]) -> str:
    def quoted(text: str) -> str:
        return text.replace("'", "'\\''")

    def spec(option: _Option, name: str) -> str:
        text = option.help.translate(str.maketrans("[]:", "() "))
        if option.choices:
            value = f":value:({' '.join(option.choices)})"
        else:
            value = ":file:_files" if option.files else ":value: " if option.takes else ""
        return f"'*{name}[{quoted(text)}]{value}'"

    cases = []
    for command, all_of in options.items():
        specs = " ".join(spec(option, name) for option in all_of for name in option.names)
        cases.append(f"        {command}) _arguments -S {specs} '*:word:_files' ;;")
    described = " ".join(f"'{name}:{quoted(text)}'" for name, text in about.items())
    return "\n".join(
        [
            "#compdef alltoken-call",
            "_alltoken_call() {",
            "    local -a commands",
            "    if (( CURRENT == 2 )); then",
            f"        commands=({described})",
            f"        _describe command commands; compadd -- {' '.join(top)}; return",
            "    fi",
            "    shift words; (( CURRENT-- ))",
            "    case $words[1] in",
            f"        --completion) compadd -- {' '.join(SHELLS)} ;;",
            *cases,
            "        *) _files ;;",
            "    esac",
            "}",
            "# autoloaded from $fpath it is a function's body; evaluated, it has a function to register",
            'if [[ $funcstack[1] == _alltoken-call ]]; then _alltoken_call "$@"',
            "else",
            "    (( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }",
            "    compdef _alltoken_call alltoken-call",
            "fi",
        ]
    )


def _fish(options: dict[str, list[_Option]], about: dict[str, str], top: list[str]) -> str:
    def quoted(text: str) -> str:
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"

    start = "complete -c alltoken-call"
    first = "-n 'test (count (commandline -opc)) -eq 1'"
    lines = [f"{start} {first} -f -a {name} -d {quoted(text)}" for name, text in about.items()]
    lines += [f"{start} {first} -f -a {name}" for name in top]
    lines.append(f"{start} -n 'contains -- --completion (commandline -opc)' -f -a {quoted(' '.join(SHELLS))}")
    for command, all_of in options.items():
        for option in all_of:
            names = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names)
            if option.choices:
                value = f" -x -a {quoted(' '.join(option.choices))}"
            else:
                value = " -r -F" if option.files else " -x" if option.takes else ""
            lines.append(f"{start} -n '__fish_seen_subcommand_from {command}' {names}{value} -d {quoted(option.help)}")
    return "\n".join(lines)
