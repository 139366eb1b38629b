"""Parses tokenizer.json, the file of the tokenizers library."""

from __future__ import annotations

from tokenizers import Tokenizer


def parse_tokenizer(content: bytes) -> Tokenizer:
    """Return the tokenizer of a tokenizer.json with this content; raises ValueError if it is none."""
    try:
        return Tokenizer.from_str(content.decode())
    except Exception as error:  # the library has no exceptions of its own
        raise ValueError(str(error)) from error
