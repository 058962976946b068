"""What the kernel holds for a server's connections, socket by socket, asked as `ss -tm` asks: by sock_diag.

Owns: the netlink request and the layout of its answer (linux/inet_diag.h, linux/sock_diag.h). Must not know: whose
sockets they are. Asked directly, because iproute2 is not on every machine, and /proc/net/sockstat knows only one sum
for the clients' sockets and the server's together.
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST_AND_DUMP = 0x301
_DONE, _ERROR = 3, 2
_ESTABLISHED = 1 << 1
_SKMEMINFO = 7
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBxI 48s")
_PORTS = struct.Struct("!HH")
_INET_DIAG_BYTES = 72
_RECEIVE, _FORWARD, _WRITE = 0, 4, 5  # Of skmeminfo: rmem_alloc, fwd_alloc, wmem_queued.


def memory(port: int) -> list[int]:
    """Bytes of kernel memory of every established IPv4 connection to that local port, the server's end alone."""
    found = []
    for message in _messages():
        local, _ = _PORTS.unpack_from(message, 4)
        if local == port:
            found += [_held(message)]
    if not found:
        raise ValueError(f"the kernel names no connection of port {port}")
    return found


def _messages() -> Iterator[bytes]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
        netlink.settimeout(5.0)
        body = _REQUEST.pack(socket.AF_INET, socket.IPPROTO_TCP, 1 << (_SKMEMINFO - 1), _ESTABLISHED, bytes(48))
        netlink.sendall(_HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _REQUEST_AND_DUMP, 0, 0) + body)
        while True:
            received, at = netlink.recv(1 << 18), 0
            while at < len(received):
                length, kind, *_ = _HEADER.unpack_from(received, at)
                if kind == _DONE:
                    return
                if kind == _ERROR:
                    raise OSError("the kernel does not answer sock_diag: is CONFIG_INET_DIAG missing?")
                yield received[at + _HEADER.size : at + length]
                at += -(-length // 4) * 4


def _held(message: bytes) -> int:
    at = _INET_DIAG_BYTES
    while at < len(message):
        length, kind = struct.unpack_from("=HH", message, at)
        if kind == _SKMEMINFO:
            values = struct.unpack_from("=8I", message, at + 4)
            return values[_RECEIVE] + values[_FORWARD] + values[_WRITE]
        at += -(-length // 4) * 4
    raise ValueError("the kernel does not tell the memory of a socket")
