"""Names of our parameters in transformers, family by family; pure.

Most are one tensor under another name. GPT-2 stores its matrices transposed and query, key and value in one:
such a parameter is some of the columns there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from footplate_contracts.v1alpha1.model import Family
from footplate_planning.shape import ModelShape


@dataclass(frozen=True)
class ParameterLocation:
    """A parameter's location: the whole of tensor `name`, or one of `parts` equal parts of its rows.

    `transposed`: there, rows are columns (of matrices).
    """

    name: str
    transposed: bool = False
    part: int = 0
    parts: int = 1


@dataclass(frozen=True)
class Naming:
    """The names of one family. Keys and values are modules; {n} is a block's number.

    Files that hold the model without its head omit `prefix`. `other` is a pattern of tensors that may be
    there and duplicate others, or that we do not use.
    """

    modules: Mapping[str, ParameterLocation]
    prefix: str
    other: str = r"$^"
    bare: frozenset[str] = field(default_factory=frozenset)  # parameters, not modules


def _plain(names: Mapping[str, str]) -> dict[str, ParameterLocation]:
    return {ours: ParameterLocation(theirs) for ours, theirs in names.items()}


_LLAMA = Naming(
    _plain(
        {
            "embedding": "model.embed_tokens",
            "blocks.{n}.attention_norm": "model.layers.{n}.input_layernorm",
            "blocks.{n}.attention.query": "model.layers.{n}.self_attn.q_proj",
            "blocks.{n}.attention.key": "model.layers.{n}.self_attn.k_proj",
            "blocks.{n}.attention.value": "model.layers.{n}.self_attn.v_proj",
            "blocks.{n}.attention.output": "model.layers.{n}.self_attn.o_proj",
            "blocks.{n}.feed_forward_norm": "model.layers.{n}.post_attention_layernorm",
            "blocks.{n}.feed_forward.gate": "model.layers.{n}.mlp.gate_proj",
            "blocks.{n}.feed_forward.up": "model.layers.{n}.mlp.up_proj",
            "blocks.{n}.feed_forward.down": "model.layers.{n}.mlp.down_proj",
            "norm": "model.norm",
            "head": "lm_head",
            "score": "score",
        }
    ),
    prefix="model.",
    other=r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq",
)
_GPT2 = Naming(
    {
        "embedding": ParameterLocation("transformer.wte"),
        "positions": ParameterLocation("transformer.wpe"),
        "blocks.{n}.attention_norm": ParameterLocation("transformer.h.{n}.ln_1"),
        **{
            f"blocks.{{n}}.attention.{ours}": ParameterLocation(
                "transformer.h.{n}.attn.c_attn", True, part, 3
            )
            for part, ours in enumerate(("query", "key", "value"))
        },
        "blocks.{n}.attention.output": ParameterLocation("transformer.h.{n}.attn.c_proj", transposed=True),
        "blocks.{n}.feed_forward_norm": ParameterLocation("transformer.h.{n}.ln_2"),
        "blocks.{n}.feed_forward.up": ParameterLocation("transformer.h.{n}.mlp.c_fc", transposed=True),
        "blocks.{n}.feed_forward.down": ParameterLocation("transformer.h.{n}.mlp.c_proj", transposed=True),
        "norm": ParameterLocation("transformer.ln_f"),
        "head": ParameterLocation("lm_head"),
        "score": ParameterLocation("score"),
    },
    prefix="transformer.",
    other=r"(transformer\.)?h\.\d+\.attn\.(masked_)?bias",
)
_BERT = Naming(
    _plain(
        {
            "embedding": "bert.embeddings.word_embeddings",
            "positions": "bert.embeddings.position_embeddings",
            "token_types": "bert.embeddings.token_type_embeddings",
            "embedding_norm": "bert.embeddings.LayerNorm",
            "blocks.{n}.attention.query": "bert.encoder.layer.{n}.attention.self.query",
            "blocks.{n}.attention.key": "bert.encoder.layer.{n}.attention.self.key",
            "blocks.{n}.attention.value": "bert.encoder.layer.{n}.attention.self.value",
            "blocks.{n}.attention.output": "bert.encoder.layer.{n}.attention.output.dense",
            "blocks.{n}.attention_norm": "bert.encoder.layer.{n}.attention.output.LayerNorm",
            "blocks.{n}.feed_forward.up": "bert.encoder.layer.{n}.intermediate.dense",
            "blocks.{n}.feed_forward.down": "bert.encoder.layer.{n}.output.dense",
            "blocks.{n}.feed_forward_norm": "bert.encoder.layer.{n}.output.LayerNorm",
            "transform": "cls.predictions.transform.dense",
            "norm": "cls.predictions.transform.LayerNorm",
            "head": "cls.predictions.decoder",
            "head_bias": "cls.predictions.bias",
        }
    ),
    prefix="bert.",
    other=r"bert\.pooler\..*|cls\.seq_relationship\..*|.*\.position_ids|cls\.predictions\.decoder\.bias",
    bare=frozenset({"head_bias"}),
)
_T5_LAYERS = {
    "encoder": {"attention": "layer.0.SelfAttention", "feed_forward": "layer.1.DenseReluDense"},
    "decoder": {
        "attention": "layer.0.SelfAttention",
        "cross_attention": "layer.1.EncDecAttention",
        "feed_forward": "layer.2.DenseReluDense",
    },
}


def _t5(gated: bool) -> Naming:
    inner = {"gate": "wi_0", "up": "wi_1"} if gated else {"up": "wi"}
    inside = {
        "attention": {"query": "q", "key": "k", "value": "v", "output": "o"},
        "feed_forward": {**inner, "down": "wo"},
    }
    names = {"embedding": "shared", "head": "lm_head", "norm": "decoder.final_layer_norm"}
    names["encoder_norm"] = "encoder.final_layer_norm"
    for stack, layers in _T5_LAYERS.items():
        bias = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias"
        names[f"{stack}_bias"] = bias
        for ours, theirs in layers.items():
            place, layer = f"{stack}.{{n}}.{ours}", f"{stack}.block.{{n}}.{theirs}"
            names[f"{place}_norm"] = f"{layer.rpartition('.')[0]}.layer_norm"
            for name, theirs_name in inside[ours.removeprefix("cross_")].items():
                names[f"{place}.{name}"] = f"{layer}.{theirs_name}"
    other = (
        r"(en|de)coder\.embed_tokens\.weight|"
        r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight"
    )
    return Naming(_plain(names), prefix="", other=other)


NAMINGS: Final[dict[Family, Naming]] = {
    Family.LLAMA: _LLAMA,
    Family.MISTRAL: _LLAMA,
    Family.QWEN2: _LLAMA,
    Family.GPT2: _GPT2,
    Family.BERT: _BERT,
}
_BLOCK: Final = re.compile(r"blocks\.(\d+)\.")


def naming(family: Family, shape: ModelShape) -> Naming:
    """Return the names of `family`."""
    return _t5(shape.is_gated) if family is Family.T5 else NAMINGS[family]


def parameter_locations(
    family: Family, shape: ModelShape, parameters: Iterable[str]
) -> dict[str, ParameterLocation]:
    """Return the location of each of our `parameters`; KeyError for one without a name in the family."""
    table = naming(family, shape)
    return {name: _place(table, family, shape, name) for name in parameters}


def _place(table: Naming, family: Family, shape: ModelShape, name: str) -> ParameterLocation:
    module, _, kind = ("", "", "") if name in table.bare else name.rpartition(".")
    number = ""
    template = module or name
    if found := _BLOCK.match(template):
        number = found[1]
        template = _BLOCK.sub("blocks.{n}.", template)
        if family is Family.T5:  # it counts each of its two chains from 0
            decoding = int(number) >= shape.layers
            template = template.replace("blocks", "decoder" if decoding else "encoder", 1)
            number = str(int(number) - shape.layers) if decoding else number
    place = table.modules[template]
    theirs = place.name.replace("{n}", number) + (f".{kind}" if kind else "")
    return ParameterLocation(theirs, place.transposed and kind == "weight", place.part, place.parts)
