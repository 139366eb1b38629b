"""Objects by URI on a server that speaks S3, and on a plain web server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from footplate_trainer.data.check import check_data
from footplate_trainer.data.shards import TokenShards
from footplate_trainer.errors import DataMissing
from footplate_trainer.storage import BucketStorage, Storage, StoredObject, open_storage
from tests.support.ranks import run_ranks
from tests.support.s3 import s3_server
from tests.support.tiny import pack_tiny
from tests.support.web import Web, web_server


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    with s3_server("bucket") as found:
        yield found


@pytest.fixture
def bucket(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Storage:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return open_storage(f"s3://bucket/{request.node.name}")


def test_a_bucket_reads_what_was_written(bucket: Storage, tmp_path: Path) -> None:
    (tmp_path / "up").write_bytes(b"0123456789")
    bucket.upload(tmp_path / "up", "one/two.bin")
    assert bucket.read("one/two.bin") == b"0123456789"
    assert bucket.size("one/two.bin") == 10
    assert bucket.list() == bucket.list("one") == [StoredObject("one/two.bin", 10)]


def test_a_file_larger_than_a_part_goes_up_and_down(bucket: Storage, tmp_path: Path) -> None:
    content = bytes(range(256)) * (12 << 12)  # 12 MiB: several parts
    (tmp_path / "up").write_bytes(content)
    bucket.upload(tmp_path / "up", "file")
    bucket.download("file", tmp_path / "down")
    assert (tmp_path / "down").read_bytes() == content


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"])
def test_each_name_of_the_endpoint_is_known(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    told = dict(environment)
    told[name] = told.pop("AWS_ENDPOINT_URL")
    for key, value in told.items():
        monkeypatch.setenv(key, value)
    assert open_storage("s3://bucket/empty").list() == []


def test_a_missing_object_is_told_in_one_line(bucket: Storage) -> None:
    with pytest.raises(FileNotFoundError, match=r"s3://bucket/.*/nothing: .*not found") as caught:
        bucket.read("nothing")
    assert "\n" not in str(caught.value)


def test_a_server_that_is_not_there_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    with pytest.raises(OSError, match=r"s3://bucket/x/name: .*127\.0\.0\.1:9") as caught:
        BucketStorage("s3://bucket/x", retries=0).read("name")
    assert "\n" not in str(caught.value)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Web]:
    """A web server over `tmp_path`."""
    with web_server(tmp_path) as found:
        yield found


@pytest.fixture
def web(server: Web) -> str:
    return server.address


def test_a_web_server_is_read(web: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/file").write_bytes(b"0123456789")
    storage = open_storage(f"{web}/folder")
    assert (storage.size("file"), storage.read("file")) == (10, b"0123456789")
    storage.download("file", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"0123456789"
    with pytest.raises(FileNotFoundError, match="folder/nothing"):
        storage.read("nothing")


def test_a_web_server_tells_names_and_what_changes_with_a_file(web: str, tmp_path: Path) -> None:
    (tmp_path / "folder/deep").mkdir(parents=True)
    for name in ("folder/b", "folder/a", "folder/deep/c"):
        (tmp_path / name).write_bytes(b"0123456789")
    storage = open_storage(f"{web}/folder")
    assert storage.names() == ["a", "b", "deep"]
    assert storage.list() == [StoredObject(name, 10) for name in ("a", "b", "deep/c")]
    assert open_storage(f"{web}/nowhere").names() == []

    before = storage.stat("a").stamp
    os.utime(tmp_path / "folder/a", (1e9, 1e9))
    assert before != storage.stat("a").stamp != ""


@pytest.mark.parametrize(
    ("status", "error"),
    [
        pytest.param(401, PermissionError, id="who-are-you"),
        pytest.param(403, PermissionError, id="forbidden"),
        pytest.param(404, FileNotFoundError, id="not-there"),
        pytest.param(500, OSError, id="broken"),
    ],
)
def test_what_a_web_server_answers_is_told_as_what_it_is(
    tmp_path: Path, status: int, error: type[OSError]
) -> None:
    with web_server(tmp_path, refuses=status) as server:
        storage = open_storage(f"{server.address}/folder")
        for ask in (storage.read, storage.size, storage.stat):
            with pytest.raises(OSError, match=f"{server.address}/folder/file: ") as told:
                ask("file")
            assert type(told.value) is error
            assert "\n" not in str(told.value)


def test_a_web_server_that_does_not_answer_has_not_lost_the_file() -> None:
    storage = open_storage("http://127.0.0.1:9/folder")
    for ask in (storage.read, storage.size):
        with pytest.raises(OSError, match=r"127\.0\.0\.1:9/folder/file: Cannot connect") as told:
            ask("file")
        assert type(told.value) is OSError


def test_a_bucket_tells_names_and_what_changes_with_an_object(bucket: Storage, tmp_path: Path) -> None:
    (tmp_path / "up").write_bytes(b"old")
    for name in ("b", "a", "deep/c"):
        bucket.upload(tmp_path / "up", name)
    assert sorted(bucket.names()) == ["a", "b", "deep"]

    before = bucket.stat("a").stamp
    (tmp_path / "up").write_bytes(b"new")
    bucket.upload(tmp_path / "up", "a")
    assert before != bucket.stat("a").stamp != ""


def test_shards_are_read_from_a_web_server(web: str, tmp_path: Path) -> None:
    shards = pack_tiny(tmp_path)
    there = TokenShards.open(f"{web}/shards", environment={"FOOTPLATE_DATA_CACHE": str(tmp_path / "cache")})
    assert np.array_equal(there.read(0, there.tokens), TokenShards.open(str(shards)).read(0, there.tokens))
    (shards / "shard-00000.offsets").unlink()
    with pytest.raises(DataMissing, match=f"{web}/shards/shard-00000.offsets: the manifest lists it"):
        check_data(f"{web}/shards")


def first_tokens(uri: str, cache: str) -> list[int]:
    """What one rank reads of shards elsewhere."""
    rank = int(os.environ["LOCAL_RANK"])
    shards = TokenShards.open(uri, local_rank=rank, environment={"FOOTPLATE_DATA_CACHE": cache})
    return shards.read(0, 50).tolist()


def test_the_ranks_of_a_node_fetch_each_file_once(server: Web, tmp_path: Path) -> None:
    shards = pack_tiny(tmp_path)
    read = run_ranks(first_tokens, 4, f"{server.address}/shards", str(tmp_path / "cache"))
    assert read == [TokenShards.open(str(shards)).read(0, 50).tolist()] * 4
    assert sorted(name for name in server.fetched if name != "manifest.json") == [
        "shard-00000.bin",
        "shard-00000.offsets",
        "tokenizer.json",
    ]
