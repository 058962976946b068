"""Programs of gevent and eventlet, which make Python's threads greenlets.

Guards that `serve` works in them, whatever was patched, and that a greenlet which waits inside the engine leaves the
hub to the others. Each program is a process of its own, for patching cannot be undone.
"""

from __future__ import annotations

import pytest

from support.process import Program

GEVENT = """
from gevent import monkey
monkey.patch_all()
import gevent
spawn, sleep = gevent.spawn, gevent.sleep
"""

NOT_THREADS = """
from gevent import monkey
monkey.patch_all(thread=False)
import gevent
spawn, sleep = gevent.spawn, gevent.sleep
"""

EVENTLET = """
import warnings
warnings.simplefilter("ignore")
import eventlet
eventlet.monkey_patch()
spawn, sleep = eventlet.spawn, eventlet.sleep
"""

#: Another greenlet must get its turn while the first waits; it counts.
PROGRAM = """
import logging, socket, sys, sse_fast, threading, time, urllib.request
logging.basicConfig(stream=sys.stdout, format="%(name)s %(message)s")
ran = 0

def others():
    global ran
    while True:
        ran += 1
        sleep(0.001)

spawn(others)

def leaves_the_hub(name, wait):
    before = ran
    result = wait()
    print(name, "left the hub to others" if ran - before >= 5 else f"held the hub: {ran - before}", flush=True)
    return result

def later(work):
    spawn(lambda: (sleep(0.1), work()))

server = sse_fast.serve(0, publish_wait=0.5, stall_timeout=600.0, heartbeat=None)
stream = server.stream("s", start="all")
"""

WORKS = """
@server.get("/h")
def h(request):
    return {"thread": threading.current_thread().name}

@server.get("/fails")
def fails(request):
    raise ValueError("told to")

stream.publish("one")
reader = socket.create_connection(("127.0.0.1", server.port))
reader.sendall(b"GET /streams/s HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n")
body = reader.makefile("rb")
print([line for line in iter(body.readline, b"data: one\\n")][-1].decode().split("-")[-1].strip())
print(urllib.request.urlopen(server.url + "/h", timeout=20).status)
try:
    urllib.request.urlopen(server.url + "/fails", timeout=20)
except urllib.error.HTTPError as error:
    print(error.code)

event = threading.Event()
stream.on_empty(event.set, after=0.0)
later(lambda: (body.close(), reader.close()))
leaves_the_hub("wait_empty", lambda: stream.wait_empty(20, after=0.0))
print("on_empty", event.wait(20))
events = stream.events(timeout=20.0)
print(next(events).data)
later(lambda: stream.publish("two"))
print(leaves_the_hub("events", lambda: next(events).data))
run = server.run([sys.executable, "-c", "import time; time.sleep(0.2); print('SSE_EVENT:data: 1')"], stream="run",
                 on_event=lambda event: seen.append(event.data))
seen = []
print(leaves_the_hub("run.wait", lambda: run.wait(20)))
watch = server.watch(lambda: "DONE", stream="watched", until={"DONE"}, every=0.01)
watch.wait(20)
print(watch.value)
server.close(5.0)
print(seen[0])
print("closed", server.closed)
"""

WAITS_FOR_A_READER = """
slow = socket.socket()
slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
slow.connect(("127.0.0.1", server.port))
slow.sendall(b"GET /streams/s HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
while not stream.subscribers:
    sleep(0.001)
for _ in range(3000):
    stream.publish("x" * 2000)
print("micros waited for sockets:", round(1e6 * server.stats().publish_socket_wait_s))
server.close(0.0)
print("closed")
"""

STOPS = """
print("ready", flush=True)
later(lambda: server.close(0.0))
server.wait()
print("closed", flush=True)
"""


def said(program: Program, count: int) -> list[str]:
    lines = [program.line(40) for _ in range(count)]
    assert program.wait() == 0, program.stderr
    return lines


@pytest.mark.parametrize("patches", [GEVENT, NOT_THREADS, EVENTLET], ids=["gevent", "gevent but threads", "eventlet"])
def test_everything_works_and_what_waits_leaves_the_hub_to_others(patches: str) -> None:
    with Program(patches + PROGRAM + WORKS) as program:
        lines = [program.line(40)]
        while lines[-1] != "closed True":
            lines.append(program.line(40))
        assert program.wait() == 0, program.stderr
    logged = [line for line in lines if "told to" in line or line.startswith(("Traceback", "  ", "sse_fast."))]
    assert any(line.startswith("sse_fast.handler") for line in logged), lines
    rest = [line for line in lines if line not in logged]
    assert rest == [
        "1",
        "200",
        "500",
        "wait_empty left the hub to others",
        "on_empty True",
        "one",
        "events left the hub to others",
        "two",
        "run.wait left the hub to others",
        "0",
        "DONE",
        "1",
        "closed True",
    ]


@pytest.mark.parametrize("patches", [GEVENT, EVENTLET], ids=["gevent", "eventlet"])
def test_a_publish_never_waits_for_a_reader_in_a_hub(patches: str) -> None:
    """The hub is an event loop: a reader that takes nothing must not hold up everything else."""
    with Program(patches + PROGRAM + WAITS_FOR_A_READER) as program:
        assert said(program, 2) == ["micros waited for sockets: 0", "closed"]


@pytest.mark.parametrize("patches", [GEVENT, EVENTLET], ids=["gevent", "eventlet"])
def test_wait_ends_with_the_server(patches: str) -> None:
    with Program(patches + PROGRAM + STOPS) as program:
        assert said(program, 2) == ["ready", "closed"]


@pytest.mark.parametrize("patches", [GEVENT, EVENTLET], ids=["gevent", "eventlet"])
def test_the_end_of_the_program_is_the_end_of_the_server(patches: str) -> None:
    """Without a word: the interpreter's exit closes it."""
    with Program(patches + PROGRAM + "stream.publish('x')\nprint('done', flush=True)\n") as program:
        assert said(program, 1) == ["done"]
