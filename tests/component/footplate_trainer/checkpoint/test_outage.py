"""A bucket that goes away in the middle of an upload."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from footplate_contracts.names import ExitCode
from footplate_trainer.__main__ import main
from footplate_trainer.checkpoint.store import CheckpointStore
from tests.support.outage import Way, way_to
from tests.support.ranks import run_ranks
from tests.support.s3 import s3_server
from tests.support.tiny import tiny_config
from tests.support.training import Ended, FakeAgent, train_under

Train = Callable[[str], list[Ended]]


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """How to reach the server."""
    with s3_server("outage") as environment:
        yield environment


@pytest.fixture
def way(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Way]:
    """`environment` leads through it, in ranks and here."""
    port = urlsplit(environment["AWS_ENDPOINT_URL"]).port
    assert port is not None
    with way_to(port) as way:
        environment["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{way.port}"
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield way


@pytest.fixture
def train(shards: Path, tmp_path: Path, environment: dict[str, str]) -> Train:
    """Two ranks, six steps, a checkpoint every second one."""

    def run(uri: str) -> list[Ended]:
        config = tiny_config(shards, tmp_path, [f"checkpoint.uri={uri}", "checkpoint.everySteps=2"])
        ended: list[Ended] = run_ranks(train_under, 2, FakeAgent(), config, environment=environment)
        return ended

    return run


@pytest.mark.long
def test_a_broken_upload_is_tried_again_while_training_goes_on(way: Way, train: Train) -> None:
    way.break_off(b"PUT /outage/short/step-4", times=4)

    ended = train("s3://outage/short")

    assert [end.code for end in ended] == [ExitCode.SUCCESS] * 2
    assert way.broken == 4
    assert [record.step for record in ended[0].agent.checkpoints] == [2, 4, 6]
    assert [row.step for row in ended[0].agent.rows] == [1, 2, 3, 4, 5, 6]
    assert main(["verify", "s3://outage/short"]) == ExitCode.SUCCESS


def test_a_long_outage_costs_a_checkpoint_and_no_step(way: Way, train: Train) -> None:
    way.break_off(b"PUT /outage/long/step-4", times=1000)

    ended = train("s3://outage/long")

    assert [end.code for end in ended] == [ExitCode.SUCCESS] * 2
    assert "checkpoint of step 4 in s3://outage/long" in ended[0].stderr
    assert "skipped, as the next save is due; training continues" in ended[0].stderr
    assert "Traceback" not in ended[0].stderr
    assert [row.step for row in ended[0].agent.rows] == [1, 2, 3, 4, 5, 6]
    assert [record.step for record in ended[0].agent.checkpoints] == [2, 6]
    way.break_off(b"", times=0)
    store = CheckpointStore("s3://outage/long")
    assert store.steps() == [6, 2]
    assert sorted(directory.step for directory in store.directories()) == [2, 6]
    assert main(["verify", "s3://outage/long"]) == ExitCode.SUCCESS
