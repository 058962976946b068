"""What the demos' pages have in common: the index, the shared style sheet, and how a package's files are served.

Owns: content types and the security headers of every page. Must not know: any demo beyond its `Demo`.

Invariant: no page has inline script or style or loads anything from elsewhere, and the browser is told so; that makes
the policy below possible, and a kernel's output that ended up in a page could do nothing.
"""

from __future__ import annotations

import html
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources

import sse_fast

_PACKAGE = "sse_fast.demos"
_Handler = Callable[[sse_fast.Request], sse_fast.Response]
_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
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
class Demo:
    """One demo as the index shows it."""

    path: str
    title: str
    summary: str


def install_site(server: sse_fast.Server, demos: Sequence[Demo]) -> None:
    """Serves the index of `demos` at ``/`` and what every page uses."""
    template = string.Template(_file(_PACKAGE, "index.html").decode())
    server.get("/")(_page(template.substitute(demos="\n".join(map(_card, demos))).encode(), "index.html"))
    install_files(server, "/demos", _PACKAGE, ["base.css", "favicon.svg"])


def install_files(server: sse_fast.Server, path: str, package: str, names: Sequence[str]) -> None:
    """Serves files of `package` below `path`, each under its own name."""
    for name in names:
        server.get(f"{path}/{name}")(page_of(package, name))


def page_of(package: str, name: str) -> _Handler:
    """A handler that answers with a file of `package`."""
    return _page(_file(package, name), name)


def _page(body: bytes, name: str) -> _Handler:
    response = sse_fast.Response(body, headers=_HEADERS, content_type=_TYPES[name.rpartition(".")[2]])
    return lambda _request: response


def _file(package: str, name: str) -> bytes:
    return resources.files(package).joinpath(name).read_bytes()


def _card(demo: Demo) -> str:
    title, summary = html.escape(demo.title), html.escape(demo.summary)
    return f'<li><a class="card" href="{demo.path}"><h2>{title}</h2><p>{summary}</p></a></li>'
