"""Small shards, written by hand so that every token is known."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from footplate_trainer.data.layout import (
    MANIFEST_FILE,
    TOKENIZER_FILE,
    RecordKind,
    ShardManifest,
    SpecialIds,
    token_type_for,
)
from footplate_trainer.data.shards import TokenShards
from footplate_trainer.data.writer import ShardWriter, write_file

EOS = 2
VOCABULARY = 512
SPECIAL = SpecialIds(pad=0, bos=1, eos=EOS, unk=3, cls=4, sep=5, mask=6, sentinels=list(range(7, 107)))

WriteShards = Callable[..., TokenShards]


@pytest.fixture
def write_shards(tmp_path: Path) -> WriteShards:
    """write_shards([[5, 6], [7]], shard_tokens=4): each document gets an eos and goes to a shard."""

    def write(
        documents: Sequence[Sequence[int]],
        shard_tokens: int = 1_000_000,
        folder: str = "shards",
        vocabulary: int = VOCABULARY,
        shard_format: RecordKind = RecordKind.TOKENS,
        values: Sequence[float] | None = None,
        special: SpecialIds = SPECIAL,
    ) -> TokenShards:
        out = tmp_path / folder
        out.mkdir()
        writer = ShardWriter(out, token_type_for(vocabulary), shard_tokens)
        for place, document in enumerate(documents):
            writer.add([*document, EOS], None if values is None else values[place])
        writer.flush()
        manifest = ShardManifest(
            format=shard_format,
            dtype=token_type_for(vocabulary),
            vocabulary_size=vocabulary,
            special_ids=special,
            tokenizer=write_file(out / TOKENIZER_FILE, [b"{}"]),
            shards=writer.shards,
            tokens=sum(shard.tokens for shard in writer.shards),
            documents=len(documents),
            sources=[],
            seed=0,
        )
        write_file(out / MANIFEST_FILE, [json.dumps(manifest.to_json()).encode()])
        return TokenShards.open(str(out))

    return write


@pytest.fixture
def corpus_of_documents() -> list[list[int]]:
    """57 documents of 0 … 12 tokens, 107 and up, each token different from its neighbours."""
    return [[107 + (17 * number + place) % 400 for place in range(number * 5 % 13)] for number in range(57)]
