"""A server whose pages survive its restart: a stream that a page asks for is made, and its state is published anew."""

import os

import sse_fast

server = sse_fast.serve(drain=5.0)
server.route("/events/{*name}", "{*name}", create=True, retry=1.0)  # A page that asks gets 200, never 404.

stream = server.stream("status", retry=1.0)
stream.snapshot({"version": os.environ.get("VERSION", "1")})  # From your database: what a page needs to know.

print(f"curl -N {server.url}/events/status", flush=True)
server.wait()
