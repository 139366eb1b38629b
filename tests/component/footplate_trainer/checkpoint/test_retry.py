"""Saves that fail are made again while training goes on, and none counts that one rank could not write."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import resource
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from footplate_contracts.metrics import StepMetrics
from footplate_contracts.names import ExitCode
from footplate_contracts.reports import RankPhase, RankReport
from footplate_contracts.runconfig import RunConfig
from footplate_contracts.samples import LoggedSample
from footplate_trainer.__main__ import main
from footplate_trainer.checkpoint.layout import CommitMarker
from footplate_trainer.checkpoint.store import CheckpointStore
from tests.support.ranks import run_ranks
from tests.support.tiny import read_rows, tiny_config
from tests.support.training import Ended, FakeAgent, train, train_under

_SAVER = logging.getLogger("footplate_trainer.checkpoint.durable.saver")


class Touch(logging.Handler):
    """Makes a file when something is logged."""

    def __init__(self, path: Path) -> None:
        super().__init__(logging.WARNING)
        self.path = path

    def emit(self, record: logging.LogRecord) -> None:
        self.path.touch()


class SmallDisk(FakeAgent):
    """From its save of `step` on, rank 1 can write no file above 1 kB, until step `healed_after` is trained.

    That is not before a save has failed. There all ranks wait until step `needed` is durable.
    """

    def __init__(self, folder: Path, step: int, needed: int, healed_after: int) -> None:
        super().__init__()
        self.folder = folder
        self.fails_at, self.needed, self.healed_after = step, needed, healed_after

    def report(self, report: RankReport) -> None:
        super().report(report)
        if report.phase is RankPhase.LOADING and not _SAVER.handlers:
            _SAVER.addHandler(Touch(self.folder / "failed"))
        if report.rank == 1 and (report.phase, report.step) == (RankPhase.CHECKPOINT, self.fails_at):
            _limit_files(1000)
        if report.phase is RankPhase.DATA and report.step == self.healed_after:
            wait_for(self.folder / f"row-{self.healed_after}")
            wait_for(self.folder / "failed")
            _limit_files(resource.RLIM_INFINITY)
            wait_for(self.folder / f"step-{self.needed}.committed")

    def metrics(self, row: StepMetrics, samples: Sequence[LoggedSample] = ()) -> None:
        super().metrics(row, samples)
        (self.folder / f"row-{row.step}").touch()


def _limit_files(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def wait_for(path: Path) -> None:
    """Until it is there."""
    deadline = time.monotonic() + 60.0
    while not path.exists():
        assert time.monotonic() < deadline, f"there is no {path}"
        time.sleep(0.005)


class Ungranted(FakeAgent):
    """Storage fails, in the last moment of a save, `times` times at each step from `first` on."""

    def __init__(self, first: int, times: int, suspend_after: int | None = None) -> None:
        super().__init__(suspend_after=suspend_after)
        self.first, self.times = first, times
        self.asked: list[int] = []

    def grant(self, step: int) -> bool:
        self.asked.append(step)
        if step >= self.first and self.asked.count(step) <= self.times:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return True


def undisturbed(config: RunConfig, metrics: Path) -> list[tuple[int, float]]:
    """Step and loss of a run of two ranks without any fault."""
    run_ranks(train, 2, config, metrics)
    return losses(metrics)


def losses(metrics: Path) -> list[tuple[int, float]]:
    return [(row["step"], row["loss"]) for row in read_rows(metrics)]


@pytest.mark.parametrize("asynchronous", ["true", pytest.param("false", marks=pytest.mark.long)])
def test_a_save_that_one_rank_cannot_write_is_made_again_while_training_goes_on(
    shards: Path, tmp_path: Path, asynchronous: str
) -> None:
    wanted = ["training.steps=8", "checkpoint.everySteps=4", f"checkpoint.asynchronous={asynchronous}"]
    config, folder = tiny_config(shards, tmp_path, wanted), tmp_path / "checkpoints"
    agent = SmallDisk(folder, step=4, needed=4, healed_after=5)

    ended: list[Ended] = run_ranks(train_under, 2, agent, config, tmp_path / "metrics.jsonl")

    assert [end.code for end in ended] == [ExitCode.SUCCESS] * 2
    assert f"checkpoint of step 4 in {folder}: File too large; retrying in 1 s" in ended[0].stderr
    assert [record.step for record in ended[0].agent.checkpoints] == [4, 8]
    assert main(["verify", str(folder)]) == ExitCode.SUCCESS
    whole = tiny_config(shards, tmp_path / "undisturbed", wanted)
    assert losses(tmp_path / "metrics.jsonl") == undisturbed(whole, tmp_path / "undisturbed.jsonl")


def commit_on_a_full_disk(folder: Path) -> tuple[list[int], bool]:
    """The steps that have a marker after one could not be written, and whether that can be made up for."""
    store = CheckpointStore(folder)
    store.create()
    marker = CommitMarker(step=4, directory="step-4.e0g0", tokens=0, time=0.0)
    _limit_files(1)
    with contextlib.suppress(OSError):
        store.commit(marker)
    _limit_files(resource.RLIM_INFINITY)
    return store.steps(), store.commit(marker)


def test_a_marker_that_cannot_be_written_is_in_nobodys_way(tmp_path: Path) -> None:
    assert run_ranks(commit_on_a_full_disk, 1, tmp_path) == [([], True)]


def test_one_that_still_fails_when_the_next_is_due_is_left_out(shards: Path, tmp_path: Path) -> None:
    config = tiny_config(shards, tmp_path, ["training.steps=8", "checkpoint.everySteps=2"])
    folder = tmp_path / "checkpoints"
    agent = SmallDisk(folder, step=2, needed=4, healed_after=5)

    ended: list[Ended] = run_ranks(train_under, 2, agent, config)

    assert [end.code for end in ended] == [ExitCode.SUCCESS] * 2
    assert (
        "step 2" in ended[0].stderr
        and "skipped, as the next save is due; training continues" in ended[0].stderr
    )
    assert [record.step for record in ended[0].agent.checkpoints] == [4, 6, 8]
    left_out = {row.step: row.checkpoints_left_out for row in ended[0].agent.rows}
    assert [left_out[step] for step in (4, 5, 8)] == [None, 1, None]
    store = CheckpointStore(folder)
    assert sorted(directory.step for directory in store.directories()) == store.steps()[::-1] == [4, 6, 8]


@pytest.mark.parametrize(
    ("suspend_after", "code"),
    [
        pytest.param(None, ExitCode.SUCCESS, id="of the run"),
        pytest.param(3, ExitCode.SUSPENDED, id="of a suspension"),
    ],
)
def test_the_last_one_is_tried_until_it_is_durable(
    shards: Path, tmp_path: Path, suspend_after: int | None, code: ExitCode
) -> None:
    config = tiny_config(shards, tmp_path)
    agent = Ungranted(first=0, times=2, suspend_after=suspend_after)

    ended: list[Ended] = run_ranks(train_under, 2, agent, config)

    assert [end.code for end in ended] == [code] * 2
    last = ended[0].agent.step
    assert isinstance(ended[0].agent, Ungranted) and ended[0].agent.asked == [last] * 3
    assert [record.step for record in ended[0].agent.checkpoints] == [last]
    assert main(["verify", str(tmp_path / "checkpoints")]) == ExitCode.SUCCESS


@pytest.mark.parametrize(
    ("steps", "durable"),
    [
        pytest.param(100_000, [2], id="while it trains"),
        pytest.param(4, [2], id="at its end"),
    ],
)
def test_after_its_bound_the_failure_ends_the_ranks_and_nothing_is_claimed(
    shards: Path, tmp_path: Path, steps: int, durable: list[int]
) -> None:
    wanted = [f"training.steps={steps}", "checkpoint.everySteps=2", "checkpoint.retrySeconds=1"]
    config = tiny_config(shards, tmp_path, wanted)

    ended: list[Ended] = run_ranks(train_under, 2, Ungranted(first=4, times=1_000_000), config)

    assert [end.code for end in ended] == [ExitCode.STORAGE] * 2
    assert "Input/output error" in ended[0].stderr and "Traceback" not in ended[0].stderr
    assert [record.step for record in ended[0].agent.checkpoints] == durable
    store = CheckpointStore(tmp_path / "checkpoints")
    assert store.steps() == durable
    assert [directory.step for directory in store.directories()] == durable
