"""A thousand servers that are closed while connections of every kind are open.

Guards what `tests/test_servers_that_come_and_go.py` does, so often that little things left behind add up.
`make test-slow` runs this; `make test` does not collect it.
"""

from __future__ import annotations

import pytest

from support.left_behind import assert_nothing_is_left


@pytest.mark.slow
@pytest.mark.timeout(1300)
def test_nothing_is_left_of_a_thousand_servers_with_every_combination_of_connections() -> None:
    assert_nothing_is_left(512, 1000, 600)  # So many until the allocator has what it keeps.
