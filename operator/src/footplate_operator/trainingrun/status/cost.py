"""What a run has cost: `status.cost`; pure.

Workers and spares cost their shares of their nodes. The coordinator costs what has a stated price, and is
free otherwise: for it nothing is ever unpriced.

Seconds of devices are shared out as `status.time` has grown since the last account. What turns out to have
been less, because a pod ended earlier than was known, is taken from all members alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from fractions import Fraction
from typing import Final

from footplate_contracts.names import Role
from footplate_contracts.v1alpha1.status import CostStatus, DeviceTime, TimeStatus
from footplate_ledger.account import Account, Tariff, accounts
from footplate_ledger.bill import ALWAYS, Cost
from footplate_ledger.buckets import Bucket, Sums, joined, shared
from footplate_ledger.records import exact, moment
from footplate_ledger.sharing import told_by
from footplate_ledger.summary import summary
from footplate_ledger.time import Span, second
from footplate_ledger.units import Seconds, total
from footplate_ledger.usage import PodUsage
from footplate_operator.usage.known import OwnUsage

_MILLI: Final = 1000


def account(usage: OwnUsage, tariff: Tariff, at: int, window: Span = ALWAYS) -> Account:
    """What the pods have cost until the second `at`, within `window`; if that is to come: where they go on.

    Nodes that are not known are shared by the workers and spares on them, and idle at no second.
    """
    known = {node.uid for node in usage.nodes}
    everybody = [*usage.pods, *usage.others]
    unseen = [pod for pod in everybody if pod.node not in known and pod.role is not Role.COORDINATOR]
    placed = [pod for pod in everybody if pod.node in known]
    found = accounts([*usage.nodes, *told_by(unseen, at)], [*placed, *unseen], tariff, at, window)
    return sum((_own(pod, found.get(pod.uid, Account())) for pod in usage.pods), Account())


def cost(
    before: CostStatus | None,
    usage: OwnUsage,
    tariff: Tariff,
    passed: Mapping[str, float],
    now: datetime,
) -> CostStatus:
    """`status.cost` at `now`.

    Args:
        before: that was written last.
        passed: by how much each member of `status.time` has grown since, in seconds.
    """
    at = second(now)
    found = account(usage, tariff, at)
    since = moment(before.until) if before is not None and before.until else 0
    spares = total(Seconds, (_held(pod, Span(since, at)) for pod in usage.pods if pod.role is Role.SPARE))
    known = _read(before.device_seconds if before is not None else None)
    return summary(found, shared_out(known, found.device_seconds, spares, passed), at)


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


def _own(pod: PodUsage, found: Account) -> Account:
    if pod.role is not Role.COORDINATOR:
        return found
    stated = found.cost.node_seconds - found.cost.unpriced
    if not stated.exact:
        return Account()
    return Account(replace(found.cost, node_seconds=stated, unpriced=Cost().unpriced))


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
