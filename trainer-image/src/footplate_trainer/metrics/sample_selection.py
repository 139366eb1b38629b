"""Selects the samples of a step to show: the best, the worst, and some at random; pure."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from footplate_contracts.samples import MOST

EXTREMES: Final = 2  # samples that are shown as the best, and as many as the worst


@dataclass(frozen=True)
class SampleCandidate:
    """A sample that may be shown; its text is not needed for the selection."""

    prompt: int
    sibling: int
    worth: float | None  # its reward, or a loss with the sign turned; None or NaN where it has none


def select_samples(step: int, candidates: Sequence[SampleCandidate], most: int = MOST) -> list[int]:
    """Return the indices of the `candidates` of `step` to show, in this order: best, worst, others at random.

    The random order is a hash of step, prompt and sibling, which also breaks ties. So the selection does not
    depend on the order of `candidates`; and a selection from what several ranks have selected, each from its
    own, is the same as one from all at once.

    >>> some = [SampleCandidate(0, sibling, float(sibling)) for sibling in range(9)]
    >>> [some[place].sibling for place in select_samples(5, some, most=6)]
    [8, 7, 0, 1, 6, 3]
    """
    lots = [_lot(step, candidate) for candidate in candidates]
    scored = {
        place: candidate.worth
        for place, candidate in enumerate(candidates)
        if candidate.worth is not None and not math.isnan(candidate.worth)
    }
    best = sorted(scored, key=lambda place: (-scored[place], lots[place]))[:EXTREMES]
    rest = scored.keys() - set(best)
    worst = sorted(rest, key=lambda place: (scored[place], lots[place]))[:EXTREMES]
    others = set(range(len(candidates))) - {*best, *worst}
    return [*best, *worst, *sorted(others, key=lambda place: lots[place])][:most]


def _lot(step: int, candidate: SampleCandidate) -> bytes:
    said = f"{step}/{candidate.prompt}/{candidate.sibling}"
    return hashlib.sha256(said.encode()).digest()
