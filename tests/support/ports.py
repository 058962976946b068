"""Ports for programs that must be told theirs, such as nginx, gunicorn, and blocks of the documentation.

Between the moment when a test finds a port free and the one when its program listens there, nobody else may take it:
not a program of another process of the tests (each finds its own where it alone looks), and not the system for
somebody who does not care which port (they lie below those that it gives away by itself).
"""

from __future__ import annotations

import itertools
import os
import random
import re
import socket

#: Linux gives away 32768 and more; a few servers that every machine may have lie below 12000.
_FIRST, _EACH, _PROCESSES = 12_000, 1_250, 16

_worker = re.sub(r"\D", "", os.environ.get("PYTEST_XDIST_WORKER", ""))
_own = _FIRST + _EACH * ((int(_worker) + 1 if _worker else 0) % _PROCESSES)
#: Each once before any comes again, from a place by chance: another run on this machine may go through the same ones.
_ports = itertools.cycle(random.sample(range(_own, _own + _EACH), _EACH))


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on, each another one."""
    return list(itertools.islice(filter(is_free, _ports), count))


def is_free(port: int) -> bool:
    """Whether a server could listen there, as ours does: what waits out its time (TIME_WAIT) does not hinder it."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
            sock.listen()
        except OSError:
            return False
        return True


def accepts(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0
