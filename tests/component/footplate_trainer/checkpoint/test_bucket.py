"""Checkpoints in a bucket: a whole run, and two generations that want the same marker."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from footplate_contracts.names import ExitCode
from footplate_contracts.runconfig import RunConfig
from footplate_trainer.__main__ import main
from footplate_trainer.checkpoint.layout import CommitMarker, GenerationStart
from footplate_trainer.checkpoint.store import CheckpointStore
from tests.support.ranks import run_ranks
from tests.support.s3 import s3_server
from tests.support.tiny import read_rows, tiny_config
from tests.support.training import FakeAgent, train, train_under


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, str]]:
    with s3_server("bucket") as environment:
        yield environment


@pytest.fixture
def bucket(
    server: dict[str, str], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> CheckpointStore:
    """A folder of this test's own; the environment says how to reach it, for forked ranks too."""
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    return CheckpointStore(f"s3://bucket/{request.node.name}")


def in_bucket(shards: Path, folder: Path, uri: str, *overrides: str) -> RunConfig:
    return tiny_config(shards, folder, [f"checkpoint.uri={uri}", *overrides])


def test_a_run_lives_in_a_bucket(
    shards: Path,
    tmp_path: Path,
    server: dict[str, str],
    bucket: CheckpointStore,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = in_bucket(shards, tmp_path, bucket.uri, "checkpoint.everySteps=2", "checkpoint.keepLast=1")
    metrics = tmp_path / "metrics.jsonl"

    ended = run_ranks(train_under, 2, FakeAgent(suspend_after=2), config, metrics, environment=server)
    assert [end.code for end in ended] == [ExitCode.SUSPENDED] * 2
    assert ended[0].agent.checkpoints[-1].uri == f"{bucket.uri}/step-3.e0g0"
    assert run_ranks(train, 1, config, metrics, environment=server) == [ExitCode.SUCCESS]

    undisturbed = tiny_config(shards, tmp_path / "undisturbed")
    run_ranks(train, 2, undisturbed, tmp_path / "undisturbed.jsonl")
    rows, reference = read_rows(metrics), read_rows(tmp_path / "undisturbed.jsonl")
    assert [row["loss"] for row in rows] == pytest.approx([row["loss"] for row in reference], rel=3e-6)
    assert bucket.steps() == [6]
    assert [directory.name for directory in bucket.directories()] == ["step-6.e0g0"]

    for command in (["inspect", bucket.uri], ["verify", bucket.uri], ["verify", f"{bucket.uri}/step-6.e0g0"]):
        assert main(command) == ExitCode.SUCCESS
    assert main(["generate", bucket.uri, "abc", "--max-new-tokens", "3"]) == ExitCode.SUCCESS
    assert "intact   s3://bucket/" in capsys.readouterr().out


def test_a_damaged_object_is_named_and_the_one_before_is_used(
    shards: Path, tmp_path: Path, server: dict[str, str], bucket: CheckpointStore
) -> None:
    config = in_bucket(shards, tmp_path, bucket.uri, "checkpoint.everySteps=2")
    run_ranks(train, 1, config, environment=server)
    bucket.write("step-6.e0g0", "tensors-0.bin", b"no tensors")

    (ended,) = run_ranks(train_under, 1, FakeAgent(), config, environment=server)

    assert ended.code == ExitCode.SUCCESS
    assert "step-6.e0g0/tensors-0.bin has 10 bytes" in ended.stderr
    assert [row.step for row in ended.agent.rows] == [5, 6]


def test_of_two_generations_one_gets_each_marker(bucket: CheckpointStore) -> None:
    won: dict[int, list[int]] = {step: [] for step in range(20)}

    def commit_all(generation: int, start: threading.Barrier) -> None:
        store = CheckpointStore(bucket.uri)
        for step in won:
            start.wait()
            directory = f"step-{step}.e1g{generation}"
            if store.commit(CommitMarker(step=step, directory=directory, tokens=0, time=float(generation))):
                won[step].append(generation)

    start = threading.Barrier(2)
    writers = [threading.Thread(target=commit_all, args=[generation, start]) for generation in (1, 2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    for step, winners in won.items():
        marker = bucket.marker(step)
        assert marker is not None
        assert [marker.directory] == [f"step-{step}.e1g{winner}" for winner in winners]


def test_a_marker_that_is_gone_can_be_taken_away(bucket: CheckpointStore) -> None:
    assert bucket.commit(CommitMarker(step=1, directory="step-1.e0g0", tokens=0, time=0.0))

    bucket.revoke(1)
    bucket.revoke(1)

    assert bucket.steps() == []


def test_where_generations_began_is_noted_in_a_bucket_too(bucket: CheckpointStore) -> None:
    for step, number in ((0, 1), (20, 2), (10, 3), (10, 3)):
        bucket.record_generation_start(GenerationStart(step, 1, number, "uid"))

    assert {begun.name for begun in bucket.list_generation_starts("uid")} == {
        "begun-0.e1g1.uid",
        "begun-10.e1g3.uid",
    }
    assert (bucket.steps(), bucket.directories()) == ([], [])


def test_a_bucket_that_is_not_there_is_told_in_a_line(
    shards: Path, tmp_path: Path, server: dict[str, str]
) -> None:
    config = in_bucket(shards, tmp_path, "s3://nowhere/run")

    (ended,) = run_ranks(train_under, 1, FakeAgent(), config, environment=server)

    assert ended.code == ExitCode.STORAGE
    assert ended.stderr.startswith("error: checkpoint folder s3://nowhere/run: ")
    assert len(ended.stderr.splitlines()) == 1
