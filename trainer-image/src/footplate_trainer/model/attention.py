"""Multi-head, grouped-query and multi-query attention with rotary positions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from footplate_trainer.model.cache import LayerCache
from footplate_trainer.model.inputs import Shared
from footplate_trainer.model.reach import attend
from footplate_trainer.model.rotary import rotate
from footplate_trainer.shape import ModelShape

Attend = Callable[[Tensor, Tensor, Tensor, Any], Tensor]
"""(query, key, value, reach) -> attended; what `reach` is, its maker and its user agree on."""


class Attention(nn.Module):
    """Query heads share key/value heads in equal groups.

    The number of heads is read off the projections' results: tensor parallelism
    leaves a rank some of the heads. `attend` may be replaced by one that knows where
    the rest of the sequence is.
    """

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.head_size = shape.head_size
        self.attend: Attend = attend
        query_size = shape.heads * shape.head_size
        key_value_size = shape.key_value_heads * shape.head_size
        self.query = nn.Linear(shape.hidden, query_size, bias=False)
        self.key = nn.Linear(shape.hidden, key_value_size, bias=False)
        self.value = nn.Linear(shape.hidden, key_value_size, bias=False)
        self.output = nn.Linear(query_size, shape.hidden, bias=False)

    def forward(self, x: Tensor, shared: Shared, cache: LayerCache | None = None) -> Tensor:
        """x [batch, length, hidden] -> the same. With `cache` x stands behind what the cache holds."""
        query = rotate(self._heads(self.query(x)), *shared.rotary)
        key = rotate(self._heads(self.key(x)), *shared.rotary)
        value = self._heads(self.value(x))
        if cache is not None:
            key, value = cache.extend(key, value)
        attended = self.attend(query, key, value, shared.reach)
        batch, _, length, _ = attended.shape
        merged: Tensor = self.output(attended.transpose(1, 2).reshape(batch, length, -1))
        return merged

    def _heads(self, x: Tensor) -> Tensor:
        """[batch, length, heads * head_size] -> [batch, heads, length, head_size]."""
        return x.view(*x.shape[:2], -1, self.head_size).transpose(1, 2)
