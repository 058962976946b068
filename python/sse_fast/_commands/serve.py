"""`sse-fast serve`: a server as a process of its own.

Owns: its flags, which are the settings; what is printed.
Must not know: what a setting means: `_settings` has names, kinds, defaults and help; the form of a file of settings.
Invariants: a flag overrides the environment, the environment the file, the file the default. No secret is a flag.
"""

from __future__ import annotations

import argparse
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
from sse_fast._signals import Waiting

from .credentials import KEY, secret_in
from .settings_file import SettingsFile

if TYPE_CHECKING:
    from sse_fast import Server

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
_METAVARS = {"s": "TIME", "bytes": "SIZE", "events": "N"}


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
    file = SettingsFile(options.config)
    settings, rights = resolved(options, file)
    used = {name for name in settings if getattr(options, name) is None}
    if options.check:
        with file.blamed(used):
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
    told = threading.Event()

    def tell() -> bool:
        told.set()
        return True

    # A service manager may end it at once: from before the port is open until the end SIGTERM is a drain.
    early = Waiting(tell, (signal.SIGTERM,), is_last=True)
    early.begin()
    try:
        with file.blamed(used):
            server = sse_fast.serve(**settings, **rights)
        with server:
            _tell(server, own_key)
            server._lifetime.wait(None, told)  # noqa: SLF001 - as `Server.wait`, which knows of no signal before it
    finally:
        early.end(consumed=True)
    return 0


def resolved(options: argparse.Namespace, file: SettingsFile) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings that flags and file give, as arguments of `serve`: those of the table, and the others.

    Raises:
        SettingError: one is unknown or not allowed.
        OSError: a file cannot be read.
    """
    rights, settings = file.rights(), file.settings()
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
