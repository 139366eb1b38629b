"""A run that should train: coordinator first, then workers, then whatever was lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from footplate_contracts.names import (
    Phase,
    config_map_name,
    coordinator_pod_name,
    coordinator_service_name,
    secret_name,
)
from footplate_contracts.reports import HangCommand, SizeCommand
from footplate_contracts.v1alpha1.status import CoordinatorStatus, TrainingRunStatus
from footplate_operator.runtime.clock import format_time
from footplate_operator.runtime.kinds import (
    CONFIG_MAP,
    DISRUPTION_BUDGET,
    REVISION,
    SECRET,
    SERVICE,
    Json,
    Kind,
)
from footplate_operator.trainingrun.desired import report
from footplate_operator.trainingrun.desired.desired import Desired, soonest
from footplate_operator.trainingrun.desired.situation import Situation, broken_generation
from footplate_operator.trainingrun.gang import retire
from footplate_operator.trainingrun.gang.retire import PodDeletion, unique
from footplate_operator.trainingrun.manifests import children, coordinator, worker
from footplate_operator.trainingrun.observed import Child
from footplate_operator.trainingrun.revision import hang, size
from footplate_operator.trainingrun.status import attempts
from footplate_operator.trainingrun.status.phase import active_phase

POLL_SECONDS: Final = 2.0  # how often to look again while something is about to happen


def active(situation: Situation) -> Desired:
    """What is missing, what is too much, and what is seen."""
    current = situation.leader.current
    # The first gang waits for the coordinator's address; a substitute never waits.
    may_start = bool(current and current.address) or situation.log.open is not None
    make = situation.gang.missing if may_start and situation.making else ()
    pods = _coordinator(situation) + [
        worker.pod(situation.run, situation.revision, index, incarnation, current.address if current else "")
        for index, incarnation in make
    ]
    pods += [
        worker.spare(
            situation.run, situation.revision, number, incarnation, current.address if current else ""
        )
        for number, incarnation in (situation.reserve.missing if may_start and situation.making else ())
    ]
    after, phase = _status(situation, may_start, len(make))
    return Desired(
        status=after,
        secret=not situation.observed.has(SECRET, secret_name(situation.run.name)),
        children=tuple(_missing_children(situation)),
        pods=tuple(pods),
        promoted=situation.promoted,
        pod_deletions=unique(_too_much(situation)),
        child_deletions=tuple(_old_configs(situation)),
        coordinator=current if current and current.address else None,
        size=_new_size(situation),
        hang=_new_hang(situation),
        terms=situation.new_terms,
        requeue_after=_next_look(situation, phase),
    )


def _new_size(situation: Situation) -> SizeCommand | None:
    """The size that the coordinator should be told of; None where it knows, or nobody is heard."""
    wanted = size(situation.run)
    return wanted if situation.state is not None and situation.state.size != wanted else None


def _new_hang(situation: Situation) -> HangCommand | None:
    """What the coordinator should hold to be a hang; None where it does, or nobody is heard."""
    wanted = hang(situation.run)
    known = situation.state.hang if situation.state is not None else None
    return wanted if known not in (None, wanted) else None


def _coordinator(situation: Situation) -> list[Json]:
    if not situation.making or situation.leader.current is not None or situation.leader.due > situation.now:
        return []
    return [coordinator.pod(situation.run, situation.revision, situation.leader.epoch)]


def _status(situation: Situation, may_start: bool, made: int) -> tuple[TrainingRunStatus, Phase]:
    run, log = situation.run, situation.log
    if may_start and situation.gang.due is None and (situation.making or situation.gang.complete):
        log = attempts.begin(log, situation.context)
    current = log.open.generation if log.open else ""
    phase = active_phase(run.phase, situation.state, broken_generation(log), current, situation.interrupted)
    after = report.seen(situation, phase, report.progressing(situation, phase, may_start), log)
    update: dict[str, object] = {
        "replicas": after.replicas + made,
        "start_time": run.status.start_time or format_time(situation.now),
        "revision": situation.revision.name(run.name),
    }
    if may_start:
        update["incarnation"] = (
            situation.reserve.counter(situation.gang.counter) if situation.making else situation.gang.counter
        )
    if _coordinator(situation):
        epoch = situation.leader.epoch
        name = coordinator_pod_name(run.name, epoch)
        update["coordinator"] = CoordinatorStatus(pod_name=name, epoch=epoch)
    return after.model_copy(update=update), phase


def _missing_children(situation: Situation) -> list[Json]:
    run, revision = situation.run, situation.revision
    digest = revision.frozen.config.digest()
    wanted: list[tuple[Kind, str, Callable[[], Json]]] = [
        (REVISION, revision.name(run.name), lambda: children.controller_revision(run, revision)),
        (CONFIG_MAP, config_map_name(run.name, digest), lambda: children.config_map(run, revision)),
        (SERVICE, coordinator_service_name(run.name), lambda: children.service(run)),
        (DISRUPTION_BUDGET, run.name, lambda: children.disruption_budget(run)),
    ]
    return [build() for kind, name, build in wanted if not situation.observed.has(kind, name)]


def _old_configs(situation: Situation) -> list[Child]:
    in_force = config_map_name(situation.run.name, situation.revision.frozen.config.digest())
    return [
        child for child in situation.observed.children if child.kind == CONFIG_MAP and child.name != in_force
    ]


def _too_much(situation: Situation) -> list[PodDeletion]:
    observed, retention = situation.observed, situation.run.spec.pod_retention_seconds
    pods = observed.workers()
    found = retire.superseded_workers(pods, situation.nodes, situation.training, situation.now)
    found += retire.stale_coordinators(observed.coordinators(), situation.leader.epoch)
    found += retire.crowded(observed.coordinators())
    for index in {pod.index for pod in pods}:
        failed = [pod for pod in pods if pod.index == index and pod.phase == "Failed"]
        found += retire.crowded(failed)
    found += retire.crowded([pod for pod in observed.spares() if pod.phase == "Failed"])
    found += retire.unwanted(observed.spares(), situation.run.spec.compute.spares)
    filled = {pod.uid for pod in situation.gang.current}
    return found + retire.expired(
        (pod for pod in observed.pods if pod.uid not in filled), retention, situation.now
    )


def _next_look(situation: Situation, phase: Phase) -> float | None:
    failed = [pod for pod in situation.observed.pods if pod.phase == "Failed"]
    retention = retire.next_expiry(failed, situation.run.spec.pod_retention_seconds, situation.now)
    waits = [
        (due - situation.now).total_seconds()
        for due in (situation.leader.due, situation.gang.due, situation.reserve.due)
        if due is not None and due > situation.now
    ]
    return soonest(retention, *waits, POLL_SECONDS if _expecting(situation, phase) else None)


def _expecting(situation: Situation, phase: Phase) -> bool:
    return phase is not Phase.RUNNING or situation.gang.succeeded
