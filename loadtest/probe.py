"""The probes: a few subscribers that parse every byte by the standard and time every event.

Owns: one greenlet and one ordinary gevent socket for each probe, and visitors, which come, see the head and go. Must
not know: locust (it fires through a callback). Probes live in a process of their own, so that no other work of ours
stands between an event's arrival and its time stamp.

The clock is CLOCK_MONOTONIC, one for all processes of a machine; an event carries its publisher's reading.
"""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING

import gevent
from gevent import socket

from .ledger import Ledger, Totals
from .plan import Part, starts_of_history
from .sse import Event, ProtocolError, Response

if TYPE_CHECKING:
    from .crowd import Fire
    from .scenario import Scenario

_DEADLINE = 120.0  # Seconds without a byte after which a probe gives its connection up: far beyond any heartbeat.
_RETRY = 0.2
_READ_BYTES = 1 << 16
_OK, _NO_CONTENT = 200, 204


class Probe:
    """One timed subscriber, which resumes as a browser would."""

    def __init__(self, scenario: Scenario, part: Part, target: tuple[str, int], source: str, fire: Fire) -> None:
        """Not connected yet; `run` in a greenlet."""
        self.part = part
        self.ledger = Ledger(0 if starts_of_history(scenario) else part.base)
        self.live = False
        self.done = False  # Has the terminal event.
        self.counts = {"cuts": 0, "refused": 0, "resumed": 0, "delivered": 0}
        self._target, self._source, self._fire = target, source, fire
        self._socket: socket.socket | None = None
        self._last_event_id = ""
        self._began = self._published = 0
        self._lost: int | None = None

    def run(self) -> None:
        """Subscribes, and again after every loss, until the terminal event."""
        while not self.done:
            try:
                self._connection()
            except (OSError, ProtocolError) as error:
                if not (self.live and self._lost):  # Else it is what `lose` does to a greenlet that waits for bytes.
                    self.counts["refused"] += 1
                    self._fire("refused", 0.0, repr(error))
                    gevent.sleep(_RETRY)
            self.live = False

    def lose(self) -> None:
        """Ends the connection under the greenlet that reads it."""
        if self._socket is not None and self.live:
            self._lost = time.monotonic_ns()
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def _connection(self) -> None:
        self._began = time.monotonic_ns()
        with contextlib.closing(connect(self._target, self._source, self.part.stream, self._last_event_id)) as sock:
            self._socket = sock
            response = Response()
            response.last_event_id = self._last_event_id
            before = time.monotonic_ns()
            while not self.done and not response.ended:
                data = sock.recv(_READ_BYTES)
                now = time.monotonic_ns()
                if not data:
                    break
                events = response.feed(data)
                if response.status is not None and not self.live:
                    self._head(response.status, now)
                for event in events:
                    self._take(event, now, now - before)
                before = now
        if not self.done and self._lost is None:
            self.counts["cuts"] += 1
            self._lost = time.monotonic_ns()

    def _head(self, status: int, now: int) -> None:
        if status == _NO_CONTENT:
            self.done = True
            return
        if status != _OK:
            raise ProtocolError(f"status {status}")
        self.live = True
        if self._lost is None:
            self._fire("head", (now - self._began) / 1e6)
        else:
            self.counts["resumed"] += 1
            self._fire("reconnect", (now - self._lost) / 1e6)
            self._lost = None

    def _take(self, event: Event, now: int, silence: int) -> None:
        if event.comment is not None or event.event == "heartbeat":
            self._fire("heartbeat gap", silence / 1e6)
            return
        data = json.loads(event.data)
        self._last_event_id = event.last_event_id
        if event.event == "gap":
            self.ledger.gap(data["skipped"])
            return
        if isinstance(data, dict) and "seq" in data:
            self._event(data, now)
        if event.event == "end":
            self.done = True
            if self._published > self._began:
                self._fire("terminal event", (now - self._published) / 1e6)

    def _event(self, data: dict[str, int], now: int) -> None:
        first = not self.ledger.delivered
        self.ledger.event(data["seq"])
        self.counts["delivered"] += 1
        self._published = data["t"]
        if first:
            self._fire("first event", (now - max(self._began, self._published)) / 1e6)
        if self._published > self._began:  # What was replayed is late because the client was.
            self._fire("delivery", (now - self._published) / 1e6)


class Probes:
    """The probes of one process, and its visitors."""

    def __init__(
        self, scenario: Scenario, parts: list[Part], target: tuple[str, int], network: str, fire: Fire
    ) -> None:
        """Takes its parts; `network` is the beginning of a source address."""
        source = f"{network}.1"
        self.probes = [Probe(scenario, part, target, source, fire) for part in parts]
        self._scenario, self._target, self._source, self._fire = scenario, target, source, fire
        self._greenlets: list[gevent.Greenlet] = []

    def join(self, seconds: float) -> None:
        """Subscribes those who are there from the beginning, spread over `seconds`.

        They stand among the mass then: a server that serves in order of arrival serves the first sooner than the last.
        """
        early = [probe for probe in self.probes if probe.part.join is None]
        for index, probe in enumerate(early):
            self._greenlets.append(gevent.spawn_later(seconds * index / len(early), probe.run))

    def begin(self, moment: float) -> None:
        """Starts the clock of the plan."""
        for probe in self.probes:
            if probe.part.join is not None:
                self._greenlets.append(gevent.spawn_later(_until(moment + probe.part.join), probe.run))
            for drop in probe.part.drops:
                self._greenlets.append(gevent.spawn_later(_until(moment + drop), probe.lose))
        if self._scenario.clients.visits:
            self._greenlets.append(gevent.spawn(self._visit, moment))

    @property
    def joined(self) -> bool:
        """Whether everyone who is there from the beginning is subscribed."""
        return all(probe.live for probe in self.probes if probe.part.join is None)

    def finished(self, published: int) -> bool:
        """Whether every probe has all there is, and the terminal event where one is due."""
        ends = self._scenario.events.end or self._scenario.runs.count
        return all(probe.done or (not ends and (probe.ledger.last or 0) >= published) for probe in self.probes)

    def totals(self, published: int) -> Totals:
        """Everyone's accounts, added up."""
        totals = Totals()
        for probe in self.probes:
            totals.add(probe.ledger, published)
        return totals

    @property
    def counts(self) -> dict[str, int]:
        """What happened to them, added up."""
        names = ("cuts", "refused", "resumed", "delivered")
        counts = {name: sum(probe.counts[name] for probe in self.probes) for name in names}
        return {**counts, "open": sum(probe.live for probe in self.probes)}

    @property
    def without_end(self) -> int:
        """How many have no terminal event."""
        return sum(not probe.done for probe in self.probes)

    def _visit(self, moment: float) -> None:
        """Connects again and again while events flow; only the head is looked at."""
        visits = int(self._scenario.clients.visits * self._scenario.events.duration)
        for visit in range(visits):
            gevent.sleep(_until(moment + visit / self._scenario.clients.visits))
            began = time.monotonic_ns()
            try:
                with contextlib.closing(connect(self._target, self._source, 0, "")) as sock:
                    head = sock.recv(_READ_BYTES)
                fault = None if head.startswith(b"HTTP/1.1 200") else f"answered with {head[:40]!r}"
            except OSError as error:
                fault = repr(error)
            self._fire("visit head", (time.monotonic_ns() - began) / 1e6, fault)


def connect(target: tuple[str, int], source: str, stream: int, last_event_id: str) -> socket.socket:
    """A socket on which that stream was asked for."""
    sock = socket.create_connection(target, timeout=_DEADLINE, source_address=(source, 0))
    resume = f"Last-Event-ID: {last_event_id}\r\n" if last_event_id else ""
    request = f"GET /streams/load/{stream} HTTP/1.1\r\nHost: {target[0]}:{target[1]}\r\nAccept: text/event-stream\r\n"
    sock.sendall(f"{request}{resume}\r\n".encode())
    return sock


def _until(moment: float) -> float:
    return max(0.0, moment - time.monotonic())
