"""Whom this agent reaches, of those who wait for the next generation with it.

A connection is tried, and nothing is said over it: the kernel at the other end accepts it, however
busy its agent is. So it tells of the network between two nodes, in both directions, and of nothing else.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from footplate_contracts.probes import Peer, Probe, ProbeResult
from footplate_elastic.agent import timing

_AT_ONCE: Final = 64  # connections


def answer(epoch: int, probe: Probe) -> ProbeResult:
    """What is said to `probe` of the coordinator of `epoch`; takes two seconds where a peer is silent."""
    return ProbeResult(epoch=epoch, number=probe.number, unreached=unreached(probe.peers))


def unreached(peers: Sequence[Peer]) -> list[str]:
    """The pods of those `peers` that cannot be reached, in their order."""
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
