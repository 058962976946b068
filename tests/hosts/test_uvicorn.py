"""uvicorn: one worker, several, and --reload; the arrangement of docs/hosts.md.

Guards that the lifespan's end is the engine's end, that a reloaded application has the same port again, and that who
starts an engine in each worker is told what to do instead.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from support.deadline import until
from support.host import Host, documented
from support.ports import free_ports
from support.reader import Reader, fetch

pytestmark = pytest.mark.timeout(180)

#: As in docs/hosts.md, with a stream that readers can wait at, and a word that an edit changes.
OPEN = """
@app.get("/word")
async def word(request: fastapi.Request) -> str:
    request.app.state.server.stream("words", start="all", heartbeat=0.1).publish("first edition")
    return "first edition"
"""


def application(folder: Path, engine: int) -> Path:
    file = documented("lifespan/app.py", folder, {"8080": engine})
    file.write_text(file.read_text() + OPEN)
    return file


@pytest.mark.parametrize("server", ["uvicorn", "gunicorn"])
def test_one_worker_as_documented(tmp_path: Path, server: str) -> None:
    port, engine = free_ports(2)
    application(tmp_path, engine)
    options = {
        "uvicorn": ["--port", port],
        "gunicorn": ["--bind", f"127.0.0.1:{port}", "-w", 1, "-k", "uvicorn_worker.UvicornWorker"],
    }
    with Host("-m", server, *options[server], "app:app", cwd=tmp_path) as host:
        host.listens(port, engine)
        assert fetch(port, "/jobs/7", method="POST")[0].status == 200
        with Reader(engine, "/streams/jobs/7") as reader:
            assert [event.event for event in reader.open().rest()] == ["QUEUED", "DONE"]
        assert fetch(port, "/word")[0].status == 200
        with Reader(engine, "/streams/words") as reader:
            assert reader.open().next().data == "first edition"
            assert host.terminate() in {0, -signal.SIGTERM}  # uvicorn repeats the signal that ended it.
            assert reader.rest() == []
        host.assert_gone(port, engine)


def test_an_engine_in_each_of_several_workers_is_refused_with_what_to_do(tmp_path: Path) -> None:
    """uvicorn gives up when a worker cannot start."""
    port, engine = free_ports(2)
    application(tmp_path, engine)
    with Host("-m", "uvicorn", "--port", port, "--workers", 3, "app:app", cwd=tmp_path) as host:
        host.listens(port, engine)
        host.says("AddressInUse")
        host.says("one engine serves", deadline=10)
        host.says("Application startup failed")
        host.ends()
        host.assert_gone(port, engine)


def test_several_workers_with_an_engine_of_their_own_as_documented(tmp_path: Path) -> None:
    port, engine = free_ports(2)
    documented("several/app.py", tmp_path, {"8080": engine}).rename(tmp_path / "publishing.py")
    documented("own/engine.py", tmp_path, {"8080": engine})
    documented("own/app.py", tmp_path, {})
    env = {"PUBLISH_KEY": "of these two"}
    command = ["-m", "uvicorn", "--port", port, "--workers", 3, "app:app"]
    with Host("engine.py", cwd=tmp_path, env=env) as own, Host(*command, cwd=tmp_path, env=env) as host:
        own.listens(engine)
        host.listens(port)
        for _ in range(10):
            assert fetch(port, "/jobs/7", method="POST")[0].status == 200
        with Reader(engine, "/streams/jobs/7") as reader:
            assert all(event.json()["worker"] in host.processes() for event in reader.open().take(10))
            host.terminate()
            host.assert_gone(port)
            assert own.terminate() == 0
            assert reader.rest() == []
        own.assert_gone(engine)


def test_a_reload_gives_the_port_to_the_next_edition(tmp_path: Path) -> None:
    """The old edition's readers get their end, and its port is free before the new one wants it."""
    port, engine = free_ports(2)
    file = application(tmp_path, engine)
    with Host("-m", "uvicorn", "--port", port, "--reload", "app:app", cwd=tmp_path) as host:
        host.listens(port, engine)
        for number in range(3):
            edition = "first edition" if number == 0 else f"edition {number}"
            until(lambda edition=edition: edition.encode() in fetch(port, "/word")[1])  # type: ignore[misc]
            with Reader(engine, "/streams/words") as reader:
                assert reader.open().next().data == edition
                file.write_text(file.read_text().replace(edition, f"edition {number + 1}"))
                reader.read_to_end()
            host.listens(engine, port)
        assert "AddressInUse" not in host.output
        host.terminate()
        host.assert_gone(port, engine)
