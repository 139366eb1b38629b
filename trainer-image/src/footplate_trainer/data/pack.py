"""Text to token shards.

The same input gives the same bytes, on any machine: two people who pack a corpus can compare one checksum,
and a lost folder can be written again.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np

from footplate_trainer.data import tokenizer as tokenizers
from footplate_trainer.data.corpus import Corpus, open_corpus
from footplate_trainer.data.layout import (
    ALIASES,
    MANIFEST_FILE,
    TOKENIZER_FILE,
    RecordKind,
    ShardManifest,
    SourceRecord,
    SpecialTokenRole,
    token_type_for,
)
from footplate_trainer.data.progress import Advance, progress
from footplate_trainer.data.tokenizer import PackTokenizer, batch_by_size, split_text
from footplate_trainer.data.writer import ShardWriter, new_folder, write_file


class TokenizerKind(StrEnum):
    """The kind of tokenizer to train where none is given."""

    BPE = "bpe"
    SENTENCEPIECE = "sentencepiece"


SHARD_TOKENS: Final = 100_000_000
# Merges hardly change with more text than this, and learning holds all of its words in memory.
LEARNING_BYTES: Final = 256_000_000
# The unigram model's suffix array takes some 30 bytes for each of the text.
_UNIGRAM_BYTES: Final = 32_000_000
_LEARNERS: Final = {
    TokenizerKind.BPE: (LEARNING_BYTES, tokenizers.learn),
    TokenizerKind.SENTENCEPIECE: (_UNIGRAM_BYTES, tokenizers.learn_sentencepiece),
}
_BATCH: Final = 1 << 22  # characters of whole documents held at once, or one document


def pack(
    inputs: Sequence[str],
    out: Path,
    *,
    vocabulary_size: int | None = None,
    tokenizer: Path | None = None,
    reserve: Collection[SpecialTokenRole] = (),
    named: Mapping[SpecialTokenRole, str] = MappingProxyType({}),
    kind: TokenizerKind = TokenizerKind.BPE,
    include: Sequence[str] = (),
    shard_tokens: int = SHARD_TOKENS,
    seed: int = 0,
    shard_format: RecordKind = RecordKind.TOKENS,
) -> ShardManifest:
    """Write the shards of `inputs` into the new folder `out`; return its manifest.

    The tokenizer is trained with at most `vocabulary_size` ids, or is the one in the file `tokenizer`, for
    which `reserve` and `named` are as in tokenizer.load.

    Raises ValueError for a mistake in the arguments or the input, DataError when the disk is full; either way
    `out` is left as it was.
    """
    if shard_tokens < 1:
        raise ValueError(f"--shard-tokens {shard_tokens} must be at least 1")
    if tokenizer is None and (reserve or named):
        raise ValueError(
            "--reserve and --special-token need --tokenizer; a learned tokenizer has all special tokens"
        )
    corpus = open_corpus(inputs, include, shard_format)
    with new_folder(out) as folder:
        if tokenizer is None:
            tokens = _learned(corpus, vocabulary_size, kind, seed)
        else:
            tokens = tokenizers.load(tokenizer, vocabulary_size, reserve=reserve, named=named)
        end = _end_of(tokens, tokenizer)
        token_type = token_type_for(tokens.vocabulary_size)
        writer = ShardWriter(folder, token_type, shard_tokens)
        with progress("encoding", corpus.total_bytes) as advance:
            _encode(corpus, tokens, end, writer, advance)
        if not writer.shards:
            raise ValueError(f"no text in {', '.join(inputs)}: all files are empty, binary or not UTF-8")
        manifest = ShardManifest(
            format=shard_format,
            dtype=token_type,
            vocabulary_size=tokens.vocabulary_size,
            special_ids=tokens.special,
            tokenizer=write_file(folder / TOKENIZER_FILE, [tokens.to_json().encode()]),
            shards=writer.shards,
            tokens=sum(shard.tokens for shard in writer.shards),
            documents=sum(shard.documents for shard in writer.shards),
            sources=[SourceRecord(**vars(count)) for count in corpus.counts],
            seed=seed,
        )
        write_file(folder / MANIFEST_FILE, [json.dumps(manifest.to_json(), indent=2).encode() + b"\n"])
    return manifest


def _learned(corpus: Corpus, vocabulary_size: int | None, kind: TokenizerKind, seed: int) -> PackTokenizer:
    if vocabulary_size is None:
        raise ValueError(
            "--vocabulary-size is missing: pass the maximum ids of the learned tokenizer, "
            f"{tokenizers.SMALLEST} or more, or a --tokenizer"
        )
    most, learn = _LEARNERS[kind]
    label, wanted = "learning the tokenizer", min(corpus.total_bytes, most)
    with progress(label, wanted, bar=False) as advance:  # on a terminal the library shows bars of its own
        texts = (document.text for document in corpus)
        return learn(_learning_texts(texts, corpus.total_bytes, seed, most, advance), vocabulary_size)


def _end_of(tokens: PackTokenizer, path: Path | None) -> int:
    """Return the id that ends each document; ValueError if the tokenizer has none."""
    if tokens.special.end is None:
        known = ", ".join((*ALIASES[SpecialTokenRole.EOS], *ALIASES[SpecialTokenRole.SEP]))
        raise ValueError(
            f"--tokenizer {path} has no token that ends a text, such as {known}; pass --special-token "
            "eos=TOKEN, or add one with --reserve eos"
        )
    return tokens.special.end


def _learning_texts(
    texts: Iterable[str], total_bytes: int, seed: int, wanted_bytes: int, advance: Advance
) -> Iterator[str]:
    """Yield about `wanted_bytes` of the texts in pieces, each drawn by its position alone."""
    share = wanted_bytes / max(total_bytes, 1)
    pieces = itertools.chain.from_iterable(map(split_text, texts))
    for place, piece in enumerate(pieces):
        if share < 1 and _draw(seed, place) >= share:
            continue
        yield piece
        advance(len(piece.encode()))


def _draw(seed: int, place: int) -> float:
    """Return a number in [0, 1) that depends on the arguments only."""
    digest = hashlib.blake2b(f"{seed}/{place}".encode(), digest_size=7).digest()
    return int.from_bytes(digest, "little") / (1 << 56)


def _encode(corpus: Corpus, tokens: PackTokenizer, end: int, writer: ShardWriter, advance: Advance) -> None:
    for documents in batch_by_size(corpus, _BATCH, size=lambda document: len(document.text)):
        encoded = tokens.encode([document.text for document in documents], advance)
        for document, ids in zip(documents, encoded, strict=True):
            writer.add(np.append(ids, end), document.value)
    writer.flush()
