"""Costs of very many pods, by any key and by parts of time; pure.

A coordinator costs what has a stated price, and is free otherwise. Amounts are added up in whole numbers, and
are those of `tests/support/ledger_reference.py` to the last digit. Node time is stored by kind of node
and by the periods between all changes of its price that were ever written: so one pass over the usage
serves every state of the price book, and with it the bills of closed months and their later changes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from operator import itemgetter
from typing import Final, TypeVar

from footplate_contracts.names import Role
from footplate_ledger.account import Account, Cost, Tariff
from footplate_ledger.carbon import GridLocation, IntensitySource, split_by_intensity
from footplate_ledger.energy import Consumption, EnergyMethod, pod_consumption
from footplate_ledger.exact_sum import ExactSum
from footplate_ledger.intervals import Interval
from footplate_ledger.node_shares import infer_nodes, split_node_time_by_pods
from footplate_ledger.prices import FOREVER, PriceBook, matching_skus
from footplate_ledger.units import HOUR, Carbon, Energy, Money, Seconds
from footplate_ledger.usage import NodeLifetime, PodAllocation, PowerProfile, Sku

_MILLI: Final = 1000


@dataclass(frozen=True, slots=True, eq=False)
class PricePeriod:
    """A SKU, and the second from which its price does not change until the next period.

    CostAggregator makes each once; identity is compared, which is quick.
    """

    sku: Sku
    since: int


Key = Hashable
Name = TypeVar("Name")
_Timeline = Sequence[tuple[int, IntensitySource, int, int]]
"""From which second on a millijoule emits how many grams, a fraction, by which rank."""


@dataclass(slots=True)
class PeriodSeconds:
    """Node-seconds by period, and those of them that are estimates."""

    seconds: dict[PricePeriod, ExactSum] = field(default_factory=dict)
    estimated: dict[PricePeriod, ExactSum] = field(default_factory=dict)

    def add(self, period: PricePeriod, seconds: int, denominator: int, estimated: bool) -> None:
        """Add a share of a node's time."""
        _sum_of(self.seconds, period).add(seconds, denominator)
        if estimated:
            _sum_of(self.estimated, period).add(seconds, denominator)


@dataclass(slots=True)
class PricedUsage:
    """Cost of some seconds by a book: nano-dollars, and node-seconds."""

    money: ExactSum = field(default_factory=ExactSum)
    node_seconds: ExactSum = field(default_factory=ExactSum)
    unpriced: ExactSum = field(default_factory=ExactSum)
    estimated: ExactSum = field(default_factory=ExactSum)
    known: bool = False  # whether any of it has a price

    def add(self, held: PeriodSeconds, rates: Callable[[PricePeriod], Fraction | None], free: bool) -> None:
        """Add held time; of `free` time only that which has a price."""
        for period, seconds in held.seconds.items():
            rate = rates(period)
            if rate is None and free:
                continue
            self.node_seconds.add_sum(seconds)
            if rate is None:
                self.unpriced.add_sum(seconds)
            else:
                self.money.add_sum(seconds, rate)
                self.known = self.known or bool(seconds)
            if period in held.estimated:
                self.estimated.add_sum(held.estimated[period])

    def cost(self) -> Cost:
        """Convert to one amount each; slow where there are thousands of denominators."""
        return Cost(
            Money(self.money.exact),
            *(Seconds(part.exact) for part in (self.node_seconds, self.unpriced, self.estimated)),
        )


class PeriodRates:
    """Nano-dollars a second by one state of the book; each period is looked up once."""

    def __init__(self, book: PriceBook) -> None:
        self._book = book
        self._known: dict[PricePeriod, Fraction | None] = {}

    def __call__(self, period: PricePeriod) -> Fraction | None:
        """Return the rate; None without a price."""
        if period not in self._known:
            rate = self._book.rate(period.sku, period.since)
            self._known[period] = None if rate is None else rate.exact / HOUR
        return self._known[period]


@dataclass(slots=True)
class CostSum:
    """Usage of one key in one part of time."""

    paid: PeriodSeconds = field(default_factory=PeriodSeconds)
    free: PeriodSeconds = field(
        default_factory=PeriodSeconds
    )  # of coordinators, which cost only what has a price
    idle: PeriodSeconds = field(default_factory=PeriodSeconds)  # its share of what nobody held (`idle.share`)
    energies: dict[EnergyMethod, ExactSum] = field(default_factory=dict)  # millijoules
    methods: dict[EnergyMethod, ExactSum] = field(default_factory=dict)  # seconds of a device
    carbon: dict[IntensitySource, ExactSum] = field(default_factory=dict)  # grams
    device_seconds: int = 0
    devices_only: bool = False

    def priced(self, rates: Callable[[PricePeriod], Fraction | None]) -> PricedUsage:
        """Compute the cost by `rates`."""
        found = PricedUsage()
        found.add(self.paid, rates, free=False)
        found.add(self.free, rates, free=True)
        return found

    def add(self, other: CostSum) -> None:
        """Add another cost sum."""
        for mine, theirs in ((self.paid, other.paid), (self.free, other.free), (self.idle, other.idle)):
            _join(mine.seconds, theirs.seconds)
            _join(mine.estimated, theirs.estimated)
        _join(self.energies, other.energies)
        _join(self.methods, other.methods)
        _join(self.carbon, other.carbon)
        self.device_seconds += other.device_seconds
        self.devices_only = self.devices_only or other.devices_only

    def account(self, book: PriceBook) -> Account:
        """Convert to an account; slow where there are thousands of denominators."""
        energies = {method: Energy(energy.exact) for method, energy in self.energies.items() if energy}
        methods = {method: Seconds(seconds.exact) for method, seconds in self.methods.items()}
        return Account(
            self.priced(PeriodRates(book)).cost(),
            Consumption(energies, methods, self.devices_only),
            {rank: Carbon(grams.exact) for rank, grams in self.carbon.items()},
            Seconds(Fraction(self.device_seconds)),
        )

    @property
    def energy(self) -> ExactSum:
        """Millijoules by all methods together."""
        whole = ExactSum()
        for energy in self.energies.values():
            whole.add_sum(energy)
        return whole

    @property
    def is_energy_known(self) -> bool:
        """True if `Account.is_energy_known` is true of its account."""
        return any(self.energies.values()) or any(
            seconds for method, seconds in self.methods.items() if method is not EnergyMethod.UNKNOWN
        )


def _join(mine: dict[Name, ExactSum], theirs: Mapping[Name, ExactSum]) -> None:
    for name, part in theirs.items():
        _sum_of(mine, name).add_sum(part)


@dataclass(frozen=True, slots=True)
class _Marks:
    """First seconds of parts of time and of periods."""

    seconds: Sequence[int]
    slots: Sequence[int]
    periods: Sequence[PricePeriod]

    def cut(self, span: Interval) -> Iterator[tuple[int, int, int, PricePeriod]]:
        """Yield (from, to, part of time, period) of `span`, which lies within them."""
        start, at = span.start, bisect_right(self.seconds, span.start) - 1
        while start < span.end:
            end = min(self.seconds[at + 1], span.end)
            yield start, end, self.slots[at], self.periods[at]
            start, at = end, at + 1


Found = dict[tuple[Key, int], CostSum]
"""By key and place of the part of time."""


class CostAggregator:
    """Sums of usage, node by node: by key, and by the parts of time between `edges`, which are in order.

    `found` creates missing sums; a caller's own may refuse to make too many.
    """

    def __init__(self, tariff: Tariff, now: int, edges: Sequence[int], found: Found | None = None) -> None:
        self.found: Found = defaultdict(CostSum) if found is None else found
        self._tariff = tariff
        self._now = now
        self._edges = edges
        self._window = Interval(edges[0], edges[-1])
        self._rates = PeriodRates(tariff.book)
        self._marks = cache(self._marked)
        self._timeline = cache(self._intensities)
        self._sites: dict[
            int, tuple[PowerProfile, Fraction, _Timeline]
        ] = {}  # by identity: hashing fractions is slow
        self._plain = _Marks(edges, range(len(edges)), [PricePeriod(Sku(""), 0)] * len(edges))

    def add(
        self,
        node: NodeLifetime | None,
        pods: Iterable[PodAllocation],
        key: Callable[[PodAllocation], Key | None],
        idle: Callable[[Sku], Key | None],
    ) -> None:
        """Add a node and all pods on it; `node` is None where only they report it.

        Pods whose `key` is None are not counted, but share the node all the same; so is idle time, by `idle`.
        """
        known = {pod.uid: pod for pod in pods if node is not None or pod.role is not Role.COORDINATOR}
        keys = {uid: key(pod) for uid, pod in known.items()}
        told = infer_nodes(known.values(), self._now) if node is None else ((node, known.values()),)
        for there, on in told:
            self._add_held(there, on, keys, idle(there.sku))
        for uid, pod in known.items():
            if keys[uid] is not None:
                self._add_devices(pod, keys[uid])

    def _add_held(
        self,
        node: NodeLifetime,
        on: Iterable[PodAllocation],
        keys: Mapping[str, Key | None],
        idle: Key | None,
    ) -> None:
        marks = self._marks(node.sku)
        pods = {pod.uid: pod for pod in on}
        counted = {uid for uid in pods if keys[uid] is not None}
        for there in split_node_time_by_pods(node, pods.values(), self._now, counted):
            span = there.span.within(self._window)
            if not span:
                continue
            shares = [(pods[uid], keys[uid], share) for uid, share in there.shares.items()]
            rest = there.idle if idle is not None else None
            for start, end, slot, period in marks.cut(span):
                for pod, key, share in shares:
                    if key is not None:
                        self._add_share(pod, self.found[key, slot], Interval(start, end), share, period)
                if rest:
                    cost_sum = self.found[idle, slot]
                    seconds = (end - start) * rest.numerator
                    cost_sum.paid.add(period, seconds, rest.denominator, node.end.estimated)

    def _add_share(
        self, pod: PodAllocation, cost_sum: CostSum, span: Interval, share: Fraction, period: PricePeriod
    ) -> None:
        seconds = (span.end - span.start) * share.numerator
        free = pod.role is Role.COORDINATOR
        own = cost_sum.free if free else cost_sum.paid
        own.add(period, seconds, share.denominator, pod.end.estimated)
        if free and self._rates(period) is None:
            return
        if pod.site.node_watts is None:
            cost_sum.devices_only = cost_sum.devices_only or not free
            return
        rest, timeline = self._of_site(pod.site)
        energy = seconds * rest.numerator, share.denominator * rest.denominator
        _add_energy(cost_sum, EnergyMethod.RATED, timeline, span, *energy)

    def _add_devices(self, pod: PodAllocation, key: Key) -> None:
        whole = pod.span(self._now)
        part = whole.within(self._window)
        if not part:
            return
        consumed = pod_consumption(pod, self._now)
        energies = {
            method: energy.exact * pod.site.power_usage_effectiveness
            for method, energy in consumed.energies.items()
        }
        length = whole.end - whole.start
        _, timeline = self._of_site(pod.site)
        for start, end, slot, _ in self._plain.cut(part):
            cost_sum = self.found[key, slot]
            seconds, over = (1, 1) if end - start == length else (end - start, length)
            for method, of_method in consumed.seconds.items():
                exact = of_method.exact
                _sum_of(cost_sum.methods, method).add(exact.numerator * seconds, exact.denominator * over)
            cost_sum.device_seconds += (end - start) * pod.devices
            for method, energy in energies.items():
                part_of = energy.numerator * seconds, energy.denominator * over
                _add_energy(cost_sum, method, timeline, Interval(start, end), *part_of)

    def _of_site(self, site: PowerProfile) -> tuple[Fraction, _Timeline]:
        """Return `_rest` and the emissions of a millijoule there; looked up once for all that share it."""
        found = self._sites.get(id(site))
        if found is None:
            place = GridLocation(site.grams_per_kilowatt_hour, site.carbon_zone, site.provider, site.region)
            found = self._sites[id(site)] = site, _rest(site), self._timeline(place)
        return found[1:]

    def _intensities(self, place: GridLocation) -> _Timeline:
        found = []
        for span, known in split_by_intensity(place, self._tariff.series, self._window):
            grams = known.intensity.exact / Energy.PER_KILOWATT_HOUR
            found.append((span.start, known.rank, grams.numerator, grams.denominator))
        return found

    def _marked(self, sku: Sku) -> _Marks:
        wanted = matching_skus(sku)
        cuts = sorted(
            {-FOREVER}
            | {
                edge
                for entry in self._tariff.book.entries
                if entry.sku in wanted
                for edge in (entry.effective_from, entry.effective_to)
            }
        )
        first, last = self._edges[0], self._edges[-1]
        seconds = sorted({*self._edges, *(cut for cut in cuts if first < cut < last)})
        slots = [bisect_right(self._edges, second) - 1 for second in seconds]
        made = [PricePeriod(sku, cut) for cut in cuts]
        periods = [made[bisect_right(cuts, second) - 1] for second in seconds]
        return _Marks(seconds, slots, periods)


def _rest(site: PowerProfile) -> Fraction:
    """Return the millijoules of each second of a whole node beside its devices, times PUE."""
    return (
        Fraction(0)
        if site.node_watts is None
        else site.node_watts.exact * _MILLI * site.power_usage_effectiveness
    )


def _add_energy(
    cost_sum: CostSum,
    method: EnergyMethod,
    timeline: _Timeline,
    span: Interval,
    numerator: int,
    denominator: int,
) -> None:
    """Add millijoules that were consumed evenly over `span`, and their emissions."""
    _sum_of(cost_sum.energies, method).add(numerator, denominator)
    if len(timeline) == 1:
        _, rank, grams, over = timeline[0]
        _sum_of(cost_sum.carbon, rank).add(numerator * grams, denominator * over)
        return
    length = span.end - span.start
    start, at = span.start, bisect_right(timeline, span.start, key=itemgetter(0)) - 1
    while start < span.end:
        end = min(timeline[at + 1][0] if at + 1 < len(timeline) else span.end, span.end)
        _, rank, grams, over = timeline[at]
        seconds = end - start
        _sum_of(cost_sum.carbon, rank).add(numerator * seconds * grams, denominator * length * over)
        start, at = end, at + 1


def _sum_of(sums: dict[Name, ExactSum], name: Name) -> ExactSum:
    found = sums.get(name)
    if found is None:
        found = sums[name] = ExactSum()
    return found
