"""Which weights decay: matrices do, norm weights do not (they have no scale to hold down)."""

from __future__ import annotations

from torch import Tensor


def decays(parameter: Tensor) -> bool:
    """Whether weight decay applies to a parameter of this shape."""
    return parameter.ndim > 1
