"""Clients of the approvals demo: what asks, what answers, what follows a queue, and what does so from many threads."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import random
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

import sse_fast

from .deadline import DEADLINE, until
from .reader import Reader
from .sse import Event

State = dict[str, Any]


def follow(port: int, session_id: str = "s", kind: str = "clarify", **options: Any) -> Reader:
    """Subscribes to a queue."""
    return Reader(port, f"/api/{kind}/stream?session_id={session_id}", **options)


class Caller:
    """Calls the routes over one connection that is kept; for one thread."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)

    def __enter__(self) -> Caller:  # noqa: PYI034 - typing has no Self before Python 3.11
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def call(self, path: str, body: object = None) -> tuple[int, Any]:
        """Status and JSON of the answer; a POST where there is a body."""
        data = None if body is None else json.dumps(body)
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        self._connection.request("GET" if data is None else "POST", path, body=data, headers=headers)
        response = self._connection.getresponse()
        return response.status, json.loads(response.read())

    def submit(self, text: str, session_id: str = "s", kind: str = "clarify", **more: Any) -> int:
        """Asks; the question's number."""
        status, row = self.call(f"/api/{kind}/submit", {"session_id": session_id, "text": text, **more})
        assert status == 201, row
        number: int = row["id"]
        return number

    def resolve(self, number: int, answer: str = "yes", session_id: str = "s", kind: str = "clarify") -> int:
        """Answers; the status."""
        body = {"session_id": session_id, "id": number, "answer": answer}
        return self.call(f"/api/{kind}/resolve", body)[0]


def place(event: Event) -> int:
    """An event's place in its stream, or the place that a snapshot stands for."""
    assert event.own_id is not None, event
    return int(event.own_id.rpartition("-")[2])


def head_and_count(event: Event) -> tuple[int | None, int]:
    """The number of the question at the head, and how many wait."""
    state: State = event.json()
    pending = state["pending"]
    return (None if pending is None else pending["id"]), state["pending_count"]


@contextlib.contextmanager
def hasty() -> Iterator[None]:
    """Threads take turns after microseconds, so that what is not done in one step comes apart."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)


def in_threads(work: Callable[[int], None], count: int) -> None:
    """Runs `work(number)` in so many threads, and raises what one of them raised."""
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    running = [threading.Thread(target=run, args=[number]) for number in range(count)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    if errors:
        raise errors[0]


@contextlib.contextmanager
def recorded(app: sse_fast.Server) -> Iterator[dict[int, str]]:
    """The data of the queue's every event by its place, `initial` being 0: of a reader that is never behind."""
    everything: dict[int, str] = {}

    def record() -> None:
        while not reader.eof:
            reader.pump()
            while reader.parser.events:
                event = reader.parser.events.pop(0)
                everything[place(event)] = event.data

    with follow(app.port) as reader:
        thread = threading.Thread(target=record)
        thread.start()
        try:
            until(lambda: everything, what="the state before every change")
            yield everything
            last_id = app.stream("clarify/s").last_id or ""
            until(lambda: int(last_id.rpartition("-")[2]) in everything, what="the last change")
        finally:
            reader.socket.shutdown(socket.SHUT_RDWR)
            thread.join()


def arrivals_among_changes(app: sse_fast.Server, *, changing: int, coming: int, arrivals: int) -> int:
    """Holds what so many readers see, who come while threads submit and resolve, against every change there was.

    Each is given the state at its arrival, then every change after it, none twice. Returns the number of changes.
    """
    stop = threading.Event()
    visits: list[list[Event]] = []

    def change(number: int) -> None:
        with Caller(app.port) as caller:
            for turn in itertools.count():
                if stop.is_set():
                    return
                question = caller.submit(f"{number}/{turn}")
                if turn % 4:
                    assert caller.resolve(question) == 200

    def come(number: int) -> None:
        chance = random.Random(number)
        for _ in range(arrivals // coming):
            with follow(app.port) as reader:
                visits.append(reader.open().take(1 + chance.randrange(3)))

    changes = threading.Thread(target=in_threads, args=[change, changing])
    with recorded(app) as everything:
        changes.start()
        try:
            in_threads(come, coming)
        finally:
            stop.set()
            changes.join()
    assert len(visits) == arrivals
    assert len({place(visit[0]) for visit in visits}) > arrivals / 10, "the queue did not change enough in between"
    for visit in visits:
        assert [event.event for event in visit] == ["initial", *["clarify"] * (len(visit) - 1)]
        assert [place(event) for event in visit] == list(range(place(visit[0]), place(visit[0]) + len(visit)))
        assert [event.data for event in visit] == [everything[place(event)] for event in visit]
    return len(everything) - 1
