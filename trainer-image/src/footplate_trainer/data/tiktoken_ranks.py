"""tiktoken's vocabularies as tokenizer.json.

A .tiktoken file holds byte strings by rank, and nothing else: the pattern that cuts text into words and the
special ids follow from the encoding's name, which is the name of the file (gpt2.tiktoken). A tekken.json
contains both; its special ids come first. Nothing is downloaded.

The merges of tokenizer.json follow from the ranks: they are the two parts into which a token falls when only
lower ranks may be joined.
"""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import tiktoken
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from tokenizers.pre_tokenizers import PreTokenizer

Encode = Callable[[list[str]], list[list[int]]]

_GPT2: Final = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_CL100K: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_O200K: Final = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    rf"|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_END: Final = "<|endoftext|>"
_TEKKEN_SPECIAL: Final = ("<unk>", "<s>", "</s>")  # of files that name none


@dataclass(frozen=True)
class Encoding:
    """A tiktoken encoding: its word pattern and its special tokens."""

    pattern: str  # of the words that text is cut into
    special: dict[str, int] = field(default_factory=dict)


ENCODINGS: Final = {
    "gpt2": Encoding(_GPT2, {_END: 50256}),
    "r50k_base": Encoding(_GPT2, {_END: 50256}),
    "p50k_base": Encoding(_GPT2, {_END: 50256}),
    "cl100k_base": Encoding(
        _CL100K,
        {
            _END: 100257,
            "<|fim_prefix|>": 100258,
            "<|fim_middle|>": 100259,
            "<|fim_suffix|>": 100260,
            "<|endofprompt|>": 100276,
        },
    ),
    "o200k_base": Encoding(_O200K, {_END: 199999, "<|endofprompt|>": 200018}),
}


def read_ranks(path: Path) -> tuple[Tokenizer, Encode]:
    """Return the tokenizer of a .tiktoken file and tiktoken's own encoder; ValueError for another file."""
    encoding = ENCODINGS.get(path.stem)
    if encoding is None:
        raise ValueError(
            f"--tokenizer {path}: a ranks file is named after its encoding, and {path.stem} is unknown; "
            f"rename it to {', '.join(f'{name}.tiktoken' for name in ENCODINGS)}"
        )
    ranks = _parsed(path)
    reference = tiktoken.Encoding(
        path.stem, pat_str=encoding.pattern, mergeable_ranks=ranks, special_tokens={}
    )
    return from_ranks(ranks, encoding), reference.encode_ordinary_batch


def read_tekken(path: Path) -> tuple[Tokenizer, Encode]:
    """Return the tokenizer of a tekken.json and tiktoken's own encoder; ValueError for another file."""
    try:
        content = json.loads(path.read_bytes())
        config = content["config"]
        first = int(config["default_num_special_tokens"])
        kept = content["vocab"][: int(config["default_vocab_size"]) - first]
        ranks = {base64.b64decode(token["token_bytes"]): int(token["rank"]) for token in kept}
        named = content.get("special_tokens") or [
            {"rank": rank, "token_str": name} for rank, name in enumerate(_TEKKEN_SPECIAL)
        ]
        encoding = Encoding(config["pattern"], {token["token_str"]: int(token["rank"]) for token in named})
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"--tokenizer {path} is not a complete tekken.json: {error!r}") from None
    reference = tiktoken.Encoding(
        path.stem, pat_str=encoding.pattern, mergeable_ranks=ranks, special_tokens={}
    )

    def encode(texts: list[str]) -> list[list[int]]:
        return [[first + rank for rank in ranks] for ranks in reference.encode_ordinary_batch(texts)]

    return from_ranks({token: first + rank for token, rank in ranks.items()}, encoding), encode


def _parsed(path: Path) -> dict[bytes, int]:
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line:
            continue
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except ValueError as error:
            raise ValueError(
                f"--tokenizer {path}:{number} is not a line of a ranks file ({error}); each line must be a "
                "base64 token and its rank"
            ) from None
    missing = [byte for byte in range(256) if bytes([byte]) not in ranks]
    if missing:
        raise ValueError(f"--tokenizer {path} lacks {len(missing)} of the 256 single bytes")
    return ranks


def from_ranks(ranks: dict[bytes, int], encoding: Encoding) -> Tokenizer:
    """Build the tokenizer from tokens with their ids; a lower id is joined first."""
    letters = _byte_letters()

    def spelled(token: bytes) -> str:
        return "".join(letters[byte] for byte in token)

    vocabulary = {spelled(token): rank for token, rank in ranks.items()} | encoding.special
    taken = set(vocabulary.values())
    # Added tokens are numbered from the number of tokens on: a gap would give an id away twice.
    gaps = (number for number in range(max(taken)) if number not in taken)
    vocabulary |= {f"<|unused_{number}|>": number for number in gaps}
    merges = [
        (spelled(left), spelled(right))
        for token, rank in sorted(ranks.items(), key=lambda item: item[1])
        if len(token) > 1
        for left, right in [_halves(ranks, token, rank)]
    ]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=True))
    split: PreTokenizer = pre_tokenizers.Split(Regex(encoding.pattern), "isolated")
    bytes_: PreTokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, bytes_])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(name, special=True, normalized=False) for name in encoding.special]
    )
    return tokenizer


def _halves(ranks: dict[bytes, int], token: bytes, rank: int) -> tuple[bytes, bytes]:
    """Return the two parts that join into `token`; ValueError if no merge can produce it."""
    parts = [bytes([byte]) for byte in token]
    while len(parts) > 2:
        pairs = [ranks.get(left + right, rank) for left, right in itertools.pairwise(parts)]
        best = min(range(len(pairs)), key=pairs.__getitem__)
        if pairs[best] >= rank:
            raise ValueError(f"token {token!r} of rank {rank} is not made of lower ranks")
        parts[best : best + 2] = [parts[best] + parts[best + 1]]
    return parts[0], parts[1]


def _byte_letters() -> dict[int, str]:
    """Return the letter for each byte, as in GPT-2: itself where it is printable."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}
