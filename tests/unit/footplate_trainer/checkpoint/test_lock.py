"""Two trainings in one folder: one goes on, and the other is told who is there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from footplate_trainer.checkpoint.lock import LockHolder, LockIntervals, lock_folder
from footplate_trainer.errors import UserMistake

QUICK = LockIntervals(beat=0.02, stale=0.3, look=0.01)
HOLD = """
import sys
from footplate_trainer.checkpoint.lock import lock_folder
with lock_folder(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def _locks(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_who_comes_second_is_told_who_trains_there(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    with pytest.raises(UserMistake) as told, lock_folder(str(tmp_path)):
        pass
    host = os.uname().nodename
    assert f"checkpoint.uri {tmp_path} is in use: process {other.pid} on {host} trains" in str(told.value)
    assert "or set another checkpoint.uri" in str(told.value)
    other.communicate()
    with lock_folder(str(tmp_path)):
        assert _locks(tmp_path) == [".lock-1"]
    assert _locks(tmp_path) == [], "nothing stays"


def test_the_lock_of_a_process_that_was_killed_holds_up_nobody(
    tmp_path: Path, other: subprocess.Popen[str]
) -> None:
    other.kill()
    other.wait()
    with lock_folder(str(tmp_path)):
        assert _locks(tmp_path) == [".lock-2"]


@pytest.mark.parametrize(
    "content", [pytest.param(None, id="of-another-machine"), pytest.param("", id="torn")]
)
def test_a_lock_that_nobody_writes_any_more_is_stale(tmp_path: Path, content: str | None) -> None:
    elsewhere = LockHolder("elsewhere", 1, "another boot", "17", "key")
    (tmp_path / ".lock-3").write_text(json.dumps(vars(elsewhere)) if content is None else content)
    with lock_folder(str(tmp_path), QUICK):
        assert _locks(tmp_path) == [".lock-4"]


def test_a_lock_of_another_machine_that_is_written_is_none_of_ours(tmp_path: Path) -> None:
    done = threading.Event()

    def beat() -> None:
        number = 0
        while not done.wait(0.01):
            number += 1
            signed = vars(LockHolder("elsewhere", 1, "another boot", "17", "key", number))
            (tmp_path / "new").write_text(json.dumps(signed))
            (tmp_path / "new").replace(tmp_path / ".lock-1")

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        while ".lock-1" not in _locks(tmp_path):
            pass
        with pytest.raises(UserMistake, match="process 1 on elsewhere"), lock_folder(str(tmp_path)):
            pass
    finally:
        done.set()
        thread.join()


def test_of_many_at_once_one_goes_on(tmp_path: Path) -> None:
    together, held, told = threading.Barrier(8), [], []
    end = threading.Event()

    def train() -> None:
        together.wait()
        try:
            with lock_folder(str(tmp_path)):
                held.append(1)
                end.wait()
        except UserMistake as error:
            told.append(str(error))
            if len(told) == 7:
                end.set()

    threads = [threading.Thread(target=train) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (len(held), len(told)) == (1, 7)
    assert all(f"process {os.getpid()}" in said for said in told)
