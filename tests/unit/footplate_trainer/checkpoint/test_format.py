"""Checkpoints of other releases, and what time made of ours: read, refused in one line, or called damaged."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from footplate_contracts.names import ExitCode
from footplate_contracts.runconfig import RunConfig
from footplate_trainer.__main__ import main
from footplate_trainer.checkpoint.durable.resume import check_same_run
from footplate_trainer.checkpoint.step import StepCheckpoint
from footplate_trainer.checkpoint.store import CheckpointStore
from footplate_trainer.checkpoint.training_state import release_name
from footplate_trainer.errors import UserMistake
from tests.support.checkpoints import write_checkpoint
from tests.support.golden import assert_golden
from tests.support.tiny import tiny_config

Harm = Callable[[Path], None]


def says(file: str, **fields: Any) -> Harm:
    """The JSON `file` of a directory has these fields; None takes one away."""

    def change(directory: Path) -> None:
        path = directory / file
        content = {**json.loads(path.read_text()), **fields}
        path.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))

    return change


class Bomb:
    """Says so if it is ever unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def is_of_an_earlier_build(revision: str | None) -> Harm:
    """As before formats had numbers: no number, and a pickle that says where tensors are."""

    def change(directory: Path) -> None:
        (directory / "tensors.json").unlink()
        (directory / ".metadata").write_bytes(pickle.dumps(Bomb(directory / "exploded")))
        says("manifest.json", format=None, writtenBy=None)(directory)
        says("state.json", key={"threads": 1} | ({"revision": revision} if revision else {}))(directory)

    return change


def ends_early(file: str) -> Harm:
    def change(directory: Path) -> None:
        path = directory / file
        path.write_bytes(path.read_bytes()[:-10])

    return change


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run's folder with the committed steps 2 and 4."""
    write_checkpoint(tmp_path / "checkpoints", 2)
    write_checkpoint(tmp_path / "checkpoints", 4)
    return tmp_path / "checkpoints"


@pytest.mark.parametrize(
    ("harm", "name"),
    [
        pytest.param(is_of_an_earlier_build("0123abc"), "earlier-build", id="earlier-build"),
        pytest.param(is_of_an_earlier_build(None), "earlier-build-unnamed", id="earlier-build-unnamed"),
        pytest.param(says("manifest.json", format=2, writtenBy="0.9.0 (4567def)"), "later", id="later"),
        pytest.param(
            says("manifest.json", format=2, writtenBy="0.9.0", files="elsewhere"),
            "later-manifest",
            id="later-manifest",
        ),
        pytest.param(ends_early("manifest.json"), "manifest-cut-off", id="manifest-cut-off"),
        pytest.param(ends_early("state.json"), "state-cut-off", id="state-cut-off"),
        pytest.param(says("state.json", step="four"), "state-of-another-kind", id="state-of-another-kind"),
    ],
)
def test_what_cannot_be_read_is_refused_in_a_line(
    folder: Path, capsys: pytest.CaptureFixture[str], harm: Harm, name: str
) -> None:
    harm(folder / "step-4.e1g2")

    assert main(["inspect", str(folder)]) == ExitCode.CONFIG

    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert_golden(
        f"checkpoints/{name}.txt", told.replace(str(folder), "FOLDER").replace(release_name(), "RELEASE")
    )
    assert not (folder / "step-4.e1g2" / "exploded").exists()


@pytest.mark.parametrize("command", ["verify", "generate", "export"])
@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(is_of_an_earlier_build("0123abc"), id="earlier-build"),
        pytest.param(says("manifest.json", format=2, writtenBy="0.9.0"), id="later"),
    ],
)
def test_every_command_refuses_another_format_and_takes_no_older_step(
    folder: Path, capsys: pytest.CaptureFixture[str], harm: Harm, command: str
) -> None:
    harm(folder / "step-4.e1g2")

    assert main([command, str(folder), *(["out"] if command != "verify" else [])]) == ExitCode.CONFIG

    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(f"error: checkpoint {folder}/step-4.e1g2 was written by footplate 0")
    assert told.err.count("\n") == 1


def adds(file: str, *path: str) -> Harm:
    """A later release says one thing more in the object at `path` of a JSON file."""

    def change(directory: Path) -> None:
        content = json.loads((directory / file).read_text())
        found = content
        for key in path:
            found = found[key]
        found["mood"] = "good"
        (directory / file).write_text(json.dumps(content))

    return change


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(adds("manifest.json"), id="manifest"),
        pytest.param(adds("state.json"), id="state"),
        pytest.param(adds("run.json"), id="run"),
        pytest.param(adds("run.json", "training", "optimizer"), id="deep-in-the-run"),
    ],
)
def test_what_a_later_release_adds_is_passed_over(
    folder: Path, capsys: pytest.CaptureFixture[str], harm: Harm
) -> None:
    harm(folder / "step-4.e1g2")

    assert main(["inspect", str(folder), "-o", "json"]) == ExitCode.SUCCESS

    assert json.loads(capsys.readouterr().out)["step"] == 4


def test_a_run_goes_on_from_what_a_later_release_has_added_to(folder: Path) -> None:
    adds("run.json", "model")(folder / "step-4.e1g2")
    config = tiny_config(folder / "shards", folder.parent)

    check_same_run(config, StepCheckpoint(CheckpointStore(folder), "step-4.e1g2"))


LEARNING = {
    "stage": "grpo",
    "rollout": '{"maxTokens": 4, "generationBatchSize": 16, "numGenerations": 4}',
    "reinforcement": '{"numIterations": 2}',
    "reward.functions": '[{"name": "short", "length": {}}]',
}


@pytest.mark.parametrize(
    ("section", "now", "refused"),
    [
        pytest.param(
            "rollout",
            '{"maxTokens": 4, "generationBatchSize": 32, "numGenerations": 4}',
            "rollout.generationBatchSize is 32",
            id="samples",
        ),
        pytest.param(
            "rollout",
            '{"maxTokens": 4, "generationBatchSize": 16, "numGenerations": 2}',
            "rollout.numGenerations is 2",
            id="group",
        ),
        pytest.param(
            "reinforcement", '{"numIterations": 1}', "reinforcement.numIterations is 1", id="epochs"
        ),
        pytest.param(
            "rollout", '{"maxTokens": 9, "generationBatchSize": 16, "numGenerations": 4}', None, id="longest"
        ),
    ],
)
def test_rollouts_begin_where_they_did(section: str, now: str, refused: str | None, tmp_path: Path) -> None:
    """Or the place of the next prompt, the coefficient of KL and what is known of scores would be lost."""

    def overrides(**changes: str) -> list[str]:
        return [f"{path}={value}" for path, value in (LEARNING | changes).items()]

    folder = tmp_path / "checkpoints"
    write_checkpoint(folder, 4, *overrides())
    written = StepCheckpoint(CheckpointStore(folder), "step-4.e1g2")
    config = tiny_config(folder / "shards", tmp_path, overrides(**{section: now}))
    if refused is None:
        check_same_run(config, written)
    else:
        with pytest.raises(
            UserMistake, match=f"{refused}, but .* was trained with .*; restore it, or set another"
        ):
            check_same_run(config, written)


def test_a_spec_stays_strict(folder: Path) -> None:
    spec = tiny_config(folder / "shards", folder.parent).to_json() | {"mood": "good"}

    with pytest.raises(ValidationError, match="mood"):
        RunConfig.from_json(spec)
