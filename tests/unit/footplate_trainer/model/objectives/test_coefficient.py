"""The coefficient of KL: known answers, its bounds, and what is refused."""

from __future__ import annotations

import math

import pytest

from footplate_trainer.model.objectives.kl_estimators import adaptive_coefficient


@pytest.mark.parametrize(
    ("divergence", "factor"),
    [
        pytest.param(0.2, 1.00512, id="above"),
        pytest.param(0.05, 0.99488, id="below"),
        pytest.param(0.1, 1.0, id="at-the-target"),
        pytest.param(0.11, 1.00256, id="little-above"),
        pytest.param(math.inf, 1.00512, id="infinite"),
        pytest.param(-1.0, 0.99488, id="an-estimate-below-0"),
    ],
)
def test_known_answers(divergence: float, factor: float) -> None:
    assert adaptive_coefficient(0.5, divergence, 0.1, 256, 10_000) == pytest.approx(0.5 * factor, abs=1e-12)


def test_kl_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="is NaN"):
        adaptive_coefficient(0.5, math.nan, 0.1, 256, 10_000)


def test_a_horizon_that_could_turn_the_sign_is_refused() -> None:
    with pytest.raises(ValueError, match="horizon is 51; with 256 answers a rollout use 52 or more"):
        adaptive_coefficient(0.5, 0.05, 0.1, 256, 51)
    assert adaptive_coefficient(0.5, 0.05, 0.1, 256, 52) > 0
