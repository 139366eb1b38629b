"""Ranks as their agent sees them end: with their last words, however late those are read."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from footplate_contracts.names import Cause
from footplate_elastic.agent.ranks import RankProcesses
from footplate_elastic.agent.zygote_client import Zygote

RANKS = """
import os, signal, sys

def aborts():
    print("much\\n" * 40_000 + "NCCL error: the point", file=sys.stderr, flush=True)
    os.abort()

def loses_its_peer():
    if os.environ["RANK"] == "1":
        signal.pause()
    sys.exit("RuntimeError: Connection reset by peer")
"""


class SlowLog(io.StringIO):
    """Whoever writes to it is behind."""

    def write(self, text: str) -> int:
        time.sleep(0.05)
        return super().write(text)


def new_zygote() -> Zygote:
    return Zygote(["ranks_of_test"], lambda: None)


@pytest.fixture
def ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RankProcesses]:
    (tmp_path / "ranks_of_test.py").write_text(RANKS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    made = RankProcesses("ranks_of_test:aborts", tmp_path, new_zygote, new_zygote())
    yield made
    made.close()


def test_the_last_words_of_a_rank_are_heard_before_its_end_is_explained(ranks: RankProcesses) -> None:
    with contextlib.redirect_stderr(SlowLog()) as log:
        [pid] = ranks.start({0: {"RANK": "0"}}).values()
    assert ranks.zygote.wait_ended([pid], 60.0)

    failure = ranks.poll().failure

    assert failure is not None and failure.message.endswith("NCCL error: the point")
    assert failure.cause is Cause.COMMUNICATION
    assert log.getvalue().endswith("NCCL error: the point\n")


def test_a_killed_rank_is_the_cause_where_its_end_is_told_after_what_it_did(
    ranks: RankProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranks.entry = "ranks_of_test:loses_its_peer"
    pids = ranks.start({0: {"RANK": "0"}, 1: {"RANK": "1"}})
    wait_ended = ranks.zygote.wait_ended
    assert wait_ended([pids[0]], 60.0)

    def killed_meanwhile(waited_for: Sequence[int], seconds: float) -> bool:
        os.kill(pids[1], signal.SIGKILL)
        return wait_ended(waited_for, 60.0)

    with monkeypatch.context() as patched:
        patched.setattr(ranks.zygote, "wait_ended", killed_meanwhile)
        failure = ranks.poll().failure

    assert failure is not None and (failure.reason, failure.rank) == ("RankKilled", 1)


def test_a_lost_connection_speaks_where_no_rank_here_explains_it(ranks: RankProcesses) -> None:
    ranks.entry = "ranks_of_test:loses_its_peer"
    pids = ranks.start({0: {"RANK": "0"}, 1: {"RANK": "1"}})
    assert ranks.zygote.wait_ended([pids[0]], 60.0)

    failure = ranks.poll().failure

    assert failure is not None and (failure.reason, failure.rank) == ("PeerLost", 0)
