"""A ridge on counts of words: what pairs can be told by without any order of words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
from bench.posttraining.judged_sentences import Pair
from numpy.typing import NDArray

_WORD: Final = re.compile(r"[a-z']+|[^\sa-z']")


def ridge_accuracy(learnt: Sequence[Pair], held_out: Sequence[Pair], words: int = 3000) -> float:
    """Share of held-out pairs whose chosen sentence has the higher sum of weights.

    Weights are of the `words` most frequent words, from the differences of their counts
    to the differences of the means, with penalties 1 to 1,000, of which the best on the
    held-out pairs themselves counts: it is the other side that may choose.
    """
    counted = Counter(
        word for pair in learnt for sentence in (pair.chosen, pair.rejected) for word in _words(sentence.text)
    )
    places = {word: place for place, (word, _) in enumerate(counted.most_common(words))}
    inputs, outputs = _differences(learnt, places), np.array([_apart(pair) for pair in learnt])
    tested = _differences(held_out, places)
    square, mixed = inputs.T @ inputs, inputs.T @ outputs
    best = 0.0
    for penalty in (1.0, 10.0, 100.0, 1000.0):
        weights = np.linalg.solve(square + penalty * np.eye(len(places)), mixed)
        best = max(best, float(np.mean(tested @ weights > 0)))
    return best


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _apart(pair: Pair) -> float:
    return pair.chosen.mean - pair.rejected.mean


def _differences(pairs: Sequence[Pair], places: dict[str, int]) -> NDArray[np.float64]:
    """[pairs, words]."""
    found = np.zeros((len(pairs), len(places)))
    for row, pair in enumerate(pairs):
        for sign, sentence in ((1, pair.chosen), (-1, pair.rejected)):
            for word in _words(sentence.text):
                if word in places:
                    found[row, places[word]] += sign
    return found
