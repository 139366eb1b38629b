"""Objectives over the scores of sequences, on any layout.

A rank that has the last layers has all rows of a micro-batch, and so both answers of a pair. Context ranks
share each row: the rank that has the sequence's last token computes its score, and one small all-reduce
sends it to the others. Then each of them computes the same loss, and passes gradients through its own
scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch
import torch.distributed as dist
from torch import Tensor

from footplate_trainer.model.head_chunks import VocabularyShard
from footplate_trainer.model.inputs import Targets
from footplate_trainer.model.metric_sums import Counts, MetricSums
from footplate_trainer.model.objectives.preference import (
    centering_penalty,
    correctly_ranked_pairs,
    pairwise_loss,
)
from footplate_trainer.model.sequence_loss import pairs_in
from footplate_trainer.model.sequence_scores import DEVIATION, MEAN, compute_sequence_scores
from footplate_trainer.parallel.objective import Collector, GlobalBatch, Objective
from footplate_trainer.parallel.stage_module import Criterion

_NAMES: Final = ("accuracy", "margin", "score/chosen", "score/rejected")
_SQUARES: Final = "score/squares"


@dataclass(frozen=True)
class RankedPairs(Objective):
    """Stage reward: -log sigma(chosen - rejected - margin) + centering (chosen + rejected)^2, a pair's mean.

    The data has pairs, and may have a `margin` among its `sequence_values`, at the chosen answer's index.
    """

    centering: float = 0.0
    moments: bool = False  # whether mean and deviation of all scores are told, too

    @property
    def names(self) -> tuple[str, ...]:
        return (*_NAMES, MEAN, _SQUARES) if self.moments else _NAMES

    def divisor(self, counts: Counts) -> Tensor:
        return counts["pairs"].clamp(min=1)

    def build_criterion(self, batch: GlobalBatch) -> Criterion:
        first = batch.grid.coordinates.context == 0
        # Context ranks all know all scores of their rows: the first one's count.
        metric_sums = batch.metric_sums if first else MetricSums(self.names, batch.metric_sums.sums.device)
        return _Ranking(self, metric_sums, batch.grid.context_group, counts=first)

    def reported_means(self, means: Mapping[str, float], counts: Counts) -> Mapping[str, float]:
        """See Objective; adds the unbiased standard deviation if there are at least two scores."""
        if not self.moments:
            return means
        told = {name: mean for name, mean in means.items() if name != _SQUARES}
        scores = 2 * int(counts["pairs"]) if counts else 0
        if scores > 1:
            variance = (means[_SQUARES] - means[MEAN] ** 2) * scores / (scores - 1)
            told[DEVIATION] = max(0.0, variance) ** 0.5
        return told

    def loss(self, scores: Tensor, targets: Targets, metric_sums: MetricSums) -> Tensor:
        """Return the sum over a micro-batch's pairs, from `scores` [n, D]: fp64 scalar."""
        assert targets.sequences is not None, "this data has no sequences"
        places = pairs_in(targets.sequences.flatten(0, 1))
        chosen, rejected = scores.flatten().double()[places].unbind(1)
        margins = targets.sequence_values.get("margin")
        margin = 0.0 if margins is None else margins.flatten().double()[places[:, 0]]
        pairs = len(places)
        metric_sums.add("accuracy", correctly_ranked_pairs(chosen, rejected).sum(), pairs)
        metric_sums.add("margin", (chosen - rejected).sum(), pairs)
        metric_sums.add("score/chosen", chosen.sum(), pairs)
        metric_sums.add("score/rejected", rejected.sum(), pairs)
        if self.moments:
            metric_sums.add(MEAN, (chosen + rejected).sum(), 2 * pairs)
            metric_sums.add(_SQUARES, (chosen.square() + rejected.square()).sum(), 2 * pairs)
        return (
            pairwise_loss(chosen, rejected, margin) + self.centering * centering_penalty(chosen, rejected)
        ).sum()


def sequence_score_collector(context: dist.ProcessGroup | None = None) -> Collector:
    """Return a collector of each sequence's score: fp32 [n, D], 0 for an absent sequence.

    Each context rank, in group `context`, has all scores of its rows.
    """

    def measure(
        hidden: Tensor, head: Tensor, targets: Targets, *, vocabulary: VocabularyShard | None = None
    ) -> Tensor:
        return _of_all_ranks(compute_sequence_scores(hidden, head, targets), context)

    return Collector(measure)


@dataclass(frozen=True)
class _Ranking:
    """The criterion of RankedPairs."""

    objective: RankedPairs
    metric_sums: MetricSums
    context: dist.ProcessGroup | None
    counts: bool  # whether the loss of this rank is a part of the sum

    def __call__(
        self, hidden: Tensor, head: Tensor, targets: Targets, *, vocabulary: VocabularyShard | None = None
    ) -> Tensor:
        scores = _of_all_ranks(compute_sequence_scores(hidden, head, targets), self.context)
        loss = self.objective.loss(scores, targets, self.metric_sums)
        value = loss.detach() if self.counts else torch.zeros_like(loss)
        # Tensor ranks add their gradients up, and each of them has computed all.
        ranks = 1 if vocabulary is None else vocabulary.ranks
        return value + (loss - loss.detach()) / ranks


def _of_all_ranks(scores: Tensor, context: dist.ProcessGroup | None) -> Tensor:
    """Complete `scores` of one rank, 0 where other ranks have them, with the other ranks' scores."""
    if context is None:
        return scores
    everywhere = scores.detach().clone()
    dist.all_reduce(everywhere, group=context)
    return scores + (everywhere - scores.detach())
