"""Selection and content of the answers in a step's metrics row. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from footplate_contracts.metrics import VALUE_NAME
from footplate_contracts.samples import REWARDS, LoggedSample, SampleEnd
from footplate_trainer.metrics.sample_selection import SampleCandidate, select_samples
from footplate_trainer.rewards.reward_samples import RolloutSample, SampleKey, Unrewarded
from footplate_trainer.rollout.advantages import Advantages
from footplate_trainer.rollout.journal_records import SampleRecord
from footplate_trainer.rollout.rollout_state import CollectedRollout


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
