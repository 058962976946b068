"""Who may read, as a program says it: `Grant`, `Key` and `Tokens`.

Owns: these values and their checks. Must not know: requests, how tokens are verified (the engine does), how keys are
fetched (`_jwks`).
Invariants: what was made can be used; no secret is in a text. Nothing here belongs to one server: a `Tokens` may serve
several, and a process that is forked later.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from ._core import TokenKey, json_dumps
from ._exceptions import SettingError
from ._request import Request
from ._settings import checked_seconds, wrong_type

if TYPE_CHECKING:
    from ._core import KeySource

#: What decides who may read: called with the request and the names of the streams that it asks for, all at once.
Authorize = Callable[[Request, tuple[str, ...]], object]

#: The algorithms of tokens.
Algorithm = Literal["HS256", "RS256", "ES256", "EdDSA"]

_MAX_KEYS = 16  # A token that names none is tried with each of its algorithm.
_MAX_LEEWAY = 3600.0  # Seconds; clocks that differ by more are wrong.
_LOOPBACK = re.compile(r"(?:localhost|[\w.-]+\.localhost|127(?:\.\d{1,3}){3}|::1)", re.ASCII | re.IGNORECASE)


class Grant:
    """What ``authorize`` returns for a request that may read, where there is more to say than True or a name.

    Args:
        reader: who reads, as `Server.disconnect`, `Stream.readers` and `Server.on_join` know it; None is anonymous.
        ttl: seconds after which the right ends: the reader is told so by an ``auth`` event, and its connection ends.
            None is as long as the connection.

    Raises:
        ArgumentTypeError: an argument has a type that it cannot have.
        SettingError: `reader` is empty, or `ttl` is not allowed.

    >>> Grant("ann", ttl=3600.0)
    Grant(reader='ann', ttl=3600.0)
    """

    __slots__ = ("reader", "ttl")

    reader: str | None
    ttl: float | None

    def __init__(self, reader: str | None = None, *, ttl: float | None = None) -> None:
        """Checks the arguments."""
        self.reader = None if reader is None else checked_reader(reader)
        self.ttl = None if ttl is None else checked_seconds("ttl", ttl, low=0.001)

    def __repr__(self) -> str:
        """Its arguments."""
        return f"Grant(reader={self.reader!r}, ttl={self.ttl!r})"


class Key:
    """A key that tokens are verified with; of one algorithm, whatever a token says.

    Args:
        algorithm: ``"HS256"``, ``"RS256"``, ``"ES256"`` or ``"EdDSA"`` (Ed25519).
        key: for HS256 the secret, 32 bytes or more, as bytes or a str (its UTF-8), or a JWK of ``kty`` ``oct`` as a
            mapping, whose ``k`` is the secret. What is a public key in any form is refused there: PEM, DER, JWK, SSH.
            For the others the public key: a PEM, or a JWK as a mapping.
        id: what selects it: a token whose head has this ``kid``. None serves tokens of any ``kid`` that is no other
            key's; a JWK brings its own.

    Raises:
        SettingError: the key cannot be used; the text says why, and nothing of the key.
        ArgumentTypeError: an argument has a type that it cannot have.

    >>> Key("HS256", "a secret that is long enough to be one", id="2026-11")
    Key('HS256', id='2026-11')
    """

    __slots__ = ("_key", "algorithm", "id")

    algorithm: str
    id: str | None

    def __init__(self, algorithm: Algorithm, key: bytes | str | Mapping[str, Any], id: str | None = None) -> None:  # noqa: A002 - the word of JWKs
        """Has the engine read the key."""
        if not isinstance(algorithm, str):
            raise wrong_type("algorithm", algorithm, "the name of an algorithm, such as HS256")
        if id is not None and not isinstance(id, str):
            raise wrong_type("id", id, "a str, or None")
        self.algorithm = algorithm
        self.id = id
        if isinstance(key, Mapping):
            kid = key.get("kid")
            self.id = id if id is not None or not isinstance(kid, str) else kid
            self._key = TokenKey.from_jwk(algorithm, json_dumps(dict(key)).decode(), self.id)
            return
        if not isinstance(key, (bytes, str)):
            # What was given may be a secret.
            allowed = "a secret as bytes or str, a PEM, or a JWK as a mapping"
            raise wrong_type("key", type(key), allowed)
        self._key = TokenKey(algorithm, key.encode() if isinstance(key, str) else key, self.id)

    def __repr__(self) -> str:
        """Algorithm and id; nothing of the key."""
        return f"Key({self.algorithm!r}, id={self.id!r})"


class Tokens:
    """The JSON Web Tokens that a server takes, given as ``serve(tokens=...)``; exactly one of `keys` and `jwks`.

    A token comes as ``Authorization: Bearer``, or in the setting ``cookie``. Its claim ``"sse": {"subscribe": [...]}``
    names the streams that it lets read, as names or patterns: ``*`` is one whole segment, a trailing ``/**`` everything
    below; ``{"publish": [...]}`` likewise those that it lets publish into over HTTP, as Bearer alone. ``sub`` is the
    reader; ``exp`` is required, and the connection ends then. The engine verifies tokens without Python.

    Args:
        keys: what tokens are verified with, up to 16.
        jwks: the URL of a key set, ``https`` or of this machine. It is fetched on a thread of the server's own at its
            start, once an hour, and for a token whose ``kid`` is not in it, at most once in 30 seconds; redirects are
            not followed, 64 KiB are read, symmetric keys ignored. Where it cannot be fetched the old keys stay. A token
            whose key cannot be asked for yet is told to come back (503, or ``retry`` to an ``EventSource``), not 401.
        issuer: what ``iss`` must be; None takes any.
        audience: what ``aud`` must be or hold; None takes any.
        leeway: seconds by which the clock of who makes tokens may differ. `Server.disconnect` refuses a reader's tokens
            for so long beyond its time.

    Raises:
        SettingError: a value is not allowed, or both or neither of `keys` and `jwks` are given.
        ArgumentTypeError: an argument has a type that it cannot have.

    >>> Tokens(keys=[Key("HS256", b"0123456789abcdef0123456789abcdef")], audience="events")
    Tokens(keys=[Key('HS256', id=None)], issuer=None, audience='events', leeway=0.0)
    """

    __slots__ = ("audience", "issuer", "jwks", "keys", "leeway")

    keys: tuple[Key, ...]
    jwks: str | None
    issuer: str | None
    audience: str | None
    leeway: float

    def __init__(
        self,
        *,
        keys: Iterable[Key] | None = None,
        jwks: str | None = None,
        issuer: str | None = None,
        audience: str | None = None,
        leeway: float = 0.0,
    ) -> None:
        """Checks the arguments."""
        if (keys is None) == (jwks is None):
            raise SettingError("tokens need exactly one of keys and jwks")
        self.keys = () if keys is None else _checked_keys(keys)
        self.jwks = None if jwks is None else _checked_url(jwks)
        self.issuer = _checked_text("issuer", issuer)
        self.audience = _checked_text("audience", audience)
        self.leeway = checked_seconds("leeway", leeway, high=_MAX_LEEWAY)

    def __repr__(self) -> str:
        """Its arguments; nothing of a key."""
        source = f"keys={list(self.keys)!r}" if self.jwks is None else f"jwks={self.jwks!r}"
        return f"Tokens({source}, issuer={self.issuer!r}, audience={self.audience!r}, leeway={self.leeway!r})"


def rules_of(tokens: Tokens | None, source: KeySource | None) -> dict[str, Any] | None:
    """What the engine is told of tokens; `source` brings their keys where these are fetched."""
    if tokens is None:
        return None
    return {
        "source": source,
        "keys": [key._key for key in tokens.keys],  # noqa: SLF001 - the same file
        "issuer": tokens.issuer,
        "audience": tokens.audience,
        "leeway": tokens.leeway,
    }


def checked_reader(reader: object) -> str:
    """A reader's name."""
    if not isinstance(reader, str):
        raise wrong_type("reader", reader, "a str that is not empty")
    if not reader:
        raise SettingError("reader='' is not allowed: a reader's name is not empty; None is anonymous")
    return reader


def checked_patterns(subscribe: object) -> list[str]:
    """Names and patterns of streams; the engine checks what each may be."""
    allowed = 'a sequence of names and patterns of streams, such as ["runs/42", "users/7/*"]'
    if isinstance(subscribe, (str, bytes)) or not isinstance(subscribe, Iterable):
        raise wrong_type("subscribe", subscribe, allowed)
    patterns = list(subscribe)
    if not all(isinstance(pattern, str) for pattern in patterns):
        raise wrong_type("subscribe", subscribe, allowed)
    if not patterns:
        raise SettingError("subscribe=[] is not allowed: a ticket for nothing lets nobody read")
    return patterns


def _checked_keys(keys: object) -> tuple[Key, ...]:
    allowed = 'a sequence of keys, such as [Key("HS256", secret)]'
    if isinstance(keys, (str, bytes, Mapping)) or not isinstance(keys, Iterable):
        raise wrong_type("keys", type(keys), allowed)
    given = tuple(keys)
    if not all(isinstance(key, Key) for key in given):
        raise wrong_type("keys", [type(key) for key in given], allowed)
    if not 1 <= len(given) <= _MAX_KEYS:
        raise SettingError(f"keys has {len(given)} keys: 1 to {_MAX_KEYS} are allowed")
    ids = [key.id for key in given if key.id is not None]
    if len(ids) != len(set(ids)):
        raise SettingError("keys has two keys of one id, which selects one")
    return given


def _checked_url(jwks: object) -> str:
    allowed = "an https:// URL, or an http:// URL of this machine"
    if not isinstance(jwks, str):
        raise wrong_type("jwks", jwks, allowed)
    try:
        parts = urlsplit(jwks)
        host, _port = parts.hostname or "", parts.port
    except ValueError:
        host, parts = "", urlsplit("")
    is_local = parts.scheme == "http" and _LOOPBACK.fullmatch(host) is not None
    is_clean = parts.username is None and not re.search(r"[\x00-\x20\x7f]", jwks) and jwks.isascii()
    if not host or not is_clean or not (parts.scheme == "https" or is_local):
        raise SettingError(f"jwks={jwks!r} is not allowed: it must be {allowed}, without a user or a password")
    return jwks


def _checked_text(name: str, value: object) -> str | None:
    if value is None or (isinstance(value, str) and value):
        return value
    raise wrong_type(name, value, "a str that is not empty, or None")
