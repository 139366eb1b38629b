"""Conversion of an account to `status.cost`, rounded at the very end; pure.

Dollars have four decimal places, kilowatt-hours and kilograms six, seconds three. Unknown amounts are absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from fractions import Fraction
from typing import Final, TypeVar

from footplate_contracts.v1alpha1.status import CostStatus, DeviceTime, EnergyByMethod
from footplate_ledger.account import Account
from footplate_ledger.conversion import format_time
from footplate_ledger.device_activity import Sums
from footplate_ledger.energy import Consumption, EnergyMethod
from footplate_ledger.units import Amount, Seconds

DOLLARS: Final = 4  # decimal places, here and below
KILOWATT_HOURS: Final = 6
KILOGRAMS: Final = 6
_MILLI: Final = 1000
Name = TypeVar("Name", bound=StrEnum)


def build_cost_status(account: Account, buckets: Sums, until: int) -> CostStatus:
    """Build `status.cost` of a run with this account, counted up to the second `until`."""
    cost, consumption = account.cost, account.consumption
    priced = cost.node_seconds > cost.unpriced
    known = account.is_energy_known
    return CostStatus(
        dollars=float(cost.money.to_decimal(DOLLARS)) if priced else None,
        kilowatt_hours=float(consumption.energy.to_decimal(KILOWATT_HOURS)) if known else None,
        joules=_joules(consumption) if known else None,
        carbon_kilograms=float(account.emitted.to_decimal(KILOGRAMS)) if known else None,
        method=format_shares({method: consumption.seconds.get(method, Seconds()) for method in EnergyMethod}),
        devices_only=known and consumption.devices_only,
        carbon_source=format_shares(account.carbon),
        node_seconds=_seconds(cost.node_seconds),
        unpriced_node_seconds=_seconds(cost.unpriced),
        estimated_node_seconds=_seconds(cost.estimated),
        device_seconds=_buckets(buckets) if account.device_seconds.exact else None,
        until=format_time(until),
    )


def format_shares(amounts: Mapping[Name, Amount]) -> str:
    """Format shares in percent, the largest first, without those of zero.

    >>> from footplate_ledger.energy import EnergyMethod
    >>> format_shares({EnergyMethod.RATED: Seconds(Fraction(1)), EnergyMethod.COUNTER: Seconds(Fraction(3))})
    'counter 75 %, rated 25 %'
    """
    whole = sum((amount.exact for amount in amounts.values()), Fraction(0))
    if not whole:
        return ""
    parts = {name: amount.exact / whole for name, amount in amounts.items() if amount.exact}
    order = sorted(parts.items(), key=lambda part: (-part[1], part[0]))
    return ", ".join(f"{name} {round(100 * part)} %" for name, part in order)


def _joules(consumption: Consumption) -> EnergyByMethod:
    """Round to the millijoule, in which energies are measured."""
    energies = consumption.energies.items()
    return EnergyByMethod(**{method.value: round(energy.exact) / _MILLI for method, energy in energies})


def _seconds(seconds: Seconds) -> float:
    return float(round(seconds.exact, 3))


def _buckets(buckets: Sums) -> DeviceTime:
    return DeviceTime(**{bucket.value: _seconds(seconds) for bucket, seconds in buckets.items()})
