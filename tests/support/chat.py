"""Chat models without weights: tokenizers, templates as models write theirs, and files beside weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

from footplate_trainer.huggingface.saved_processors import SavedProcessors

# Inserts a system text, and a line end behind each turn; no generation marks. Its eos is its pad.
CHATML: Final = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
MARKED: Final = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"
    "{% else %}{{ message['content'] + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA: Final = """
{{- bos_token }}
{%- if tools is not none %}
    {{- '<|start|>system<|stop|>' }}
    {%- for tool in tools %}{{ tool | tojson }}{{ '\n' }}{%- endfor %}
    {{- '<|eot|>' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role not in ['system', 'user', 'assistant', 'tool'] %}
        {{- raise_exception('Unknown role ' ~ message.role) }}
    {%- endif %}
    {{- '<|start|>' + message['role'] + '<|stop|>' + message['content'] | trim + '<|eot|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start|>assistant<|stop|>' }}
{%- endif %}
"""
# Leaves the thoughts of earlier turns out, as reasoning models do.
THINKING: Final = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' }}"
    "{% if message.role == 'assistant' and not loop.last %}{{ message.content.split('</think>')[-1] }}"
    "{% else %}{{ message.content }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

_CHATML_SPECIAL: Final = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_LLAMA_SPECIAL: Final = ("<|begin|>", "<|start|>", "<|stop|>", "<|eot|>")


def chat_tokenizer(special: tuple[str, ...], begins_with: str | None = None) -> Tokenizer:
    """A token for each byte and some pairs of letters, behind `special`; may put a token before each text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs = [("e", "r"), ("i", "n"), ("Ċ", "Ċ"), ("Ġ", "a")]
    names = [*special, *alphabet, *("".join(pair) for pair in pairs)]
    tokenizer = Tokenizer(models.BPE({name: number for number, name in enumerate(names)}, pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in special])
    if begins_with is not None:
        number = tokenizer.token_to_id(begins_with)
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{begins_with} $A", special_tokens=[(begins_with, number)]
        )
    return tokenizer


def chatml_model(folder: Path, template: Any = CHATML) -> Path:
    """A folder as models are published in; the end of a turn is also its padding."""
    config = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>"}
    return _model(folder, chat_tokenizer(_CHATML_SPECIAL), {**config, "chat_template": template})


def llama_model(folder: Path, template: str = LLAMA) -> Path:
    """One whose template and tokenizer both write a beginning of text; the template has its own file."""
    flags = dict.fromkeys(("lstrip", "normalized", "rstrip", "single_word"), False)
    bos = {"__type": "AddedToken", "content": "<|begin|>", "special": True, **flags}
    tokenizer = chat_tokenizer(_LLAMA_SPECIAL, begins_with="<|begin|>")
    _model(folder, tokenizer, {"bos_token": bos, "eos_token": "<|eot|>"})
    (folder / "chat_template.jinja").write_text(template)
    return folder


def _model(folder: Path, tokenizer: Tokenizer, config: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    said = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    kept = {name: value for name, value in config.items() if value is not None}
    (folder / "tokenizer_config.json").write_text(json.dumps(said | kept))
    return folder


def user(text: str) -> dict[str, Any]:
    """A turn."""
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    """A turn."""
    return {"role": "assistant", "content": text}


# -- files beside a model's weights ----------------------------------------------------------------


def saved_processors(**files: object) -> SavedProcessors:
    """By names without their endings: a text is a template, all else goes into JSON."""
    return SavedProcessors(dict(_file(name, content) for name, content in files.items()))


def _file(name: str, content: object) -> tuple[str, bytes]:
    if isinstance(content, str):
        return f"{name}.jinja", content.encode()
    return f"{name}.json", json.dumps(content).encode()


def word_tokenizer(**ids: int) -> Tokenizer:
    """Of whole words; those in capitals are special tokens."""
    made = Tokenizer(models.WordLevel(ids, unk_token="unknown"))
    made.add_special_tokens([AddedToken(name, special=True) for name in ids if name.isupper()])
    return made
