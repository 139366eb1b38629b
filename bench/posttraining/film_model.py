"""What shows of human judgements begin with: a writer of film reviews, and pairs that people rated apart."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.posttraining.judged_sentences import Pair, pairs, prompt_of, read_sentences, split
from bench.posttraining.stage_runs import MODEL, VOCABULARY, Trained, command, run_stage, training, write_rows

PAIRS_EACH: Final = 4
SMOKE: Final = 250  # sentences of each kind
PACKED: Final = ("--context-length", MODEL["contextLength"], "--overlong", "drop")


@dataclass(frozen=True)
class Judged:
    """Shards of film reviews and of pairs, and the pairs themselves."""

    learnt: list[Pair]
    held_out: list[Pair]
    films: Path
    pairs: Path
    held_out_pairs: Path


def prepare(folder: Path, *, smoke: bool = False) -> Judged:
    """Shards in `folder`, with a tokenizer learnt of the sentences that are not held out."""
    chosen = split(read_sentences(), SMOKE if smoke else None)
    texts = write_rows(
        folder / "texts.jsonl",
        ({"text": f"{prompt_of(sentence.kind)} {sentence.text}"} for sentence in chosen.learnt),
    )
    command("pack", texts, folder / "tokenizer", "--vocabulary-size", VOCABULARY)
    films = write_rows(
        folder / "films.jsonl",
        (
            {"prompt": prompt_of("film"), "completion": f" {sentence.text}"}
            for sentence in chosen.learnt
            if sentence.kind == "film"
        ),
    )
    learnt, held_out = pairs(chosen.learnt, PAIRS_EACH), pairs(chosen.held_out, PAIRS_EACH)
    shards = {"films": (films, "chat")}
    for name, some in (("pairs", learnt), ("held-out-pairs", held_out)):
        shards[name] = (write_rows(folder / f"{name}.jsonl", (pair.row() for pair in some)), "preferences")
    for name, (file, shape) in shards.items():
        out = folder / "shards" / name
        command("pack", file, out, "--format", shape, "--tokenizer", folder / "tokenizer", *PACKED)
    places = [folder / "shards" / name for name in shards]
    return Judged(learnt, held_out, *places)


def film_writer(folder: Path, judged: Judged, *, smoke: bool = False) -> Trained:
    """A model that has learnt to write film reviews."""
    spec: dict[str, Any] = {
        "stage": "sft",
        "model": MODEL,
        "data": {"uri": str(judged.films)},
        "training": training(4 if smoke else 200, 16, 2e-3),
    }
    return run_stage(folder, "films", spec)
