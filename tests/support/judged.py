"""Judges on toy pairs of sequences, and the same losses as autograd has them of all logits at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from footplate_contracts.runconfig import RunConfig
from footplate_trainer.data.loader import BatchLoader
from footplate_trainer.model.head_chunks import IGNORED, VocabularyShard
from footplate_trainer.model.metric_sums import Counts
from footplate_trainer.model.sequence_field import SequenceField
from footplate_trainer.model.sequence_loss import LossInputs, LossSpan, SequenceLoss, StepTotals
from footplate_trainer.model.targets import Targets
from footplate_trainer.model.token_loss import ScoreRequest, TokenScores
from footplate_trainer.parallel.mesh import Grid
from footplate_trainer.parallel.objective import GlobalBatch, Objective
from footplate_trainer.parallel.stage_module import Criterion
from footplate_trainer.parallel.world import DistributedContext
from tests.support.toy_pairs import ToyPairs


def toy_loader(config: RunConfig, _: DistributedContext, grid: Grid) -> BatchLoader:
    """This rank's batches of them."""
    return BatchLoader(
        ToyPairs(),
        seed=config.data.seed,
        global_batch_size=config.training.global_batch_size,
        micro_batch_size=config.training.micro_batch_size,
        data_rank=grid.coordinates.data,
        data_degree=grid.topology.data,
    )


@dataclass(frozen=True)
class Policy(SequenceLoss):
    """Of each token by itself: log-probability at a temperature, less a reward for entropy."""

    asked = ScoreRequest(entropy=True, temperature=0.8)
    names = ("policy/entropy",)

    def __call__(self, tokens: LossInputs, totals: StepTotals) -> Tensor:
        assert tokens.entropies is not None and tokens.tempered is not None
        weights = tokens.values["weight"]
        totals.tally.add("policy/entropy", tokens.entropies.double().sum(), len(weights))
        ratios = torch.exp(tokens.tempered + 5.9)
        losses = -torch.minimum(weights * ratios, ratios.clamp(0.5, 2.0)) - 0.1 * tokens.entropies
        return (losses + 2.0 - 0.1 * tokens.log_probabilities).double().sum()


@dataclass(frozen=True)
class Preference(SequenceLoss):
    """Of pairs, against a reference; with cross-entropy of the chosen, a mean over all tokens of the step."""

    span = LossSpan.SEQUENCE
    names = ("preference/accuracy", "preference/margin")

    def divisor(self, counts: Counts) -> Tensor:
        return counts["pairs"].clamp(min=1)

    def __call__(self, tokens: LossInputs, totals: StepTotals) -> Tensor:
        sums = tokens.by_sequence(tokens.log_probabilities)
        ratios = sums - tokens.sequence_values["reference"]
        chosen, rejected = ratios[tokens.pairs()].unbind(1)
        margins = 0.2 * (chosen - rejected)
        totals.tally.add("preference/accuracy", (margins > 0).sum(), len(margins))
        totals.tally.add("preference/margin", margins.sum(), len(margins))
        counts = totals.counts()
        share = self.divisor(counts) / counts["tokens"]
        likely = sums[tokens.field(SequenceField.SIDE) == 0].sum()
        return -functional.logsigmoid(margins).sum() - 0.05 * share * likely


@dataclass(frozen=True)
class Centred(SequenceLoss):
    """Of sequences by themselves, against the mean of the whole global batch."""

    span = LossSpan.STEP
    surveyed = 2

    def divisor(self, counts: Counts) -> Tensor:
        return 2 * counts["pairs"].clamp(min=1)

    def _ratios(self, tokens: LossInputs) -> tuple[Tensor, Tensor]:
        there = tokens.field(SequenceField.SAMPLE) >= 0
        ratios = tokens.by_sequence(tokens.log_probabilities) - tokens.sequence_values["reference"]
        return ratios[there], tokens.field(SequenceField.SIDE)[there]

    def step_sums(self, tokens: LossInputs) -> Tensor:
        ratios, _ = self._ratios(tokens)
        return torch.stack((ratios.sum(), ratios.new_tensor(len(ratios))))

    def __call__(self, tokens: LossInputs, totals: StepTotals) -> Tensor:
        assert totals.survey is not None
        total, count = totals.survey
        ratios, sides = self._ratios(tokens)
        away = 0.5 * (ratios - total / count)
        return (1 - torch.sigmoid(torch.where(sides == 0, away, -away))).sum()


@dataclass(frozen=True)
class Dense(Objective):
    """A judge's loss by autograd through all logits; one process, and all of a step in one micro-batch."""

    judge: SequenceLoss

    @property
    def names(self) -> tuple[str, ...]:
        return self.judge.names

    def divisor(self, counts: Counts) -> Tensor:
        return self.judge.divisor(counts)

    def build_criterion(self, batch: GlobalBatch) -> Criterion:
        def criterion(
            hidden: Tensor, head: Tensor, targets: Targets, *, vocabulary: VocabularyShard | None = None
        ) -> Tensor:
            tokens = dense_tokens(hidden, head, targets, self.judge.asked)
            survey = self.judge.step_sums(tokens).detach() if self.judge.surveyed else None
            return self.judge(tokens, StepTotals(batch.counts, batch.tally, survey))

        return criterion


def dense_tokens(hidden: Tensor, head: Tensor, targets: Targets, asked: ScoreRequest) -> LossInputs:
    """What a judge sees, with autograd's history back to hidden states and head."""
    logits = functional.linear(hidden, head)
    shares, labels = logits.log_softmax(-1), targets.labels.clamp(min=0)[..., None]
    where = (targets.labels != IGNORED).flatten().nonzero().squeeze(1)
    tempered = (logits / (asked.temperature or 1.0)).log_softmax(-1).gather(-1, labels)
    scores = TokenScores(
        where,
        shares.gather(-1, labels).flatten()[where],
        -(shares.exp() * shares).sum(-1).flatten()[where] if asked.entropy else None,
        tempered.flatten()[where] if asked.temperature is not None else None,
    )
    return LossInputs.of(targets, scores, where)
