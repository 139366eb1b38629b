"""Cost of a run: `status.cost`; pure.

The ledger computes it, from the run's pods and the pods that shared their nodes.
Seconds of devices are distributed as `status.wallSeconds` has grown since the last account. A later
correction downwards, because a pod ended earlier than was known, reduces all members alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from fractions import Fraction
from typing import Final

from footplate_contracts.names import Role
from footplate_contracts.v1alpha1.status import CostStatus, DeviceTime, TimeStatus
from footplate_ledger.account import Account, Tariff
from footplate_ledger.conversion import decimal_fraction, parse_time
from footplate_ledger.cost_cache import RunCostCache
from footplate_ledger.device_activity import DeviceActivity, Sums, add_sums, split_by_activity
from footplate_ledger.intervals import Interval, unix_second
from footplate_ledger.summary import build_cost_status
from footplate_ledger.units import Seconds, total
from footplate_ledger.usage import PodAllocation
from footplate_operator.usage.owner_usage import OwnerUsage

_MILLI: Final = 1000


def account_from(
    usage: OwnerUsage, tariff: Tariff, at: int, known: RunCostCache | None = None
) -> Callable[[int], Account]:
    """Return the pods' account by second, for seconds from `at` on; in the future: if they go on.

    Args:
        known: earlier accounts of the same run.
    """
    return (known or RunCostCache()).of(usage.pods, usage.others, usage.nodes, tariff, at)


def account(usage: OwnerUsage, tariff: Tariff, at: int, known: RunCostCache | None = None) -> Account:
    """Return the pods' account until the second `at`."""
    return account_from(usage, tariff, at, known)(at)


def cost(
    before: CostStatus | None,
    usage: OwnerUsage,
    tariff: Tariff,
    passed: Mapping[str, float],
    now: datetime,
    known: RunCostCache | None = None,
) -> CostStatus:
    """Build `status.cost` at `now`.

    Args:
        before: the cost written last.
        passed: the growth of each member of `status.wallSeconds` since, in seconds.
        known: earlier accounts.
    """
    at = unix_second(now)
    found = account(usage, tariff, at, known)
    since = parse_time(before.until) if before is not None and before.until else 0
    spares = total(Seconds, (_held(pod, Interval(since, at)) for pod in usage.pods if pod.role is Role.SPARE))
    members = _read(before.device_seconds if before is not None else None)
    return build_cost_status(found, distribute_seconds(members, found.device_seconds, spares, passed), at)


def distribute_seconds(known: Sums, whole: Seconds, spares: Seconds, passed: Mapping[str, float]) -> Sums:
    """Distribute the missing part of `whole` over `known`; the members sum to `whole`, to the millisecond.

    Args:
        spares: device time of spares since.
        passed: see `cost`.
    """
    so_far = total(Seconds, known.values())
    more = whole - so_far
    if more < Seconds():
        left = whole.exact / so_far.exact
        return _rounded({bucket: seconds * left for bucket, seconds in known.items()}, whole)
    waited = min(spares, more)
    grown = {name: max(Fraction(0), decimal_fraction(seconds)) for name, seconds in passed.items()}
    return _rounded(add_sums(known, split_by_activity(more - waited, waited, grown)), whole)


def growth(before: TimeStatus | None, after: TimeStatus | None) -> dict[str, float]:
    """Return the growth of each member of `status.wallSeconds`, in seconds."""
    known = {} if before is None else before.model_dump()
    return {} if after is None else {name: value - known.get(name, 0.0) for name, value in after}


def _held(pod: PodAllocation, window: Interval) -> Seconds:
    return pod.span(window.end).within(window).seconds * pod.devices


def _read(known: DeviceTime | None) -> Sums:
    return (
        {}
        if known is None
        else {DeviceActivity(name): Seconds(decimal_fraction(value)) for name, value in known}
    )


def _rounded(sums: Sums, whole: Seconds) -> Sums:
    """Round to milliseconds; the largest member takes the rest, so that the sum is still `whole`."""
    found = {
        bucket: Seconds(Fraction(round(_MILLI * seconds.exact), _MILLI)) for bucket, seconds in sums.items()
    }
    if found:
        largest = max(found, key=lambda bucket: (found[bucket], bucket))
        found[largest] = found[largest] + (whole - total(Seconds, found.values()))
    return found
