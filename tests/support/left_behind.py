"""What this process holds: descriptors, threads, memory. Counted before and after, the difference was left behind."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path


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
