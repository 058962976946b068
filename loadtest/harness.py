"""A scenario from start to end: servers, locust workers, publishing, accounts.

Owns: the order of things, and that everything started is ended. Must not know: how readers read (`reader`), what is
good enough (`verdict`), how it looks (`report`).

This process is locust's master and publishes by giving each server process the same orders; it touches no event and no
subscriber itself, so that it needs next to no CPU.
"""

from __future__ import annotations

import contextlib
import json
import resource
import socket
import subprocess
import time
from typing import IO, TYPE_CHECKING, Any

import gevent
import locust.runners
from locust.env import Environment

from . import metrics, plan
from .histogram import Histogram, Series
from .ledger import Totals
from .processes import Child, ChildError, wait_until
from .reader import SETTLE, Readers
from .samples import Sampler
from .scrapes import Scrapes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from locust.runners import MasterRunner

    from .scenario import Scenario

_START = 60.0  # Seconds in which processes must be up.
_FILES_FOR_OTHERS = 200  # Of a process's limit: what is not a subscriber's socket.
_SLICES = 20  # Into how many orders a round into thousands of streams is cut, so that it is spread over its period.
_HEARTBEATS = 60  # Of locust's own, one a second, that a busy reader may miss: its share must not move to another.
_MANY = 100  # Streams from which on a round is cut.


class Result:
    """What a run brought, before anyone judges it."""

    def __init__(self) -> None:
        """Empty."""
        self.series = Series()
        self.totals = Totals()
        self.counts: dict[str, int] = {}
        self.faults: dict[str, int] = {}
        self.rounds: dict[int, list[int]] = {}
        self.without_end = 0
        self.publish = Histogram()
        self.server_stats: list[dict[str, Any]] = []
        self.cpu_warning = False  # Locust's own, of any worker.
        self.samples: list[dict[str, float]] = []
        self.began = self.ended = 0.0  # Publishing, in seconds since the run's origin.
        self.published = 0
        self.scrapes: Scrapes | None = None
        self.metrics_wrong: list[str] = []

    def add(self, account: dict[str, Any]) -> None:
        """Adds one process's account."""
        self.series.merge(account["series"])
        self.totals.merge(account["totals"])
        self.without_end += account["without_end"]
        self.cpu_warning |= account["cpu_warning"]
        for into, values in ((self.counts, account["counts"]), (self.faults, account["faults"])):
            for name, count in values.items():
                into[name] = into.get(name, 0) + count
        for number, (published, count, last) in account["rounds"]:
            entry = self.rounds.setdefault(number, [published, 0, 0])
            self.rounds[number] = [entry[0] or published, entry[1] + count, max(entry[2], last)]

    @property
    def tails(self) -> Histogram:
        """For every event that the whole mass has: how long until the last one had it."""
        tails, whole = Histogram(), max((count for _, count, _ in self.rounds.values()), default=0)
        for published, count, last in self.rounds.values():
            if count == whole and published:
                tails.record((last - published) / 1e6)
        return tails


class Harness:
    """One run of one scenario; use `run`."""

    def __init__(self, scenario: Scenario, log: IO[bytes], say: Callable[[str], None]) -> None:
        """Starts nothing yet; `log` takes what the children write to standard error."""
        self.scenario, self._log, self._say = scenario, log, say
        self.result = Result()
        self._origin = time.monotonic()
        self._servers: list[Child] = []
        self._readers: list[Child] = []
        self._told: dict[str, dict[int, dict[str, Any]]] = {"joined": {}, "account": {}, "failed": {}}
        self._progress: dict[str, dict[str, int]] = {}
        self._published = 0

    def run(self) -> Result:
        """Plays the scenario; whatever happens, nothing stays behind."""
        self._check_files()
        with contextlib.ExitStack() as stack:
            port = self._start_servers(stack)
            runner = self._start_readers(stack, port)
            sampler = Sampler([s.pid for s in self._servers], [r.pid for r in self._readers], self._origin)
            stack.enter_context(sampler.running())
            stack.enter_context(self._showing())
            if self.scenario.server.scrape:
                self.result.scrapes = Scrapes(port, self._servers[0].pid, self.scenario.server.scrape)
                stack.callback(self.result.scrapes.end)
            self._play(runner)
            self.result.samples = sampler.samples
        return self.result

    # ---- Starting ----

    def _check_files(self) -> None:
        """Refuses, rather than runs into, the limit of open files."""
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1] - _FILES_FOR_OTHERS
        clients, server = self.scenario.clients, self.scenario.server
        for count, processes, key in (
            (clients.count, clients.processes, "clients.processes"),
            # The kernel spreads connections by hash: leave room for an uneven share.
            (clients.count * (1.05 if server.processes > 1 else 1), server.processes, "server.processes"),
        ):
            if count / processes > limit:
                raise ChildError(
                    f"{count:.0f} connections in {processes} processes are more than the {limit} open files each may "
                    f"have: raise {key}"
                )
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # Inherited by all that follow.

    def _start_servers(self, stack: contextlib.ExitStack) -> int:
        processes = self.scenario.server.processes
        port = 0
        if processes > 1:
            # Holds the port for the others to share; a socket that does not listen is given no connection.
            holder = stack.enter_context(socket.socket())
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            holder.bind(("127.0.0.1", 0))
            port = holder.getsockname()[1]
        for _ in range(processes):
            job = {"port": port, "shared": processes > 1, "scenario": self.scenario.to_dict()}
            server = Child.module("server", job, log=self._log)
            stack.callback(server.end)
            self._servers.append(server)
        with gevent.Timeout(_START, ChildError("no server came up")):
            ports = [server.answer()["port"] for server in self._servers]
        return ports[0]

    def _start_readers(self, stack: contextlib.ExitStack, port: int) -> MasterRunner:
        locust.runners.HEARTBEAT_LIVENESS = _HEARTBEATS
        environment = Environment(user_classes=[Readers])
        runner = environment.create_master_runner("127.0.0.1", _free_port())
        stack.callback(self._quit, runner)
        for kind in self._told:
            runner.register_message(kind, self._hear)
        environment.events.worker_report.add_listener(self._note_progress)
        clients = self.scenario.clients
        splits = [(share, True) for share in plan.shares(clients.count, clients.processes)]
        splits.append((plan.Share(clients.count, clients.probes), False))
        for index, (share, mass) in enumerate(splits):
            job = {
                "index": index,
                "mass": mass,
                "share": vars(share),
                "host": "127.0.0.1",
                "port": port,
                "network": f"127.0.{index + 1}",  # Its source addresses, each with ephemeral ports of its own.
                "harness": runner.master_bind_port,
                "origin": self._origin,
                "scenario": self.scenario.to_dict(),
            }
            reader = Child.module("reader", job, log=self._log, stdout=subprocess.DEVNULL)
            stack.callback(reader.end)
            self._readers.append(reader)
        self._wait(lambda: runner.worker_count == len(splits), _START, "all locust workers are connected")
        runner.start(len(splits), spawn_rate=len(splits))
        return runner

    # ---- The run itself ----

    def _play(self, runner: MasterRunner) -> None:
        scenario, result = self.scenario, self.result
        self._await_all("joined", _START + 3 * scenario.clients.count / scenario.clients.ramp)
        self._say("all subscribed; publishing")
        moment = time.monotonic() + 0.5
        runner.send_message("begin", moment)
        result.began = moment - self._origin
        if result.scrapes:
            result.scrapes.begin()
        self._publish(moment)
        result.ended = time.monotonic() - self._origin
        if scenario.events.quiet:
            gevent.sleep(scenario.events.quiet)  # The scenario's silence: only heartbeats pass.
        if scenario.events.end:
            self._published += 1
            self._order(f"e {self._published}")
        for server in self._servers:
            server.tell("s")
            figures = server.answer()  # Comes when all that was ordered before is published.
            result.publish.merge(figures["publish"])
        result.published = scenario.published
        during = result.scrapes.rest() if result.scrapes else ""
        self._say("published; waiting for everyone to have everything")
        runner.send_message("finish", scenario.published)
        self._await_all("account", SETTLE + _START)
        for account in self._told["account"].values():
            result.add(account)
        for server in self._servers:
            server.tell("s")
            result.server_stats.append(server.answer()["stats"])
        if result.scrapes:
            after = result.scrapes.page()
            result.metrics_wrong = metrics.wrong(scenario, result.totals, result.counts, during, after)
            self._say("\n".join(["/metrics and accounts agree", *result.metrics_wrong][bool(result.metrics_wrong) :]))

    def _publish(self, moment: float) -> None:
        runs, events = self.scenario.runs, self.scenario.events
        for run in range(runs.count):
            self._sleep_until(moment + run * runs.over / runs.count)
            self._order(f"r {run}")
            self._published += 1
        if runs.count:
            self._sleep_until(moment + runs.over + runs.length + runs.late)
            return
        streams = self.scenario.streams.count
        slices = plan.shares(streams, _SLICES if streams >= _MANY else 1)
        for round_number in range(events.rounds):
            for index, part in enumerate(slices):
                self._sleep_until(moment + (round_number + index / len(slices)) / events.rate)
                self._order(f"p {self._published + 1} {events.burst} {part.first} {part.count}")
            self._published += events.burst
        self._sleep_until(moment + events.rounds / events.rate)

    def _order(self, line: str) -> None:
        for server in self._servers:
            server.tell(line)

    def _sleep_until(self, moment: float) -> None:
        """The load's moments are set beforehand; they do not depend on how long an order takes."""
        self._check()
        gevent.sleep(max(0.0, moment - time.monotonic()))

    # ---- What the readers say ----

    def _hear(self, msg: Any, **_: Any) -> None:
        data = json.loads(msg.data)
        self._told[msg.type][data["index"]] = data

    def _await_all(self, kind: str, deadline: float) -> None:
        self._wait(lambda: len(self._told[kind]) == len(self._readers), deadline, f"every reader process has {kind}")

    def _wait(self, condition: Callable[[], bool], deadline: float, what: str) -> None:
        def holds() -> bool:
            self._check()
            return condition()

        wait_until(holds, deadline, what)

    def _check(self) -> None:
        for child in self._servers + self._readers:
            child.check()
        for failure in self._told["failed"].values():
            raise ChildError(f"a reader failed: {failure['error']}")

    def _note_progress(self, client_id: str, data: dict[str, Any]) -> None:
        if "counts" in data:
            self._progress[client_id] = data["counts"]

    @contextlib.contextmanager
    def _showing(self) -> Iterator[None]:
        """Says how far it is, every few seconds."""

        def show() -> None:
            while True:
                gevent.sleep(2)
                sums = {k: sum(c.get(k, 0) for c in self._progress.values()) for k in ("open", "delivered", "refused")}
                at = time.monotonic() - self._origin
                what = "runs started" if self.scenario.runs.count else "published into each stream"
                self._say(
                    f"{at:5.0f} s  {sums['open']:>7,} subscribed  {self._published:>6,} {what}  "
                    f"{sums['delivered']:>11,} delivered" + (f"  {sums['refused']} refused" if sums["refused"] else "")
                )

        greenlet = gevent.spawn(show)
        try:
            yield
        finally:
            greenlet.kill()

    def _quit(self, runner: MasterRunner) -> None:
        for reader in self._readers:  # First, so that locust does not wait for their goodbyes.
            reader.end()
        runner.greenlet.kill(block=False)
        runner.server.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
