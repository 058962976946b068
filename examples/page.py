"""A page that follows its stream, served by the engine itself: open the address that it prints."""

import contextlib
import threading
import time

import sse_fast

PAGE = """<!doctype html>
<html lang="en">
  <meta charset="utf-8">
  <title>A run</title>
  <p id="state" role="status"></p>
  <ol id="steps"></ol>
  <script type="module">
    import { connect } from "/sse-fast.js";

    const show = ({ status }) => {
      const step = document.createElement("li");
      step.textContent = status;
      document.getElementById("steps").append(step);
    };
    connect("/streams/runs/42", {
      on: { STEP: show },
      onState: ({ message }) => (document.getElementById("state").textContent = message),
    });
  </script>
</html>
"""

server = sse_fast.serve()
stream = server.stream("runs/42", start="all")


@server.get("/")
def page(_request):
    return sse_fast.Response(PAGE, content_type="text/html; charset=utf-8")


def work():  # Your job in its place.
    with contextlib.suppress(sse_fast.ServerClosed):
        for status in ("QUEUED", "COMPILING", "BENCHMARKED"):
            stream.publish({"status": status}, event="STEP")
            time.sleep(3.0)
        stream.end()


threading.Thread(target=work, daemon=True).start()
print(server.url, flush=True)
server.wait()
