"""A policy, a reward model of random weights, and prompts that both read."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.plain_llama import random_weights, write
from tests.support.reinforced import pack_prompts
from tests.support.rewards.plain_scores import EVEN, SEED


def judged_prompts(folder: Path, prompts: int = 12) -> Path:
    """Writes `folder`/policy, `folder`/judge and `folder`/shards of so many prompts; returns `folder`."""
    write(folder / "policy", random_weights(7, sizes=EVEN), EVEN)
    say_of_scores(write(folder / "judge", random_weights(SEED, "score", EVEN), EVEN))
    pack_prompts(folder, prompts, folder / "policy")
    return folder


def say_of_scores(judge: Path, **changes: object) -> Path:
    """Has the folder of a reward model say what its held-out scores are, and `changes`; returns `judge`."""
    config = json.loads((judge / "config.json").read_text())
    (judge / "config.json").write_text(json.dumps({**config, "mean": 0.3, "std": 1.7, **changes}))
    return judge
