"""Which checkpoint counts when several want to, and what is left when writing fails."""

from __future__ import annotations

import ctypes
import json
import os
import random
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from footplate_contracts.metrics import StepMetrics
from footplate_contracts.names import Env, ExitCode
from footplate_contracts.reports import CheckpointRecord
from footplate_contracts.runconfig import RunConfig
from footplate_contracts.samples import LoggedSample
from footplate_trainer.__main__ import main
from footplate_trainer.checkpoint.layout import CommitMarker, StepDirectory
from footplate_trainer.checkpoint.lookup import find_newest_whole
from footplate_trainer.checkpoint.store import CheckpointStore
from tests.support.ranks import run_ranks, start_ranks
from tests.support.tiny import read_rows, tiny_config
from tests.support.training import Ended, FakeAgent, train, train_under

_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000


def test_a_stale_generation_gets_no_marker(shards: Path, tmp_path: Path) -> None:
    config = tiny_config(shards, tmp_path, ["checkpoint.everySteps=2", "checkpoint.asynchronous=false"])

    ended: list[Ended] = run_ranks(
        train_under, 2, FakeAgent(refuse_step=4), config, environment={Env.GENERATION: "1.3"}
    )

    assert [end.code for end in ended] == [ExitCode.STALE] * 2
    assert "generation 1.3 may not commit step 4" in ended[0].stderr
    store = CheckpointStore(tmp_path / "checkpoints")
    assert store.steps() == [2]
    assert [directory.name for directory in store.directories()] == ["step-2.e1g3"]


def test_the_second_marker_of_a_step_loses(shards: Path, tmp_path: Path) -> None:
    config = tiny_config(shards, tmp_path, ["checkpoint.everySteps=2"])
    store = CheckpointStore(tmp_path / "checkpoints")

    ended: list[Ended] = run_ranks(train_under, 1, LateMarker(tmp_path / "checkpoints"), config)

    assert ended[0].code == ExitCode.SUCCESS
    assert (
        "another generation, or another process of this run, has already committed step 6" in ended[0].stderr
    )
    assert [record.step for record in ended[0].agent.checkpoints] == [2, 4]
    assert sorted(store.steps()) == [2, 4, 6]


class LateMarker(FakeAgent):
    """Another generation commits step 6 just before this one may."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def grant(self, step: int) -> bool:
        if step == 6:
            (self.folder / "step-6.committed").write_text("{}")
        return True


def test_retention_keeps_the_newest_and_the_multiples(shards: Path, tmp_path: Path) -> None:
    config = tiny_config(
        shards,
        tmp_path,
        ["checkpoint.everySteps=1", "checkpoint.keepLast=2", "checkpoint.keepEverySteps=3"],
    )
    store = CheckpointStore(tmp_path / "checkpoints")
    (tmp_path / "checkpoints" / "step-1.e0g7").mkdir(parents=True)  # of a generation that died while writing
    (tmp_path / "checkpoints" / "step-9.e9g9").mkdir()  # of a newer one: not ours to judge

    ended: list[Ended] = run_ranks(train_under, 1, FakeAgent(), config, environment={Env.GENERATION: "1.1"})

    assert [str(record.generation) for record in ended[0].agent.checkpoints] == ["1.1"] * 6
    assert [(gone.step, str(gone.generation)) for gone in ended[0].agent.removals] == [
        (step, "1.1") for step in (1, 2, 4)
    ]
    assert store.steps() == [6, 5, 3]
    assert sorted(directory.name for directory in store.directories()) == [
        "step-3.e1g1",
        "step-5.e1g1",
        "step-6.e1g1",
        "step-9.e9g9",
    ]


def test_what_an_earlier_generation_committed_is_told_under_its_name(shards: Path, tmp_path: Path) -> None:
    config = tiny_config(shards, tmp_path, ["checkpoint.everySteps=2", "checkpoint.keepLast=1"])
    asked_to_end = FakeAgent(suspend_after=1)
    run_ranks(train_under, 1, asked_to_end, config, environment={Env.GENERATION: "1.1"})

    ended: list[Ended] = run_ranks(train_under, 1, FakeAgent(), config, environment={Env.GENERATION: "2.1"})

    assert [(gone.step, str(gone.generation)) for gone in ended[0].agent.removals] == [
        (2, "1.1"),
        (4, "2.1"),
    ]


def test_a_failed_retention_takes_nothing_from_what_is_committed(shards: Path, tmp_path: Path) -> None:
    config = tiny_config(shards, tmp_path, ["checkpoint.everySteps=2", "checkpoint.keepLast=1"])
    folder = tmp_path / "checkpoints"

    ended: list[Ended] = run_ranks(train_under, 1, UnreadableMarker(folder), config)

    assert ended[0].code == ExitCode.SUCCESS
    assert f"cannot remove old checkpoints in {folder}: Is a directory" in ended[0].stderr
    assert [record.step for record in ended[0].agent.checkpoints] == [2, 4, 6]
    assert ended[0].agent.removals == []
    (folder / "step-1.committed").rmdir()
    assert main(["verify", str(folder / "step-6.e0g0")]) == ExitCode.SUCCESS


def test_a_second_start_takes_nothing_from_what_the_first_committed(shards: Path, tmp_path: Path) -> None:
    config = tiny_config(shards, tmp_path, ["checkpoint.everySteps=2"])
    folder = tmp_path / "checkpoints"

    ended: list[Ended] = run_ranks(train_under, 2, FasterTwin(folder), config)

    assert [end.code for end in ended] == [ExitCode.SUCCESS] * 2
    assert (
        "another generation, or another process of this run, has already committed step 4" in ended[0].stderr
    )
    assert [record.step for record in ended[0].agent.checkpoints] == [2, 6]
    assert (folder / "step-4.e0g0" / "of-the-first").exists()


def train_on_a_disk_of_its_own(config: RunConfig) -> Ended:
    """Each rank has another folder under the path that all are given, as on nodes that share no volume."""
    folder = f"{config.checkpoint.uri}-{os.environ['RANK']}"
    checkpoint = config.checkpoint.model_copy(update={"uri": folder})
    return train_under(FakeAgent(), config.model_copy(update={"checkpoint": checkpoint}))


def test_ranks_that_share_no_folder_are_told_at_the_first_checkpoint(shards: Path, tmp_path: Path) -> None:
    config = tiny_config(shards, tmp_path, ["checkpoint.everySteps=2"])

    ended: list[Ended] = run_ranks(train_on_a_disk_of_its_own, 2, config)

    assert [end.code for end in ended] == [ExitCode.STORAGE] * 2
    assert "the ranks do not share " in ended[0].stderr
    assert "checkpoints-0; mount a shared volume" in ended[0].stderr
    assert CheckpointStore(tmp_path / "checkpoints-0").steps() == []


def test_a_checkpoint_that_only_some_ranks_see_keeps_its_marker(shards: Path, tmp_path: Path) -> None:
    config = tiny_config(shards, tmp_path, ["checkpoint.everySteps=2", "training.steps=4"])
    run_ranks(train_on_a_disk_of_its_own, 1, config)

    ended: list[Ended] = run_ranks(train_on_a_disk_of_its_own, 2, config)

    assert [end.code for end in ended] == [ExitCode.STORAGE] * 2
    assert "is missing on rank 1 but not on other ranks" in ended[0].stderr
    assert CheckpointStore(tmp_path / "checkpoints-0").steps() == [4, 2]


class FasterTwin(FakeAgent):
    """A process of the same run and generation commits step 4 while this one is at step 3.

    The retention behind step 2 falls into its writing.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def checkpoint(self, record: CheckpointRecord) -> None:
        super().checkpoint(record)
        while record.step == 2 and not (self.folder / "step-4.e0g0" / "of-the-first").exists():
            time.sleep(0.005)

    def metrics(self, row: StepMetrics, samples: Sequence[LoggedSample] = ()) -> None:
        super().metrics(row)
        if row.step == 3:
            (self.folder / "step-4.e0g0").mkdir()
            (self.folder / "step-4.e0g0" / "of-the-first").touch()
            time.sleep(0.3)  # long enough for that retention
            marker = CommitMarker(step=4, directory="step-4.e0g0", tokens=0, time=0.0)
            assert CheckpointStore(self.folder).commit(marker)


class UnreadableMarker(FakeAgent):
    """From step 4 on, storage cannot read one of the old markers."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def grant(self, step: int) -> bool:
        if step == 4:
            (self.folder / "step-1.committed").mkdir()
        return True


@pytest.mark.long
def test_a_kill_at_any_moment_leaves_a_checkpoint_to_go_on_from(shards: Path, tmp_path: Path) -> None:
    config = tiny_config(shards, tmp_path, ["training.steps=40", "checkpoint.everySteps=1"])
    metrics, store = tmp_path / "metrics.jsonl", CheckpointStore(tmp_path / "checkpoints")
    rng = random.Random(time.time_ns())
    reached = 0
    for _ in range(5):
        ranks = start_ranks(train, 2, config, metrics)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and (store.steps() or [0])[0] <= reached:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.15))
        ranks.kill()
        reached = store.steps()[0]
        found = find_newest_whole(store.uri)
        marked = StepDirectory.parse(found.directory)
        assert marked is not None
        assert marked.step >= reached - 1, "at most the commit that was cut off is missing"
    assert run_ranks(train, 2, config, metrics) == [0, 0]

    undisturbed = tiny_config(shards, tmp_path / "undisturbed", ["training.steps=40"])
    run_ranks(train, 2, undisturbed, tmp_path / "undisturbed.jsonl")
    rows, reference = read_rows(metrics), read_rows(tmp_path / "undisturbed.jsonl")
    assert [(row["step"], row["loss"]) for row in rows] == [(row["step"], row["loss"]) for row in reference]


def train_on_a_small_volume(config: RunConfig, error_file: Path) -> tuple[int, float, list[str]]:
    """Train with the checkpoint folder on a volume of 200 KiB that only this process sees."""
    libc = ctypes.CDLL(None, use_errno=True)
    folder, user, group = config.checkpoint.uri, os.getuid(), os.getgid()
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNS):
        return -1, 0.0, []
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    if libc.mount(b"none", folder.encode(), b"tmpfs", 0, b"size=200k"):
        return -1, 0.0, []
    os.environ["TORCHELASTIC_ERROR_FILE"] = str(error_file)
    begun = time.monotonic()
    code = train(config)
    return code, time.monotonic() - begun, sorted(os.listdir(folder))


def test_a_full_volume_is_told_within_seconds_and_leaves_nothing(shards: Path, tmp_path: Path) -> None:
    config = tiny_config(shards, tmp_path, ["training.steps=100000", "checkpoint.everySteps=5"])
    (tmp_path / "checkpoints").mkdir()

    code, seconds, left = run_ranks(train_on_a_small_volume, 1, config, tmp_path / "error.json")[0]

    if code == -1:
        pytest.skip("this kernel lets no user mount a volume of its own")
    assert code == ExitCode.STORAGE
    assert seconds < 10
    assert left == []
    failure = json.loads((tmp_path / "error.json").read_text())["failure"]
    assert (failure["cause"], failure["reason"]) == ("Storage", "StorageFull")
    assert "step 5" in failure["message"]
    assert "No space left on device" in failure["message"]
