"""Which module of the server's crate may know which, and that files of a crate know each other in one direction.

Owns: the arrows inside `sse-fast-server`: mailbox <- delivery <- stream <- shard <- directory <- HTTP <- server.
Must not know: other crates; `crates` has those.
Invariants: a file knows another where it names it by a path that begins with `crate::` or `super::`, in a `use` or in
code. What a module's root re-exports counts as the file that defines it. Tests are left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .tree import files, shown, test_modules, without_tests

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SERVER = "rust/sse-fast-server/src"
CRATES = ("rust/sse-fast-core/src", SERVER, "rust/sse-fast-py/src")

#: Modules that know only each other. Every other module may know them, except where `KNOWN_LEAVES` names a few.
LEAVES = {
    *("access_log", "addresses", "admitted", "clock", "config", "durations"),
    *("logs", "network", "pattern", "shown", "stats", "store", "sync"),
}

#: Which modules each of these may know, besides itself and the leaves.
KNOWS = {
    **{leaf: set[str]() for leaf in LEAVES},
    "mailbox": set[str](),
    "idempotency": set(),
    "backplane": set[str](),
    "delivery": {"mailbox", "idempotency", "backplane"},
    "stream": {"mailbox", "delivery", "idempotency", "backplane"},
    "reader": {"stream"},
    "presence": {"stream"},
    "shard": {"mailbox", "delivery", "stream", "presence"},
    "expiry": set[str](),
    "waiting": set[str](),
    "resumable": {"stream"},
    "directory": {
        *("mailbox", "delivery", "backplane", "stream", "presence", "shard", "expiry", "waiting", "resumable"),
    },
    "run": set[str](),
    "sink": {"run", "stream"},
}
#: The leaves that a module may know, where it must not know the others.
KNOWN_LEAVES = {"mailbox": {"clock", "sync"}}

#: Modules that no other module may know, because they know all others.
TOPS = {"server"}

Name = tuple[str, ...]  # A module's path from the crate's root, such as ("shard", "walk"); the root itself is ().


@dataclass
class Module:
    """One file of a crate."""

    path: Path
    text: str
    #: What this file re-exports from its children: the name, and the path of the child that defines it.
    exports: dict[str, Name] = field(default_factory=dict)


def arrows(root: Path) -> Iterator[str]:
    """Modules of the server's crate that know one they must not know."""
    modules = modules_of(root, SERVER)
    for name, module in modules.items():
        own = name[:1]
        for target, line in known(modules, name):
            other = target[:1]
            if own and other and other != own and not may_know(own[0], other[0]):
                yield f"{shown(root, module.path)}:{line}: {own[0]} must not know {other[0]}"


def may_know(module: str, other: str) -> bool:
    """Whether `module` may name `other`."""
    if other in TOPS:
        return False
    if module not in KNOWS:
        return True
    return other in KNOWS[module] | KNOWN_LEAVES.get(module, LEAVES)


def cycles(root: Path) -> Iterator[str]:
    """Files of one crate that know each other, directly or in a circle."""
    for crate in CRATES:
        modules = modules_of(root, crate)
        graph = {name: {target for target, _ in known(modules, name)} - {name} for name in modules}
        for circle in circles(graph):
            path = " -> ".join("::".join(name) or "lib" for name in [*circle, circle[0]])
            yield f"{shown(root, modules[circle[0]].path)}: these files know each other in a circle: {path}"


def circles(graph: dict[Name, set[Name]]) -> Iterator[list[Name]]:
    """The shortest circle through each module that is in one, each circle once."""
    seen: set[frozenset[Name]] = set()
    for start in sorted(graph):
        circle = shortest_circle(graph, start)
        if circle and frozenset(circle) not in seen:
            seen.add(frozenset(circle))
            yield circle


def shortest_circle(graph: dict[Name, set[Name]], start: Name) -> list[Name]:
    """The shortest way from `start` back to it; empty where there is none."""
    ways = [[start]]
    visited: set[Name] = set()
    while ways:
        way = ways.pop(0)
        for name in sorted(graph[way[-1]]):
            if name == start:
                return way
            if name not in visited:
                visited.add(name)
                ways.append([*way, name])
    return []


# ---- Reading a crate -----------------------------------------------------------------------


def modules_of(root: Path, crate: str) -> dict[Name, Module]:
    """Every file of a crate by its module's path, without tests."""
    modules: dict[Name, Module] = {}
    tests: set[Name] = set()
    for path in files(root, crate, ".rs"):
        parts = path.relative_to(root / crate).with_suffix("").parts
        name = parts[:-1] if parts[-1] in {"mod", "lib"} else parts
        text = path.read_text(encoding="utf-8")
        tests |= {(*name, test) for test in test_modules(text)}
        modules[name] = Module(path, code(text))
    for test in tests:
        modules = {name: module for name, module in modules.items() if name[: len(test)] != test}
    for name, module in modules.items():
        children = {other[-1] for other in modules if other[:-1] == name and other}
        for found in re.finditer(r"\bpub(?:\([^)]*\))? use (?:self::)?", module.text):
            for exported in paths(module.text, found.end()):
                if exported[0] in children:
                    module.exports[exported[-1]] = (*name, *exported[:-1])
    return modules


def code(text: str) -> str:
    """A file without its tests and comments, with the same lines."""
    return re.sub(r"//.*", "", without_tests(text))


def known(modules: dict[Name, Module], name: Name) -> Iterator[tuple[Name, int]]:
    """The modules that a file names, with the line where it does."""
    module = modules[name]
    for found in re.finditer(r"\b(?:crate|super)::", module.text):
        if module.text[: found.start()].endswith("::"):
            continue  # The second of `super::super::`, which is read with the first.
        line = module.text.count("\n", 0, found.start()) + 1
        for path in paths(module.text, found.start()):
            base: Name = ()
            rest = path[1:]
            if path[0] == "super":
                above = len(path) - len([part for part in path if part != "super"])
                base, rest = name[: max(len(name) - above, 0)], path[above:]
            yield resolved(modules, base, rest), line


def resolved(modules: dict[Name, Module], base: Name, path: Name) -> Name:
    """The module that defines what `path` names, seen from `base`."""
    while path and (*base, path[0]) in modules:
        base, path = (*base, path[0]), path[1:]
    if path and base in modules and path[0] in modules[base].exports:
        target = modules[base].exports[path[0]]
        while target not in modules and target:
            target = target[:-1]
        return target
    return base


def paths(text: str, start: int) -> list[Name]:
    """The paths that begin at `start`: one, or one for each name in braces."""
    found, _ = _read_paths(text, start)
    return [path for path in found if path]


def _read_paths(text: str, at: int) -> tuple[list[Name], int]:
    prefix: Name = ()
    while True:
        while at < len(text) and text[at].isspace():
            at += 1
        if at < len(text) and text[at] == "{":
            return _read_group(text, at + 1, prefix)
        word = re.compile(r"\w+|\*").match(text, at)
        if not word:
            return [prefix], at
        prefix, at = (*prefix, word[0]), word.end()
        if not text.startswith("::", at):
            renamed = re.compile(r"\s+as\s+\w+").match(text, at)
            return [prefix], renamed.end() if renamed else at
        at += 2


def _read_group(text: str, at: int, prefix: Name) -> tuple[list[Name], int]:
    """The paths inside braces that were opened before `at`."""
    paths: list[Name] = []
    while at < len(text) and text[at] != "}":
        if text[at] == "," or text[at].isspace():
            at += 1
            continue
        inner, end = _read_paths(text, at)
        if end == at:
            break  # Not a group of paths after all.
        paths += [(*prefix, *(part for part in path if part != "self")) for path in inner]
        at = end
    return paths, at + 1
