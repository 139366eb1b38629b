"""Builds the network of a shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from footplate_contracts.v1alpha1.model import Architecture
from footplate_planning.shape import ModelShape
from footplate_trainer.model.encoder import Encoder
from footplate_trainer.model.encoder_decoder import EncoderDecoder
from footplate_trainer.model.linear import adapt
from footplate_trainer.model.network import Network
from footplate_trainer.model.transformer import Decoder

_NETWORKS: Final[dict[Architecture, Callable[[ModelShape], Network]]] = {
    Architecture.DECODER: Decoder,
    Architecture.ENCODER: Encoder,
    Architecture.ENCODER_DECODER: EncoderDecoder,
}


def build(shape: ModelShape) -> Network:
    """Build the network of `shape`, its parameters not yet initialized; with adapters, all else is frozen."""
    network = _NETWORKS[shape.architecture](shape)
    if shape.adapter is not None:
        adapt(network, shape)
    return network
