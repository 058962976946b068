"""`sse_fast.connect`: publishing and reading from another process, over real sockets, against the real engine.

Guards that a client raises what a stream raises, that nothing is lost or doubled however connections fail, that threads
and forked processes may share one, and that a reader comes back where it was. The parts are stepped in
test_client_parts.py; test_client_async.py is the same for asyncio. This file is long because it has every way in which
a connection may fail.
"""

from __future__ import annotations

import json
import math
import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

import sse_fast
from conftest import Serve
from support.cutting import CuttingProxy
from support.deadline import DEADLINE, until
from support.process import run_program
from support.proxy import Proxy
from support.reader import Reader

KEY = "a-key-of-32-characters-or-more-00"


@pytest.fixture
def hub(serve: Serve) -> sse_fast.Server:
    """A server that takes events from elsewhere."""
    return serve(publish_key=KEY)


@pytest.fixture
def client(hub: sse_fast.Server) -> Iterator[sse_fast.Client]:
    with sse_fast.connect(hub.url, key=KEY) as client:
        yield client


def data_of(stream: sse_fast.Stream) -> list[str]:
    """The data of every event, read in this process."""
    return [event.data for event in stream.events(start="all", timeout=DEADLINE)]


# ---- Publishing ----------------------------------------------------------------------------


def test_what_a_client_publishes_is_what_the_stream_would(hub: sse_fast.Server, client: sse_fast.Client) -> None:
    here, there = hub.stream("here", start="all"), client.stream("there/a b/é")
    for stream in (here, there):
        first = stream.publish({"status": "COMPILING", "é": "\u2028"}, event="COMPILING", snapshot={"n": 1})
        assert first.endswith("-1")
        stream.publish("two\nlines", id="own", retry=2.5)
        stream.publish(b"bytes")
        stream.publish(None)
        assert len(stream.publish_many([("a", "A"), sse_fast.Event("b"), {"data": [1], "id": "mine"}])) == 3
        stream.snapshot([1, 2], event="state")
        assert stream.end({"status": "BENCHMARKED"}, event="BENCHMARKED")
        assert stream.ended
        assert stream.last_id
    bodies = []
    for path in ("/streams/here", "/streams/there/a%20b/%C3%A9"):
        with Reader(hub.port, path) as reader:
            reader.open().rest()
            bodies.append(bytes(reader.body))
    epochs = [hub.stream(name).last_id.partition("-")[0].encode() for name in ("here", "there/a b/é")]  # type: ignore[union-attr]
    assert bodies[0].replace(epochs[0], b"E") == bodies[1].replace(epochs[1], b"E")


def test_ids_come_back_and_the_state_is_told(hub: sse_fast.Server, client: sse_fast.Client) -> None:
    stream = client.stream("s")
    assert (stream.last_id, stream.ended, stream.name) == (None, False, "s")
    assert hub.stream("s", start="all").last_id is None
    assert stream.last_id is None  # There is a stream now, and no event.
    hub.stream("own").publish("x", id="customer42-0")
    assert client.stream("own").last_id == hub.stream("own").last_id == "customer42-0"
    assert [stream.publish(1), *stream.publish_many([(2, None), (3, None)])][-1] == hub.stream("s").last_id
    assert stream.last_id == hub.stream("s").last_id
    assert stream.publish_many([]) == []


def test_the_state_of_a_long_stream_is_its_end(hub: sse_fast.Server, client: sse_fast.Client) -> None:
    """An answer has 256 KiB of events; the rest is asked for."""
    here = hub.stream("s", start="all", history=1000)
    last = here.publish_many([("x" * 1000, None)] * 900)[-1]
    assert (client.stream("s").last_id, client.stream("s").ended) == (last, False)


def test_an_ended_stream_raises_what_a_stream_raises(hub: sse_fast.Server, client: sse_fast.Client) -> None:
    stream = client.stream("s")
    stream.end()
    for call in (lambda: stream.publish(1), lambda: stream.publish_many([(1, None)]), stream.end):
        with pytest.raises(sse_fast.StreamEnded, match="cannot publish into 's'"):
            call()
    stream.remove()
    stream.remove()
    assert stream.publish(1).endswith("-1")


def test_an_event_that_is_too_long_is_the_event_s_fault(serve: Serve) -> None:
    hub = serve(publish_key=KEY, max_event_bytes=2048)
    stream = sse_fast.connect(hub.url, key=KEY).stream("s")
    for size in (3000, 100_000):
        with pytest.raises(sse_fast.EventError):
            stream.publish("x" * size)
    with pytest.raises(sse_fast.EventError, match=r"events\[1\]: data is 3000 bytes long"):
        stream.publish_many([("a", None), ("x" * 3000, None)])
    assert stream.last_id is None


def test_nothing_is_sent_where_one_event_is_wrong(client: sse_fast.Client) -> None:
    stream = client.stream("s")
    with pytest.raises(sse_fast.EventTypeError, match=r"events\[600\]: data: object is not JSON"):
        stream.publish_many([(n, None) for n in range(600)] + [(object(), None)])
    assert stream.last_id is None


@pytest.mark.parametrize("history", [1, 7, 100, 256, 5000])
def test_many_events_go_in_as_few_requests_as_the_stream_takes(serve: Serve, history: int) -> None:
    hub = serve(publish_key=KEY, history=history)
    before = hub.stats().requests
    stream = sse_fast.connect(hub.url, key=KEY).stream("s")
    ids = stream.publish_many([(n, None) for n in range(600)])
    assert [int(id_.partition("-")[2]) for id_ in ids] == list(range(1, 601))
    assert hub.stats().requests - before <= 600 // min(history, 256) * 2 + 10


def test_a_batch_that_is_too_long_in_bytes_is_divided(serve: Serve) -> None:
    hub = serve(publish_key=KEY, history_bytes=100_000)
    stream = sse_fast.connect(hub.url, key=KEY).stream("s")
    assert len(stream.publish_many([("x" * 10_000, None)] * 50)) == 50


@pytest.mark.parametrize("key", [None, "another-key-of-32-characters-or-more"])
def test_who_may_not_publish_is_told_so(hub: sse_fast.Server, key: str | None) -> None:
    stream = sse_fast.connect(hub.url, key=key).stream("s")
    with pytest.raises(sse_fast.AccessDenied) as refused:
        stream.publish(1)
    assert (refused.value.status, refused.value.published) == (401, False)
    assert key is None or key not in str(refused.value)


def test_a_server_that_takes_nothing_from_elsewhere_says_so(server: sse_fast.Server) -> None:
    with pytest.raises(sse_fast.AccessDenied) as refused:
        sse_fast.connect(server.url, key=KEY).stream("s").publish(1)
    assert refused.value.status == 405


def test_a_key_of_the_caller_s_own_publishes_once(hub: sse_fast.Server) -> None:
    for _ in range(2):  # Two processes, or two tries of one task.
        with sse_fast.connect(hub.url, key=KEY) as client:
            one = client.stream("s").publish({"n": 1}, idempotency_key="task-7")
            many = client.stream("s").publish_many([(n, None) for n in range(300)], idempotency_key="task-8")
    assert (one.rpartition("-")[2], len(many), hub.stream("s").last_id) == ("1", 300, many[-1])
    with (
        sse_fast.connect(hub.url, key=KEY) as client,
        pytest.raises(sse_fast.KeyReused, match="used with another body"),
    ):
        client.stream("s").publish({"n": 2}, idempotency_key="task-7")


MANY = [(number, None) for number in range(600)]


def test_a_list_under_a_key_is_known_again_whatever_options_it_comes_with(hub: sse_fast.Server) -> None:
    with sse_fast.connect(hub.url, key=KEY) as client:
        one = client.stream("a").publish("x", event="E", idempotency_key="k")
        assert client.stream("a").publish_many([("x", "E")], idempotency_key="k") == [one]
        with pytest.raises(sse_fast.KeyReused):
            client.stream("a").publish_many([("x", "E"), ("y", None)], idempotency_key="k")

        wide = client.stream("b", history=1000)
        ids = wide.publish_many(MANY, idempotency_key="many")
        assert wide.publish_many(MANY, idempotency_key="many") == ids
        assert client.stream("b").publish_many(MANY, idempotency_key="many") == ids
        assert client.stream("b", history=3).publish_many(MANY, idempotency_key="many") == ids
        assert hub.stream("b").last_id == ids[-1]


def test_a_list_under_a_key_that_the_stream_cannot_take_whole_is_refused_as_in_its_process(
    hub: sse_fast.Server,
) -> None:
    hub.stream("own", history=3)
    with sse_fast.connect(hub.url, key=KEY) as client:
        for publish_many in (hub.stream("own").publish_many, client.stream("other", history=3).publish_many):
            with pytest.raises(sse_fast.EventError):
                publish_many(MANY[:10], idempotency_key="k")
            # What was refused is not kept: the key serves for what can be taken.
            assert len(publish_many(MANY[:3], idempotency_key="k")) == 3
        assert len(client.stream("other").publish_many(MANY[:10])) == 10


# ---- A server that is away -----------------------------------------------------------------


def test_a_server_that_is_not_there_is_unreachable_and_nothing_was_published() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    with pytest.raises(sse_fast.Unreachable, match="Connection refused") as away:
        sse_fast.connect(f"http://127.0.0.1:{port}", retry_for=0.1).stream("s").publish(1)
    assert away.value.published is False
    assert isinstance(away.value, ConnectionError)


def test_a_server_that_never_answers_may_have_published() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        with pytest.raises(sse_fast.Unreachable, match="whether it was published is not known") as away:
            sse_fast.connect(url, retry_for=0.0, timeout=0.1).stream("s").publish(1)
    assert away.value.published is None


def test_what_is_no_web_server_is_named() -> None:
    with answering(b"SSH-2.0-x\r\n") as url, pytest.raises(sse_fast.Unreachable, match="does not speak HTTP"):
        sse_fast.connect(url, retry_for=0.0).stream("s").publish(1)


def test_a_client_that_was_closed_says_so(client: sse_fast.Client) -> None:
    stream = client.stream("s")
    stream.publish(1)
    client.close()
    with pytest.raises(sse_fast.Unreachable, match="closed") as away:
        stream.publish(2)
    assert away.value.published is False


def test_a_server_that_is_restarted_is_waited_for(serve: Serve) -> None:
    first = serve(publish_key=KEY)
    port = first.port
    client = sse_fast.connect(first.url, key=KEY, retry_for=DEADLINE)
    client.stream("s").publish(1)
    first.close()
    with ThreadPoolExecutor(1) as pool:
        published = pool.submit(client.stream("s").publish, 2)
        second = serve(port, publish_key=KEY)
        assert published.result(DEADLINE) == second.stream("s").last_id


def test_an_error_in_the_middle_of_many_says_what_was_published(serve: Serve) -> None:
    hub = serve(publish_key=KEY)
    with Proxy(hub.port) as proxy, sse_fast.connect(f"http://127.0.0.1:{proxy.port}", key=KEY, retry_for=0.0) as client:
        stream = client.stream("s")

        def events() -> Iterator[tuple[int, None]]:
            yield from ((n, None) for n in range(300))

        part = stream._publish_part

        def then_away(*arguments: Any) -> list[str]:
            try:
                return part(*arguments)
            finally:
                proxy.refusing = True
                proxy.cut()

        stream._publish_part = then_away  # type: ignore[method-assign]
        with pytest.raises(sse_fast.Unreachable) as away:
            stream.publish_many(events())
    assert len(away.value.ids) == 256
    assert away.value.ids[-1] == hub.stream("s").last_id


@contextmanager
def answering(*answers: bytes) -> Iterator[str]:
    """A server that gives each connection the next of these answers, and closes it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(DEADLINE)

        def answer() -> None:
            for raw in answers:
                sock, _ = listener.accept()
                with sock:
                    sock.recv(1 << 16)
                    sock.sendall(raw)

        thread = threading.Thread(target=answer)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(DEADLINE)


def test_what_a_proxy_says_while_its_server_is_away_is_waited_out() -> None:
    created = b'HTTP/1.1 201 Created\r\nContent-Length: 12\r\n\r\n{"id":"e-1"}'
    busy = b'HTTP/1.1 503 Service Unavailable\r\nContent-Length: 16\r\n\r\n{"error":"busy"}'
    under_way = b'HTTP/1.1 409 Conflict\r\nContent-Length: 23\r\n\r\n{"error":"in_progress"}'
    away = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"
    with answering(away, busy, under_way, created) as url:
        assert sse_fast.connect(url).stream("s").publish(1) == "e-1"


# ---- Connections that are cut --------------------------------------------------------------

THREADS = 8


def published_through(
    cutting: CuttingProxy, total: int, publish: Callable[[sse_fast.RemoteStream, list[str]], object]
) -> None:
    """Has `THREADS` threads publish so many events together, each its own in its order."""
    with (
        sse_fast.connect(cutting.url, key=KEY, retry_for=60.0) as client,
        ThreadPoolExecutor(THREADS) as pool,
    ):
        share = total // THREADS
        texts = [[f"{thread}:{number}" for number in range(share)] for thread in range(THREADS)]
        list(pool.map(lambda mine: publish(client.stream("s"), mine), texts))


def one_by_one(stream: sse_fast.RemoteStream, texts: list[str]) -> None:
    for text in texts:
        stream.publish(text)


def in_batches(stream: sse_fast.RemoteStream, texts: list[str]) -> None:
    for start in range(0, len(texts), 40):
        stream.publish_many([(text, None) for text in texts[start : start + 40]])


@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", range(int(os.environ.get("CLIENT_SEEDS", "1"))))
@pytest.mark.parametrize(
    ("publish", "total", "longest"), [(one_by_one, 2000, 5_000), (in_batches, 8000, 9_000)], ids=["one", "many"]
)
def test_connections_cut_at_any_byte_neither_lose_nor_double_an_event(
    serve: Serve, seed: int, publish: Callable[[sse_fast.RemoteStream, list[str]], object], total: int, longest: int
) -> None:
    hub = serve(publish_key=KEY, history=20_000, history_bytes=1 << 24)
    with CuttingProxy(hub.port, seed, longest) as cutting:
        published_through(cutting, total, publish)
        hub.stream("s").end("end")
        *seen, _end = data_of(hub.stream("s"))
        assert len(seen) == total
        for thread in range(THREADS):
            numbers = [int(text.partition(":")[2]) for text in seen if text.startswith(f"{thread}:")]
            assert numbers == list(range(total // THREADS)), "in order, each once"
        assert cutting.cuts > 50, "they were cut"


def test_a_reader_whose_connections_are_cut_at_any_byte_gets_every_event_once(serve: Serve) -> None:
    hub = serve()
    stream = hub.stream("s", start="all", history=5000)
    with CuttingProxy(hub.port, 5, 20_000) as cutting, sse_fast.connect(cutting.url, retry_for=60.0) as client:
        publishing = threading.Thread(
            target=lambda: [stream.publish(n) for n in range(3000)] and stream.end("end", event="DONE")
        )
        with client.stream("s").events(timeout=DEADLINE) as events:
            events._following._retry = 0.001  # Comes back at once, so that the test need not wait.
            publishing.start()
            seen = [event.data for event in events]
        publishing.join()
        assert seen == [*map(str, range(3000)), "end"]
        assert cutting.cuts > 3


# ---- Threads and processes -----------------------------------------------------------------


def test_threads_share_a_client_and_each_has_a_connection(hub: sse_fast.Server, client: sse_fast.Client) -> None:
    barrier = threading.Barrier(6)

    def publish(number: int) -> None:
        for _ in range(5):
            barrier.wait(DEADLINE)
            client.stream("s").publish(number)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(publish, range(6)))
    hub.stream("s").end()
    *seen, _end = data_of(hub.stream("s"))
    assert sorted(seen) == sorted(str(number) for number in range(6) for _ in range(5))
    assert len(client._pool._kept) <= 6


def test_a_connection_is_kept_for_the_next_request(hub: sse_fast.Server) -> None:
    with Proxy(hub.port) as proxy, sse_fast.connect(f"http://127.0.0.1:{proxy.port}", key=KEY) as client:
        for number in range(20):
            client.stream("s").publish(number)
        assert client.stream("s").last_id
        assert proxy.connections == 1


def test_a_kept_connection_that_was_cut_costs_nothing(hub: sse_fast.Server) -> None:
    """Also with `retry_for` of next to nothing: the first attempt over a connection of its own is the first."""
    with (
        Proxy(hub.port) as proxy,
        sse_fast.connect(f"http://127.0.0.1:{proxy.port}", key=KEY, retry_for=DEADLINE) as client,
    ):
        for number in range(5):
            client.stream("s").publish(number)
            proxy.cut()
        assert hub.stream("s").last_id.endswith("-5")  # type: ignore[union-attr]


def test_a_forked_process_begins_with_no_connection(hub: sse_fast.Server) -> None:
    """As a worker of Celery does: parent and child ask over the same client at one time."""
    program = run_program(
        """
        import os, sys, sse_fast
        client = sse_fast.connect(sys.argv[1], key=sys.argv[2])
        stream = client.stream("s")
        stream.publish("parent")
        children = []
        for number in range(4):
            if not (child := os.fork()):
                for _ in range(20):
                    stream.publish(f"child {number}")
                os._exit(0)
            children.append(child)
        for _ in range(20):
            stream.publish("parent")
        print([os.waitpid(child, 0)[1] for child in children])
        """,
        hub.url,
        KEY,
    )
    assert program.lines == ["[0, 0, 0, 0]"]
    hub.stream("s").end()
    *seen, _end = data_of(hub.stream("s"))
    assert {text: seen.count(text) for text in seen} == {"parent": 21, **{f"child {n}": 20 for n in range(4)}}


# ---- Reading -------------------------------------------------------------------------------


def test_events_are_read_to_the_terminal_one(hub: sse_fast.Server, client: sse_fast.Client) -> None:
    stream = hub.stream("s", start="all")
    ids = [stream.publish({"n": 1}, event="A"), stream.publish("two\nlines"), stream.end(event="DONE")]
    events = client.stream("s").events(timeout=DEADLINE)
    assert list(events) == [
        sse_fast.Event('{"n":1}', "A", ids[0]),
        sse_fast.Event("two\nlines", id=ids[1]),
        sse_fast.Event("null", "DONE", ids[2]),
    ]
    assert events.last_id == ids[2]
    assert [event.event for event in client.stream("s").events(last_event_id=ids[1])] == ["DONE"]
    assert list(client.stream("s").events(last_event_id=ids[2])) == []


def test_a_stream_without_ids_is_read_once_to_its_end(hub: sse_fast.Server, client: sse_fast.Client) -> None:
    stream = hub.stream("s", start="all", ids=False)
    stream.publish("a")
    stream.end("b")
    assert [event.data for event in client.stream("s").events(timeout=DEADLINE)] == ["a", "b"]


def test_a_gap_is_told(hub: sse_fast.Server, client: sse_fast.Client) -> None:
    stream = hub.stream("s", history=10)
    first = stream.publish(0)
    stream.publish_many([(n, None) for n in range(1, 50)])
    stream.end()
    gap, *rest = client.stream("s").events(last_event_id=first, timeout=DEADLINE)
    assert (gap.event, gap.id, gap.json()["skipped"]) == ("gap", None, 40)
    assert [event.data for event in rest] == [*map(str, range(41, 50)), "null"]


def test_silence_raises_and_iteration_goes_on(hub: sse_fast.Server, client: sse_fast.Client) -> None:
    stream = hub.stream("s", start="all")
    with client.stream("s").events(timeout=0.05) as events:
        with pytest.raises(sse_fast.WaitTimeout, match=r"stream 's' was silent for 0\.05 s"):
            next(events)
        stream.publish("late")

        def heard() -> str | None:
            try:
                return next(events).data
            except sse_fast.WaitTimeout:
                return None

        assert until(heard) == "late"


def test_close_ends_a_thread_that_reads(hub: sse_fast.Server, client: sse_fast.Client) -> None:
    stream = hub.stream("s")
    events = client.stream("s").events()
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(list, events)
        until(lambda: stream.subscribers == 1)
        events.close()
        assert reading.result(DEADLINE) == []
    until(lambda: stream.subscribers == 0)


def test_a_stream_that_there_is_not_is_unknown(serve: Serve) -> None:
    hub = serve(settle=0.0)
    with pytest.raises(sse_fast.UnknownStream, match="cannot read 'nothing'") as unknown:
        next(sse_fast.connect(hub.url).stream("nothing").events())
    assert (unknown.value.status, unknown.value.error) == (404, "unknown_stream")


def test_within_the_first_minute_of_a_server_an_unknown_stream_is_waited_for(hub: sse_fast.Server) -> None:
    with (
        sse_fast.connect(hub.url) as client,
        client.stream("s").events(timeout=DEADLINE) as events,
        ThreadPoolExecutor(1) as pool,
    ):
        first = pool.submit(next, events)
        until(lambda: events._response is None and events._next_at)
        hub.stream("s", start="all").publish("made")
        assert first.result(DEADLINE).data == "made"


def test_a_reader_of_a_server_that_is_gone_gives_up_after_its_time(serve: Serve) -> None:
    hub = serve()
    hub.stream("s", start="all").publish(1)
    events = sse_fast.connect(hub.url, retry_for=0.2).stream("s").events()
    assert next(events).data == "1"
    hub.close()
    with pytest.raises(sse_fast.Unreachable) as away:
        next(events)
    assert away.value.published is False


def test_a_reader_follows_its_stream_to_the_next_process(serve: Serve) -> None:
    """What the new process cannot know is told as a gap."""
    first = serve()
    first.stream("s", start="all").publish("old")
    events = sse_fast.connect(first.url, retry_for=math.inf if False else 60.0).stream("s").events(timeout=DEADLINE)
    assert next(events).data == "old"
    first.close()
    second = serve(first.port)
    second.stream("s", start="all").publish("new")
    assert [next(events).event for _ in range(2)] == ["gap", "message"]


def test_what_a_token_does_not_let_read_is_denied(serve: Serve) -> None:
    from sse_fast.testing import token

    secret = "a secret that is long enough to be one"
    hub = serve(tokens=sse_fast.Tokens(keys=[sse_fast.Key("HS256", secret)]))
    hub.stream("mine", start="all").publish(1)
    hub.stream("other").publish(1)
    reader = token(secret, subscribe=["mine"])
    with sse_fast.connect(hub.url, token=reader) as client:
        assert next(client.stream("mine").events(timeout=DEADLINE)).data == "1"
        with pytest.raises(sse_fast.AccessDenied) as denied:
            next(client.stream("other").events())
        assert denied.value.status == 403
        with pytest.raises(sse_fast.AccessDenied):
            client.stream("mine").publish(1)


def test_json_is_read_as_it_was_published(client: sse_fast.Client) -> None:
    stream = client.stream("s")
    stream.publish({"a": [1, "é"]})
    stream.end()
    first = next(stream.events(last_event_id=stream.last_id.replace("-2", "-0"), timeout=DEADLINE))  # type: ignore[union-attr]
    assert first.json() == json.loads('{"a": [1, "é"]}')


def test_closing_a_client_ends_what_its_threads_read(hub: sse_fast.Server) -> None:
    stream = hub.stream("s")
    with ThreadPoolExecutor(1) as pool, sse_fast.connect(hub.url) as client:
        reading = pool.submit(list, client.stream("s").events())
        until(lambda: stream.subscribers == 1)
        client.close()
        assert reading.result(DEADLINE) == []
    until(lambda: stream.subscribers == 0)


def test_an_error_in_the_middle_says_what_was_published_whatever_it_is(
    hub: sse_fast.Server, client: sse_fast.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, remote = hub.stream("s", history=100), client.stream("s")
    publish_part = remote._publish_part

    def part(encoded: list[bytes], start: int, key: str | None) -> list[str]:
        if start and not stream.ended:
            stream.end()
        return publish_part(encoded, start, key)

    monkeypatch.setattr(remote, "_publish_part", part)
    with pytest.raises(sse_fast.StreamEnded) as ended:
        remote.publish_many([sse_fast.Event("x")] * 1000)
    assert len(ended.value.ids) == stream.stats().published - 1 > 0
