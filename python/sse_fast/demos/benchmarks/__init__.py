"""Benchmark runner: a kernel is compiled and timed on a machine that takes minutes to provision.

The hard part is not the benchmark. It is that the one event that matters comes after minutes of silence, and must
arrive: past idle limits, dropped connections, reloads, restarts and a child process that logs into the same pipe.

`app` has the routes, `store` the rows; `runner` is the child process, `provisioner` the simulated machines.
"""

from __future__ import annotations

from sse_fast.demos._site import Demo

from .app import install

DEMO = Demo(
    path="/benchmarks",
    title="Benchmark runner",
    summary=(
        "A child process waits minutes for a machine, then compiles and times a kernel. Every status reaches the page: "
        "through silence, dropped connections, reloads and restarts."
    ),
)

__all__ = ["DEMO", "install"]
