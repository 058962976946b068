"""The module that a child process imports to publish events into the stream of its run.

Owns: the marked lines that the engine reads from a child's output.
Must not know: the engine. The module is pure Python and imports nothing of the package, so that it works in any
interpreter that finds this one file.
Invariants: an event is one write, after everything that was printed before it is flushed. A wrong argument raises
before anything is written.
Changes together with: `rust/sse-fast-core/src/lines/marked.rs`, which reads these lines.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import json
import os
import re
import sys
import threading
import uuid

__all__ = ["emit"]

_FIXED_MARKER = "SSE_EVENT:"
_LINE_ENDS = re.compile("\r\n|\r|\n")
_FORBIDDEN = re.compile("[\r\n\0]")

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
        data: a `str` is written as it is, split into lines at CR, LF and CRLF; everything else as compact JSON, with
            dataclasses, datetimes, enums, UUIDs and pydantic models included. None is JSON's ``null``.
        id: the event's own id; without it the engine counts.

    Raises:
        ValueError: `event` or `id` is empty or has a CR, LF or NUL, `data` has a NaN or an infinity, which JSON does
            not know, or a text holds a lone surrogate, which UTF-8 does not know.
        TypeError: an argument is of the wrong type, or `data` cannot be JSON.
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
    text = data if isinstance(data, str) else _json(data)
    lines.extend(f"data: {line}" for line in _LINE_ENDS.split(text))
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


def _json(data: object) -> str:
    return json.dumps(data, separators=(",", ":"), allow_nan=False, default=_json_default)


def _json_default(value: object) -> object:
    """A value that `json` does not know, in types that it knows."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, (dt.datetime, dt.date, dt.time)):
        return value.isoformat()
    if isinstance(value, uuid.UUID):
        return str(value)
    if hasattr(value, "model_dump"):  # pydantic
        return value.model_dump(mode="json")
    raise TypeError(f"data cannot be JSON: {type(value).__name__} in it")


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
