"""Converts transformers' config.json to spec.model and back; pure.

Only settings that determine the network are read. A setting that would make it another network than ours is
refused by name, in any family: a model that is nearly right is worse than none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from footplate_contracts.families import resolve_model
from footplate_contracts.v1alpha1.model import (
    Activation,
    Attention,
    Bias,
    Family,
    Model,
    Norm,
    NormName,
    Position,
    PositionName,
    RopeScaling,
)
from footplate_planning.model_overrides import is_overridable, model_differences

Config = Mapping[str, Any]

_DECODER_ACTIVATIONS: Final = {"silu": Activation.SWIGLU, "swish": Activation.SWIGLU}
_PLAIN_ACTIVATIONS: Final = {
    "gelu": Activation.GELU,
    "gelu_new": Activation.GELU_TANH,
    "gelu_pytorch_tanh": Activation.GELU_TANH,
    "relu": Activation.RELU,
}
_T5_ACTIVATIONS: Final = {
    "relu": Activation.RELU,
    "gated-gelu": Activation.GEGLU,
    "gated-silu": Activation.SWIGLU,
    "gelu_new": Activation.GELU_TANH,
}
_COMMON_SIZES: Final = {
    "layers": "num_hidden_layers",
    "hidden_size": "hidden_size",
    "feed_forward_size": "intermediate_size",
    "attention_heads": "num_attention_heads",
    "vocabulary_size": "vocab_size",
    "context_length": "max_position_embeddings",
}
_LLAMA_SIZES: Final = {**_COMMON_SIZES, "key_value_heads": "num_key_value_heads", "head_size": "head_dim"}
# What the sizes of spec.model are called there, by family. Those that a config may leave out are _OPTIONAL.
_SIZES: Final[dict[Family, dict[str, str]]] = {
    Family.LLAMA: _LLAMA_SIZES,
    Family.MISTRAL: _LLAMA_SIZES,
    Family.QWEN2: _LLAMA_SIZES,
    Family.GPT2: {
        "layers": "n_layer",
        "hidden_size": "n_embd",
        "feed_forward_size": "n_inner",
        "attention_heads": "n_head",
        "vocabulary_size": "vocab_size",
        "context_length": "n_positions",
    },
    Family.BERT: {**_COMMON_SIZES, "token_types": "type_vocab_size"},
    Family.T5: {
        "layers": "num_layers",
        "decoder_layers": "num_decoder_layers",
        "hidden_size": "d_model",
        "feed_forward_size": "d_ff",
        "attention_heads": "num_heads",
        "head_size": "d_kv",
        "vocabulary_size": "vocab_size",
        "context_length": "n_positions",
    },
}
_OPTIONAL: Final = ("num_key_value_heads", "head_dim")
# Settings with another effect than ours at any but these values, by family.
_EXPECTED: Final[dict[Family, dict[str, object]]] = {
    Family.GPT2: {
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "add_cross_attention": False,
    },
    Family.BERT: {"is_decoder": False, "add_cross_attention": False, "position_embedding_type": "absolute"},
    Family.T5: {"is_encoder_decoder": True},
}
_ALL_BIASED: Final = Bias(query_key_value=True, output=True, feed_forward=True)
T5_CONTEXT: Final = 512  # relative positions have no length of their own; T5's training had this


def model_of(config: Config) -> Model:
    """Return the resolved spec.model of config.json; its contextLength is the longest possible.

    Raises ValueError that names the setting, for a setting without a network of ours.
    """
    kind = config.get("model_type")
    if kind not in _TRANSLATORS:
        known = ", ".join(family.value for family in _TRANSLATORS)
        raise ValueError(f"model_type {kind!r} is not one of {known}")
    family = Family(kind)
    for setting, value in _EXPECTED.get(family, {}).items():
        if config.get(setting, value) != value:
            raise ValueError(f"{setting} {config[setting]!r} is not supported, only {value!r}")
    read, _ = _TRANSLATORS[family]
    try:
        return resolve_model(read(family, config))
    except KeyError as error:
        raise ValueError(f"{error.args[0]} is missing") from None


def config_of(model: Model) -> dict[str, Any]:
    """Return config.json of a resolved spec.model, without token ids.

    Raises ValueError when the family cannot express the model.
    """
    assert model.family is not None, "resolve_model fills this in"
    sizes = {theirs: getattr(model, ours) for ours, theirs in _SIZES[model.family].items()}
    _, write = _TRANSLATORS[model.family]
    config = {"model_type": model.family, **sizes, **write(model)}
    lost = [
        path for path, ours, theirs in model_differences(model, model_of(config)) if not is_overridable(path)
    ]
    if lost:
        raise ValueError(
            f"the transformers config of {model.family} cannot express {', '.join(lost)} of this model; "
            "train another family, or with that family's defaults"
        )
    return config


def _sizes_in(config: Config, family: Family) -> dict[str, Any]:
    return {
        ours: config.get(theirs) if theirs in _OPTIONAL else config[theirs]
        for ours, theirs in _SIZES[family].items()
    }


def _activation(config: Config, key: str, default: str, known: Mapping[str, Activation]) -> Activation:
    name = config.get(key, default)
    if name not in known:
        raise ValueError(f"{key} {name!r} is not one of {', '.join(known)}")
    return known[name]


def _word(activation: Activation | None, known: Mapping[str, Activation]) -> str:
    """Return an activation's name, or if it has none any other; the caller detects the difference."""
    return next((word for word, meant in known.items() if meant is activation), next(iter(known)))


def _rope(config: Config) -> Position:
    """Return the position settings of a Llama-like config, in the format of transformers 5 or earlier."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    theta = rope.get("rope_theta", config.get("rope_theta", 10000.0))
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise ValueError(f"partial_rotary_factor {rope['partial_rotary_factor']} is not supported, only 1")
    if kind == "default":
        return Position(name=PositionName.ROPE, theta=theta)
    if kind != "llama3":
        raise ValueError(f"rope_type {kind!r} is not one of default, llama3")
    scaling = RopeScaling(
        factor=rope["factor"],
        low_frequency_factor=rope["low_freq_factor"],
        high_frequency_factor=rope["high_freq_factor"],
        original_context_length=rope["original_max_position_embeddings"],
    )
    return Position(name=PositionName.ROPE, theta=theta, scaling=scaling)


def _window(family: Family, config: Config) -> int | None:
    """Return the sliding window of all layers, or None; ValueError when only some layers have one."""
    window: int | None = config.get("sliding_window")
    if family is Family.LLAMA or window is None:
        return None
    if family is Family.QWEN2:
        kinds = set(config.get("layer_types") or ())
        if not config.get("use_sliding_window", False) or kinds == {"full_attention"}:
            return None
        if config.get("max_window_layers", 28) != 0 and kinds != {"sliding_attention"}:
            raise ValueError("sliding_window in only some layers is not supported; set it in all or none")
    return window


def _read_llama(family: Family, config: Config) -> Model:
    biased = family is Family.QWEN2 or config.get("attention_bias", False)
    return Model(
        family=family,
        **_sizes_in(config, family),
        tied_embeddings=config.get("tie_word_embeddings", False),
        norm=Norm(name=NormName.RMS, epsilon=config["rms_norm_eps"]),
        activation=_activation(config, "hidden_act", "silu", _DECODER_ACTIVATIONS),
        bias=Bias(
            query_key_value=biased,
            output=biased and family is Family.LLAMA,
            feed_forward=config.get("mlp_bias", False),
        ),
        position=_rope(config),
        attention=Attention(sliding_window=_window(family, config)),
    )


def _write_llama(model: Model) -> dict[str, Any]:
    scaling, window = model.position.scaling, model.attention.sliding_window
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": model.position.theta}
    if scaling is not None:
        rope |= {
            "rope_type": "llama3",
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_frequency_factor,
            "high_freq_factor": scaling.high_frequency_factor,
            "original_max_position_embeddings": scaling.original_context_length,
        }
    config: dict[str, Any] = {
        "architectures": [f"{str(model.family).capitalize()}ForCausalLM"],
        "tie_word_embeddings": model.tied_embeddings,
        "rms_norm_eps": model.norm.epsilon,
        "hidden_act": _word(model.activation, _DECODER_ACTIVATIONS),
        "rope_parameters": rope,
        # For readers before transformers 5, which know no rope_parameters.
        "rope_theta": model.position.theta,
        "rope_scaling": None if scaling is None else rope,
        "attention_dropout": model.dropout.attention,
        "initializer_range": model.initialization.standard_deviation,
    }
    if model.family is Family.LLAMA:
        config |= {"attention_bias": model.bias.query_key_value, "mlp_bias": model.bias.feed_forward}
    elif model.family is Family.MISTRAL:
        config["sliding_window"] = window
    else:
        config |= {"use_sliding_window": window is not None, "sliding_window": window}
        config["max_window_layers"] = model.layers if window is None else 0
    return config


def _read_gpt2(family: Family, config: Config) -> Model:
    return Model(
        family=family,
        **_sizes_in({**config, "n_inner": config.get("n_inner") or 4 * config["n_embd"]}, family),
        tied_embeddings=config.get("tie_word_embeddings", True),
        norm=Norm(name=NormName.LAYER, epsilon=config.get("layer_norm_epsilon", 1e-5)),
        activation=_activation(config, "activation_function", "gelu_new", _PLAIN_ACTIVATIONS),
        bias=_ALL_BIASED,
        position=Position(name=PositionName.LEARNED),
    )


def _write_gpt2(model: Model) -> dict[str, Any]:
    return {
        "architectures": ["GPT2LMHeadModel"],
        "tie_word_embeddings": model.tied_embeddings,
        "layer_norm_epsilon": model.norm.epsilon,
        "activation_function": _word(model.activation, _PLAIN_ACTIVATIONS),
        "resid_pdrop": model.dropout.hidden,
        "attn_pdrop": model.dropout.attention,
        "embd_pdrop": model.dropout.embedding,
        "initializer_range": model.initialization.standard_deviation,
    }


def _read_bert(family: Family, config: Config) -> Model:
    return Model(
        family=family,
        **_sizes_in(config, family),
        tied_embeddings=config.get("tie_word_embeddings", True),
        norm=Norm(name=NormName.LAYER, epsilon=config.get("layer_norm_eps", 1e-12)),
        activation=_activation(config, "hidden_act", "gelu", _PLAIN_ACTIVATIONS),
        bias=_ALL_BIASED,
        position=Position(name=PositionName.LEARNED),
    )


def _write_bert(model: Model) -> dict[str, Any]:
    return {
        "architectures": ["BertForMaskedLM"],
        "tie_word_embeddings": model.tied_embeddings,
        "layer_norm_eps": model.norm.epsilon,
        "hidden_act": _word(model.activation, _PLAIN_ACTIVATIONS),
        "hidden_dropout_prob": model.dropout.hidden,
        "attention_probs_dropout_prob": model.dropout.attention,
        "initializer_range": model.initialization.standard_deviation,
    }


def _read_t5(family: Family, config: Config) -> Model:
    # transformers 5 writes tie_word_embeddings true for all, and tells by scaling which have a head.
    untied = not config.get("tie_word_embeddings", True) or not config.get("scale_decoder_outputs", True)
    decoder = config.get("num_decoder_layers") or config["num_layers"]
    return Model(
        family=family,
        **_sizes_in({"n_positions": T5_CONTEXT, **config, "num_decoder_layers": decoder}, family),
        tied_embeddings=not untied,
        norm=Norm(name=NormName.RMS, epsilon=config.get("layer_norm_epsilon", 1e-6)),
        activation=_activation(config, "feed_forward_proj", "relu", _T5_ACTIVATIONS),
        position=Position(
            name=PositionName.RELATIVE,
            buckets=config.get("relative_attention_num_buckets", 32),
            max_distance=config.get("relative_attention_max_distance", 128),
        ),
    )


def _write_t5(model: Model) -> dict[str, Any]:
    return {
        "architectures": ["T5ForConditionalGeneration"],
        "is_encoder_decoder": True,
        "tie_word_embeddings": model.tied_embeddings,
        "layer_norm_epsilon": model.norm.epsilon,
        "feed_forward_proj": _word(model.activation, _T5_ACTIVATIONS),
        "relative_attention_num_buckets": model.position.buckets,
        "relative_attention_max_distance": model.position.max_distance,
        "dropout_rate": model.dropout.hidden,
    }


_LLAMA: Final = (_read_llama, _write_llama)
# From config.json and back, by family.
_TRANSLATORS: Final[dict[Family, tuple[Callable[[Family, Config], Model], Callable[[Model], Config]]]] = {
    Family.LLAMA: _LLAMA,
    Family.MISTRAL: _LLAMA,
    Family.QWEN2: _LLAMA,
    Family.GPT2: (_read_gpt2, _write_gpt2),
    Family.BERT: (_read_bert, _write_bert),
    Family.T5: (_read_t5, _write_t5),
}
