"""A workflow whose page asks for its stream before the worker has made it."""

import os
import threading
import time
import uuid

import sse_fast

MAX_WAIT = float(os.environ.get("STREAM_DECISION_SET_MAX_WAIT", "6.0"))
RETRY_DELAY = float(os.environ.get("STREAM_DECISION_SET_RETRY_DELAY", "0.2"))
rows = {}  # Your database in its place.

server = sse_fast.serve()
server.route(
    "/api/streams/{id}",
    "workflow/{id}",
    exists=lambda name: name.removeprefix("workflow/") in rows,  # Asked once in RETRY_DELAY, whoever waits.
    wait=MAX_WAIT,
    retry_delay=RETRY_DELAY,
    start="all",
)


@server.post("/api/chat/async")
def enqueue(request):
    body, name = request.json(), str(uuid.uuid4())
    if not isinstance(body, dict) or not isinstance(body.get("message"), str):
        raise sse_fast.HttpError(400, "message: must be a text")
    threading.Thread(target=work, args=(name, body["message"])).start()
    return {"decision_set_id": name}


@server.get("/api/streams/{id}/plan")
def plan(request):
    row = rows.get(request.params["id"])
    if row is None:
        raise sse_fast.HttpError(404, "there is no such workflow yet")
    return row


def work(name, message):
    time.sleep(1.0)  # The row is late: this is what the page used to fail at.
    row = {"message": message, "nodes": ["read", "think", "write"]}
    stream = server.stream(f"workflow/{name}", start="all")
    stream.publish(row, event="snapshot", snapshot=row)  # First for every reader, however late it comes.
    rows[name] = row
    for node in row["nodes"]:
        stream.publish({"node": node}, event="node-start")
        time.sleep(0.2)
        stream.publish({"node": node}, event="node-end")
    stream.end({"status": "DONE"}, event="workflow-end")


print(f"""curl {server.url}/api/chat/async -d '{{"message": "hello"}}'""", flush=True)
server.wait()
