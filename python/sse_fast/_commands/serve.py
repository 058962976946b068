"""`sse-fast serve`: a server as a process of its own.

Owns: its flags, which are the settings; the file of settings; what is printed.
Must not know: what a setting means: `_settings` has names, kinds, defaults and help.
Invariants: a flag overrides the environment, the environment the file, the file the default. No secret is a flag.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import logging
import os
import re
import secrets
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sse_fast import _settings
from sse_fast._exceptions import ArgumentTypeError, SettingError

from .credentials import KEY, secret_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sse_fast import Server, Tokens

USAGE = "sse-fast serve [-h] [--config FILE] [--check] [--log-level LEVEL] [--SETTING VALUE ...]"
DESCRIPTION = """\
Runs a server as a process of its own, until Ctrl-C or SIGTERM: then it drains and ends. Other processes publish into it
over HTTP, by `sse_fast.connect`, `sse-fast publish` or curl; readers read /streams/NAME.
"""
EPILOG = """\
examples:
  sse-fast serve                                       on http://127.0.0.1:8080, with a key for this run
  SSE_FAST_PUBLISH_KEY=... sse-fast serve --host 0.0.0.0 --allowed-hosts app.example
  sse-fast serve --publish-key-file /run/secrets/key --history 1000 --heartbeat 20s
  sse-fast serve --config sse-fast.toml --check        says whether the settings can be used, and ends

a file of settings:
  port = 8080
  heartbeat = "20s"
  publish_key_file = "/run/secrets/key"
  [streams."users/**"]
  private = true
  [tokens]
  jwks = "https://auth.example/jwks.json"
  audience = "events"

A flag overrides the environment (SSE_FAST_PORT), the environment the file, and the file the default.
"""

_LEVELS = ("debug", "info", "warning", "error")
_FILE_SUFFIX = "_file"  # Of settings that are secret: the file that has the value.
_METAVARS = {"s": "TIME", "bytes": "SIZE", "events": "N"}
_TOKENS = ("jwks", "keys", "issuer", "audience", "leeway")
_TOKEN_KEY = ("algorithm", "key", "key_file", "id")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags: one for each setting."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="a TOML file with settings")
    parser.add_argument("--check", action="store_true", help="check the settings, and end")
    parser.add_argument(
        "--log-level", choices=_LEVELS, default="info", help="what is logged to standard error (default: info)"
    )
    of_server = parser.add_argument_group("settings", "see docs/reference/settings.md")
    of_streams = parser.add_argument_group("stream options", "the defaults of all streams")
    for setting in _settings.SETTINGS:
        _add_flag(of_streams if setting.stream else of_server, setting)


def run(options: argparse.Namespace) -> int:
    """Serves until it is told to end."""
    settings, rights = resolved(options)
    if options.check:
        with _named(options.config):
            _check(settings, rights)
        print("the settings can be used")
        return 0
    logging.basicConfig(
        format="%(asctime)s %(levelname)-7s %(name)s %(message)s", stream=sys.stderr, level=options.log_level.upper()
    )
    import sse_fast  # noqa: PLC0415 - the engine is loaded once the settings are known to be right

    own_key = None
    if not any((settings.get("publish_key"), os.environ.get("SSE_FAST_PUBLISH_KEY"), rights.get("tokens"))):
        own_key = settings["publish_key"] = secrets.token_hex(16)
    with _named(options.config):
        server = sse_fast.serve(**settings, **rights)
    with server:
        told = threading.Event()
        usual = signal.signal(signal.SIGTERM, lambda *_: told.set())  # Who reads the address may send it at once.
        _tell(server, own_key)
        signal.signal(signal.SIGTERM, usual)
        if not told.is_set():
            server.wait()
    return 0


def resolved(options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings that flags and file give, as arguments of `serve`: those of the table, and the others.

    Raises:
        SettingError: one is unknown or not allowed.
        OSError: a file cannot be read.
    """
    text, path = "" if options.config is None else _text_of(options.config), str(options.config)
    file = _read(text, path)
    rights: dict[str, Any] = {}
    if "streams" in file:
        rights["streams"] = _streams(file.pop("streams"), path, text)
    if "tokens" in file:
        with _named(options.config):
            rights["tokens"] = _tokens(file.pop("tokens"), path)
    settings: dict[str, Any] = {}
    for name, value in _with_secrets(file, path).items():
        place = _place(path, text, (), name)
        with _named(place):
            checked = _settings.from_file(name, value, f"{place}: {name}")
        if _settings.variable_of(name) not in os.environ:
            settings[name] = checked
    for setting in _settings.SETTINGS:
        given = getattr(options, setting.name)
        if given is None:
            continue
        if setting.secret:
            settings[setting.name] = _settings.from_text(setting, secret_in(given), f"the text in {given}")
        else:
            settings[setting.name] = _settings.from_text(setting, given, _flag(setting))
    return settings, rights


def _flag(setting: _settings.Setting) -> str:
    return "--" + setting.name.replace("_", "-")


def _add_flag(group: argparse._ArgumentGroup, setting: _settings.Setting) -> None:
    text = setting.help.replace("`", "").replace("%", "%%")
    default = f"{setting.default} {setting.unit}".strip() if setting.default not in {None, ()} else "none"
    text = f"{text}{'' if setting.secret else f' Default: {default}.'} [{setting.variable}]"
    flag, metavar = _flag(setting), _METAVARS.get(setting.unit, "VALUE")
    if setting.secret:
        what = f"A file with {setting.name}. {text}"
        group.add_argument(f"{flag}-file", dest=setting.name, type=Path, metavar="FILE", help=what)
    elif setting.kind is _settings.BOOLEAN or setting.kind is _settings.METRICS:
        group.add_argument(flag, nargs="?", const="1", metavar="1|0", help=text)
    else:
        words = re.findall(r'"(\w+)"', setting.kind.allowed) if setting.kind.allowed.startswith("one of") else None
        group.add_argument(flag, choices=words, metavar=None if words else metavar, help=text)


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise SettingError(f"{path} is no TOML: it is not UTF-8: {error}") from None


def _parsed(text: str) -> dict[str, Any]:
    toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    read: dict[str, Any] = toml.loads(text)
    return read


def _read(text: str, path: str) -> dict[str, Any]:
    try:
        return _parsed(text) if text else {}
    except ValueError as error:
        raise SettingError(f"{path} is no TOML: {error}") from None


@contextlib.contextmanager
def _named(place: object) -> Iterator[None]:
    """Has an error that a setting of the file may be the cause of name the file."""
    try:
        yield
    except (SettingError, ArgumentTypeError) as error:
        if place is None or str(place) in str(error):
            raise
        raise SettingError(f"{place}: {error}") from None


def _place(path: str, text: str, table: tuple[str, ...], name: str) -> str:
    """The file, and the line that has the setting of that name, where it stands at a line's beginning in its table."""
    here: tuple[str, ...] | None = ()
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("["):
            here = _header(line)
        elif here == table and re.match(rf"""\s*["']?{re.escape(name)}["']?\s*=""", line):
            return f"{path}:{number}"
    return path


def _header(line: str) -> tuple[str, ...] | None:
    """The names in the head of a table; None where it is none, or that of one in a list."""
    names: list[str] = []
    try:
        inside: object = _parsed(line)
    except ValueError:
        return None
    while isinstance(inside, dict) and inside:
        name, inside = next(iter(inside.items()))
        names.append(name)
    return tuple(names) if isinstance(inside, dict) else None


def _with_secrets(file: dict[str, Any], path: str) -> dict[str, Any]:
    """The file's settings, those in files of their own read."""
    found: dict[str, Any] = {}
    secret = {setting.name for setting in _settings.SETTINGS if setting.secret}
    for name, value in file.items():
        bare = name.removesuffix(_FILE_SUFFIX)
        if name != bare and bare in secret:
            if not isinstance(value, str) or bare in file:
                raise SettingError(f"{path}: {name} must be the name of a file, and {bare} not be given as well")
            found[bare] = secret_in(Path(value))
        else:
            found[name] = value
    return found


def _streams(given: object, path: str, text: str) -> dict[str, dict[str, Any]]:
    if not isinstance(given, dict) or not all(isinstance(options, dict) for options in given.values()):
        raise SettingError(f'{path}: streams must be tables of options, such as [streams."users/**"]')
    found: dict[str, dict[str, Any]] = {}
    for pattern, options in given.items():
        found[pattern] = {}
        for name, value in options.items():
            place = f'{_place(path, text, ("streams", pattern), name)}: [streams."{pattern}"]'
            with _named(place):
                found[pattern][name] = _settings.from_file(name, value, f"{place} {name}", stream=True)
    return found


def _tokens(given: object, path: str) -> Tokens:
    from sse_fast import Key, Tokens  # noqa: PLC0415 - of the engine

    if not isinstance(given, dict) or set(given) - set(_TOKENS):
        raise SettingError(f"{path}: tokens must be a table of {', '.join(_TOKENS)}")
    keys = given.get("keys")
    if keys is None:
        return Tokens(**given)
    if not isinstance(keys, list) or not all(isinstance(key, dict) and set(key) <= set(_TOKEN_KEY) for key in keys):
        raise SettingError(f"{path}: tokens.keys must be tables of {', '.join(_TOKEN_KEY)}")
    made = []
    for key in keys:
        secret = secret_in(Path(key["key_file"])) if "key_file" in key else key.get("key")
        if secret is None or "algorithm" not in key:
            raise SettingError(f"{path}: each of tokens.keys needs an algorithm, and a key or key_file")
        made.append(Key(key["algorithm"], secret, id=key.get("id")))
    return Tokens(**{**given, "keys": made})


def _check(settings: dict[str, Any], rights: dict[str, Any]) -> None:
    """Checks what is checked in Python, and has the engine check what it does: options of streams, and patterns."""
    import sse_fast  # noqa: PLC0415 - as above

    whole = _settings.serve_settings(settings)
    of_streams = {name: value for name, value in whole.items() if _settings.is_stream_option(name)}
    sse_fast.serve(0, host="127.0.0.1", metrics=False, **of_streams, **rights).close(drain=0.0)


def _tell(server: Server, own_key: str | None) -> None:
    print(f"sse_fast serves {server.url} (Ctrl-C ends)", flush=True)
    if own_key is None:
        return
    if sys.stdout.isatty():
        print(f"export {KEY}={own_key}  # for publishers, as long as this runs", flush=True)
    else:  # What is printed here is often kept in a log.
        print("nobody can publish: set SSE_FAST_PUBLISH_KEY, or give --publish-key-file", file=sys.stderr, flush=True)
