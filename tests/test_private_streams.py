"""Every way to ask for a stream without the right to it: none gets a byte of it, and each its exact status.

Guards that however a path is written, whichever credential is forged, stale, swapped or put elsewhere, and whatever
form of the stream is asked for, what is decided is decided by the name, before anybody looks whether it exists.
The stream's event is in every test's server, and a right token gets it there.
This file is long because its tables have a row for every way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

import pytest

import sse_fast
from support.deadline import until
from support.key_set import KeySetServer
from support.reader import Reader, fetch, request
from support.signed import SECRET, claims, encode, p256_jwk, p256_pem, rsa_jwk, rsa_pem, sign, token

OWN = "/streams/users/7/inbox"
INSIDE = "for seven alone"
EVENTS = ("Accept", "text/event-stream")
JSON = ("Accept", "application/json")

Headers = Iterable[tuple[str, str]]


def bearer(text: str) -> tuple[str, str]:
    return ("Authorization", f"Bearer {text}")


def cookie(text: str, name: str = "__Host-sse_fast") -> tuple[str, str]:
    return ("Cookie", f"theme=dark; {name}={text}")


def answer(server: sse_fast.Server, raw: bytes) -> tuple[int | None, bytes]:
    """The status of the answer, and every byte that came until its end, or until a stream's first event."""
    with Reader(server.port, raw=raw) as reader:
        reader.pump_while(lambda: reader.head is None and not reader.eof, 10.0, "neither answer nor close")
        if reader.head is None:
            return None, bytes(reader.received)
        done = lambda: reader.eof or reader.parser.events or _is_whole(reader)  # noqa: E731 - it is used once
        reader.pump_while(lambda: not done(), 10.0, "no end of the answer")
        return reader.head.status, bytes(reader.received)


def _is_whole(reader: Reader) -> bool:
    assert reader.head is not None
    is_head = reader.received.startswith(b"HTTP/1.1") and reader.head.status in {204, 304}
    length = int(reader.head["content-length"]) if "content-length" in reader.head else None
    return is_head or reader.finished or (length is not None and len(reader.body) >= length)


def ask(server: sse_fast.Server, path: str, headers: Headers = (), method: str = "GET") -> tuple[int | None, bytes]:
    if method == "HEAD":
        with Reader(server.port, path, headers=headers, method=method) as reader:
            head = reader.read_head()
            return head.status, head.raw
    return answer(server, request(path, server.port, headers=headers, method=method))


def shown(text: bytes) -> bool:
    return INSIDE.encode() in text


# ---- A server that takes tokens ------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded() -> Iterator[sse_fast.Server]:
    keys = [
        sse_fast.Key("HS256", SECRET),
        sse_fast.Key("HS256", b"another secret of 32 bytes or more", id="named"),
        sse_fast.Key("RS256", rsa_pem(), id="rsa"),
        sse_fast.Key("ES256", p256_jwk(kid="p256")),
    ]
    tokens = sse_fast.Tokens(keys=keys, issuer="us", audience="events")
    with sse_fast.serve(0, tokens=tokens, settle=0.0, drain=0.5, heartbeat=None) as server:
        server.stream("users/7/inbox", start="all").publish(INSIDE)
        server.stream("users/8/inbox", start="all").publish("for eight")
        server.route("/api/inbox/{user}", "users/{user}/inbox", wait=0.05)
        server.route("/api/files/{*rest}", "{*rest}", create=True)
        server.route("/api/inbox", "users/{user}/inbox")
        yield server


def rights(*names: str, **more: object) -> dict[str, object]:
    return claims(*names, **{"iss": "us", "aud": "events", **more})


def own(**more: object) -> dict[str, object]:
    return rights("users/7/*", **more)


#: How a path may be written: it, the status without a token, and with one for users/8 alone.
PATHS = [
    (OWN, 401, 403),
    ("/streams/%75sers/7/inbox", 401, 403),
    ("/streams/users/%37/inbox", 401, 403),
    ("/streams/users%2f7%2Finbox", 401, 403),
    ("/%73treams/users/7/inbox", 401, 403),
    ("/%73%74%72%65%61%6d%73/users/7/inbox", 401, 403),
    ("/streams%2fusers/7/inbox", 401, 403),
    ("/streams/users/7/inbox/", 401, 403),
    ("/streams/users/7/inbox//", 401, 403),
    ("/streams/users//7/inbox", 401, 403),
    ("/streams//users/7/inbox", 401, 403),
    ("/streams/./users/7/inbox", 401, 403),
    ("/streams/x/../users/7/inbox", 401, 403),
    ("/streams/users/8/../7/inbox", 401, 403),
    ("/streams/users/8/%2e%2e/7/inbox", 401, 403),
    ("/streams/../streams/users/7/inbox", 401, 403),
    ("/./streams/users/7/inbox", 404, 404),
    ("/x/../streams/users/7/inbox", 404, 404),
    ("//streams/users/7/inbox", 404, 404),
    ("/Streams/users/7/inbox", 404, 404),
    ("/STREAMS/users/7/inbox", 404, 404),
    ("/streams/Users/7/inbox", 401, 403),
    ("/streams/users/7/INBOX", 401, 403),
    ("/streams/users/7/inbox.json", 401, 403),
    ("/streams/users/7/inbox;a=1", 401, 403),
    ("/streams/users/7/inbox%20", 401, 403),
    ("/streams/%2520", 401, 403),
    ("/streams/users/7/inbox%00", 400, 400),
    ("/streams/users/7/inbox%0a", 400, 400),
    ("/streams/users/7/%c0%af", 400, 400),
    ("/streams/users/7/inbox?last_event_id=", 401, 403),
    ("/streams/users/7/inbox?access_token=x&token=x&jwt=x", 401, 403),
    ("/streams/users/7/inbox?", 401, 403),
    ("/streams/users/7/nothing", 401, 403),
    ("/streams/nothing", 401, 403),
    ("/streams/", 404, 404),
    ("/streams", 400, 400),
    ("/streams?name=users/7/inbox", 401, 403),
    ("/streams?name=users%2F7%2Finbox", 401, 403),
    ("/streams?n%61me=users/7/inbox", 401, 403),
    ("/streams?name=users/8/inbox&name=users/7/inbox", 401, 403),
    ("/streams?name=users/7/inbox&name=users/8/inbox", 401, 403),
    ("/streams?name=users/8/inbox&name=users/7/inbox&last_event_id=0_a-1~b-1", 401, 403),
    ("/streams?name=users/7/nothing&name=users/8/inbox", 401, 403),
    ("/%73treams?name=users/7/inbox", 401, 403),
    ("/streams/?name=users/7/inbox", 401, 403),
    ("/streams%2f?name=users/8/inbox&n%61me=users/7/inbox", 401, 403),
    ("/streams//?name=users/7/inbox", 401, 403),
    ("/streams/?names=users/7/inbox", 404, 404),
    ("/streams?name=users/7/inbox&name=users/7/inbox", 400, 400),
    ("/streams?name=users/7/inbox%0a", 400, 400),
    ("/api/inbox/7", 401, 403),
    ("/api/inbox/%37", 401, 403),
    ("/api/inbox/7%2finbox", 404, 404),
    ("/api/inbox/9", 401, 403),
    ("/api/inbox?user=7", 401, 403),
    ("/api/inbox?user=9", 401, 403),
    ("/api/inbox?user=7/../7", 404, 404),
    ("/api/files/users/7/inbox", 401, 403),
    ("/api/files/new", 401, 403),
]


@pytest.mark.parametrize(("path", "without", "other"), PATHS, ids=[path for path, *_ in PATHS])
def test_no_way_to_write_a_path_leads_around_the_decision(
    guarded: sse_fast.Server, path: str, without: int, other: int
) -> None:
    eight = bearer(token("HS256", rights("users/8/*")))
    for method in ("GET", "HEAD"):
        for accept in (EVENTS, JSON):
            for headers, wanted in (([accept], without), ([accept, eight], other)):
                status, got = ask(guarded, path, headers, method)
                assert status == wanted, (method, accept, headers, got)
                assert not shown(got)


def test_a_right_token_gets_the_stream_by_every_door(guarded: sse_fast.Server) -> None:
    good = token("HS256", own())
    for path in (OWN, "/api/inbox/7", "/api/inbox?user=7", "/api/files/users/7/inbox", "/%73treams/users%2F7/inbox"):
        for headers in ([bearer(good)], [cookie(good)], [("authorization", f"bearer {good}")]):
            for accept in (EVENTS, JSON):
                status, got = ask(guarded, path, [*headers, accept])
                assert (status, shown(got)) == (200, True), (path, got)
        assert ask(guarded, path, [bearer(good)], "HEAD")[0] == 200
    assert ask(guarded, "/api/inbox/9", [bearer(token("HS256", rights("users/9/*")))])[0] == 404
    assert ask(guarded, "/streams/users/7/nothing", [bearer(good)])[0] == 404
    for path in ("/api/inbox?user=8", "/streams/users/7/inbox?access_token=" + good):
        assert ask(guarded, path, [JSON])[0] == 401


def test_an_absolute_target_is_decided_by_its_path(guarded: sse_fast.Server) -> None:
    port = guarded.port
    for target, status in [
        (f"http://127.0.0.1:{port}{OWN}", 401),
        (f"http://localhost{OWN}", 401),
        (f"HTTP://127.0.0.1:{port}/%73treams/users/7/inbox", 401),
        (f"http://evil.example{OWN}", 403),
        (f"http://127.0.0.1:{port}//streams/users/7/inbox", 404),
    ]:
        got = answer(guarded, request(target, port, headers=[JSON]))
        assert got[0] == status, (target, got)
        assert not shown(got[1])
    good = bearer(token("HS256", own()))
    assert shown(answer(guarded, request(f"http://127.0.0.1:{port}{OWN}", port, headers=[JSON, good]))[1])


@pytest.mark.parametrize(
    ("method", "status"),
    [
        ("POST", (401, 403)),
        ("PUT", (405, 405)),
        ("DELETE", (401, 403)),
        ("PATCH", (405, 405)),
        ("OPTIONS", (204, 204)),
        ("TRACE", (405, 405)),
    ],
)
def test_other_methods_read_nothing(guarded: sse_fast.Server, method: str, status: tuple[int, int]) -> None:
    """A right to read is none to publish or to remove."""
    for headers, expected in zip(([JSON], [JSON, bearer(token("HS256", own()))]), status, strict=True):
        got = answer(guarded, request(OWN, guarded.port, method=method, headers=headers))
        assert got[0] == expected, got
        assert not shown(got[1])


def forged() -> Iterator[tuple[str, str, int]]:
    """What each token is, the token, and what it gets as a Bearer. Long because each way has a row."""
    good = token("HS256", own())
    head, body, code = good.split(".")
    more = encode(own(sub="root"))
    now = time.time()
    unsigned = encode({"alg": "none"})
    yield from [
        ("empty", "", 401),
        ("a word", "x", 401),
        ("two words", f"{good} {good}", 401),
        ("dots", "..", 401),
        ("no signature", f"{head}.{body}.", 401),
        ("two parts", f"{head}.{body}", 401),
        ("four parts", f"{good}.{code}", 401),
        ("padded", f"{good}=", 401),
        ("a signature of zeros", f"{head}.{body}.{encode(bytes(32))}", 401),
        ("a short signature", f"{head}.{body}.{code[:-2]}", 401),
        ("other claims", f"{head}.{more}.{code}", 401),
        ("no claims", f"{head}..{code}", 401),
        ("none", f"{unsigned}.{body}.", 401),
        ("none with a signature", f"{unsigned}.{body}.{code}", 401),
        ("None", f"{encode({'alg': 'None'})}.{body}.", 401),
        ("nOnE", f"{encode({'alg': 'nOnE'})}.{body}.", 401),
        ("no alg", f"{encode({})}.{body}.{code}", 401),
        ("alg null", f"{encode({'alg': None})}.{body}.{code}", 401),
        ("HS384", token("HS384", own()), 401),
        ("HS512", token("HS512", own()), 401),
        ("hs256", token("HS256", own(), named="hs256"), 401),
        ("HS512 called HS256", token("HS512", own(), named="HS256"), 401),
        ("another secret", token("HS256", own(), b"x" * 32), 401),
        ("an empty secret", token("HS256", own(), b""), 401),
        (
            "the named secret without its kid",
            token("HS256", own(), b"another secret of 32 bytes or more", kid=None),
            200,
        ),
        ("the first secret under the other's kid", token("HS256", own(), kid="named"), 401),
        ("the secret under RS256's kid", token("HS256", own(), kid="rsa"), 401),
        ("RS256 under ES256's kid", token("RS256", own(), kid="p256"), 401),
        ("the RSA key's PEM as a secret", token("HS256", own(), rsa_pem().encode()), 401),
        ("that under its kid", token("HS256", own(), rsa_pem().encode(), kid="rsa"), 401),
        ("the P-256 key's PEM as a secret", token("HS256", own(), p256_pem().encode(), kid="p256"), 401),
        ("HS256 called RS256", token("HS256", own(), named="RS256", kid="rsa"), 401),
        ("RS256 called ES256", token("RS256", own(), named="ES256", kid="p256"), 401),
        ("ES256 called EdDSA", token("ES256", own(), named="EdDSA", kid="p256"), 401),
        ("RS256 called PS256", token("RS256", own(), named="PS256", kid="rsa"), 401),
        ("a number as kid", token("HS256", own(), kid=7), 401),
        ("a path as kid", token("HS256", own(), b"", kid="../../dev/null"), 401),
        ("its own key", token("HS256", own(), b"x" * 32, jwk={"kty": "oct", "k": encode(b"x" * 32)}), 401),
        (
            "its own key's address",
            token("HS256", own(), b"x" * 32, jku="http://127.0.0.1/", x5u="http://127.0.0.1/"),
            401,
        ),
        ("crit", token("HS256", own(), crit=["exp"]), 401),
        ("crit b64", token("HS256", own(), crit=["b64"], b64=False), 401),
        ("crit empty", token("HS256", own(), crit=[]), 401),
        ("expired", token("HS256", own(exp=now - 1)), 401),
        ("expired long ago", token("HS256", own(exp=0)), 401),
        ("no exp", token("HS256", own(exp=None)), 401),
        ("exp as text", token("HS256", own(exp=str(now + 60))), 401),
        ("exp a list", token("HS256", own(exp=[now + 60])), 401),
        ("not yet", token("HS256", own(nbf=now + 3600)), 401),
        ("another issuer", token("HS256", own(iss="them")), 401),
        ("no issuer", token("HS256", own(iss=None)), 401),
        ("a list as issuer", token("HS256", own(iss=["us"])), 401),
        ("another audience", token("HS256", own(aud="others")), 401),
        ("no audience", token("HS256", own(aud=None)), 401),
        ("other audiences", token("HS256", own(aud=["a", "b"])), 401),
        ("sub a number", token("HS256", own(sub=7)), 401),
        ("claims a list", token("HS256", ["users/7/*"]), 401),
        ("claims a text", token("HS256", "users/7/*"), 401),
        ("sse a list", token("HS256", rights(sse=["users/7/*"])), 401),
        ("no sse", token("HS256", rights(sse=None)), 403),
        ("sse without subscribe", token("HS256", rights(sse={})), 403),
        ("publish alone", token("HS256", rights(sse={"publish": ["**"]})), 403),
        ("nothing", token("HS256", rights()), 403),
        ("an empty pattern", token("HS256", rights("")), 403),
        ("a part of the name", token("HS256", rights("users/7", "users", "inbox", "users/7/")), 403),
        ("another case", token("HS256", rights("Users/7/inbox", "users/7/Inbox")), 403),
        ("too few segments", token("HS256", rights("*", "*/*", "users/*")), 403),
        ("too many", token("HS256", rights("users/7/inbox/**", "users/7/inbox/*", "*/*/*/*")), 403),
        ("half a star", token("HS256", rights("users/7/in*", "us*/**", "***")), 403),
        ("stars in the middle", token("HS256", rights("**/inbox", "users/**/inbox")), 403),
        ("a path", token("HS256", rights(OWN, "/users/7/inbox", "users%2f7%2finbox")), 403),
        ("an expression", token("HS256", rights("users/[0-9]/inbox", ".*", "users/?/inbox")), 403),
        ("the prefix in a claim of its own", token("HS256", rights("users/8/*", subscribe=["**"], scope="**")), 403),
    ]


FORGED = list(forged())


def test_there_are_enough_rows() -> None:
    assert len(PATHS) * 8 + len(FORGED) * 3 >= 100


@pytest.mark.parametrize(("text", "status"), [row[1:] for row in FORGED], ids=[row[0] for row in FORGED])
def test_a_forged_or_insufficient_token_gets_nothing_wherever_it_is_put(
    guarded: sse_fast.Server, text: str, status: int
) -> None:
    for headers in ([bearer(text)], [cookie(text)]):
        # A cookie without a value, or cut by a space, is another one.
        wanted = 401 if not text else status
        got = ask(guarded, OWN, [*headers, JSON])
        assert got[0] == wanted, got
        assert shown(got[1]) is (wanted == 200)
    got = ask(guarded, f"{OWN}?ticket={text.replace(' ', '%20')}", [EVENTS])
    assert got[0] == 401, "no token is a ticket"
    assert not shown(got[1])


@pytest.mark.parametrize("algorithm", ["HS256", "RS256", "ES256"])
def test_each_algorithm_lets_in_who_has_its_key(guarded: sse_fast.Server, algorithm: str) -> None:
    kid = {"HS256": None, "RS256": "rsa", "ES256": "p256"}[algorithm]
    for head in ({}, {} if kid is None else {"kid": kid}):
        text = token(algorithm, own(sub="seven"), **head)
        assert ask(guarded, OWN, [bearer(text), JSON])[0] == 200
        cut = text[:-8] + "AAAAAAAA"
        assert ask(guarded, OWN, [bearer(cut), JSON])[0] == 401


def test_one_credential_counts_and_an_invalid_one_is_not_passed_over(guarded: sse_fast.Server) -> None:
    good, bad = token("HS256", own()), token("HS256", own(), b"x" * 32)
    eight = token("HS256", rights("users/8/*"))
    ticket = guarded.ticket(["users/7/*"])
    for headers, query, status in [
        ([bearer(bad), cookie(good)], "", 401),
        ([bearer(eight), cookie(good)], "", 403),
        ([bearer(bad)], f"?ticket={ticket}", 401),
        ([cookie(bad)], f"?ticket={ticket}", 401),
        ([cookie(eight)], f"?ticket={ticket}", 403),
        ([bearer(good), cookie(bad)], "?ticket=x", 200),
        ([cookie(good)], "?ticket=x", 200),
        ([bearer(good), bearer(good)], "", 400),
        ([bearer(good), ("Authorization", "Basic eDp5")], "", 400),
        ([("Authorization", "Basic eDp5"), cookie(good)], "", 200),
        ([("Authorization", "Basic eDp5")], "", 401),
        ([("Cookie", f"name=J\xc3\xbcrgen; __Host-sse_fast={good}")], "", 200),
        ([("Cookie", f"name=J\xfcrgen; __Host-sse_fast={bad}")], f"?ticket={ticket}", 401),
        ([("Cookie", f"__Host-sse_fast=\xfc{good}")], f"?ticket={ticket}", 401),
        ([("Cookie", "name=J\xfcrgen"), cookie(good)], "?ticket=x", 200),
        ([cookie(good, "sse_fast")], "", 401),
        ([cookie(good, "__host-sse_fast")], "", 401),
        (
            [
                cookie(""),
            ],
            f"?ticket={ticket}",
            200,
        ),
        ([], f"?ticket={ticket}&ticket={ticket}", 400),
        ([], f"?Ticket={ticket}", 401),
        ([bearer(ticket)], "", 401),
        ([cookie(ticket)], "", 401),
        ([], f"?ticket={ticket}", 200),
        ([], f"?ticket={ticket}x", 401),
        ([], f"?ticket={ticket[:-1]}", 401),
        ([], "?ticket=", 401),
        ([], f"?ticket={guarded.ticket(['users/8/*'])}", 403),
        ([], f"?ticket={guarded.ticket(['users/7/*'], ttl=0.001)}", 401),
    ]:
        got = ask(guarded, OWN + query, [*headers, JSON])
        assert got[0] == status, (headers, query, got)
        assert shown(got[1]) is (status == 200)


def test_a_401_says_how_to_get_in_and_keeps_no_cache(guarded: sse_fast.Server) -> None:
    head, _ = fetch(guarded.port, OWN)
    assert (head.status, head["www-authenticate"]) == (401, "Bearer")
    head, _ = fetch(guarded.port, OWN, headers=[bearer("x")])
    assert (head.status, head["www-authenticate"]) == (401, 'Bearer error="invalid_token"')


def test_a_connection_that_had_the_right_does_not_give_it_to_the_next(guarded: sse_fast.Server) -> None:
    good = token("HS256", own())
    with Reader(guarded.port, OWN, headers=[bearer(good)]) as reader:
        seen = reader.open().next()
        assert (seen.data, seen.own_id) == (INSIDE, guarded.stream("users/7/inbox").last_id)
        for headers in ([], [bearer(token("HS256", own(exp=time.time() - 1)))]):
            for resume in ([("Last-Event-ID", seen.last_event_id)], [("Last-Event-ID", "x")]):
                got = ask(guarded, OWN, [*headers, *resume, JSON])
                assert got[0] == 401
                assert not shown(got[1])
    with Reader(guarded.port, OWN, headers=[bearer(good), JSON]) as kept:
        assert kept.read_head().status == 200
        kept.read_to_end()
        kept.ask(request(OWN, guarded.port, headers=[JSON]))
        assert kept.read_head().status == 401, "on the very same connection"


# ---- Private streams -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def hiding() -> Iterator[tuple[sse_fast.Server, sse_fast.Server]]:
    """A server with a private stream, and one that has none."""
    hides = {"users/**": sse_fast.StreamOptions(private=True)}
    with (
        sse_fast.serve(0, streams=hides, drain=0.2, settle=0.0, heartbeat=None) as server,
        sse_fast.serve(0, drain=0.2, settle=0.0, heartbeat=None) as other,
    ):
        server.stream("users/7/inbox", start="all").publish(INSIDE)
        yield server, other


@pytest.mark.parametrize(("path", "status", "_other"), PATHS, ids=[path for path, *_ in PATHS])
def test_a_private_stream_is_answered_as_an_unknown_one(
    hiding: tuple[sse_fast.Server, sse_fast.Server], path: str, status: int, _other: int
) -> None:
    server, other = hiding
    for method in ("GET", "HEAD"):
        for accept in (EVENTS, JSON):
            got = ask(server, path, [accept], method)
            unknown = ask(other, path, [accept], method)
            dated = [_undated(text) for _, text in (got, unknown)]
            assert got[0] == unknown[0] == (404 if status == 401 else status)
            assert dated[0] == dated[1], "not a byte tells them apart"


def _undated(text: bytes) -> list[bytes]:
    return [line for line in text.split(b"\r\n") if not line.lower().startswith(b"date:")]


def test_a_private_stream_is_open_to_the_application_s_own_doors_and_waited_for_by_nobody_else() -> None:
    with sse_fast.serve(0, wait=0.3, drain=0.2, settle=0.0, heartbeat=None) as server:
        stream = server.stream("inbox", start="all", private=True)
        stream.publish(INSIDE)
        server.route("/mine", "inbox")
        server.get("/handled")(lambda _request: stream)
        for path in ("/mine", "/handled"):
            assert shown(ask(server, path, [EVENTS])[1])
        began = time.monotonic()
        assert ask(server, "/streams/inbox", [EVENTS])[0] == 404
        assert time.monotonic() - began >= 0.3, "it is waited for, as an unknown one is"
        server.stream("inbox", private=False)
        assert shown(ask(server, "/streams/inbox", [EVENTS])[1]), "an option given later acts from then on"


def test_who_waits_for_a_private_stream_is_told_when_it_is_private_no_more() -> None:
    with sse_fast.serve(0, wait=20.0, drain=0.2, settle=0.0, heartbeat=None, start="all") as server:
        server.stream("other")
        server.stream("inbox", private=True).publish(INSIDE)
        several = "/streams?name=other&name=inbox"
        with (
            Reader(server.port, "/streams/inbox") as waiting,
            Reader(server.port, several, last_event_id="0_0000000-1~0000000-1") as reads_another,
            Reader(server.port, several) as waits_for_both,
        ):
            reads_another.open()
            for reader in (waiting, reads_another, waits_for_both):
                reader.assert_silent(0.1)
            server.stream("inbox", history=300)
            server.stream("inbox", private=True)
            for reader in (waiting, reads_another, waits_for_both):
                reader.assert_silent(0.1)
            server.stream("inbox", private=False)
            assert waiting.open().next().data == INSIDE
            assert waits_for_both.open().next().data == INSIDE
            assert [event for event in reads_another.rest() if event.event != "gap"] == [], "it comes back"


def test_within_settle_a_page_is_told_to_come_back_to_a_private_stream_as_to_an_unknown_one() -> None:
    with sse_fast.serve(0, private=True, drain=0.2) as server:
        server.stream("inbox", start="all").publish(INSIDE)
        for name in ("inbox", "nothing"):
            status, got = ask(server, f"/streams/{name}", [EVENTS])
            assert status == 200
            assert b"\r\n\r\nretry: " in got
            assert not shown(got)


# ---- Keys from the web ---------------------------------------------------------------------

Serve = Callable[..., sse_fast.Server]


@pytest.fixture
def fetched(serve: Serve) -> Callable[[str], sse_fast.Server]:
    def start(url: str) -> sse_fast.Server:
        server = serve(tokens=sse_fast.Tokens(jwks=url), settle=0.0, heartbeat=None)
        server.stream("s", start="all").publish(INSIDE)
        return server

    return start


def statuses(server: sse_fast.Server, text: str) -> tuple[int | None, int | None]:
    """What a poll and an EventSource get; the latter 0 where it is told to come back."""
    poll, events = ask(server, "/streams/s", [bearer(text), JSON]), ask(server, "/streams/s", [bearer(text), EVENTS])
    assert shown(poll[1]) is (poll[0] == 200)
    if events[0] == 200 and not shown(events[1]):
        assert b"\r\n\r\nretry: " in events[1]
        return poll[0], 0
    return poll[0], events[0]


def test_keys_are_fetched_rotated_and_withdrawn(fetched: Callable[[str], sse_fast.Server]) -> None:
    of_rsa, of_p256 = token("RS256", claims("s"), kid="one"), token("ES256", claims("s"), kid="two")
    symmetric = {"kty": "oct", "kid": "three", "k": encode(SECRET), "alg": "HS256"}
    with KeySetServer(rsa_jwk(kid="one"), symmetric) as web:
        server = fetched(web.url)
        assert statuses(server, of_rsa) == (200, 200)
        assert web.asked == 1, "a key that is there is not asked for"
        web.give(p256_jwk(kid="two"))
        assert statuses(server, of_p256) == (200, 200), "it waits for the one refetch"
        assert statuses(server, of_rsa) == (503, 0), "its key was withdrawn, which the next refetch will say"
        for text in (
            token("HS256", claims("s"), kid="three"),
            token("RS256", claims("s"), kid="two"),
            token("HS256", claims("s"), p256_pem().encode(), kid="two"),
        ):
            assert statuses(server, text) == (401, 401)
        assert statuses(server, token("ES256", claims("s"), kid="four")) == (503, 0), "it may have been added since"
        assert web.asked == 2, "strangers cause one refetch in half a minute"


def test_strangers_who_use_up_the_one_refetch_end_no_page(fetched: Callable[[str], sse_fast.Server]) -> None:
    with KeySetServer(rsa_jwk(kid="one")) as web:
        server = fetched(web.url)
        assert statuses(server, token("RS256", claims("s"), kid="one")) == (200, 200)
        for junk in (token("HS256", claims("s"), kid="junk"), token("none", claims("s"), kid="junk")):
            assert statuses(server, junk) == (401, 401)
        assert web.asked == 1, "for what no key set can hold none is asked"
        assert ask(server, "/streams/s", [bearer(token("RS256", claims("s"), kid="junk")), EVENTS])[0] == 401
        assert web.asked == 2
        web.give(p256_jwk(kid="two"))
        assert statuses(server, token("ES256", claims("s"), kid="two")) == (503, 0), "until it may be asked again"
        assert server.stats().undecided == 2


@pytest.mark.parametrize("named", [{}, {"kid": "two"}])
def test_a_key_without_an_id_is_rotated_too(fetched: Callable[[str], sse_fast.Server], named: dict[str, str]) -> None:
    good = token("RS256", claims("s"), **named)
    with KeySetServer({**rsa_jwk(), "n": encode(b"\xc3" * 256)}) as web:
        server = fetched(web.url)
        until(lambda: web.asked == 1)
        web.give(rsa_jwk())
        assert statuses(server, good) == (200, 200), "it waits for the one refetch"
        assert web.asked == 2
        forged = good[:-4] + "AAAA"
        assert statuses(server, forged) == (503, 0), "it may be of a key that was added since"
        assert web.asked == 2


def test_what_keys_are_lacking_for_a_while_ends_no_page_and_lets_nobody_in(
    fetched: Callable[[str], sse_fast.Server],
) -> None:
    good = token("RS256", claims("s"), kid="one")
    with KeySetServer() as web:
        web.status = 500
        server = fetched(web.url)
        assert statuses(server, good) == (503, 0)
        web.status, web.body = 200, b"<html>"
        web.give(rsa_jwk(kid="one"))
        until(lambda: statuses(server, good) == (200, 200), what="the keys, which are tried again")
    # It is away from here on.
    assert statuses(server, good) == (200, 200), "the old keys stay"
    assert server.stats().undecided >= 2


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (302, b"", {"Location": "/elsewhere"}),
        (307, b"", {"Location": "/elsewhere"}),
        (404, b"", {}),
        (204, b"", {}),
        (200, b"", {}),
        (200, b"[]", {}),
        (200, b'{"keys": {}}', {}),
        (200, b'{"keys": [{"kty": "oct", "kid": "one", "k": "AAAA"}]}', {}),
        (200, b'{"keys": [' + b" " * 65_536 + b"]}", {}),
        (200, b"[" * 60_000, {}),
    ],
)
def test_what_is_no_key_set_is_none(
    fetched: Callable[[str], sse_fast.Server], status: int, body: bytes, headers: dict[str, str]
) -> None:
    with KeySetServer() as web:
        web.status, web.body, web.headers = status, body, headers
        web.elsewhere = [rsa_jwk(kid="one")]
        server = fetched(web.url)
        assert statuses(server, token("RS256", claims("s"), kid="one")) == (503, 0)
        assert statuses(server, token("HS256", claims("s"), bytes(3), kid="one")) == (401, 401), "no set has its key"


def test_a_set_that_does_not_come_holds_nobody_but_those_who_need_it(
    fetched: Callable[[str], sse_fast.Server],
) -> None:
    with KeySetServer(rsa_jwk(kid="one")) as web:
        web.flowing.clear()
        server = fetched(web.url)
        with Reader(server.port, "/streams/s", headers=[bearer(token("RS256", claims("s"), kid="one"))]) as waiting:
            assert ask(server, "/streams/s", [JSON])[0] == 401, "others go on"
            web.flowing.set()
            assert waiting.open().next().data == INSIDE


def test_signing_is_right_about_itself() -> None:
    assert len({sign(algorithm, b"x") for algorithm in ("HS256", "RS256", "ES256")}) == 3
