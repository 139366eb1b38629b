"""What an asynchronous checkpoint costs the steps around it.

    .venv/bin/python -m bench.trainer.checkpoint [--steps 60] [--every 20] [--uri s3://…]

One process trains a decoder on one thread and saves while it goes on. Two
ratios, both from this run: how long a save keeps the loop waiting over one
clone of the state (the shortest of each: noise only adds), and the slowest step
that an upload touched over the median of all others. Needs a second core for the
thread that writes, and a machine that does nothing else: how far the steps
without upload spread is printed beside it.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch comes in

import torch
from torch import Tensor

from footplate_contracts.reports import CheckpointRecord, RankPhase, RankReport
from footplate_elastic.protocol.agent_client import AgentClient
from footplate_trainer.stages import offline_stages
from footplate_trainer.stages.start import open_store
from tests.support.checkpoints import whole_tensors
from tests.support.tiny import VOCABULARY, pack_tiny, tiny_config

BLOCKED_BAR: Final = 1.5  # x one clone
STEP_BAR: Final = 1.2  # x median
WARM_UP: Final = 3  # steps that are not counted


@dataclass
class Watch(AgentClient):
    """Keeps when steps began and ended, when saves began, and when they were committed."""

    begins: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    saves: list[float] = field(default_factory=list)
    commits: list[CheckpointRecord] = field(default_factory=list)

    def report(self, report: RankReport) -> None:
        """Three for each step, one for each save."""
        now = time.time()
        if report.phase is RankPhase.DATA:
            self.begins.append(now)
        elif report.phase is RankPhase.CHECKPOINT:
            self.saves.append(now)
        elif report.phase is RankPhase.COMPUTE and report.step_seconds is not None:
            self.ends.append(now)

    def checkpoint(self, record: CheckpointRecord) -> None:
        """A commit."""
        self.commits.append(record)

    def steps(self) -> tuple[list[float], list[float]]:
        """Seconds of the steps that no upload touched, and of those that one did.

        From before the data to after the update: the copy, which comes after that, is counted by itself.
        """
        uploads = list(zip(self.saves, [record.time for record in self.commits], strict=True))
        alone, during = [], []
        for begun, ended in list(zip(self.begins, self.ends, strict=True))[WARM_UP:]:
            touched = any(start < ended and begun < stop for start, stop in uploads)
            (during if touched else alone).append(ended - begun)
        return alone, during


def clone_seconds(tensors: dict[str, Tensor]) -> float:
    """One clone of all `tensors`: the shortest of five, each into fresh memory."""
    taken = []
    for _ in range(5):
        begun = time.perf_counter()
        copies = [tensor.clone() for tensor in tensors.values()]
        taken.append(time.perf_counter() - begun)
        del copies
    return min(taken)


def main() -> None:
    """Train, watch, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--every", type=int, default=20)
    parser.add_argument("--uri", help="a checkpoint folder to keep; default: a temporary one")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        overrides = [
            *("model.layers=4", "model.hiddenSize=512", "model.attentionHeads=8", "model.keyValueHeads=4"),
            *(f"model.vocabularySize={8 * VOCABULARY}", "model.contextLength=16"),
            *(f"training.steps={arguments.steps}", "training.microBatchSize=8", "training.logEverySteps=20"),
            *(f"checkpoint.everySteps={arguments.every}", "checkpoint.keepLast=1"),
            *([f"checkpoint.uri={arguments.uri}"] if arguments.uri else []),
        ]
        config, watch = tiny_config(pack_tiny(folder), folder, overrides), Watch()
        assert offline_stages.main(config, watch) == 0
        store = open_store(config)
        tensors = whole_tensors(store, store.steps()[0])
    clone = clone_seconds(tensors)
    blocked = min(record.seconds_blocked for record in watch.commits)
    alone, during = watch.steps()
    usual, slowest = median(alone), max(during)
    size = sum(tensor.nbytes for tensor in tensors.values())
    print(f"state                {size / 1e6:8.1f} MB, {len(watch.commits)} checkpoints")
    print(f"one clone            {clone * 1e3:8.1f} ms")
    print(f"step blocked         {blocked * 1e3:8.1f} ms   {blocked / clone:5.2f} x clone, bar {BLOCKED_BAR}")
    print(f"step, no upload      {usual * 1e3:8.1f} ms   median of {len(alone)}")
    print(f"slowest without      {max(alone) * 1e3:8.1f} ms   {max(alone) / usual:5.2f} x median: noise")
    print(
        f"slowest in an upload {slowest * 1e3:8.1f} ms   {slowest / usual:5.2f} x median, bar {STEP_BAR},"
        f" of {len(during)}"
    )


if __name__ == "__main__":
    main()
