"""Headers and sizes: every file opens with what it is about, and a long file or function says why it is long.

Owns: the two limits, and what counts as saying why: the word "long", in a file's header, or in the comment or docstring
of a function.
Must not know: what the text says.
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from .tree import header, shown, sources, without_tests

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_FILE = 400  # Lines; the tests in a Rust file do not count.
MAX_FUNCTION = 60  # Lines, from the name to the end; a docstring does not count.

_FUNCTION = re.compile(r"^( *)(?:pub(?:\([^)]*\))? )?(?:(?:async|const|unsafe|extern \"C\") )*fn (\w+)")


def headers_and_files(root: Path) -> Iterator[str]:
    """Files that do not open with what they are about, or are long without saying why."""
    for path in sources(root):
        text = path.read_text(encoding="utf-8")
        if not text.strip():
            continue
        opening = header(path, text)
        lines = (without_tests(text) if path.suffix == ".rs" else text).splitlines()
        if not opening:
            yield f"{shown(root, path)}: it must open with what it is about"
        elif len(lines) > MAX_FILE and not says_why(opening):
            yield f"{shown(root, path)}: {len(lines)} lines; its header must say why it is so long"


def functions(root: Path) -> Iterator[str]:
    """Functions that are long without saying why."""
    for path in sources(root):
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".rs":
            found = rust_functions(text)
        elif path.suffix in {".py", ".pyi"} or text.startswith("#!/usr/bin/env python3"):
            found = python_functions(text)
        else:
            continue
        for name, line, length, comment in found:
            if length > MAX_FUNCTION and not says_why(comment):
                yield f"{shown(root, path)}:{line}: {name} has {length} lines; its comment must say why it is so long"


def says_why(text: str) -> bool:
    """Whether a comment speaks of a length."""
    return re.search(r"\blong\b", text, re.IGNORECASE) is not None


def rust_functions(text: str) -> Iterator[tuple[str, int, int, str]]:
    """Name, first line, length and comment of every function; rustfmt closes it where its line began."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        found = _FUNCTION.match(line)
        if not found or line.rstrip().endswith((";", "}")):
            continue
        end = next((end for end in range(number, len(lines)) if lines[end] == found[1] + "}"), number)
        start = number
        while start > 0 and lines[start - 1].lstrip().startswith(("//", "#[")):
            start -= 1
        yield found[2], number + 1, end - number + 1, "\n".join(lines[start:number])


def python_functions(text: str) -> Iterator[tuple[str, int, int, str]]:
    """Name, first line, length and docstring of every function."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            docstring = ast.get_docstring(node) or ""
            first = node.body[0]
            documented = first.end_lineno - first.lineno + 1 if docstring and first.end_lineno else 0
            yield node.name, node.lineno, (node.end_lineno or node.lineno) - node.lineno + 1 - documented, docstring
