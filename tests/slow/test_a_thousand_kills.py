"""A server that is killed a thousand times under load: nothing that it said was published is lost, or there twice.

Guards what `tests/test_store.py` does, so often that a kill meets every moment: a segment that begins, a copy that is
made.
`make test-slow` runs this; `make test` does not collect it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from test_store import kill_again_and_again


@pytest.mark.slow
@pytest.mark.timeout(5400)
@pytest.mark.parametrize("durable", ["process", "disk"])
def test_nothing_is_lost_in_a_thousand_kills(tmp_path: Path, durable: str) -> None:
    kill_again_and_again(tmp_path, durable, 500, seed=11)
