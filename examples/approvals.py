"""Questions for a person: every page shows the head of its session's queue, and how many wait."""

import collections
import threading

import sse_fast

server = sse_fast.serve()
lock = threading.Lock()  # A change and its event are one step, so that events have the order of the changes.
queues = collections.defaultdict(collections.deque)


def state(session):
    queue = queues[session]
    return {"pending": queue[0] if queue else None, "pending_count": len(queue)}


def stream_of(session):
    stream = server.stream(f"clarify/{session}", history=16, max_lag=16, on_lag="latest", heartbeat=30.0)
    if stream.last_id is None:
        stream.snapshot(state(session), event="initial")
    return stream


def changed(session):
    stream = stream_of(session)
    stream.publish(state(session), event="clarify")
    stream.snapshot(state(session), event="initial")  # What the next reader gets first.


@server.get("/api/clarify/stream")
def read(request):
    session = request.query.get("session_id")
    if not session:
        raise sse_fast.HttpError(400, "session_id: say whose questions")
    with lock:
        return stream_of(session)


@server.post("/api/clarify/{session}")
def submit(request):
    with lock:
        queues[request.params["session"]].append(request.json())
        changed(request.params["session"])


@server.delete("/api/clarify/{session}")
def resolve(request):
    with lock:
        if queues[request.params["session"]]:
            queues[request.params["session"]].popleft()
            changed(request.params["session"])


print(f"curl -N '{server.url}/api/clarify/stream?session_id=1'", flush=True)
print(f"""curl {server.url}/api/clarify/1 -d '{{"question": "Which branch?"}}'""", flush=True)
server.wait()
