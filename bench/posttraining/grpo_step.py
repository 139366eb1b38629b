"""A step of stage grpo against one of TRL's GRPOTrainer with `generate`: rollout, reward and update.

    .venv/bin/python -m bench.posttraining.grpo_step [--turns 6] [--threads N]

Questions of Perl's FAQ, of a Llama of 4 layers x 256 in fp32 whose weights mean nothing but
that each token ends an answer with a chance of 1 in 32, up to 96: lengths differ as those
of a model do that has learnt to end. TRL generates all answers of a step in one batch. Both
reward an answer in which a word stands, train on micro-batches of eight answers, and are
whole trainers in processes of their own that take turns. Medians of spans of neighbouring
turns; CPU seconds judge, as the machine may do something else, and those of the process that
computes our reward are ours. Then the same of answers that all go on to 96, which no batch has
to wait for: beside it, without a bar.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from bench.posttraining.faq import packed, questions, write_model
from bench.posttraining.in_turns import Trainer, median_ratio, run_in_turns
from bench.posttraining.trainers import Footplate, Trl
from safetensors.torch import load_file, save_file

BAR: Final = 1.5
PROMPTS, GROUP, MICRO_BATCH, ANSWER = 4, 8, 8, 96
CONTEXT: Final = 256
WORD: Final = "perl"
CHANCE: Final = 1 / 32
_LARGE: Final = 100.0


def has_word(completions: list[list[dict[str, str]]], **_: Any) -> list[float]:
    """TRL's reward of chats."""
    return [float(bool(re.search(WORD, answer[0]["content"]))) for answer in completions]


def let_end(model: Path) -> None:
    """Give the end of a text its chance behind each token, whatever stands before it.

    The first number of each embedding is so large that no layer adds anything to it that counts: after the
    last norm it is the square root of the width everywhere. The end's logit is that number's alone, while
    all others are without it, and near 0.
    """
    file = model / "model.safetensors"
    weights = load_file(file)
    config = json.loads((model / "config.json").read_text())
    weights["model.embed_tokens.weight"][:, 0] = _LARGE
    head = weights["lm_head.weight"]
    head[:, 0] = 0.0
    head[config["eos_token_id"]] = 0.0
    head[config["eos_token_id"], 0] = math.log(len(head) * CHANCE / (1 - CHANCE)) / head.shape[1] ** 0.5
    save_file(weights, file, {"format": "pt"})


def trainers(folder: Path, *, ends: bool) -> dict[str, Trainer]:
    """Both, in the order of the table; `ends`: answers end as chance has it."""
    model = folder / "model"
    write_model(model)
    if ends:
        let_end(model)
    rows = [{"prompt": [{"role": "user", "content": asked}]} for asked, _ in questions()]
    ours = {
        "stage": "grpo",
        "data": packed(folder, "prompts", rows, "prompts"),
        "rollout": {"maxTokens": ANSWER, "numGenerations": GROUP},
        "reinforcement": {"preset": "grpo"},
        "reward": {"functions": [{"name": "word", "regularExpression": {"pattern": WORD}}]},
    }
    theirs = {
        "beta": 0.0,
        "gradient_accumulation_steps": PROMPTS * GROUP // MICRO_BATCH,
        "loss_type": "grpo",
        "max_completion_length": ANSWER,
        "num_generations": GROUP,
        "per_device_train_batch_size": MICRO_BATCH,
    }
    return {
        "footplate": Footplate(ours, model, PROMPTS * GROUP, MICRO_BATCH, CONTEXT),
        "TRL": Trl("grpo", model, rows, theirs, {"reward_funcs": has_word}),
    }


def main() -> int:
    """Print the table; 1 when the bar is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=6, help="steps of each (%(default)s)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--smoke", action="store_true", help="a step, to see that it runs")
    arguments = parser.parse_args()
    turns = 1 if arguments.smoke else arguments.turns
    missed = False
    for ends in (True, False):
        with tempfile.TemporaryDirectory() as temporary:
            found = run_in_turns(trainers(Path(temporary), ends=ends), turns, arguments.threads)
        print("answers that end by chance" if ends else f"answers of {ANSWER} tokens each")
        for name, speed in found.items():
            tokens = sum(turn.tokens for turn in speed.turns) / len(speed.turns)
            print(
                f"{name:12}{speed.rate(cpu=True):8.0f} tokens of answers per CPU second; {tokens:.0f} a step"
            )
        by_work, by_clock = median_ratio(found["footplate"], found["TRL"])
        bar = f"  bar {BAR}" if ends else ""
        print(f"footplate over TRL: {by_work:.2f} by CPU time, {by_clock:.2f} by the clock{bar}")
        missed = missed or (ends and by_work < BAR)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
