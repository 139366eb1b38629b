"""Our formulas are those that TRL minimises: losses, gradients and steps, from weights of its own runs.

TRL trains for some steps. Before each of them a model in plain torch has TRL's weights, computes the
log-probabilities of the same tokens in fp64, and our formulas make of them a loss, whose gradient moves the
weights to where TRL's went. Where TRL's convention is odd, the case says how it is brought to ours.
"""

from __future__ import annotations

import pytest
import torch
from bench.posttraining.parity.formula_cases import (
    ADAPTERS,
    CASES,
    ROLLOUTS,
    ROWS_OF_A_STEP,
    Answers,
    answers,
)
from bench.posttraining.parity.formulas import Policy

from tests.support.plain_llama import Weights, read


@pytest.fixture(scope="module")
def trl(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    return answers(tmp_path_factory)


def merged(base: Weights, adapters: Weights) -> Weights:
    """Weights with LoRA's product added where it stands."""
    weights = dict(base)
    for name, upper in adapters.items():
        if ".lora_B." in name:
            where = name.removeprefix("base_model.model.").replace(".lora_B.default", "")
            scale = ADAPTERS["lora_alpha"] / ADAPTERS["r"]
            weights[where] = base[where] + scale * upper @ adapters[name.replace("lora_B", "lora_A")]
    return weights


@pytest.mark.parametrize("name", CASES)
def test_each_step_of_trl_is_that_of_our_formulas(name: str, trl: Answers) -> None:
    case, told = CASES[name], trl.seen[name]
    base = read(trl.folders["score" if case.trainer == "reward" else case.reference] / "model.safetensors")
    assert len(told.losses) == case.settings["max_steps"]
    for step, expected in enumerate(told.losses):
        trained = read(told.weights[step])
        weights = merged(base, trained) if case.adapters else trained
        if isinstance(case.loss, Policy):
            call = step // case.updates
            old = read(told.weights[call * case.updates])
            loss = case.loss.loss(weights, old, base, ROLLOUTS[call])
        else:
            rows = case.rows if case.whole else case.rows[step * ROWS_OF_A_STEP : (step + 1) * ROWS_OF_A_STEP]
            loss = case.loss(weights, base, rows)
        gradients = dict(zip(trained, torch.autograd.grad(loss, list(trained.values())), strict=True))
        norm = torch.stack([gradient.square().sum() for gradient in gradients.values()]).sum().sqrt()

        # TRL computes in fp32, of whose digits a square of 14 leaves none for less.
        apart = 2e-6 if expected < 10 else 5e-6
        assert expected == pytest.approx(loss.item(), rel=0, abs=apart), f"loss of step {step + 1}"
        assert told.gradient_norms[step] == pytest.approx(norm.item(), rel=1e-5), (
            f"gradient of step {step + 1}"
        )
        after = read(told.weights[step + 1])
        for weight, gradient in gradients.items():
            torch.testing.assert_close(after[weight], trained[weight] - 1e-2 * gradient, rtol=0, atol=1e-6)
