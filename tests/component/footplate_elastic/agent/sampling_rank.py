"""A stage of the trainer that samples before each step and scores what it has, as long as a test wants it to.

In the control directory a file `samples` keeps all ranks at a rollout that goes on and on; `still-RANK` has
that rank stand still in it, once it has finished a token, and `still-RANK.held` says that it does.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final

import torch
import torch.distributed as dist

from footplate_contracts.names import Env, ExitCode
from footplate_contracts.reports import RankPhase
from footplate_contracts.runconfig import RunConfig
from footplate_elastic.protocol.agent_client import AgentClient, open_client
from footplate_trainer.callbacks.metric_rows import open_metric_rows
from footplate_trainer.callbacks.reporter import Reporter
from footplate_trainer.loop.callbacks import Callback, Callbacks
from footplate_trainer.loop.limits import RunLimits
from footplate_trainer.loop.stepper import Stepper
from footplate_trainer.loop.training_loop import train
from footplate_trainer.metrics.stopwatch import StepPart, Stopwatch
from footplate_trainer.optim.optimizer import build_optimizer
from footplate_trainer.parallel.parallel_model import build_model
from footplate_trainer.parallel.world import DistributedContext
from footplate_trainer.stages.inputs import open_loader, open_shards
from footplate_trainer.stages.losses import objective_of
from footplate_trainer.stages.process import Program, run_stage

TOKEN: Final = 0.05  # seconds
SAMPLES: Final = 3


def run() -> ExitCode:
    """As `stages.programs` does it."""
    config = RunConfig.from_json(json.loads(Path(os.environ[Env.RUN_CONFIG]).read_text()))
    agent = open_client(os.environ)
    try:
        return run_stage(config, agent, partial(_stage, agent))
    finally:
        agent.close()


def _stage(agent: AgentClient, config: RunConfig) -> Program:
    return partial(_learn, agent, config)


def _learn(agent: AgentClient, config: RunConfig, world: DistributedContext, reporter: Reporter) -> ExitCode:
    """No checkpoint: whoever restarts begins with the first rollout."""
    reporter.report_phase(RankPhase.LOADING)
    torch.manual_seed(config.training.seed)
    model = build_model(config, world)
    optimizer = build_optimizer(model.module, config.training.optimizer)
    stepper = Stepper(model, optimizer, world, 0.0, objective_of(config), config.training.seed)
    limits = RunLimits(config)
    reporter.set_start(0, 0, limits)
    callbacks = Callbacks(
        reporter,
        Sampling(reporter, stepper.stopwatch, world, Path(os.environ["TEST_DIRECTORY"])),
        open_metric_rows(config, agent, limits, reporter, world, None),
    )
    loader = open_loader(config, open_shards(config, world, verify=False), model.grid)
    train(stepper, loader, limits, callbacks, done=0)
    loader.close()
    callbacks.close()
    reporter.report_phase(RankPhase.FINISHED)
    return ExitCode.SUCCESS


@dataclass(frozen=True)
class Sampling(Callback):
    """A rollout and its scoring before each step."""

    reporter: Reporter
    stopwatch: Stopwatch
    world: DistributedContext
    folder: Path

    def before_data(self, step: int) -> None:
        with self.stopwatch.time(StepPart.ROLLOUT):
            self.sample()
            self.wait_for_all()
        with self.stopwatch.time(StepPart.SCORING):
            for scored in range(SAMPLES + 1):
                self.reporter.report_phase(RankPhase.SCORING, progress=scored)
            self.wait_for_all()
        self.reporter.report_phase(RankPhase.DATA)

    def sample(self) -> None:
        for tokens in count():
            self.reporter.report_phase(RankPhase.ROLLOUT, progress=tokens)
            if tokens > 0:
                self.stand_still()
            if tokens > 0 and not (self.folder / "samples").exists():
                return
            time.sleep(TOKEN)

    def stand_still(self) -> None:
        still = self.folder / f"still-{self.world.rank}"
        while still.exists():
            still.with_suffix(".held").touch()
            time.sleep(TOKEN)

    def wait_for_all(self) -> None:
        self.reporter.report_phase(RankPhase.COLLECTIVE)
        dist.barrier(self.world.everybody)
