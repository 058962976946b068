"""What `server.run` calls with the events of a run, while its server is closed.

Guards that closing waits for the last call, no longer than it may, and from wherever it is called; that runs may start
and end while a server closes. That calls come in order, with every event, is in test_runs.py.
"""

from __future__ import annotations

import contextlib
import threading

import sse_fast
from conftest import Serve
from support.beats import Beats
from support.deadline import DEADLINE, until
from support.threads import slept

#: A child that has nothing to say, and one that waits to be ended.
NOTHING = ["true"]
WAITS = ["sleep", "60"]


def test_closing_waits_for_the_last_call(serve: Serve) -> None:
    server = serve()
    called, go = threading.Event(), threading.Event()
    heard: list[str] = []

    def on_event(event: sse_fast.Event) -> None:
        called.set()
        assert go.wait(DEADLINE)
        heard.append(event.event)

    server.run(WAITS, stream="s", on_event=on_event)
    closing = threading.Thread(target=server.close, args=(DEADLINE,), daemon=True)
    closing.start()
    assert called.wait(DEADLINE)
    with Beats(serve(), 0.02) as beats:
        until(lambda: slept(closing, beats))
    assert closing.is_alive()
    go.set()
    closing.join(DEADLINE)
    assert not closing.is_alive()
    assert heard == ["end"]


def test_closing_waits_no_longer_than_it_may(serve: Serve) -> None:
    server = serve()
    go, over = threading.Event(), threading.Event()

    def on_event(_event: sse_fast.Event) -> None:
        go.wait(DEADLINE)
        over.set()

    server.run(WAITS, stream="s", on_event=on_event)
    server.close(0.3)
    assert not over.is_set()
    go.set()
    assert over.wait(DEADLINE)


def test_the_server_may_be_closed_by_what_is_called(serve: Serve) -> None:
    server = serve()
    closed = threading.Event()

    def on_event(_event: sse_fast.Event) -> None:
        server.close(DEADLINE)
        closed.set()

    server.run(NOTHING, stream="s", on_event=on_event)
    assert closed.wait(DEADLINE)


def test_runs_may_start_and_end_while_the_server_closes(serve: Serve) -> None:
    for _ in range(10):
        server = serve()
        ended = threading.Semaphore(0)

        def start(server: sse_fast.Server, ended: threading.Semaphore, name: str) -> None:
            with contextlib.suppress(sse_fast.ServerClosed):  # It is refused once the server closes.
                for number in range(100_000):
                    server.run(NOTHING, stream=f"{name}/{number}", on_event=lambda _event: ended.release())

        threads = [threading.Thread(target=start, args=(server, ended, f"s{number}")) for number in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(20):
            assert ended.acquire(timeout=DEADLINE)
        server.close()
        for thread in threads:
            thread.join(DEADLINE)
            assert not thread.is_alive()
