"""A folder appears whole or not at all."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from footplate_trainer.data.layout import TokenType
from footplate_trainer.data.writer import ShardWriter, new_folder, write_file
from footplate_trainer.errors import DataError, WriteInProgress


def test_a_folder_appears_when_it_is_whole(tmp_path: Path) -> None:
    out = tmp_path / "made" / "out"
    with new_folder(out) as folder:
        write_file(folder / "a", [b"1", b"2"])
        assert not out.exists()
    assert [(path.name, path.read_bytes()) for path in out.iterdir()] == [("a", b"12")]
    assert list(out.parent.iterdir()) == [out]


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with new_folder(tmp_path / "out") as folder:
        write_file(folder / "a", [b"1"])
    assert (tmp_path / "out" / "a").exists()


@pytest.mark.parametrize("error", [RuntimeError("a bug"), KeyboardInterrupt()], ids=["error", "control-c"])
def test_nothing_is_left_when_the_work_fails(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)), new_folder(tmp_path / "out") as folder:
        write_file(folder / "a", [b"1"])
        raise error
    assert list(tmp_path.iterdir()) == []


def test_remains_of_a_killed_writer_are_cleared_away(tmp_path: Path) -> None:
    (tmp_path / ".out.partial").mkdir()
    (tmp_path / ".out.partial" / "shard-00007.bin").write_bytes(b"half")
    (tmp_path / ".out.partial" / ".lock").touch()
    with new_folder(tmp_path / "out") as folder:
        write_file(folder / "a", [b"1"])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a"]


def test_two_writers_of_one_folder_exclude_each_other(tmp_path: Path) -> None:
    with new_folder(tmp_path / "out") as folder:
        write_file(folder / "a", [b"first"])
        with (
            pytest.raises(WriteInProgress, match="is being written by another process"),
            new_folder(tmp_path / "out"),
        ):
            pytest.fail("the second writer got in")
    assert (tmp_path / "out" / "a").read_bytes() == b"first"


@pytest.mark.parametrize(
    ("make", "named"),
    [
        pytest.param(
            lambda out: (out.mkdir(), (out / "x").touch()), "is not empty; remove it", id="not-empty"
        ),
        pytest.param(lambda out: out.touch(), "is a file or a link", id="file"),
        pytest.param(lambda out: out.symlink_to(out.parent / "target"), "is a file or a link", id="link"),
    ],
)
def test_what_is_there_is_never_overwritten(tmp_path: Path, make, named: str) -> None:
    make(tmp_path / "out")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=named), new_folder(tmp_path / "out"):
        pytest.fail("the writer got in")
    assert sorted(tmp_path.rglob("*")) == before


def test_the_root_cannot_be_replaced() -> None:
    with pytest.raises(ValueError, match="OUT / "), new_folder(Path("/")):
        pytest.fail("the writer got in")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_no_room_is_said_plainly(tmp_path: Path, code: int) -> None:
    with pytest.raises(DataError, match=r"out: the .*(full|used up|reached); nothing was written"):  # noqa: SIM117
        with new_folder(tmp_path / "out"):
            raise OSError(code, "no room")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("limit", "shards"),
    [
        pytest.param(1, [[3], [1], [5], [2]], id="a-document-each"),
        pytest.param(4, [[3, 1], [5], [2]], id="exactly-full-and-one-too-long"),
        pytest.param(8, [[3, 1], [5, 2]], id="two-and-two"),
        pytest.param(100, [[3, 1, 5, 2]], id="all-in-one"),
    ],
)
def test_shards_hold_whole_documents(tmp_path: Path, limit: int, shards: list[list[int]]) -> None:
    writer = ShardWriter(tmp_path, TokenType.UINT16, limit)
    for length in (3, 1, 5, 2):
        writer.add([7] * length)
    writer.flush()
    assert [(shard.documents, shard.tokens) for shard in writer.shards] == [
        (len(lengths), sum(lengths)) for lengths in shards
    ]
    assert (tmp_path / "shard-00000.bin").stat().st_size == 2 * sum(shards[0])
