"""Names for the cases of a test that are the same in each of the processes that run the tests.

They must be: the processes agree by name on who runs what. A `repr` alone may have an address in it, or the members of
a set in the order of this process.
"""

from __future__ import annotations

import re
import reprlib
from typing import Any


class _Repr(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = self.maxlong = 200

    def repr_set(self, value: set[Any], level: int) -> str:
        return "{" + ", ".join(sorted(self.repr1(member, level - 1) for member in value)) + "}"

    def repr_frozenset(self, value: frozenset[Any], level: int) -> str:
        return f"frozenset({self.repr_set(set(value), level)})"


def named(value: Any, length: int = 60) -> str:
    """The value as Python shows it, where that is the same everywhere."""
    return re.sub(r" at 0x[0-9a-f]+", "", _Repr().repr(value))[:length]
