"""What the demos' pages have in common: the index, the bar, the shared files, and how a demo's own files are served.

Owns: what a demo says of itself (`Demo`), content types, the security headers of every page. Must not know: any demo.

A demo is a package with a `page.html`, its scripts and style sheets, and a `DEMO`. In its pages ``<!-- bar -->`` stands
for the bar that leads to all demos.

Invariant: no page has inline script or style or loads anything from elsewhere, and the browser is told so; that makes
the policy below possible, and a kernel's output that ended up in a page could do nothing.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import sse_fast

_PACKAGE = "sse_fast.demos"
_SHARED = ("base.css", "site.js", "favicon.svg")
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # The files change with the package; asking each time costs nothing on the machine they come from.
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where the demos run.

    Attributes:
        data: the folder of their databases; it may not exist yet.
        local: whether only this computer can reach the server: visitors may then run code of their own and restart it.
        speed: how much faster than real life what is simulated goes.
        store: the folder in which the server keeps its streams across restarts; None keeps them in memory.
    """

    data: Path
    local: bool
    speed: float
    store: Path | None = None


@dataclass(frozen=True, slots=True)
class Demo:
    """One demo: what the index and the bar say of it, and how it is added to a server.

    Attributes:
        path: where its page is; its files are below.
        name: its link in the bar.
        title: its heading in the index.
        summary: what it shows.
        failed: what went wrong in the system that it comes from.
        package: the package that has `page.html`, and its scripts and style sheets.
        install: adds its routes to a server, all but those of these files.
    """

    path: str
    name: str
    title: str
    summary: str
    failed: str
    package: str
    install: Callable[[sse_fast.Server, Place], None]


def install_site(server: sse_fast.Server, demos: Sequence[Demo]) -> None:
    """Serves the index of `demos` at ``/``, the page of each with its files, and what every page uses."""
    cards = "\n".join(map(_card, demos))
    index = _file(_PACKAGE, "index.html").decode().replace("<!-- cards -->", cards)
    _serve(server, "/", "index.html", _with_bar(index, demos, "/"))
    for name in _SHARED:
        _serve(server, f"/demos/{name}", name, _file(_PACKAGE, name))
    for demo in demos:
        page = _file(demo.package, "page.html").decode()
        _serve(server, demo.path, "page.html", _with_bar(page, demos, demo.path))
        for name in sorted(file.name for file in resources.files(demo.package).iterdir()):
            if name.endswith((".css", ".js", ".svg")):
                _serve(server, f"{demo.path}/{name}", name, _file(demo.package, name))


def _serve(server: sse_fast.Server, path: str, name: str, body: bytes) -> None:
    response = sse_fast.Response(body, headers=_HEADERS, content_type=_TYPES[Path(name).suffix])
    server.get(path)(lambda _request: response)


def _file(package: str, name: str) -> bytes:
    return resources.files(package).joinpath(name).read_bytes()


def _with_bar(page: str, demos: Sequence[Demo], path: str) -> bytes:
    links = "".join(
        f'<a href="{demo.path}"{" aria-current=page" if demo.path == path else ""}>{html.escape(demo.name)}</a>'
        for demo in demos
    )
    bar = (
        '<a class="skip" href="#main">Skip to the content</a>'
        '<header class="bar"><div class="bar-inside"><a class="brand" href="/">'
        '<img src="/demos/favicon.svg" alt="" width="22" height="22">sse_fast</a>'
        f'<nav class="demos" aria-label="Demos">{links}</nav></div></header>'
    )
    return page.replace("<!-- bar -->", bar).encode()


def _card(demo: Demo) -> str:
    title, summary, failed = (html.escape(text) for text in (demo.title, demo.summary, demo.failed))
    return (
        f'<li><a class="card" href="{demo.path}"><h2>{title}</h2><p>{summary}</p>'
        f'<p class="failed"><b>What failed:</b> {failed}</p></a></li>'
    )
