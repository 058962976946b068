"""The demo's settings: how long its simulated world takes, and where it keeps its data.

Owns: real-life values, how `speed` shortens them, and the environment variables. Must not know: who uses them.
They travel to the child process as environment variables, so that server and runner cannot disagree.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path

PREFIX = "SSE_FAST_DEMO_"


@dataclass(frozen=True, slots=True)
class Settings:
    """Seconds throughout. Each is also an environment variable, such as ``SSE_FAST_DEMO_PROVISIONING``.

    Attributes:
        data: the folder of the databases.
        queue: how long a submission waits in the queue when no machine is warm.
        provisioning: how long a cold machine takes; by default the 24 heartbeats of six minutes, and a little more.
        poll: how often the runner asks the provisioner.
        warm: how long a machine stays warm after a run.
        heartbeat: after how much silence a subscriber gets a heartbeat.
        kernel_timeout: how long a kernel may take altogether.
        run_timeout: how long a whole run may take; then its process is ended.
    """

    data: Path
    queue: float = 60.0
    provisioning: float = 365.0
    poll: float = 5.0
    warm: float = 600.0
    heartbeat: float = 15.0
    kernel_timeout: float = 60.0
    run_timeout: float = 900.0

    @classmethod
    def from_environment(cls, data: Path | None = None, speed: float = 1.0) -> Settings:
        """What the environment says; else real life, with the provisioner's waits divided by `speed`.

        Raises:
            ValueError: a variable is not a number above or equal to 0.
        """
        usual = {"queue": 60.0 / speed, "provisioning": 365.0 / speed, "poll": max(5.0 / speed, 0.5)}
        seconds = {
            field.name: _seconds(field.name, usual.get(field.name, field.default))
            for field in fields(cls)
            if field.name != "data"
        }
        return cls(data or Path(os.environ.get(PREFIX + "DATA") or user_data_folder()), **seconds)

    def environment(self) -> dict[str, str]:
        """The variables that make `from_environment` give these settings."""
        return {PREFIX + name.upper(): str(value) for name, value in asdict(self).items()}


def user_data_folder() -> Path:
    """Where this user's programs keep data on this system."""
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "sse-fast" / "demo"
    mac = Path.home() / "Library" / "Application Support"
    base = mac if mac.is_dir() else Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "sse-fast" / "demo"


def _seconds(name: str, usual: object) -> float:
    text = os.environ.get(PREFIX + name.upper())
    try:
        value = float(str(usual) if text is None else text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        message = f"{PREFIX}{name.upper()}={text!r} is not allowed: seconds, from 0 up"
        raise ValueError(message)
    return value
