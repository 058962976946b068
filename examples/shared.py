"""A counter that several processes share: each serves readers, each publishes, and all readers see one order."""

import os

import sse_fast

# Where SSE_FAST_BACKPLANE names a server of Redis or Valkey, its streams are those of every process that has the same.
server = sse_fast.serve()
stream = server.stream("clicks", start="all")


@server.post("/click")
def click(_request):
    return {"id": stream.publish({"from": os.getpid()}, event="click"), "readers": stream.subscribers}


print(f"curl -X POST {server.url}/click", flush=True)
server.wait()
