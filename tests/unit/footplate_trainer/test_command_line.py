"""`footplate-trainer` as a person meets it, as far as that needs no process."""

from __future__ import annotations

from pathlib import Path

import pytest

from footplate_trainer.__main__ import main


def test_help_names_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])

    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert all(name in told for name in ("train", "pack", "generate"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["train", "missing.yaml"], "missing.yaml: cannot be read", id="no-manifest"),
        pytest.param(
            ["generate", "nowhere", "text"], "nowhere holds no committed checkpoint", id="no-checkpoint"
        ),
        pytest.param(["generate", "x", "y", "--tokens", "0"], "--tokens must be at least 1", id="no-tokens"),
        pytest.param(["generate", "x", "y", "--temperature", "nan"], "temperature nan must be", id="nan"),
        pytest.param(["generate", "x", "y", "--temperature", "inf"], "temperature inf must be", id="hot"),
        pytest.param(["generate", "x", "y", "--temperature", "1e-40"], "1e-40 must be 0, or", id="cold"),
        pytest.param(["generate", "x", "y", "--seed", "9" * 20], "must be a number of 64 bits", id="seed"),
        pytest.param(["generate", "x", "\udcff"], "the text is not UTF-8", id="no-text"),
        pytest.param(["export", "x", "s3://b/x"], "OUT s3://b/x is no path", id="export-to-a-bucket"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_78(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)

    assert main(arguments) == 78

    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert message in told
    assert told.count("\n") == 1
