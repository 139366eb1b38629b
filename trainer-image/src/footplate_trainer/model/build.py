"""From a shape to its network."""

from __future__ import annotations

from footplate_contracts.v1alpha1.model import Architecture
from footplate_planning.shape import ModelShape
from footplate_trainer.model.encoder import Encoder
from footplate_trainer.model.encoder_decoder import EncoderDecoder
from footplate_trainer.model.linear import adapt
from footplate_trainer.model.network import Network
from footplate_trainer.model.transformer import Decoder


def build(shape: ModelShape) -> Network:
    """The network of `shape`, its parameters not yet initialised; with adapters, all else is frozen."""
    network = _plain(shape)
    if shape.adapter is not None:
        adapt(network, shape)
    return network


def _plain(shape: ModelShape) -> Network:
    match shape.architecture:
        case Architecture.DECODER:
            return Decoder(shape)
        case Architecture.ENCODER:
            return Encoder(shape)
        case Architecture.ENCODER_DECODER:
            return EncoderDecoder(shape)
