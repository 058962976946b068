"""`sse_fast.asgi` and `sse_fast.wsgi` in real servers: FastAPI, Starlette, Django under uvicorn; Flask and Django under
gunicorn and werkzeug.

Guards that events come at once, that a reader resumes and that one which has everything gets 204; that leaving is
noticed; that the application's own authentication decides; and that a server which is told to stop does.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import sse_fast
from support.deadline import until
from support.host import Host
from support.ports import free_ports
from support.reader import Reader, fetch

pytestmark = pytest.mark.timeout(180)

PACKAGE = Path(sse_fast.__file__).parents[1]

#: What every application below has: a stream that may be published into, and a list of responses that are over.
COMMON = """
import sse_fast
server = sse_fast.serve(0)
stream = server.stream("s", start="all")
over = []

def act(path):
    if path == "/publish":
        return stream.publish("news")
    if path == "/end":
        return stream.end()
    return str(len(over))
"""

FASTAPI = (
    COMMON
    + """
from typing import Annotated
import fastapi
from sse_fast.asgi import EventSourceResponse

app = fastapi.FastAPI()

async def user(authorization: Annotated[str, fastapi.Header()] = "") -> str:
    if authorization != "Bearer me":
        raise fastapi.HTTPException(401)
    return "me"

@app.get("/events")
async def events(name: Annotated[str, fastapi.Depends(user)]) -> EventSourceResponse:
    return EventSourceResponse(stream, heartbeat=0.1, headers={"X-User": name}, on_close=lambda: over.append(1))

@app.get("/{action}")
def do(action: str) -> str:
    return act(f"/{action}")
"""
)

STARLETTE = (
    COMMON
    + """
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route
from sse_fast.asgi import EventSourceResponse

async def events(request):
    if request.headers.get("authorization") != "Bearer me":
        return PlainTextResponse("", 401)
    response = EventSourceResponse(stream, heartbeat=0.1, on_close=lambda: over.append(1))
    response.headers["X-User"] = "me"
    return response

def do(request):
    return JSONResponse(act(request.url.path))

async def through(request, call_next):
    return await call_next(request)

app = Starlette(
    routes=[Route("/events", events), Route("/{action}", do)],
    middleware=[Middleware(GZipMiddleware), Middleware(BaseHTTPMiddleware, dispatch=through)],
)
"""
)

FLASK = (
    COMMON
    + """
import flask
from sse_fast.wsgi import EventSourceResponse

app = flask.Flask(__name__)

@app.get("/events")
def events():
    if flask.request.headers.get("Authorization") != "Bearer me":
        flask.abort(401)
    return EventSourceResponse(stream, heartbeat=0.1, headers={"X-User": "me"}, on_close=lambda: over.append(1))

@app.get("/<action>")
def do(action):
    return flask.jsonify(act(f"/{action}"))
"""
)

DJANGO = (
    COMMON
    + """
import django
from django.conf import settings
from django.http import HttpResponse, JsonResponse
from django.urls import path

settings.configure(DEBUG=False, ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="of this test",
                   MIDDLEWARE=["django.middleware.gzip.GZipMiddleware", "django.middleware.common.CommonMiddleware"])
django.setup()

def respond(request):
    if request.headers.get("Authorization") != "Bearer me":
        return HttpResponse(status=401)
    return django_response(request, stream, heartbeat=0.1, headers={"X-User": "me"}, on_close=lambda: over.append(1))

def do(request, action):
    return JsonResponse(act(f"/{action}"), safe=False)
"""
)

DJANGO_ASGI = (
    DJANGO
    + """
from django.core.asgi import get_asgi_application
from sse_fast.asgi import django_response

async def events(request):
    return respond(request)

urlpatterns = [path("events", events), path("<action>", do)]
app = get_asgi_application()
"""
)

DJANGO_WSGI = (
    DJANGO
    + """
from django.core.wsgi import get_wsgi_application
from sse_fast.wsgi import django_response

urlpatterns = [path("events", respond), path("<action>", do)]
app = get_wsgi_application()
"""
)

PLAIN_ASGI = (
    COMMON
    + """
from sse_fast.asgi import EventSourceResponse

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    status, body = 401, b""
    if scope["path"] != "/events":
        status, body = 200, f'"{act(scope["path"])}"'.encode()
    elif dict(scope["headers"]).get(b"authorization") == b"Bearer me":
        response = EventSourceResponse(stream, heartbeat=0.1, headers={"X-User": "me"}, on_close=lambda: over.append(1))
        return await response(scope, receive, send)
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
"""
)

WERKZEUG = """
import sys
from werkzeug.serving import run_simple
from app import app
run_simple("127.0.0.1", int(sys.argv[1]), app, threaded=True)
"""

ASGI = {"fastapi": FASTAPI, "starlette": STARLETTE, "django-asgi": DJANGO_ASGI, "plain-asgi": PLAIN_ASGI}
WSGI = {"flask": FLASK, "django-wsgi": DJANGO_WSGI}
EVERYWHERE = [
    *((name, "uvicorn") for name in ASGI),
    ("fastapi", "uvicorn worker"),
    *((name, kind) for name in WSGI for kind in ("gthread", "gevent", "werkzeug")),
]
OF_ME = [("Authorization", "Bearer me")]


@contextmanager
def running(folder: Path, application: str, kind: str) -> Iterator[tuple[Host, int]]:
    """The application in a server of that kind, and its port."""
    (folder / "app.py").write_text({**ASGI, **WSGI}[application])
    (port,) = free_ports(1)
    gunicorn = ["-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--workers", 1, "--graceful-timeout", 2]
    commands: dict[str, list[Any]] = {
        "uvicorn": ["-m", "uvicorn", "--port", port, "app:app"],
        "uvicorn worker": [*gunicorn, "-k", "uvicorn_worker.UvicornWorker", "app:app"],
        "gthread": [*gunicorn, "-k", "gthread", "--threads", 8, "app:app"],
        "gevent": [*gunicorn, "-k", "gevent", "app:app"],
        "werkzeug": ["-c", WERKZEUG, port],
    }
    env = {"PYTHONPATH": f"{folder}{os.pathsep}{PACKAGE}", "HOME": str(folder)}
    with Host(*commands[kind], cwd=folder, env=env) as host:
        host.listens(port)
        yield host, port


def reading(port: int, **options: Any) -> Reader:
    return Reader(port, "/events", headers=[*OF_ME, ("Accept", "text/event-stream")], **options)


def act(port: int, action: str) -> str:
    head, body = fetch(port, f"/{action}")
    assert head.status == 200
    return body.decode().strip().strip('"')


@pytest.mark.parametrize(("application", "kind"), EVERYWHERE)
def test_events_come_at_once_resume_and_end(tmp_path: Path, application: str, kind: str) -> None:
    with running(tmp_path, application, kind) as (_, port):
        assert fetch(port, "/events")[0].status == 401
        with reading(port) as reader:
            head = reader.open().head
            assert head is not None
            assert (head["x-user"], head["cache-control"]) == ("me", "no-cache, no-transform")
            assert head["content-type"] == "text/event-stream; charset=utf-8"
            assert "content-encoding" not in head
            reader.read_until(lambda: " heartbeat" in reader.parser.comments, what="heartbeats")
            first = act(port, "publish")
            began = time.monotonic()
            event = reader.next()
            assert (event.data, event.own_id) == ("news", first)
            assert time.monotonic() - began < 5
        second = act(port, "publish")
        with reading(port, last_event_id=first) as reader:
            assert reader.open().next().own_id == second
            last = act(port, "end")
            assert [event.own_id for event in reader.rest()] == [last]
        head, body = fetch(port, "/events", headers=[*OF_ME, ("Last-Event-ID", last)])
        assert (head.status, body) == (204, b"")


@pytest.mark.parametrize(("application", "kind"), EVERYWHERE)
def test_readers_that_leave_are_noticed(tmp_path: Path, application: str, kind: str) -> None:
    with running(tmp_path, application, kind) as (_, port):
        for leave in (Reader.close, Reader.reset):
            before = int(act(port, "over"))
            with reading(port) as reader:
                reader.open()
                reader.read_until(lambda reader=reader: reader.parser.comments, what="the opening")  # type: ignore[misc]
                leave(reader)
            until(lambda before=before: int(act(port, "over")) == before + 1, what="its end")  # type: ignore[misc]


@pytest.mark.parametrize(
    ("application", "kind", "number"),
    [
        *((name, "uvicorn", number) for name in ASGI for number in (signal.SIGTERM, signal.SIGINT)),
        ("fastapi", "uvicorn worker", signal.SIGTERM),  # By SIGINT gunicorn stops its workers at once.
    ],
)
def test_a_server_that_is_told_to_stop_does_not_wait_for_readers(
    tmp_path: Path, application: str, kind: str, number: signal.Signals
) -> None:
    """Without `timeout_graceful_shutdown`; their responses end properly, so that browsers come back."""
    with running(tmp_path, application, kind) as (host, port), reading(port) as reader, reading(port) as other:
        reader.open()
        other.open()
        act(port, "publish")
        reader.next()
        other.next()
        began = time.monotonic()
        host.terminate(number)
        assert reader.rest() == []
        assert other.rest() == []
        assert time.monotonic() - began < 10
        host.assert_gone(port)


def test_forty_readers_under_asgi_hold_no_thread(tmp_path: Path) -> None:
    with running(tmp_path, "fastapi", "uvicorn") as (host, port):
        threads = lambda: len(list(Path(f"/proc/{host.process.pid}/task").iterdir()))  # noqa: E731
        act(port, "publish")
        before = threads()
        readers = [reading(port) for _ in range(40)]
        try:
            for reader in readers:
                reader.open().next()
            assert threads() <= before
        finally:
            for reader in readers:
                reader.close()


@pytest.mark.parametrize(("application", "kind"), [("flask", "gthread"), ("django-wsgi", "gthread")])
def test_gunicorn_waits_for_readers_as_long_as_it_was_told(tmp_path: Path, application: str, kind: str) -> None:
    with running(tmp_path, application, kind) as (host, port), reading(port) as reader:
        reader.open()
        act(port, "publish")
        reader.next()
        host.terminate()
        host.assert_gone(port)
