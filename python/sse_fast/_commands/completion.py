"""`sse-fast completion`: scripts by which shells complete commands and options.

Owns: the three scripts, made from the parsers. Must not know: what an option does.
"""

from __future__ import annotations

import argparse
import importlib
from typing import NamedTuple

DESCRIPTION = "Prints a script that makes a shell complete commands, options and their values."
EPILOG = """\
examples:
  source <(sse-fast completion bash)                       in ~/.bashrc
  source <(sse-fast completion zsh)                        in ~/.zshrc, after compinit
  sse-fast completion fish > ~/.config/fish/completions/sse-fast.fish
"""


class Option(NamedTuple):
    """An option of a command."""

    flag: str
    help: str
    takes: bool  # Whether a value follows.
    values: tuple[str, ...]  # Which, where they are known.
    is_file: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `completion`."""
    parser.add_argument("shell", choices=sorted(_SCRIPTS), help="the shell")


def run(options: argparse.Namespace) -> int:
    """Prints the script."""
    print(_SCRIPTS[options.shell](*_commands()))
    return 0


def _commands() -> tuple[dict[str, str], dict[str, list[Option]]]:
    """What each command is for, and its options; values of a first argument are options without a flag."""
    from . import COMMANDS  # noqa: PLC0415 - the table names this file

    helps, found = {}, {}
    for command in COMMANDS:
        module = importlib.import_module(f".{command.module}", __package__)
        parser = argparse.ArgumentParser(allow_abbrev=False)
        module.add_arguments(parser)
        helps[command.name] = command.help
        found[command.name] = [_option(action) for action in parser._actions]  # noqa: SLF001 - there is no other way
    return helps, found


def _option(action: argparse.Action) -> Option:
    flag = next((flag for flag in action.option_strings if flag.startswith("--")), "")
    values = tuple(map(str, action.choices or ()))
    # One that may be without a value is completed as one without.
    takes = action.nargs not in {0, "?"}
    text = (action.help or "").replace("%%", "%").replace("%(default)s", str(action.default)).partition(". ")[0]
    return Option(flag, text, takes, values, action.metavar in {"FILE", "DIR"})


def _bash(helps: dict[str, str], commands: dict[str, list[Option]]) -> str:
    cases, values = [], []
    for name, options in commands.items():
        words = " ".join(
            [option.flag for option in options if option.flag] + [v for o in options if not o.flag for v in o.values]
        )
        cases.append(f'    {name}) words="{words}" ;;')
        for option in options:
            if option.is_file and option.flag:
                values.append(f'    {name}:{option.flag}) COMPREPLY=($(compgen -f -- "$current")); return ;;')
            elif option.takes and option.flag:
                listed = " ".join(option.values)
                values.append(
                    f'    {name}:{option.flag}) COMPREPLY=($(compgen -W "{listed}" -- "$current")); return ;;'
                )
    return "\n".join(
        [
            "_sse_fast() {",
            '  local current="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}"',
            '  local command="${COMP_WORDS[1]}" words',
            '  if [ "$COMP_CWORD" -eq 1 ]; then',
            f'    COMPREPLY=($(compgen -W "{" ".join(helps)} --help --version" -- "$current")); return',
            "  fi",
            '  case "$command:$before" in',
            *values,
            "  esac",
            '  case "$command" in',
            *cases,
            "  esac",
            '  COMPREPLY=($(compgen -W "$words" -- "$current"))',
            "}",
            "complete -o default -F _sse_fast sse-fast",
        ]
    )


def _zsh(helps: dict[str, str], commands: dict[str, list[Option]]) -> str:
    def quoted(text: str) -> str:
        return "'" + text.replace("'", "'\\''") + "'"

    def described(text: str) -> str:
        return text.replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]").replace(":", "\\:")

    listed = " ".join(quoted(f"{name}:{described(text)}") for name, text in helps.items())
    cases = []
    for name, options in commands.items():
        specs = []
        for option in options:
            action = "_files" if option.is_file else f"({' '.join(option.values)})" if option.values else ""
            if option.flag:
                value = f":{option.flag[2:]}:{action}" if option.takes else ""
                specs.append(quoted(f"{option.flag}[{described(option.help)}]{value}"))
            else:
                specs.append(quoted(f"*:argument:{action}"))
        cases.append(f"    {name}) _arguments {' '.join(specs)} ;;")
    return "\n".join(
        [
            "#compdef sse-fast",
            "_sse_fast() {",
            "  if (( CURRENT == 2 )); then",
            f"    local -a commands=({listed})",
            "    _describe command commands; return",
            "  fi",
            "  local name=$words[2]",
            "  shift words; (( CURRENT-- ))",
            "  case $name in",
            *cases,
            "  esac",
            "}",
            "compdef _sse_fast sse-fast",
        ]
    )


def _fish(helps: dict[str, str], commands: dict[str, list[Option]]) -> str:
    def quoted(text: str) -> str:
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"

    lines = [
        f"complete -c sse-fast -f -n __fish_use_subcommand -a {name} -d {quoted(text)}" for name, text in helps.items()
    ]
    for name, options in commands.items():
        seen = f"-n '__fish_seen_subcommand_from {name}'"
        for option in options:
            values = f" -a {quoted(' '.join(option.values))}" if option.values else ""
            if option.flag:
                files = " -r -F" if option.is_file else " -x" if option.takes else ""
                lines.append(
                    f"complete -c sse-fast {seen} -l {option.flag[2:]} -d {quoted(option.help)}{files}{values}"
                )
            elif values:
                lines.append(f"complete -c sse-fast -f {seen}{values}")
    return "\n".join(lines)


_SCRIPTS = {"bash": _bash, "zsh": _zsh, "fish": _fish}
