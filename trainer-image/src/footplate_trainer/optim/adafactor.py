"""Adafactor (Shazeer & Stern 2018), with the same result however its matrices are sharded.

It stores the means of squared gradients over each row and each column of a matrix instead of one number per
weight. Those are means over the whole matrix's rows and columns, and two norms are over the whole parameter,
while a rank has a block of it: partial sums are completed over the ranks that have the rest. The arithmetic
is that of torch.optim.Adafactor, which is wrong on shards.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from footplate_contracts.v1alpha1.training import Optimizer
from footplate_trainer.optim.elementwise import get_weight_decay
from footplate_trainer.optim.gradient_clipping import square_norm
from footplate_trainer.parallel.data_parallel import dtensor_like
from footplate_trainer.parallel.local_shard import local_shard, trained_parameters
from footplate_trainer.parallel.partial_sums import PartialSum, complete_sums, dtensor_along, shard_groups

DECAY = -0.8  # the newest squares weigh updates ** DECAY
SMALLEST_SCALE = 1e-3  # a parameter's rms counts as at least this
LARGEST_UPDATE = 1.0  # an update of larger rms is scaled down to it
SMALLEST_ROOT = torch.finfo(torch.float32).eps


class Adafactor:
    """Factored second moments and relative step sizes, over this rank's blocks."""

    def __init__(self, model: nn.Module, settings: Optimizer) -> None:
        self._blocks: dict[str, _Matrix | _Vector] = {
            name: _Matrix(parameter) if parameter.ndim > 1 else _Vector(parameter)
            for name, parameter in trained_parameters(model).items()
        }
        self._decays = [
            get_weight_decay(parameter, settings) for parameter in trained_parameters(model).values()
        ]
        self._updates = 0

    def step(self, gradients: Sequence[Tensor], rate: float) -> None:
        """Update all blocks; `gradients` are theirs, in the order of the model's parameters. Collective.

        The updates overwrite the gradients: a second copy of them would cost what the factored moments save.
        """
        self._updates += 1
        newest, relative = self._updates**DECAY, min(rate, self._updates**-0.5)
        pairs = list(zip(self._blocks.values(), gradients, strict=True))
        complete_sums([partial for block, gradient in pairs for partial in block.observe(gradient)])
        complete_sums([partial for block, _ in pairs for partial in block.absorb(newest)])
        for block, gradient in pairs:
            gradient.mul_(block.squares().clamp_(min=SMALLEST_ROOT**2).rsqrt_())
        norms = [(block.square_norm(block.local), block.square_norm(update)) for block, update in pairs]
        complete_sums([partial for both in norms for partial in both])
        for (block, update), (weights, moves), decay in zip(pairs, norms, self._decays, strict=True):
            scale = block.rms(weights).clamp(min=SMALLEST_SCALE) * relative
            scale /= (block.rms(moves) / LARGEST_UPDATE).clamp(min=1.0)
            block.local.mul_(1 - rate * decay).sub_(update.mul_(scale.float()))

    def moments(self) -> dict[str, dict[str, Tensor]]:
        """Return moment -> parameter name -> tensor: rows and columns of matrices, squares of vectors."""
        named: dict[str, dict[str, Tensor]] = {}
        for name, block in self._blocks.items():
            for moment, tensor in block.moments().items():
                named.setdefault(moment, {})[name] = tensor
        return named

    def set_update_count(self, updates: int) -> None:
        """Set the number of updates that the moments include; the weight of the newest depends on it."""
        self._updates = updates


class _Block:
    """This rank's block of one parameter."""

    def __init__(self, parameter: Tensor) -> None:
        self._parameter = parameter
        self._groups = shard_groups(parameter)
        self.local = local_shard(parameter).local

    def square_norm(self, tensor: Tensor) -> PartialSum:
        """Return the sum of squares of the whole tensor, of which `tensor` is this rank's part."""
        return PartialSum(square_norm([tensor]), self._groups)

    def rms(self, square: PartialSum) -> Tensor:
        """Return the root of the mean square, from the completed sum of squares."""
        return (square.here / self._parameter.numel()).sqrt()


class _Vector(_Block):
    """Block with a second moment for each number."""

    def __init__(self, parameter: Tensor) -> None:
        super().__init__(parameter)
        self._squares = torch.zeros_like(self.local)
        self._seen = self._squares

    def observe(self, gradient: Tensor) -> list[PartialSum]:
        """Square a gradient; return the sums to complete."""
        self._seen = gradient.square()
        return []

    def absorb(self, newest: float) -> list[PartialSum]:
        """Move the moment by share `newest` towards the observed squares; return the sums to complete."""
        self._squares.lerp_(self._seen, newest)
        return []

    def squares(self) -> Tensor:
        """Return the second moments: a new tensor, shaped as the block."""
        return self._squares.clone()

    def moments(self) -> dict[str, Tensor]:
        """Return the moments by name, laid out over the ranks."""
        return {"squares": dtensor_like(self._parameter, self._squares)}


class _Matrix(_Block):
    """Block with a second moment for each row and each column; their outer product replaces the full one."""

    def __init__(self, parameter: Tensor) -> None:
        super().__init__(parameter)
        assert parameter.ndim == 2, f"a parameter of {parameter.ndim} dimensions"
        rows, columns = self.local.shape
        self._rows, self._columns = self.local.new_zeros(rows), self.local.new_zeros(columns)
        self._seen_rows, self._seen_columns = self._rows.double(), self._columns.double()
        self._mean = torch.zeros((), dtype=torch.float64, device=self.local.device)

    def observe(self, gradient: Tensor) -> list[PartialSum]:
        """Reduce a squared gradient to row and column means; return the sums to complete."""
        rows, columns = self._parameter.shape
        self._seen_rows = torch.linalg.vector_norm(gradient, dim=1).double().square() / columns
        self._seen_columns = torch.linalg.vector_norm(gradient, dim=0).double().square() / rows
        return [
            PartialSum(self._seen_rows, shard_groups(self._parameter, 1)),
            PartialSum(self._seen_columns, shard_groups(self._parameter, 0)),
        ]

    def absorb(self, newest: float) -> list[PartialSum]:
        """Move the moments by share `newest` towards the observed means; return the sums to complete."""
        self._rows.lerp_(self._seen_rows.float(), newest)
        self._columns.lerp_(self._seen_columns.float(), newest)
        self._mean = self._rows.double().sum() / self._parameter.shape[0]
        return [PartialSum(self._mean, shard_groups(self._parameter, 0))]

    def squares(self) -> Tensor:
        """Return the second moments: a new tensor, shaped as the block."""
        scaled = self._rows / self._mean.clamp(min=SMALLEST_ROOT).float()
        return torch.outer(scaled, self._columns)

    def moments(self) -> dict[str, Tensor]:
        """Return the moments by name, laid out over the ranks."""
        return {
            "rows": dtensor_along(self._parameter, 0, self._rows),
            "columns": dtensor_along(self._parameter, 1, self._columns),
        }
