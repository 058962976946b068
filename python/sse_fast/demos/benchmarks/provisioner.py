"""A simulated provisioner: the remote service that lends machines, slowly.

Owns: who waits for which machine, and which machines are still warm. Its state is a small database, so that the runner
processes share it as they would share a service. Must not know: kernels, streams, the server.

Invariant: a status follows from the clock alone, so nothing has to run for a machine to become ready or cold.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .settings import Settings

Status = Literal["IN_QUEUE", "PROVISIONING", "RUNNING"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS machines (gpu TEXT PRIMARY KEY, warm_until REAL NOT NULL);
CREATE TABLE IF NOT EXISTS requests (
    id TEXT PRIMARY KEY, gpu TEXT NOT NULL, queued_until REAL NOT NULL, ready_at REAL NOT NULL, warm INTEGER NOT NULL
);
"""


class Provisioner:
    """The service's client."""

    def __init__(self, settings: Settings) -> None:
        """Takes how long everything takes."""
        self._settings = settings
        self._path = settings.data / "provisioner.sqlite"

    def request(self, request_id: str, gpu: str) -> bool:
        """Asks for a machine; True if one is warm, and ready at once."""
        now = time.time()
        with self._transaction() as database:
            database.execute("DELETE FROM machines WHERE warm_until <= ?", (now,))
            warm = database.execute("DELETE FROM machines WHERE gpu = ?", (gpu,)).rowcount > 0
            queued_until = now if warm else now + self._settings.queue
            ready_at = now if warm else queued_until + self._settings.provisioning
            database.execute(
                "INSERT OR REPLACE INTO requests VALUES (?, ?, ?, ?, ?)",
                (request_id, gpu, queued_until, ready_at, warm),
            )
        return warm

    def status(self, request_id: str) -> Status:
        """How far a request is.

        Raises:
            KeyError: there is no such request.
        """
        with self._transaction() as database:
            row = database.execute("SELECT queued_until, ready_at FROM requests WHERE id = ?", (request_id,)).fetchone()
        if row is None:
            raise KeyError(request_id)
        queued_until, ready_at = row
        now = time.time()
        if now < queued_until:
            return "IN_QUEUE"
        return "PROVISIONING" if now < ready_at else "RUNNING"

    def release(self, request_id: str) -> None:
        """Gives the machine back; it stays warm for a while. A request that had none yet is withdrawn."""
        now = time.time()
        with self._transaction() as database:
            database.execute(
                "INSERT OR REPLACE INTO machines SELECT gpu, ? FROM requests WHERE id = ? AND ready_at <= ?",
                (now + self._settings.warm, request_id, now),
            )
            database.execute("DELETE FROM requests WHERE id = ?", (request_id,))

    def warm_machines(self) -> dict[str, float]:
        """GPUs that a machine is warm for, and until when."""
        with self._transaction() as database:
            return dict(database.execute("SELECT gpu, warm_until FROM machines WHERE warm_until > ?", (time.time(),)))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """One connection for each call, as a client of a service would; IMMEDIATE, so that no machine is lent twice."""
        database = sqlite3.connect(self._path, timeout=10.0, isolation_level=None)
        with contextlib.closing(database):
            database.executescript(_SCHEMA)
            database.execute("BEGIN IMMEDIATE")
            yield database
            database.execute("COMMIT")
