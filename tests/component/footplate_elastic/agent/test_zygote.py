"""Forks from a warm process: safe to fork, quick to kill, and nobody outlives whom it belongs to."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from footplate_elastic.agent.errors import ZygoteFailed
from footplate_elastic.agent.zygote_client import ProcessExit, Zygote
from tests.component.footplate_elastic.agent.gang import alive, eventually

SECONDS = 30.0

RANKS = """
import os, signal, subprocess, sys, time
from pathlib import Path

def ends_well():
    return 0

def ends_with_79():
    return 79

def exits_by_itself():
    sys.exit(74)

def raises():
    raise LookupError("no such thing")

def segfaults():
    os.kill(os.getpid(), signal.SIGSEGV)

def tells():
    print(os.environ["WORD"], os.environ.get("OMP_NUM_THREADS", "unset"), flush=True)
    print("and this", file=sys.stderr, flush=True)

def hangs_with_a_child():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen(["sleep", "1000"])
    Path(os.environ["WORD"]).write_text(str(child.pid))
    while True:
        time.sleep(1000)

def ends_and_leaves_a_child():
    child = subprocess.Popen(["sleep", "1000"])
    Path(os.environ["WORD"]).write_text(str(child.pid))
"""


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`ranks_of_test` is importable by the zygote."""
    (tmp_path / "ranks_of_test.py").write_text(textwrap.dedent(RANKS))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


@pytest.fixture
def zygote(modules: None) -> Iterator[Zygote]:
    made = Zygote(["ranks_of_test"], lambda: None)
    yield made
    made.close()


def fork(zygote: Zygote, function: str, **environment: str) -> int:
    return zygote.fork(f"ranks_of_test:{function}", environment, [1, 2])


def end(zygote: Zygote, pid: int) -> ProcessExit:
    assert zygote.wait_ended([pid], SECONDS)
    found = zygote.find_exit(pid)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("function", "code"),
    [
        pytest.param("ends_well", 0, id="success"),
        pytest.param("ends_with_79", 79, id="returned code"),
        pytest.param("exits_by_itself", 74, id="sys.exit"),
        pytest.param("raises", 1, id="exception"),
        pytest.param("segfaults", -11, id="signal"),
        pytest.param("no_such_function", 1, id="no such entry"),
    ],
)
def test_how_a_rank_ended_is_known(zygote: Zygote, function: str, code: int) -> None:
    assert end(zygote, fork(zygote, function)).code == code


def test_an_exception_leaves_the_error_file(zygote: Zygote, tmp_path: Path) -> None:
    path = tmp_path / "error.json"
    end(zygote, fork(zygote, "raises", TORCHELASTIC_ERROR_FILE=str(path)))
    assert "LookupError: no such thing" in path.read_text()


def test_a_rank_gets_its_environment_and_its_descriptors(zygote: Zygote, tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as out, (tmp_path / "err").open("w") as err:
        pid = zygote.fork("ranks_of_test:tells", {"WORD": "hello"}, [out.fileno(), err.fileno()])
    end(zygote, pid)
    assert (tmp_path / "out").read_text() == "hello unset\n"
    assert (tmp_path / "err").read_text() == "and this\n"


def test_a_rank_that_hangs_is_killed_with_what_it_started(zygote: Zygote, tmp_path: Path) -> None:
    told = tmp_path / "child"
    pid = fork(zygote, "hangs_with_a_child", WORD=str(told))
    eventually(lambda: told.exists() and told.read_text() != "")
    zygote.kill(pid, signal.SIGTERM)
    assert not zygote.wait_ended([pid], 0.2)
    zygote.kill(pid, signal.SIGKILL)
    assert end(zygote, pid).code == -9
    eventually(lambda: not alive(int(told.read_text())))


def test_a_rank_that_ends_leaves_nothing_behind(zygote: Zygote, tmp_path: Path) -> None:
    told = tmp_path / "child"
    end(zygote, fork(zygote, "ends_and_leaves_a_child", WORD=str(told)))
    eventually(lambda: not alive(int(told.read_text())))


def test_ranks_die_with_the_zygote(zygote: Zygote, tmp_path: Path) -> None:
    told = tmp_path / "child"
    pid = fork(zygote, "hangs_with_a_child", WORD=str(told))
    eventually(lambda: told.exists() and told.read_text() != "")
    os.kill(zygote.pid, signal.SIGKILL)
    assert end(zygote, pid).code == -9
    assert not zygote.alive
    eventually(lambda: not alive(pid))
    os.kill(int(told.read_text()), signal.SIGKILL)  # nobody is left who could have done it


def test_the_zygote_dies_with_its_agent(modules: None) -> None:
    program = (
        "import time\nfrom footplate_elastic.agent.zygote_client import Zygote\n"
        "zygote = Zygote(['ranks_of_test'], lambda: None)\nzygote.wait_ready()\n"
        "print(zygote.pid, flush=True)\ntime.sleep(1000)\n"
    )
    import subprocess

    agent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert agent.stdout is not None
    zygote = int(agent.stdout.readline())
    assert alive(zygote)
    agent.kill()
    agent.wait()
    agent.stdout.close()
    eventually(lambda: not alive(zygote))


def test_an_import_that_fails_is_told_with_its_traceback(modules: None) -> None:
    zygote = Zygote(["ranks_of_test", "no_such_module"], lambda: None)
    with pytest.raises(ZygoteFailed, match="No module named 'no_such_module'"):
        fork(zygote, "ends_well")
    zygote.close()


def test_the_trainers_imports_start_no_thread() -> None:
    changed = threading.Event()
    zygote = Zygote(["torch", "footplate_trainer.warm"], changed.set)
    zygote.wait_ready()
    threads = list(Path(f"/proc/{zygote.pid}/task").iterdir())
    zygote.close()
    assert len(threads) == 1
    assert changed.wait(SECONDS)  # it is told after those who wait
