"""Builds the network of a shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from footplate_contracts.v1alpha1.model import Architecture
from footplate_planning.shape import ModelShape
from footplate_trainer.model.decoder import Decoder
from footplate_trainer.model.encoder import Encoder
from footplate_trainer.model.encoder_decoder import EncoderDecoder
from footplate_trainer.model.linear import add_adapters
from footplate_trainer.model.network import TransformerNetwork

_NETWORKS: Final[dict[Architecture, Callable[[ModelShape], TransformerNetwork]]] = {
    Architecture.DECODER: Decoder,
    Architecture.ENCODER: Encoder,
    Architecture.ENCODER_DECODER: EncoderDecoder,
}


def build_network(shape: ModelShape) -> TransformerNetwork:
    """Build the network of `shape`, its parameters not yet initialized; with adapters, all else is frozen."""
    network = _NETWORKS[shape.architecture](shape)
    if shape.adapter is not None:
        add_adapters(network, shape)
    return network
