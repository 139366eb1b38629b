"""A small Llama in plain torch, without a line of ours or of transformers: what tests compare others with.

Weights are a dictionary by the names that a folder of transformers has; `write` makes such a folder with a
tokenizer of bytes and a ChatML template. A sequence is computed alone, in the precision of the weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from torch.nn import functional

Weights = Mapping[str, Tensor]
Message = Mapping[str, str]

TURN, END, PAD = "<|im_start|>", "<|im_end|>", "<pad>"
TEMPLATE: Final = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|im_end|>' }}"
    "{% endgeneration %}{{ '\n' }}{% else %}{{ message['content'] + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Sizes:
    """Of a model; heads have a key and a value each."""

    width: int = 32
    inner: int = 64
    layers: int = 2
    heads: int = 2
    vocabulary: int = 259  # of `tokenizer`
    places: int = 512
    theta: float = 10_000.0
    epsilon: float = 1e-6


TINY: Final = Sizes()


# -- computing -------------------------------------------------------------------------------


def random_weights(seed: int, head: str = "lm_head", sizes: Sizes = TINY) -> dict[str, Tensor]:
    """fp32; `head` is lm_head, or score for one output a place."""
    generator = torch.Generator().manual_seed(seed)
    width, inner = sizes.width, sizes.inner
    shapes = {"model.embed_tokens": (sizes.vocabulary, width)}
    for layer in range(sizes.layers):
        for name in "qkvo":
            shapes[f"model.layers.{layer}.self_attn.{name}_proj"] = (width, width)
        shapes |= {f"model.layers.{layer}.mlp.{name}_proj": (inner, width) for name in ("gate", "up")}
        shapes[f"model.layers.{layer}.mlp.down_proj"] = (width, inner)
    shapes[head] = (sizes.vocabulary if head == "lm_head" else 1, width)
    weights = {
        f"{name}.weight": torch.randn(shape, generator=generator) * (0.15 if width in shape[1:] else 0.1)
        for name, shape in shapes.items()
    }
    norms = [f"model.layers.{layer}.{name}_layernorm" for layer in range(sizes.layers) for name in NORMS]
    return weights | {f"{name}.weight": torch.ones(width) for name in [*norms, "model.norm"]}


NORMS = ("input", "post_attention")


def outputs(weights: Weights, ids: Sequence[int], sizes: Sizes = TINY) -> Tensor:
    """What the head gives at each place: [places, outputs of the head]."""
    hidden = weights["model.embed_tokens.weight"][torch.tensor(ids)]
    for layer in range(sizes.layers):
        own = {
            name.removeprefix(f"model.layers.{layer}."): weight
            for name, weight in weights.items()
            if name.startswith(f"model.layers.{layer}.")
        }
        hidden = hidden + _attention(own, _norm(hidden, own["input_layernorm.weight"], sizes), sizes)
        there = _norm(hidden, own["post_attention_layernorm.weight"], sizes)
        inner = functional.silu(there @ own["mlp.gate_proj.weight"].T) * (there @ own["mlp.up_proj.weight"].T)
        hidden = hidden + inner @ own["mlp.down_proj.weight"].T
    head = weights.get("lm_head.weight", weights.get("score.weight"))
    assert head is not None
    return _norm(hidden, weights["model.norm.weight"], sizes) @ head.T


def log_probabilities(weights: Weights, ids: Sequence[int], first: int = 1, sizes: Sizes = TINY) -> Tensor:
    """log p of each token from place `first` on, which is 1 or more: [tokens - first]."""
    logits = outputs(weights, ids, sizes)[first - 1 : -1]
    return torch.log_softmax(logits, -1).gather(1, torch.tensor(ids[first:])[:, None]).squeeze(1)


def _norm(hidden: Tensor, weight: Tensor, sizes: Sizes) -> Tensor:
    return hidden * torch.rsqrt(hidden.square().mean(-1, keepdim=True) + sizes.epsilon) * weight


def _attention(own: Weights, hidden: Tensor, sizes: Sizes) -> Tensor:
    places, size = len(hidden), sizes.width // sizes.heads
    query, key, value = (
        (hidden @ own[f"self_attn.{name}_proj.weight"].T).view(places, sizes.heads, size).transpose(0, 1)
        for name in "qkv"
    )
    speeds = sizes.theta ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)
    angles = (torch.arange(places, dtype=torch.float64)[:, None] * speeds).repeat(1, 2)
    cos, sin = angles.cos().to(hidden.dtype), angles.sin().to(hidden.dtype)

    def turned(heads: Tensor) -> Tensor:
        one_half, other_half = heads.chunk(2, -1)
        return heads * cos + torch.cat((-other_half, one_half), -1) * sin

    scores = turned(query) @ turned(key).transpose(1, 2) / size**0.5
    later = torch.ones(places, places, dtype=torch.bool).triu(1)
    mixed = scores.masked_fill(later, -torch.inf).softmax(-1) @ value
    return mixed.transpose(0, 1).reshape(places, sizes.width) @ own["self_attn.o_proj.weight"].T


# -- folders -----------------------------------------------------------------------------------


def tokenizer() -> Tokenizer:
    """Each byte is a token; besides there are the marks of turns and a padding that is neither."""
    vocabulary = {letter: n for n, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    made = Tokenizer(models.BPE(vocabulary, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(text, special=True) for text in (END, PAD, TURN)])
    return made


def rendered(messages: Sequence[Message], *, opened: bool = False) -> str:
    """What TEMPLATE makes of a conversation; `opened` where an answer is to follow."""
    turns = "".join(f"{TURN}{said['role']}\n{said['content']}{END}\n" for said in messages)
    return turns + (f"{TURN}assistant\n" if opened else "")


def write(folder: Path, weights: Weights, sizes: Sizes = TINY, template: str = TEMPLATE) -> Path:
    """A folder that transformers opens, of weights with their tokenizer and a chat template; its path."""
    folder.mkdir(parents=True)
    bytes_of_text = tokenizer()
    ids = {text: bytes_of_text.token_to_id(text) for text in (END, PAD)}
    scores = "score.weight" in weights
    config = {
        "architectures": ["LlamaForSequenceClassification" if scores else "LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": sizes.vocabulary,
        "hidden_size": sizes.width,
        "intermediate_size": sizes.inner,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "num_key_value_heads": sizes.heads,
        "max_position_embeddings": sizes.places,
        "rms_norm_eps": sizes.epsilon,
        "rope_parameters": {"rope_type": "default", "rope_theta": sizes.theta},
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": ids[END],
        "pad_token_id": ids[PAD],
        "dtype": "float32",
    }
    if scores:
        config |= {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END,
        "pad_token": PAD,
        "chat_template": template,
        "model_max_length": sizes.places,
    }
    _json(folder / "config.json", config)
    _json(folder / "tokenizer_config.json", settings)
    bytes_of_text.save(str(folder / "tokenizer.json"))
    save_file(dict(weights), str(folder / "model.safetensors"), {"format": "pt"})
    return folder


def read(file: Path, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """Weights of a .safetensors file, as leaves that collect gradients."""
    return {name: weight.to(dtype).requires_grad_() for name, weight in load_file(str(file)).items()}


def _json(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2))
