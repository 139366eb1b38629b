"""A reward model of real human judgements: film reviews, then pairs that people rated apart.

    .venv/bin/python -m bench.posttraining.human_judgements [--folder FOLDER]

23,703 sentences with some 20 ratings each; pairs are of sentences whose means are at
least 1 apart, and held-out pairs have no sentence that was learnt from. A model of 2
layers learns to write film reviews (sft), goes on as a reward model, and is compared
with a ridge on counts of 3,000 words that learns from the same pairs, and with one
rater of each sentence, drawn by lot. Models stay in FOLDER for what goes on from them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.posttraining.judged_sentences import Pair, one_human, pairs, prompt_of, read_sentences, split
from bench.posttraining.stage_runs import MODEL, VOCABULARY, Trained, command, run_stage, training, write_rows
from bench.posttraining.word_counts import ridge_accuracy

BAR: Final = 0.05  # below the ridge
PAIRS_EACH: Final = 4
ALL: Final = 10_000  # batches, of which there are fewer
SMOKE: Final = 250  # sentences of each kind
PACKED: Final = ("--context-length", MODEL["contextLength"], "--overlong", "drop")


@dataclass(frozen=True)
class Judged:
    """Shards of film reviews and of pairs, and the pairs themselves."""

    learnt: list[Pair]
    held_out: list[Pair]
    films: Path
    pairs: Path
    held_out_pairs: Path


def prepare(folder: Path, *, smoke: bool = False) -> Judged:
    """Shards in `folder`, with a tokenizer learnt of the sentences that are not held out."""
    chosen = split(read_sentences(), SMOKE if smoke else None)
    texts = write_rows(
        folder / "texts.jsonl",
        ({"text": f"{prompt_of(sentence.kind)} {sentence.text}"} for sentence in chosen.learnt),
    )
    command("pack", texts, folder / "tokenizer", "--vocabulary-size", VOCABULARY)
    films = write_rows(
        folder / "films.jsonl",
        (
            {"prompt": prompt_of("film"), "completion": f" {sentence.text}"}
            for sentence in chosen.learnt
            if sentence.kind == "film"
        ),
    )
    learnt, held_out = pairs(chosen.learnt, PAIRS_EACH), pairs(chosen.held_out, PAIRS_EACH)
    shards = {"films": (films, "chat")}
    for name, some in (("pairs", learnt), ("held-out-pairs", held_out)):
        shards[name] = (write_rows(folder / f"{name}.jsonl", (pair.row() for pair in some)), "preferences")
    for name, (file, shape) in shards.items():
        out = folder / "shards" / name
        command("pack", file, out, "--format", shape, "--tokenizer", folder / "tokenizer", *PACKED)
    places = [folder / "shards" / name for name in shards]
    return Judged(learnt, held_out, *places)


def film_writer(folder: Path, judged: Judged, *, smoke: bool = False) -> Trained:
    """A model that has learnt to write film reviews."""
    spec: dict[str, Any] = {
        "stage": "sft",
        "model": MODEL,
        "data": {"uri": str(judged.films)},
        "training": training(4 if smoke else 200, 16, 2e-3),
    }
    return run_stage(folder, "films", spec)


def judge(folder: Path, judged: Judged, writer: Path, *, smoke: bool = False) -> Trained:
    """A reward model of the pairs, from `writer`."""
    steps = 4 if smoke else 400
    spec: dict[str, Any] = {
        "stage": "reward",
        "initFrom": {"uri": str(writer)},
        "model": {"contextLength": MODEL["contextLength"]},
        "data": {"uri": str(judged.pairs)},
        "validation": {"everySteps": steps, "uri": str(judged.held_out_pairs), "batches": ALL},
        "training": training(steps, 16, 1e-3),
        "reward": {"centering": 0.01},
    }
    return run_stage(folder, "judgements", spec)


def main() -> int:
    """Print the table; 1 when the bar is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, help="for data and models (default: one that goes at the end)")
    parser.add_argument("--smoke", action="store_true", help="some sentences and steps, to see that it runs")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        judged = prepare(folder, smoke=arguments.smoke)
        writer = film_writer(folder, judged, smoke=arguments.smoke)
        reward = judge(folder, judged, writer.folder, smoke=arguments.smoke)
    ridge = ridge_accuracy(judged.learnt, judged.held_out)
    accuracy = reward.last("validation/accuracy")
    print(f"pairs             {len(judged.learnt)} to learn from, {len(judged.held_out)} held out")
    print(f"one human         {one_human(judged.held_out):.3f}")
    print(f"ridge of words    {ridge:.3f}")
    print(f"reward model      {accuracy:.3f}  bar {ridge - BAR:.3f}")
    for name, run in (("sft", writer), ("reward", reward)):
        print(f"{name:18}{run.seconds:.0f} s, {run.cpu_seconds:.0f} of the CPU")
    return int(accuracy < ridge - BAR)


if __name__ == "__main__":
    sys.exit(main())
