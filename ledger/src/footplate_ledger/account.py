"""Dollars, energy and carbon of some pods; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from footplate_ledger.carbon import IntensitySeries, IntensitySource
from footplate_ledger.energy import Consumption, EnergyMethod
from footplate_ledger.prices import PriceBook
from footplate_ledger.units import Carbon, Money, Seconds

NOTHING: Final = Money()
NO_TIME: Final = Seconds()


@dataclass(frozen=True, slots=True)
class Cost:
    """Known costs, and node-seconds: all, those without a price, and those that are estimates."""

    money: Money = NOTHING
    node_seconds: Seconds = NO_TIME
    unpriced: Seconds = NO_TIME
    estimated: Seconds = NO_TIME

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.money + other.money,
            self.node_seconds + other.node_seconds,
            self.unpriced + other.unpriced,
            self.estimated + other.estimated,
        )


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
