"""What the template of a path may be, and what it matches.

Guards `{name}` and `{*rest}`, that other frameworks' forms are refused with the right one, and that no encoding of a
path leads around what answers it.
"""

from __future__ import annotations

import json

import pytest

import sse_fast
from support.reader import Reader, fetch


def params(server: sse_fast.Server, path: str) -> dict[str, str] | int:
    head, body = fetch(server.port, path)
    return json.loads(body) if head.status == 200 else head.status


def test_a_rest_is_everything_that_follows_and_not_nothing(server: sse_fast.Server) -> None:
    server.get("/files/{*path}")(lambda req: req.params)
    assert params(server, "/files/a") == {"path": "a"}
    assert params(server, "/files/a/b%20c/d/") == {"path": "a/b c/d/"}
    assert params(server, "/files/a%2Fb") == {"path": "a/b"}
    assert (params(server, "/files/"), params(server, "/files")) == (404, 404)


def test_a_placeholder_is_one_segment_however_it_is_encoded(server: sse_fast.Server) -> None:
    server.get("/jobs/{kind}/{id}")(lambda req: req.params)
    assert params(server, "/jobs/g%20pu/7") == {"kind": "g pu", "id": "7"}
    assert params(server, "/%6Aobs/gpu%2F7") == {"kind": "gpu", "id": "7"}
    assert [params(server, path) for path in ("/jobs/gpu/4%2F2", "/jobs//7", "/jobs/gpu/", "/jobs/gpu")] == [404] * 4


def test_the_more_exact_wins(server: sse_fast.Server) -> None:
    for template in ("/a/{one}", "/a/b", "/a/b/{*rest}", "/a/b/c", "/{*rest}"):
        server.get(template)(lambda _req, template=template: template)
    for path, template in (
        ("/a/b", "/a/b"),
        ("/a/x", "/a/{one}"),
        ("/a/b/c", "/a/b/c"),
        ("/a/b/x/y", "/a/b/{*rest}"),
        ("/a/x/y", "/{*rest}"),
        ("/%61/%62", "/a/b"),
    ):
        assert json.loads(fetch(server.port, path)[1]) == template


def test_a_segment_and_a_rest_cannot_stand_in_the_same_place(server: sse_fast.Server) -> None:
    server.get("/a/{one}")(lambda _req: 1)
    with pytest.raises(sse_fast.RouteError, match=r"/a/\{one\}"):
        server.get("/a/{*rest}")(lambda _req: 1)


def test_a_guard_cannot_be_walked_around(server: sse_fast.Server) -> None:
    for name in ("secret", "alice/1"):
        server.stream(name, start="all").publish("SECRET")

    @server.get("/streams/{*name}")
    def guard(req: sse_fast.Request) -> None:
        raise sse_fast.HttpError(403, req.params["name"])

    for path in ("secret", "%73ecret", "alice/1", "alice%2F1", "alice%2f1", "/alice/1", "alice//1", "./secret"):
        for written in (f"/streams/{path}", f"/%73treams/{path}", f"/streams%2F{path}"):
            head, body = fetch(server.port, written, headers=[("Accept", "application/json")])
            assert (head.status, b"SECRET" in body) == (403, False), written


@pytest.mark.parametrize(
    ("template", "right"),
    [
        ("/f/{p:path}", "{*p}"),
        ("/f/{id:int}", "{id}"),
        ("/f/<int:id>", "{id}"),
        ("/f/<id>", "{id}"),
        ("/x/*", "{*rest}"),
        ("/x/**", "{*rest}"),
        ("/x/:id", "{id}"),
        ("/x/{name?}", "{name}"),
        ("/x/{*rest}/y", "last"),
        ("/x/a{*rest}", "last"),
        ("/x/a%20b", "decoded"),
    ],
)
def test_another_framework_s_form_is_refused_with_ours(server: sse_fast.Server, template: str, right: str) -> None:
    for register in (
        lambda: server.get(template)(lambda _req: None),
        lambda: server.delete(template)(lambda _req: None),
        lambda: server.route(template, "s"),
    ):
        with pytest.raises(sse_fast.RouteError) as caught:
            register()
        assert right in str(caught.value)
        assert repr(template).strip("'") in str(caught.value)


def test_a_stream_s_name_takes_a_rest_too(server: sse_fast.Server) -> None:
    server.route("/api/{*path}", "runs/{path}")
    server.route("/query", "runs/{*path}")
    server.route("/one", "runs/{path}")
    server.stream("runs/a/b", start="all").publish("x")
    for path in ("/api/a/b", "/query?path=a/b"):
        with Reader(server.port, path) as reader:
            assert reader.open().next().data == "x"
    assert [fetch(server.port, path)[0].status for path in ("/one?path=a/b", "/one?path=", "/query?path=")] == [404] * 3
    assert fetch(server.port, "/one")[0].status == 400
    assert fetch(server.port, "/one?path=%ff")[0].status == 400, "as in a path"
    with pytest.raises(sse_fast.RouteError, match=r"\{id\}"):
        server.route("/other", "runs/{id:int}")


@pytest.mark.parametrize(
    ("options", "named"),
    [({"exists": bool}, "exists"), ({"wait": 5.0}, "wait"), ({"exists": bool, "wait": 5.0}, "exists and wait")],
    ids=str,
)
def test_a_route_that_creates_has_nothing_to_wait_for(
    server: sse_fast.Server, options: dict[str, object], named: str
) -> None:
    with pytest.raises(sse_fast.SettingError, match=named):
        server.route("/r/{id}", "r/{id}", create=True, **options)  # type: ignore[arg-type]
    server.route("/r/{id}", "r/{id}", create=True, wait=0.0)
