"""The command `sse-fast`: what it can do, one module for each command.

Owns: the table of commands, and what is the same for all: exit codes, errors in one line.
Must not know: what a command does.
Invariants: a command's module is imported when that command is called, so that `publish` loads neither the engine nor
the demos. Nothing else in the package imports this one. Exit codes: 0 for success, 1 for a failure, 2 for wrong
arguments, 130 for Ctrl-C, 141 where nobody reads what is printed any more.

A command is a module with `DESCRIPTION`, `EPILOG`, `add_arguments(parser)` and `run(options)`, and a row of `COMMANDS`.
Changes together with: docs/guides/commands.md.
"""

from __future__ import annotations

import argparse
import importlib
import os
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
    options = parser(chosen).parse_args(given)
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
    whole = argparse.ArgumentParser(
        prog="sse-fast",
        description="Server-Sent Events with a Rust engine.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--version", action=_Version, nargs=0, help="print the version")
    commands = whole.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in COMMANDS:
        if command.name != chosen:
            commands.add_parser(command.name, help=command.help, add_help=False)
            continue
        module = importlib.import_module(f".{command.module}", __name__)
        own = commands.add_parser(
            command.name,
            help=command.help,
            usage=getattr(module, "USAGE", None),
            description=module.DESCRIPTION,
            epilog=module.EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        own.set_defaults(module=command.module)
        module.add_arguments(own)
    return whole


class _Version(argparse.Action):
    """Prints the version, which only the engine knows."""

    def __call__(self, parser: argparse.ArgumentParser, *_rest: object) -> None:
        """Prints and ends."""
        import sse_fast  # noqa: PLC0415 - for this alone

        print(f"sse-fast {sse_fast.__version__}")
        parser.exit()
