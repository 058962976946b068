"""The prefill demo in a process of its own, because its requests may hold the interpreter, and a client of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .process import Program
from .reader import Reader, fetch

_SERVER = """
import logging, sys
import sse_fast
from sse_fast.demos import prefill
from sse_fast.demos._site import install_site

chunk, token, beat, idle = map(float, sys.argv[1:])
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
with sse_fast.serve(0, heartbeat=idle) as server:
    prefill.install(server, prefill.Pace(chunk=chunk, token=token, heartbeat=beat))
    install_site(server, [prefill.DEMO])
    print("port", server.port, flush=True)
    server.wait()
"""
BEAT = b": prefill\n\n"


class Prefill:
    """A running server of completions."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.port = int(program.line_with("port"))
        self.url = f"http://127.0.0.1:{self.port}"

    def slots(self) -> dict[str, int]:
        head, body = fetch(self.port, "/v1/slots")
        assert head.status == 200, body
        counts: dict[str, int] = json.loads(body)
        return counts

    def complete(self, prompt: str = "once upon", *, chat: bool = False, **more: Any) -> Reader:
        """Posts a request; the response is its stream."""
        body = {"messages": [{"role": "user", "content": prompt}]} if chat else {"prompt": prompt}
        path = "/v1/chat/completions" if chat else "/v1/completions"
        body.update({"model": "m", "stream": True, "max_tokens": 8, **more})
        headers = [("Content-Type", "application/json")]
        return Reader(self.port, path, method="POST", body=json.dumps(body).encode(), headers=headers)


@contextmanager
def running_prefill(
    chunk: float = 0.01, token: float = 0.005, beat: float = 0.2, idle: float = 15.0
) -> Iterator[Prefill]:
    """A server until the end of the block: seconds of a chunk, a token, a heartbeat in prefill, one outside of it."""
    with Program(_SERVER, chunk, token, beat, idle) as program:
        yield Prefill(program)


def arrivals(reader: Reader, deadline: float) -> list[tuple[float, bytes]]:
    """Every block of the body with the moment at which its blank line had arrived; ``[DONE]`` must be the last."""
    found: list[tuple[float, bytes]] = []
    parsed = 0

    def take() -> bool:
        nonlocal parsed
        while (end := reader.body.find(b"\n\n", parsed)) >= 0:
            found.append((time.monotonic(), bytes(reader.body[parsed : end + 2])))
            parsed = end + 2
        return bool(found) and found[-1][1] == b"data: [DONE]\n\n"

    reader.read_until(take, deadline, what="[DONE]")
    assert bytes(reader.read_to_end()) == b"".join(block for _, block in found)
    return found
