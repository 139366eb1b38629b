"""Sums of the lines of a bill."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from footplate_ledger.bill import BillLine, Cost


def by_pod(found: Iterable[BillLine]) -> Mapping[str, Cost]:
    """Costs by the uid of the pod; IDLE among them."""
    sums: dict[str, Cost] = defaultdict(Cost)
    for line in found:
        sums[line.pod] = sums[line.pod] + Cost.of(line)
    return sums


def sum_of(found: Iterable[BillLine]) -> Cost:
    """The cost of all of them."""
    return sum(map(Cost.of, found), Cost())
