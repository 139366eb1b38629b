"""A chat model so small that a step takes milliseconds, as transformers writes it into a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

ROWS: Final = 512  # of the embedding, more than the tokenizer's 259 ids
CONTEXT: Final = 128
TURN_END: Final = 258
TEMPLATE: Final = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|im_end|>' }}"
    "{% endgeneration %}{{ '\\n' }}{% else %}{{ message['content'] + '<|im_end|>\\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
CONVERSATION: Final = [
    {"role": "user", "content": "What is 2 plus 3?"},
    {"role": "assistant", "content": "It is 5."},
    {"role": "user", "content": "And 4?"},
]


def chat_tokenizer() -> PreTrainedTokenizerFast:
    """One id for each byte, then three special ones; padding is the end of a text, as often."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    bytes_only = Tokenizer(models.BPE({letter: place for place, letter in enumerate(letters)}, []))
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_only.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bytes_only,
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
        model_max_length=2 * CONTEXT,
        padding_side="left",
    )
    tokenizer.chat_template = {"default": TEMPLATE, "tool_use": "{{ tools }}" + TEMPLATE}
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") == TURN_END
    return tokenizer


def write_chat_model(folder: Path, ends: list[int], **generation: Any) -> Path:
    """A Llama of 2 layers x 32 with random weights, its tokenizer, and what it says of generating text."""
    config = LlamaConfig(
        vocab_size=ROWS,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=2 * CONTEXT,
        bos_token_id=None,
        eos_token_id=256,
        pad_token_id=256,
    )
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(40)  # so that what comes next depends on what was
    model.generation_config = GenerationConfig(eos_token_id=ends, pad_token_id=256, **generation)
    model.save_pretrained(folder)
    chat_tokenizer().save_pretrained(folder)
    return folder
