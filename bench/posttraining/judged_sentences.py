"""23,703 sentences that some 20 people each have rated, and pairs of them.

They are those of the source archive of the package vaderSentiment (Hutto and Gilbert,
ICWSM 2014), which has each single rating, from -4 to 4. Texts are of third parties, so
they are fetched and not kept here.
"""

from __future__ import annotations

import ast
import io
import random
import tarfile
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Final

from bench.posttraining.packages import source_archive

PACKAGE: Final = ("vaderSentiment", "3.3.2")
APART: Final = 1.0  # by which means differ in a pair
_PAIRS_EACH: Final = 2  # that a sentence of the training set begins
_SEED: Final = 0
_KINDS: Final = {
    "film": "movieReviewSnippets",
    "product": "amazonReviewSnippets",
    "editorial": "nytEditorialSnippets",
    "tweet": "tweets",
}


@dataclass(frozen=True)
class Sentence:
    """A text, what it is of, and its ratings."""

    kind: str
    text: str
    ratings: tuple[int, ...]

    @property
    def mean(self) -> float:
        return fmean(self.ratings)


@dataclass(frozen=True)
class Pair:
    """Two sentences of one kind, of which the first is rated higher."""

    chosen: Sentence
    rejected: Sentence

    def row(self) -> dict[str, Any]:
        """As `pack --format preferences` reads it."""
        return {
            "prompt": prompt_of(self.chosen.kind),
            "chosen": f" {self.chosen.text}",
            "rejected": f" {self.rejected.text}",
        }


@dataclass(frozen=True)
class Split:
    """Sentences to learn from and held-out ones, of which none is in both."""

    learnt: list[Sentence]
    held_out: list[Sentence]


def prompt_of(kind: str) -> str:
    """What stands before a sentence."""
    return f"{kind}:"


def read_sentences() -> list[Sentence]:
    """All of them, in the order of the files."""
    with tarfile.open(source_archive(*PACKAGE)) as outer:
        name = next(name for name in outer.getnames() if name.endswith("/hutto_ICWSM_2014.tar.gz"))
        packed = outer.extractfile(name)
        assert packed is not None, name
        content = io.BytesIO(packed.read())
    with tarfile.open(fileobj=content) as inner:
        return [
            Sentence(kind, text, ratings)
            for kind, stem in _KINDS.items()
            for text, ratings in zip(
                [line[2] for line in _lines(inner, f"{stem}_GroundTruth.txt")],
                [tuple(ast.literal_eval(line[3])) for line in _lines(inner, f"{stem}_anonDataRatings.txt")],
                strict=True,
            )
        ]


def _lines(archive: tarfile.TarFile, name: str) -> list[list[str]]:
    file = archive.extractfile(f"hutto_ICWSM_2014/{name}")
    assert file is not None, name
    text = file.read().decode("utf-8-sig", errors="replace")
    return [line.split("\t") for line in text.replace("\r\n", "\n").split("\n") if line.strip()]


def split(sentences: list[Sentence], most: int | None = None) -> Split:
    """A tenth is held out, drawn by lot; `most`: of each kind no more than that."""
    kinds: dict[str, list[Sentence]] = {}
    for sentence in dict.fromkeys(sentences):
        kinds.setdefault(sentence.kind, []).append(sentence)
    learnt: list[Sentence] = []
    held_out: list[Sentence] = []
    rng = random.Random(_SEED)
    for of_kind in kinds.values():
        rng.shuffle(of_kind)
        some = of_kind[:most]
        held_out += some[: len(some) // 10]
        learnt += some[len(some) // 10 :]
    return Split(learnt, held_out)


def pairs(sentences: list[Sentence], each: int = _PAIRS_EACH) -> list[Pair]:
    """For each sentence, `each` others of its kind drawn by lot; those whose means are apart."""
    rng = random.Random(_SEED)
    kinds: dict[str, list[Sentence]] = {}
    for sentence in sentences:
        kinds.setdefault(sentence.kind, []).append(sentence)
    found: dict[Pair, None] = {}
    for sentence in sentences:
        for other in rng.choices(kinds[sentence.kind], k=each):
            if abs(sentence.mean - other.mean) >= APART and sentence.text != other.text:
                higher, lower = sorted((sentence, other), key=lambda rated: rated.mean, reverse=True)
                found[Pair(higher, lower)] = None
    return list(found)


def one_human(held_out: list[Pair]) -> float:
    """How often one rater of each sentence, drawn by lot, prefers what all prefer; a tie is half."""
    rng = random.Random(_SEED)
    agrees = 0.0
    for pair in held_out:
        chosen, rejected = rng.choice(pair.chosen.ratings), rng.choice(pair.rejected.ratings)
        agrees += 0.5 if chosen == rejected else float(chosen > rejected)
    return agrees / len(held_out)
