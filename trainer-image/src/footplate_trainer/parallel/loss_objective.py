"""Losses of tokens and sequences as objectives, on any layout.

A pipeline, tensor and data ranks change nothing: a rank that has the last layers has
all tokens of a micro-batch, and with them all that a sequence loss needs.
Then a step is one pass through the network. Two cases need a pass before it,
without gradients: a sum over the global batch, and context ranks, which share
each sequence. They gather its scores, a few numbers a token, and each computes
the same loss of whole sequences; the pass with gradients then needs only
a coefficient for each of this rank's scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from footplate_trainer.model.head_chunks import IGNORED, VocabularyShard
from footplate_trainer.model.inputs import Targets
from footplate_trainer.model.metric_sums import Counts, MetricSums
from footplate_trainer.model.sequence_loss import LossInputs, LossSpan, SequenceLoss, StepTotals
from footplate_trainer.model.token_loss import (
    ScoreRequest,
    TokenScores,
    summed_token_loss,
    token_scores,
    value_and_gradients,
)
from footplate_trainer.parallel.context_parallel import gather_sequence_shards
from footplate_trainer.parallel.objective import Collector, GlobalBatch, Objective
from footplate_trainer.parallel.stage_module import Criterion


@dataclass(frozen=True)
class LossObjective(Objective):
    """A sequence loss as an objective."""

    sequence_loss: SequenceLoss

    @property
    def names(self) -> tuple[str, ...]:
        return self.sequence_loss.names

    def divisor(self, counts: Counts) -> Tensor:
        return self.sequence_loss.divisor(counts)

    def build_criterion(self, batch: GlobalBatch) -> Criterion:
        """See Objective; runs an extra forward pass if one rank's micro-batch is not enough for the loss."""
        span, context = self.sequence_loss.span, batch.grid.context_group
        if span is LossSpan.TOKEN or (span is LossSpan.SEQUENCE and context is None):
            return _AtOnce(self.sequence_loss, StepTotals(batch.counts, batch.metric_sums))
        collected = score_collector(self.sequence_loss.asked)
        batch.run(collected)
        whole = [_Whole.of(targets, scores, context) for targets, scores in collected.in_order]
        metric_sums = batch.metric_sums
        if batch.grid.coordinates.context > 0:  # the first rank's counts, for all who share its sequences
            metric_sums = MetricSums(self.names, metric_sums.sums.device)
        totals = StepTotals(batch.counts, metric_sums, self._survey(whole, batch))
        return _Replay(
            {id(part.targets): self._judged(part, totals, batch) for part in whole},
            self.sequence_loss.asked,
            whole,
        )

    def _survey(self, whole: Sequence[_Whole], batch: GlobalBatch) -> Tensor | None:
        """Return the sum over the global batch's sequences, or None if not needed; collective."""
        if self.sequence_loss.span is not LossSpan.STEP:
            return None
        total = torch.zeros(
            self.sequence_loss.surveyed, dtype=torch.float64, device=batch.metric_sums.sums.device
        )
        place = batch.grid.coordinates
        if place.tensor == place.context == 0:
            for part in whole:
                total += self.sequence_loss.step_sums(part.tokens(part.scores(self.sequence_loss.asked)))
        dist.all_reduce(total)
        return total

    def _judged(self, part: _Whole, totals: StepTotals, batch: GlobalBatch) -> _Known:
        """Compute the loss of a micro-batch's whole sequences, and its derivatives by this rank's scores."""
        value, derivatives = value_and_gradients(
            lambda scores: self.sequence_loss(part.tokens(scores), totals),
            part.scores(self.sequence_loss.asked),
        )
        if batch.grid.coordinates.context > 0:
            value = torch.zeros_like(value)
        return _Known(value.double(), part.dealt(torch.stack(derivatives)))


def score_collector(asked: ScoreRequest | None = None) -> Collector:
    """Return a collector of each label's scores, fp32 [numbers, n, length] in the order of Scores.

    They are 0 at uncounted labels.
    """

    def measure(
        hidden: Tensor, head: Tensor, targets: Targets, *, vocabulary: VocabularyShard | None = None
    ) -> Tensor:
        return token_scores(
            hidden, head, targets.labels, asked=asked or ScoreRequest(), vocabulary=vocabulary
        )

    return Collector(measure)


def gather_rows(numbers: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    """Gather `numbers` [k, n, length] at each context rank's positions into [k, n, row]. Collective."""
    return numbers if group is None else gather_sequence_shards(numbers.movedim(2, 0), group).movedim(0, 2)


@dataclass(frozen=True)
class _AtOnce:
    """A criterion that computes each micro-batch's loss within the only pass."""

    sequence_loss: SequenceLoss
    totals: StepTotals

    def __call__(
        self, hidden: Tensor, head: Tensor, targets: Targets, *, vocabulary: VocabularyShard | None = None
    ) -> Tensor:
        def score(scores: TokenScores) -> Tensor:
            places = row_positions(targets, scores.where)
            return self.sequence_loss(LossInputs.of(targets, scores, places), self.totals)

        whole = self.sequence_loss.span is not LossSpan.TOKEN
        return summed_token_loss(
            hidden,
            head,
            targets.labels,
            score,
            asked=self.sequence_loss.asked,
            whole=whole,
            vocabulary=vocabulary,
        )


@dataclass(frozen=True)
class _Known:
    """The loss of a micro-batch on this rank, and its derivatives, fp32 [numbers, n, length]."""

    value: Tensor
    derivatives: Tensor


@dataclass(frozen=True)
class _Replay:
    """A criterion for the pass with gradients, with losses and derivatives computed beforehand."""

    parts: dict[int, _Known]  # by identity of targets: a pipeline runs them in an order of its own
    asked: ScoreRequest
    alive: object  # keeps the identities unique

    def __call__(
        self, hidden: Tensor, head: Tensor, targets: Targets, *, vocabulary: VocabularyShard | None = None
    ) -> Tensor:
        known = self.parts[id(targets)]
        if not torch.is_grad_enabled():
            return known.value
        derivatives = known.derivatives.flatten(1)

        def score(scores: TokenScores) -> Tensor:
            return (torch.stack(scores.score_tensors) * derivatives[:, scores.where]).sum()

        through = summed_token_loss(
            hidden, head, targets.labels, score, asked=self.asked, vocabulary=vocabulary
        )
        # The value is the loss; the gradient, that of the scores.
        return known.value + (through - through.detach())


@dataclass(frozen=True)
class _Whole:
    """The scores of a micro-batch's whole rows, on each of the context ranks that share them."""

    targets: Targets  # with the labels of this rank's positions
    numbers: Tensor  # fp32 [numbers, n, row]
    places: Tensor  # int64 [tokens], of the labels that count, flat

    @classmethod
    def of(cls, targets: Targets, numbers: Tensor, group: dist.ProcessGroup | None) -> _Whole:
        """Build from fp32 `numbers` [numbers, n, length] at this rank's positions; collective."""
        counts = targets.labels != IGNORED
        if group is not None:
            both = torch.cat((numbers, counts[None].float()))  # [numbers + 1, n, length]
            *rows, marks = gather_rows(both, group)
            numbers, counts = torch.stack(rows), marks > 0
        return cls(targets, numbers, counts.flatten().nonzero().squeeze(1))

    def scores(self, asked: ScoreRequest) -> TokenScores:
        """Return the scores of all tokens whose labels count."""
        return TokenScores.of(self.places, self.numbers.flatten(1)[:, self.places], asked)

    def tokens(self, scores: TokenScores) -> LossInputs:
        """Return these tokens in the form that a sequence loss accepts."""
        return LossInputs.of(self.targets, scores, scores.where)

    def dealt(self, derivatives: Tensor) -> Tensor:
        """Pick this rank's positions from fp32 [numbers, tokens]: [numbers, n, length], 0 elsewhere."""
        rows = torch.zeros_like(self.numbers)
        rows.flatten(1)[:, self.places] = derivatives
        return rows if self.targets.positions is None else rows[..., self.targets.positions]


def row_positions(targets: Targets, where: Tensor) -> Tensor:
    """Map flat indices of this rank's labels to flat indices of whole rows."""
    if targets.positions is None:
        return where
    length, row = targets.labels.shape[1], targets.documents.shape[1]
    return where // length * row + targets.positions[where % length]
