"""`scripts/run-tests` parts the tests in two: each runs, none twice; what says how soon something must be is alone.

A test that is given little time by the clock would fail where others keep the machine busy, so it is marked `alone`.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
#: Of its tests one is alone.
SOME = TESTS / "test_rights_given.py"
#: Seconds; a test that waits longer than this for something only guards against hanging.
SOON = 5.0


#: Of pytest's plugins only what the configuration names: most of these short runs would be imports.
PLAIN = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": "-p pytest_timeout -p xdist.plugin"}


def collected(*arguments: str) -> list[str]:
    """The names of the tests of a file of which some run alone."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "--quiet", SOME, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=TESTS.parent, env=PLAIN)
    return [line for line in done.stdout.splitlines() if "::" in line]


def test_both_parts_together_are_all_tests() -> None:
    among_others, alone = collected("--alone", "leave"), collected("--alone", "only")
    assert among_others
    assert alone
    assert sorted(among_others + alone) == sorted(collected())


@pytest.mark.parametrize(("chosen", "code"), [("nobody_is_named_so", 5), ("keys_are_being_fetched", 0)])
def test_to_choose_no_test_at_all_is_a_failure_and_none_of_one_part_is_not(chosen: str, code: int) -> None:
    script = TESTS.parent / "scripts" / "run-tests"
    command = [script, sys.executable, "0", SOME, "-k", chosen, "--collect-only"]
    assert subprocess.run(command, check=False, capture_output=True, cwd=TESTS.parent, env=PLAIN).returncode == code


# ---- What says how soon ----


def is_marked(node: ast.AST) -> bool:
    return any(ast.unparse(one).startswith("pytest.mark.alone") for one in getattr(node, "decorator_list", ()))


def says_how_soon(node: ast.AST) -> bool:
    """Whether it bounds a time from above: `until(..., 1.0)`, `time.monotonic() - began < 2.0`."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) in {"until", "until_async"}:
        given = [*node.args[1:2], *(word.value for word in node.keywords if word.arg == "deadline")]
        return any(isinstance(one, ast.Constant) and one.value <= SOON for one in given)
    if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Lt | ast.LtE):
        limit = node.comparators[0]
        timed = "monotonic()" in ast.unparse(node.left)
        return timed and isinstance(limit, ast.Constant) and limit.value <= SOON
    return False


def hasty(text: str) -> Iterator[str]:
    """Functions that say how soon something must be, and are not marked."""
    for function in ast.parse(text).body:
        if isinstance(function, ast.FunctionDef) and not is_marked(function):
            yield from (function.name for node in ast.walk(function) if says_how_soon(node))


def test_what_says_how_soon_something_must_be_runs_alone() -> None:
    found = {file.name: [*hasty(file.read_text(encoding="utf-8"))] for file in TESTS.glob("test_*.py")}
    assert {name: tests for name, tests in found.items() if tests} == {}


@pytest.mark.parametrize(
    "line", ["until(lambda: x, 1.0)", "until(go, deadline=5)", "assert time.monotonic() - began < 2.0"]
)
def test_a_test_that_says_how_soon_is_found(line: str) -> None:
    assert list(hasty(f"def test_a():\n    {line}\n")) == ["test_a"]
    assert list(hasty(f"@pytest.mark.alone\ndef test_a():\n    {line}\n")) == []


@pytest.mark.parametrize("line", ["until(lambda: x)", "until(go, 60)", "assert time.monotonic() - began >= 2.0"])
def test_a_guard_against_hanging_may_run_among_others(line: str) -> None:
    assert list(hasty(f"def test_a():\n    {line}\n")) == []


@pytest.mark.alone
def test_who_is_alone_is_in_no_worker() -> None:
    assert "PYTEST_XDIST_WORKER" not in os.environ
