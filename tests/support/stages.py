"""What tests of stages train on: conversations of uneven length."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from footplate_trainer.data.chat.model_template import read_template
from footplate_trainer.data.chat.renderer import within_process
from footplate_trainer.data.chat.template import ChatTemplate
from footplate_trainer.data.layout import ShardFormat
from footplate_trainer.data.pack_samples import SampleOptions, pack_samples
from tests.support.chat import assistant, chatml_model, user

CONTEXT = 96  # holds the longest of them


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


def pack_conversations(source: Path, out: Path, model: Path, **options: Any) -> Path:
    """Pack the rows of a file with the template of a model's folder, within this process."""
    found = read_template(model, None)
    assert found is not None
    render = within_process(ChatTemplate(found.source, "t", found.special))
    chosen = SampleOptions(**{"format": ShardFormat.CHAT, "tokenizer": model, **options})
    pack_samples([str(source)], out, chosen, render=render)
    return out
