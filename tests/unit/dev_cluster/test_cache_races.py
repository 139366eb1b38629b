"""Several processes that create the same path of the cache at once: each gets it whole, and none fails."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tools import released

from cluster.machine.locks import made_once
from cluster.machine.records import link_whole, write_whole

PROCESSES = 4
ROOT = Path(__file__).resolve().parents[3]
_fork = multiprocessing.get_context("fork")


def at_once(action: Callable[..., object], *arguments: object) -> list[str]:
    """Call `action` in PROCESSES processes at the same moment; the result, or the error, of each as text."""
    barrier, answers = _fork.Barrier(PROCESSES), _fork.SimpleQueue()

    def act() -> None:
        barrier.wait()
        try:
            answers.put(str(action(*arguments)))
        except Exception as error:  # noqa: BLE001 - the test shows it
            answers.put(repr(error))

    processes = [_fork.Process(target=act) for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    found = [answers.get() for _ in processes]
    for process in processes:
        process.join()
    return found


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=Somebody", "-c", "user.email=somebody@example.com")
    done = subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository of one commit of 100 files."""
    folder = tmp_path / "repository"
    folder.mkdir()
    for number in range(100):
        (folder / f"{number}.txt").write_text("x" * 1000)
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "All")
    return folder


def test_previous_release_is_unpacked_once(tmp_path: Path, repository: Path) -> None:
    commit, cache = git(repository, "rev-parse", "HEAD"), tmp_path / "cache"

    assert (
        at_once(released.checkout, commit, cache, repository)
        == [str(cache / "releases" / commit)] * PROCESSES
    )

    assert len(list((cache / "releases" / commit).glob("*.txt"))) == 100
    assert [path.name for path in (cache / "releases").iterdir() if not path.name.startswith(".")] == [commit]


def test_only_one_process_makes_a_path(tmp_path: Path) -> None:
    def make(half: Path) -> None:
        half.mkdir()  # fails where another process makes it, too
        with (tmp_path / "makers").open("a") as makers:
            makers.write("one\n")
        (half / "file").write_text("whole")

    def read() -> str:
        return (made_once(tmp_path / "cache" / "made", make, "making it") / "file").read_text()

    assert at_once(read) == ["whole"] * PROCESSES
    assert (tmp_path / "makers").read_text() == "one\n"


def test_what_a_killed_process_left_is_made_anew(tmp_path: Path) -> None:
    def fail(half: Path) -> None:
        half.mkdir()
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        made_once(tmp_path / "made", fail, "making it")
    assert not (tmp_path / "made").exists()

    assert made_once(tmp_path / "made", Path.mkdir, "making it").is_dir()


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        pytest.param(
            lambda path: write_whole(path, "x" * 100_000), lambda path: len(path.read_text()), id="file"
        ),
        pytest.param(lambda path: link_whole(path, Path("/x")), lambda path: str(path.readlink()), id="link"),
    ],
)
def test_files_and_links_written_at_once_are_whole(
    tmp_path: Path, write: Callable[[Path], None], expected: Callable[[Path], Any]
) -> None:
    def many(path: Path) -> set[Any]:
        found = set()
        for _ in range(20):
            write(path)
            found.add(expected(path))
        return found

    path = tmp_path / "tools" / "one"
    [told] = set(at_once(many, path))
    assert told in ("{100000}", "{'/x'}")
    assert [left.name for left in path.parent.iterdir()] == ["one"]


def test_locked_command_runs_alone(tmp_path: Path) -> None:
    script = "test ! -e made || exit 0; echo one >> makers; mkdir half; touch half/whole; mv half made"

    def run() -> int:
        command = [sys.executable, ROOT / "dev/cluster", "locked", tmp_path / "lock", "sh", "-c", script]
        return subprocess.run(command, cwd=tmp_path, check=False).returncode

    assert at_once(run) == ["0"] * PROCESSES
    assert (tmp_path / "makers").read_text() == "one\n"


def test_locked_command_keeps_its_exit_status(tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "dev/cluster", "locked", tmp_path / "lock", "sh", "-c", "exit 7"]

    assert subprocess.run(command, check=False).returncode == 7
