"""What a reward function's answer means, row by row."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from footplate_trainer.rewards.reward_values import LARGEST, parse_reward, parse_rewards


class _Unreadable:
    def item(self) -> float:
        raise RuntimeError("on another device")

    def tolist(self) -> list[float]:
        raise RuntimeError("on another device")


@pytest.mark.parametrize(
    ("value", "number"),
    [
        pytest.param(0.5, 0.5, id="float"),
        pytest.param(-3, -3.0, id="int"),
        pytest.param(True, 1.0, id="true"),
        pytest.param(False, 0.0, id="false"),
        pytest.param(np.float32(0.25), 0.25, id="numpy-scalar"),
        pytest.param(np.array([2]), 2.0, id="array-of-one"),
        pytest.param(np.bool_(True), 1.0, id="numpy-bool"),
        pytest.param(LARGEST, LARGEST, id="largest"),
        pytest.param(5e-324, 5e-324, id="smallest"),
    ],
)
def test_what_is_a_number(value: Any, number: float) -> None:
    assert parse_reward(value) == number


@pytest.mark.parametrize(
    ("value", "said"),
    [
        pytest.param(None, "None", id="none"),
        pytest.param(math.nan, "NaN", id="nan"),
        pytest.param(math.inf, "inf, beyond", id="inf"),
        pytest.param(1e308, "1e+308, beyond ±1e+12", id="huge"),
        pytest.param(-1e308, "-1e+308, beyond ±1e+12", id="huge-and-negative"),
        pytest.param(10**400, "beyond ±1e+12", id="more-than-a-float-holds"),
        pytest.param("0.5", "str '0.5'", id="text"),
        pytest.param(1j, "complex 1j", id="complex"),
        pytest.param([0.5], "list [0.5]", id="list"),
        pytest.param(np.zeros(2), "cannot read its return value", id="array-of-two"),
        pytest.param(_Unreadable(), "on another device", id="raises"),
        pytest.param("x" * 10_000, "…", id="long"),
    ],
)
def test_what_is_none(value: Any, said: str) -> None:
    reason = parse_reward(value)
    assert isinstance(reason, str) and said in reason and len(reason) < 200


@pytest.mark.parametrize(
    ("answer", "read"),
    [
        pytest.param([1, 0.5], [1.0, 0.5], id="list"),
        pytest.param((True, False), [1.0, 0.0], id="tuple"),
        pytest.param(np.array([1.5, 2.5], dtype=np.float32), [1.5, 2.5], id="array"),
        pytest.param([1.0, None], [1.0, "it returned None"], id="one-without"),
        pytest.param([1.0], ["it returned 1 numbers for 2 samples"] * 2, id="too-few"),
        pytest.param([1.0] * 3, ["it returned 3 numbers for 2 samples"] * 2, id="too-many"),
        pytest.param(None, ["it returned NoneType None, not a list of numbers"] * 2, id="nothing"),
        pytest.param(0.5, ["it returned float 0.5, not a list of numbers"] * 2, id="a-number"),
        pytest.param("ab", ["it returned str 'ab', not a list of numbers"] * 2, id="text"),
        pytest.param(
            np.float64(1), ["it returned float64 np.float64(1.0), not a list of numbers"] * 2, id="scalar"
        ),
    ],
)
def test_an_answer_is_read_for_each_sample(answer: Any, read: list[float | str]) -> None:
    assert parse_rewards(answer, 2) == read


def test_an_answer_that_cannot_be_read_raises_nothing() -> None:
    assert all("on another device" in str(reason) for reason in parse_rewards(_Unreadable(), 2))
