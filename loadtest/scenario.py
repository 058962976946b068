"""What a run is asked to do: a scenario read from TOML, complete and checked.

Owns: the names, units and defaults of everything a scenario file may say. Must not know: how any of it is done.

Invariants: an unknown key is refused with its name; what `load` returns can be run, so nothing behind this file checks
again. Changes together with: scenarios/*.toml and the table of keys in README.md.
"""

from __future__ import annotations

import dataclasses
import sys
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER = Path(__file__).parent / "scenarios"
PROBE_PROCESSES = 1


class ScenarioError(ValueError):
    """A scenario that cannot be run; the text names the file's key."""


@dataclass(frozen=True)
class Clients:
    """Who reads: the mass, which drains and counts, and a few probes, which time every event."""

    count: int = 500
    processes: int = 1  # Locust processes that share the mass; the probes have one of their own.
    probes: int = 20
    ramp: float = 1000.0  # Connects per second, all processes together.
    per_address: int = 5000  # Who share a source address: Linux looks long for a free port once half of them are used.
    visits: float = 0.0  # Connects per second of probes that come and go, to time the head under load.
    join: bool = False  # False: all are subscribed before the first event. True: `runs` says when each comes.


@dataclass(frozen=True)
class Streams:
    """What is read; client i reads stream i modulo count. `options` are sse_fast's own stream options."""

    count: int = 1
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Events:
    """What is published into every stream."""

    rate: float = 5.0  # Rounds per second; a round is `burst` events into each stream.
    burst: int = 1
    bytes: int = 100
    duration: float = 20.0  # Seconds.
    quiet: float = 0.0  # Seconds of silence afterwards, in which only heartbeats come.
    end: bool = False  # Whether the streams are ended at last, so that everyone must see the terminal event.

    @property
    def rounds(self) -> int:
        """How often every stream is published into."""
        return max(1, round(self.duration * self.rate)) if self.rate else 0


@dataclass(frozen=True)
class Churn:
    """Subscribers that leave for good, each replaced by a newcomer."""

    per_second: float = 0.0


@dataclass(frozen=True)
class Slow:
    """Readers that stop reading at `at` and go on `seconds` later, or with 0 when publishing is over."""

    share: float = 0.0
    at: float = 2.0
    seconds: float = 0.0
    receive_bytes: int = 4096


@dataclass(frozen=True)
class Storms:
    """Moments, in seconds after the first event, in which every client loses its connection and resumes."""

    at: tuple[float, ...] = ()


@dataclass(frozen=True)
class Runs:
    """Child processes of the server, each a stream: five statuses with a long silence after the second."""

    count: int = 0
    over: float = 30.0  # Seconds in which they are started, evenly.
    silence: float = 12.0  # Seconds without any event, the provisioner's wait.
    early: float = 2.0  # Seconds before a run's start in which its first watchers come.
    late: float = 5.0  # Seconds after its end in which its last watchers come.
    cut: float = 0.1  # The share of watchers that lose the connection once and resume.

    @property
    def length(self) -> float:
        """How long one run is meant to take, in seconds."""
        return self.silence + 2.0


@dataclass(frozen=True)
class Server:
    """How sse_fast is started; `settings` are keywords of `sse_fast.serve`."""

    processes: int = 1  # More than one share the port (SO_REUSEPORT) and are given the same events.
    settings: dict[str, Any] = field(default_factory=dict)
    scrape: float = 0.0  # Seconds between scrapes of /metrics; 0 is never.


@dataclass(frozen=True)
class Limits:
    """What a figure of the report may be; a figure's name is the key."""

    at_most: dict[str, float] = field(default_factory=dict)
    at_least: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Scenario:
    """Everything a run needs to know."""

    name: str
    description: str = ""
    seed: int = 1
    clients: Clients = field(default_factory=Clients)
    streams: Streams = field(default_factory=Streams)
    events: Events = field(default_factory=Events)
    churn: Churn = field(default_factory=Churn)
    slow: Slow = field(default_factory=Slow)
    storms: Storms = field(default_factory=Storms)
    runs: Runs = field(default_factory=Runs)
    server: Server = field(default_factory=Server)
    limits: Limits = field(default_factory=Limits)

    @property
    def published(self) -> int:
        """How many events every stream has when all is published, the terminal one included."""
        if self.runs.count:
            return RUN_EVENTS
        return self.events.rounds * self.events.burst + self.events.end

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for the record and for other processes."""
        return dataclasses.asdict(self)


RUN_EVENTS = 5  # The statuses of child.py; the engine's own terminal event comes on top and has no number.


def names() -> list[str]:
    """The scenarios that exist."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name: str, changes: typing.Iterable[str] = ()) -> Scenario:
    """The scenario of that name, or of that file, with changes such as ``clients.count=100`` applied."""
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not path.exists():
        raise ScenarioError(f"there is no scenario {name!r}: there are {', '.join(names())}")
    values = tomllib.loads(path.read_text(encoding="utf-8"))
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals:
            raise ScenarioError(f"{change!r} is no change: write table.key=value")
        _merge(values, tomllib.loads(f"{key} = {text}"))
    return from_dict({"name": path.stem, **values})


def from_dict(values: dict[str, Any]) -> Scenario:
    """A checked scenario."""
    scenario = _build(Scenario, values, "")
    _check(scenario)
    return scenario


def _merge(into: dict[str, Any], other: dict[str, Any]) -> None:
    for key, value in other.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def _build(kind: Any, values: dict[str, Any], where: str) -> Any:
    types = typing.get_type_hints(kind)
    given = {}
    for key, value in values.items():
        if key not in types:
            raise ScenarioError(f"there is no key {where}{key}: there are {', '.join(types)}")
        if dataclasses.is_dataclass(types[key]):
            given[key] = _build(types[key], value, f"{where}{key}.")
        else:
            given[key] = _value(types[key], value, where + key)
    return kind(**given)


def _value(kind: Any, value: Any, key: str) -> Any:
    if kind is float and isinstance(value, int):
        return float(value)
    if typing.get_origin(kind) is tuple:
        return tuple(float(item) for item in value)
    expected = typing.get_origin(kind) or kind
    if not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
        raise ScenarioError(f"{key}={value!r} is not allowed: it must be of type {expected.__name__}")
    return value


def _check(scenario: Scenario) -> None:
    clients, server = scenario.clients, scenario.server
    rules = {
        "clients.count must be at least clients.processes": clients.count >= clients.processes >= 1,
        "clients.per_address must be at least 1": clients.per_address >= 1,
        "clients.probes must be at least 1": clients.probes >= 1,
        "streams.count must be at least 1": scenario.streams.count >= 1,
        "events.rate must be above 0 unless there are runs": scenario.events.rate > 0 or scenario.runs.count > 0,
        "slow.share must be from 0 to 1": 0 <= scenario.slow.share <= 1,
        "runs need one server process: a stream's process must be the one that is asked": (
            not scenario.runs.count or server.processes == 1
        ),
        "clients.join needs runs": not clients.join or scenario.runs.count > 0,
    }
    for rule, kept in rules.items():
        if not kept:
            raise ScenarioError(f"scenario {scenario.name}: {rule}")
