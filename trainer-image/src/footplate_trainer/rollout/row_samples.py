"""Selection and content of the answers in a step's metrics row. Pure."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from footplate_contracts.metrics import VALUE_NAME
from footplate_contracts.samples import MOST, REWARDS, LoggedSample, SampleEnd
from footplate_trainer.rewards.reward_samples import RolloutSample, SampleKey, Unrewarded
from footplate_trainer.rollout.advantages import Advantages
from footplate_trainer.rollout.journal_records import CollectedRollout, SampleRecord

EXTREMES: Final = 2  # samples that are shown as the best, and as many as the worst


def select_shown_samples(
    step: int,
    keys: Sequence[SampleKey],
    gathered: CollectedRollout,
    learnt: Advantages,
    text_of: Callable[[SampleRecord], RolloutSample],
    number_of: Callable[[int], int],
) -> list[LoggedSample]:
    """Select some of the answers `keys` of `gathered`, on which `step` trains, by their reward sums.

    `number_of` maps a prompt's index in the order to its number in the data, which identifies its answers in
    each epoch.
    """
    sums = [None if isinstance(told := gathered.sums[key], Unrewarded) else told for key in keys]
    candidates = [
        SampleCandidate(key.prompt, key.sibling, told) for key, told in zip(keys, sums, strict=True)
    ]
    found = []
    for place in select_samples(step, candidates):
        key = keys[place]
        advantage = float(learnt.advantages[gathered.places.index(key.prompt), key.sibling])
        answer = text_of(gathered.kept.samples[key])
        found.append(
            LoggedSample(
                prompt=number_of(key.prompt),
                sibling=key.sibling,
                prompt_text=answer.prompt,
                answer_text=answer.answer,
                tokens=len(answer.tokens),
                end=SampleEnd(answer.end),
                rewards=_numbers(gathered.kept.rewards.get(key, {})),
                reward=sums[place],
                advantage=None if math.isnan(advantage) else advantage,
            )
        )
    return found


def count_generated_tokens(gathered: CollectedRollout) -> int | None:
    """Return the tokens sampled for a rollout; None if some answers are from before a restart."""
    samples = gathered.kept.samples
    return sum(len(sample.tokens) for sample in samples.values()) if gathered.drawn == len(samples) else None


def _numbers(told: Mapping[str, float | str]) -> dict[str, float]:
    """Return the first `REWARDS` numeric rewards; the log has the reasons of missing ones."""
    fit = {
        name: value for name, value in told.items() if isinstance(value, float) and VALUE_NAME.fullmatch(name)
    }
    return dict(list(fit.items())[:REWARDS])


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
