"""Where PyInstaller finds its hook for this package.

Owns: the answer to PyInstaller's question; `pyproject.toml` names the function as an entry point.
Must not know: what a frozen program needs, which is in `hook-sse_fast.py`; the engine, since a build must not load it.
"""

from __future__ import annotations

from pathlib import Path


def hook_folders() -> list[str]:
    """The folders that hold hooks: this one."""
    return [str(Path(__file__).parent)]
