"""A loss of tokens, of pairs and of a whole step's sequences is autograd's, on every layout."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from footplate_contracts.runconfig import RunConfig
from footplate_trainer.loop.stepper import Evaluation
from footplate_trainer.model.sequence_loss import SequenceLoss, WeightedCrossEntropy
from footplate_trainer.parallel.context_parallel import gather_in_order
from footplate_trainer.parallel.loss_objective import LossObjective, ScoreCollector
from footplate_trainer.parallel.objective import Objective
from tests.support import layouts
from tests.support.judged import Centred, Dense, Policy, Preference, toy_loader
from tests.support.layout_list import LAYOUTS, OPTIMIZERS, Layout
from tests.support.layouts import Learning, Trained
from tests.support.ranks import run_ranks

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
        batch, collected = loader.build(0), ScoreCollector()
        micro_batches = [stepper.inputs(micro, 0) for micro in batch.micro_batches]
        model.passes.evaluate(micro_batches, collected)
        rows: dict[int, NDArray[np.float32]] = {}
        for micro, given in zip(batch.micro_batches, micro_batches, strict=True):
            if not collected.in_order:  # the last layers are elsewhere
                continue
            (scores,) = collected.scores_for(given.targets)
            if model.grid.context_group is not None:
                scores = gather_in_order(scores.t(), model.grid.context_group).t()
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
