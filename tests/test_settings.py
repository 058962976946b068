"""Settings by keyword and by environment.

Guards that every setting is also `SSE_FAST_<NAME>`, that durations and sizes may
carry units there, that a keyword beats the environment, and that a bad value from
either side is a typed error naming it, before anything listens.
"""

from __future__ import annotations

import socket
from typing import Any

import pytest

import sse_fast
from conftest import Serve
from support.documented import SETTINGS
from support.reader import Reader, fetch, request

NAMES = sorted(setting.name for setting in SETTINGS)

BAD: dict[str, tuple[list[Any], list[str]]] = {
    "port": ([-1, 65536, 1.5, "80", True], ["-1", "65536", "http", "", "80.5"]),
    "host": (["", 5, "no such host name.invalid"], ["", "256.256.256.256"]),
    "allowed_hosts": (
        [
            "a.example",
            5,
            [5],
            [""],
            ["a.example:80"],
            ["http://a.example"],
            ["*.example"],
            ["::1"],
            ["a/b"],
            ["größe.de"],
        ],
        ["a.example:80", "a.example, http://b.example"],
    ),
    "cors": (
        [
            *("https://a.example", 5, [5], ["nope"], ["a b"], ["a.example"], ["https://a.example/path"], ["https://"]),
            *(["https://a.example:443"], ["http://a.example:80/"], ["https://*.example"], ["https://a.example\n"]),
        ],
        ["nope", "https://a.example nope"],
    ),
    "max_connections": ([0, -1, 1.5, "many"], ["0", "-1", "many"]),
    "trusted_proxies": (
        [*("127.0.0.1", 5, [5], [""], ["localhost"], ["10.0.0.1/8"], ["10.0.0.0/33"]), ["[::1]"], ["fe80::1%eth0/64"]],
        ["localhost", "127.0.0.1, 10.0.0.1/8"],
    ),
    "forwarded": (["X", "", None, 7239], ["both", ""]),
    "max_connections_per_address": ([0, -1, 1.5, "many"], ["0", "-1", "many"]),
    "max_streams": ([0, -1, 1.5, None], ["0", "many"]),
    "max_created_streams": ([0, -1, 1.5, None], ["0", "many"]),
    "max_event_bytes": ([0, 1023, (64 << 20) + 1, 1.5, None], ["1023", "65MiB"]),
    "max_head_bytes": ([0, 8191, 1.5, None], ["8191", "8KB"]),
    "max_body_bytes": ([-1, 1.5, "1MiB"], ["-1", "1MB?", "big"]),
    "header_timeout": (
        [0, -1, float("nan"), float("inf"), "10s", True],
        ["0", "-1", "soon", "10 s s", "nan", "inf", "1d"],
    ),
    "stall_timeout": ([0, -1, "x"], ["0", "-1", "never"]),
    "cors_headers": (["X-Trace", [5], ["X Trace"], [""]], ["X-Trace, X Trace"]),
    "wait": ([-1, "x"], ["-1", "x"]),
    "settle": ([-1, "x"], ["-1", "x"]),
    "publish_wait": ([-1, float("inf"), "x"], ["-1", "x"]),
    "drain": ([-1, float("nan"), float("inf"), "5s", None, True], ["-1", "x"]),
    "shards": ([0, -1, 1.5, 100_000], ["0", "x"]),
    "chunked": ([1, "yes", None], ["2", "maybe"]),
    "reuse_port": ([1, "yes", None], ["2", "maybe"]),
    "lame_duck": ([-1, float("nan"), "5s", None], ["-1", "x"]),
    "health": (["", "healthz", "/a b", "/%68", "/a?b", "/{a}", 5], ["healthz", "/a b"]),
    "ready": (["", "readyz", "/a#b", 5], ["readyz"]),
    "metrics": (["127.0.0.1", ":9090", "9090", "http://h:1", "h:65536", 9090, None], ["9090", "h:65536"]),
    "metrics_key": (["", "short", "with a space in it", "ümlaute-sind-keine", 5], ["short"]),
    "access_log": ([1, "yes", None], ["2", "maybe"]),
    "handler_threads": ([0, -1, 1.5], ["0", "x"]),
    "generator_threads": ([0, -1, 1.5], ["0", "x"]),
    "handler_queue": ([0, -1, 1.5], ["0", "x"]),
    "authorize_threads": ([0, -1, 1.5], ["0", "x"]),
    "cookie": (["", "a b", "a=b", 5, None], ["a b", "a;b"]),
    "ticket_key": (["short", b"short", 5], ["short"]),
    "publish_key": (["short", 5, None, ["short"], [""], [5], ["a" * 40 + ",b"], ["a" * 40] * 17], ["short", "é" * 40]),
    "backplane": (["http://127.0.0.1", "redis://", "127.0.0.1:6379", "", 5], ["http://127.0.0.1", "redis"]),
    "backplane_prefix": (["", "a b", "a:b", "x" * 65, 5], ["a b", "a:b"]),
    "backplane_timeout": ([0.0, -1.0, 61.0, "1", None, True, float("nan")], ["0", "soon", "2m"]),
    "engine_loss": (["lost", "", None, 5], ["lost"]),
    "store": (["", 5], [""]),
    "durable": (["power", "", None, 5], ["power"]),
    "private": ([1, "yes", None], ["maybe"]),
    "history": ([0, -1, 1.5, "256"], ["0", "x"]),
    "history_bytes": ([0, -1, 1.5], ["0", "x"]),
    "start": (["first", 5, None], ["first"]),
    "max_lag": ([0, -1, 257], ["0", "257", "x"]),
    "on_lag": (["drop", None], ["drop"]),
    "heartbeat": ([0, -1, float("nan"), "15s"], ["0", "-1", "x"]),
    "heartbeat_event": (["", "a\nb", 5], ["a\nb"]),
    "heartbeat_comment": (["", "a\nb", "a\rb", 5, None], ["a\nb"]),
    "retry": ([-1, "x", float("inf"), 3601, 5000], ["-1", "x", "2h", "5000000ms"]),
    "ids": ([1, "yes", None], ["maybe"]),
    "linger": ([-1, "x"], ["-1", "x"]),
    "expire": ([0, -1, "x"], ["0", "x"]),
    "stall_after": ([0, 0.09, -1, "x"], ["0", "x"]),
}


def test_every_setting_has_bad_values_here() -> None:
    assert sorted(BAD) == NAMES


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, (values, _) in BAD.items() for value in values], ids=repr
)
def test_a_bad_keyword_is_a_typed_error_naming_it(serve: Serve, name: str, value: Any) -> None:
    arguments = {"port": 0, name: value}
    with pytest.raises((ValueError, OSError)) as caught:
        serve(**arguments)
    assert isinstance(caught.value, sse_fast.SseFastError)
    if isinstance(caught.value, ValueError):
        assert name in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text"), [(name, text) for name, (_, texts) in BAD.items() for text in texts], ids=repr
)
def test_a_bad_environment_variable_is_a_typed_error_naming_it(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    monkeypatch.setenv(f"SSE_FAST_{name.upper()}", text)
    with pytest.raises((ValueError, OSError)) as caught:
        serve(None if name == "port" else 0)
    assert isinstance(caught.value, sse_fast.SseFastError)
    if isinstance(caught.value, ValueError):
        assert f"SSE_FAST_{name.upper()}" in str(caught.value) or name in str(caught.value)


@pytest.mark.parametrize(
    "hosts", [["a.example"], ["localhost", "10.0.0.5"], ["[2001:db8::1]"], ["*"], ("my_host", "A.Example.")], ids=repr
)
def test_hosts_that_a_client_can_ask_for_are_allowed(serve: Serve, hosts: Any) -> None:
    server = serve(allowed_hosts=hosts)
    server.stream("s")
    for host in hosts:
        named = "any.example" if host == "*" else host
        for asked in (named, f"{named}:8080"):
            with Reader(server.port, raw=request("/streams/s", server.port, host=asked)) as reader:
                assert reader.read_head().status == 200


@pytest.mark.parametrize(
    ("allowed", "origin"),
    [
        ("https://a.example", "https://a.example"),
        ("https://a.example/", "https://a.example"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("https://a.example:80", "https://a.example:80"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("chrome-extension://abcdef", "chrome-extension://abcdef"),
    ],
)
def test_origins_that_a_browser_can_send_are_allowed(serve: Serve, allowed: str, origin: str) -> None:
    server = serve(cors=[allowed])
    server.stream("s")
    with Reader(server.port, headers=[("Origin", origin)]) as reader:
        assert reader.read_head()["access-control-allow-origin"] == origin


@pytest.mark.parametrize("origins", [["null"], ["https://a.example", "NULL"], ["*", "null"]], ids=repr)
def test_the_origin_of_every_sandboxed_page_is_refused_with_the_reason(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, origins: list[str]
) -> None:
    for given in ("argument", "environment"):
        if given == "environment":
            monkeypatch.setenv("SSE_FAST_CORS", ",".join(origins))
        with pytest.raises(sse_fast.SettingError, match=r'origin "null".*sandboxed.*"\*"') as caught:
            serve(0, **({"cors": origins} if given == "argument" else {}))
        assert str(caught.value).startswith("SSE_FAST_CORS=" if given == "environment" else "cors=")


def test_an_unknown_keyword_is_a_value_error_with_the_nearest_name(serve: Serve) -> None:
    with pytest.raises(ValueError, match="heartbeat"):
        serve(hartbeat=5.0)


@pytest.mark.parametrize("text", ["0.05", "50ms", "0.05s", ".05", " 50ms "])
def test_durations_in_the_environment_may_have_units(serve: Serve, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SSE_FAST_HEARTBEAT", text)
    server = serve()
    server.stream("s")
    with Reader(server.port) as reader:
        reader.open()
        reader.read_until(lambda: len(reader.parser.comments) >= 3, what="heartbeats")


@pytest.mark.parametrize(
    ("text", "seconds"), [("15", 15), ("15s", 15), ("2m", 120), ("1h", 3600), ("500ms", 0.5), ("1.5", 1.5)]
)
def test_units_mean_what_they_say(serve: Serve, monkeypatch: pytest.MonkeyPatch, text: str, seconds: float) -> None:
    monkeypatch.setenv("SSE_FAST_RETRY", text)
    server = serve()
    stream = server.stream("s")
    with Reader(server.port) as reader:
        reader.open()
        stream.publish("x")
        assert reader.next().retry == seconds * 1000


def test_a_keyword_beats_the_environment(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSE_FAST_RETRY", "1")
    monkeypatch.setenv("SSE_FAST_PORT", "1")
    server = serve(0, retry=2.0)
    stream = server.stream("s")
    with Reader(server.port) as reader:
        reader.open()
        stream.publish("x")
        assert reader.next().retry == 2000


def test_port_and_host_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSE_FAST_PORT", "0")
    monkeypatch.setenv("SSE_FAST_HOST", "::1" if socket.has_ipv6 and _has_loopback6() else "127.0.0.1")
    with sse_fast.serve() as server:
        assert server.port > 0
        assert server.url.startswith("http://")
        host = "::1" if "[::1]" in server.url else "127.0.0.1"
        with Reader(server.port, "/streams/none", host=host) as reader:
            assert reader.read_head().status == 404


def _has_loopback6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_lists_and_booleans_come_from_the_environment(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSE_FAST_CORS", "https://a.example, https://b.example")
    monkeypatch.setenv("SSE_FAST_CHUNKED", "0")
    monkeypatch.setenv("SSE_FAST_HISTORY_BYTES", "64KiB")
    server = serve()
    server.stream("s")
    with Reader(server.port, headers=[("Origin", "https://b.example")]) as reader:
        head = reader.open().head
        assert head is not None
        assert head["access-control-allow-origin"] == "https://b.example"
        assert "transfer-encoding" not in head


def test_history_bytes_bounds_what_is_retained(serve: Serve) -> None:
    server = serve(history_bytes=10_000, start="all")
    stream = server.stream("s")
    for number in range(100):
        stream.publish(str(number) + "x" * 1000)
    head, body = fetch(server.port, "/streams/s", headers=[("Accept", "application/json")])
    assert head.status == 200
    import json

    events = json.loads(body)["events"]
    assert 5 <= len(events) <= 10
    assert events[-1]["data"].startswith("99x")


def test_an_event_larger_than_history_bytes_is_still_the_newest(serve: Serve) -> None:
    server = serve(history_bytes=1000, start="last")
    stream = server.stream("s")
    with Reader(server.port) as live:
        live.open()
        stream.publish("small")
        stream.publish("y" * 50_000)
        assert [len(event.data) for event in live.take(2)] == [5, 50_000]
    with Reader(server.port) as late:
        assert len(late.open().next().data) == 50_000


def test_a_smaller_history_takes_its_max_lag_along(serve: Serve) -> None:
    server = serve(history=10)
    for name, options, max_lag in (("s", {}, 10), ("t", {"history": 5}, 5)):
        stream = server.stream(name, **options)
        with pytest.raises(sse_fast.SettingError, match=rf"max_lag.*\b{max_lag}\b"):
            server.stream(name, max_lag=max_lag + 1)
        events = stream.events(timeout=20.0)
        for number in range(30):
            stream.publish(number)
        assert next(events).json()["skipped"] == 30 - max_lag
