"""SIGKILL at random moments of a save, many times, from one parent that forks."""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from footplate_contracts.reports import RankPhase, RankReport
from footplate_contracts.runconfig import RunConfig
from footplate_elastic.protocol.agent_client import AgentClient
from footplate_trainer.checkpoint.layout import StepDirectory
from footplate_trainer.checkpoint.lookup import find_newest_whole
from footplate_trainer.checkpoint.step import StepCheckpoint
from footplate_trainer.checkpoint.store import CheckpointStore
from footplate_trainer.stages import offline_stages
from tests.support.ranks import run_ranks
from tests.support.tiny import tiny_config

BEFORE: Final = 2  # saves that each child is left to finish


class Announcing(AgentClient):
    """Says through a pipe that a save begins, and that it has ended."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self._saving = False

    def report(self, report: RankReport) -> None:
        saving = report.phase is RankPhase.CHECKPOINT
        if saving is not self._saving:
            self._saving = saving
            os.write(self._pipe, b"s")


@dataclass
class Tally:
    """What the kills left behind."""

    kills: int = 0
    unfinished: int = 0  # kills that left a directory without marker
    problems: list[str] = field(default_factory=list)


def start(config: RunConfig) -> tuple[int, int]:
    """Fork a child that trains alone; its id, and the pipe of its saves."""
    here, there = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(here)
        os._exit(offline_stages.main(config, Announcing(there)))
    os.close(there)
    return child, here


def kill_often(config: RunConfig, times: int, unfinished: int, seed: int) -> Tally:
    """Kill `times` children, each within a save, and look at the folder after each.

    More of them, up to four times as many, while fewer than `unfinished` saves were cut off: how
    many of the kills come too early or too late for that is chance, and the machine's.
    """
    del os.environ["RANK"]  # each child is a world of its own
    rng, counts, reached = random.Random(seed), Tally(), 0
    store = CheckpointStore(config.checkpoint.uri)
    while counts.kills < times or (counts.unfinished < unfinished and counts.kills < 4 * times):
        child, pipe = start(config)
        turns = [time.monotonic() for _ in range(2 * BEFORE + 1) if os.read(pipe, 1)]
        if len(turns) <= 2 * BEFORE:
            counts.problems.append("a child ended by itself")
        else:
            time.sleep(rng.uniform(0, turns[-2] - turns[-3]))  # as long as the save before took
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(pipe)
        counts.kills += 1
        reached = look(store, reached, counts)
    return counts


def look(store: CheckpointStore, reached: int, counts: Tally) -> int:
    """The newest whole step; whatever should not be goes into `counts`."""
    markers = {step: store.marker(step) for step in store.steps()}
    named = {marker.directory for marker in markers.values() if marker}
    counts.unfinished += any(directory.name not in named for directory in store.directories())
    counts.problems += [damage for name in named if (damage := StepCheckpoint(store, name).first_damage())]
    found = StepDirectory.parse(find_newest_whole(store.uri).directory)
    if found is None or found.step < reached + BEFORE:
        counts.problems.append(f"went from step {reached} to {found}")
    return found.step if found else 0


@pytest.mark.parametrize(
    ("times", "unfinished"),
    [
        pytest.param(4, 0, id="few"),  # every second kill leaves one
        pytest.param(60, 20, id="many", marks=pytest.mark.long),
    ],
)
def test_a_kill_within_a_save_leaves_the_one_before(
    shards: Path, tmp_path: Path, times: int, unfinished: int
) -> None:
    config = tiny_config(
        shards,
        tmp_path,
        ["training.steps=100000", "checkpoint.everySteps=1", "checkpoint.asynchronous=false"],
    )

    (counts,) = run_ranks(kill_often, 1, config, times, unfinished, time.time_ns(), timeout=1000.0)

    assert counts.problems == []
    assert counts.kills >= times
    assert counts.unfinished >= unfinished, "the kills fell into saves"
