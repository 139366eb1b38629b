"""From the contract's words for a loss to the function that computes it."""

from __future__ import annotations

from functools import partial

from footplate_contracts.v1alpha1.training import Loss
from footplate_trainer.model.loss import TokenLoss, summed_cross_entropy
from footplate_trainer.parallel.part import Criterion


def criterion_of(settings: Loss) -> Criterion:
    """What the model makes of hidden states, output head and labels."""
    return partial(summed_cross_entropy, loss=TokenLoss(settings.label_smoothing, settings.z_loss))
