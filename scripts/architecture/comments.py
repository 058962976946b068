"""Words that comments and docstrings of this house do not use, because readers stumble over them.

Owns: the list of these words and the plain ones to write instead.
Must not know: code; only comments, docstrings and headers are read.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from typing import TYPE_CHECKING

from .tree import shown, sources

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Each word, and what to write instead.
INSTEAD = {
    "for ever": "without limit, or always",
    "whoever": "the thread, caller or reader that is meant",
    "whence": "where ... from",
    "nobody wants": "what is not needed, and why",
    "meanwhile": "during which time, or what happens in it",
    "by and by": "gradually",
}
_WORDS = re.compile(r"\b(?:" + "|".join(word.replace(" ", r"\s+") for word in INSTEAD) + r")\b", re.IGNORECASE)

# Comment lines that follow each other are one comment, so that a pair of words is found across a line's end.
_SLASHES = re.compile(r"//.*(?:\n[ \t]*//.*)*")
_SLASHES_AND_STARS = re.compile(r"/\*[\s\S]*?\*/|" + _SLASHES.pattern)
_HASHES = re.compile(r"#.*(?:\n[ \t]*#.*)*")


def words(root: Path) -> Iterator[str]:
    """Comments with a word of the list, by file and line."""
    for path in sources(root):
        text = path.read_text(encoding="utf-8")
        for line, comment in comments(path, text):
            for found in _WORDS.finditer(comment):
                word = " ".join(found[0].lower().split())
                at = line + comment.count("\n", 0, found.start())
                yield f"{shown(root, path)}:{at}: {word!r} is not a word of this house: write {INSTEAD[word]}"


def comments(path: Path, text: str) -> Iterator[tuple[int, str]]:
    """The comments of a file with the lines on which they begin."""
    if path.suffix in {".py", ".pyi"} or text.startswith("#!/usr/bin/env python3"):
        yield from python_comments(text)
        return
    mark = {".rs": _SLASHES, ".js": _SLASHES_AND_STARS}.get(path.suffix, _HASHES)
    for found in mark.finditer(text):
        yield text.count("\n", 0, found.start()) + 1, re.sub(r"(?m)^[ \t]*(?://[/!]?|#)", "", found[0])


def python_comments(text: str) -> Iterator[tuple[int, str]]:
    """The comments and docstrings of Python code; neighbouring comment lines are one comment."""
    block: list[str] = []
    start = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT:
            continue
        if block and token.start[0] != start + len(block):
            yield start, "\n".join(block)
            block = []
        if not block:
            start = token.start[0]
        block.append(token.string.lstrip("# "))
    if block:
        yield start, "\n".join(block)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            docstring = ast.get_docstring(node, clean=False)
            if docstring:
                yield node.body[0].lineno, docstring
