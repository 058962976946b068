"""Every rule of `scripts/check-architecture` can fail, and leaves alone what it allows.

Each test builds a small tree with a violation in it. `make lint` runs the rules over the repository itself.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from architecture import comments, crates, modules, names, packages, shape, tree

SERVER = modules.SERVER
HEADER = "//! What it is about.\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path


def write(root: Path, path: str, text: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def server(root: Path, **texts: str) -> None:
    """Files of the server's crate by module; `__` parts the names of a path."""
    for name, text in texts.items():
        write(root, f"{SERVER}/{name.replace('__', '/')}.rs", text)


# ---- Crates --------------------------------------------------------------------------------


def test_a_crate_built_with_a_forbidden_one_is_reported(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built_with = {"sse-fast-core": {"memchr", "tokio"}, "sse-fast-server": {"tokio", "pyo3"}}
    monkeypatch.setattr(crates, "dependencies", lambda _root, crate: built_with[crate])
    assert list(crates.arrows(root)) == [
        "sse-fast-core must not depend on tokio",
        "sse-fast-server must not depend on pyo3",
    ]


@pytest.mark.parametrize(
    "line", ["use std::time::Instant;", "use std::thread;", "let x: Mutex<u8>;", "fn f(at: AtomicU64) {}"]
)
def test_a_clock_thread_or_lock_in_the_core_is_reported(root: Path, line: str) -> None:
    write(root, f"{crates.CORE}/lib.rs", f"{HEADER}#![forbid(unsafe_code)]\nuse std::time::Duration;\n{line}\n")
    (found,) = crates.pure_core(root)
    assert found.startswith(f"{crates.CORE}/lib.rs:4: the core must not know ")


def test_the_core_s_tests_and_comments_may_name_a_clock(root: Path) -> None:
    text = f"{HEADER}#![forbid(unsafe_code)]\n// No Instant here.\n#[cfg(test)]\nmod tests {{\n    use std::fs;\n}}\n"
    write(root, f"{crates.CORE}/lib.rs", text)
    assert list(crates.pure_core(root)) == []


def test_a_core_that_does_not_forbid_unsafe_code_is_reported(root: Path) -> None:
    write(root, f"{crates.CORE}/lib.rs", HEADER)
    assert list(crates.pure_core(root)) == [f"{crates.CORE}/lib.rs must forbid unsafe code"]


# ---- Modules of the server -----------------------------------------------------------------

ENGINE = ("mailbox", "delivery", "stream", "shard", "directory", "respond", "server")  # From the bottom up.


@pytest.mark.parametrize(
    ("low", "high"), [(low, high) for place, low in enumerate(ENGINE) for high in ENGINE[place + 1 :]]
)
def test_a_module_that_knows_a_higher_one_is_reported(root: Path, low: str, high: str) -> None:
    server(root, **{low: f"{HEADER}use crate::{high}::Thing;\n", high: HEADER})
    assert list(modules.arrows(root)) == [f"{SERVER}/{low}.rs:2: {low} must not know {high}"]


@pytest.mark.parametrize(
    ("low", "high"), [(low, high) for place, high in enumerate(ENGINE) for low in ENGINE[:place] if high != "mailbox"]
)
def test_a_module_may_know_a_lower_one(root: Path, low: str, high: str) -> None:
    server(root, **{high: f"{HEADER}use crate::{low}::Thing;\n", low: HEADER})
    assert list(modules.arrows(root)) == []


@pytest.mark.parametrize("leaf", sorted(modules.LEAVES))
def test_a_leaf_knows_nothing_and_everybody_but_the_mailbox_knows_it(root: Path, leaf: str) -> None:
    server(
        root, **{leaf: f"{HEADER}use crate::stream::Stream;\n", "stream__mod": f"{HEADER}use crate::{leaf}::Thing;\n"}
    )
    assert list(modules.arrows(root)) == [f"{SERVER}/{leaf}.rs:2: {leaf} must not know stream"]
    server(root, mailbox=f"{HEADER}use crate::{leaf}::Thing;\n", **{leaf: HEADER})
    allowed = leaf in {"clock", "sync"}
    assert list(modules.arrows(root)) == ([] if allowed else [f"{SERVER}/mailbox.rs:2: mailbox must not know {leaf}"])


@pytest.mark.parametrize(
    "path",
    [
        "use crate::{clock::Ticks, directory::Directory};",
        "use crate::{\n    clock::Ticks,\n    directory::{self, Directory},\n};",
        "use super::super::directory;",
        "fn look(directory: &crate::directory::Directory) {}",
        "pub(crate) use crate::directory::Directory as Names;",
    ],
)
def test_a_path_is_found_however_it_is_written(root: Path, path: str) -> None:
    server(root, clock=HEADER, directory=HEADER, shard__mod=HEADER, shard__walk=f"{HEADER}{path}\n")
    assert {line.partition(": ")[2] for line in modules.arrows(root)} == {"shard must not know directory"}


def test_paths_in_tests_and_comments_do_not_count(root: Path) -> None:
    text = f"{HEADER}//! See [`crate::server`].\n#[cfg(test)]\nmod tests {{\n    use crate::server::Server;\n}}\n"
    declared = f"{HEADER}#[cfg(test)]\nmod tests;\n"
    model = f"{HEADER}#[cfg(loom)]\nmod model {{\n    use crate::server::Server;\n}}\n"
    server(root, stream__mod=text, delivery=model, server=HEADER)
    server(root, run__mod=declared, run__tests=f"{HEADER}use crate::server::Server;\n")
    server(root, run__tests__ending=f"{HEADER}use crate::server::Server;\n")
    assert list(modules.arrows(root)) == []


# ---- Circles -------------------------------------------------------------------------------


def test_files_that_know_each_other_are_reported(root: Path) -> None:
    server(root, accept=f"{HEADER}use crate::socket::Socket;\n", socket=f"{HEADER}use crate::accept::Accept;\n")
    (found,) = modules.cycles(root)
    assert found.endswith("these files know each other in a circle: accept -> socket -> accept")


def test_a_circle_through_a_folder_and_a_re_export_is_reported(root: Path) -> None:
    server(root, shard__mod=f"{HEADER}mod walk;\nmod feed;\npub(crate) use walk::Walk;\n")
    server(root, shard__walk=f"{HEADER}use super::feed::Feed;\n", shard__feed=f"{HEADER}use super::Walk;\n")
    (found,) = modules.cycles(root)
    assert found.endswith("in a circle: shard::feed -> shard::walk -> shard::feed")


def test_a_chain_and_a_folder_s_shared_types_are_no_circle(root: Path) -> None:
    server(root, run__mod=f"{HEADER}mod pipe;\nmod spec;\npub use spec::Spec;\npub struct Shared;\n")
    server(root, run__pipe=f"{HEADER}use super::{{Shared, Spec}};\n", run__spec=f"{HEADER}use super::Shared;\n")
    server(root, sink=f"{HEADER}use crate::run::Spec;\n")
    assert list(modules.cycles(root)) == []


# ---- The Python package --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "line", "reason"),
    [
        ("_watch.py", "import ctypes", "not through ctypes"),
        ("demos/app.py", "import ctypes", "not through ctypes"),
        ("_watch.py", "import sse_fast._core", "write `from ._core import ...`"),
        ("demos/app.py", "from sse_fast._core import Stream", "a demo uses the public API"),
        ("demos/app.py", "from .._watch import Watch", "a demo uses the public API"),
        ("runner.py", "from ._settings import SETTINGS", "must not import ._settings"),
        ("queue.py", "import os", "Python's own queue"),
    ],
)
def test_an_import_that_is_not_allowed_is_reported(root: Path, path: str, line: str, reason: str) -> None:
    write(root, f"{packages.PACKAGE}/{path}", f'"""A module."""\n{line}\n')
    (found,) = packages.imports(root)
    assert reason in found


def test_an_import_for_type_checkers_is_allowed(root: Path) -> None:
    text = '"""A module."""\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ._settings import SETTINGS\n'
    write(root, f"{packages.PACKAGE}/runner.py", text)
    assert list(packages.imports(root)) == []


# ---- Headers and sizes ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("rust/a/src/lib.rs", "pub fn f() {}\n"),
        ("python/sse_fast/a.py", "import os\n"),
        ("python/sse_fast/a.js", "const a = 1;\n"),
        ("tests/test_a.py", "import os\n"),
        ("scripts/a", "#!/usr/bin/env bash\nset -e\n"),
        ("scripts/b", "#!/usr/bin/env python3\nimport os\n"),
        ("scripts/architecture/a.py", "import os\n"),
    ],
)
def test_a_file_without_a_header_is_reported(root: Path, path: str, text: str) -> None:
    write(root, path, text)
    assert list(shape.headers_and_files(root)) == [f"{path}: it must open with what it is about"]


def test_a_long_file_says_why(root: Path) -> None:
    write(root, "rust/a/src/lib.rs", HEADER + "pub const A: u8 = 1;\n" * shape.MAX_FILE)
    (found,) = shape.headers_and_files(root)
    assert found == f"rust/a/src/lib.rs: {shape.MAX_FILE + 1} lines; its header must say why it is so long"
    write(root, "rust/a/src/lib.rs", "//! Long because of its tables.\n" + "pub const A: u8 = 1;\n" * shape.MAX_FILE)
    assert list(shape.headers_and_files(root)) == []


def test_the_tests_in_a_rust_file_do_not_make_it_long(root: Path) -> None:
    tests = "#[cfg(test)]\nmod tests {\n" + "    const A: u8 = 1;\n" * shape.MAX_FILE + "}\n"
    write(root, "rust/a/src/lib.rs", HEADER + tests)
    assert list(shape.headers_and_files(root)) == []


BODY = "    let a = 1;\n" * shape.MAX_FUNCTION


@pytest.mark.parametrize("head", ["fn f() {", "pub(crate) async fn f(\n    a: u8,\n) -> u8\nwhere\n    u8: Copy,\n{"])
def test_a_long_rust_function_says_why(root: Path, head: str) -> None:
    write(root, "rust/a/src/lib.rs", f"{HEADER}/// Does it.\n{head}\n{BODY}}}\n\nfn g() {{}}\n")
    (found,) = shape.functions(root)
    assert found.startswith("rust/a/src/lib.rs:3: f has ")
    write(root, "rust/a/src/lib.rs", f"{HEADER}/// Long: one arm for each setting.\n#[inline]\n{head}\n{BODY}}}\n")
    assert list(shape.functions(root)) == []


def test_a_long_python_function_says_why_and_its_docstring_does_not_count(root: Path) -> None:
    body = "    a = 1\n" * shape.MAX_FUNCTION
    write(root, "python/sse_fast/a.py", f'"""A module."""\n\n\ndef f():\n    """Does it."""\n{body}')
    (found,) = shape.functions(root)
    assert found == "python/sse_fast/a.py:4: f has 61 lines; its comment must say why it is so long"
    write(root, "python/sse_fast/a.py", f'"""A module."""\n\n\ndef f():\n    """Long: a case for each type."""\n{body}')
    assert list(shape.functions(root)) == []
    text = "    A line.\n" * shape.MAX_FUNCTION
    write(
        root, "python/sse_fast/a.py", f'"""A module."""\n\n\ndef f():\n    """Does it.\n\n{text}    """\n    return 1\n'
    )
    assert list(shape.functions(root)) == []


# ---- Words ---------------------------------------------------------------------------------


@pytest.mark.parametrize("word", list(comments.INSTEAD))
@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("rust/a/src/lib.rs", "{header}fn f() {{}} // It waits\n    // {word}.\n"),
        ("rust/a/src/lib.rs", "{header}\n/// It waits {word}.\n"),
        ("python/sse_fast/a.js", "/** A file.\n * {word}. */\n"),
        ("python/sse_fast/a.py", '"""A module.\n\n{word}\n"""\n'),
        ("tests/test_a.py", '"""A module."""\n\na = 1  # It waits\n# {word}.\n'),
        ("scripts/a", "#!/usr/bin/env bash\n# It waits {word}.\n"),
    ],
)
def test_a_word_that_the_house_does_not_use_is_reported_with_its_line(
    root: Path, path: str, text: str, word: str
) -> None:
    filled = text.format(header=HEADER, word=word.capitalize())
    write(root, path, filled)
    (found,) = comments.words(root)
    line = filled[: filled.index(word.capitalize())].count("\n") + 1
    assert found.startswith(f"{path}:{line}: {word!r} is not a word of this house")


def test_words_that_a_line_s_end_parts_are_found(root: Path) -> None:
    write(root, "rust/a/src/lib.rs", "//! It would wait for\n//! ever.\n")
    write(root, "python/sse_fast/a.py", '"""A module."""\n\n# It would wait for\n# ever.\n')
    assert len(list(comments.words(root))) == 2


def test_words_in_code_and_texts_are_left_alone(root: Path) -> None:
    write(root, "rust/a/src/lib.rs", HEADER + 'fn f() -> &str { "meanwhile" }\n')
    write(root, "python/sse_fast/a.py", '"""A module."""\n\nmeanwhile = "for ever"\n')
    write(root, "python/sse_fast/a.js", '/** A file. */\n// A comment.\nsay("meanwhile");\n')
    assert list(comments.words(root)) == []


def test_a_public_name_with_another_word_is_reported() -> None:
    found = list(names.wrong_words(["Stream.send", "max_queue", "RunManager", "Server.get", "Stream.publish"]))
    assert [line.partition(":")[0] for line in found] == ["Stream.send", "max_queue", "RunManager"]


def test_public_names_are_those_of_the_package() -> None:
    assert {"Stream", "Server.run", "history", "published", "runner.emit"} <= set(names.public_names())


def test_what_was_built_is_not_read(root: Path) -> None:
    write(root, "rust/target/debug/build/a.rs", "fn f() {}\n")
    assert list(tree.sources(root)) == []
