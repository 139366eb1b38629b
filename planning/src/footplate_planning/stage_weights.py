"""Weights of each pipeline stage, and their cuts among tensor ranks, before any network exists. Pure.

Counts of parameters are enough for memory. The bytes of a collective depend on
more: a shard of few rows is padded, a small vector may be whole where a matrix
is cut, and each pipeline stage has its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from footplate_planning.shape import (
    COLUMNS,
    ROWS,
    ModelShape,
    Weight,
    block_weights,
    weights_before_blocks,
    weights_behind_blocks,
)
from footplate_planning.topology import Topology, stage_layers


@dataclass(frozen=True)
class StageWeights:
    """Weights of one pipeline stage: of each block, and of the rest, each adapter's behind its layer's."""

    blocks: tuple[tuple[Weight, ...], ...]
    outside: tuple[Weight, ...]

    @property
    def groups(self) -> tuple[tuple[Weight, ...], ...]:
        """Weights that are gathered and reduced together; a stage may have nothing outside its blocks."""
        return (*self.blocks, self.outside) if self.outside else self.blocks


def list_stage_weights(shape: ModelShape, topology: Topology) -> tuple[StageWeights, ...]:
    """Return all stages, in the network's order."""
    layers = stage_layers(shape, topology)
    adapted = shape.adapted_layers() if shape.adapter else {}
    behind = _adapted(shape, adapted, weights_behind_blocks(shape))
    outside = [*weights_before_blocks(shape), *behind]
    return tuple(
        StageWeights(
            tuple(
                tuple(
                    _shared(weight, topology.tensor)
                    for weight in _adapted(shape, adapted, block_weights(shape, number))
                )
                for number in numbers
            ),
            tuple(
                weight
                for weight in outside
                if _is_in(weight, shape, numbers, first=stage == 0, last=stage == len(layers) - 1)
            ),
        )
        for stage, numbers in enumerate(layers)
    )


def _adapted(
    shape: ModelShape, layers: Mapping[str, tuple[int, int]], weights: Iterable[Weight]
) -> Iterator[Weight]:
    """Yield `weights` and, behind each of `layers`, its adapter's A and B.

    The matrix that meets the cut side of the layer is cut.
    """
    for weight in weights:
        yield weight
        layer = weight.name.removesuffix(".weight")
        if weight.linear and layer in layers and shape.adapter is not None:
            (inputs, outputs), rank = layers[layer], shape.adapter.rank
            cut_a, cut_b = (weight.cut if weight.cut == side else None for side in (COLUMNS, ROWS))
            yield Weight(f"{layer}.adapter.a", (rank, inputs), cut_a)
            yield Weight(f"{layer}.adapter.b", (outputs, rank), cut_b, weight.heads)


def _shared(weight: Weight, tensor: int) -> Weight:
    """Return `weight` as `tensor` ranks have it: uncut where there are fewer heads than ranks."""
    return replace(weight, cut=None) if weight.heads is not None and weight.heads < tensor else weight


def _is_in(weight: Weight, shape: ModelShape, blocks: Collection[int], *, first: bool, last: bool) -> bool:
    """Return whether a stage with these blocks has a weight outside of blocks."""
    match weight.name.partition(".")[0]:
        case "embedding":
            return first or (last and shape.tied_embeddings)
        case "encoder_bias":  # every stage with blocks of a chain has the chain's table
            return any(number < shape.layers for number in blocks)
        case "decoder_bias":
            return any(number >= shape.layers for number in blocks)
        case "encoder_norm":
            return shape.layers - 1 in blocks
        case "norm" | "transform" | "head_bias" | "head" | "score":
            return last
    return first
