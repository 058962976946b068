"""What a result must say about where it comes from: machine, versions, revision, date.

Owns: what identifies a machine without naming it: no host name, no user, no path. Must not know: results.
"""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

from .processes import ROOT

_FILLER = {"amd", "intel", "cpu", "processor", "core", "genuine", "virtual", "arm", "with", "the"}


def facts() -> dict[str, Any]:
    """The machine as far as it matters to a figure."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.system(),
        "kernel": platform.release().split("-")[0],
        "load_average": round(os.getloadavg()[0], 2),  # Of the minute before: what else was running.
    }


def slug() -> str:
    """A short name such as ``epyc-2c`` for the folder of results; LOAD_MACHINE overrides it."""
    words = re.findall(r"[a-z][a-z0-9]+", re.sub(r"\([^)]*\)", " ", _cpu().lower()))
    family = next((word for word in words if word not in _FILLER), "cpu")
    return os.environ.get("LOAD_MACHINE") or f"{family}-{os.cpu_count()}c"


def versions(*packages: str) -> dict[str, str]:
    """Python's version and those of the packages that are installed."""
    installed = {package: _version(package) for package in packages}
    return {"python": platform.python_version()} | {name: found for name, found in installed.items() if found}


def revision() -> str:
    """The git revision, marked where files differ from it; ``unknown`` outside a repository."""
    commit = _git("rev-parse", "--short=12", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no")
    return f"{commit}{' with changes' if changed else ''}" if commit else "unknown"


def today() -> str:
    """The date, as in the folder of results."""
    return dt.datetime.now(dt.timezone.utc).strftime("%Y-%m-%d")


def results_folder(base: Path) -> Path:
    """Where results of this machine and day go; made if it is missing."""
    folder = base / f"{today()}-{slug()}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.machine()
    found = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    return found[1].strip() if found else platform.machine()


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
