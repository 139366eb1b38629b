"""The ledger's arithmetic as one would write it down: line by line, pod by pod, without sums kept for speed.

The sum over pods and idle time is the cost of the nodes, to the last digit, for any window: every line is a
part of a node's time at one price, and shares are exact. Time without a price costs an unknown amount: it is
counted beside, in node-seconds, and never as nothing. A pod's energy counts as consumed evenly over its time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain, pairwise
from typing import Final

from footplate_contracts.names import Role
from footplate_ledger.account import NO_TIME, NOTHING, Account, Cost, Tariff
from footplate_ledger.carbon import (
    GridLocation,
    IntensitySeries,
    IntensitySource,
    find_intensity,
    split_by_intensity,
)
from footplate_ledger.energy import Consumption, EnergyMethod, pod_consumption
from footplate_ledger.intervals import Interval
from footplate_ledger.node_shares import infer_nodes, split_node_time_by_pods
from footplate_ledger.prices import FOREVER, PriceBook, matching_skus
from footplate_ledger.units import Carbon, Energy, HourlyRate, Money, Seconds
from footplate_ledger.usage import NodeLifetime, PodAllocation, Sku, merge_pods

IDLE: Final = ""  # the uid of nobody's pod
ALWAYS: Final = Interval(-FOREVER, FOREVER)


@dataclass(frozen=True, slots=True)
class BillLine:
    """Part of a node's time at one price, which one pod has, or is idle."""

    pod: str  # uid; IDLE
    node: str
    span: Interval
    share: Fraction
    rate: HourlyRate | None
    estimated: bool = False

    @property
    def node_seconds(self) -> Seconds:
        """Seconds of the whole node."""
        return self.span.seconds * self.share

    @property
    def cost(self) -> Money | None:
        """Cost of the line; None without a price."""
        return None if self.rate is None else self.rate * self.node_seconds


def cost_of(line: BillLine) -> Cost:
    """The cost of one line."""
    cost, seconds = line.cost, line.node_seconds
    return Cost(
        NOTHING if cost is None else cost,
        seconds,
        seconds if cost is None else NO_TIME,
        seconds if line.estimated else NO_TIME,
    )


def bill_lines(
    nodes: Iterable[NodeLifetime],
    pods: Iterable[PodAllocation],
    book: PriceBook,
    now: int,
    window: Interval = ALWAYS,
) -> Iterator[BillLine]:
    """Yield all lines within `window`, node by node and in the order of time."""
    on: dict[str, list[PodAllocation]] = defaultdict(list)
    for pod in pods:
        on[pod.node].append(pod)
    for node in nodes:
        yield from node_lines(node, on.get(node.uid, ()), book, now, window)


def node_lines(
    node: NodeLifetime, pods: Iterable[PodAllocation], book: PriceBook, now: int, window: Interval = ALWAYS
) -> Iterator[BillLine]:
    """Yield the lines of one node and its pods."""
    known = {pod.uid: pod for pod in pods}
    for part in split_node_time_by_pods(node, known.values(), now):
        for span, rate in split_by_rate(book, node.sku, part.span.within(window)):
            for uid, share in part.shares.items():
                yield BillLine(uid, node.uid, span, share, rate, known[uid].end.estimated)
            if part.idle:
                yield BillLine(IDLE, node.uid, span, part.idle, rate, node.end.estimated)


def split_by_rate(book: PriceBook, sku: Sku, span: Interval) -> Iterator[tuple[Interval, HourlyRate | None]]:
    """`span` in parts with one price each."""
    wanted = matching_skus(sku)
    cuts = [
        edge
        for entry in book.entries
        if entry.sku in wanted and book.corrected_by(entry.id) is None
        for edge in (entry.effective_from, entry.effective_to)
    ]
    return ((part, book.rate(sku, part.start)) for part in span.cut(cuts))


def build_accounts(
    nodes: Iterable[NodeLifetime],
    pods: Iterable[PodAllocation],
    tariff: Tariff,
    now: int,
    window: Interval = ALWAYS,
) -> dict[str, Account]:
    """Build an account for each pod, by its uid; idle time has the key IDLE.

    The workers and spares on a node share it if `nodes` lacks it, as `infer_nodes` infers it. A
    coordinator costs what has a stated price, and is free otherwise: for it nothing is ever unpriced.
    """
    told = {node.uid: node for node in nodes}
    everybody = {pod.uid: pod for pod in pods}
    known = {uid: pod for uid, pod in everybody.items() if pod.node in told or not _is_free(pod)}
    unseen = infer_nodes((pod for pod in known.values() if pod.node not in told), now)
    found: dict[str, Account] = defaultdict(Account)
    of_told = bill_lines(told.values(), known.values(), tariff.book, now, window)
    of_unseen = (node_lines(node, on, tariff.book, now, window) for node, on in unseen)
    for line in chain(of_told, *of_unseen):
        if line.cost is None and line.pod != IDLE and _is_free(known[line.pod]):
            continue
        found[line.pod] = found[line.pod] + Account(cost_of(line))
        if line.pod != IDLE:
            found[line.pod] = found[line.pod] + _of_rest(known[line.pod], line, tariff.series)
    for uid, pod in known.items():
        found[uid] = found[uid] + _of_devices(pod, tariff.series, now, window)
    return dict(found)


def _is_free(pod: PodAllocation) -> bool:
    return pod.role is Role.COORDINATOR


def _of_devices(pod: PodAllocation, series: IntensitySeries, now: int, window: Interval) -> Account:
    whole = pod.span(now)
    part = whole.within(window)
    if not part:
        return Account()
    consumed = _part(pod_consumption(pod, now), part.seconds.exact / whole.seconds.exact)
    account = _consumed(pod, consumed, part, series)
    return replace(account, device_seconds=part.seconds * pod.devices)


def _of_rest(pod: PodAllocation, line: BillLine, series: IntensitySeries) -> Account:
    """Return the energy of the rest of the node in the pod's part of it."""
    rest = pod.site.node_watts
    if rest is None:
        return Account(consumption=Consumption(devices_only=not _is_free(pod)))
    energy = rest * line.node_seconds
    return _consumed(
        pod, Consumption({EnergyMethod.RATED: energy} if energy.exact else {}), line.span, series
    )


def _consumed(
    pod: PodAllocation, consumption: Consumption, span: Interval, series: IntensitySeries
) -> Account:
    """Return energy consumed evenly over `span`, times PUE, and its emissions."""
    whole = _scaled(consumption, pod.site.power_usage_effectiveness)
    if not (energy := whole.energy).exact:
        return Account(consumption=whole)
    place = GridLocation(
        pod.site.grams_per_kilowatt_hour, pod.site.carbon_zone, pod.site.provider, pod.site.region
    )
    return Account(consumption=whole, carbon=compute_emissions(energy, place, series, span))


def _scaled(consumption: Consumption, factor: int | Fraction) -> Consumption:
    energies = {method: energy * factor for method, energy in consumption.energies.items()} if factor else {}
    return replace(consumption, energies=energies)


def _part(consumption: Consumption, fraction: Fraction) -> Consumption:
    seconds = {method: time * fraction for method, time in consumption.seconds.items()}
    return replace(_scaled(consumption, fraction), seconds=seconds)


def compute_emissions(
    energy: Energy, place: GridLocation, series: IntensitySeries, span: Interval
) -> Mapping[IntensitySource, Carbon]:
    """The emissions of `energy`, consumed evenly over `span`, by source of the intensity."""
    if not span:
        found = find_intensity(place, series, span.start)
        return {found.rank: energy * found.intensity}
    emissions: dict[IntensitySource, Carbon] = {}
    for part, best in split_by_intensity(place, series, span):
        carbon = energy * (part.seconds.exact / span.seconds.exact) * best.intensity
        emissions[best.rank] = emissions.get(best.rank, Carbon()) + carbon
    return emissions


def merge_by_uid(tellings: Iterable[PodAllocation]) -> dict[str, PodAllocation]:
    """Merge reports into one usage for each pod, by uid."""
    found: dict[str, PodAllocation] = {}
    for usage in tellings:
        known = found.get(usage.uid)
        found[usage.uid] = usage if known is None else merge_pods(known, usage)
    return found


def segments(spans: Sequence[Interval]) -> list[Interval]:
    """Split at all edges of `spans`, in order."""
    edges = sorted({edge for span in spans for edge in (span.start, span.end)})
    return [Interval(start, end) for start, end in pairwise(edges)]
