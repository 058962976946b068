"""An event's fields as the text and the JSON that a request carries, checked as `Stream.publish` checks them.

Owns: data as text, the checks of names, ids and times, the words of refusals.
Must not know: requests, how many events go into one.
Invariants: the text is, byte for byte, what `Stream.publish` makes of the same value: a server is sent text, and
encodes nothing itself. What is refused here was not sent.
Changes together with: `rust/sse-fast-py/src/json.rs` and `_encode.py`, which are the same for the engine.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sse_fast._event import Event
from sse_fast._exceptions import EventError, EventTypeError

_FORBIDDEN = re.compile("[\r\n\0]")
_NAMES = {"\r": "CR", "\n": "LF", "\0": "NUL"}
_UNSAFE = {0x85: "\\u0085", 0x2028: "\\u2028", 0x2029: "\\u2029"}
_ANY_UNSAFE = re.compile("[\x85\u2028\u2029]")
#: A time that orjson may have written wrong, as it does from 3.11.8 to 3.13.0: a fraction of five digits.
_FIVE_DIGITS = re.compile(rb'"\d\d:\d\d:\d\d\.\d{5}"')
_MAX_ID = 1024  # Bytes, as the engine has it.
_MAX_RETRY = 3600.0  # Seconds: who gives more means milliseconds.
_ENCODER = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":"))
_FIELDS = ("data", "event", "id", "retry", "snapshot")

_Dumps = Callable[..., bytes]
_orjson: tuple[_Dumps, int, int] | bool | None = False  # Not looked for yet.


def text_of(data: object, field: str) -> str:
    """Data as text: str and UTF-8 as they are, everything else as compact JSON.

    Raises:
        EventTypeError: it has no JSON; the text names the place.
        EventError: it has no UTF-8.
    """
    if isinstance(data, str):
        return _utf8(field, data)
    if isinstance(data, (bytes, bytearray, memoryview)):
        try:
            return bytes(data).decode("utf-8")
        except UnicodeDecodeError as error:
            raise EventError(f"{field} must be UTF-8: invalid byte at position {error.start}") from None
    return _json_of(data, field)


def fields_of(  # noqa: PLR0913 - an event's fields
    data: object, event: object, id_: object, retry: object, snapshot: object, *, end: bool = False
) -> str:
    """One event as a JSON object. None of `data` is JSON's ``null``; of the others that it is not given."""
    given = {"data": text_of(data, "data")}
    if event:  # An empty name is none.
        given["event"] = _checked("event", event)
    if id_ is not None:
        given["id"] = _checked("id", id_)
        if not id_:
            raise EventError("id must not be empty: position 0; leave it out to have one made")
        if (length := len(given["id"].encode())) > _MAX_ID:
            raise EventError(f"id is {length} bytes long: at most {_MAX_ID} are allowed, position {_MAX_ID} is beyond")
    if snapshot is not None:
        given["snapshot"] = text_of(snapshot, "snapshot")
    more = "" if retry is None else f',"retry":{_seconds(retry)!r}'
    return _object(given)[:-1] + more + (',"end":true}' if end else "}")


def snapshot_of(data: object, event: object) -> str:
    """A snapshot without an event, as a JSON object."""
    given = {"snapshot": text_of(data, "snapshot")}
    if event:
        given["event"] = _checked("event", event)
    return _object(given)


def items_of(events: object) -> list[bytes]:
    """The events of a `publish_many`, each as a JSON object."""
    if isinstance(events, (str, dict)) or not isinstance(events, Iterable):
        raise EventTypeError(f"events: must be an iterable of events, not {type(events).__name__}")
    return [_item_at(item, number).encode() for number, item in enumerate(events)]


def checked_id(last_event_id: object) -> str:
    """The id after which a reader is to begin."""
    if isinstance(last_event_id, str) and not last_event_id:
        raise EventError("last_event_id must not be empty: None begins as a new reader")
    return _checked("last_event_id", last_event_id)


def _item_at(item: object, number: int) -> str:
    """An event as a JSON object; a refusal names its number."""
    try:
        return _item(item)
    except EventTypeError as error:
        raise EventTypeError(f"events[{number}]: {error}") from error.__cause__
    except EventError as error:
        raise EventError(f"events[{number}]: {error}") from error.__cause__


def _item(item: object) -> str:
    if isinstance(item, tuple):
        if len(item) != 2:  # noqa: PLR2004 - a pair
            raise EventTypeError(f"item: a tuple is (data, event), not {len(item)} items")
        return fields_of(item[0], item[1], None, None, None)
    if isinstance(item, Event):
        return fields_of(item.data, None if item.event == "message" else item.event, item.id, item.retry, None)
    if not isinstance(item, Mapping):
        kind = type(item).__name__
        raise EventTypeError(f"item: must be an Event, a (data, event) tuple or a mapping, not {kind}")
    if "data" not in item:
        raise EventTypeError("item: a mapping needs the key 'data'")
    for name in item:
        if name not in _FIELDS:
            raise EventTypeError(f'item: a mapping may have {", ".join(_FIELDS)}, not "{name}"')
    return fields_of(*(item.get(name) for name in _FIELDS))


def _object(fields: Mapping[str, str]) -> str:
    """JSON of texts; as UTF-8 it is what the server reads."""
    return _ENCODER.encode(fields)


def _checked(field: str, value: object) -> str:
    if not isinstance(value, str):
        raise EventTypeError(f"{field}: must be str or None, not {type(value).__name__}")
    _utf8(field, value)
    found = _FORBIDDEN.search(value)
    if found:
        raise EventError(f"{field} must not contain {_NAMES[found[0]]}: found at position {found.start()}")
    return value


def _utf8(field: str, text: str) -> str:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            wrong = f"{field}: has a lone surrogate at position {error.start}, which UTF-8 cannot express"
            raise EventError(wrong) from None
    return text


def _seconds(retry: object) -> float:
    if isinstance(retry, bool) or not isinstance(retry, (int, float)):
        raise EventTypeError(f"retry: must be seconds as a number or None, not {type(retry).__name__}")
    if not retry >= 0:  # Also NaN.
        raise EventError(f"retry: {retry} is not a number of seconds from 0 up")
    if retry > _MAX_RETRY:
        raise EventError(f"retry: {retry} is above {_MAX_RETRY:g}: it is in seconds, not milliseconds")
    return float(retry)


def _json_of(value: object, field: str) -> str:
    """Compact JSON: by orjson where it is installed and takes the value, else by the encoder that needs nothing."""
    try:
        encoded = _quickly(value)
        text = _slowly(value, field) if encoded is None else encoded.decode()
    except RecursionError:
        raise
    except TypeError as error:
        raise EventTypeError(str(error)) from error
    except ValueError as error:
        raise EventError(str(error)) from error
    except RuntimeError as error:  # A dict's, that had another size, or a set's.
        raise EventError(f"{field}: was changed while it was encoded: {error}; publish a copy") from error
    return text.translate(_UNSAFE) if not text.isascii() and _ANY_UNSAFE.search(text) else text


def _quickly(value: object) -> bytes | None:
    """What orjson makes of a dict or a list; None where the other encoder is to do it."""
    global _orjson  # noqa: PLW0603 - imported when the first value is encoded
    if type(value) not in {dict, list}:
        return None
    if _orjson is False:
        try:
            import orjson  # noqa: PLC0415 - not at the import of the client
        except ImportError:
            _orjson = None
        else:
            _orjson = (orjson.dumps, orjson.OPT_PASSTHROUGH_DATACLASS, orjson.OPT_NON_STR_KEYS)
    if not isinstance(_orjson, tuple):
        return None
    dumps, options, for_keys = _orjson
    encoded = _dumped(dumps, value, options)
    if encoded is None:
        encoded = _dumped(dumps, value, options | for_keys)
    return None if encoded is not None and b"." in encoded and _FIVE_DIGITS.search(encoded) else encoded


def _slowly(value: object, field: str) -> str:
    """What the encoder in Python makes of any value, for which it imports much of the standard library."""
    from sse_fast import runner  # noqa: PLC0415 - not at the import of the client

    return runner.json_text(value, field)


def _dumped(dumps: _Dumps, value: Any, options: int) -> bytes | None:  # noqa: ANN401 - of any type
    try:
        return dumps(value, None, options)
    except TypeError:
        return None
