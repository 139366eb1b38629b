"""Dollars, energy and carbon of pods, for any window; pure.

Operator and API call `build_accounts` with the pods and nodes that they have records of, and show its result.
A pod's energy counts as consumed evenly over its time: parts of the time add up to the whole.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain

from footplate_contracts.names import Role
from footplate_ledger.bill import ALWAYS, IDLE, BillLine, Cost, bill_lines, node_lines
from footplate_ledger.carbon import GridLocation, IntensitySeries, IntensitySource, compute_emissions
from footplate_ledger.energy import Consumption, EnergyMethod, pod_consumption
from footplate_ledger.intervals import Interval
from footplate_ledger.node_shares import infer_nodes
from footplate_ledger.prices import PriceBook
from footplate_ledger.units import Carbon, Seconds
from footplate_ledger.usage import NodeLifetime, PodAllocation


@dataclass(frozen=True)
class Account:
    """Cost of some pods. `device_seconds` are those that they held, whatever the price."""

    cost: Cost = field(default_factory=Cost)
    consumption: Consumption = field(default_factory=Consumption)
    carbon: Mapping[IntensitySource, Carbon] = field(default_factory=dict)
    device_seconds: Seconds = field(default_factory=Seconds)

    def __add__(self, other: Account) -> Account:
        carbon = dict(self.carbon)
        for rank, amount in other.carbon.items():
            carbon[rank] = carbon.get(rank, Carbon()) + amount
        return Account(
            self.cost + other.cost,
            self.consumption + other.consumption,
            carbon,
            self.device_seconds + other.device_seconds,
        )

    @property
    def emitted(self) -> Carbon:
        """Emissions by all sources of intensities together."""
        return sum(self.carbon.values(), Carbon())

    @property
    def is_energy_known(self) -> bool:
        """True if the energy of any second of a device is known, or that of the rest of a node."""
        return bool(self.consumption.energies) or any(
            seconds.exact
            for method, seconds in self.consumption.seconds.items()
            if method is not EnergyMethod.UNKNOWN
        )


@dataclass(frozen=True)
class Tariff:
    """Prices and intensities that turn usage into amounts."""

    book: PriceBook
    series: IntensitySeries = field(default_factory=IntensitySeries)


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
        found[line.pod] = found[line.pod] + Account(Cost.of(line))
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
    consumed = pod_consumption(pod, now).part(part.seconds.exact / whole.seconds.exact)
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
    whole = consumption.times(pod.site.power_usage_effectiveness)
    if not (energy := whole.energy).exact:
        return Account(consumption=whole)
    place = GridLocation(
        pod.site.grams_per_kilowatt_hour, pod.site.carbon_zone, pod.site.provider, pod.site.region
    )
    return Account(consumption=whole, carbon=compute_emissions(energy, place, series, span))
