"""What a rank makes of a RunConfig that an operator of another release mounted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from footplate_contracts.names import Cause, Env, ExitCode
from footplate_elastic.protocol import error_file
from footplate_trainer.stages.programs import run_rank
from tests.support.contracts import UNHEARD_OF
from tests.support.tiny import tiny_config


def test_a_word_of_a_newer_release_ends_a_rank_as_bad_configuration_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mounted = tiny_config(tmp_path, tmp_path).to_json() | {"stage": UNHEARD_OF}
    (tmp_path / "run.json").write_text(json.dumps(mounted))
    monkeypatch.setenv(Env.RUN_CONFIG, str(tmp_path / "run.json"))
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv(error_file.VARIABLE, str(tmp_path / "error.json"))

    assert run_rank() is ExitCode.CONFIG

    said = capsys.readouterr().err
    assert said.startswith(f"error: {tmp_path}/run.json: stage: Input should be 'pretrain', ")
    assert f"not '{UNHEARD_OF}'" in said and said.count("\n") == 1
    report = error_file.read((tmp_path / "error.json").read_text(), 0.0)
    assert report is not None
    assert (report.cause, report.rank, report.exit_code) == (Cause.IMAGE_OR_CONFIG, 3, ExitCode.CONFIG)
