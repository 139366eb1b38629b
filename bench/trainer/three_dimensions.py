"""FSDP2 x tensor x pipeline on 8 gloo ranks: the trainer's step against the same layout by hand.

    .venv/bin/python -m bench.trainer.three_dimensions [--steps 10]

Both models live in the same eight processes, start from the same weights and
take turns on the same batch, so that whatever else the machine does hits both.
Compared are CPU seconds, user and system, of all ranks together: eight ranks on
a few cores wait for each other, and a clock would count that. Medians of
the pairs; exit code 1 when the trainer needs more than 1.05 times as much, or
when the two runs are not the same run.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np
import torch
import torch.distributed as dist
from bench.trainer.by_hand import ByHand, Sizes
from bench.trainer.laid import laid
from torch import Tensor

from footplate_contracts.runconfig import RunConfig
from footplate_trainer.data.loader import MicroBatch, StepBatch
from footplate_trainer.loop.stepper import StepFlags
from footplate_trainer.model.initialize import initialize_rows
from footplate_trainer.parallel.local_shard import local_shard
from tests.support.ranks import run_ranks
from tests.support.tiny import pack_tiny, tiny_config

BAR: Final = 1.05
SAME: Final = 1e-4  # relative difference of losses: other orders of summation
WARM_UP: Final = 2  # steps that are not counted
RATE, DECAY, CLIP = 1e-3, 0.1, 1.0
SIZES: Final = Sizes()

Pairs = list[tuple[float, float]]
"""(by hand, the trainer) of each step."""


def overrides(sizes: Sizes) -> list[str]:
    """The same model and layout as a run."""
    return [
        f"model.layers={sizes.layers}",
        f"model.hiddenSize={sizes.hidden}",
        f"model.feedForwardSize={sizes.feed_forward}",
        f"model.attentionHeads={sizes.heads}",
        f"model.keyValueHeads={sizes.key_value_heads}",
        f"model.vocabularySize={sizes.vocabulary}",
        f"model.contextLength={sizes.length}",
        f"training.microBatchSize={sizes.micro_batch}",
        f"training.globalBatchSize={sizes.micro_batch * sizes.micro_batches * sizes.data}",
        f"training.optimizer={{name: adamw, learningRate: {RATE}, weightDecay: {DECAY}, betas: [0.9, 0.95]}}",
        f"training.gradientClipNorm={CLIP}",
        f"parallelism.tensor={sizes.tensor}",
        f"parallelism.pipeline={sizes.pipeline}",
        "parallelism.pipelineSchedule=1F1B",
    ]


def compare(config: RunConfig, sizes: Sizes, steps: int) -> tuple[Pairs, Pairs]:
    """CPU seconds and losses of this rank, step by step."""
    with laid(config) as here:
        place = here.model.grid.coordinates
        tokens = random_tokens(sizes, place.data)
        batch = as_batch(tokens, sizes)
        labels = tokens.roll(-1, 1)
        other = ByHand(sizes, RATE, DECAY, CLIP)
        for name, parameter in other.stage.named_parameters():
            piece = local_shard(parameter)
            fill(piece.local, name, piece.start, parameter.shape[-1], config)
        seconds: Pairs = []
        losses: Pairs = []
        for number in range(1, WARM_UP + steps + 1):
            dist.barrier()
            begun = cpu_seconds()
            theirs = other.step(tokens, labels)
            dist.barrier()
            between = cpu_seconds()
            ours = here.stepper.step(number, batch, RATE, StepFlags()).loss
            dist.barrier()
            ended = cpu_seconds()
            seconds.append((between - begun, ended - between))
            losses.append((theirs, ours))
    return seconds, losses


def fill(local: Tensor, name: str, start: tuple[int, ...], columns: int, config: RunConfig) -> None:
    """Give a block of a parameter the weights that the trainer begins with."""
    deviation = config.model.initialization.standard_deviation
    if local.ndim == 1:
        initialize_rows(local, name, start[0], config.training.seed, deviation)
        return
    rows = torch.empty(local.shape[0], columns)
    initialize_rows(rows, name, start[0], config.training.seed, deviation)
    local.copy_(rows.narrow(1, start[1], local.shape[1]))


def random_tokens(sizes: Sizes, data: int) -> Tensor:
    """int64 [samples of a data rank, length]."""
    generator = torch.Generator().manual_seed(data)
    samples = sizes.micro_batch * sizes.micro_batches
    return torch.randint(sizes.vocabulary, (samples, sizes.length), generator=generator)


def as_batch(tokens: Tensor, sizes: Sizes) -> StepBatch:
    """The same tokens as the trainer takes them; every token has a label."""
    labels = tokens.roll(-1, 1)
    size = sizes.micro_batch
    micro_batches = [
        MicroBatch(
            tokens[first : first + size].numpy(),
            labels[first : first + size].numpy(),
            documents=np.zeros((size, sizes.length), dtype=np.int32),
            values=np.zeros(size, dtype=np.float32),
            real=np.ones(size, dtype=np.bool_),
            places=np.arange(first, first + size),
        )
        for first in range(0, len(tokens), size)
    ]
    return StepBatch(micro_batches, np.arange(len(tokens)), {"tokens": tokens.numel()})


def cpu_seconds() -> float:
    """User and system time of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> int:
    """Print both and their ratio."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=10, help="pairs that are counted (%(default)s)")
    steps = parser.parse_args().steps
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        config = tiny_config(pack_tiny(folder), folder, overrides(SIZES))
        answers = run_ranks(compare, SIZES.ranks, config, SIZES, steps, timeout=400.0)
    all_ranks = [
        tuple(sum(side) for side in zip(*step, strict=True))
        for step in zip(*(seconds for seconds, _ in answers), strict=True)
    ][WARM_UP:]
    # Each data rank's last stage knows the loss of its samples.
    known = [losses for _, losses in answers if losses[0][0]][:: SIZES.tensor]
    theirs = [sum(losses[step][0] for losses in known) / len(known) for step in range(steps)]
    ours = [answers[0][1][step][1] for step in range(steps)]
    apart = max(abs(our - their) / their for our, their in zip(ours, theirs, strict=True))
    ratio = median(after / before for before, after in all_ranks)
    print(f"{SIZES}\nload {os.getloadavg()[0]:.1f}, {steps} pairs of steps")
    print(f"loss of step 1 and {steps}: {ours[0]:.5f} {ours[-1]:.5f}, apart at most {apart:.1e}")
    print(f"by hand {median(seconds for seconds, _ in all_ranks):.3f} CPU s a step, all ranks")
    print(f"trainer {median(seconds for _, seconds in all_ranks):.3f} CPU s a step, all ranks")
    print(f"ratio {ratio:.3f}, bar {BAR}")
    return int(ratio > BAR or apart > SAME)


if __name__ == "__main__":
    sys.exit(main())
