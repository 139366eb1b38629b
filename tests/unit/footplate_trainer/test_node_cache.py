"""Copies of files from elsewhere: whole, as announced, and in bounds."""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path

import pytest

from footplate_trainer.node_cache import CacheError, CacheSettings, CopyDiffers, RemoteFile, fetch, key_of
from footplate_trainer.storage import Storage, open_storage

CONTENT = b"0123456789"


@pytest.fixture
def there(tmp_path: Path) -> Storage:
    """A folder elsewhere with the files a and b."""
    storage = open_storage(f"memory://{uuid.uuid4().hex}")
    (tmp_path / "up").write_bytes(CONTENT)
    for name in ("a", "b"):
        storage.upload(tmp_path / "up", name)
    return storage


@pytest.fixture
def settings(tmp_path: Path) -> CacheSettings:
    return CacheSettings(tmp_path / "cache")


def known(storage: Storage, *names: str) -> list[RemoteFile]:
    seen = [storage.stat(name) for name in names]
    return [RemoteFile(file.name, file.bytes, stamp=file.stamp) for file in seen]


def test_files_are_copied_and_what_was_read_lies_beside_them(there: Storage, settings: CacheSettings) -> None:
    copy = fetch(there, "key", known(there, "a", "b"), settings, known={"c": b"known"})
    assert {path.name: path.read_bytes() for path in copy.folder.glob("[!.]*")} == {
        "a": CONTENT,
        "b": CONTENT,
        "c": b"known",
    }


def test_one_copy_takes_further_files(there: Storage, settings: CacheSettings) -> None:
    first = fetch(there, "key", known(there, "a"), settings)
    then = fetch(there, "key", known(there, "b"), settings)
    assert first.folder == then.folder
    assert sorted(path.name for path in then.folder.glob("[!.]*")) == ["a", "b"]


@pytest.mark.parametrize(
    ("announced", "what", "expected", "found"),
    [
        pytest.param(RemoteFile("a", 11), "size", "11 bytes", "10 bytes", id="size"),
        pytest.param(
            RemoteFile("a", 10, sha256="0" * 64),
            "sha256",
            "0" * 64,
            hashlib.sha256(CONTENT).hexdigest(),
            id="checksum",
        ),
    ],
)
def test_what_arrives_otherwise_than_announced_is_not_kept(
    there: Storage, settings: CacheSettings, announced: RemoteFile, what: str, expected: str, found: str
) -> None:
    with pytest.raises(CopyDiffers) as told:
        fetch(there, "key", [announced], settings)
    assert (told.value.what, told.value.expected, told.value.found) == (what, expected, found)
    assert told.value.place == f"{there.uri}/a"
    assert not {"a", ".a.partial"} & {path.name for path in (settings.folder / "key").iterdir()}


def test_a_file_that_was_replaced_in_between_is_not_kept(
    there: Storage, settings: CacheSettings, tmp_path: Path
) -> None:
    announced = known(there, "a")
    (tmp_path / "up").write_bytes(CONTENT[::-1])
    there.upload(tmp_path / "up", "a")
    with pytest.raises(CopyDiffers, match=f"{there.uri}/a: version is"):
        fetch(there, "key", announced, settings)


def test_what_is_not_there_is_told_by_the_storage(there: Storage, settings: CacheSettings) -> None:
    with pytest.raises(FileNotFoundError, match=f"{there.uri}/c"):
        fetch(there, "key", [RemoteFile("c", 10)], settings)


def test_what_a_copy_holds_already_counts(there: Storage, settings: CacheSettings) -> None:
    bounded = CacheSettings(settings.folder, limit=19)
    first = fetch(there, "key", known(there, "a"), bounded)
    with pytest.raises(CacheError, match=r"the files of memory://.* have 20 bytes, .*allows 19"):
        fetch(there, "key", known(there, "b"), bounded)
    assert first.folder.is_dir()


def test_copies_that_nobody_uses_make_room(there: Storage, settings: CacheSettings) -> None:
    bounded = CacheSettings(settings.folder, limit=15)
    old = fetch(there, "old", known(there, "a"), bounded)
    with pytest.raises(CacheError):
        fetch(there, "new", known(there, "a"), bounded)
    gone = old.folder
    del old
    assert fetch(there, "new", known(there, "a"), bounded).folder.is_dir()
    assert not gone.exists()


def test_a_disk_that_cannot_be_written_is_told_as_such(there: Storage, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CacheError, match=r"cannot write the cache .*/file/key: "):
        fetch(there, "key", known(there, "a"), CacheSettings(tmp_path / "file"))


def test_equal_contents_have_equal_keys() -> None:
    assert key_of(b"a") == key_of(b"a") != key_of(b"b")
