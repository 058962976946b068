"""Reading a server's `/metrics` as a monitoring system does.

Owns: the pace of scrapes, and what one costs. Must not know: what the page says (`metrics`), what is good enough.
"""

from __future__ import annotations

import http.client
import time

import gevent

from .histogram import Histogram
from .processes import cpu_seconds

_MANY = 200  # Scrapes whose processor time is measured: it is told in hundredths of a second.


class Scrapes:
    """One connection to a server, kept, as Prometheus keeps its own."""

    def __init__(self, port: int, pid: int, every: float) -> None:
        """Asks `port` every so many seconds, once `begin` was called; `pid` is the server's process."""
        self._pid, self._every = pid, every
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self._greenlet: gevent.Greenlet | None = None
        self.took = Histogram()
        self.cost = 0.0  # Seconds of the server's processor time for one.

    def begin(self) -> None:
        """Scrapes until `rest`."""
        self._greenlet = gevent.spawn(self._scrape_for_ever)

    def rest(self) -> str:
        """Scrapes no more by itself; measures what one costs now, with what is connected, and gives the last page."""
        if self._greenlet is not None:
            self._greenlet.kill()
        before = cpu_seconds([self._pid])
        for _ in range(_MANY):
            self._ask()
        self.cost = (cpu_seconds([self._pid]) - before) / _MANY
        return self.page()

    def end(self) -> None:
        """Lets the connection go."""
        if self._greenlet is not None:
            self._greenlet.kill()
        self._connection.close()

    def page(self) -> str:
        """The page as it is now."""
        began = time.monotonic()
        text = self._ask()
        self.took.record((time.monotonic() - began) * 1e3)
        return text

    def _ask(self) -> str:
        self._connection.request("GET", "/metrics")
        response = self._connection.getresponse()
        text = response.read().decode()
        if response.status != http.HTTPStatus.OK:
            raise RuntimeError(f"/metrics answered {response.status}: {text}")
        return text

    def _scrape_for_ever(self) -> None:
        while True:
            self.page()
            gevent.sleep(self._every)
