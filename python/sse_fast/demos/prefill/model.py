"""The simulated model: it learns which word follows which, a chunk of the prompt at a time, and goes on from there.

Owns: what a chunk and a token take, which prefixes were read before, and the faults that a visitor asks for: a chunk
that stalls, in C and with the interpreter held if need be, or fails. Must not know: streams, HTTP.

Invariant: as with a real model, a caller is told of progress between chunks only, and only there can it stop the work.
"""

from __future__ import annotations

import collections
import ctypes
import itertools
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

PHASES = ("prefill", "cold_prefix", "tool_checkpoint", "generation")
MAX_STALL = 60.0  # Seconds that a visitor may stall the work, and with `hold` this whole process.
_CHUNK = 64  # Words.
_PREFIXES = 8  # How many prefixes are remembered.
_STORY = (
    "the prompt is long and the model reads it a chunk at a time. one chunk may take minutes. no callback comes from "
    "inside a chunk, so a keepalive that a callback writes stays silent. the client waits ten seconds and hangs up. "
    "a heartbeat by the clock needs no callback. the client waits on and the first token finds it there."
)


def words_of(text: str) -> list[str]:
    """What the model reads: words, and marks of their own.

    >>> words_of("Why, then?")
    ['Why', ',', 'then', '?']
    """
    return re.findall(r"\w+(?:['\u2019-]\w+)*|[^\w\s]", text)


def written(word: str) -> str:
    """A word as it continues a text: after a space, a mark without."""
    return f" {word}" if word[0].isalnum() else word


TOOLS = words_of(_STORY)  # What stands for the description of tools.


class Stopped(Exception):  # noqa: N818 - no error: it was asked to
    """The work was stopped, because it is for nobody any more."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds: of a chunk of 64 words, of a token, and of silence before a heartbeat during prefill."""

    chunk: float = 0.25
    token: float = 0.04
    heartbeat: float = 5.0


@dataclass(frozen=True, slots=True)
class Faults:
    """What a visitor wants to see survived.

    Attributes:
        stall: the phase one chunk of which takes `seconds` longer.
        seconds: how much longer.
        hold: whether it does so in C, with the interpreter held, so that no Python runs in this process.
        fail: the phase that fails.
        heartbeats: False leaves the heartbeats of prefill out, as the original did during a stall.
    """

    stall: str | None = None
    seconds: float = 0.0
    hold: bool = False
    fail: str | None = None
    heartbeats: bool = True

    @classmethod
    def parse(cls, given: Mapping[str, Any], *, may_hold: bool) -> Faults:
        """Raises ValueError where they are not allowed."""
        try:
            faults = cls(**{**given, "seconds": float(given.get("seconds", 0.0))})
        except (AttributeError, TypeError, ValueError) as error:
            raise ValueError(f"not understood: {error}") from None
        if not 0.0 <= faults.seconds <= MAX_STALL:
            raise ValueError(f"seconds must be from 0 to {MAX_STALL:g}")
        if any(phase not in (None, *PHASES) for phase in (faults.stall, faults.fail)):
            raise ValueError(f"the phases are {', '.join(PHASES)}")
        if faults.hold and not may_hold:
            raise ValueError("only a visitor on this computer may have the interpreter held")
        return faults


class Prefixes:
    """The prefixes that were read lately: what a real model keeps in its cache. Usable from any thread."""

    def __init__(self) -> None:
        """None yet."""
        self._lock = threading.Lock()  # Protects the names.
        self._names: collections.OrderedDict[tuple[str, ...], None] = collections.OrderedDict()

    def has(self, words: list[str]) -> bool:
        """Whether this prefix was read lately."""
        with self._lock:
            return tuple(words) in self._names

    def add(self, words: list[str]) -> None:
        """This prefix was read; the oldest is forgotten."""
        with self._lock:
            self._names[tuple(words)] = None
            self._names.move_to_end(tuple(words))
            if len(self._names) > _PREFIXES:
                self._names.popitem(last=False)


class Model:
    """One reading of one prompt."""

    def __init__(self, pace: Pace, faults: Faults, stopped: threading.Event) -> None:
        """Once `stopped` is set, the work raises `Stopped` where a chunk or a token ends."""
        self._pace, self._faults, self._stopped = pace, faults, stopped
        self._follows: dict[str, collections.deque[str]] = collections.defaultdict(collections.deque)
        self.learn(TOOLS)

    def read(self, phase: str, words: list[str]) -> Iterator[int]:
        """Reads `words` and yields how many it has read after each chunk.

        Raises:
            FloatingPointError: the phase is to fail.
            Stopped: the work was stopped.
        """
        self._stall(phase)
        if self._faults.fail == phase:
            raise FloatingPointError(f"not a number in {phase}")
        for begin in range(0, len(words), _CHUNK):
            self._take(self._pace.chunk)
            self.learn(words[begin : begin + _CHUNK])
            yield min(begin + _CHUNK, len(words))

    def tokens(self, word: str, count: int) -> Iterator[str]:
        """`count` words that go on from `word`: each of those that followed the one before, in turn."""
        self._stall("generation")
        for _ in range(count):
            self._take(self._pace.token)
            followers = self._follows.get(word) or self._follows[TOOLS[0]]
            followers.rotate(-1)
            word = followers[-1]
            yield word

    def learn(self, words: list[str]) -> None:
        """What a prompt, or a prefix from the cache, says."""
        for word, following in itertools.pairwise(words):
            self._follows[word].append(following)

    def _stall(self, phase: str) -> None:
        """The chunk that takes so long; nobody is told of anything, and nobody can stop it while it is in C."""
        if self._faults.stall != phase:
            return
        if self._faults.hold:
            ctypes.PyDLL(None).usleep(ctypes.c_uint(int(self._faults.seconds * 1e6)))  # PyDLL keeps the GIL.
        else:
            self._take(self._faults.seconds)

    def _take(self, seconds: float) -> None:
        if self._stopped.wait(seconds):
            raise Stopped
