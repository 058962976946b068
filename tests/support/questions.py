"""Clients of the approvals demo: what asks, what answers, what follows a queue."""

from __future__ import annotations

import http.client
import json
from types import TracebackType
from typing import Any

from .deadline import DEADLINE
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
