"""Objectives: losses that a step minimises.

Most losses need one micro-batch at a time. A loss that compares all samples of
the global batch cannot: their embeddings exist only after the last micro-batch
of the last rank, and keeping all activations until then would undo accumulation.
So it embeds everything without gradients, gathers, computes the gradient of each
embedding, and then embeds again, a micro-batch at a time, to pass it on (Gao et
al. 2021, gradient caching).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor

from footplate_trainer.model.head_chunks import VocabularyShard
from footplate_trainer.model.inputs import Targets
from footplate_trainer.model.metric_sums import Counts, MetricSums
from footplate_trainer.model.text_losses import embedded_pairs, info_nce
from footplate_trainer.parallel.mesh import Grid
from footplate_trainer.parallel.stage_module import Criterion, MicroBatchInputs

Run = Callable[[Criterion], object]
"""Runs a criterion over all micro-batches of this rank, without gradients."""


@dataclass(frozen=True)
class GlobalBatch:
    """A global batch before its micro-batches are computed, as this rank sees it."""

    micro_batches: list[MicroBatchInputs]
    run: Run
    counts: Callable[[], Counts]  # of its samples; waits until all ranks have said theirs
    metric_sums: MetricSums  # of this rank; of tensor ranks, which compute the same, the first one's counts
    grid: Grid


class Objective(ABC):
    """A loss to minimise on each global batch. Frozen data: all ranks have an equal objective."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the means that it adds to a batch's metric sums."""
        return ()

    @abstractmethod
    def build_criterion(self, batch: GlobalBatch) -> Criterion:
        """Return the criterion for the micro-batches of this step, each computed once. Collective."""

    def divisor(self, counts: Counts) -> Tensor:
        """Return the divisor of the step's sum, at least 1: the first of the data set's counts."""
        return next(iter(counts.values())).clamp(min=1)

    def reported_means(self, means: Mapping[str, float], counts: Counts) -> Mapping[str, float]:
        """Return an evaluation's reported values from its summed `means`, over data of these `counts`."""
        return means


@dataclass
class Collector:
    """A criterion without a loss that stores numbers of each micro-batch: for models that are not trained.

    Run it without gradients (`evaluate` of a model's passes); only ranks that have the last layers collect
    anything.
    """

    measure: Criterion  # its results are stored, of whatever shape
    in_order: list[tuple[Targets, Tensor]] = field(default_factory=list)

    def __call__(
        self, hidden: Tensor, head: Tensor, targets: Targets, *, vocabulary: VocabularyShard | None = None
    ) -> Tensor:
        """Store the numbers of a micro-batch; see Criterion."""
        self.in_order.append((targets, self.measure(hidden, head, targets, vocabulary=vocabulary)))
        return hidden.new_zeros((), dtype=torch.float64)

    def numbers_for(self, targets: Targets) -> Tensor:
        """Return one micro-batch's numbers, whatever order a pipeline ran."""
        return next(numbers for other, numbers in self.in_order if other is targets)


@dataclass(frozen=True)
class PerMicroBatch(Objective):
    """A loss that is the sum of its micro-batches' losses."""

    criterion: Criterion

    def build_criterion(self, batch: GlobalBatch) -> Criterion:
        return self.criterion


@dataclass(frozen=True)
class Contrastive(Objective):
    """InfoNCE with all pairs of the global batch as each other's negatives; all ranks are data ranks."""

    temperature: float

    def build_criterion(self, batch: GlobalBatch) -> Criterion:
        """See Objective; runs the forward pass an extra time."""
        collected = Collector(
            lambda hidden, head, targets, *, vocabulary=None: embedded_pairs(hidden, targets)
        )
        batch.run(collected)
        seen = collected.in_order
        pairs = torch.stack([embedded for _, embedded in seen])  # [micro-batches, b, 2, width]
        real = torch.stack([targets.real for targets, _ in seen])
        losses, gradients = self._learn(pairs.flatten(0, 1), real.flatten())
        parts = zip(losses.view_as(real), gradients.view_as(pairs), strict=True)
        # By identity: a pipeline or a validation may come in another order.
        return _Replay({id(targets): part for (targets, _), part in zip(seen, parts, strict=True)}, seen)

    def _learn(self, pairs: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """Return this rank's loss of each pair, and the global sum's gradient by this rank's embeddings."""
        ranks, rank = dist.get_world_size(), dist.get_rank()
        everyone, everyone_real = pairs.new_empty(ranks, *pairs.shape), real.new_empty(ranks, *real.shape)
        dist.all_gather_into_tensor(everyone.flatten(0, 1), pairs.contiguous())
        dist.all_gather_into_tensor(everyone_real.flatten(0, 1), real)
        with torch.enable_grad():
            leaf = everyone.flatten(0, 1).requires_grad_()
            losses = info_nce(leaf, everyone_real.flatten(), self.temperature)
            (gradients,) = torch.autograd.grad(losses.sum(), leaf)
        return losses.detach().view(ranks, -1)[rank], gradients.view_as(everyone)[rank]


@dataclass(frozen=True)
class _Replay:
    """A criterion that embeds again and passes on gradients computed beforehand."""

    parts: dict[int, tuple[Tensor, Tensor]]  # id of targets -> losses [b], gradients [b, 2, width]
    alive: object  # keeps the ids unique

    def __call__(
        self, hidden: Tensor, head: Tensor, targets: Targets, *, vocabulary: VocabularyShard | None = None
    ) -> Tensor:
        losses, gradients = self.parts[id(targets)]
        through = (embedded_pairs(hidden, targets) * gradients).sum()
        # The value is the loss; the gradient, that of the embeddings.
        return with_head(losses.double().sum() + (through - through.detach()), head)


def with_head(loss: Tensor, head: Tensor) -> Tensor:
    """Return `loss` unchanged, and give an unused head a gradient of 0 instead of none."""
    return loss + 0.0 * head[:1].double().sum()
