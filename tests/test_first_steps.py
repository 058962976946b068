"""What `make` says on a machine that lacks something: Rust, a C compiler, a Python that can make environments.

The scripts run in a copy of their folder, on a PATH that has what every system has and nothing else. Guards that each
thing that is missing is named, with the one command to run, and that nothing is fetched where nothing is missing.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

#: What the scripts may take for granted.
TOOLS = ("bash", "cat", "dirname", "env", "head", "id", "mkdir", "rm", "sed", "sort", "uname")


class Machine:
    """A copy of the project's scripts, and a PATH of its own."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "project"
        self.path = folder / "bin"
        self.path.mkdir()
        self.root.mkdir()
        shutil.copytree(ROOT / "scripts", self.root / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "Cargo.toml", self.root)
        for tool in TOOLS:
            found = shutil.which(tool)
            assert found is not None, tool
            (self.path / tool).symlink_to(found)

    def has(self, name: str, script: str, *, folder: Path | None = None) -> None:
        """A program of that name."""
        file = (folder or self.path) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"#!{self.path / 'bash'}\n{script}\n")
        file.chmod(0o755)

    def has_rust(self, version: str, *, folder: Path | None = None) -> None:
        """A toolchain, as far as it is asked for its version."""
        for name in ("cargo", "rustc"):
            self.has(name, f"echo '{name} {version} (0123456789 2026-01-01)'", folder=folder)

    def run(self, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
        """A script, where no package can be fetched."""
        return subprocess.run(
            [str(self.root / "scripts" / command[0]), *command[1:]],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
            env={"PATH": str(self.path), "HOME": str(self.root), "PIP_NO_INDEX": "1", "PIP_RETRIES": "0", **env},
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


# ---- Rust ----------------------------------------------------------------------------------


def test_with_everything_there_nothing_is_said(machine: Machine) -> None:
    machine.has_rust("1.95.0")
    machine.has("cc", "")
    done = machine.run("with-rust", "cargo", "build")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("cargo 1.95.0")


@pytest.mark.parametrize("version", ["1.88.0", "1.100.0", "2.0.0"])
def test_a_version_is_compared_as_one(machine: Machine, version: str) -> None:
    machine.has_rust(version)
    machine.has("cc", "")
    assert machine.run("with-rust", "cargo").returncode == 0


@pytest.mark.parametrize(("installed", "found"), [(None, "none is on PATH"), ("1.63.0", "only 1.63.0 is on PATH")])
def test_without_a_toolchain_it_says_what_it_fetches_and_what_to_run(
    machine: Machine, installed: str | None, found: str
) -> None:
    if installed is not None:
        machine.has_rust(installed)
    machine.has("cc", "")
    done = machine.run("with-rust", "cargo", "build", PYO3_PYTHON=sys.executable)
    assert done.returncode == 1
    assert found in done.stderr
    assert "fetching a toolchain into .rust" in done.stderr
    assert done.stderr.count("curl ") == 1
    assert "run make again" in done.stderr
    assert "Traceback" not in done.stderr


def test_with_rustup_there_it_names_rustup(machine: Machine) -> None:
    machine.has_rust("1.63.0")
    machine.has("rustup", "")
    done = machine.run("with-rust", "cargo", "build", PYO3_PYTHON=sys.executable)
    assert "rustup update stable" in done.stderr
    assert "curl" not in done.stderr


def test_a_toolchain_that_does_not_work_is_none(machine: Machine) -> None:
    """As rustup's, before a toolchain is chosen."""
    machine.has("cargo", "exit 1")
    machine.has("rustc", "exit 1")
    assert "none is on PATH" in machine.run("with-rust", "cargo", PYO3_PYTHON=sys.executable).stderr


def test_the_project_s_own_toolchain_is_fetched_once(machine: Machine) -> None:
    machine.has_rust("1.63.0")
    machine.has("cc", "")
    machine.has_rust("1.95.0", folder=machine.root / ".rust" / "cargo" / "bin")
    done = machine.run("with-rust", "cargo", "build")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("cargo 1.95.0")


def test_a_missing_c_compiler_is_named(machine: Machine) -> None:
    machine.has_rust("1.95.0")
    done = machine.run("with-rust", "cargo", "build")
    assert done.returncode == 1
    assert "there is no cc on PATH" in done.stderr


def test_who_may_not_install_is_told_the_command(machine: Machine) -> None:
    machine.has_rust("1.95.0")
    machine.has("apt-get", "exit 1")
    (machine.path / "id").unlink()
    machine.has("id", "echo 1000")
    done = machine.run("with-rust", "cargo", "build")
    assert done.returncode == 1
    assert "    sudo apt-get " in done.stderr
    assert " install --yes --quiet --no-install-recommends gcc libc6-dev" in done.stderr


# ---- Python --------------------------------------------------------------------------------


def test_an_old_python_is_named_and_another_asked_for(machine: Machine) -> None:
    machine.has("python3", 'case "$2" in *print*) echo 3.9 ;; *) exit 1 ;; esac')
    done = machine.run("make-venv", str(machine.root / ".venv"))
    assert done.returncode == 1
    assert "no Python from 3.10 on was found (python3 is 3.9)" in done.stderr
    assert "PYTHON=/path/to/python make" in done.stderr
    assert "    uv python install 3.13" in done.stderr


def test_without_any_python_it_says_so(machine: Machine) -> None:
    done = machine.run("make-venv", str(machine.root / ".venv"))
    assert done.returncode == 1
    assert "no Python from 3.10 on was found:" in done.stderr


def test_a_python_without_its_modules_is_named(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "ensurepip.py").write_text("raise ImportError")
    done = machine.run("make-venv", str(machine.root / ".venv"), PYTHON=sys.executable, PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert "lacks its modules venv and ensurepip" in done.stderr
    assert "PYTHON=/path/to/python make" in done.stderr


def test_a_python_that_has_them_is_preferred_to_an_earlier_one(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "lacking" / "ensurepip").mkdir(parents=True)
    (tmp_path / "lacking" / "ensurepip" / "__init__.py").write_text("raise ImportError")
    machine.has("lacking", f'PYTHONPATH={tmp_path / "lacking"} exec {sys.executable} "$@"')
    # It stops at pip, which cannot be fetched here: the environment has been made by then.
    machine.run("make-venv", str(machine.root / ".venv"), PYTHON=f"lacking {sys.executable}")
    assert (machine.root / ".venv" / "bin" / "python").exists()
