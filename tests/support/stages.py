"""What tests of stages train on: conversations and pairs of answers of uneven length."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from footplate_trainer.data.chat.model_template import read_template
from footplate_trainer.data.chat.renderer import in_process_renderer
from footplate_trainer.data.chat.template import ChatTemplate
from footplate_trainer.data.layout import RecordKind
from footplate_trainer.data.pack_samples import SampleOptions, pack_samples
from tests.support.chat import assistant, chatml_model, user

CONTEXT = 96  # holds the longest of them
PAIRS_CONTEXT = 224  # holds some pairs of answers


def pack_chats(folder: Path, count: int = 40) -> Path:
    """Shards of `count` conversations of one or two questions, each of 30 to 80 tokens."""
    rng, model = random.Random(11), chatml_model(folder / "model")

    def text() -> str:
        return "".join(rng.choices("abcdef", k=rng.randint(1, 7)))

    def turns() -> Iterator[dict[str, Any]]:
        for _ in range(rng.randint(1, 2)):
            yield from (user(text()), assistant(text()))

    rows = [{"messages": list(turns())} for _ in range(count)]
    source = folder / "chats.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return pack_conversations(source, folder / "shards", model)


def _random(rng: random.Random) -> str:
    return "".join(rng.choices("abcdef", k=rng.randint(1, 7)))


def preferences(count: int = 40) -> list[dict[str, Any]]:
    """Rows of two answers to a question, each of some 50 tokens with it; chosen ones are of other letters."""
    rng = random.Random(13)
    return [
        {
            "prompt": [user(_random(rng))],
            "chosen": [assistant("".join(rng.choices("ghi", k=rng.randint(1, 7))))],
            "rejected": [assistant(_random(rng))],
        }
        for _ in range(count)
    ]


def ratings(count: int = 40) -> list[dict[str, Any]]:
    """Rows of an answer that is liked, or of one that is not, in turns."""
    return [
        {"prompt": row["prompt"], "completion": row[side], "label": side == "chosen"}
        for number, row in enumerate(preferences(count))
        for side in (("chosen", "rejected")[number % 2],)
    ]


def pack_rows(rows: list[dict[str, Any]], folder: Path, **options: Any) -> Path:
    """Shards of rows, with a tokenizer of bytes."""
    source, model = folder / "rows.jsonl", folder / "model"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return pack_conversations(source, folder / "shards", chatml_model(model), **options)


def pack_preferences(folder: Path, count: int = 40) -> Path:
    """Shards of `preferences`."""
    return pack_rows(preferences(count), folder, format=RecordKind.PREFERENCES)


def pack_ratings(folder: Path, count: int = 40) -> Path:
    """Shards of `ratings`."""
    return pack_rows(ratings(count), folder, format=RecordKind.RATINGS)


def pack_conversations(source: Path, out: Path, model: Path, **options: Any) -> Path:
    """Pack the rows of a file with the template of a model's folder, within this process."""
    found = read_template(model, None)
    assert found is not None
    render = in_process_renderer(ChatTemplate(found.source, "t", found.special))
    chosen = SampleOptions(**{"format": RecordKind.CHAT, "tokenizer": model, **options})
    pack_samples([str(source)], out, chosen, render=render)
    return out


# -- pairs of uneven length ------------------------------------------------------------------------


UNEVEN_CONTEXT = 192  # holds two of the shorter pairs


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
