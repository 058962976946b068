"""The settings as a user knows them: the tables of options in `docs/reference/settings.md`.

`make docs` writes them and a test compares them with the engine's own table, so
a test that needs every setting's name reads them here and imports nothing private.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "settings.md"


@dataclass(frozen=True)
class Documented:
    """One row; `stream` says that it stands in the table of stream options."""

    name: str
    default: object
    variable: str
    stream: bool


def _rows() -> list[Documented]:
    tables = re.split(r"^\| name \| default \| environment \| meaning \|$", PAGE.read_text(), flags=re.MULTILINE)[1:]
    assert len(tables) == 2, "the page has a table of serve's settings and one of stream options"
    found = []
    for number, table in enumerate(tables):
        own = table.split("\n\n")[0]
        for name, default, variable in re.findall(r"^\| `(\w+)` \| `([^`]*)`[^|]*\| `(\w+)` \|", own, re.MULTILINE):
            found.append(Documented(name, ast.literal_eval(default), variable, stream=number == 1))
    return found


SETTINGS = _rows()
