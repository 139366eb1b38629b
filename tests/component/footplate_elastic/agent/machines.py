"""A gang whose agents are on machines of their own: network namespaces at one bridge.

    hub (coordinator, test)   bridge 10.99.0.1
      ├── veth ── machine 0     10.99.0.10
      ├── veth ── machine 1     10.99.0.11
      └── …

The test's own thread moves into the hub, which nobody else can see, and back at the end. A namespace ends
with its last process, so that nothing is left of them.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from footplate_contracts.names import Env
from tests.component.footplate_elastic.agent.gang import Gang

_NEW_NETWORK: Final = 0x40000000  # CLONE_NEWNET
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Network:
    """Whose addresses begin with `prefix`; `options` are those of `ip address add`."""

    prefix: str
    bits: int
    options: str = ""

    @property
    def hub(self) -> str:
        return f"{self.prefix}1"

    def machine(self, number: int) -> str:
        return f"{self.prefix}{10 + number}"

    def add(self, address: str, device: str) -> str:
        """The command of `ip` by which `device` has `address`."""
        return f"address add {address}/{self.bits} dev {device} {self.options}"


IPV4: Final = Network("10.99.0.", 24)
IPV6: Final = Network("fd99::", 64, "nodad")  # an address is used at once


class Machines(Gang):
    """`next_machine` is where the next agent starts. Raises PermissionError without the right to it."""

    def __init__(self, directory: Path, nodes: int, machines: int, network: Network = IPV4) -> None:
        self._before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        if _LIBC.unshare(_NEW_NETWORK):
            os.close(self._before)
            raise PermissionError(ctypes.get_errno(), "a network namespace")
        super().__init__(directory, nodes=nodes, local_world_size=1)
        self.network = network
        self.address = network.hub
        self.next_machine = 0
        self._holders: list[subprocess.Popen[bytes]] = []
        try:
            self._connect(machines)
        except BaseException:
            self.close()  # or this thread stays where nobody else is
            raise

    def _connect(self, machines: int) -> None:
        self._ip(
            "link set lo up",
            "link add hub type bridge forward_delay 0",
            self.network.add(self.network.hub, "hub"),
            "link set hub up",
        )
        for number in range(machines):
            self._machine(number)

    def placed(self, command: list[str], environment: dict[str, str]) -> tuple[list[str], dict[str, str]]:
        number = self.next_machine
        self.next_machine += 1
        there = {
            str(Env.POD_IP): self.network.machine(number),
            str(Env.NODE_NAME): f"machine-{number}",
            "GLOO_SOCKET_IFNAME": "cable",
        }
        inside = ["nsenter", f"--target={self._holders[number].pid}", "--net"]
        return [*inside, *command], environment | there

    def isolate(self, *machines: int) -> None:
        """These do not reach each other from now on, but everybody else, and the hub."""
        self._ip(*(f"link set port{number} type bridge_slave isolated on" for number in machines))

    def close(self) -> None:
        super().close()
        for holder in self._holders:
            holder.kill()
            holder.wait()
        _LIBC.setns(self._before, _NEW_NETWORK)
        os.close(self._before)

    def _machine(self, number: int) -> None:
        """Start the process that holds a machine's namespace, which ends with us, and lay a cable to it."""
        hold = ["unshare", "--net", "sh", "-c", "echo there && exec cat"]
        holder = subprocess.Popen(hold, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._holders.append(holder)
        assert holder.stdout is not None and holder.stdout.readline()
        self._ip(
            f"link add port{number} type veth peer name cable netns {holder.pid}",
            f"link set port{number} master hub up",
        )
        self._ip(
            "link set lo up",
            self.network.add(self.network.machine(number), "cable"),
            "link set cable up",
            inside=holder.pid,
        )

    def _ip(self, *commands: str, inside: int | None = None) -> None:
        where = ["nsenter", f"--target={inside}", "--net"] if inside else []
        text = "\n".join(commands) + "\n"
        subprocess.run([*where, "ip", "-batch", "-"], input=text.encode(), check=True)
