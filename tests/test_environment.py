"""Settings that an environment names without a value, or switches off.

Guards that a variable left empty, as deployment files often have them, is refused
by name: a heartbeat that is silently off is found out in production.
"""

from __future__ import annotations

import pytest

import sse_fast
from conftest import Serve
from support.documented import SETTINGS

#: The settings that None switches off.
NONE_IS_A_VALUE = [
    *(
        "backplane",
        "expire",
        "health",
        "heartbeat",
        "heartbeat_event",
        "max_connections",
        "max_connections_per_address",
    ),
    *("metrics_key", "publish_wait", "ready"),
    *("retry", "shards", "stall_after", "store", "ticket_key"),
]
OPTIONAL = [f"SSE_FAST_{name.upper()}" for name in NONE_IS_A_VALUE]


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


def test_these_are_the_settings_that_take_none(serve: Serve) -> None:
    def takes_none(name: str) -> bool:
        try:
            serve(**{"port": 0, name: None}).close(0.0)
        except sse_fast.SettingError:
            return False
        return True

    # No port and no host are those of the environment.
    names = sorted({row.name for row in SETTINGS} - {"port", "host"})
    assert [name for name in names if takes_none(name)] == NONE_IS_A_VALUE
