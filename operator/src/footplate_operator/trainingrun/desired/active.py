"""Decision about a run that should train: coordinator first, then workers, then substitutes."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from footplate_contracts.names import (
    Cause,
    ConditionType,
    Phase,
    Reason,
    Role,
    api_ca_name,
    coordinator_service_name,
)
from footplate_contracts.v1alpha1.status import GatheringStatus, TrainingRunStatus
from footplate_operator.runtime.clock import format_time
from footplate_operator.runtime.conditions import NewCondition
from footplate_operator.runtime.decision import Create, Delete, Patch, ReconcileProblem
from footplate_operator.runtime.kinds import CONFIG_MAP, DISRUPTION_BUDGET, NETWORK_POLICY, SERVICE
from footplate_operator.trainingrun.desired.assessment import RunAssessment
from footplate_operator.trainingrun.desired.decision import POLL_SECONDS, RunDecision, soonest
from footplate_operator.trainingrun.desired.successor import coordinator_pod, next_coordinator
from footplate_operator.trainingrun.directives import find_unsent, length_refusal, size_refusal
from footplate_operator.trainingrun.drift import (
    DesiredChild,
    build_conflict_problem,
    build_updates,
    revert_edits,
)
from footplate_operator.trainingrun.gang import losses, retirement
from footplate_operator.trainingrun.manifests import children, worker
from footplate_operator.trainingrun.observation import PodView
from footplate_operator.trainingrun.policies.failure import (
    FRUITLESS_RESTARTS,
    INFRASTRUCTURE,
    fruitless_restarts,
)
from footplate_operator.trainingrun.policies.startup import waits_for_nodes
from footplate_operator.trainingrun.revision import list_pending_fields
from footplate_operator.trainingrun.run import get_gathering
from footplate_operator.trainingrun.slots import slot_labels
from footplate_operator.trainingrun.status import attempts
from footplate_operator.trainingrun.status.disturbance import disturbance
from footplate_operator.trainingrun.status.phase import TRAINING, active_phase
from footplate_operator.trainingrun.status.report import (
    describe_missing_workers,
    describe_sampling,
    describe_training,
    reconciled,
)
from footplate_operator.trainingrun.status.wait_messages import without_node

PENDING_SECONDS: Final = 15.0  # between two looks at a gang that holds no node: watches tell of the next one


def decide_active(situation: RunAssessment) -> RunDecision:
    """Return the decision about a run that should train: children to create or delete, and its status."""
    run, revision, gang = situation.run, situation.revision, situation.gang
    serving = gang.coordinator.current
    address = serving.address if serving else ""
    # The first gang waits for the coordinator's address; a substitute never waits.
    may_start = bool(address) or situation.history.open is not None
    status, phase = _status(situation, may_start)
    following = _following(situation)
    config_maps = (revision.config_map(run.name), api_ca_name(run.name))
    old = [child for child in gang.observed.of_kind(CONFIG_MAP) if child.name not in config_maps]
    right, told = revert_edits(gang.observed.edited, gang.observed.pods)
    right = (*right, *build_updates(following, gang.observed.children))
    leaving = retirement.retire_training(run, gang, situation.now)
    made = [coordinator_pod(situation)] if gang.new_epoch else []
    if may_start and gang.observed.may_create:
        missing, spares = gang.workers.missing, gang.spares.missing
        target = gang.find_target() if missing or spares else None
        for role, slots in ((Role.WORKER, missing), (Role.SPARE, spares)):
            made += worker.pods(run, revision, role, slots, address, gang.avoided, target)
    return RunDecision(
        status=status,
        # What pods need comes before them, and what makes room for them.
        changes=(
            tuple(_secret(situation)),
            tuple(_missing_children(situation)),
            right,
            tuple(_promotion(pod) for pod in gang.promoted),
            leaving.removals,
            tuple(Create(pod) for pod in made),
            tuple(Delete(child) for child in old),
        ),
        told=told,
        coordinator=serving if address else None,
        directives=find_unsent(situation.wanted, gang.state),
        # When something may have changed that nobody tells.
        requeue_after=soonest(
            *leaving.waits,
            *((due - situation.now).total_seconds() for due in gang.due if due > situation.now),
            _poll_seconds(situation, phase),
        ),
    )


def _poll_seconds(situation: RunAssessment, phase: Phase) -> float | None:
    """Return the seconds until a change that no watch reports is possible; None if watches suffice."""
    gang = situation.gang
    if phase is Phase.QUEUED and not any(pod.node for pod in gang.workers.current):
        return POLL_SECONDS if gang.observed.turn.contested else PENDING_SECONDS
    return POLL_SECONDS if phase not in TRAINING or gang.workers.succeeded or not gang.is_healthy else None


def _promotion(spare: PodView) -> Patch:
    """Label a spare as the worker that it has become."""
    labels = slot_labels(Role.WORKER, spare.worker)
    return Patch(spare, {"metadata": {"labels": labels}}, verb="promoting")


def _status(situation: RunAssessment, may_start: bool) -> tuple[TrainingRunStatus, Phase]:
    run, gang, history = situation.run, situation.gang, situation.history
    may_create = gang.observed.may_create
    waits = gang.workers.due is not None or gang.workers.held > 0
    if may_start and not waits and (may_create or gang.workers.complete):
        history = attempts.begin(history)
    phase = active_phase(run.phase, gang.state, history.broken, history.generation, situation.interrupted)
    gathering = _gathering(situation) if phase is Phase.STARTING else None
    if gathering is not None and waits_for_nodes(gang.observed.pods, situation.now):
        phase = Phase.QUEUED
    decided: dict[str, object] = {
        "gathering": gathering,
        "start_time": run.status.start_time or format_time(situation.now),
        "revision": situation.revision.name(run.name),
        "lineage": situation.revision.frozen.config.lineage,
    }
    if gang.new_epoch:
        decided["coordinator"] = next_coordinator(situation)
    said = _conditions(situation, phase, may_start)
    if may_start:
        situation = replace(situation, seen=situation.seen.update_internal(incarnation=gang.counter))
    return situation.report(phase, said, history, **decided), phase


def _gathering(situation: RunAssessment) -> GatheringStatus | None:
    """Return the run's wait for nodes, with its turn; None once each of its workers has had a node."""
    run, before, now = situation.run, get_gathering(situation.run.status), format_time(situation.now)
    if situation.gang.workers.bound or (run.phase is Phase.STARTING and before is None):
        return None
    waits = before or GatheringStatus(since=now)
    return waits if waits.turn_time else waits.model_copy(update={"turn_time": now})


def _conditions(situation: RunAssessment, phase: Phase, may_start: bool) -> list[NewCondition]:
    """Build Ready, Progressing and Reconciled of a run that should train."""
    reason, message = _activity(situation, phase, may_start)
    ready = NewCondition(ConditionType.READY, phase in TRAINING, reason, message)
    progressing = NewCondition(ConditionType.PROGRESSING, True, reason, message)
    if phase not in TRAINING:
        progressing = _held_up(situation) or progressing
    return [ready, progressing, _reconciled(situation)]


def _activity(situation: RunAssessment, phase: Phase, may_start: bool) -> tuple[Reason, str]:
    """Return reason and message for what the run is doing."""
    run, state, closed = situation.run, situation.gang.state, situation.history.closed
    nodes = run.spec.compute.nodes
    if phase in TRAINING:
        known = run.status.world.nodes if run.status.world else nodes
        training = len(state.member_indices) or known
        reason, message = (
            Reason.TRAINING,
            describe_training(training, nodes, size_refusal(situation.wanted, state)),
        )
        if phase is Phase.CHECKPOINTING:
            reason = Reason.SAVING
            message = f"training waits for a checkpoint in {run.spec.checkpoint.uri}"
        elif said := describe_sampling(state.progress):
            message = f"{message}; {said}"
        if said := situation.gang.relief.message:
            message = f"{message}; {said}"
        trouble = "; ".join(filter(None, (losses.describe_partition(state), _disturbance(situation))))
        return (Reason.DEGRADED, f"{message}; {trouble}"[:1024]) if trouble else (reason, message)
    if not may_start:
        message = situation.coordinator_error or "the coordinator has no address yet"
        return Reason.WAITING_FOR_COORDINATOR, message
    if phase is Phase.RESTARTING:
        why = f"{closed[-1].reason}: {closed[-1].message}" if closed else "waiting for all workers"
        return Reason.RESTARTING, why
    running = sum(pod.started for pod in situation.gang.workers.current)
    return Reason.WAITING_FOR_WORKERS, describe_missing_workers(state.missing, running, nodes)


def _disturbance(situation: RunAssessment) -> str:
    observed, now = situation.gang.observed, situation.now
    unready = frozenset(
        pod.uid for pod in observed.workers if pod.live and pod.unready_for(now) >= losses.UNREADY_SECONDS
    )
    return disturbance(situation.gang.state, observed, unready)


def _held_up(situation: RunAssessment) -> NewCondition | None:
    """Return the condition Progressing=False with its reason; None if nothing holds the run up."""
    diagnosis, closed = situation.diagnosis, situation.history.closed
    if said := losses.describe_partition(situation.gang.state):
        held = f"{said}; {diagnosis.message}" if diagnosis is not None else said
        return NewCondition(ConditionType.PROGRESSING, False, Reason.NETWORK_PARTITION, held[:1024])
    if diagnosis is not None:
        said = _without_node(situation) if diagnosis.reason is Reason.UNSCHEDULABLE else ""
        message = f"{said}: {diagnosis.message}"[:1024] if said else diagnosis.message
        return NewCondition(ConditionType.PROGRESSING, False, diagnosis.reason, message)
    if situation.coordinator_error:
        message = situation.coordinator_error
        return NewCondition(ConditionType.PROGRESSING, False, Reason.POD_FAILED, message)
    if closed and closed[-1].cause in (Cause.STORAGE, Cause.IMAGE_OR_CONFIG):
        # These do not mend themselves: say so, even while trying again.
        return NewCondition(ConditionType.PROGRESSING, False, closed[-1].reason, closed[-1].message)
    fruitless = fruitless_restarts(situation.history, INFRASTRUCTURE)
    if fruitless >= FRUITLESS_RESTARTS:
        # Nothing ends such a run, and somebody should look at its machines.
        message = f"{fruitless} restarts without progress, none caused by the run"
        why = f"{message}; last: {closed[-1].message}"[:1024]
        return NewCondition(ConditionType.PROGRESSING, False, Cause.NO_PROGRESS, why)
    return None


def _without_node(situation: RunAssessment) -> str:
    """Return how many workers have no node, and since when; empty if all have one."""
    run, gang = situation.run, situation.gang
    unbound = run.spec.compute.nodes - sum(not pod.unbound for pod in gang.workers.current)
    return without_node(run, unbound, gang.observed.turn) if unbound > 0 else ""


def _reconciled(situation: RunAssessment) -> NewCondition:
    run, state, observed = situation.run, situation.gang.state, situation.gang.observed
    if observed.problem is None:
        if refusal := size_refusal(situation.wanted, state):
            return NewCondition(ConditionType.RECONCILED, False, Reason.SIZE_REFUSED, refusal)
        if refusal := length_refusal(situation.wanted, state):
            return NewCondition(ConditionType.RECONCILED, False, Reason.LENGTH_REFUSED, refusal)
        if observed.insisted is not None:
            return reconciled(build_conflict_problem(observed.insisted))
    waiting = list_pending_fields(run, situation.revision.frozen, observed.coordinator)
    if isinstance(observed.profile, ReconcileProblem):
        return reconciled(observed.problem or observed.profile)
    return reconciled(observed.problem, [*waiting, *observed.profile])


def _missing_children(situation: RunAssessment) -> list[Create]:
    observed = situation.gang.observed
    vouching = api_ca_name(situation.run.name)
    # No pod needs these, nor who vouches for the API.
    unneeded = (DISRUPTION_BUDGET, NETWORK_POLICY)
    return [
        Create(child.build(), needed=child.kind not in unneeded and child.name != vouching)
        for child in _wanted(situation)
        if not observed.has(child.kind, child.name)
    ]


def _wanted(situation: RunAssessment) -> list[DesiredChild]:
    return [*children.list_desired_children(situation.run, situation.revision), *_following(situation)]


def _following(situation: RunAssessment) -> list[DesiredChild]:
    """List the children that hold addresses and certificates of others, and change while the run trains."""
    run, observed = situation.run, situation.gang.observed
    guarding = children.build_policy_children(run, situation.revision, observed.home)
    return [*children.build_ca_children(run, observed.api), *guarding]


def _secret(situation: RunAssessment) -> list[Create]:
    """Create the Secret when the run is admitted, and when a pod cannot mount it.

    The operator may not read Secrets. The Service is created after the Secret, so an existing Service proves
    that the Secret was created.
    """
    run, observed, credentials = situation.run, situation.gang.observed, situation.gang.observed.credentials
    assert credentials is not None, "this run may train"
    made = run.has_gang and observed.has(SERVICE, coordinator_service_name(run.name))
    makes = observed.secret_missed or not made
    return [Create(children.secret(run, credentials))] if makes else []
