"""Settings that an environment names without a value, or switches off.

Guards that a variable left empty, as deployment files often have them, is refused
by name: a heartbeat that is silently off is found out in production.
"""

from __future__ import annotations

import pytest

import sse_fast
from conftest import Serve
from sse_fast._settings import SETTINGS

OPTIONAL = [setting.variable for setting in SETTINGS if setting.kind.allowed.endswith("none or off)")]


@pytest.mark.parametrize("variable", OPTIONAL)
@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_variable_is_refused_by_name(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, variable: str, text: str
) -> None:
    monkeypatch.setenv(variable, text)
    with pytest.raises(sse_fast.SettingError, match=variable):
        serve()


@pytest.mark.parametrize("variable", OPTIONAL)
@pytest.mark.parametrize("text", ["none", "off", " NONE "])
def test_none_and_off_are_none(serve: Serve, monkeypatch: pytest.MonkeyPatch, variable: str, text: str) -> None:
    monkeypatch.setenv(variable, text)
    assert serve().port


def test_the_heartbeat_is_among_them() -> None:
    assert {"SSE_FAST_HEARTBEAT", "SSE_FAST_RETRY", "SSE_FAST_EXPIRE"} <= set(OPTIONAL)
