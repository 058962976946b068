"""What a process holds: descriptors, threads, memory. Counted before and after, the difference was left behind."""

from __future__ import annotations

import ctypes
import json
import os
from pathlib import Path

from .process import SUPPORT, Program


def descriptors() -> int:
    return len(list(Path("/proc/self/fd" if Path("/proc/self/fd").exists() else "/dev/fd").iterdir()))


def threads() -> int:
    """Every thread of the process, the engine's too (Linux)."""
    return len(list(Path("/proc/self/task").iterdir()))


def resident() -> int:
    """Bytes in memory (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def resident_in_use() -> int:
    """Bytes in memory, after the C library's allocator gave back what nobody uses."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    return resident()


def assert_nothing_is_left(warm: int, cycles: int, deadline: float) -> None:
    """Serves and closes so often in a process of its own (`cycles.py`), and compares."""
    with Program(SUPPORT / "cycles.py", warm, cycles) as program:
        before = json.loads(program.line(deadline))
        after = json.loads(program.line(deadline))
        assert program.wait() == 0
        assert program.stderr == ""
    print(f"{cycles} servers: {before} -> {after}")
    assert after["descriptors"] <= before["descriptors"]
    assert after["threads"] <= before["threads"]
    assert after["resident"] <= 1.03 * before["resident"]
