"""A ticker: all prices in one event, the newest ones first for whoever opens the page."""

import contextlib
import secrets
import threading
import time

import sse_fast

server = sse_fast.serve()
stream = server.stream("prices", history=8, max_lag=8, on_lag="latest")


def tick():
    prices = dict.fromkeys(("AAPL", "GOOG", "MSFT"), 10_000)
    with contextlib.suppress(sse_fast.ServerClosed):
        while True:
            for symbol in prices:
                prices[symbol] += secrets.randbelow(201) - 100
            stream.publish(prices, event="snapshot", snapshot=prices)  # To those who read, and first to who comes.
            time.sleep(0.5)


threading.Thread(target=tick, daemon=True).start()
print(f"curl -N {server.url}/streams/prices", flush=True)
server.wait()
