"""What was published under an idempotency key, and repeated at another process of the same folder.

Guards that a repeat after a kill or a restart adds nothing and is given the first answer, over HTTP, from threads and
from coroutines; that another content is refused as before; and that a client whose answer was cut by a kill repeats
into the next process. What becomes of keys wherever a write was cut is stepped in `store/recovery` and `stream/kept`.
"""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path

import pytest

import sse_fast
from support.deadline import DEADLINE, until
from support.kept import Kept, reopened, texts
from support.proxy import Proxy
from support.publishing import KEY, Elsewhere
from support.reader import fetch

DURABLE = pytest.mark.parametrize("durable", ["process", "disk"])
ENDS = pytest.mark.parametrize("how", ["killed", "closed"])
LIST = [{"data": 1}, {"data": 2, "id": "own"}, {"data": 3, "snapshot": "up to 3"}]


def end(server: Kept, how: str) -> None:
    if how == "killed":
        server.kill()
    else:
        server.process.terminate()
        server.process.wait(DEADLINE)


@DURABLE
@ENDS
def test_what_was_posted_before_a_restart_is_not_posted_again(tmp_path: Path, durable: str, how: str) -> None:
    bodies = {"one": {"data": "x"}, "list": LIST, "snapshot": {"snapshot": "s"}, "snapshots": [{"snapshot": "s"}]}
    settings = {"durable": durable, "publish_key": KEY}
    # With a running loop it ends as a signal says.
    with Kept(tmp_path, "" if how == "killed" else "server.wait(); os._exit(0)", **settings) as server:
        with Elsewhere(server.port) as elsewhere:
            first = {key: elsewhere.post(body, Idempotency_Key=key) for key, body in bodies.items()}
            assert [answer.status for answer in first.values()] == [201] * 4
        end(server, how)
    for _ in range(2):
        with reopened(tmp_path, **settings) as server, Elsewhere(server.port) as elsewhere:
            assert server.stream("s").stats().retained == 4
            for key, body in bodies.items():
                again = elsewhere.post(body, Idempotency_Key=key)
                assert (again.status, again.body) == (201, first[key].body), key
                assert again.headers["idempotency-replayed"] == "true", key
                other = elsewhere.post({"data": "other"}, Idempotency_Key=key)
                assert (other.status, other.error) == (422, "key_reused"), key
            # In another stream the key is another one.
            assert elsewhere.post({"data": "x"}, "t", Idempotency_Key="one").status == 201
            assert server.stream("s").stats().retained == 4
            server.stream("t").remove()


@DURABLE
def test_what_a_program_published_before_a_kill_is_not_published_again(tmp_path: Path, durable: str) -> None:
    source = """
        import asyncio
        stream = server.stream("s")
        async def publish():
            return [
                await stream.apublish("three", idempotency_key="k3"),
                *await stream.apublish_many([("four", None), ("five", None)], idempotency_key="k4"),
            ]
        ids = [stream.publish("one", idempotency_key="k1", id="own")]
        ids += stream.publish_many([("two", None)] * 2, idempotency_key="k2")
        ids += asyncio.run(publish())
        # Out of history, and a key counts all the same.
        server.stream("s", history=1)
        stream.publish("last")
        say("ids", json.dumps(ids))
    """
    with Kept(tmp_path, source, durable=durable) as killed:
        ids = json.loads(killed.line_with("ids"))
        killed.kill()

    async def publish(stream: sse_fast.Stream) -> list[str]:
        many = await stream.apublish_many([("four", None), ("five", None)], idempotency_key="k4")
        return [await stream.apublish("three", idempotency_key="k3"), *many]

    with reopened(tmp_path, durable=durable) as server:
        stream = server.stream("s")
        again = [stream.publish("one", idempotency_key="k1", id="own")]
        again += stream.publish_many([("two", None)] * 2, idempotency_key="k2")
        again += asyncio.run(publish(stream))
        assert again == ids
        assert texts(server, "s") == ["last"]
        for key in ("k1", "k2", "k3", "k4"):
            with pytest.raises(sse_fast.KeyReused):
                stream.publish("other", idempotency_key=key)
        # Removed and begun anew it is another stream to its program.
        stream.remove()
        assert server.stream("s").publish("one", idempotency_key="k1", id="own") == "own"
        assert texts(server, "s") == ["one"]


@DURABLE
def test_a_client_whose_answer_a_kill_cut_repeats_into_the_next_process(tmp_path: Path, durable: str) -> None:
    """Its request is through, and no answer comes: it repeats until the next process gives the first answer."""
    settings = {"durable": durable, "publish_key": KEY, "start": "all"}
    got: list[str] = []
    with Kept(tmp_path, **settings) as first, Proxy(first.port) as proxy:
        url = f"http://127.0.0.1:{proxy.port}"
        with sse_fast.connect(url, key=KEY, retry_for=DEADLINE) as client:
            stream = client.stream("s")
            stream.publish("before")
            proxy.keeping_answers = True
            thread = threading.Thread(target=lambda: got.append(stream.publish("x")))
            thread.start()
            until(lambda: _events(first.port) == ["before", "x"], what="the event's being there")
            first.kill()
            proxy.refusing = True
            proxy.cut()
            proxy.keeping_answers = False
            assert thread.is_alive(), "it was told nothing"
            with reopened(tmp_path, **settings) as second:
                proxy.target, proxy.refusing = second.port, False
                thread.join(DEADLINE)
                assert got == [second.stream("s").last_id]
                assert texts(second, "s") == ["before", "x"], "once"


def _events(port: int) -> list[str]:
    head, body = fetch(port, "/streams/s", headers=[("Accept", "application/json")])
    return [event["data"] for event in json.loads(body)["events"]] if head.status == 200 else []


def test_a_key_ends_with_a_life_whose_events_are_lost(tmp_path: Path) -> None:
    """What is there is answered with the ids that it has now, and what is lost is published again."""
    settings = {"publish_key": KEY}
    with reopened(tmp_path, **settings) as server, Elsewhere(server.port) as elsewhere:
        there = elsewhere.post({"data": "there"}, Idempotency_Key="k1").body
        lost = elsewhere.post({"data": "lost"}, Idempotency_Key="k2").body
    segment = max(tmp_path.glob("*.segment"))
    content = segment.read_bytes()
    segment.write_bytes(content.replace(b"data: lost", b"data: LOST"))
    for _ in range(2):
        with reopened(tmp_path, **settings) as server, Elsewhere(server.port) as elsewhere:
            now = elsewhere.post({"data": "there"}, Idempotency_Key="k1").body
            assert now != there
            assert texts(server, "s") == ["there"]
            assert now["id"] == server.stream("s").last_id
            last = now
    with reopened(tmp_path, **settings) as server, Elsewhere(server.port) as elsewhere:
        again = elsewhere.post({"data": "lost"}, Idempotency_Key="k2")
        assert (again.status, "idempotency-replayed" in again.headers) == (201, False)
        assert again.body["id"] not in {lost["id"], last["id"]}
        assert texts(server, "s") == ["there", "lost"]
