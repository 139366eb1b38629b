"""Pods that are not needed any more, and when they go.

An ended pod holds no GPU but is the only place where its log can be read, so it
stays for a while. A pod that was superseded while it could not be reached is
left alone until Kubernetes itself says that its node is gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from footplate_contracts.reports import CoordinatorState
from footplate_operator.runtime.decision import Delete, Patch
from footplate_operator.trainingrun.observed import PodView
from footplate_operator.trainingrun.policies import ttl

KEPT_ENDED: Final = 7  # ended pods of one slot, whatever their age: the longest wait needs so many
NODE_GONE_SECONDS: Final = 30.0
LONGEST_FLUSH_SECONDS: Final = 600.0  # the API may be away for ten minutes
# Of a coordinator that cannot be asked: two of our long-polls, so that one that went wrong costs no row.
UNASKED_FLUSH_SECONDS: Final = 60.0
STALE_GRACE: Final = 5
_SOON: Final = 1.0

Removal = Delete | Patch


def unique(found: Iterable[Removal]) -> tuple[Removal, ...]:
    """`found` without a second removal of the same pod."""
    by_uid: dict[str, Removal] = {}
    for removal in found:
        by_uid.setdefault(removal.child.uid, removal)
    return tuple(by_uid.values())


def expired(pods: Iterable[PodView], retention: int, now: datetime) -> list[Removal]:
    """Ended pods whose time is over."""
    return [
        Delete(pod, grace=0)
        for pod in pods
        if pod.ended and not pod.terminating and ttl.expired(pod.end, retention, now)
    ]


def next_expiry(pods: Iterable[PodView], retention: int, now: datetime) -> float | None:
    """Seconds until the next ended pod expires."""
    waits = [ttl.remaining(pod.end, retention, now) for pod in pods if pod.ended and not pod.terminating]
    return max(_SOON, min(waits)) if waits else None


def crowded(pods: Sequence[PodView]) -> list[Removal]:
    """Ended pods of one slot beyond the newest few."""
    ended = sorted((pod for pod in pods if pod.ended and not pod.terminating), key=lambda pod: pod.end)
    return [Delete(pod, grace=0) for pod in ended[: max(0, len(ended) - KEPT_ENDED)]]


def superseded_workers(
    pods: Sequence[PodView], nodes: int, training: frozenset[int], now: datetime
) -> list[Removal]:
    """Live pods of a slot that has a newer one, once Kubernetes says that they are gone too.

    Slots beyond `nodes` are given up once they do not train: a run that is made
    smaller saves first. `training`: slots that train; empty where nobody says.
    """
    newest: dict[int, int] = {}
    for pod in pods:
        newest[pod.index] = max(newest.get(pod.index, -1), pod.incarnation)
    return [
        Delete(pod, grace=STALE_GRACE)
        for pod in pods
        if pod.live
        and (
            _given_up(pod, training)
            if pod.index >= nodes
            else pod.incarnation < newest[pod.index]
            and (not pod.started or pod.unready_for(now) >= NODE_GONE_SECONDS)
        )
    ]


def _given_up(pod: PodView, training: frozenset[int]) -> bool:
    return pod.index not in training if training else not pod.started


def unwanted(spares: Sequence[PodView], wanted: int) -> list[Removal]:
    """Live spares beyond the `wanted` ones; they hold nothing that would have to be saved."""
    return [Delete(pod, grace=STALE_GRACE) for pod in spares if pod.live and pod.index >= wanted]


def stale_coordinators(pods: Sequence[PodView], epoch: int) -> list[Removal]:
    """Live coordinators from before `epoch`; they may still hand over what they know to the API."""
    return [Delete(pod) for pod in pods if pod.live and pod.epoch < epoch]


def flushed(state: CoordinatorState, waited: float) -> bool:
    """Whether the telemetry of a coordinator that is not needed any more is out, or has had its time.

    `waited`: seconds since it is not needed.
    """
    if not state.heard:
        return waited >= UNASKED_FLUSH_SECONDS
    return state.telemetry_backlog == 0 or waited >= LONGEST_FLUSH_SECONDS


def release(pods: Iterable[PodView], grace: int | None = None) -> list[Removal]:
    """Every pod that is not on its way out, whatever its state."""
    return [Delete(pod, grace=grace) for pod in pods if not pod.terminating]


def stop(pods: Iterable[PodView], overdue: bool) -> list[Removal]:
    """End the containers of live pods and keep the logs; delete what has none, or does not obey.

    A pod's own deadline ends its containers, and leaves the pod.
    """
    found: list[Removal] = []
    for pod in pods:
        if not pod.live:
            continue
        if overdue or not pod.started:
            found.append(Delete(pod, grace=0 if overdue else 1))
        elif not pod.deadline:
            found.append(
                Patch(pod, {"spec": {"activeDeadlineSeconds": 1}}, verb="stopping", otherwise=Delete(pod))
            )
    return found
