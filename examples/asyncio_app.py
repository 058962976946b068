"""A program of asyncio: tasks publish and read, one of them waits for the end."""

import asyncio
import contextlib
import itertools

import sse_fast


async def count(stream):
    with contextlib.suppress(sse_fast.ServerClosed):
        for number in itertools.count():
            await stream.apublish({"number": number}, event="count")  # Never holds up the loop.
            await asyncio.sleep(0.1)


async def show(stream):
    async for event in stream.events():  # A reader in this process; it costs no thread.
        if event.json()["number"] % 10 == 0:
            print(event.data, flush=True)


async def main():
    async with sse_fast.serve() as server:
        stream = server.stream("count")
        print(f"curl -N {server.url}/streams/count", flush=True)
        tasks = [asyncio.create_task(task(stream)) for task in (show, count)]
        await server.wait_async()  # Until Ctrl-C or SIGTERM.
        for task in tasks:
            task.cancel()


asyncio.run(main())
