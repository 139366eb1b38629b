"""What stage dpo minimises, of sequences as a judge is given them: the known answers, counts and rows."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch

from footplate_contracts.runconfig import resolve_preference
from footplate_contracts.v1alpha1.preference import Preference
from footplate_contracts.v1alpha1.training import Stage
from footplate_trainer.model.metric_sums import MetricSums
from footplate_trainer.model.preference_loss import KtoLoss, build_preference_loss
from footplate_trainer.model.sequence_loss import LossInputs, SequenceLoss, StepTotals


def judge(**settings: object) -> SequenceLoss:
    found = resolve_preference(Preference.model_validate(settings), Stage.DPO)
    assert found is not None
    return build_preference_loss(found)


def tokens(
    sequences: list[tuple[int, int, list[float]]],
    values: Mapping[str, list[float]],
    answers: list[float] | None = None,
) -> LossInputs:
    """`sequences` are a sample, a side, and the log-probability of each token."""
    places = [place for place, (_, _, logs) in enumerate(sequences) for _ in logs]
    table = [[sample, side, 0, len(logs)] for sample, side, logs in sequences]
    table.append([-1, -1, -1, -1])  # a place of the row that holds no sequence
    return LossInputs(
        torch.tensor([log for _, _, logs in sequences for log in logs], dtype=torch.float64),
        None,
        None,
        {} if answers is None else {"answer": torch.tensor(answers)},
        torch.tensor(places, dtype=torch.int64),
        torch.tensor(table, dtype=torch.int32),
        {name: torch.tensor([*numbers, 0.0], dtype=torch.float64) for name, numbers in values.items()},
    )


def judged(
    judge: SequenceLoss, tokens: LossInputs, counts: Mapping[str, int], survey: list[float] | None = None
) -> tuple[float, dict[str, float]]:
    """The step's loss, and the means of its row."""
    metric_sums = MetricSums(judge.names, torch.device("cpu"))
    told = {name: torch.tensor(count) for name, count in counts.items()}
    total = None if survey is None else torch.tensor(survey, dtype=torch.float64)
    loss = judge(tokens, StepTotals(lambda: told, metric_sums, total)) / judge.divisor(told)
    return loss.item(), metric_sums.means(metric_sums.sums.flatten().tolist())


# Of four and two tokens; log-ratios 1.0 and -0.5.
PAIR = tokens([(3, 0, [-1.0] * 4), (3, 1, [-1.0] * 2)], {"reference": [-5.0, -1.5]})
MEANS = tokens([(3, 1, [-1.5] * 2), (3, 0, [-1.0] * 4)], {})


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param({}, 0.620957, id="sigmoid"),
        pytest.param({"label_smoothing": 0.1}, 0.635957, id="conservative"),
        pytest.param({"label_smoothing": 0.1, "smoothing": "robust"}, 0.602207, id="robust"),
        pytest.param({"loss": "hinge"}, 0.85, id="hinge"),
        pytest.param({"loss": "ipo"}, 20.25, id="ipo-average"),
        pytest.param({"loss": "ipo", "log_probabilities": "sum"}, 12.25, id="ipo-sum"),
    ],
)
def test_losses_against_a_reference(settings: dict[str, object], expected: float) -> None:
    loss, row = judged(judge(**settings), PAIR, {"tokens": 6, "pairs": 1})
    assert loss == pytest.approx(expected, abs=5e-7)
    rewards = {"rewards/chosen": 0.1, "rewards/rejected": -0.05, "accuracy": 1.0, "margin": 0.15}
    assert row == pytest.approx(rewards)


def test_simpo_compares_means() -> None:
    loss, row = judged(judge(loss="simpo"), MEANS, {"tokens": 6, "pairs": 1})
    assert loss == pytest.approx(0.474077, abs=5e-7)
    assert row == pytest.approx(
        {"rewards/chosen": -2.0, "rewards/rejected": -3.0, "accuracy": 1.0, "margin": 1.0}
    )


def test_orpo_adds_the_likelihood_of_what_is_learnt_over_all_pairs_of_the_step() -> None:
    """Two tokens of the prompt are learnt and not compared; another micro-batch has a pair, too."""
    seen = tokens(
        [(3, 0, [-3.0, -3.0, -1.0, -1.0]), (3, 1, [-1.5] * 2)], {}, answers=[0.0, 0.0, 1.0, 1.0, 1.0, 1.0]
    )
    loss, row = judged(judge(loss="orpo"), seen, {"tokens": 14, "pairs": 2, "learnt": 8})
    assert loss == pytest.approx(0.040114 / 2 + 8.0 / 8, abs=5e-7)
    assert row["nll"] == pytest.approx(2.0)
    assert row["rewards/chosen"] == pytest.approx(-0.1)


@pytest.mark.parametrize(
    ("desirable", "log", "expected"), [(1.0, -2.0, 0.480011), (0.0, -3.5, 0.482507)], ids=["liked", "not"]
)
def test_kto(desirable: float, log: float, expected: float) -> None:
    rated = tokens(
        [(0, 0, [log]), (0, 1, [-1.0])], {"reference": [-3.0, -1.4], "desirable": [desirable, 0.0]}
    )
    kto = judge(loss="kto")
    assert isinstance(kto, KtoLoss)
    assert kto.step_sums(rated).tolist() == pytest.approx([0.4, 1.0])
    loss, row = judged(kto, rated, {"tokens": 1, "samples": 1}, survey=[0.4, 2.0])
    assert loss == pytest.approx(expected, abs=5e-7)
    assert row.pop("kl") == pytest.approx(0.2)
    assert row == pytest.approx({f"rewards/{'chosen' if desirable else 'rejected'}": 0.1 * (log + 3.0)})


def test_an_unlikely_answer_behind_a_prompt_is_no_negative_divergence() -> None:
    rated = tokens([(0, 0, [-2.0]), (0, 1, [-1.0])], {"reference": [-3.0, -0.5], "desirable": [1.0, 0.0]})
    _, row = judged(judge(loss="kto"), rated, {"tokens": 1, "samples": 1}, survey=[-3.0, 2.0])
    assert row["kl"] == 0.0


@pytest.mark.parametrize("loss", ["sigmoid", "hinge", "ipo", "orpo", "simpo"])
def test_a_row_of_nothing_costs_nothing_and_is_counted_nowhere(loss: str) -> None:
    empty = tokens([], {"reference": []})
    found, row = judged(judge(loss=loss), empty, {"tokens": 5, "pairs": 3, "learnt": 4})
    assert (found, row) == (0.0, {})


def test_equal_answers_count_as_wrong() -> None:
    equal = tokens([(3, 0, [-1.0]), (3, 1, [-1.0])], {"reference": [-1.0, -1.0]})
    _, row = judged(judge(), equal, {"tokens": 2, "pairs": 1})
    assert (row["accuracy"], row["margin"]) == (0.0, 0.0)
