"""Numbers and tensors of tests of formulas: fp64, and gradients that are compared with differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

SIX_DIGITS = 5.1e-7  # known answers have six digits behind the point


def exact(*numbers: Any) -> Tensor:
    """fp64, of numbers or of rows of them."""
    return torch.tensor(numbers, dtype=torch.float64)


def agrees(found: Tensor | float, known: Any, within: float = SIX_DIGITS) -> None:
    """Fails unless `found` has the shape of `known` and its numbers to `within`."""
    expected = torch.as_tensor(known, dtype=torch.float64)
    torch.testing.assert_close(torch.as_tensor(found).double(), expected, rtol=0, atol=within)


def has_its_gradient(loss: Callable[..., Tensor], *inputs: Sequence[float] | Tensor) -> None:
    """Fails unless autograd's gradients of `loss` by all `inputs` are those of differences, in fp64."""
    tensors = [torch.as_tensor(given, dtype=torch.float64).requires_grad_() for given in inputs]
    assert torch.autograd.gradcheck(loss, tensors)
