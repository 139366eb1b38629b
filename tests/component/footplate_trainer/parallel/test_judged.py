"""A loss of tokens, of pairs and of a whole step's sequences is autograd's, on every layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from footplate_contracts.runconfig import RunConfig
from footplate_trainer.data.loader import BatchLoader
from footplate_trainer.loop.stepper import Evaluation
from footplate_trainer.model.head_chunks import IGNORED, VocabularyShard
from footplate_trainer.model.inputs import Targets
from footplate_trainer.model.metric_sums import Counts
from footplate_trainer.model.sequence_field import SequenceField
from footplate_trainer.model.sequence_loss import (
    LossInputs,
    LossSpan,
    SequenceLoss,
    StepTotals,
)
from footplate_trainer.model.token_loss import ScoreRequest, TokenScores
from footplate_trainer.parallel.context_parallel import gather_sequence_shards
from footplate_trainer.parallel.loss_objective import LossObjective, score_collector
from footplate_trainer.parallel.mesh import Grid
from footplate_trainer.parallel.objective import GlobalBatch, Objective
from footplate_trainer.parallel.stage_module import Criterion
from footplate_trainer.parallel.world import DistributedContext
from tests.support import layouts
from tests.support.layout_list import LAYOUTS, OPTIMIZERS, Layout
from tests.support.layouts import Learning, Trained
from tests.support.ranks import run_ranks
from tests.support.toy_pairs import ToyPairs
from tests.support.weighted_cross_entropy import WeightedCrossEntropy

# Judges on toy pairs of sequences, and the same losses as autograd has them of all logits at once.


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
        totals.metric_sums.add("policy/entropy", tokens.entropies.double().sum(), len(weights))
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
        totals.metric_sums.add("preference/accuracy", (margins > 0).sum(), len(margins))
        totals.metric_sums.add("preference/margin", margins.sum(), len(margins))
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
            return self.judge(tokens, StepTotals(batch.counts, batch.metric_sums, survey))

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


JUDGES: Mapping[str, SequenceLoss] = {
    "token-mean": WeightedCrossEntropy(),
    "policy": Policy(),
    "preference": Preference(),
    "centred": Centred(),
}
WHOLE_STEP = ("training.microBatchSize=8",)
_LISTED = {layout.name: layout for layout in LAYOUTS}
QUICK = [
    ("policy", _LISTED["tensor"]),
    ("preference", _LISTED["context"]),
    ("centred", Layout("full-micro-batches-of-2", 2, {}, extra=("training.microBatchSize=2",))),
]
AXES = ("one", "full", "none", "tensor", "context", "gpipe", "1f1b", "interleaved-zero-bubble", "zbv")
CUBES = ("tensor-context", "context-pipeline", "pipeline-tensor-full", "pipeline-tensor-context")
LONG = [
    *((judge, _LISTED[name]) for judge in JUDGES for name in (*AXES, *CUBES)),
    *(
        (judge, Layout(f"micro-batches-of-{size}", 1, {}, extra=(f"training.microBatchSize={size}",)))
        for judge in JUDGES
        for size in (2, 4, 8)
    ),
    *((judge, Layout("three-ranks-and-fillers", 3, {})) for judge in JUDGES),
]


def objective(judge: SequenceLoss, dense: bool, _: RunConfig) -> Objective:
    return Dense(judge) if dense else LossObjective(judge)


def learning(judge: str, dense: bool = False) -> Learning:
    return Learning(partial(objective, JUDGES[judge], dense), toy_loader)


@pytest.fixture(scope="module")
def references() -> dict[str, Trained]:
    """Autograd through all logits in one process, by judge; filled as needed."""
    return {}


def check(judge: str, layout: Layout, references: dict[str, Trained], folder: Path) -> None:
    if judge not in references:
        alone = Layout("alone", 1, {}, extra=WHOLE_STEP)
        dense = learning(judge, dense=True)
        references[judge] = layouts.train(alone, OPTIMIZERS["sgd"], folder, folder / "alone", dense)
    reference = references[judge]

    trained = layouts.train(layout, OPTIMIZERS["sgd"], folder, folder, learning(judge))

    found = layouts.distance(trained, reference)
    assert found.is_small, found
    for ours, theirs in zip(trained.results, reference.results, strict=True):
        assert ours.means == pytest.approx(theirs.means, rel=1e-5)
        assert sorted(ours.means) == sorted(JUDGES[judge].names)


def _rows(pairs: list[tuple[str, Layout]]) -> list[object]:
    return [pytest.param(judge, layout, id=f"{judge}-{layout.name}") for judge, layout in pairs]


@pytest.mark.parametrize(("judge", "layout"), _rows(QUICK))
def test_a_judge(judge: str, layout: Layout, references: dict[str, Trained], tmp_path: Path) -> None:
    check(judge, layout, references, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize(("judge", "layout"), _rows(LONG))
def test_every_judge(judge: str, layout: Layout, references: dict[str, Trained], tmp_path: Path) -> None:
    check(judge, layout, references, tmp_path)


def evaluated(config: RunConfig, judge: str) -> tuple[Evaluation, dict[int, NDArray[np.float32]]]:
    """One rank: two batches judged, and log-probabilities of the first by place in the global batch."""
    with layouts.opened(config, learning(judge)) as (model, stepper, loader):
        found = stepper.evaluate((loader.build(number) for number in (0, 1)), LossObjective(JUDGES[judge]))
        batch, collected = loader.build(0), score_collector()
        micro_batches = [stepper.inputs(micro, 0) for micro in batch.micro_batches]
        model.passes.evaluate(micro_batches, collected)
        rows: dict[int, NDArray[np.float32]] = {}
        for micro, given in zip(batch.micro_batches, micro_batches, strict=True):
            if not collected.in_order:  # the last layers are elsewhere
                continue
            (scores,) = collected.numbers_for(given.targets)
            if model.grid.context_group is not None:
                scores = gather_sequence_shards(scores.t(), model.grid.context_group).t()
            rows |= dict(zip(micro.places.tolist(), scores.numpy(force=True), strict=True))
        return found, rows


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Evaluation, dict[int, NDArray[np.float32]]]:
    folder = tmp_path_factory.mktemp("alone")
    config = layouts.config_of(_LISTED["one"], OPTIMIZERS["sgd"], folder, folder)
    (found,) = run_ranks(evaluated, 1, config, "preference")
    return found


@pytest.mark.parametrize(
    "layout",
    [
        pytest.param(_LISTED[name], id=name, marks=() if name == "context-pipeline" else pytest.mark.long)
        for name in ("full", "tensor", "context", "zbv", "context-pipeline")
    ],
)
def test_held_out_pairs_are_judged_and_log_probabilities_collected_on_every_layout(
    layout: Layout, alone: tuple[Evaluation, dict[int, NDArray[np.float32]]], tmp_path: Path
) -> None:
    config = layouts.config_of(layout, OPTIMIZERS["sgd"], tmp_path, tmp_path)
    expected, log_probabilities = alone

    answers = run_ranks(evaluated, layout.ranks, config, "preference")

    for found, _ in answers:
        assert found.loss == pytest.approx(expected.loss, rel=3e-6)
        assert found.means == pytest.approx(expected.means, rel=1e-5)
    rows = {place: row for _, here in answers for place, row in here.items()}
    rows.pop(-1, None)  # of fillers
    assert sorted(rows) == list(range(8))
    for place, row in rows.items():
        np.testing.assert_allclose(row, log_probabilities[place], rtol=1e-5)
        assert np.count_nonzero(row) > 0
