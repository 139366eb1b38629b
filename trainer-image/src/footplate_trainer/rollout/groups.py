"""Which prompts a rollout asks, and which of their groups it is trained on: pure.

A rollout of P prompts asks those at P places of the endless order, one behind another. With dynamic sampling
groups that teach nothing are replaced: as many prompts more are asked as groups have to be, again and again
until there are P that teach, or so often as is allowed; then groups that teach nothing fill up, first come
first. No more is asked than is missing, so nothing that was drawn and teaches is left over, and the next
rollout goes on with the place behind the last that was asked: no prompt is passed over, and none is asked
twice in an epoch. Where a rollout begins is all the state that there is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class GroupPlan:
    """How a rollout comes to its groups."""

    prompts: int  # groups that are trained on
    rounds: int = 0  # so often others are asked in place of those that teach nothing


@dataclass(frozen=True)
class NextPrompts:
    """What a rollout needs next, from what is known of its groups."""

    places: range  # to be asked now; none: the rollout is whole
    rounds: int  # of others that were asked before


def asked(plan: GroupPlan, first: int, teaches: Mapping[int, bool]) -> NextPrompts:
    """What the rollout that begins at place `first` asks next; `teaches` knows all places of finished rounds.

    Of the first round where `teaches` lacks one of its places, and so on.
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


def chosen(plan: GroupPlan, first: int, teaches: Mapping[int, bool]) -> list[int]:
    """The places whose groups are trained on, in order, once the rollout is whole."""
    end = asked(plan, first, teaches).places.start
    places = range(first, end)
    if not plan.rounds:
        return list(places)
    good = [place for place in places if teaches[place]]
    others = [place for place in places if not teaches[place]]
    return sorted(good + others[: plan.prompts - len(good)])
