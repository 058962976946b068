"""One benchmark of `benchmark-day`: a runner as users have it, which knows nothing of sse_fast but the marker.

    python -I -S child.py SILENCE      prints logs and the five statuses of a run, with SILENCE seconds in the middle

Must not import: anything, beyond the standard library; hundreds of these start within seconds.
"""

import sys
import time

STATUSES = ("IN_QUEUE", "PROVISIONING", "COMPILING", "BENCHMARKING", "BENCHMARKED")
PAUSE = 0.5  # Seconds between statuses where there is no silence.


def main() -> None:
    """Prints a run."""
    for number, status in enumerate(STATUSES, 1):
        if number > 1:
            time.sleep(float(sys.argv[1]) if status == "COMPILING" else PAUSE)
        sys.stdout.write(f"an ordinary log line before {status}\n")
        data = f'{{"seq":{number},"t":{time.monotonic_ns()},"status":"{status}"}}'
        sys.stdout.write(f"SSE_EVENT:event: {status}\nSSE_EVENT:data: {data}\nSSE_EVENT:\n")
        sys.stdout.flush()


main()
