"""What is measured of interruptions, and of runs' time."""

from __future__ import annotations

from datetime import timedelta

import pytest

from footplate_contracts.coordinator_state import CoordinatorState, MissedAgent, RunState, Verdict
from footplate_contracts.names import Cause, Phase, Reason
from footplate_contracts.reports import GenerationId
from footplate_contracts.v1alpha1.status import Attempt, TrainingRunStatus
from footplate_operator.runtime.kinds import POD
from footplate_operator.trainingrun.recovery import CompletedRecovery, Recovery, RecoveryPart, track_recovery
from tests.support.fake_cluster import Clock
from tests.support.operator_fakes import identity
from tests.support.operator_world import running

BEGAN = Clock()()


def _status(phase: Phase, *, interrupted: bool) -> TrainingRunStatus:
    first = Attempt(number=1, start="2026-01-31T12:00:00Z", generation="1.1", cause=Cause.NODE_LOST)
    ended = first.model_copy(update={"end": "2026-01-31T12:00:09Z"}) if interrupted else first
    return TrainingRunStatus(phase=phase, attempts=[ended])


def _state(number: int, state: RunState, **said: object) -> CoordinatorState:
    generation = GenerationId(epoch=1, number=number)
    return CoordinatorState(version=1, epoch=1, state=state, generation=generation, **said)


async def test_each_part_of_a_recovery_is_told_once() -> None:
    world = await running()
    agent = identity(world.cluster.objects[POD, "tiny-w1-0"])
    missed = [MissedAgent(agent=agent, verdict=Verdict.SUSPECT, seconds=1.0)]
    running_now, restarting = (
        _status(Phase.RUNNING, interrupted=False),
        _status(Phase.RESTARTING, interrupted=True),
    )
    trained = _status(Phase.RUNNING, interrupted=True)
    story = [
        (0.0, running_now, _state(1, RunState.TRAINING)),
        (5.0, running_now, _state(1, RunState.TRAINING, missed=missed)),
        (7.0, restarting, _state(1, RunState.GATHERING, missing=[1])),
        (8.0, restarting, _state(1, RunState.GATHERING, missing=[1])),
        (12.0, restarting, _state(1, RunState.GATHERING)),
        (12.5, restarting, _state(2, RunState.LOADING)),
        (15.5, restarting, _state(2, RunState.TRAINING)),
        (15.5, trained, _state(2, RunState.TRAINING)),
        (20.0, trained, _state(2, RunState.TRAINING)),
    ]
    known: Recovery | None = None
    told: list[CompletedRecovery] = []
    for seconds, status, state in story:
        known, recovered = track_recovery(known, status, state, BEGAN + timedelta(seconds=seconds))
        told += [recovered] if recovered else []
    [found] = told
    assert found.cause is Cause.NODE_LOST
    assert found.seconds == {
        RecoveryPart.DETECT: 3.0,
        RecoveryPart.REGISTERED: 5.0,
        RecoveryPart.SEALED: 0.5,
        RecoveryPart.STEPPING: 3.0,
    }
    assert known is None


def test_a_suspicion_that_passes_is_none_of_a_later_recovery() -> None:
    assert track_recovery(
        Recovery(noticed=BEGAN),
        _status(Phase.RUNNING, interrupted=False),
        _state(1, RunState.TRAINING),
        BEGAN,
    ) == (None, None)


async def test_recoveries_and_time_are_metrics() -> None:
    world = await running()
    pod = world.cluster.objects[POD, "tiny-w1-0"]
    world.coordinator().fail(
        Cause.COMMUNICATION, Reason.PEER_LOST, "reset", pod, world.clock().timestamp(), rank=1
    )
    world._speak()
    await world.live(120, until=lambda: world.phase == "Succeeded")
    await world.live(2)
    text = world.metrics.text().decode()
    assert 'footplate_operator_recovery_seconds_count{cause="Communication"} 1.0' in text
    for part in RecoveryPart:
        name = f'footplate_operator_recovery_breakdown_seconds_count{{cause="Communication",part="{part}"}}'
        assert f"{name} 1.0" in text, part
    spent = {
        line.split('"')[1]: float(line.rsplit(" ", 1)[1])
        for line in text.splitlines()
        if line.startswith("footplate_operator_run_seconds_total")
    }
    assert spent == pytest.approx(world.status["wallSeconds"], abs=0.01)
