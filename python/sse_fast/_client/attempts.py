"""How often and when a request is repeated, and what is known of it when it is given up.

Owns: the pauses between attempts, the end of them, and `published`.
Must not know: requests, sockets, clocks: the time, and the chance in a pause, come in as arguments.
Invariants: an attempt begins only within `retry_for` seconds of the first. `published` never goes back to False: once
an attempt may have been carried out, only an answer can tell, and every later attempt has the same key.
"""

from __future__ import annotations

_FIRST_PAUSE = 0.05  # Seconds: a server that restarts at once is back by then.
_LONGEST_PAUSE = 1.0  # So that one that is back is found within a second.


class Attempts:
    """The attempts of one request.

    Args:
        began: when the first began, by the clock of all later times.
        retry_for: for how many seconds others may begin.
    """

    def __init__(self, began: float, retry_for: float) -> None:
        """See the class."""
        self._until = began + retry_for
        self._failed = 0
        self.published: bool | None = False  # None: an attempt may have been carried out.

    def again(self, now: float, chance: float, *, sent: bool, stale: bool = False, asked: float = 0.0) -> float | None:
        """An attempt failed: how many seconds to wait before the next; None gives up.

        Args:
            now: the time.
            chance: from 0 to 1, so that many clients do not come back at one moment.
            sent: whether the server may have carried the request out.
            stale: whether it went over a kept connection that had ended before: no sign of trouble.
            asked: how many seconds the server asked to wait.
        """
        if sent:
            self.published = None
        left = self._until - now
        if stale:
            return 0.0 if left >= 0 else None
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(self._failed, 10)) * (0.5 + chance / 2)
        self._failed += 1
        if left <= 0:
            return None
        return min(max(pause, asked), left)  # The last one begins as the time ends.
