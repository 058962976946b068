"""What is shown to a person: colours, progress, texts that a terminal cannot take for commands.

Owns: whether there is a person, and what is written for one. Must not know: what is shown.
"""

from __future__ import annotations

import os
import re
import sys
import zlib
from typing import TextIO

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_NAMES = (36, 32, 33, 35, 34, 31)  # Colours that can be read on a dark and on a light ground.


def escaped(text: str) -> str:
    r"""The text in one line, control characters as ``\n`` or ``\x1b``: a terminal obeys those of a stranger."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


class Colours:
    """Colours, where there is a terminal that is to have them (https://no-color.org).

    Args:
        stream: where the texts go.
        wanted: None is where it is a terminal, without ``NO_COLOR``, and not ``TERM=dumb``.
    """

    def __init__(self, stream: TextIO, *, wanted: bool | None = None) -> None:
        """See the class."""
        usual = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self.on = usual if wanted is None else wanted

    def dim(self, text: str) -> str:
        """What is less important."""
        return self._in(2, text)

    def name(self, text: str) -> str:
        """A name, in a colour of its own."""
        return self._in(_NAMES[zlib.crc32(text.encode()) % len(_NAMES)], text)

    def _in(self, code: int, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.on else text


class Progress:
    """A line that is written over, on a terminal; nothing elsewhere."""

    _PAUSE = 0.1  # Seconds between two writings.

    def __init__(self, stream: TextIO | None = None) -> None:
        """See the class."""
        self._stream = sys.stderr if stream is None else stream
        self._is_shown = self._stream.isatty()
        self._next = 0.0

    def show(self, text: str, now: float) -> None:
        """Writes the line, if it is time to."""
        if self._is_shown and now >= self._next:
            self._next = now + self._PAUSE
            self._stream.write(f"\r\x1b[K{text}")
            self._stream.flush()

    def clear(self) -> None:
        """Takes the line away."""
        if self._is_shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
