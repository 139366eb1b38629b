"""From training to a rollout and back: bytes that come to each rank, and memory at the worst moment.

    .venv/bin/python -m bench.posttraining.resharding [NAME …]

A Llama of 12 million numbers on gloo ranks. Bytes are those that went into the
collective; the formula is that of docs/parallelism.md, which `ReshardPlan.received_bytes`
reckons. Memory is that of all tensors, by what each operator returns; beside it
stands a rank's part of both layouts. A rank is wrong where its bytes are not those of
the formula, or where anything of the rollout is left behind it.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from bench.trainer.tracking import PeakTracker

from footplate_contracts.runconfig import RunConfig
from footplate_contracts.v1alpha1.training import Precision
from footplate_planning.config import model_shape
from footplate_planning.memory import FP32
from footplate_planning.reshard import ReshardPlan
from footplate_trainer.parallel.local_shard import to_local
from tests.support.ranks import run_ranks
from tests.support.rollouts import opened, rollout_ranks
from tests.support.tiny import pack_tiny, tiny_config

BAR: Final = 1.1  # of both parts
OF_TORCH: Final = 64  # bytes that its meshes keep once they were used
MODEL: Final = (
    "model.layers=8",
    "model.hiddenSize=320",
    "model.vocabularySize=4096",
    "training.microBatchSize=1",
)
_CUBE: Final = ("parallelism.tensor=2", "parallelism.pipeline=2")
_HYBRID: Final = ("parallelism.sharding=hybrid", "parallelism.replicas=2")
# By name: ranks, fields of the run, and (tensor, pipeline) of the rollout.
ROWS: Final[dict[str, tuple[int, tuple[str, ...], tuple[int, int]]]] = {
    "full 4 -> copies": (4, (), (1, 1)),
    "full 4 -> tensor 2": (4, (), (2, 1)),
    "full 4 -> tensor 2 x pipeline 2": (4, (), (2, 2)),
    "hybrid 4 -> tensor 2": (4, _HYBRID, (2, 1)),
    "none 2 -> tensor 2": (2, ("parallelism.sharding=none",), (2, 1)),
    "tensor 2 x pipeline 2 -> the same": (4, _CUBE, (2, 2)),
    "tensor 2 x pipeline 2 -> copies": (4, _CUBE, (1, 1)),
    "full 2 x tensor 2 x pipeline 2 -> tensor 4": (8, _CUBE, (4, 1)),
    "full 2 x tensor 2 x pipeline 2 -> pipeline 4": (8, _CUBE, (1, 4)),
    "full 4, bf16 -> tensor 2": (4, ("training.precision=bf16",), (2, 1)),
    "full 4, adapters -> tensor 2": (4, ("model.adapter={rank: 8}",), (2, 1)),
}


@dataclass(frozen=True)
class Measured:
    """One rank, in bytes."""

    received: int
    planned: int
    peak: int
    both: int
    left: int


def measured(config: RunConfig, degrees: tuple[int, int]) -> Measured:
    """As one rank."""
    dtype = torch.bfloat16 if config.training.precision is Precision.BF16 else torch.float32
    with opened(config) as (model, world):
        ranks = rollout_ranks(config, model, world, degrees, dtype)
        topologies = (model.grid.topology, ranks.copy.grid.topology)
        plan = ReshardPlan.of(model_shape(config), *topologies, dtype.itemsize)
        with PeakTracker(to_local(parameter) for parameter in model.module.parameters()) as tracker:
            before = tracker.now()
            with ranks.laid_out_model(model.module):
                pass
            left = tracker.now() - before
        both = plan.source_bytes(world.rank, FP32) + plan.target_bytes(world.rank)
        return Measured(ranks.received_bytes, plan.received_bytes(world.rank), tracker.peak, both, left)


def main() -> int:
    """Print the table; 1 when a bar is missed."""
    missed = False
    titles = ("received", "formula", "peak", "both")
    print(
        f"{'MB, of the rank with the highest ratio':46}{''.join(f'{title:>9}' for title in titles)}   ratio"
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        shards = pack_tiny(folder)
        for number, name in enumerate(sys.argv[1:] or ROWS):
            ranks, overrides, degrees = ROWS[name]
            config = tiny_config(shards, folder / str(number), (*MODEL, *overrides))
            found: list[Measured] = run_ranks(measured, ranks, config, degrees)
            worst = max(found, key=lambda rank: rank.peak / rank.both)
            wrong = any(rank.received != rank.planned or rank.left > OF_TORCH for rank in found)
            missed = missed or wrong or worst.peak > BAR * worst.both
            numbers = (worst.received, worst.planned, worst.peak, worst.both)
            row = "".join(f"{number / 1e6:9.3f}" for number in numbers)
            print(f"{name:46}{row}{worst.peak / worst.both:8.3f}{'  wrong' if wrong else ''}", flush=True)
    print(f"bar {BAR} of both parts; bytes equal to the formula on every rank")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
