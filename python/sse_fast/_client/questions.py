"""What a client asks, and what an answer means.

Owns: requests and how they are repeated, the meaning of statuses, the words of errors.
Must not know: sockets, clocks; when a request is repeated, which `attempts` decides.
Invariants: every attempt of a request that publishes has the same bytes, and so the same key. An answer is a value, an
error for the caller, or a reason to come back; nothing else.
Changes together with: docs/reference/errors.md, and the engine's `publish_api/`.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from typing import Any

from sse_fast._exceptions import (
    AccessDenied,
    ArgumentTypeError,
    EventError,
    KeyReused,
    RequestError,
    SettingError,
    StreamEnded,
    TooManyStreams,
    UnknownStream,
    Unreachable,
)

from . import wire
from .address import Address

_MAX_KEY = 255  # Characters, as the engine has it.
_KEY = re.compile(r"[ -~]+")  # Printable ASCII.

#: Statuses that pass: timeouts, and what a server or a proxy before it says while it restarts.
_PASSING = {408, 425, 429, 502, 503, 504}
#: Words of the engine for an event that it does not take.
_OF_EVENTS = {"bad_event", "event_too_large"}
#: Words that say that a smaller request might be taken.
TOO_MUCH = {"too_many_events", "body_too_large"}
#: Words of a 503 that say that nothing of the request was done.
_NOT_BEGUN = {"busy", "closing", "too_many_connections", "too_many_streams", "keys_missing", "authorize_failed"}


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    def said(self) -> dict[str, Any]:
        """Its JSON object; empty where there is none."""
        try:
            said = json.loads(self.body)
        except ValueError:
            return {}
        return said if isinstance(said, dict) else {}

    def id(self) -> str:
        """The id of what was published."""
        found = self.said().get("id")
        if not isinstance(found, str):
            raise self._strange()
        return found

    def ids(self, count: int) -> list[str]:
        """The ids of so many events."""
        found = self.said().get("ids")
        if not isinstance(found, list) or len(found) != count:
            raise self._strange()
        return found

    def _strange(self) -> RequestError:
        text = f"the answer {self.status} is none of a server of sse_fast: {self.body[:80]!r}"
        error = failed(RequestError, text, self.status, "")
        error.published = None
        return error


@dataclass(frozen=True)
class Later:
    """The server said to come back: whether it may have carried the request out, and after how many seconds."""

    sent: bool
    asked: float
    why: str


@dataclass
class Question:
    """One request, in the bytes that every attempt has.

    `what` completes "cannot ..." in errors; `publishes` is whether it changes the stream, `many` whether a smaller
    request might be taken where this one is too large.
    """

    what: str
    raw: bytes = field(repr=False)
    publishes: bool
    many: bool = False

    def judged(self, answer: Answer) -> Answer | Later:
        """What to do with an answer: take it, or come back later.

        Raises:
            SseFastError: it is a refusal.
        """
        if 200 <= answer.status < 300:  # noqa: PLR2004 - the statuses of success
            return answer
        said = answer.said()
        error = said.get("error")
        error = error if isinstance(error, str) else ""
        why = f"{answer.status} {error}".strip()
        if answer.status == 409 and error == "in_progress":  # noqa: PLR2004 - an earlier attempt is under way
            return Later(sent=True, asked=0.0, why=why)
        if answer.status in _PASSING:
            return Later(sent=error not in _NOT_BEGUN, asked=_retry_after(answer.headers), why=why)
        detail = said.get("detail")
        raise self._refusal(answer.status, error, detail if isinstance(detail, str) else "")

    def _refusal(self, status: int, error: str, detail: str) -> Exception:
        text = f"cannot {self.what}: " + (detail or error or f"the server answered {status}")
        if status == 409 and error == "ended":  # noqa: PLR2004 - conflict
            return StreamEnded(text)
        if error == "key_reused":
            return KeyReused(text)
        if error == "bad_option":
            return SettingError(text)
        if error in _OF_EVENTS or (error in TOO_MUCH and not self.many):
            return EventError(text)
        return failed(_KINDS.get((status, error)) or _KINDS.get((status, "")) or RequestError, text, status, error)

    def given_up(self, why: str, published: bool | None) -> Exception:
        """The error after the last attempt; `why` is what came of it."""
        if "too_many_streams" in why:
            return TooManyStreams(f"cannot {self.what}: {why}")
        doubt = "; whether it was published is not known" if self.publishes and published is None else ""
        error = Unreachable(f"cannot {self.what}: {why}{doubt}")
        error.published = published if self.publishes else False
        return error


_KINDS: dict[tuple[int, str], type[RequestError]] = {
    (401, ""): AccessDenied,
    (403, ""): AccessDenied,
    (405, ""): AccessDenied,
    (404, ""): UnknownStream,
}


def failed(kind: type[RequestError], text: str, status: int | None, error: str) -> RequestError:
    """An error with what the server said."""
    raised = kind(text)
    raised.status, raised.error = status, error
    return raised


class Asking:
    """Makes the requests of one client.

    Args:
        address: the server.
        credential: what `Authorization` says; None sends none.
    """

    def __init__(self, address: Address, credential: str | None) -> None:
        """See the class."""
        self.address = address
        self._headers = {"User-Agent": "sse_fast"}
        if credential is not None:
            self._headers["Authorization"] = f"Bearer {credential}"

    def publish(self, name: str, body: bytes, key: str | None, *, many: bool = False, query: str = "") -> Question:
        """Publishes what the body holds, one event or `many` in a list, under that key or one of its own.

        The query has the stream's options.
        """
        own = os.urandom(16).hex() if key is None else key.replace("\\", "\\\\").replace('"', '\\"')
        headers = {"Content-Type": "application/json", "Idempotency-Key": f'"{own}"'}
        question = self._question(f"publish into {name!r}", "POST", name, headers, body, query)
        question.many = many
        return question

    def remove(self, name: str) -> Question:
        """Removes the stream."""
        return self._question(f"remove {name!r}", "DELETE", name, {}, None)

    def page(self, name: str, last_id: str | None) -> Question:
        """The stream once, as JSON, from that id on."""
        headers = {"Accept": "application/json", **_resume(last_id)}
        return self._question(f"read {name!r}", "GET", name, headers, None)

    def subscribe(self, name: str, last_id: str | None) -> Question:
        """The event stream, from that id on."""
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-cache", **_resume(last_id)}
        return self._question(f"read {name!r}", "GET", name, headers, None)

    def _question(  # noqa: PLR0913, PLR0917 - what there is to say of a request
        self, what: str, method: str, name: str, headers: dict[str, str], body: bytes | None, query: str = ""
    ) -> Question:
        target, authority = self.address.target(name) + query, self.address.authority
        raw = wire.request(method, target, authority, {**self._headers, **headers}, body)
        return Question(f"{what} at {self.address.url}", raw, publishes=method != "GET")


def credential_of(key: object, token: object) -> str | None:
    """The credential of a client.

    Raises:
        ArgumentTypeError: one is no str.
        SettingError: both are given, or one cannot stand in a header; the text shows neither.
    """
    if key is not None and token is not None:
        raise SettingError("key and token are both given: one of them is sent")
    name, given = ("key", key) if token is None else ("token", token)
    if given is None:
        return None
    if not isinstance(given, str):
        raise ArgumentTypeError(f"{name} must be a str, not {type(given).__name__}")
    if not re.fullmatch(r"[!-~]+", given):
        raise SettingError(f"{name} is not allowed: it must be printable ASCII without spaces, and not empty")
    return given


def checked_key(key: object) -> str | None:
    """An idempotency key of the caller's own.

    Raises:
        ArgumentTypeError: it is no str.
        SettingError: it cannot be one.
    """
    if key is None:
        return None
    if not isinstance(key, str):
        raise ArgumentTypeError(f"idempotency_key={key!r} is not allowed: it must be a str")
    if len(key) > _MAX_KEY or not _KEY.fullmatch(key):
        allowed = f"1 to {_MAX_KEY} printable ASCII characters"
        raise SettingError(f"idempotency_key={key[:_MAX_KEY]!r} is not allowed: it must be {allowed}")
    return key


def key_of_part(key: str, start: int) -> str:
    """The key of the request with the events from number `start` on, where `key` is that of all."""
    if start == 0:
        return key
    from hashlib import sha256  # noqa: PLC0415 - only for a list of several requests

    return f"{sha256(key.encode()).hexdigest()}:{start}"


def _resume(last_id: str | None) -> dict[str, str]:
    # As UTF-8, which the engine reads; a head is written as Latin-1, which keeps every byte as it is.
    return {} if last_id is None else {"Last-Event-ID": last_id.encode().decode("latin-1")}


def _retry_after(headers: dict[str, str]) -> float:
    text = headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() else 0.0
