"""The public face as types: annotations that resolve, and what type checkers make of a program that wraps every call.

Guards `typing.get_type_hints` of every public name (`wheel_smoke.py` does it on every Python, without
typing_extensions), `mypy --strict` and pyright on `typing/program.py`, and that both refuse what is wrong.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import subprocess
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

import sse_fast
from sse_fast import _hints, runner, testing

FOLDER = Path(__file__).with_name("typing")
PROGRAM, REFUSED = FOLDER / "program.py", FOLDER / "refused.py"
MODULES = (sse_fast, runner, testing)


def members() -> Iterator[tuple[str, str, Any]]:
    """Public classes' own public members: class, name, member."""
    for name in sse_fast.__all__:
        value = getattr(sse_fast, name)
        if issubclass(type(value), type) and not typing.is_typeddict(value):
            for member, found in vars(value).items():
                if not member.startswith("_") or member == "__init__":
                    yield name, member, found


def annotated() -> list[Any]:
    found = [(f"{m.__name__}.{name}", getattr(m, name)) for m in MODULES for name in m.__all__]
    found += [(f"{name}.{member}", getattr(value, "fget", value)) for name, member, value in members()]
    wrapped = [(name, getattr(value, "__wrapped__", value)) for name, value in found]
    return [pytest.param(value, id=name) for name, value in wrapped if isinstance(value, (type, types.FunctionType))]


@pytest.mark.parametrize("value", annotated())
def test_annotations_resolve(value: Any) -> None:
    hints = typing.get_type_hints(value)
    if isinstance(value, types.FunctionType):
        parameters = {name for name in inspect.signature(value).parameters if name != "self"}
        assert parameters | {"return"} == set(hints)


@pytest.mark.parametrize("name", [name for name in sse_fast.__all__ if name not in {"__version__", "serve"}])
def test_each_exported_type_is_an_annotation_wherever_it_is_used(name: str) -> None:
    """Also the type of a callable, which may hold names of its own module."""

    def takes(value: object) -> None: ...

    takes.__annotations__["value"] = value = getattr(sse_fast, name)
    assert typing.get_type_hints(takes)["value"] == value


def test_every_type_that_a_public_call_takes_or_returns_is_public() -> None:
    """A name of a private module in an annotation is one that nobody can write."""
    known = {id(getattr(sse_fast, name)) for name in sse_fast.__all__}
    for parameter in annotated():
        for hint in typing.get_type_hints(parameter.values[0]).values():
            for part in parts(hint):
                if not isinstance(part, TypeVar) and str(getattr(part, "__module__", "")).startswith("sse_fast"):
                    private = parameter.id.endswith("__init__")  # Made by the package alone.
                    assert private or id(part) in known, f"{parameter.id}: {part}"


def parts(hint: Any) -> Iterator[Any]:
    yield hint
    for inner in typing.get_args(hint):
        for each in inner if isinstance(inner, list) else [inner]:
            yield from parts(each)


def test_a_module_that_only_annotations_need_is_imported_when_they_are_resolved() -> None:
    def takes(loop: _hints.asyncio.AbstractEventLoop) -> None: ...

    import asyncio

    assert typing.get_type_hints(takes)["loop"] is asyncio.AbstractEventLoop


def test_the_program_wraps_every_public_call() -> None:
    tree = ast.parse(PROGRAM.read_text(encoding="utf-8"))
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    exported = {name for module in MODULES for name in module.__all__}
    assert exported <= used
    fields = {"subscribers", "retained", "retained_bytes", "silent_s"}  # Of dataclasses: one says how they are typed.
    counted = (
        *(sse_fast.ServerStats, sse_fast.BackplaneStats, sse_fast.ClosedConnections, sse_fast.GapReasons),
        sse_fast.Resumes,
    )
    stats = {*(field for kind in counted for field in vars(kind)["__slots__"]), *fields}
    assert {name for _, name, _ in members()} - {"__init__"} - stats <= used


def mypy(program: Path, cache: Path) -> dict[int, str]:
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--cache-dir", str(cache), str(program)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=cache)
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    found = re.findall(r"^.*?:(\d+): error: (.*)$", done.stdout, re.MULTILINE)
    return {int(line): text for line, text in found}


def pyright(program: Path, cache: Path) -> dict[int, str]:
    settings = cache / "pyrightconfig.json"
    settings.write_text(
        json.dumps({"typeCheckingMode": "strict", "include": [str(program)], "reportUnusedExpression": False})
    )
    command = [
        sys.executable,
        "-m",
        "basedpyright",
        "--project",
        str(settings),
        "--pythonpath",
        sys.executable,
        "--outputjson",
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=cache)
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["summary"]["filesAnalyzed"] == 1
    errors = [each for each in found["generalDiagnostics"] if each["severity"] == "error"]
    return {each["range"]["start"]["line"] + 1: each["message"] for each in errors}


CHECKERS = pytest.mark.parametrize("checker", [mypy, pyright], ids=["mypy", "pyright"])


@CHECKERS
@pytest.mark.timeout(180)
def test_a_strict_type_checker_accepts_a_program_that_wraps_every_call(checker: Any, tmp_path: Path) -> None:
    assert checker(PROGRAM, tmp_path) == {}


@CHECKERS
@pytest.mark.timeout(180)
def test_a_strict_type_checker_refuses_what_is_wrong(checker: Any, tmp_path: Path) -> None:
    lines = REFUSED.read_text(encoding="utf-8").splitlines()
    assert set(checker(REFUSED, tmp_path)) == {
        number for number, line in enumerate(lines, 1) if line.endswith("# refused")
    }
