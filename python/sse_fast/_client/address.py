"""Where a server is: its URL, read once.

Owns: what a URL may be, the target of a request for a stream, what a stream's name may be.
Must not know: sockets, requests.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from sse_fast._exceptions import ArgumentTypeError, SettingError

_PORTS = {"http": 80, "https": 443}
_MAX_NAME = 1024  # Bytes, as the engine has it.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Address:
    """A server's URL in parts; `prefix` is the path below which it is found, without a slash at its end."""

    url: str
    tls: bool
    host: str
    port: int
    authority: str  # As `Host` says it.
    prefix: str

    def target(self, name: str) -> str:
        """What a request for the stream of that name asks for."""
        return f"{self.prefix}/streams/{quote(name, safe='/')}"


def address_of(url: object) -> Address:
    """The address in a URL.

    Raises:
        ArgumentTypeError: it is no str.
        SettingError: it is no URL of a server; the text shows no password.
    """
    allowed = 'the URL of a server, such as "http://127.0.0.1:8080"'
    if not isinstance(url, str):
        raise ArgumentTypeError(f"url={url!r} is not allowed: it must be {allowed}")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise SettingError(f"url={url!r} is not allowed: {error}; it must be {allowed}") from None
    if parts.username is not None or parts.password is not None:
        raise SettingError("a url with a user or a password is not allowed: give key= or token=")
    if parts.scheme not in _PORTS or not host or re.search(r"[\x00-\x20\x7f]", url) or not url.isascii():
        raise SettingError(f"url={url!r} is not allowed: it must be {allowed}, beginning with http:// or https://")
    if parts.query or parts.fragment:
        raise SettingError(f"url={url!r} is not allowed: it must be {allowed}, without a query or a fragment")
    prefix = parts.path.rstrip("/")
    if prefix == "/streams" or prefix.startswith("/streams/"):
        raise SettingError(f"url={url!r} is not allowed: it must be the server's own URL; streams are named apart")
    if port is None:
        port = _PORTS[parts.scheme]
    return Address(
        f"{parts.scheme}://{parts.netloc}{prefix}", parts.scheme == "https", host, port, parts.netloc, prefix
    )


def checked_name(name: object) -> str:
    """A stream's name.

    Raises:
        ArgumentTypeError: it is no str.
        SettingError: no stream can have it.
    """
    if not isinstance(name, str):
        raise ArgumentTypeError(f"stream name={name!r} is not allowed: it must be a str")
    try:
        length = len(name.encode())
    except UnicodeEncodeError as error:
        wrong = f"the stream name {name!r} has a lone surrogate at position {error.start}, which no URL can carry"
        raise SettingError(wrong) from None
    if not 1 <= length <= _MAX_NAME or _CONTROL.search(name):
        shown = name if len(name) <= 80 else f"{name[:80]}…"  # noqa: PLR2004 - enough to know it by
        raise SettingError(f"a stream's name must be 1 to {_MAX_NAME} bytes without control characters: got {shown!r}")
    return name
