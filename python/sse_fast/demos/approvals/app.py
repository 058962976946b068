"""Questions that wait for a person: each session has a queue of approvals and one of clarifications.

Owns: the routes, and what a change of a queue means for its stream. Must not know: who reads, or how slowly.

    GET  /api/{clarify,approval}/stream?session_id=   `initial`, then the head and the count after each change
    POST /api/{clarify,approval}/submit               {"session_id", "text", "detail", "choices"}: 201 with its id
    POST /api/{clarify,approval}/resolve              {"session_id", "id", "answer"}
    GET  /api/questions?session_id=                   the newest rows, answered ones too
    GET  /api/sessions                                every session, and how many questions wait in it

Rule 1. Under the lock a row is changed, the head read and the event published: events have the order of changes.
Rule 2. The lock is not reentrant, and only the public methods of `Queues` take it; none calls another.
Rule 3. An event carries the head and the count, so the newest is all that a reader needs. That decides what a full
queue does: a reader more than 16 changes behind goes on with the newest one (`on_lag="latest"`), and is told how many
it missed.
"""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import threading
import time
import weakref
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import sse_fast

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KINDS = ("clarify", "approval")
MAX_TEXT = 2000  # Characters of a question or an answer.
LISTED = 50  # Rows of the history.
#: What each stream does; a reader without Last-Event-ID gets the snapshot first, which is `initial`.
OPTIONS: dict[str, Any] = {
    "history": 16, "max_lag": 16, "on_lag": "latest", "heartbeat": 30.0, "retry": 1.0, "expire": 300.0,
}  # fmt: skip

_SCHEMA = """
CREATE TABLE IF NOT EXISTS questions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    session_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    text TEXT NOT NULL,
    detail TEXT NOT NULL,
    choices TEXT NOT NULL,      -- JSON
    submitted_at REAL NOT NULL,
    answer TEXT,                -- NULL while it waits
    resolved_at REAL
);
CREATE INDEX IF NOT EXISTS waiting ON questions (session_id, kind, id) WHERE answer IS NULL;
"""

_INSERT = """
INSERT INTO questions (session_id, kind, text, detail, choices, submitted_at) VALUES (?, ?, ?, ?, ?, ?)
"""

Row = dict[str, Any]


class AlreadyResolvedError(Exception):
    """Somebody else was faster: the text is what was answered."""


class Queues:
    """The queues of every session: rows in SQLite, and a stream for each queue that somebody asked for."""

    def __init__(self, server: sse_fast.Server, path: Path) -> None:
        """Opens the database at `path`, or makes it; what waits there goes on waiting."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._server = server
        self._lock = (
            threading.Lock()
        )  # Protects the connection, and the order of changes and events; see rules 1 and 2.
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        weakref.finalize(self, self._database.close)
        self._database.row_factory = sqlite3.Row
        self._database.executescript(f"PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; {_SCHEMA}")

    def stream(self, kind: str, session_id: str) -> sse_fast.Stream:
        """The queue's stream, which begins with `initial`."""
        with self._lock:
            return self._stream(kind, session_id)

    def submit(self, kind: str, session_id: str, text: str, detail: str, choices: list[str]) -> Row:
        """Puts a question at the end of a queue; returns its row."""
        with self._change(kind, session_id):
            values = (session_id, kind, text, detail, json.dumps(choices), time.time())
            added = self._database.execute(_INSERT, values)
            return self._rows("WHERE id = ?", added.lastrowid)[0]

    def resolve(self, kind: str, session_id: str, number: int, answer: str) -> Row:
        """Answers a question, which leaves its queue; returns its row.

        Raises:
            KeyError: this queue never had it.
            AlreadyResolvedError: it was answered before.
        """
        with self._change(kind, session_id):
            found = self._rows("WHERE id = ? AND session_id = ? AND kind = ?", number, session_id, kind)
            if not found:
                raise KeyError(number)
            if found[0]["answer"] is not None:
                raise AlreadyResolvedError(found[0]["answer"])
            self._database.execute(
                "UPDATE questions SET answer = ?, resolved_at = ? WHERE id = ?", (answer, time.time(), number)
            )
            return self._rows("WHERE id = ?", number)[0]

    def newest(self, session_id: str) -> list[Row]:
        """The newest questions of a session, answered or not."""
        with self._lock:
            return self._rows("WHERE session_id = ? ORDER BY id DESC LIMIT ?", session_id, LISTED)

    def sessions(self) -> dict[str, int]:
        """How many questions wait in each session that has had any."""
        grouped = "SELECT session_id, sum(answer IS NULL) FROM questions GROUP BY session_id ORDER BY session_id"
        with self._lock:
            return dict(tuple(row) for row in self._database.execute(grouped))

    # ---- Called with the lock held ----

    @contextlib.contextmanager
    def _change(self, kind: str, session_id: str) -> Iterator[None]:
        """One change of a queue, and its event: nobody is between them. No change, no event."""
        with self._lock:
            with self._database:
                self._database.execute("BEGIN IMMEDIATE")
                yield
            state = self._state(kind, session_id)
            # Who removes a stream at this moment takes nothing away: the next one's snapshot has the change.
            with contextlib.suppress(sse_fast.StreamEnded):
                self._stream(kind, session_id).publish(state, event=kind, snapshot=state)

    def _stream(self, kind: str, session_id: str) -> sse_fast.Stream:
        stream = self._server.stream(f"{kind}/{session_id}", **OPTIONS)
        if stream.last_id is None:
            stream.snapshot(self._state(kind, session_id), event="initial")
        return stream

    def _state(self, kind: str, session_id: str) -> Row:
        waiting = "WHERE session_id = ? AND kind = ? AND answer IS NULL"
        head = self._rows(f"{waiting} ORDER BY id LIMIT 1", session_id, kind)
        count = f"SELECT count(*) FROM questions {waiting}"  # noqa: S608 - a constant
        (waits,) = self._database.execute(count, (session_id, kind)).fetchone()
        return {"pending": head[0] if head else None, "pending_count": waits}

    def _rows(self, where: str, *values: object) -> list[Row]:
        rows = self._database.execute(f"SELECT * FROM questions {where}", values)  # noqa: S608 - constants of this file
        return [{**dict(row), "choices": json.loads(row["choices"])} for row in rows]


class Approvals:
    """The routes."""

    def __init__(self, server: sse_fast.Server, queues: Queues) -> None:
        """See `install`."""
        self.queues = queues
        for kind in KINDS:
            server.get(f"/api/{kind}/stream")(partial(self.follow, kind))
            server.post(f"/api/{kind}/submit")(partial(self.submit, kind))
            server.post(f"/api/{kind}/resolve")(partial(self.resolve, kind))
        server.get("/api/questions")(lambda request: queues.newest(text_of(request.query, "session_id")))
        server.get("/api/sessions")(lambda _request: queues.sessions())

    def follow(self, kind: str, request: sse_fast.Request) -> sse_fast.Stream:
        """The queue's stream; with ``Accept: application/json`` the engine answers with the same, once."""
        return self.queues.stream(kind, text_of(request.query, "session_id"))

    def submit(self, kind: str, request: sse_fast.Request) -> sse_fast.Response:
        """Puts a question into a queue."""
        body = request.json()
        session_id, text = text_of(body, "session_id"), text_of(body, "text")
        detail = text_of(body, "detail") if body.get("detail") else ""
        choices = ["approve", "deny"] if kind == "approval" else body.get("choices", [])
        if not isinstance(choices, list) or not all(isinstance(choice, str) and choice for choice in choices):
            raise sse_fast.HttpError(400, "choices: must be a list of texts", error="bad_field")
        return sse_fast.Response(self.queues.submit(kind, session_id, text, detail, choices), status=201)

    def resolve(self, kind: str, request: sse_fast.Request) -> Row:
        """Answers a question. Of two that answer at the same time one is told 409, with what the other said."""
        body = request.json()
        session_id, answer, number = text_of(body, "session_id"), text_of(body, "answer"), body.get("id")
        if not isinstance(number, int):
            raise sse_fast.HttpError(400, "id: must be a question's number", error="bad_field")
        if kind == "approval" and answer not in {"approve", "deny"}:
            raise sse_fast.HttpError(400, "answer: must be approve or deny", error="bad_field")
        try:
            return self.queues.resolve(kind, session_id, number, answer)
        except AlreadyResolvedError as error:
            raise sse_fast.HttpError(409, f"it was answered before: {error}", error="already_resolved") from None
        except (KeyError, OverflowError):
            raise sse_fast.HttpError(404, f"there is no question {number!r} in this queue") from None


def text_of(given: object, name: str) -> str:
    """A text that must be there. A session's name becomes part of its streams' names: it is short, without slashes."""
    value = given.get(name) if isinstance(given, Mapping) else None
    if not isinstance(value, str) or not value.strip() or len(value) > MAX_TEXT:
        raise sse_fast.HttpError(400, f"{name}: must be a text of 1 to {MAX_TEXT} characters", error="bad_field")
    if name == "session_id" and not re.fullmatch(r"[\w.-]{1,64}", value):
        raise sse_fast.HttpError(400, f"{name}: must be 1 to 64 letters, digits and ._-", error="bad_field")
    return value


def install(server: sse_fast.Server, path: Path) -> Queues:
    """Adds the routes to `server`; the rows are kept in the SQLite file at `path`."""
    queues = Queues(server, path)
    Approvals(server, queues)
    return queues
