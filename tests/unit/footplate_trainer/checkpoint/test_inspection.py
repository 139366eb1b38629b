"""`footplate-trainer inspect` and `verify`, over checkpoints made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from footplate_contracts.names import ExitCode
from footplate_trainer.__main__ import main
from tests.support.checkpoints import write_checkpoint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run's folder with committed steps 2 and 4, and a step 6 that was never committed."""
    folder = tmp_path / "checkpoints"
    write_checkpoint(folder, 2)
    write_checkpoint(folder, 4)
    write_checkpoint(folder, 6, commit=False)
    return folder


def test_inspect_tells_the_newest_committed_step(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(folder), "-o", "json"]) == ExitCode.SUCCESS

    found = json.loads(capsys.readouterr().out)
    assert found["directory"] == str(folder / "step-4.e1g2")
    assert (found["namespace"], found["run"]) == ("default", "tiny")
    assert (found["step"], found["totalSteps"], found["generation"]) == (4, 6, "1.2")
    assert (found["tokens"], found["samples"], found["parameters"]) == (124, 32, 49_312)
    assert (found["worldSize"], found["parallelism"]["sharding"]) == (2, "full")
    assert found["determinism"] == {"threads": 1}
    assert [record["file"] for record in found["files"]] == [
        "tensors.json",
        "tensors-0.bin",
        "run.json",
        "state.json",
    ]
    assert found["bytes"] == sum(record["bytes"] for record in found["files"])


def test_inspect_for_a_person(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(folder / "step-2.e1g2")]) == ExitCode.SUCCESS

    text = capsys.readouterr().out
    assert "step        2 of 6\n" in text
    assert "committed   2027-01-15T08:00:00+00:00\n" in text
    assert "layout      2 ranks: tensor 1, pipeline 1," in text
    assert "parameters  49,312\n" in text
    assert "  threads  1\n" in text
    assert "tensors-0.bin" in text


def test_inspect_tells_what_was_trained_beside_adapters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = {"rank": 2, "alpha": 2.0, "targetModules": ["query"]}
    place = write_checkpoint(tmp_path / "checkpoints", 2)
    run = json.loads((place / "run.json").read_text())
    (place / "run.json").write_text(json.dumps(run | {"model": run["model"] | {"adapter": adapter}}))

    assert main(["inspect", str(place)]) == ExitCode.SUCCESS

    assert "parameters  49,312, 256 of them trained\n" in capsys.readouterr().out


def test_a_copy_under_another_name_is_told_as_such(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = (folder / "step-4.e1g2").rename(tmp_path / "copy")

    assert main(["inspect", str(copy)]) == ExitCode.SUCCESS

    text = capsys.readouterr().out
    assert "generation  unknown: the directory was renamed" in text
    assert "committed   no commit marker for this directory" in text


def test_verify_reads_every_committed_step(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(folder)]) == ExitCode.SUCCESS

    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        f"intact   {folder}/step-4.e1g2",
        f"intact   {folder}/step-2.e1g2",
    ]


def lose(path: Path) -> None:
    path.unlink()


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("file", "harm", "words"),
    [
        pytest.param("tensors-0.bin", flip, "tensors-0.bin has SHA-256", id="one-bit"),
        pytest.param("run.json", lose, "run.json is missing", id="lost"),
        pytest.param("manifest.json", flip, "manifest.json is damaged", id="manifest"),
    ],
)
def test_verify_names_the_bad_file(
    folder: Path, capsys: pytest.CaptureFixture[str], file: str, harm: object, words: str
) -> None:
    harm(folder / "step-4.e1g2" / file)

    assert main(["verify", str(folder)]) == ExitCode.STORAGE

    damaged, intact = capsys.readouterr().out.splitlines()
    assert damaged.startswith("damaged")
    assert words in damaged
    assert intact.startswith("intact")


@pytest.mark.parametrize("command", ["generate", "export"])
def test_a_damaged_step_directory_is_not_used(
    folder: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    flip(folder / "step-4.e1g2" / "tensors-0.bin")

    assert main([command, str(folder / "step-4.e1g2"), "out"]) == ExitCode.CONFIG

    told = capsys.readouterr().err
    assert "step-4.e1g2 is damaged: step-4.e1g2/tensors-0.bin has SHA-256" in told


@pytest.mark.parametrize("command", ["inspect", "verify"])
def test_a_folder_without_checkpoint_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert main([command, str(tmp_path)]) == ExitCode.CONFIG
    assert f"{tmp_path} has no committed checkpoint" in capsys.readouterr().err


def test_a_torn_directory_is_told_in_a_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "step-4.e1g2" / "state.json").write_text("{")

    assert main(["inspect", str(folder)]) == ExitCode.CONFIG
    assert "step-4.e1g2/state.json is damaged" in capsys.readouterr().err
