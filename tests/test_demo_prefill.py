"""The prefill demo, point by point of its system (S2), over real sockets and by the official client.

Guards what its write-up lost: a chunk of prefill that stalls, also in C with the interpreter held, and a client that
hangs up in the silence. The clock is shortened here; `tests/slow/test_prefill_by_the_clock.py` has the real one.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

import sse_fast
from conftest import Serve
from sse_fast.demos import prefill
from support.deadline import until
from support.prefill import BEAT, Prefill, arrivals, running_prefill
from support.reader import Reader, fetch

if TYPE_CHECKING:
    from openai import OpenAI  # Where it is used it is imported, for that takes a second.

STALL = {"stall": "cold_prefix", "seconds": 1.5, "hold": True}
MESSAGES: Any = [{"role": "user", "content": "once upon"}]


@pytest.fixture(scope="module")
def quick() -> Iterator[Prefill]:
    """Heartbeats after 0.2 s of silence in prefill, and after 0.3 s outside of it."""
    with running_prefill(idle=0.3) as running:
        yield running


def chunks(body: bytes) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in body.decode().split("\n") if line.startswith("data: {")]


def client(running: Prefill, read: float = 20.0) -> OpenAI:
    import openai

    timeout = httpx2.Timeout(20.0, read=read)
    return openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", timeout=timeout, max_retries=0)


# ---- S2.1 ----


@pytest.mark.parametrize("chat", [False, True])
def test_s2_1_a_completion_is_data_chunks_without_ids_and_then_done(quick: Prefill, chat: bool) -> None:
    with quick.complete(chat=chat, tools=[{"type": "function"}]) as reader:
        body = reader.open().read_to_end()
    blocks = body.decode().split("\n\n")
    assert blocks.pop() == ""
    assert blocks.pop() == "data: [DONE]"
    assert all(re.fullmatch(r"data: \{[^\n]*\}", block) for block in blocks), blocks
    found = chunks(body)
    assert len({chunk["id"] for chunk in found}) == 1
    assert {chunk["object"] for chunk in found} == {"chat.completion.chunk" if chat else "text_completion"}
    assert [chunk["choices"][0]["finish_reason"] for chunk in found] == [None] * 8 + ["length"]


def test_s2_1_the_official_client_reads_it(quick: Prefill) -> None:
    official = client(quick)
    with official.completions.create(model="m", prompt="once upon", max_tokens=6, stream=True) as response:
        texts = [chunk.choices[0].text for chunk in response]
    with official.chat.completions.create(model="m", messages=MESSAGES, max_tokens=6, stream=True) as chatted:
        said = [chunk.choices[0].delta.content for chunk in chatted]
    assert (len(texts), texts[-1], len(said), said[-1]) == (7, "", 7, None)
    assert texts[:-1] == said[:-1]


def test_s2_1_the_official_asynchronous_client_reads_it_through_a_stall(quick: Prefill) -> None:
    import openai

    async def main() -> list[str | None]:
        official = openai.AsyncOpenAI(base_url=f"{quick.url}/v1", api_key="none", timeout=20.0, max_retries=0)
        async with official:
            response = await official.chat.completions.create(
                model="m", messages=MESSAGES, max_tokens=6, stream=True, extra_body={"faults": STALL}
            )
            return [chunk.choices[0].delta.content async for chunk in response]

    said = asyncio.run(main())
    assert (len(said), said[-1]) == (7, None)
    assert all(said[:-1])


# ---- S2.2 ----


@pytest.mark.alone
def test_s2_2_heartbeats_go_out_by_the_clock_while_the_computation_holds_the_interpreter(quick: Prefill) -> None:
    with quick.complete("its prefix is cold", faults=STALL) as reader:
        reader.open()
        found = arrivals(reader, 20)
    beats = [moment for moment, block in found if block == BEAT]
    assert [block for _, block in found[: len(beats)]] == [BEAT] * len(beats), (
        "heartbeats of prefill come before tokens"
    )
    assert 5 <= len(beats) <= 7, "one in each 0.2 s of 1.5 s"
    gaps = [later - earlier for earlier, later in itertools.pairwise(beats)]
    assert sum(gaps) / len(gaps) == pytest.approx(0.2, abs=0.05), gaps
    assert b"".join(block for _, block in found).startswith(b": prefill\n\n: prefill\n\n")


def test_s2_2_while_progress_is_written_there_is_no_heartbeat() -> None:
    with (
        running_prefill(chunk=0.05, beat=1.0) as running,
        running.complete("a word " * 1000, return_progress=True) as reader,
    ):
        reader.open()
        found = arrivals(reader, 20)
    moments = [moment for moment, _ in found]
    assert moments[-1] - moments[0] > 1.2, "it did not take longer than a heartbeat's interval"
    longest = max(later - earlier for earlier, later in itertools.pairwise(moments))
    assert BEAT not in [block for _, block in found] or longest > 0.9


# ---- S2.3 ----


def test_s2_3_the_head_does_not_wait_for_the_first_token(quick: Prefill) -> None:
    with quick.complete("hold it", faults={"stall": "cold_prefix", "seconds": 20.0}) as reader:
        reader.open()
        assert not reader.body
        reader.read_until(lambda: reader.body.count(BEAT) == 2, what="heartbeats")
        assert bytes(reader.body) == 2 * BEAT
    until(lambda: quick.slots()["busy"] == 0)


def test_s2_3_bytes_of_heartbeats_and_events_never_interleave() -> None:
    with (
        running_prefill(chunk=0.004, token=0.004, beat=0.003, idle=0.003) as running,
        running.complete("a word " * 4000, return_progress=True, max_tokens=200) as reader,
    ):
        blocks = reader.open().read_to_end(40).decode().split("\n\n")
    assert blocks[-2:] == ["data: [DONE]", ""]
    kinds = [
        block if block.startswith(":") else json.loads(block.removeprefix("data: "))["object"] for block in blocks[:-2]
    ]
    assert set(kinds) == {": prefill", ": heartbeat", "text_completion"}
    assert kinds.count("text_completion") == 2 + 63 + 63 + 200 + 1


@pytest.mark.alone
@pytest.mark.parametrize("how", ["close", "reset"])
def test_s2_3_a_client_that_hangs_up_stops_the_work_within_a_second_and_is_noticed_once(how: str) -> None:
    with running_prefill(token=0.02) as running:
        reader = running.complete(max_tokens=2048)
        reader.open().take(5)
        getattr(reader, how)()
        until(lambda: running.slots()["busy"] == 0, 1.0, what="the work being stopped")
        assert running.slots() | {"hung_up": 1, "done": 0, "failed": 0} == running.slots()
        tokens = int(re.findall(r"after (\d+) tokens", running.program.line_with("the client hung up"))[0])
        assert 5 <= tokens < 100
        with running.complete() as other:  # The next line of the log would be a second notice.
            other.open().read_to_end()
        running.program.process.terminate()
        assert running.program.wait() == 0
        assert not [line for line in running.program.read_to_end() if "hung up" in line][1:]


@pytest.mark.alone
def test_s2_3_a_client_that_hangs_up_in_prefill_stops_it_at_the_next_chunk(quick: Prefill) -> None:
    before = quick.slots()["hung_up"]
    with quick.complete("a word " * 4000, return_progress=True) as reader:
        reader.open().take(5)
    until(lambda: quick.slots()["busy"] == 0, 1.0, what="prefill being stopped")
    assert quick.slots()["hung_up"] == before + 1


@pytest.mark.alone
def test_s2_3_nothing_is_written_after_a_client_has_hung_up(serve: Serve) -> None:
    server = serve()
    prefill.install(server, prefill.Pace(chunk=0.01, token=0.01, heartbeat=0.05))
    body = json.dumps({"prompt": "x", "stream": True, "max_tokens": 2048}).encode()
    with Reader(server.port, "/v1/completions", method="POST", body=body) as reader:
        reader.open().take(5)
    until(lambda: json.loads(fetch(server.port, "/v1/slots")[1])["hung_up"] == 1, 1.0)
    written = server.stats()
    with Reader(server.port, "/v1/completions", method="POST", body=b'{"prompt": "y", "stream": true}') as other:
        other.open().read_to_end()  # 40 tokens later.
    assert server.stats().delivered == written.delivered + 42
    assert server.stats().closed.gone == 1


# ---- S2.4 ----


@pytest.mark.parametrize("phase", ["prefill", "cold_prefix", "tool_checkpoint"])
def test_s2_4_heartbeats_are_attached_in_each_of_the_three_phases(quick: Prefill, phase: str) -> None:
    prompt = f"the prefix of {phase} was not read before"
    faults = {"stall": phase, "seconds": 1.0, "hold": True}
    with quick.complete(prompt, chat=True, tools=[{}], return_progress=True, faults=faults) as reader:
        blocks = reader.open().read_to_end().decode().split("\n\n")
    beats = [number for number, block in enumerate(blocks) if block == ": prefill"]
    assert len(beats) >= 3
    before = json.loads(blocks[beats[0] - 1].removeprefix("data: "))["prompt_progress"]
    # In the outer phase the stall comes after the nested one: what was in force outside is in force again.
    nested = {"phase": "cold_prefix", "processed": 4, "total": 4}
    assert before == (nested if phase == "prefill" else {"phase": phase, "processed": 0, "total": 0})
    assert ": heartbeat" not in blocks


def test_s2_4_outside_of_the_phases_they_are_detached(quick: Prefill) -> None:
    with quick.complete(faults={"stall": "generation", "seconds": 1.0, "hold": True}) as reader:
        body = reader.open().read_to_end()
    assert BEAT not in body
    assert body.startswith(b": heartbeat\n\n: heartbeat\n\n")


def test_s2_4_an_exception_inside_detaches_too(quick: Prefill) -> None:
    faults = {"fail": "tool_checkpoint", "stall": "generation", "seconds": 1.0, "hold": True}
    with quick.complete(chat=True, tools=[{}], faults=faults) as reader:
        body = reader.open().read_to_end()
    assert (
        quick.program.line_with("the tool checkpoint could not be rebuilt")
        == "; going on without: not a number in tool_checkpoint"
    )
    assert BEAT not in body
    assert body.startswith(b": heartbeat\n\n: heartbeat\n\n")
    assert body.endswith(b"data: [DONE]\n\n")


# ---- S2.5 ----


def test_s2_5_a_client_with_an_idle_limit_outlasts_a_longer_stall(quick: Prefill) -> None:
    faults = {"stall": "cold_prefix", "seconds": 3.0, "hold": True}
    impatient = client(quick, read=1.0)
    with impatient.completions.create(
        model="m", prompt="another cold prefix", max_tokens=6, stream=True, extra_body={"faults": faults}
    ) as response:
        assert len([chunk.choices[0].text for chunk in response]) == 7


def test_s2_5_a_client_that_comes_while_another_holds_the_interpreter_outlasts_it_too(quick: Prefill) -> None:
    """No handler can run for it by then: the engine alone sends its head and heartbeats."""
    with quick.complete(
        "the prefix of another", faults={"stall": "cold_prefix", "seconds": 3.0, "hold": True}
    ) as other:
        other.open().read_until(lambda: BEAT in other.body, what="a heartbeat of the one that holds the interpreter")
        impatient = client(quick, read=1.0)
        with impatient.completions.create(model="m", prompt="x", max_tokens=6, stream=True) as response:
            assert len([chunk.choices[0].text for chunk in response]) == 7
        other.read_to_end()


def test_s2_5_without_heartbeats_that_client_hangs_up_as_it_did_and_the_work_is_stopped() -> None:
    import openai

    faults = {"stall": "cold_prefix", "seconds": 3.0, "hold": True, "heartbeats": False}
    with running_prefill() as running:
        response = client(running, read=1.0).completions.create(
            model="m", prompt="a cold prefix", stream=True, extra_body={"faults": faults}
        )
        with pytest.raises(openai.APITimeoutError):
            list(response)
        until(lambda: running.slots()["hung_up"] == 1)
        assert running.slots()["busy"] == 0


# ---- Errors ----


def wrong(**body: Any) -> Any:
    return pytest.param(body, id=next(iter(body)))


@pytest.mark.parametrize(
    "body",
    [
        wrong(prompt=""),
        wrong(messages="text"),
        wrong(stream=False),
        wrong(max_tokens=0),
        wrong(faults={"stall": "elsewhere"}),
        wrong(faults={"seconds": 1e9}),
        wrong(faults=["x"]),
        wrong(faults={"stall": []}),
    ],
)
def test_an_error_before_the_head_has_openai_s_form_and_names_the_field(quick: Prefill, body: dict[str, Any]) -> None:
    import openai

    field = next(iter(body))
    path = "/chat/completions" if field == "messages" else "/completions"
    with pytest.raises(openai.BadRequestError) as caught:
        client(quick).post(path, body={"prompt": "x", "stream": True, **body}, cast_to=object)
    assert caught.value.param == field
    assert caught.value.type == "invalid_request_error"
    assert caught.value.message.startswith("Error code: 400 - ")


def test_a_prompt_that_is_too_long_and_a_body_that_is_not_json_are_refused_alike(quick: Prefill) -> None:
    import openai

    with pytest.raises(openai.BadRequestError) as caught:
        client(quick).completions.create(model="m", prompt="x " * 9000, stream=True)
    assert caught.value.code == "context_length_exceeded"
    head, body = fetch(quick.port, "/v1/completions", method="POST", body=b"{")
    assert (head.status, json.loads(body)["error"]["type"]) == (400, "invalid_request_error")


def test_an_error_after_the_head_is_raised_by_the_official_client(quick: Prefill) -> None:
    import openai

    response = client(quick).completions.create(
        model="m", prompt="fails", stream=True, extra_body={"faults": {"fail": "prefill"}}
    )
    with pytest.raises(openai.APIError, match="the model failed: not a number in prefill"):
        list(response)
    with quick.complete(faults={"fail": "prefill"}) as reader:
        assert bytes(reader.open().read_to_end()).endswith(b'"code":null}}\n\ndata: [DONE]\n\n')


@pytest.mark.alone
def test_beyond_its_slots_it_says_when_to_come_back(quick: Prefill) -> None:
    import openai

    faults = {"stall": "prefill", "seconds": 20.0}
    readers = [quick.complete(faults=faults).open() for _ in range(8)]
    try:
        until(lambda: quick.slots()["busy"] == 8)
        with pytest.raises(openai.RateLimitError) as caught:
            client(quick).completions.create(model="m", prompt="x", stream=True)
        assert caught.value.response.headers["retry-after"] == "1"
    finally:
        for reader in readers:
            reader.close()
    until(lambda: quick.slots()["busy"] == 0, 1.0)


def test_where_others_can_reach_it_nobody_may_hold_the_interpreter(server: sse_fast.Server) -> None:
    prefill.install(server, may_hold=False)
    body = json.dumps({"prompt": "x", "stream": True, "faults": STALL}).encode()
    head, answer = fetch(server.port, "/v1/completions", method="POST", body=body)
    assert (head.status, json.loads(answer)["error"]["param"]) == (400, "faults")


def test_a_server_closes_while_prefill_computes(serve: Serve) -> None:
    server = serve()
    prefill.install(server, prefill.Pace(chunk=0.02, heartbeat=0.05))
    body = json.dumps({"prompt": "a word " * 4000, "stream": True}).encode()
    with Reader(server.port, "/v1/completions", method="POST", body=body) as reader:
        reader.open()
        reader.read_until(lambda: server.stats().subscribers == 1, what="the subscription")
        server.close(drain=0.2)
        reader.read_eof()
    until(lambda: not [thread for thread in threading.enumerate() if thread.name == "completion"])
