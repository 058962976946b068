"""Several processes behind one backplane, killed, forked, started anew: readers get every event once, in one order."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator

import pytest

from support.backplane import KINDS, BackplaneServer
from support.process import Program, run_program
from support.reader import Reader, fetch

#: A process that serves, and publishes when it is told to over HTTP.
ENGINE = """
import sys
import sse_fast

server = sse_fast.serve(0, backplane=sys.argv[1])
stream = server.stream("s", start="all", history=4096)

@server.post("/publish")
def publish(request):
    return [stream.publish(str(number)) for number in range(*request.json())]

@server.post("/end")
def end(_request):
    return stream.end("over")

print("port", server.port)
server.wait()
"""


@pytest.fixture(params=KINDS)
def shared(request: pytest.FixtureRequest) -> Iterator[BackplaneServer]:
    with BackplaneServer(request.param) as server:
        yield server


def port_of(program: Program) -> int:
    return int(program.line_with("port"))


def post(port: int, path: str, body: object = None) -> object:
    head, answer = fetch(port, path, method="POST", body=json.dumps(body).encode())
    assert head.status == 200, answer
    return json.loads(answer)


def test_a_reader_of_a_killed_process_goes_on_in_another(shared: BackplaneServer) -> None:
    with Program(ENGINE, shared.url) as one, Program(ENGINE, shared.url) as other:
        ports = [port_of(one), port_of(other)]
        with Reader(ports[0]) as reader, Reader(ports[1]) as witness:
            post(ports[0], "/publish", [0, 50])
            post(ports[1], "/publish", [50, 100])
            last = reader.open().take(70)[-1].last_event_id
            one.send_signal(signal.SIGKILL)
            one.wait()
            post(ports[1], "/publish", [100, 150])
            with Reader(ports[1], last_event_id=last) as again:
                assert [event.data for event in again.open().take(80)] == [str(number) for number in range(70, 150)]
            with Program(ENGINE, shared.url) as anew:
                port = port_of(anew)
                last_id = post(port, "/end")
                assert [event.data for event in witness.open().rest()] == [*map(str, range(150)), "over"]
                with Reader(port, last_event_id=last) as third:
                    events = third.open().rest()
                assert [event.data for event in events] == [*map(str, range(70, 150)), "over"]
                assert events[-1].last_event_id == last_id


FORKING = """
import os, socket, sys
import sse_fast

def descriptors():
    found = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            found[fd] = os.readlink(f"/proc/self/fd/{fd}")
        except FileNotFoundError:
            pass
    return found

before = set(descriptors())
server = sse_fast.serve(0, backplane=sys.argv[1])
stream = server.stream("s", start="all")
stream.publish("a")
pid = os.fork()
if not pid:
    left = {fd: link for fd, link in descriptors().items() if fd not in before}
    try:
        stream.publish("from the child")
    except sse_fast.ForkError:
        print("refused", left, flush=True)
    os._exit(0)
os.waitpid(pid, 0)
print(stream.publish("b").rpartition("-")[2])
server.close()
print("left", sorted(set(descriptors()) - before))
"""


def test_a_forked_child_holds_nothing_of_the_backplane_and_closing_leaves_nothing(shared: BackplaneServer) -> None:
    lines = run_program(FORKING, shared.url).lines
    assert lines == ["refused {}", "2", "left []"]


def test_a_process_that_ends_without_closing_ends(shared: BackplaneServer) -> None:
    source = """
        import sys, sse_fast
        server = sse_fast.serve(0, backplane=sys.argv[1])
        server.stream("s").publish("a")
        print("published")
    """
    assert run_program(source, shared.url).lines == ["published"]
