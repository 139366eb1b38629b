"""Stage sft, packed against unpacked: tokens that count per second on Perl's FAQ at 1,024 places.

    .venv/bin/python -m bench.posttraining.packing [--turns 10] [--threads N]

The same model, rows and micro-batch of two sequences; unpacked, each holds one sample
and padding. Both are whole trainers in processes of their own that take turns, and a
token counts where the loss learns it. Medians of five spans of neighbouring turns; CPU
seconds judge, as the machine may do something else.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Final

from bench.posttraining.faq import CONTEXT, chats, packed, write_model
from bench.posttraining.in_turns import median_ratio, run_in_turns
from bench.posttraining.trainers import Footplate

from footplate_contracts.v1alpha1.data import Packing
from footplate_trainer.data.conversation_dataset import ConversationDataset
from footplate_trainer.data.shards import TokenShards

BAR: Final = 2.5
MICRO_BATCH: Final = 2


def main() -> int:
    """Print the table; 1 when the bar is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=10, help="steps of each (%(default)s)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--smoke", action="store_true", help="two steps, to see that it runs")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        rows = chats(write_model(folder / "model"))
        data = packed(folder, "chats", rows, "chat")
        trainers, used = {}, {}
        for name, packing in (("packed", Packing()), ("unpacked", Packing(enabled=False))):
            spec = {"stage": "sft", "data": {**data, "packing": {"enabled": packing.enabled}}}
            trainers[name] = Footplate(spec, folder / "model", MICRO_BATCH, MICRO_BATCH, CONTEXT)
            shards = TokenShards.open(data["uri"])
            used[name] = ConversationDataset(shards, CONTEXT, packing).bins.used
        found = run_in_turns(trainers, 2 if arguments.smoke else arguments.turns, arguments.threads)
    for name, speed in found.items():
        rate = speed.rate(cpu=True)
        print(f"{name:10}{rate:8.0f} tokens that count per CPU second; {used[name]:.3f} of the places used")
    by_work, by_clock = median_ratio(found["packed"], found["unpacked"])
    print(f"packed over unpacked: {by_work:.2f} by CPU time, {by_clock:.2f} by the clock  bar {BAR}")
    return int(by_work < BAR)


if __name__ == "__main__":
    sys.exit(main())
