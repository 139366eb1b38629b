"""Losses of stage dpo over sequences: the formulas of objectives/preference.py, summed over a step.

A metric row has, as means over the pairs of the step, the rewards of chosen and of rejected answers (beta
times their log-ratio; without a reference, beta times the mean of log p), the share of pairs whose chosen
answer has the higher reward, ties counting as wrong, and the margin between the two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

import torch
from torch import Tensor

from footplate_contracts.v1alpha1.preference import (
    PREFERENCE_LOSSES,
    LogProbabilities,
    Preference,
    PreferenceLoss,
    Smoothing,
)
from footplate_trainer.model.metric_sums import Counts
from footplate_trainer.model.objectives.preference import (
    hinge_loss,
    ipo_average_loss,
    ipo_sum_loss,
    kto_divergence,
    kto_loss,
    orpo_loss,
    robust_loss,
    sigmoid_loss,
    simpo_loss,
)
from footplate_trainer.model.sequence_field import (
    ANSWER,
    DESIRABLE,
    LEARNT,
    PAIRS,
    REFERENCE,
    SAMPLES,
    SequenceField,
)
from footplate_trainer.model.sequence_loss import LossInputs, LossSpan, SequenceLoss, StepTotals

_CHOSEN, _REJECTED = "rewards/chosen", "rewards/rejected"
_ACCURACY, _MARGIN = "accuracy", "margin"
_NAMES: tuple[str, ...] = (_CHOSEN, _REJECTED, _ACCURACY, _MARGIN)
_NAMES_OF_ORPO: tuple[str, ...] = (*_NAMES, "nll")

Value = TypeVar("Value")


@dataclass(frozen=True)
class _Answers:
    """Both answers of each pair: fp64 [pairs, 2], the chosen one first."""

    log_probabilities: Tensor  # sums over an answer's tokens
    tokens: Tensor
    places: Tensor  # int64, among the sequences

    @classmethod
    def of(cls, tokens: LossInputs) -> _Answers:
        weights = tokens.values.get(ANSWER)
        weights = torch.ones_like(tokens.log_probabilities) if weights is None else weights
        places = tokens.pairs()
        sums = tokens.by_sequence(tokens.log_probabilities * weights)
        return cls(sums[places], tokens.by_sequence(weights)[places], places)

    @property
    def means(self) -> Tensor:
        """Means of log p over an answer's tokens; 0 of none."""
        return self.log_probabilities / self.tokens.clamp(min=1)


@dataclass(frozen=True)
class PairwiseLoss(SequenceLoss):
    """Loss of the two answers of each pair; its mean over the pairs of the step.

    Log-ratios to the reference are compared or, without one, the means of log p.
    """

    settings: Preference
    span = LossSpan.SEQUENCE
    names = _NAMES

    def divisor(self, counts: Counts) -> Tensor:
        return counts[PAIRS].clamp(min=1)

    def __call__(self, tokens: LossInputs, totals: StepTotals) -> Tensor:
        answers, settings = _Answers.of(tokens), self.settings
        if PREFERENCE_LOSSES[settings.loss].needs_reference:
            reference = tokens.sequence_values[REFERENCE].double().flatten()
            compared = answers.log_probabilities - reference[answers.places]
        else:
            compared = answers.means
        rewards = require_resolved(settings.beta) * compared.detach()
        chosen, rejected = rewards.unbind(1)
        for name, numbers in (
            (_CHOSEN, chosen),
            (_REJECTED, rejected),
            (_ACCURACY, chosen > rejected),
            (_MARGIN, chosen - rejected),
        ):
            totals.metric_sums.add(name, numbers.sum(), len(numbers))
        return _FORMULAS[settings.loss](settings, answers, compared).sum()


def _sigmoid(settings: Preference, answers: _Answers, compared: Tensor) -> Tensor:
    loss = robust_loss if settings.smoothing is Smoothing.ROBUST else sigmoid_loss
    smoothing = require_resolved(settings.label_smoothing)
    return loss(compared[:, 0], compared[:, 1], require_resolved(settings.beta), smoothing)


def _hinge(settings: Preference, answers: _Answers, compared: Tensor) -> Tensor:
    return hinge_loss(compared[:, 0], compared[:, 1], require_resolved(settings.beta))


def _ipo(settings: Preference, answers: _Answers, compared: Tensor) -> Tensor:
    beta, (chosen, rejected) = require_resolved(settings.beta), compared.unbind(1)
    if settings.log_probabilities is LogProbabilities.SUM:
        return ipo_sum_loss(chosen, rejected, beta)
    return ipo_average_loss(chosen, rejected, answers.tokens[:, 0], answers.tokens[:, 1], beta)


def _simpo(settings: Preference, answers: _Answers, compared: Tensor) -> Tensor:
    beta, margin = require_resolved(settings.beta), require_resolved(settings.margin)
    return simpo_loss(compared[:, 0], compared[:, 1], beta, margin)


def _orpo(settings: Preference, answers: _Answers, compared: Tensor) -> Tensor:
    return orpo_loss(compared[:, 0], compared[:, 1], require_resolved(settings.beta))


# The losses, [pairs], from the settings, both answers, and the numbers that are compared, [pairs, 2].
_FORMULAS: Final[Mapping[PreferenceLoss, Callable[[Preference, _Answers, Tensor], Tensor]]] = {
    PreferenceLoss.SIGMOID: _sigmoid,
    PreferenceLoss.HINGE: _hinge,
    PreferenceLoss.IPO: _ipo,
    PreferenceLoss.SIMPO: _simpo,
    PreferenceLoss.ORPO: _orpo,
}


@dataclass(frozen=True)
class OrpoLoss(PairwiseLoss):
    """`orpo`: odds of the means of log p, and the likelihood of the chosen answers' trained tokens."""

    names = _NAMES_OF_ORPO

    def __call__(self, tokens: LossInputs, totals: StepTotals) -> Tensor:
        """Sum the loss; see SequenceLoss. The likelihood, a mean over tokens, becomes a mean over pairs."""
        odds = super().__call__(tokens, totals)
        chosen = tokens.field(SequenceField.SIDE) == 0
        unlikely = -tokens.by_sequence(tokens.log_probabilities)[chosen].sum()
        counts = totals.counts()
        learnt = counts[LEARNT].clamp(min=1)
        here = tokens.by_sequence(torch.ones_like(tokens.log_probabilities))[chosen].sum()
        totals.metric_sums.add("nll", unlikely, here)
        return odds + unlikely * self.divisor(counts) / learnt


@dataclass(frozen=True)
class KtoLoss(SequenceLoss):
    """`kto`: loss of single answers, relative to the divergence of the whole step.

    Side 0 of a sample is its answer, side 1 its prompt with the answer of another.
    """

    settings: Preference
    span = LossSpan.STEP
    surveyed = 2
    names = (_CHOSEN, _REJECTED, "kl")

    def divisor(self, counts: Counts) -> Tensor:
        return counts[SAMPLES].clamp(min=1)

    def step_sums(self, tokens: LossInputs) -> Tensor:
        """Return sum and number of the mismatched pairs' log-ratios."""
        mismatched = self._ratios(tokens)[tokens.field(SequenceField.SIDE) == 1]
        return torch.stack((mismatched.sum(), mismatched.new_tensor(len(mismatched))))

    def __call__(self, tokens: LossInputs, totals: StepTotals) -> Tensor:
        assert totals.survey is not None
        total, count = totals.survey
        divergence = kto_divergence(total / count.clamp(min=1))
        rated = tokens.field(SequenceField.SIDE) == 0
        ratios, settings = self._ratios(tokens)[rated], self.settings
        beta, desirable = require_resolved(settings.beta), tokens.sequence_values[DESIRABLE][rated] > 0
        for name, which in ((_CHOSEN, desirable), (_REJECTED, ~desirable)):
            totals.metric_sums.add(name, beta * ratios[which].sum(), which.sum())
        totals.metric_sums.add("kl", divergence * len(ratios), len(ratios))
        weights = require_resolved(settings.desirable_weight), require_resolved(settings.undesirable_weight)
        return kto_loss(ratios, desirable, divergence, beta, weights).sum()

    def _ratios(self, tokens: LossInputs) -> Tensor:
        return (
            tokens.by_sequence(tokens.log_probabilities)
            - tokens.sequence_values[REFERENCE].double().flatten()
        )


def build_preference_loss(settings: Preference) -> SequenceLoss:
    """Build the loss of a resolved spec.preference."""
    kinds: dict[PreferenceLoss, Callable[[Preference], SequenceLoss]]
    kinds = {PreferenceLoss.KTO: KtoLoss, PreferenceLoss.ORPO: OrpoLoss}
    return kinds.get(settings.loss, PairwiseLoss)(settings)


def require_resolved(value: Value | None) -> Value:
    """Return a number that the contracts always set."""
    assert value is not None, "resolve() fills this in"
    return value
