"""Who reads, and until when: `authorize`, tickets, ends of rights, `disconnect`, and what is said of them.

Guards that a check is asked once for each request and never on the engine's threads, that what it returns lets in
exactly what it says, that a page survives whatever will pass, that rights end on the wire with a word and nothing after
it, and that no secret reaches a log or a repr.

Long, because each of these is a test of a few lines, and all of them ask the same server in the same way.
"""

from __future__ import annotations

import asyncio
import logging
import re
import threading
import time

import pytest

import sse_fast
from conftest import Serve
from sse_fast.testing import token
from support.deadline import until
from support.reader import Reader, fetch
from support.signed import SECRET

EVENTS = ("Accept", "text/event-stream")
JSON = ("Accept", "application/json")
TOKENS = sse_fast.Tokens(keys=[sse_fast.Key("HS256", SECRET)])


def status(server: sse_fast.Server, path: str = "/streams/s", *headers: tuple[str, str]) -> int:
    return fetch(server.port, path, headers=headers or [JSON])[0].status


def comes_back(server: sse_fast.Server, path: str = "/streams/s") -> bool:
    head, body = fetch(server.port, path, headers=[EVENTS])
    return head.status == 200 and re.fullmatch(rb"retry: [2-6]\d{3}\n", body) is not None


def access(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "sse_fast.access"]


# ---- authorize -----------------------------------------------------------------------------


def test_a_check_is_given_the_request_and_the_names_and_its_outcome_decides(serve: Serve) -> None:
    outcomes: dict[str, object] = {
        "true": True,
        "name": "ann",
        "grant": sse_fast.Grant("bob", ttl=60.0),
        "anonymous": sse_fast.Grant(),
        "false": False,
        "none": None,
        "one": 1,
        "empty": "",
        "list": ["ann"],
        "raised": sse_fast.HttpError(402, "pay first", headers={"X-Price": "3"}),
        "returned": sse_fast.HttpError(402, "pay first"),
    }
    asked = []

    def check(request: sse_fast.Request, names: tuple[str, ...]) -> object:
        asked.append((request.path, names, request.headers["x-who"], threading.current_thread().name))
        outcome = outcomes[request.query["w"]]
        if request.query["w"] == "raised":
            raise outcome  # type: ignore[misc]
        return outcome

    server = serve(authorize=check)
    server.stream("a/b", start="all").publish("x")
    got = {word: status(server, f"/streams/a%2Fb?w={word}", JSON, ("X-Who", "me")) for word in outcomes}
    lets_in = dict.fromkeys(("true", "name", "grant", "anonymous"), 200)
    refuses = dict.fromkeys(("false", "none", "one", "empty", "list"), 403)
    assert got == {**lets_in, **refuses, "raised": 402, "returned": 402}
    assert {row[:3] for row in asked} == {("/streams/a/b", ("a/b",), "me")}
    assert len(asked) == len(outcomes), "once for each request"
    assert all(row[3].startswith("sse_fast authorize") for row in asked)
    head, body = fetch(server.port, "/streams/a/b?w=raised", headers=[("X-Who", "me")])
    assert (head["x-price"], b"pay first" in body) == ("3", True)
    assert server.stats().forbidden == len(outcomes) - 4 + 1


def test_what_a_check_raises_lets_nobody_in_and_ends_no_page(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    server = serve()

    @server.authorize
    def check(_request: sse_fast.Request, _names: tuple[str, ...]) -> bool:
        raise OSError("the database is away")

    server.stream("s", start="all").publish("x")
    assert comes_back(server)
    head, body = fetch(server.port, "/streams/s", headers=[JSON])
    assert (head.status, head["retry-after"], b"authorize_failed" in body) == (503, "2", True)
    assert b"database" not in body
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 2
    assert all(record.exc_info and "database" in str(record.exc_info[1]) for record in errors)
    assert server.stats().undecided == 2


def test_an_asynchronous_check_runs_on_the_loop_of_the_handlers(serve: Serve) -> None:
    loops = set()
    server = serve()

    @server.authorize
    async def check(request: sse_fast.Request, names: tuple[str, ...]) -> sse_fast.Grant | None:
        await asyncio.sleep(0)
        loops.add(asyncio.get_running_loop())
        if request.query.get("fail"):
            raise ValueError
        return sse_fast.Grant("ann") if names == ("s",) else None

    @server.get("/handled")
    async def handled(_request: sse_fast.Request) -> dict[str, bool]:
        return {"same": {asyncio.get_running_loop()} == loops}

    stream = server.stream("s")
    server.stream("t")
    with Reader(server.port, "/streams/s") as reader:
        reader.open()
        until(lambda: stream.readers() == {"ann": 1})
    assert (status(server, "/streams/t"), comes_back(server, "/streams/s?fail=1")) == (403, True)
    assert fetch(server.port, "/handled")[1] == b'{"same":true}', "and a handler is its own decision"


def test_checks_have_threads_of_their_own_and_hold_up_nothing(serve: Serve) -> None:
    going, begun = threading.Event(), []

    def check(request: sse_fast.Request, _names: tuple[str, ...]) -> bool:
        if request.query.get("slow") is None:
            return True
        begun.append(request)
        return going.wait(20.0)

    server = serve(authorize=check, authorize_threads=2, handler_threads=1, handler_queue=3)
    server.get("/handled")(lambda _request: {"ok": True})
    stream = server.stream("s", start="all")
    stream.publish("x")
    with Reader(server.port, "/streams/s", headers=[EVENTS]) as before:
        before.open().next()
        slow = [Reader(server.port, "/streams/s?slow=1", headers=[EVENTS]) for _ in range(2)]
        until(lambda: len(begun) == 2, what="two that are checked")
        slow += [Reader(server.port, "/streams/s?slow=1", headers=[EVENTS]) for _ in range(3)]
        until(lambda: server.stats().requests == 6, what="three that wait")
        assert comes_back(server)
        assert status(server) == 503
        assert status(server, "/handled") == 200, "a handler does not wait for a check"
        stream.publish("y")
        assert before.next().data == "y"
        going.set()
        for reader in slow:
            assert reader.open().next().data == "x"
            reader.close()
    until(lambda: status(server) == 200)


def test_who_waits_for_a_check_when_the_server_closes_is_told_to_come_back(serve: Serve) -> None:
    going = threading.Event()
    server = serve(authorize=lambda _request, _names: going.wait(20.0), authorize_threads=1)
    server.stream("s")
    first = Reader(server.port, "/streams/s", headers=[EVENTS])
    second = Reader(server.port, "/streams/s", headers=[EVENTS])
    until(lambda: server.stats().requests == 2)
    closing = threading.Thread(target=server.close, args=[2.0])
    closing.start()
    assert second.read_to_end().startswith(b"retry: ")
    going.set()
    closing.join()
    first.close()
    second.close()


def test_a_check_is_asked_where_there_is_no_token_and_a_token_decides_where_there_is(serve: Serve) -> None:
    asked = []
    server = serve(tokens=TOKENS, authorize=lambda _request, names: bool(asked.append(names)) or names == ("s",))
    server.stream("s", start="all").publish("x")
    for text, wanted in [(token(SECRET, ["s"]), 200), (token(SECRET, ["t"]), 403), ("x", 401)]:
        assert status(server, "/streams/s", JSON, ("Authorization", f"Bearer {text}")) == wanted
    assert asked == []
    assert (status(server), status(server, "/streams/t")) == (200, 403)


def test_one_check_decides_and_only_a_callable_one(serve: Serve) -> None:
    server = serve(authorize=lambda _request, _names: True)
    with pytest.raises(sse_fast.SettingError, match="authorize is given already"):
        server.authorize(lambda _request, _names: True)
    for wrong in ("check", 7, lambda _request, _names: (yield)):
        with pytest.raises(sse_fast.ArgumentTypeError, match="authorize="):
            serve(authorize=wrong)


# ---- Ends ----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["grant", "token", "ticket"])
@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
def test_a_right_that_ends_says_so_and_what_has_expired_lets_in_no_more(serve: Serve, how: str, version: str) -> None:
    server = serve(
        tokens=TOKENS, authorize=lambda request, _names: request.query.get("g") and sse_fast.Grant("ann", ttl=0.4)
    )
    stream = server.stream("s", start="all")
    stream.publish("x")
    path, headers = {
        "grant": ("/streams/s?g=1", []),
        "token": ("/streams/s", [("Authorization", f"Bearer {token(SECRET, reader='ann', ttl=0.4)}")]),
        "ticket": (f"/streams/s?ticket={server.ticket(['s'], reader='ann', ttl=0.4)}", []),
    }[how]
    with Reader(server.port, path, headers=[*headers, EVENTS], version=version) as reader:
        assert reader.open().next().data == "x"
        assert stream.readers() == {"ann": 1}
        last = reader.rest()
    assert [(event.event, event.data) for event in last] == [("auth", '{"reason":"expired"}')]
    assert b"event: auth\ndata: {" in bytes(reader.body), "without an id"
    until(lambda: stream.readers() == {})
    assert server.stats().closed.expired == 1
    if how != "grant":
        assert status(server, path, *headers, JSON) == 401


def test_a_right_that_ends_while_its_reader_waits_for_the_stream_lets_in_no_more(serve: Serve) -> None:
    server = serve(wait=10.0, authorize=lambda _request, _names: sse_fast.Grant(ttl=0.2))
    with Reader(server.port, "/streams/late", headers=[EVENTS]) as reader:
        until(lambda: server.stats().requests == 1)
        time.sleep(0.4)  # What is waited for is that time passes.
        server.stream("late", start="all").publish("x")
        assert reader.read_head().status == 401


def test_a_leeway_prolongs_the_token_and_its_connection(serve: Serve) -> None:
    server = serve(tokens=sse_fast.Tokens(keys=TOKENS.keys, leeway=30.0))
    server.stream("s", start="all").publish("x")
    header = ("Authorization", f"Bearer {token(SECRET, ttl=-10.0)}")
    with Reader(server.port, "/streams/s", headers=[header, EVENTS]) as reader:
        assert reader.open().next().data == "x"
        reader.assert_silent(0.3)


# ---- disconnect ----------------------------------------------------------------------------


def test_a_reader_is_disconnected_everywhere_and_what_it_had_is_refused(serve: Serve) -> None:
    server = serve(tokens=TOKENS, shards=2)
    one, two = (server.stream(name, start="all") for name in ("one", "two"))
    texts = {name: token(SECRET, reader=name) for name in ("ann", "bob")}
    headers = {name: [("Authorization", f"Bearer {text}"), EVENTS] for name, text in texts.items()}
    ticket = server.ticket(["**"], reader="ann")
    anns = [Reader(server.port, f"/streams/{name}", headers=headers["ann"]) for name in ("one", "two", "one")]
    anns.append(Reader(server.port, f"/streams/two?ticket={ticket}", headers=[EVENTS]))
    bob = Reader(server.port, "/streams/one", headers=headers["bob"])
    for reader in (*anns, bob):
        reader.open()
    until(lambda: (one.readers(), two.readers()) == ({"ann": 2, "bob": 1}, {"ann": 2}))
    one.publish("before")
    two.publish("before")
    assert server.disconnect("ann") == 4
    one.publish("after")
    two.publish("after")
    for reader in anns:
        assert [event.data for event in reader.rest()] == ["before"]
        reader.close()
    assert [event.data for event in bob.take(2)] == ["before", "after"]
    assert (one.readers(), two.readers(), server.disconnect("ann")) == ({"bob": 1}, {}, 0)
    assert server.stats().closed.disconnected == 4
    assert status(server, "/streams/one", *headers["ann"]) == 401
    assert status(server, f"/streams/one?ticket={ticket}") == 401
    undated = token(SECRET, reader="ann", iat=None)
    assert status(server, "/streams/one", ("Authorization", f"Bearer {undated}"), JSON) == 401
    renewed = ("Authorization", f"Bearer {token(SECRET, reader='ann')}")
    assert status(server, "/streams/one", renewed, JSON) == 200
    assert status(server, f"/streams/one?ticket={server.ticket(['one'], reader='ann')}") == 200
    assert status(server, "/streams/one", headers["bob"][0], JSON) == 200
    bob.close()


def test_a_clock_that_is_ahead_saves_no_token_from_being_disconnected(serve: Serve) -> None:
    server = serve(tokens=sse_fast.Tokens(keys=TOKENS.keys, leeway=60.0))
    server.stream("s")

    def made_at(iat: float, reader: str = "ann") -> int:
        credential = ("Authorization", f"Bearer {token(SECRET, reader=reader, iat=iat)}")
        return status(server, "/streams/s", credential, JSON)

    now = time.time()
    in_milliseconds = now * 1000
    assert [made_at(now + 30), made_at(in_milliseconds)] == [200, 200]
    server.disconnect("ann")
    assert [made_at(now + 30), made_at(in_milliseconds)] == [401, 401]
    assert made_at(time.time() + 59) == 401, "the price: for so long its new tokens are refused, too"
    assert made_at(in_milliseconds, "bob") == 200, "of whom nothing is refused"


def test_a_clock_that_was_ahead_saves_no_token_later_either(serve: Serve) -> None:
    server = serve(tokens=sse_fast.Tokens(keys=TOKENS.keys, leeway=30.0))
    server.stream("s")
    ahead = time.time() + 0.3
    server.disconnect("ann")
    until(lambda: time.time() > ahead)
    credential = ("Authorization", f"Bearer {token(SECRET, reader='ann', iat=ahead)}")
    assert status(server, "/streams/s", credential, JSON) == 401


def test_a_reader_that_waits_is_disconnected_too_and_a_check_is_asked_anew(serve: Serve) -> None:
    server = serve(wait=20.0, authorize=lambda _request, _names: "ann")
    with Reader(server.port, "/streams/late", headers=[EVENTS]) as waiting:
        until(lambda: server.stats().requests == 1)
        assert server.disconnect("ann") == 0
        stream = server.stream("late", start="all")
        stream.publish("x")
        assert waiting.read_head().status == 401
    with Reader(server.port, "/streams/late", headers=[EVENTS]) as again:
        assert again.open().next().data == "x"


def test_disconnecting_while_readers_come_leaves_none_of_those_that_came_before(serve: Serve) -> None:
    server = serve(authorize=lambda _request, _names: "ann")
    stream = server.stream("s")
    for _ in range(20):
        readers = [Reader(server.port, "/streams/s", headers=[EVENTS]) for _ in range(20)]
        count = server.stats().requests
        server.disconnect("ann")
        until(lambda count=count: server.stats().requests >= count)
        server.disconnect("ann")
        for reader in readers:
            reader.close()
        until(lambda: stream.subscribers == 0)
        assert stream.readers() == {}


@pytest.mark.parametrize(("wrong", "error"), [("", sse_fast.SettingError), (None, sse_fast.ArgumentTypeError)])
def test_a_reader_is_a_name(server: sse_fast.Server, wrong: object, error: type[Exception]) -> None:
    with pytest.raises(error, match="reader="):
        server.disconnect(wrong)  # type: ignore[arg-type]
    with pytest.raises(error, match="reader="):
        sse_fast.Grant(wrong if wrong == "" else 7)  # type: ignore[arg-type]


# ---- What is told of readers ---------------------------------------------------------------


def test_callbacks_are_told_who_comes_and_who_goes(serve: Serve) -> None:
    told: list[tuple[str, str, str | None]] = []
    server = serve(authorize=lambda request, _names: request.query.get("as") or True)
    server.on_join(lambda stream, reader: told.append(("join", stream.name, reader)))
    server.on_leave(lambda stream, reader: told.append(("leave", stream.name, reader)))
    stream = server.stream("s")
    for who in ("ann", None, "bob"):
        with Reader(server.port, "/streams/s" + (f"?as={who}" if who else "")) as reader:
            reader.open()
            until(lambda who=who: stream.readers() == {who: 1})
        until(lambda: stream.subscribers == 0)
    until(lambda: len(told) == 6)
    assert told == [(what, "s", who) for who in ("ann", None, "bob") for what in ("join", "leave")]


def test_nothing_secret_and_no_line_of_a_stranger_s_is_logged(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    server = serve(tokens=TOKENS, settle=0.0)
    secrets = [token(SECRET, reader="an\nn"), token(b"x" * 32), server.ticket(["s"], reader="ann"), "sse1.x.y"]
    for text in secrets:
        for path, headers in [
            (f"/streams/s%0d%0aCRITICAL?ticket={text}", []),
            (f"/streams/x?ticket={text}", []),
            ("/streams/x", [("Authorization", f"Bearer {text}")]),
            ("/streams/x", [("Cookie", f"__Host-sse_fast={text}")]),
        ]:
            fetch(server.port, path, headers=[*headers, JSON])
    server.disconnect("an\nn")
    server.close()
    logged = "\n".join(record.getMessage() for record in caplog.records)
    assert 'reader "an\\nn"' in logged
    for text in secrets:
        assert text not in logged
        assert text.rpartition(".")[2] not in logged
    assert all("\n" not in record.getMessage() for record in caplog.records)
    for shown in (repr(TOKENS), repr(TOKENS.keys[0]), repr(sse_fast.Grant("ann"))):
        assert SECRET.decode() not in shown


def test_two_credentials_are_one_refusal(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    server = serve(tokens=TOKENS)
    once = ("Authorization", f"Bearer {token(SECRET, ['s'])}")
    ticket = server.ticket(["s"])
    assert status(server, "/streams/s", once, once, JSON) == 400
    assert status(server, f"/streams/s?ticket={ticket}&ticket={ticket}") == 400
    assert server.stats().unauthorized == 2
    until(lambda: access(caplog))
    assert access(caplog)[0] == 'GET of ["s"] was refused: there is more than one Authorization header'


def test_refusals_are_counted_by_what_they_were(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    server = serve(tokens=TOKENS)
    for headers in ([JSON], [JSON, ("Authorization", "Bearer x")]):
        fetch(server.port, "/streams/a/b", headers=headers)
    fetch(server.port, "/streams/a/b", headers=[("Authorization", f"Bearer {token(SECRET, ['c'], reader='ann')}")])
    stats = server.stats()
    assert (stats.unauthorized, stats.forbidden, stats.undecided) == (2, 1, 0)
    until(lambda: len(access(caplog)) == 2)
    assert access(caplog) == [
        'GET of ["a/b"] was refused: it has no token',
        'GET of ["a/b"] was refused: the token of its Authorization, of reader "ann", does not grant that',
    ]
