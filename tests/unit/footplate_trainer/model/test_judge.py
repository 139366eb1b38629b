"""What a judge sees of a micro-batch's rows, and what it may leave for the step's row."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from footplate_trainer.model.inputs import Targets
from footplate_trainer.model.metric_sums import MetricSums
from footplate_trainer.model.sequence_field import SequenceField
from footplate_trainer.model.sequence_loss import LossInputs, StepTotals
from footplate_trainer.model.token_loss import TokenScores
from tests.support.weighted_cross_entropy import WeightedCrossEntropy

# Two rows of six places and three sequences at most: a pair whose second side stands first, and one of a
# single sequence, a filler's place between them.
DOCUMENTS = torch.tensor([[0, 0, 1, 1, 1, -1], [0, 0, 0, 2, 2, 1]], dtype=torch.int32)
SEQUENCES = torch.tensor(
    [
        [[5, 1, 0, 2], [5, 0, 0, 3], [-1, -1, -1, -1]],
        [[7, 0, 0, 3], [6, 1, 0, 1], [6, 0, 0, 2]],
    ],
    dtype=torch.int32,
)
WHERE = torch.tensor([0, 1, 3, 6, 8, 9, 11])
LOG_PROBABILITIES = torch.tensor([-1.0, -2.0, -4.0, -8.0, -16.0, -32.0, -64.0])


def tokens(sequences: Tensor | None = SEQUENCES, **token_values: Tensor) -> LossInputs:
    targets = Targets(
        torch.zeros_like(DOCUMENTS).long(),
        DOCUMENTS,
        torch.zeros(2),
        torch.ones(2, dtype=torch.bool),
        sequences=sequences,
        token_values=token_values,
        sequence_values={"margin": torch.arange(6.0).view(2, 3)},
    )
    return LossInputs.of(targets, TokenScores(WHERE, LOG_PROBABILITIES), WHERE)


def test_sums_are_by_sequence() -> None:
    seen = tokens()

    assert seen.by_sequence(seen.log_probabilities).tolist() == [-3.0, -4.0, 0.0, -24.0, -64.0, -32.0]
    assert seen.field(SequenceField.LABELS).tolist() == [2, 3, -1, 3, 1, 2]
    assert seen.sequence_values["margin"].tolist() == list(range(6))


def test_sides_of_a_pair_are_found_wherever_they_stand() -> None:
    paired = SEQUENCES.clone()
    paired[1, 0] = -1

    assert tokens(paired).pairs().tolist() == [[1, 0], [5, 4]]


def test_a_mean_of_tokens_weighs_them() -> None:
    weight = torch.zeros(2, 6)
    weight[0, 3], weight[1, 5] = 0.5, 0.25

    totals = StepTotals(dict, MetricSums((), torch.device("cpu")))

    assert WeightedCrossEntropy()(tokens(None), totals).item() == 127
    assert WeightedCrossEntropy()(tokens(None, weight=weight), totals).item() == 2 + 16


def test_a_step_without_anything_that_counts_is_divided_by_one() -> None:
    assert WeightedCrossEntropy().divisor({"tokens": torch.tensor(0), "pairs": torch.tensor(3)}).item() == 1


def test_means_are_over_all_that_was_added() -> None:
    metric_sums = MetricSums(("accuracy", "margin", "never"), torch.device("cpu"))
    metric_sums.add("margin", torch.tensor(3.0, requires_grad=True), 2)
    metric_sums.add("margin", torch.tensor(-1.0), torch.tensor(6))
    metric_sums.add("accuracy", torch.tensor(3), 4)

    assert metric_sums.means((2 * metric_sums.sums).flatten().tolist()) == {"accuracy": 0.75, "margin": 0.25}


def test_a_name_that_was_not_announced_is_refused() -> None:
    with pytest.raises(KeyError, match=r"'margin' is not one of the objective's names"):
        MetricSums(("accuracy",), torch.device("cpu")).add("margin", torch.tensor(1.0), 1)
