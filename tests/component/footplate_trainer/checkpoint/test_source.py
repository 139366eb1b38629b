"""Checkpoints that are only read, from where nobody could write them: a web server."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from footplate_contracts.names import ExitCode
from footplate_contracts.runconfig import RunConfig
from footplate_trainer.__main__ import main
from footplate_trainer.checkpoint.lookup import find_newest_whole
from footplate_trainer.checkpoint.store import CheckpointStore
from tests.support.checkpoints import begin, equal, whole_tensors
from tests.support.ranks import run_ranks
from tests.support.tiny import tiny_config
from tests.support.training import Ended, FakeAgent, train, train_under
from tests.support.web import Web, web_server


@pytest.fixture(scope="module")
def source(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of two ranks, with checkpoints of steps 4 and 6."""
    folder = tmp_path_factory.mktemp("source")
    changes = ["checkpoint.everySteps=2", "checkpoint.keepLast=2"]
    assert run_ranks(train, 2, tiny_config(shards, folder, changes)) == [0] * 2
    return folder / "checkpoints"


@pytest.fixture
def web(source: Path) -> Iterator[Web]:
    with web_server(source) as found:
        yield found


def from_web(shards: Path, folder: Path, uri: str, *overrides: str) -> RunConfig:
    config = tiny_config(shards, folder, [f"resumeFrom.uri={uri}", *overrides])
    return config.model_copy(update={"run": config.run.model_copy(update={"name": "successor"})})


@pytest.mark.parametrize(
    ("lists", "asked", "step"),
    [
        pytest.param(True, (), 6, id="the-newest-of-those-listed"),
        pytest.param(False, ("resumeFrom.step=4",), 4, id="a-step-of-a-server-that-lists-nothing"),
    ],
)
def test_weights_and_moments_come_along(
    shards: Path, source: Path, tmp_path: Path, lists: bool, asked: tuple[str, ...], step: int
) -> None:
    with web_server(source, lists=lists) as web:
        config = from_web(shards, tmp_path, web.address, *asked)
        found = run_ranks(begin, 2, config, environment={"FOOTPLATE_DATA_CACHE": str(tmp_path / "cache")})

    expected = whole_tensors(CheckpointStore(source), step)
    for start, named in found:
        assert (start.step, start.updates) == (0, step)
        assert named.keys() == expected.keys()
        assert equal(named, expected)
    large = [name for name in web.fetched if name.startswith("tensors-")]
    assert sorted(large) == ["tensors-0.bin", "tensors-1.bin"], "once for both ranks"


def test_what_is_damaged_there_is_named_and_passed_over(shards: Path, source: Path, tmp_path: Path) -> None:
    shutil.copytree(source, tmp_path / "web")
    damaged = tmp_path / "web" / "step-6.e0g0" / "tensors-1.bin"
    damaged.write_bytes(damaged.read_bytes()[::-1])
    with web_server(tmp_path / "web") as web:
        config = from_web(shards, tmp_path, web.address, "training.steps=3")
        told = {"FOOTPLATE_DATA_CACHE": str(tmp_path / "cache")}
        ended: list[Ended] = run_ranks(train_under, 2, FakeAgent(), config, environment=told)
    assert [end.code for end in ended] == [ExitCode.SUCCESS] * 2
    assert "resumeFrom: skipping the damaged checkpoint of step 6: " in ended[0].stderr
    assert f"{web.address}/step-6.e0g0/tensors-1.bin: sha256 is " in ended[0].stderr
    assert find_newest_whole(str(tmp_path / "checkpoints")).state().updates == 4 + 3


def test_commands_read_a_web_server(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FOOTPLATE_DATA_CACHE", str(tmp_path / "cache"))
    for command in (
        ("inspect", web.address),
        ("verify", web.address),
        ("verify", f"{web.address}/step-4.e0g0"),
        ("generate", f"{web.address}/step-4.e0g0", "abc", "--max-new-tokens", "3"),
        ("export", web.address, str(tmp_path / "out")),
    ):
        assert main(command) == ExitCode.SUCCESS, capsys.readouterr().err
    assert f"intact   {web.address}/step-4.e0g0" in capsys.readouterr().out
    assert (tmp_path / "out" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        pytest.param(
            "{web}/nowhere",
            "error: resumeFrom.uri {web}/nowhere has no intact checkpoint to start from; set uri to the "
            "checkpoint.uri of a run that has one, or also set resumeFrom.step if the server cannot list "
            "files",
            id="nothing-there",
        ),
        pytest.param("sftpp://host/x", "error: resumeFrom.uri: sftpp://host/x cannot be opened", id="scheme"),
    ],
)
def test_a_folder_without_checkpoints_is_refused_by_name(
    shards: Path, web: Web, tmp_path: Path, uri: str, says: str
) -> None:
    config = from_web(shards, tmp_path, uri.format(web=web.address))
    ended: list[Ended] = run_ranks(train_under, 2, FakeAgent(), config)
    assert [end.code for end in ended] == [ExitCode.CONFIG] * 2
    assert ended[0].stderr.splitlines()[-1].startswith(says.format(web=web.address))
    assert "Traceback" not in ended[0].stderr


def test_a_person_who_may_not_read_it_is_told_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with web_server(tmp_path, refuses=403) as refusing:
        assert main(("inspect", f"{refusing.address}/run")) == ExitCode.CONFIG
    said = capsys.readouterr().err
    assert said.startswith(f"error: CHECKPOINT cannot be read: {refusing.address}/run/manifest.json: 403")
