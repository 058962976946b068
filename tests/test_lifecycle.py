"""Starting, stopping, forking, and what is left behind.

Guards the life of a server: typed errors at the start, programs that end while a
server runs, Ctrl-C and SIGTERM, draining, forks, and that connections that came
and went leave no descriptor, thread or memory behind.

Long, because starting, forking, draining and ending are one life, and share what they leave behind.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import threading
from pathlib import Path

import pytest

import sse_fast
from conftest import Open, Serve
from support.deadline import until
from support.left_behind import descriptors, resident
from support.process import Program, run_program
from support.reader import Reader, fetch

# ---- Starting ----------------------------------------------------------------------------


def test_serve_returns_at_once_and_listens(serve: Serve) -> None:
    server = serve()
    assert server.port > 0
    assert server.url == f"http://127.0.0.1:{server.port}"
    assert fetch(server.port, "/")[0].status == 404


def test_an_address_in_use_is_a_typed_error_that_names_it(serve: Serve) -> None:
    first = serve()
    with pytest.raises(sse_fast.AddressInUse, match=str(first.port)) as caught:
        serve(first.port)
    assert isinstance(caught.value, OSError)
    assert fetch(first.port, "/")[0].status == 404


def test_a_port_is_free_again_at_once_after_close(serve: Serve) -> None:
    first = serve()
    stream = first.stream("s")
    with Reader(first.port) as reader:
        reader.open()
        stream.publish("x")
        reader.next()
        first.close(drain=1.0)
    second = serve(first.port)
    assert second.port == first.port


@pytest.mark.parametrize("host", ["256.1.1.1", "not a host", "192.0.2.1"])
def test_an_address_that_cannot_be_bound_is_a_typed_error_that_names_it(serve: Serve, host: str) -> None:
    with pytest.raises((ValueError, OSError), match=host.replace(".", r"\.")) as caught:
        serve(host=host)
    assert isinstance(caught.value, sse_fast.SseFastError)


def test_a_privileged_port_is_permission_denied() -> None:
    if os.geteuid() == 0 or _unprivileged_from() <= 1:
        # As root every port may be bound; the error is raised in a child without the right to.
        program = run_program(
            """
            import decimal, os, sse_fast, sse_fast._encode
            import orjson  # What `serve` imports may not be readable without rights.
            assert sse_fast.serve  # The package imports what is used.
            try:
                os.setgid(65534)
                os.setuid(65534)
            except PermissionError:
                print("cannot drop the right")
                raise SystemExit
            try:
                sse_fast.serve(1).close()
                print("bound")
            except PermissionError as error:
                print(type(error).__name__, isinstance(error, sse_fast.SseFastError), "1" in str(error))
            """
        )
        if _unprivileged_from() > 1:
            assert program.lines == ["PermissionDenied True True"]
        return
    with pytest.raises(sse_fast.PermissionDenied, match="1"):
        sse_fast.serve(1)


def _unprivileged_from() -> int:
    path = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    return int(path.read_text()) if path.exists() else 1024


def test_two_servers_live_side_by_side(serve: Serve) -> None:
    first, second = serve(), serve()
    first.stream("s", start="all").publish("first")
    second.stream("s", start="all").publish("second")
    for server, data in ((first, "first"), (second, "second")):
        with Reader(server.port) as reader:
            assert reader.open().next().data == data
    first.close()
    assert second.stream("s").publish("still").endswith("-2")


# ---- Closing -----------------------------------------------------------------------------


def test_a_handler_s_answer_with_a_stream_of_another_server_harms_neither(serve: Serve) -> None:
    """Two servers share nothing: such an answer is a failure of the handler, or it works; no thread may die of it."""
    for shards in ((4, 1), (1, 4)):
        one, two = serve(shards=shards[0]), serve(shards=shards[1])
        foreign = two.stream("s", start="all")
        foreign.end("over")
        one.get("/foreign")(lambda _req, stream=foreign: stream)
        for _ in range(8):  # Enough for each shard.
            with Reader(one.port, "/foreign") as reader:
                if reader.read_head().status == 200:
                    assert reader.rest()[-1].data == "over"
                else:
                    assert reader.head is not None
                    assert reader.head.status == 500
        for server in (one, two):
            stream = server.stream("own", start="all")
            stream.publish("still here")
            for _ in range(8):
                with Reader(server.port, "/streams/own") as reader:
                    assert reader.open().next().data == "still here"


def test_a_server_listens_on_ipv6_and_says_so_in_its_url(serve: Serve) -> None:
    try:
        server = serve(host="::1")
    except sse_fast.StartError as error:
        pytest.skip(f"this machine has no IPv6: {error}")
    assert server.url == f"http://[::1]:{server.port}"
    stream = server.stream("s", start="all")
    stream.end("over")
    with Reader(server.port, host="::1") as reader:
        assert reader.open().rest()[-1].data == "over"


def test_close_is_idempotent_and_from_any_thread(serve: Serve) -> None:
    server = serve()
    threads = [threading.Thread(target=server.close) for _ in range(5)]
    for thread in threads:
        thread.start()
    server.close()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert server.closed
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), timeout=5)


def test_a_server_is_a_context_manager(serve: Serve) -> None:
    with serve() as server:
        server.stream("s").publish("x")
    assert server.closed
    with pytest.raises(ZeroDivisionError), serve() as server:
        raise ZeroDivisionError
    assert server.closed


def test_close_gives_readers_what_they_lack_and_ends_their_response(serve: Serve) -> None:
    server = serve()
    stream = server.stream("s")
    with Reader(server.port) as reader:
        reader.open()
        ids = [stream.publish(number) for number in range(100)]
        server.close()
        assert [event.own_id for event in reader.rest()] == ids
        reader.read_eof()


def test_close_drains_to_a_slow_reader(serve: Serve) -> None:
    server = serve(history=2000, max_lag=2000, history_bytes=64 << 20)
    stream = server.stream("s")
    with Reader(server.port, receive_buffer=4096) as reader:
        reader.open()
        for number in range(500):
            stream.publish(str(number) + "x" * 4000)
        stream.end("over")
        closing = threading.Thread(target=server.close, kwargs={"drain": 60.0})
        closing.start()
        events = reader.rest(60)
        closing.join(30)
        assert not closing.is_alive()
    assert len(events) == 501
    assert events[-1].data == "over"


def test_close_does_not_wait_for_a_reader_that_takes_nothing(serve: Serve) -> None:
    server = serve()
    stream = server.stream("s")
    with Reader(server.port, receive_buffer=2048) as reader:
        reader.open()
        for number in range(3000):
            stream.publish(str(number) + "x" * 2000)
        closing = threading.Thread(target=server.close, kwargs={"drain": 0.5})
        closing.start()
        closing.join(20)
        assert not closing.is_alive(), "a stalled reader holds close up"


@pytest.mark.parametrize("drain", [-1, float("nan"), "x"])
def test_a_bad_drain_is_a_typed_error(server: sse_fast.Server, drain: float) -> None:
    with pytest.raises(ValueError, match="drain"):
        server.close(drain=drain)


def test_wait_returns_when_another_thread_closes(serve: Serve) -> None:
    server = serve()
    threading.Timer(0.2, server.close).start()
    server.wait()
    assert server.closed


# ---- Programs ----------------------------------------------------------------------------

SERVER = """
import sse_fast, sys
server = sse_fast.serve(0)
stream = server.stream("s")
print("port", server.port, flush=True)
"""


def test_a_program_that_just_ends_ends() -> None:
    run_program(SERVER)
    run_program(SERVER + "raise SystemExit(0)")
    run_program(
        SERVER + "import threading; threading.Thread(target=lambda: list(stream.events()), daemon=True).start()"
    )
    run_program(SERVER + "del server, stream; import gc; gc.collect()")


def test_a_program_that_ends_with_readers_gives_them_the_last_event() -> None:
    source = SERVER + 'while stream.subscribers < 1: pass\nstream.publish("a")\nstream.end("last")\n'
    with Program(source) as program:
        port = int(program.line_with("port"))
        with Reader(port) as reader:
            reader.open()
            assert [event.data for event in reader.rest()] == ["a", "last"]
        assert program.wait() == 0
        assert program.stderr == ""


def test_a_program_that_ends_in_an_exception_ends() -> None:
    with Program(SERVER + 'raise RuntimeError("boom")') as program:
        program.line_with("port")
        assert program.wait() == 1
        assert "boom" in program.stderr
        assert "panicked" not in program.stderr


def test_a_server_is_not_closed_because_nobody_holds_it() -> None:
    with Program(
        'import sse_fast, gc, sys\nprint("port", sse_fast.serve(0).port)\ngc.collect()\nimport signal\nsignal.pause()'
    ) as program:
        port = int(program.line_with("port"))
        assert fetch(port, "/")[0].status == 404


def test_ctrl_c_in_a_program_that_does_something_else_is_a_keyboard_interrupt() -> None:
    with Program(
        SERVER
        + """
import signal
try:
    print("pausing", flush=True)
    signal.pause()
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
    ) as program:
        program.line_with("port")
        assert program.line() == "pausing"
        program.send_signal(signal.SIGINT)
        assert program.line() == "interrupted"
        assert program.wait() == 0


# ---- Fork --------------------------------------------------------------------------------


def test_a_forked_child_is_told_and_harms_nothing() -> None:
    program = run_program(
        """
        import os, sse_fast, sys, warnings
        warnings.simplefilter("ignore")
        server = sse_fast.serve(0)
        stream = server.stream("s")
        stream.publish("parent")
        pid = os.fork()
        if pid == 0:
            results = []
            for act in (
                lambda: stream.publish("child"),
                lambda: server.stream("t"),
                lambda: list(stream.events(timeout=1)),
                lambda: server.run(["true"], stream="r"),
            ):
                try:
                    act()
                    results.append("no error")
                except sse_fast.ForkError as error:
                    results.append("ForkError" if isinstance(error, RuntimeError) else "no RuntimeError")
                except BaseException as error:
                    results.append(type(error).__name__)
            server.close()
            print("child", results, flush=True)
            with sse_fast.serve(0) as own:
                print("own", own.stream("s").publish("x").endswith("-1"), flush=True)
            sys.exit(0)
        _, status = os.waitpid(pid, 0)
        print("status", status)
        print("parent", stream.publish("again").endswith("-2"))
        server.close()
        """
    )
    assert program.lines == [
        "child ['ForkError', 'ForkError', 'ForkError', 'ForkError']",
        "own True",
        "status 0",
        "parent True",
    ]


def test_multiprocessing_by_fork_works_beside_a_server() -> None:
    program = run_program(
        """
        import multiprocessing, warnings
        warnings.simplefilter("ignore")
        import sse_fast
        def work(n):
            return n * n
        if __name__ == "__main__":
            server = sse_fast.serve(0)
            with multiprocessing.get_context("fork").Pool(2) as pool:
                print(pool.map(work, range(5)))
            server.stream("s").publish("x")
            server.close()
        """
    )
    assert program.lines == ["[0, 1, 4, 9, 16]"]


# ---- What is left behind -----------------------------------------------------------------


def test_a_thousand_connections_leave_nothing_behind(server: sse_fast.Server, read: Open) -> None:
    stream = server.stream("s")
    for _ in range(5):
        with Reader(server.port) as reader:
            reader.open()
    until(lambda: stream.subscribers == 0)
    gc.collect()
    before, threads = descriptors(), threading.active_count()
    for number in range(1000):
        with Reader(server.port) as reader:
            reader.open()
            if number % 3 == 0:
                stream.publish(number)
                reader.next()
            if number % 2:
                reader.reset()
    until(lambda: stream.subscribers == 0)
    until(lambda: descriptors() <= before, what=f"no more than {before} descriptors")
    assert threading.active_count() == threads
    reader = read().open()
    stream.publish("still")
    assert reader.next().data == "still"


def test_a_thousand_requests_of_every_kind_leave_nothing_behind(server: sse_fast.Server) -> None:
    server.get("/page")(lambda _req: "x")
    server.route("/wait/{id}", "none/{id}", wait=0.01)
    fetch(server.port, "/page")
    gc.collect()
    until(lambda: server.stats().connections == 0)
    before = descriptors()
    for number in range(250):
        fetch(server.port, "/page")
        fetch(server.port, "/none")
        fetch(server.port, f"/wait/{number}")
        with Reader(server.port, raw=b"GARBAGE\r\n\r\n") as reader:
            reader.read_eof()
    until(lambda: descriptors() <= before, what=f"no more than {before} descriptors")
    assert server.streams() == []


def test_servers_that_came_and_went_leave_nothing_behind() -> None:
    def once() -> None:
        with sse_fast.serve(0) as server, Reader(server.port, "/streams/s") as reader:
            stream = server.stream("s", start="all")
            reader.read_head()
            stream.publish("x")

    once()
    gc.collect()
    before, threads = descriptors(), threading.active_count()
    for _ in range(20):
        once()
    gc.collect()
    until(lambda: descriptors() <= before, what=f"no more than {before} descriptors")
    until(lambda: threading.active_count() <= threads)


def test_memory_does_not_grow_with_streams_that_came_and_went(serve: Serve) -> None:
    server = serve(linger=0.01)

    def rounds(count: int) -> None:
        for number in range(count):
            stream = server.stream(f"gone/{number}")
            for _ in range(20):
                stream.publish("x" * 1000)
            stream.end()
        until(lambda: server.streams() == [], 30)

    rounds(200)
    before = resident()
    for _ in range(5):
        rounds(400)
    # 2000 streams of 20 KB each would be 40 MB.
    assert resident() - before < 20 << 20
