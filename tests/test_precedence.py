"""Which of several answers a path gets: the package's own file, a handler, a route.

Guards that a file of the package gives way to what the application puts on its path,
and that nothing of the application gives way to anything.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

import sse_fast
from support.reader import Reader, fetch

#: Served by every server, from the package.
FILE = "/sse-fast.js"


def put_handler(server: sse_fast.Server, path: str) -> None:
    server.get(path)(lambda _req: "the application's")


def put_route(server: sse_fast.Server, path: str) -> None:
    server.route(path, "s")


def test_a_handler_takes_the_place_of_a_file(server: sse_fast.Server) -> None:
    assert fetch(server.port, FILE)[0]["content-type"].startswith("text/javascript")
    put_handler(server, FILE)
    head, body = fetch(server.port, FILE)
    assert (head.status, body) == (200, b'"the application\'s"')
    assert fetch(server.port, FILE, method="HEAD")[0]["content-type"] == head["content-type"]
    assert fetch(server.port, "/sse-fast.d.ts")[0].status == 200


def test_a_route_takes_the_place_of_a_file(server: sse_fast.Server) -> None:
    server.stream("s", start="all").publish("x")
    put_route(server, FILE)
    with Reader(server.port, FILE) as reader:
        assert reader.open().next().data == "x"


def test_a_handler_of_another_method_stands_beside_a_file(server: sse_fast.Server) -> None:
    file = fetch(server.port, FILE)[1]
    server.post(FILE)(lambda _req: "posted")
    assert fetch(server.port, FILE, method="POST")[1] == b'"posted"'
    assert fetch(server.port, FILE)[1] == file


def test_a_template_does_not_reach_a_file(server: sse_fast.Server) -> None:
    """An exact path wins, the package's as well."""
    put_handler(server, "/{name}")
    assert fetch(server.port, FILE)[0]["content-type"].startswith("text/javascript")
    assert fetch(server.port, "/other")[1] == b'"the application\'s"'


@pytest.mark.parametrize("first", [put_handler, put_route])
@pytest.mark.parametrize("second", [put_handler, put_route])
@pytest.mark.parametrize("path", [FILE, "/own", "/own/{name}"])
def test_what_the_application_put_first_stays(
    server: sse_fast.Server,
    path: str,
    first: Callable[[sse_fast.Server, str], None],
    second: Callable[[sse_fast.Server, str], None],
) -> None:
    first(server, path)
    with pytest.raises(sse_fast.RouteError, match="/"):
        second(server, path)
    head, _ = fetch(server.port, path.replace("{name}", "x"), headers=[("Accept", "application/json")])
    # A route leads to a stream that nobody made.
    assert head.status == (200 if first is put_handler else 404)
