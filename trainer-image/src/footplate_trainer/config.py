"""RunConfig as the trainer's modules want it: small frozen records and derived numbers.

The contract groups fields for the person who writes them; a module here should
see only what it computes with. Nothing below has defaults that the contract has
too: `resolve` in the contracts has filled them all in.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from footplate_contracts.runconfig import RunConfig
from footplate_trainer.shape import ModelShape


def model_shape(config: RunConfig) -> ModelShape:
    """The network of a resolved RunConfig."""
    model = config.model
    assert model.feed_forward_size and model.key_value_heads and model.head_size, "resolve() fills these in"
    return ModelShape(
        layers=model.layers,
        hidden=model.hidden_size,
        feed_forward=model.feed_forward_size,
        heads=model.attention_heads,
        key_value_heads=model.key_value_heads,
        head_size=model.head_size,
        vocabulary=model.vocabulary_size,
        context=model.context_length,
        tied_embeddings=model.tied_embeddings,
        norm_epsilon=model.norm.epsilon,
        rope_theta=model.position.theta,
    )


def total_steps(config: RunConfig) -> int:
    """Optimizer steps of the whole run."""
    assert config.training.steps is not None, "resolve() fills this in"
    return config.training.steps


def local_path(uri: str) -> Path:
    """The path of a plain path or file:// URI (the contracts refuse every other scheme)."""
    return Path(unquote(urlsplit(uri).path)) if uri.startswith("file://") else Path(uri)
