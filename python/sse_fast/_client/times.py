"""How long a client waits: the defaults, and what may be given.

Owns: the limits and the words of refusals. Must not know: what is waited for.
"""

from __future__ import annotations

import math

from sse_fast._exceptions import ArgumentTypeError, SettingError

RETRY_FOR = 5.0  # Seconds: a server is restarted in less.
TIMEOUT = 10.0  # Seconds: a publish may wait for readers as long as `publish_wait`, which is 2 by default.
_LONGEST_RETRY = 240.0  # Seconds: the server knows a key again for 300, and the last attempt takes time as well.
_YEAR = 366 * 24 * 3600.0


def checked_retry_for(value: object, *, endless: bool = False) -> float:
    """Seconds for which a request is repeated; `endless` also allows any number of them, for reading."""
    high = math.inf if endless else _LONGEST_RETRY
    return _checked(
        "retry_for", value, high, "math.inf" if endless else f"{high:g}: a server knows a request no longer"
    )


def checked_timeout(value: object) -> float:
    """Seconds that something may take."""
    return _checked("timeout", value, _YEAR, "a year", low=0.001)


def _checked(name: str, value: object, high: float, longest: str, low: float = 0.0) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ArgumentTypeError(f"{name}={value!r} is not allowed: it must be seconds as a number")
    if not low <= value <= high:  # Also false for NaN.
        raise SettingError(f"{name}={value!r} is not allowed: it must be seconds from {low:g} to {longest}")
    return float(value)
