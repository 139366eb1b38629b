"""The loss of a policy on answers that it sampled before.

Ratios compare equals: the log-probability of a token now and when the rollout began, both computed by the
training pass, both at the sampling temperature, and both over all tokens. The sampler's own log-probability
is only compared, and reported: the sampler computes in other shapes, and a truncated distribution gives its
tokens more than the model does. A rollout that is trained on once needs no earlier pass: then the ratio is 1,
and only its derivative counts.

A stage with a value for each token has advantages that differ from token to token; nothing else changes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from footplate_contracts.v1alpha1.reinforcement import Aggregation, KlEstimator
from footplate_trainer.model.metric_sums import Counts
from footplate_trainer.model.objectives.kl_estimators import k1, k2, k3
from footplate_trainer.model.objectives.policy import (
    clipped_policy_loss,
    constant_length,
    sequence_log_ratio,
    sequence_mean,
    token_mean,
)
from footplate_trainer.model.sequence_field import SequenceField
from footplate_trainer.model.sequence_loss import LossInputs, LossSpan, SequenceLoss, StepTotals
from footplate_trainer.model.token_loss import ScoreRequest

# What the data says of a label; fp32.
ADVANTAGE: Final = "advantage"
OLD: Final = "old"  # log-probability when the rollout began; absent where weights are still those
SAMPLER: Final = (
    "sampler"  # log-probability as whoever drew the token says, at temperature 1 and of all tokens
)
REFERENCE: Final = "reference"  # log-probability under the reference; absent where there is none
# What it says of a sequence.
COEFFICIENT: Final = "coefficient"  # of the KL from the reference, in the loss

TOKENS: Final = "tokens"  # counted of a step: those of answers
ANSWERS: Final = "answers"  # those that count

ESTIMATORS: Final[dict[KlEstimator, Callable[[Tensor, Tensor], Tensor]]] = {
    KlEstimator.K1: k1,
    KlEstimator.K2: k2,
    KlEstimator.K3: k3,
}
_NAMES: Final = ("policy/ratio", "policy/clipped_low", "policy/clipped_high", "policy/entropy", "kl/sampler")


@dataclass(frozen=True)
class PolicyLoss(SequenceLoss):
    """Loss of clipped ratios times advantages, and of the KL from a reference."""

    low: float
    high: float
    dual: float | None
    by_sequence: bool  # ratios of whole answers (GSPO)
    aggregation: Aggregation
    longest: int  # the most tokens that an answer may have
    estimator: KlEstimator
    span: LossSpan
    asked: ScoreRequest
    names: tuple[str, ...]

    @classmethod
    def of(
        cls,
        *,
        low: float,
        high: float,
        dual: float | None,
        by_sequence: bool,
        aggregation: Aggregation,
        longest: int,
        estimator: KlEstimator,
        temperature: float,
        reference: bool,
    ) -> PolicyLoss:
        """Build the loss for the sampling `temperature`; `reference`: the data has a reference's numbers."""
        return cls(
            low,
            high,
            dual,
            by_sequence,
            aggregation,
            longest,
            estimator,
            span=LossSpan.SEQUENCE if by_sequence else LossSpan.TOKEN,
            asked=policy_score_request(temperature, entropy=True),
            names=(*_NAMES, *(("kl/reference",) if reference else ())),
        )

    def __call__(self, tokens: LossInputs, totals: StepTotals) -> Tensor:
        now = policy_log_probabilities(tokens)
        old = tokens.values.get(OLD, now.detach())
        log_ratio = self._sequence_log_ratio(tokens, now, old) if self.by_sequence else now - old
        advantages = tokens.values[ADVANTAGE]
        losses, held = clipped_policy_loss(log_ratio, advantages, self.low, self.high, self.dual)
        self._tell(tokens, log_ratio.detach(), held, totals)
        reference = tokens.values.get(REFERENCE)
        if reference is not None:
            apart = ESTIMATORS[self.estimator](now, reference)
            assert tokens.sequences is not None
            losses = losses + tokens.sequence_values[COEFFICIENT][tokens.sequences] * apart
            totals.metric_sums.add("kl/reference", apart.sum(), apart.numel())
        return (losses.double() * self._weights(tokens)).sum()

    def divisor(self, counts: Counts) -> Tensor:
        count = TOKENS if self.aggregation is Aggregation.TOKEN_MEAN else ANSWERS
        return counts[count].clamp(min=1)

    def _sequence_log_ratio(self, tokens: LossInputs, now: Tensor, old: Tensor) -> Tensor:
        """Return the answer's log-ratio, for each of its tokens."""
        assert tokens.sequences is not None
        labels = tokens.field(SequenceField.LABELS)
        ratio = sequence_log_ratio(tokens.by_sequence(now), tokens.by_sequence(old), labels)
        return ratio.to(now.dtype)[tokens.sequences]

    def _weights(self, tokens: LossInputs) -> Tensor:
        """Return each token's weight: fp64 [tokens]."""
        assert tokens.sequences is not None
        labels = tokens.field(SequenceField.LABELS)
        if self.aggregation is Aggregation.SEQUENCE_MEAN:
            by_sequence = sequence_mean(labels)
        elif self.aggregation is Aggregation.TOKEN_MEAN:
            by_sequence = token_mean(labels)
        else:
            by_sequence = constant_length(labels, self.longest)
        return by_sequence[tokens.sequences]

    def _tell(self, tokens: LossInputs, log_ratio: Tensor, held: Tensor, totals: StepTotals) -> None:
        count = log_ratio.numel()
        upper = held & (log_ratio > 0)
        assert tokens.entropies is not None
        sampled = k3(tokens.values[SAMPLER], tokens.log_probabilities.detach())
        for name, told in zip(
            _NAMES, (torch.exp(log_ratio), held & ~upper, upper, tokens.entropies, sampled), strict=True
        ):
            totals.metric_sums.add(name, told.double().sum(), count)


def policy_score_request(temperature: float, *, entropy: bool = False) -> ScoreRequest:
    """Return the scores that a token's log-probability at `temperature` requires."""
    return ScoreRequest(entropy=entropy, temperature=None if temperature == 1 else temperature)


def policy_log_probabilities(tokens: LossInputs) -> Tensor:
    """Return log-probabilities at the configured temperature: fp32 [tokens]."""
    return tokens.log_probabilities if tokens.tempered is None else tokens.tempered
