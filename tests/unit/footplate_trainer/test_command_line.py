"""`footplate-trainer` as a person meets it, as far as that needs no process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from footplate_trainer.__main__ import main
from tests.support.tiny import tiny_manifest


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


def test_data_that_is_not_there_costs_no_import_of_torch(tmp_path: Path) -> None:
    run = tmp_path / "run.json"
    run.write_text(json.dumps(tiny_manifest(tmp_path / "nowhere", tmp_path / "checkpoints")))
    code = (
        "import sys\n"
        "from footplate_trainer.__main__ import main\n"
        f"print(main(['train', {str(run)!r}]), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "78 False"
    assert done.stderr.startswith(f"error: {tmp_path}/nowhere: there is no such folder; write one with")


def started(*arguments: str) -> subprocess.Popen[str]:
    """A process of its own; Ctrl-C means something to it, whatever our own parent chose."""
    return subprocess.Popen(
        [sys.executable, "-m", "footplate_trainer", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def test_ctrl_c_is_one_word(tmp_path: Path) -> None:
    run = tmp_path / "run.yaml"
    os.mkfifo(run)
    process = started("train", str(run))

    with run.open("w"):  # returns when the process reads
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)

    assert (process.returncode, told) == (130, "interrupted\n")


def test_a_reader_that_has_heard_enough_is_no_error(tmp_path: Path) -> None:
    run = tmp_path / "run.json"
    run.write_text(json.dumps(tiny_manifest(tmp_path / "nowhere", tmp_path / "checkpoints")))
    process = started("plan", str(run), "--ranks", "1")
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()

    told = process.stderr.read()

    assert (process.wait(timeout=60), told) == (141, "")
