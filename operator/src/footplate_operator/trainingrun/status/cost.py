"""What a run has cost: `status.cost`; pure.

What that is the ledger says, of the run's pods and of those with whom they shared their nodes.

Seconds of devices are shared out as `status.time` has grown since the last account. What turns out to have
been less, because a pod ended earlier than was known, is taken from all members alike.
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
    """What the pods have cost until any second from `at` on; of time to come: if they go on.

    Args:
        known: what is remembered of earlier accounts of the same run.
    """
    return (known or Accounts()).of(usage.pods, usage.others, usage.nodes, tariff, at)


def account(usage: OwnUsage, tariff: Tariff, at: int, known: Accounts | None = None) -> Account:
    """What they have cost until the second `at`."""
    return account_from(usage, tariff, at, known)(at)


def cost(
    before: CostStatus | None,
    usage: OwnUsage,
    tariff: Tariff,
    passed: Mapping[str, float],
    now: datetime,
    known: Accounts | None = None,
) -> CostStatus:
    """`status.cost` at `now`.

    Args:
        before: that was written last.
        passed: by how much each member of `status.time` has grown since, in seconds.
        known: what is remembered of earlier accounts.
    """
    at = second(now)
    found = account(usage, tariff, at, known)
    since = moment(before.until) if before is not None and before.until else 0
    spares = total(Seconds, (_held(pod, Span(since, at)) for pod in usage.pods if pod.role is Role.SPARE))
    members = _read(before.device_seconds if before is not None else None)
    return summary(found, shared_out(members, found.device_seconds, spares, passed), at)


def shared_out(known: Sums, whole: Seconds, spares: Seconds, passed: Mapping[str, float]) -> Sums:
    """`known`, with what is missing of `whole`; the members are together `whole`, to the millisecond.

    Args:
        spares: what spares have held of it since.
        passed: as above.
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
    """By how much each member of `status.time` has grown, in seconds."""
    known = {} if before is None else before.model_dump()
    return {} if after is None else {name: value - known.get(name, 0.0) for name, value in after}


def _held(pod: PodUsage, window: Span) -> Seconds:
    return pod.span(window.end).within(window).seconds * pod.devices


def _read(known: DeviceTime | None) -> Sums:
    return {} if known is None else {Bucket(name): Seconds(exact(value)) for name, value in known}


def _rounded(sums: Sums, whole: Seconds) -> Sums:
    """To milliseconds, the largest taking what is left over, so that they are still `whole` together."""
    found = {
        bucket: Seconds(Fraction(round(_MILLI * seconds.exact), _MILLI)) for bucket, seconds in sums.items()
    }
    if found:
        largest = max(found, key=lambda bucket: (found[bucket], bucket))
        found[largest] = found[largest] + (whole - total(Seconds, found.values()))
    return found
