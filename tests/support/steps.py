"""Steps as callbacks see them, without anything that was trained."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.distributed as dist

from footplate_trainer.data.loader import StepBatch
from footplate_trainer.loop.callbacks import TrainedStep
from footplate_trainer.loop.stepper import StepFlags, StepResult
from footplate_trainer.metrics.stopwatch import StepPart
from footplate_trainer.parallel.world import DistributedContext


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
