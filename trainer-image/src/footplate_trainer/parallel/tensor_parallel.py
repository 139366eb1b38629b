"""Tensor parallelism: each matrix is shared out, norms and residuals work on pieces of the sequence.

Projections into heads and into the feed-forward width are cut by columns of
their result, those back by rows (Shoeybi et al. 2019); between them activations
are cut along the sequence (Korthikanti et al. 2022). Embedding and head are cut
by the vocabulary. A cut weight is a DTensor on the tensor mesh; a parameter that
stays whole (norms, biases after a sum, key and value heads fewer than the ranks)
is a plain parameter whose gradient is partial: `gradients` adds the parts up
once a step, with one reduction for all of them. In an adapter, the matrix next
to the cut side of its layer is cut; its result for a layer cut by rows is
added before the sum over ranks, and costs no reduction of its own.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard
from torch.nn import functional

from footplate_trainer.model.attention import MultiHeadAttention
from footplate_trainer.model.encoder import Encoder
from footplate_trainer.model.encoder_decoder import EncoderDecoder
from footplate_trainer.model.inputs import BlockInputs, Inputs
from footplate_trainer.model.linear import Linear, LowRankAdapter
from footplate_trainer.model.network import TransformerNetwork
from footplate_trainer.parallel.local_shard import chunk_bounds, to_local
from footplate_trainer.parallel.sequence_collectives import gather_sequence, reduce_scatter_sequence

CUT_BY_OUTPUTS = ("query", "key", "value", "gate", "up")
CUT_BY_INPUTS = ("output", "down")


def apply_tensor_parallel(network: TransformerNetwork, mesh: DeviceMesh) -> None:
    """Cut `network`, still on `meta`, over `mesh`, in place; parameter names stay."""
    network.set_sequence_shard(mesh.get_local_rank(), mesh.size())
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, Linear) and name in CUT_BY_OUTPUTS + CUT_BY_INPUTS:
                if child.adapter is not None:
                    child.adapter.dropout.sequence_shard = 0  # these layers read whole sequences
                setattr(module, name, _shared_linear(module, name, child, mesh))
        if _takes_whole_sequences(module):
            module.register_forward_pre_hook(partial(_gather_states, mesh.get_group()))
    if network.embedding is not None:
        network.embedding = _Embedding(network.embedding, mesh)
    if isinstance(network, Encoder) and network.head_bias is not None:
        network.head_bias = _cut(network.head_bias, 0, mesh)
    if isinstance(network, EncoderDecoder):
        assert network.encoder_bias is not None and network.decoder_bias is not None
        network.encoder_bias = _HeadTable(network.encoder_bias, mesh)
        network.decoder_bias = _HeadTable(network.decoder_bias, mesh)
    if network.head is not None:
        network.head = _Columns(network.head, mesh)


def _takes_whole_sequences(module: nn.Module) -> bool:
    children = dict(module.named_children())
    return any(name in children for name in CUT_BY_INPUTS) and any(
        name in children for name in CUT_BY_OUTPUTS
    )


def _shared_linear(owner: nn.Module, name: str, linear: Linear, mesh: DeviceMesh) -> nn.Module:
    if name in CUT_BY_INPUTS:
        return _Rows(linear, mesh)
    if name in ("key", "value") and isinstance(owner, MultiHeadAttention):
        heads = linear.out_features // owner.head_size
        if heads < mesh.size():
            return _FewHeads(linear, mesh, heads)
    return _Columns(linear, mesh)


def _cut(weight: Tensor, dimension: int, mesh: DeviceMesh) -> nn.Parameter:
    """Return this rank's part of a parameter on `meta`, laid out over `mesh`."""
    start, stop = chunk_bounds(weight.shape[dimension], mesh.size(), mesh.get_local_rank())
    mine = weight.detach().narrow(dimension, start, stop - start).clone()
    return nn.Parameter(
        DTensor.from_local(
            mine, mesh, (Shard(dimension),), run_check=False, shape=weight.shape, stride=weight.stride()
        ),
        requires_grad=weight.requires_grad,
    )


class _LowRank(LowRankAdapter):
    """An adapter of a layer that is shared out; `rows` are the rows of a whole B that this rank uses."""

    def __init__(
        self, adapter: LowRankAdapter, a: nn.Parameter, b: nn.Parameter, rows: slice | None = None
    ) -> None:
        nn.Module.__init__(self)
        self.a, self.b, self._rows = a, b, rows
        self.scale, self.dropout = adapter.scale, adapter.dropout

    def matrices(self) -> tuple[Tensor, Tensor]:
        """Return this rank's parts of both matrices."""
        b = to_local(self.b)
        return to_local(self.a), b if self._rows is None else b[self._rows]


class _Columns(Linear):
    """A linear layer; this rank computes some of its outputs."""

    def __init__(self, linear: Linear, mesh: DeviceMesh) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight = _cut(linear.weight, 0, mesh)
        self.bias = None if linear.bias is None else _cut(linear.bias, 0, mesh)
        adapter = linear.adapter
        self.adapter = None if adapter is None else _LowRank(adapter, adapter.a, _cut(adapter.b, 0, mesh))

    def matrix(self) -> tuple[Tensor, Tensor | None]:
        """Return weight [out / ranks, in] and bias [out / ranks]."""
        return to_local(self.weight), None if self.bias is None else to_local(self.bias)


class _FewHeads(Linear):
    """Keys or values with fewer heads than ranks: the weight is whole, this rank uses one head."""

    def __init__(self, linear: Linear, mesh: DeviceMesh, heads: int) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        size = linear.out_features // heads
        head = mesh.get_local_rank() * heads // mesh.size()
        self._rows = slice(head * size, (head + 1) * size)
        adapter = linear.adapter
        self.adapter = None if adapter is None else _LowRank(adapter, adapter.a, adapter.b, self._rows)

    def matrix(self) -> tuple[Tensor, Tensor | None]:
        """Return weight [head size, in] and bias [head size]."""
        return self.weight[self._rows], None if self.bias is None else self.bias[self._rows]


class _Rows(Linear):
    """A linear layer; this rank has some of its inputs, and results are summed and cut along the sequence."""

    def __init__(self, linear: Linear, mesh: DeviceMesh) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = _cut(linear.weight, 1, mesh), linear.bias
        self._group = mesh.get_group()
        adapter = linear.adapter
        self.adapter = None if adapter is None else _LowRank(adapter, _cut(adapter.a, 1, mesh), adapter.b)
        if adapter is not None:
            first, _ = chunk_bounds(linear.in_features, mesh.size(), mesh.get_local_rank())
            adapter.dropout.first_column = first

    def matrix(self) -> tuple[Tensor, Tensor | None]:
        """Return weight [out, in / ranks] and no bias, which is added after the sum."""
        return to_local(self.weight), None

    def forward(self, x: Tensor, inputs: BlockInputs | Inputs | None = None) -> Tensor:
        """Map [batch, length, in / ranks] to [batch, length / ranks, out]."""
        summed = reduce_scatter_sequence(
            super().forward(x, inputs), self._group, in_order=self.tiles is not None
        )
        return summed if self.bias is None else summed + self.bias


class _Embedding(nn.Embedding):
    """An embedding; this rank holds some of its tokens, and the result is cut along the sequence."""

    def __init__(self, embedding: nn.Embedding, mesh: DeviceMesh) -> None:
        nn.Module.__init__(self)
        self.num_embeddings, self.embedding_dim = embedding.num_embeddings, embedding.embedding_dim
        self.padding_idx = self.max_norm = None
        self.weight = _cut(embedding.weight, 0, mesh)
        self._group = mesh.get_group()
        self._first, self._end = chunk_bounds(embedding.num_embeddings, mesh.size(), mesh.get_local_rank())

    def forward(self, tokens: Tensor) -> Tensor:
        """Map int64 [batch, length] to [batch, length / ranks, hidden]."""
        elsewhere = (tokens < self._first) | (tokens >= self._end)
        rows = (tokens - self._first).masked_fill(elsewhere, 0)
        mine = functional.embedding(rows, to_local(self.weight)).masked_fill(elsewhere[..., None], 0.0)
        return reduce_scatter_sequence(mine, self._group)


class _HeadTable(nn.Embedding):
    """A table with a column for each head; this rank holds some of the columns."""

    def __init__(self, table: nn.Embedding, mesh: DeviceMesh) -> None:
        nn.Module.__init__(self)
        self.num_embeddings, self.embedding_dim = table.num_embeddings, table.embedding_dim
        self.padding_idx = self.max_norm = None
        self.weight = _cut(table.weight, 1, mesh)

    def forward(self, rows: Tensor) -> Tensor:
        """Map int64 [...] to [..., heads / ranks]."""
        return functional.embedding(rows, to_local(self.weight))


def _gather_states(group: dist.ProcessGroup, _: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Gather the whole input of attention or feed-forward, before its forward."""
    return tuple(
        gather_sequence(value, group) if isinstance(value, Tensor) and value.ndim == 3 else value
        for value in arguments
    )
