"""HTTP/1.1 as a client needs it: the bytes of a request, and a response read piece by piece.

Owns: heads, bodies by length, in chunks and to the connection's end.
Must not know: sockets; what is asked and answered.
Invariants: a body whose end did not come is never taken for a whole one. What is no HTTP raises `WireError`.
"""

from __future__ import annotations

import re

_MAX_HEAD = 1 << 16  # Bytes, of an answer's head or a chunk's first line.
_STATUS = re.compile(rb"HTTP/1\.([01]) (\d{3})(?: |$)")
_INTERIM, _NO_CONTENT, _NOT_MODIFIED = 200, 204, 304


class WireError(Exception):
    """What came is no HTTP/1.1, or ended early."""


def request(method: str, target: str, authority: str, headers: dict[str, str], body: bytes | None = None) -> bytes:
    """The bytes of one request, its body included."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {authority}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


class Response:
    """One response, fed with what a connection brings.

    Attributes:
        status: its status; 0 before the head is there.
        headers: by names in lower case.
        whole: whether its end was there.
    """

    def __init__(self) -> None:
        """Nothing has come."""
        self.status = 0
        self.headers: dict[str, str] = {}
        self.whole = False
        self._kept: bytes = b""
        self._left: int | None = None  # Of the body or of a chunk; None: to the connection's end.
        self._chunked = False
        self._in_trailers = False
        self._persistent = True

    @property
    def reusable(self) -> bool:
        """Whether the connection can carry another request."""
        return self.whole and self._persistent and not self._kept

    def feed(self, data: bytes) -> bytes:
        """Takes what came; gives the bytes of the body that are in it."""
        self._kept += data
        if not self.status and not self._head():
            return b""
        if self.whole:
            return b""
        if self._chunked:
            return self._chunks()
        if self._left is None:
            body, self._kept = self._kept, b""
            return body
        body, self._kept = self._kept[: self._left], self._kept[self._left :]
        self._left -= len(body)
        self.whole = not self._left
        return body

    def end(self) -> None:
        """The connection ended.

        Raises:
            WireError: in the middle.
        """
        self._persistent = False
        if self.status and self._left is None and not self._chunked:
            self.whole = True
        if not self.whole:
            raise WireError("the connection ended before the answer" if not self.status else "the answer was cut off")

    def _head(self) -> bool:
        """Reads the head, if it is there; skips those of interim answers."""
        while True:
            text, blank, rest = self._kept.partition(b"\r\n\r\n")
            if not blank:
                if len(self._kept) > _MAX_HEAD or not b"HTTP/1."[: len(self._kept)] == self._kept[:7]:
                    raise WireError("what answers there does not speak HTTP/1.1")
                return False
            first, *lines = text.split(b"\r\n")
            found = _STATUS.match(first)
            if found is None:
                raise WireError("what answers there does not speak HTTP/1.1")
            self._kept = rest
            if int(found[2]) >= _INTERIM:
                break
        for line in lines:
            name, colon, value = line.decode("latin-1").partition(":")
            if not colon:
                raise WireError("the answer's head has a line that is no header")
            self.headers[name.strip().lower()] = value.strip()
        self.status = int(found[2])
        self._begin_body(found[1] == b"1")
        return True

    def _begin_body(self, persists: bool) -> None:
        connection = self.headers.get("connection", "").lower()
        self._persistent = "close" not in connection and (persists or "keep-alive" in connection)
        self._chunked = self.headers.get("transfer-encoding", "").lower().endswith("chunked")
        length = self.headers.get("content-length")
        if self.status in {_NO_CONTENT, _NOT_MODIFIED}:
            self._chunked, self.whole = False, True
        elif not self._chunked and length is not None:
            if not re.fullmatch(r"\d{1,18}", length):
                raise WireError("the answer has a length that is no number")
            self._left = int(length)
            self.whole = not self._left
        elif not self._chunked:
            self._persistent = False
        else:
            self._left = 0

    def _chunks(self) -> bytes:
        """The data of the chunks that are there; `_left` counts a chunk's bytes with the line end behind it."""
        body = []
        while not self.whole and self._kept:
            if self._left:
                taken, self._kept = self._kept[: self._left], self._kept[self._left :]
                body.append(taken[: max(0, self._left - 2)])  # Without the line end behind the data.
                self._left -= len(taken)
                continue
            line, end, rest = self._kept.partition(b"\r\n")
            if not end:
                if len(self._kept) > _MAX_HEAD:
                    raise WireError("the answer's chunks cannot be read")
                break
            self._kept = rest
            if self._in_trailers:
                self.whole = not line
                continue
            size = line.partition(b";")[0].strip()
            if not re.fullmatch(rb"[0-9A-Fa-f]{1,15}", size):
                raise WireError("the answer's chunks cannot be read")
            self._left = int(size, 16) + 2
            if self._left == 2:  # noqa: PLR2004 - the last chunk has no data, and trailers in the place of a line end
                self._left, self._in_trailers = 0, True
        return b"".join(body)
