"""When a step is saved, and that rows which a resumed run does not write again are in their files by then."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from footplate_contracts.reports import GenerationId
from footplate_contracts.runconfig import RunConfig
from footplate_trainer.callbacks.checkpoints import DurableCheckpoints
from footplate_trainer.callbacks.reporter import Reporter
from footplate_trainer.checkpoint.durable.saver import Saver
from footplate_trainer.checkpoint.layout import CommitMarker
from footplate_trainer.checkpoint.state_tensors import HostCopy
from footplate_trainer.checkpoint.step import StepCheckpoint
from footplate_trainer.checkpoint.store import CheckpointStore
from footplate_trainer.checkpoint.training_state import StateBuilder, TrainingState
from footplate_trainer.errors import StaleGeneration
from footplate_trainer.loop.limits import RunLimits
from footplate_trainer.loop.stepper import StepFlags
from footplate_trainer.metrics.stopwatch import StepPart, Stopwatch
from footplate_trainer.optim.optimizer import build_optimizer
from footplate_trainer.parallel.parallel_model import build_model
from footplate_trainer.parallel.world import init_distributed, read_environment
from footplate_trainer.stages.start import open_store
from tests.support.ranks import run_ranks
from tests.support.tiny import tiny_config
from tests.support.training import FakeAgent, trained


class Forgetful(CheckpointStore):
    """Makes the first marker, and does not say so."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self.silent = True

    def commit(self, marker: CommitMarker) -> bool:
        made = super().commit(marker)
        if self.silent:
            self.silent = False
            raise TimeoutError(errno.ETIMEDOUT, "the answer never came")
        return made


def save(
    config: RunConfig, flags: dict[int, StepFlags], refuse: int | None = None, forgetful: bool = False
) -> tuple[list[int], list[int]]:
    """After which of six steps flushing was asked for, and which were committed in the end."""
    with init_distributed(read_environment(os.environ), config.world.backend) as world:
        agent = FakeAgent(refuse_step=refuse)
        model = build_model(config, world)
        optimizer = build_optimizer(model.module, config.training.optimizer)
        saver = Saver(
            Forgetful(config.checkpoint.uri) if forgetful else open_store(config),
            world,
            HostCopy(model.module, optimizer.moments(), model.host_mesh),
            generation=GenerationId(epoch=1, number=1),
            settings=config.checkpoint,
            sidecars={},
            agent=agent,
            clock=time.time,
        )
        reporter, limits, flushed = Reporter(agent, world), RunLimits(config), list[int]()
        state_writer = StateBuilder(1, 1, 8, 0, {})

        def state() -> TrainingState:
            return state_writer.build(reporter.step, reporter.tokens)

        stopwatch = Stopwatch(time.perf_counter)
        durable = DurableCheckpoints(
            saver, state, limits, reporter, stopwatch, lambda: flushed.append(reporter.step)
        )
        try:
            for number in range(1, 7):
                raised = durable.before_compute(number) | flags.get(number, StepFlags())
                step = trained(number, raised)
                reporter.after_step(step)
                durable.after_step(step)
        except StaleGeneration:
            return flushed, []
        assert stopwatch.read_and_reset()[1].keys() == {StepPart.CHECKPOINT}
        return flushed, [record.step for record in agent.checkpoints]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        pytest.param({}, [4, 6], id="cadence-and-end"),
        pytest.param({3: StepFlags(suspend=True)}, [3, 4, 6], id="suspension"),
        pytest.param({6: StepFlags(suspend=True)}, [4, 6], id="suspended-at-the-end"),
    ],
)
def test_when_a_step_is_saved(tmp_path: Path, flags: dict[int, StepFlags], expected: list[int]) -> None:
    config = tiny_config(Path("/shards"), tmp_path, ["checkpoint.everySteps=4"])
    [(flushed, committed)] = run_ranks(save, 1, config, flags)
    assert flushed == committed == expected
    assert CheckpointStore(tmp_path / "checkpoints").steps() == sorted(expected, reverse=True)[:3]


def test_a_marker_whose_making_was_not_answered_is_found_to_be_ours(tmp_path: Path) -> None:
    config = tiny_config(Path("/shards"), tmp_path, ["checkpoint.everySteps=6"])
    [(flushed, committed)] = run_ranks(save, 1, config, {}, None, True)
    assert (flushed, committed) == ([6], [6])
    folder = tmp_path / "checkpoints"
    assert CheckpointStore(folder).steps() == [6]
    assert StepCheckpoint(CheckpointStore(folder), "step-6.e1g1").first_damage(0, 1) is None


def test_a_checkpoint_that_came_to_nothing_ends_training(tmp_path: Path) -> None:
    config = tiny_config(Path("/shards"), tmp_path, ["checkpoint.everySteps=6"])
    [(flushed, committed)] = run_ranks(save, 1, config, {}, 6)
    assert (flushed, committed) == ([6], [])
