"""The claim on a port against a kernel that has sockets."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from cluster.machine.ports import CANDIDATES, LOOPBACK, claim_ports

OTHER = "from cluster.machine.ports import claim_ports; print(*claim_ports(200))"


def test_two_processes_claim_different_ports() -> None:
    ours = claim_ports(200)
    other = subprocess.run(
        [sys.executable, "-c", OTHER], cwd="dev", capture_output=True, text=True, check=True
    ).stdout.split()
    assert len(set(ours)) == 200 and len(set(other)) == 200
    assert not {str(port) for port in ours} & set(other)


def test_a_port_that_somebody_listens_on_is_not_claimed() -> None:
    with socket.create_server((LOOPBACK, 0)) as server:
        used = server.getsockname()[1]
        assert used not in CANDIDATES  # the kernel hands out others
        with pytest.raises(OSError, match=f"1 free ports in {used}-{used}: 0 found"):
            claim_ports(1, range(used, used + 1))


def test_a_claimed_port_is_not_claimed_again() -> None:
    [port] = claim_ports(1)
    with pytest.raises(OSError, match="0 found"):
        claim_ports(1, range(port, port + 1))
