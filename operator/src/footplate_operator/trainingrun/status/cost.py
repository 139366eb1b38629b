"""Cost of a run: `status.cost`; pure.

The ledger computes it, from the run's pods and the pods that shared their nodes.
Seconds of devices are distributed as `status.time` has grown since the last account. A later correction
downwards, because a pod ended earlier than was known, reduces all members alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from fractions import Fraction
from typing import Final

from footplate_contracts.names import Role
from footplate_contracts.v1alpha1.status import CostStatus, DeviceTime, TimeStatus
from footplate_ledger.account import Account, Tariff
from footplate_ledger.buckets import Bucket, Sums, joined, shared
from footplate_ledger.records import exact, moment
from footplate_ledger.repeated import Accounts
from footplate_ledger.summary import summary
from footplate_ledger.time import Span, second
from footplate_ledger.units import Seconds, total
from footplate_ledger.usage import PodUsage
from footplate_operator.usage.known import OwnUsage

_MILLI: Final = 1000


def account_from(
    usage: OwnUsage, tariff: Tariff, at: int, known: Accounts | None = None
) -> Callable[[int], Account]:
    """Return the pods' account by second, for seconds from `at` on; in the future: if they go on.

    Args:
        known: earlier accounts of the same run.
    """
    return (known or Accounts()).of(usage.pods, usage.others, usage.nodes, tariff, at)


def account(usage: OwnUsage, tariff: Tariff, at: int, known: Accounts | None = None) -> Account:
    """Return the pods' account until the second `at`."""
    return account_from(usage, tariff, at, known)(at)


def cost(
    before: CostStatus | None,
    usage: OwnUsage,
    tariff: Tariff,
    passed: Mapping[str, float],
    now: datetime,
    known: Accounts | None = None,
) -> CostStatus:
    """Build `status.cost` at `now`.

    Args:
        before: the cost written last.
        passed: the growth of each member of `status.time` since, in seconds.
        known: earlier accounts.
    """
    at = second(now)
    found = account(usage, tariff, at, known)
    since = moment(before.until) if before is not None and before.until else 0
    spares = total(Seconds, (_held(pod, Span(since, at)) for pod in usage.pods if pod.role is Role.SPARE))
    members = _read(before.device_seconds if before is not None else None)
    return summary(found, shared_out(members, found.device_seconds, spares, passed), at)


def shared_out(known: Sums, whole: Seconds, spares: Seconds, passed: Mapping[str, float]) -> Sums:
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
    grown = {name: max(Fraction(0), exact(seconds)) for name, seconds in passed.items()}
    return _rounded(joined(known, shared(more - waited, waited, grown)), whole)


def growth(before: TimeStatus | None, after: TimeStatus | None) -> dict[str, float]:
    """Return the growth of each member of `status.time`, in seconds."""
    known = {} if before is None else before.model_dump()
    return {} if after is None else {name: value - known.get(name, 0.0) for name, value in after}


def _held(pod: PodUsage, window: Span) -> Seconds:
    return pod.span(window.end).within(window).seconds * pod.devices


def _read(known: DeviceTime | None) -> Sums:
    return {} if known is None else {Bucket(name): Seconds(exact(value)) for name, value in known}


def _rounded(sums: Sums, whole: Seconds) -> Sums:
    """Round to milliseconds; the largest member takes the rest, so that the sum is still `whole`."""
    found = {
        bucket: Seconds(Fraction(round(_MILLI * seconds.exact), _MILLI)) for bucket, seconds in sums.items()
    }
    if found:
        largest = max(found, key=lambda bucket: (found[bucket], bucket))
        found[largest] = found[largest] + (whole - total(Seconds, found.values()))
    return found
