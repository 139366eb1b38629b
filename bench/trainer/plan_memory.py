"""Whether `footplate-trainer plan` foresees memory: its peak against the tracked one, layout by layout.

    .venv/bin/python -m bench.trainer.plan_memory [ROW ...]

Tracked is the highest sum of bytes of all tensors after any operator of the
second step, on gloo ranks. Exit code 1 when an estimate is off by more than 10 %.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Final

from bench.trainer.laid import laid
from bench.trainer.tracking import PeakTracker

from footplate_contracts.runconfig import RunConfig
from footplate_planning.plan import build_plan
from footplate_trainer.parallel.local_shard import to_local
from tests.support.ranks import run_ranks
from tests.support.tiny import pack_tiny, tiny_config

BAR: Final = 0.10
MODEL: Final = (
    "model.layers=4",
    "model.hiddenSize=256",
    "model.attentionHeads=8",
    "model.keyValueHeads=4",
    "model.vocabularySize=4096",
    "model.contextLength=256",
    "training.microBatchSize=4",
)
ROWS: Final[dict[str, tuple[int, tuple[str, ...]]]] = {
    "one process": (1, ()),
    "none x 2": (2, ("parallelism.sharding=none",)),
    "optimizer x 2": (2, ("parallelism.sharding=zero1",)),
    "full x 2": (2, ()),
    "full x 2, bf16": (2, ("training.precision=bf16",)),
    "full x 2, short sequences": (2, ("model.contextLength=64",)),
    "full x 2, SGD": (2, ("training.optimizer={name: sgd, learningRate: 0.1, momentum: 0.9}",)),
    "full x 2, selective recomputation": (2, ("training.activationCheckpointing=selective",)),
    "full x 2, full recomputation": (2, ("training.activationCheckpointing=full",)),
    "tensor 2": (2, ("parallelism.tensor=2",)),
    "context 2": (2, ("parallelism.context=2",)),
    "pipeline 2, 1F1B": (2, ("parallelism.pipeline=2",)),
    "pipeline 2, GPipe": (2, ("parallelism.pipeline=2", "parallelism.pipelineSchedule=GPipe")),
    "tensor 2 x full 2": (4, ("parallelism.tensor=2",)),
}


def tracked_peak(config: RunConfig) -> tuple[int, int]:
    """(pipeline coordinate, bytes) of this rank."""
    with laid(config) as here:
        here.step(1)
        moments = [
            moment for by_name in here.stepper.optimizer.moments().values() for moment in by_name.values()
        ]
        state = [*here.model.module.parameters(), *moments]
        with PeakTracker(to_local(tensor) for tensor in state) as tracker:
            here.step(2)
        return here.model.grid.coordinates.pipeline, tracker.peak


def compare(name: str, shards: Path, folder: Path) -> list[tuple[int, int, int]]:
    """(pipeline coordinate, estimated, tracked) of each of its places."""
    ranks, overrides = ROWS[name]
    config = tiny_config(shards, folder, [*MODEL, *overrides])
    tracked = dict(run_ranks(tracked_peak, ranks, config))
    foreseen = build_plan(config, ranks, "cpu").ranks
    return [(rank.pipeline, rank.memory.peak, tracked[rank.pipeline]) for rank in foreseen]


def main() -> int:
    """Print the table."""
    wanted = sys.argv[1:] or list(ROWS)
    worst = 0.0
    print(f"{'layout':34} {'stage':>5} {'estimated MB':>13} {'tracked MB':>11} {'ratio':>6}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        shards = pack_tiny(folder)
        for number, name in enumerate(wanted):
            for pipeline, estimated, tracked in compare(name, shards, folder / str(number)):
                ratio = estimated / tracked
                worst = max(worst, abs(ratio - 1))
                row = f"{name:34} {pipeline:5} {estimated / 1e6:13.1f} {tracked / 1e6:11.1f} {ratio:6.3f}"
                print(row, flush=True)
    print(f"worst: {worst:.1%} off; bar {BAR:.0%}")
    return int(worst > BAR)


if __name__ == "__main__":
    sys.exit(main())
