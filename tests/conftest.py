"""Fixtures: a server on a free port, a reader for it, and a browser.

Every test has a deadline (pytest-timeout) and leaves nothing behind: the server
is closed, the sockets are closed, and the processes a test started are ended.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import sse_fast
from support.reader import Reader

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

#: Tests that take minutes by the wall clock, for `make test-slow`; those inside other programs, for `make test-hosts`;
#: those of the documentation site and of the proxies that it shows, for `make test-site`.
collect_ignore = [name for name in ("slow", "hosts", "site") if not os.environ.get(f"RUN_{name.upper()}")]

# A shell starts what it puts in the background with SIGINT ignored, and every program that a test starts would inherit
# that: none of them could be interrupted.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

#: Files that take longest, begun first: a file is one worker's, and none should be left with a long one at the end.
LONGEST = (
    "test_counts.py",
    "test_clients_and_demos.py",
    "test_demo.py",
    "test_demo_approvals_page.py",
    "test_demo_benchmarks_page.py",
    "test_demo_approvals.py",
    "test_demo_pages.py",
    "test_demo_kernels.py",
    "test_module_states.py",
    "test_module_tabs.py",
    "test_on_event.py",
    "test_types.py",
    "test_runs.py",
    "test_workflow_page.py",
    "test_exit_matrix.py",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--alone",
        choices=("leave", "only"),
        help="what to do with tests that want the machine to themselves; without it they run among the others",
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """What runs alone is looked for only where the word is, because most of a short run would be imports."""
    if config.getoption("--alone") == "only" and collection_path.suffix == ".py":
        return "pytest.mark.alone" not in collection_path.read_text(encoding="utf-8") or None
    return None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Parts the tests that run at the same time from those that run alone, and puts the longest files first."""
    if part := config.getoption("--alone"):
        others = [item for item in items if (item.get_closest_marker("alone") is None) == (part == "only")]
        config.hook.pytest_deselected(items=others)
        left = set(others)
        items[:] = [item for item in items if item not in left]
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Halves of surrogates, which tests log and print, would not come through from a process of the tests."""
    return without_surrogates((yield))


def without_surrogates(data: Any) -> Any:
    if isinstance(data, str):
        return data.encode("utf-8", "backslashreplace").decode()
    if isinstance(data, dict):
        return {without_surrogates(name): without_surrogates(value) for name, value in data.items()}
    if isinstance(data, (list, tuple)):
        return type(data)(map(without_surrogates, data))
    return data


Serve = Callable[..., "sse_fast.Server"]
Open = Callable[..., Reader]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """A function that starts a server on a free port; all of them are closed at the end."""
    with contextlib.ExitStack() as stack:

        def start(port: int = 0, **settings: Any) -> sse_fast.Server:
            server = sse_fast.serve(port, **settings)
            stack.callback(server.close, drain=0.5)
            return server

        yield start


@pytest.fixture
def server(serve: Serve) -> sse_fast.Server:
    """A server with default settings."""
    return serve()


@pytest.fixture
def read(server: sse_fast.Server) -> Iterator[Open]:
    """A function that subscribes to the `server` fixture's streams; the stream `s` is made if need be."""
    with contextlib.ExitStack() as stack:

        def start(path: str = "/streams/s", **options: Any) -> Reader:
            if path == "/streams/s":
                server.stream("s")
            return stack.enter_context(Reader(server.port, path, **options))

        yield start


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    """A headless Chromium of this module's own."""
    from support.chromium import chromium

    with chromium() as driver:
        yield driver


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment in which the tests run must not change their results."""
    for name in list(os.environ):
        if name.startswith("SSE_FAST_"):
            monkeypatch.delenv(name)
