"""Ranks as their agent sees them end: with their last words, however late those are read."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from footplate_contracts.names import Cause
from footplate_elastic.agent.ranks import Ranks
from footplate_elastic.agent.zygote_client import Zygote

RANKS = """
import os, sys

def aborts():
    print("much\\n" * 40_000 + "NCCL error: the point", file=sys.stderr, flush=True)
    os.abort()
"""


class SlowLog(io.StringIO):
    """Whoever writes to it is behind."""

    def write(self, text: str) -> int:
        time.sleep(0.05)
        return super().write(text)


def new_zygote() -> Zygote:
    return Zygote(["ranks_of_test"], lambda: None)


@pytest.fixture
def ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ranks]:
    (tmp_path / "ranks_of_test.py").write_text(RANKS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    made = Ranks("ranks_of_test:aborts", tmp_path, new_zygote, new_zygote())
    yield made
    made.close()


def test_the_last_words_of_a_rank_are_heard_before_its_end_is_explained(ranks: Ranks) -> None:
    with contextlib.redirect_stderr(SlowLog()) as log:
        [pid] = ranks.start({0: {"RANK": "0"}}).values()
    assert ranks.zygote.wait_ended([pid], 60.0)

    failure = ranks.look().failure

    assert failure is not None and failure.message.endswith("NCCL error: the point")
    assert failure.cause is Cause.COMMUNICATION
    assert log.getvalue().endswith("NCCL error: the point\n")
