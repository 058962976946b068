"""Servers that are closed while connections of every kind are open, again and again.

Guards that nothing is left of them: no descriptor, no thread, no memory, no
connection. `tests/slow/test_cycles.py` does the same a thousand times.
"""

from __future__ import annotations

import pytest

from support.left_behind import assert_nothing_is_left


@pytest.mark.timeout(180)
def test_nothing_is_left_of_64_servers_with_every_combination_of_connections() -> None:
    assert_nothing_is_left(128, 64, 80)  # What is needed once, and kept, is there after the first of them.
