"""One stream over many files, and every way in which the files can be wrong."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from footplate_trainer.data.shards import TokenShards
from footplate_trainer.errors import DataCorrupt, DataError, DataMissing
from tests.unit.footplate_trainer.data.conftest import EOS, WriteShards


def stream_of(documents: list[list[int]]) -> list[int]:
    return [token for document in documents for token in [*document, EOS]]


@pytest.mark.parametrize("shard_tokens", [1, 7, 40, 10_000], ids=lambda n: f"shards-of-{n}")
def test_any_span_reads_as_if_there_were_one_file(
    write_shards: WriteShards, corpus_of_documents: list[list[int]], shard_tokens: int
) -> None:
    shards = write_shards(corpus_of_documents, shard_tokens)
    stream = stream_of(corpus_of_documents)
    ends = np.cumsum([len(document) + 1 for document in corpus_of_documents]).tolist()
    assert shards.tokens == len(stream)
    for start in range(0, len(stream), 9):
        for length in (0, 1, 2, 9, 60):
            stop = min(start + length, len(stream))
            assert shards.read(start, stop).tolist() == stream[start:stop]
            assert shards.document_ends(start, stop).tolist() == [end for end in ends if start < end < stop]


@pytest.mark.parametrize("shard_tokens", [1, 7, 10_000], ids=lambda n: f"shards-of-{n}")
def test_a_document_is_a_span(
    write_shards: WriteShards, corpus_of_documents: list[list[int]], shard_tokens: int
) -> None:
    shards = write_shards(corpus_of_documents, shard_tokens)
    found = [shards.read(*shards.document_span(index)).tolist() for index in range(shards.documents)]
    assert found == [[*document, EOS] for document in corpus_of_documents]


def test_large_vocabularies_take_four_bytes(write_shards: WriteShards) -> None:
    shards = write_shards([[70_000, 8]], vocabulary=70_001)
    assert shards.read(0, 3).tolist() == [70_000, 8, EOS]
    assert shards.manifest.shards[0].bytes == 12


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda shards: shards.read(0, shards.tokens + 1), id="tokens-past-the-end"),
        pytest.param(lambda shards: shards.read(-1, 2), id="negative"),
        pytest.param(lambda shards: shards.document_span(shards.documents), id="document-past-the-end"),
    ],
)
def test_what_is_not_there_cannot_be_read(write_shards: WriteShards, call) -> None:
    with pytest.raises(IndexError):
        call(write_shards([[8, 9]]))


def test_a_file_uri_names_the_same_folder(write_shards: WriteShards, tmp_path: Path) -> None:
    write_shards([[8]], folder="with space")
    assert TokenShards.open(f"file://{tmp_path}/with%20space").tokens == 2


@pytest.mark.parametrize(
    ("uri", "named"),
    [
        pytest.param("{tmp}/nowhere", "nowhere: the folder does not exist; write one with", id="no-folder"),
        pytest.param("{tmp}", "has no manifest.json", id="no-manifest"),
        pytest.param("sftpp://host/shards", "cannot be opened.*use a path", id="scheme"),
        pytest.param("file://host/shards", "names the host host; use file:///", id="another-host"),
        pytest.param("memory://nothing/here", "memory://nothing/here: has no manifest.json", id="memory"),
    ],
)
def test_missing_data_is_named_with_a_remedy(tmp_path: Path, uri: str, named: str) -> None:
    with pytest.raises(DataMissing, match=named):
        TokenShards.open(uri.format(tmp=tmp_path))


@pytest.mark.parametrize("file", ["shard-00001.bin", "shard-00000.offsets", "tokenizer.json"])
def test_a_missing_file_is_named(write_shards: WriteShards, tmp_path: Path, file: str) -> None:
    folder = write_shards([[8], [9]], shard_tokens=1).folder
    (folder / file).unlink()
    with pytest.raises(DataMissing, match=file):
        TokenShards.open(str(folder))


@pytest.mark.parametrize("file", ["shard-00001.bin", "shard-00000.offsets", "tokenizer.json"])
def test_a_truncated_file_is_named_without_reading_it(write_shards: WriteShards, file: str) -> None:
    folder = write_shards([[8], [9]], shard_tokens=1).folder
    path = folder / file
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataCorrupt, match=f"{file}: size is {size - 1} bytes, should be {size} bytes"):
        TokenShards.open(str(folder))


@pytest.mark.parametrize(
    "file", ["shard-00000.bin", "shard-00001.bin", "shard-00001.offsets", "tokenizer.json"]
)
def test_a_flipped_bit_is_named_with_both_checksums(write_shards: WriteShards, file: str) -> None:
    shards = write_shards([[8, 9, 10], [11], [12, 13], [14]], shard_tokens=6)
    path = shards.folder / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    words = rf"^{path}: sha256 is [0-9a-f]{{64}}, should be [0-9a-f]{{64}};"
    with pytest.raises(DataCorrupt, match=words):
        TokenShards.open(str(shards.folder)).verify(0, 1)


@pytest.mark.parametrize("world_size", [1, 2, 3, 20])
def test_the_ranks_together_verify_each_file_once(write_shards: WriteShards, world_size: int) -> None:
    shards = write_shards([[8], [9, 10], [11]], shard_tokens=1)
    for record in shards.manifest.files():
        path = shards.folder / record.file
        whole = path.read_bytes()
        path.write_bytes(b"\xff" * len(whole))
        damaged = 0
        for rank in range(world_size):
            try:
                shards.verify(rank, world_size)
            except DataCorrupt:
                damaged += 1
        assert damaged == 1
        path.write_bytes(whole)


def test_only_the_rank_whose_share_is_corrupt_says_so(write_shards: WriteShards) -> None:
    shards = write_shards([[8], [9]], shard_tokens=1)
    path = shards.folder / "shard-00001.bin"  # third of five files
    path.write_bytes(b"\x00" * path.stat().st_size)
    TokenShards.open(str(shards.folder), verify=(0, 3))
    with pytest.raises(DataCorrupt):
        TokenShards.open(str(shards.folder), verify=(2, 3))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        pytest.param(
            lambda m: m.update(schemaVersion=2), "schemaVersion is 2; this release reads 1", id="newer"
        ),
        pytest.param(lambda m: m.update(dtype="uint32"), "dtype uint32 does not match", id="dtype"),
        pytest.param(lambda m: m.update(tokens=5), "tokens is 5, but the shards' sum is 2", id="sum"),
        pytest.param(lambda m: m.update(vocabularySize=50), "a special id is outside", id="special-ids"),
        pytest.param(
            lambda m: m.update(extra=1), "extra is Extra inputs are not permitted", id="unknown-field"
        ),
        pytest.param(lambda m: m["shards"][0].update(file="../x"), r"shards\.0\.file", id="path-in-a-name"),
        pytest.param(lambda m: m["shards"][0].pop("sha256"), r"shards\.0\.sha256", id="no-checksum"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(write_shards: WriteShards, change, named: str) -> None:
    folder = write_shards([[8]]).folder
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataCorrupt, match=named):
        TokenShards.open(str(folder))


def test_a_manifest_cut_short_is_refused(write_shards: WriteShards) -> None:
    folder = write_shards([[8]]).folder
    (folder / "manifest.json").write_text('{"schemaVersion": 1,')
    with pytest.raises(DataCorrupt, match=r"manifest\.json: content is Expecting property name"):
        TokenShards.open(str(folder))


def test_offsets_that_do_not_span_the_shard_are_refused(write_shards: WriteShards) -> None:
    folder = write_shards([[8]]).folder
    np.array([0, 9], dtype="<u8").tofile(folder / "shard-00000.offsets")
    with pytest.raises(DataCorrupt, match="offsets: range is 0 … 9, should be 0 … 2"):
        TokenShards.open(str(folder))


@pytest.mark.parametrize("file", ["manifest.json", "shard-00000.bin", "tokenizer.json"])
def test_a_file_that_cannot_be_read_is_named(write_shards: WriteShards, file: str) -> None:
    path = write_shards([[8]]).folder / file
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(DataMissing, match=rf"{file}: cannot be read \(Too many levels of symbolic links\)"):
        TokenShards.open(str(path.parent))


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(DataMissing.at("uri", "is gone", "restore it"), id="missing"),
        pytest.param(DataCorrupt.at("file", "sha256", expected="a", found="b"), id="corrupt"),
    ],
)
def test_a_verdict_survives_the_way_to_another_rank(error: DataError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))
