"""JSON of what orjson refuses: in a form that it takes, or by the slower encoder of `runner.py`; refusals as errors.

Owns: the mapping of refusals, and the words for an encoder of the application's own.
Must not know: how a value is encoded, which `runner.py` does for child processes as well; events.
Invariants: `encode` is called only after orjson has failed, `nearer` never for a dict or a list, so most values pay
nothing for either. Neither runs Python of the application's once the interpreter ends.
Changes together with: `rust/sse-fast-py/src/json.rs`, which calls every function here.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import uuid
from typing import TYPE_CHECKING, Any

from . import runner
from ._core import go_on_above_rust
from ._exceptions import EventError, EventTypeError, SseFastError

if TYPE_CHECKING:
    from ._settings import Encoder

#: What `runner.json_text` looks for first, and classes, which are no values.
_KNOWN = (str, int, float, enum.Enum, dt.date, dt.time, uuid.UUID, dict, list, tuple, set, frozenset, type)

runner.before_each = go_on_above_rust


def nearer(value: Any, field: str) -> object:  # noqa: ANN401 - of any type
    """A dataclass as the dict of its fields, a model of pydantic as what it dumps; None for every other value.

    orjson may take that after all, and is ten times as fast as `encode`.

    Raises:
        EventTypeError: the model's own code failed.
        ServerClosed: the interpreter ends.
    """
    if isinstance(value, _KNOWN):
        return None
    if dataclasses.is_dataclass(value):
        return {name: of_it for name, of_it in runner.fields_of(value) if not name.startswith("_")}
    if not hasattr(value, "model_dump"):
        return None
    try:
        return runner.simpler_at(value, field)
    except TypeError as error:
        raise EventTypeError(str(error)) from error


def encode(value: object, field: str) -> bytes:
    """`value` as compact JSON; `field` is the name of the argument.

    Raises:
        EventTypeError: a type in it has no JSON, or it contains itself; the text names the place.
        EventError: a text in it cannot be written as UTF-8, a number is too long to be written, or another thread
            changed it in the middle.
        ServerClosed: the interpreter ends.
    """
    try:
        return runner.json_text(value, field).encode()
    except TypeError as error:
        raise EventTypeError(str(error)) from error
    except ValueError as error:
        raise EventError(str(error)) from error
    except RecursionError:
        raise
    except RuntimeError as error:  # A dict's, that had another size, or a set's.
        if isinstance(error, SseFastError):
            raise
        raise EventError(f"{field}: was changed while it was encoded: {error}; publish a copy") from error


def encode_by(encoder: Encoder, value: object, field: str) -> str | bytes:
    """`value` as the application's own encoder writes it.

    Raises:
        EventTypeError: the encoder raised, or what it returned is neither str nor bytes.
    """
    try:
        encoded = encoder(value)
    except Exception as error:
        text = f"the encoder given as json= failed with {type(error).__name__}: {error}"
        raise EventTypeError(f"{field}: {text}") from error
    if not isinstance(encoded, (str, bytes)):
        returned = type(encoded).__name__
        raise EventTypeError(f"{field}: the encoder given as json= must return str or bytes, not {returned}")
    return encoded
