"""Held-out loss of one and the same sft, from a pretrained and from an untrained model.

    .venv/bin/python -m bench.posttraining.transfer [--folder FOLDER]

A model of 2 layers reads product reviews, editorials and tweets as plain text. Then it,
and one of the same shape that has read nothing, learn from the same 1,000 film reviews
in the same order, and are judged on the held-out ones.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

from bench.posttraining.judged_sentences import prompt_of, read_sentences, split
from bench.posttraining.stage_runs import (
    MODEL,
    VOCABULARY,
    Trained,
    command,
    opened_folder,
    run_stage,
    show_parser,
    training,
    write_rows,
)

FILMS: Final = 1000
TIMES: Final = 2  # that held-out films are judged


def prepare(folder: Path, *, smoke: bool = False) -> None:
    """Shards of plain texts that are of no film, and of films to learn from and held-out ones."""
    chosen = split(read_sentences(), 250 if smoke else None)
    others = write_rows(
        folder / "others.jsonl",
        ({"text": sentence.text} for sentence in chosen.learnt if sentence.kind != "film"),
    )
    command("pack", others, folder / "shards" / "others", "--vocabulary-size", VOCABULARY)
    films = [sentence for sentence in chosen.learnt if sentence.kind == "film"][:FILMS]
    held_out = [sentence for sentence in chosen.held_out if sentence.kind == "film"]
    for name, some in (("films", films), ("held-out", held_out)):
        rows = ({"prompt": prompt_of("film"), "completion": f" {sentence.text}"} for sentence in some)
        file = write_rows(folder / f"{name}.jsonl", rows)
        command("pack", file, folder / "shards" / name, "--format", "chat", "--tokenizer",
                folder / "shards" / "others", "--context-length", MODEL["contextLength"])  # fmt: skip


def reader(folder: Path, *, smoke: bool = False) -> Trained:
    """The model that has read what is of no film."""
    spec: dict[str, Any] = {
        "model": MODEL,
        "data": {"uri": str(folder / "shards" / "others")},
        "training": training(4 if smoke else 50, 8, 2e-3),
    }
    return run_stage(folder, "others", spec)


def tuned(folder: Path, name: str, begins: dict[str, Any], *, smoke: bool = False) -> Trained:
    """The sft, of a model that `begins` describes."""
    steps = 4 if smoke else 24
    spec: dict[str, Any] = begins | {
        "stage": "sft",
        "data": {"uri": str(folder / "shards" / "films")},
        "validation": {"everySteps": steps // TIMES, "uri": str(folder / "shards" / "held-out")},
        "training": training(steps, 4, 1e-3),
    }
    return run_stage(folder, name, spec)


def main() -> int:
    """Print the table; 1 where the pretrained model's loss is not the lower one at the end."""
    arguments = show_parser(__doc__).parse_args()
    smoke = arguments.smoke
    with opened_folder(arguments) as folder:
        prepare(folder, smoke=smoke)
        read = reader(folder, smoke=smoke)
        begins = {"initFrom": {"uri": str(read.folder)}, "model": {"contextLength": MODEL["contextLength"]}}
        pretrained = tuned(folder, "pretrained", begins, smoke=smoke)
        untrained = tuned(folder, "untrained", {"model": MODEL}, smoke=smoke)
    losses = [
        {row["step"]: row["validationLoss"] for row in run.rows if "validationLoss" in row}
        for run in (pretrained, untrained)
    ]
    print("held-out loss     pretrained   untrained")
    for step in losses[0]:
        print(f"after step {step:<7}{losses[0][step]:10.3f}{losses[1][step]:12.3f}")
    for name, run in (("pretraining", read), ("sft", pretrained), ("sft", untrained)):
        print(f"{name:18}{run.seconds:.0f} s, {run.cpu_seconds:.0f} of the CPU")
    lower = losses[0][max(losses[0])] < losses[1][max(losses[1])]
    print(f"the pretrained model's is lower: {'yes' if lower else 'no'}  bar yes")
    return int(not lower)


if __name__ == "__main__":
    sys.exit(main())
