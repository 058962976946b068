"""`POST` and `DELETE` on `/streams/{name}`: publishing from programs that have only HTTP.

Guards that what is posted is what `Stream.publish` would send, byte for byte; that a body is taken whole or not at
all; that only a key or a token as Bearer lets anybody publish, decided before anybody looks whether there is such a
stream; and that a publisher over HTTP waits for readers as a thread does, and holds up nobody else while it does.

Long, because each of these is a test of a few lines, and all of them ask the same server in the same way.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest

import sse_fast
from conftest import Serve
from support.deadline import until
from support.publishing import KEY, Elsewhere
from support.reader import Reader, fetch, request
from support.signed import SECRET, claims, token

JSON = ("Accept", "application/json")
#: Lists of 16 kB that no kernel's buffers of one connection hold.
LISTS = 60
#: The same in events of 2 kB.
FILLING = 600


@pytest.fixture(scope="module")
def server() -> Iterator[sse_fast.Server]:
    """A server that takes keys; each test has streams of its own."""
    with sse_fast.serve(0, publish_key=[KEY, KEY[::-1]], drain=0.5) as server:
        yield server


@pytest.fixture
def elsewhere(server: sse_fast.Server) -> Iterator[Elsewhere]:
    with Elsewhere(server.port) as elsewhere:
        yield elsewhere


def events_of(server: sse_fast.Server, name: str) -> list[tuple[str, str]]:
    """Name and data of what the stream retains."""
    stream = server.stream(name)
    with Reader(server.port, f"/streams/{name}?last_event_id={stream.last_id.split('-')[0]}-0") as reader:  # type: ignore[union-attr]
        count = stream.stats().retained
        return [(event.event, event.data) for event in reader.open().take(count)]


# ---- What is published ---------------------------------------------------------------------


def test_an_event_goes_to_readers_and_its_id_back(server: sse_fast.Server, elsewhere: Elsewhere) -> None:
    server.stream("one")
    with Reader(server.port, "/streams/one") as reader:
        reader.open()
        body = {"data": {"n": 1}, "event": "progress", "id": "own", "retry": 1.5}
        answer = elsewhere.post(body, "one")
        event = reader.next()
    assert (answer.status, answer.body) == (201, {"id": "own"})
    assert (event.event, event.data, event.own_id, event.retry) == ("progress", '{"n":1}', "own", 1500)
    assert elsewhere.post({"data": "x"}, "one").body == {"id": server.stream("one").last_id}


@pytest.mark.parametrize(
    "text",
    [
        '"two\\nlines, verbatim é \\ud83d\\ude00"',
        '""',
        "null",
        "[ true , false ]",
        '{ "b" : 1 , "a" : { "c" : [ ] } }',
        "[0, -0, -1, 18446744073709551615, 123456789012345678901234567890]",
        "[0.0, -0.0, 1.0, 0.1, 1e2, 1E+22, 1e-7, 1.5e300, 5e-324, 123456789.125, 1e16, 1e21, 100000.0]",
        "[1e400, -1e400]",
        '["\\u0000\\u001f\\u007f\\b\\f\\n\\r\\t\\"\\\\\\/", "\\u00e9\\u0085\\u2028\\u2029"]',
        '["\u0085\u2028", "â Â \U0001f600", "\\u2027"]',
        '{"\\u2028": "a", "": null}',
    ],
)
def test_data_goes_out_as_publish_sends_it(server: sse_fast.Server, elsewhere: Elsewhere, text: str) -> None:
    here, there = server.stream("here"), server.stream("there")
    here.publish(json.loads(text), snapshot=[json.loads(text)])
    assert elsewhere.post(f'{{"data": {text}, "snapshot": [{text}]}}'.encode(), "there").status == 201
    last = [fetch(server.port, f"/streams/{name}", headers=[JSON])[1] for name in ("here", "there")]
    snapshots = [json.loads(body)["snapshot"]["data"] for body in last]
    assert snapshots[0] == snapshots[1]
    events = [events_of(server, name)[-1] for name in ("here", "there")]
    assert events[0] == events[1]
    for stream in (here, there):
        stream.remove()


def test_a_list_is_appended_together_and_each_event_has_its_id(serve: Serve) -> None:
    server = serve(publish_key=KEY, publish_wait=None)  # Nothing is skipped, however slowly the reader reads.
    stream = server.stream("list")
    done = threading.Event()

    def publish() -> None:
        while not done.is_set():
            stream.publish("between")

    thread = threading.Thread(target=publish)
    lists = [[{"data": f"{number}.{part}", "id": f"{number}.{part}"} for part in range(50)] for number in range(10)]
    seen: list[str] = []
    with Reader(server.port, "/streams/list") as reader:
        reader.open()
        thread.start()
        reading = threading.Thread(target=lambda: seen.extend(event.data for event in reader.rest(60.0)))
        reading.start()
        try:
            with Elsewhere(server.port) as elsewhere:
                answers = [elsewhere.post(each, "list") for each in lists]
        finally:
            done.set()
            thread.join()
            stream.end()
            reading.join()
    assert [answer.body for answer in answers] == [{"ids": [event["id"] for event in each]} for each in lists]
    assert "between" in seen
    for each in lists:
        start = seen.index(each[0]["data"])
        assert seen[start : start + 50] == [event["data"] for event in each]


def test_the_last_of_a_list_may_end_the_stream(server: sse_fast.Server, elsewhere: Elsewhere) -> None:
    server.stream("ended")
    with Reader(server.port, "/streams/ended") as reader:
        reader.open()
        answer = elsewhere.post([{"data": 1}, {"end": True}], "ended")
        assert [(event.event, event.data) for event in reader.rest()] == [("message", "1"), ("end", "null")]
    assert answer.body["ids"][-1] == server.stream("ended").last_id
    late = elsewhere.post({"data": 2}, "ended")
    assert (late.status, late.error) == (409, "ended")
    assert elsewhere.post({"end": True}, "ended").error == "ended"


def test_a_snapshot_alone_publishes_nothing(server: sse_fast.Server, elsewhere: Elsewhere) -> None:
    stream = server.stream("snapshot")
    last_id = stream.publish("first")
    answer = elsewhere.post({"snapshot": {"n": 1}, "event": "state"}, "snapshot")
    assert (answer.status, answer.body) == (201, {"id": last_id})
    assert stream.last_id == last_id
    together = [{"data": "second", "snapshot": {"n": 2}}, {"snapshot": {"n": 3}}, {"data": "third"}]
    assert len(elsewhere.post(together, "snapshot").body["ids"]) == 2
    with Reader(server.port, "/streams/snapshot") as reader:
        got = [(event.event, event.data) for event in reader.open().take(2)]
    assert got == [("snapshot", '{"n":3}'), ("message", "third")]


def test_a_stream_is_made_with_the_options_of_its_pattern(serve: Serve) -> None:
    server = serve(publish_key=KEY, streams={"users/**": {"private": True, "history": 2}})
    with Elsewhere(server.port) as elsewhere:
        assert elsewhere.post([{"data": 1}, {"data": 2}], "users/7").status == 201
        too_many = elsewhere.post([{"data": 1}] * 3, "users/8")
        assert (too_many.status, too_many.error, too_many.body["limit"]) == (413, "too_many_events", 2)
        assert [stream.name for stream in server.streams()] == ["users/7"]
        # Who may publish reaches private streams; nobody reads them here.
        assert fetch(server.port, "/streams/users/7", headers=[JSON])[0].status == 404
        assert elsewhere.delete("users/7").status == 204


def test_what_is_removed_is_gone_and_its_name_free(server: sse_fast.Server, elsewhere: Elsewhere) -> None:
    first = elsewhere.post({"data": 1}, "gone").body["id"]
    with Reader(server.port, "/streams/gone") as reader:
        reader.open()
        removed = elsewhere.delete("gone")
        assert (removed.status, removed.body) == (204, None)
        reader.rest()
    again = elsewhere.delete("gone")
    assert (again.status, again.error) == (404, "unknown_stream")
    assert elsewhere.post({"data": 1}, "gone").body["id"].split("-")[0] != first.split("-")[0]


# ---- What is refused -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "error", "detail"),
    [
        (b"", 400, "bad_body", "the body is empty"),
        (b"{", 400, "bad_body", "the body is not JSON: EOF"),
        (b'{"data": 1} {}', 400, "bad_body", "the body is not JSON: trailing characters"),
        (b"[]", 400, "bad_body", "empty"),
        (b"\xff", 400, "bad_body", "not UTF-8"),
        ({"data": 1, "name": "x"}, 400, "bad_body", 'there is no field "name": an event has data, event'),
        (b'{"data": 1, "data": 2}', 400, "bad_body", "the field data stands in it twice"),
        ({"data": 1, "retry": "5"}, 400, "bad_body", "retry: must be a number of seconds or null, not a string"),
        ({"data": 1, "end": 1}, 400, "bad_body", "end: must be true or false, not a number"),
        (5, 400, "bad_body", "an event is an object with the fields data, event"),
        ([{"data": 1}, {"data": 2, "event": 3}], 400, "bad_body", "events[1]: event: must be a string or null"),
        ([{"data": 1}, {"event": "x"}], 400, "bad_event", "events[1]: it has none of data"),
        ([{"data": 1, "end": True}, {"data": 2}], 400, "bad_event", "events[0]: end"),
        ([{"data": 1}, {"data": 2, "event": "a\rb"}], 400, "bad_event", "events[1]: event must not contain CR"),
        (b'{"data": {"a": 1, "a": 2}}', 400, "bad_event", "twice"),
        (b'{"data": "\\ud800"}', 400, "bad_event", "surrogate"),
        ({"data": 1, "retry": 5000}, 400, "bad_event", "seconds"),
        ([{"data": 1}, {"data": "x" * (1 << 20) + "y"}], 413, "event_too_large", "events[1]: data is 1048577 bytes"),
        ([{"data": 1}] * 257, 413, "too_many_events", "257 events"),
        ([{"data": "x" * 9000}] * 200, 413, "too_many_events", "bytes together"),
    ],
)
def test_what_is_wrong_is_refused_whole(
    server: sse_fast.Server, elsewhere: Elsewhere, body: Any, status: int, error: str, detail: str
) -> None:
    stream = server.stream("refused")
    answer = elsewhere.post(body, "refused")
    assert (answer.status, answer.error) == (status, error)
    assert detail in answer.body["detail"]
    assert stream.last_id is None


def begun(port: int, *headers: tuple[str, str]) -> bytes:
    """The head of a request that publishes, whose body is to come."""
    usual = [("Authorization", f"Bearer {KEY}"), ("Content-Type", "application/json"), *headers]
    return request("/streams/s", port, method="BREW", headers=usual).replace(b"BREW", b"POST")


def test_a_body_of_more_than_eight_events_of_the_largest_size_is_not_read(server: sse_fast.Server) -> None:
    with Reader(server.port, raw=begun(server.port, ("Content-Length", "8388609"))) as reader:
        head = reader.read_head()
    assert (head.status, head["connection"]) == (413, "close")


LARGE_BODY = 30 << 20


@pytest.mark.parametrize("path", ["/streams/s", "/echo"])
@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "chunked"])
def test_who_sends_all_of_a_body_that_is_too_large_before_it_reads_is_told_so(
    serve: Serve, path: str, chunked: bool
) -> None:
    """As `http.client` does, and what stands on it: a connection that is cut is all that it would see."""
    server = serve(publish_key=KEY)
    server.post("/echo")(lambda request: len(request.body))
    body = bytes(LARGE_BODY)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60.0)
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    for _ in range(2):  # It ends the connection, and a new one is as good.
        connection.request("POST", path, iter([body]) if chunked else body, headers, encode_chunked=chunked)
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())["error"]) == (413, "body_too_large")
    connection.close()


def test_a_body_without_an_end_is_cut(server: sse_fast.Server) -> None:
    """After what is read of it: nobody holds a connection so."""
    piece = b"%x\r\n" % (1 << 20) + bytes(1 << 20) + b"\r\n"
    sent = 0
    raw = begun(server.port, ("Transfer-Encoding", "chunked"))
    with Reader(server.port, raw=raw) as reader, contextlib.suppress(BrokenPipeError, ConnectionResetError):
        while sent < 1 << 30:
            reader.socket.sendall(piece)
            sent += len(piece)
    # Its 8 MiB, the 32 that are read after that, and what the kernel takes.
    assert sent < 100 << 20


def test_who_asks_whether_to_send_a_body_is_told_not_to(server: sse_fast.Server) -> None:
    raw = begun(server.port, ("Content-Length", str(LARGE_BODY)), ("Expect", "100-continue"))
    with Reader(server.port, raw=raw) as reader:
        assert reader.read_eof().startswith(b"HTTP/1.1 413 ")


def test_an_event_of_the_largest_size_is_taken_however_it_is_escaped(
    server: sse_fast.Server, elsewhere: Elsewhere
) -> None:
    body = b'{"data": "' + b"\\u0061" * (1 << 20) + b'"}'
    assert elsewhere.post(body, "large").status == 201
    assert server.stream("large").stats().retained == 1


@pytest.mark.parametrize(
    "given",
    [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonp", "application/json; charset=latin-1"],
)
def test_another_type_of_body_is_415(elsewhere: Elsewhere, given: str | None) -> None:
    assert elsewhere.post({"data": 1}, Content_Type=given).error == "unsupported_media_type"
    assert elsewhere.post({"data": 1}, Content_Encoding="gzip").error == "unsupported_media_type"
    assert elsewhere.post({"data": 1}, Content_Type="Application/JSON; charset=UTF-8").status == 201


def test_a_name_that_cannot_be_one_is_refused(elsewhere: Elsewhere) -> None:
    assert elsewhere.post({"data": 1}, "a%0Ab").error == "bad_stream_name"
    assert elsewhere.post({"data": 1}, "a" * 1025).error == "bad_stream_name"


@pytest.mark.parametrize("name", ["a%zz", "a%", "a%2", "%%20", "a%2/b", "%+1", "a%ff", "%C3"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE", "OPTIONS"])
def test_what_is_no_path_is_refused_by_every_method(server: sse_fast.Server, method: str, name: str) -> None:
    with Elsewhere(server.port) as elsewhere:
        answer = elsewhere.ask(method, f"/streams/{name}", {"data": 1} if method == "POST" else None)
    assert answer.status == 400
    assert method == "HEAD" or answer.error == "bad_request"
    assert not any("%" in stream.name for stream in server.streams())


@pytest.mark.parametrize(
    "name",
    ["a//b", "/a", "a/", "..", "a/../b", "%2F", "%zz", "\u00a0", "é" * 512, "é" * 513, "\0", "\x7f", "a\x80", "\x1f"],
)
def test_a_name_is_one_wherever_it_is_given_or_nowhere(
    server: sse_fast.Server, elsewhere: Elsewhere, name: str
) -> None:
    def taken(give: Callable[[], object]) -> bool:
        try:
            give()
        except sse_fast.SettingError:
            return False
        return True

    with sse_fast.connect(server.url, key=KEY) as client:
        is_one = taken(lambda: server.stream(name))
        assert taken(lambda: client.stream(name)) == is_one
    answer = elsewhere.post({"data": 1}, quote(name, safe=""))
    assert answer.status == (201 if is_one else 400)
    head, page = fetch(server.port, f"/streams/{quote(name, safe='/')}", headers=[JSON])
    assert head.status == (200 if is_one else 400)
    if is_one:
        assert json.loads(page)["stream"] == name
        server.stream(name).remove()


def test_no_more_streams_are_made_than_may_be(serve: Serve) -> None:
    server = serve(publish_key=KEY, max_streams=1)
    with Elsewhere(server.port) as elsewhere:
        assert elsewhere.post({"data": 1}, "a").status == 201
        answer = elsewhere.post({"data": 1}, "b")
        assert (answer.status, answer.error, "Retry-After" in {k.title() for k in answer.headers}) == (
            503,
            "too_many_streams",
            True,
        )


# ---- Who may -------------------------------------------------------------------------------


def test_without_a_key_and_tokens_it_is_no_method(serve: Serve) -> None:
    server = serve()
    with Elsewhere(server.port) as elsewhere:
        for answer in (elsewhere.post({"data": 1}), elsewhere.delete()):
            assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
        assert elsewhere.ask("OPTIONS", "/streams/s").headers["allow"] == "GET, HEAD, OPTIONS"


def test_the_methods_are_named(server: sse_fast.Server, elsewhere: Elsewhere) -> None:
    allowed = "GET, HEAD, POST, DELETE, OPTIONS"
    assert elsewhere.ask("OPTIONS", "/streams/s").headers["allow"] == allowed
    put = elsewhere.ask("PUT", "/streams/s", {"data": 1})
    assert (put.status, put.headers["allow"]) == (405, allowed)
    assert elsewhere.ask("POST", "/streams?name=s", {"data": 1}).status == 405
    assert elsewhere.ask("POST", "/streams/", {"data": 1}).status == 404


def test_each_of_several_keys_lets_in_and_nothing_else(server: sse_fast.Server) -> None:
    before = server.stats().unauthorized
    for key, status in [(KEY, 201), (KEY[::-1], 201), (KEY[:-1], 401), (KEY + "x", 401), ("", 401), (None, 401)]:
        with Elsewhere(server.port, key) as elsewhere:
            for name in ("s", "unknown-to-everybody"):
                answer = elsewhere.post({"data": 1}, name) if status == 201 else elsewhere.delete(name)
                assert answer.status == status, key
                if status == 401:
                    challenge = 'Bearer error="invalid_token"' if key is not None else "Bearer"
                    assert answer.headers["www-authenticate"] == challenge
    assert server.stats().unauthorized == before + 8


def test_what_a_browser_sends_by_itself_and_urls_grant_nothing(serve: Serve) -> None:
    tokens = sse_fast.Tokens(keys=[sse_fast.Key("HS256", SECRET)])
    server = serve(publish_key=KEY, tokens=tokens, cors=["https://app.example"])
    ticket = server.ticket(["**"])
    good = token("HS256", {**claims("**"), "sse": {"publish": ["**"]}})
    with Elsewhere(server.port, None) as elsewhere:
        assert elsewhere.post({"data": 1}, Cookie=f"__Host-sse_fast={good}").status == 401
        assert elsewhere.post({"data": 1}, f"s?ticket={ticket}").status == 401
        assert elsewhere.post({"data": 1}, Origin="https://app.example").status == 401
        assert elsewhere.post({"data": 1}, Authorization=f"Bearer {ticket}").status == 401
        assert elsewhere.post({"data": 1}, Authorization=f"Basic {KEY}").status == 401
        assert elsewhere.post({"data": 1}, Authorization=f"Bearer {good}").status == 201
    bearer = ("Authorization", f"Bearer {KEY}")
    twice = [bearer, bearer, ("Content-Type", "application/json")]
    with Reader(
        server.port, raw=request("/streams/s", server.port, method="POST", headers=twice, body=b"{}")
    ) as reader:
        assert reader.read_head().status == 400


def test_a_token_publishes_what_it_grants(serve: Serve) -> None:
    server = serve(tokens=sse_fast.Tokens(keys=[sse_fast.Key("HS256", SECRET)]))

    def status(sse: object, name: str, **more: Any) -> int:
        good = token("HS256", {**claims(), "sse": sse, **more})
        with Elsewhere(server.port, good) as elsewhere:
            return elsewhere.post({"data": 1}, name).status

    for sse, name, expected in [
        ({"publish": ["runs/*"]}, "runs/42", 201),
        ({"publish": ["runs/*"]}, "runs/42/log", 403),
        ({"publish": ["**"]}, "runs/42/log", 201),
        ({"subscribe": ["**"]}, "runs/42", 403),
        ({"subscribe": ["**"], "publish": []}, "nothing/there", 403),
        ({}, "runs/42", 403),
        (None, "runs/42", 403),
    ]:
        assert status(sse, name) == expected, (sse, name)
    assert status({"publish": ["**"]}, "runs/42", exp=1) == 401
    assert status({"publish": ["**"]}, "runs/42", sub="ann") == 201
    server.disconnect("ann")
    assert status({"publish": ["**"]}, "runs/42", sub="ann", iat=1) == 401


def test_a_token_to_publish_reads_nothing(serve: Serve) -> None:
    server = serve(tokens=sse_fast.Tokens(keys=[sse_fast.Key("HS256", SECRET)]), publish_key=KEY)
    server.stream("s")
    good = token("HS256", {**claims(), "sse": {"publish": ["**"]}})
    assert fetch(server.port, "/streams/s", headers=[JSON, ("Authorization", f"Bearer {good}")])[0].status == 403
    assert fetch(server.port, "/streams/s", headers=[JSON, ("Authorization", f"Bearer {KEY}")])[0].status == 401


def test_a_page_of_another_site_needs_cors_and_the_key(serve: Serve) -> None:
    server = serve(publish_key=KEY, cors=["https://app.example"])
    with Elsewhere(server.port) as elsewhere:
        other = elsewhere.post({"data": 1}, Origin="https://evil.example")
        assert (other.status, other.error) == (403, "origin_not_allowed")
        assert elsewhere.post({"data": 1}, Sec_Fetch_Site="cross-site").status == 403
        allowed = elsewhere.post({"data": 1}, Origin="https://app.example")
        assert (allowed.status, allowed.headers["access-control-allow-origin"]) == (201, "https://app.example")
        asked = {"Origin": "https://app.example", "Access_Control_Request_Method": "POST", "Authorization": None}
        preflight = elsewhere.ask("OPTIONS", "/streams/s", **asked)
        assert "POST" in preflight.headers["access-control-allow-methods"]
    assert server.stats().origins_refused == 2


def test_a_route_of_the_application_wins(serve: Serve) -> None:
    server = serve(publish_key=KEY)

    @server.post("/streams/own")
    def own(_request: sse_fast.Request) -> str:
        return "the application's"

    with Elsewhere(server.port, None) as elsewhere:
        assert elsewhere.post({"data": 1}, "own").body == "the application's"


def test_no_key_and_no_token_is_in_a_log(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "sse_fast")
    server = serve(publish_key=KEY, access_log=True)
    with Elsewhere(server.port, "wrong-" + KEY) as elsewhere:
        elsewhere.post({"data": 1})
        elsewhere.post({"data": 1}, Authorization=f"Bearer {KEY}")
        elsewhere.post({"data": 1}, Authorization=f"Bearer {KEY}, Bearer x", Idempotency_Key=KEY)
    until(lambda: "POST" in caplog.text and " 201" in caplog.text, what="lines of the requests")
    assert 'of ["s"] was refused' in caplog.text
    assert KEY not in caplog.text


@pytest.mark.parametrize("given", ["short", "with a space in its thirty-two characters", ["x" * 40, ""], [1], "é" * 40])
def test_a_key_that_is_none_is_refused_and_not_shown(serve: Serve, given: Any) -> None:
    with pytest.raises((sse_fast.SettingError, sse_fast.ArgumentTypeError), match="publish_key") as refused:
        serve(publish_key=given)
    keys = [given] if isinstance(given, str) else [key for key in given if isinstance(key, str) and key]
    assert not [key for key in keys if key in str(refused.value)]


def test_keys_come_from_the_environment(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSE_FAST_PUBLISH_KEY", f"{KEY}, {KEY[::-1]}")
    server = serve()
    for key in (KEY, KEY[::-1]):
        with Elsewhere(server.port, key) as elsewhere:
            assert elsewhere.post({"data": 1}).status == 201


# ---- When it waits -------------------------------------------------------------------------


def test_a_publisher_waits_for_a_full_socket_and_holds_up_nobody(serve: Serve) -> None:
    """With ``publish_wait=None`` as long as it takes; other requests are answered all the time."""
    server = serve(publish_key=KEY, publish_wait=None, stall_timeout=600.0, heartbeat=None)
    padding = "x" * 2000
    server.stream("s", history=16, max_lag=16)
    with Reader(server.port, "/streams/s", receive_buffer=2048) as slow, Elsewhere(server.port) as other:
        slow.open()
        answers: list[int] = []

        def publish() -> None:
            with Elsewhere(server.port) as elsewhere:
                for number in range(LISTS):
                    events = [{"data": padding, "id": f"{number}.{part}"} for part in range(8)]
                    answers.append(elsewhere.post(events).status)

        thread = threading.Thread(target=publish)
        thread.start()
        until(lambda: server.stats().blocked == 1 and len(answers) > 1, what="a full socket")
        assert len(answers) < LISTS
        for number in range(50):
            assert other.post({"data": number}, "another").status == 201
        assert fetch(server.port, "/healthz")[0].status == 200
        events = slow.take(8 * LISTS, 60.0)
        thread.join(60.0)
    assert answers == [201] * LISTS
    assert [event.own_id for event in events] == [f"{number}.{part}" for number in range(LISTS) for part in range(8)]


def test_a_publisher_that_leaves_while_it_waits_publishes_nothing(serve: Serve) -> None:
    server = serve(publish_key=KEY, publish_wait=None, stall_timeout=600.0, heartbeat=None)
    stream = server.stream("s", history=4, max_lag=4)
    with Reader(server.port, "/streams/s", receive_buffer=2048) as slow:
        slow.open()

        def fill() -> None:
            for number in range(FILLING):
                stream.publish("x" * 2000, id=f"f{number}")

        thread = threading.Thread(target=fill)
        thread.start()
        until(lambda: server.stats().blocked == 1, what="a full socket")
        body = b'{"data": "of one that leaves", "id": "left"}'
        headers = [("Authorization", f"Bearer {KEY}"), ("Content-Type", "application/json")]
        raw = request("/streams/s", server.port, method="POST", headers=headers, body=body)
        before = server.stats().requests
        with Reader(server.port, raw=raw) as leaving:
            until(lambda: server.stats().requests > before, what="its request")
            leaving.reset()
        until(lambda: server.stats().connections == 1, what="its connection's end")
        events = slow.take(FILLING, 60.0)
        thread.join(60.0)
    assert [event.own_id for event in events] == [f"f{number}" for number in range(FILLING)]


def test_a_publisher_that_leaves_while_it_is_the_next_holds_up_nobody(serve: Serve) -> None:
    """Its place and its key are free, and what it asked for is published once, for who asks again."""
    server = serve(publish_key=KEY, publish_wait=None, stall_timeout=600.0, heartbeat=None)
    server.stream("s", history=4, max_lag=4)

    def event(name: str) -> dict[str, str]:
        return {"data": "x" * 4000, "id": name}

    def asking(name: str) -> Reader:
        headers = [("Authorization", f"Bearer {KEY}"), ("Content-Type", "application/json"), ("Idempotency-Key", name)]
        body = json.dumps(event(name)).encode()
        return Reader(server.port, raw=request("/streams/s", server.port, method="POST", headers=headers, body=body))

    with Reader(server.port, "/streams/s", receive_buffer=2048) as slow, Elsewhere(server.port) as other:
        slow.open()

        def is_known(name: str) -> bool:
            return other.post([{"data": 1}] * 1000, Idempotency_Key=name).error == "key_reused"

        def waits(name: str) -> bool:
            return is_known(name) and other.post(event(name), Idempotency_Key=name).error == "in_progress"

        published: list[str] = []
        while True:
            name = f"f{len(published)}"
            with asking(name) as first:
                until(lambda: is_known(name), what="its request")  # noqa: B023 - called in this round
                if server.stats().blocked == 1 and waits(name):
                    first.reset()
                    break
                assert first.read_head().status == 201
            published.append(name)
        until(lambda: not is_known(name), what="the end of its request")
        with asking("next") as second:
            until(lambda: waits("next"), what="one in its place")
            with asking(name) as again:
                until(lambda: waits(name), what="the same once more")
                events = slow.take(len(published) + 2, 60.0)
                assert [second.read_head().status, again.read_head().status] == [201, 201]
    assert [event.own_id for event in events] == [*published, "next", name]
    assert server.stream("s").stats().published == len(events)


def test_who_publishes_while_the_server_closes_is_told_so(serve: Serve) -> None:
    server = serve(publish_key=KEY, publish_wait=None, stall_timeout=600.0, heartbeat=None)
    server.stream("s", history=4, max_lag=4)
    event = {"data": "x" * 4000}
    answers: list[tuple[int, str | None]] = []

    def publish() -> None:
        with Elsewhere(server.port) as elsewhere:
            while not answers or answers[-1][0] == 201:
                answer = elsewhere.post(event, Idempotency_Key=f"k{len(answers)}")
                answers.append((answer.status, answer.error))

    with Reader(server.port, "/streams/s", receive_buffer=2048) as slow, Elsewhere(server.port) as other:
        slow.open()
        thread = threading.Thread(target=publish)
        thread.start()
        until(lambda: server.stats().blocked == 1, what="a full socket")
        until(lambda: other.waits(event, f"k{len(answers)}"), what="a request that waits")
        server.close(drain=1.0)
        thread.join(20.0)
    assert answers[-1] == (503, "closing")


@pytest.mark.parametrize(
    "body", [[["x", "ev", "my-id", 2.5, {"s": 1}, True]], [[{"data": 1}]], [5], ["x"], [None]], ids=repr
)
def test_what_is_no_object_is_no_event(server: sse_fast.Server, elsewhere: Elsewhere, body: object) -> None:
    answer = elsewhere.post(body, "no-object")
    assert (answer.status, answer.error) == (400, "bad_body")
    assert "no-object" not in [stream.name for stream in server.streams()]
