"""Idle time, shared out among holders of the same kind of node; pure.

Nodes wait so that runs need not, and their users pay for that, too. So the idle time of one kind of node, in
a part of time and at one price, is divided among all holders of such nodes meanwhile, by the node-seconds of
each. Idle time without any holder of its kind stays unassigned.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from operator import attrgetter

from footplate_ledger.cost_sums import CostSum, Key, PricePeriod
from footplate_ledger.exact_sum import ExactSum


def share_idle_time(found: Mapping[tuple[Key, int], CostSum], is_idle: Callable[[Key], bool]) -> None:
    """Move the idle time in `found`, by key and part of time, to `Tally.idle` of those who share it."""
    parts: dict[int, tuple[list[CostSum], list[CostSum]]] = defaultdict(lambda: ([], []))
    for (key, at), tally in found.items():
        idle, used = parts[at]
        (idle if is_idle(key) else used).append(tally)
    for idle, used in parts.values():
        holders = _by_stretch(used)
        for tally in idle:
            for stretch in [*tally.paid.seconds]:
                _share(tally, stretch, holders.get(stretch, []))


def _by_stretch(used: list[CostSum]) -> Mapping[PricePeriod, list[CostSum]]:
    found: dict[PricePeriod, list[CostSum]] = defaultdict(list)
    for tally in used:
        for stretch, seconds in tally.paid.seconds.items():
            if seconds:
                found[stretch].append(tally)
    return found


def _share(idle: CostSum, stretch: PricePeriod, holders: list[CostSum]) -> None:
    if not holders:
        return
    whole = ExactSum()
    for tally in holders:
        whole.add_sum(tally.paid.seconds[stretch])
    held = whole.exact
    for sums in (attrgetter("seconds"), attrgetter("estimated")):
        waited = sums(idle.paid).pop(stretch, ExactSum()).exact
        for tally in holders if waited else ():
            share = sums(tally.idle).setdefault(stretch, ExactSum())
            share.add_sum(tally.paid.seconds[stretch], waited / held)
