"""The table of requests in `tests/data/requests.txt`, and the answers on one connection, taken apart.

`rows` reads the table; `converse` sends bytes, shuts its writing side, and reads every answer until the end.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
from dataclasses import dataclass
from pathlib import Path

from .deadline import DEADLINE
from .http import parse_head

TABLE = Path(__file__).resolve().parents[1] / "data" / "requests.txt"

#: What a server of HTTP/2 begins with: its settings, which are empty, and the GOAWAY that follows.
_SETTINGS = b"\0\0\0\4\0\0\0\0\0"
_GOAWAY = 7
_HTTP_1_1_REQUIRED = 0xD


@dataclass(frozen=True)
class Row:
    """One request."""

    name: str
    expected: list[str]
    raw: bytes


def _bytes(text: str) -> bytes:
    repeated = re.sub(r"\{(\d+)\*(.*?)\}", lambda found: found[2] * int(found[1]), text)
    return repeated.encode().decode("unicode_escape").encode("latin-1")


def rows() -> list[Row]:
    """Every row of the table."""
    found = []
    for line in TABLE.read_text(encoding="ascii").splitlines():
        if line and not line.startswith("#"):
            name, expected, raw = line.split("\t")
            found.append(Row(name, expected.split(", "), _bytes(raw)))
    return found


def converse(port: int, raw: bytes) -> bytes:
    """Everything that comes back until the end; what came before a reset, where the server has read enough."""
    received = bytearray()
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.settimeout(DEADLINE)
        with contextlib.suppress(OSError):  # It has read enough, and closed.
            sock.sendall(raw)
            sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            while piece := sock.recv(1 << 16):
                received += piece
    return bytes(received)


def answers(received: bytes, methods: list[str]) -> list[str]:
    """The answers in what was received, in words as in the table: `400 bad_request`, `goaway`; `close` for none.

    Each must be a whole response with a body of JSON, or a well-formed frame, and the last one must say that it is.
    """
    told = []
    while received:
        if received.startswith(_SETTINGS):
            told.append(_goaway(received[len(_SETTINGS) :]))
            break
        end = received.index(b"\r\n\r\n") + 4
        head = parse_head(received[:end])
        if head.status == 100:
            received = received[len(head.raw) :]
            continue
        length = 0 if methods and methods[0] == "HEAD" else int(head["content-length"])
        body = received[len(head.raw) :][:length]
        assert len(body) == length, "the body is cut"
        assert head["content-type"] == "application/json", head.raw
        error = json.loads(body)
        assert error["detail"], "a sentence for people"
        told.append(f"{head.status} {error['error']}")
        received = received[len(head.raw) + length :]
        if head.status in {408, 413, 414, 417, 431, 501, 505} or error["error"] in {"bad_request", "tls_on_http"}:
            assert head["connection"] == "close", head.raw
            assert not received, "nothing follows the last answer"
    return told or ["close"]


def _goaway(frame: bytes) -> str:
    length = int.from_bytes(frame[:3], "big")
    assert (frame[3], frame[9:13]) == (_GOAWAY, b"\0\0\0\0"), frame
    assert int.from_bytes(frame[13:17], "big") == _HTTP_1_1_REQUIRED
    assert len(frame) == 9 + length, "it is the last frame"
    return "goaway"
