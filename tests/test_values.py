"""One encoding: what goes out for a value is the same bytes from `publish` and from a child's `emit`.

Guards the table of values (`support/values.py`): each value's text by either way, that both refuse the same ones, and
that the pure Python encoder writes what orjson writes for values nobody thought of. Also `serve(json=...)`.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import datetime as dt
import decimal
import gc
import io
import json
import math
import pathlib
import re
import uuid
import weakref
from typing import Any

import numpy as np
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sse_fast
from conftest import Serve
from sse_fast import runner
from support.process import run_program
from support.reader import fetch
from support.values import VALUES, Colour, Point, shown

table = pytest.mark.parametrize(("value", "text"), VALUES, ids=shown)


def published(stream: sse_fast.Stream, value: Any) -> str | None:
    """The data as a reader has it; None where the value is refused."""
    try:
        stream.publish(value)
    except (sse_fast.EventError, sse_fast.EventTypeError):
        return None
    return next(stream.events(start="last", timeout=10)).data


def emitted(value: Any) -> str | None:
    """The data as a child writes it."""
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out):
            runner.emit("A", value)
    except (TypeError, ValueError):
        return None
    marked = [line.removeprefix("SSE_EVENT:") for line in out.getvalue().split("\n")]
    return "\n".join(line.removeprefix("data: ") for line in marked if line.startswith("data: "))


@table
def test_a_value_goes_out_as_the_table_says(server: sse_fast.Server, value: Any, text: str | None) -> None:
    assert published(server.stream("s"), value) == text


@table
def test_a_child_writes_the_same(value: Any, text: str | None) -> None:
    assert emitted(value) == text


#: Those that are JSON, at an ordinary depth.
JSON = [(value, text) for value, text in VALUES if not isinstance(value, (str, bytes, bytearray, memoryview))][:-4]


@pytest.mark.parametrize(("value", "text"), JSON, ids=shown)
def test_the_same_value_inside_another_that_the_fast_encoder_refuses(
    server: sse_fast.Server, value: Any, text: str | None
) -> None:
    """The whole is then encoded by the slower one: nothing may look different for that."""
    inside = None if text is None else f"[{2**70},{text}]"
    assert published(server.stream("s"), [2**70, value]) == inside


@pytest.mark.parametrize("value", [value for value, text in VALUES if text is None], ids=shown)
def test_both_refuse_in_the_same_words(server: sse_fast.Server, value: Any) -> None:
    with pytest.raises((TypeError, ValueError)) as by_publish:
        server.stream("s").publish(value)
    with contextlib.redirect_stdout(io.StringIO()), pytest.raises((TypeError, ValueError)) as by_emit:
        runner.emit("A", value)
    assert str(by_publish.value) == str(by_emit.value)
    assert isinstance(by_publish.value, type(by_emit.value))


# ---- The table in the docs ---------------------------------------------------------------


@dataclasses.dataclass
class Cached:
    x: int
    _cache: int = 0


class Priced(pydantic.BaseModel):
    price: decimal.Decimal


NAMES = {
    "Colour": Colour,
    "Decimal": decimal.Decimal,
    "Model": Priced,
    "Path": pathlib.Path,
    "Point": Cached,
    "UUID": uuid.UUID,
    "date": dt.date,
    "numpy": np,
    "timedelta": dt.timedelta,
}
PAGE = pathlib.Path(__file__).resolve().parents[1] / "docs" / "reference" / "values.md"
TABLE = PAGE.read_text(encoding="utf-8").partition("<!-- values")[2].partition("<!-- end")[0]
ROWS = re.findall(r"^\| (`.*`) \| `(.*)` \| .*\|$", TABLE, re.MULTILINE)


@pytest.mark.parametrize(("values", "text"), ROWS)
def test_the_documented_table_is_what_goes_out(server: sse_fast.Server, values: str, text: str) -> None:
    for code in re.findall("`([^`]*)`", values):
        ast.parse(code, mode="eval")
        value = eval(code, dict(NAMES))
        assert published(server.stream("s"), value) == emitted(value) == text


def test_the_documented_table_was_found() -> None:
    assert len(ROWS) >= 15


# ---- Values nobody thought of ---------------------------------------------------------------

KEYS = st.text() | st.integers() | st.floats() | st.booleans() | st.none() | st.dates() | st.uuids()
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.dates()
    | st.times()
    | st.uuids()
    | st.datetimes(timezones=st.none() | st.timezones())
    | st.sampled_from([Colour.RED, Point(1.0)])
)
NESTED = st.recursive(
    LEAVES, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner) | st.tuples(inner, inner), max_leaves=8
)


@settings(max_examples=300, deadline=None)
@given(NESTED)
def test_any_value_is_the_same_bytes_from_both_encoders(value: Any) -> None:
    try:
        fast = sse_fast._core.json_dumps(value).decode()
    except sse_fast.SseFastError:
        fast = None
    try:
        slow = runner.json_text(value, "data")
    except (TypeError, ValueError):
        slow = None
    assert fast == slow


@settings(max_examples=1000, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_any_number_is_the_same_digits_from_both_encoders_and_reads_back(value: float) -> None:
    text = runner.json_text(value, "data")
    assert text == sse_fast._core.json_dumps(value).decode()
    assert math.copysign(1, json.loads(text)) == math.copysign(1, value)
    assert json.loads(text) == value


# ---- An encoder of one's own ----------------------------------------------------------------


class Money:
    def __init__(self, cents: int) -> None:
        self.cents = cents


def own(value: object) -> str:
    return json.dumps(value, default=lambda money: f"{money.cents / 100:.2f} €", ensure_ascii=False)


def test_an_own_encoder_encodes_whatever_the_server_sends_as_json(serve: Serve) -> None:
    server = serve(json=own)
    server.get("/price")(lambda _request: {"price": Money(150)})
    stream = server.stream("s", start="all")
    stream.snapshot(Money(100))
    stream.publish({"price": Money(199)}, snapshot=[Money(200)])
    stream.publish_many([(Money(1), None), {"data": Money(2), "snapshot": Money(3)}])
    stream.publish("verbatim")
    server.stream("s").publish([Money(5)])
    server.watch(lambda: Money(6), stream=stream, until=lambda money: money.cents == 6, event="m").wait(10)
    assert [event.data for event in stream.events(timeout=10)] == [
        '"0.03 €"',
        "verbatim",
        '["0.05 €"]',
        '"0.06 €"',
    ]
    assert fetch(server.port, "/price")[1] == '{"price": "1.50 €"}'.encode()


def test_an_own_encoder_may_return_bytes_and_several_lines(serve: Serve) -> None:
    server = serve(json=lambda value: json.dumps(value, indent=1).encode())
    stream = server.stream("s", start="all")
    stream.publish({"a": 1})
    assert next(stream.events(timeout=10)).data == '{\n "a": 1\n}'


@pytest.mark.parametrize(
    ("encoder", "kind", "text"),
    [
        (lambda _value: {}["none"], sse_fast.EventTypeError, "data: the encoder given as json= failed with KeyError"),
        (
            lambda _value: 5,
            sse_fast.EventTypeError,
            "data: the encoder given as json= must return str or bytes, not int",
        ),
        (lambda _value: None, sse_fast.EventTypeError, "must return str or bytes, not NoneType"),
        (lambda _value: "\ud800", sse_fast.EventError, "data: has a lone surrogate at position 0"),
        (lambda _value: b"\xff", sse_fast.EventError, "data must be UTF-8"),
    ],
)
def test_what_an_own_encoder_does_wrong_is_named(serve: Serve, encoder: Any, kind: type[Exception], text: str) -> None:
    stream = serve(json=encoder).stream("s")
    with pytest.raises(kind) as caught:
        stream.publish({})
    assert text in str(caught.value)
    assert stream.last_id is None


@pytest.mark.parametrize("encoder", [5, "json.dumps", {}])
def test_what_cannot_be_called_is_no_encoder(encoder: Any) -> None:
    with pytest.raises(sse_fast.ArgumentTypeError, match="json="):
        sse_fast.serve(0, json=encoder)


def test_an_interruption_inside_an_own_encoder_is_passed_on(serve: Serve) -> None:
    def interrupted(_value: object) -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        serve(json=interrupted).stream("s").publish({})


def test_an_encoder_that_leads_back_to_its_server_keeps_nothing_alive() -> None:
    class Holder:
        pass

    def made() -> weakref.ref[Any]:
        holder: Any = Holder()

        def encoder(value: object) -> str:
            return json.dumps([value, type(holder).__name__])

        holder.server = sse_fast.serve(0, json=encoder)
        holder.stream = holder.server.stream("s")
        holder.stream.publish({})
        holder.server.close(0.0)
        return weakref.ref(holder)

    gone = made()
    gc.collect()
    assert gone() is None


def test_the_day_of_a_value_that_is_not_known_twice() -> None:
    """A datetime that differs from itself, as pandas' NaT does, is null like a NaN."""

    class Never(dt.datetime):
        def __eq__(self, other: object) -> bool:
            return False

        def __ne__(self, other: object) -> bool:
            return True

        __hash__ = dt.datetime.__hash__

    assert runner.json_text([Never(2026, 1, 1), uuid.UUID(int=1)], "data").startswith("[null,")


def test_a_dict_that_a_thread_changes_while_it_is_published_is_refused_at_worst() -> None:
    """orjson reads on in a dict that has changed: with a hook in Python inside it the process ended."""
    source = """
        import sse_fast, sys, threading
        from decimal import Decimal
        sys.setswitchinterval(1e-6)
        state, over, refused = {"n%d" % i: Decimal(i) for i in range(50)}, threading.Event(), 0
        def change():
            for i in range(300_000):
                state["n%d" % (i % 5000)] = Decimal(i)
                state.pop("n%d" % ((i - 30) % 5000), None)
            over.set()
        threading.Thread(target=change).start()
        with sse_fast.serve(0) as server:
            stream = server.stream("s")
            while not over.is_set():
                try:
                    stream.publish({"state": state, "set": {1, 2}})
                except sse_fast.EventError as error:
                    refused += 1
                    assert "was changed while it was encoded" in str(error), error
        print("refused", refused > 0)
    """
    assert run_program(source).lines == ["refused True"]


def test_a_slot_that_is_not_set_is_left_out_as_an_attribute_that_is_not() -> None:
    @dataclasses.dataclass
    class Attributes:
        x: int = 1
        later: int = dataclasses.field(init=False)

    @dataclasses.dataclass(slots=True)
    class Slots:
        x: int = 1
        later: int = dataclasses.field(init=False)

    for value in (Attributes(), Slots()):
        assert sse_fast.Response([value]).body == b'[{"x":1}]'
        assert runner.json_text([value], "data") == '[{"x":1}]'


def test_sets_in_sets_are_encoded_once_each() -> None:
    value: frozenset[object] = frozenset({1})
    for _ in range(200):  # Encoded twice on each level it would never end.
        value = frozenset({value})
    assert runner.json_text(value, "data") == "[" * 201 + "1" + "]" * 201
    assert sse_fast.Response(value).body == ("[" * 201 + "1" + "]" * 201).encode()
