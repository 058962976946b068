"""Celery: the prefork pool and the threads pool, with a broker in a folder; the arrangement of docs/hosts.md.

Guards that what tasks publish is read, that the pool's processes neither hold the engine's port nor end it, and that
an engine in each of them is refused with what to do instead.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import celery
import pytest

from support.deadline import DEADLINE, until
from support.host import Host, documented
from support.ports import free_ports
from support.reader import Reader

pytestmark = pytest.mark.timeout(180)

#: A broker in a folder: what Celery needs of one, without a server.
FOLDERS = """
app.conf.broker_transport_options = {
    "data_folder_in": os.environ["FOLDER"], "data_folder_out": os.environ["FOLDER"],
    "processed_folder": os.environ["FOLDER"] + "/done", "control_folder": os.environ["FOLDER"] + "/control",
    "store_processed": False,
}
"""

#: An engine in each process of the pool, as somebody would do it who thinks of databases.
EACH = """
import os, celery, sse_fast
from celery import signals
app = celery.Celery("tasks", broker=os.environ["BROKER"])
server = None

@signals.worker_process_init.connect
def start_engine(**_):
    global server
    server = sse_fast.serve(8080)

@app.task
def build(name):
    server.stream(f"jobs/{name}", start="all").publish("first")
"""

#: An engine of the main process, and tasks that publish themselves.
IN_THE_MAIN_PROCESS = EACH.replace("worker_process_init", "worker_init")


@contextlib.contextmanager
def worker(folder: Path, *options: object) -> Iterator[tuple[Host, celery.Celery]]:
    """A worker with the file `tasks.py` in that folder, and the application that sends to it."""
    tasks = folder / "tasks.py"
    tasks.write_text(tasks.read_text() + FOLDERS)
    (folder / "broker").mkdir()
    env = {"BROKER": "filesystem://", "FOLDER": str(folder / "broker")}
    command = ["-m", "celery", "--app", "tasks", "worker", "--loglevel", "INFO", "--without-mingle", "--without-gossip"]
    sender = celery.Celery("tasks", broker="filesystem://")
    box = env["FOLDER"]
    sender.conf.broker_transport_options = {
        "data_folder_in": box,
        "data_folder_out": box,
        "control_folder": f"{box}/control",
    }
    with Host(*command, *options, cwd=folder, env=env) as host, sender:
        yield host, sender


def pool(host: Host) -> set[int]:
    return set(host.processes()) - {host.process.pid}


def test_the_prefork_pool_as_documented(tmp_path: Path) -> None:
    (engine,) = free_ports(1)
    documented("celery/tasks.py", tmp_path, {"8080": engine})
    with worker(tmp_path, "--pool", "prefork", "--concurrency", 2) as (host, sender):
        host.listens(engine)
        host.says(" ready.")
        processes = pool(host)
        for _ in range(10):
            sender.send_task("tasks.build", ["7"])
        with open_when_made(engine, "/streams/jobs/7") as reader:
            events = reader.open().take(10)
            assert {event.json()["process"] for event in events} <= processes
            assert host.terminate() == 0
            assert reader.rest() == []
        host.assert_gone(engine)


def test_processes_of_the_pool_neither_hold_nor_end_the_engine(tmp_path: Path) -> None:
    """One is killed, then the main process. Celery itself may lose a task then, or not end: no task is sent."""
    (engine,) = free_ports(1)
    documented("celery/tasks.py", tmp_path, {"8080": engine})
    with worker(tmp_path, "--pool", "prefork", "--concurrency", 2) as (host, _sender):
        host.listens(engine)
        host.says(" ready.")
        processes = pool(host)

        def publish() -> None:
            body = json.dumps({"stream": "jobs/7", "data": {}, "event": "LATER"}).encode()
            urllib.request.urlopen(f"http://127.0.0.1:{engine}/publish", body, timeout=DEADLINE).close()

        publish()
        with open_when_made(engine, "/streams/jobs/7") as reader:
            assert reader.open().next().event == "LATER"
            victim = next(iter(processes))
            os.kill(victim, signal.SIGKILL)
            until(lambda: victim not in pool(host), what="the end of a process of the pool")
            publish()
            assert reader.next().event == "LATER"
            os.kill(host.process.pid, signal.SIGKILL)
            reader.read_eof()
        host.frees(engine)


def test_an_engine_in_each_process_of_the_pool_is_refused_with_what_to_do(tmp_path: Path) -> None:
    """One of them has it; Celery logs what the others are told, and goes on."""
    (engine,) = free_ports(1)
    (tmp_path / "tasks.py").write_text(EACH.replace("8080", str(engine)))
    with worker(tmp_path, "--pool", "prefork", "--concurrency", 2) as (host, _):
        host.says(" ready.")
        host.says("AddressInUse")
        host.says("one engine serves", deadline=10)
        assert host.terminate() == 0
        host.assert_gone(engine)


def test_a_task_of_the_prefork_pool_is_told_whose_the_engine_is(tmp_path: Path) -> None:
    (engine,) = free_ports(1)
    (tmp_path / "tasks.py").write_text(IN_THE_MAIN_PROCESS.replace("8080", str(engine)))
    with worker(tmp_path, "--pool", "prefork", "--concurrency", 2) as (host, sender):
        host.listens(engine)
        sender.send_task("tasks.build", ["7"])
        host.says("ForkError")
        assert host.terminate() == 0
        host.assert_gone(engine)


@pytest.mark.parametrize("kind", ["threads", "solo"])
def test_tasks_in_the_engine_s_own_process_publish(tmp_path: Path, kind: str) -> None:
    (engine,) = free_ports(1)
    (tmp_path / "tasks.py").write_text(IN_THE_MAIN_PROCESS.replace("8080", str(engine)))
    with worker(tmp_path, "--pool", kind) as (host, sender):
        host.listens(engine)
        sender.send_task("tasks.build", ["7"])
        with open_when_made(engine, "/streams/jobs/7") as reader:
            assert reader.open().next().data == "first"
            assert host.terminate() == 0
            assert reader.rest() == []
        host.assert_gone(engine)


@contextlib.contextmanager
def open_when_made(port: int, path: str) -> Iterator[Reader]:
    """A reader of a stream that a task makes; until then there is none."""

    def opened() -> Reader | None:
        reader = Reader(port, path)
        if reader.read_head().status == 200:
            return reader
        reader.close()
        return None

    with until(opened) as reader:  # type: ignore[union-attr]
        yield reader
