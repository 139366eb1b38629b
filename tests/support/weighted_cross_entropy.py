"""A loss of weighted tokens, which needs nothing but their log-probabilities."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from footplate_trainer.model.sequence_loss import LossInputs, SequenceLoss, StepTotals


@dataclass(frozen=True)
class WeightedCrossEntropy(SequenceLoss):
    """Cross-entropy weighted by the data's `weight` per token (1 without); its mean over labels."""

    def __call__(self, tokens: LossInputs, totals: StepTotals) -> Tensor:
        """See SequenceLoss."""
        losses = -tokens.log_probabilities
        weights = tokens.values.get("weight")
        if weights is not None:
            losses = losses * weights
        return losses.double().sum()
