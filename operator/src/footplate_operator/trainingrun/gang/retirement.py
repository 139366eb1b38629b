"""Plans the deletion of pods that are not needed any more.

An ended pod holds no GPU but is the only place to read its log, so it
stays for a while. The operator deletes a superseded pod as any other: its kubelet
ends it, as soon as it answers. The operator never force-deletes a running pod.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from footplate_contracts.coordinator_state import CoordinatorState, RunState
from footplate_contracts.names import Phase, Role
from footplate_contracts.v1alpha1.status import TrainingRunStatus
from footplate_operator.runtime.decision import Delete, Patch
from footplate_operator.trainingrun.gang import drain, losses
from footplate_operator.trainingrun.gang.plan import GangPlan
from footplate_operator.trainingrun.observation import Observed, PodView, by_index
from footplate_operator.trainingrun.policies import ttl
from footplate_operator.trainingrun.policies.backoff import WAITS
from footplate_operator.trainingrun.run import Run

# Ended pods of one slot that are kept whatever their age: the longest wait needs so many.
KEPT_ENDED: Final = len(WAITS) - 1
MISPLACED_SECONDS: Final = 20.0
COMING_BACK_SECONDS: Final = 30.0  # for an agent that is not heard, once its substitute is there
EXIT_SECONDS: Final = 4.0  # for workers of a finished run to end by themselves
STOP_SECONDS: Final = 8.0  # after which pods that do not stop are deleted, though their logs go with them
LONGEST_FLUSH_SECONDS: Final = 600.0  # the API may be away for ten minutes
# Of a coordinator that cannot be asked: time for many long-polls, so that some that went wrong cost no row.
UNASKED_FLUSH_SECONDS: Final = 60.0
SURPLUS_SECONDS: Final = 2.0
STALE_GRACE: Final = 5
WORKER_GRACE: Final = 10  # seconds for a pod whose checkpoint is durable
_SOON: Final = 1.0

Removal = Delete | Patch


@dataclass(frozen=True)
class Retirement:
    """Pods to delete now; no pod twice."""

    removals: tuple[Removal, ...]
    waits: Sequence[float]  # seconds until more of them go by themselves
    busy: bool = False  # some have not ended yet


def retire_training(run: Run, gang: GangPlan, now: datetime) -> Retirement:
    """Plan the deletions for a run that should train: superseded, surplus and expired pods."""
    compute, retention, observed = run.spec.compute, run.spec.pod_retention_seconds, gang.observed
    workers, coordinators, spares = observed.workers, observed.coordinators, observed.spares
    found = superseded_workers(workers, compute.nodes, gang.state, now)
    excluded = run.spec.resilience.exclude_nodes
    found += misplaced([*workers, *spares], gang.avoided, excluded, now)
    if gang.coordinator.current is not None:
        found += [Delete(pod) for pod in gang.coordinator.left if pod.live]
    found += crowded(coordinators)
    for siblings in by_index(pod for pod in workers if pod.phase == "Failed").values():
        found += crowded(siblings)
    found += crowded([pod for pod in spares if pod.phase == "Failed"])
    alone = run.phase in (Phase.RUNNING, Phase.RESTARTING) and not gang.state.is_received
    # One that has just begun does not have them all yet: who leaves then is lost to it, and nobody saves.
    alone = alone or (run.phase is Phase.RUNNING and gang.state.state is RunState.GATHERING)
    drained = drain.find_drained(workers, observed.pods)
    timeout = drain.UNHEARD_SECONDS if alone else 0.0 if drained else drain.SETTLE_SECONDS
    ends = [pod for pod in workers if not pod.cordoned]
    moving = drain.select_due([*ends, *drained, *spares], now, timeout)
    relieved = drain.select_relieved(gang.relief, now)
    # Spares hold nothing that would have to be saved.
    found += [Delete(pod, grace=STALE_GRACE if pod.role == Role.SPARE else None) for pod in moving.pods]
    found += [Delete(pod) for pod in relieved.pods]
    found += surplus_spares(spares, gang.relief.kept, now)
    found += _without_sidecars(observed.pods)
    filled = {pod.uid for pod in gang.workers.current}
    found += _expired((pod for pod in observed.pods if pod.uid not in filled), retention, now)
    failed = [pod for pod in observed.pods if pod.phase == "Failed"]
    waits = (moving.wait, relieved.wait, drain.select_due(coordinators, now).wait)
    settling = [wait for wait in waits if wait is not None]
    return Retirement(_unique(found), [*settling, *_until_expiry(failed, retention, now)])


def retire_suspended(
    run: Run, seen: TrainingRunStatus, observed: Observed, waited: float, now: datetime
) -> Retirement:
    """Plan the deletions for a run suspended for `waited` seconds: its gang; `seen`: its observed status."""
    return _at_rest(run, seen, observed, release(observed), [], waited, now)


def retire_ended(
    run: Run, seen: TrainingRunStatus, observed: Observed, waited: float, now: datetime
) -> Retirement:
    """Plan the deletions for a run that ended `waited` seconds ago: free GPUs, retain logs for a while."""
    working = [pod for pod in observed.gang if pod.live]
    due = run.phase is Phase.FAILED or waited >= EXIT_SECONDS
    found = stop(working, overdue=waited >= STOP_SECONDS) if due else []
    return _at_rest(run, seen, observed, found, working, waited, now)


def release(observed: Observed) -> list[Removal]:
    """Delete every pod of the gang that is not terminating, whatever its state."""
    return [Delete(pod, grace=WORKER_GRACE) for pod in observed.gang if not pod.terminating]


def _at_rest(
    run: Run,
    seen: TrainingRunStatus,
    observed: Observed,
    leaving: list[Removal],
    working: Sequence[PodView],
    waited: float,
    now: datetime,
) -> Retirement:
    """Combine the `leaving` pods, the coordinator once it is idle and flushed, and expired pods.

    A coordinator deleted before the status has its last report would lose that.

    Args:
        seen: the status written last, with what was observed since.
        working: pods of the gang that are live, and should not be.
    """
    retention = run.spec.pod_retention_seconds
    coordinators = [pod for pod in observed.coordinators if pod.live]
    noted = _furthest(seen) == _furthest(run.status)
    told = not working and noted and _flushed(run, observed.coordinator, waited)
    closing = [Delete(pod) for pod in coordinators] if told else []
    found = [*leaving, *closing, *_expired(observed.pods, retention, now), *_without_sidecars(observed.pods)]
    marks = [mark - waited for mark in (EXIT_SECONDS, STOP_SECONDS) if working and mark > waited]
    waits = (*marks, *_until_expiry(observed.pods, retention, now))
    return Retirement(_unique(found), waits, busy=bool(working or coordinators))


def _furthest(status: TrainingRunStatus) -> tuple[int | None, int | None, str | None]:
    """Return the last step and checkpoint: the status truncates lists of others if it is too long."""
    progress, checkpoint = status.progress, status.checkpoint
    return (
        progress.step if progress else None,
        checkpoint.latest_step if checkpoint else None,
        checkpoint.uri if checkpoint else None,
    )


def _flushed(run: Run, state: CoordinatorState, waited: float) -> bool:
    """Return whether a coordinator that is not needed any more has sent its telemetry, or has had its time.

    If a run has succeeded according to its pods, an earlier report of the coordinator is not its last one.
    `waited`: seconds since it is not needed.
    """
    if not state.is_received:
        return waited >= UNASKED_FLUSH_SECONDS
    last_word = run.phase is not Phase.SUCCEEDED or state.state is RunState.FINISHED
    if not last_word and waited < UNASKED_FLUSH_SECONDS:
        return False
    return state.telemetry_backlog == 0 or waited >= LONGEST_FLUSH_SECONDS


def _unique(found: Iterable[Removal]) -> tuple[Removal, ...]:
    """Return `found` without a second removal of the same pod."""
    by_uid: dict[str, Removal] = {}
    for removal in found:
        by_uid.setdefault(removal.child.uid, removal)
    return tuple(by_uid.values())


def _kept(pods: Iterable[PodView]) -> list[PodView]:
    """Return the pods that have ended and still exist for their logs."""
    return [pod for pod in pods if pod.ended and not pod.terminating]


def _expired(pods: Iterable[PodView], retention: int, now: datetime) -> list[Removal]:
    """Delete ended pods whose retention is over."""
    return [Delete(pod, grace=0) for pod in _kept(pods) if ttl.is_expired(pod.end, retention, now)]


def _until_expiry(pods: Iterable[PodView], retention: int, now: datetime) -> list[float]:
    """Return the seconds until the next ended pod expires, as a list; empty if there is none."""
    waits = [ttl.remaining(pod.end, retention, now) for pod in _kept(pods)]
    return [max(_SOON, min(waits))] if waits else []


def crowded(pods: Sequence[PodView]) -> list[Removal]:
    """Delete ended pods of one slot beyond the newest few."""
    ended = sorted(_kept(pods), key=lambda pod: pod.order)
    return [Delete(pod, grace=0) for pod in ended[: max(0, len(ended) - KEPT_ENDED)]]


def surplus_spares(spares: Sequence[PodView], kept: int, now: datetime) -> list[Removal]:
    """Delete live spares beyond the number `kept`, unready ones first.

    The operator sees Nodes a moment after runs, so a spare seen for less than SURPLUS_SECONDS stays: the
    cordon of its worker's node may not be known yet.
    """
    live = sorted((pod for pod in spares if pod.live), key=lambda pod: (not pod.ready, pod.index))
    return [Delete(pod, grace=STALE_GRACE) for pod in live[kept:] if pod.seen_for(now) >= SURPLUS_SECONDS]


def superseded_workers(
    pods: Sequence[PodView], nodes: int, state: CoordinatorState, now: datetime
) -> list[Removal]:
    """Delete live pods of a slot that has a newer one, once that one trains or the old one had its time.

    Their kubelets end them as soon as they answer; an agent that is merely silent may come back
    before, and then its substitute is deleted instead, unless it has started. A pod that a peer cannot reach
    stays until its substitute has joined: it trains on if the network recovers before. Slots
    beyond `nodes` are given up once they do not train: a run that is made smaller saves first.
    """
    heard, training, unreachable = (
        losses.list_joined(state),
        state.member_indices,
        losses.list_unreachable(state),
    )
    found: list[Removal] = []
    for index, siblings in by_index(pods).items():
        *older, newest = siblings
        live = [pod for pod in siblings if pod.live]
        if index >= nodes:
            found += [Delete(pod, grace=STALE_GRACE) for pod in live if _given_up(pod, training)]
            continue
        if not newest.started and any(pod.live and pod.worker in heard for pod in older):
            found += [Delete(newest, grace=STALE_GRACE)] if newest.live else []
            continue
        joined, late = newest.worker in heard, newest.seen_for(now) >= COMING_BACK_SECONDS
        found += [
            Delete(pod, grace=STALE_GRACE)
            for pod in live
            if pod is not newest
            and pod.worker not in heard
            and (joined or not pod.started or (late and pod.worker not in unreachable))
        ]
    return found


def misplaced(
    pods: Iterable[PodView], avoided: frozenset[str], excluded: Iterable[str], now: datetime
) -> list[Removal]:
    """Delete pods that wait for room, and avoid a node that need not be avoided any more.

    The scheduler had its time to find another node: it may just have bound a pod that still looks pending,
    which then ends as any other. A pod on no node is gone at once, whatever its grace period.
    """
    wanted = avoided | frozenset(excluded)
    return [
        Delete(pod, grace=STALE_GRACE)
        for pod in pods
        if pod.live
        and not pod.node
        and pod.unschedulable
        and pod.seen_for(now) >= MISPLACED_SECONDS
        and pod.avoids - wanted
    ]


def _given_up(pod: PodView, training: frozenset[int]) -> bool:
    return pod.index not in training if training else not pod.started


def stop(pods: Iterable[PodView], overdue: bool) -> list[Removal]:
    """End the containers of live pods and retain the logs; delete unstarted pods, and all when overdue.

    A pod's own deadline ends its containers, and leaves the pod.
    """
    found: list[Removal] = []
    for pod in pods:
        if not pod.live:
            continue
        if overdue or not pod.started:
            found.append(Delete(pod, grace=1))
        elif not pod.deadline:
            found.append(_deadline(pod, "stopping"))
    return found


def _without_sidecars(pods: Iterable[PodView]) -> list[Removal]:
    """End the sidecars of pods whose main container has ended, and retain the logs."""
    return [_deadline(pod, "ending the sidecars of") for pod in pods if pod.lingers and not pod.terminating]


def _deadline(pod: PodView, verb: str) -> Patch:
    return Patch(pod, {"spec": {"activeDeadlineSeconds": 1}}, verb=verb, otherwise=Delete(pod))
