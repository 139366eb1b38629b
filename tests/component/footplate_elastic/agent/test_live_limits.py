"""A length that changes under real agents and coordinators, up to the moment of the end and beyond it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from footplate_contracts.coordinator_state import CoordinatorState, RunState
from footplate_contracts.directives import Directives, Limits
from footplate_contracts.names import Env
from footplate_contracts.reports import GenerationId
from footplate_trainer.loop.limits import RunLimits
from tests.component.footplate_elastic.agent.gang import FakeApi, Gang
from tests.support.tiny import tiny_config


def asked(steps: int) -> Limits:
    return Limits(steps=steps, every_steps=5, keep_last=3)


def held(hold: Path, steps: int) -> bool:
    """Whether a rank waits there and knows that it is to train so many steps."""
    place = hold.with_suffix(".held")
    return place.exists() and place.read_text() == str(steps)


def trains(state: CoordinatorState, generation: GenerationId, step: int, total: int) -> bool:
    here = state.generation == generation and state.state is RunState.TRAINING
    return here and state.progress.step >= step and state.progress.total_steps == total


@pytest.mark.long
def test_a_run_goes_on_to_the_length_that_was_asked_for_last(
    tmp_path: Path, shards: Path, api: FakeApi
) -> None:
    """In place, through a new coordinator and new ranks, and where it came when the ranks had ended."""
    config = tiny_config(shards, tmp_path, ["training.steps=10", "checkpoint.everySteps=5"])
    gang = Gang(tmp_path, nodes=1)
    gang.extra[str(Env.API_URL)] = api.url
    gang.use_trainer(config)
    gang.entry = "held_rank:run"
    first, second, third = (GenerationId(epoch=epoch, number=n) for epoch, n in ((1, 1), (2, 1), (2, 2)))
    holds = [tmp_path / f"hold-{where}" for where in (8, 14, "end")]
    for hold in holds:
        hold.touch()
    try:
        [agent] = gang.start()
        gang.wait_for(lambda state: trains(state, first, 7, total=10))
        gang.direct(limits=asked(20))
        gang.wait_for(lambda state: held(holds[0], 20))
        holds[0].unlink()
        gang.wait_for(lambda state: trains(state, first, 13, total=20) and state.checkpoint is not None)

        gang.processes[0].kill()
        told = Directives(nodes=1, limits=asked(20))
        gang.extra[str(Env.DIRECTIVES)] = told.model_dump_json(by_alias=True, exclude_none=True)
        gang.start_coordinator(epoch=2)
        gang.wait_for(lambda state: state.generation == first)
        os.kill(gang.children(0)[-1], signal.SIGKILL)
        holds[1].unlink()
        gang.wait_for(lambda state: trains(state, second, 20, total=20))

        gang.wait_for(lambda state: held(holds[2], 20))
        gang.direct(limits=asked(23))
        holds[2].unlink()
        gang.wait_for(lambda state: state.generation == third)
        state = gang.wait_for(lambda state: state.state is RunState.FINISHED)
        assert state.progress.step == state.progress.total_steps == 23
        assert agent.wait(60) == 0
    finally:
        gang.close()

    rows = [api.rows[step] for step in sorted(api.rows)]
    assert [row.metrics.step for row in rows] == list(range(1, 24))
    limits = RunLimits(config)
    assert rows[6].metrics.learning_rate == limits.rate(7)
    limits.config = config.model_copy(update={"training": config.training.model_copy(update={"steps": 23})})
    limits.in_force = limits.in_force.model_copy(update={"steps": 23})
    assert [row.metrics.learning_rate for row in rows[20:]] == [limits.rate(step) for step in (21, 22, 23)]
    assert {row.generation for row in rows[20:]} == {third}
