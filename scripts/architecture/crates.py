"""Which crate may be built with which, and what the pure core must not name.

Owns: the arrows between crates, which point down: binding, server, core.
Must not know: modules inside a crate; `modules` has those.
"""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

from .tree import files, shown, without_tests

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Crates that a crate must not be built with, however indirectly.
FORBIDDEN = {
    "sse-fast-core": {
        *("tokio", "hyper", "mio", "pyo3", "log", "tracing", "socket2", "rustix", "libc", "getrandom", "httpdate"),
        *("chrono", "time", "parking_lot", "sse-fast-server", "sse-fast-py"),
    },
    "sse-fast-server": {"pyo3", "pyo3-ffi", "sse-fast-py"},
}

#: What the core must not name of the standard library. Of `time` it may use durations: time comes in as a value.
NOT_IN_THE_CORE = re.compile(
    r"\bstd::(?:thread|net|fs|io|process|env|os)\b|\b(?:Instant|SystemTime|Mutex|RwLock|Condvar|Atomic\w+)\b"
)

CORE = "rust/sse-fast-core/src"


def arrows(root: Path) -> Iterator[str]:
    """Crates that are built with what they must not know."""
    for crate, forbidden in FORBIDDEN.items():
        for name in sorted(dependencies(root, crate) & forbidden):
            yield f"{crate} must not depend on {name}"


def dependencies(root: Path, crate: str) -> set[str]:
    """Everything that a crate is built with, except for its tests and build scripts."""
    command = ["cargo", "tree", "--locked", "--package", crate, "--edges", "normal", "--prefix", "none"]
    done = subprocess.run([*command, "--format", "{p}"], check=False, stdout=subprocess.PIPE, text=True, cwd=root)
    if done.returncode:
        sys.exit(f"cargo tree failed for {crate}")
    return {line.split()[0] for line in done.stdout.splitlines() if line.strip()} - {crate}


def pure_core(root: Path) -> Iterator[str]:
    """Clocks, threads, I/O and unsafe code in the core, except for its tests."""
    for path in files(root, CORE, ".rs"):
        lines = without_tests(path.read_text(encoding="utf-8")).splitlines()
        for number, line in enumerate(lines, 1):
            found = NOT_IN_THE_CORE.search(line.partition("//")[0])
            if found:
                yield f"{shown(root, path)}:{number}: the core must not know {found[0]}"
    if "#![forbid(unsafe_code)]" not in (root / CORE / "lib.rs").read_text(encoding="utf-8"):
        yield f"{CORE}/lib.rs must forbid unsafe code"
