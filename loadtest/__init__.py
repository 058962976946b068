"""Load tests: locust readers against sse_fast, and sse_fast beside its peers.

    python -m loadtest run smoke        one scenario of scenarios/*.toml, with an HTML report and a JSON record
    python -m loadtest compare          the same load against sse_fast and every installed peer, with a neutral client

The way of a run: `scenario` (what is asked) -> `harness` (servers, readers, publishing) -> `verdict` -> `report`.
In the readers' processes: `reader` (locust user) -> `crowd` (the mass) or `probe` (timed) -> `frames` -> `ledger`.
"""
