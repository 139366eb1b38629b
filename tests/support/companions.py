"""Files beside a model's weights, made by hand, and a tokenizer of a few words."""

from __future__ import annotations

import json

from tokenizers import AddedToken, Tokenizer, models

from footplate_trainer.huggingface.saved_processors import SavedProcessors


def companions(**files: object) -> SavedProcessors:
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
