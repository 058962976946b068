"""A program without a server: publishes into one of another process, `sse-fast serve`, and sees it to its end.

export SSE_FAST_PUBLISH_KEY=$(python -c 'import secrets; print(secrets.token_urlsafe(32))') SSE_FAST_URL=http://127.0.0.1:8080
sse-fast serve & SSE_FAST_KEY=$SSE_FAST_PUBLISH_KEY python publisher.py
"""

import os

import sse_fast

client = sse_fast.connect(os.environ["SSE_FAST_URL"], key=os.environ["SSE_FAST_KEY"])
stream = client.stream("reports/today")
print(f"curl -N {client.url}/streams/{stream.name}", flush=True)

stream.publish({"status": "READING"}, event="READING")
stream.publish_many([({"row": row}, "ROW") for row in range(1000)])  # Four requests.
try:
    stream.end({"rows": 1000}, event="DONE")
except sse_fast.Unreachable as error:
    print("the report is ready, and nobody was told:", error)
