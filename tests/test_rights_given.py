"""What a program gives to say who may read: keys, tokens, tickets, options by pattern.

Guards that what cannot be is refused at the call with words that hold no secret, that tickets serve exactly the servers
that share a key, that options by pattern are there before their streams are made, and that a server to whom nothing was
given says so once.
"""

from __future__ import annotations

import base64
import json
import logging
import re
import socket
import time
from collections.abc import Callable

import pytest

import sse_fast
from conftest import Serve
from sse_fast.testing import token
from support.deadline import until
from support.reader import Reader, fetch
from support.signed import SECRET, claims, encode, rsa_jwk, rsa_pem
from support.signed import token as signed

EVENTS = ("Accept", "text/event-stream")
JSON = ("Accept", "application/json")
EXPOSED = "0.0.0.0"  # Every address of this machine.
TOKENS = sse_fast.Tokens(keys=[sse_fast.Key("HS256", SECRET)])


def status(server: sse_fast.Server, path: str = "/streams/s") -> int:
    return fetch(server.port, path, headers=[JSON])[0].status


PEM = (
    "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----"
)


SSH = "AAAAB3NzaC1yc2EAAAADAQABAAABAQC/wBKYqlOY4b0yjUiZdkLwCWsApSIZssK/quaVW7fDieLoNtBymolTS/HaPzQVprcL1Ycx"


def rsa_der() -> bytes:
    return base64.b64decode("".join(rsa_pem().splitlines()[1:-1]))


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: sse_fast.Key("HS256", "short"), sse_fast.SettingError, "32 bytes or more: it has 5"),
        (lambda: sse_fast.Key("HS256", PEM), sse_fast.SettingError, "a PEM is no secret"),
        (lambda: sse_fast.Key("HS256", rsa_jwk()), sse_fast.SettingError, 'has the kty "oct"'),
        (lambda: sse_fast.Key("HS256", json.dumps(rsa_jwk())), sse_fast.SettingError, "JSON is no secret"),
        (lambda: sse_fast.Key("HS256", rsa_der()), sse_fast.SettingError, "a key that others have"),
        (lambda: sse_fast.Key("HS256", base64.b64encode(rsa_der())), sse_fast.SettingError, "a key that others have"),
        (lambda: sse_fast.Key("HS256", f"ssh-rsa {SSH} ann@home"), sse_fast.SettingError, "a key that others have"),
        (lambda: sse_fast.Key("HS256", {"kty": "oct", "k": "AAAA"}), sse_fast.SettingError, "it has 3"),
        (lambda: sse_fast.serve(0, ticket_key=rsa_pem()), sse_fast.SettingError, "ticket_key is not allowed: a PEM"),
        (lambda: sse_fast.serve(0, ticket_key=rsa_der()), sse_fast.SettingError, "a key that others have"),
        (lambda: sse_fast.Key("RS256", PEM), sse_fast.SettingError, "RS256"),
        (lambda: sse_fast.Key("none", SECRET), sse_fast.SettingError, "it is HS256, RS256, ES256 or EdDSA"),  # type: ignore[arg-type]
        (lambda: sse_fast.Key("HS256", 7), sse_fast.ArgumentTypeError, "key="),  # type: ignore[arg-type]
        (lambda: sse_fast.Key("HS256", SECRET, id=7), sse_fast.ArgumentTypeError, "id="),  # type: ignore[arg-type]
        (sse_fast.Tokens, sse_fast.SettingError, "exactly one of keys and jwks"),
        (lambda: sse_fast.Tokens(keys=[], jwks="https://a.example/"), sse_fast.SettingError, "exactly one"),
        (lambda: sse_fast.Tokens(keys=[]), sse_fast.SettingError, "1 to 16"),
        (lambda: sse_fast.Tokens(keys=[SECRET]), sse_fast.ArgumentTypeError, "keys="),  # type: ignore[list-item]
        (lambda: sse_fast.Tokens(keys=SECRET), sse_fast.ArgumentTypeError, "keys="),  # type: ignore[arg-type]
        (lambda: sse_fast.Tokens(keys=[sse_fast.Key("HS256", SECRET, id="a")] * 2), sse_fast.SettingError, "one id"),
        (lambda: sse_fast.Tokens(jwks="http://a.example/"), sse_fast.SettingError, "jwks="),
        (lambda: sse_fast.Tokens(jwks="file:///etc/passwd"), sse_fast.SettingError, "jwks="),
        (lambda: sse_fast.Tokens(jwks="http://127.0.0.1.evil.example/"), sse_fast.SettingError, "jwks="),
        (lambda: sse_fast.Tokens(jwks="https://u:p@a.example/"), sse_fast.SettingError, "jwks="),
        (lambda: sse_fast.Tokens(jwks="https://a.example/\r\nX: y"), sse_fast.SettingError, "jwks="),
        (lambda: sse_fast.Tokens(jwks="https://"), sse_fast.SettingError, "jwks="),
        (lambda: sse_fast.Tokens(jwks=7), sse_fast.ArgumentTypeError, "jwks="),  # type: ignore[arg-type]
        (lambda: sse_fast.Tokens(keys=TOKENS.keys, leeway=-1), sse_fast.SettingError, "leeway="),
        (lambda: sse_fast.Tokens(keys=TOKENS.keys, leeway=7200), sse_fast.SettingError, "leeway="),
        (lambda: sse_fast.Tokens(keys=TOKENS.keys, issuer=""), sse_fast.ArgumentTypeError, "issuer="),
        (lambda: sse_fast.Grant("ann", ttl=0), sse_fast.SettingError, "ttl="),
        (lambda: sse_fast.serve(0, tokens=SECRET), sse_fast.ArgumentTypeError, "tokens="),  # type: ignore[arg-type]
        (lambda: sse_fast.serve(0, streams=["a"]), sse_fast.ArgumentTypeError, "streams="),  # type: ignore[arg-type]
        (lambda: sse_fast.serve(0, streams={"a": 1}), sse_fast.ArgumentTypeError, "streams"),  # type: ignore[dict-item]
        (lambda: sse_fast.serve(0, streams={"a*": {}}), sse_fast.SettingError, "one whole segment"),
        (lambda: sse_fast.serve(0, streams={"a": {"history": 0}}), sse_fast.SettingError, "history"),
        (lambda: sse_fast.serve(0, streams={"a": {"privat": True}}), sse_fast.SettingError, "did you mean private"),  # type: ignore[typeddict-unknown-key]
        (lambda: sse_fast.serve(0, streams={"a": {"max_lag": 300}}), sse_fast.SettingError, "max_lag"),
        (lambda: sse_fast.serve(0, cookie="a b"), sse_fast.SettingError, "cookie="),
    ],
)
def test_what_cannot_be_is_refused_at_the_call(make: Callable[[], object], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=re.escape(text)):
        make()


def test_a_jwk_for_hs256_holds_the_secret(serve: Serve) -> None:
    jwk = {"kty": "oct", "k": encode(SECRET), "kid": "one"}
    key = sse_fast.Key("HS256", jwk)
    assert repr(key) == "Key('HS256', id='one')"
    server = serve(tokens=sse_fast.Tokens(keys=[key]))
    server.stream("s")
    forged = signed("HS256", claims("s"), json.dumps(jwk, separators=(",", ":")).encode())
    for text, wanted in [(token(SECRET, ["s"]), 200), (forged, 401)]:
        credential = ("Authorization", f"Bearer {text}")
        assert fetch(server.port, "/streams/s", headers=[JSON, credential])[0].status == wanted


@pytest.mark.parametrize(
    ("subscribe", "ttl", "error"),
    [
        ([], 60.0, sse_fast.SettingError),
        (["a*"], 60.0, sse_fast.SettingError),
        ([""], 60.0, sse_fast.SettingError),
        ("runs/42", 60.0, sse_fast.ArgumentTypeError),
        ([7], 60.0, sse_fast.ArgumentTypeError),
        (["a"], 0.0, sse_fast.SettingError),
        (["a"], 1e12, sse_fast.SettingError),
    ],
)
def test_a_ticket_is_for_something_and_for_a_while(
    server: sse_fast.Server, subscribe: list[str], ttl: float, error: type[Exception]
) -> None:
    with pytest.raises(error):
        server.ticket(subscribe, ttl=ttl)


def test_tickets_of_one_key_serve_several_servers_and_no_message_has_the_key(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "a key of tickets, long enough to be one"
    deny = {"authorize": lambda _request, _names: False}
    monkeypatch.setenv("SSE_FAST_TICKET_KEY", key)
    one = serve(**deny)
    monkeypatch.delenv("SSE_FAST_TICKET_KEY")
    same, random, derived = serve(ticket_key=key.encode(), **deny), serve(**deny), serve(tokens=TOKENS)
    other = serve(tokens=TOKENS, ticket_key=None)
    for server in (one, same, random, derived, other):
        server.stream("s", start="all").publish("x")

    def taken(ticket: str) -> list[int]:
        return [status(server, f"/streams/s?ticket={ticket}") for server in (one, same, random, derived, other)]

    assert taken(one.ticket(["s"])) == [200, 200, 401, 401, 401]
    assert taken(random.ticket(["s"])) == [401, 401, 200, 401, 401]
    assert taken(derived.ticket(["s"])) == [401, 401, 401, 200, 200]
    for wrong in ("a short secret", 7):
        with pytest.raises(sse_fast.SettingError) as raised:
            serve(ticket_key=wrong)
        assert "short secret" not in str(raised.value)


def test_a_parameter_named_ticket_is_the_application_s_where_there_are_no_tickets(serve: Serve) -> None:
    server = serve()
    server.stream("s")
    assert status(server, "/streams/s?ticket=of-the-opera") == 200
    server.ticket(["s"])
    assert status(server, "/streams/s?ticket=of-the-opera") == 401


def test_options_by_pattern_are_there_before_the_stream_is_made(serve: Serve) -> None:
    server = serve(
        history=10,
        streams={"users/**": {"private": True, "start": "all"}, "users/*/log": {"history": 1000}},
        settle=0.0,
    )
    for name, retained in [("users/7/log", 1000), ("users/7", 10), ("runs/7", 10)]:
        stream = server.stream(name)
        stream.publish_many([("x", None)] * 1200)
        assert stream.stats().retained == retained
    assert (status(server, "/streams/users/7"), status(server, "/streams/runs/7")) == (404, 200)
    open_again = server.stream("users/8", private=False)
    open_again.publish("x")
    assert b'"x"' in fetch(server.port, "/streams/users/8", headers=[JSON])[1], (
        "what is given for a stream counts first"
    )
    with server.run(["true"], stream="users/9").stream.heartbeat():
        assert status(server, "/streams/users/9") == 404, "whoever makes it"


@pytest.mark.alone
def test_the_port_of_a_closed_server_is_free_though_keys_are_being_fetched(serve: Serve) -> None:
    silent = socket.create_server(("127.0.0.1", 0))
    server = serve(tokens=sse_fast.Tokens(jwks=f"http://127.0.0.1:{silent.getsockname()[1]}/"))
    reader = Reader(server.port, "/streams/s", headers=[("Authorization", f"Bearer {token(SECRET)}"), EVENTS])
    until(lambda: server.stats().requests == 1)
    began = time.monotonic()
    server.close(drain=5.0)
    assert time.monotonic() - began < 4.0, "nothing waits for them"
    reader.close()
    silent.close()


# ---- Where nothing is given ----------------------------------------------------------------

WARNING = "everybody who reaches this port may read every stream: none of private, authorize and tokens is given"


def warned(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.getMessage().startswith(WARNING)]


def test_an_open_server_beyond_the_loopback_warns_once(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    server = serve(host=EXPOSED)
    until(lambda: len(warned(caplog)) == 1, what="the warning, without any request")
    server.stream("s")
    assert [status(server), status(server)] == [200, 200]
    server.close()
    (record,) = warned(caplog)
    assert record.levelno == logging.WARNING


def test_the_first_reader_of_an_open_server_brings_the_warning(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    server = serve(host=EXPOSED)
    server.stream("s")
    status(server)
    server.close()
    assert len(warned(caplog)) == 1


@pytest.mark.parametrize(
    "says",
    [
        {"authorize": lambda _request, _names: True},
        {"tokens": TOKENS},
        {"private": True},
        {"streams": {"users/**": {"private": True}}},
        {"host": "127.0.0.1"},
    ],
)
def test_who_has_said_who_may_read_is_not_warned(
    serve: Serve, caplog: pytest.LogCaptureFixture, says: dict[str, object]
) -> None:
    server = serve(**{"host": EXPOSED, **says})
    server.stream("s")
    status(server)
    time.sleep(1.2)  # After which it would have come.
    server.close()
    assert warned(caplog) == []


def test_saying_it_after_the_start_is_in_time(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    first, second = (serve(host=EXPOSED) for _ in range(2))
    first.authorize(lambda _request, _names: True)
    second.stream("inbox", private=True)
    time.sleep(1.2)  # As above.
    first.close()
    second.close()
    assert warned(caplog) == []
