"""A server of another process, from Python: publish into its streams, and read them.

>>> from sse_fast import client
>>> events = client.connect("http://127.0.0.1:8080", retry_for=2.0)
>>> stream = events.stream("runs/42")  # stream.publish({"status": "COMPILING"}, event="COMPILING")
>>> events.close()

Owns: the public names; what they do is in `_client/`.
Must not know: the engine. Importing this costs the standard library and nothing else, so that a worker of Celery or a
script of cron may do it; orjson is imported at the first event that is JSON, asyncio with the first `AsyncClient`.
"""

from __future__ import annotations

from ._client.reading import RemoteEvents
from ._client.reading_tasks import AsyncRemoteEvents
from ._client.tasks import AsyncClient, AsyncRemoteStream
from ._client.threads import Client, RemoteStream
from ._client.times import RETRY_FOR, TIMEOUT
from ._hints import ssl

__all__ = [
    "AsyncClient",
    "AsyncRemoteEvents",
    "AsyncRemoteStream",
    "Client",
    "RemoteEvents",
    "RemoteStream",
    "connect",
]


def connect(  # noqa: PLR0913 - those of Client
    url: str,
    *,
    key: str | None = None,
    token: str | None = None,
    retry_for: float = RETRY_FOR,
    timeout: float = TIMEOUT,
    tls: ssl.SSLContext | None = None,
) -> Client:
    """A client of the server of another process; see `Client`, also for the arguments. Nothing is asked yet.

    Programs of asyncio make an `AsyncClient` instead.

    Args:
        url: the server's URL, such as ``"http://127.0.0.1:8080"``.
        key: one of the server's ``publish_key``.
        token: a JSON Web Token in its place.
        retry_for: for how many seconds a request without an answer is repeated.
        timeout: how many seconds an attempt may take.
        tls: how TLS is spoken.

    Raises:
        SettingError: an argument is not allowed.
        ArgumentTypeError: an argument has a type that it cannot have.

    >>> import sse_fast
    >>> with sse_fast.connect("http://127.0.0.1:8080") as client:
    ...     client.stream("runs/42")
    <sse_fast.RemoteStream 'runs/42' of http://127.0.0.1:8080>
    """
    return Client(url, key=key, token=token, retry_for=retry_for, timeout=timeout, tls=tls)
