"""A program that wraps every public call, as an application's own library would. Type checkers read it; it never runs.

Each name of `sse_fast` stands here where a caller needs it: in an annotation, a subclass, an `except`. `mypy --strict`
and pyright accept it, and what is marked `assert_type` is the type that they find. `tests/test_types.py` checks that no
public call is missing.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from typing_extensions import Unpack, assert_type

import sse_fast
from sse_fast import runner, testing


class Hub:
    """A server, wrapped."""

    def __init__(
        self,
        port: int = 0,
        json: sse_fast.Encoder | None = None,
        **settings: Unpack[sse_fast.ServeSettings],
    ) -> None:
        self.server: sse_fast.Server = sse_fast.serve(port, host="127.0.0.1", json=json, **settings)
        assert_type(self.server.port, int)
        assert_type(self.server.url, str)
        assert_type(self.server.closed, bool)

    def stream(self, name: str, **options: Unpack[sse_fast.StreamOptions]) -> sse_fast.Stream:
        streams: list[sse_fast.Stream] = self.server.streams()
        return streams[0] if streams else self.server.stream(name, **options)

    def run(
        self, command: list[sse_fast.RunArgument], on_event: Callable[[sse_fast.Event], object] | None = None
    ) -> sse_fast.Run:
        return self.server.run(
            command,
            stream="run",
            cwd=Path(),
            env={"A": "b"},
            stdin=b"input",
            marker=None,
            lines="log",
            timeout=60.0,
            on_event=on_event,
            grace=1.0,
            drain=1.0,
            history=4096,
        )

    def watch(self, poll: sse_fast.Poll, until: sse_fast.Until) -> sse_fast.Watch:
        return self.server.watch(poll, stream="watch", until=until, every=1.0, event="state", max_failures=3)

    def route(self, exists: sse_fast.Exists) -> None:
        self.server.route("/jobs/{id}", "jobs/{id}", wait=1.0, exists=exists, retry_delay=0.1, start="all")
        self.server.route("/made/{id}", "made/{id}", create=True)

    def add(self, handler: sse_fast.Handler) -> sse_fast.Handler:
        self.server.get("/get", early_head=True, heartbeat=1.0)(handler)
        return self.server.post("/post")(handler)

    def numbers(self) -> tuple[sse_fast.ServerStats, sse_fast.ClosedConnections]:
        stats = self.server.stats()
        assert_type(stats.published, int)
        assert_type(stats.publish_wait_s, float)
        assert_type(stats.gap_reasons, sse_fast.GapReasons)
        assert_type(stats.resumes, sse_fast.Resumes)
        shared: sse_fast.BackplaneStats | None = stats.backplane
        assert_type(shared is not None and shared.up, bool)
        assert_type(self.server.metrics_url, str | None)
        return stats, stats.closed

    def serve_until_signal(self) -> None:
        with self.server as server:
            assert_type(server, sse_fast.Server)
            server.wait()
        self.server.close(drain=1.0)

    async def serve_in_a_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        async with sse_fast.serve(0, loop=loop) as server:
            assert_type(server, sse_fast.Server)
            await server.wait_async()
            await server.aclose(drain=1.0)

    def serve_for_a_while(self) -> None:
        self.server.wait(timeout=1.0)

    def other_methods(self, handler: sse_fast.Handler) -> None:
        self.server.put("/jobs/{id}")(handler)
        self.server.patch("/jobs/{id}")(handler)
        self.server.delete("/jobs/{*rest}")(handler)

    def presence(self) -> sse_fast.Stream:
        @self.server.on_join
        @self.server.on_leave
        def tell(stream: sse_fast.Stream, reader: str | None) -> None:
            print(stream.name, reader)

        tell(self.server.stream("s"), None)
        return self.server.stream(None, start="all")


def who_may_read(algorithm: sse_fast.Algorithm, authorize: sse_fast.Authorize) -> str:
    """Everything by which a program says who may read."""
    key = sse_fast.Key(algorithm, b"a secret that is long enough to be one", id="one")
    tokens = sse_fast.Tokens(keys=[key], issuer="us", audience="me", leeway=5.0)
    assert_type([key.algorithm, key.id, tokens.jwks, tokens.issuer, tokens.audience], "list[str | None]")
    assert_type((tokens.keys, tokens.leeway), "tuple[tuple[sse_fast.Key, ...], float]")
    server = sse_fast.serve(0, authorize=authorize, tokens=tokens, streams={"users/**": {"private": True}})
    testing.serve(authorize=authorize, tokens=tokens, streams={"users/**": {"history": 10}}).close()

    @server.authorize
    def check(request: sse_fast.Request, names: tuple[str, ...]) -> sse_fast.Grant:
        return sse_fast.Grant(request.path, ttl=60.0)

    assert_type(server.disconnect("ann"), int)
    grant = sse_fast.Grant("ann")
    assert_type((grant.reader, grant.ttl), "tuple[str | None, float | None]")
    ticket: str = server.ticket(["users/7/*"], reader="ann", ttl=60.0)
    return ticket + testing.token("a secret", ["**"], reader="ann", ttl=60.0, kid="one", iss="us")


def publish(stream: sse_fast.Stream) -> sse_fast.StreamStats:
    """Everything that a stream takes and tells."""
    assert_type(stream.name, str)
    assert_type(stream.subscribers, int)
    assert_type(stream.last_id, "str | None")
    assert_type(stream.ended, bool)
    identity: str = stream.publish({"n": 1}, event="A", id="own", retry=3.0, snapshot=[1])
    many: list[str] = stream.publish_many([("a", "A"), sse_fast.Event(identity), {"data": dt.date(2026, 1, 2)}])
    stream.snapshot(many, event="snapshot")
    with stream.heartbeat(every=5.0, comment="computing") as same:
        assert_type(same, sse_fast.Stream)
    assert_type(stream.end({"n": 2}, event="DONE"), str)
    stream.remove()
    return stream.stats()


def who_reads(stream: sse_fast.Stream) -> Callable[[], None]:
    """Everything that a stream tells of its readers."""
    assert_type(stream.readers(), "dict[str | None, int]")
    stream.wait_empty(timeout=1.0, after=0.5)

    @stream.on_empty
    def hung_up() -> None: ...

    return hung_up


async def publish_in_a_loop(stream: sse_fast.Stream) -> list[str]:
    """What coroutines publish and wait for."""
    assert_type(await stream.apublish({"n": 1}, event="A", id="own", retry=3.0, snapshot=[1]), str)
    ids = await stream.apublish_many([("a", "A")])
    await stream.asnapshot({"n": 1}, event="snapshot")
    await stream.await_empty(timeout=1.0, after=0.5)
    return [*ids, await stream.aend({"n": 2}, event="DONE")]


def elsewhere(url: str) -> Iterator[str]:
    """Everything that a program does with a server of another process."""
    with sse_fast.connect(url, key="k", retry_for=1.0, timeout=2.0) as client:
        assert_type(client, sse_fast.Client)
        stream: sse_fast.RemoteStream = client.stream("s", retry_for=2.0, timeout=1.0, history=10, expire=None)
        assert_type((client.url, stream.name, stream.last_id, stream.ended), "tuple[str, str, str | None, bool]")
        assert_type(stream.publish(1, event="A", id="a", retry=1.0, snapshot=2, idempotency_key="k"), str)
        assert_type(stream.publish_many([(1, "A")], idempotency_key="k"), "list[str]")
        stream.snapshot(1, event="state")
        found: sse_fast.RemoteEvents = stream.events(last_event_id="a", timeout=1.0, retry_for=60.0)
        for event in found:
            yield event.data
        assert_type(found.last_id, "str | None")
        found.close()
        assert_type(stream.end(1, event="DONE"), str)
        stream.remove()
    client.close()


async def elsewhere_in_a_loop(url: str) -> AsyncIterator[str]:
    async with sse_fast.AsyncClient(url, token="t", tls=None) as client:
        stream: sse_fast.AsyncRemoteStream = client.stream("s", start="all")
        assert_type((await stream.last_id(), await stream.ended()), "tuple[str | None, bool]")
        assert_type(await stream.publish(1), str)
        found: sse_fast.AsyncRemoteEvents = stream.events()
        async for event in found:
            yield event.data
        await found.aclose()
    await client.aclose()


def failure_elsewhere(error: sse_fast.RequestError) -> str:
    """What a failure tells; each kind of it is one of these."""
    kinds: list[type[sse_fast.RequestError]] = [sse_fast.Unreachable, sse_fast.AccessDenied, sse_fast.UnknownStream]
    assert_type(error.status, "int | None")
    assert_type(error.published, "bool | None")
    assert_type(error.ids, "tuple[str, ...]")
    return f"{error.error} {kinds}"


def beating(stream: sse_fast.Stream) -> sse_fast.Heartbeat:
    return stream.heartbeat(1.0, "computing")


def events(stream: sse_fast.Stream) -> Iterator[sse_fast.Event]:
    found: sse_fast.Events = stream.events(start="all", timeout=1.0)
    for event in found:
        assert_type(event.data, str)
        assert_type(event.event, str)
        assert_type(event.id, "str | None")
        assert_type(event.retry, "float | None")
        yield event
    found.close()


async def async_events(stream: sse_fast.Stream) -> AsyncIterator[Any]:
    async for event in stream.events(last_event_id="a-1"):
        yield event.json()


def finish(run: sse_fast.Run, watch: sse_fast.Watch) -> int:
    """Everything that a run and a watch have."""
    assert_type(run.pid, int)
    assert_type(run.returncode, "int | None")
    assert_type(run.status, "str | None")
    assert_type(run.poll(), "int | None")
    args: list[str] = run.args
    print(args, run.result, run.stream, run.on_event_failures)
    run.terminate()
    run.kill()
    run.send_signal(15)
    watch.stop()
    watch.wait(1.0)
    print(watch.stream, watch.value, watch.failures, watch.done)
    return run.wait(timeout=1.0)


def answer(request: sse_fast.Request) -> sse_fast.Response | sse_fast.Stream:
    """A handler."""
    headers: sse_fast.Headers = request.headers
    given: Mapping[str, str] = {**request.params, **request.query, **headers}
    print(request.method, request.path, request.query_list, request.body, request.client)
    if not given:
        raise sse_fast.HttpError(400, "nothing given", error="empty", headers={"X-A": "b"})
    response = sse_fast.Response(request.json(), status=201, headers={"X-A": "b"}, content_type="application/json")
    print(response.status, response.headers, response.body)
    return response


async def async_answer(request: sse_fast.Request) -> object:
    return {"path": request.path, "cookie": request.cookies.get("session")}


def generated(request: sse_fast.Request) -> Iterator[sse_fast.Event]:
    yield sse_fast.Event(request.path)


async def generated_in_a_loop(request: sse_fast.Request) -> AsyncIterator[str]:
    yield request.path


def answered_with_headers(stream: sse_fast.Stream, headers: sse_fast.HeadersGiven) -> sse_fast.Response:
    response = sse_fast.Response(stream, headers=headers)
    assert_type(response.stream, "sse_fast.Stream | None")
    if stream.ended:
        raise sse_fast.HttpError(409, body={"ended": True})
    return response


def refused(hub: Hub) -> BaseException | None:  # noqa: C901, PLR0911 - a case for each
    """Every exception, as a leaf or by its group."""
    try:
        hub.add(answer)
        hub.add(async_answer)
        hub.add(generated)
        hub.add(generated_in_a_loop)
    except (sse_fast.AddressInUse, sse_fast.PermissionDenied, sse_fast.RunArgumentError) as error:
        return OSError(error.errno, error.strerror)
    except (sse_fast.StoreLocked, sse_fast.StoreDenied, sse_fast.StoreFull) as error:
        return OSError(error.errno, error.strerror)
    except sse_fast.BackplaneUnavailable as error:
        return error if error.published is None else None
    except (sse_fast.StartError, sse_fast.RunError, sse_fast.BackplaneError, sse_fast.StoreError) as error:
        return error
    except (sse_fast.StreamEnded, sse_fast.PublishWouldWait, sse_fast.TooManyStreams, sse_fast.KeyReused):
        return None
    except (sse_fast.StreamError, sse_fast.ServerClosed, sse_fast.ForkError) as error:
        return error
    except (sse_fast.EventError, sse_fast.SettingError, sse_fast.RouteError, sse_fast.ResponseError) as error:
        return ValueError(*error.args)
    except (sse_fast.EventTypeError, sse_fast.ArgumentTypeError) as error:
        return TypeError(*error.args)
    except sse_fast.WaitTimeout as error:
        return TimeoutError(*error.args)
    except sse_fast.HttpError as error:
        print(error.status, error.detail, error.error, error.headers, error.body)
    except sse_fast.SseFastError as error:
        print(sse_fast.__version__, isinstance(error, sse_fast.PublishInProgress))
    return None


def child() -> None:
    runner.emit("COMPILING", {"step": 1}, id="own")


def test_with_a_server(sse_server: sse_fast.Server, sse_serve: Callable[..., sse_fast.Server]) -> None:
    with testing.serve(heartbeat_pace=100, history=10) as server:
        stream = server.stream("s")
        assert_type(testing.events_of(stream, until="DONE", timeout=1.0), list[sse_fast.Event])
        assert_type(testing.heartbeats_of(server, stream, 2, event=None, timeout=1.0), list[str])
    print(sse_server, sse_serve, testing.sse_server, testing.sse_serve)


async def test_in_a_coroutine(stream: sse_fast.Stream) -> list[sse_fast.Event]:
    return await testing.aevents_of(stream, 3, timeout=1.0)
