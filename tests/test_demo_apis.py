"""The demos' routes are those that their guides list.

Guards that a route which is added, renamed or taken away changes the table of its guide with it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import sse_fast
from conftest import Serve
from sse_fast import demos

GUIDES = Path(__file__).resolve().parents[1] / "docs" / "guides"
METHODS = ("get", "post", "put", "patch", "delete")
#: What every demo's page uses: where the table of it is.
SHARED = "benchmarks"

Routes = list[tuple[str, str]]


class Recorder:
    """A server that notes what is routed on it."""

    def __init__(self, server: sse_fast.Server) -> None:
        self.routes: Routes = []
        self._server = server

    def __enter__(self) -> object:
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.close(drain=0.0)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._server, name)
        if name not in {*METHODS, "route"}:
            return found

        def noted(path: str, *arguments: Any, **options: Any) -> Any:
            self.routes.append(("GET" if name == "route" else name.upper(), path))
            return found(path, *arguments, **options)

        return noted


def listed(guide: str) -> list[Routes]:
    """The rows of each table of routes in a guide."""
    text = (GUIDES / f"{guide}.md").read_text(encoding="utf-8")
    tables = text.split("| method | path | what it answers |\n|---|---|---|\n")[1:]
    rows = re.compile(r"^\| ([A-Z]+) \| `(/[^`]+)` \| \S.*\. \|$", re.MULTILINE)
    found = []
    for table in tables:
        lines = table.split("\n\n")[0].strip().splitlines()
        found.append(rows.findall("\n".join(lines)))
        assert len(found[-1]) == len(lines), "a row has another form"
    return found


@pytest.fixture(name="place")
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> demos.Place:
    monkeypatch.setattr(demos, "install_site", lambda *_: None)  # Pages, scripts and pictures.
    return demos.Place(tmp_path, local=True, speed=1000.0)


@pytest.mark.parametrize("demo", demos.DEMOS, ids=lambda demo: demo.name)
def test_a_guide_lists_every_route_of_its_demo(serve: Serve, place: demos.Place, demo: demos.Demo) -> None:
    recorder: Any = Recorder(serve())
    demo.install(recorder, place)
    own = listed(demo.path.removeprefix("/"))[0]
    assert len(own) > 2
    assert sorted(own) == sorted(recorder.routes)


def test_what_all_demos_share_is_listed_too(serve: Serve, place: demos.Place, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(serve())
    monkeypatch.setattr(demos, "serve", lambda *_, **__: recorder)
    assert next(demos.lives(place)) is recorder  # type: ignore[comparison-overlap]
    assert sorted(listed(SHARED)[1]) == sorted(recorder.routes)
    assert len(recorder.routes) == 2
