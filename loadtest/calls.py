"""What calls cost in one process, without a subscriber: `publish` beside `deque.append`, and eight threads beside one.

    python -m loadtest.calls      prints JSON: microseconds per call, calls per second

Owns: loops in which nothing but the call differs, measured in turn, the best of each. Must not know: bars. It is a
process of its own, so that nobody else's threads want its interpreter.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

import orjson

import sse_fast

if TYPE_CHECKING:
    from collections.abc import Callable

_CALLS = 200_000
_TIMES = 7  # Rounds, each of every loop: the best tells the cost, the others what else the machine did.
_THREADED_CALLS = 2_000_000
_THREADS = 8
_HELD = 256  # What a stream retains by default, so the deque frees one as it takes one, too.
_BYTES = b'{"seq":1234567,"t":1234567890123,"pad":"%s"}' % (b"x" * 30)
_DICT = {"status": "COMPILING", "step": 12, "of": 40, "t": 1234567890123, "name": "matmul-4096"}


def _append_bytes(append: Callable) -> None:
    for _ in range(_CALLS):
        append(_BYTES)


def _append_dict(append: Callable) -> None:
    encode = orjson.dumps
    for _ in range(_CALLS):
        append(encode(_DICT))


def _publish_bytes(publish: Callable) -> None:
    for _ in range(_CALLS):
        publish(_BYTES)


def _publish_dict(publish: Callable) -> None:
    for _ in range(_CALLS):
        publish(_DICT)


def _each(stream: sse_fast.Stream) -> dict[str, float]:
    append = deque(maxlen=_HELD).append
    loops = {"append_bytes": (_append_bytes, append), "publish_bytes": (_publish_bytes, stream.publish)}
    loops |= {"append_dict": (_append_dict, append), "publish_dict": (_publish_dict, stream.publish)}
    best = dict.fromkeys(loops, float("inf"))
    for _ in range(_TIMES):
        for name, (loop, call) in loops.items():
            began = time.perf_counter()
            loop(call)
            best[name] = min(best[name], (time.perf_counter() - began) / _CALLS * 1e6)
    return {f"{name}_us": microseconds for name, microseconds in best.items()}


def _per_second(calls: list[Callable]) -> float:
    """Calls per second of as many threads as there are callables."""

    def loop(call: Callable) -> None:
        for _ in range(_THREADED_CALLS // len(calls)):
            call(_BYTES)

    threads = [threading.Thread(target=loop, args=(call,)) for call in calls]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return _THREADED_CALLS / (time.perf_counter() - began)


def main() -> None:
    """Prints all figures."""
    with sse_fast.serve(0) as server:
        figures = _each(server.stream("calls"))
        streams = [server.stream(f"thread/{number}").publish for number in range(_THREADS)]
        deques = [deque(maxlen=_HELD).append for _ in range(_THREADS)]
        kinds = {"publish_1": streams[:1], "publish_8": streams, "append_1": deques[:1], "append_8": deques}
        rounds = [{name: _per_second(calls) for name, calls in kinds.items()} for _ in range(_TIMES)]
        figures |= {f"{name}_per_s": max(each[name] for each in rounds) for name in kinds}
        server.close(drain=0.0)
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}), flush=True)


if __name__ == "__main__":
    main()
