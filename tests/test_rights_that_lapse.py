"""A right that ends while its request is under way: by its time, or because its reader is disconnected.

Guards that nothing at all is answered then but 401, in any form and by any door: no event, no 204, no word of whether
there is such a stream; and that each is counted, logged and says how to get in.
"""

from __future__ import annotations

import logging
import threading
import time

import pytest

import sse_fast
from conftest import Serve
from sse_fast.testing import token
from support.deadline import until
from support.reader import Reader, fetch
from support.signed import SECRET

TOKENS = sse_fast.Tokens(keys=[sse_fast.Key("HS256", SECRET)])
INSIDE = "what was published later"

#: How it is asked for: the method, and what is accepted.
FORMS = [("GET", "text/event-stream"), ("GET", "application/json"), ("GET", "*/*"), ("HEAD", "*/*")]

#: What is asked for that is not there yet; the last is never made.
DOORS = [
    "/streams/late",
    "/streams?name=there&name=late",
    "/streams?name=late&name=there",
    "/routed/late",
    "/streams/never",
]


def bearer(reader: str, ttl: float = 60.0) -> tuple[str, str]:
    return ("Authorization", f"Bearer {token(SECRET, ['**'], reader=reader, ttl=ttl)}")


@pytest.mark.parametrize("path", DOORS)
@pytest.mark.parametrize("how", ["disconnected", "expired"])
def test_who_waits_for_a_stream_gets_none_of_it(
    serve: Serve, caplog: pytest.LogCaptureFixture, path: str, how: str
) -> None:
    caplog.set_level(logging.WARNING)
    server = serve(settle=0.0, wait=2.0, start="all", tokens=TOKENS)
    server.route("/routed/{name}", "{name}", wait=2.0)
    there = server.stream("there")
    credential = bearer("ann", 60.0 if how == "disconnected" else 0.5)
    began = time.monotonic()
    readers = [
        Reader(server.port, path, method=method, headers=[credential, ("Accept", accept), ("Connection", "close")])
        for method, accept in FORMS
    ]
    until(lambda: server.stats().requests == len(FORMS))
    assert fetch(server.port, "/streams/there", headers=[bearer("bob")], method="HEAD")[0].status == 200, "behind them"
    if how == "disconnected":
        assert server.disconnect("ann") == 0
    else:
        until(lambda: time.monotonic() - began > 0.6)  # What is waited for is that time passes.
    there.publish(INSIDE)
    if not path.endswith("never"):
        server.stream("late").publish(INSIDE)
    for reader in readers:
        received = reader.read_eof()
        assert reader.head is not None
        assert reader.head.status == 401
        assert reader.head["www-authenticate"] == 'Bearer error="invalid_token"'
        assert INSIDE.encode() not in received
        reader.close()
    assert server.stats().unauthorized == len(FORMS)
    until(lambda: [record for record in caplog.records if record.name == "sse_fast.access"])


@pytest.mark.parametrize("path", ["/streams/there", "/streams?name=there&name=over", "/routed/there", "/made/new"])
def test_who_is_disconnected_while_it_is_decided_is_not_let_in(serve: Serve, path: str) -> None:
    going, deciding = threading.Event(), []

    def check(request: sse_fast.Request, _names: tuple[str, ...]) -> str | None:
        deciding.append(request)
        return "ann" if going.wait(20.0) else None

    server = serve(settle=0.0, start="all", authorize_threads=8, authorize=check)
    server.route("/routed/{name}", "{name}")
    server.route("/made/{name}", "{name}", create=True)
    there, over = server.stream("there"), server.stream("over")
    last = over.end("bye")
    asked = [(path, method, [("Accept", accept)]) for method, accept in FORMS]
    asked.append(("/streams/over", "GET", [("Accept", "text/event-stream"), ("Last-Event-ID", last)]))
    readers = [
        Reader(server.port, of, method=method, headers=[*headers, ("Connection", "close")])
        for of, method, headers in asked
    ]
    until(lambda: len(deciding) == len(asked))
    server.disconnect("ann")
    there.publish(INSIDE)
    going.set()
    for reader in readers:
        received = reader.read_eof()
        assert reader.head is not None
        assert (reader.head.status, INSIDE.encode() in received) == (401, False)
        reader.close()
    assert {stream.name for stream in server.streams()} == {"there", "over"}, "nothing is made for it"
    assert server.stats().unauthorized == len(asked)
