"""`footplate-trainer` as a process: what it imports, how it takes Ctrl-C and a closed pipe."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.tiny import tiny_manifest

HEAVY = ("torch", "numpy", "fsspec", "obstore", "aiohttp")


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    """A run whose data are not there."""
    run = tmp_path / "run.json"
    run.write_text(json.dumps(tiny_manifest(tmp_path / "nowhere", tmp_path / "checkpoints")))
    return run


def python(code: str) -> subprocess.CompletedProcess[str]:
    """`code` in an interpreter of its own; its last line says which of HEAVY are imported by then."""
    tail = f"\nimport sys; print([name for name in {HEAVY} if name in sys.modules])"
    return subprocess.run([sys.executable, "-c", code + tail], capture_output=True, text=True, check=True)


def started(*arguments: str, stdout: int = subprocess.PIPE) -> subprocess.Popen[str]:
    """A process of its own; Ctrl-C means something to it, whatever our own parent chose."""
    return subprocess.Popen(
        [sys.executable, "-m", "footplate_trainer", *arguments],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def test_the_look_at_the_data_imports_nothing_heavy() -> None:
    assert python("import footplate_trainer.data.check").stdout == "[]\n"


def test_data_that_is_not_there_costs_no_import_of_torch(run_file: Path) -> None:
    done = python(f"from footplate_trainer.__main__ import main; print(main(['train', {str(run_file)!r}]))")
    assert done.stdout == "78\n[]\n"
    assert done.stderr.startswith(
        f"error: {run_file.parent}/nowhere: the folder does not exist; write one with"
    )


def test_a_plan_costs_no_import_of_torch(run_file: Path) -> None:
    code = f"from footplate_trainer.__main__ import main; main(['plan', {str(run_file)!r}, '--ranks', '2'])"
    assert python(code).stdout.endswith("[]\n")


def test_ctrl_c_is_one_word(tmp_path: Path) -> None:
    run = tmp_path / "run.yaml"
    os.mkfifo(run)
    process = started("train", str(run))

    with run.open("w"):  # returns when the process reads
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)

    assert (process.returncode, told) == (130, "interrupted\n")


def test_a_reader_that_has_heard_enough_is_no_error(run_file: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)  # before there is anything to hear
    process = started("plan", str(run_file), "--ranks", "1", stdout=writer)
    os.close(writer)

    _, told = process.communicate(timeout=60)

    assert (process.returncode, told) == (141, "")
