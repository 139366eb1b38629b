"""What ranks of the trainer's tests run: importable by the fork server; and steps without any."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from footplate_contracts.directives import Command, NumberedLimits
from footplate_contracts.logs import configure
from footplate_contracts.metrics import StepMetrics
from footplate_contracts.names import LogFormat
from footplate_contracts.reports import (
    CheckpointRecord,
    CheckpointRemoval,
    GenerationId,
    GenerationRow,
    RankReport,
)
from footplate_contracts.runconfig import RunConfig
from footplate_contracts.samples import LoggedSample
from footplate_elastic.protocol.agent_client import AgentClient
from footplate_trainer.data.loader import StepBatch
from footplate_trainer.loop.callbacks import TrainedStep
from footplate_trainer.loop.stepper import StepFlags, StepResult
from footplate_trainer.metrics.stopwatch import StepPart
from footplate_trainer.parallel.world import DistributedContext
from footplate_trainer.stages import offline_stages


@dataclass
class FakeAgent(AgentClient):
    """An agent as one rank sees it: asks for a checkpoint after a step, may refuse to grant it."""

    suspend_after: int | None = None
    refuse_step: int | None = None
    told: Mapping[int, NumberedLimits] = field(default_factory=dict)  # by the step after which they arrive
    step: int = 0
    reports: list[RankReport] = field(default_factory=list)
    rows: list[StepMetrics] = field(default_factory=list)  # none of which is ever stored
    samples: dict[int, list[LoggedSample]] = field(default_factory=dict)  # by step
    rows_again: list[GenerationRow] = field(default_factory=list)
    checkpoints: list[CheckpointRecord] = field(default_factory=list)
    removals: list[CheckpointRemoval] = field(default_factory=list)

    def report(self, report: RankReport) -> None:
        self.step = report.step
        self.reports.append(report)

    def metrics(self, row: StepMetrics, samples: Sequence[LoggedSample] = ()) -> None:
        self.rows.append(row)
        self.samples[row.step] = list(samples)

    def resend_metrics(self, rows: Sequence[GenerationRow]) -> None:
        self.rows_again.extend(rows)

    def get_unstored_rows(self) -> list[GenerationRow]:
        generation = GenerationId(epoch=1, number=1)
        own = [
            GenerationRow(generation=generation, metrics=row, samples=self.samples.get(row.step) or None)
            for row in self.rows
        ]
        return [*self.rows_again, *own]

    def checkpoint(self, record: CheckpointRecord) -> None:
        self.checkpoints.append(record)

    def removal(self, removal: CheckpointRemoval) -> None:
        self.removals.append(removal)

    def grant(self, step: int) -> bool:
        return step != self.refuse_step

    def command(self) -> Command:
        asked = self.suspend_after is not None and self.step >= self.suspend_after
        return Command.CHECKPOINT_AND_EXIT if asked else Command.NONE

    def limits(self) -> NumberedLimits | None:
        arrived = [step for step in self.told if step <= self.step]
        return self.told[max(arrived)] if arrived else None


@dataclass(frozen=True)
class Ended:
    """How a rank's program ended."""

    code: int
    stderr: str
    agent: FakeAgent


def train(config: RunConfig, metrics: Path | None = None) -> int:
    """Train to the end as one rank; the exit code."""
    configure("footplate_trainer", log_format=LogFormat.TEXT)
    return int(offline_stages.main(config, AgentClient(), metrics))


def train_under(agent: FakeAgent, config: RunConfig, metrics: Path | None = None) -> Ended:
    """Train as one rank of the agent behind `agent`."""
    configure("footplate_trainer", log_format=LogFormat.TEXT)
    with contextlib.redirect_stderr(io.StringIO()) as stderr:
        code = offline_stages.main(config, agent, metrics)
    return Ended(int(code), stderr.getvalue(), agent)


# -- steps as callbacks see them -------------------------------------------------------------------


def trained(
    number: int,
    flags: StepFlags | None = None,
    seconds: float = 0.5,
    parts: Mapping[StepPart, float] | None = None,
) -> TrainedStep:
    """Step `number` of eight samples and a hundred tokens."""
    result = StepResult(number, 2.5, 0.5, 1e-3, 100, flags or StepFlags())
    return TrainedStep(result, StepBatch([], np.arange(8), {"tokens": 100}), seconds, parts or {})


def rank_of(rank: int, size: int = 2) -> DistributedContext:
    """A rank on the CPU that speaks to nobody."""
    group = dist.ProcessGroup(rank, size)
    return DistributedContext(rank, size, rank, torch.device("cpu"), group, group)
