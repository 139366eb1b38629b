"""Copies in memory: ranks die, a node dies, and the run goes on from the last copy."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from footplate_contracts.directives import Command, NumberedLimits
from footplate_contracts.names import Env, ExitCode
from footplate_contracts.runconfig import RunConfig
from footplate_trainer.checkpoint.memory.copies import newest_complete
from footplate_trainer.checkpoint.memory.memory_copies import MemoryFolder
from footplate_trainer.checkpoint.store import CheckpointStore
from tests.support.ranks import run_ranks, start_ranks
from tests.support.tiny import read_rows, tiny_config
from tests.support.training import Ended, FakeAgent, train, train_under

NODES = 2
STEPS = 24


class StandsStill(FakeAgent):
    """After half of the steps: a kill, however late, comes before the end."""

    def command(self) -> Command:
        if self.step >= STEPS // 2:
            threading.Event().wait()
        return super().command()


def train_on_node(agent: FakeAgent, config: RunConfig, memory: Path, metrics: Path) -> Ended:
    """One rank on a node of its own, whose agent has given it a folder."""
    os.environ[Env.MEMORY_FOLDER] = str(memory / f"node-{os.environ['RANK']}")
    os.environ["LOCAL_WORLD_SIZE"] = "1"
    return train_under(agent, config, metrics)


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    folder = tmp_path / "memory"
    for node in range(NODES):
        (folder / f"node-{node}").mkdir(parents=True)
    return folder


def both_hold(memory: Path, step: int) -> bool:
    """Whether each node holds both shards of a copy at least as new as `step`."""
    held = [MemoryFolder(memory / f"node-{node}").shards() for node in range(NODES)]
    return all(
        {shard.rank for shard in shards if shard.copy.step >= step} == set(range(NODES)) for shards in held
    )


def killed(config: RunConfig, memory: Path, metrics: Path, step: int) -> None:
    """Train, and SIGKILL all ranks once copies of `step` are mirrored."""
    environment = {Env.GENERATION: "1.1"}
    ranks = start_ranks(train_on_node, NODES, StandsStill(), config, memory, metrics, environment=environment)
    deadline = time.monotonic() + 120
    while not both_hold(memory, step) and time.monotonic() < deadline:
        time.sleep(0.01)
    ranks.kill()
    assert both_hold(memory, step)


def lose_nothing(memory: Path) -> None:
    """Only the ranks died."""


def lose_a_node(memory: Path) -> None:
    """Its substitute starts with an empty folder."""
    shutil.rmtree(memory / "node-1")
    (memory / "node-1").mkdir()


def lose_all(memory: Path) -> None:
    """Both of them."""
    lose_a_node(memory)
    shutil.rmtree(memory / "node-0")
    (memory / "node-0").mkdir()


@pytest.mark.parametrize(
    ("harm", "remembered"),
    [
        pytest.param(lose_nothing, True, id="ranks", marks=pytest.mark.long),
        pytest.param(lose_a_node, True, id="node"),
        pytest.param(lose_all, False, id="all-memory", marks=pytest.mark.long),
    ],
)
def test_a_run_goes_on_from_the_newest_copy(
    shards: Path, tmp_path: Path, memory: Path, harm: Callable[[Path], None], remembered: bool
) -> None:
    steps = [f"training.steps={STEPS}", "checkpoint.memory.everySteps=1"]
    config, metrics = tiny_config(shards, tmp_path, steps), tmp_path / "metrics.jsonl"
    killed(config, memory, metrics, step=5)
    harm(memory)

    ended: list[Ended] = run_ranks(
        train_on_node, NODES, FakeAgent(), config, memory, metrics, environment={Env.GENERATION: "1.2"}
    )

    assert [end.code for end in ended] == [0, 0]
    begun = ended[0].agent.rows[0].step - 1
    assert begun >= 5 if remembered else begun == 0
    undisturbed = tiny_config(shards, tmp_path / "undisturbed", [f"training.steps={STEPS}"])
    run_ranks(train, NODES, undisturbed, tmp_path / "undisturbed.jsonl")
    rows, reference = read_rows(metrics), read_rows(tmp_path / "undisturbed.jsonl")
    assert [(row["step"], row["loss"]) for row in rows] == [(row["step"], row["loss"]) for row in reference]


def test_steps_that_were_given_up_do_not_come_back_with_a_node(
    shards: Path, tmp_path: Path, memory: Path
) -> None:
    """node-1 is cut off; node-0 goes on alone, from the start, for three steps; then both are here again."""
    config = tiny_config(shards, tmp_path, [f"training.steps={STEPS}", "checkpoint.memory.everySteps=1"])
    metrics = tmp_path / "metrics.jsonl"
    killed(config, memory, metrics, step=5)
    alone: list[Ended] = run_ranks(
        train_on_node,
        1,
        FakeAgent(suspend_after=2),
        config,
        memory,
        metrics,
        environment={Env.GENERATION: "1.2"},
    )
    assert [end.code for end in alone] == [ExitCode.SUSPENDED]
    last = alone[0].agent.rows[-1].step
    assert last < 5, "node-1 has whole copies beyond that"

    ended: list[Ended] = run_ranks(
        train_on_node, NODES, FakeAgent(), config, memory, metrics, environment={Env.GENERATION: "1.3"}
    )

    assert [end.code for end in ended] == [0, 0]
    assert ended[0].agent.rows[0].step == last + 1
    assert [row["step"] for row in read_rows(metrics)] == list(range(1, STEPS + 1))
    noted = CheckpointStore(tmp_path / "checkpoints").list_generation_starts("")
    assert {(begun.step, str(begun.generation)) for begun in noted} == {(0, "1.2"), (last, "1.3")}


def test_a_run_that_ends_where_its_copy_is_saves_that_step(
    shards: Path, tmp_path: Path, memory: Path
) -> None:
    """Somebody shortens the run, while its ranks are gone, to the step that only the nodes' memory holds."""
    overrides = [f"training.steps={STEPS}", "checkpoint.memory.everySteps=1"]
    held_out = f"validation={{everySteps: 100, uri: {shards}, batches: 1}}"
    config = tiny_config(shards, tmp_path, [*overrides, held_out])
    metrics, store = tmp_path / "metrics.jsonl", CheckpointStore(tmp_path / "checkpoints")
    killed(config, memory, metrics, step=5)
    held = [MemoryFolder(memory / f"node-{node}").shards() for node in range(NODES)]
    copy = newest_complete(held, NODES, [])
    assert copy is not None and store.steps() == []
    shorter = NumberedLimits(steps=copy.step, every_steps=100, keep_last=2, epoch=1, number=2)

    ended: list[Ended] = run_ranks(
        train_on_node,
        NODES,
        FakeAgent(told={0: shorter}),
        config,
        memory,
        metrics,
        environment={Env.GENERATION: "1.2"},
    )

    assert [(end.code, end.agent.rows) for end in ended] == [(0, [])] * NODES
    assert store.steps() == [copy.step]
    (record,) = ended[0].agent.checkpoints
    assert record.step == copy.step and record.validation_loss is not None, "it is judged like any last step"


def test_a_run_whose_folder_takes_no_note_trains_all_the_same(
    shards: Path, tmp_path: Path, memory: Path
) -> None:
    config = tiny_config(shards, tmp_path, ["checkpoint.memory.everySteps=4"])
    unfit = config.run.model_copy(update={"uid": "x" * 300})  # no file has such a long name

    ended: list[Ended] = run_ranks(
        train_on_node,
        NODES,
        FakeAgent(),
        config.model_copy(update={"run": unfit}),
        memory,
        tmp_path / "metrics.jsonl",
        environment={Env.GENERATION: "1.1"},
    )

    assert [end.code for end in ended] == [0, 0]
    assert "that generation 1.1 begins at step 0: File name too long" in ended[0].stderr


def test_a_newer_durable_checkpoint_wins(shards: Path, tmp_path: Path, memory: Path) -> None:
    config = tiny_config(shards, tmp_path, ["checkpoint.memory.everySteps=4"])
    metrics = tmp_path / "metrics.jsonl"
    first: list[Ended] = run_ranks(train_on_node, NODES, FakeAgent(), config, memory, metrics)
    assert [end.code for end in first] == [0, 0]

    again: list[Ended] = run_ranks(train_on_node, NODES, FakeAgent(), config, memory, metrics)

    assert again[0].agent.rows == [], "step 6 is durable; the copy of step 4 is not used"
    assert again[0].stderr == ""
    assert MemoryFolder(memory / "node-0").shards() == [], "and does not come back"


def test_without_an_agent_there_are_no_copies(shards: Path, tmp_path: Path) -> None:
    config = tiny_config(shards, tmp_path, ["checkpoint.memory.everySteps=1"])

    (ended,) = run_ranks(train_under, 1, FakeAgent(), config)

    assert ended.code == 0
    assert ended.stderr.startswith("warning: checkpoint.memory makes no copies here")
