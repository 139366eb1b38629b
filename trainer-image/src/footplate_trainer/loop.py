"""One training step, and the named moments around it.

A step makes two small reductions beside those of the sharded model. The first
counts the global batch's valid tokens, which every micro-batch's loss is
divided by; flags ride along, so that all ranks learn of a command or of a
failed checkpoint at the same step. The second, after the last backward, sums
loss and squared gradient norm. One wait for the device ends both.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.fsdp import FSDPModule

from footplate_contracts.v1alpha1.training import Sharding
from footplate_trainer.data.loader import MicroBatch, StepBatch
from footplate_trainer.errors import NumericalDivergence
from footplate_trainer.metrics.stopwatch import Part, Stopwatch
from footplate_trainer.model.network import Criterion
from footplate_trainer.model.transformer import Decoder
from footplate_trainer.optim.clip import clip, local_gradients, square_norm
from footplate_trainer.optim.finite import GradientWatch
from footplate_trainer.optim.optimizer import Optimizer
from footplate_trainer.parallel import device
from footplate_trainer.parallel.topology import Topology
from footplate_trainer.parallel.world import World


@dataclass(frozen=True)
class Flags:
    """What one rank wants all ranks to know at the same step."""

    suspend: bool = False
    storage_failed: bool = False


@dataclass(frozen=True)
class StepResult:
    """What all ranks know after a step."""

    step: int  # the step just finished, from 1
    loss: float  # mean over the global batch's valid tokens, before the update
    gradient_norm: float  # global, before clipping
    learning_rate: float
    valid_tokens: int  # of the global batch
    flags: Flags  # of any rank


class Batches(Protocol):
    """Where batches come from; `step` counts from 0."""

    def step(self, step: int) -> StepBatch:
        """This rank's share of a step."""


class Moments(Protocol):
    """What happens around a step; the stage decides what that is."""

    def before_data(self, step: int) -> None:
        """Step number `step` (from 1) is about to begin."""

    def before_compute(self, step: int) -> Flags:
        """Its batch is here; the answer is this rank's flags."""

    def after_step(self, result: StepResult, batch: StepBatch) -> bool:
        """The weights are updated; False ends training."""


class Stepper:
    """Model and optimizer, moved by one global batch at a time."""

    def __init__(
        self,
        model: Decoder,
        optimizer: Optimizer,
        world: World,
        sharding: Sharding,
        clip_norm: float,
        criterion: Criterion,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self._world = world
        self._clip_norm = clip_norm
        self._criterion = criterion
        self.stopwatch = Stopwatch(time.perf_counter, device.event_maker(world.device))
        topology = Topology(world.size, sharding)
        # Replicas hold the same gradients: one of them speaks for all.
        self._speaks = topology.replica_of(world.rank) == 0
        # Whole copies may add up their micro-batches first and reduce once. Shards may not: that
        # would keep a whole gradient on every rank.
        self._reduce_once = topology.shards == 1
        self._parameters = list(model.parameters())
        self._watch = GradientWatch(model.embedding, world.device)

    def step(self, number: int, batch: StepBatch, rate: float, flags: Flags) -> StepResult:
        """Forward, backward, check, clip, update. Collective.

        Raises NumericalDivergence, with the weights as they were, when loss or
        gradient norm is not finite.
        """
        header, reduced = self._announce(batch, flags)
        loss = self._gradients(batch, header, reduced)
        gradients = local_gradients(self._parameters)
        square = square_norm(gradients) if self._speaks else torch.zeros_like(loss)
        sums = torch.stack((loss, square))
        self.stopwatch.lap(Part.COMPUTE)
        dist.all_reduce(sums)
        total, squared, valid, suspend, failed = torch.cat((sums, header.double())).tolist()
        self.stopwatch.lap(Part.COMMUNICATION)
        norm = math.sqrt(squared) if squared >= 0 else math.nan
        if not (math.isfinite(total) and math.isfinite(norm)):
            raise self._divergence(number, total, norm, loss)
        clip(gradients, norm, self._clip_norm)
        self.optimizer.step(gradients, rate)
        self.model.zero_grad()
        self.stopwatch.lap(Part.OPTIMIZER)
        return StepResult(number, total, norm, rate, int(valid), Flags(suspend > 0, failed > 0))

    @torch.no_grad()
    def evaluate(self, batches: Iterable[StepBatch], criterion: Criterion) -> float:
        """Mean of `criterion` over all valid tokens of `batches`, on every rank. Collective."""
        self.model.eval()
        sums = torch.zeros(2, dtype=torch.float64, device=self._world.device)
        for batch in batches:
            for micro in batch.micro_batches:
                sums[0] += self._summed_loss(micro, criterion)
            sums[1] += batch.valid_tokens
        dist.all_reduce(sums)
        self.model.train()
        assert isinstance(self.model, FSDPModule)
        self.model.reshard()  # the root keeps its parameters whole for a backward pass that does not come
        total, tokens = sums.tolist()
        return float(total / max(tokens, 1.0))

    def _announce(self, batch: StepBatch, flags: Flags) -> tuple[Tensor, dist.Work]:
        """int64 [valid tokens, ranks that suspend, ranks whose storage failed], being summed."""
        mine = [batch.valid_tokens, int(flags.suspend), int(flags.storage_failed)]
        header = torch.tensor(mine, device=self._world.device)
        work = dist.all_reduce(header, async_op=True)
        assert work is not None
        return header, work

    def _gradients(self, batch: StepBatch, header: Tensor, reduced: dist.Work) -> Tensor:
        """Accumulate gradients of the global mean loss; returns this rank's part of it, fp64 scalar."""
        loss = torch.zeros((), dtype=torch.float64, device=self._world.device)
        last = len(batch.micro_batches) - 1
        for index, micro in enumerate(batch.micro_batches):
            if self._reduce_once:
                assert isinstance(self.model, FSDPModule)
                self.model.set_requires_gradient_sync(index == last)
            summed = self._summed_loss(micro, self._criterion)
            if index == 0:
                reduced.wait()  # not sooner: the first forward hides the way through the network
            part = summed / header[0].clamp(min=1)
            part.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            loss += part.detach()
        return loss

    def _summed_loss(self, micro: MicroBatch, criterion: Criterion) -> Tensor:
        here = self._world.device
        tokens = torch.from_numpy(micro.tokens).to(here, non_blocking=True)
        labels = torch.from_numpy(micro.labels).to(here, non_blocking=True)
        one_document = bool((micro.documents == micro.documents[:, :1]).all())
        documents = None if one_document else torch.from_numpy(micro.documents).to(here, non_blocking=True)
        loss: Tensor = self.model(tokens, documents, labels=labels, criterion=criterion)
        return loss

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


def train(
    stepper: Stepper,
    batches: Batches,
    rate: Callable[[int], float],
    moments: Moments,
    steps: Iterable[int],
) -> None:
    """Take the `steps` (from 1) until they end or a moment says so."""
    for number in steps:
        moments.before_data(number)
        stepper.stopwatch.lap(None)
        batch = batches.step(number - 1)
        stepper.stopwatch.lap(Part.DATA)
        flags = moments.before_compute(number)
        result = stepper.step(number, batch, rate(number), flags)
        if not moments.after_step(result, batch):
            return
