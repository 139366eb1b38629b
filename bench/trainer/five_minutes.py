"""How far five minutes of two cores go: the trainer against a plain transformers loop.

    .venv/bin/python -m bench.trainer.five_minutes [--seconds 300] [--threads N]

Each gets the same seconds, in turns of ten, so that whatever else the machine
does hits both; and the same initial weights, the same shards of the Python
standard library's source in the same order, AdamW, schedule and clipping. The
trainer is the whole program (`learning.main`, with its data order, metrics and
last checkpoint). Both are then judged by transformers on files that neither has
seen. Takes twice the seconds and about a minute and a half.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from footplate_contracts.directives import Command
from footplate_contracts.reports import RankPhase, RankReport
from footplate_contracts.runconfig import RunConfig, RunIdentity, World, resolve
from footplate_contracts.v1alpha1.trainingrun import TrainingRunSpec
from footplate_elastic.protocol.agent_client import AgentClient
from footplate_trainer.data.corpus import PYTHON_STDLIB, open_corpus
from footplate_trainer.data.pack import pack

LAYERS, HIDDEN, HEADS, KEY_VALUE_HEADS, FEED_FORWARD = 4, 256, 4, 2, 704
VOCABULARY, SEQUENCE, BATCH = 8192, 256, 8
RATE, DECAY, CLIP, WARM_UP = 2e-3, 0.1, 1.0, 40
HELD_OUT: Final = 20  # every so manieth document
JUDGED: Final = 100  # batches of them
TURN: Final = 10.0  # seconds


@dataclass(frozen=True)
class Trained:
    """What a contestant did in its seconds, and where its model is."""

    steps: int
    tokens: int
    folder: Path


def prepare(folder: Path) -> None:
    """Shards of both kinds, and initial weights."""
    documents = [document.text for document in open_corpus([PYTHON_STDLIB])]
    for name, chosen in (
        ("train", [text for place, text in enumerate(documents) if place % HELD_OUT]),
        ("held-out", documents[::HELD_OUT]),
    ):
        text = folder / f"{name}.jsonl"
        text.write_text("".join(json.dumps({"text": document}) + "\n" for document in chosen))
        tokenizer = folder / "train" / "tokenizer.json" if name == "held-out" else None
        pack([str(text)], folder / name, vocabulary_size=VOCABULARY, tokenizer=tokenizer)


def initial_weights(folder: Path) -> None:
    """A folder that both begin with."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = LlamaConfig(  # type: ignore[call-arg]  # hands what it does not name to its base class
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=FEED_FORWARD,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KEY_VALUE_HEADS,
        max_position_embeddings=SEQUENCE,
        attn_implementation="sdpa",
    )
    LlamaForCausalLM(shape).save_pretrained(folder / "initial")


def run_config(folder: Path, shards: str) -> RunConfig:
    """The run as its spec says it."""
    spec = {
        "initFrom": {"uri": str(folder / "initial")},
        "model": {"contextLength": SEQUENCE},
        "data": {"uri": str(folder / shards), "packing": {"crossDocumentAttention": True}},
        "training": {
            "steps": 1_000_000,
            "globalBatchSize": BATCH,
            "microBatchSize": BATCH,
            "optimizer": {"learningRate": RATE, "weightDecay": DECAY, "betas": [0.9, 0.95]},
            "schedule": {"name": "constant", "warmupSteps": WARM_UP},
            "gradientClipNorm": CLIP,
        },
        "compute": {"profile": "local-cpu"},
        "checkpoint": {"uri": str(folder / "checkpoints"), "everySteps": 1_000_000},
    }
    return resolve(TrainingRunSpec.from_json(spec), RunIdentity(name="five-minutes"), World())


class Turns:
    """A contestant's side of the pipe to the one who keeps the time."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._begun = self._ends = 0.0

    def step_begins(self) -> bool:
        """Wait for the next turn if this one is over; False when the step that begins is to be the last."""
        now = time.monotonic()
        if now < self._ends:
            return True
        self._pipe.send(now - self._begun if self._begun else 0.0)
        seconds: float = self._pipe.recv()
        self._begun = time.monotonic()
        self._ends = self._begun + seconds
        return seconds > 0


class AgentOfTurns(AgentClient):
    """An agent that lets steps begin in their turn, and asks for a checkpoint after the last."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._last = False

    def report(self, report: RankReport) -> None:
        """See AgentClient."""
        if report.phase is RankPhase.DATA:
            self._last = not self._turns.step_begins()

    def command(self) -> Command:
        """See AgentClient."""
        return Command.CHECKPOINT_AND_EXIT if self._last else Command.NONE


def train_footplate(folder: Path, turns: Turns) -> Trained:
    """The trainer as a user starts it."""
    from footplate_trainer.checkpoint.lookup import find_newest_whole
    from footplate_trainer.huggingface.export import export_checkpoint
    from footplate_trainer.stages import offline_stages

    metrics = folder / "metrics.jsonl"
    offline_stages.main(run_config(folder, "train"), AgentOfTurns(turns), metrics)
    export_checkpoint(find_newest_whole(str(folder / "checkpoints")), folder / "footplate")
    last = json.loads(metrics.read_text().splitlines()[-1])
    return Trained(last["step"], last["tokens"], folder / "footplate")


def train_transformers(folder: Path, turns: Turns) -> Trained:
    """A plain loop around transformers' model."""
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder / "initial", attn_implementation="sdpa")
    model.train()
    matrices = [weight for weight in model.parameters() if weight.ndim > 1]
    vectors = [weight for weight in model.parameters() if weight.ndim == 1]
    groups = [{"params": matrices, "weight_decay": DECAY}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.95), fused=True)
    steps = tokens = 0
    for inputs, labels in batches(folder, "train"):
        is_last = not turns.step_begins()
        steps, tokens = steps + 1, tokens + int((labels != -100).sum())
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, steps / WARM_UP)
        model(input_ids=inputs, labels=labels, shift_labels=labels, use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        if is_last:
            break
    model.save_pretrained(folder / "transformers")
    return Trained(steps, tokens, folder / "transformers")


def batches(folder: Path, shards: str) -> Iterator[tuple[Any, Any]]:
    """Tokens and labels int64 [batch, length], in the order of the run; never ends."""
    import torch

    from footplate_trainer.data.loader import BatchLoader
    from footplate_trainer.data.sources import RunShards, dataset_of
    from footplate_trainer.huggingface.initial import complete_config

    config = complete_config(run_config(folder, shards))
    dataset = dataset_of(
        RunShards.open(config.data, verify=None, local_rank=0),
        config.data,
        config.training.loss.name,
        SEQUENCE,
    )
    loader = BatchLoader(dataset, seed=config.data.seed, global_batch_size=BATCH, micro_batch_size=BATCH)
    step = 0
    while True:
        (micro,) = loader.step(step).micro_batches
        yield torch.from_numpy(micro.tokens), torch.from_numpy(micro.labels)
        step += 1


def judge(folder: Path, trained: Path) -> float:
    """Mean loss on held-out files of the model in `trained`, in nats a token."""
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(trained, attn_implementation="sdpa")
    model.eval()
    total, count = 0.0, 0
    with torch.no_grad():
        for number, (inputs, labels) in enumerate(batches(folder, "held-out")):
            if number == JUDGED:
                break
            logits = model(input_ids=inputs, use_cache=False).logits
            summed = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), labels.flatten(), reduction="sum"
            )
            total, count = total + float(summed), count + int((labels != -100).sum())
    return total / count


CONTESTANTS: Final[dict[str, Callable[[Path, Turns], Trained]]] = {
    "transformers": train_transformers,
    "footplate": train_footplate,
}


def contestant(name: str, folder: Path, threads: int, pipe: Connection) -> None:
    """One process: takes its turns, then tells what it did."""
    set_threads(threads)
    pipe.send(CONTESTANTS[name](folder, Turns(pipe)))


def compete(folder: Path, seconds: float, threads: int) -> dict[str, tuple[float, Trained]]:
    """What each did, and in how many seconds."""
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    for name in CONTESTANTS:
        pipes[name], there = context.Pipe()
        context.Process(target=contestant, args=(name, folder, threads, there), daemon=True).start()
        there.close()
    spent: dict[str, float] = {name: pipe.recv() for name, pipe in pipes.items()}  # all are ready
    while min(spent.values()) < seconds:
        for name, pipe in pipes.items():
            if spent[name] < seconds:
                pipe.send(min(TURN, seconds - spent[name]))
                spent[name] += pipe.recv()
    done = {}
    for name, pipe in pipes.items():
        pipe.send(0.0)
        done[name] = spent[name], pipe.recv()
    return done


def apart(threads: int, work: Callable[[], Any]) -> Any:
    """What `work` returns in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1, set_threads, (threads,)) as pool:
        return pool.apply(work)


def set_threads(threads: int) -> None:
    """For this process."""
    import torch

    torch.set_num_threads(threads)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=300.0, help="for each (%(default)s)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    losses: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        prepare(folder)
        apart(arguments.threads, partial(initial_weights, folder))
        before = os.getloadavg()[0]
        done = compete(folder, arguments.seconds, arguments.threads)
        loads = f"load before {before:.1f}, after {os.getloadavg()[0]:.1f}"
        print(f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {arguments.threads} threads, {loads}")
        print(f"{'':14}{'seconds':>9}{'steps':>8}{'tokens':>11}{'held-out loss':>15}")
        start = apart(arguments.threads, partial(judge, folder, folder / "initial"))
        print(f"{'initial':14}{0:9}{0:8}{0:11}{start:15.4f}")
        for name, (seconds, trained) in done.items():
            losses[name] = apart(arguments.threads, partial(judge, folder, trained.folder))
            print(f"{name:14}{seconds:9.1f}{trained.steps:8}{trained.tokens:11,}{losses[name]:15.4f}")
    return int(losses["footplate"] > losses["transformers"])


if __name__ == "__main__":
    sys.exit(main())
