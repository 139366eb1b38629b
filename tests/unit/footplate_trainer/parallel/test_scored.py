"""What a pair costs by its two scores, and what a row shows of them: known answers."""

from __future__ import annotations

import pytest
import torch

from footplate_trainer.model.inputs import Targets
from footplate_trainer.model.metric_sums import MetricSums
from footplate_trainer.model.sequence_scores import DEVIATION, MEAN
from footplate_trainer.parallel.reward_objective import RankedPairs

# Two rows: one of two pairs, of which the second stands first, and one of a pair behind padding of the table.
TABLE = torch.tensor(
    [
        [[1, 1, 0, 1], [0, 0, 0, 1], [0, 1, 0, 1], [1, 0, 0, 1]],
        [[4, 0, 0, 1], [4, 1, 0, 1], [-1] * 4, [-1] * 4],
    ],
    dtype=torch.int32,
)
SCORES = torch.tensor([[0.4, 1.2, 0.4, 1.2], [0.5, 0.5, 0.0, 0.0]], dtype=torch.float64)
COUNTS = {"tokens": torch.tensor(99), "pairs": torch.tensor(3)}


def targets(table: torch.Tensor, margins: torch.Tensor | None = None) -> Targets:
    rows = torch.full((len(table), 8), -1)
    values = {} if margins is None else {"margin": margins}
    one_each = torch.zeros(len(table))
    return Targets(rows, rows.int(), one_each, one_each.bool(), sequences=table, sequence_values=values)


def test_each_pair_costs_what_the_formula_says() -> None:
    objective = RankedPairs()
    loss = objective.loss(SCORES, targets(TABLE), MetricSums(objective.names, torch.device("cpu")))
    assert loss.item() == pytest.approx(2 * 0.371101 + 0.693147, abs=2e-6)


def test_margin_and_centring() -> None:
    """The margin stands at the chosen answer of its pair; what stands at the rejected one is nobody's."""
    margins = torch.tensor([[9.0, 0.5, 9.0, 0.0], [0.0, 9.0, 9.0, 9.0]])
    objective = RankedPairs(centering=0.01)
    loss = objective.loss(SCORES, targets(TABLE, margins), MetricSums(objective.names, torch.device("cpu")))
    assert loss.item() == pytest.approx(0.554355 + 0.371101 + 0.693147 + 2 * 0.0256 + 0.01, abs=3e-6)


def test_a_row_shows_means_and_a_validation_the_unbiased_deviation() -> None:
    objective = RankedPairs(moments=True)
    metric_sums = MetricSums(objective.names, torch.device("cpu"))
    objective.loss(SCORES, targets(TABLE), metric_sums)
    means = metric_sums.means(metric_sums.sums.flatten().tolist())
    shown = objective.reported_means(means, COUNTS)
    scores = torch.tensor([1.2, 0.4, 1.2, 0.4, 0.5, 0.5], dtype=torch.float64)
    assert shown == {
        "accuracy": pytest.approx(2 / 3),  # equal scores count as wrong
        "margin": pytest.approx(1.6 / 3),
        "score/chosen": pytest.approx(2.9 / 3),
        "score/rejected": pytest.approx(1.3 / 3),
        MEAN: pytest.approx(scores.mean().item()),
        DEVIATION: pytest.approx(scores.std().item()),
    }
    assert objective.divisor(COUNTS) == 3


def test_of_nothing_nothing_is_shown() -> None:
    objective = RankedPairs(moments=True)
    metric_sums = MetricSums(objective.names, torch.device("cpu"))
    loss = objective.loss(
        torch.zeros(1, 4), targets(torch.full((1, 4, 4), -1, dtype=torch.int32)), metric_sums
    )
    assert loss.item() == 0.0
    assert (
        objective.reported_means(
            metric_sums.means(metric_sums.sums.flatten().tolist()), {"pairs": torch.tensor(0)}
        )
        == {}
    )
