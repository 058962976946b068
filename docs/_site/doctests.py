"""Shows the examples of docstrings as code: what a docstring has as ``>>>`` lines becomes a fenced block for the site.

Owns: that one change of the text. Must not know: what the examples do; `tests/test_docs.py` runs them.
"""

from __future__ import annotations

from typing import Any

import griffe


def fenced(text: str) -> str:
    """The text with every run of ``>>>`` lines, and what they show, in a fence."""
    lines: list[str] = []
    inside = False
    for line in text.splitlines():
        begins = line.lstrip().startswith(">>> ")
        if begins and not inside:
            lines += ["", "```pycon"]
            inside = True
        elif inside and not line.strip():
            lines += ["```"]
            inside = False
        lines.append(line)
    if inside:
        lines.append("```")
    return "\n".join(lines)


class Doctests(griffe.Extension):
    """Griffe calls it for every object that it finds."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:  # noqa: ANN401 - whatever griffe adds
        """Changes the docstring, where there is one."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)
