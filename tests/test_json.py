"""Data: what goes out for every type, and what is refused in which words.

Guards the JSON of events: `str` and bytes are verbatim, everything else compact
JSON, with keys and numbers that the fast encoder does not know; a refusal names
the place in the data, and nothing is written.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import json
import uuid
from typing import Any, NamedTuple

import pydantic
import pytest

import sse_fast
from conftest import Open
from support.ids import named


@dataclasses.dataclass
class Point:
    x: int
    label: str = "p"


@dataclasses.dataclass(frozen=True)
class Frozen:
    __slots__ = ("at",)
    at: dt.date


class Model(pydantic.BaseModel):
    status: str
    runtime_ms: float | None = None
    when: dt.datetime | None = None


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Text(str):
    __slots__ = ()


UTC = dt.timezone.utc


@pytest.mark.parametrize(
    ("data", "out"),
    [
        (Point(1), {"x": 1, "label": "p"}),
        (Frozen(dt.date(2026, 1, 2)), {"at": "2026-01-02"}),
        (dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02T03:04:05+00:00"),
        (dt.date(2026, 1, 2), "2026-01-02"),
        (dt.time(3, 4, 5), "03:04:05"),
        (uuid.UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        (Model(status="OK"), {"status": "OK", "runtime_ms": None, "when": None}),
        ({"model": Model(status="OK", runtime_ms=1.5)}, {"model": {"status": "OK", "runtime_ms": 1.5, "when": None}}),
        (
            [Point(1), {"id": uuid.UUID(int=7), "c": Colour.RED}],
            [{"x": 1, "label": "p"}, {"id": "00000000-0000-0000-0000-000000000007", "c": "red"}],
        ),
        ((1, 2), [1, 2]),
        (1.5, 1.5),
        (True, True),
        (None, None),
        (2**53, 2**53),
        ({}, {}),
        ([], []),
    ],
    ids=named,
)
def test_everything_else_goes_out_as_compact_json(server: sse_fast.Server, read: Open, data: Any, out: Any) -> None:
    reader = read().open()
    server.stream("s").publish(data)
    event = reader.next()
    assert event.json() == out
    assert event.data == json.dumps(out, separators=(",", ":"), ensure_ascii=False)


@pytest.mark.parametrize(
    ("data", "out"),
    [
        ("verbatim {", "verbatim {"),
        (b"bytes", "bytes"),
        (Text("subclass"), "subclass"),
        (bytearray(b"array"), "array"),
        (memoryview(b"view"), "view"),
    ],
)
def test_text_and_bytes_go_out_verbatim(server: sse_fast.Server, read: Open, data: Any, out: str) -> None:
    reader = read().open()
    server.stream("s").publish(data)
    assert reader.next().data == out


@dataclasses.dataclass
class Wide:
    n: int
    _hidden: int = 0


class Metre(float):
    """As numpy's float64 is."""


class Pair(NamedTuple):
    a: int
    b: object = None


class Loud(pydantic.BaseModel):
    n: int

    @pydantic.model_serializer
    def serialise(self) -> dict[str, int]:
        raise LookupError("no database")


@pytest.mark.parametrize(
    ("data", "out"),
    [
        ({1: "x"}, '{"1":"x"}'),
        ({-1: 1, 1.5: 2, True: 3, None: 4}, '{"-1":1,"1.5":2,"true":3,"null":4}'),
        ({dt.date(2026, 1, 2): 1, uuid.UUID(int=7): 2}, '{"2026-01-02":1,"00000000-0000-0000-0000-000000000007":2}'),
        ({Colour.RED: 1, Level.HIGH: 2}, '{"red":1,"3":2}'),
        ({Text("key"): 1}, '{"key":1}'),
        ([{"deep": {1: {2: 3}}}], '[{"deep":{"1":{"2":3}}}]'),
        ({1: "a\u2028b"}, '{"1":"a\\u2028b"}'),
    ],
    ids=named,
)
def test_keys_need_not_be_str(server: sse_fast.Server, read: Open, data: Any, out: str) -> None:
    reader = read().open()
    server.stream("s").publish(data)
    assert reader.next().data == out


@pytest.mark.parametrize(
    ("data", "out"),
    [
        (2**64 - 1, str(2**64 - 1)),
        (2**64, str(2**64)),
        (-(2**63) - 1, str(-(2**63) - 1)),
        ([1, {"n": 10**30}], '[1,{"n":' + str(10**30) + "}]"),
        ({10**30: 10**30}, '{"' + str(10**30) + '":' + str(10**30) + "}"),
        (Wide(2**70), '{"n":' + str(2**70) + "}"),
        (
            {
                "n": 2**70,
                "c": Colour.RED,
                "at": dt.date(2026, 1, 2),
                "model": Model(status="\u2028ä"),
                "x": [1.5, None],
            },
            (
                '{"n":1180591620717411303424,"c":"red","at":"2026-01-02",'
                '"model":{"status":"\\u2028ä","runtime_ms":null,"when":null},"x":[1.5,null]}'
            ),
        ),
        ([Metre(1.5), {Metre(2.5): 1}], '[1.5,{"2.5":1}]'),
        (Pair(1, Metre(2.0)), "[1,2.0]"),
    ],
    ids=named,
)
def test_what_the_encoder_does_not_know_but_json_does_goes_out_too(
    server: sse_fast.Server, read: Open, data: Any, out: str
) -> None:
    reader = read().open()
    server.stream("s").publish(data)
    assert reader.next().data == out


@pytest.mark.parametrize(
    ("data", "kind", "place", "named"),
    [
        (object(), TypeError, "data:", "object"),
        ({"deep": [1, {1, 2j}]}, TypeError, "data['deep'][1]:", "complex"),
        ({"runs": [{"ms": 1j}]}, TypeError, "data['runs'][0]['ms']:", "complex"),
        ({"body": b"bytes"}, TypeError, "data['body']:", "bytes"),
        ([dt.time(1, tzinfo=UTC)], TypeError, "data[0]:", "time zone"),
        ({"a": {(1, 2): 3}}, TypeError, "data['a']:", "tuple"),
        ({b"key": 1}, TypeError, "data:", "bytes"),
        (Pair(1, object()), TypeError, "data[1]:", "object"),
        ([Wide(object())], TypeError, "data[0].n:", "object"),  # type: ignore[arg-type]
        ([Loud(n=1)], TypeError, "data[0]:", "LookupError: no database"),
        ({"text": "a\ud800"}, ValueError, "data['text']:", "position 1"),
        ({"\ud800": 1}, ValueError, "data, key", "surrogate"),
    ],
    ids=named,
)
def test_a_refusal_names_the_place_and_the_type(
    server: sse_fast.Server, data: Any, kind: type[Exception], place: str, named: str
) -> None:
    stream = server.stream("s")
    with pytest.raises(kind) as caught:
        stream.publish(data)
    assert isinstance(caught.value, (sse_fast.EventError, sse_fast.EventTypeError))
    assert str(caught.value).startswith(place)
    assert named in str(caught.value)
    with pytest.raises(kind) as caught:
        stream.publish("fine", snapshot=data)
    assert str(caught.value).startswith(place.replace("data", "snapshot", 1))
    assert stream.last_id is None


def test_an_integer_longer_than_python_writes_is_refused(server: sse_fast.Server) -> None:
    with pytest.raises(sse_fast.EventError, match=r"data\[0\]: .* bits"):
        server.stream("s").publish([10**5000])


def test_an_interruption_inside_a_json_hook_is_not_made_an_error(server: sse_fast.Server) -> None:
    class Slow:
        def model_dump(self, **_options: str) -> dict[str, int]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        server.stream("s").publish({"model": Slow()})


@pytest.mark.parametrize(
    "data", [object(), {1, 2j}, range(3), lambda: None, {"deep": object()}, {(1, 2): 3}], ids=named
)
def test_what_is_not_json_is_a_type_error_and_nothing_is_written(
    server: sse_fast.Server, read: Open, data: Any
) -> None:
    stream = server.stream("s")
    reader = read().open()
    with pytest.raises(TypeError) as caught:
        stream.publish(data)
    assert isinstance(caught.value, sse_fast.SseFastError)
    stream.publish("good")
    assert reader.next().data == "good"


def test_a_value_that_contains_itself_or_nests_too_deeply_is_an_error_not_a_crash(server: sse_fast.Server) -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(sse_fast.EventTypeError, match=r"data\[0\]: .*contains itself"):
        server.stream("s").publish(loop)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(sse_fast.EventTypeError, match="levels deep"):
        server.stream("s").publish(deep)
    while deep:
        (deep,) = deep
    assert server.stream("s").publish("good").endswith("-1")


def test_not_a_number_is_null_as_in_a_browser(server: sse_fast.Server, read: Open) -> None:
    stream = server.stream("s")
    reader = read().open()
    stream.publish([float("nan"), float("inf"), Metre("nan")])
    stream.publish([float("nan"), 2**70])
    assert reader.next().data == "[null,null,null]"
    assert reader.next().data == f"[null,{2**70}]"
