"""Gradient norm and clipping."""

from __future__ import annotations

import torch

from footplate_trainer.optim.gradient_clipping import clip_gradients, square_norm


def test_the_norm_is_accurate_and_clipping_meets_the_limit() -> None:
    gradients = [torch.randn(300, 100, generator=torch.Generator().manual_seed(3)), torch.ones(50)]
    exact = sum(gradient.double().square().sum().item() for gradient in gradients)

    norm = square_norm(gradients).sqrt().item()
    clip_gradients(gradients, norm, 2.0)

    assert abs(norm - exact**0.5) < 1e-6 * norm
    assert abs(square_norm(gradients).sqrt().item() - 2.0) < 1e-5


def test_without_a_limit_or_below_it_nothing_is_clipped() -> None:
    gradients = [torch.ones(4, 4)]

    clip_gradients(gradients, 4.0, 0.0)
    clip_gradients(gradients, 4.0, 4.0)

    assert gradients[0].eq(1).all()
