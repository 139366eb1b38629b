"""Who reads that a run has finished finds all of its numbers: its end waits for them, not for ever."""

from __future__ import annotations

import asyncio

import pytest

from footplate_contracts.coordinator_state import RunState
from footplate_contracts.directives import Directives
from footplate_contracts.rendezvous import Heartbeat, JoinRequest
from footplate_contracts.reports import DroppedTelemetry, GenerationId
from footplate_elastic.coordinator.__main__ import wait_for_shutdown
from footplate_elastic.coordinator.core import Coordinator
from footplate_elastic.coordinator.state import new_membership
from footplate_elastic.coordinator.telemetry import TelemetryBuffer
from footplate_elastic.coordinator.timing import LAST_NUMBERS, Timing
from tests.unit.footplate_elastic.coordinator.story import agent, any_size
from tests.unit.footplate_elastic.coordinator.test_telemetry import items


def finished(keep: bool) -> Coordinator:
    """A run of one agent that says at 10 s that it has finished, with 7 rows."""
    membership = new_membership(1, 1, 2, 0.0, Timing())
    run = Coordinator(
        membership,
        TelemetryBuffer(keep=keep),
        wall=lambda: 0.0,
        legal_sizes=any_size,
        directives=Directives(nodes=1),
    )
    run.join(JoinRequest(agent=agent(0), store_port=1), 0.0)
    running = GenerationId(epoch=1, number=1)
    word = Heartbeat(agent=agent(0), generation=running, outbox=items(1, 7), outbox_oldest=1, finished=True)
    run.heartbeat(word, 10.0)
    return run


def test_the_end_is_told_when_the_last_row_is_stored() -> None:
    run = finished(keep=True)
    run.tick(10.1)
    assert run.view().state is RunState.TRAINING
    before = run.version
    run.telemetry.mark_stored(7, DroppedTelemetry())
    run.tick(10.2)
    assert run.view().state is RunState.FINISHED and run.version > before


def test_the_operator_hears_of_what_is_given_up() -> None:
    run = finished(keep=True)
    run.tick(10.1)
    before = run.version
    run.telemetry.drop_refused(3, DroppedTelemetry())
    run.heartbeat(Heartbeat(agent=agent(0), overflowed=2), 10.2)
    run.tick(10.3)
    assert run.view().given_up == DroppedTelemetry(refused=3, overflowed=2) and run.version > before


def test_an_api_that_is_away_delays_the_end_by_seconds_only() -> None:
    run = finished(keep=True)
    run.tick(10.0 + LAST_NUMBERS - 0.1)
    assert run.view().state is RunState.TRAINING
    run.tick(10.0 + LAST_NUMBERS)
    assert run.view().state is RunState.FINISHED


def test_without_an_api_the_end_is_told_at_once() -> None:
    run = finished(keep=False)
    run.tick(10.05)
    assert run.view().state is RunState.FINISHED


async def test_a_coordinator_whose_clock_breaks_ends_instead_of_answering_on() -> None:
    async def keep_time() -> None:
        raise ZeroDivisionError

    async def ship() -> None:
        await asyncio.Event().wait()

    tasks = [asyncio.create_task(keep_time()), asyncio.create_task(ship())]
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(wait_for_shutdown(tasks), 10)
