"""Where a run whose model is a folder's has its shape from, once it has checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from footplate_contracts.runconfig import RunConfig
from footplate_contracts.v1alpha1.model import InitFrom
from footplate_trainer.errors import CheckpointError, UserMistake
from footplate_trainer.huggingface.initial import complete_config
from footplate_trainer.stages.start import get_checkpointed_config
from tests.support.checkpoints import write_checkpoint
from tests.support.tiny import tiny_config


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    """The tiny run, with the committed steps 2 and 4, as if it had begun with a folder that is gone."""
    for step in (2, 4):
        write_checkpoint(tmp_path / "checkpoints", step)
    found = tiny_config(tmp_path / "shards", tmp_path)
    return found.model_copy(update={"init_from": InitFrom(uri=str(tmp_path / "gone"))})


def change(folder: Path, step: int, file: str, **fields: object) -> None:
    path = folder / "checkpoints" / f"step-{step}.e1g2" / file
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_the_newest_checkpoint_says_it(tmp_path: Path, config: RunConfig) -> None:
    change(tmp_path, 2, "run.json", stage="sft")

    written = get_checkpointed_config(config)

    assert written is not None and written.stage == "pretrain"
    assert complete_config(config, written).model == config.model


@pytest.mark.parametrize("file", ["run.json", "manifest.json"])
def test_one_that_is_torn_is_passed_over(tmp_path: Path, config: RunConfig, file: str) -> None:
    change(tmp_path, 2, "run.json", stage="sft")
    (tmp_path / "checkpoints" / "step-4.e1g2" / file).write_text("{")

    written = get_checkpointed_config(config)

    assert written is not None and written.stage == "sft"


def test_a_torn_marker_is_passed_over(tmp_path: Path, config: RunConfig) -> None:
    change(tmp_path, 2, "run.json", stage="sft")
    (tmp_path / "checkpoints" / "step-4.committed").write_text("")

    written = get_checkpointed_config(config)

    assert written is not None and written.stage == "sft"


def test_another_format_is_refused_and_no_older_step_asked(tmp_path: Path, config: RunConfig) -> None:
    change(tmp_path, 4, "manifest.json", format=2, writtenBy="9.0.0")

    with pytest.raises(CheckpointError, match=r"was written by footplate 9\.0\.0 in format 2"):
        get_checkpointed_config(config)


def test_what_another_run_wrote_says_nothing_of_this_one(config: RunConfig) -> None:
    other = config.model_copy(update={"run": config.run.model_copy(update={"name": "other"})})

    assert get_checkpointed_config(other) is None


def test_before_there_is_a_checkpoint_nothing_says_it(tmp_path: Path, config: RunConfig) -> None:
    begun = config.checkpoint.model_copy(update={"uri": str(tmp_path / "elsewhere")})

    assert get_checkpointed_config(config.model_copy(update={"checkpoint": begun})) is None
    assert not (tmp_path / "elsewhere").exists(), "nobody writes there before it is known what the run is"


def test_a_folder_that_can_be_none_is_named(config: RunConfig) -> None:
    begun = config.checkpoint.model_copy(update={"uri": "ftp://host/checkpoints"})

    with pytest.raises(UserMistake, match=r"checkpoint\.uri: .* is not supported"):
        get_checkpointed_config(config.model_copy(update={"checkpoint": begun}))


def test_a_model_of_the_runs_own_needs_no_look(tmp_path: Path, config: RunConfig) -> None:
    (tmp_path / "checkpoints" / "step-4.e1g2" / "manifest.json").write_text('{"format": 2}')

    assert get_checkpointed_config(config.model_copy(update={"init_from": None})) is None
