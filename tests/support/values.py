"""Values and what goes out for each, from `publish` in all its ways and from `emit` in a child.

One table, which the tests of both read. `None` as what goes out means that both refuse the value.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import math
import pathlib
import types
import uuid
from typing import Any, NamedTuple

import numpy as np
import pydantic

from .ids import named

UTC = dt.timezone.utc


@dataclasses.dataclass
class Point:
    x: float
    _secret: int = 7


@dataclasses.dataclass
class Holder:
    point: Point
    label: str = "p"


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    at: dt.date
    _hidden: int = 1


class Marked(Point):
    """A subclass that is no dataclass of its own."""


class Model(pydantic.BaseModel):
    status: str
    price: decimal.Decimal = decimal.Decimal("1.50")


class Broken(pydantic.BaseModel):
    n: int = 1

    @pydantic.model_serializer
    def serialise(self) -> dict[str, int]:
        raise LookupError("no database")


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Word(str, enum.Enum):
    GO = "go"


class Nested(enum.Enum):
    ALL = (1, Colour.RED)


class Pair(NamedTuple):
    a: int
    b: object = None


class Text(str):
    __slots__ = ()


class Metre(float):
    pass


class Moment(dt.datetime):
    """As pandas' Timestamp and pendulum's DateTime are."""


class Opaque:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


def nested(levels: int) -> Any:
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value


OFFSET = dt.timezone(dt.timedelta(hours=-3, minutes=-30))
AMSTERDAM_1937 = dt.timezone(dt.timedelta(minutes=19, seconds=32))


class Unsure(dt.tzinfo):
    """A zone that does not know its offset."""

    def utcoffset(self, _when: dt.datetime | None, /) -> None:
        return None

    def dst(self, _when: dt.datetime | None, /) -> None:
        return None

    def tzname(self, _when: dt.datetime | None, /) -> None:
        return None


BEHIND = dt.timezone(-dt.timedelta(hours=1, minutes=2, seconds=29))

#: Value and text.
VALUES: list[tuple[Any, str | None]] = [
    # Text and bytes go out as they are.
    ("text", "text"),
    ("", ""),
    (Text("sub"), "sub"),
    (b"bytes", "bytes"),
    (bytearray(b"array"), "array"),
    (memoryview(b"view"), "view"),
    ("\u2028", "\u2028"),
    (b"\xff", None),
    ("\ud800", None),
    # JSON's own.
    (None, "null"),
    (True, "true"),
    ([], "[]"),
    ({}, "{}"),
    ((1, 2), "[1,2]"),
    ([[], {}, (), [None, False]], "[[],{},[],[null,false]]"),
    (
        {"u": '\u00fc\u2028\u2029\u0085\x7f\x00\x1f"\\/\b\t'},
        '{"u":"ü\\u2028\\u2029\\u0085\x7f\\u0000\\u001f\\"\\\\/\\b\\t"}',
    ),
    (["\U0001f600"], '["\U0001f600"]'),
    (["\ud800"], None),
    ({"\ud800": 1}, None),
    # Numbers.
    (2**63, str(2**63)),
    (2**70, str(2**70)),
    (-(2**70), str(-(2**70))),
    ({"n": 10**30}, '{"n":1000000000000000000000000000000}'),
    (10**5000, None),
    (0.1, "0.1"),
    (-0.0, "-0.0"),
    (1e15, "1000000000000000.0"),
    (1e16, "1e+16"),
    (1.25e22, "1.25e+22"),
    (1e-4, "0.0001"),
    (1e-5, "0.00001"),
    (-1.25e-5, "-0.0000125"),
    (1e-6, "1e-6"),
    (5e-324, "5e-324"),
    (1.7976931348623157e308, "1.7976931348623157e+308"),
    (Metre(1.5), "1.5"),
    ([math.nan, math.inf, -math.inf, Metre("nan")], "[null,null,null,null]"),
    ({"x": math.nan}, '{"x":null}'),
    (decimal.Decimal("1.50"), '"1.50"'),
    ([decimal.Decimal("NaN")], '["NaN"]'),
    ([1j], None),
    ([fractions.Fraction(1, 2)], None),
    # Times.
    (dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), '"2026-01-02T03:04:05+00:00"'),
    (dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=Unsure()), '"2026-01-02T03:04:05+00:00"'),
    (dt.datetime(2026, 1, 2, 3, 4, 5, 6), '"2026-01-02T03:04:05.000006"'),
    (dt.datetime(1, 1, 2, tzinfo=OFFSET), '"0001-01-02T00:00:00-03:30"'),
    (dt.datetime(1937, 1, 2, tzinfo=AMSTERDAM_1937), '"1937-01-02T00:00:00+00:20"'),
    (dt.datetime(1937, 1, 2, tzinfo=BEHIND), '"1937-01-02T00:00:00-01:02"'),
    (Moment(2026, 1, 2, 3, tzinfo=UTC), '"2026-01-02T03:00:00+00:00"'),
    (dt.date(2026, 1, 2), '"2026-01-02"'),
    (dt.time(3, 4, 5), '"03:04:05"'),
    (dt.time(3, 4, 5, 6), '"03:04:05.000006"'),
    ({"at": dt.time(0, 0, 0, 12345)}, '{"at":"00:00:00.012345"}'),
    ({dt.time(0, 0, 0, 99_999): "00:00:00.12345"}, '{"00:00:00.099999":"00:00:00.12345"}'),
    ([dt.datetime(2026, 1, 2, 3, 4, 5, 12345)], '["2026-01-02T03:04:05.012345"]'),
    (dt.time(3, tzinfo=UTC), None),
    (dt.timedelta(minutes=1, milliseconds=500), "60.5"),
    ({"for": dt.timedelta(days=-1)}, '{"for":-86400.0}'),
    # Objects.
    (Colour.RED, '"red"'),
    (Level.HIGH, "3"),
    (Word.GO, "go"),
    ([Word.GO, Nested.ALL], '["go",[1,"red"]]'),
    (uuid.UUID(int=5), '"00000000-0000-0000-0000-000000000005"'),
    (Point(1.0), '{"x":1.0}'),
    (Holder(Point(2.5)), '{"point":{"x":2.5},"label":"p"}'),
    ([Holder(Point(2**70))], '[{"point":{"x":' + str(2**70) + '},"label":"p"}]'),
    (Slotted(dt.date(2026, 1, 2)), '{"at":"2026-01-02"}'),
    (Marked(1.5), '{"x":1.5}'),
    (Model(status="OK"), '{"status":"OK","price":"1.50"}'),
    ([Broken()], None),
    (Pair(1, Metre(2.0)), "[1,2.0]"),
    (collections.OrderedDict(b=1, a=2), '{"b":1,"a":2}'),
    (collections.Counter("aab"), '{"a":2,"b":1}'),
    (pathlib.PurePosixPath("/a/ü"), '"/a/ü"'),
    ({1, 2}, "[1,2]"),
    (frozenset({"b", "a"}), '["a","b"]'),
    ({"tags": {None, "x", 2}}, '{"tags":["x",2,null]}'),
    ({(1, "a"), (1, "B")}, '[[1,"B"],[1,"a"]]'),
    ({1j}, None),
    ([b"bytes"], None),
    (object(), None),
    ([Opaque()], None),
    (range(3), None),
    ((number for number in ()), None),
    (types.MappingProxyType({}), None),
    (Point, None),
    # Keys.
    ({1: 2, None: 1, 1.5: 3}, '{"1":2,"null":1,"1.5":3}'),
    ({None: 1, False: 2}, '{"null":1,"false":2}'),
    ({1: "a", "1": "b"}, '{"1":"a","1":"b"}'),
    ({1e-5: 1, 1e16: 2, math.nan: 3}, '{"0.00001":1,"1e+16":2,"null":3}'),
    ({2**70: 1}, '{"' + str(2**70) + '":1}'),
    ({Colour.RED: 1, Level.HIGH: 2, Word.GO: 3}, '{"red":1,"3":2,"go":3}'),
    (
        {dt.date(2026, 1, 2): 1, uuid.UUID(int=7): 2, dt.time(1): 3},
        '{"2026-01-02":1,"00000000-0000-0000-0000-000000000007":2,"01:00:00":3}',
    ),
    ({dt.datetime(2026, 1, 2, tzinfo=AMSTERDAM_1937): 1}, '{"2026-01-02T00:00:00+00:20":1}'),
    ({decimal.Decimal("1.5"): 1, pathlib.PurePosixPath("p"): 2}, '{"1.5":1,"p":2}'),
    ({"a\u2028": {1: 1}}, '{"a\\u2028":{"1":1}}'),
    ({(1, 2): 3}, None),
    ({b"k": 3}, None),
    ({frozenset(): 3}, None),
    # numpy's.
    (np.float64(1.5), "1.5"),
    ([np.float64("nan"), np.float32(0.5), np.int64(7), np.bool_(True), np.str_("s")], '[null,0.5,7,true,"s"]'),
    (np.arange(6, dtype=np.int32).reshape(2, 3), "[[0,1,2],[3,4,5]]"),
    ({"a": np.array([1.5, math.nan])}, '{"a":[1.5,null]}'),
    (np.array(5), "5"),
    ([np.uint64(2**64 - 1)], "[18446744073709551615]"),
    ({np.int64(3): 1, np.str_("k"): 2}, '{"3":1,"k":2}'),
    ([np.datetime64("2026-01-01", "ns")], None),
    ([np.timedelta64(1, "s")], None),
    ([np.complex128(1)], None),
    ([np.longdouble(1)], None),
    # Depth.
    (nested(200), "[" * 200 + "]" * 200),
    (nested(254), "[" * 254 + "]" * 254),
    (nested(255), None),
    (nested(300), None),
]


def shown(value: Any) -> str:
    """A name for a test of it."""
    try:
        return f"{type(value).__name__} {named(value)}"[:60]
    except Exception:
        return type(value).__name__
