"""The one table of settings: names, types, defaults, units, help.

Owns: the keywords of `serve`, the environment variables ``SSE_FAST_<NAME>``, the stream options, their validation and
the tables in the documentation. All come from `SETTINGS`; nothing else in the package knows a default.
Must not know: the engine.
Invariants: a keyword overrides the environment, and the environment the default. Values that leave this file are
complete, typed and in range; the engine checks only what one option requires of another (``max_lag`` and ``history``).
This file is long because the table has a row for every setting.
Changes together with: `rust/sse-fast-py/src/options.rs` (the same names as the engine's fields) and the two TypedDicts
at the end, which tell type checkers the same.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, cast

from ._exceptions import ArgumentTypeError, SettingError

_DURATION = re.compile(r"(\d+(?:\.\d+)?|\.\d+)\s*(ms|s|m|h)?")
_SECONDS = {"ms": 0.001, None: 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
_YEAR = 366 * 24 * 3600.0  # A greater number was probably meant in milliseconds.
_HOUR = 3600.0  # The longest `retry`: who gives more means milliseconds, as other libraries take them.
_SIZE = re.compile(r"(\d+)\s*(B|KiB|MiB|GiB)?")
_BYTES = {None: 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_SECRET = 32  # Bytes: as many as what is signed with it is worth.
_MOST_KEYS = 16  # What is brought is compared with each of them.
_NO_LINE = {"\r": "CR", "\n": "LF", "\0": "NUL"}
_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # A name in HTTP (RFC 9110, 5.6.2).
_BOOLEANS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


@dataclass(frozen=True)
class Kind:
    """A kind of value: the words for what is allowed, how it is read from text, how it is checked.

    `parse` and `check` raise ValueError or TypeError for a value that is not allowed; `_accept` words the refusal.
    """

    allowed: str
    parse: Callable[[str], object]
    check: Callable[[object], object]

    def or_none(self) -> Kind:
        """The same kind, or None (``none`` or ``off`` in the environment)."""
        return Kind(
            f"{self.allowed}, or None (in the environment also none or off)",
            lambda text: None if text.strip().lower() in {"none", "off"} else self.parse(text),
            lambda value: None if value is None else self.check(value),
        )


def _parse_seconds(text: str) -> float:
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError
    return float(match[1]) * _SECONDS[match[2]]


def _parse_size(text: str) -> int:
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError
    return int(match[1]) * _BYTES[match[2]]


def _integer(low: int, high: int | None = None) -> Kind:
    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError
        if value < low or (high is not None and value > high):
            raise ValueError
        return value

    allowed = f"a whole number from {low} up" if high is None else f"a whole number from {low} to {high}"
    return Kind(allowed, int, check)


def _size(low: int) -> Kind:
    whole = _integer(low, 1 << 62)
    return Kind(f"a size in bytes from {low} up (in the environment also 64KiB, 1MiB)", _parse_size, whole.check)


def _seconds(low: float, high: float = _YEAR, longest: str = "a year") -> Kind:
    def check(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError
        if not low <= value <= high:  # Also false for NaN.
            raise ValueError
        return float(value)

    allowed = f"seconds from {low:g} to {longest} (in the environment also 500ms, 15s, 2m, 1h)"
    return Kind(allowed, _parse_seconds, check)


def _choice(*words: str) -> Kind:
    def check(value: object) -> str:
        if value not in words:
            raise ValueError
        return str(value)

    return Kind("one of " + ", ".join(f'"{word}"' for word in words), str.strip, check)


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _name(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    if not value:
        raise ValueError
    return value


def _folder(value: object) -> str:
    path = os.fspath(cast("str | os.PathLike[str]", value))
    return os.path.abspath(_name(path))  # noqa: PTH100 - no link is followed, and the folder may not be there yet


def _secret(value: object) -> bytes:
    if not isinstance(value, (str, bytes)):
        raise TypeError
    secret = value.encode() if isinstance(value, str) else value
    if len(secret) < _SECRET:
        raise ValueError
    return secret


def _cookie(value: object) -> str:
    name = _name(value)
    if not re.fullmatch(_WORD, name, re.ASCII):
        raise ValueError
    return name


def _names(value: object) -> list[str]:
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise TypeError
    return [_name(name) for name in value]


def _each(pattern: str) -> Callable[[object], list[str]]:
    def check(value: object) -> list[str]:
        names = _names(value)
        if not all(re.fullmatch(pattern, name, re.ASCII | re.IGNORECASE) for name in names):
            raise ValueError
        return names

    return check


def _networks(value: object) -> list[str]:
    names = _names(value)
    if names:
        from ipaddress import ip_network  # noqa: PLC0415 - only where there are any

        return [str(ip_network(name)) for name in names]
    return names


def _parse_list(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


# The forms in which browsers and clients send hosts and origins; a value in another form would never match a request.
# Kept as text: most programs set neither, and compiling the patterns would double the time of importing this file.
_HOST = r"(?:[\w-]+(?:\.[\w-]+)*\.?|\[[0-9A-Fa-f:.]+\])"
#: The subdomains of a name, which is none of the Internet's own such as "com".
_ANY_OF = r"\*\.(?=[\w-]+\.[\w-])"
_HOSTS = rf"\*|(?:{_ANY_OF})?{_HOST}"
_ORIGINS = (
    rf"\*|(?!https://{_HOST}:443/?$)(?!http://{_HOST}:80/?$)"
    rf"[a-z][a-z0-9+.-]*://(?:{_ANY_OF})?{_HOST}(?::\d{{1,5}})?/?"
)


class _ForAReasonError(ValueError):
    """A value that is refused for a reason of its own, which is the text."""


def _origins(value: object) -> list[str]:
    origins = _names(value)
    if any(origin.lower() == "null" for origin in origins):
        raise _ForAReasonError(
            'the origin "null" is no page\'s own: every sandboxed frame has it, and pages opened from a file, so that '
            'whoever can frame a page of theirs would read and change, with credentials. "*" allows every origin, '
            "without credentials"
        )
    return _each(_ORIGINS)(origins)


def _one_line(name: str) -> Kind:
    """A text of the setting of that name, which readers get in a line."""

    def check(value: object) -> str:
        text = _name(value)
        for at, character in enumerate(text):
            if character in _NO_LINE:
                raise _ForAReasonError(f"{name} must not contain {_NO_LINE[character]}: found at position {at}")
            if "\ud800" <= character <= "\udfff":
                raise _ForAReasonError(f"{name} has a lone surrogate at position {at}, which UTF-8 cannot carry")
        return text

    return Kind("a str that is not empty", str.strip, check)


NAME = Kind("a str that is not empty", str.strip, _name)
HOSTS = Kind(
    'a sequence of host names such as "app.example", "*.app.example", "10.0.0.5", "[2001:db8::1]" or "*": no scheme, '
    "port or path (in the environment separated by commas)",
    _parse_list,
    _each(_HOSTS),
)
ORIGINS = Kind(
    'a sequence of origins such as "https://app.example", "https://*.app.example" or "*": a scheme, no path, '
    "and a port only where it is not the scheme's own (in the environment separated by commas)",
    _parse_list,
    _origins,
)
NETWORKS = Kind(
    'a sequence of addresses and networks such as "127.0.0.1", "10.0.0.0/8" or "2001:db8::/32", without bits beyond '
    "the prefix (in the environment separated by commas)",
    _parse_list,
    _networks,
)
HEADERS = Kind(
    'a sequence of names of headers such as "X-Trace" (in the environment separated by commas)',
    _parse_list,
    _each(_WORD),
)


def _path(value: object) -> str:
    path = _name(value)
    if not re.fullmatch(r"/[!$&'()*+,;=:@~\w./-]*", path, re.ASCII):
        raise ValueError
    return path


def _key(value: object) -> str:
    key = _name(value)
    if not re.fullmatch(r"[!-~]{16,}", key):
        raise ValueError
    return key


def _publish_keys(value: object) -> list[str]:
    keys = [value] if isinstance(value, str) else _names(value)
    # No comma: it separates several in the environment.
    if not all(re.fullmatch(rf"[!-+\--~]{{{_SECRET},}}", key) for key in keys) or len(keys) > _MOST_KEYS:
        raise ValueError
    return keys


def _metrics(value: object) -> bool | tuple[str, int]:
    if isinstance(value, bool):
        return value
    match = re.fullmatch(rf"({_HOST}):(\d{{1,5}})", _name(value), re.ASCII)
    if match is None or int(match[2]) > 65535:  # noqa: PLR2004 - the last port
        raise ValueError
    return match[1].strip("[]"), int(match[2])


def _parse_metrics(text: str) -> object:
    return _BOOLEANS.get(text.strip().lower(), text.strip())


def _backplane(value: object) -> str:
    url = _name(value)
    if not re.match(r"rediss?(?:\+sentinel)?://[^/]", url, re.IGNORECASE):
        raise ValueError
    return url


def _prefix(value: object) -> str:
    prefix = _name(value)
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", prefix):
        raise ValueError
    return prefix


BACKPLANE = Kind(
    'a URL such as "redis://127.0.0.1:6379/0", "rediss://user:password@host" or '
    '"redis+sentinel://host:26379,other:26379/name/0"',
    str.strip,
    _backplane,
)
PREFIX = Kind("1 to 64 of the characters A-Z a-z 0-9 _ . -", str.strip, _prefix)
PATH = Kind('a path such as "/healthz", without escapes', str.strip, _path)
KEY = Kind("a str of 16 or more printable ASCII characters without spaces", str.strip, _key)
PUBLISH_KEYS = Kind(
    f"a str of {_SECRET} or more printable ASCII characters without spaces and commas, or a sequence of up to "
    f"{_MOST_KEYS} (in the environment separated by commas)",
    _parse_list,
    _publish_keys,
)
METRICS = Kind(
    'True, False, or an address such as "127.0.0.1:9090" (in the environment also 1 or 0)', _parse_metrics, _metrics
)
FOLDER = Kind("the path of a folder", str.strip, _folder)
SECRET = Kind(f"{_SECRET} bytes or more, as bytes or a str", lambda text: text, _secret)
COOKIE = Kind("the name of a cookie", str.strip, _cookie)
BOOLEAN = Kind("True or False (in the environment 1 or 0)", lambda text: _BOOLEANS[text.strip().lower()], _boolean)


@dataclass(frozen=True)
class Setting:
    """One row of the table; `stream` is true for settings that are also options of single streams.

    The value of one that is `secret` is in no text.
    """

    name: str
    kind: Kind
    default: object
    unit: str
    help: str
    stream: bool = False
    secret: bool = False  # Whether its value is shown nowhere.

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return f"SSE_FAST_{self.name.upper()}"


SETTINGS: tuple[Setting, ...] = (
    Setting("port", _integer(0, 65535), 8080, "", "Where to listen; 0 picks a free port."),
    Setting("host", NAME, "127.0.0.1", "", "The address to listen on; `0.0.0.0` for all of IPv4."),
    Setting(
        "allowed_hosts", HOSTS, (), "", "Names accepted in `Host` besides loopback's; on other addresses none is any."
    ),
    Setting(
        "cors",
        ORIGINS,
        (),
        "",
        "Origins whose pages may read and change, with credentials; `https://*.app.example` is every subdomain, `*` is "
        "every origin, without credentials. None means no CORS header at all. `null`, the origin of every sandboxed "
        "page, is refused.",
    ),
    Setting("cors_headers", HEADERS, (), "", "Headers that these pages may send besides the usual ones."),
    Setting(
        "trusted_proxies",
        NETWORKS,
        (),
        "",
        "Proxies whose headers say who a request is from, as addresses or networks; of others nothing is read.",
    ),
    Setting(
        "forwarded",
        _choice("x", "rfc7239"),
        "x",
        "",
        "Which headers they say it by: `X-Forwarded-For`, `-Host` and `-Proto`, or `Forwarded`; others are never read.",
    ),
    Setting(
        "store",
        FOLDER.or_none(),
        None,
        "",
        "A folder in which streams are kept across restarts; it is made where there is none. One server at a time.",
    ),
    Setting(
        "durable",
        _choice("process", "disk"),
        "process",
        "",
        'What a published event there outlives: `"process"`, a kill of this process; `"disk"`, a power cut, and it is '
        "delivered and returned only then.",
    ),
    Setting("max_connections", _integer(1).or_none(), None, "", "Open connections; None: from the open-files limit."),
    Setting(
        "max_connections_per_address",
        _integer(1).or_none(),
        None,
        "",
        "Of these, how many one client's address may have; IPv6 counts by its first 64 bits. None: no limit of its "
        "own. Behind a proxy that is not among `trusted_proxies` all clients have one address.",
    ),
    Setting("max_streams", _integer(1, 1 << 32), 1_000_000, "", "How many streams there may be; beyond it an error."),
    Setting(
        "max_created_streams",
        _integer(1, 1 << 32),
        16_384,
        "",
        "How many of them requests may have made, by routes with `create`; then the oldest that nobody uses goes.",
    ),
    Setting(
        "max_event_bytes",
        Kind(
            "a size in bytes from 1024 to 64 MiB (in the environment also 64KiB, 1MiB)",
            _parse_size,
            _integer(1 << 10, 1 << 26).check,
        ),
        1 << 20,
        "bytes",
        "The largest event, its name and data together; a client in use stops reading beyond 1 MiB.",
    ),
    Setting(
        "max_head_bytes", _size(8192), 1 << 14, "bytes", "The longest head of a request; it may also have 100 headers."
    ),
    Setting("max_body_bytes", _size(0), 1 << 20, "bytes", "The largest request body a handler is given."),
    Setting(
        "header_timeout",
        _seconds(0.001),
        10.0,
        "s",
        "How long a request's head may take to arrive; a body has that and a second for each 64 KiB that it may have.",
    ),
    Setting("wait", _seconds(0.0), 0.0, "s", "How long a request for an unknown stream at `/streams/` waits for it."),
    Setting(
        "settle",
        _seconds(0.0),
        60.0,
        "s",
        "How long after its start an EventSource that asks for what is unknown is told to come back, not 404.",
    ),
    Setting("stall_timeout", _seconds(0.001), 30.0, "s", "How long a reader may take nothing."),
    Setting(
        "publish_wait",
        _seconds(0.0).or_none(),
        2.0,
        "s",
        "How long publishers of a stream wait for full sockets in a minute; None: without limit, nothing is skipped.",
    ),
    Setting("drain", _seconds(0.0), 5.0, "s", "How long closing may take: the end of `with`, and `close` by default."),
    Setting("shards", _integer(1, 1024).or_none(), None, "", "Threads that write to subscribers; None: one per core."),
    Setting("chunked", BOOLEAN, True, "", "Chunked responses; False delimits them by closing the connection."),
    Setting(
        "reuse_port",
        BOOLEAN,
        False,
        "",
        "Lets several processes listen on the port together (SO_REUSEPORT). Each has streams of its own, and a reader "
        "reaches one of them by chance.",
    ),
    Setting(
        "lame_duck", _seconds(0.0), 0.0, "s", "After a signal: how long the port stays open while `/readyz` says 503."
    ),
    Setting(
        "health",
        PATH.or_none(),
        "/healthz",
        "",
        "Where the server says whether every thread of its engine answers; None: nowhere.",
    ),
    Setting("ready", PATH.or_none(), "/readyz", "", "Where it says whether it is to be sent requests; None: nowhere."),
    Setting(
        "metrics",
        METRICS,
        False,
        "",
        "Numbers for Prometheus at `/metrics`: `True` on the port, for this machine and who has `metrics_key`; an "
        'address such as `"127.0.0.1:9090"` on a listener of their own.',
    ),
    Setting(
        "metrics_key",
        KEY.or_none(),
        None,
        "",
        "What gives access to the numbers from elsewhere, as `Authorization: Bearer`.",
        secret=True,
    ),
    Setting("access_log", BOOLEAN, False, "", "One line for each request, at level INFO of `sse_fast.access`."),
    Setting("handler_threads", _integer(1, 1024), 16, "", "Python threads that run handlers and `exists` checks."),
    Setting("generator_threads", _integer(1, 4096), 256, "", "How many handlers that are generators run at a time."),
    Setting(
        "handler_queue",
        _integer(1, 1 << 20),
        1024,
        "",
        "Requests that wait for a handler, and that `async` ones work on at a time; beyond it 503 with Retry-After.",
    ),
    Setting("authorize_threads", _integer(1, 1024), 16, "", "Python threads that run `authorize`, and nothing else."),
    Setting("cookie", COOKIE, "__Host-sse_fast", "", "The cookie that may hold a token, where `tokens` are taken."),
    Setting(
        "ticket_key",
        SECRET.or_none(),
        None,
        "",
        "What tickets are signed with, the same in every process that is to take them; None: derived from the first "
        "HS256 key of `tokens`, else from `publish_key`, else random.",
        secret=True,
    ),
    Setting(
        "publish_key",
        PUBLISH_KEYS,
        (),
        "",
        "What lets its holder publish over HTTP, as `Authorization: Bearer`; several while one is replaced. None: only "
        "who has a token may, where `tokens` are taken.",
        secret=True,
    ),
    Setting(
        "backplane",
        BACKPLANE.or_none(),
        None,
        "",
        "The Redis or Valkey server through which several processes share their streams: `redis://`, `rediss://` or "
        "`redis+sentinel://`. None: streams are this process's own.",
        secret=True,
    ),
    Setting(
        "backplane_prefix",
        PREFIX,
        "sse_fast",
        "",
        "What keys and channels there begin with: processes that share streams have the same.",
    ),
    Setting(
        "backplane_timeout",
        _seconds(0.01, 60.0, "a minute"),
        1.0,
        "s",
        "How long a publish, or whatever else is asked of that server, may wait for it.",
    ),
    Setting(
        "engine_loss",
        _choice("new_epoch", "trust"),
        "new_epoch",
        "",
        "What a restart or failover of that server means: `new_epoch` begins streams anew, since it may have lost "
        "events; `trust` goes on, for a server that loses nothing it has confirmed.",
    ),
    Setting("history", _integer(1, 1 << 32), 256, "events", "How many events a stream retains.", stream=True),
    Setting("history_bytes", _size(1), 1 << 20, "bytes", "How many bytes of them it retains.", stream=True),
    Setting("start", _choice("new", "last", "all"), "new", "", "What a new subscriber gets first.", stream=True),
    Setting("max_lag", _integer(1, 1 << 32), 256, "events", "The most a reader may lag; up to `history`.", stream=True),
    Setting(
        "on_lag",
        _choice("skip", "latest", "disconnect"),
        "skip",
        "",
        "Beyond it: skip to what is retained, to the newest event, or close the connection.",
        stream=True,
    ),
    Setting("heartbeat", _seconds(0.001).or_none(), 15.0, "s", "Silence before a heartbeat.", stream=True),
    Setting(
        "heartbeat_event",
        _one_line("heartbeat_event").or_none(),
        None,
        "",
        "Makes heartbeats events of that name.",
        stream=True,
    ),
    Setting(
        "heartbeat_comment",
        _one_line("heartbeat_comment"),
        "heartbeat",
        "",
        "What those say that are comments: one line.",
        stream=True,
    ),
    Setting(
        "retry",
        _seconds(0.0, _HOUR, "an hour, not milliseconds").or_none(),
        None,
        "s",
        "How long a client waits to reconnect: seconds, up to an hour.",
        stream=True,
    ),
    Setting("ids", BOOLEAN, True, "", "Events carry ids, so that readers can resume.", stream=True),
    Setting("linger", _seconds(0.0), 900.0, "s", "How long an ended stream answers late readers.", stream=True),
    Setting(
        "expire",
        _seconds(0.001).or_none(),
        None,
        "s",
        "Idle time after which an open stream is forgotten; 300 for streams that a route creates.",
        stream=True,
    ),
    Setting(
        "stall_after",
        _seconds(0.1).or_none(),
        None,
        "s",
        "Silence of a stream that is read after which it counts as stalled: one warning, and a mark in its `stats`.",
        stream=True,
    ),
    Setting(
        "private",
        BOOLEAN,
        False,
        "",
        "`/streams/` does not lead to it: only the application's own routes and handlers do.",
        stream=True,
    ),
)
_BY_NAME = {setting.name: setting for setting in SETTINGS}


def _accept(setting: Setting, value: object, source: str) -> object:
    """`value` if the setting allows it; `source` is the name by which the user gave it."""
    try:
        return setting.kind.check(value)
    except _ForAReasonError as error:
        raise SettingError(f"{source}={value!r} is not allowed: {error}") from None
    except (TypeError, ValueError):
        allowed = f"{setting.name} must be {setting.kind.allowed}"
        shown = "..." if setting.secret else repr(value)
        raise SettingError(f"{source}={shown} is not allowed: {allowed}") from None


def _from_environment(setting: Setting, environ: Mapping[str, str]) -> object:
    text = environ.get(setting.variable)
    if text is None:
        return setting.kind.check(setting.default)
    return _accept(setting, _parsed(setting, text), setting.variable)


def _parsed(setting: Setting, text: str) -> object:
    """The value of a text; the text itself where it is none, for the refusal."""
    try:
        return setting.kind.parse(text)
    except (KeyError, ValueError):
        return text


def from_text(setting: Setting, text: str, source: str) -> object:
    """An argument of `serve` that was given as text; `source` is the name by which the user gave it."""
    value = _parsed(setting, text)
    _accept(setting, value, source)
    return value


def from_file(name: str, value: object, source: str, *, stream: bool = False) -> object:
    """An argument of `serve` out of a file, or the text of one; `stream` is whether it is an option of streams."""
    _check_names([name], [row.name for row in SETTINGS if row.stream or not stream], "setting")
    setting = _BY_NAME[name]
    if isinstance(value, str):
        return from_text(setting, value, source)
    _accept(setting, value, source)
    return value


def _check_names(given: Iterable[str], allowed: Iterable[str], what: str) -> None:
    names = list(allowed)
    for name in given:
        if name not in names:
            from difflib import get_close_matches  # noqa: PLC0415 - only where a name is wrong

            near = get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(names))}"
            raise SettingError(f"there is no {what} {name!r}: {hint}")


def serve_settings(given: Mapping[str, object], environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Every setting, resolved from the arguments of `serve`, the environment and the defaults."""
    _check_names(given, _BY_NAME, "setting")
    resolved = {
        setting.name: _accept(setting, given[setting.name], setting.name)
        if setting.name in given
        else _from_environment(setting, environ)
        for setting in SETTINGS
    }
    if "max_lag" not in given and _BY_NAME["max_lag"].variable not in environ:
        del resolved["max_lag"]  # Lets the engine lower it to a history that is smaller than its default.
    if resolved["store"] is not None and resolved.get("backplane") is not None:
        raise SettingError("store and backplane are not allowed together: what a backplane has is kept there")
    if resolved["store"] is None and resolved["durable"] == "disk":
        raise SettingError('durable="disk" needs a store: without one nothing outlives this process')
    return resolved


def stream_options(given: Mapping[str, object]) -> dict[str, Any]:
    """The given stream options, checked; for the others the server's defaults apply."""
    options = {setting.name: setting for setting in SETTINGS if setting.stream}
    _check_names(given, options, "stream option")
    return {name: _accept(options[name], value, name) for name, value in given.items()}


def options_by_pattern(given: object) -> list[tuple[str, dict[str, Any]]]:
    """Stream options by patterns of names, checked, in their order; the engine checks the patterns."""
    if given is None:
        return []
    if not isinstance(given, Mapping):
        raise wrong_type("streams", given, 'a mapping of patterns to options, such as {"users/**": {"private": True}}')
    rules = []
    for pattern, options in given.items():
        if not isinstance(pattern, str):
            raise wrong_type("streams", given, f"a mapping whose keys are patterns: there is {pattern!r} among them")
        if any("\ud800" <= character <= "\udfff" for character in pattern):
            raise SettingError(f"streams: the pattern {pattern!r} has a lone surrogate, which no URL can carry")
        if not isinstance(options, Mapping):
            raise wrong_type(f"streams[{pattern!r}]", options, "a mapping of stream options")
        rules.append((pattern, stream_options(options)))
    return rules


def variable_of(name: str) -> str:
    """The environment variable of the setting of that name."""
    return _BY_NAME[name].variable


def may_be_none(name: str) -> bool:
    """Whether the setting of that name, if there is one, may be None."""
    try:
        return name in _BY_NAME and _BY_NAME[name].kind.check(None) is None
    except (TypeError, ValueError):
        return False


def is_stream_option(name: str) -> bool:
    """Whether that is the name of an option of streams."""
    return name in _BY_NAME and _BY_NAME[name].stream


def checked_seconds(name: str, value: object, *, low: float = 0.0, high: float = _YEAR) -> float:
    """A duration that is an argument of a method, checked as a setting would be."""
    kind = _seconds(low) if high == _YEAR else _seconds(low, high, f"{high:g}")
    _accept(Setting(name, kind, None, "s", ""), value, name)
    return float(cast("float", value))


def seconds_of(text: str, source: str) -> float:
    """A duration that was given as text, such as ``15m``."""
    return cast("float", from_text(Setting("time", _seconds(0.001), None, "s", ""), text, source))


def checked_whole(name: str, value: object, *, low: int) -> int:
    """A whole number that is an argument of a method, checked as a setting would be."""
    _accept(Setting(name, _integer(low, (1 << 32) - 1), None, "", ""), value, name)
    return cast("int", value)


def wrong_type(name: str, value: object, allowed: str) -> ArgumentTypeError:
    """The error for an argument of a wrong type."""
    return ArgumentTypeError(f"{name}={value!r} is not allowed: it must be {allowed}")


def options_table(*, stream: bool) -> str:
    """The settings as a Markdown table: those of `serve` alone, or the stream options."""
    rows = [setting for setting in SETTINGS if setting.stream is stream]
    head = "| name | default | environment | meaning |\n|---|---|---|---|\n"
    return head + "".join(f"| `{row.name}` | {_default_cell(row)} | `{row.variable}` | {row.help} |\n" for row in rows)


def _default_cell(setting: Setting) -> str:
    """The default with its unit; sizes also in MiB."""
    default = setting.default
    if setting.unit == "bytes" and isinstance(default, int) and default and default % (1 << 20) == 0:
        return f"`{default}` ({default >> 20} MiB)"
    return f"`{default!r}` {setting.unit}".rstrip() if default is not None else "`None`"


#: An encoder of the application's own, given as ``serve(json=...)``: makes JSON, as str or bytes, of a value.
Encoder = Callable[[object], str | bytes]


class StreamOptions(TypedDict, total=False):
    """The stream options as type checkers see them; see `SETTINGS` for their meaning."""

    history: int
    history_bytes: int
    start: Literal["new", "last", "all"]
    max_lag: int
    on_lag: Literal["skip", "latest", "disconnect"]
    heartbeat: float | None
    heartbeat_event: str | None
    heartbeat_comment: str
    retry: float | None
    ids: bool
    linger: float
    expire: float | None
    stall_after: float | None
    private: bool


class ServeSettings(StreamOptions, total=False):
    """The settings of `serve` besides port and host, as type checkers see them."""

    allowed_hosts: Iterable[str]
    cors: Iterable[str]
    cors_headers: Iterable[str]
    trusted_proxies: Iterable[str]
    store: str | os.PathLike[str] | None
    durable: Literal["process", "disk"]
    forwarded: Literal["x", "rfc7239"]
    max_connections: int | None
    max_connections_per_address: int | None
    max_streams: int
    max_created_streams: int
    max_event_bytes: int
    max_head_bytes: int
    max_body_bytes: int
    header_timeout: float
    wait: float
    settle: float
    stall_timeout: float
    publish_wait: float | None
    drain: float
    shards: int | None
    chunked: bool
    reuse_port: bool
    lame_duck: float
    health: str | None
    ready: str | None
    metrics: bool | str
    metrics_key: str | None
    access_log: bool
    handler_threads: int
    generator_threads: int
    handler_queue: int
    authorize_threads: int
    backplane: str | None
    backplane_prefix: str
    backplane_timeout: float
    engine_loss: Literal["new_epoch", "trust"]
    cookie: str
    ticket_key: bytes | str | None
    publish_key: str | Iterable[str]
