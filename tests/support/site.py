"""The documentation site, built once for all tests of a session."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


_BUILT: list[Path] = []


def built(folders: pytest.TempPathFactory) -> Path:
    """The site's folder; a warning of any kind fails the build."""
    if _BUILT:
        return _BUILT[0]
    folder = folders.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, check=False, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    _BUILT.append(folder)
    return folder
