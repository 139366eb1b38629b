"""Which copy in memory counts, who sends what to whom, and what a file holds."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from footplate_contracts.reports import GenerationRow
from footplate_trainer.checkpoint.layout import GenerationStart
from footplate_trainer.checkpoint.memory.copies import CopyShard, MemoryCopy, newest_complete, transfers
from footplate_trainer.checkpoint.memory.memory_copies import (
    MemoryFolder,
    ShardHeader,
    fill_tensors_from_file,
    pack_into,
    padded_header_size,
)
from footplate_trainer.checkpoint.training_state import StateBuilder, TrainingState
from tests.unit.footplate_elastic.coordinator.test_telemetry import G1, row

OLD, NEW = MemoryCopy(10, 1, 1, 2), MemoryCopy(20, 1, 1, 2)
OTHER_GENERATION, WIDER = MemoryCopy(30, 1, 2, 2), MemoryCopy(40, 1, 1, 3)


def shards(copy: MemoryCopy, *ranks: int) -> list[CopyShard]:
    return [CopyShard(copy, rank) for rank in ranks]


@pytest.mark.parametrize(
    ("held", "found"),
    [
        pytest.param([shards(NEW, 0, 1), shards(NEW, 0, 1)], NEW, id="everywhere"),
        pytest.param([shards(NEW, 0, 1), []], NEW, id="one-node-lost"),
        pytest.param([shards(OLD, 0, 1) + shards(NEW, 0), shards(OLD, 1)], OLD, id="newest-incomplete"),
        pytest.param([shards(NEW, 0, 1) + shards(OTHER_GENERATION, 0), []], NEW, id="of-one-generation-only"),
        pytest.param([shards(WIDER, 0, 1), shards(WIDER, 2)], None, id="another-number-of-ranks"),
        pytest.param([shards(NEW, 0), []], None, id="both-holders-lost"),
        pytest.param([[], []], None, id="nothing"),
    ],
)
def test_newest_complete(held: list[list[CopyShard]], found: MemoryCopy | None) -> None:
    assert newest_complete(held, ranks=2, begun=[]) == found


@pytest.mark.parametrize(
    ("begun", "found"),
    [
        pytest.param([(0, 1, 1)], NEW, id="its-own-generation"),
        pytest.param([(0, 1, 1), (20, 1, 2)], NEW, id="a-later-one-went-on-from-it"),
        pytest.param([(0, 1, 1), (25, 1, 2)], NEW, id="or-from-further-on"),
        pytest.param([(0, 1, 1), (10, 1, 2)], OLD, id="a-later-one-went-on-from-an-earlier-step"),
        pytest.param([(0, 1, 1), (5, 1, 2), (15, 2, 1)], None, id="the-earliest-of-them-counts"),
        pytest.param([(0, 1, 1), (10, 2, 0)], OLD, id="of-a-later-epoch"),
        pytest.param([(0, 1, 0)], NEW, id="an-earlier-one"),
    ],
)
def test_what_was_given_up_does_not_come_back(
    begun: list[tuple[int, int, int]], found: MemoryCopy | None
) -> None:
    """A node that was not in the later generation has both copies, whole."""
    held = [[], shards(OLD, 0, 1) + shards(NEW, 0, 1)]
    assert newest_complete(held, 2, [GenerationStart(*who, run="uid") for who in begun]) == found


@pytest.mark.parametrize(
    ("held", "moves"),
    [
        pytest.param([shards(NEW, 0, 1), shards(NEW, 0, 1)], [], id="all-at-home"),
        pytest.param([shards(NEW, 0, 1), []], [(0, 1)], id="a-substitute-is-empty"),
        pytest.param([shards(NEW, 1), shards(NEW, 0)], [(1, 0), (0, 1)], id="swapped"),
    ],
)
def test_transfers(held: list[list[CopyShard]], moves: list[tuple[int, int]]) -> None:
    assert transfers(held, NEW) == moves


def test_names_are_read_as_they_are_written() -> None:
    shard = CopyShard(NEW, 1)

    assert shard.name == "step-20.e1g1.1-of-2"
    assert CopyShard.parse(shard.name) == shard
    assert CopyShard.parse(".5f2b") is None


def fill(folder: MemoryFolder, shard: CopyShard, tensors: dict[str, torch.Tensor]) -> None:
    state = StateBuilder(7, 2, 8, 0, {"threads": 1}).build(shard.copy.step, 99)
    header, size = ShardHeader.of(state, tensors)
    text = header.model_dump_json(by_alias=True).encode()
    path, blob = folder.allocate(padded_header_size(text) + size)
    pack_into(blob, text, header.spans, tensors)
    folder.publish(path, shard)


def example() -> dict[str, torch.Tensor]:
    return {
        "a": torch.arange(15.0).view(3, 5),
        "none": torch.empty(0, 4),
        "b": torch.arange(7, dtype=torch.bfloat16),
        "scalar": torch.tensor(3, dtype=torch.int64),
    }


def test_a_file_gives_back_what_went_in(tmp_path: Path) -> None:
    folder, shard = MemoryFolder(tmp_path), CopyShard(NEW, 0)
    fill(folder, shard, example())

    found = {name: torch.zeros_like(tensor) for name, tensor in example().items()}
    state = fill_tensors_from_file(folder.open(shard), found)

    assert (state.step, state.tokens) == (20, 99)
    assert all(torch.equal(found[name], tensor) for name, tensor in example().items())


@pytest.mark.parametrize("kept_in", [TrainingState, ShardHeader])
def test_rows_are_read_as_they_are_written(kept_in: type[TrainingState] | type[ShardHeader]) -> None:
    diverged = row(20).model_copy(update={"loss": math.nan, "values": {"kl": math.nan, "reward": 2.0}})
    rows = [GenerationRow(generation=G1, metrics=metrics) for metrics in (row(19), diverged)]
    state = StateBuilder(7, 2, 8, 0, {}).build(20, 99, rows)
    written = state if kept_in is TrainingState else ShardHeader(state=state, spans=[])
    read = kept_in.from_json(json.loads(written.model_dump_json(by_alias=True)))
    found = read if isinstance(read, TrainingState) else read.state
    assert found.rows[0] == rows[0]
    assert math.isnan(found.rows[1].metrics.loss) and found.rows[1].metrics.step == 20
    values = found.rows[1].metrics.values
    assert values is not None and math.isnan(values["kl"]) and values["reward"] == 2.0


def test_no_state_is_given_up_for_a_row_that_cannot_be_read() -> None:
    rows = [GenerationRow(generation=G1, metrics=row(step)) for step in (18, 19, 20)]
    told = StateBuilder(7, 2, 8, 0, {}).build(20, 99, rows).to_json()
    told["rows"][1]["metrics"]["loss"] = "low"
    assert [row.metrics.step for row in TrainingState.from_json(told).rows] == [18, 20]
    assert TrainingState.from_json(told | {"rows": "none"}).rows == []


def test_a_file_of_other_tensors_is_refused(tmp_path: Path) -> None:
    folder, shard = MemoryFolder(tmp_path), CopyShard(NEW, 0)
    fill(folder, shard, example())

    with pytest.raises(ValueError, match="another model, optimizer or layout"):
        fill_tensors_from_file(folder.open(shard), {"a": torch.zeros(3, 4)})


def test_two_steps_of_each_rank_stay(tmp_path: Path) -> None:
    folder = MemoryFolder(tmp_path)
    for step in (1, 2, 3):
        for rank in (0, 1):
            fill(folder, CopyShard(MemoryCopy(step, 1, 1, 2), rank), example())

    folder.delete_older(rank=0)

    assert [(shard.copy.step, shard.rank) for shard in folder.shards()] == [
        (1, 1),
        (2, 0),
        (2, 1),
        (3, 0),
        (3, 1),
    ]


def test_an_abandoned_future_is_forgotten(tmp_path: Path) -> None:
    folder = MemoryFolder(tmp_path)
    fill(folder, CopyShard(NEW, 0), example())
    fill(folder, CopyShard(OTHER_GENERATION, 0), example())
    folder.allocate(4096)  # and what was never finished

    folder.delete_others(NEW)

    assert [path.name for path in tmp_path.iterdir()] == [CopyShard(NEW, 0).name]
