"""`Event`: one event as a reader sees it, in this process or through a connection.

Owns: the class. Must not know: the engine; where events come from and where they go.
Changes together with: `rust/sse-fast-py/src/batch.rs`, which reads its fields.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Event:
    """One event as a reader sees it; `Stream.publish_many` accepts these too.

    Args:
        data: its data; several lines are joined by LF.
        event: its name.
        id: its id; None for gaps and heartbeats, and where the stream sends no ids.
        retry: the seconds that readers are to wait before they reconnect.

    >>> Event('{"status": "COMPILING"}', event="COMPILING").json()
    {'status': 'COMPILING'}
    """

    data: str
    event: str = "message"
    id: str | None = None
    retry: float | None = None

    def json(self) -> Any:  # noqa: ANN401 - JSON is any of its types
        """The data, parsed as JSON.

        Raises:
            ValueError: the data is not JSON.
        """
        return json.loads(self.data)
