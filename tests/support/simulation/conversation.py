"""How an agent finds whoever coordinates, whom it believes, and what it answers to a probe."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from footplate_contracts.connectivity_probes import ConnectivityProbe, ConnectivityProbeResult, Peer
from footplate_contracts.failures import FailureReport
from footplate_contracts.rendezvous import Heartbeat
from footplate_elastic.agent import timing
from footplate_elastic.coordinator.service import Service
from footplate_operator.runtime.kinds import Json
from tests.support.simulation.network import Unreached, connected

if TYPE_CHECKING:
    from tests.support.simulation.agent import Agent

Answer = TypeVar("Answer")


def environment(pod: Json) -> dict[str, str]:
    """The variables of its container that have a value."""
    return {v["name"]: v["value"] for v in pod["spec"]["containers"][0]["env"] if "value" in v}


@dataclass
class Directory:
    """What all conversations of one agent share."""

    good: str
    epoch: int = 0


class Conversation:
    """One persistent connection to whoever coordinates."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._open: str = ""

    async def ask(self, work: Callable[[Service], Awaitable[Answer]], seconds: float) -> Answer:
        """Raises Unreached."""
        agent, failed = self._agent, Unreached("no address")
        for address in agent.addresses(self._open):
            process = agent.world.coordinator_at(address)
            try:
                if address != self._open:
                    await agent.network.call(agent, process, connected, timing.CONNECT)
                assert process is not None
                service = process.service
                answer = await agent.network.call(
                    agent, process, lambda service=service: work(service), seconds
                )
            except Unreached as error:
                self._open, failed = "", error
                if agent.directory.good == address:
                    agent.directory.good = ""
                continue
            if service.epoch < agent.directory.epoch:
                failed = Unreached("a coordinator that was replaced")
                continue
            agent.directory.epoch, agent.directory.good, self._open = service.epoch, address, address
            return answer
        raise failed


async def explain(agent: Agent, word: Heartbeat, failure: FailureReport) -> None:
    """Say why `agent` gives its place up: another node may have devices that work."""
    said = word.model_copy(update={"failure": failure})
    with suppress(Unreached):
        await Conversation(agent).ask(lambda service: service.heartbeat(said, "", 0.0), timing.ANSWER)


# -- probes of connectivity ------------------------------------------------------------------------


async def answer_probe(agent: Agent, epoch: int, probe: ConnectivityProbe) -> ConnectivityProbeResult:
    """The answer_probe to `probe` of the coordinator of `epoch`."""

    async def reaches(peer: Peer) -> bool:
        try:
            await agent.network.call(agent, agent.world.agent_at(peer.address), connected, timing.PROBE)
        except Unreached:
            return False
        return True

    reached = await asyncio.gather(*map(reaches, probe.peers))
    unreached = [peer.pod_name for peer, there in zip(probe.peers, reached, strict=True) if not there]
    return ConnectivityProbeResult(epoch=epoch, number=probe.number, unreached=unreached)
