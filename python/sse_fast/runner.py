"""The module that a child process imports to publish events into the stream of its run.

Owns: the marked lines that the engine reads from a child's output; the encoding of values in pure Python, which
`publish` uses, too, for what its fast encoder does not know.
Must not know: the engine. The module is pure Python and imports nothing of the package, so that it works in any
interpreter that finds this one file.
Invariants: an event is one write, after everything that was printed before it is flushed. A wrong argument raises
before anything is written. A value is encoded to the same bytes here and by orjson, wherever orjson knows its type;
nothing is guessed: a type without JSON of its own is refused, with its place in the data.
Changes together with: `rust/sse-fast-core/src/lines/marked.rs`, which reads these lines;
`rust/sse-fast-py/src/json.rs` and `_encode.py`, which call what is here; the table in docs/reference/values.md.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import decimal
import enum
import json.encoder
import math
import os
import pathlib
import re
import sys
import threading
import uuid
from collections.abc import Callable
from typing import Any

__all__ = ["emit"]

_FIXED_MARKER = "SSE_EVENT:"
_LINE_ENDS = re.compile("\r\n|\r|\n")
_FORBIDDEN = re.compile("[\r\n\0]")

#: Called before each value of what is encoded; in the engine's process it raises once the interpreter ends.
before_each: Callable[[], object] | None = None

_MAX_DEPTH = 254  # As deep as orjson goes.
_MAX_SHOWN = 100  # Characters of a value that a refusal shows.
_UNSAFE = str.maketrans({"\u0085": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"})  # Line ends to some clients.

# Keeps the lines of one event together. Reentrant, because a signal handler that reports the end of the run may
# interrupt an emit of the same thread. Only the write happens under it.
_lock = threading.RLock()


def emit(event: str | None, data: object = None, *, id: str | None = None) -> None:  # noqa: A002 - the field's name
    """Publishes one event into the stream of the run that this process is.

    The event goes to standard output as marked lines. The engine publishes them; everything else that is printed goes
    to the logger. The event is written in one piece and flushed at once, after everything that was printed before it.
    It does not matter whether the last `print` ended its line.

    Threads may call this, and print, at the same time. One thing cannot be prevented: *another process*, or a thread
    that writes to the file descriptor itself, may write between the parts of an event that is larger than what the
    system writes to a pipe in one piece (4096 bytes on Linux). Blocks while the pipe is full, as it is while the engine
    cannot publish the events before.

    Outside a run (no ``SSE_FAST_MARKER`` in the environment) the marker is the fixed ``SSE_EVENT:``, so that a
    program can be tried out by hand.

    Args:
        event: the event's name; None gives an event without one. `heartbeat` is published, but does not become the
            run's status.
        data: encoded exactly as `Stream.publish` encodes it: a `str` is written as it is, split into lines at CR, LF
            and CRLF, bytes likewise; everything else as compact JSON. None is JSON's ``null``.
        id: the event's own id; without it the engine counts.

    Raises:
        ValueError: `event` or `id` is empty or has a CR, LF or NUL, bytes are not UTF-8, or a text holds a lone
            surrogate, which UTF-8 does not know.
        TypeError: an argument is of the wrong type, or `data` cannot be JSON; the text names the place in it.
        OSError: standard output is closed.

    Example:
        >>> import os
        >>> _ = os.environ.pop("SSE_FAST_MARKER", None)
        >>> emit("COMPILING", {"step": 1, "of": 3})
        SSE_EVENT:
        SSE_EVENT:event: COMPILING
        SSE_EVENT:data: {"step":1,"of":3}
        SSE_EVENT:
    """
    lines = [""]  # An empty event is ignored; it separates the next line from a text printed without newline.
    if event is not None:
        lines.append("event: " + _checked("event", event))
    if id is not None:
        lines.append("id: " + _checked("id", id))
    lines.extend(f"data: {line}" for line in _LINE_ENDS.split(_text_of(data)))
    lines.append("")
    marker = os.environ.get("SSE_FAST_MARKER") or _FIXED_MARKER
    _write("".join(f"{marker}{line}\n" for line in lines).encode("utf-8"))


def _checked(name: str, value: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}")
    if not value:
        raise ValueError(f"{name} must not be empty")
    found = _FORBIDDEN.search(value)
    if found:
        raise ValueError(f"{name} has {found.group()!r} at position {found.start()}: {value!r}")
    return value


def _text_of(data: object) -> str:
    """An event's data: text and bytes as they are, everything else as JSON."""
    if isinstance(data, str):
        return _checked_text(data, "data")
    if isinstance(data, (bytes, bytearray, memoryview)):
        try:
            return bytes(data).decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"data must be UTF-8: invalid byte at position {error.start}") from error
    return json_text(data, "data")


# ---- Values as JSON ----


def json_text(value: object, field: str) -> str:
    """`value` as compact JSON; `field` is the name of the argument, for refusals.

    Raises:
        TypeError: a type in it has no JSON, or it contains itself; the text names the place.
        ValueError: a text in it cannot be written as UTF-8, or a number is too long to be written.
    """
    return _json(value, field, ())


def simpler(value: Any) -> object:  # noqa: ANN401, PLR0911 - a case for each type
    """A value that JSON does not know, in types that are nearer to it.

    Raises:
        TypeError: there is no such value.
    """
    if isinstance(value, float):  # A subclass, such as numpy's float64.
        return float(value)
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, (dt.date, dt.time, uuid.UUID)):
        return _date_text(value)
    if hasattr(value, "model_dump") and not isinstance(value, type):  # A model of pydantic.
        return value.model_dump(mode="json")
    if isinstance(value, decimal.Decimal):
        return str(value)  # A number would lose digits in a browser.
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    if isinstance(value, pathlib.PurePath):
        return str(value)
    if hasattr(value, "dtype") and hasattr(value, "tolist") and not isinstance(value, type):  # Of numpy, or like it.
        listed = value.tolist()
        # Dates of numpy count from 1970 in a unit of their own, which the number would not tell.
        if getattr(value.dtype, "kind", "") not in {"M", "m"} and type(listed) is not type(value):
            return listed
    raise TypeError(f"{_type_name(value)} is not JSON: {_short_repr(value)}")


def _json(value: Any, place: str, outer: tuple[int, ...]) -> str:  # noqa: ANN401, C901, PLR0911 - a case for each type
    """The JSON of `value`; `outer` are the ids of the containers around it."""
    if before_each is not None:
        before_each()
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, enum.Enum):
        return _json(value.value, place, outer)
    if isinstance(value, str):
        return _quoted(value, place)
    if isinstance(value, int):
        return _digits(value, place)
    if isinstance(value, float):
        return _float_text(value)
    if isinstance(value, (dt.date, dt.time, uuid.UUID)):
        return _json(simpler_at(value, place), place, outer)
    inner = _inside(value, place, outer)
    if isinstance(value, dict):
        return _object(dict.items(value), place, inner)
    if isinstance(value, (list, tuple)):
        return f"[{','.join(_json(item, f'{place}[{number}]', inner) for number, item in enumerate(value))}]"
    if isinstance(value, (set, frozenset)):  # In the order of their JSON: equal sets are equal bytes.
        return f"[{','.join(sorted(_json(item, place, inner) for item in value))}]"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = ((name, field) for name, field in fields_of(value) if not name.startswith("_"))
        written = (f"{_quoted(name, place)}:{_json(field, f'{place}.{name}', inner)}" for name, field in fields)
        return "{" + ",".join(written) + "}"
    return _json(simpler_at(value, place), place, inner)


def _object(items: Any, place: str, inner: tuple[int, ...]) -> str:  # noqa: ANN401 - the items of any dict
    written = (
        f"{_quoted(*_key(key, place))}:{_json(value, f'{place}[{_short_repr(key)}]', inner)}" for key, value in items
    )
    return "{" + ",".join(written) + "}"


def fields_of(value: Any) -> Any:  # noqa: ANN401 - a dataclass, its names and values
    """What orjson takes for the fields of a dataclass: its attributes, or with ``__slots__`` what it declares."""
    attributes = getattr(value, "__dict__", None)
    if attributes is None or "__slots__" in type(value).__dict__:
        names = [field.name for field in dataclasses.fields(value)]
        return [(name, getattr(value, name)) for name in names if hasattr(value, name)]
    return attributes.items()


def simpler_at(value: object, place: str) -> object:
    """`simpler`, its refusal with the place."""
    try:
        return simpler(value)
    except Exception as error:
        text = str(error)
        if hasattr(value, "model_dump"):
            text = f"{_type_name(value)}.model_dump failed with {type(error).__name__}: {error}"
        raise TypeError(f"{place}: {text}") from error


def _inside(value: object, place: str, outer: tuple[int, ...]) -> tuple[int, ...]:
    """`outer` with `value` added; refuses a value that contains itself or is nested too deep."""
    if id(value) in outer:
        raise TypeError(f"{place}: this {_type_name(value)} contains itself")
    if len(outer) >= _MAX_DEPTH:
        raise TypeError(f"{place.partition('[')[0]}: is nested more than {_MAX_DEPTH} levels deep")
    return (*outer, id(value))


def _key(key: object, place: str) -> tuple[str, str]:
    """The text of a dict's key, and where it is."""
    if isinstance(key, enum.Enum):
        return _key(key.value, place)
    if isinstance(key, str):
        return key, f"{place}, key {_short_repr(key)}"
    if key is None or isinstance(key, (bool, int, float)):
        return _json(key, place, ()), place
    if not isinstance(key, (tuple, frozenset)):
        with contextlib.suppress(TypeError):
            simple = simpler(key)
            if simple is None or isinstance(simple, (str, int, float)):
                return _key(simple, place)
    wrong = f"a key must be a str, number, date or UUID, not {_type_name(key)}: {_short_repr(key)}"
    raise TypeError(f"{place}: {wrong}")


def _quoted(text: str, place: str) -> str:
    quoted: str = json.encoder.encode_basestring(text)
    if not text.isascii():
        _checked_text(text, place)
        quoted = quoted.translate(_UNSAFE)
    return quoted


def _checked_text(text: str, place: str) -> str:
    """`text`, if UTF-8 can express it."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        message = f"{place}: has a lone surrogate at position {error.start}, which UTF-8 cannot express"
        raise ValueError(message) from error
    return text


def _digits(number: int, place: str) -> str:
    try:
        return str(int(number))
    except ValueError as error:  # Python's limit on the length of such conversions.
        raise ValueError(f"{place}: an integer of {number.bit_length()} bits is too large") from error


def _float_text(number: float) -> str:
    """The shortest text that reads back as this number, in orjson's form; a NaN or an infinity is ``null``."""
    if not math.isfinite(number):
        return "null"
    digits, _, exponent = float.__repr__(number).partition("e")
    if not exponent:
        return digits
    if exponent == "-05":  # Python changes to an exponent one power of ten earlier.
        sign, digits = ("-", digits[1:]) if digits[0] == "-" else ("", digits)
        return f"{sign}0.0000{digits.replace('.', '')}"
    return f"{digits}e{int(exponent):+d}"


def _date_text(value: dt.date | dt.time | uuid.UUID) -> str | None:
    """RFC 3339, whose offsets are whole minutes; None for a time that is none, as pandas' NaT."""
    if isinstance(value, dt.datetime):
        return _datetime_text(value)
    if isinstance(value, dt.time):
        if value.tzinfo is not None:
            raise TypeError(f"a time with a time zone is not JSON: {_short_repr(value)}")
        return dt.time.isoformat(value)
    return str(value) if isinstance(value, uuid.UUID) else dt.date.isoformat(value)


def _datetime_text(value: dt.datetime) -> str | None:
    if value != value:  # noqa: PLR0124 - as a NaN does
        return None
    day = (value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond)
    text = dt.datetime(*day).isoformat()  # noqa: DTZ001 - the offset follows
    offset = value.utcoffset()
    if offset is None:  # Of a zone that does not know its offset orjson makes UTC.
        return text if value.tzinfo is None else f"{text}+00:00"
    minutes, seconds = divmod(int(abs(offset.total_seconds())), 60)
    hours, minutes = divmod(minutes, 60)
    sign = "-" if offset < dt.timedelta(0) else "+"
    return f"{text}{sign}{hours:02}:{minutes + (seconds >= 30):02}"  # noqa: PLR2004 - half a minute


def _type_name(value: object) -> str:
    return type(value).__qualname__


def _short_repr(value: object) -> str:
    """The value's repr, shortened; the type where the repr raises."""
    try:
        text = repr(value)
    except Exception:  # It is the user's code.
        return f"<{_type_name(value)}>"
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


# ---- Marked lines ----


def _write(written: bytes) -> None:
    stream = sys.stdout
    with _lock:
        binary = getattr(stream, "buffer", None)
        if binary is None:  # Replaced, as by contextlib.redirect_stdout(io.StringIO()).
            stream.write(written.decode("utf-8"))
            stream.flush()
            return
        stream.flush()  # So that earlier prints stay ahead of the event.
        rest = memoryview(written)
        while rest:
            # With PYTHONUNBUFFERED this is the descriptor itself, which may accept only a part.
            rest = rest[binary.write(rest) or 0 :]
        binary.flush()


def _renew_lock() -> None:
    # Another thread may have held the lock at the fork; in this process nothing would release it.
    global _lock  # noqa: PLW0603
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)
