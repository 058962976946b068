"""Machines for `two-machines`: a network namespace for each, joined by a bridge, or an address of the loopback.

Owns: making and removing the namespaces, and how a command is started on one of the machines. Must not know: what runs
there. Namespaces take the right to make them (root, mostly) and the program `ip`; without them the addresses are of
127.0.0.0/8, which keeps processes apart by address alone. `Networks.kind` says which it became.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

_HUB = 1  # The last number of the bridge's own address: what runs on no machine is there.


class Networks:
    """So many machines with an address each, and a hub that all of them reach."""

    def __init__(self, machines: int, *, namespaces: bool = True) -> None:
        """Nothing is made before the block is entered; without `namespaces` the loopback is taken at once."""
        self._count, self._wanted = machines, namespaces
        self._tag = f"sse{os.getpid() % 10000}"
        self._net = ""
        self._made: list[str] = []
        self.kind = ""

    def __enter__(self) -> Self:
        """Makes namespaces where that is permitted."""
        number = random.randint(1, 250)
        if self._wanted and os.geteuid() == 0 and shutil.which("ip"):
            self._net = f"10.213.{number}"
            try:
                self._make()
            except subprocess.CalledProcessError:
                self.__exit__()
            else:
                self.kind = "network namespaces"
                return self
        self._net = f"127.{random.randint(32, 250)}.{number}"
        self.kind = "addresses of the loopback"
        return self

    def __exit__(self, *_: object) -> None:
        """Removes what was made; processes in a namespace must have ended."""
        for name in self._made:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)
        subprocess.run(["ip", "link", "delete", f"{self._tag}b"], check=False, capture_output=True)
        self._made.clear()

    @property
    def hub(self) -> str:
        """The address that every machine reaches; programs that are started without `command` listen there."""
        return f"{self._net}.{_HUB}"

    def address(self, machine: int) -> str:
        """Of the machine with that number, from 0."""
        return f"{self._net}.{machine + 2}"

    def command(self, machine: int) -> list[str]:
        """What stands before a command that is to run on that machine."""
        return ["ip", "netns", "exec", self._made[machine]] if self._made else []

    def cut(self, machine: int, *, away: bool) -> bool:
        """Takes a machine from the network, or gives it back; whether that can be done here."""
        if not self._made:
            return False
        _ip("link", "set", f"{self._tag}v{machine}", "down" if away else "up")
        return True

    def _make(self) -> None:
        bridge = f"{self._tag}b"
        _ip("link", "add", bridge, "type", "bridge")
        _ip("address", "add", f"{self.hub}/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        for machine in range(self._count):
            name, outside, inside = f"{self._tag}m{machine}", f"{self._tag}v{machine}", f"{self._tag}w{machine}"
            _ip("netns", "add", name)
            self._made.append(name)
            _ip("link", "add", outside, "type", "veth", "peer", "name", inside)
            _ip("link", "set", outside, "master", bridge, "up")
            _ip("link", "set", inside, "netns", name)
            for words in (
                ("address", "add", f"{self.address(machine)}/24", "dev", inside),
                ("link", "set", inside, "up"),
                ("link", "set", "lo", "up"),
            ):
                _ip("-n", name, *words)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
