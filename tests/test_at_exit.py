"""Calls that come when the interpreter is being taken apart, has no stack left, or no memory.

Guards that each of them ends with an exception at worst: no abort, no panic, the program's own exit code. What a
program does at its end otherwise is in `test_exit_matrix.py`. The file is long because it holds whole programs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from support.side_by_side import Ended, SideBySide, ended

DEADLINE = 40.0

#: Every public call, bound to what it needs, because a module's names may be gone when it is made.
CALLS = """
import os, sys, threading, time
import sse_fast
from sse_fast.runner import emit

class Model:
    def model_dump(self, mode):
        return {"n": 1}

def every_call():
    server = sse_fast.serve(0)
    stream, other = server.stream("s", start="all"), server.stream("other")
    run = server.run([sys.executable, "-c", "import time; time.sleep(600)"], stream="run")
    # Not a function of this program: a thread that is inside it at the end would keep the program's names alive.
    watch = server.watch(time.monotonic, every=0.01, stream="watched", until="never")
    request = sse_fast.Request("GET", "/", [], [], [], b"1", None)
    events, heartbeat = other.events(timeout=0.01), other.heartbeat(every=1.0)
    serve, Event, Response, HttpError = sse_fast.serve, sse_fast.Event, sse_fast.Response, sse_fast.HttpError
    calls = {
        "publish str": lambda: stream.publish("x"),
        "publish bytes": lambda: stream.publish(b"x"),
        "publish dict": lambda: stream.publish({"n": [1, 2.5, None]}, event="e", id="1", retry=1.0, snapshot={"m": 1}),
        "publish model": lambda: stream.publish(Model()),
        "publish refused": lambda: stream.publish(object()),
        "publish wrong": lambda: stream.publish("x", event="a\\nb"),
        "publish_many": lambda: stream.publish_many([("a", "b"), {"data": {"n": 1}}, Event("c")]),
        "publish_many generator": lambda: stream.publish_many(("x", None) for _ in range(3)),
        "snapshot": lambda: stream.snapshot({"n": 1}),
        "subscribers": lambda: stream.subscribers,
        "last_id": lambda: stream.last_id,
        "ended": lambda: stream.ended,
        "name": lambda: stream.name,
        "stream stats": lambda: stream.stats(),
        "stream repr": lambda: repr(stream),
        "heartbeat": lambda: other.heartbeat(every=1.0, comment="c"),
        "heartbeat enter": lambda: heartbeat.__enter__(),
        "heartbeat exit": lambda: heartbeat.__exit__(None, None, None),
        "events": lambda: other.events(start="all", timeout=0.01),
        "events next": lambda: next(events),
        "events close": lambda: events.close(),
        "event json": lambda: Event("1").json(),
        "server stream": lambda: server.stream("new", history=10),
        "server streams": lambda: server.streams(),
        "server run": lambda: server.run(["true"], stream="again"),
        "server watch": lambda: server.watch(time.monotonic, every=1.0, stream="also", until="never"),
        "server route": lambda: server.route("/r/{id}", "r/{id}"),
        "server get": lambda: server.get("/g")(lambda request: None),
        "server post": lambda: server.post("/p")(lambda request: None),
        "server stats": lambda: server.stats(),
        "server port": lambda: server.port,
        "server url": lambda: server.url,
        "server closed": lambda: server.closed,
        "server repr": lambda: repr(server),
        "server enter": lambda: server.__enter__(),
        "run pid": lambda: run.pid,
        "run poll": lambda: run.poll(),
        "run returncode": lambda: run.returncode,
        "run status": lambda: run.status,
        "run result": lambda: run.result,
        "run terminate": lambda: run.terminate(),
        "run kill": lambda: run.kill(),
        "run send_signal": lambda: run.send_signal(15),
        "run wait": lambda: run.wait(timeout=0.01),
        "run repr": lambda: repr(run),
        "watch stop": lambda: watch.stop(),
        "watch done": lambda: watch.done,
        "watch wait": lambda: watch.wait(timeout=0.01),
        "watch repr": lambda: repr(watch),
        "request json": lambda: request.json(),
        "response": lambda: Response({"n": 1}, headers={"a": "b"}),
        "http error": lambda: HttpError(404, "no"),
        "emit": lambda: emit("E", {"n": 1}),
        "serve": lambda: serve(0).close(0.0),
        "end": lambda: stream.end({"n": 1}, event="over"),
        "publish after the end": lambda: stream.publish("x"),
        "remove": lambda: stream.remove(),
        "server close": lambda: server.close(drain=0.5),
        "publish after the close": lambda: other.publish("x"),
        "server exit": lambda: server.__exit__(None, None, None),
    }
    os.write(1, f"calls {len(calls)}\\n".encode())
    return calls
"""

#: An object that makes every call when it goes. It writes to the descriptor: `print` may be gone.
LAST = """
class Last:
    def __init__(self):
        self.calls, self.write = every_call(), os.write

    def __del__(self):
        for name, call in self.calls.items():
            try:
                call()
            except Exception as error:
                self.write(2, f"{name}: {type(error).__name__}\\n".encode())
            self.write(1, f"called {name}\\n".encode())
"""

ENDINGS = {
    "a global": CALLS + LAST + "last = Last()",
    "in a cycle": CALLS + LAST + "last = Last(); last.itself = last; del last",
    "the last of all": CALLS + LAST + "import builtins; builtins.last = Last()",
    "in a hook": "import atexit\natexit.register(lambda: last.__del__())\n" + CALLS + LAST + "last = Last()",
    "in a hook of its own": CALLS + LAST + "import atexit; last = Last(); atexit.register(last.__del__)",
    "in a daemon thread": CALLS
    + """
calls = every_call()
begun = threading.Event()
def call_on():
    while True:
        for name, call in calls.items():
            try:
                if name not in ("emit", "serve", "end", "remove", "server close", "server exit"):
                    call()
            except Exception:
                pass
        begun.set()
for _ in range(4):
    threading.Thread(target=call_on, daemon=True).start()
begun.wait(20.0)
for name in calls:
    os.write(1, f"called {name}\\n".encode())
""",
    "without stack": CALLS
    + """
def deeper(call, times):
    try:
        deeper(call, times)
    except RecursionError:
        if times:  # With no stack left, and with a little more each time.
            times.pop()
            call()
        raise
for name, call in every_call().items():
    try:
        deeper(call, [None] * 20)
    except Exception:
        pass
    os.write(1, f"called {name}\\n".encode())
""",
    "without memory": CALLS
    + """
import _testcapi
# No JSON: its encoder, orjson, is not made for this, and crashes by itself.
safe = ("publish str", "publish bytes", "publish wrong", "publish after the end", "ended", "subscribers")
calls = {name: call for name, call in every_call().items() if name in safe}
os.write(1, f"calls {len(calls)}\\n".encode())
for name, call in calls.items():
    for failing in range(60):
        _testcapi.set_nomemory(failing, failing + 1)
        try:
            call()
        except Exception:
            pass
        finally:
            _testcapi.remove_mem_hooks()
    os.write(1, f"called {name}\\n".encode())
""",
}

#: A value that says when its encoding has begun, and is far from its end a second later.
LONG_VALUE = """
class Model:
    def model_dump(self, mode):
        begun.set()
        return 1
value = [Model()] + [[0.5] * 1000] * 100_000
"""

#: A server closed from wherever a program may be; then the program ends.
CLOSINGS = {
    "poll": """
def poll():
    server.close(1.0)
server.watch(poll, every=0.01, stream="w", until=())
server.wait()
""",
    "poll while the main thread ends": """
def poll():
    begun.set()
    server.close(1.0)
server.watch(poll, every=0.01, stream="w", until=())
begun.wait(20.0)
""",
    "handler": """
@server.get("/stop")
def stop(request):
    begun.set()
    server.close(1.0)
    return {}
client = socket.create_connection(("127.0.0.1", server.port))
client.sendall(b"GET /stop HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
begun.wait(20.0)
""",
    "handler while the main thread waits": """
@server.get("/stop")
def stop(request):
    server.close(1.0)
    return {}
client = socket.create_connection(("127.0.0.1", server.port))
client.sendall(b"GET /stop HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
server.wait()
""",
    "on_event": """
child = "from sse_fast.runner import emit; import time; emit('A', 1); time.sleep(60)"
server.run([sys.executable, "-c", child], stream="r", on_event=lambda event: server.close(1.0))
server.wait()
""",
    "log handler": """
class Closing(logging.Handler):
    def emit(self, record):
        server.close(1.0)
logging.getLogger("sse_fast").addHandler(Closing())
logging.getLogger("sse_fast").setLevel(logging.DEBUG)
logging.getLogger("sse_fast").propagate = False
server.run(["true"], stream="r")
server.wait()
""",
    "log handler that publishes while the main thread ends": """
class Publishing(logging.Handler):
    def emit(self, record):
        try:
            stream.publish(record.getMessage())
            stream.end()
        except sse_fast.SseFastError:
            pass
logging.getLogger("sse_fast").addHandler(Publishing())
logging.getLogger("sse_fast").setLevel(logging.DEBUG)
logging.getLogger("sse_fast").propagate = False
for _ in range(20):
    server.run(["echo", "x"], stream=f"r{_}")
""",
    "signal handler": """
signal.signal(signal.SIGALRM, lambda *_: server.close(1.0))
signal.setitimer(signal.ITIMER_REAL, 0.05)
server.wait()
""",
    "signal handler during close": """
reader = socket.socket()
reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
reader.connect(("127.0.0.1", server.port))
reader.sendall(b"GET /streams/s HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
reader.recv(100)
for _ in range(200):
    stream.publish("x" * 4000)
signal.signal(signal.SIGALRM, lambda *_: server.close(1.0))
signal.setitimer(signal.ITIMER_REAL, 0.2)
server.close(1.0)
""",
    "hook": "import atexit; atexit.register(server.close)",
    "earlier hook": "",
    "__del__": """
class Closing:
    def __del__(self):
        server.close(1.0)
Closing()
""",
    "__del__ at the end": """
class Closing:
    def __init__(self):
        self.close = server.close
    def __del__(self):
        self.close(1.0)
closing = Closing()
""",
    "daemon thread": "threading.Thread(target=server.close, daemon=True).start(); server.wait()",
    "many daemon threads while the main thread ends": """
for _ in range(20):
    threading.Thread(target=server.close, daemon=True).start()
""",
    "no stack left": """
def deeper():
    try:
        deeper()
    except RecursionError:
        server.close(0.5)
        raise
try:
    deeper()
except RecursionError:
    pass
""",
    "task": """
async def main():
    asyncio.get_running_loop().call_later(0.05, server.close)
    async for _ in stream.events():
        pass
asyncio.run(main())
""",
    "daemon threads that ask for numbers": """
for ask in (server.stats, stream.stats, lambda: stream.publish_many(["a", ("b", "B"), {"data": {"n": 1}}])):
    def asks(ask=ask):
        while True:
            ask()
    threading.Thread(target=asks, daemon=True).start()
threading.excepthook = lambda *_: None
time.sleep(0.05)
""",
    "generator that never ends": """
def endless():
    begun.set()
    while True:
        yield ("x", None)
threading.Thread(target=lambda: stream.publish_many(endless()), daemon=True).start()
threading.excepthook = lambda *_: None
begun.wait(20.0)
""",
    "model that takes its time": """
class Model:
    def model_dump(self, mode):
        begun.set()
        time.sleep(0.2)
        return 1
def publish():
    while True:
        stream.publish([Model()] * 10)
threading.Thread(target=publish, daemon=True).start()
threading.excepthook = lambda *_: None
begun.wait(20.0)
""",
    "value that takes minutes to encode": LONG_VALUE
    + """
threading.Thread(target=lambda: stream.publish(value), daemon=True).start()
threading.excepthook = lambda *_: None
begun.wait(20.0)
""",
    "answer that takes minutes to encode": LONG_VALUE
    + """
import urllib.request
server.get("/large")(lambda _request: value)
threading.Thread(target=lambda: urllib.request.urlopen(server.url + "/large").read(), daemon=True).start()
threading.excepthook = lambda *_: None
begun.wait(20.0)
""",
}

BEFORE = """
import asyncio, atexit, logging, signal, socket, sys, threading, time
atexit.register(lambda: server.close())
import sse_fast
server = sse_fast.serve(0)
stream = server.stream("s", start="all")
begun = threading.Event()
"""

#: Races are tried this often.
TIMES = 3

Case = tuple[str, str, int]


def run_case(case: Case) -> Ended:
    kind, name, _ = case
    source = ENDINGS[name] + "\nraise SystemExit(5)" if kind == "calls" else BEFORE + CLOSINGS[name]
    return ended(source, deadline=DEADLINE)


@pytest.fixture(scope="module")
def programs(request: pytest.FixtureRequest) -> Iterator[SideBySide[Case, Ended]]:
    own = [item.callspec.params for item in request.session.items if item.path == request.path]
    cases = [("calls", params["ending"], 0) for params in own if "ending" in params]
    cases += [("closing", params["closing"], n) for params in own if "closing" in params for n in range(TIMES)]
    with SideBySide(run_case, cases) as running:
        yield running


def assert_no_abort(outcome: Ended, code: int, *fatal_words: str) -> None:
    assert outcome.code == code, (outcome.code, outcome.lines[-3:], outcome.stderr[-3000:])
    for fatal in ("FATAL", "Fatal Python error", *fatal_words):
        assert fatal not in outcome.stderr, outcome.stderr[-3000:]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("ending", ENDINGS)
def test_every_public_call_raises_at_worst(programs: SideBySide[Any, Ended], ending: str) -> None:
    if ending == "without memory":
        pytest.importorskip("_testcapi", reason="this Python lacks its own test modules, which make memory fail")
    outcome = programs.outcome(("calls", ending, 0))
    # pyo3 panics where a text does not fit into memory; it is a MemoryError by the time that Python sees it.
    assert_no_abort(outcome, 5, *(["panic"] if ending != "without memory" else []))
    called = {line for line in outcome.lines if line.startswith("called ")}
    assert f"calls {len(called)}" in outcome.lines, outcome.stderr[-3000:]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("closing", CLOSINGS)
def test_a_server_may_be_closed_from_anywhere(programs: SideBySide[Any, Ended], closing: str) -> None:
    for number in range(TIMES):
        outcome = programs.outcome(("closing", closing, number))
        assert_no_abort(outcome, 0, "panic", "the handler of GET")
