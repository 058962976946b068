"""The submissions in SQLite: one row each, brought up to date with every status, and the statuses it went through.

Owns: the schema and every statement. Must not know: streams, HTTP, processes.

Invariants: a runtime that was not measured is NULL, never 0; a row that has its `finished_at` never changes again; each
status is kept with its event's id, so that a reader can resume over a restart of the server.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

Row = dict[str, Any]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS submissions (
    id TEXT PRIMARY KEY,
    gpu TEXT NOT NULL,
    kernel TEXT,                -- a built-in kernel's name; NULL for the submitter's own code
    size INTEGER NOT NULL,
    code TEXT NOT NULL,
    status TEXT NOT NULL,
    message TEXT,
    runtime_ms REAL,            -- the median; NULL until measured
    gflops REAL,
    samples TEXT,               -- JSON: every run time in ms
    exit_code INTEGER,
    server_pid INTEGER NOT NULL,
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL,
    finished_at REAL
);
CREATE TABLE IF NOT EXISTS statuses (
    submission_id TEXT NOT NULL REFERENCES submissions (id),
    position INTEGER NOT NULL,
    event_id TEXT,
    status TEXT NOT NULL,
    data TEXT NOT NULL,         -- JSON, as published
    PRIMARY KEY (submission_id, position)
);
"""


class DuplicateError(Exception):
    """There is a submission with that id already."""


class Store:
    """The database; usable from any thread, and by several processes at once.

    Each transaction has a connection of its own: a benchmark takes seconds, a connection a fraction of a millisecond.
    """

    def __init__(self, path: Path) -> None:
        """Opens the database at `path`, or makes it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        with self._transaction() as database:
            database.execute("PRAGMA journal_mode=WAL")  # The runner reads while the server writes.
            database.executescript(_SCHEMA)

    def add(self, row: Mapping[str, Any]) -> None:
        """Adds a submission: ``id``, ``gpu``, ``kernel``, ``size``, ``code``.

        Raises:
            DuplicateError: its id is taken.
        """
        now = time.time()
        statement = """
            INSERT INTO submissions (id, gpu, kernel, size, code, status, server_pid, created_at, updated_at)
            VALUES (:id, :gpu, :kernel, :size, :code, 'SUBMITTED', :server_pid, :now, :now)
        """
        try:
            with self._transaction() as database:
                database.execute(statement, {**row, "server_pid": os.getpid(), "now": now})
        except sqlite3.IntegrityError as error:
            raise DuplicateError(row["id"]) from error

    def update(self, submission_id: str, event_id: str | None, status: str, data: Mapping[str, Any]) -> None:
        """Brings a row up to date with a status that was published, and keeps that status."""
        with self._transaction() as database:
            database.execute(
                """
                UPDATE submissions SET status = ?, message = ?, runtime_ms = coalesce(?, runtime_ms),
                    gflops = coalesce(?, gflops), samples = coalesce(?, samples), updated_at = ?
                WHERE id = ? AND finished_at IS NULL
                """,
                (
                    status,
                    data.get("message"),
                    data.get("runtime_ms"),
                    data.get("gflops"),
                    json.dumps(data["samples"]) if "samples" in data else None,
                    time.time(),
                    submission_id,
                ),
            )
            database.execute(
                """
                INSERT INTO statuses (submission_id, position, event_id, status, data)
                SELECT ?, count(*) + 1, ?, ?, ? FROM statuses WHERE submission_id = ?
                """,
                (submission_id, event_id, status, json.dumps(data), submission_id),
            )

    def finish(self, submission_id: str, status: str, message: str | None, exit_code: int | None) -> None:
        """Gives a row its last status; `message` None keeps what its last status said."""
        now = time.time()
        with self._transaction() as database:
            database.execute(
                """
                UPDATE submissions SET status = ?, message = coalesce(?, message), exit_code = ?, updated_at = ?,
                    finished_at = ?
                WHERE id = ? AND finished_at IS NULL
                """,
                (status, message, exit_code, now, now, submission_id),
            )

    def find(self, submission_id: str) -> Row | None:
        """A row with its code and its ``timeline``: the data of every status, in order."""
        with self._transaction() as database:
            row = database.execute("SELECT * FROM submissions WHERE id = ?", (submission_id,)).fetchone()
        if row is None:
            return None
        return {**_decoded(row), "timeline": [data for _event_id, _status, data in self.statuses(submission_id)]}

    def statuses(self, submission_id: str) -> list[tuple[str | None, str, Row]]:
        """The statuses a submission went through, as event id, name and data."""
        with self._transaction() as database:
            rows = database.execute(
                "SELECT event_id, status, data FROM statuses WHERE submission_id = ? ORDER BY position",
                (submission_id,),
            ).fetchall()
        return [(row["event_id"], row["status"], json.loads(row["data"])) for row in rows]

    def newest(self, limit: int) -> list[Row]:
        """The newest rows, without code."""
        with self._transaction() as database:
            rows = database.execute("SELECT * FROM submissions ORDER BY created_at DESC LIMIT ?", (limit,)).fetchall()
        return [{name: value for name, value in _decoded(row).items() if name != "code"} for row in rows]

    def abandoned(self) -> list[str]:
        """Ids of rows that have no last status, and whose server is gone: nobody is left to give them one."""
        with self._transaction() as database:
            rows = database.execute("SELECT id, server_pid FROM submissions WHERE finished_at IS NULL").fetchall()
        return [row["id"] for row in rows if not _is_other_process(row["server_pid"])]

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(sqlite3.connect(self._path, timeout=10.0)) as database, database:
            database.row_factory = sqlite3.Row
            yield database


def _decoded(row: sqlite3.Row) -> Row:
    values = {**dict(row), "samples": json.loads(row["samples"]) if row["samples"] else None}
    del values["server_pid"]
    return values


def _is_other_process(pid: int) -> bool:
    """Whether `pid` is a process, and not this one, which has only just begun."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return pid != os.getpid()
