"""JSON of values that orjson refuses: a second, slower encoder, which says where a value has no JSON.

Owns: integers beyond 64 bits, keys that orjson's option does not accept, subclasses of float and tuple, and the words
of every refusal: the place, such as ``data['runs'][3]``, and the type there.
Must not know: events.
Invariants: nothing is guessed; a type without JSON of its own is refused. What is encoded is written as orjson writes
it. The binding calls `encode` only after orjson has failed, so other values pay nothing for it.
Changes together with: `rust/sse-fast-py/src/json.rs`, which calls it.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import uuid
from typing import Any

import orjson

from ._exceptions import EventError, EventTypeError

_MAX_DEPTH = 250  # orjson's own limit is 254; deeper nesting is a mistake, and most clients would refuse it.
_WIDE = range(-(1 << 63), 1 << 64)  # The integers that orjson writes itself.
_DATES = (dt.datetime, dt.date, dt.time)
_MAX_SHOWN = 100  # Characters of a value that a message shows.


def encode(value: object, field: str) -> bytes:
    """`value` as compact JSON; `field` is the name of the argument.

    Raises:
        EventTypeError: a type in it has no JSON, or it contains itself; the text names the place.
        EventError: a text in it cannot be written as UTF-8.
    """
    return orjson.dumps(_rebuilt(value, field, ()), option=orjson.OPT_NON_STR_KEYS)


def _rebuilt(value: Any, place: str, outer: tuple[int, ...]) -> Any:  # noqa: ANN401, PLR0911 - a case for each type
    """`value` rebuilt from types that orjson writes; `outer` are the ids of the containers around it."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _checked_text(value, place)
    if isinstance(value, enum.Enum):
        return _rebuilt(value.value, place, outer)
    if isinstance(value, int):
        return int(value) if value in _WIDE else orjson.Fragment(_digits(value, place))
    if isinstance(value, float):
        return float(value)
    inner = _inside(value, place, outer)
    if isinstance(value, dict):
        return {_key(key, place): _rebuilt(item, f"{place}[{_short_repr(key)}]", inner) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rebuilt(item, f"{place}[{position}]", inner) for position, item in enumerate(value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value) if not field.name.startswith("_")]
        return {name: _rebuilt(getattr(value, name), f"{place}.{name}", inner) for name in names}
    if hasattr(value, "model_dump") and not isinstance(value, type):
        return _rebuilt(_model_dump(value, place), place, inner)
    return _leaf(value, place)


def _inside(value: object, place: str, outer: tuple[int, ...]) -> tuple[int, ...]:
    """`outer` with `value` added; refuses a value that contains itself or is nested too deep."""
    if id(value) in outer:
        raise EventTypeError(f"{place}: this {_type_name(value)} contains itself")
    if len(outer) >= _MAX_DEPTH:
        raise EventTypeError(f"{place.partition('[')[0]}: is nested more than {_MAX_DEPTH} levels deep")
    return (*outer, id(value))


def _key(key: object, place: str) -> object:
    """A dict's key in a type that orjson writes."""
    if isinstance(key, enum.Enum):
        return _key(key.value, place)
    if isinstance(key, str):
        return _checked_text(key, f"{place}, key {_short_repr(key)}")
    if isinstance(key, int) and not isinstance(key, bool) and key not in _WIDE:
        return _digits(key, place)
    if isinstance(key, float):
        return float(key)
    if key is None or isinstance(key, (bool, int, uuid.UUID, *_DATES)):
        return key
    raise EventTypeError(
        f"{place}: a key must be a str, number, date or UUID, not {_type_name(key)}: {_short_repr(key)}"
    )


def _checked_text(text: str, place: str) -> str:
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


def _model_dump(model: Any, place: str) -> object:  # noqa: ANN401 - pydantic's models, known by their method
    try:
        return model.model_dump(mode="json")
    except Exception as error:
        message = f"{place}: {_type_name(model)}.model_dump failed with {type(error).__name__}: {error}"
        raise EventTypeError(message) from error


def _leaf(value: object, place: str) -> object:
    """A value without parts: orjson writes it, or it is refused."""
    try:
        return orjson.Fragment(orjson.dumps(value))
    except TypeError as error:
        raise EventTypeError(f"{place}: {_type_name(value)} is not JSON: {_short_repr(value)}") from error


def _type_name(value: object) -> str:
    return type(value).__qualname__


def _short_repr(value: object) -> str:
    """The value's repr, shortened; the type where the repr raises."""
    try:
        text = repr(value)
    except Exception:  # It is the user's code.
        return f"<{_type_name(value)}>"
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"
