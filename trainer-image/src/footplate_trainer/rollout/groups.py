"""Prompts that a rollout samples, and groups that it is trained on: pure.

A rollout of P prompts samples those at P consecutive indices of the endless order. With dynamic sampling,
groups without a learning signal are replaced: each round samples as many further prompts as there are groups
to replace, until P groups have a signal, or for the allowed number of rounds; then groups without a signal
fill up, in order. No more is sampled than is missing, so no useful sample is left over, and the next rollout
continues at the index after the last that was sampled: no prompt is skipped, and none is sampled twice in an
epoch. A rollout's first index is the only state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class GroupPlan:
    """Numbers that determine a rollout's groups."""

    prompts: int  # groups that are trained on
    rounds: int = 0  # so often others are asked in place of those that teach nothing


@dataclass(frozen=True)
class NextPrompts:
    """Prompts that a rollout samples next."""

    places: range  # to be asked now; none: the rollout is whole
    rounds: int  # of others that were asked before


def find_next_prompts(plan: GroupPlan, first: int, teaches: Mapping[int, bool]) -> NextPrompts:
    """Return the next prompts of the rollout that begins at index `first`.

    `teaches` says for all indices of finished rounds whether their groups have a learning signal. The first
    round with an index that `teaches` lacks is next.
    """
    begin, count, taught = first, plan.prompts, 0
    for rounds in range(plan.rounds + 1):
        places = range(begin, begin + count)
        if not all(place in teaches for place in places):
            return NextPrompts(places, rounds)
        taught += sum(teaches[place] for place in places)
        begin, count = begin + count, plan.prompts - taught
        if not count:
            break
    return NextPrompts(range(begin, begin), rounds)


def select_prompts(plan: GroupPlan, first: int, teaches: Mapping[int, bool]) -> list[int]:
    """Return the indices of the groups to train on, in order, once the rollout is whole."""
    end = find_next_prompts(plan, first, teaches).places.start
    places = range(first, end)
    if not plan.rounds:
        return list(places)
    good = [place for place in places if teaches[place]]
    others = [place for place in places if not teaches[place]]
    return sorted(good + others[: plan.prompts - len(good)])


def most_rollouts(prompts: int, groups: int) -> int:
    """Return the number of rollouts of `groups` prompts in which each of the `prompts` is used once."""
    return -(-prompts // groups)


def split_into_rollouts(prompts: int, groups: int, steps: int) -> Sequence[range]:
    """Return the prompt indices of each of `steps` rollouts, `groups` each, fewer in an epoch's last.

    Raises ValueError if there are too few prompts for as many rollouts.
    """
    most = most_rollouts(prompts, groups)
    if steps > most:
        raise ValueError(
            f"training.steps {steps} needs more rollouts than the prompts fill: {prompts}, with {groups} in "
            f"each, fill {most}; set at most {most}"
        )
    return [range(first, min(first + groups, prompts)) for first in range(0, steps * groups, groups)]
