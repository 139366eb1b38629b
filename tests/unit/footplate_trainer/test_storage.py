"""Objects by URI, where nothing but this process is needed."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from footplate_trainer.storage import Storage, StoredObject, local_path, open_storage

Put = Callable[[str, bytes], None]


@pytest.fixture(params=["folder", "file", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    uris = {
        "folder": str(tmp_path / "a b"),
        "file": (tmp_path / "a b").as_uri(),
        "memory": f"memory://{uuid.uuid4().hex}/deep",
    }
    return open_storage(uris[request.param])


@pytest.fixture
def put(storage: Storage, tmp_path: Path) -> Put:
    """Makes an object of some bytes."""

    def upload(name: str, content: bytes) -> None:
        (tmp_path / "content").write_bytes(content)
        storage.upload(tmp_path / "content", name)

    return upload


def test_what_was_written_is_read(storage: Storage, put: Put) -> None:
    put("one/two.bin", b"0123456789")
    assert storage.read("one/two.bin") == b"0123456789"
    assert storage.size("one/two.bin") == 10


def test_writing_again_replaces(storage: Storage, put: Put) -> None:
    put("name", b"old and long")
    put("name", b"new")
    assert storage.read("name") == b"new"


def test_the_list_is_relative_sorted_and_deep(storage: Storage, put: Put) -> None:
    for name in ("b", "a/2", "a/1/x"):
        put(name, b"12")
    assert storage.list() == [StoredObject(name, 2) for name in ("a/1/x", "a/2", "b")]
    assert [stored.name for stored in storage.list("a")] == ["a/1/x", "a/2"]


def test_names_are_those_directly_below(storage: Storage, put: Put) -> None:
    for name in ("b", "a/2", "a/1/x"):
        put(name, b"12")
    assert sorted(storage.names()) == ["a", "b"]


def test_a_stamp_changes_with_the_content(storage: Storage, put: Put) -> None:
    put("name", b"old")
    before = storage.stat("name")
    put("name", b"new")
    after = storage.stat("name")
    assert before == after == StoredObject("name", 3)
    assert before.stamp != after.stamp != ""


def test_a_list_of_nothing_is_empty(storage: Storage) -> None:
    assert storage.list() == storage.list("nowhere") == storage.names() == []


def test_what_is_missing_is_told_with_its_place(storage: Storage) -> None:
    with pytest.raises(FileNotFoundError, match="nothing"):
        storage.read("nothing")
    with pytest.raises(FileNotFoundError, match="nothing"):
        storage.size("nothing")
    with pytest.raises(FileNotFoundError, match="nothing"):
        storage.stat("nothing")


def test_files_go_up_and_down(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "up").write_bytes(b"content")
    storage.upload(tmp_path / "up", "deep/file")
    storage.download("deep/file", tmp_path / "down")
    assert (tmp_path / "down").read_bytes() == b"content"


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        pytest.param("sftpp://host/x", "Protocol not known: sftpp.*use a path", id="unknown-scheme"),
        pytest.param("smb://host/x", "smb://host/x cannot be opened.*use a path", id="not-installed"),
        pytest.param("hdfs://host/x", r"hdfs://host/x cannot be opened [^\n]*use a path", id="no-java"),
        pytest.param("s3:///x", "has no bucket; use s3://BUCKET/FOLDER", id="no-bucket"),
    ],
)
def test_a_uri_that_cannot_be_opened_is_refused(uri: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        open_storage(uri)


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        pytest.param("/shared/run", "/shared/run", id="path"),
        pytest.param("runs/one", "runs/one", id="relative"),
        pytest.param("file:///shared/a%20b", "/shared/a b", id="file-uri"),
    ],
)
def test_local_path(uri: str, path: str) -> None:
    assert local_path(uri) == Path(path)
