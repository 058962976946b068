"""Five hundred children, started in every way that Python has, under two thousand readers."""

from __future__ import annotations

import pytest

from support.children import assert_no_reader_is_lost

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_five_hundred_children_come_and_go_and_none_of_two_thousand_readers_is_lost() -> None:
    assert_no_reader_is_lost(rounds=125, readers=2000, deadline=600.0)
