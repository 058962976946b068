"""What a server has counted, as plain numbers, for versions of sse_fast that gave it in other forms.

Owns: the forms. Must not know: which numbers a scenario reads.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sse_fast


def counted(server: sse_fast.Server) -> dict[str, Any]:
    """The server's numbers by name; durations in seconds."""
    stats: Any = server.stats()
    if not isinstance(stats, dict):
        return dataclasses.asdict(stats)
    # A version of before the dataclasses, which had durations in microseconds.
    return {
        f"{name[:-3]}_s" if name.endswith("_us") else name: number / 1e6 if name.endswith("_us") else number
        for name, number in stats.items()
    }
