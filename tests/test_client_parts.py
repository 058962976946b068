"""What decides in a client, stepped: attempts, batches, responses, events, the place of a reader, what an answer means.

Guards these pure parts with simulated time and with bytes in all pieces; the whole is in test_client.py. This file is
long because each part is short, and is tested alone.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import itertools
import math
import uuid
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sse_fast
from sse_fast._client import batches, encoding, times
from sse_fast._client.address import address_of, checked_name
from sse_fast._client.attempts import Attempts
from sse_fast._client.following import Following
from sse_fast._client.incoming import Incoming
from sse_fast._client.options import Options
from sse_fast._client.questions import Answer, Asking, Later, checked_key, credential_of, key_of_part
from sse_fast._client.wire import Response, WireError, request
from sse_fast._core import json_dumps
from support.ids import named

ADDRESS = address_of("http://127.0.0.1:8080")

# ---- Attempts ------------------------------------------------------------------------------


def pauses(retry_for: float, chance: float = 1.0, **failure: Any) -> list[float]:
    """Every pause of a request that always fails at once, by a clock that only the pauses advance."""
    attempts, now, waited = Attempts(100.0, retry_for), 100.0, []
    while (pause := attempts.again(now, chance, **{"sent": False, **failure})) is not None:
        waited.append(pause)
        now += pause
        assert len(waited) < 1000
    return waited


def test_pauses_grow_to_a_second_and_the_last_attempt_is_at_the_end() -> None:
    assert pauses(5.0) == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0, 0.45])


def test_chance_shortens_a_pause_to_half() -> None:
    assert pauses(0.1, chance=0.0) == pytest.approx([0.025, 0.05, 0.025])


def test_without_time_there_is_one_attempt() -> None:
    assert pauses(0.0) == []


def test_what_the_server_asks_to_wait_is_waited_but_not_beyond_the_end() -> None:
    assert pauses(5.0, asked=2.0) == pytest.approx([2.0, 2.0, 1.0])
    assert pauses(1.0, asked=60.0) == pytest.approx([1.0])


def test_a_kept_connection_that_had_ended_costs_no_pause() -> None:
    attempts = Attempts(0.0, 5.0)
    assert [attempts.again(0.1, 1.0, sent=True, stale=True) for _ in range(3)] == [0.0] * 3
    assert attempts.again(0.1, 1.0, sent=True) == 0.05
    assert attempts.again(5.1, 1.0, sent=True, stale=True) is None


def test_whether_it_was_published_is_unknown_from_the_first_attempt_that_was_sent() -> None:
    attempts = Attempts(0.0, 5.0)
    attempts.again(0.1, 1.0, sent=False)
    assert attempts.published is False
    attempts.again(0.2, 1.0, sent=True)
    attempts.again(0.3, 1.0, sent=False)
    assert attempts.published is None


def test_pauses_do_not_grow_beyond_any_number() -> None:
    attempts = Attempts(0.0, math.inf)
    assert [attempts.again(float(n), 1.0, sent=False) for n in range(3000)][-1] == 1.0


# ---- Batches -------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 400_000).map(lambda size: b"x" * size), max_size=20), st.integers(1, 7))
def test_parts_keep_the_order_and_the_bounds(events: list[bytes], limit: int) -> None:
    at = 0
    while at < len(events):
        part = batches.part_of(events, at, limit)
        assert part == events[at : at + len(part)]
        assert 1 <= len(part) <= limit
        assert len(part) == 1 or sum(map(len, part)) + len(part) <= batches.MAX_BYTES + 1
        at += len(part)


def test_a_stream_that_takes_fewer_is_given_fewer() -> None:
    refused = sse_fast.RequestError("no")
    refused.error = "too_many_events"
    assert batches.smaller(refused, 256, 256) == 128
    assert batches.smaller(refused, 2, 256) == 1
    with pytest.raises(sse_fast.RequestError):
        batches.smaller(refused, 1, 1)
    refused.error = "forbidden"
    with pytest.raises(sse_fast.RequestError):
        batches.smaller(refused, 256, 256)


# ---- Encoding ------------------------------------------------------------------------------


@dataclasses.dataclass
class Point:
    x: int
    _hidden: int = 0


class Color(enum.Enum):
    RED = "red"


VALUES = [
    {"a": [1, 2.5, -0.0, 1e16, 1e-7, None, True], "b": "é\u2028\u0085", "c": {}},
    {1: "a", None: "b", 2.5: "c"},
    [dt.time(0, 0, 0, 10_000), dt.datetime(2026, 1, 2, 3, 4, 5, 6)],
    {"at": dt.date(2026, 1, 2), "id": uuid.UUID(int=7), "color": Color.RED, "point": Point(1)},
    Point(3),
    [Point(3), (1, 2), {4}],
    7,
    2**70,
    None,
    math.nan,
    Color.RED,
    '\\ " \t \x7f',
]


@pytest.mark.parametrize("value", VALUES, ids=named)
def test_the_text_is_the_engine_s(value: object) -> None:
    expected = value if isinstance(value, str) else json_dumps(value).decode()
    assert encoding.text_of(value, "data") == expected


@pytest.mark.parametrize("value", VALUES, ids=named)
def test_the_text_is_the_engine_s_without_orjson(value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "_orjson", None)
    test_the_text_is_the_engine_s(value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None)
@given(json_values)
def test_any_value_of_json_gives_the_engine_s_bytes(value: object) -> None:
    if not isinstance(value, str):
        assert encoding.text_of(value, "data").encode() == json_dumps(value)


LOOP: list[object] = []
LOOP.append(LOOP)

REFUSED: list[tuple[Any, ...]] = [
    ({"data": "\ud800"},),
    ({"data": b"\xff"},),
    ({"data": object()},),
    ({"data": {"a": [object()]}},),
    ({"data": LOOP},),
    ({"data": {"a": "\ud800"}},),
    ({"data": "x", "event": "a\nb"},),
    ({"data": "x", "event": 5},),
    ({"data": "x", "event": "a\ud800"},),
    ({"data": "x", "id": ""},),
    ({"data": "x", "id": "a\0"},),
    ({"data": "x", "id": "x" * 1025},),
    ({"data": "x", "id": "é" * 513},),
    ({"data": "x", "retry": -1},),
    ({"data": "x", "retry": math.nan},),
    ({"data": "x", "retry": "x"},),
    ({"data": "x", "retry": 3601},),
    ({"data": "x", "snapshot": "\ud800"},),
    ({"data": "x", "other": 1},),
    ({"event": "x"},),
    ("x",),
    (("x",),),
    (("a", "b", "c"),),
]


@pytest.mark.parametrize("item", [item for (item,) in REFUSED], ids=named)
def test_what_a_stream_refuses_a_client_refuses_before_it_asks_anybody(server: sse_fast.Server, item: Any) -> None:
    """With the same type and the same words."""
    with pytest.raises((sse_fast.EventError, sse_fast.EventTypeError)) as of_the_engine:
        server.stream("s").publish_many([("first", None), item])
    with pytest.raises(of_the_engine.type) as of_the_client:
        encoding.items_of([("first", None), item])
    assert without_numbers(of_the_client.value) == without_numbers(of_the_engine.value)


def without_numbers(error: BaseException) -> str:
    """The text, floats as the engine writes them."""
    return str(error).replace("NaN", "nan").replace("3601.0", "3601")


@pytest.mark.parametrize("events", ["text", {"a": 1}, 7, None])
def test_what_is_no_sequence_of_events_is_refused_likewise(server: sse_fast.Server, events: Any) -> None:
    with pytest.raises(sse_fast.EventTypeError) as of_the_engine:
        server.stream("s").publish_many(events)
    with pytest.raises(sse_fast.EventTypeError) as of_the_client:
        encoding.items_of(events)
    assert str(of_the_client.value) == str(of_the_engine.value)


# ---- Addresses, names, keys, times ---------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "target", "authority"),
    [
        ("http://127.0.0.1:8080", "/streams/runs/42", "127.0.0.1:8080"),
        ("http://app.example/", "/streams/runs/42", "app.example"),
        ("https://app.example/sse/", "/sse/streams/runs/42", "app.example"),
        ("http://[::1]:8080", "/streams/runs/42", "[::1]:8080"),
    ],
)
def test_an_address_leads_to_the_streams_below_it(url: str, target: str, authority: str) -> None:
    address = address_of(url)
    assert (address.target("runs/42"), address.authority) == (target, authority)
    assert address.host == url.split("//")[1].split("/", maxsplit=1)[0].replace(":8080", "").strip("[]")
    assert address.port == (443 if address.tls else 8080 if "8080" in url else 80)


def test_a_name_is_escaped() -> None:
    assert ADDRESS.target("a b/ü?#%") == "/streams/a%20b/%C3%BC%3F%23%25"


@pytest.mark.parametrize(
    "url",
    ["", "127.0.0.1:8080", "ftp://a", "http://", "http://a:b", "http://a/?x", "http://a/#x", "http://a b", "http://ü"],
)
def test_what_is_no_url_of_a_server_is_refused(url: str) -> None:
    with pytest.raises(sse_fast.SettingError, match="it must be"):
        sse_fast.connect(url)


def test_a_url_with_a_password_or_a_stream_is_refused_without_showing_the_password() -> None:
    with pytest.raises(sse_fast.SettingError) as refused:
        sse_fast.connect("http://user:secret@app.example")
    assert "secret" not in str(refused.value)
    with pytest.raises(sse_fast.SettingError, match="streams are named apart"):
        sse_fast.connect("http://app.example/streams/runs/42")


@pytest.mark.parametrize("name", ["", "x" * 1025, "a\nb", "\ud800", 5, "\x85"])
def test_a_name_is_refused_as_the_engine_refuses_it(server: sse_fast.Server, name: Any) -> None:
    with pytest.raises(sse_fast.SseFastError) as of_the_engine:
        server.stream(name)
    with pytest.raises(of_the_engine.type):
        checked_name(name)


def test_a_key_is_in_no_text_and_only_one_credential_is_taken() -> None:
    with pytest.raises(sse_fast.SettingError, match="both"):
        credential_of("k" * 16, "t")
    for wrong in ("", "a b", "ü", "a\r\nX: y"):
        with pytest.raises(sse_fast.SettingError) as refused:
            credential_of(wrong, None)
        assert not wrong or repr(wrong) not in str(refused.value)
    client = sse_fast.connect("http://127.0.0.1:1", key="secret-of-mine-1")
    texts = repr([client, client.stream("s"), client._asking.publish("s", b"", None)])
    assert "secret-of-mine-1" not in texts


@pytest.mark.parametrize("key", ["", "a\nb", "ü", "x" * 256, 5])
def test_a_key_that_no_header_can_carry_is_refused(key: Any) -> None:
    with pytest.raises((sse_fast.SettingError, sse_fast.ArgumentTypeError)):
        checked_key(key)


@pytest.mark.parametrize("tls", [True, "ca.pem", 0])
@pytest.mark.parametrize("url", ["https://127.0.0.1:1", "http://127.0.0.1:1"])
@pytest.mark.parametrize("kind", [sse_fast.connect, sse_fast.AsyncClient])
def test_what_is_no_context_of_tls_is_refused_at_the_call(kind: Any, url: str, tls: Any) -> None:
    with pytest.raises(sse_fast.ArgumentTypeError, match=r"tls=.* is not allowed: it must be an ssl\.SSLContext"):
        kind(url, tls=tls)


BAD_LINES: list[tuple[Any, str]] = [("a\nb", "LF"), ("a\rb", "CR"), ("a\0b", "NUL"), ("a\ud800", "a lone surrogate")]


@pytest.mark.parametrize(("text", "said"), BAD_LINES, ids=repr)
@pytest.mark.parametrize("name", ["heartbeat_event", "heartbeat_comment"])
def test_a_text_that_is_no_line_is_refused_at_the_call(
    server: sse_fast.Server, name: Any, text: str, said: str
) -> None:
    with sse_fast.connect("http://127.0.0.1:1") as client:
        for stream in (server.stream, client.stream):
            with pytest.raises(sse_fast.SettingError, match=f"{name}.*{said}"):
                stream("x", **{name: text})
    with pytest.raises(sse_fast.SettingError, match=said):
        sse_fast.serve(0, **{name: text})
    with pytest.raises(sse_fast.SettingError, match=said):
        sse_fast.serve(0, streams={"a": {name: text}})


def test_a_pattern_with_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(sse_fast.SettingError, match="lone surrogate"):
        sse_fast.serve(0, streams={"\ud800": {}})


@pytest.mark.parametrize("length", [1, 253, 254, 255])
def test_the_key_of_a_part_is_one_whatever_is_left_of_its_length(length: int) -> None:
    keys = [key_of_part(letter * length, start) for letter in "ab" for start in (0, 1, 256)]
    assert len(set(keys)) == len(keys)
    assert [checked_key(key) for key in keys] == keys
    assert key_of_part("k" * length, 0) == "k" * length


@pytest.mark.parametrize("value", [-1, 241, math.nan, math.inf, "5", True, None])
def test_a_time_beyond_what_a_server_remembers_is_refused(value: Any) -> None:
    with pytest.raises((sse_fast.SettingError, sse_fast.ArgumentTypeError)):
        times.checked_retry_for(value)
    assert times.checked_retry_for(math.inf, endless=True) == math.inf


OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({}, ""),
    ({"history": 1000, "start": "all"}, "?history=1000&start=all"),
    ({"heartbeat": None, "expire": None, "retry": 0.5}, "?heartbeat=&expire=&retry=0.5"),
    ({"ids": False, "private": True, "linger": 1e-05}, "?ids=0&private=1&linger=1e-05"),
    (
        {"heartbeat_event": "none", "heartbeat_comment": "a&b é"},
        "?heartbeat_event=none&heartbeat_comment=a%26b%20%C3%A9",
    ),
]


@pytest.mark.parametrize(("options", "query"), OPTIONS, ids=repr)
def test_options_travel_in_the_query(options: Any, query: str) -> None:
    assert Options(options).query == query
    assert Options(options).limit == 256


def test_no_more_events_are_sent_at_once_than_the_stream_is_told_to_keep() -> None:
    assert [Options({"history": history}).limit for history in (10, 256, 1000)] == [10, 256, 256]


# ---- Responses -----------------------------------------------------------------------------

RESPONSES = [
    (b"HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\nhello", 201, b"hello", True),
    (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length:2\r\n\r\nok", 200, b"ok", True),
    (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", 200, b"", False),
    (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", 200, b"a", False),
    (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n",
        200,
        b"abcde",
        True,
    ),
    (
        b"HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\nA\r\n0123456789\r\n0\r\nT: x\r\n\r\n",
        200,
        b"0123456789",
        True,
    ),
]


@pytest.mark.parametrize(("raw", "status", "body", "reusable"), RESPONSES)
def test_a_response_is_read_in_any_two_pieces(raw: bytes, status: int, body: bytes, reusable: bool) -> None:
    for cut in range(len(raw) + 1):
        response = Response()
        got = response.feed(raw[:cut])
        assert not response.whole or cut == len(raw)
        got += response.feed(raw[cut:])
        assert (response.status, got, response.whole, response.reusable) == (status, body, True, reusable)


@pytest.mark.parametrize(("raw", "status", "body", "reusable"), RESPONSES)
def test_a_response_is_read_byte_by_byte(raw: bytes, status: int, body: bytes, reusable: bool) -> None:
    response = Response()
    assert b"".join(response.feed(bytes([byte])) for byte in raw) == body
    assert (response.status, response.whole, response.reusable) == (status, True, reusable)


@pytest.mark.parametrize(("raw", "status", "body", "reusable"), RESPONSES)
def test_a_response_that_was_cut_is_never_whole(raw: bytes, status: int, body: bytes, reusable: bool) -> None:
    for cut in range(len(raw)):
        response = Response()
        response.feed(raw[:cut])
        with pytest.raises(WireError):
            response.end()


def test_a_body_without_a_length_ends_with_the_connection() -> None:
    response = Response()
    assert response.feed(b"HTTP/1.1 200 OK\r\n\r\nabc") == b"abc"
    assert not response.whole
    response.end()
    assert response.whole
    assert not response.reusable


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"\x15\x03\x01",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno header\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x" * 70_000,
    ],
)
def test_what_is_no_http_is_an_error(raw: bytes) -> None:
    with pytest.raises(WireError):
        Response().feed(raw)


def test_more_than_was_asked_for_spoils_a_connection() -> None:
    response = Response()
    response.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nabc")
    assert response.whole
    assert not response.reusable


def test_a_request_is_what_the_standard_says() -> None:
    assert request("POST", "/streams/s", "a:1", {"X": "y"}, b"{}") == (
        b"POST /streams/s HTTP/1.1\r\nHost: a:1\r\nX: y\r\nContent-Length: 2\r\n\r\n{}"
    )
    assert request("GET", "/", "a", {}) == b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


# ---- Events --------------------------------------------------------------------------------

STREAM = (
    b"\xef\xbb\xbf: hello\nretry: 1500\nevent: a\nid: e-1\ndata: one\ndata:two\n\n"
    b": heartbeat\r\nevent: gap\r\ndata: {}\r\n\r\n"
    b"id\n\nid: bad\0id\rdata\r\rdata: \xff\n\nevent: none\n\n"
)
EVENTS = [
    sse_fast.Event("one\ntwo", "a", "e-1", 1.5),
    sse_fast.Event("{}", "gap"),
    sse_fast.Event(""),
    sse_fast.Event("\N{REPLACEMENT CHARACTER}"),
]


def test_events_are_read_in_any_two_pieces() -> None:
    for cut in range(len(STREAM) + 1):
        incoming = Incoming()
        assert incoming.feed(STREAM[:cut]) + incoming.feed(STREAM[cut:]) == EVENTS, cut
        assert (incoming.retry, incoming.last_id) == (1.5, None)


def test_events_are_read_byte_by_byte() -> None:
    incoming = Incoming("before")
    assert list(itertools.chain.from_iterable(incoming.feed(bytes([byte])) for byte in STREAM)) == EVENTS


def test_the_newest_id_stays_and_an_event_without_one_has_none() -> None:
    incoming = Incoming()
    assert incoming.feed(b"id: 7\ndata: a\n\ndata: b\n\n") == [
        sse_fast.Event("a", id="7"),
        sse_fast.Event("b"),
    ]
    assert incoming.last_id == "7"


# ---- A reader's place ----------------------------------------------------------------------


def following(last_id: str | None = None, retry_for: float = 5.0) -> Following:
    return Following(Asking(ADDRESS, None), "s", last_id, retry_for)


def test_the_next_connection_asks_for_what_follows_the_last_event() -> None:
    reader = following()
    assert b"Last-Event-ID" not in reader.question().raw
    reader.opened(200)
    assert reader.take(b"id: e-1\ndata: x\n\nid: e-2\ndata: half") == [sse_fast.Event("x", id="e-1")]
    assert b"\r\nLast-Event-ID: e-1\r\n" in reader.question().raw
    reader.opened(200)
    assert reader.take(b"id: e-2\ndata: half\n\n") == [sse_fast.Event("half", id="e-2")]


def test_an_id_goes_back_as_its_bytes() -> None:
    assert "\r\nLast-Event-ID: grüß\r\n".encode() in following("grüß").question().raw


def test_204_is_the_end_and_a_reader_without_ids_asks() -> None:
    reader = following()
    reader.opened(200)
    assert reader.asks_whether_ended() is None, "it was only told to come back"
    reader.take(b"data: x\n\n")
    question = reader.asks_whether_ended()
    assert question is not None
    assert b"Accept: application/json" in question.raw
    reader.take(b"id: 1\ndata: x\n\n")
    assert reader.asks_whether_ended() is None
    reader.opened(204)
    assert reader.over


def test_it_comes_back_when_the_server_says_and_gives_up_after_its_time() -> None:
    reader = following(retry_for=1.0)
    reader.opened(200)
    assert reader.closed(0.5) == 1.0
    reader.take(b"data: x\n\n")
    assert reader.closed(0.5) == 0.1
    reader.take(b"retry: 3000\n\n")
    assert reader.closed(0.5) == 3.0
    now, waited = 50.0, 0.0
    while (pause := reader.failed(now, 1.0)) is not None:
        waited += pause
        now += pause
    assert waited == pytest.approx(1.0)
    reader.opened(200)
    assert reader.failed(now, 1.0) is not None, "it was there again"


# ---- Answers -------------------------------------------------------------------------------


def judged(status: int, error: str = "", headers: dict[str, str] | None = None, detail: str = "") -> object:
    body = f'{{"error": "{error}", "detail": "{detail}"}}'.encode() if error else b"<html>"
    question = Asking(ADDRESS, None).publish("s", b"{}", None)
    return question.judged(Answer(status, headers or {}, body))


@pytest.mark.parametrize(
    ("status", "error", "sent"),
    [
        (503, "closing", False),
        (503, "busy", False),
        (503, "cut_off", True),
        (409, "in_progress", True),
        (502, "", True),
        (504, "", True),
        (408, "head_timeout", True),
    ],
)
def test_what_passes_is_asked_again(status: int, error: str, sent: bool) -> None:
    answer = judged(status, error, {"retry-after": "3"})
    assert isinstance(answer, Later)
    assert (answer.sent, answer.asked) == (sent, 0.0 if error == "in_progress" else 3.0)


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (401, "unauthorized", sse_fast.AccessDenied),
        (403, "forbidden", sse_fast.AccessDenied),
        (405, "method_not_allowed", sse_fast.AccessDenied),
        (404, "unknown_stream", sse_fast.UnknownStream),
        (409, "ended", sse_fast.StreamEnded),
        (409, "other", sse_fast.RequestError),
        (500, "", sse_fast.RequestError),
        (302, "", sse_fast.RequestError),
    ],
)
def test_a_refusal_is_an_error_of_its_own_kind(status: int, error: str, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=r"^cannot publish into 's' at http://127\.0\.0\.1:8080: ") as refused:
        judged(status, error, detail="because")
    assert refused.type is kind
    if isinstance(refused.value, sse_fast.RequestError):
        assert (refused.value.status, refused.value.error, refused.value.published) == (status, error, False)


def test_what_answers_but_is_no_server_of_ours_is_told_from_one() -> None:
    for body in (b"<html>", b"[]", b'{"id": 5}', b'{"ids": ["a"]}'):
        with pytest.raises(sse_fast.RequestError, match="none of a server of sse_fast"):
            Answer(200, {}, body).id()
        with pytest.raises(sse_fast.RequestError, match="none of a server of sse_fast"):
            Answer(200, {}, body).ids(2)


def test_every_attempt_has_the_same_key_and_every_request_its_own() -> None:
    asking = Asking(ADDRESS, "secret")
    first, second = (asking.publish("s", b"{}", None).raw for _ in range(2))
    assert first != second
    assert b'\r\nIdempotency-Key: "mine"\r\n' in asking.publish("s", b"{}", "mine").raw
    assert b"\r\nAuthorization: Bearer secret\r\n" in first
