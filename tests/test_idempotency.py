"""What is published under a key is published once: over HTTP, from threads, and from coroutines.

Guards that a repeated publish gets the first answer and adds nothing, whatever cut the first one off; that a key
belongs to one stream and one publisher; and that what failed may be tried again under the same key. The rules of time
and number are stepped in `idempotency.rs`.
"""

from __future__ import annotations

import asyncio
import random
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import sse_fast
from conftest import Serve
from support.deadline import until
from support.publishing import KEY, Elsewhere
from support.reader import Reader, request
from support.signed import SECRET, claims, token

REPLAYED = "idempotency-replayed"
#: Over connections that are cut.
EVENTS = 200


@pytest.fixture(scope="module")
def server() -> Iterator[sse_fast.Server]:
    tokens = sse_fast.Tokens(keys=[sse_fast.Key("HS256", SECRET)])
    with sse_fast.serve(0, publish_key=[KEY, KEY[::-1]], tokens=tokens, drain=0.5) as server:
        yield server


@pytest.fixture
def elsewhere(server: sse_fast.Server) -> Iterator[Elsewhere]:
    with Elsewhere(server.port) as elsewhere:
        yield elsewhere


# ---- Over HTTP -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "body"),
    [
        ("one", {"data": 1}),
        ("list", [{"data": 1}, {"data": 2, "id": "own"}]),
        ("snapshot", {"snapshot": 1}),
        ("end", [{"data": 1}, {"end": True}]),
    ],
)
def test_the_first_answer_comes_again_and_nothing_is_added(
    server: sse_fast.Server, elsewhere: Elsewhere, key: str, body: Any
) -> None:
    stream = server.stream("again")
    first = elsewhere.post(body, "again", Idempotency_Key=key)
    published = stream.stats().published
    for written in (key, f'"{key}"'):
        again = elsewhere.post(body, "again", Idempotency_Key=written)
        assert (again.status, again.body, again.headers.get(REPLAYED)) == (201, first.body, "true")
    assert REPLAYED not in first.headers
    assert stream.stats().published == published
    other = elsewhere.post({"data": "other"}, "again", Idempotency_Key=key)
    assert (other.status, other.error) == (422, "key_reused")
    stream.remove()
    # A name's next life is the same stream to who repeats what was lost.
    assert elsewhere.post(body, "again", Idempotency_Key=key).body == first.body


def test_a_key_is_of_one_stream_and_one_publisher(server: sse_fast.Server, elsewhere: Elsewhere) -> None:
    def published(given: Elsewhere, name: str) -> bool:
        return REPLAYED not in given.post({"data": 1}, name, Idempotency_Key="of-one").headers

    signed = [token("HS256", {**claims(), "sse": {"publish": ["**"]}, "sub": sub, "jti": jti})
              for sub, jti in [("ann", "1"), ("ann", "2"), ("bob", "3")]]  # fmt: skip
    with Elsewhere(server.port, KEY[::-1]) as other_key:
        assert [published(given, name) for given in (elsewhere, other_key) for name in ("one", "two")] == [True] * 4
    with Elsewhere(server.port, signed[0]) as ann, Elsewhere(server.port, signed[1]) as renewed:
        assert [published(given, "one") for given in (ann, renewed)] == [True, False]
    with Elsewhere(server.port, signed[2]) as bob:
        assert published(bob, "one")


@pytest.mark.parametrize("key", ["", '""', "two words", "k" * 256, "é", 'a"b'])
def test_what_is_no_key_is_refused(elsewhere: Elsewhere, key: str) -> None:
    answer = elsewhere.post({"data": 1}, Idempotency_Key=key.encode("latin-1").decode("latin-1"))
    assert (answer.status, answer.error) == (400, "bad_key")


def test_what_failed_may_be_tried_again(server: sse_fast.Server, elsewhere: Elsewhere) -> None:
    server.stream("failed").end()
    for _ in range(2):
        assert elsewhere.post({"data": 1}, "failed", Idempotency_Key="f").error == "ended"
    server.stream("failed").remove()
    assert elsewhere.post({"data": 1, "event": "a\nb"}, "failed", Idempotency_Key="f").error == "bad_event"
    assert elsewhere.post({"data": 1}, "failed", Idempotency_Key="f").status == 201


def test_while_the_first_waits_the_second_is_told_so(serve: Serve) -> None:
    server = serve(publish_key=KEY, publish_wait=None, stall_timeout=600.0, heartbeat=None)
    server.stream("s", history=4, max_lag=4)
    answers: dict[int, str] = {}

    def publish() -> None:
        with Elsewhere(server.port) as elsewhere:
            for number in range(500):
                answers[number] = elsewhere.post({"data": "x" * 4000}, Idempotency_Key=f"k{number}").body["id"]

    with Reader(server.port, receive_buffer=2048) as slow, Elsewhere(server.port) as other:
        slow.open()
        thread = threading.Thread(target=publish)
        thread.start()
        until(lambda: server.stats().blocked == 1, what="a full socket")
        until(lambda: other.waits({"data": "x" * 4000}, f"k{len(answers)}"), what="409")
        reading = threading.Thread(target=slow.rest, args=(60.0,))
        reading.start()
        thread.join(60.0)
        server.stream("s").end()
        reading.join(60.0)
    assert len(answers) == len(set(answers.values())) == 500


def test_cut_connections_lose_nothing_and_double_nothing(server: sse_fast.Server) -> None:
    """Each event is sent until its answer is read, under one key, over connections that are cut at any byte."""
    stream = server.stream("cut", history=10_000, history_bytes=1 << 24, max_lag=1)
    chance = random.Random(4)
    headers = [("Authorization", f"Bearer {KEY}"), ("Content-Type", "application/json")]
    cut = 0
    for number in range(EVENTS):
        body = f'{{"data": {number}}}'.encode()
        raw = request(
            "/streams/cut", server.port, method="POST", headers=[*headers, ("Idempotency-Key", f"n{number}")], body=body
        )
        # Half of them are sent whole, and cut before the answer is read.
        ends = [chance.randrange(len(raw)) if chance.random() < 0.5 else len(raw) for _ in range(chance.randrange(3))]
        for end in ends:
            with socket.create_connection(("127.0.0.1", server.port)) as connection:
                connection.sendall(raw[:end])
            cut += 1
        with Elsewhere(server.port) as elsewhere:
            until(
                lambda body=body, number=number: (  # type: ignore[misc]
                    elsewhere.ask("POST", "/streams/cut", body, Idempotency_Key=f"n{number}").status == 201
                ),
                what="an answer",
            )
    assert cut > EVENTS / 2
    events = stream.events(start="all", timeout=5.0)
    assert [next(events).data for _ in range(EVENTS)] == [str(number) for number in range(EVENTS)]
    assert stream.stats().published == EVENTS


# ---- In the process ------------------------------------------------------------------------


def test_publish_gives_the_first_id_again(server: sse_fast.Server) -> None:
    stream = server.stream("here")
    first = stream.publish({"n": 1}, event="e", idempotency_key="k")
    assert stream.publish({"n": 1}, event="e", idempotency_key="k") == first
    assert server.stream("there").publish({"n": 1}, event="e", idempotency_key="k") != first
    for changed in (
        {"data": {"n": 2}, "event": "e"},
        {"data": {"n": 1}},
        {"data": {"n": 1}, "event": "e", "id": "e"},
        {"data": {"n": 1}, "event": "e", "retry": 1.0},
        {"data": {"n": 1}, "event": "e", "snapshot": ""},
    ):
        with pytest.raises(sse_fast.KeyReused):
            stream.publish(idempotency_key="k", **changed)  # type: ignore[arg-type]
    assert stream.stats().published == 1
    stream.remove()
    assert server.stream("here").publish({"n": 1}, event="e", idempotency_key="k") != first


def test_publish_many_is_one_step_under_a_key(server: sse_fast.Server) -> None:
    stream = server.stream("many", history=10, max_lag=10)
    events = [{"data": number, "id": "own" if number == 1 else None} for number in range(10)]
    first = stream.publish_many(events, idempotency_key="k")
    assert (len(first), first[1]) == (10, "own")
    assert stream.publish_many(iter(events), idempotency_key="k") == first
    assert stream.stats().published == 10
    with pytest.raises(sse_fast.KeyReused):
        stream.publish_many(events[:9], idempotency_key="k")
    with pytest.raises(sse_fast.EventError, match="history=10"):
        stream.publish_many([*events, {"data": 11}], idempotency_key="other")
    assert stream.publish_many([], idempotency_key="none") == []
    assert stream.stats().published == 10


def test_coroutines_have_the_same(server: sse_fast.Server) -> None:
    stream = server.stream("async")

    async def publish() -> None:
        first = await stream.apublish("x", idempotency_key="k")
        assert await stream.apublish("x", idempotency_key="k") == first == stream.publish("x", idempotency_key="k")
        with pytest.raises(sse_fast.KeyReused):
            await stream.apublish("y", idempotency_key="k")
        many = [(str(number), None) for number in range(200)]
        ids = await stream.apublish_many(many, idempotency_key="many")
        assert await stream.apublish_many(many, idempotency_key="many") == ids == [*dict.fromkeys(ids)]
        assert stream.publish_many(many, idempotency_key="many") == ids
        assert await stream.apublish_many([], idempotency_key="none") == []

    asyncio.run(publish())
    assert stream.stats().published == 201


@pytest.mark.parametrize("key", ["", "k" * 256, "é", "a\nb"])
def test_a_key_that_is_none_is_an_error(server: sse_fast.Server, key: str) -> None:
    stream = server.stream("bad")
    for publish in (
        lambda: stream.publish("x", idempotency_key=key),
        lambda: stream.publish_many(["x"], idempotency_key=key),
    ):  # type: ignore[list-item]
        with pytest.raises(sse_fast.SseFastError):
            publish()
    with pytest.raises(sse_fast.EventTypeError, match="idempotency_key"):
        stream.publish("x", idempotency_key=7)  # type: ignore[arg-type]
    assert stream.last_id is None


def test_one_that_waits_is_in_progress_and_one_that_is_cancelled_may_be_repeated(serve: Serve) -> None:
    server = serve(publish_wait=None, stall_timeout=600.0, heartbeat=None)
    stream = server.stream("s", history=4, max_lag=4)

    async def publish() -> None:
        with Reader(server.port, receive_buffer=2048) as slow:
            slow.open()
            number = 0
            while True:
                waiting = asyncio.create_task(stream.apublish("x" * 4000, idempotency_key=str(number)))
                done, _ = await asyncio.wait({waiting}, timeout=0.2)
                if not done and server.stats().blocked:
                    break
                await waiting
                number += 1
            with pytest.raises(sse_fast.PublishInProgress):
                await stream.apublish("x" * 4000, idempotency_key=str(number))
            with pytest.raises(sse_fast.KeyReused):
                await stream.apublish("y", idempotency_key=str(number))
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            published = stream.stats().published
        until(lambda: stream.subscribers == 0, what="the reader's end")
        await stream.apublish("y", idempotency_key=str(number))
        assert stream.stats().published == published + 1 == number + 1

    asyncio.run(publish())
