"""What the journal of a rollout and the lineage in it cost, of the rollout.

    .venv/bin/python -m bench.posttraining.journal [--rounds 5] [--folder FOLDER]

An engine answers the 64 prompts of `bench.posttraining.generation`. Each answer, with its log-probabilities
and why it ended, and each reward go to a journal as in stage grpo, and the rollout ends when all is durable.
Two shares are printed, medians of the rounds: of the rollout's seconds on the clock, those in the journal's
calls, the last wait for the disk among them (that is what a rollout stands still for); and of its CPU
seconds, those of the writing thread, which takes them from the engine where there is one core. The greater
one is judged. The clock's share depends on the disk below FOLDER, and on what else the machine does.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np
import torch
from bench.posttraining.generation import PROMPTS, TOP_K, decoder, prompts

from footplate_contracts.reports import GenerationId
from footplate_trainer.checkpoint.folder import LocalFolder
from footplate_trainer.generation.engine import Engine
from footplate_trainer.generation.forward_passes import EngineLimits
from footplate_trainer.generation.requests import GeneratedAnswer, GenerationRequest, StopRule
from footplate_trainer.generation.sampler import SamplingRule
from footplate_trainer.model.decoder import Decoder
from footplate_trainer.rewards.reward_samples import SampleKey
from footplate_trainer.rollout.journal import Journal
from footplate_trainer.rollout.journal_keys import JournalKey
from footplate_trainer.rollout.journal_records import RewardsRecord, SampleRecord

BAR: Final = 0.02


@dataclass(frozen=True)
class Share:
    """Of one rollout."""

    waited: float  # of its time on the clock
    worked: float  # of its CPU time


def measured(model: Decoder, folder: Path, step: int) -> Share:
    """A rollout with its journal, in the order of stage grpo: answers as they end, then rewards."""
    journal = Journal(LocalFolder(str(folder)), GenerationId(epoch=1, number=1), 0, "bench")
    spent = 0.0

    def timed(call: Callable[[], object]) -> None:
        nonlocal spent
        begun = time.perf_counter()
        call()
        spent += time.perf_counter() - begun

    room = EngineLimits(blocks=PROMPTS * 16, at_once=PROMPTS)
    engine = Engine(model, room, SamplingRule(top_k=TOP_K), StopRule(), seed=step)
    requests = [
        GenerationRequest(number, 0, tokens, most)
        for number, (tokens, most) in enumerate(zip(*prompts(), strict=True))
    ]
    begun, worked, own = time.perf_counter(), time.process_time(), time.thread_time()
    timed(lambda: journal.start_rollout(step, JournalKey("answers")))
    samples = []
    for answer in engine.answers(requests):
        samples.append(_record(step, answer))
        timed(lambda: journal.add(samples[-1:]))
    timed(journal.flush)
    for sample in samples:
        rewards = RewardsRecord(sample.key, sample.mark, {"right": 1.0, "long": 0.5})
        timed(partial(journal.add, [rewards]))
    timed(journal.flush)
    seconds, cpu_seconds = time.perf_counter() - begun, time.process_time() - worked
    others = cpu_seconds - (time.thread_time() - own)
    journal.close()
    return Share(spent / seconds, others / cpu_seconds)


def _record(step: int, answer: GeneratedAnswer) -> SampleRecord:
    return SampleRecord(
        SampleKey(step, answer.request.prompt, answer.request.sibling),
        np.array(answer.tokens, dtype=np.int32),
        np.array(answer.sampled, dtype=np.float32),
        np.array(answer.full, dtype=np.float32),
        answer.reason,
    )


def main() -> int:
    """Print the table; 1 when the bar is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="rollouts (%(default)s)")
    parser.add_argument("--folder", type=Path, help="where the journal goes (default: a temporary one)")
    parser.add_argument("--smoke", action="store_true", help="one rollout, to see that it runs")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = decoder()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        rounds = range(1, 2 if arguments.smoke else arguments.rounds + 1)
        shares = [measured(model, Path(temporary), step) for step in rounds]
    waited, worked = ([getattr(share, name) for share in shares] for name in ("waited", "worked"))
    for name, found in (("waited, of the clock", waited), ("worked beside, of the CPU", worked)):
        print(f"{name:28}{median(found):8.3%}  ({min(found):.3%} to {max(found):.3%})  bar {BAR:.0%}")
    return int(max(median(waited), median(worked)) > BAR)


if __name__ == "__main__":
    sys.exit(main())
