"""A wrong path or half a folder is told at once, and without what takes seconds to import."""

from __future__ import annotations

import fcntl
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest

from footplate_trainer.data.check import check_data, check_run
from footplate_trainer.data.shards import TokenShards
from footplate_trainer.errors import DataCorrupt, DataError, DataMissing
from tests.unit.footplate_trainer.data.conftest import WriteShards


def test_whole_data_passes(write_shards: WriteShards) -> None:
    assert check_data(write_shards([[8], [9]], shard_tokens=1).uri).documents == 2


def spoil_byte(path: Path) -> None:
    """Another first byte, and the same size."""
    content = path.read_bytes()
    path.write_bytes(bytes([content[0] ^ 1]) + content[1:])


@pytest.mark.parametrize(
    ("spoil", "error", "says"),
    [
        pytest.param(
            lambda f: (f / "manifest.json").unlink(), DataMissing, "has no manifest.json", id="manifest"
        ),
        pytest.param(
            lambda f: (f / "shard-00001.bin").unlink(),
            DataMissing,
            "shard-00001.bin: the manifest",
            id="shard",
        ),
        pytest.param(
            lambda f: (f / "shard-00000.offsets").write_bytes(b""), DataCorrupt, "size is 0 bytes", id="size"
        ),
        pytest.param(
            lambda f: spoil_byte(f / "shard-00001.bin"), DataCorrupt, "shard-00001.bin: sha256", id="content"
        ),
        pytest.param(
            lambda f: (f / "manifest.json").write_text("{"), DataCorrupt, "should be JSON", id="torn-manifest"
        ),
    ],
)
def test_what_is_wrong_is_named(write_shards: WriteShards, spoil, error, says: str) -> None:
    shards = write_shards([[8], [9]], shard_tokens=1)
    spoil(shards.folder)
    with pytest.raises(error, match=says):
        check_data(shards.uri)


def test_every_source_and_the_tokenizer_are_looked_at(write_shards: WriteShards, tmp_path: Path) -> None:
    good = write_shards([[8]]).uri
    with pytest.raises(DataMissing, match="nowhere: the folder does not exist"):
        check_run([good, f"{tmp_path}/nowhere"])
    with pytest.raises(DataMissing, match=r"has no tokenizer\.json; use a folder that has one"):
        check_run([good], tokenizer=str(tmp_path))
    check_run([good, good], tokenizer=good)


@pytest.fixture
def remote(write_shards: WriteShards) -> str:
    """Shards in an object store of this process."""
    shards = write_shards([[8, 9, 10], [11, 12], [13]], shard_tokens=4)
    place = f"memory://{uuid.uuid4().hex}/shards"
    files = fsspec.filesystem("memory")
    for path in shards.folder.iterdir():
        files.pipe_file(f"{place}/{path.name}", path.read_bytes())
    return place


def test_remote_shards_are_checked_by_size(remote: str) -> None:
    assert check_data(remote).tokens == 9
    fsspec.filesystem("memory").pipe_file(f"{remote}/shard-00000.bin", b"short")
    with pytest.raises(DataCorrupt, match=f"{remote}/shard-00000.bin: size is 5 bytes, should be 8"):
        check_data(remote)


def environment(tmp_path: Path, limit: int | None = None) -> dict[str, str]:
    told = {"FOOTPLATE_DATA_CACHE": str(tmp_path / "cache")}
    return told if limit is None else {**told, "FOOTPLATE_DATA_CACHE_BYTES": str(limit)}


def test_remote_shards_read_like_local_ones(remote: str, tmp_path: Path) -> None:
    shards = TokenShards.open(remote, environment=environment(tmp_path))
    assert shards.read(0, 9).tolist() == [8, 9, 10, 2, 11, 12, 2, 13, 2]
    assert shards.uri == remote and shards.tokenizer_path.read_bytes() == b"{}"


def test_what_was_copied_once_is_not_copied_again(remote: str, tmp_path: Path) -> None:
    TokenShards.open(remote, environment=environment(tmp_path))
    files = fsspec.filesystem("memory")
    for name in ("shard-00000.bin", "shard-00001.offsets"):
        files.rm_file(f"{remote}/{name}")
    assert TokenShards.open(remote, environment=environment(tmp_path), local_rank=3).tokens == 9


def test_a_file_that_arrives_damaged_is_named_by_its_uri(remote: str, tmp_path: Path) -> None:
    fsspec.filesystem("memory").pipe_file(f"{remote}/shard-00001.bin", b"\0" * 6)
    fsspec.filesystem("memory").pipe_file(f"{remote}/shard-00000.bin", b"\0" * 8)
    with pytest.raises(DataCorrupt, match=f"{remote}/shard-0000..bin: sha256 is"):
        TokenShards.open(remote, environment=environment(tmp_path))
    assert not list((tmp_path / "cache").rglob("shard-*.bin"))


def test_a_cache_that_is_too_small_says_so(remote: str, tmp_path: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"FOOTPLATE_DATA_CACHE_BYTES allows 50, .*set FOOTPLATE_DATA_CACHE to a larger volume",
    ):
        TokenShards.open(remote, environment=environment(tmp_path, limit=50))


def test_what_nobody_uses_makes_room(remote: str, tmp_path: Path, write_shards: WriteShards) -> None:
    size = sum(record.bytes for record in check_data(remote).files())
    old = TokenShards.open(remote, environment=environment(tmp_path, limit=size + 10))
    other = f"memory://{uuid.uuid4().hex}/other"
    for path in write_shards([[20, 21]], folder="other").folder.iterdir():
        fsspec.filesystem("memory").pipe_file(f"{other}/{path.name}", path.read_bytes())
    with pytest.raises(DataError, match="has no room"):  # in use
        TokenShards.open(other, environment=environment(tmp_path, limit=size + 10))
    folder = old.folder
    del old
    assert TokenShards.open(other, environment=environment(tmp_path, limit=size + 10)).tokens == 3
    assert not folder.exists()


def test_nobody_takes_a_copy_into_use_while_another_makes_room(remote: str, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    with ThreadPoolExecutor(1) as other, (cache / ".room").open("wb") as room:
        fcntl.flock(room, fcntl.LOCK_EX)
        opened = other.submit(TokenShards.open, remote, environment=environment(tmp_path))
        time.sleep(0.2)  # it would take a millisecond
        assert [path.name for path in cache.iterdir()] == [".room"]
        fcntl.flock(room, fcntl.LOCK_UN)
        assert opened.result().tokens == 9
