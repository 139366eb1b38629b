"""What is counted of a step, and sums that it makes beside its loss, for the numbers of its row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

Counts = Mapping[str, Tensor]
"""What a data set counts, over the global batch: int64 scalars, by name; the first is the step's tokens."""


class Tally:
    """A sum and a count for each of some names; means follow when all ranks' are added up."""

    def __init__(self, names: Sequence[str], device: torch.device) -> None:
        """`names` in an order that all ranks have."""
        self.names = tuple(names)
        self.sums = torch.zeros(len(self.names), 2, dtype=torch.float64, device=device)

    def add(self, name: str, total: Tensor, count: Tensor | float) -> None:
        """Add what `count` things gave in `total`, a scalar; KeyError for a name that was not announced."""
        if name not in self.names:
            raise KeyError(f"{name!r} is none of the names that the objective announces, {list(self.names)}")
        row = self.sums[self.names.index(name)]
        row[0] += total.detach()
        row[1] += count

    def means(self, sums: Sequence[float]) -> dict[str, float]:
        """Of summed-up `sums`, flat; a name of which nothing counted has none."""
        pairs = zip(self.names, sums[::2], sums[1::2], strict=True)
        return {name: total / count for name, total, count in pairs if count}
