"""A writer that was frozen and wakes up when its successor has committed does no harm."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from footplate_contracts.names import Env, ExitCode
from footplate_contracts.reports import RankPhase, RankReport
from footplate_trainer.__main__ import main
from footplate_trainer.checkpoint.store import CheckpointStore
from tests.support.ranks import run_ranks, start_ranks
from tests.support.s3 import s3_server
from tests.support.tiny import tiny_config
from tests.support.training import FakeAgent, train, train_under

FREEZE_AT = 4


def freeze() -> None:
    """Stop the process here: a signal to the process might reach another thread first."""
    signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)


class FrozenAtGrant(FakeAgent):
    """SIGSTOP between the permission to commit and the commit: the latest moment that there is."""

    def grant(self, step: int) -> bool:
        if step == FREEZE_AT:
            freeze()
        return True


class FrozenAtWrite(FakeAgent):
    """SIGSTOP before the first byte; nobody refuses the commit afterwards either."""

    def report(self, report: RankReport) -> None:
        super().report(report)
        if report.phase is RankPhase.CHECKPOINT and report.step == FREEZE_AT:
            freeze()


@pytest.fixture
def place(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, dict[str, str]]]:
    """A checkpoint folder, and what the environment must say to reach it."""
    if request.param == "path":
        yield str(tmp_path / "checkpoints"), {}
        return
    with s3_server("bucket") as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield f"s3://bucket/{request.node.name}", environment


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


@pytest.mark.parametrize(
    ("place", "agent"),
    [
        pytest.param("path", FrozenAtGrant(), id="path-granted"),
        pytest.param("path", FrozenAtWrite(), id="path-writing", marks=pytest.mark.long),
        pytest.param("bucket", FrozenAtGrant(), id="bucket-granted", marks=pytest.mark.long),
        pytest.param("bucket", FrozenAtWrite(), id="bucket-writing"),
    ],
    indirect=["place"],
)
def test_a_writer_that_wakes_up_too_late(
    shards: Path,
    tmp_path: Path,
    place: tuple[str, dict[str, str]],
    agent: FakeAgent,
    capsys: pytest.CaptureFixture[str],
) -> None:
    uri, environment = place
    config = tiny_config(
        shards,
        tmp_path,
        [f"checkpoint.uri={uri}", "checkpoint.everySteps=2", "checkpoint.asynchronous=false"],
    )
    frozen = start_ranks(train_under, 1, agent, config, environment={Env.GENERATION: "1.1", **environment})
    pid = frozen.processes[0].pid
    deadline = time.monotonic() + 60
    while not is_stopped(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert is_stopped(pid)

    run_ranks(train, 1, config, environment={Env.GENERATION: "1.2", **environment})
    os.kill(pid, signal.SIGCONT)
    (ended,) = frozen.results()

    assert ended.code == ExitCode.SUCCESS
    assert "another generation, or another process of this run, has already committed step 4" in ended.stderr
    store = CheckpointStore(uri)
    markers = {step: store.marker(step) for step in store.steps()}
    assert {step: marker.directory for step, marker in markers.items() if marker} == {
        2: "step-2.e1g1",
        4: "step-4.e1g2",
        6: "step-6.e1g2",
    }
    assert len(store.directories()) == 3, "it has removed what it wrote itself"
    assert main(["verify", uri]) == ExitCode.SUCCESS
    assert capsys.readouterr().out.count("intact") == 3
