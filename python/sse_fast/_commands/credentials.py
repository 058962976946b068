"""Where commands find keys and tokens: in the environment or in files.

Owns: these arguments, their variables, where a URL has the name of a stream.
Must not know: what they are for.
Invariants: no secret is an argument: every user of a machine can read those.
"""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from .usage import UsageError

KEY, TOKEN = "SSE_FAST_KEY", "SSE_FAST_TOKEN"


def add_credentials(parser: argparse.ArgumentParser, *, key: bool) -> None:
    """The arguments; `key` is whether a key serves, too."""
    group = parser.add_argument_group("who asks")
    if key:
        group.add_argument(
            "--key-file", type=Path, metavar="FILE", help=f"a file with the server's publish_key (default: {KEY})"
        )
    group.add_argument("--token-file", type=Path, metavar="FILE", help=f"a file with a token (default: {TOKEN})")


def credentials(options: argparse.Namespace) -> dict[str, str]:
    """What was given, as arguments of a client: of files the first, then of the environment the first.

    Raises:
        UsageError: both files are given.
        ValueError: one is empty.
        OSError: one cannot be read.
    """
    files = {"key": getattr(options, "key_file", None), "token": options.token_file}
    if all(files.values()):
        raise UsageError("--key-file and --token-file are both given: one of them is sent")
    for name, file in files.items():
        if file is not None:
            return {name: secret_in(file)}
    for name, variable in (("key", KEY), ("token", TOKEN)):
        if name in files and (name == "token" or hasattr(options, "key_file")) and os.environ.get(variable):
            return {name: os.environ[variable].strip()}
    return {}


def secret_in(file: Path) -> str:
    """The secret in a file, without the line end behind it.

    Raises:
        ValueError: it is empty.
        OSError: it cannot be read.
    """
    secret = file.read_text(encoding="utf-8").strip()
    if not secret:
        raise ValueError(f"{file} is empty: it must hold the secret")
    return secret


def server_and_stream(url: str) -> tuple[str, str]:
    """The server's URL and the stream's name: what follows ``/streams/``, or else the whole path.

    Raises:
        UsageError: there is no name, or none that a path can say.
    """
    if "://" not in url:
        url = f"http://{url}"
    parts = urlsplit(url)
    before, found, name = parts.path.partition("/streams/")
    prefix, name = (before, name) if found else ("", parts.path.removeprefix("/"))
    if not name or parts.query or parts.fragment:
        raise UsageError(f"{url!r} names no stream: write http://HOST:PORT/NAME, such as http://127.0.0.1:8080/runs/42")
    if re.search("%(?![0-9A-Fa-f]{2})", name):
        raise UsageError(f"{url!r} has a % that begins no escape: write %25 for itself")
    try:
        return urlunsplit((parts.scheme, parts.netloc, prefix, "", "")), unquote(name, errors="strict")
    except UnicodeDecodeError:
        raise UsageError(f"{url!r} names no stream: its escapes are not UTF-8") from None
