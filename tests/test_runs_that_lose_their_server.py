"""Runs whose server is killed: they end with it, whatever they do and whatever started them (Linux).

Guards that a run does not outlive its server, and that it lives as long as that does, even where the thread that asked
for it has ended. Only the child itself is promised, not what it starts.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys

import pytest

from support.children import is_alive
from support.deadline import until
from support.process import Program

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a process to its parent")

SERVER = """
import asyncio, json, os, signal, sys, threading, sse_fast
server = sse_fast.serve(0)
begun = threading.Event()

def run(name, *argv, **options):
    # It has said something: its handlers are set.
    begun.clear()
    run = server.run(argv, stream=name, on_event=lambda _event: begun.set(), **options)
    assert begun.wait(20.0), name
    pids[name] = run.pid

def python(source):
    return sys.executable, "-c", "import signal, time; from sse_fast.runner import emit\\n" + source

pids = {}
run("silent", *python("emit('A'); time.sleep(600)"))
shell = "echo SSE_EVENT:event: A; echo SSE_EVENT:data: 1; echo SSE_EVENT:; sleep 600; true"
run("a shell with a grandchild", "sh", "-c", shell)
run("one that ignores SIGTERM", *python("signal.signal(signal.SIGTERM, signal.SIG_IGN); emit('A'); time.sleep(600)"))
run("one in another directory", *python("emit('A'); time.sleep(600)"), cwd="/")
thread = threading.Thread(target=run, args=("one whose thread has ended", *python("emit('A'); time.sleep(600)")))
thread.start()
thread.join()
asyncio.run(asyncio.to_thread(run, "one whose loop has ended", *python("emit('A'); time.sleep(600)")))

@server.get("/run")
def by_handler(_request):
    run("one of a handler", *python("emit('A'); time.sleep(600)"))

import urllib.request
urllib.request.urlopen(server.url + "/run").read()
print(json.dumps(pids))
{ending}
"""

ENDINGS = {
    "SIGKILL": ("threading.Event().wait()", signal.SIGKILL, -signal.SIGKILL),
    "SIGTERM without a handler": ("threading.Event().wait()", signal.SIGTERM, -signal.SIGTERM),
    "SIGSEGV": ("threading.Event().wait()", signal.SIGSEGV, -signal.SIGSEGV),
    "os._exit": ("os.read(0, 1); os._exit(3)", None, 3),
    "exec": ("os.read(0, 1); os.execv(sys.executable, [sys.executable, '-c', 'raise SystemExit(4)'])", None, 4),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_run_ends_with_its_server(ending: str) -> None:
    last_words, number, code = ENDINGS[ending]
    pids: dict[str, int] = {}
    try:
        with Program(SERVER.replace("{ending}", last_words)) as program:
            pids = json.loads(program.line())
            assert len(pids) == 7
            if number is not None:
                assert [name for name, pid in pids.items() if not is_alive(pid)] == []
                program.send_signal(number)
            assert program.wait() == code
            until(lambda: not any(map(is_alive, pids.values())), what=f"the end of {pids}")
    finally:
        for pid in pids.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_runs_live_on_while_threads_come_and_go() -> None:
    """Longer than an idle thread of the engine's lives: those that publish end after ten seconds."""
    source = """
        import sys, threading, time, sse_fast
        with sse_fast.serve(0) as server:
            child = "import time; from sse_fast.runner import emit; emit('A'); time.sleep(12); emit('B')"
            runs = []
            def run(number):
                runs.append(server.run([sys.executable, "-c", child], stream=f"r{number}"))
            for number in range(3):
                thread = threading.Thread(target=run, args=(number,))
                thread.start()
                thread.join()
            print([run.wait(timeout=40.0) for run in runs], [run.status for run in runs])
    """
    with Program(source) as program:
        assert program.line(45.0) == "[0, 0, 0] ['B', 'B', 'B']"
        assert program.wait() == 0
