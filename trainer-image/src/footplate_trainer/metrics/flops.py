"""Model FLOPs and what share of the hardware's peak they are. Pure.

Four conventions are in use and differ by up to a third, so a figure without its
convention means little. Here every function says which one it follows, and an
unknown device gives no utilisation at all rather than a guess.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final, Protocol

FORWARD_AND_BACKWARD: Final = 6  # FLOPs per weight and token: 2 forward, 4 backward (Kaplan 2020)
FROZEN: Final = 4  # of a frozen weight: its own gradient is not computed
_ATTENTION: Final = 12  # per layer, head, feature and pair of positions: QK^T and AV, forward and backward
HARDWARE_RATIO: Final = 4 / 3  # full recomputation runs the forward pass twice (PaLM, appendix B)


class Convention(StrEnum):
    """How attention is counted."""

    NONE = "6N"  # all weights, no attention: Kaplan, Chinchilla
    FULL = "full"  # every pair of positions: PaLM, torchtitan
    CAUSAL = "causal"  # the pairs that a causal mask leaves, about half: Megatron


class Network(Protocol):
    """What the count needs to know of a network."""

    @property
    def parameters(self) -> int:
        """All weights but an adapter's, shared ones once."""

    @property
    def adapter_parameters(self) -> int:
        """Weights of adapters; where there are any, the others are frozen."""

    @property
    def blocks(self) -> int:
        """Blocks of the whole chain."""

    @property
    def heads(self) -> int:
        """Query heads."""

    @property
    def head_size(self) -> int:
        """Features of a head."""

    @property
    def hidden(self) -> int:
        """Width of the residual stream."""

    @property
    def vocabulary(self) -> int:
        """Rows of the embedding."""

    @property
    def tied_embeddings(self) -> bool:
        """Whether the output head is the embedding."""


def flops_per_token(network: Network, length: int, convention: Convention) -> float:
    """FLOPs of forward and backward for one token of a sequence of `length`.

    With attention: 6 (N - N_embedding) + 12 L H d_head s, torchtitan's formula;
    looking up an embedding is no multiplication. A tied embedding is the output
    head's matrix as well, and stays.
    """
    if convention is Convention.NONE:
        return weight_flops(network, network.parameters, network.adapter_parameters)
    looked_up = 0 if network.tied_embeddings else network.vocabulary * network.hidden
    weights = weight_flops(network, network.parameters - looked_up, network.adapter_parameters)
    return weights + attention_flops(network, length, convention)


def weight_flops(network: Network, multiplied: float, adapters: float) -> float:
    """FLOPs of forward and backward with so many weights of `network` and of its adapters, for a token."""
    each = FROZEN if network.adapter_parameters else FORWARD_AND_BACKWARD
    return float(each * multiplied + FORWARD_AND_BACKWARD * adapters)


def attention_flops(network: Network, length: int, convention: Convention) -> float:
    """FLOPs of forward and backward of all scores and what they weigh, for a token; not for NONE."""
    attention = _ATTENTION * network.blocks * network.heads * network.head_size * length
    return attention * (1.0 if convention is Convention.FULL else 0.5)


def hardware_flops_per_token(network: Network, length: int, convention: Convention) -> float:
    """What the device computes for it when every activation is computed again in the backward pass."""
    return flops_per_token(network, length, convention) * HARDWARE_RATIO


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
    """Dense bf16 peak of the device in TFLOP/s; None where it is not known.

    >>> peak_tflops("NVIDIA H100 80GB HBM3"), peak_tflops("NVIDIA H100 80GB HBM3 MIG 1g.10gb")
    (989.4, None)
    """
    return next((peak for pattern, peak in _BF16_PEAKS if re.fullmatch(pattern, device_name)), None)


def utilisation(flops_a_token: float, tokens_per_second: float, devices: int, tflops: float) -> float:
    """Model FLOPs utilisation: FLOPs done over those that `devices` of `tflops` each could do, a ratio."""
    return flops_a_token * tokens_per_second / (devices * tflops * 1e12)
