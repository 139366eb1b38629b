"""Counts of a step, and sums besides its loss, for the metrics of its row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

Counts = Mapping[str, Tensor]
"""What a data set counts, over the global batch: int64 scalars, by name; the first is the step's tokens."""


class MetricSums:
    """A sum and a count for each of several names, which become means once all ranks' are added up."""

    def __init__(self, names: Sequence[str], device: torch.device) -> None:
        """Allocate zero sums for `names`, in an order that all ranks share."""
        self.names = tuple(names)
        self.sums = torch.zeros(len(self.names), 2, dtype=torch.float64, device=device)

    def add(self, name: str, total: Tensor, count: Tensor | float) -> None:
        """Add the `total` of `count` items, a scalar; KeyError for a name that was not announced."""
        if name not in self.names:
            raise KeyError(f"{name!r} is not one of the objective's names, {list(self.names)}")
        row = self.sums[self.names.index(name)]
        row[0] += total.detach()
        row[1] += count

    def means(self, sums: Sequence[float]) -> dict[str, float]:
        """Return the means of flat, reduced `sums`; a name without a count is left out."""
        pairs = zip(self.names, sums[::2], sums[1::2], strict=True)
        return {name: total / count for name, total, count in pairs if count}
