"""gunicorn: every kind of worker, one and several, with and without --preload; the arrangements of docs/hosts.md.

Guards that a reader at the engine's port gets what the application publishes, that the end of gunicorn is the end of
the engine, and that who starts an engine in each worker is told what to do instead.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.deadline import until
from support.host import Host, documented
from support.ports import free_ports
from support.reader import Reader, fetch

pytestmark = pytest.mark.timeout(180)

#: An engine in each process that imports it. What goes wrong in a request is the response.
APPLICATION = """
import os, sys, sse_fast
server = sse_fast.serve(int(os.environ["ENGINE"]), heartbeat=0.1)

CHILD = '''
from sse_fast.runner import emit
emit("COMPILING", {"step": 1})
emit("DONE", {"runtime_ms": 4.2})
'''

def publish():
    return server.stream("jobs", start="all").publish("first")

def run():
    return server.run([sys.executable, "-c", CHILD], stream="run").stream.name

def die():
    os._exit(1)

def app(environ, start_response):
    try:
        status, body = "200 OK", str({"/publish": publish, "/run": run, "/die": die}[environ["PATH_INFO"]]())
    except sse_fast.SseFastError as error:
        status, body = "500 It failed", f"{type(error).__name__}: {error}"
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body.encode()]

async def asgi(scope, receive, send):
    answer = []
    def start_response(status, headers):
        answer.append(int(status.split()[0]))
    body = app({"PATH_INFO": scope["path"]}, start_response)[0]
    await send({"type": "http.response.start", "status": answer[0],
                "headers": [(b"content-length", str(len(body)).encode())]})
    await send({"type": "http.response.body", "body": body})
"""


@contextlib.contextmanager
def gunicorn(folder: Path, *options: object, application: str = "app:app") -> Iterator[tuple[Host, int, int]]:
    """gunicorn with that application, and the two ports: its own, the engine's."""
    if not (folder / "app.py").exists():
        (folder / "app.py").write_text(APPLICATION)
    port, engine = free_ports(2)
    command = ["-m", "gunicorn", "--bind", f"127.0.0.1:{port}", *options, application]
    with Host(*command, cwd=folder, env={"ENGINE": str(engine), "HOME": str(folder)}) as host:
        yield host, port, engine


KINDS = [
    pytest.param(["--worker-class", "sync"], "app:app", id="sync"),
    pytest.param(["--worker-class", "gthread", "--threads", "8"], "app:app", id="gthread"),
    pytest.param(["--worker-class", "uvicorn_worker.UvicornWorker"], "app:asgi", id="uvicorn"),
]


@pytest.mark.parametrize(("options", "application"), KINDS)
def test_one_worker_publishes_and_runs(tmp_path: Path, options: list[str], application: str) -> None:
    with gunicorn(tmp_path, "--workers", 1, *options, application=application) as (host, port, engine):
        host.listens(port, engine)
        assert fetch(port, "/publish")[0].status == 200
        with Reader(engine, "/streams/jobs") as reader:
            assert reader.open().next().data == "first"
            assert fetch(port, "/run")[1] == b"run"
            with Reader(engine, "/streams/run") as run:
                events = run.open().rest()
            assert [event.event for event in events] == ["COMPILING", "DONE", "end"]
            assert (events[-1].json()["exit_code"], events[-1].json()["result"]) == (0, {"runtime_ms": 4.2})
            assert host.terminate() == 0
            if "uvicorn" in options[1]:  # It ends its process by the signal itself: only a lifespan has an end.
                reader.read_eof()
            else:
                assert reader.rest() == []
        host.assert_gone(port, engine)


def test_a_worker_of_gevent_serves_or_says_why_not(tmp_path: Path) -> None:
    with gunicorn(tmp_path, "--workers", 1, "--worker-class", "gevent") as (host, port, engine):
        if not host.serves_or_ends(engine):
            assert "gevent" in host.output.partition("Booting worker")[2], host.output
            assert host.ends() != 0
        else:
            host.listens(port)
            assert fetch(port, "/publish")[0].status == 200
            with Reader(engine, "/streams/jobs") as reader:
                assert reader.open().next().data == "first"
            assert host.terminate() == 0
        host.assert_gone(port, engine)


@pytest.mark.parametrize(("options", "application"), KINDS)
def test_an_engine_in_each_worker_is_refused_with_what_to_do(
    tmp_path: Path, options: list[str], application: str
) -> None:
    """gunicorn gives up when a worker cannot boot."""
    with gunicorn(tmp_path, "--workers", 2, *options, application=application) as (host, port, engine):
        assert host.ends() != 0
        assert "AddressInUse" in host.output
        assert "one engine serves" in host.output
        host.assert_gone(port, engine)


@pytest.mark.parametrize(("options", "application"), KINDS)
def test_with_preload_the_engine_is_the_arbiter_s(tmp_path: Path, options: list[str], application: str) -> None:
    """Workers are told so; readers do not notice how workers come and go, and the end is the arbiter's."""
    with gunicorn(tmp_path, "--preload", "--workers", 2, *options, application=application) as (host, port, engine):
        host.listens(port, engine)
        head, body = fetch(port, "/publish")
        assert (head.status, body[:9]) == (500, b"ForkError")
        with contextlib.suppress(AssertionError):  # It dies without an answer.
            fetch(port, "/die")
        until(lambda: host.output.count("Booting worker") >= 3)
        assert fetch(port, "/publish")[1][:9] == b"ForkError"
        assert host.terminate() == 0
        host.assert_gone(port, engine)


def test_readers_of_an_arbiter_s_engine_outlive_its_workers(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APPLICATION + "\nif os.getpid(): server.stream('jobs')\n")
    with gunicorn(tmp_path, "--preload", "--workers", 2) as (host, port, engine):
        host.listens(port, engine)
        with Reader(engine, "/streams/jobs") as reader:
            reader.open()
            for died in range(1, 4):
                with contextlib.suppress(AssertionError):
                    fetch(port, "/die")
                until(lambda died=died: host.output.count("Booting worker") >= 2 + died)  # type: ignore[misc]
            seen = len(reader.parser.comments)
            reader.read_until(lambda: len(reader.parser.comments) >= seen + 5, what="heartbeats")
            assert host.terminate() == 0
            assert reader.rest() == []
        host.assert_gone(port, engine)


def test_a_run_in_the_arbiter_ends_its_stream_though_gunicorn_collects_every_child(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APPLICATION + "\nserver.run([sys.executable, '-c', CHILD], stream='run')\n")
    with gunicorn(tmp_path, "--preload", "--workers", 1) as (host, port, engine):
        host.listens(port, engine)
        with Reader(engine, "/streams/run") as run:
            events = run.open().rest()
        print(events[-1].json())
        assert [event.event for event in events] == ["COMPILING", "DONE", "end"]
        assert events[-1].json()["result"] == {"runtime_ms": 4.2}
        assert host.terminate() == 0
        host.assert_gone(port, engine)


def test_the_port_of_a_killed_arbiter_s_engine_is_free_while_workers_live_on(tmp_path: Path) -> None:
    with gunicorn(tmp_path, "--preload", "--workers", 1, "--timeout", 60) as (host, port, engine):
        host.listens(port, engine)
        os.kill(host.process.pid, signal.SIGKILL)
        host.ends()
        host.frees(engine)


# ---- As documented -------------------------------------------------------------------------


def test_one_worker_with_threads_as_documented(tmp_path: Path) -> None:
    port, engine = free_ports(2)
    documented("one/app.py", tmp_path, {"8080": engine})
    command = ["-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--workers", "1", "--threads", "16", "app:app"]
    with Host(*command, cwd=tmp_path) as host:
        host.listens(port, engine)
        assert fetch(port, "/jobs/7", method="POST")[0].status == 200
        with Reader(engine, "/streams/jobs/7") as reader:
            assert [event.event for event in reader.open().rest()] == ["QUEUED", "DONE"]
        assert host.terminate() == 0
        host.assert_gone(port, engine)


@pytest.mark.parametrize("kind", ["sync", "gthread", "gevent"])
def test_several_workers_as_documented(tmp_path: Path, kind: str) -> None:
    port, engine = free_ports(2)
    documented("several/app.py", tmp_path, {"8080": engine})
    documented("several/gunicorn.conf.py", tmp_path, {"8080": engine})
    # Workers of gevent often do not end when gunicorn asks them to, whatever the application: it kills them after 30 s.
    command = ["-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--graceful-timeout", 3, "-k", kind, "app:app"]
    with Host(*command, cwd=tmp_path) as host:
        host.listens(engine, port)
        published: set[str] = set()
        for number in range(40):
            head, body = fetch(port, f"/jobs/{number % 4}")
            assert head.status == 200, host.output
            published.add(body.decode())
        workers = set()
        for name in range(4):
            with Reader(engine, f"/streams/jobs/{name}") as reader:
                events = reader.open().take(10)
            assert {event.own_id for event in events} <= published
            workers |= {event.json()["worker"] for event in events}
        assert len(workers) >= 1
        assert fetch(engine, "/publish", method="POST", body=b"{}")[0].status == 403
        assert host.terminate() == 0
        host.assert_gone(port, engine)


def test_reloading_gunicorn_keeps_the_arbiter_s_engine_and_its_readers(tmp_path: Path) -> None:
    """SIGHUP replaces every worker; the engine is not theirs."""
    port, engine = free_ports(2)
    documented("several/app.py", tmp_path, {"8080": engine})
    documented("several/gunicorn.conf.py", tmp_path, {"8080": engine})
    with Host("-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "app:app", cwd=tmp_path) as host:
        host.listens(engine, port)
        assert fetch(port, "/jobs/0")[0].status == 200
        with Reader(engine, "/streams/jobs/0") as reader:
            reader.open().next()
            host.process.send_signal(signal.SIGHUP)
            until(lambda: host.output.count("Booting worker") >= 8, what="new workers")
            until(lambda: host.output.count("Worker exiting") >= 4, what="the end of the old ones")
            assert fetch(port, "/jobs/0")[0].status == 200
            assert reader.next().event == "DONE"
        assert host.terminate() == 0
        host.assert_gone(port, engine)
