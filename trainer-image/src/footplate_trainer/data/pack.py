"""`footplate-trainer pack INPUT… OUT --vocabulary-size N`: text to token shards.

The same input gives the same bytes, on any machine: two people who pack a
corpus can compare one checksum, and a lost folder can be written again.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from footplate_contracts.names import ExitCode
from footplate_trainer.data import tokenizer as tokenizers
from footplate_trainer.data.corpus import PYTHON_DOCS, PYTHON_STDLIB, Corpus, open_corpus
from footplate_trainer.data.errors import DataError
from footplate_trainer.data.layout import (
    MANIFEST_FILE,
    TOKENIZER_FILE,
    ShardFormat,
    ShardManifest,
    SourceRecord,
    token_type_for,
)
from footplate_trainer.data.progress import Advance, megabytes, progress, say
from footplate_trainer.data.tokenizer import PackTokenizer, grouped, pieces_of
from footplate_trainer.data.upload import write_elsewhere
from footplate_trainer.data.writer import ShardWriter, new_folder, write_file
from footplate_trainer.storage import is_local, local_path


class TokenizerKind(StrEnum):
    """What is learned where no tokenizer is given."""

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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `pack`."""
    parser.description = "Turn text into token shards with a manifest and checksums."
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help='a text file, a .jsonl file with a "text" field, or a folder (hidden files are left out); '
        f"{PYTHON_DOCS} is the Python language reference, {PYTHON_STDLIB} the standard library's source",
    )
    parser.add_argument(
        "out",
        metavar="OUT",
        help="folder to write, which must not exist or be empty; or a URI such as s3://bucket/folder",
    )
    parser.add_argument(
        "--vocabulary-size",
        type=int,
        required=True,
        metavar="N",
        help=f"ids in all, {tokenizers.RESERVED} special ones included; at least {tokenizers.SMALLEST}",
    )
    _add_tokenizer_arguments(parser)
    parser.add_argument(
        "--format",
        type=ShardFormat,
        choices=list(ShardFormat),
        default=ShardFormat.TOKENS,
        help='what a .jsonl line holds: "text" (tokens), "query" and "positive" (pairs), "text" and a number '
        '"value" (regression); default %(default)s',
    )
    parser.add_argument(
        "--include",
        action="append",
        default=[],
        metavar="GLOB",
        help="take only files of folders whose name or relative path matches; may be given again",
    )
    parser.add_argument(
        "--shard-tokens",
        type=int,
        default=SHARD_TOKENS,
        metavar="N",
        help="tokens a shard holds at most, but for one longer document (default %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help=f"draws what a tokenizer learns from beyond {megabytes(LEARNING_BYTES)} (default %(default)s)",
    )


def _add_tokenizer_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tokenizer",
        type=Path,
        metavar="PATH",
        help="a file instead of learning one: tokenizer.json, a SentencePiece .model, or tiktoken ranks "
        "named after their encoding (gpt2.tiktoken)",
    )
    parser.add_argument(
        "--tokenizer-kind",
        type=TokenizerKind,
        choices=list(TokenizerKind),
        default=TokenizerKind.BPE,
        help="what is learned: byte-level BPE, or a SentencePiece unigram model (default %(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Packs, and says what was written; the process's exit code."""
    write = partial(
        pack,
        arguments.inputs,
        vocabulary_size=arguments.vocabulary_size,
        tokenizer=arguments.tokenizer,
        kind=arguments.tokenizer_kind,
        include=arguments.include,
        shard_tokens=arguments.shard_tokens,
        seed=arguments.seed,
        shard_format=arguments.format,
    )
    out: str = arguments.out
    try:
        manifest = write(local_path(out)) if is_local(out) else write_elsewhere(out, write)
    except ValueError as error:
        say(f"footplate-trainer pack: {error}")
        return ExitCode.CONFIG
    except (DataError, OSError) as error:
        say(f"footplate-trainer pack: {error}")
        return ExitCode.STORAGE
    # A tokenizer that was brought along has the ids that it has.
    asked = manifest.vocabulary_size if arguments.tokenizer else arguments.vocabulary_size
    print(summary(out, manifest, asked), flush=True)
    return ExitCode.SUCCESS


def pack(
    inputs: Sequence[str],
    out: Path,
    *,
    vocabulary_size: int,
    tokenizer: Path | None = None,
    kind: TokenizerKind = TokenizerKind.BPE,
    include: Sequence[str] = (),
    shard_tokens: int = SHARD_TOKENS,
    seed: int = 0,
    shard_format: ShardFormat = ShardFormat.TOKENS,
) -> ShardManifest:
    """Writes the shards of `inputs` into the new folder `out`; returns its manifest.

    Raises ValueError for a mistake in the arguments or the input, DataError
    when the disk is full; either way `out` is left as it was.
    """
    if shard_tokens < 1:
        raise ValueError(f"--shard-tokens {shard_tokens} must be at least 1")
    corpus = open_corpus(inputs, include, shard_format)
    with new_folder(out) as folder:
        tokens = _tokenizer(corpus, vocabulary_size, tokenizer, kind, seed)
        token_type = token_type_for(tokens.vocabulary_size)
        writer = ShardWriter(folder, token_type, shard_tokens)
        with progress("encoding", corpus.total_bytes) as advance:
            _encode(corpus, tokens, writer, advance)
        if not writer.shards:
            raise ValueError(f"no text in {', '.join(inputs)}: all of it is empty, binary or not UTF-8")
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


def summary(out: str, manifest: ShardManifest, asked: int) -> str:
    """What a person wants to know of a folder that was just written."""
    source_bytes = sum(source.bytes for source in manifest.sources)
    skipped = sum(source.skipped for source in manifest.sources)
    shards = len(manifest.shards)
    lines = [
        f"{out}: {manifest.tokens} tokens of {manifest.documents} documents in {shards} shard(s)",
        f"  {manifest.vocabulary_size} ids, {source_bytes / manifest.tokens:.2f} bytes a token",
    ]
    if skipped:
        lines.append(f"  skipped {skipped} inputs that were binary, not UTF-8 or empty")
    if manifest.vocabulary_size < asked:
        lines.append(f"  the text gives no more than {manifest.vocabulary_size} of the {asked} ids asked for")
    return "\n".join(lines)


def _tokenizer(
    corpus: Corpus, vocabulary_size: int, path: Path | None, kind: TokenizerKind, seed: int
) -> PackTokenizer:
    if path is not None:
        return tokenizers.load(path, vocabulary_size)
    most, learn = _LEARNERS[kind]
    label, wanted = "learning the tokenizer", min(corpus.total_bytes, most)
    with progress(label, wanted, bar=False) as advance:  # on a terminal the library shows bars of its own
        texts = (document.text for document in corpus)
        return learn(_learning_texts(texts, corpus.total_bytes, seed, most, advance), vocabulary_size)


def _learning_texts(
    texts: Iterable[str], total_bytes: int, seed: int, wanted_bytes: int, advance: Advance
) -> Iterator[str]:
    """About `wanted_bytes` of the texts in pieces, each drawn by its place alone."""
    share = wanted_bytes / max(total_bytes, 1)
    pieces = itertools.chain.from_iterable(map(pieces_of, texts))
    for place, piece in enumerate(pieces):
        if share < 1 and _draw(seed, place) >= share:
            continue
        yield piece
        advance(len(piece.encode()))


def _draw(seed: int, place: int) -> float:
    """A number in [0, 1) that depends on the arguments only."""
    digest = hashlib.blake2b(f"{seed}/{place}".encode(), digest_size=7).digest()
    return int.from_bytes(digest, "little") / (1 << 56)


def _encode(corpus: Corpus, tokens: PackTokenizer, writer: ShardWriter, advance: Advance) -> None:
    for documents in grouped(corpus, _BATCH, size=lambda document: len(document.text)):
        encoded = tokens.encode([document.text for document in documents], advance)
        for document, ids in zip(documents, encoded, strict=True):
            writer.add(np.append(ids, tokens.special.eos), document.value)
    writer.flush()
