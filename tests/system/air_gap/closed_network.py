"""The network namespace that leads nowhere."""

from __future__ import annotations

import errno
import socket
import subprocess
from typing import Final

# Documentation's own (RFC 5737): an address of the world that is nobody's.
ELSEWHERE: Final = ("203.0.113.1", 443)
ROUTES: Final = ("ip", "route", "show", "table", "all", "type", "unicast")
_UNREACHABLE: Final = (errno.ENETUNREACH, errno.EHOSTUNREACH)


def open_loopback() -> None:
    """A new namespace has it shut."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def routes() -> list[str]:
    """Every route of this namespace to somewhere else, as ROUTES says it."""
    return subprocess.run(ROUTES, check=True, capture_output=True, text=True).stdout.splitlines()


def reachable() -> bool:
    """Whether there is any way to the rest of the world."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(ELSEWHERE)  # of a datagram's socket: the route is looked up, nothing is sent
        except OSError as error:
            if error.errno not in _UNREACHABLE:
                raise
            return False
        return True
