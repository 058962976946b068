"""Fetching the keys of tokens from the web.

Owns: the thread that does, what is sent and read, when it is tried again. Must not know: keys (the engine reads them),
requests. Imported by servers that fetch keys only.
Invariants: one fetch at a time, each told to the engine when it has ended, however it did. Redirects are not followed:
they could lead anywhere, in clear text too. No more than 64 KiB are read, in no more than ten seconds.
"""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from . import _records, _threads

if TYPE_CHECKING:
    from ._core import KeySource

_LOG = _records.logger("sse_fast.access")

_MAX_BYTES = 64 * 1024
_TIMEOUT = 5.0  # Seconds without a byte.
_LONGEST = 8.0  # Seconds in all; requests wait ten for it.
_REFRESH = 3600.0  # Seconds: a key that its issuer has withdrawn is out of force then.
_LONGEST_PAUSE = 30.0  # Seconds between two tries while it fails.


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Makes a redirect an error, as any other status is."""

    def redirect_request(self, *_args: object, **_named: object) -> None:
        """No request follows."""


class KeyFetcher:
    """Brings the keys of one server from a URL, from the beginning on."""

    def __init__(self, source: KeySource, url: str) -> None:
        """Starts the thread."""
        self._source = source
        self._url = url
        parts = urlsplit(url)
        self._shown = f"{parts.scheme}://{parts.netloc}{parts.path}"  # A query may hold a secret.
        # A proxy on the way to this machine would be another machine.
        direct = [urllib.request.ProxyHandler({})] if parts.scheme == "http" else []
        self._opener = urllib.request.build_opener(_NoRedirects, *direct)
        self._thread = _threads.start(self._run, "sse_fast keys")

    def finish(self, until: float) -> None:  # noqa: ARG002 - a fetch under way ends by itself, and changes nothing
        """Waits until the thread has ended, unless it is in the middle of a fetch."""
        _threads.join_those_that_leave([self._thread])

    def _run(self) -> None:
        pause, failures = _REFRESH, 0
        while (wanted := self._source.wait(pause)) is not None:
            if not wanted:
                self._source.begin()
            found, why = None, "it is no key set, or has no key that can be used"
            try:
                found = self._fetch()
            except (OSError, ValueError, http.client.HTTPException) as error:
                why = f"{type(error).__name__}: {error}"
            except BaseException:  # The engine is told in any case.
                self._source.fetched(None)
                raise
            count = self._source.fetched(found)
            if count is None:
                failures += 1
                pause = min(2.0 ** (failures - 1), _LONGEST_PAUSE)
                _LOG.warning("the keys of tokens could not be fetched from %s: %s", self._shown, why)
            else:
                _LOG.info("%d keys of tokens were fetched from %s", count, self._shown)
                pause, failures = _REFRESH, 0

    def _fetch(self) -> bytes:
        deadline = time.monotonic() + _LONGEST
        request = urllib.request.Request(self._url, headers={"Accept": "application/json"})  # noqa: S310 - checked
        with self._opener.open(request, timeout=_TIMEOUT) as response:
            body = b""
            while part := response.read1(_MAX_BYTES + 1):
                body += part
                if len(body) > _MAX_BYTES:
                    raise ValueError(f"it is longer than {_MAX_BYTES} bytes")
                if time.monotonic() > deadline:
                    raise TimeoutError(f"it took longer than {_LONGEST} s")
            if response.status != http.client.OK:
                raise ValueError(f"its status is {response.status}")
        return body
