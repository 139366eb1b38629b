"""One training step.

A step makes two small reductions beside those of the sharded model. The first
counts the global batch's valid tokens, which every micro-batch's loss is
divided by; flags ride along, so that all ranks learn of a command or of a
failed checkpoint at the same step. The second, after the last backward, sums
loss and squared gradient norm. One wait for the device ends both.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from functools import partial
from itertools import compress
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from footplate_trainer.data.loader import MicroBatch, StepBatch
from footplate_trainer.errors import NumericalDivergence
from footplate_trainer.metrics.stopwatch import StepPart, Stopwatch
from footplate_trainer.model.dropout import DropoutSeed
from footplate_trainer.model.head_chunks import IGNORED
from footplate_trainer.model.inputs import Inputs
from footplate_trainer.model.targets import Targets
from footplate_trainer.optim.clip import GradientWatch, clip, square_norm
from footplate_trainer.optim.optimizer import Optimizer
from footplate_trainer.parallel import device
from footplate_trainer.parallel.apply import ParallelModel
from footplate_trainer.parallel.context_parallel import shard_sequence
from footplate_trainer.parallel.gradients import Gradients
from footplate_trainer.parallel.objective import Objective
from footplate_trainer.parallel.stage_module import Criterion, MicroBatchInputs
from footplate_trainer.parallel.world import World, seed_step


@dataclass(frozen=True)
class Flags:
    """What one rank wants all ranks to know at the same step."""

    suspend: bool = False
    storage_failed: bool = False
    new_limits: bool = False  # it knows of limits that are not in force yet

    def __or__(self, other: Flags) -> Flags:
        """What either wants known."""
        return Flags(*(mine or theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class StepResult:
    """What all ranks know after a step."""

    step: int  # the step just finished, from 1
    loss: float  # mean over the global batch's valid tokens, before the update
    gradient_norm: float  # global, before clipping
    learning_rate: float
    valid_tokens: int  # of the global batch
    flags: Flags  # of any rank


class Stepper:
    """Model and optimizer, moved by one global batch at a time."""

    def __init__(
        self,
        model: ParallelModel,
        optimizer: Optimizer,
        world: World,
        clip_norm: float,
        objective: Objective,
        seed: int,
    ) -> None:
        """`seed` decides what a step draws: what dropout drops, and numbers of a user's own loss."""
        self._module = model.module
        self.optimizer = optimizer
        self._passes = model.passes
        self._gradients = Gradients(model.module, model.grid)
        self._grid = model.grid
        self._world = world
        self._clip_norm = clip_norm
        self._objective = objective
        self._seed = seed
        self.stopwatch = Stopwatch(time.perf_counter, device.event_maker(world.device))
        self._watch = GradientWatch(model.module.embedding, world.device)

    def step(self, number: int, batch: StepBatch, rate: float, flags: Flags) -> StepResult:
        """Forward, backward, check, clip, update. Collective.

        Raises NumericalDivergence, with the weights as they were, when loss or
        gradient norm is not finite.
        """
        seed_step(self._seed, number, self._world.rank)
        header, reduced = self._announce(batch, flags)
        micro_batches = [self._inputs(micro, number) for micro in batch.micro_batches]
        criterion = self._objective.begin(partial(self._forward, micro_batches))
        valid_tokens = partial(_global_valid_tokens, header, reduced)
        loss = self._passes.accumulate(micro_batches, criterion, valid_tokens)
        gradients = self._gradients.collect()
        counted = list(compress(gradients, self._gradients.counted))
        squares = square_norm(counted).to(loss.device) if counted else torch.zeros_like(loss)
        sums = torch.stack((self._counted_once(loss), squares))
        self.stopwatch.lap(StepPart.COMPUTE)
        dist.all_reduce(sums)
        total, squared, valid, *raised = torch.cat((sums, header.double())).tolist()
        self.stopwatch.lap(StepPart.COMMUNICATION)
        norm = math.sqrt(squared) if squared >= 0 else math.nan
        if not (math.isfinite(total) and math.isfinite(norm)):
            raise self._divergence(number, total, norm, loss)
        clip(gradients, norm, self._clip_norm)
        self.optimizer.step(gradients, rate)
        self._module.sync_tied()
        self._module.zero_grad()
        self.stopwatch.lap(StepPart.OPTIMIZER)
        return StepResult(number, total, norm, rate, int(valid), Flags(*(ranks > 0 for ranks in raised)))

    @torch.no_grad()
    def evaluate(self, batches: Iterable[StepBatch], objective: Objective) -> float:
        """Mean of `objective` over all that counts in `batches`, on every rank. Collective."""
        self._module.eval()
        sums = torch.zeros(2, dtype=torch.float64, device=self._world.device)
        for batch in batches:
            micro_batches = [self._inputs(micro, 0) for micro in batch.micro_batches]
            loss = self._forward(micro_batches, objective.begin(partial(self._forward, micro_batches)))
            sums[0] += self._counted_once(loss)
            sums[1] += self._valid_tokens(batch)
        dist.all_reduce(sums)
        self._module.train()
        total, tokens = sums.tolist()
        return float(total / max(tokens, 1.0))

    @torch.no_grad()
    def _forward(self, micro_batches: Sequence[MicroBatchInputs], criterion: Criterion) -> Tensor:
        """This rank's part of the sum of `criterion`, without gradients: fp64 scalar."""
        return self._passes.evaluate(micro_batches, criterion)

    def _counted_once(self, loss: Tensor) -> Tensor:
        """`loss` where it counts: tensor ranks all compute the whole loss of their sequences."""
        return loss if self._grid.coordinates.tensor == 0 else torch.zeros_like(loss)

    def _valid_tokens(self, batch: StepBatch) -> int:
        """Of `batch`; 0 where another rank counts these samples."""
        return batch.valid_tokens if self._grid.topology.counts_samples(self._world.rank) else 0

    def _announce(self, batch: StepBatch, flags: Flags) -> tuple[Tensor, dist.Work]:
        """int64 [valid tokens, and for each flag the ranks that raise it], being summed."""
        header = torch.tensor(
            [self._valid_tokens(batch), *map(int, astuple(flags))], device=self._world.device
        )
        work = dist.all_reduce(header, async_op=True)
        assert work is not None
        return header, work

    def _inputs(self, micro: MicroBatch, step: int) -> MicroBatchInputs:
        documents = self._to_device(micro.documents)
        inputs = Inputs(
            self._to_device(micro.tokens),
            None if _is_one_document(micro.documents) else documents,
            decoder_tokens=self._padded(micro.decoder_tokens, 0),
            decoder_documents=self._padded(micro.decoder_documents, -1),
            dropout_seed=DropoutSeed(self._seed, step, self._to_device(micro.places)),
        )
        labels = self._padded(micro.labels, IGNORED)
        assert labels is not None
        if self._grid.context_group is not None:
            inputs, labels = shard_sequence(inputs, labels, self._grid.context_group)
        return MicroBatchInputs(
            inputs, Targets(labels, documents, self._to_device(micro.values), self._to_device(micro.real))
        )

    def _to_device(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(self._world.device, non_blocking=True)

    def _padded(self, rows: NDArray[Any] | None, filling: int) -> Tensor | None:
        """Rows filled up to equal shards for the tensor ranks, as a decoder's sequences alone need it."""
        if rows is None:
            return None
        short = -rows.shape[1] % self._grid.topology.tensor
        return self._to_device(np.pad(rows, ((0, 0), (0, short)), constant_values=filling) if short else rows)

    def _divergence(self, number: int, total: float, norm: float, loss: Tensor) -> NumericalDivergence:
        """The error, with the first rank whose own loss, or else gradient, was not finite; collective."""
        nobody = self._world.size
        bad = (not math.isfinite(loss.item()), self._watch.went_bad())
        first = torch.tensor(
            [self._world.rank if here else nobody for here in bad], device=self._world.device
        )
        dist.all_reduce(first, dist.ReduceOp.MIN)
        loss_rank, gradient_rank = first.tolist()
        rank = loss_rank if loss_rank < nobody else gradient_rank
        where = "loss" if loss_rank < nobody else "gradient"
        where = f"{where} of rank {rank}" if rank < nobody else "gradient norm"
        return NumericalDivergence(
            f"step {number}: the {where} is not finite (global loss {total}, gradient norm {norm}); "
            "the weights of the step before are untouched",
            rank=rank if rank < nobody else None,
            step=number - 1,
        )


def _is_one_document(documents: NDArray[Any]) -> bool:
    return bool((documents == documents[:, :1]).all())


def _global_valid_tokens(header: Tensor, reduced: dist.Work) -> Tensor:
    """Of the global batch, at least 1; waits until all ranks have said theirs."""
    reduced.wait()
    return header[0].clamp(min=1)
