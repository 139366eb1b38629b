"""Names of special tokens in common tokenizers."""

from __future__ import annotations

from typing import Final

# Name of ours first, then what well-known tokenizers call it: the first that exists is used.
ALIASES: Final[dict[str, tuple[str, ...]]] = {
    "pad": ("<pad>", "[PAD]", "<|pad|>"),
    "bos": ("<bos>", "<s>", "<|begin_of_text|>"),
    "eos": ("<eos>", "</s>", "<|end_of_text|>", "<|endoftext|>"),
    "unk": ("<unk>", "[UNK]"),
    "cls": ("<cls>", "[CLS]"),
    "sep": ("<sep>", "[SEP]"),
    "mask": ("<mask>", "[MASK]"),
}
