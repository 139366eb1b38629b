"""What an agent answers to a probe: whom of its peers packets reach, and come back from."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from footplate_contracts.connectivity_probes import ConnectivityProbe, ConnectivityProbeResult, Peer
from footplate_elastic.agent import timing
from tests.support.simulation.network import Unreached, connected

if TYPE_CHECKING:
    from tests.support.simulation.agent import Agent


async def answer(agent: Agent, epoch: int, probe: ConnectivityProbe) -> ConnectivityProbeResult:
    """The answer to `probe` of the coordinator of `epoch`."""

    async def reaches(peer: Peer) -> bool:
        try:
            await agent.network.call(agent, agent.world.agent_at(peer.address), connected, timing.PROBE)
        except Unreached:
            return False
        return True

    reached = await asyncio.gather(*map(reaches, probe.peers))
    unreached = [peer.pod_name for peer, there in zip(probe.peers, reached, strict=True) if not there]
    return ConnectivityProbeResult(epoch=epoch, number=probe.number, unreached=unreached)
