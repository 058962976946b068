"""The command line: `python -m loadtest run|list|compare|bars|waiting|several|two-machines|versions`.

Owns: arguments, what a person sees in the terminal, exit codes (0 passed, 1 a limit failed, 2 could not be run). Must
not know: anything about load. Imports lazily, because locust replaces half of the standard library when imported.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from . import durable, scenario
from .processes import ChildError

RESULTS = Path(__file__).parent / "results"
_TERMINATED = 128 + signal.SIGTERM  # As shells say it.


def main() -> int:
    """Runs a command; returns the exit code."""
    arguments = _arguments()
    # As Ctrl-C: by way of every `finally`, which end the processes that were started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(_TERMINATED))
    try:
        return int(arguments.command(arguments))
    except (scenario.ScenarioError, ChildError) as error:
        print(f"loadtest: {error}", file=sys.stderr)
        return 2


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtest", description="Load tests of sse_fast; see README.md.")
    commands = parser.add_subparsers(required=True)
    run = commands.add_parser("run", help="one scenario: HTML report, JSON record, exit code 1 if a limit fails")
    names = ", ".join([*scenario.names(), durable.NAME])
    run.add_argument("scenario", help=f"{names}, or a TOML file")
    run.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="such as clients.count=100")
    run.add_argument("--results", type=Path, default=RESULTS, help="where <date>-<machine>/ is made")
    run.set_defaults(command=_run)
    commands.add_parser("list", help="the scenarios and what each proves").set_defaults(command=_list)
    compare = commands.add_parser("compare", help="the same load against sse_fast and every installed peer")
    compare.add_argument("--scenarios", default="", help="comma-separated; default: all")
    compare.add_argument("--peers", default="", help="comma-separated; default: all that are installed")
    compare.add_argument("--scale", type=float, default=1.0, help="multiplies subscribers, for a quick look")
    compare.add_argument("--results", type=Path, default=RESULTS, help="where <date>-<machine>/ is made")
    compare.set_defaults(command=_compare)
    bars = commands.add_parser("bars", help="every promise about cost, measured beside the floor, and its verdict")
    bars.add_argument("--only", default="", help="comma-separated rows; default: all")
    bars.add_argument("--runs", type=int, default=3, help="of which the median counts")
    bars.add_argument("--strict", action="store_true", help="exit code 1 when a bar is missed or not measured")
    bars.add_argument("--results", type=Path, default=RESULTS, help="where <date>-<machine>/ is made")
    bars.set_defaults(command=_bars)
    _waiting_arguments(commands)
    _several_arguments(commands)
    _two_machines_arguments(commands)
    _versions_arguments(commands)
    return parser.parse_args()


def _waiting_arguments(commands: Any) -> None:
    waiting = commands.add_parser("waiting", help="what slow and dead readers cost publishers and other readers")
    waiting.add_argument("--only", default="", help="comma-separated rows; default: all")
    waiting.add_argument(
        "--seconds", type=float, default=60.0, help="for which each case publishes; bounds are a minute's"
    )
    waiting.add_argument("--threads", default="", help="1, 64 or both; default: both")
    waiting.add_argument("--streams", default="", help="1, 32 or both; default: both")
    waiting.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="such as publish_wait=0.5")
    waiting.add_argument("--strict", action="store_true", help="exit code 1 when a row is missed or not measured")
    waiting.add_argument("--results", type=Path, default=RESULTS, help="where <date>-<machine>/ is made")
    waiting.set_defaults(command=_waiting)


def _several_arguments(commands: Any) -> None:
    several = commands.add_parser("several", help="32 streams over one connection, beside a connection for each")
    several.add_argument("--readers", type=int, default=3000, help="each of 32 streams")
    several.add_argument(
        "--beside", type=int, default=550, help="readers of the cases that are compared: 32 files each"
    )
    several.add_argument("--seconds", type=float, default=20.0, help="for which each case publishes")
    several.add_argument("--rate", type=float, default=1000.0, help="events per second, over all streams")
    several.add_argument("--results", type=Path, default=RESULTS, help="where <date>-<machine>/ is made")
    several.set_defaults(command=_several)


def _two_machines_arguments(commands: Any) -> None:
    machines = commands.add_parser("two-machines", help="two groups of engines behind one Redis, one of them killed")
    machines.add_argument("--engines", type=int, default=2, help="on each machine")
    machines.add_argument("--streams", type=int, default=100)
    machines.add_argument("--readers", type=int, default=400)
    machines.add_argument("--rate", type=float, default=500.0, help="events a second that each engine publishes")
    machines.add_argument("--batch", type=int, default=1, help="events in one call of publish_many")
    machines.add_argument("--seconds", type=float, default=20.0, help="for which they publish")
    machines.add_argument("--loopback", action="store_true", help="also where network namespaces are permitted")
    machines.add_argument("--results", type=Path, default=RESULTS, help="where <date>-<machine>/ is made")
    machines.set_defaults(command=_two_machines)


def _versions_arguments(commands: Any) -> None:
    versions = commands.add_parser("versions", help="chosen rows of `bars` with two wheels in turn")
    versions.add_argument("--before", type=Path, required=True, metavar="WHEEL")
    versions.add_argument("--after", type=Path, required=True, metavar="WHEEL")
    versions.add_argument("--rows", default="", help="comma-separated rows of bars; default: all")
    versions.add_argument("--rounds", type=int, default=3, help="each wheel is measured once in each")
    versions.add_argument(
        "--strict", action="store_true", help="exit code 1 when a figure is worse by more than its noise"
    )
    versions.add_argument("--results", type=Path, default=RESULTS, help="where <date>-<machine>/ is made")
    versions.set_defaults(command=_versions)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.scenario == durable.NAME:  # Its processes are its own: locust counts no events of a killed server.
        return durable.run(durable.load_of(arguments.set), arguments.results)
    asked = scenario.load(arguments.scenario, arguments.set)
    from . import machine, report, verdict  # noqa: PLC0415
    from .harness import Harness  # noqa: PLC0415

    print(f"{asked.name}: {asked.description}", flush=True)
    with tempfile.TemporaryFile() as log:
        try:
            result = Harness(asked, log, lambda line: print(line, flush=True)).run()
        except ChildError:
            log.seek(0)
            sys.stderr.write(log.read().decode(errors="replace")[-4000:])
            raise
    values = verdict.figures(asked, result)
    verdicts = verdict.judge(asked, values)
    kept = report.record(asked, result, values, verdicts)
    paths = report.write(machine.results_folder(arguments.results), kept, result)
    _show(kept, verdicts)
    print(*(path if not path.is_relative_to(Path.cwd()) else path.relative_to(Path.cwd()) for path in paths), sep="\n")
    return 0 if kept["passed"] else 1


def _show(kept: dict, verdicts: list) -> None:
    from .report import sum_line  # noqa: PLC0415

    print(sum_line(kept))
    words = {True: "passed", False: "FAILED", None: "void"}
    for row in verdicts:
        seen = "not seen" if row.seen is None else f"{row.seen:,.6g}"
        print(f"  {words[row.passed]:6}  {row.figure:32} {seen:>14}   {row.bound} {row.limit:,.6g}")
    if kept["delays_void"]:
        print(f"delays are void: {kept['delays_void']}")
    for fault, count in kept["faults"].items():
        print(f"fault: {fault} ({count} times)")
    print("passed" if kept["passed"] else "FAILED")


def _list(_: argparse.Namespace) -> int:
    for name in scenario.names():
        print(f"{name:20} {scenario.load(name).description}")
    print(f"{durable.NAME:20} {durable.DESCRIPTION}")
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    from .compare import compare  # noqa: PLC0415

    return compare(
        [name for name in arguments.scenarios.split(",") if name],
        [name for name in arguments.peers.split(",") if name],
        arguments.scale,
        arguments.results,
    )


def _bars(arguments: argparse.Namespace) -> int:
    from . import bars  # noqa: PLC0415

    only = [name for name in arguments.only.split(",") if name]
    return bars.run(only, arguments.runs, arguments.results, strict=arguments.strict)


def _waiting(arguments: argparse.Namespace) -> int:
    from . import waiting  # noqa: PLC0415

    only = [name for name in arguments.only.split(",") if name]
    threads, streams = (
        [int(word) for word in text.split(",") if word] for text in (arguments.threads, arguments.streams)
    )
    cases = waiting.cases(only, threads, streams)
    settings = waiting.settings_of(arguments.set)
    return waiting.run(cases, arguments.seconds, arguments.results, settings, strict=arguments.strict)


def _several(arguments: argparse.Namespace) -> int:
    from . import several  # noqa: PLC0415

    cases = several.cases(arguments.readers, arguments.beside)
    return several.run(cases, arguments.seconds, arguments.rate, arguments.results)


def _two_machines(arguments: argparse.Namespace) -> int:
    from . import two_machines  # noqa: PLC0415

    names = ("engines", "streams", "readers", "rate", "batch", "seconds")
    load = two_machines.Load(**{name: getattr(arguments, name) for name in names})
    return two_machines.run(load, arguments.results, namespaces=not arguments.loopback)


def _versions(arguments: argparse.Namespace) -> int:
    from . import versions  # noqa: PLC0415

    rows = [name for name in arguments.rows.split(",") if name]
    wheels = {"before": arguments.before, "after": arguments.after}
    return versions.run(wheels, rows, arguments.rounds, arguments.results, strict=arguments.strict)


if __name__ == "__main__":
    sys.exit(main())
