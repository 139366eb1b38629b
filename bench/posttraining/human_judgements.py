"""A reward model of real human judgements: film reviews, then pairs that people rated apart.

    .venv/bin/python -m bench.posttraining.human_judgements [--folder FOLDER]

23,703 sentences with some 20 ratings each; pairs are of sentences whose means are at
least 1 apart, and held-out pairs have no sentence that was learnt from. A model of 2
layers learns to write film reviews (sft), goes on as a reward model, and is compared
with a ridge on counts of 3,000 words that learns from the same pairs, and with one
rater of each sentence, drawn by lot. Models stay in FOLDER for what goes on from them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

from bench.posttraining.film_model import Judged, film_writer, prepare
from bench.posttraining.judged_sentences import one_human
from bench.posttraining.stage_runs import MODEL, Trained, opened_folder, run_stage, show_parser, training
from bench.posttraining.word_counts import ridge_accuracy

BAR: Final = 0.05  # below the ridge
ALL: Final = 10_000  # batches, of which there are fewer


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
    arguments = show_parser(__doc__).parse_args()
    with opened_folder(arguments) as folder:
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
