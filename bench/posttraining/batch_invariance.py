"""What `rollout.batchInvariant` costs: a rollout, and a step of training on what was sampled.

    .venv/bin/python -m bench.posttraining.batch_invariance [--rounds 5] [--threads N] [--precision fp32|bf16]

The rollout is that of `bench.posttraining.generation`: 64 prompts of 8 to 128 tokens,
answers of as many, all at once. The step is forward and backward of the same number
of rows, in which prompts with answers stand one behind another. With and without
take turns in one process, and times are its CPU seconds, as the machine may do
something else; ratios are medians of those of each turn.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from collections.abc import Callable
from statistics import median

import torch
from bench.posttraining.generation import PROMPTS, SHAPE, decoder, prompts
from torch import Tensor

from footplate_trainer.generation.engine import Engine
from footplate_trainer.generation.forward_passes import EngineLimits
from footplate_trainer.generation.requests import GeneratedAnswer, GenerationRequest, StopRule
from footplate_trainer.generation.sampler import SamplingRule
from footplate_trainer.model.decoder import Decoder
from footplate_trainer.model.head_chunks import IGNORED, VocabularyShard
from footplate_trainer.model.inputs import Inputs
from footplate_trainer.model.tile_check import find_invariant_tiles
from footplate_trainer.model.token_loss import TokenScores, summed_token_loss
from footplate_trainer.parallel.batch_invariance import make_batch_invariant

BARS = {"rollout": 1.3, "training step": 1.2}
MICRO_BATCH = 4


def answered(model: Decoder) -> list[GeneratedAnswer]:
    """All answers, by prompt."""
    engine = Engine(
        model, EngineLimits(blocks=PROMPTS * 16, at_once=PROMPTS), SamplingRule(), StopRule(), seed=0
    )
    requests = [
        GenerationRequest(number, 0, tokens, most)
        for number, (tokens, most) in enumerate(zip(*prompts(), strict=True))
    ]
    return sorted(engine.answers(requests), key=lambda answer: answer.request.prompt)


def rows_of(answers: list[GeneratedAnswer]) -> list[tuple[Inputs, Tensor]]:
    """Micro-batches of packed rows, with labels of the answers' tokens."""
    rows: list[list[GeneratedAnswer]] = [[]]
    for answer in answers:
        used = sum(len(row.request.tokens) + len(row.tokens) for row in rows[-1])
        if used + len(answer.request.tokens) + len(answer.tokens) > SHAPE.context:
            rows.append([])
        rows[-1].append(answer)
    found = []
    for first in range(0, len(rows), MICRO_BATCH):
        some = rows[first : first + MICRO_BATCH]
        tokens = torch.zeros(len(some), SHAPE.context, dtype=torch.int64)
        documents, labels = torch.full_like(tokens, -1), torch.full_like(tokens, IGNORED)
        for number, row in enumerate(some):
            start = 0
            for document, answer in enumerate(row):
                middle = start + len(answer.request.tokens)
                end = middle + len(answer.tokens)
                tokens[number, start:end] = torch.tensor([*answer.request.tokens, *answer.tokens])
                documents[number, start:end] = document
                labels[number, middle - 1 : end - 1] = tokens[number, middle:end]
                start = end
        found.append((Inputs(tokens, documents), labels))
    return found


def step(model: Decoder, rows: list[tuple[Inputs, Tensor]]) -> None:
    """Gradients of the mean log-probability of all answers."""
    vocabulary = VocabularyShard(SHAPE.vocabulary, tiles=model.tiles)
    for inputs, labels in rows:
        (hidden,) = model.forward_stage(inputs=inputs)
        summed_token_loss(hidden, model.head_weight, labels, _mean, vocabulary=vocabulary).backward()
    model.zero_grad()


def _mean(scores: TokenScores) -> Tensor:
    return -scores.log_probabilities.mean()


def main() -> int:
    """Print the table; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="of all in turns (%(default)s)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    dtype = torch.float32 if arguments.precision == "fp32" else torch.bfloat16
    plain = decoder()
    for parameter in plain.parameters():
        parameter.data = parameter.data.to(dtype)
    invariant = copy.deepcopy(plain)
    begun = time.process_time()
    tiles = find_invariant_tiles(invariant, dtype, torch.device("cpu")).tiles
    print(f"tiles of {', '.join(map(str, tiles.sizes))} rows; checked in {time.process_time() - begun:.1f} s")
    make_batch_invariant(invariant, tiles)
    rows = rows_of(answered(plain))
    work: dict[str, Callable[[Decoder], object]] = {
        "rollout": answered,
        "training step": lambda model: step(model, rows),
    }
    missed = False
    for name, run in work.items():
        ratios = []
        for number in range(arguments.rounds):
            seconds = []
            for model in (plain, invariant)[:: -1 if number % 2 else 1]:
                begun = time.process_time()
                run(model)
                seconds.append(time.process_time() - begun)
            without, with_tiles = seconds[:: -1 if number % 2 else 1]
            ratios.append(with_tiles / without)
        missed = missed or median(ratios) > BARS[name]
        print(f"{name:14}{median(ratios):6.2f}  ({min(ratios):.2f} to {max(ratios):.2f})  bar {BARS[name]}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
