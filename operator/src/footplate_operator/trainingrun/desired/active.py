"""A run that should train: coordinator first, then workers, then whatever was lost."""

from __future__ import annotations

from collections.abc import Callable

from footplate_contracts.names import (
    Cause,
    ConditionType,
    Phase,
    Reason,
    coordinator_pod_name,
    coordinator_service_name,
    secret_name,
)
from footplate_contracts.v1alpha1.status import CoordinatorStatus, TrainingRunStatus
from footplate_operator.runtime.clock import format_time
from footplate_operator.runtime.conditions import NewCondition
from footplate_operator.runtime.decision import Create, Delete
from footplate_operator.runtime.kinds import (
    CONFIG_MAP,
    DISRUPTION_BUDGET,
    REVISION,
    SECRET,
    SERVICE,
    Json,
    Kind,
)
from footplate_operator.runtime.ownership import Child
from footplate_operator.trainingrun.desired.decision import POLL_SECONDS, Desired, soonest
from footplate_operator.trainingrun.desired.situation import Situation
from footplate_operator.trainingrun.directives import length_refusal, size_refusal, untold
from footplate_operator.trainingrun.gang import retire
from footplate_operator.trainingrun.gang.retire import Removal, unique
from footplate_operator.trainingrun.gang.spares import promotion
from footplate_operator.trainingrun.manifests import children, coordinator, worker
from footplate_operator.trainingrun.revision import not_in_force
from footplate_operator.trainingrun.status import attempts
from footplate_operator.trainingrun.status.phase import active_phase
from footplate_operator.trainingrun.status.report import reconciled, waiting_for, who_trains


def active(situation: Situation) -> Desired:
    """What is missing, what is too much, and what is seen."""
    run, revision, state = situation.run, situation.revision, situation.state
    current = situation.coordinator.current
    address = current.address if current else ""
    # The first gang waits for the coordinator's address; a substitute never waits.
    may_start = bool(address) or situation.history.open is not None
    status, phase = _status(situation, may_start)
    pods = [coordinator.pod(run, revision, situation.coordinator.epoch)] if situation.new_epoch else []
    if may_start and situation.observed.may_create:
        pods += [worker.pod(run, revision, missing, address) for missing in situation.workers.missing]
        pods += [worker.spare(run, revision, missing, address) for missing in situation.spares.missing]
    return Desired(
        status=status,
        # What pods need comes before them, and what makes room for them.
        changes=(
            tuple(Create(manifest) for manifest in _missing_children(situation)),
            tuple(promotion(pod) for pod in situation.promoted),
            unique(_removals(situation)),
            tuple(Create(pod) for pod in pods),
            tuple(Delete(config) for config in _old_configs(situation)),
        ),
        coordinator=current if address else None,
        directives=untold(run, state),
        requeue_after=_requeue_after(situation, phase),
    )


def _status(situation: Situation, may_start: bool) -> tuple[TrainingRunStatus, Phase]:
    run, gang, history = situation.run, situation.workers, situation.history
    may_create = situation.observed.may_create
    if may_start and gang.due is None and (may_create or gang.complete):
        history = attempts.begin(history)
    phase = active_phase(
        run.phase, situation.state, history.broken, history.generation, situation.interrupted
    )
    update: dict[str, object] = {
        "start_time": run.status.start_time or format_time(situation.now),
        "revision": situation.revision.name(run.name),
    }
    if may_start:
        update["incarnation"] = situation.spares.counter(gang.counter) if may_create else gang.counter
    if situation.new_epoch:
        epoch = situation.coordinator.epoch
        name = coordinator_pod_name(run.name, epoch)
        update["coordinator"] = CoordinatorStatus(pod_name=name, epoch=epoch)
    seen = history.into(situation.seen).model_copy(update=update)
    return situation.report(phase, _conditions(situation, phase, may_start), seen), phase


def _conditions(situation: Situation, phase: Phase, may_start: bool) -> list[NewCondition]:
    """Ready, Progressing and Reconciled of a run that should train."""
    reason, message = _activity(situation, phase, may_start)
    ready = NewCondition(ConditionType.READY, phase is Phase.RUNNING, reason, message)
    progressing = NewCondition(ConditionType.PROGRESSING, True, reason, message)
    if phase is not Phase.RUNNING:
        progressing = _held_up(situation) or progressing
    return [ready, progressing, _reconciled(situation)]


def _activity(situation: Situation, phase: Phase, may_start: bool) -> tuple[Reason, str]:
    """Reason and message of what is going on."""
    run, state, closed = situation.run, situation.state, situation.history.closed
    wanted = run.spec.compute.nodes
    if phase is Phase.RUNNING:
        known = run.status.world.nodes if run.status.world else wanted
        training = len(state.member_indices) or known
        return Reason.TRAINING, who_trains(training, wanted, size_refusal(run, state))
    if not may_start:
        message = situation.coordinator_error or "the coordinator has no address yet"
        return Reason.WAITING_FOR_COORDINATOR, message
    if phase is Phase.RESTARTING:
        why = f"{closed[-1].reason}: {closed[-1].message}" if closed else "waiting for all workers"
        return Reason.RESTARTING, why
    running = sum(pod.started for pod in situation.workers.current)
    return Reason.WAITING_FOR_WORKERS, waiting_for(state.missing, running, wanted)


def _held_up(situation: Situation) -> NewCondition | None:
    """That the run does not progress, and why; None for one that does."""
    diagnosis, closed = situation.diagnosis, situation.history.closed
    if diagnosis is not None:
        return NewCondition(ConditionType.PROGRESSING, False, diagnosis.reason, diagnosis.message)
    if situation.coordinator_error:
        message = situation.coordinator_error
        return NewCondition(ConditionType.PROGRESSING, False, Reason.POD_FAILED, message)
    if closed and closed[-1].cause in (Cause.STORAGE, Cause.IMAGE_OR_CONFIG):
        # These do not mend themselves: say so, even while trying again.
        return NewCondition(ConditionType.PROGRESSING, False, closed[-1].reason, closed[-1].message)
    return None


def _reconciled(situation: Situation) -> NewCondition:
    run, state, observed = situation.run, situation.state, situation.observed
    if observed.problem is None:
        if refusal := size_refusal(run, state):
            return NewCondition(ConditionType.RECONCILED, False, Reason.SIZE_REFUSED, refusal)
        if refusal := length_refusal(run, state):
            return NewCondition(ConditionType.RECONCILED, False, Reason.LENGTH_REFUSED, refusal)
    waiting = not_in_force(run, situation.revision.frozen, observed.coordinator)
    return reconciled(observed.problem, waiting)


def _missing_children(situation: Situation) -> list[Json]:
    run, revision, observed = situation.run, situation.revision, situation.observed
    credentials = observed.credentials
    assert credentials is not None, "this run may train"
    wanted: list[tuple[Kind, str, Callable[[], Json]]] = [
        (SECRET, secret_name(run.name), lambda: children.secret(run, credentials)),
        (REVISION, revision.name(run.name), lambda: children.controller_revision(run, revision)),
        (CONFIG_MAP, revision.config_map(run.name), lambda: children.config_map(run, revision)),
        (SERVICE, coordinator_service_name(run.name), lambda: children.service(run)),
        (DISRUPTION_BUDGET, run.name, lambda: children.disruption_budget(run)),
    ]
    return [build() for kind, name, build in wanted if not observed.has(kind, name)]


def _old_configs(situation: Situation) -> list[Child]:
    in_force = situation.revision.config_map(situation.run.name)
    configs = [child for child in situation.observed.children if child.kind == CONFIG_MAP]
    return [child for child in configs if child.name != in_force]


def _removals(situation: Situation) -> list[Removal]:
    compute, retention = situation.run.spec.compute, situation.run.spec.pod_retention_seconds
    observed, now = situation.observed, situation.now
    workers, coordinators, spares = observed.workers(), observed.coordinators(), observed.spares()
    found = retire.superseded_workers(workers, compute.nodes, situation.state.member_indices, now)
    found += retire.stale_coordinators(coordinators, situation.coordinator.epoch)
    found += retire.crowded(coordinators)
    for index in {pod.index for pod in workers}:
        found += retire.crowded([pod for pod in workers if pod.index == index and pod.phase == "Failed"])
    found += retire.crowded([pod for pod in spares if pod.phase == "Failed"])
    found += retire.unwanted(spares, compute.spares)
    filled = {pod.uid for pod in situation.workers.current}
    return found + retire.expired((pod for pod in observed.pods if pod.uid not in filled), retention, now)


def _requeue_after(situation: Situation, phase: Phase) -> float | None:
    """Seconds until something may have changed that nobody tells."""
    failed = [pod for pod in situation.observed.pods if pod.phase == "Failed"]
    retention = retire.next_expiry(failed, situation.run.spec.pod_retention_seconds, situation.now)
    waits = [
        (due - situation.now).total_seconds()
        for due in (situation.coordinator.due, situation.workers.due, situation.spares.due)
        if due is not None and due > situation.now
    ]
    expecting = phase is not Phase.RUNNING or situation.workers.succeeded
    return soonest(retention, *waits, POLL_SECONDS if expecting else None)
