"""`sse-fast.js` without a browser: its parser, its answers to what servers may say, its types, and its package.

The cases are in `tests/js`; node's own test runner runs them. A missing node or compiler is a failure that names the
command, never a skip.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

import sse_fast

JS = Path(__file__).parent / "js"
STATIC = Path(__file__).parents[1] / "python" / "sse_fast" / "static"
INSTALL = "`make node` installs what the tests of sse-fast.js use"


def run(*command: str | Path, cwd: Path = JS) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def node() -> str:
    found = shutil.which("node")
    assert found, f"node is not installed; {INSTALL}"
    return found


def tool(name: str) -> Path:
    path = JS / "node_modules" / ".bin" / name
    assert path.exists(), f"{name} is not installed; {INSTALL}"
    return path


@pytest.mark.parametrize("file", sorted(JS.glob("*.test.mjs")), ids=lambda file: file.name)
def test_every_case_passes_under_node(file: Path) -> None:
    told = run(node(), "--test", "--test-reporter=tap", file)
    passed = int(told.split("# pass ")[1].split()[0])
    assert passed >= 10, told


def test_there_are_cases() -> None:
    assert {file.name for file in JS.glob("*.test.mjs")} >= {"parser.test.mjs", "reading.test.mjs", "tabs.test.mjs"}


def test_the_types_say_what_programs_may_write_and_what_not() -> None:
    run(node(), tool("tsc"), "--project", JS)


def test_every_option_has_a_type_and_every_type_an_option() -> None:
    """`connect` refuses an option that it does not know, so the two lists must be one."""
    script = (STATIC / "sse-fast.js").read_text(encoding="utf-8")
    defaults = script.split("const DEFAULTS = {\n")[1].split("\n};")[0]
    types = (STATIC / "sse-fast.d.ts").read_text(encoding="utf-8")
    options = types.split("export interface Options {\n")[1].split("\n}")[0]
    named = {line.strip().split("?:")[0] for line in options.splitlines() if line.startswith("  ") and "?:" in line}
    assert {line.strip().split(":")[0] for line in defaults.splitlines()} == named


def test_the_package_for_npm_holds_the_module_its_types_and_what_to_know() -> None:
    npm = shutil.which("npm")
    assert npm, f"npm is not installed; {INSTALL}"
    (packed,) = json.loads(run(npm, "pack", "--dry-run", "--json", cwd=STATIC))
    assert {file["path"] for file in packed["files"]} == {"README.md", "package.json", "sse-fast.d.ts", "sse-fast.js"}
    assert packed["name"] == "sse-fast-client"
    assert packed["version"] == sse_fast.__version__


def test_the_package_is_imported_by_its_name(tmp_path: Path) -> None:
    package = tmp_path / "node_modules" / "sse-fast-client"
    shutil.copytree(STATIC, package)
    program = tmp_path / "program.mjs"
    program.write_text('import { connect, Parser } from "sse-fast-client"; console.log(typeof connect, typeof Parser);')
    assert run(node(), program, cwd=tmp_path).split() == ["function", "function"]
