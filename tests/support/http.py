"""A response head, and the chunked transfer coding, read strictly.

Strictly: a stray byte, a bad chunk size or a missing CRLF is an assertion, so
that every test that reads a response also proves its framing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Head:
    """Status line and headers; header names are lower case, `raw` is as received."""

    version: str
    status: int
    reason: str
    headers: list[tuple[str, str]]
    raw: bytes

    def __getitem__(self, name: str) -> str:
        values = self.all(name)
        assert values, f"no header {name!r} in {self.raw!r}"
        assert len(values) == 1, f"header {name!r} appears {len(values)} times in {self.raw!r}"
        return values[0]

    def __contains__(self, name: str) -> bool:
        return bool(self.all(name))

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name.lower()]

    @property
    def chunked(self) -> bool:
        return "transfer-encoding" in self and self["transfer-encoding"].lower() == "chunked"


def parse_head(raw: bytes) -> Head:
    """Parse everything up to and including the empty line."""
    text = raw.decode("latin-1")
    assert text.endswith("\r\n\r\n"), raw
    lines = text[:-4].split("\r\n")
    assert not any("\r" in line or "\n" in line for line in lines), f"a lone CR or LF in the head: {raw!r}"
    version, _, rest = lines[0].partition(" ")
    status, _, reason = rest.partition(" ")
    headers = []
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        assert colon, f"bad header line {line!r}"
        assert name, f"bad header line {line!r}"
        assert name == name.strip(), f"bad header line {line!r}"
        headers.append((name.lower(), value.strip()))
    return Head(version, int(status), reason, headers, raw)


class ChunkDecoder:
    """Feed coded bytes, get decoded ones; `chunks` keeps each chunk apart."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.finished = False
        self.after_end = b""
        self._buffer = bytearray()

    def feed(self, data: bytes) -> bytes:
        self._buffer += data
        out = bytearray()
        while not self.finished:
            end = self._buffer.find(b"\r\n")
            if end < 0:
                assert len(self._buffer) < 32, f"no chunk size in {bytes(self._buffer[:80])!r}"
                break
            size_text = bytes(self._buffer[:end])
            assert re.fullmatch(rb"[0-9a-fA-F]+", size_text), f"bad chunk size {size_text!r}"
            size = int(size_text, 16)
            if len(self._buffer) < end + 2 + size + 2:
                break
            chunk = bytes(self._buffer[end + 2 : end + 2 + size])
            assert self._buffer[end + 2 + size : end + 4 + size] == b"\r\n", f"no CRLF after the chunk {chunk[:80]!r}"
            del self._buffer[: end + 4 + size]
            if size == 0:
                self.finished = True
            else:
                self.chunks.append(chunk)
                out += chunk
        if self.finished:
            self.after_end += bytes(self._buffer)
            self._buffer.clear()
        return bytes(out)
