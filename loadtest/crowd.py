"""The mass: thousands of subscribers of one process on one epoll, each drained and accounted for, none of them timed.

Owns: the sockets of its members and what happens to them: joining, stalling, losing the connection, resuming, leaving.
Must not know: locust (it fires through a callback), how events are published.

A greenlet per subscriber would cost more than the server under test, and locust's own HTTP client would hold events
back until a kilobyte is there; here a member is a non-blocking socket, a `Frames` and a `Ledger`. Rule: a turn of the
loop is short and gives way, so that locust's heartbeats keep their time.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import heapq
import itertools
import socket as plain
import struct
import time
from typing import TYPE_CHECKING, Protocol

import gevent
from gevent import monkey
from gevent.socket import wait_read

from .frames import Frames, last_seq, time_of
from .ledger import Ledger, Totals
from .plan import Part, starts_of_history

if TYPE_CHECKING:
    from collections.abc import Callable

    from .scenario import Scenario

# Locust has gevent replace these; here a blocking call never happens, and the originals are several times cheaper.
_Socket = monkey.get_original("socket", "socket")
_epoll = monkey.get_original("select", "epoll")

_IN, _OUT, _ENDED = 0x001, 0x004, 0x018  # EPOLLIN, EPOLLOUT, EPOLLERR | EPOLLHUP; gevent hides the names.
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: a lost connection leaves no TIME_WAIT that holds its port.
_BIND_NO_PORT = 24  # IP_BIND_ADDRESS_NO_PORT: the port is chosen at connect, among all that are free for the pair.
_ADDRESSES = 250  # Source addresses of a process.
_READ_BYTES = 1 << 16
_BATCH = 256  # Timed actions or readable sockets in one turn: a few milliseconds.
_IDLE = 0.05  # Seconds between looks at what is due, where nothing arrives.
_RETRY = 0.5  # Seconds until a refused or failed connection is tried again.
_OK, _NO_CONTENT = b" 200 ", b" 204 "


class Fire(Protocol):
    """Reports one duration, or with `fault` a failure."""

    def __call__(self, name: str, milliseconds: float, fault: str | None = None) -> None:
        """Reports it."""


class State(enum.Enum):
    """Where a member is."""

    WAITING = enum.auto()  # Not come yet, or about to reconnect.
    CONNECTING = enum.auto()
    HEAD = enum.auto()
    LIVE = enum.auto()
    DONE = enum.auto()  # Has left, or has the terminal event.


class Member:
    """One subscriber of the mass."""

    __slots__ = ("began", "frames", "head", "lost", "part", "published", "socket", "stalled", "state")

    def __init__(self, part: Part, base: int | None) -> None:
        """Not connected yet."""
        self.part = part
        self.frames = Frames(Ledger(base))
        self.state = State.WAITING
        self.socket: plain.socket | None = None
        self.head = b""  # What has arrived of a head that is not complete.
        self.began = 0  # When the present connection was begun, in nanoseconds.
        self.lost: int | None = None  # When the previous one was lost.
        self.published = 0  # When its newest event was published; kept only where runs end without saying so.
        self.stalled = False


class Crowd:
    """The members of one process."""

    def __init__(
        self, scenario: Scenario, parts: list[Part], target: tuple[str, int], network: str, fire: Fire
    ) -> None:
        """Takes its parts; `network` is the beginning of their source addresses, such as ``127.0.1``."""
        everything = starts_of_history(scenario)
        self.members = [Member(part, 0 if everything else part.base) for part in parts]
        self.counts = {"cuts": 0, "refused": 0, "resumed": 0, "delivered": 0, "open": 0}
        self.rounds: dict[int, list[int]] = {}  # Event number: when published, how many have it, when the last got it.
        self._scenario, self._target, self._network, self._fire = scenario, target, network, fire
        self._epoll = _epoll()
        self._by_fd: dict[int, Member] = {}
        self._due: list[tuple[float, int, Callable[[Member], None], Member]] = []
        self._order = itertools.count()

    # ---- What the reader asks for ----

    def join(self, ramp: float) -> None:
        """Connects everyone who is there from the beginning, `ramp` of them per second."""
        now = time.monotonic()
        early = [member for member in self.members if member.part.join is None]
        for index, member in enumerate(early):
            self._at(now + index / ramp, self._connect, member)

    def begin(self, moment: float) -> None:
        """Starts the clock of the plan."""
        for member in self.members:
            part = member.part
            if part.join is not None:
                self._at(moment + part.join, self._connect, member)
            if part.leave is not None:
                self._at(moment + part.leave, self._leave, member)
            if part.stall is not None:
                self._at(moment + part.stall[0], self._stall, member)
                if part.stall[1] is not None:
                    self._at(moment + part.stall[1], self._wake, member)
            for drop in part.drops:
                self._at(moment + drop, self._lose, member)

    def wake_all(self) -> None:
        """Lets everyone read again."""
        for member in self.members:
            self._wake(member)

    @property
    def joined(self) -> bool:
        """Whether everyone who is there from the beginning is subscribed."""
        return all(member.state is State.LIVE for member in self.members if member.part.join is None)

    def finished(self, published: int) -> bool:
        """Whether everyone who stayed has all there is, and the terminal event where one is due."""
        ends = self._scenario.events.end or self._scenario.runs.count
        for member in self.members:
            if member.state is not State.DONE and (ends or (member.frames.ledger.last or 0) < published):
                return False
        return True

    def totals(self, published: int) -> Totals:
        """Everyone's accounts, added up."""
        totals = Totals()
        for member in self.members:
            gone = member.part.leave is not None
            totals.add(member.frames.ledger, None if gone else published)
        return totals

    @property
    def without_end(self) -> int:
        """How many who stayed have no terminal event."""
        return sum(not member.frames.ended for member in self.members if member.part.leave is None)

    def turn(self) -> None:
        """What is due and what has arrived, up to a batch of each; then lets other greenlets run."""
        now = time.monotonic()
        for _ in range(_BATCH):
            if not self._due or self._due[0][0] > now:
                break
            _, _, action, member = heapq.heappop(self._due)
            action(member)
        ready = self._epoll.poll(0, _BATCH)
        for fd, mask in ready:
            self._ready(self._by_fd[fd], mask)
        if ready or (self._due and self._due[0][0] <= now):
            gevent.sleep(0)
        else:
            with contextlib.suppress(TimeoutError):
                wait_read(self._epoll.fileno(), timeout=_IDLE, timeout_exc=TimeoutError())

    # ---- Connections ----

    def _at(self, when: float, action: Callable[[Member], None], member: Member) -> None:
        heapq.heappush(self._due, (when, next(self._order), action, member))

    def _connect(self, member: Member) -> None:
        if member.state is not State.WAITING:
            return
        sock = _Socket(plain.AF_INET, plain.SOCK_STREAM | plain.SOCK_NONBLOCK)
        sock.setsockopt(plain.IPPROTO_IP, _BIND_NO_PORT, 1)
        if member.part.stall is not None:
            sock.setsockopt(plain.SOL_SOCKET, plain.SO_RCVBUF, self._scenario.slow.receive_bytes)
        sock.bind((f"{self._network}.{1 + member.part.number // self._scenario.clients.per_address % _ADDRESSES}", 0))
        member.began = time.monotonic_ns()
        member.socket, member.state, member.head = sock, State.CONNECTING, b""
        error = sock.connect_ex(self._target)
        if error not in {0, errno.EINPROGRESS}:
            self._refused(member)
            return
        self._by_fd[sock.fileno()] = member
        self._epoll.register(sock.fileno(), _IN | _OUT)

    def _close(self, member: Member) -> None:
        sock, member.socket = member.socket, None
        if sock is None:
            return
        if member.state is State.LIVE:
            self.counts["open"] -= 1
        fd = sock.fileno()
        if self._by_fd.pop(fd, None) is not None and not member.stalled:
            self._epoll.unregister(fd)
        member.stalled = False
        sock.setsockopt(plain.SOL_SOCKET, plain.SO_LINGER, _RESET_ON_CLOSE)
        sock.close()

    def _lose(self, member: Member) -> None:
        """The network took the connection; the client resumes at once."""
        if member.state is State.DONE:
            return
        if member.state is not State.WAITING:
            member.lost = time.monotonic_ns()
            self._close(member)
            member.state = State.WAITING
        member.frames.reconnected()
        self._connect(member)

    def _refused(self, member: Member) -> None:
        self.counts["refused"] += 1
        self._fire("refused", 0.0, "connection refused, reset, or answered with another status than 200")
        self._close(member)
        member.state = State.WAITING
        self._at(time.monotonic() + _RETRY, self._connect, member)

    def _leave(self, member: Member) -> None:
        self._close(member)
        member.state = State.DONE

    def _stall(self, member: Member) -> None:
        if member.state is State.LIVE and member.socket is not None:
            self._epoll.unregister(member.socket.fileno())
            member.stalled = True

    def _wake(self, member: Member) -> None:
        if member.stalled and member.socket is not None:
            self._epoll.register(member.socket.fileno(), _IN)
            member.stalled = False

    # ---- What arrives ----

    def _ready(self, member: Member, mask: int) -> None:
        sock = member.socket
        if sock is None:  # Closed by an earlier event of the same batch.
            return
        if member.state is State.CONNECTING:
            self._ask(member, sock)
            return
        if not mask & (_IN | _ENDED):
            return
        try:
            data = sock.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._ended(member)
        elif member.state is State.LIVE:
            self._take(member, data)
        else:
            self._head(member, data)

    def _ask(self, member: Member, sock: plain.socket) -> None:
        if sock.getsockopt(plain.SOL_SOCKET, plain.SO_ERROR):
            self._refused(member)
            return
        last = member.frames.last_event_id
        resume = b"Last-Event-ID: %s\r\n" % last if last else b""
        host = f"{self._target[0]}:{self._target[1]}"
        request = f"GET /streams/load/{member.part.stream} HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n"
        sock.send(request.encode() + resume + b"\r\n")  # An empty send buffer always takes a request whole.
        member.state = State.HEAD
        self._epoll.modify(sock.fileno(), _IN)

    def _head(self, member: Member, data: bytes) -> None:
        member.head += data
        head, blank, body = member.head.partition(b"\r\n\r\n")
        if not blank:
            return
        status = head.partition(b"\r\n")[0] + b" "
        if _NO_CONTENT in status:
            member.frames.ended = True
            self._leave(member)
            return
        if _OK not in status:
            self._refused(member)
            return
        member.head, member.state = b"", State.LIVE
        self.counts["open"] += 1
        now = time.monotonic_ns()
        if member.lost is None:
            self._fire("head", (now - member.began) / 1e6)
        else:
            self.counts["resumed"] += 1
            self._fire("reconnect", (now - member.lost) / 1e6)
            member.lost = None
        if body:
            self._take(member, body)

    def _take(self, member: Member, data: bytes) -> None:
        ledger = member.frames.ledger
        before, first = ledger.delivered, ledger.last
        whole = member.frames.take(data)
        self.counts["delivered"] += ledger.delivered - before
        if not whole:
            return
        now = time.monotonic_ns()
        if self._scenario.streams.count == 1:
            self._note_rounds(whole, ledger.delivered - before, now)
        elif self._scenario.runs.count:
            member.published = time_of(whole) or member.published
        if not first and starts_of_history(self._scenario) and ledger.delivered and not before:
            self._fire("first event", (now - member.began) / 1e6)
        if member.frames.ended:
            published = time_of(whole) or member.published
            if published > member.began:  # A replayed end says nothing about time.
                self._fire("terminal event", (now - published) / 1e6)

    def _note_rounds(self, whole: bytes, events: int, now: int) -> None:
        """Notes the newest `events` numbers; only the newest one's time is looked for, others know the others."""
        newest = last_seq(whole)
        if newest is None:
            return
        for number in range(newest - events + 1, newest + 1):
            entry = self.rounds.get(number)
            if entry is None:
                entry = self.rounds[number] = [0, 0, 0]
            entry[1] += 1
            entry[2] = now
        if events and not entry[0]:
            entry[0] = time_of(whole) or 0

    def _ended(self, member: Member) -> None:
        if member.frames.ended:
            self._leave(member)
            return
        if member.state is State.LIVE:
            self.counts["cuts"] += 1
            self._lose(member)
        else:
            self._refused(member)
