"""The command `sse-fast`: what it can do, one module for each command.

Owns: the table of commands, and what is the same for all: exit codes, errors in one line.
Must not know: what a command does.
Invariants: a command's module is imported when that command is called, so that `publish` loads neither the engine nor
the demos. Nothing else in the package imports this one. Of an option that there is not no value is shown: it may be a
secret. Exit codes: 0 for success, 1 for a failure, 2 for wrong arguments, 130 for Ctrl-C, 141 where nobody reads what
is printed any more.

A command is a module with `DESCRIPTION`, `EPILOG`, `add_arguments(parser)` and `run(options)`, and a row of `COMMANDS`.
Changes together with: docs/guides/commands.md.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import sys
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

_WRONG_ARGUMENTS = 2  # As argparse says.
_INTERRUPTED, _NOBODY_READS = 130, 141  # As shells say of what SIGINT and SIGPIPE end.


class Command(NamedTuple):
    """A command: its name, the module of this package that does it, what it is for."""

    name: str
    module: str
    help: str


COMMANDS = (
    Command("serve", "serve", "run a server as a process of its own"),
    Command("publish", "publish", "publish into a stream of a server"),
    Command("tail", "tail", "print the events of streams as they come"),
    Command("token", "tokens", "make a token, or show what one says"),
    Command("export", "export", "print what a store's folder has, as JSON lines"),
    Command("demo", "demo", "serve the demo applications"),
    Command("completion", "completion", "print what makes a shell complete commands and options"),
)

_EPILOG = """\
sse-fast COMMAND --help tells more, with examples. Keys and tokens are read from the environment or from files, never
from the command line, which every user of a machine can read.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    chosen = next((argument for argument in given if not argument.startswith("-")), None)
    options = _parsed(*_parsers(chosen), given)
    module = importlib.import_module(f".{options.module}", __name__)
    from sse_fast._exceptions import SseFastError  # noqa: PLC0415 - argparse may have ended the program

    from .usage import UsageError  # noqa: PLC0415 - as above

    try:
        code: int = module.run(options)
        sys.stdout.flush()
    except BrokenPipeError:
        # Python would flush once more at its exit, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _NOBODY_READS
    except (SseFastError, OSError, ValueError) as error:
        print(f"sse-fast: {error}", file=sys.stderr)
        return _WRONG_ARGUMENTS if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        return _INTERRUPTED
    return code


def parser(chosen: str | None) -> argparse.ArgumentParser:
    """The parser, with the arguments of one command; those of the others need their modules."""
    return _parsers(chosen)[0]


def _parsers(chosen: str | None) -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    """The parser, and that of the chosen command; itself where none is chosen."""
    found = whole = argparse.ArgumentParser(
        prog="sse-fast",
        description="Server-Sent Events with a Rust engine.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    whole.add_argument("--version", action=_Version, nargs=0, help="print the version")
    commands = whole.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in COMMANDS:
        if command.name != chosen:
            commands.add_parser(command.name, help=command.help, add_help=False, allow_abbrev=False)
            continue
        module = importlib.import_module(f".{command.module}", __name__)
        found = commands.add_parser(
            command.name,
            help=command.help,
            usage=getattr(module, "USAGE", None),
            description=module.DESCRIPTION,
            epilog=module.EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        found.set_defaults(module=command.module)
        module.add_arguments(found)
    return whole, found


def _parsed(whole: argparse.ArgumentParser, own: argparse.ArgumentParser, given: Sequence[str]) -> argparse.Namespace:
    """The arguments; of a wrong one the flag is shown, and no value, which may be a secret."""
    secrets = _secret_flags(own)
    options_end = given.index("--") if "--" in given else len(given)
    flags = [argument.partition("=")[0] for argument in given[:options_end] if argument.startswith("-")]
    for flag in flags:
        if flag in secrets:
            whole.error(f"{flag} is no option, since every user of a machine can read arguments: {secrets[flag]}")
    if flags and given[0].startswith(flags[0]) and flags[0] not in {"-h", "--help", "--version"}:
        whole.error(f"there is no option {_shown(flags[0])} before a command")
    options, left = whole.parse_known_args(given)
    unknown = [_shown(argument.partition("=")[0]) for argument in left if argument.startswith("-")]
    if unknown:
        whole.error(f"there is no option {', '.join(unknown)}")
    if left:
        whole.error(f"unrecognized arguments: {' '.join(left)}")
    return options


def _secret_flags(own: argparse.ArgumentParser) -> dict[str, str]:
    """The flags that somebody might take for those of a secret, and how it is given instead."""
    found: dict[str, str] = {}
    for action in own._actions:  # noqa: SLF001 - there is no other way
        flag = next((flag for flag in action.option_strings if flag.endswith("-file")), None)
        if flag is not None:
            variable = re.search(r"SSE_FAST_\w+", action.help or "")
            found[flag.removesuffix("-file")] = f"set {variable[0]}, or give {flag}" if variable else f"give {flag}"
    return found


def _shown(flag: str) -> str:
    """A flag without a value that is written to it, as in ``-kVALUE``."""
    return flag if flag.startswith("--") else flag[:2]


class _Version(argparse.Action):
    """Prints the version, which only the engine knows."""

    def __call__(self, parser: argparse.ArgumentParser, *_rest: object) -> None:
        """Prints and ends."""
        import sse_fast  # noqa: PLC0415 - for this alone

        print(f"sse-fast {sse_fast.__version__}")
        parser.exit()
