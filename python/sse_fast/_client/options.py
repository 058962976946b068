"""The options of a stream of another process, as they travel: the query of the requests that publish.

Owns: the text of each value, and what can be said of options before a server is asked.
Must not know: names, kinds and limits, which `_settings` has; requests.
Invariants: what leaves this file is what `Server.stream` would be given; the table of settings is imported with the
first option, so that a client which gives none does not pay for it.
Changes together with: the engine's `publish_api/options.rs`, which reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from sse_fast._exceptions import SettingError
from sse_fast._hints import settings

from .batches import MAX_EVENTS


class Options:
    """Options as they were given: the query that has them, and how many events the stream takes at once with them.

    Args:
        given: the options; what is not among them stays as the server has it.

    Raises:
        SettingError: one is unknown or not allowed; for the others the server says so.
    """

    def __init__(self, given: settings.StreamOptions) -> None:
        """See the class."""
        checked: Mapping[str, Any] = settings.stream_options(given) if given else {}
        lag, history = checked.get("max_lag"), checked.get("history")
        if lag is not None and history is not None and lag > history:
            raise SettingError(f"max_lag must not exceed history: got max_lag={lag} with history={history}")
        pairs = (f"{name}={quote(_text(value), safe='')}" for name, value in checked.items())
        self.query = "?" + "&".join(pairs) if checked else ""
        self.limit = MAX_EVENTS if history is None else min(MAX_EVENTS, history)


def _text(value: object) -> str:
    """The text of a value that was checked; None is the empty one, which no other value has."""
    if isinstance(value, bool):
        return "1" if value else "0"
    return "" if value is None else str(value)
