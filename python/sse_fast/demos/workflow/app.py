"""Workflow timeline: a question is enqueued, a worker runs a graph, pages follow it node by node.

    POST /api/chat/async           {"message": ...} is answered at once with {"decision_set_id": ...}
    GET  /api/streams/{id}         the plan, then node-start, node-end, node-error, and end
    GET  /api/streams/{id}/plan    the plan as it stands, as JSON
    GET  /api/chat                 the newest decision sets

A decision set is known once the worker has written its row, a moment after the answer, so a page asks for a stream that
does not exist yet. The route waits for it: one check of the database each `STREAM_DECISION_SET_RETRY_DELAY` seconds,
however many pages wait, for at most `STREAM_DECISION_SET_MAX_WAIT`.

Invariants: the plan is each reader's first event, however late it comes, because it is the stream's snapshot, and is
replaced in the step that publishes a change. The row is written before readers are told, and a job stays in its table
until its graph has ended, so that the next server goes on where this one was stopped. A database has one server.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import secrets
import sqlite3
import threading
import time
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Any

import sse_fast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Plan = dict[str, Any]

#: What is searched for an answer: this package's own documentation, by name.
_METHODS = [name for name in vars(sse_fast.Stream) if not name.startswith("_")]
DOCUMENTS = {f"Stream.{name}": str(getattr(sse_fast.Stream, name).__doc__) for name in _METHODS}

#: The graph: a node's title, the nodes it waits for, the seconds its model would take, what it makes of their outputs.
GRAPH: dict[str, tuple[str, tuple[str, ...], float, Callable[[dict[str, str]], str]]] = {
    "understand": ("Understand the question", (), 1.0, lambda o: " ".join(re.findall(r"\w{4,}", o["message"].lower()))),
    "search": ("Search the documentation", ("understand",), 3.0, lambda o: _best_document(o["understand"].split())),
    "count": ("Count what matters", ("understand",), 2.0, lambda o: f"{len(o['understand'].split())} words"),
    "draft": ("Draft an answer", ("search", "count"), 2.5, lambda o: DOCUMENTS[o["search"]].partition("\n\n")[0]),
    "verify": ("Verify the quotation", ("draft",), 2.0, lambda o: f"verbatim: {o['draft'] in DOCUMENTS[o['search']]}"),
    "shorten": ("Shorten it", ("draft",), 1.5, lambda o: o["draft"].partition(".")[0]),
    "reply": ("Reply", ("verify", "shorten"), 0.5, lambda o: f"{o['search']}: {o['shorten']}."),
}

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (           -- what was enqueued and has not ended
    id TEXT PRIMARY KEY, message TEXT NOT NULL, fail TEXT, row_at REAL NOT NULL,
    worker TEXT NOT NULL                    -- the server whose threads may write its row
);
CREATE TABLE IF NOT EXISTS decision_sets (  -- what pages may ask for; the plan is JSON, as readers get it
    id TEXT PRIMARY KEY, created_at REAL NOT NULL, plan TEXT NOT NULL
);
"""
STALL_AFTER = 30.0  # Seconds without an event after which a stream that is read counts as stalled.
_MAX_MESSAGE = 2000
_MAX_ROW_DELAY = 60.0


class _NotOursError(Exception):
    """Another server has taken the job over."""


class Workflow:
    """The application: a queue and a table in SQLite, and a worker thread for each job.

    Args:
        server: where its routes go.
        database: the file of its rows; it is made where there is none.
        row_delay: seconds from an answer to its row, unless the request says otherwise.
        pace: how long a node takes, as a multiple of what `GRAPH` says.
    """

    def __init__(self, server: sse_fast.Server, database: Path, *, row_delay: float = 0.8, pace: float = 1.0) -> None:
        """Adds the routes, and goes on with what the server before this one left."""
        self._server, self._database, self._row_delay, self._pace = server, database, row_delay, pace
        self._worker = secrets.token_hex(4)
        # Who reads before the plan is published gets it as an event; who comes later gets it as the snapshot.
        self._options: dict[str, Any] = {"start": "all", "retry": 1.0, "stall_after": STALL_AFTER}
        database.parent.mkdir(parents=True, exist_ok=True)
        with self._transaction() as rows:
            rows.execute("PRAGMA journal_mode=WAL")
            rows.executescript(_SCHEMA)
            rows.execute("UPDATE jobs SET worker = ?", (self._worker,))  # What the server before this one has left.
            jobs = [dict(row) for row in rows.execute("SELECT * FROM jobs")]
        server.post("/api/chat/async")(self.enqueue)
        server.get("/api/chat")(self.newest)
        server.get("/api/streams/{id}/plan")(self.plan)
        server.route(
            "/api/streams/{id}",
            "workflow/{id}",
            wait=float(os.environ.get("STREAM_DECISION_SET_MAX_WAIT", "6.0")),
            retry_delay=float(os.environ.get("STREAM_DECISION_SET_RETRY_DELAY", "0.2")),
            exists=self.exists,
            **self._options,
        )
        for job in jobs:
            threading.Thread(target=self._work, args=(job,), daemon=True).start()

    def enqueue(self, request: sse_fast.Request) -> dict[str, str]:
        """Takes a message; its row comes ``row_delay`` seconds later. ``fail`` names a node that is to fail."""
        body = request.json()
        body = body if isinstance(body, dict) else {}
        message, fail, delay = body.get("message"), body.get("fail"), body.get("row_delay", self._row_delay)
        if not isinstance(message, str) or not 0 < len(message.strip()) <= _MAX_MESSAGE:
            raise sse_fast.HttpError(400, f"message: must be 1 to {_MAX_MESSAGE} characters", error="bad_field")
        if fail not in (None, *GRAPH):
            raise sse_fast.HttpError(400, f"fail: must be one of {', '.join(GRAPH)}", error="bad_field")
        if not isinstance(delay, (int, float)) or not 0 <= delay <= _MAX_ROW_DELAY:
            raise sse_fast.HttpError(400, f"row_delay: must be 0 to {_MAX_ROW_DELAY:g} seconds", error="bad_field")
        decision_set = secrets.token_hex(6)
        job = {"id": decision_set, "message": message.strip(), "fail": fail, "row_at": time.time() + delay}
        with self._transaction() as rows:
            rows.execute("INSERT INTO jobs VALUES (?, ?, ?, ?, ?)", (*job.values(), self._worker))
        if body.get("subscribe") is True:  # Made here, the stream is there for the first request: nothing has to wait.
            self._server.stream(f"workflow/{decision_set}", **self._options)
        threading.Thread(target=self._work, args=(job,), daemon=True).start()
        return {"decision_set_id": decision_set}

    def exists(self, name: str) -> bool:
        """Whether there is a row for a stream that is not there; if its graph has ended, the stream is made whole."""
        plan = self._find(name.removeprefix("workflow/"))
        if plan is not None and plan["status"] != "running":
            self._publish_plan(plan).end(plan)
        return plan is not None

    def plan(self, request: sse_fast.Request) -> Plan:
        """The plan of one decision set, as its readers have it."""
        plan = self._find(request.params["id"])
        if plan is None:
            raise sse_fast.HttpError(404, f"there is no decision set {request.params['id']!r}")
        return plan

    def newest(self, _request: sse_fast.Request) -> list[Plan]:
        """The plans of the newest decision sets; one whose readers hear nothing but heartbeats is marked as stalled."""
        stalled = {stream.name for stream in self._server.streams() if stream.stats().stalled}
        with self._transaction() as rows:
            found = rows.execute("SELECT id, plan FROM decision_sets ORDER BY created_at DESC LIMIT 20")
            return [json.loads(row["plan"]) | {"stalled": f"workflow/{row['id']}" in stalled} for row in found]

    # ---- the worker: a thread for each job, which alone changes its plan, and one for each node that runs ----

    def _work(self, job: dict[str, Any]) -> None:
        """Writes the row once its time has come, runs the graph, ends the stream."""
        time.sleep(max(0.0, job["row_at"] - time.time()))
        with contextlib.suppress(_NotOursError, sse_fast.ServerClosed):  # The next server goes on from the row.
            plan = self._find(job["id"]) or _new_plan(job)
            self._save(plan)
            stream = self._publish_plan(plan)
            self._run(plan, stream, job["fail"])
            plan["status"] = "failed" if any(node["error"] for node in plan["nodes"].values()) else "done"
            plan["ended_at"] = time.time()
            self._save(plan)
            stream.snapshot(plan, event="plan")
            stream.end(plan)

    def _run(self, plan: Plan, stream: sse_fast.Stream, fail: str | None) -> None:
        """Runs what is not done yet, side by side where the graph allows it, until nothing more can run."""
        done = {name for name, node in plan["nodes"].items() if node["status"] == "done"}
        order = TopologicalSorter({name: set(GRAPH[name][1]) - done for name in GRAPH if name not in done})
        order.prepare()
        finished: queue.SimpleQueue[tuple[str, dict[str, Any]]] = queue.SimpleQueue()
        running = 0
        while True:
            for name in order.get_ready():
                self._change(plan, stream, "node-start", name, status="running", error="", started_at=time.time())
                inputs = {"message": plan["message"], **{of: node["output"] for of, node in plan["nodes"].items()}}
                args = (name, inputs, name == fail, finished)
                threading.Thread(target=self._node, args=args, daemon=True).start()
                running += 1
            if not running:  # All is done, or what is left waits for a node that failed.
                return
            name, outcome = finished.get()
            running -= 1
            event = "node-error" if outcome["status"] == "failed" else "node-end"
            self._change(plan, stream, event, name, **outcome, ended_at=time.time())
            if event == "node-end":
                order.done(name)

    def _node(self, name: str, inputs: dict[str, str], fail: bool, finished: queue.SimpleQueue[Any]) -> None:
        """One node: takes the time that its model would, then tells what came of it."""
        _title, _after, seconds, work = GRAPH[name]
        time.sleep(seconds * self._pace)
        try:
            if fail:
                raise TimeoutError("the model did not answer")  # noqa: TRY301 - as a model's client would
            finished.put((name, {"status": "done", "output": work(inputs)}))
        except Exception as error:
            finished.put((name, {"status": "failed", "error": str(error)}))

    def _change(self, plan: Plan, stream: sse_fast.Stream, event: str, name: str, **change: object) -> None:
        """Changes a node: in the row, then for those who read, and in the snapshot for those who come later."""
        plan["nodes"][name].update(change)
        self._save(plan)
        stream.publish({"node": name, **change}, event=event, snapshot=plan)

    def _publish_plan(self, plan: Plan) -> sse_fast.Stream:
        stream = self._server.stream(f"workflow/{plan['decision_set_id']}", **self._options)
        stream.publish(plan, event="plan")
        stream.snapshot(plan, event="plan")
        return stream

    # ---- the rows ----

    def _find(self, decision_set: str) -> Plan | None:
        """The execution plan as its row has it: what the stream's snapshot and the JSON are both made from."""
        with self._transaction() as rows:
            row = rows.execute("SELECT plan FROM decision_sets WHERE id = ?", (decision_set,)).fetchone()
        return json.loads(row["plan"]) if row else None

    def _save(self, plan: Plan) -> None:
        """Writes the row, as long as the job is this server's; the job is done once its graph has ended."""
        values = {"id": plan["decision_set_id"], "at": plan["created_at"], "plan": json.dumps(plan)}
        statement = """
            INSERT INTO decision_sets SELECT :id, :at, :plan
            WHERE EXISTS (SELECT 1 FROM jobs WHERE id = :id AND worker = :worker)
            ON CONFLICT (id) DO UPDATE SET plan = excluded.plan
        """
        with self._transaction() as rows:
            if rows.execute(statement, {**values, "worker": self._worker}).rowcount == 0:
                raise _NotOursError
            if plan["status"] != "running":
                rows.execute("DELETE FROM jobs WHERE id = :id", values)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(sqlite3.connect(self._database, timeout=10.0)) as rows, rows:
            rows.row_factory = sqlite3.Row
            yield rows


def _new_plan(job: dict[str, Any]) -> Plan:
    fresh = {"status": "waiting", "started_at": None, "ended_at": None, "output": "", "error": ""}
    nodes = {name: {"title": title, "after": after, **fresh} for name, (title, after, *_) in GRAPH.items()}
    about = {"decision_set_id": job["id"], "message": job["message"], "status": "running"}
    return {**about, "created_at": time.time(), "ended_at": None, "nodes": nodes}


def _best_document(words: list[str]) -> str:
    hits = {name: sum(word in text.lower() for word in words) for name, text in DOCUMENTS.items()}
    return max(hits, key=lambda name: hits[name] / len(DOCUMENTS[name]) ** 0.5)  # Long texts have every word.
