"""A training step.

A step makes two small reductions besides those of the sharded model. The first adds up the counts of the
global batch, one of which is the divisor of every micro-batch's loss; flags are part of it, so that all ranks
learn of a command or of a failed checkpoint at the same step. The second, after the last backward, sums loss,
squared gradient norm and the objective's metric_sums. A single wait for the device ends both.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from functools import partial
from itertools import compress
from typing import Final

import torch
import torch.distributed as dist
from torch import Tensor

from footplate_trainer.data.loader import StepBatch
from footplate_trainer.errors import NumericalDivergence
from footplate_trainer.loop.inputs import StepInputs
from footplate_trainer.metrics.stopwatch import StepPart, Stopwatch
from footplate_trainer.model.metric_sums import Counts, MetricSums
from footplate_trainer.model.token_loss import ScoreRequest
from footplate_trainer.optim.gradient_clipping import GradientMonitor, clip_gradients, square_norm
from footplate_trainer.optim.optimizer import ShardedOptimizer
from footplate_trainer.parallel import device
from footplate_trainer.parallel.gradients import Gradients
from footplate_trainer.parallel.loss_objective import gather_rows, score_collector
from footplate_trainer.parallel.objective import Collector, GlobalBatch, Objective
from footplate_trainer.parallel.parallel_model import ParallelModel
from footplate_trainer.parallel.reference import Reference
from footplate_trainer.parallel.stage_module import Criterion, MicroBatchInputs
from footplate_trainer.parallel.value_objective import value_collector
from footplate_trainer.parallel.world import DistributedContext, seed_step

VALUE_NORM: Final = "value/gradient_norm"
POLICY_LOSS: Final = "policy/loss"


@dataclass(frozen=True)
class StepFlags:
    """Facts that a rank reports to all ranks in the same step."""

    suspend: bool = False
    storage_failed: bool = False
    new_limits: bool = False  # it knows of limits that are not in force yet

    def __or__(self, other: StepFlags) -> StepFlags:
        """Combine the flags of both."""
        return StepFlags(
            *(mine or theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True))
        )


@dataclass(frozen=True)
class StepResult:
    """Result of a step, the same on every rank."""

    step: int  # the step just finished, from 1
    loss: float  # mean over what counts in the global batch, before the update
    gradient_norm: float  # global, before clipping
    learning_rate: float
    valid_tokens: int  # of the global batch: the first of what its data set counts
    flags: StepFlags  # of any rank
    means: Mapping[str, float] = field(default_factory=dict)  # of what the objective sums


@dataclass(frozen=True)
class Evaluation:
    """Result of an evaluation, the same on every rank."""

    loss: float  # mean over all that counts
    means: Mapping[str, float]  # of what the objective sums, as it shows them


@dataclass(frozen=True)
class _Header:
    """Reduction before a step: int64 [counts, flags], summed over the ranks in the background."""

    names: Sequence[str]  # of the counts
    numbers: Tensor
    reduced: dist.Work

    def counts(self) -> Counts:
        """Return the counts of the global batch; waits for the reduction."""
        self.reduced.wait()
        return dict(zip(self.names, self.numbers, strict=False))  # flags follow


@dataclass(frozen=True)
class ComputedStep:
    """A step whose gradients are known to be finite, before its update."""

    gradients: list[Tensor]  # of this rank's parts, unclipped
    result: StepResult


class Stepper:
    """Trainer of a model with an optimizer, one global batch at a time."""

    def __init__(
        self,
        model: ParallelModel,
        optimizer: ShardedOptimizer,
        world: DistributedContext,
        clip_norm: float,
        objective: Objective,
        seed: int,
        stopwatch: Stopwatch | None = None,
    ) -> None:
        """Set up the step; `seed` determines its dropout masks, and the random numbers of a user's own loss.

        `stopwatch` is given where another stepper measures the same steps already.
        """
        self._module = model.module
        self.optimizer = optimizer
        self._passes = model.passes
        self._gradients = Gradients(model.module, model.grid)
        self._grid = model.grid
        self._world = world
        self._clip_norm = clip_norm
        self._objective = objective
        self._seed = seed
        self.inputs = StepInputs(model.grid, world.device, seed)
        self.stopwatch = stopwatch or Stopwatch(time.perf_counter, device.event_maker(world.device))
        self._watch = GradientMonitor(model.module.embedding, world.device)

    def step(self, number: int, batch: StepBatch, rate: float, flags: StepFlags) -> StepResult:
        """Run forward and backward, check the gradients, clip, and update. Collective.

        Raises NumericalDivergence, with the weights as they were, when loss or gradient norm is not finite.
        """
        return self.update(self.compute(number, batch, rate, flags))

    def compute(self, number: int, batch: StepBatch, rate: float, flags: StepFlags) -> ComputedStep:
        """Run `step` up to the update, which is to be at `rate`. Collective; raises as `step` does."""
        seed_step(self._seed, number, self._world.rank)
        header = self._announce(batch, flags)
        micro_batches = [self.inputs(micro, number) for micro in batch.micro_batches]
        metric_sums = MetricSums(self._objective.names, self._world.device)
        criterion = self._objective.build_criterion(self._global_batch(micro_batches, header, metric_sums))
        loss = self._passes.accumulate(
            micro_batches, criterion, lambda: self._objective.divisor(header.counts())
        )
        gradients = self._gradients.collect()
        counted = list(compress(gradients, self._gradients.counted))
        squares = square_norm(counted).to(loss.device) if counted else torch.zeros_like(loss)
        summed = self._counted_once(metric_sums.sums).flatten()
        sums = torch.cat((torch.stack((self._counted_once(loss), squares)), summed))
        self.stopwatch.lap(StepPart.COMPUTE)
        dist.all_reduce(sums)
        total, squared, *told = torch.cat((sums, header.numbers.double())).tolist()
        self.stopwatch.lap(StepPart.COMMUNICATION)
        norm = math.sqrt(squared) if squared >= 0 else math.nan
        if not (math.isfinite(total) and math.isfinite(norm)):
            raise self._divergence(number, total, norm, loss)
        means, (valid, *rest) = metric_sums.means(told[: summed.numel()]), told[summed.numel() :]
        raised = StepFlags(*(ranks > 0 for ranks in rest[len(header.names) - 1 :]))
        return ComputedStep(gradients, StepResult(number, total, norm, rate, int(valid), raised, means))

    def update(self, computed: ComputedStep) -> StepResult:
        """Clip the gradients that `compute` returned last, and update. Collective."""
        gradients, result = computed.gradients, computed.result
        clip_gradients(gradients, result.gradient_norm, self._clip_norm)
        self.optimizer.step(gradients, result.learning_rate)
        self._module.sync_tied()
        self._module.zero_grad()
        self.stopwatch.lap(StepPart.OPTIMIZER)
        return result

    @torch.no_grad()
    def evaluate(self, batches: Iterable[StepBatch], objective: Objective) -> Evaluation:
        """Return the mean of `objective` over `batches`, on every rank. Collective."""
        self._module.eval()
        total = torch.zeros(1, dtype=torch.float64, device=self._world.device)
        metric_sums = MetricSums(objective.names, self._world.device)
        counts: dict[str, Tensor] = {}
        for batch in batches:
            header = self._announce(batch, StepFlags())
            micro_batches = [self.inputs(micro, 0) for micro in batch.micro_batches]
            criterion = objective.build_criterion(self._global_batch(micro_batches, header, metric_sums))
            total += self._counted_once(self._forward(micro_batches, criterion))
            counts = {name: count + counts.get(name, 0) for name, count in header.counts().items()}
        sums = torch.cat((total, self._counted_once(metric_sums.sums).flatten()))
        dist.all_reduce(sums)
        self._module.train()
        loss, *summed = sums.tolist()
        divisor = objective.divisor(counts).item() if counts else 1.0
        return Evaluation(loss / divisor, objective.reported_means(metric_sums.means(summed), counts))

    def scores(
        self, batch: StepBatch, asked: ScoreRequest, reference: Reference | None = None
    ) -> list[Tensor]:
        """Compute each label's scores by the model, or by a reference: fp32 [numbers, n, S] per micro-batch.

        In the order of Scores, 0 where no label counts; of whole rows, on all ranks that have the last
        layers, and none elsewhere. Collective.
        """
        return self._collected(batch, score_collector(asked), reference)

    def values(self, batch: StepBatch) -> list[Tensor]:
        """Compute the value at each position by the model, which has one output.

        Shaped as `scores`, of one number.
        """
        return self._collected(batch, value_collector())

    @torch.no_grad()
    def _collected(
        self, batch: StepBatch, collector: Collector, reference: Reference | None = None
    ) -> list[Tensor]:
        micro_batches = [self.inputs(micro, 0) for micro in batch.micro_batches]
        if reference is not None:
            reference.run(micro_batches, collector)
        else:
            self._module.eval()
            self._forward(micro_batches, collector)
            self._module.train()
        if not collector.in_order:
            return []
        group = self._grid.context_group
        return [
            gather_rows(collector.numbers_for(micro.targets), group)[..., : given.tokens.shape[1]]
            for micro, given in zip(micro_batches, batch.micro_batches, strict=True)
        ]

    def _global_batch(
        self, micro_batches: list[MicroBatchInputs], header: _Header, metric_sums: MetricSums
    ) -> GlobalBatch:
        return GlobalBatch(
            micro_batches, partial(self._forward, micro_batches), header.counts, metric_sums, self._grid
        )

    @torch.no_grad()
    def _forward(self, micro_batches: Sequence[MicroBatchInputs], criterion: Criterion) -> Tensor:
        """Return this rank's part of the sum of `criterion`, without gradients: fp64 scalar."""
        return self._passes.evaluate(micro_batches, criterion)

    def _counted_once(self, sums: Tensor) -> Tensor:
        """Return `sums` on tensor rank 0 and zeros elsewhere: all tensor ranks compute the same loss."""
        return sums if self._grid.coordinates.tensor == 0 else torch.zeros_like(sums)

    def _announce(self, batch: StepBatch, flags: StepFlags) -> _Header:
        """Start the reduction of the batch's counts and of the flags.

        The counts are 0 where another rank counts the same samples.
        """
        here = int(self._grid.topology.counts_samples(self._world.rank))
        counts = [here * count for count in batch.counts.values()]
        numbers = torch.tensor([*counts, *map(int, astuple(flags))], device=self._world.device)
        work = dist.all_reduce(numbers, async_op=True)
        assert work is not None
        return _Header(tuple(batch.counts), numbers, work)

    def _divergence(self, number: int, total: float, norm: float, loss: Tensor) -> NumericalDivergence:
        """Build the error, naming the first rank whose own loss, or else gradient, was not finite.

        Collective.
        """
        nobody = self._world.size
        bad = (not math.isfinite(loss.item()), self._watch.has_nonfinite_gradient())
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


@dataclass(frozen=True)
class PolicyValueStepper:
    """Steps of a policy and its value model; see train.Steps.

    Both share one schedule; each has its own optimizer, gradient norm and clip, and neither is updated before
    the gradients of both are known to be finite. A step returns the policy's result, but the sum of both
    losses.
    """

    policy: Stepper
    value: Stepper
    places: Callable[[int], StepBatch]  # by a step's number, from 1: what the value model learns in it

    @property
    def stopwatch(self) -> Stopwatch:
        """The stopwatch that both steppers share."""
        return self.policy.stopwatch

    def step(self, number: int, batch: StepBatch, rate: float, flags: StepFlags) -> StepResult:
        """See train.Steps."""
        of_policy = self.policy.compute(number, batch, rate, flags)
        of_value = self.value.compute(number, self.places(number), rate, StepFlags())
        policy, value = self.policy.update(of_policy), self.value.update(of_value)
        told = {POLICY_LOSS: policy.loss, VALUE_NORM: value.gradient_norm}
        return replace(policy, loss=policy.loss + value.loss, means={**policy.means, **value.means, **told})
