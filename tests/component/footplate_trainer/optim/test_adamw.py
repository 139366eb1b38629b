"""AdamW over local rows is AdamW.

In a rank, though one is enough: torch's optimizers import its compiler at the
first step, which the fork server has done already.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from footplate_contracts.v1alpha1.training import Optimizer
from footplate_trainer.optim.adamw import ShardedAdamW
from footplate_trainer.optim.clip import local_gradients
from tests.support.ranks import run_ranks


def model_with_gradients(seed: int) -> nn.Module:
    model = nn.Sequential(nn.Linear(7, 5, bias=False), nn.LayerNorm(5, bias=False))
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        with torch.no_grad():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    return model


def updates_are_those_of_torch_with_decay_on_matrices_only() -> None:
    ours, reference = model_with_gradients(1), model_with_gradients(1)
    settings = Optimizer(learning_rate=0.1, betas=[0.8, 0.9], epsilon=1e-6, weight_decay=0.3)
    optimizer = ShardedAdamW(ours, settings)
    matrix, vector = reference.parameters()
    groups = [{"params": [matrix], "weight_decay": 0.3}, {"params": [vector], "weight_decay": 0.0}]
    expected = torch.optim.AdamW(groups, betas=(0.8, 0.9), eps=1e-6)

    for rate in (0.1, 0.05, 0.2):
        optimizer.step(local_gradients(ours.parameters()), rate)
        for group in expected.param_groups:
            group["lr"] = rate
        expected.step()

    for one, other in zip(ours.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def restored_moments_go_on_where_they_were() -> None:
    settings = Optimizer(learning_rate=0.1)
    ours, other = model_with_gradients(1), model_with_gradients(1)
    first, second = ShardedAdamW(ours, settings), ShardedAdamW(other, settings)
    gradients = local_gradients(ours.parameters())
    first.step(gradients, 0.1)

    with torch.no_grad():
        for (name, source), target in zip(ours.named_parameters(), other.parameters(), strict=True):
            target.copy_(source)
            for moment in ("exp_avg", "exp_avg_sq"):
                second.moments()[moment][name].copy_(first.moments()[moment][name])
    second.set_updates_done(1)
    first.step(gradients, 0.1)
    second.step(gradients, 0.1)

    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(updates_are_those_of_torch_with_decay_on_matrices_only, id="updates"),
        pytest.param(restored_moments_go_on_where_they_were, id="restored-moments"),
    ],
)
def test_adamw(check: Callable[[], None]) -> None:
    run_ranks(check, 1)
