"""A second stage is an objective and a list: the loop, and what it calls, stay as they are."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from footplate_contracts.names import ExitCode
from footplate_contracts.runconfig import RunConfig
from footplate_trainer.callbacks.limits import SuspensionCallback
from footplate_trainer.callbacks.metric_rows import open_metric_rows
from footplate_trainer.callbacks.reporter import Reporter
from footplate_trainer.loop.callbacks import Callback, Callbacks, TrainedStep
from footplate_trainer.loop.limits import RunLimits
from footplate_trainer.loop.stepper import Stepper
from footplate_trainer.loop.training_loop import train
from footplate_trainer.model.head_chunks import VocabularyShard
from footplate_trainer.model.inputs import Targets
from footplate_trainer.optim.optimizer import build_optimizer
from footplate_trainer.parallel.objective import GlobalBatch, Objective, with_head
from footplate_trainer.parallel.parallel_model import build_model
from footplate_trainer.parallel.stage_module import Criterion
from footplate_trainer.parallel.world import DistributedContext
from footplate_trainer.stages.inputs import open_loader, open_shards
from footplate_trainer.stages.process import Program, run_stage
from tests.support.ranks import run_ranks
from tests.support.tiny import tiny_config
from tests.support.training import FakeAgent


@dataclass(frozen=True)
class SmallStates(Objective):
    """The mean squares of hidden states where a label counts; and how many are large."""

    @property
    def names(self) -> tuple[str, ...]:
        return ("distance/large",)

    def build_criterion(self, batch: GlobalBatch) -> Criterion:
        def criterion(
            hidden: Tensor, head: Tensor, targets: Targets, *, vocabulary: VocabularyShard | None = None
        ) -> Tensor:
            squares = (hidden - 1).square().mean(-1)[targets.labels >= 0]
            batch.metric_sums.add("distance/large", (squares > 0.5).sum(), squares.numel())
            return with_head(squares.double().sum(), head)

        return criterion


@dataclass
class EarlyEnd(Callback):
    """Ends training once the loss is small enough; all ranks see the same one."""

    limits: RunLimits
    enough: float
    number: str = "distance/to-go"  # the name of what it adds to a row
    losses: list[float] = field(default_factory=list)

    def after_step(self, step: TrainedStep) -> None:
        self.losses.append(step.result.loss)
        step.columns[self.number] = step.result.loss - self.enough
        if step.result.loss < self.enough:
            self.limits.apply(self.limits.in_force.model_copy(update={"steps": step.number}), step.number)


def shrink(
    config: RunConfig, agent: FakeAgent, number: str, world: DistributedContext, reporter: Reporter
) -> ExitCode:
    """The stage: no checkpoint, no validation, an end of its own."""
    torch.manual_seed(config.training.seed)
    model = build_model(config, world)
    optimizer = build_optimizer(model.module, config.training.optimizer)
    stepper = Stepper(model, optimizer, world, 0.0, SmallStates(), config.training.seed)
    limits = RunLimits(config)
    early_end = EarlyEnd(limits, enough=0.02, number=number)
    callbacks = Callbacks(
        reporter,
        SuspensionCallback(agent),
        early_end,
        open_metric_rows(config, agent, limits, reporter, world, None),
    )
    loader = open_loader(config, open_shards(config, world, verify=False), model.grid)
    last = train(stepper, loader, limits, callbacks, done=0)
    loader.close()
    callbacks.close()
    assert last is not None and last.loss == early_end.losses[-1]
    return ExitCode.SUSPENDED if last.step < limits.steps else ExitCode.SUCCESS


def run(agent: FakeAgent, config: RunConfig, number: str = "distance/to-go") -> tuple[int, FakeAgent]:
    def stage(config: RunConfig) -> Program:
        return partial(shrink, config, agent, number)

    return int(run_stage(config, agent, stage)), agent


def test_another_objective_and_another_list_go_through_the_same_loop(shards: Path, tmp_path: Path) -> None:
    config = tiny_config(shards, tmp_path, ["training.steps=40"])
    ended = run_ranks(run, 2, FakeAgent(), config)
    assert [code for code, _ in ended] == [ExitCode.SUCCESS] * 2
    losses = [row.loss for row in ended[0][1].rows]
    assert 1 < len(losses) < 40, "it ends early, by its own callback"
    assert losses[-1] < 0.02 <= min(losses[:-1])
    assert not (tmp_path / "checkpoints").exists()
    values = [row.values for row in ended[0][1].rows]
    assert [row["distance/to-go"] for row in values] == [loss - 0.02 for loss in losses]
    large = [row["distance/large"] for row in values]
    assert large[0] > 0.9 and large[-1] == 0


def test_it_is_suspended_like_any_other(shards: Path, tmp_path: Path) -> None:
    config = tiny_config(shards, tmp_path, ["training.steps=40"])
    ended = run_ranks(run, 2, FakeAgent(suspend_after=2), config)
    assert [code for code, _ in ended] == [ExitCode.SUSPENDED] * 2
    assert [row.step for row in ended[0][1].rows] == [1, 2, 3]


def said(agent: FakeAgent, config: RunConfig, number: str) -> tuple[int, str]:
    with contextlib.redirect_stderr(io.StringIO()) as stderr:
        code, _ = run(agent, config, number)
    return code, stderr.getvalue()


def test_a_number_under_a_name_that_cannot_be_stored_ends_it_at_the_first_step(
    shards: Path, tmp_path: Path
) -> None:
    config = tiny_config(shards, tmp_path, ["training.steps=40"])
    for code, text in run_ranks(said, 2, FakeAgent(), config, "distance to go"):
        assert code == ExitCode.USER_ERROR
        assert "in after_step\n    step.columns[self.number] = " in text, "the author's own line"
        assert "ValueError: step.columns: 'distance to go' must be a name of at most 63 letters" in text
