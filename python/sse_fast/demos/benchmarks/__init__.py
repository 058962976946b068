"""Benchmark runner: a kernel is compiled and timed on a machine that takes minutes to provision.

The hard part is not the benchmark. It is that the one event that matters comes after minutes of silence, and must
arrive: past idle limits, dropped connections, reloads, restarts and a child process that logs into the same pipe.

`app` has the routes, `store` the rows; `runner` is the child process, `provisioner` the simulated machines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sse_fast.demos._site import Demo, Place

from .app import install
from .settings import Settings

if TYPE_CHECKING:
    import sse_fast


def _install(server: sse_fast.Server, place: Place) -> None:
    install(server, Settings.from_environment(place.data, place.speed), own_code=place.local)


DEMO = Demo(
    path="/benchmarks",
    name="Benchmarks",
    title="Benchmark runner",
    summary=(
        "A child process waits minutes for a machine, then compiles and times a kernel. Every status reaches the page: "
        "through silence, dropped connections, reloads and restarts."
    ),
    failed="Six silent minutes; an idle limit closed the connection, and the one result went to a closed socket.",
    package=__name__,
    install=_install,
)

__all__ = ["DEMO", "install"]
