"""dpo of the pairs of `bench.posttraining.human_judgements`: accuracy and margin of held-out ones.

    .venv/bin/python -m bench.posttraining.human_preferences [--folder FOLDER]

The model that writes film reviews learns to find the sentence likelier that people
rated higher. Rewards are 0.1 × the log-ratio to the model that it began as, so before
the first step they, accuracy and margin are 0.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

from bench.posttraining.film_model import Judged, film_writer, prepare
from bench.posttraining.stage_runs import MODEL, Trained, opened_folder, run_stage, show_parser, training

CHANCE: Final = 0.5
SHOWN: Final = ("rewards/chosen", "rewards/rejected", "margin", "accuracy")
TIMES: Final = 4  # that held-out pairs are judged
BATCHES: Final = 10  # of them each time, the same ones: some 600 pairs


def preferring(folder: Path, judged: Judged, writer: Path, *, smoke: bool = False) -> Trained:
    """The model of `writer`, once it has learnt what is preferred."""
    steps = 4 if smoke else 200
    spec: dict[str, Any] = {
        "stage": "dpo",
        "initFrom": {"uri": str(writer)},
        "model": {"contextLength": MODEL["contextLength"]},
        "data": {"uri": str(judged.pairs)},
        "validation": {
            "everySteps": steps // TIMES,
            "uri": str(judged.held_out_pairs),
            "batches": BATCHES,
        },
        "training": training(steps, 16, 1e-3),
        "preference": {"loss": "sigmoid", "beta": 0.1},
    }
    return run_stage(folder, "preferences", spec)


def main() -> int:
    """Print the table; 1 where accuracy is not above chance, or the margin did not rise."""
    arguments = show_parser(__doc__).parse_args()
    with opened_folder(arguments) as folder:
        judged = prepare(folder, smoke=arguments.smoke)
        writer = film_writer(folder, judged, smoke=arguments.smoke)
        preferred = preferring(folder, judged, writer.folder, smoke=arguments.smoke)
    print(f"pairs             {len(judged.learnt)} to learn from, {len(judged.held_out)} held out")
    print(f"{'held out, step':18}" + "".join(f"{name:>18}" for name in SHOWN))
    for row in preferred.rows:
        if "validation/accuracy" in row["values"]:
            values = "".join(f"{row['values'][f'validation/{name}']:18.3f}" for name in SHOWN)
            print(f"{row['step']:<18}{values}")
    print(f"seconds           {preferred.seconds:.0f}, {preferred.cpu_seconds:.0f} of the CPU")
    risen = preferred.last("validation/margin") > 0 and preferred.last("validation/accuracy") > CHANCE
    print(f"accuracy above {CHANCE} and margin above 0: {'yes' if risen else 'no'}  bar yes")
    return int(not risen)


if __name__ == "__main__":
    sys.exit(main())
