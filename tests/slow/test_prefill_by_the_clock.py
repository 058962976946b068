"""Twenty seconds of prefill inside C, with the interpreter held, by the real clock.

Everything is real but the model: the server in a process of its own, the route, a heartbeat after 5 s of silence, the
official client, which hangs up after 10 s of it. `make test-slow` runs this; `make test` does not collect it.
"""

from __future__ import annotations

import itertools

import httpx2
import openai
import pytest

from support.prefill import BEAT, arrivals, running_prefill

FAULTS = {"stall": "cold_prefix", "seconds": 20.0, "hold": True}


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_s2_2_a_heartbeat_comes_every_5_s_while_c_holds_the_interpreter_for_20_s() -> None:
    with running_prefill(beat=5.0) as running, running.complete("a prefix that is cold", faults=FAULTS) as reader:
        reader.open()
        found = arrivals(reader, 40)
    silent = list(itertools.takewhile(lambda arrival: arrival[1] == BEAT, found))
    assert len(silent) in {3, 4}, "the fourth is due when the stall ends"
    gaps = [later - earlier for (earlier, _), (later, _) in itertools.pairwise(silent)]
    assert all(gap == pytest.approx(5.0, abs=0.5) for gap in gaps), gaps
    assert b"".join(block for _, block in found).startswith(3 * b": prefill\n\n")
    assert BEAT not in [block for _, block in found[len(silent) :]]


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_s2_5_the_client_with_a_10_s_idle_limit_gets_its_tokens_and_done() -> None:
    with running_prefill(beat=5.0) as running:
        timeout = httpx2.Timeout(20.0, read=10.0)
        official = openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", timeout=timeout, max_retries=0)
        with official.completions.create(
            model="m", prompt="a prefix that is cold", max_tokens=8, stream=True, extra_body={"faults": FAULTS}
        ) as response:
            texts = [chunk.choices[0].text for chunk in response]
        assert (len(texts), texts[-1]) == (9, "")
        assert running.slots()["done"] == 1


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_s2_5_without_heartbeats_it_hangs_up_as_the_original_s_clients_did() -> None:
    with running_prefill(beat=5.0) as running:
        timeout = httpx2.Timeout(20.0, read=10.0)
        official = openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", timeout=timeout, max_retries=0)
        response = official.completions.create(
            model="m", prompt="cold", stream=True, extra_body={"faults": {**FAULTS, "heartbeats": False}}
        )
        with pytest.raises(openai.APITimeoutError):
            list(response)
