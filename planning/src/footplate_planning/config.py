"""RunConfig for the trainer's modules: small frozen records and derived numbers.

The contract groups fields for the person who writes them; a module here should
see only what it computes with. Nothing below has defaults that the contract has
too: `resolve` in the contracts has filled them all in.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from footplate_contracts.runconfig import RunConfig
from footplate_contracts.stages import STAGES
from footplate_contracts.v1alpha1.adapter import Adapter
from footplate_contracts.v1alpha1.model import Model
from footplate_planning.shape import IN_BLOCKS, AdapterShape, ModelShape

Value = TypeVar("Value")


def model_shape(config: RunConfig) -> ModelShape:
    """Return the network of a resolved RunConfig."""
    shape = replace(shape_of(config.model), embedding_noise=config.training.neftune or 0.0)
    return with_score_head(shape) if STAGES[config.stage].has_score_head else shape


def with_score_head(shape: ModelShape) -> ModelShape:
    """Return `shape` with a head that gives each sequence one score, not tied to the embedding."""
    return replace(shape, labels=1, tied_embeddings=False)


def shape_of(model: Model) -> ModelShape:
    """Return the network of a resolved spec.model."""
    norm, bias, position, dropout = model.norm, model.bias, model.position, model.dropout
    return ModelShape(
        layers=_filled(model.layers),
        hidden=_filled(model.hidden_size),
        feed_forward=_filled(model.feed_forward_size),
        heads=_filled(model.attention_heads),
        key_value_heads=_filled(model.key_value_heads),
        head_size=_filled(model.head_size),
        vocabulary=_filled(model.vocabulary_size),
        context=model.context_length,
        tied_embeddings=_filled(model.tied_embeddings),
        norm_epsilon=_filled(norm.epsilon),
        rope_theta=position.theta,
        architecture=_filled(model.architecture),
        decoder_layers=model.decoder_layers or 0,
        norm=_filled(norm.name),
        activation=_filled(model.activation),
        position=_filled(position.name),
        rope_scaling=position.scaling,
        query_key_value_bias=_filled(bias.query_key_value),
        output_bias=_filled(bias.output),
        feed_forward_bias=_filled(bias.feed_forward),
        attention_backend=model.attention.backend,
        sliding_window=model.attention.sliding_window,
        token_types=_filled(model.token_types),
        relative_buckets=position.buckets,
        relative_distance=position.max_distance,
        hidden_dropout=dropout.hidden,
        attention_dropout=dropout.attention,
        embedding_dropout=dropout.embedding,
        adapter=_adapter(model.adapter),
    )


def _adapter(adapter: Adapter | None) -> AdapterShape | None:
    if adapter is None:
        return None
    targets = tuple(adapter.target_modules or (IN_BLOCKS,))
    return AdapterShape(adapter.rank, _filled(adapter.alpha), adapter.dropout, targets)


def _filled(value: Value | None) -> Value:
    assert value is not None, "resolve() fills this in"
    return value


def total_steps(config: RunConfig) -> int:
    """Return the optimizer steps of the whole run."""
    assert config.training.steps is not None, "resolve() fills this in"
    return config.training.steps
