"""Which file of the Python package may import what.

Owns: the engine is reached through `_core` alone; demos use the public API; `runner.py` stands alone.
Must not know: Rust.
"""

from __future__ import annotations

import ast
import re
import sys
from typing import TYPE_CHECKING

from .tree import files, shown

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PACKAGE = "python/sse_fast"

#: Python modules, besides `_core`, through which an engine or C code could be reached.
NATIVE = {"ctypes", "cffi", "_ctypes"}
#: The simulated model holds the interpreter in C, as real ones do: that is what its demo is about.
HOLDS_THE_INTERPRETER = "demos/prefill/model.py"


def imports(root: Path) -> Iterator[str]:
    """Python that reaches the engine by another way than `_core`, or from a file that must not reach it at all."""
    for path in files(root, PACKAGE, ".py"):
        inside = path.relative_to(root / PACKAGE)
        if path.stem in sys.stdlib_module_names:
            yield f"{shown(root, path)}: a program in this folder would import it as Python's own {path.stem}"
        for module in sorted(imported(path)):
            first, last = module.partition(".")[0], module.rpartition(".")[2]
            private = re.fullmatch(r"sse_fast\._\w+|\.+_\w+(\..*)?", module) is not None and last != "_site"
            if first in NATIVE and inside.as_posix() != HOLDS_THE_INTERPRETER:
                yield f"{shown(root, path)}: the engine is reached through _core, not through {module}"
            elif inside.parts[0] == "demos" and private:
                yield f"{shown(root, path)}: a demo uses the public API, not {module}"
            elif str(inside) == "runner.py" and (first == "sse_fast" or module.startswith(".")):
                yield f"{shown(root, path)}: a child process imports this file alone, so it must not import {module}"
            elif "sse_fast" in module and last == "_core":
                yield f"{shown(root, path)}: write `from ._core import ...`, so that one search finds all uses"


def imported(path: Path) -> set[str]:
    """The modules that a file imports, as it names them, without imports for type checkers alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            names |= {base} if node.module else {base + alias.name for alias in node.names}
    return names
