"""One process against transformers and a plain loop: tokens a second and peak memory.

    .venv/bin/python -m bench.trainer.single_process [--seconds 120] [--threads N]

Three processes take turns, a step each and every other round backwards, so that
whatever else the machine does hits all alike: transformers' Llama with
`loss.backward()`, the trainer's own step with all logits and torch's
cross-entropy, and the trainer as it is, with its chunked loss. Same network,
same batch, same threads, fp32, SDPA, fused AdamW and gradient clipping in each,
nothing compiled. Medians; memory is the process's peak. On a busy machine trust
the ratio of CPU seconds.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from multiprocessing.connection import Connection
from statistics import median
from typing import Any

LAYERS, HIDDEN, HEADS, KEY_VALUE_HEADS, FEED_FORWARD = 8, 512, 8, 4, 1376
VOCABULARY, SEQUENCE, BATCH = 32_000, 512, 8
LEARNING_RATE, DECAY, CLIP = 1e-4, 0.1, 1.0
WARM_UP = 1  # rounds: the first step allocates
LEAST = 3  # rounds that are counted, however long they take
PAUSE = 0.3  # seconds between turns: a process's threads spin for a while before they sleep
BARS = {"footplate, all logits": 1.0, "footplate": 1.1}

Step = Callable[[], float]


@contextmanager
def transformers_step() -> Iterator[Step]:
    """A plain loop around transformers' Llama."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = LlamaConfig(  # type: ignore[call-arg]  # hands what it does not name to its base class
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=FEED_FORWARD,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KEY_VALUE_HEADS,
        max_position_embeddings=SEQUENCE,
        use_cache=False,
        attn_implementation="sdpa",
    )
    model = LlamaForCausalLM(shape)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=DECAY, fused=True)
    tokens = batch_tokens()

    def step() -> float:
        loss = model(input_ids=tokens, labels=tokens).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    yield step


@contextmanager
def footplate_step(chunked: bool) -> Iterator[Step]:
    """The trainer's step, as a run has it but for the data."""
    import numpy as np

    from footplate_contracts.names import Backend
    from footplate_contracts.runconfig import RunIdentity, World, resolve
    from footplate_contracts.v1alpha1.trainingrun import TrainingRunSpec
    from footplate_trainer.data.loader import MicroBatch, StepBatch
    from footplate_trainer.loop.stepper import StepFlags, Stepper
    from footplate_trainer.optim.optimizer import build_optimizer
    from footplate_trainer.parallel.objective import PerMicroBatch
    from footplate_trainer.parallel.parallel_model import build_model
    from footplate_trainer.parallel.world import init_distributed, read_environment
    from footplate_trainer.stages.losses import objective_of

    config = resolve(TrainingRunSpec.from_json(run_spec()), RunIdentity(name="bench"), World())
    tokens = batch_tokens().numpy()
    labels = np.roll(tokens, -1, axis=1)
    labels[:, -1] = -100
    micro = MicroBatch(
        tokens,
        labels,
        documents=np.zeros(tokens.shape, dtype=np.int32),
        values=np.zeros(BATCH, dtype=np.float32),
        real=np.ones(BATCH, dtype=np.bool_),
        places=np.arange(BATCH),
    )
    batch = StepBatch([micro], np.arange(BATCH), {"tokens": BATCH * (SEQUENCE - 1)})
    with init_distributed(read_environment({}), Backend.GLOO) as world:
        model = build_model(config, world)
        optimizer = build_optimizer(model.module, config.training.optimizer)
        objective = objective_of(config) if chunked else PerMicroBatch(all_logits)
        stepper = Stepper(model, optimizer, world, CLIP, objective, config.training.seed)

        def step() -> float:
            return stepper.step(1, batch, LEARNING_RATE, StepFlags()).loss

        yield step


def all_logits(hidden: Any, head: Any, targets: Any, **_: Any) -> Any:
    """Cross-entropy as everyone writes it."""
    from torch.nn import functional

    logits = functional.linear(hidden, head)
    return functional.cross_entropy(logits.flatten(0, 1), targets.labels.flatten(), reduction="sum")


def batch_tokens() -> Any:
    """int64 [batch, sequence]."""
    import torch

    return torch.randint(VOCABULARY, (BATCH, SEQUENCE), generator=torch.Generator().manual_seed(0))


def run_spec() -> dict[str, Any]:
    """The same network as a run's spec."""
    return {
        "model": {
            "layers": LAYERS,
            "hiddenSize": HIDDEN,
            "feedForwardSize": FEED_FORWARD,
            "attentionHeads": HEADS,
            "keyValueHeads": KEY_VALUE_HEADS,
            "vocabularySize": VOCABULARY,
            "contextLength": SEQUENCE,
        },
        "data": {"uri": "/nowhere"},
        "training": {
            "steps": 1000,
            "globalBatchSize": BATCH,
            "microBatchSize": BATCH,
            "optimizer": {"learningRate": LEARNING_RATE, "weightDecay": DECAY},
            "gradientClipNorm": CLIP,
        },
        "compute": {"profile": "local-cpu"},
        "checkpoint": {"uri": "/nowhere"},
    }


CONTESTANTS: dict[str, Callable[[], Any]] = {
    "transformers": transformers_step,
    "footplate, all logits": lambda: footplate_step(chunked=False),
    "footplate": lambda: footplate_step(chunked=True),
}


def contestant(name: str, threads: int, pipe: Connection) -> None:
    """One process: a step for each message, answered with (seconds, CPU seconds, loss, peak bytes)."""
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    with CONTESTANTS[name]() as step:
        while pipe.recv():
            begun, worked = time.perf_counter(), time.process_time()
            loss = step()
            took = time.perf_counter() - begun, time.process_time() - worked
            pipe.send((*took, loss, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


@dataclass
class Result:
    """What one contestant took, step by step, and its peak memory."""

    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    peak_bytes: int = 0


def compete(seconds: float, threads: int) -> dict[str, Result]:
    """The results by contestant, of as many rounds as `seconds` allow."""
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    begun = time.monotonic()
    for name in CONTESTANTS:
        pipes[name], there = context.Pipe()
        context.Process(target=contestant, args=(name, threads, there), daemon=True).start()
        there.close()
    results = {name: Result() for name in pipes}
    for number in count():
        started = time.monotonic()
        take_turns(number, pipes, results)
        round_took = time.monotonic() - started
        if number >= WARM_UP + LEAST - 1 and time.monotonic() - begun + round_took > seconds:
            break
    for pipe in pipes.values():
        pipe.send(False)
    return results


def take_turns(number: int, pipes: dict[str, Connection], results: dict[str, Result]) -> None:
    """One round: a step of each, those of the warm-up not counted."""
    for name in list(pipes)[:: -1 if number % 2 else 1]:
        time.sleep(PAUSE)
        pipes[name].send(True)
        seconds, cpu_seconds, loss, results[name].peak_bytes = pipes[name].recv()
        if number == 0:
            print(f"{name}: loss of the first step {loss:.4f}", flush=True)
        if number >= WARM_UP:
            results[name].seconds.append(seconds)
            results[name].cpu_seconds.append(cpu_seconds)


def ratio(theirs: list[float], ours: list[float]) -> float:
    """How many times faster we are: of each round, so that a busy moment weighs on both sides."""
    return median(their / our for their, our in zip(theirs, ours, strict=True))


def main() -> int:
    """Print the table; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=120.0, help="how long to go on (%(default)s)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    before = os.getloadavg()[0]
    found = compete(arguments.seconds, arguments.threads)
    base = found["transformers"]
    missed = False
    loads = f"load before {before:.1f}, after {os.getloadavg()[0]:.1f}"
    print(f"{len(base.seconds)} rounds, {arguments.threads} threads, {loads}")
    print(f"{'':24}{'tokens/s':>10}{'ratio':>8}{'by CPU time':>13}{'bar':>6}{'peak MB':>9}")
    for name, result in found.items():
        faster = ratio(base.seconds, result.seconds)
        by_work = ratio(base.cpu_seconds, result.cpu_seconds)
        bar = BARS.get(name, 0.0)
        missed = missed or faster < bar or (name == "footplate" and result.peak_bytes >= base.peak_bytes)
        speed, peak = BATCH * SEQUENCE / median(result.seconds), result.peak_bytes / 1e6
        print(f"{name:24}{speed:10.0f}{faster:8.3f}{by_work:13.3f}{bar or '':>6}{peak:9.0f}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
