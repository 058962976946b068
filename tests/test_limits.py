"""What a server allows at most: connections of one address, streams, heads; and what may always be asked.

Guards that the newest is refused, in the form that its client can use, and nobody who is connected; that a place is
given back when its connection ends; and that each refusal is counted and said.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from contextlib import ExitStack

import pytest

import sse_fast
from conftest import Serve
from support.deadline import until
from support.http import Head
from support.own_server import own_server
from support.reader import Reader, fetch

EVENTS = [("Accept", "text/event-stream")]


def refused(server: sse_fast.Server, path: str = "/streams/s", headers: list[tuple[str, str]] | None = None) -> Head:
    return fetch(server.port, path, headers=[("Accept", "application/json"), *(headers or [])])[0]


def assert_told_to_come_back(server: sse_fast.Server, path: str = "/streams/s", host: str = "127.0.0.1") -> None:
    with Reader(server.port, path, headers=EVENTS, host=host) as page:
        assert page.read_head().status == 200
        assert page.read_to_end().startswith(b"retry: ")
        page.read_eof()


def test_an_address_has_only_so_many_connections(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    server = serve(max_connections_per_address=3)
    stream = server.stream("s")
    with ExitStack() as stack:
        readers = [stack.enter_context(Reader(server.port)).open() for _ in range(3)]
        head = refused(server)
        assert (head.status, head["retry-after"], head["connection"]) == (503, "2", "close")
        assert_told_to_come_back(server)
        assert server.stats().addresses_refused == 2
        assert server.stats().refused == 0
        stream.publish("to those who were there")
        for reader in readers:
            assert reader.next().data == "to those who were there"
        readers[0].close()
        until(lambda: server.stats().connections == 2, what="the place given back")
        stack.enter_context(Reader(server.port)).open()
    until(lambda: "127.0.0.1 has max_connections_per_address=3 connections open" in caplog.text, what="the record")
    until(lambda: server.stats().connections == 0)
    assert refused(server).status == 200, "places are given back"


def test_a_request_that_is_no_stream_takes_a_place_as_long_as_its_connection(serve: Serve) -> None:
    server = serve(max_connections_per_address=1)
    server.stream("s")
    with Reader(server.port, "/streams/none") as kept:
        assert kept.read_head().status == 404
        assert refused(server).status == 503
    until(lambda: server.stats().connections == 0)
    assert refused(server).status == 200


def test_what_is_over_the_limit_has_a_second_to_say_what_it_wants(serve: Serve) -> None:
    server = serve(max_connections_per_address=1, header_timeout=60.0)
    server.stream("s")
    with Reader(server.port) as reader, Reader(server.port, raw=b"") as silent:
        reader.open()
        assert silent.read_eof() == b""


def test_a_flood_of_one_address_is_dropped(serve: Serve) -> None:
    server = serve(max_connections_per_address=1, header_timeout=60.0)
    server.stream("s")
    with Reader(server.port) as reader, ExitStack() as stack:
        reader.open()
        flood = [stack.enter_context(Reader(server.port, raw=b"")) for _ in range(40)]
        until(lambda: server.stats().accepted == 41)
        until(lambda: server.stats().connections <= 1 + 16, what="the oldest of them giving way")
        until(lambda: server.stats().addresses_refused >= 40 - 16, what="those, counted")
        assert server.stats().refused == 0
        for one in flood:
            assert one.read_eof() == b""


def test_through_a_proxy_the_client_s_address_counts(serve: Serve) -> None:
    server = serve(max_connections_per_address=2, trusted_proxies=["127.0.0.1"])
    server.stream("s")

    def of(address: str) -> list[tuple[str, str]]:
        return [("X-Forwarded-For", address)]

    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(Reader(server.port, headers=of("2001:db8:0:1::1"))).open()
        # A client that has an address of IPv6 has all of its network.
        assert refused(server, headers=of("2001:db8:0:1::2")).status == 503
        assert refused(server, headers=of("2001:db8:0:2::1")).status == 200
        with Reader(server.port, headers=[*of("2001:db8:0:1::3"), *EVENTS]) as page:
            page.read_head()
            assert page.read_to_end().startswith(b"retry: ")
        # The proxy's own connection, kept open, has no place.
        with Reader(server.port, "/streams/none", headers=of("9.9.9.9")) as kept:
            for _ in range(5):
                assert kept.read_head().status == 404
                kept.read_to_end()
                kept.ask(b"GET /streams/none HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n")
    until(lambda: server.stats().connections == 0)
    assert refused(server, headers=of("2001:db8:0:1::2")).status == 200


def test_health_and_metrics_are_answered_beyond_every_limit(serve: Serve) -> None:
    server = serve(max_connections=2, max_connections_per_address=2)
    server.stream("s")
    for path in ("/healthz", "/readyz", "/metrics"):
        server.get(path)(lambda _request: "well")
    with Reader(server.port) as one, Reader(server.port) as two:
        one.open()
        two.open()
        assert refused(server).status == 503
        for path in ("/healthz", "/readyz", "/metrics"):
            head, _ = fetch(server.port, path)
            assert (head.status, head["connection"]) == (200, "close")
        assert refused(server, "/healthz/more").status == 503


def test_a_reserved_path_is_no_way_to_a_stream_beyond_the_limit(serve: Serve) -> None:
    server = serve(max_connections=1)
    stream = server.stream("s")
    server.get("/metrics")(lambda _request: stream)
    with Reader(server.port) as one:
        one.open()
        with Reader(server.port, "/metrics", headers=[("Accept", "*/*")]) as more:
            assert more.read_head().status == 503
    assert server.stats().refused == 1


def test_nobody_who_is_connected_is_refused_for_a_newcomer(serve: Serve) -> None:
    server = serve(max_connections=2, header_timeout=60.0)
    stream = server.stream("s", start="all")
    stream.publish("x")
    with Reader(server.port, "/streams/none") as kept, Reader(server.port) as reader, ExitStack() as stack:
        kept.read_head()
        kept.read_to_end()
        reader.open()
        # Newcomers that say nothing are there while those who were there before ask again.
        for _ in range(10):
            stack.enter_context(Reader(server.port, raw=b""))
        until(lambda: server.stats().connections > 2)
        kept.ask(b"GET /streams/s HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\r\n")
        assert kept.read_head().status == 200


def test_a_program_is_told_that_there_are_too_many_streams(serve: Serve) -> None:
    server = serve(max_streams=3)
    streams = [server.stream(f"s/{number}") for number in range(3)]
    with pytest.raises(sse_fast.TooManyStreams, match="max_streams") as raised:
        server.stream("s/4")
    assert "'s/4'" in str(raised.value) or '"s/4"' in str(raised.value)
    assert server.stream("s/0").name == "s/0"
    streams[1].remove()
    until(lambda: len(server.streams()) == 2)
    assert server.stream("s/4").name == "s/4"


def test_a_route_makes_no_stream_beyond_the_limit(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    server = serve(max_streams=2, allowed_hosts=["app.example"])
    server.stream("own")
    server.route("/made/{id}", "made/{id}", create=True)
    with Reader(server.port, "/made/1") as reader:
        reader.open()
        head = refused(server, "/made/2")
        assert (head.status, head["retry-after"]) == (503, "2")
        assert_told_to_come_back(server, "/made/3")
    assert server.stats().streams_refused == 2
    until(lambda: "max_streams allows no more" in caplog.text, what="the record")
    assert len(server.streams()) == 2


def test_of_the_streams_that_routes_made_the_oldest_unused_gives_way(serve: Serve) -> None:
    server = serve(max_created_streams=3)
    server.route("/made/{id}", "made/{id}", create=True)
    with ExitStack() as stack:
        stack.enter_context(Reader(server.port, "/made/read")).open()
        server.stream("own")
        for number in range(10):
            assert refused(server, f"/made/{number}").status == 200
        assert {stream.name for stream in server.streams()} == {"own", "made/read", "made/8", "made/9"}
        for number in (8, 9):
            server.stream(f"made/{number}").publish("its loss would be noticed")
        assert refused(server, "/made/10").status == 503
        assert_told_to_come_back(server, "/made/11")
        server.stream("made/8").remove()
        until(lambda: refused(server, "/made/12").status == 200, what="room again")
    assert server.stats().streams_refused >= 2


def test_a_head_has_as_many_bytes_as_the_setting_says(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    for limit in (8192, 65536):
        server = serve(max_head_bytes=limit)
        for length, status in ((limit, 404), (limit + 1, 431), (limit + 80, 431), (2 * limit, 431)):
            begin = b"GET /streams/none HTTP/1.1\r\nHost: localhost\r\nX: "
            head = begin + b"y" * (length - len(begin) - 4) + b"\r\n\r\n"
            for pieces in ([head], [head[:limit], head[limit:]], [head[:100], head[100:5000], head[5000:]]):
                with Reader(server.port, raw=pieces[0]) as reader:
                    for piece in pieces[1:]:
                        reader.send(piece)
                    assert reader.read_head().status == status, (limit, length, len(pieces))
        assert server.stats().heads_refused == 9
    until(lambda: "the head of a request may have at most 8192 bytes" in caplog.text, what="the record")
    with pytest.raises(sse_fast.SettingError, match="max_head_bytes"):
        sse_fast.serve(0, max_head_bytes=8191)


@pytest.mark.parametrize("limit", [1024, 3 << 20])
def test_an_event_has_as_many_bytes_as_the_setting_says(serve: Serve, limit: int) -> None:
    server = serve(max_event_bytes=limit)
    stream = server.stream("s", history_bytes=64 << 20)
    with Reader(server.port) as reader:
        reader.open()
        stream.publish("x" * limit)
        assert len(reader.next().data) == limit
        refusals = [
            lambda: stream.publish("x" * (limit + 1)),
            lambda: stream.publish("x" * (limit - 1), event="ab"),
            lambda: stream.publish_many([("a", None), ("x" * (limit + 1), None)]),
            lambda: stream.snapshot("x" * (limit + 1)),
            lambda: asyncio.run(stream.apublish("x" * (limit + 1))),
            lambda: asyncio.run(stream.apublish_many([("a", None), ("x" * (limit + 1), None)])),
            lambda: stream.end("x" * (limit + 1)),
        ]
        for refusal in refusals:
            with pytest.raises(sse_fast.EventError, match=str(limit)[:3]):
                refusal()
        stream.end("over")
        assert reader.next().data == "over", "nothing in between"


def test_a_run_s_events_have_that_limit_too(serve: Serve) -> None:
    server = serve(max_event_bytes=2000)
    program = "for size in (1900, 2100): print('SSE_EVENT:data: ' + 'x' * size + '\\nSSE_EVENT:')"
    run = server.run([sys.executable, "-c", program], stream="run")
    run.wait(30)
    events = [(event.event, event.data[:40]) for event in run.stream.events(timeout=30)]
    assert [name for name, _ in events][-1] == "end"
    assert any("event_too_large" in data and "2000" in data for _, data in events), events


def test_a_slow_head_is_a_408_and_a_silent_connection_is_closed(serve: Serve) -> None:
    server = serve(header_timeout=0.3)
    with Reader(server.port, raw=b"GET /streams/s HTTP/1.1\r\nHost: localh") as reader:
        head = reader.read_head()
        assert (head.status, head["connection"]) == (408, "close")
        assert b'"head_timeout"' in reader.read_to_end()
        reader.read_eof()
    with Reader(server.port, raw=b"") as silent:
        assert silent.read_eof() == b""
    with Reader(server.port, "/streams/none") as kept:
        kept.read_head()
        kept.read_to_end()
        # Between two requests nothing is begun: no answer may be taken for that of the next.
        received = len(kept.received)
        assert len(kept.read_eof()) in {0, received}
    assert server.stats().late == 1


def test_a_client_of_http_2_is_told_so_in_its_own_language(serve: Serve) -> None:
    server = serve()
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.settimeout(10)
        sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
        received = b""
        while piece := sock.recv(4096):
            received += piece
    assert received[:9] == b"\0\0\0\4\0\0\0\0\0"
    assert received[12:13] == b"\7"
    assert received.endswith(b"this port speaks HTTP/1.1; HTTP/2 is for a proxy in front of it")
    assert server.stats().malformed == 1


def test_most_of_a_small_limit_of_open_files_serves_readers() -> None:
    program = """
import resource, socket, sse_fast
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
server = sse_fast.serve(0, shards=1)
server.stream("s")
"""
    with own_server(program) as child, ExitStack() as stack:
        port = child.port
        served = 0
        while True:
            reader = stack.enter_context(Reader(port, headers=[("Accept", "text/event-stream")]))
            head = reader.read_head()
            assert head.status == 200
            if head["cache-control"] == "no-store":
                break
            served += 1
        assert served >= 64, "more than half"
        assert fetch(port, "/streams/s", headers=[("Accept", "application/json")])[0].status == 503
        child.end()


def test_the_log_names_what_was_refused_at_a_warning(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    server = serve(max_connections_per_address=1)
    server.stream("s")
    with Reader(server.port) as reader:
        reader.open()
        refused(server)
    until(lambda: [r for r in caplog.records if r.name == "sse_fast.access"], what="the record")
    assert {r.levelno for r in caplog.records if r.name == "sse_fast.access"} == {logging.WARNING}


def test_those_that_are_only_told_take_no_places_of_others(serve: Serve) -> None:
    server = serve(max_connections=3, max_connections_per_address=1, header_timeout=60.0)
    server.stream("s")
    with Reader(server.port) as reader, ExitStack() as stack:
        reader.open()
        for _ in range(10):
            stack.enter_context(Reader(server.port, raw=b""))
        until(lambda: server.stats().connections > 3, what="more connections than are served")
        # Another address, for there are two places left.
        with socket.create_connection(("127.0.0.1", server.port), source_address=("127.0.0.2", 0)) as other:
            other.settimeout(10)
            other.sendall(b"GET /streams/s HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\r\n")
            assert other.recv(4096).startswith(b"HTTP/1.1 200 OK")
