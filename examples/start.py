"""A stream in ten lines: read it with `curl -N http://127.0.0.1:8080/streams/runs/42`, now or minutes after its end."""

import sse_fast

server = sse_fast.serve(8080)  # returns at once; the engine runs from here on
stream = server.stream("runs/42", start="all")  # get or create; cheap, from any thread

stream.publish({"status": "COMPILING"}, event="COMPILING")
with stream.heartbeat(every=5.0):  # by the clock, whatever Python does meanwhile
    result = sum(n * n for n in range(1_000_000))
stream.end({"status": "BENCHMARKED", "result": result}, event="BENCHMARKED")

server.wait()  # until Ctrl-C or SIGTERM; then drains
