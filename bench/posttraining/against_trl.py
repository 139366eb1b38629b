"""Stages sft and dpo against TRL's trainers on the same rows: tokens that count per second.

    .venv/bin/python -m bench.posttraining.against_trl [--turns 10] [--threads N] [STAGE …]

Questions and answers of Perl's FAQ, cut at 1,024 tokens, of a Llama of 4 layers x 256 in
fp32. sft: both pack, and a micro-batch is a sequence of 1,024 places; of dpo, it is one of
ours and two pairs of TRL's, which fill about as many places. A pair's other answer is that
of the next question, and the reference is the model that the run began with, computed with
each step. Both are whole trainers, in processes of their own that take turns, each step
with its data, its row and AdamW. A token counts where the loss learns it. Medians of five spans
of neighbouring turns; CPU seconds judge, as the machine may do something else.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from bench.posttraining.faq import CONTEXT, chats, packed, pairs, write_model
from bench.posttraining.in_turns import Trainer, median_ratio, run_in_turns
from bench.posttraining.trainers import Footplate, Trl
from transformers import AutoTokenizer

BAR: Final = 1.1
STEP: Final = 2  # micro-batches


def of_sft(folder: Path) -> Mapping[str, Trainer]:
    """Both on conversations."""
    model = folder / "model"
    rows = chats(AutoTokenizer.from_pretrained(model))
    ours = {"stage": "sft", "data": packed(folder, "chats", rows, "chat")}
    theirs = {
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": STEP,
        "packing": True,
        "max_length": CONTEXT,
        "assistant_only_loss": True,
    }
    return {
        "footplate": Footplate(ours, model, STEP, 1, CONTEXT),
        "TRL": Trl("sft", model, rows, theirs),
    }


def of_dpo(folder: Path) -> Mapping[str, Trainer]:
    """Both on pairs."""
    model = folder / "model"
    rows = pairs(AutoTokenizer.from_pretrained(model))
    ours = {"stage": "dpo", "preference": {}, "data": packed(folder, "pairs", rows, "preferences")}
    theirs = {
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": STEP,
        "max_length": CONTEXT,
    }
    return {
        "footplate": Footplate(ours, model, STEP, 1, CONTEXT),
        "TRL": Trl("dpo", model, rows, theirs),
    }


STAGES: Final = {"sft": of_sft, "dpo": of_dpo}


def main() -> int:
    """Print the table; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stages", nargs="*", choices=[*STAGES, []], metavar="STAGE", default=[])
    parser.add_argument("--turns", type=int, default=10, help="steps of each (%(default)s)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--smoke", action="store_true", help="two steps, to see that it runs")
    arguments = parser.parse_args()
    missed = False
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_model(folder / "model")
        for stage in arguments.stages or STAGES:
            found = run_in_turns(
                STAGES[stage](folder), 2 if arguments.smoke else arguments.turns, arguments.threads
            )
            for name, speed in found.items():
                print(f"{stage} {name:12}{speed.rate(cpu=True):8.0f} tokens that count per CPU second")
            by_work, by_clock = median_ratio(found["footplate"], found["TRL"])
            missed = missed or by_work < BAR
            print(f"{stage} over TRL: {by_work:.2f} by CPU time, {by_clock:.2f} by the clock  bar {BAR}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
