"""What a person is told of rollouts, with step and number, and once."""

from __future__ import annotations

import pytest

from footplate_trainer.rollout.rollout_metrics import RolloutMonitor


def told(*rows: dict[str, float], target: float | None = 0.1, watched: frozenset[str] = frozenset()):
    watch = RolloutMonitor(target, watched)
    return [watch.check(1 + 2 * number, row) for number, row in enumerate(rows)]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        pytest.param(
            [{"kl/answer": 0.2}, {"kl/answer": 0.21}],
            [[], ["step 3: kl/answer is 0.21, above twice its target 0.1"]],
            id="kl",
        ),
        pytest.param(
            [{"policy/entropy": 4.0}, {"policy/entropy": 2.0}, {"policy/entropy": 1.9}],
            [[], [], ["step 5: policy/entropy is 1.9, less than half of the 4 at this start"]],
            id="entropy",
        ),
        pytest.param(
            [{"groups/degenerate": 0.9}, {"groups/degenerate": 1.0}],
            [
                [],
                ["step 3: groups/degenerate is 1: rewards differ in no group, so the policy learns nothing"],
            ],
            id="degenerate",
        ),
        pytest.param([{"reward/sum": 1.0}, {}], [[], []], id="nothing"),
    ],
)
def test_warnings(rows: list[dict[str, float]], expected: list[list[str]]) -> None:
    assert told(*rows) == expected


def test_each_is_told_once_until_it_is_over() -> None:
    bad, good = {"groups/degenerate": 1.0}, {"groups/degenerate": 0.0}
    assert [len(texts) for texts in told(bad, bad, good, bad)] == [1, 0, 0, 1]


def test_a_reward_that_rises_while_one_that_is_only_watched_falls() -> None:
    rows = [{"reward/sum": n / 10 + n % 2 / 20, "rewards/honest": 1 - n / 10} for n in range(20)]
    first = next(number for number, texts in enumerate(told(*rows, watched=frozenset({"honest"}))) if texts)
    assert first == 15, "eight rollouts are compared with the eight before them"
    (text,) = told(*rows, watched=frozenset({"honest"}))[first]
    assert text == (
        "step 31: rewards/honest, which has no weight, has fallen to -0.5 while reward/sum has risen to 1.55"
    )
    assert told(*rows) == [[]] * 20, "one that has a weight is nobody's witness"
    assert told(*[{**row, "rewards/honest": 1.0} for row in rows], watched=frozenset({"honest"})) == [[]] * 20
