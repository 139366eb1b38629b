"""A policy, a reward model of random weights, and prompts that both read."""

from __future__ import annotations

import json
from pathlib import Path

from footplate_trainer.data.layout import ShardFormat
from tests.support.chat import user
from tests.support.plain_llama import random_weights, write
from tests.support.rewards.plain_scores import EVEN, SEED
from tests.support.stages import pack_conversations


def judged_prompts(folder: Path, prompts: int, different: int = 5) -> Path:
    """Writes `folder`/policy, `folder`/judge and `folder`/shards of so many prompts; returns `folder`."""
    write(folder / "policy", random_weights(7, sizes=EVEN), EVEN)
    write(folder / "judge", random_weights(SEED, "score", EVEN), EVEN)
    source = folder / "prompts.jsonl"
    rows = [{"prompt": [user("x" * (number % different + 1))]} for number in range(prompts)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    pack_conversations(source, folder / "shards", folder / "policy", format=ShardFormat.PROMPTS)
    return folder
