"""A benchmark on a slow machine: its page hears of every step, however long the silence between them."""

import sys
from pathlib import Path

import sse_fast

RUNNER = Path(__file__).with_name("benchmark_runner.py")

server = sse_fast.serve(heartbeat_event="heartbeat")  # An event {"timestamp": ...} after 15 silent seconds.


@server.post("/api/submissions/benchmark")
def submit(request):
    body = request.json()
    name = body.get("submission_id") if isinstance(body, dict) else None
    if not isinstance(name, str) or not name:
        raise sse_fast.HttpError(400, "submission_id: must be a text")
    try:
        run = server.run(
            [sys.executable, RUNNER, name],
            stream=f"submissions/{name}",
            timeout=900.0,
            on_event=lambda event: store(name, event),
        )
    except sse_fast.StreamError as error:  # A stream has one run.
        raise sse_fast.HttpError(409, "submission_id: there is such a run; read it, or choose another") from error
    return run.stream  # The answer is the stream; others read it at /streams/submissions/<name>.


def store(name, event):  # Your database in its place: called for every event, the last one too.
    if event.event != "heartbeat":
        print(name, event.event, event.data, flush=True)


print(f"""curl -N {server.url}/api/submissions/benchmark -d '{{"submission_id": "42"}}'""", flush=True)
server.wait()
