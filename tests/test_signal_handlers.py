"""Signal handlers that use the server while they interrupt a publish of the same thread.

A handler runs while the publish it interrupted still has its place among those who wait. Guards that what the handler
does gets through, whatever it is, and that the terminal event reaches a reader that takes bytes again.
"""

from __future__ import annotations

import pytest

from support.process import Program
from support.stuck import PREAMBLE

PROGRAM = """
entered = threading.Event()
received = bytearray()


def interrupt():
    until_it_waits()
    os.kill(os.getpid(), signal.SIGUSR1)
    entered.wait()
    while data := reader.recv(65536):
        received.extend(data)


def handler(number, frame):
    entered.set()
    {handler}


def publish():
    for number in range(1_000_000):
        {publish}


{before}
signal.signal(signal.SIGUSR1, handler)
reading = threading.Thread(target=interrupt)
reading.start()
try:
    publish()
except (sse_fast.StreamEnded, sse_fast.ServerClosed) as error:
    print(type(error).__name__, flush=True)
server.close(5.0)
reading.join()
events = [line[6:9] for line in received.split(b"\\n") if line.startswith(b"data: ")]
print(events[-1].decode(), len([event for event in events if event == b"las"]), b"event: gap" in received, flush=True)
"""

#: Ends with the server, as its child must.
CHILD = 'server.run([sys.executable, "-c", "import time; time.sleep(600)"], stream=stream, grace=1.0)'


@pytest.mark.parametrize("publish", ['stream.publish("x" * 3000)', 'stream.publish_many([("x" * 3000, None)] * 20)'])
@pytest.mark.parametrize(
    ("handler", "raised"),
    [
        ('stream.end("last")', "StreamEnded"),
        ('stream.publish("middle"); stream.end("last")', "StreamEnded"),
        ('server.stream("s").publish_many([("middle", None)] * 20); stream.end("last")', "StreamEnded"),
        ('stream.end("last"); server.close(5.0)', "StreamEnded ServerClosed"),
    ],
)
def test_a_handler_that_publishes_where_it_interrupted_a_publish_gets_through(
    publish: str, handler: str, raised: str
) -> None:
    with Program(PREAMBLE + PROGRAM.format(handler=handler, publish=publish, before="")) as program:
        assert program.line() in raised.split()
        assert program.line() == "las 1 False"
        assert program.wait() == 0


def test_a_handler_that_closes_the_server_leaves_a_run_its_end() -> None:
    text = PREAMBLE + PROGRAM.format(handler="server.close(10.0)", publish='stream.publish("x" * 3000)', before=CHILD)
    with Program(text) as program:
        assert program.line() in {"StreamEnded", "ServerClosed"}
        assert program.line().startswith('{"e')
        assert program.wait() == 0
