"""Model FLOPs, and utilisation of the hardware's peak. Pure.

Four conventions are in use and differ by up to a third, so a figure without its
convention means little. Here every function names its convention, and an
unknown device gives no utilisation at all rather than a guess.
"""

from __future__ import annotations

import re
from enum import StrEnum
from functools import lru_cache
from typing import Final

from footplate_contracts.v1alpha1.model import Architecture
from footplate_planning.shape import ModelShape

FORWARD_AND_BACKWARD: Final = 6  # FLOPs per weight and token: 2 forward, 4 backward (Kaplan 2020)
FROZEN: Final = 4  # of a frozen weight: its own gradient is not computed
_ATTENTION: Final = 12  # per layer, head, feature and pair of positions: QK^T and AV, forward and backward


class Convention(StrEnum):
    """Convention for counting attention."""

    NONE = "6N"  # all weights, no attention: Kaplan, Chinchilla
    FULL = "full"  # every pair of positions: PaLM, torchtitan
    CAUSAL = "causal"  # the pairs that a causal mask leaves, about half: Megatron


@lru_cache(maxsize=16)  # each step's metric row asks
def flops_per_token(shape: ModelShape, length: int, convention: Convention, decoder_length: int = 0) -> float:
    """Return the FLOPs of forward and backward for one token of a sequence of `length`.

    With attention: 6 (N - N_embedding) + 12 L H d_head s, torchtitan's formula;
    looking up an embedding is no multiplication. A tied embedding is the output
    head's matrix as well, and stays. Behind an encoder, the decoder's share of the
    sequence comes on top, with `decoder_length` tokens of its own.
    """
    if convention is Convention.NONE:
        return _weights(shape, shape.parameters, shape.adapter_parameters)
    blocks = sum(
        block_flops(shape, number, length, convention, decoder_length) for number in range(shape.blocks)
    )
    return (blocks + head_flops(shape, length, decoder_length)) / length


def block_flops(
    shape: ModelShape, number: int, length: int, convention: Convention, decoder_length: int = 0
) -> float:
    """Return the FLOPs of block `number` for one sequence; `convention` is one with attention.

    A causal mask leaves half of the pairs of a decoder's own positions, and all of
    an encoder's and of those between the two.
    """
    causal = 0.5 if convention is Convention.CAUSAL else 1.0
    adapters = _adapters(shape, f"blocks.{number}.")
    if number < shape.layers:
        seen = causal if shape.architecture is Architecture.DECODER else 1.0
        weights = _weights(shape, shape.block_parameters(number), adapters) * length
        return weights + seen * _attention(shape, length, length)
    # Keys and values of what the encoder made.
    across = 2 * shape.hidden * shape.key_value_heads * shape.head_size
    adapters_across = sum(_adapters(shape, f"blocks.{number}.cross_attention.{n}") for n in ("key", "value"))
    own = _weights(shape, shape.block_parameters(number) - across, adapters - adapters_across)
    weights = own * decoder_length + _weights(shape, across, adapters_across) * length
    attention = causal * _attention(shape, decoder_length, decoder_length)
    return weights + attention + _attention(shape, decoder_length, length)


def head_flops(shape: ModelShape, length: int, decoder_length: int = 0) -> float:
    """Return the FLOPs behind the last block, for one sequence."""
    tied = shape.projection if shape.tied_embeddings else 0
    adapters = _adapters(shape, "transform") + _adapters(shape, "head")
    return _weights(shape, shape.head_parameters + tied, adapters) * (decoder_length or length)


def _weights(shape: ModelShape, multiplied: int, adapters: int) -> float:
    """Return the FLOPs a token of so many weights of the network and of its adapters."""
    each = FORWARD_AND_BACKWARD if shape.adapter is None else FROZEN
    return float(each * multiplied + FORWARD_AND_BACKWARD * adapters)


def _adapters(shape: ModelShape, prefix: str) -> int:
    """Count the weights of the adapters of all layers whose names begin with `prefix`."""
    return sum(count for name, count in _adapters_by_name(shape) if name.startswith(prefix))


@lru_cache(maxsize=4)
def _adapters_by_name(shape: ModelShape) -> list[tuple[str, int]]:
    adapter = shape.adapter
    if adapter is None:
        return []
    return [(name, adapter.parameters(*sizes)) for name, sizes in shape.adapted_layers().items()]


def _attention(shape: ModelShape, queries: int, keys: int) -> float:
    return float(_ATTENTION * shape.heads * shape.head_size * queries * keys)


# Dense bf16 TFLOP/s, from the vendors' data sheets, by the whole name that torch gives the device: a
# slice of a device (MIG) or a variant with other clocks must not match. V100 has no bf16 units.
_BF16_PEAKS: Final = (
    (r"NVIDIA A100-(SXM4|PCIE|PCIe)-\d+GB|NVIDIA A100 80GB PCIe", 312.0),
    (r"NVIDIA H100 \d+GB HBM3e?", 989.4),
    (r"NVIDIA H100 NVL", 835.0),
    (r"NVIDIA H100 PCIe", 756.0),
    (r"NVIDIA H200", 989.0),
    (r"NVIDIA B200", 2250.0),
    (r"NVIDIA GB200", 2500.0),
    (r"AMD Instinct MI300X", 1307.0),
    (r"NVIDIA L40S", 362.0),
)


def peak_tflops(device_name: str) -> float | None:
    """Return the device's dense bf16 peak in TFLOP/s; None if it is not known.

    >>> peak_tflops("NVIDIA H100 80GB HBM3"), peak_tflops("NVIDIA H100 80GB HBM3 MIG 1g.10gb")
    (989.4, None)
    """
    return next((peak for pattern, peak in _BF16_PEAKS if re.fullmatch(pattern, device_name)), None)


def utilisation(flops_a_token: float, tokens_per_second: float, devices: int, tflops: float) -> float:
    """Return the model FLOPs utilisation: FLOPs done over the peak of `devices` of `tflops` each, a ratio."""
    return flops_a_token * tokens_per_second / (devices * tflops * 1e12)
