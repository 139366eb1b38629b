"""Every weight of a network by name and shape, and how tensor ranks cut it, before any network exists. Pure.

Counts of parameters are enough for memory. What a collective moves depends on
more: a shard of few rows is padded, a small vector may be whole where a matrix
is cut, and each pipeline stage has its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

from footplate_contracts.v1alpha1.model import Architecture, NormName, PositionName
from footplate_planning.shape import ModelShape
from footplate_planning.topology import Topology, stage_layers

ROWS, COLUMNS = 0, 1


@dataclass(frozen=True)
class Weight:
    """One parameter; `cut` is the dimension that tensor ranks share, None where each has the whole."""

    name: str
    shape: tuple[int, ...]
    cut: int | None = None

    def here(self, tensor: int) -> tuple[int, ...]:
        """Its shape on one of `tensor` ranks."""
        return tuple(size // tensor if axis == self.cut else size for axis, size in enumerate(self.shape))

    def shard(self, tensor: int, shards: int) -> int:
        """Numbers in the first and largest of `shards` pieces of rows of that."""
        rows, *others = self.here(tensor)
        return -(-rows // shards) * prod(others)


@dataclass(frozen=True)
class Stage:
    """Weights of one pipeline stage: of each block, and of the rest."""

    blocks: tuple[tuple[Weight, ...], ...]
    outside: tuple[Weight, ...]

    @property
    def groups(self) -> tuple[tuple[Weight, ...], ...]:
        """What is gathered and reduced together; a stage may have nothing outside its blocks."""
        return (*self.blocks, self.outside) if self.outside else self.blocks


def inventory(shape: ModelShape, topology: Topology) -> tuple[Stage, ...]:
    """All stages, in the network's order."""
    layers = stage_layers(shape, topology)
    return tuple(
        Stage(
            tuple(tuple(_block(shape, number, topology.tensor)) for number in numbers),
            tuple(_outside(shape, numbers, first=stage == 0, last=stage == len(layers) - 1)),
        )
        for stage, numbers in enumerate(layers)
    )


def _block(shape: ModelShape, number: int, tensor: int) -> Iterator[Weight]:
    prefix = f"blocks.{number}"
    yield from _norm(shape, f"{prefix}.attention_norm")
    yield from _attention(shape, f"{prefix}.attention", tensor)
    if number >= shape.layers:
        yield from _norm(shape, f"{prefix}.cross_attention_norm")
        yield from _attention(shape, f"{prefix}.cross_attention", tensor)
    yield from _norm(shape, f"{prefix}.feed_forward_norm")
    inner = ("gate", "up") if shape.gated else ("up",)
    for name in inner:
        yield from _linear(
            f"{prefix}.feed_forward.{name}", shape.feed_forward, shape.hidden, shape.feed_forward_bias, ROWS
        )
    yield from _linear(
        f"{prefix}.feed_forward.down", shape.hidden, shape.feed_forward, shape.feed_forward_bias, COLUMNS
    )


def _attention(shape: ModelShape, prefix: str, tensor: int) -> Iterator[Weight]:
    query, key_value = shape.heads * shape.head_size, shape.key_value_heads * shape.head_size
    bias = shape.query_key_value_bias
    yield from _linear(f"{prefix}.query", query, shape.hidden, bias, ROWS)
    for name in ("key", "value"):  # fewer heads than ranks: each rank has all of them
        cut = ROWS if shape.key_value_heads >= tensor else None
        yield from _linear(f"{prefix}.{name}", key_value, shape.hidden, bias, cut)
    yield from _linear(f"{prefix}.output", shape.hidden, query, shape.output_bias, COLUMNS)


def _linear(name: str, rows: int, columns: int, bias: bool, cut: int | None) -> Iterator[Weight]:
    yield Weight(f"{name}.weight", (rows, columns), cut)
    if bias:  # added behind the sum where columns are cut
        yield Weight(f"{name}.bias", (rows,), ROWS if cut == ROWS else None)


def _norm(shape: ModelShape, name: str) -> Iterator[Weight]:
    yield Weight(f"{name}.weight", (shape.hidden,))
    if shape.norm is NormName.LAYER:
        yield Weight(f"{name}.bias", (shape.hidden,))


def _outside(shape: ModelShape, blocks: Sequence[int], first: bool, last: bool) -> Iterator[Weight]:
    table = (shape.vocabulary, shape.hidden)
    if first or (last and shape.tied_embeddings):
        yield Weight("embedding.weight", table, ROWS)
    if last and not shape.tied_embeddings:
        yield Weight("head.weight", table, ROWS)
    if first and shape.position is PositionName.LEARNED:
        yield Weight("positions.weight", (shape.context, shape.hidden))
    if last:
        yield from _norm(shape, "norm")
    if shape.architecture is Architecture.ENCODER:
        yield from _around_encoder(shape, first, last)
    if shape.architecture is Architecture.ENCODER_DECODER:
        yield from _between_chains(shape, blocks)


def _around_encoder(shape: ModelShape, first: bool, last: bool) -> Iterator[Weight]:
    if first and shape.token_types:
        yield Weight("token_types.weight", (shape.token_types, shape.hidden))
    if first:
        yield from _norm(shape, "embedding_norm")
    if last:
        yield from _linear("transform", shape.hidden, shape.hidden, bias=True, cut=None)
        yield Weight("head_bias", (shape.vocabulary,), ROWS)


def _between_chains(shape: ModelShape, blocks: Sequence[int]) -> Iterator[Weight]:
    """Every stage with blocks of a chain has the chain's table of biases."""
    table = (shape.relative_buckets, shape.heads)
    if any(number < shape.layers for number in blocks):
        yield Weight("encoder_bias.weight", table, COLUMNS)
    if any(number >= shape.layers for number in blocks):
        yield Weight("decoder_bias.weight", table, COLUMNS)
    if shape.layers - 1 in blocks:
        yield from _norm(shape, "encoder_norm")
