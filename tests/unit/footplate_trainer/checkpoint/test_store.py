"""Markers and manifests on a file system."""

from __future__ import annotations

import errno
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from footplate_contracts.names import Reason
from footplate_contracts.reports import GenerationId
from footplate_trainer.checkpoint.layout import (
    CheckpointRetention,
    CommitMarker,
    GenerationStart,
    StepDirectory,
)
from footplate_trainer.checkpoint.step import StepCheckpoint
from footplate_trainer.checkpoint.store import CheckpointStore, is_volume_full, storage_errors
from footplate_trainer.errors import StorageError
from tests.support.checkpoints import write_checkpoint


def nobody(gone: StepDirectory) -> None:
    """Whoever does not care what retention removed."""


def marker(step: int, generation: int) -> CommitMarker:
    return CommitMarker(step=step, directory=f"step-{step}.e1g{generation}", tokens=7, time=1.5)


def test_only_the_first_marker_of_a_step_is_made(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)

    assert store.commit(marker(5, 1))
    assert not store.commit(marker(5, 2))

    assert store.marker(5) == marker(5, 1)
    assert store.steps() == [5]


def test_of_many_generations_one_makes_the_marker(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)

    with ThreadPoolExecutor(4) as threads:
        won = list(threads.map(lambda generation: store.commit(marker(5, generation)), range(4)))

    assert sorted(won) == [False, False, False, True]
    assert store.marker(5) == marker(5, won.index(True))
    assert [path.name for path in tmp_path.iterdir()] == ["step-5.committed"]


def test_a_revoked_step_can_be_committed_again(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    store.commit(marker(5, 1))

    store.revoke(5)
    store.revoke(5)

    assert store.commit(marker(5, 2))


def test_a_marker_that_was_cut_off_is_none(tmp_path: Path) -> None:
    (tmp_path / "step-5.committed").write_text('{"step": 5, "direc')

    assert CheckpointStore(tmp_path).marker(5) is None


def test_a_checkpoint_of_a_newer_release_is_whole_and_stays(tmp_path: Path) -> None:
    for step in (2, 4):
        directory = write_checkpoint(tmp_path, step)
        for path in (directory / "manifest.json", tmp_path / f"step-{step}.committed"):
            path.write_text(json.dumps({**json.loads(path.read_text()), "mood": "good"}))
    store = CheckpointStore(tmp_path)

    store.apply_retention(store.markers(), CheckpointRetention(2), GenerationId(epoch=1, number=2), nobody)

    assert store.steps() == [4, 2]
    assert [StepCheckpoint(store, f"step-{step}.e1g2").first_damage() for step in (2, 4)] == [None, None]


def test_a_torn_marker_pushes_no_whole_checkpoint_out(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 2)
    write_checkpoint(tmp_path, 4)
    (tmp_path / "step-6.committed").write_text("")
    store = CheckpointStore(tmp_path)

    store.apply_retention(store.markers(), CheckpointRetention(1), GenerationId(epoch=1, number=2), nobody)

    assert store.steps() == [4]
    assert [directory.name for directory in store.directories()] == ["step-4.e1g2"]


def test_retention_tells_what_it_removed_and_no_more(tmp_path: Path) -> None:
    for step in (2, 4, 6, 8):
        write_checkpoint(tmp_path, step)  # by generation 1.2
    (tmp_path / "step-5.e1g1").mkdir()  # of a generation that died while writing
    (tmp_path / "step-7.committed").write_text("")  # torn: nobody was told of such a checkpoint
    (tmp_path / "step-3.committed").mkdir()  # cannot be deleted
    store, told = CheckpointStore(tmp_path), list[str]()

    with pytest.raises(OSError, match="step-3"):
        store.apply_retention(
            store.markers(),
            CheckpointRetention(1),
            GenerationId(epoch=2, number=1),
            lambda gone: told.append(gone.name),
        )
    (tmp_path / "step-3.committed").rmdir()
    store.apply_retention(
        store.markers(),
        CheckpointRetention(1),
        GenerationId(epoch=2, number=1),
        lambda gone: told.append(gone.name),
    )

    assert sorted(told) == ["step-2.e1g2", "step-4.e1g2", "step-6.e1g2"]
    assert [directory.name for directory in store.directories()] == ["step-8.e1g2"]


def test_what_generations_began_with_is_kept_as_long_as_it_matters(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    for step, number, run in ((7, 9, "earlier"), (0, 1, "uid"), (2, 2, "uid"), (6, 3, "uid"), (4, 4, "uid")):
        store.record_generation_start(GenerationStart(step, 1, number, run))
    store.record_generation_start(GenerationStart(4, 1, 4, "uid"))
    assert {begun.number for begun in store.list_generation_starts("uid")} == {1, 2, 4}
    assert {begun.number for begun in store.list_generation_starts("earlier")} == {9}

    for step in (4, 6):
        write_checkpoint(tmp_path, step)
    store.apply_retention(store.markers(), CheckpointRetention(2), GenerationId(epoch=1, number=4), nobody)
    assert {begun.number for begun in store.list_generation_starts("uid")} == {2, 4}
    store.apply_retention(store.markers(), CheckpointRetention(1), GenerationId(epoch=1, number=4), nobody)
    assert {begun.number for begun in store.list_generation_starts("uid")} == {4}
    assert store.steps() == [6]


def test_a_commit_that_was_answered_too_late_is_still_ours(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    store.commit(marker(5, 1))

    assert store.commit(marker(5, 1))


def test_no_other_scheme_is_taken() -> None:
    with pytest.raises(ValueError, match="ftp://host/run is not supported; use a path, file:// or s3://"):
        CheckpointStore("ftp://host/run")


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "missing")

    assert (store.steps(), store.directories()) == ([], [])


def test_a_file_that_changed_is_damaged(tmp_path: Path) -> None:
    store, path = CheckpointStore(tmp_path), tmp_path / "step-1.e0g0" / "part"
    record = store.write("step-1.e0g0", "part", b"weights")
    checkpoint = StepCheckpoint(store, "step-1.e0g0")

    assert checkpoint.damage(record) is None
    path.write_bytes(b"weighty")
    assert "SHA-256" in (checkpoint.damage(record) or "")
    path.write_bytes(b"weigh")
    assert checkpoint.damage(record) == "step-1.e0g0/part has 5 bytes, should have 7"
    path.unlink()
    assert checkpoint.damage(record) == "step-1.e0g0/part is missing"


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        pytest.param(errno.ENOSPC, Reason.STORAGE_FULL, id="full"),
        pytest.param(errno.EDQUOT, Reason.STORAGE_FULL, id="quota"),
        pytest.param(errno.EIO, Reason.STORAGE_ERROR, id="broken"),
    ],
)
def test_errors_of_the_file_system_have_a_reason(number: int, reason: Reason) -> None:
    with (
        pytest.raises(StorageError, match="checkpoint of step 5") as caught,
        storage_errors("checkpoint of step 5"),
    ):
        raise OSError(number, "no")

    assert caught.value.outcome.reason == reason


def test_a_refused_user_is_named() -> None:
    with (
        pytest.raises(
            StorageError,
            match=rf"^checkpoint folder /nfs: Permission denied to uid {os.geteuid()}, gid {os.getegid()}$",
        ),
        storage_errors("checkpoint folder /nfs"),
    ):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def test_a_full_volume_is_seen_behind_another_error() -> None:
    try:
        try:
            raise OSError(errno.ENOSPC, "full")
        except OSError as error:
            raise RuntimeError("writing failed") from error
    except RuntimeError as error:
        assert is_volume_full(error)
    assert not is_volume_full(RuntimeError("other"))
