"""Costs of runs in a month, and their pods, in Prometheus' text format; pure.

Sums are of the calendar month, in UTC, as a bill is: they begin again at zero with the next one, which
Prometheus takes for a counter reset. A sum may fall, when a price is corrected or a pod turns out to have
ended earlier; a counter may not, or its rate would count all of it again: so within a month the largest sum
so far is exported, and the response of /v1/costs is exact.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Final, NamedTuple, TypeVar

from footplate_api.system.status_numbers import most
from footplate_api.system.text import escaped, head, number

Group = tuple[str, str]
"""Namespace and profile."""

GROUPS: Final = 1000  # of namespace and profile
PODS: Final = 5000
Name = TypeVar("Name", Group, str)


class Pod(NamedTuple):
    """Running pod of a run."""

    namespace: str
    name: str  # of the run
    pod: str
    role: str


@dataclass(frozen=True)
class Pods:
    """Exported pods, and the number of others, for which there is no room."""

    shown: Collection[Pod] = ()
    left_out: int = 0


@dataclass(frozen=True)
class MonthTotals:
    """Amounts of the month so far; None is unknown, and has no sample."""

    dollars: float | None = None
    joules: float | None = None
    grams: float | None = None

    def least(self, before: MonthTotals) -> MonthTotals:
        """Return amounts no less than `before`."""
        pairs = zip(_members(self), _members(before), strict=True)
        return MonthTotals(*(most(now, then) for now, then in pairs))


def _members(amounts: MonthTotals) -> tuple[float | None, float | None, float | None]:
    return amounts.dollars, amounts.joules, amounts.grams


@dataclass(frozen=True)
class Month:
    """Amounts used since `since`, counted up to `until`; both are seconds since the Unix epoch."""

    since: int
    until: int
    held: Mapping[Group, MonthTotals] = field(default_factory=dict)
    idle: Mapping[str, MonthTotals] = field(default_factory=dict)  # by profile: what nobody held of nodes

    def after(self, before: Month | None) -> Month:
        """Return the month with no amount less than in `before`, if that is of the same month."""
        if before is None or before.since != self.since:
            return self
        held = {**before.held, **_no_less(self.held, before.held)}
        idle = {**before.idle, **_no_less(self.idle, before.idle)}
        return Month(self.since, self.until, held, idle)


def _no_less(now: Mapping[Name, MonthTotals], before: Mapping[Name, MonthTotals]) -> dict[Name, MonthTotals]:
    return {name: amounts.least(before.get(name, MonthTotals())) for name, amounts in now.items()}


@dataclass(frozen=True)
class CostSnapshot:
    """Latest costs and pods; None before the first, and on a replica that does not export."""

    month: Month | None = None
    pods: Pods | None = None


def exposition(spending: CostSnapshot) -> str:
    """Format all metrics of costs and pods."""
    return "".join((*_of_month(spending.month), *_of_pods(spending.pods)))


def _of_month(month: Month | None) -> Iterator[str]:
    if month is None:
        return
    groups = sorted(month.held.items(), key=lambda group: (-(group[1].dollars or 0.0), group[0]))
    shown = [(_labels(*group), totals) for group, totals in sorted(groups[:GROUPS], key=itemgetter(0))]
    for name, what, member in (
        ("footplate_cost_dollars_total", "cost", 0),
        ("footplate_energy_joules_total", "consumed", 1),
        ("footplate_carbon_grams_total", "emitted, as CO2 equivalent,", 2),
    ):
        yield from _counter(
            name,
            f"What pods of runs have {what} in this calendar month (UTC), by namespace and profile.",
            [(labels, _members(totals)[member]) for labels, totals in shown],
        )
    yield from _counter(
        "footplate_idle_dollars_total",
        "What nobody held of nodes has cost in this calendar month (UTC), by profile.",
        [(f'{{profile="{escaped(name)}"}}', found.dollars) for name, found in sorted(month.idle.items())],
    )
    yield head("footplate_costs_dropped", "Pairs of namespace and profile that have no sample of costs.")
    yield f"footplate_costs_dropped {number(max(0, len(groups) - GROUPS))}\n"
    yield head("footplate_costs_counted_timestamp_seconds", "Up to when costs of the month are counted.")
    yield f"footplate_costs_counted_timestamp_seconds {number(month.until)}\n"


def _labels(namespace: str, profile: str) -> str:
    return f'{{namespace="{escaped(namespace)}",profile="{escaped(profile)}"}}'


def _counter(name: str, help_text: str, samples: Iterable[tuple[str, float | None]]) -> Iterator[str]:
    yield head(name, help_text, "counter")
    for labels, value in samples:
        if value is not None:
            yield f"{name}{labels} {number(value)}\n"


def _of_pods(pods: Pods | None) -> Iterator[str]:
    if pods is None:
        return
    yield head(
        "footplate_run_membership_info", "1; a pod that a run has, to join with what others say of pods."
    )
    for labels in _distinct(pods.shown):
        yield f"footplate_run_membership_info{labels} 1.0\n"
    yield head("footplate_run_pods_dropped", "Pods of runs that are not told of, for want of room.")
    yield f"footplate_run_pods_dropped {number(pods.left_out)}\n"


def _distinct(pods: Collection[Pod]) -> Sequence[str]:
    """Return each pod's labels once; a pod recreated under its name may be there twice for a moment."""
    return list(
        dict.fromkeys(
            f'{{name="{escaped(pod.name)}",namespace="{escaped(pod.namespace)}",'
            f'pod="{escaped(pod.pod)}",role="{escaped(pod.role)}"}}'
            for pod in pods
        )
    )
