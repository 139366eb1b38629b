"""Connectivity probe from this agent to the others that wait for the next generation.

It only opens a connection and sends nothing over it: the kernel at the other end accepts it, however busy its
agent is. So it tests the network between two nodes, in both directions, and nothing else.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from footplate_contracts.connectivity_probes import ConnectivityProbe, ConnectivityProbeResult, Peer
from footplate_elastic.agent import timing

_AT_ONCE: Final = 64  # connections


def run_probe(epoch: int, probe: ConnectivityProbe) -> ConnectivityProbeResult:
    """Return the result of `probe` for the coordinator of `epoch`; takes two seconds if a peer is silent."""
    return ConnectivityProbeResult(epoch=epoch, number=probe.number, unreached=find_unreached(probe.peers))


def find_unreached(peers: Sequence[Peer]) -> list[str]:
    """Return the pods of the `peers` that cannot be reached, in their order."""
    if not peers:
        return []
    with ThreadPoolExecutor(min(len(peers), _AT_ONCE), thread_name_prefix="footplate-probe") as pool:
        reached = list(pool.map(_reaches, peers))
    return [peer.pod_name for peer, there in zip(peers, reached, strict=True) if not there]


def _reaches(peer: Peer) -> bool:
    try:
        with socket.create_connection((peer.address, peer.port), timing.PROBE):
            return True
    except OSError:
        return False
