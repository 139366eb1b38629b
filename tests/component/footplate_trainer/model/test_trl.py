"""Our formulas are those that TRL minimises: losses, gradients and steps, from where its own runs begin.

A model in plain torch computes log-probabilities in fp64, our formulas make of them a loss, and its gradient
moves the weights: each step is the one that TRL took, as the golden file has it. Where TRL's convention is
odd, the case says how it is brought to ours.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.posttraining.parity import golden
from bench.posttraining.parity.formula_cases import CASES, runs_of, trajectory


@pytest.mark.parametrize("name", CASES)
def test_each_step_of_trl_is_that_of_our_formulas(name: str, tmp_path: Path) -> None:
    told = golden.read("formulas", name, runs_of(tmp_path)[name])
    ours = trajectory(CASES[name])
    assert len(told.losses) == CASES[name].settings["max_steps"]
    for step, expected in enumerate(told.losses):
        # TRL computes in fp32, of whose digits a square of 14 leaves none for less.
        apart = 2e-6 if expected < 10 else 5e-6
        assert expected == pytest.approx(ours.losses[step], rel=0, abs=apart), f"loss of step {step + 1}"
        norm = ours.gradient_norms[step]
        assert told.gradient_norms[step] == pytest.approx(norm, rel=1e-5), f"gradient of step {step + 1}"
        rounding = 1e-6 * (step + 1)
        assert told.weights[step] == pytest.approx(ours.weights[step], rel=0, abs=rounding), (
            f"step {step + 1}"
        )
