"""What a server and its streams have counted, as `Server.stats` and `Stream.stats` give it.

Owns: the fields, their units and meanings.
Must not know: when the engine counts.
Invariants: a counter only grows, from the start of the server or the making of the stream on, and nothing resets it; a
number that can fall says "now". Durations are seconds, sizes bytes. The field names are the metrics' names.
Changes together with: `rust/sse-fast-py/src/stats.rs`, which gives every field by its name, and the engine's `Stats`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ClosedConnections:
    """How many subscribers' connections were closed so far, by reason.

    Attributes:
        gone: the reader closed it, or its network did.
        ended: the stream ended, and the reader had everything.
        stalled: the reader took nothing for ``stall_timeout``.
        lagged: the reader lagged by more than ``max_lag`` in a stream with ``on_lag="disconnect"``.
        shutdown: the server was closed.
        expired: the reader's token, ticket or grant expired.
        disconnected: the reader was disconnected by `Server.disconnect`.
    """

    gone: int
    ended: int
    stalled: int
    lagged: int
    shutdown: int
    expired: int
    disconnected: int


@dataclass(frozen=True, slots=True)
class GapReasons:
    """How many gaps were announced so far, by reason, once for each subscriber.

    Attributes:
        lag: the subscriber fell behind while it was connected.
        history: it came for events that the log had forgotten.
        epoch: it came with an id that cannot be read or is of another life of the stream, so that nobody knows how
            many it lacks.
    """

    lag: int
    history: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Resumes:
    """How many readers of event streams came back with an id so far, by what they were given.

    Attributes:
        tail: everything since then.
        gap: a gap, and what the log still held.
        epoch: a gap of unknown size, and what a new subscriber gets.
        finished: 204, for they had the terminal event.
    """

    tail: int
    gap: int
    epoch: int
    finished: int


@dataclass(frozen=True, slots=True)
class BackplaneStats:
    """What was counted of the server that streams are shared through.

    Attributes:
        up: whether it answers and pushes now.
        requests: requests that it answered.
        round_trip_s: seconds that the last of them took.
        reconnects: connections to it that were made anew.
        fills: holes in what it pushed that were read from its log: something on the way had cut a connection.
        lost_tails: logs there that were found to have lost their newest events: it restarted or failed over without
            them.
        pushed: events that it pushed to this process.
    """

    up: bool
    requests: int
    round_trip_s: float
    reconnects: int
    fills: int
    lost_tails: int
    pushed: int


@dataclass(frozen=True, slots=True)
class ServerStats:
    """A server's numbers at one moment; made by `Server.stats`.

    Counters grow from the server's start and are never reset; the difference of two of these is what happened between.

    Attributes:
        streams: streams there are now, ended ones that linger included: those with a name, those without one that
            somebody holds, and those of generators whose readers may come back.
        subscribers: subscribers now; readers in this process are none.
        connections: open connections now, subscribers' included.
        accepted: connections accepted.
        requests: requests answered, subscriptions included.
        refused: connections refused because there were ``max_connections``.
        calls_refused: requests for handlers that were refused because ``handler_queue`` of them waited, or their bodies
            and others' that came or waited had 64 MiB.
        published: events published, terminal ones included; heartbeats, gaps and snapshots are none.
        delivered: events handed to sockets, once for each subscriber.
        bytes: bytes handed to subscribers' sockets, heads and last chunks included.
        writes: system calls that wrote them.
        heartbeats: heartbeats handed to sockets, once for each subscriber.
        gaps: gaps announced, once for each subscriber.
        skipped: events that those gaps stand for, where their number is known.
        blocked: how often a subscriber's socket filled that had had everything until then.
        publish_waits: publishes that waited, for the engine or for full sockets.
        publish_wait_timeouts: publishes that went on because ``publish_wait`` was used up: the readers they waited for
            then lack what was overwritten, and are told a gap.
        publish_wait_s: seconds that publishes waited, all threads together.
        publish_socket_wait_s: seconds that publishers waited for full sockets, once for each stream however many
            threads wait: what ``publish_wait`` limits.
        presence_missed: joins and leaves that callbacks were not told of, because 65,536 of them waited.
        hosts_refused: requests refused because their ``Host`` is not one of ``allowed_hosts``.
        origins_refused: requests refused because they would change something and came from a page of an origin that is
            not in ``cors``.
        addresses_refused: connections, and requests that a trusted proxy passed on, refused because their client's
            address had ``max_connections_per_address``.
        streams_refused: requests refused because they would have made a stream, and there were ``max_streams``, or
            ``max_created_streams`` in use.
        heads_refused: requests refused because their head, the target included, was longer than ``max_head_bytes``.
        bodies_refused: requests refused because their body was longer than ``max_body_bytes``.
        late: requests given up because their head or body did not come in time.
        malformed: requests refused that could not be read, were in another protocol, or asked for what is not done
            here.
        unauthorized: requests for streams refused because they had no token, or one that is invalid (401).
        forbidden: those refused because their token does not suffice, or ``authorize`` did not let them in (403).
        undecided: those turned away because ``authorize`` failed or was too busy, or tokens' keys could not be fetched.
        stalls: how often a stream was found stalled: read, and without an event for its ``stall_after``.
        closed: subscribers' connections closed, by reason.
        gap_reasons: the `gaps` by reason.
        resumes: readers that came back, by what they were given.
        retained_bytes: bytes that all those streams retain now, as frames.
        metrics_refused: requests for ``/metrics`` that were refused: not from this machine, and without the key. Also
            connections to its own listener that gave way to newer ones, because 32 were open.
        backplane: of the server that streams are shared through; None where there is none.
        store_bytes: bytes in use of the store's folder now; 0 without a store.
        store_syncs: how often the disk was told to keep what was written there.
        store_refused: publishes that were refused because they could not be kept.
    """

    streams: int
    subscribers: int
    connections: int
    accepted: int
    requests: int
    refused: int
    calls_refused: int
    published: int
    delivered: int
    bytes: int
    writes: int
    heartbeats: int
    gaps: int
    skipped: int
    blocked: int
    publish_waits: int
    publish_wait_timeouts: int
    publish_wait_s: float
    publish_socket_wait_s: float
    presence_missed: int
    hosts_refused: int
    origins_refused: int
    addresses_refused: int
    streams_refused: int
    heads_refused: int
    bodies_refused: int
    late: int
    malformed: int
    unauthorized: int
    forbidden: int
    undecided: int
    stalls: int
    closed: ClosedConnections
    gap_reasons: GapReasons
    resumes: Resumes
    retained_bytes: int
    metrics_refused: int
    backplane: BackplaneStats | None
    store_bytes: int
    store_syncs: int
    store_refused: int


@dataclass(frozen=True, slots=True)
class StreamStats:
    """A stream's numbers at one moment; made by `Stream.stats`.

    Attributes:
        subscribers: subscribers now; readers in this process are none.
        published: events published since the stream was made, the terminal one included; never reset.
        retained: events that its log retains now, at most ``history``.
        retained_bytes: bytes that these take as frames, at most ``history_bytes`` but for a single larger event.
        ended: whether it has had its terminal event.
        silent_s: seconds since its last event, or since it was made, to 0.01 s; heartbeats are no events.
        stalled: whether it is stalled now: open, read by somebody over HTTP, and silent for ``stall_after`` or longer.
    """

    subscribers: int
    published: int
    retained: int
    retained_bytes: int
    ended: bool
    silent_s: float
    stalled: bool
