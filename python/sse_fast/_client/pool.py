"""The connections of a client of threads: one for each request that is under way, kept for the next.

Owns: sockets, how long each step may take, what a fork and `close` do to them.
Must not know: what is asked; repeating.
Invariants: a connection is held by one thread or by the pool. One on which anything went wrong, or something came
unasked, is closed. A child of the process never uses, ends or waits for a connection of its parent.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import weakref
from typing import TYPE_CHECKING

from sse_fast._exceptions import ArgumentTypeError

from .questions import Answer
from .wire import Response, WireError

if TYPE_CHECKING:
    import ssl

    from .address import Address

_PIECE = 1 << 16  # Bytes read at a time.
_MAX_ANSWER = 1 << 26  # Bytes; no answer of ours comes near it.
_MAX_KEPT = 32  # Connections; a program whose threads need more at one time opens some anew.
#: What OpenSSL makes of the answer of a server without TLS.
_NO_TLS = {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"}


class AttemptError(Exception):
    """An attempt had no answer.

    Attributes:
        sent: whether its request was sent whole.
        stale: whether that was over a kept connection that had ended before.
        final: whether another attempt would fail of the same.
    """

    def __init__(self, why: str, *, sent: bool, stale: bool = False, final: bool = False) -> None:
        """See the class."""
        super().__init__(why)
        self.sent = sent
        self.stale = stale
        self.final = final


def no_connection(error: OSError | ValueError) -> AttemptError:
    """The error where there is no connection; a server is not trusted the next time, either."""
    # By their names: `ssl` is imported only where it is spoken.
    final = type(error).__name__ == "SSLCertVerificationError" or getattr(error, "reason", "") in _NO_TLS
    return AttemptError(reason(error), sent=False, final=final)


def reason(error: BaseException) -> str:
    """What an attempt failed of, in words."""
    if type(error).__name__ == "SSLCertVerificationError":
        why = str(getattr(error, "verify_message", "") or error).rstrip(".")
        return f"the certificate of the server is not trusted: {why}"
    if getattr(error, "reason", "") in _NO_TLS:
        return "what answers there does not speak TLS"
    if isinstance(error, TimeoutError):
        return "no answer came in time"
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    return str(error)


def context_of(address: Address, given: object) -> ssl.SSLContext | None:
    """How TLS is spoken with a server; None where it is not.

    Raises:
        ArgumentTypeError: what was given is no context.
    """
    if given is None and not address.tls:
        return None  # Most clients need no TLS, whose import takes long.
    import ssl  # noqa: PLC0415 - as said

    if given is None:
        return ssl.create_default_context()
    if not isinstance(given, ssl.SSLContext):
        raise ArgumentTypeError(f"tls={given!r} is not allowed: it must be an ssl.SSLContext, or None")
    return given if address.tls else None


class Connection:
    """A socket that carries one request at a time."""

    def __init__(self, address: Address, context: ssl.SSLContext | None, deadline: float) -> None:
        """Connects.

        Raises:
            OSError: it could not in time.
        """
        self.fresh = True
        sock = socket.create_connection((address.host, address.port), timeout=_left(deadline))
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            self.sock = sock if context is None else context.wrap_socket(sock, server_hostname=address.host)
        except BaseException:
            sock.close()
            raise

    def send(self, raw: bytes, deadline: float) -> None:
        """Sends a request.

        Raises:
            AttemptError: not the whole of it could be handed over, so it will not be carried out.
        """
        try:
            self.sock.settimeout(_left(deadline))
            self.sock.sendall(raw)
        except OSError as error:
            raise AttemptError(reason(error), sent=False, stale=not self.fresh) from error

    def head(self, deadline: float) -> tuple[Response, bytes]:
        """The head of the answer, and what of its body came with it.

        Raises:
            AttemptError: it did not come.
        """
        response = Response()
        first = b""
        try:
            while not response.status:
                self.sock.settimeout(_left(deadline))
                data = self.sock.recv(_PIECE)
                if not data:
                    response.end()
                first += response.feed(data)
        except (OSError, WireError) as error:
            stale = not self.fresh and not isinstance(error, TimeoutError)
            raise AttemptError(reason(error), sent=True, stale=stale) from error
        return response, first

    def body(self, response: Response, first: bytes, deadline: float) -> bytes:
        """The whole body.

        Raises:
            AttemptError: it did not come.
        """
        pieces, size = [first], len(first)
        try:
            while not response.whole:
                self.sock.settimeout(_left(deadline))
                data = self.sock.recv(_PIECE)
                if data:
                    pieces.append(response.feed(data))
                    size += len(data)
                else:
                    response.end()
                if size > _MAX_ANSWER:
                    break
        except (OSError, WireError) as error:
            raise AttemptError(reason(error), sent=True) from error
        if not response.whole:
            raise AttemptError("the answer is too long", sent=True)
        return b"".join(pieces)

    def exchange(self, raw: bytes, deadline: float) -> tuple[Answer, bool]:
        """One request and its answer, and whether the connection can carry another.

        Raises:
            AttemptError: no answer came.
        """
        self.send(raw, deadline)
        response, first = self.head(deadline)
        body = self.body(response, first, deadline)
        self.fresh = False
        return Answer(response.status, response.headers, body), response.reusable

    def is_idle(self) -> bool:
        """Whether it is open and nothing has come over it unasked."""
        try:
            self.sock.settimeout(0.0)
            self.sock.recv(1)
        except OSError as error:
            return isinstance(error, BlockingIOError) or type(error).__name__ == "SSLWantReadError"
        return False

    def close(self) -> None:
        """Closes it."""
        self.sock.close()


class Pool:
    """The connections to one server.

    Args:
        address: the server.
        context: how TLS is spoken, where it is; None makes the usual one.
    """

    def __init__(self, address: Address, context: ssl.SSLContext | None = None) -> None:
        """Opens nothing yet."""
        self._address = address
        self._context = context_of(address, context)
        self._lock = threading.Lock()  # Protects what follows; no socket is used under it.
        self._kept: list[Connection] = []
        self.closed = False
        _pools.add(self)

    def exchange(self, raw: bytes, timeout: float) -> Answer:
        """One attempt at a request.

        Raises:
            AttemptError: no answer came within `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        connection = self._take() or self.connect(deadline)
        try:
            answer, reusable = connection.exchange(raw, deadline)
        except AttemptError as error:
            connection.close()
            if error.stale:
                self.drop()  # The others were kept as long, or longer.
            raise
        except BaseException:
            connection.close()
            raise
        if not reusable or not self._keep(connection):
            connection.close()
        return answer

    def connect(self, deadline: float) -> Connection:
        """A new connection, which is the caller's.

        Raises:
            AttemptError: there is none.
        """
        try:
            return Connection(self._address, self._context, deadline)
        except (OSError, ValueError) as error:  # ValueError: of TLS, a name that no certificate could have.
            raise no_connection(error) from error

    def drop(self) -> None:
        """Closes what is kept."""
        with self._lock:
            kept, self._kept = self._kept, []
        for connection in kept:
            connection.close()

    def close(self) -> None:
        """Closes what is kept, and keeps nothing more."""
        self.closed = True
        self.drop()

    def __del__(self) -> None:
        """Closes what is kept: a client may be dropped without a word."""
        for connection in self.__dict__.pop("_kept", ()):
            connection.close()

    def _take(self) -> Connection | None:
        """A kept connection that is still good."""
        while True:
            with self._lock:
                if not self._kept:
                    return None
                connection = self._kept.pop()
            if connection.is_idle():
                return connection
            connection.close()

    def _keep(self, connection: Connection) -> bool:
        with self._lock:
            if self.closed or len(self._kept) >= _MAX_KEPT:
                return False
            self._kept.append(connection)
            return True

    def begin_in_child(self) -> None:
        """After a fork: lets go of the parent's connections, which go on there."""
        self._lock = threading.Lock()  # Another thread may have held it; here it will never let go.
        kept, self._kept = self._kept, []
        for connection in kept:
            connection.close()  # Closes this process's descriptor; nothing is sent.


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


_pools: weakref.WeakSet[Pool] = weakref.WeakSet()


def _begin_in_child() -> None:
    for pool in list(_pools):
        pool.begin_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_in_child)
