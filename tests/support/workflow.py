"""Asking the workflow demo, and reading what its streams say."""

from __future__ import annotations

import json
import time
from typing import Any

import sse_fast
from sse_fast.demos.workflow.app import Workflow

from .reader import fetch
from .sse import Event

JSON = [("Content-Type", "application/json")]
QUICK = 0.01  # The graph takes a tenth of a second.


class Counting(Workflow):
    """The workflow, counting the checks whether a row exists."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.checks: list[float] = []
        super().__init__(*args, **options)

    def exists(self, name: str) -> bool:
        self.checks.append(time.monotonic())
        return super().exists(name)


def enqueue(server: sse_fast.Server, message: str = "How does a reader resume?", **fields: Any) -> str:
    body = json.dumps({"message": message, **fields}).encode()
    head, answer = fetch(server.port, "/api/chat/async", method="POST", body=body, headers=JSON)
    assert head.status == 200, answer
    value = json.loads(answer)
    assert set(value) == {"decision_set_id"}
    return str(value["decision_set_id"])


def plan_of(server: sse_fast.Server, decision_set: str) -> dict[str, Any] | None:
    head, body = fetch(server.port, f"/api/streams/{decision_set}/plan")
    assert head.status in {200, 404}
    return json.loads(body) if head.status == 200 else None


def names(events: list[Event]) -> list[str]:
    return [event.event for event in events]


def of_nodes(events: list[Event], event: str) -> list[str]:
    return [found.json()["node"] for found in events if found.event == event]
