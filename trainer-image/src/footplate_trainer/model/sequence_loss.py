"""Interface of a stage's loss, as a function of the network's scores of tokens.

A loss here is independent of ranks, micro-batches and chunks. It gets log-probabilities of the tokens whose
labels count, and each token's sequence, and returns a sum, already weighted, that is divided by a count of
the whole step. Its `span` says how much of a step it has to see at once; the caller arranges for that.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

from footplate_trainer.model.inputs import Targets
from footplate_trainer.model.metric_sums import Counts, MetricSums
from footplate_trainer.model.sequence_field import SequenceField
from footplate_trainer.model.token_loss import ScoreRequest, TokenScores


class LossSpan(IntEnum):
    """The part of a step that a loss has to see at once."""

    TOKEN = 0  # any tokens: its sum over all is the sum of its sums over parts
    SEQUENCE = 1  # all tokens of a sequence, and all sequences of a sample
    STEP = 2  # as SEQUENCE, and sums over the global batch, which it makes in `survey`


@dataclass(frozen=True)
class StepTotals:
    """Totals of a whole step, and the sums for the metrics of its row."""

    counts: Callable[[], Counts]  # waits until all ranks have said theirs
    metric_sums: MetricSums
    survey: Tensor | None = None  # fp64 [k], of Span.STEP alone: the sum of all that `survey` gave


@dataclass(frozen=True)
class LossInputs:
    """The tokens of a micro-batch whose labels count, and their sequences."""

    log_probabilities: Tensor  # fp32 [tokens], of the labels
    entropies: Tensor | None  # fp32 [tokens], where asked for
    tempered: Tensor | None  # fp32 [tokens], where asked for
    values: Mapping[str, Tensor]  # fp32 [tokens] each: what the data says of a label
    sequences: Tensor | None  # int64 [tokens], places in the following; None where the data has none
    table: Tensor | None  # int32 [sequences, 4], see SequenceField; -1 where there is none
    sequence_values: Mapping[str, Tensor]  # fp32 or fp64 [sequences] each

    @classmethod
    def of(cls, targets: Targets, scores: TokenScores, places: Tensor) -> LossInputs:
        """Select the tokens at `places`, int64 [tokens], among all of the flattened rows of `targets`."""
        sequences = table = None
        if targets.sequences is not None:
            by_row = targets.sequences.shape[1]
            rows = places // targets.documents.shape[1]
            sequences = rows * by_row + targets.documents.flatten()[places]
            table = targets.sequences.flatten(0, 1)
        return cls(
            scores.log_probabilities,
            scores.entropies,
            scores.tempered,
            {name: values.flatten()[places] for name, values in targets.token_values.items()},
            sequences,
            table,
            {name: values.flatten() for name, values in targets.sequence_values.items()},
        )

    def by_sequence(self, values: Tensor) -> Tensor:
        """Sum `values` [tokens] by sequence: fp64 [sequences], 0 where there is none."""
        assert self.sequences is not None, "this data has no sequences"
        assert self.table is not None
        sums = torch.zeros(len(self.table), dtype=torch.float64, device=values.device)
        return sums.index_add(0, self.sequences, values.double())

    def field(self, which: SequenceField) -> Tensor:
        """Return a field of each sequence, int32 [sequences]; -1 where there is none."""
        assert self.table is not None, "this data has no sequences"
        return self.table[:, which]

    def pairs(self) -> Tensor:
        """Return the indices of both sequences of each sample, side 0 before side 1: int64 [samples, 2]."""
        assert self.table is not None, "this data has no sequences"
        return pairs_in(self.table)


def pairs_in(table: Tensor) -> Tensor:
    """Return the indices in `table` [sequences, 4] of each sample's two sequences, side 0 first.

    int64 [samples, 2].
    """
    samples, sides = table[:, SequenceField.SAMPLE], table[:, SequenceField.SIDE]
    there = (samples >= 0).nonzero().squeeze(1)
    in_order = (2 * samples[there].long() + sides[there]).argsort()
    return there[in_order].view(-1, 2)


class SequenceLoss(ABC):
    """Base class of losses. Immutable: all ranks have an equal one."""

    span: LossSpan = LossSpan.TOKEN
    asked: ScoreRequest = ScoreRequest()
    names: tuple[str, ...] = ()  # of the means that it adds to `StepTotals.metric_sums`
    surveyed: int = 0  # how many numbers `survey` gives

    @abstractmethod
    def __call__(self, tokens: LossInputs, totals: StepTotals) -> Tensor:
        """Return a scalar, by which the scores are differentiated: a weighted sum over what counts.

        Called once for any tokens (Span.TOKEN) or once for each micro-batch, even for a micro-batch of
        padding samples alone, whose `table` is -1 throughout.
        """

    def step_sums(self, tokens: LossInputs) -> Tensor:
        """Return the numbers of a micro-batch whose global sum a loss of Span.STEP needs: fp64 [surveyed]."""
        raise NotImplementedError

    def divisor(self, counts: Counts) -> Tensor:
        """Return the divisor of the step's sum: at least 1."""
        return next(iter(counts.values())).clamp(min=1)
