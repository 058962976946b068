"""JSON of what orjson refuses: a second, slower look, which either encodes the value or says where it cannot.

Owns: integers beyond 64 bits, keys beyond what orjson's option takes, subclasses of float and tuple, and the words of
every refusal: its place, such as ``data['runs'][3]``, and the type there. Must not know: events. Nothing is guessed: a
type that has no JSON of its own is refused.

The engine's binding calls `encode` only after orjson has failed (`rust/sse-fast-py/src/json.rs`, with which this file
changes), so the usual path pays nothing for it; values and texts it encodes come out as orjson would write them.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import uuid
from typing import Any

import orjson

from ._exceptions import EventError, EventTypeError

_MAX_DEPTH = 250  # orjson's own limit is 254; what nests deeper is a mistake, and most clients would refuse it.
_WIDE = range(-(1 << 63), 1 << 64)  # The integers that orjson writes itself.
_DATES = (dt.datetime, dt.date, dt.time)
_LONGEST = 100  # Characters of a value that a message shows.


def encode(value: object, field: str) -> bytes:
    """`value` as compact JSON; `field` is the argument that it is.

    Raises:
        EventTypeError: a type in it has no JSON, or it contains itself; the text names the place.
        EventError: a value in it has none: a text that UTF-8 cannot express.
    """
    return orjson.dumps(_plain(value, field, ()), option=orjson.OPT_NON_STR_KEYS)


def _plain(value: Any, place: str, outer: tuple[int, ...]) -> Any:  # noqa: ANN401, PLR0911 - a case for each type
    """`value` made of what orjson knows; `outer` are the ids of the containers it is in."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value, place)
    if isinstance(value, enum.Enum):
        return _plain(value.value, place, outer)
    if isinstance(value, int):
        return int(value) if value in _WIDE else orjson.Fragment(_digits(value, place))
    if isinstance(value, float):
        return float(value)
    inner = _entered(value, place, outer)
    if isinstance(value, dict):
        return {_key(key, place): _plain(item, f"{place}[{_shown(key)}]", inner) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{place}[{position}]", inner) for position, item in enumerate(value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value) if not field.name.startswith("_")]
        return {name: _plain(getattr(value, name), f"{place}.{name}", inner) for name in names}
    if hasattr(value, "model_dump") and not isinstance(value, type):
        return _plain(_dumped(value, place), place, inner)
    return _leaf(value, place)


def _entered(value: object, place: str, outer: tuple[int, ...]) -> tuple[int, ...]:
    """`outer` and `value`, if it is not in itself and there is an end to the nesting."""
    if id(value) in outer:
        raise EventTypeError(f"{place}: this {_name(value)} contains itself")
    if len(outer) >= _MAX_DEPTH:
        raise EventTypeError(f"{place.partition('[')[0]}: is nested more than {_MAX_DEPTH} levels deep")
    return (*outer, id(value))


def _key(key: object, place: str) -> object:
    """A dict's key, as one that orjson writes."""
    if isinstance(key, enum.Enum):
        return _key(key.value, place)
    if isinstance(key, str):
        return _text(key, f"{place}, key {_shown(key)}")
    if isinstance(key, int) and not isinstance(key, bool) and key not in _WIDE:
        return _digits(key, place)
    if isinstance(key, float):
        return float(key)
    if key is None or isinstance(key, (bool, int, uuid.UUID, *_DATES)):
        return key
    raise EventTypeError(f"{place}: a key must be a str, number, date or UUID, not {_name(key)}: {_shown(key)}")


def _text(text: str, place: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        message = f"{place}: has a lone surrogate at position {error.start}, which UTF-8 cannot express"
        raise EventError(message) from error
    return str(text)


def _digits(number: int, place: str) -> str:
    try:
        return str(int(number))
    except ValueError as error:  # Python's limit on the length of such conversions.
        raise EventError(f"{place}: an integer of {number.bit_length()} bits is too large") from error


def _dumped(model: Any, place: str) -> object:  # noqa: ANN401 - pydantic's models, known by their method
    try:
        return model.model_dump(mode="json")
    except Exception as error:
        message = f"{place}: {_name(model)}.model_dump failed with {type(error).__name__}: {error}"
        raise EventTypeError(message) from error


def _leaf(value: object, place: str) -> object:
    """What has no parts: orjson knows it, or nobody does."""
    try:
        return orjson.Fragment(orjson.dumps(value))
    except TypeError as error:
        raise EventTypeError(f"{place}: {_name(value)} is not JSON: {_shown(value)}") from error


def _name(value: object) -> str:
    return type(value).__qualname__


def _shown(value: object) -> str:
    """The value's repr, short; a repr that fails shows the type."""
    try:
        text = repr(value)
    except Exception:  # The user's own code.
        return f"<{_name(value)}>"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
