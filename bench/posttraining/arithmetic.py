"""grpo on generated arithmetic: held-out answers before and after, of the same prompts.

    .venv/bin/python -m bench.posttraining.arithmetic [--folder FOLDER]

Items are those of reasoning-gym's `chain_sum` (three numbers of one digit, added or
subtracted); prompts are their expressions, and an answer is right where the number
behind its "=" is the item's. A model of 2 layers learns from worked items (sft), then
from its own answers alone (grpo). Held-out items are in neither. Answers are the likeliest
tokens, of which the bar is, and four drawn at temperature 1; p is that of a sign test of
the items of which more answers are right, or fewer.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.posttraining.packages import interpreter_with
from bench.posttraining.stage_runs import (
    MODEL,
    Trained,
    command,
    opened_folder,
    run_stage,
    show_parser,
    sign_test,
    training,
    write_rows,
)

from footplate_trainer.data.tokenizer import SMALLEST
from footplate_trainer.rewards.number_match import reward

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
LONGEST: Final = 8  # tokens of an answer
DRAWS: Final = 4  # answers to an item, where they are drawn
STEPS: Final = 600
RATE: Final = 1.5e-4
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
        "training": training(10 if smoke else 350, 32, 1e-3),
    }
    return run_stage(folder, "worked", spec)


def reinforced(folder: Path, begun: Trained, *, smoke: bool = False) -> Trained:
    """That model after its own answers."""
    samples = 32 if smoke else 256
    optimizer = {"name": "adamw", "learningRate": RATE, "betas": [0.9, 0.99], "weightDecay": 0}
    spec: dict[str, Any] = {
        "stage": "grpo",
        "initFrom": {"uri": str(begun.folder)},
        "model": {"contextLength": CONTEXT},
        "data": {"uri": str(folder / "shards" / "asked")},
        "rollout": {"maxTokens": LONGEST, "numGenerations": 4, "generationBatchSize": samples},
        "reward": {"functions": [{"name": "right", "number": {"delimiter": MARK}}]},
        "reinforcement": {"preset": "grpo"},
        "training": training(2 if smoke else STEPS, samples, RATE) | {"optimizer": optimizer},
    }
    return run_stage(folder, "asked", spec)


def right(folder: Path, run: Trained, items: Sequence[Item], temperature: float = 0) -> list[int]:
    """Of each item, how many answers of `run` are right: of one, or of DRAWS above temperature 0."""
    name = run.checkpoints.parent.name
    prompts = write_rows(folder / f"{name}-prompts.jsonl", ({"prompt": item.prompt} for item in items))
    answers = folder / f"{name}-answers-{temperature}.jsonl"
    command("generate", run.checkpoints, "--prompts", prompts, "--output", answers,
            "--max-new-tokens", LONGEST, "--temperature", temperature, "--top-k", 0,
            "--num-return-sequences", DRAWS if temperature else 1)  # fmt: skip
    counted = [0] * len(items)
    for row in map(json.loads, answers.read_text().rstrip("\n").split("\n")):
        place = row["line"] - 1
        counted[place] += reward(row["text"], items[place].answer, MARK) == 1
    return counted


def main() -> int:
    """Print the table; 1 when a bar is missed."""
    arguments = show_parser(__doc__).parse_args()
    with opened_folder(arguments) as folder:
        items = draw_items(smoke=arguments.smoke)
        prepare(folder, items)
        begun = beginner(folder, smoke=arguments.smoke)
        ended = reinforced(folder, begun, smoke=arguments.smoke)
        both = begun, ended
        greedy = [right(folder, run, items.held_out) for run in both]
        drawn = [right(folder, run, items.held_out, 1) for run in both]
    print(
        f"items         {len(items.worked)} worked, {len(items.asked)} asked, {len(items.held_out)} held out"
    )
    print("held out      sft     grpo    points    more   fewer  p")
    risen, p = _compared("likeliest", greedy, 1)
    _compared("drawn", drawn, DRAWS)
    print(f"difference    {risen:+.1f} points of the likeliest, p {p:.2g}  bar {BAR:.0f}, p {SIGNIFICANT}")
    for name, run in (("sft", begun), ("grpo", ended)):
        print(f"{name:14}{run.seconds:.0f} s, {run.cpu_seconds:.0f} of the CPU")
    return int(risen < BAR or p >= SIGNIFICANT)


def _compared(name: str, counted: Sequence[Sequence[int]], answers: int) -> tuple[float, float]:
    """Print shares of right answers, of `answers` to each item, before and after; points risen, and p."""
    before, after = counted
    more, fewer, p = sign_test(before, after)
    shares = [100 * sum(some) / (answers * len(some)) for some in counted]
    risen = shares[1] - shares[0]
    print(f"{name:12}{shares[0]:5.1f} %{shares[1]:7.1f} %{risen:+9.1f}{more:8}{fewer:8}  {p:.2g}")
    return risen, p


if __name__ == "__main__":
    sys.exit(main())
