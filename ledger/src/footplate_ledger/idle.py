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
    for (key, at), cost_sum in found.items():
        idle, used = parts[at]
        (idle if is_idle(key) else used).append(cost_sum)
    for idle, used in parts.values():
        holders = _by_period(used)
        for cost_sum in idle:
            for period in [*cost_sum.paid.seconds]:
                _share(cost_sum, period, holders.get(period, []))


def _by_period(used: list[CostSum]) -> Mapping[PricePeriod, list[CostSum]]:
    found: dict[PricePeriod, list[CostSum]] = defaultdict(list)
    for cost_sum in used:
        for period, seconds in cost_sum.paid.seconds.items():
            if seconds:
                found[period].append(cost_sum)
    return found


def _share(idle: CostSum, period: PricePeriod, holders: list[CostSum]) -> None:
    if not holders:
        return
    whole = ExactSum()
    for cost_sum in holders:
        whole.add_sum(cost_sum.paid.seconds[period])
    held = whole.exact
    for sums in (attrgetter("seconds"), attrgetter("estimated")):
        waited = sums(idle.paid).pop(period, ExactSum()).exact
        for cost_sum in holders if waited else ():
            share = sums(cost_sum.idle).setdefault(period, ExactSum())
            share.add_sum(cost_sum.paid.seconds[period], waited / held)
