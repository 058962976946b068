"""The file of settings that `sse-fast serve` reads: its form, and the place of what is wrong in it.

Owns: tables, secrets in files of their own, which line has a setting, which settings an error speaks of.
Must not know: what a setting means: `_settings` has names and kinds; flags.
Invariants: an error about what the file has names the file, and the line where that can be told; one about the
environment names neither.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sse_fast import _settings
from sse_fast._exceptions import ArgumentTypeError, SettingError

from .credentials import secret_in

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from sse_fast import Tokens

    Names = tuple["str | int", ...]

_FILE_SUFFIX = "_file"  # Of settings that are secret: the file that has the value.
_TOKENS = ("jwks", "keys", "issuer", "audience", "leeway")
_TOKEN_KEY = ("algorithm", "key", "key_file", "id")


class SettingsFile:
    """A file of settings, or none, which has no settings.

    Args:
        path: where it is.

    Raises:
        SettingError: it is no TOML.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path | None) -> None:
        """See the class."""
        self._path = path
        self._tables: dict[str, Any] = {}
        self._lines: dict[Names, int] = {}
        if path is None:
            return
        try:
            text = path.read_text(encoding="utf-8")
            self._tables = _parsed(text)
        except UnicodeDecodeError as error:
            raise SettingError(f"{path} is no TOML: it is not UTF-8: {error}") from None
        except ValueError as error:
            raise SettingError(f"{path} is no TOML: {error}") from None
        self._lines = _lines_of(text)

    def settings(self) -> dict[str, Any]:
        """The settings that have no table, checked, without those that the environment overrides.

        Raises:
            SettingError: one is unknown or not allowed, or the file with its value cannot be read.
        """
        found: dict[str, Any] = {}
        secret = {setting.name for setting in _settings.SETTINGS if setting.secret}
        for given, value in self._tables.items():
            if given in {"streams", "tokens"}:
                continue
            name, place = given.removesuffix(_FILE_SUFFIX), self._place(given)
            with _named(place):
                if name != given and name in secret:
                    if not isinstance(value, str) or name in self._tables:
                        raise SettingError(f"{place}: {given} must be the name of a file, and {name} not be given too")
                    read = _secret_of(value, f"{place}: {given}")
                else:
                    name, read = given, value
                checked = _settings.from_file(name, read, f"{place}: {name}")
            if _settings.variable_of(name) not in os.environ:
                found[name] = checked
        return found

    def rights(self) -> dict[str, Any]:
        """What it has tables for, as arguments of `serve`.

        Raises:
            SettingError: something in them is unknown or not allowed.
        """
        rights: dict[str, Any] = {}
        if "streams" in self._tables:
            rights["streams"] = self._streams(self._tables["streams"])
        if "tokens" in self._tables:
            rights["tokens"] = self._tokens(self._tables["tokens"])
        return rights

    @contextlib.contextmanager
    def blamed(self, used: Collection[str]) -> Iterator[None]:
        """Has an error name the place of what it speaks of, where that is in the file.

        Args:
            used: the names of those of its settings that neither flags nor the environment override.
        """
        try:
            yield
        except (SettingError, ArgumentTypeError) as error:
            names = self._spoken_of(str(error), used)
            if not names:
                raise
            raise SettingError(f"{self._place(*names)}: {error}") from None

    def _spoken_of(self, text: str, used: Collection[str]) -> Names:
        """What an error speaks of: the names that lead to it; nothing where that is not in the file."""
        streams = self._tables.get("streams", {})
        pattern = next((name for name in streams if f'"{name}"' in text), None) if "streams" in text else None
        if pattern is not None:
            named = _first_in(text, streams[pattern])
            return ("streams", pattern) if named is None else ("streams", pattern, named)
        if any(setting.variable in text for setting in _settings.SETTINGS):
            return ()
        given = [name for name in self._tables if name in used or name.removesuffix(_FILE_SUFFIX) in used]
        named = _first_in(text, given)
        if named is None and "tokens" in self._tables and _first_in(text, ["tokens", *self._tables["tokens"]]):
            named = "tokens"
        return () if named is None else (named,)

    def _place(self, *names: str | int) -> str:
        """The file, and the line that has what these names lead to, or the table around it."""
        for length in range(len(names), 0, -1):
            if names[:length] in self._lines:
                return f"{self._path}:{self._lines[names[:length]]}"
        return str(self._path)

    def _streams(self, given: object) -> dict[str, dict[str, Any]]:
        allowed = 'must be tables of options, such as [streams."users/**"]'
        if not isinstance(given, dict):
            raise SettingError(f"{self._place('streams')}: streams {allowed}")
        found: dict[str, dict[str, Any]] = {}
        for pattern, options in given.items():
            if not isinstance(options, dict):
                raise SettingError(f'{self._place("streams", pattern)}: streams {allowed}: "{pattern}" is none')
            found[pattern] = {}
            for name, value in options.items():
                place = f'{self._place("streams", pattern, name)}: [streams."{pattern}"]'
                with _named(place):
                    found[pattern][name] = _settings.from_file(name, value, f"{place} {name}", stream=True)
        return found

    def _tokens(self, given: object) -> Tokens:
        from sse_fast import Tokens  # noqa: PLC0415 - of the engine

        wrong = [] if not isinstance(given, dict) else [name for name in given if name not in _TOKENS]
        if not isinstance(given, dict) or wrong:
            raise SettingError(f"{self._place('tokens', *wrong[:1])}: tokens must be a table of {', '.join(_TOKENS)}")
        keys = given.get("keys")
        if keys is not None:
            if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys):
                raise SettingError(f"{self._place('tokens', 'keys')}: {_keys_must()}")
            given = {**given, "keys": [self._key(number, key) for number, key in enumerate(keys)]}
        try:
            return Tokens(**given)
        except (SettingError, ArgumentTypeError) as error:
            named = _first_in(str(error), given)
            raise SettingError(f"{self._place('tokens', *([named] if named else []))}: [tokens] {error}") from None

    def _key(self, number: int, given: dict[str, Any]) -> Any:  # noqa: ANN401 - a `Key`, of the engine
        from sse_fast import Key  # noqa: PLC0415 - as above

        here: Names = ("tokens", "keys", number)
        wrong = [name for name in given if name not in _TOKEN_KEY]
        if wrong:
            raise SettingError(f"{self._place(*here, wrong[0])}: {_keys_must()}")
        secret = given.get("key")
        if "key_file" in given:
            secret = _secret_of(given["key_file"], f"{self._place(*here, 'key_file')}: tokens.keys key_file")
        if secret is None or "algorithm" not in given:
            raise SettingError(f"{self._place(*here)}: each of tokens.keys needs an algorithm, and a key or key_file")
        try:
            return Key(given["algorithm"], secret, id=given.get("id"))
        except (SettingError, ArgumentTypeError) as error:
            named = "key_file" if str(error).startswith("key") and "key_file" in given else _first_in(str(error), given)
            place = self._place(*here, *([named] if named else []))
            raise SettingError(f"{place}: tokens.keys: {error}") from None


def _keys_must() -> str:
    return f"tokens.keys must be tables of {', '.join(_TOKEN_KEY)}"


def _parsed(text: str) -> dict[str, Any]:
    toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    read: dict[str, Any] = toml.loads(text)
    return read


def _secret_of(file: object, name: str) -> str:
    """The secret in a file that a setting of that name gives; an error names the setting."""
    if not isinstance(file, str):
        raise SettingError(f"{name} must be the name of a file")
    try:
        return secret_in(Path(file))
    except (OSError, ValueError) as error:
        raise SettingError(f"{name}: {error}") from None


@contextlib.contextmanager
def _named(place: str) -> Iterator[None]:
    """Has an error name this place."""
    try:
        yield
    except (SettingError, ArgumentTypeError) as error:
        if place in str(error):
            raise
        raise SettingError(f"{place}: {error}") from None


def _first_in(text: str, names: Collection[str]) -> str | None:
    """Of these names the one that a text has first, as a word."""
    found = [(match.start(), name) for name in names if (match := re.search(rf"\b{re.escape(_bare(name))}\b", text))]
    return min(found)[1] if found else None


def _bare(name: str) -> str:
    """The name of a setting whose value may be in a file."""
    return name.removesuffix(_FILE_SUFFIX)


def _lines_of(text: str) -> dict[Names, int]:
    """The line of each table and setting that begins there; of what goes over several lines the first."""
    found: dict[Names, int] = {}
    here: Names | None = ()
    lists: dict[Names, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("["):
            here = _header(line, lists)
            paths = [] if here is None else [here[:length] for length in range(1, len(here) + 1)]
        elif here is not None:
            paths = list(_paths(_setting(line), here))
        else:
            paths = []
        for path in paths:
            found.setdefault(path, number)
    return found


def _setting(line: str) -> object:
    """What a line sets; nothing where it sets nothing. Of a value that goes on in the next line the name."""
    for text in (line, line.partition("=")[0] + "= 0"):
        with contextlib.suppress(ValueError):
            return _parsed(text)
    return {}


def _header(line: str, lists: dict[Names, int]) -> Names | None:
    """The names in the head of a table, of one in a list with its number; None where it is none."""
    names: list[str | int] = []
    try:
        inside: object = _parsed(line)
    except ValueError:
        return None
    while isinstance(inside, dict) and inside:
        name, inside = next(iter(inside.items()))
        names.append(name)
    path = tuple(names)
    if isinstance(inside, list):
        lists[path] = lists.get(path, -1) + 1
        return (*path, lists[path])
    return path


def _paths(value: object, here: Names) -> Iterator[Names]:
    """The names that lead to each value in a value."""
    if here:
        yield here
    items: list[tuple[str | int, object]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = [(number, item) for number, item in enumerate(value) if isinstance(item, dict)]
    for name, inside in items:
        yield from _paths(inside, (*here, name))
