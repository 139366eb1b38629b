"""Which loopback addresses this machine has: many a container has none of IPv6."""

from __future__ import annotations

import socket

import pytest


def has_ipv6() -> bool:
    """Whether somebody may listen on ::1."""
    try:
        with socket.socket(socket.AF_INET6) as listener:
            listener.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="loopback has no IPv6 here")
