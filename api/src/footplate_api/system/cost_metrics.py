"""Costs of runs, and their pods, in Prometheus' text format; pure.

Gauges have the sums of the calendar month, in UTC, as a bill has. They may fall, when a price is corrected or
a pod turns out to have ended earlier, and begin again at zero with the next month. Counters have what was
added since the replica began to export, and do neither: they are for rates.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Final, NamedTuple, TypeVar

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
class CostAmounts:
    """Amounts of dollars, joules and grams; None is unknown, and has no sample."""

    dollars: float | None = None
    joules: float | None = None
    grams: float | None = None

    def counted(self, before: CostAmounts, now: CostAmounts) -> CostAmounts:
        """Return these amounts and the growth from `before` to `now`; a lower amount adds nothing."""
        rows = zip(_members(self), _members(before), _members(now), strict=True)
        return CostAmounts(*(_grown(total, then, latest) for total, then, latest in rows))


def _members(amounts: CostAmounts) -> tuple[float | None, float | None, float | None]:
    return amounts.dollars, amounts.joules, amounts.grams


def _grown(total: float | None, before: float | None, now: float | None) -> float | None:
    return total if now is None else (total or 0.0) + max(0.0, now - (before or 0.0))


@dataclass(frozen=True)
class Month:
    """Amounts used since `since`, counted up to `until`; both are seconds since the Unix epoch."""

    since: int
    until: int
    held: Mapping[Group, CostAmounts] = field(default_factory=dict)
    idle: Mapping[str, CostAmounts] = field(default_factory=dict)  # by profile: costs of unallocated nodes


@dataclass(frozen=True)
class SpendingCounters:
    """Amounts used since this replica began to export; corrections do not lower them."""

    latest: Month
    held: Mapping[Group, CostAmounts]
    idle: Mapping[str, CostAmounts]

    def count(self, month: Month) -> SpendingCounters:
        """Return the counters with the growth since the latest month, or all of a new calendar month."""
        before = self.latest if self.latest.since == month.since else Month(month.since, month.since)
        return SpendingCounters(
            month,
            {**self.held, **_count(self.held, before.held, month.held)},
            {**self.idle, **_count(self.idle, before.idle, month.idle)},
        )


def _count(
    totals: Mapping[Name, CostAmounts], before: Mapping[Name, CostAmounts], now: Mapping[Name, CostAmounts]
) -> dict[Name, CostAmounts]:
    none = CostAmounts()
    return {
        name: totals.get(name, none).counted(before.get(name, none), amounts) for name, amounts in now.items()
    }


@dataclass(frozen=True)
class CostSnapshot:
    """Latest costs and pods; None before the first, and on a replica that does not export."""

    counters: SpendingCounters | None = None
    pods: Pods | None = None

    def with_month(self, month: Month) -> CostSnapshot:
        """Return the snapshot with the costs of `month`."""
        counters = self.counters or SpendingCounters(month, {}, {})  # at 0 of all that it has
        return CostSnapshot(counters.count(month), self.pods)


def exposition(spending: CostSnapshot) -> str:
    """Format all metrics of costs and pods."""
    return "".join((*_of_costs(spending.counters), *_of_pods(spending.pods)))


def _of_costs(counters: SpendingCounters | None) -> Iterator[str]:
    if counters is None:
        return
    month = counters.latest
    yield from _amounts(
        counters.held, counters.idle, "", "_total", "since this replica began to export", "counter"
    )
    yield from _amounts(month.held, month.idle, "month_to_date_", "", "in this calendar month (UTC)", "gauge")
    yield head("footplate_costs_dropped", "Pairs of namespace and profile without a sample of costs.")
    yield f"footplate_costs_dropped {number(max(0, len(counters.held) - GROUPS))}\n"
    yield head("footplate_costs_counted_timestamp_seconds", "Time up to which costs are counted.")
    yield f"footplate_costs_counted_timestamp_seconds {number(month.until)}\n"


def _amounts(
    held: Mapping[Group, CostAmounts],
    idle: Mapping[str, CostAmounts],
    prefix: str,
    suffix: str,
    period: str,
    kind: str,
) -> Iterator[str]:
    groups = sorted(held.items(), key=lambda group: (-(group[1].dollars or 0.0), group[0]))
    shown = [(_labels(*group), amounts) for group, amounts in sorted(groups[:GROUPS], key=itemgetter(0))]
    for name, what, member in (
        ("cost_dollars", "Cost", 0),
        ("energy_joules", "Energy", 1),
        ("carbon_grams", "CO2 equivalent", 2),
    ):
        yield from _samples(
            f"footplate_{prefix}{name}{suffix}",
            f"{what} of runs' pods {period}, by namespace and profile.",
            kind,
            [(labels, _members(amounts)[member]) for labels, amounts in shown],
        )
    yield from _samples(
        f"footplate_{prefix}idle_dollars{suffix}",
        f"Cost of unallocated nodes {period}, by profile.",
        kind,
        [(f'{{profile="{escaped(name)}"}}', amounts.dollars) for name, amounts in sorted(idle.items())],
    )


def _labels(namespace: str, profile: str) -> str:
    return f'{{namespace="{escaped(namespace)}",profile="{escaped(profile)}"}}'


def _samples(
    name: str, help_text: str, kind: str, samples: Iterable[tuple[str, float | None]]
) -> Iterator[str]:
    yield head(name, help_text, kind)
    for labels, value in samples:
        if value is not None:
            yield f"{name}{labels} {number(value)}\n"


def _of_pods(pods: Pods | None) -> Iterator[str]:
    if pods is None:
        return
    yield head(
        "footplate_run_membership_info", "Always 1; a pod of a run, to join with other metrics of pods."
    )
    for labels in _distinct(pods.shown):
        yield f"footplate_run_membership_info{labels} 1.0\n"
    yield head("footplate_run_pods_dropped", "Pods of runs without a sample, beyond the limit.")
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
