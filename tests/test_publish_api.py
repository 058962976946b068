"""Publishing: `publish_many`, and every thread and loop it may come from.

Guards the Python contract of `Stream`: the ids that come back, order under
concurrency, and the typed errors after the end. What goes out for which type of
data is in test_json.py.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pydantic
import pytest

import sse_fast
from conftest import Open, Serve
from sse_fast.testing import events_of

# ---- publish_many ------------------------------------------------------------------------


def test_publish_many_takes_events_mappings_and_keeps_their_order(server: sse_fast.Server, read: Open) -> None:
    stream = server.stream("s")
    reader = read().open()
    stream.publish_many(
        [
            sse_fast.Event("verbatim", event="a"),
            {"data": {"n": 1}, "event": "b", "id": "own"},
            {"data": "c", "retry": 1.0},
        ]
    )
    events = reader.take(3)
    assert [(event.event, event.data, event.retry) for event in events] == [
        ("a", "verbatim", None),
        ("b", '{"n":1}', None),
        ("message", "c", 1000),
    ]
    assert events[1].own_id == "own"
    assert (events[2].own_id or "").endswith("-3")


def test_a_generator_that_fails_in_publish_many_leaves_nothing_behind(server: sse_fast.Server) -> None:
    stream = server.stream("s")

    def events() -> Iterator[dict[str, str]]:
        yield {"data": "first"}
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        stream.publish_many(events())
    assert stream.last_id is None


def test_publish_many_of_thousands_reaches_a_reader_whole(server: sse_fast.Server, read: Open) -> None:
    stream = server.stream("s", history=6000, max_lag=6000)
    reader = read().open()
    stream.publish_many({"data": {"n": number}} for number in range(5000))
    assert [event.json()["n"] for event in reader.take(5000)] == list(range(5000))
    stream.publish_many([])
    stream.publish("after none")
    assert reader.next().data == "after none"


@pytest.mark.parametrize(
    "bad", [{"data": "x", "event": "a\nb"}, {"data": object()}, {"event": "no data"}, {"data": "x", "nope": 1}, 5]
)
def test_a_bad_event_in_publish_many_is_named_and_none_of_them_is_written(
    server: sse_fast.Server, read: Open, bad: Any
) -> None:
    stream = server.stream("s")
    reader = read().open()
    with pytest.raises((ValueError, TypeError)) as caught:
        stream.publish_many([{"data": "first"}, bad, {"data": "third"}])
    assert isinstance(caught.value, sse_fast.SseFastError)
    assert "events[1]" in str(caught.value)
    first = stream.publish("good")
    events = [reader.next()]
    while events[-1].data != "good":
        events.append(reader.next())
    # "before anything is written"
    assert [event.data for event in events] == ["good"]
    assert first.endswith("-1")


# ---- Threads and loops -------------------------------------------------------------------


def test_many_threads_publish_and_every_event_arrives_once_in_one_order(server: sse_fast.Server, read: Open) -> None:
    stream = server.stream("s", history=10_000, max_lag=10_000)
    readers = [read().open() for _ in range(3)]
    ids: list[list[str]] = [[] for _ in range(8)]

    def publish(number: int) -> None:
        for count in range(500):
            ids[number].append(stream.publish([number, count]))

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = [reader.take(4000) for reader in readers]
    assert [event.own_id for event in taken[0]] == [event.own_id for event in taken[1]]
    assert [event.data for event in taken[0]] == [event.data for event in taken[2]]
    assert [int((event.own_id or "").rpartition("-")[2]) for event in taken[0]] == list(range(1, 4001))
    by_id = {event.own_id: event.json() for event in taken[0]}
    for number, own in enumerate(ids):
        assert [by_id[event_id] for event_id in own] == [[number, count] for count in range(500)]


def test_publishing_from_asyncio_blocks_no_loop(server: sse_fast.Server, read: Open) -> None:
    stream = server.stream("s", history=3000, max_lag=3000)
    reader = read().open()

    async def main() -> int:
        turns = 0

        async def turn() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        other = asyncio.create_task(turn())
        for number in range(2000):
            stream.publish(number)
            if number % 10 == 0:
                await asyncio.sleep(0)
        other.cancel()
        return turns

    assert asyncio.run(main()) > 100
    assert [event.data for event in reader.take(2000)] == [str(number) for number in range(2000)]


def test_publishing_inside_a_garbage_collection_does_not_deadlock(server: sse_fast.Server, read: Open) -> None:
    """A `__del__` may run in the middle of any allocation, inside a publish too."""
    stream = server.stream("s", history=2000, max_lag=2000)
    reader = read().open()

    class Last:
        def __init__(self) -> None:
            self.self = self

        def __del__(self) -> None:
            stream.publish("from __del__")

    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for number in range(200):
            Last()
            stream.publish([{"n": number}])
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    assert len(reader.take(400)) == 400


def test_publishing_from_inside_a_json_hook_works(server: sse_fast.Server, read: Open) -> None:
    """pydantic's serialiser is the user's code and may publish itself."""
    stream = server.stream("s")
    reader = read().open()

    class Nested(pydantic.BaseModel):
        n: int

        @pydantic.model_serializer
        def serialise(self) -> dict[str, int]:
            stream.publish("inner")
            return {"n": self.n}

    stream.publish(Nested(n=1))
    assert sorted(event.data for event in reader.take(2)) == ["inner", '{"n":1}']


# ---- Stream's own face -------------------------------------------------------------------


def test_stream_is_get_or_create(server: sse_fast.Server) -> None:
    a = server.stream("a")
    a.publish("x")
    assert server.stream("a").last_id == a.last_id
    assert a.name == "a"
    assert {stream.name for stream in server.streams()} == {"a"}
    assert server.stream("b").last_id is None


def test_subscribers_last_id_and_ended_tell_the_present(server: sse_fast.Server, read: Open) -> None:
    stream = server.stream("s")
    assert (stream.subscribers, stream.ended) == (0, False)
    readers = [read().open() for _ in range(3)]
    assert stream.subscribers == 3
    assert stream.publish("x") == stream.last_id
    end = stream.end("over")
    assert stream.ended
    assert stream.last_id == end
    for reader in readers:
        reader.rest()


def test_publishing_into_an_ended_stream_raises_stream_ended(server: sse_fast.Server, read: Open) -> None:
    stream = server.stream("s")
    reader = read().open()
    stream.end("over")
    for attempt in (
        lambda: stream.publish("late"),
        lambda: stream.end("again"),
        lambda: stream.snapshot("late"),
        lambda: stream.publish_many([{"data": "late"}]),
    ):
        with pytest.raises(sse_fast.StreamEnded) as caught:
            attempt()
        assert isinstance(caught.value, RuntimeError)
        assert "'s'" in str(caught.value).replace('"', "'")
        assert "remove()" in str(caught.value), "how to begin anew"
    assert [event.data for event in reader.rest()] == ["over"]


def test_a_name_begins_anew_as_the_error_says(server: sse_fast.Server) -> None:
    old = server.stream("s", start="all")
    old.end("over")
    with pytest.raises(sse_fast.StreamEnded, match=r"remove\(\)"):
        server.run([sys.executable, "-c", "pass"], stream="s")
    old.remove()
    assert server.stream("s").publish("again").endswith("-1")
    with pytest.raises(sse_fast.StreamEnded):
        old.publish("late")
    assert [event.data for event in events_of(server.stream("s"), 1)] == ["again"]
    removed = server.stream("removed")
    removed.remove()
    with pytest.raises(sse_fast.StreamEnded, match=r'Server\.stream\("removed"\)'):
        removed.publish("late")


def test_after_close_everything_raises_server_closed(serve: Serve) -> None:
    server = serve()
    stream = server.stream("s")
    server.close()
    for attempt in (
        lambda: stream.publish("late"),
        stream.end,
        lambda: stream.snapshot("late"),
        lambda: server.stream("other"),
        lambda: server.route("/r/{id}", "r/{id}"),
    ):
        with pytest.raises(sse_fast.ServerClosed) as caught:
            attempt()
        assert isinstance(caught.value, RuntimeError)


BAD_OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"history": 0}, "history"),
    ({"history": -1}, "history"),
    ({"history": 1.5}, "history"),
    ({"history": "many"}, "history"),
    ({"history": True}, "history"),
    ({"history_bytes": 0}, "history_bytes"),
    ({"max_lag": 0}, "max_lag"),
    ({"history": 10, "max_lag": 11}, "max_lag"),
    ({"max_lag": 257}, "max_lag"),
    ({"start": "newest"}, "start"),
    ({"start": None}, "start"),
    ({"on_lag": "drop"}, "on_lag"),
    ({"heartbeat": 0}, "heartbeat"),
    ({"heartbeat": -1.0}, "heartbeat"),
    ({"heartbeat": float("nan")}, "heartbeat"),
    ({"heartbeat": float("inf")}, "heartbeat"),
    ({"heartbeat": "15s"}, "heartbeat"),
    ({"heartbeat_event": "a\nb"}, "heartbeat_event"),
    ({"heartbeat_event": ""}, "heartbeat_event"),
    ({"heartbeat_event": 5}, "heartbeat_event"),
    ({"retry": -1}, "retry"),
    ({"retry": "soon"}, "retry"),
    ({"retry": 3600.5}, "not milliseconds"),
    ({"retry": 5000}, "not milliseconds"),
    ({"ids": 1}, "ids"),
    ({"linger": -1}, "linger"),
    ({"expire": 0}, "expire"),
    ({"heart_beat": 5}, "heart_beat"),
]


@pytest.mark.parametrize(("options", "named"), BAD_OPTIONS, ids=repr)
def test_a_bad_stream_option_is_a_value_error_naming_it_and_makes_no_stream(
    server: sse_fast.Server, serve: Serve, options: dict[str, Any], named: str
) -> None:
    for attempt in (lambda: server.stream("s", **options), lambda: serve(**options)):
        with pytest.raises(ValueError, match=named) as caught:
            attempt()
        assert isinstance(caught.value, sse_fast.SseFastError)
    assert server.streams() == []


@pytest.mark.parametrize("name", ["", "a\0b", "a\nb", "a\rb", "\ud800"], ids=repr)
def test_a_name_that_no_url_can_carry_is_a_value_error(server: sse_fast.Server, name: str) -> None:
    with pytest.raises(sse_fast.SettingError, match="name"):
        server.stream(name)


WRONG_TYPES: list[tuple[str, Callable[[Any], object]]] = [
    ("name", lambda server: server.stream(5)),
    ("argv='x'", lambda server: server.run("x", stream="s")),
    ("argv=5", lambda server: server.run(5, stream="s")),
    (r"argv\[1\]=1", lambda server: server.run(["x", 1], stream="s")),
    ("stream=5", lambda server: server.run(["x"], stream=5)),
    ("cwd=5", lambda server: server.run(["x"], stream="s", cwd=5)),
    ("env.*list", lambda server: server.run(["x"], stream="s", env=["A"])),
    (r"env\['A'\].*int", lambda server: server.run(["x"], stream="s", env={"A": 1})),
    ("marker=5", lambda server: server.run(["x"], stream="s", marker=5)),
    ("on_event=5", lambda server: server.run(["x"], stream="s", on_event=5)),
    ("create=1", lambda server: server.route("/r", "r", create=1)),
    ("exists=1", lambda server: server.route("/r", "r", exists=1)),
    ("path=5", lambda server: server.route(5, "r")),
    ("stream name=5", lambda server: server.route("/r", 5)),
    ("early_head=1", lambda server: server.get("/r", early_head=1)),
    ("path=5", lambda server: server.get(5)(print)),
    ("handler of POST /r=5", lambda server: server.post("/r")(5)),
    ("poll=5", lambda server: server.watch(5, stream="s", until="DONE")),
    ("stream=None", lambda server: server.watch(dict, stream=None, until="DONE")),
    ("every='1'", lambda server: server.stream("t").heartbeat(every="1")),
    ("every=True", lambda server: server.stream("t").heartbeat(every=True)),
    ("start=5", lambda server: server.stream("t").events(start=5)),
]


@pytest.mark.parametrize(("named", "call"), WRONG_TYPES, ids=[named for named, _ in WRONG_TYPES])
def test_an_argument_of_a_wrong_type_is_a_typed_error_naming_it(
    server: sse_fast.Server, named: str, call: Callable[[Any], object]
) -> None:
    with pytest.raises(sse_fast.ArgumentTypeError, match=named):
        call(server)
    assert [stream.name for stream in server.streams()] in ([], ["t"])


@pytest.mark.parametrize(
    ("named", "call"),
    [
        ("events", lambda stream: stream.publish_many(5)),
        ("comment", lambda stream: stream.heartbeat(comment=5)),
        ("last_event_id", lambda stream: stream.events(last_event_id=5)),
        ("event", lambda stream: stream.publish("x", event=5)),
        ("id", lambda stream: stream.publish("x", id=5)),
        ("retry", lambda stream: stream.publish("x", retry="soon")),
        ("retry", lambda stream: stream.publish("x", retry=True)),
    ],
)
def test_a_wrong_type_of_what_events_have_is_an_event_type_error(
    server: sse_fast.Server, named: str, call: Callable[[Any], object]
) -> None:
    with pytest.raises(sse_fast.EventTypeError, match=named):
        call(server.stream("s"))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"data": "ab\ud800"}, "data: .* at position 2"),
        ({"data": "x", "event": "ab\udfffc"}, "event: .* at position 2"),
        ({"data": "x", "id": "\ud800"}, "id: .* at position 0"),
        ({"data": "x", "snapshot": "äöü\ud800"}, "snapshot: .* at position 3"),
    ],
)
def test_a_lone_surrogate_is_refused_with_its_place(
    server: sse_fast.Server, fields: dict[str, Any], named: str
) -> None:
    stream = server.stream("s")
    with pytest.raises(sse_fast.EventError, match=named):
        stream.publish(**fields)
    assert stream.publish("nothing came of it").endswith("-1")
    with pytest.raises(sse_fast.SettingError, match="at position 1"):
        server.stream("s\ud800")


def test_options_given_later_apply_to_a_stream_that_exists(server: sse_fast.Server, read: Open) -> None:
    stream = server.stream("s")
    for number in range(10):
        stream.publish(number)
    server.stream("s", start="all", history=3, max_lag=3)
    stream.end("over")
    events = [event.data for event in read().open().rest() if event.event != "gap"]
    assert events == ["8", "9", "over"]
    with pytest.raises(ValueError, match="max_lag"):
        server.stream("s", max_lag=5)
