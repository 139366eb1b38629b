"""CPU seconds that the coordinator's public entry points take with a number of agents."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import cache
from typing import Final

from footplate_contracts.diagnosis import DiagnosisKind, DiagnosisRequest
from footplate_contracts.directives import Directives
from footplate_contracts.failures import FailureReport
from footplate_contracts.names import Cause, Reason
from footplate_contracts.rendezvous import AgentIdentity, Heartbeat, JoinRequest
from footplate_contracts.reports import GenerationId, RankPhase, RankReport
from footplate_elastic.coordinator.core import Coordinator
from footplate_elastic.coordinator.service import Service
from footplate_elastic.coordinator.state import Rendezvous, new_membership
from footplate_elastic.coordinator.telemetry import TelemetryBuffer
from footplate_elastic.coordinator.timing import Timing
from footplate_elastic.protocol import wire
from tests.support.growth import Stopwatch

RANKS: Final = 8  # of each agent
_NOW: Final = 1.0
_FAILED: Final = FailureReport(cause=Cause.USER_ERROR, reason=Reason.PYTHON_ERROR, message="boom", time=0.0)
_PEER_LOST: Final = FailureReport(
    cause=Cause.COMMUNICATION, reason=Reason.PEER_LOST, message="connection reset", time=0.0
)


def identity(index: int) -> AgentIdentity:
    """Agent `index`, with names as long as those of a cluster."""
    return AgentIdentity(
        index=index,
        incarnation=0,
        pod_name=f"llama-3-8b-pretraining-w{index}-0",
        pod_uid=f"7f1c9d52-7a0e-4c0f-9f6b-{index:012x}",
        node_name=f"gpu-node-{index:04d}.cluster.internal",
        address=f"10.{index >> 16}.{index >> 8 & 255}.{index & 255}",
        local_world_size=RANKS,
    )


def new_coordinator(agents: int) -> Coordinator:
    """A coordinator of `agents` agents that has heard of none."""
    return Coordinator(
        new_membership(1, agents, RANKS, _NOW, Timing()),
        TelemetryBuffer(keep=False),
        wall=lambda: 0.0,
        legal_sizes=lambda _, most: (most,),
        directives=Directives(nodes=agents),
    )


@cache
def joins(agents: int, last: GenerationId | None = None) -> tuple[JoinRequest, ...]:
    """The join of each agent, with the failure that ended `last`, if any."""
    return tuple(
        JoinRequest(
            agent=identity(index),
            store_port=2000 if last else 1000,
            last_generation=last,
            failure=(_PEER_LOST if index else _FAILED) if last else None,
        )
        for index in range(agents)
    )


@cache
def heartbeats(
    agents: int, generation: GenerationId | None, step: int = 1, finished: bool = False
) -> tuple[Heartbeat, ...]:
    """One heartbeat of each agent; with a `generation` it reports `step` of all ranks."""
    return tuple(
        Heartbeat(
            agent=identity(index),
            generation=generation,
            finished=finished,
            total_steps=step if finished else None,
            ranks=[_report(RANKS * index + local, step) for local in range(RANKS if generation else 0)],
        )
        for index in range(agents)
    )


def _report(rank: int, step: int) -> RankReport:
    return RankReport(
        rank=rank, local_rank=rank % RANKS, step=step, phase=RankPhase.COMPUTE, step_seconds=1.0
    )


def sealed(agents: int) -> Coordinator:
    """A coordinator whose agents train."""
    coordinator = new_coordinator(agents)
    for request in joins(agents):
        coordinator.join(request, _NOW)
    for word in heartbeats(agents, coordinator.state.generation):
        coordinator.heartbeat(word, _NOW)
    assert coordinator.state.rendezvous is Rendezvous.SEALED
    return coordinator


def after_a_failed_rank(agents: int) -> Coordinator:
    """A coordinator whose first agent has joined again: the others were told so just now."""
    coordinator = sealed(agents)
    coordinator.join(joins(agents, coordinator.state.generation)[0], _NOW)
    assert coordinator.state.rendezvous is Rendezvous.OPEN and coordinator.state.suspicion
    return coordinator


def cost_of_a_tick(agents: int) -> float:
    """One tick while all train."""
    return _ticks(sealed(agents))


def cost_of_a_tick_after_a_failed_rank(agents: int) -> float:
    """One tick while all but one agent have still to join."""
    return _ticks(after_a_failed_rank(agents))


def cost_of_a_tick_after_a_loss(agents: int) -> float:
    """The tick that finds four of ten agents silent for too long."""
    coordinator, now = sealed(agents), _NOW + 5.5
    for word in heartbeats(agents, coordinator.state.generation)[: 6 * agents // 10]:
        coordinator.heartbeat(word, now)
    coordinator.state.ticked = now
    watch = Stopwatch()
    with watch:
        coordinator.tick(now + 0.05)
    assert len(coordinator.state.missing()) == agents - 6 * agents // 10
    return watch.seconds


def cost_of_heartbeats(agents: int) -> float:
    """One heartbeat of each agent while all train."""
    coordinator = sealed(agents)
    return _spoken(coordinator, heartbeats(agents, coordinator.state.generation, step=2))


def cost_of_early_heartbeats(agents: int) -> float:
    """The first heartbeat of each agent, before any has joined."""
    return _spoken(new_coordinator(agents), heartbeats(agents, None))


def cost_of_late_heartbeats(agents: int) -> float:
    """The heartbeats in which all agents say that their ranks have ended."""
    coordinator = sealed(agents)
    seconds = _spoken(coordinator, heartbeats(agents, coordinator.state.generation, finished=True))
    assert coordinator.state.closed
    return seconds


def cost_of_answers(agents: int) -> float:
    """One answer to each agent while all train."""
    coordinator = sealed(agents)
    spoken = [identity(index) for index in range(agents)]
    watch = Stopwatch()
    with watch:
        for agent in spoken:
            coordinator.build_heartbeat_response(agent)
    return watch.seconds


def cost_of_joins(agents: int) -> float:
    """All agents say that they are there, join at once, and are answered."""
    coordinator = new_coordinator(agents)
    hearing = _spoken(coordinator, heartbeats(agents, None))
    return hearing + _joined(coordinator, joins(agents))


def cost_of_joins_after_a_failed_rank(agents: int) -> float:
    """All agents join again, since one of them has, and are answered."""
    coordinator = sealed(agents)
    return _joined(coordinator, joins(agents, coordinator.state.generation))


def cost_of_news(agents: int) -> float:
    """All agents wait in a long-poll, and one piece of news answers all of them."""
    return asyncio.run(_news(agents))


async def _news(agents: int) -> float:
    service = Service(sealed(agents), lambda: None, lambda: _NOW)
    known = wire.answer_token(service.coordinator.build_heartbeat_response(identity(0)))
    words = heartbeats(agents, service.coordinator.state.generation)
    polls = [asyncio.create_task(service.heartbeat(word, known, 60.0)) for word in words]
    await asyncio.sleep(0)
    watch = Stopwatch()
    with watch:
        service.diagnose(DiagnosisRequest(kind=DiagnosisKind.STACKS))
        for answer in await asyncio.gather(*polls):
            assert answer.diagnosis is not None
            answer.model_dump_json(by_alias=True, exclude_none=True)
    return watch.seconds


def cost_of_arrivals(agents: int) -> float:
    """All agents join over the service while those that joined before wait for the seal."""
    return asyncio.run(_arrivals(agents))


async def _arrivals(agents: int) -> float:
    service = Service(new_coordinator(agents), lambda: None, lambda: _NOW)
    requests, watch = joins(agents), Stopwatch()
    waiting = []
    with watch:
        for request in requests:
            waiting.append(asyncio.create_task(service.join(request)))
            await asyncio.sleep(0)  # each one's request is read by itself
        answers = await asyncio.gather(*waiting)
    assert all(answer is service.coordinator.state.sealed for answer in answers)
    return watch.seconds


def _ticks(coordinator: Coordinator, now: float = _NOW) -> float:
    count, watch = 5, Stopwatch()
    with watch:
        for number in range(count):
            coordinator.tick(now + 0.01 * number)
    return watch.seconds / count


def _spoken(coordinator: Coordinator, words: Sequence[Heartbeat]) -> float:
    watch = Stopwatch()
    with watch:
        for word in words:
            coordinator.heartbeat(word, _NOW)
    return watch.seconds


def _joined(coordinator: Coordinator, requests: Sequence[JoinRequest]) -> float:
    watch = Stopwatch()
    with watch:
        for request in requests:
            coordinator.join(request, _NOW)
        answers = [coordinator.find_generation(request) for request in requests]
    assert None not in answers
    return watch.seconds
