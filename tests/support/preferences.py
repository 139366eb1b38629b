"""What tests of stages that compare answers train on: pairs of uneven length, with what tells them apart."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from footplate_trainer.data.layout import RecordKind
from tests.support.chat import assistant, chatml_model, user
from tests.support.stages import pack_conversations

CONTEXT = 192  # holds two of the shorter pairs


def pack_pairs(folder: Path, count: int = 40, *, margins: bool = True, model: Path | None = None) -> Path:
    """Shards of `count` pairs of 70 to 150 tokens; what is chosen is written with other letters.

    `model` is the folder whose tokenizer and template they are for.
    """
    folder.mkdir(exist_ok=True)
    rng, model = random.Random(23), model or chatml_model(folder / "model")

    def text(letters: str) -> str:
        return "".join(rng.choices(letters, k=rng.randint(1, 12)))

    def rows() -> Iterator[dict[str, Any]]:
        for number in range(count):
            asked = {
                "prompt": [user(text("abcdef"))],
                "chosen": [assistant(text("abcm"))],
                "rejected": [assistant(text("xyzm"))],
            }
            yield asked | ({"margin": [number % 3 / 2, 0.5]} if margins else {})

    source = folder / "pairs.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows()))
    return pack_conversations(source, folder / "shards", model, format=RecordKind.PREFERENCES)
