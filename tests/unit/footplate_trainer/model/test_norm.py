"""RMSNorm is torch's, with its gradients."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from footplate_trainer.model.norm import RMSNorm


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_value_and_gradients_are_torchs(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(2)
    x, weight, gradient = (torch.randn(size, generator=generator) for size in ((3, 5, 8), (8,), (3, 5, 8)))
    norm = RMSNorm(8, 1e-5)
    norm.weight.data = weight.to(dtype)
    ours = x.to(dtype).requires_grad_()
    norm(ours).backward(gradient.to(dtype))

    exact, exact_weight = (tensor.detach().double().requires_grad_() for tensor in (ours, norm.weight))
    expected = functional.rms_norm(exact, (8,), exact_weight, 1e-5)
    expected.backward(gradient.to(dtype).double())

    tolerance = {"rtol": 1e-5, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 2e-2, "atol": 2e-2}
    torch.testing.assert_close(norm(ours).double(), expected, **tolerance)
    torch.testing.assert_close(ours.grad.double(), exact.grad, **tolerance)
    torch.testing.assert_close(norm.weight.grad.double(), exact_weight.grad, **tolerance)
