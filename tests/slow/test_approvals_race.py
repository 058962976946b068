"""Ten thousand readers that come one after the other while eight threads ask and answer.

Guards that snapshot and tail are one step at the size at which a gap between them would show. `make test-slow` runs
this; `make test` runs the same with two thousand readers and two threads.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import sse_fast
from sse_fast.demos import approvals
from support.questions import arrivals_among_changes, hasty


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_s3_1_no_question_is_lost_or_doubled_for_ten_thousand_readers_among_eight_threads(
    server: sse_fast.Server, tmp_path: Path
) -> None:
    approvals.install(server, tmp_path)
    with hasty():
        changes = arrivals_among_changes(server, changing=8, coming=4, arrivals=10_000)
    assert changes > 10_000
