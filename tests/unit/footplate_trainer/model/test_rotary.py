"""Rotary embedding turns pairs of columns, and its gradient turns back."""

from __future__ import annotations

import torch
from torch import Tensor

from footplate_trainer.model.rotary import apply_rotary, rotary_frequencies, rotary_tables

LENGTH, HEAD_SIZE = 5, 8


def as_complex(x: Tensor) -> Tensor:
    """Column i and column i + head_size / 2 are one number; fp64 [..., length, head_size]."""
    first, second = x.chunk(2, dim=-1)
    angles = torch.outer(torch.arange(LENGTH, dtype=torch.float64), rotary_frequencies(HEAD_SIZE, 100.0))
    turned = torch.complex(first, second) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat((turned.real, turned.imag), dim=-1)


def test_value_and_gradient_are_those_of_a_complex_product() -> None:
    generator = torch.Generator().manual_seed(3)
    # As attention has it: heads are a view of the columns.
    x = torch.randn(2, LENGTH, 3, HEAD_SIZE, generator=generator).transpose(1, 2).requires_grad_()
    gradient = torch.randn(2, 3, LENGTH, HEAD_SIZE, generator=generator)
    tables = rotary_tables(LENGTH, rotary_frequencies(HEAD_SIZE, 100.0), torch.device("cpu"))
    exact = x.detach().double().requires_grad_()

    turned = apply_rotary(x, *tables)

    torch.testing.assert_close(turned.double(), as_complex(exact), rtol=1e-6, atol=1e-6)
    (found,) = torch.autograd.grad(turned, x, gradient)
    (expected,) = torch.autograd.grad(as_complex(exact), exact, gradient.double())
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-6)


def test_bf16_is_turned_in_fp32() -> None:
    x = torch.randn(1, 1, LENGTH, HEAD_SIZE, generator=torch.Generator().manual_seed(3)).bfloat16()
    tables = rotary_tables(LENGTH, rotary_frequencies(HEAD_SIZE, 100.0), torch.device("cpu"))

    turned = apply_rotary(x, *tables)

    assert turned.dtype == torch.bfloat16
    torch.testing.assert_close(turned.float(), apply_rotary(x.float(), *tables), rtol=4e-3, atol=0)
