"""The files of the repository, and the parts of a file that the rules need.

Owns: which files are built or generated and therefore skipped, what is test code in a Rust file, where a header is.
Must not know: any rule.
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: The first block of a Rust file that is compiled for tests alone; such blocks stand at a file's end.
_TEST_BLOCK = re.compile(r"^#\[cfg\([^\n]*\b(?:test|loom)\b[^\n]*\)\]\n(?:#\[[^\n]*\]\n)*mod \w+ \{", re.MULTILINE)
_TEST_FILE = re.compile(
    r"^#\[cfg\([^\n]*\b(?:test|loom)\b[^\n]*\)\]\n(?:#\[[^\n]*\]\n)*(?:pub(?:\(\w+\))? )?mod (\w+);", re.MULTILINE
)


def files(root: Path, folder: str, *suffixes: str) -> Iterator[Path]:
    """The files below a folder, without those that were built there."""
    for path in sorted((root / folder).rglob("*")):
        if path.is_file() and path.suffix in suffixes and not {"target", "__pycache__"} & set(path.parts):
            yield path


def sources(root: Path) -> Iterator[Path]:
    """Every source file of the repository."""
    yield from files(root, "rust", ".rs")
    yield from files(root, "python", ".py", ".pyi", ".js")
    for folder in ("tests", "loadtest"):
        yield from files(root, folder, ".py")
    yield from files(root, "scripts", "", ".py")


def shown(root: Path, path: Path) -> str:
    """A path as a reader of the repository knows it."""
    return str(path.relative_to(root))


def without_tests(text: str) -> str:
    """A Rust file before its own tests."""
    found = _TEST_BLOCK.search(text)
    return text[: found.start()] if found else text


def test_modules(text: str) -> set[str]:
    """The modules that a Rust file declares for tests alone, each in a file of its own."""
    return set(_TEST_FILE.findall(text))


def header(path: Path, text: str) -> str:
    """The comment or docstring that a file opens with."""
    if path.suffix in {".py", ".pyi"} or text.startswith("#!/usr/bin/env python3"):
        return ast.get_docstring(ast.parse(text)) or ""
    if path.suffix == ".rs":
        found = re.match(r"(?://!.*\n)*", text)
    elif path.suffix == ".js":
        found = re.match(r"/\*\*.*?\*/", text, re.DOTALL)
    else:
        found = re.match(r"#!.*\n(?:#.*\n)+", text)
    return found[0] if found else ""
