"""A completion whose prefill takes longer than its client waits in silence; read by the official openai client."""

import os
import threading
import time

import sse_fast

server = sse_fast.serve()


@server.post("/v1/completions")
def complete(request):
    stream, hung_up = server.stream(None, ids=False, start="all"), threading.Event()
    stream.on_empty(hung_up.set)
    threading.Thread(target=generate, args=(stream, request.json()["prompt"], hung_up)).start()
    return stream


def generate(stream, prompt, hung_up):
    with stream.heartbeat(every=5.0, comment="prefill"):  # By the engine's clock: it needs no callback, and no GIL.
        prefill()
    for token in prompt.split():
        if hung_up.is_set():
            print("stopped generating", flush=True)
            return
        stream.publish({"object": "text_completion", "choices": [{"index": 0, "text": f"{token} "}]})
    stream.end("[DONE]", event="")


def prefill():  # Your model in its place; it may keep the interpreter to itself.
    time.sleep(float(os.environ.get("PREFILL_SECONDS", "20")))


print(f"""curl -N {server.url}/v1/completions -d '{{"prompt": "once upon a time", "stream": true}}'""", flush=True)
server.wait()
