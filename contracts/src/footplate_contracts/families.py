"""Defaults of each family of models.

The values are those of the published models, so that `family: gpt2` with
GPT-2's sizes is GPT-2. A stated value wins, and any mixture that the rules of
`spec.model` allow is a model; another library may have no name for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeVar

from footplate_contracts.v1alpha1.adapter import Adapter
from footplate_contracts.v1alpha1.model import (
    Activation,
    Architecture,
    Bias,
    Family,
    Model,
    NormName,
    PositionName,
)

Value = TypeVar("Value")


@dataclass(frozen=True)
class FamilyDefaults:
    """Defaults of one family."""

    architecture: Architecture = Architecture.DECODER
    norm: NormName = NormName.RMS
    epsilon: float = 1e-5
    activation: Activation = Activation.SWIGLU
    query_key_value_bias: bool = False
    other_biases: bool = False
    position: PositionName = PositionName.ROPE
    tied_embeddings: bool = False
    token_types: int = 0


FAMILY_DEFAULTS: Final[dict[Family, FamilyDefaults]] = {
    Family.LLAMA: FamilyDefaults(),
    Family.MISTRAL: FamilyDefaults(),
    Family.QWEN2: FamilyDefaults(epsilon=1e-6, query_key_value_bias=True),
    Family.GPT2: FamilyDefaults(
        norm=NormName.LAYER,
        activation=Activation.GELU_TANH,
        query_key_value_bias=True,
        other_biases=True,
        position=PositionName.LEARNED,
        tied_embeddings=True,
    ),
    Family.BERT: FamilyDefaults(
        architecture=Architecture.ENCODER,
        norm=NormName.LAYER,
        epsilon=1e-12,
        activation=Activation.GELU,
        query_key_value_bias=True,
        other_biases=True,
        position=PositionName.LEARNED,
        tied_embeddings=True,
        token_types=2,
    ),
    Family.T5: FamilyDefaults(
        architecture=Architecture.ENCODER_DECODER,
        epsilon=1e-6,
        activation=Activation.RELU,
        position=PositionName.RELATIVE,
        tied_embeddings=True,
    ),
}
_FIRST_OF: Final = {
    Architecture.DECODER: Family.LLAMA,
    Architecture.ENCODER: Family.BERT,
    Architecture.ENCODER_DECODER: Family.T5,
}


def family_of(model: Model) -> Family:
    """Return the stated family, else the first of the stated architecture, else llama."""
    return model.family or _FIRST_OF[model.architecture or Architecture.DECODER]


def resolve_model(model: Model) -> Model:
    """Fill in all that the family of `model` implies; ValueError where its sizes are not stated."""
    if model.hidden_size is None or model.attention_heads is None:
        raise ValueError(
            f"model.hiddenSize {model.hidden_size} and model.attentionHeads {model.attention_heads}: both are"
            " required, unless initFrom names a folder that has them"
        )
    family = family_of(model)
    defaults = FAMILY_DEFAULTS[family]
    activation = model.activation or defaults.activation
    behind = defaults.architecture is Architecture.ENCODER_DECODER
    return model.model_copy(
        update={
            "architecture": defaults.architecture,
            "family": family,
            "decoder_layers": (model.decoder_layers or model.layers) if behind else None,
            "feed_forward_size": model.feed_forward_size or _feed_forward(model.hidden_size, activation),
            "key_value_heads": model.key_value_heads or model.attention_heads,
            "head_size": model.head_size or model.hidden_size // model.attention_heads,
            "tied_embeddings": _stated(model.tied_embeddings, defaults.tied_embeddings),
            "token_types": _stated(model.token_types, defaults.token_types),
            "norm": model.norm.model_copy(
                update={
                    "name": model.norm.name or defaults.norm,
                    "epsilon": _stated(model.norm.epsilon, defaults.epsilon),
                }
            ),
            "activation": activation,
            "bias": Bias(
                query_key_value=_stated(model.bias.query_key_value, defaults.query_key_value_bias),
                output=_stated(model.bias.output, defaults.other_biases),
                feed_forward=_stated(model.bias.feed_forward, defaults.other_biases),
            ),
            "position": model.position.model_copy(update={"name": model.position.name or defaults.position}),
            "adapter": _resolve_adapter(model.adapter),
        }
    )


def _resolve_adapter(adapter: Adapter | None) -> Adapter | None:
    if adapter is None:
        return None
    return adapter.model_copy(update={"alpha": _stated(adapter.alpha, float(adapter.rank))})


def _stated(value: Value | None, default: Value) -> Value:
    return default if value is None else value


def _feed_forward(hidden_size: int, activation: Activation) -> int:
    """Return 4 x hidden; with a gate, which makes three matrices of two, 2/3 of it up to a multiple of 32."""
    gated = activation in (Activation.SWIGLU, Activation.GEGLU)
    return -(-8 * hidden_size // (3 * 32)) * 32 if gated else 4 * hidden_size
