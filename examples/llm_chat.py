"""An LLM chat over Server-Sent Events: it stops generating when its client hangs up."""

import asyncio

import sse_fast

server = sse_fast.serve()


async def model(prompt):  # Your model's stream in its place.
    for word in prompt.split() * 1000:
        await asyncio.sleep(0.05)
        yield word


@server.post("/chat")
async def chat(request):
    try:
        async for token in model(request.json()["prompt"]):
            yield {"token": token}
    finally:
        print("stopped generating", flush=True)


print(f"""curl -N {server.url}/chat -d '{{"prompt": "say it again"}}'""", flush=True)
server.wait()
