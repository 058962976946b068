"""examples/compose: the same files, started here without Docker; Django, FastAPI and Celery publish beside Flask.

Guards what docs/guides/processes.md promises: whichever worker publishes, readers of both engines get every event once
and in one order, also while a worker and an engine are killed; and that the files are what Docker would take.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import celery
import jsonschema
import pytest

from support.composition import ENGINE, FOLDER, INSIDE, KEY, PUBLIC, Composition, document
from support.deadline import until
from support.follower import Follower
from support.reader import Reader

pytestmark = pytest.mark.timeout(300)

ROOT = FOLDER.parents[1]
#: Tasks for each stream that wait where a process of Celery is killed.
TASKS = 25
#: How each framework is started in several processes; each publishes at `/jobs/<name>`.
WORKERS = {
    "app-django": ["gunicorn", "--bind", "0.0.0.0:8000", "--workers", "2", "django_app:app"],
    "app-fastapi": ["uvicorn", "--host", "0.0.0.0", "--port", "8000", "--workers", "2", "fastapi_app:app"],
}


def more() -> dict[str, Any]:
    """Services like `app`, one for each other framework."""
    application = document()["services"]["app"]
    return {name: {**application, "command": command} for name, command in WORKERS.items()}


def ask(host: str, port: int, path: str, method: str = "GET", **options: Any) -> tuple[int, bytes]:
    with Reader(port, path, host=host, method=method, **options) as reader:
        return reader.read_head(60).status, reader.read_to_end(60)


def publish(running: Composition, service: str, name: str) -> str:
    """Asks a worker to publish two events; the id of the second."""
    host, port = (running.addresses[service], PUBLIC if service == "nginx" else 8000)
    status, body = ask(host, port, f"/jobs/{name}", method="POST")
    assert status == 200, body
    last: str = json.loads(body)["id"]
    return last


def test_docker_takes_the_files() -> None:
    """By the schema that Docker's own tool has, and every file that they name is there."""
    found = importlib.util.find_spec("compose")
    assert found, "pip install --no-deps docker-compose==1.29.2"
    assert found.submodule_search_locations
    schema = Path(found.submodule_search_locations[0], "config", "compose_spec.json")
    jsonschema.Draft7Validator(json.loads(schema.read_text(encoding="utf-8"))).validate(document())
    services = document()["services"]
    assert set(services) == {"redis", "engine-1", "engine-2", "app", "worker", "nginx"}
    for name, service in services.items():
        assert set(service.get("depends_on", ())) <= set(services), name
        for volume in service.get("volumes", ()):
            assert not volume.startswith(".") or (FOLDER / volume.partition(":")[0]).is_file(), volume
    recipe = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
    for source in " ".join(re.findall(r"^COPY (.+) \S+$", recipe, re.MULTILINE)).split():
        assert source.startswith("dist/") or list(ROOT.glob(source)), source
    for module in ("flask_app", "tasks"):
        assert module in json.dumps(services)
        assert (FOLDER / f"{module}.py").is_file()


def test_every_reader_has_every_event_once_whoever_publishes_and_whatever_is_killed(tmp_path: Path) -> None:
    with Composition(tmp_path, more()) as running:
        engines = [(running.addresses[name], ENGINE) for name in ("engine-1", "engine-2")]
        public = (running.addresses["nginx"], PUBLIC)
        streams = [f"/streams/jobs/{number}" for number in range(4)]
        last = {str(number): publish(running, "nginx", str(number)) for number in range(4)}
        assert all(last.values())
        readers = [Follower(order, path) for path in streams for order in ([public], engines, engines[::-1])]
        expected = Counter(dict.fromkeys("0123", 2))
        workers = ["nginx", *WORKERS]
        sender = celery.Celery("tasks", broker=f"redis://{running.addresses['redis']}:6379/1")
        with contextlib.ExitStack() as stack:
            pool = stack.enter_context(ThreadPoolExecutor(8))
            stack.enter_context(sender)
            for reader in readers:
                stack.enter_context(reader)
            for turn in range(6):
                if turn == 2:
                    start(sender, TASKS, expected)  # So that the one that dies has some to do.
                    kill_a_worker(running, "app")
                    kill_a_worker(running, "worker")
                if turn == 3:
                    kill(running, "engine-1")
                if turn == 5:
                    running.started("engine-1")
                asked = [pool.submit(publish, running, worker, str(at)) for at in range(4) for worker in workers]
                start(sender, 1, expected)
                assert all(each.result(120) for each in asked)
                expected.update(dict.fromkeys("0123", 2 * len(workers)))
            for number, reader in enumerate(readers):
                reader.has(expected[str(number // 3)])
        for at in range(4):
            group = readers[3 * at : 3 * at + 3]
            for reader in group:
                assert not reader.gaps, reader.gaps
                assert len(set(reader.ids)) == len(reader.ids) == expected[str(at)]
                assert reader.ids == group[0].ids, "one order at every engine"
        assert sum(reader.connections for reader in readers) > len(readers), "an engine was killed: some came back"
        seen = {event.json().get("worker") for reader in readers for event in reader.events} - {None}
        assert len(seen) >= 4, "several processes have published"


def start(sender: celery.Celery, count: int, expected: Counter[str]) -> None:
    """So many tasks for each stream, each of which publishes two events, in whichever process it runs."""
    for _ in range(count):
        for name in "0123":
            sender.send_task("tasks.build", [name])
            expected[name] += 2


def kill(running: Composition, name: str) -> None:
    """As the kernel does when memory is out."""
    host = running.running[name]
    host.process.kill()
    host.process.wait()


def kill_a_worker(running: Composition, name: str) -> None:
    """One of its processes, not the one that starts them; another takes its place."""
    host = running.running[name]
    victim = next(pid for pid in host.processes() if pid != host.process.pid)
    os.kill(victim, signal.SIGKILL)
    until(lambda: victim not in host.processes(), what="the worker's end")


def test_the_public_reads_and_never_publishes(tmp_path: Path) -> None:
    with Composition(tmp_path) as running:
        public, inside = running.addresses["nginx"], running.addresses["nginx"]
        body, headers = b'{"data": "x"}', [("Authorization", f"Bearer {KEY}"), ("Content-Type", "application/json")]
        refused = ask(public, PUBLIC, "/streams/jobs/1", method="POST", headers=headers, body=body)
        assert refused[0] == 403
        taken = ask(inside, INSIDE, "/streams/jobs/1", method="POST", headers=headers, body=body)
        assert taken[0] == 201, taken
        wrong = [("Authorization", "Bearer another"), ("Content-Type", "application/json")]
        assert ask(inside, INSIDE, "/streams/jobs/1", method="POST", headers=wrong, body=body)[0] in {401, 403}
        for path in ("/metrics", "/readyz"):
            assert ask(public, PUBLIC, path)[0] == 404, "only streams are the public's"
        assert running.running["engine-1"].terminate() == 0
