"""Real agents own the copies in memory: a rank's death keeps them, a node's death leaves the partner's."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from footplate_contracts.coordinator_state import CoordinatorState, RunState
from footplate_contracts.reports import GenerationId
from tests.component.footplate_elastic.agent.gang import Gang, eventually
from tests.support.tiny import tiny_config


@pytest.fixture
def gang(tmp_path: Path) -> Iterator[Gang]:
    gang = Gang(tmp_path, local_world_size=1)
    yield gang
    gang.close()


def reached(generation: GenerationId, step: int) -> Callable[[CoordinatorState], bool]:
    def look(state: CoordinatorState) -> bool:
        return (
            state.state is RunState.TRAINING
            and state.generation == generation
            and state.progress.step >= step
        )

    return look


@pytest.mark.long
def test_a_run_without_durable_checkpoint_goes_on_from_memory(
    gang: Gang, shards: Path, tmp_path: Path
) -> None:
    overrides = ["training.steps=100000", "checkpoint.everySteps=100000", "checkpoint.memory.everySteps=1"]
    gang.use_trainer(tiny_config(shards, tmp_path, overrides))
    gang.start()
    first, second, third = (GenerationId(epoch=1, number=number) for number in (1, 2, 3))

    gang.wait_for(reached(first, 5))
    os.kill(gang.children(1)[-1], signal.SIGKILL)
    state = gang.wait_for(reached(second, 0))
    assert state.start_step is not None and state.start_step >= 4
    assert len(gang.memory_folders()) == 2

    goal = state.start_step + 5
    gang.wait_for(reached(second, goal))
    gang.agents[1].kill()
    gang.agents[1].wait()
    gang.agents[1] = gang.start_agent(1, incarnation=1)
    state = gang.wait_for(reached(third, 0))
    assert state.start_step is not None and state.start_step >= goal - 2, "the copy before was mirrored"
    eventually(lambda: "from the nodes' memory" in gang.log("agent-0-0"))
