"""The documentation site, as `make site` builds it.

Guards that every link inside it leads somewhere, also to the heading that it names; that a reader's browser fetches
nothing from elsewhere; and that every page of docs/ can be found in its menu.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest

from support.site import built

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.timeout(180)


class Page(HTMLParser):
    """What a page of the site links to, what it fetches, and which places in it can be linked to."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.places: set[str] = {""}
        self.code = ""
        self.prose = ""
        self._inside: list[str] = []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in {"pre", "script", "style"}:
            self._inside.append(tag)
        values = {name: value or "" for name, value in attrs}
        self.places |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag in {"script", "img", "iframe", "source"} and "src" in values:
            self.fetched.append(values["src"])
        if tag == "link" and values.get("rel") != "canonical" and "href" in values:
            self.fetched.append(values["href"])

    def handle_endtag(self, tag: str) -> None:
        if self._inside and tag == self._inside[-1]:
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        if not self._inside:
            self.prose += data
        elif self._inside[-1] == "pre":
            self.code += data


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory)


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Page]:
    return {str(file.relative_to(site)): Page(file) for file in sorted(site.rglob("*.html"))}


def test_every_link_leads_somewhere(site: Path, pages: dict[str, Page]) -> None:
    wrong = []
    for name, page in pages.items():
        for link in [*page.links, *page.fetched]:
            target = urlsplit(urljoin(f"http://site/{name}", link))
            if urlsplit(link).scheme or name == "404.html":
                continue
            path = unquote(target.path).lstrip("/")
            path = path + "index.html" if path.endswith("/") or not path else path
            known = path in pages and unquote(target.fragment) in pages[path].places
            if not known and not (not target.fragment and (site / path).is_file()):
                wrong.append(f"{name}: {link}")
    assert not wrong
    assert sum(len(page.links) for page in pages.values()) > 500


def test_nothing_is_fetched_from_elsewhere(site: Path, pages: dict[str, Page]) -> None:
    for name, page in pages.items():
        assert not [address for address in page.fetched if re.match(r"(?:[a-z]+:)?//", address)], name
    for style in site.rglob("*.css"):
        assert not re.findall(r"url\(['\"]?(?:https?:)?//", style.read_text(encoding="utf-8")), style


def test_every_page_is_in_the_menu(pages: dict[str, Page]) -> None:
    sources = {str(path.relative_to(ROOT / "docs").with_suffix(".html")) for path in (ROOT / "docs").rglob("*.md")}
    linked = {urlsplit(urljoin("http://site/index.html", link)).path.lstrip("/") for link in pages["index.html"].links}
    assert len(sources) > 25
    assert sources <= linked | {"index.html"}


@pytest.mark.parametrize(
    ("page", "example"), [("guides/workflow.html", "workflow.py"), ("frameworks.html", "flask_events.py")]
)
def test_an_example_is_shown_as_it_is(pages: dict[str, Page], page: str, example: str) -> None:
    assert (ROOT / "examples" / example).read_text(encoding="utf-8").strip() in pages[page].code


def test_every_public_name_is_in_the_reference(pages: dict[str, Page]) -> None:
    import sse_fast
    from sse_fast import asgi, testing, wsgi

    places = set[str]().union(*(page.places for page in pages.values()))
    classes = {name for name in sse_fast.__all__ if isinstance(getattr(sse_fast, name), type)}
    known = {place.rpartition(".")[2] for place in places if place.startswith("sse_fast.")}
    #: Types that annotations alone name, and what the texts of others say.
    left_out = {
        "Encoder",
        "Exists",
        "Handler",
        "Heartbeat",
        "Poll",
        "RunArgument",
        "ServeSettings",
        "StreamOptions",
        "Until",
    }
    assert classes - known <= left_out
    for module in (asgi, wsgi, testing):
        assert {f"{module.__name__}.{name}" for name in module.__all__ if not name.startswith("sse_")} <= places


def test_examples_in_docstrings_are_shown_as_code(pages: dict[str, Page]) -> None:
    page = pages["reference/stream.html"]
    assert page.code.count(">>> ") > 30
    assert ">>> " not in page.prose
