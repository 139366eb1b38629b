"""Losses against a reference: a model that is computed before the trained one, and never trained.

Before the first pass of a step through the trained model, all micro-batches go through the reference
without gradients; the sum of the label log-probabilities of each sequence is stored. The wrapped objective
reads these sums from `sequence_values`, as if they came with the data.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from footplate_trainer.model.head_chunks import VocabularyShard
from footplate_trainer.model.inputs import Targets
from footplate_trainer.model.linear import without_adapters
from footplate_trainer.model.metric_sums import Counts
from footplate_trainer.parallel.loss_objective import score_collector
from footplate_trainer.parallel.mesh import Grid
from footplate_trainer.parallel.objective import GlobalBatch, Objective
from footplate_trainer.parallel.parallel_model import ParallelModel
from footplate_trainer.parallel.stage_module import Criterion, MicroBatchInputs, StageModules


class Reference(Protocol):
    """A model that is computed and not trained, in the run's layout."""

    def run(self, micro_batches: list[MicroBatchInputs], criterion: Criterion) -> None:
        """Compute `criterion` for each micro-batch, without gradients and without dropout. Collective."""


@dataclass(frozen=True)
class FrozenCopy:
    """A reference with weights separate from the trained model's."""

    model: ParallelModel

    @torch.no_grad()
    def run(self, micro_batches: list[MicroBatchInputs], criterion: Criterion) -> None:
        """See Reference."""
        self.model.passes.evaluate(micro_batches, criterion)


@dataclass(frozen=True)
class AdaptersOff:
    """The trained network with its adapters disabled: only the frozen base weights compute."""

    model: ParallelModel

    @torch.no_grad()
    def run(self, micro_batches: list[MicroBatchInputs], criterion: Criterion) -> None:
        """See Reference."""
        with _evaluated(self.model.module), without_adapters(self.model.module):
            self.model.passes.evaluate(micro_batches, criterion)


@contextmanager
def _evaluated(module: StageModules) -> Iterator[None]:
    """Disable dropout inside the context."""
    trained = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(trained)


@dataclass(frozen=True)
class WithReference(Objective):
    """`objective` over batches to which the reference's sum for each sequence is added under `name`."""

    objective: Objective
    reference: Reference
    name: str

    @property
    def names(self) -> tuple[str, ...]:
        return self.objective.names

    def divisor(self, counts: Counts) -> Tensor:
        return self.objective.divisor(counts)

    def build_criterion(self, batch: GlobalBatch) -> Criterion:
        """See Objective; runs the reference before the objective's own preparation."""
        told = _Told(
            {
                id(targets): _with(targets, self.name, sums)
                for targets, sums in reference_sums(self.reference, batch.micro_batches, batch.grid)
            },
            batch.micro_batches,
        )
        seen = replace(batch, run=lambda criterion: batch.run(told.to(criterion)))
        return told.to(self.objective.build_criterion(seen))


def reference_sums(
    reference: Reference, micro_batches: list[MicroBatchInputs], grid: Grid
) -> Iterator[tuple[Targets, Tensor]]:
    """Yield each micro-batch's targets and the reference's sum over the labels of each sequence.

    Only ranks that have the last layers yield anything. Sums are fp64 [n, D] in the order of `sequences`, 0
    for an absent sequence, and equal on all context ranks, which share sequences. Collective.
    """
    collected = score_collector()
    reference.run(micro_batches, collected)
    for targets, scores in collected.in_order:
        sums = _by_sequence(targets, scores[0])
        if grid.context_group is not None:
            dist.all_reduce(sums, group=grid.context_group)
        yield targets, sums


def _by_sequence(targets: Targets, log_probabilities: Tensor) -> Tensor:
    """Sum fp32 [n, length], 0 at uncounted labels, by the documents of each row: fp64 [n, D]."""
    assert targets.sequences is not None, "this data has no sequences"
    rows, most = targets.sequences.shape[:2]
    documents = targets.documents.long()
    if targets.positions is not None:
        documents = documents[:, targets.positions]
    sums = torch.zeros(rows, most + 1, dtype=torch.float64, device=log_probabilities.device)
    where = torch.where(documents < 0, most, documents)[:, : log_probabilities.shape[1]]
    return sums.scatter_add_(1, where, log_probabilities.double())[:, :most].contiguous()


def _with(targets: Targets, name: str, sums: Tensor) -> Targets:
    return replace(targets, sequence_values={**targets.sequence_values, name: sums})


@dataclass(frozen=True)
class _Told:
    """Targets with the reference's sums, by identity of the original targets: a pipeline reorders them."""

    targets: dict[int, Targets]
    alive: object  # keeps the identities unique

    def to(self, criterion: Criterion) -> Criterion:
        """Return `criterion`, called with these targets instead of the original ones."""

        def told(
            hidden: Tensor, head: Tensor, targets: Targets, *, vocabulary: VocabularyShard | None = None
        ) -> Tensor:
            return criterion(hidden, head, self.targets[id(targets)], vocabulary=vocabulary)

        return told
