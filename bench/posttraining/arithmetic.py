"""grpo on generated arithmetic: held-out answers before and after, of the same prompts.

    .venv/bin/python -m bench.posttraining.arithmetic [--folder FOLDER]

Items are those of reasoning-gym's `chain_sum` (three numbers of one digit, added or
subtracted); prompts are their expressions, and an answer is right where the number
behind its "=" is the item's. A model of 2 layers learns from worked items (sft), then
from its own answers alone (grpo). Held-out items are in neither. Answers are the likeliest tokens;
p is McNemar's exact one of the answers that differ.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.posttraining.packages import interpreter_with
from bench.posttraining.stage_runs import MODEL, Trained, command, mcnemar, run_stage, training, write_rows

from footplate_trainer.data.tokenizer import SMALLEST
from footplate_trainer.rewards.marked_number import reward

PACKAGE: Final = ("reasoning-gym", "0.1.25")
# Runs where that package is: prints one [expression, answer] a line.
_PROGRAM: Final = """
import json, sys, reasoning_gym
for item in reasoning_gym.create_dataset("chain_sum", **json.loads(sys.argv[1])):
    print(json.dumps([item["metadata"]["expression"], item["answer"]]))
"""
ITEMS: Final = {"size": 20_000, "seed": 0, "min_terms": 3, "max_terms": 3, "min_digits": 1, "max_digits": 1}
HELD_OUT: Final = 500
WORKED: Final = 1000
MARK: Final = "="
CONTEXT: Final = 32
SHAPE: Final = MODEL | {"vocabularySize": SMALLEST, "contextLength": CONTEXT}
BAR, SIGNIFICANT = 20.0, 0.01  # points; p


@dataclass(frozen=True)
class Item:
    """A sum and its value."""

    expression: str
    answer: str

    @property
    def prompt(self) -> str:
        return f"{self.expression} "


@dataclass(frozen=True)
class Items:
    """What is learnt from worked answers, what is only asked, and what is held out; no item is in two."""

    worked: list[Item]
    asked: list[Item]
    held_out: list[Item]


def draw_items(*, smoke: bool = False) -> Items:
    """All different items of ITEMS, in an order drawn by lot."""
    settings = ITEMS | ({"size": 500} if smoke else {})
    ended = subprocess.run(
        [interpreter_with(*PACKAGE), "-c", _PROGRAM, json.dumps(settings)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    drawn = [Item(*json.loads(line)) for line in ended.stdout.splitlines()]
    different = sorted(set(drawn), key=lambda item: item.expression)
    random.Random(0).shuffle(different)
    held_out, worked = (50, 150) if smoke else (HELD_OUT, WORKED)
    return Items(
        different[held_out : held_out + worked], different[held_out + worked :], different[:held_out]
    )


def prepare(folder: Path, items: Items) -> None:
    """Shards of worked items and of prompts, with a tokenizer of bytes."""
    worked = [{"prompt": item.prompt, "completion": f"{MARK} {item.answer}"} for item in items.worked]
    asked = [{"prompt": item.prompt, "answer": item.answer} for item in items.asked]
    texts = write_rows(folder / "texts.jsonl", ({"text": row["prompt"]} for row in worked))
    command("pack", texts, folder / "tokenizer", "--vocabulary-size", SMALLEST)
    for name, rows, shape in (("worked", worked, "chat"), ("asked", asked, "prompts")):
        file = write_rows(folder / f"{name}.jsonl", rows)
        command("pack", file, folder / "shards" / name, "--format", shape,
                "--tokenizer", folder / "tokenizer", "--context-length", CONTEXT)  # fmt: skip


def beginner(folder: Path, *, smoke: bool = False) -> Trained:
    """The model after worked items."""
    spec: dict[str, Any] = {
        "stage": "sft",
        "model": SHAPE,
        "data": {"uri": str(folder / "shards" / "worked")},
        "training": training(10 if smoke else 250, 32, 1e-3),
    }
    return run_stage(folder, "worked", spec)


def reinforced(folder: Path, begun: Trained, *, smoke: bool = False) -> Trained:
    """That model after its own answers."""
    samples = 32 if smoke else 256
    spec: dict[str, Any] = {
        "stage": "grpo",
        "initFrom": {"uri": str(begun.folder)},
        "model": {"contextLength": CONTEXT},
        "data": {"uri": str(folder / "shards" / "asked")},
        "rollout": {"maxTokens": 8, "group": 8, "samples": samples},
        "reward": {"functions": [{"name": "right", "number": {"mark": MARK}}]},
        "reinforcement": {"preset": "grpo"},
        "training": training(2 if smoke else 80, samples, 5e-5),
    }
    return run_stage(folder, "asked", spec)


def right(folder: Path, run: Trained, items: Iterable[Item]) -> list[bool]:
    """Of each item, whether the likeliest answer of `run` is right."""
    items = list(items)
    name = run.checkpoints.parent.name
    prompts = write_rows(folder / f"{name}-prompts.jsonl", ({"prompt": item.prompt} for item in items))
    answers = folder / f"{name}-answers.jsonl"
    command("generate", run.checkpoints, "--prompts", prompts, "--out", answers,
            "--temperature", 0, "--tokens", 8)  # fmt: skip
    texts = [json.loads(line)["text"] for line in answers.read_text().splitlines()]
    return [reward(text, item.answer, MARK) == 1 for text, item in zip(texts, items, strict=True)]


def main() -> int:
    """Print the table; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, help="for data and models (default: one that goes at the end)")
    parser.add_argument("--smoke", action="store_true", help="some items and steps, to see that it runs")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        items = draw_items(smoke=arguments.smoke)
        prepare(folder, items)
        begun = beginner(folder, smoke=arguments.smoke)
        before = right(folder, begun, items.held_out)
        ended = reinforced(folder, begun, smoke=arguments.smoke)
        after = right(folder, ended, items.held_out)
    pairs = list(zip(before, after, strict=True))
    won, lost = pairs.count((False, True)), pairs.count((True, False))
    risen, p = 100 * (won - lost) / len(pairs), mcnemar(won, lost)
    print(f"items         {len(items.worked)} worked, {len(items.asked)} asked, {len(pairs)} held out")
    print(f"after sft     {100 * sum(before) / len(pairs):.1f} % right")
    print(f"after grpo    {100 * sum(after) / len(pairs):.1f} % right")
    print(
        f"difference    {risen:+.1f} points, {won} won, {lost} lost, p {p:.2g}"
        f"  bar {BAR:.0f}, p {SIGNIFICANT}"
    )
    for name, run in (("sft", begun), ("grpo", ended)):
        print(f"{name:14}{run.seconds:.0f} s, {run.cpu_seconds:.0f} of the CPU")
    return int(risen < BAR or p >= SIGNIFICANT)


if __name__ == "__main__":
    sys.exit(main())
